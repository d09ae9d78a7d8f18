//! `get`, `gets`, `gat`, `gats`.
//!
//! ```text
//!   get a b c\r\n   the verb is consumed, the connection is in State::Keys
//!       a b c\r\n   each key is answered and consumed when there is room for its value
//!            \r\n   END
//! ```

use std::sync::Arc;

use zygix::{Received, Reply};

use super::parse::{LINE_MAX, Words, signed, word_end};
use super::{BAD_FORMAT, ERROR};
use crate::clock::Secs;
use crate::conn::{Conn, State, Step};
use crate::digits::Cursor;
use crate::service::Turn;
use crate::stats::Stat;
use crate::store::{Data, KEY_MAX, Lookup};

/// How to answer the keys of a line.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Keys {
    /// With the cas value (`gets`, `gats`).
    cas: bool,
    /// The new expiration (`gat`, `gats`).
    expires: Option<Secs>,
}

const END: &[u8] = b"END\r\n";

/// Answers with header and value up to this size are written in one piece, in place.
const IN_PLACE: usize = 1536;

/// Everything in an answer but key and value: `VALUE  4294967295 4294967295 18446744073709551615\r\n` and `\r\nEND\r\n`.
const FRAME: usize = 64;

/// Spaces before a verb that a line without an end may have.
const LONG_LINE_INDENT: usize = 100;

/// The short way for `get <key>\r\n` whose line lies together. `None`: not that, or something is out of the ordinary.
#[inline]
pub(super) fn get_one(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>) -> Option<Step> {
    let rest = rx.chunk().strip_prefix(b"get ")?;
    let end = word_end(rest)?;
    let len = match rest[end] {
        b'\n' => end + 1,
        b'\r' if rest.get(end + 1) == Some(&b'\n') => end + 2,
        _ => return None,
    };
    if end == 0 || end > KEY_MAX {
        return None;
    }
    if !answer(turn, conn, &rest[..end], Keys::default(), true) {
        return Some(Step::Room);
    }
    rx.consume(b"get ".len() + len);
    Some(Step::Next)
}

/// Begins a line of keys whose verb says `cas` and `touch`. `line` is the line, or its beginning if it is too long to be seen whole;
/// `words` is what follows the verb.
pub(super) fn begin(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    rx: &mut Received<'_>,
    line: &[u8],
    whole: Option<usize>,
    mut words: Words<'_>,
    (cas, touch): (bool, bool),
) -> Step {
    let error = 'bad: {
        let expires = match touch.then(|| words.next()) {
            None => None,
            Some(None) => break 'bad ERROR,
            Some(Some(time)) => match signed(time) {
                Some(time) => Some(turn.expires(time)),
                None => break 'bad b"CLIENT_ERROR invalid exptime argument\r\n",
            },
        };
        if whole.is_some() {
            if words.clone().next().is_none() {
                break 'bad ERROR;
            }
            if words.clone().any(|key| key.len() > KEY_MAX) {
                break 'bad BAD_FORMAT;
            }
        }
        rx.consume(line.len() - words.rest().len());
        conn.state = State::Keys(Keys { cas, expires });
        return Step::Next;
    };
    turn.put(error);
    match whole {
        Some(len) => rx.consume(len),
        None => conn.state = State::SkipLine,
    }
    Step::Next
}

/// A line that does not end within [`LINE_MAX`] bytes, which begin with `head`: keys, or garbage.
pub(super) fn long_line(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>, head: &[u8]) -> Step {
    debug_assert!(head.len() >= LINE_MAX);
    let mut words = Words::new(head);
    let verb = words.next().unwrap_or_default();
    let indent = head.len() - words.rest().len() - verb.len();
    match kind(verb) {
        Some(kind) if indent <= LONG_LINE_INDENT && !words.rest().is_empty() => {
            begin(turn, conn, rx, head, None, words, kind)
        }
        _ => {
            turn.put(b"CLIENT_ERROR line too long\r\n");
            Step::Close
        }
    }
}

/// Whether a verb fetches by key: (with cas value, with a new expiration).
pub(super) fn kind(verb: &[u8]) -> Option<(bool, bool)> {
    match verb {
        b"get" => Some((false, false)),
        b"gets" => Some((true, false)),
        b"gat" => Some((false, true)),
        b"gats" => Some((true, true)),
        _ => None,
    }
}

