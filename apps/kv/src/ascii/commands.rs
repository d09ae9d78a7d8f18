//! The classic commands, but for those that fetch.

use std::io::Write;

use zygix::Received;

use super::parse::{Words, number, number32, signed};
use super::{BAD_FORMAT, ERROR, OUT_OF_MEMORY, VERSION, fetch, meta};
use crate::conn::{Conn, Step};
use crate::digits::{Cursor, U64_DIGITS};
use crate::service::Turn;
use crate::stats::{self, Stat};
use crate::store::{Arith, Counted, KEY_MAX, Mode, Put, Stored};
use crate::upload::{self, Answer, Outcome};

/// Executes a line, which takes `len` bytes with it. There is room for an answer.
pub(super) fn execute(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    rx: &mut Received<'_>,
    line: &[u8],
    len: usize,
) -> Step {
    let mut words = Words::new(line);
    let verb = words.next().unwrap_or_default();
    if let Some(kind) = fetch::kind(verb) {
        return fetch::begin(turn, conn, rx, line, Some(len), words, kind);
    }
    match verb {
        b"mg" => return meta::get(turn, conn, rx, words, len),
        b"stats" => return stats(turn, rx, words, len),
        _ => rx.consume(len),
    }
    let reply: &[u8] = match verb {
        b"set" => return store(turn, conn, rx, words, Mode::Set, false),
        b"add" => return store(turn, conn, rx, words, Mode::Add, false),
        b"replace" => return store(turn, conn, rx, words, Mode::Replace, false),
        b"append" => return store(turn, conn, rx, words, Mode::Append, false),
        b"prepend" => return store(turn, conn, rx, words, Mode::Prepend, false),
        b"cas" => return store(turn, conn, rx, words, Mode::Set, true),
        b"ms" => return meta::set(turn, conn, rx, words),
        b"md" => return meta::delete(turn, words),
        b"ma" => return meta::arith(turn, words),
        b"me" => return meta::debug(turn, words),
        b"mn" => b"MN\r\n",
        b"delete" => delete(turn, words),
        b"incr" => return arith(turn, words, true),
        b"decr" => return arith(turn, words, false),
        b"touch" => touch(turn, words),
        b"flush_all" => flush_all(turn, words),
        b"verbosity" => verbosity(turn, words),
        b"version" => {
            turn.put(b"VERSION ");
            turn.put(VERSION.as_bytes());
            b"\r\n"
        }
        b"quit" => return Step::Close,
        // `shutdown` is among these: it is disabled.
        _ => ERROR,
    };
    turn.put(reply);
    Step::Next
}

/// The key, if it may be one.
fn key(word: Option<&[u8]>) -> Option<&[u8]> {
    word.filter(|key| key.len() <= KEY_MAX)
}

/// Whether the one remaining word says `noreply`; `None` if it says anything else, or there are more.
fn noreply(mut words: Words<'_>) -> Option<bool> {
    match (words.next(), words.next()) {
        (None, _) => Some(false),
        (Some(b"noreply"), None) => Some(true),
        _ => None,
    }
}

/// `<verb> <key> <flags> <exptime> <bytes> [<cas>] [noreply]`
fn store(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    rx: &mut Received<'_>,
    mut words: Words<'_>,
    mode: Mode,
    with_cas: bool,
) -> Step {
    let name = words.next();
    let (flags, time, len) = (words.next(), words.next(), words.next());
    let unique = if with_cas { words.next() } else { None };
    let error = 'bad: {
        let (Some(flags), Some(time), Some(len)) = (flags, time, len) else { break 'bad ERROR };
        if with_cas && unique.is_none() {
            break 'bad ERROR;
        }
        let Some(noreply) = noreply(words) else { break 'bad ERROR };
        // As in memcached a length is a positive number of 31 bits, which leaves room for the line end.
        let len = signed(len).and_then(|len| i32::try_from(len).ok()).and_then(|len| usize::try_from(len).ok());
        let (Some(key), Some(flags), Some(time), Some(len)) = (key(name), number32(flags), signed(time), len) else {
            break 'bad BAD_FORMAT;
        };
        let mut put = Put::new(mode, flags, turn.expires(time));
        put.cas = unique.and_then(number);
        if put.cas.is_none() != unique.is_none() {
            break 'bad BAD_FORMAT;
        }
        return upload::begin(turn, conn, rx, key, put, len, Answer::Classic { noreply });
    };
    turn.put(error);
    Step::Next
}

/// What a classic request to store is answered.
pub(crate) fn outcome(outcome: Outcome) -> &'static [u8] {
    match outcome {
        Outcome::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
        Outcome::Tried(stored) => match stored {
            Stored::Done { .. } => b"STORED\r\n",
            Stored::Unmet => b"NOT_STORED\r\n",
            Stored::Exists => b"EXISTS\r\n",
            Stored::NotFound => b"NOT_FOUND\r\n",
            Stored::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Stored::NoMemory => OUT_OF_MEMORY,
        },
    }
}

/// `delete <key> [0] [noreply]`
fn delete(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> &'static [u8] {
    let Some(name) = words.next() else { return ERROR };
    let quiet = noreply(words).or_else(|| {
        // The time of old clients; only 0 was ever meant.
        words.next().filter(|time| *time == b"0")?;
        noreply(words)
    });
    let Some(quiet) = quiet else {
        return b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
    };
    let Some(key) = key(Some(name)) else { return BAD_FORMAT };
    let hash = turn.store().hash(key);
    let mut shard = turn.store().shard(hash);
    let found = shard.lookup(turn.now, hash as u32, key).hit();
    if let Some(at) = found {
        shard.delete(at);
    }
    drop(shard);
    turn.count(if found.is_some() { Stat::DeleteHits } else { Stat::DeleteMisses });
    match (quiet, found) {
        (true, _) => b"",
        (false, Some(_)) => b"DELETED\r\n",
        (false, None) => b"NOT_FOUND\r\n",
    }
}

/// Counts what arithmetic came to.
pub(crate) fn count_arith(turn: &Turn<'_, '_>, up: bool, counted: Counted) {
    match (counted, up) {
        (Counted::Done { .. }, true) => turn.count(Stat::IncrHits),
        (Counted::Done { .. }, false) => turn.count(Stat::DecrHits),
        (Counted::NotFound, true) => turn.count(Stat::IncrMisses),
        (Counted::NotFound, false) => turn.count(Stat::DecrMisses),
        (Counted::Exists, _) => turn.count(Stat::CasBadval),
        (Counted::NotANumber, _) => {}
    }
}

/// `incr <key> <delta> [noreply]`, `decr`
fn arith(turn: &mut Turn<'_, '_>, mut words: Words<'_>, up: bool) -> Step {
    let mut number_line = [0; U64_DIGITS + 2];
    let (name, delta) = (words.next(), words.next());
    let (reply, quiet): (&[u8], bool) = 'reply: {
        let (Some(delta), Some(quiet)) = (delta, noreply(words)) else { break 'reply (ERROR, false) };
        let Some(key) = key(name) else { break 'reply (BAD_FORMAT, false) };
        let Some(delta) = number(delta) else {
            break 'reply (b"CLIENT_ERROR invalid numeric delta argument\r\n", false);
        };
        let hash = turn.store().hash(key);
        let request = Arith { up, delta, cas: None, own_cas: None };
        let counted = turn.store().arith(turn.now, hash, key, &request, |_, counted| counted);
        if let Some(counted) = counted {
            count_arith(turn, up, counted);
        }
        let reply: &[u8] = match counted {
            Some(Counted::Done { number, .. }) => {
                let mut line = Cursor::new(&mut number_line);
                let len = line.number(number).put(b"\r\n").len();
                &number_line[..len]
            }
            Some(Counted::NotFound | Counted::Exists) => b"NOT_FOUND\r\n",
            Some(Counted::NotANumber) => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            None => b"SERVER_ERROR out of memory in incr\r\n",
        };
        (reply, quiet)
    };
    if !quiet {
        turn.put(reply);
    }
    Step::Next
}

/// `touch <key> <exptime> [noreply]`
fn touch(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> &'static [u8] {
    let (name, time) = (words.next(), words.next());
    let (Some(time), Some(quiet)) = (time, noreply(words)) else { return ERROR };
    let Some(key) = key(name) else { return BAD_FORMAT };
    let Some(time) = signed(time) else { return b"CLIENT_ERROR invalid exptime argument\r\n" };
    let expires = turn.expires(time);
    let hash = turn.store().hash(key);
    let mut shard = turn.store().shard(hash);
    let found = shard.lookup(turn.now, hash as u32, key).hit();
    if let Some(at) = found {
        let entry = shard.entry_mut(at);
        entry.touch(turn.now);
        entry.expires = expires;
    }
    drop(shard);
    turn.count(Stat::CmdTouch);
    turn.count(if found.is_some() { Stat::TouchHits } else { Stat::TouchMisses });
    match (quiet, found) {
        (true, _) => b"",
        (false, Some(_)) => b"TOUCHED\r\n",
        (false, None) => b"NOT_FOUND\r\n",
    }
}

/// `flush_all [delay] [noreply]`
fn flush_all(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> &'static [u8] {
    let (quiet, time) = match noreply(words) {
        Some(quiet) => (quiet, 0),
        None => {
            let time = words.next().and_then(signed);
            let (Some(time), Some(quiet)) = (time, noreply(words)) else { return BAD_FORMAT };
            (quiet, time)
        }
    };
    turn.count(Stat::CmdFlush);
    turn.store().flush(turn.now, turn.expires(time));
    if quiet { b"" } else { b"OK\r\n" }
}

/// `verbosity <level> [noreply]`
fn verbosity(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> &'static [u8] {
    let Some(level) = words.next() else { return ERROR };
    if level == b"noreply" {
        return b"";
    }
    let (Some(level), Some(quiet)) = (number32(level), noreply(words)) else { return BAD_FORMAT };
    turn.kv.set_verbosity(level);
    if quiet { b"" } else { b"OK\r\n" }
}

/// `stats [topic]`
fn stats(turn: &mut Turn<'_, '_>, rx: &mut Received<'_>, mut words: Words<'_>, len: usize) -> Step {
    let topic = words.next().unwrap_or_default();
    let mut text = Vec::new();
    if topic == b"reset" {
        stats::reset(turn.kv);
        text.extend_from_slice(b"RESET\r\n");
    } else if let Some(lines) = stats::collect(turn.kv, turn.now, topic) {
        for (name, value) in lines {
            // A Vec takes everything.
            let _ = write!(text, "STAT {name} {value}\r\n");
        }
        text.extend_from_slice(b"END\r\n");
    } else {
        text.extend_from_slice(ERROR);
    }
    if !turn.tx.reserve(text.len()) {
        return Step::Room;
    }
    rx.consume(len);
    turn.put(&text);
    Step::Next
}