/// Answers the next key of a line of keys, or its end.
pub(crate) fn next_key(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>, keys: Keys) -> Step {
    let chunk = rx.chunk();
    let spaces = chunk.iter().take_while(|&&byte| byte == b' ').count();
    if spaces > 0 {
        rx.consume(spaces);
        return Step::Next;
    }
    let mut copy = [0; KEY_MAX + 2];
    let divides = |&byte: &u8| byte == b' ' || byte == b'\n';
    let mut view = &chunk[..chunk.len().min(copy.len())];
    let mut end = view.iter().position(divides);
    if end.is_none() && view.len() < copy.len() && rx.len() > view.len() {
        let n = rx.copy_to(&mut copy);
        view = &copy[..n];
        end = view.iter().position(divides);
    }
    let Some(end) = end else {
        return if view.len() <= KEY_MAX + 1 { Step::Bytes(view.len() + 1) } else { bad_key(turn, conn) };
    };
    let (word, last) = (&view[..end], view[end] == b'\n');
    let key = if last { word.strip_suffix(b"\r").unwrap_or(word) } else { word };
    if key.is_empty() {
        if !turn.tx.reserve(END.len()) {
            return Step::Room;
        }
        turn.put(END);
        rx.consume(end + 1);
        conn.state = State::Command;
    } else if key.len() > KEY_MAX {
        return bad_key(turn, conn);
    } else if answer(turn, conn, key, keys, false) {
        rx.consume(key.len());
    } else {
        return Step::Room;
    }
    Step::Next
}

fn bad_key(turn: &mut Turn<'_, '_>, conn: &mut Conn) -> Step {
    if !turn.room() {
        return Step::Room;
    }
    turn.put(BAD_FORMAT);
    conn.state = State::SkipLine;
    Step::Next
}

/// Answers one key, and the end of the answer if it is the only one. False: there is no room, nothing was done.
#[inline]
fn answer(turn: &mut Turn<'_, '_>, conn: &mut Conn, key: &[u8], keys: Keys, end: bool) -> bool {
    let store = turn.kv.store();
    let hash = store.hash(key);
    let mut shard = store.shard(hash);
    let found = shard.lookup(turn.now, hash as u32, key);
    let Lookup::Hit(at) = found else {
        drop(shard);
        return missed(turn, found, keys, end);
    };
    let tail: &'static [u8] = if end { b"\r\nEND\r\n" } else { b"\r\n" };
    let entry = shard.entry_mut(at);
    let (flags, cas, value) = (entry.flags, keys.cas.then_some(entry.cas), entry.value());
    let len = value.len();
    let mut wrote = 0;
    match &entry.data {
        Data::Small(_) if key.len() + len + FRAME <= IN_PLACE => {
            let fits = turn.tx.write_with(key.len() + len + FRAME, |out| {
                let mut out = Cursor::new(out);
                header(&mut out, key, flags, len, cas).put(value).put(tail);
                wrote = out.len();
                wrote
            });
            if !fits {
                return false;
            }
        }
        Data::Small(_) => {
            if !turn.tx.reserve(key.len() + len + FRAME) {
                return false;
            }
            wrote = put_header(turn.tx, key, flags, len, cas) + turn.tx.write(value) + turn.tx.write(tail);
        }
        Data::Large(large) => {
            if !turn.tx.reserve(key.len() + FRAME) {
                return false;
            }
            wrote = put_header(turn.tx, key, flags, len, cas);
            conn.send_large(Arc::clone(large), key.len(), tail);
        }
    }
    entry.touch(turn.now);
    if let Some(expires) = keys.expires {
        entry.expires = expires;
        turn.count(Stat::CmdTouch);
        turn.count(Stat::TouchHits);
    }
    drop(shard);
    turn.count(Stat::CmdGet);
    turn.count(Stat::GetHits);
    turn.count_bytes(Stat::BytesWritten, wrote);
    true
}

fn missed(turn: &mut Turn<'_, '_>, found: Lookup, keys: Keys, end: bool) -> bool {
    if end {
        if !turn.tx.reserve(END.len()) {
            return false;
        }
        turn.put(END);
    }
    turn.count(Stat::CmdGet);
    turn.count(Stat::GetMisses);
    match found {
        Lookup::Expired => turn.count(Stat::GetExpired),
        Lookup::Flushed => turn.count(Stat::GetFlushed),
        Lookup::Hit(_) | Lookup::Miss => {}
    }
    if keys.expires.is_some() {
        turn.count(Stat::CmdTouch);
        turn.count(Stat::TouchMisses);
    }
    true
}

#[inline]
fn header<'c, 'b>(out: &'c mut Cursor<'b>, key: &[u8], flags: u32, len: usize, cas: Option<u64>) -> &'c mut Cursor<'b> {
    out.put(b"VALUE ").put(key).put(b" ").number(u64::from(flags)).put(b" ").number(len as u64);
    if let Some(cas) = cas {
        out.put(b" ").number(cas);
    }
    out.put(b"\r\n")
}

fn put_header(tx: &mut Reply<'_>, key: &[u8], flags: u32, len: usize, cas: Option<u64>) -> usize {
    let mut line = [0; KEY_MAX + FRAME];
    let mut out = Cursor::new(&mut line);
    header(&mut out, key, flags, len, cas);
    tx.write(out.bytes())
}
