//! The meta commands: `mg` get, `ms` set, `md` delete, `ma` arithmetic, `me` debug (`mn`, the no-op, needs no function).
//!
//! Quiet mode (`q`) leaves out `EN` of `mg`, `HD` of `ms`, `HD` and `NF` of `md`, and `HD`, `VA` and `NF` of `ma`.

use std::sync::Arc;

use zygix::Received;

use super::flags::{Flags, RETURNS_MAX, Returns};
use super::parse::{Words, number};
use super::{BAD_FORMAT, OUT_OF_MEMORY, base64, commands};
use crate::clock::{NEVER, Secs};
use crate::conn::{Conn, State, Step};
use crate::digits::{Cursor, U64_DIGITS};
use crate::service::Turn;
use crate::stats::Stat;
use crate::store::{Arith, Counted, Data, Entry, KEY_MAX, Lookup, Marks, Mode, Put, Stored, Value};
use crate::upload::{self, Answer, Outcome};

/// Reads the key and its flags; a key in base64 is decoded into `buf`. The error is the answer to the client.
fn request<'k>(
    name: Option<&'k [u8]>,
    words: Words<'_>,
    allowed: &[u8],
    buf: &'k mut [u8; KEY_MAX],
) -> Result<(&'k [u8], Flags), &'static [u8]> {
    let name = name.filter(|name| name.len() <= KEY_MAX).ok_or(BAD_FORMAT)?;
    let flags = Flags::read(words, allowed)?;
    if !flags.has(b'b') {
        return Ok((name, flags));
    }
    match base64::decode(name, buf) {
        Some(len) if len > 0 => Ok((&buf[..len], flags)),
        _ => Err(b"CLIENT_ERROR error decoding key\r\n"),
    }
}

/// `mg <key> <flags>*`
pub(super) fn get(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    rx: &mut Received<'_>,
    mut words: Words<'_>,
    len: usize,
) -> Step {
    let mut buf = [0; KEY_MAX];
    let name = words.next();
    let done = match request(name, words, b"bcfhklOqstuvENRTPL", &mut buf) {
        Err(error) => {
            turn.put(error);
            true
        }
        Ok((key, flags)) => fetch(turn, conn, key, &flags),
    };
    if !done {
        return Step::Room;
    }
    rx.consume(len);
    turn.count(Stat::CmdMeta);
    Step::Next
}

/// Answers `mg`. False: there is no room, nothing was done.
fn fetch(turn: &mut Turn<'_, '_>, conn: &mut Conn, key: &[u8], flags: &Flags) -> bool {
    let store = turn.kv.store();
    let hash = store.hash(key);
    let mut shard = store.shard(hash);
    let mut found = shard.lookup(turn.now, hash as u32, key);
    let missed = found.hit().is_none();
    if missed && let Some(time) = flags.vivify {
        drop(shard);
        let mut put = Put::new(Mode::Add, 0, turn.expires(time));
        put.own_cas = flags.own_cas;
        if store.put(turn.now, hash, key, &put, Value::Borrowed(&[])) == Stored::NoMemory {
            turn.count(Stat::StoreNoMemory);
            turn.put(OUT_OF_MEMORY);
            return true;
        }
        shard = store.shard(hash);
        found = shard.lookup(turn.now, hash as u32, key);
    }
    let Some(at) = found.hit() else {
        drop(shard);
        miss(turn, key, flags, found);
        return true;
    };
    let done = hit(turn, conn, shard.entry_mut(at), key, flags, missed);
    drop(shard);
    if done {
        turn.count(Stat::CmdGet);
        turn.count(if missed { Stat::GetMisses } else { Stat::GetHits });
        if flags.time.is_some() {
            turn.count(Stat::CmdTouch);
            turn.count(Stat::TouchHits);
        }
    }
    done
}

fn miss(turn: &mut Turn<'_, '_>, key: &[u8], flags: &Flags, found: Lookup) {
    turn.count(Stat::CmdGet);
    turn.count(Stat::GetMisses);
    match found {
        Lookup::Expired => turn.count(Stat::GetExpired),
        Lookup::Flushed => turn.count(Stat::GetFlushed),
        Lookup::Hit(_) | Lookup::Miss => {}
    }
    if flags.time.is_some() {
        turn.count(Stat::CmdTouch);
        turn.count(Stat::TouchMisses);
    }
    if !flags.returns.quiet {
        status(turn, b"EN", key, &flags.returns, |_, _| {});
    }
}

/// Answers with a status and the flags asked for.
fn status(turn: &mut Turn<'_, '_>, code: &[u8], key: &[u8], returns: &Returns, item: impl FnMut(u8, &mut Cursor<'_>)) {
    let mut line = [0; RETURNS_MAX];
    let mut out = Cursor::new(&mut line);
    out.put(code);
    returns.write(&mut out, key, item);
    out.put(b"\r\n");
    turn.put(out.bytes());
}

/// Answers with the item; `fresh` if it was made for the purpose. False: there is no room, nothing was done.
fn hit(turn: &mut Turn<'_, '_>, conn: &mut Conn, entry: &mut Entry, key: &[u8], flags: &Flags, fresh: bool) -> bool {
    let with_value = flags.has(b'v');
    let len = entry.value().len();
    let copied = if with_value && matches!(entry.data, Data::Small(_)) { len + 2 } else { 0 };
    if !turn.tx.reserve(RETURNS_MAX + copied) {
        return false;
    }
    let mut line = [0; RETURNS_MAX];
    let mut out = Cursor::new(&mut line);
    if with_value {
        out.put(b"VA ").number(len as u64);
    } else {
        out.put(b"HD");
    }
    let low = flags
        .recache
        .is_some_and(|least| entry.expires != NEVER && i64::from(entry.expires.saturating_sub(turn.now)) < least);
    let (stale, sent) = (entry.marks.has(Marks::STALE), entry.marks.has(Marks::WON));
    let won = fresh || ((stale || low) && !sent);
    write_item(turn, &mut out, entry, key, flags);
    for (given, letter) in [(won, b" W"), (stale, b" X"), (sent && !won, b" Z")] {
        if given {
            out.put(letter);
        }
    }
    out.put(b"\r\n");
    turn.put(out.bytes());
    if won {
        entry.marks = entry.marks.with(Marks::WON);
    }
    if !flags.has(b'u') {
        entry.touch(turn.now);
    }
    if with_value {
        match &entry.data {
            Data::Small(_) => {
                turn.put(entry.value());
                turn.put(b"\r\n");
            }
            Data::Large(large) => conn.send_large(Arc::clone(large), key.len(), b"\r\n"),
        }
    }
    true
}

/// Appends what the flags ask of an item; `T` takes effect in its place.
fn write_item(turn: &Turn<'_, '_>, out: &mut Cursor<'_>, entry: &mut Entry, key: &[u8], flags: &Flags) {
    let fetched = u64::from(entry.marks.has(Marks::FETCHED));
    flags.returns.write(out, key, |flag, out| match flag {
        b'c' => drop(out.put(b" c").number(entry.cas)),
        b'f' => drop(out.put(b" f").number(u64::from(entry.flags))),
        b'h' => drop(out.put(b" h").number(fetched)),
        b'l' => drop(out.put(b" l").number(u64::from(turn.now.saturating_sub(entry.seen)))),
        b's' => drop(out.put(b" s").number(entry.value().len() as u64)),
        b't' => write_time(out, entry.expires, turn.now),
        b'T' => entry.expires = flags.time.map_or(entry.expires, |time| turn.expires(time)),
        _ => {}
    });
}

/// Appends the seconds that are left; -1 means no end.
fn write_time(out: &mut Cursor<'_>, expires: Secs, now: Secs) {
    if expires == NEVER {
        out.put(b" t-1");
    } else {
        out.put(b" t").number(u64::from(expires.saturating_sub(now)));
    }
}

/// `ms <key> <bytes> <flags>*`, then the value
pub(super) fn set(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>, mut words: Words<'_>) -> Step {
    turn.count(Stat::CmdMeta);
    let name = words.next();
    let len = words.next().and_then(number).filter(|len| *len <= i32::MAX as u64 - 2);
    let Some(len) = len else {
        turn.put(b"CLIENT_ERROR bad data chunk\r\n");
        return Step::Next;
    };
    let mut buf = [0; KEY_MAX];
    let error = match request(name, words, b"bcCEFIkOqsTMNPL", &mut buf) {
        Err(error) => error,
        Ok((key, flags)) => match set_mode(flags.mode) {
            None => b"CLIENT_ERROR invalid mode for ms\r\n",
            Some(mode) => {
                let put = Put {
                    mode,
                    flags: flags.client_flags,
                    expires: turn.expires(flags.time.unwrap_or(0)),
                    cas: flags.cas,
                    own_cas: flags.own_cas,
                    stale: flags.has(b'I'),
                    vivify: flags.vivify.map(|time| turn.expires(time)),
                };
                return upload::begin(turn, conn, rx, key, put, len as usize, Answer::Meta(flags.returns));
            }
        },
    };
    turn.put(error);
    conn.state = State::Swallow(len + 2);
    Step::Next
}

fn set_mode(mode: Option<u8>) -> Option<Mode> {
    Some(match mode.unwrap_or(b'S').to_ascii_uppercase() {
        b'S' => Mode::Set,
        b'E' => Mode::Add,
        b'R' => Mode::Replace,
        b'A' => Mode::Append,
        b'P' => Mode::Prepend,
        _ => return None,
    })
}

/// Answers `ms`.
pub(crate) fn stored(turn: &mut Turn<'_, '_>, key: &[u8], returns: &Returns, outcome: Outcome) {
    let (code, cas, len): (&[u8], _, _) = match outcome {
        Outcome::BadChunk | Outcome::Tried(Stored::TooLarge | Stored::NoMemory) => {
            return turn.put(commands::outcome(outcome));
        }
        Outcome::Tried(Stored::Done { cas, len }) => (b"HD", cas, len),
        Outcome::Tried(Stored::Unmet) => (b"NS", 0, 0),
        Outcome::Tried(Stored::Exists) => (b"EX", 0, 0),
        Outcome::Tried(Stored::NotFound) => (b"NF", 0, 0),
    };
    if returns.quiet && code == b"HD" {
        return;
    }
    status(turn, code, key, returns, |flag, out| match flag {
        b'c' => drop(out.put(b" c").number(cas)),
        b's' => drop(out.put(b" s").number(len as u64)),
        _ => {}
    });
}

/// `md <key> <flags>*`
pub(super) fn delete(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> Step {
    turn.count(Stat::CmdMeta);
    let mut buf = [0; KEY_MAX];
    let name = words.next();
    let (key, flags) = match request(name, words, b"bCEIkOqTxPL", &mut buf) {
        Ok(request) => request,
        Err(error) => {
            turn.put(error);
            return Step::Next;
        }
    };
    let code = delete_item(turn, key, &flags);
    if !flags.returns.quiet || code == b"EX" {
        status(turn, code, key, &flags.returns, |_, _| {});
    }
    Step::Next
}

fn delete_item(turn: &Turn<'_, '_>, key: &[u8], flags: &Flags) -> &'static [u8] {
    let hash = turn.store().hash(key);
    let mut shard = turn.store().shard(hash);
    let Some(at) = shard.lookup(turn.now, hash as u32, key).hit() else {
        turn.count(Stat::DeleteMisses);
        return b"NF";
    };
    if flags.cas.is_some_and(|cas| cas != shard.entry(at).cas) {
        turn.count(Stat::CasBadval);
        return b"EX";
    }
    turn.count(Stat::DeleteHits);
    let (stale, empty) = (flags.has(b'I'), flags.has(b'x'));
    if !stale && !empty {
        shard.delete(at);
        return b"HD";
    }
    if empty {
        shard.drop_value(at);
    }
    shard.renew_cas(at, flags.own_cas);
    let entry = shard.entry_mut(at);
    if stale {
        entry.marks = entry.marks.with(Marks::STALE).without(Marks::WON);
        entry.expires = flags.time.map_or(entry.expires, |time| turn.expires(time));
    }
    b"HD"
}

/// What `ma` came to.
enum Arithmetic {
    /// The line that answers, and the number that follows it if it was asked for.
    Done(usize, u64),
    Refused(&'static [u8]),
    NotFound,
}

/// `ma <key> <flags>*`
pub(super) fn arith(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> Step {
    turn.count(Stat::CmdMeta);
    let mut buf = [0; KEY_MAX];
    let name = words.next();
    let parsed = request(name, words, b"bCDEJMNOTckqtvPL", &mut buf);
    let up = match parsed.as_ref().map(|(_, flags)| flags.mode.unwrap_or(b'I')) {
        Ok(b'I' | b'i' | b'+') => Ok(true),
        Ok(b'D' | b'd' | b'-') => Ok(false),
        Ok(_) => Err(&b"CLIENT_ERROR invalid mode for ma\r\n"[..]),
        Err(error) => Err(*error),
    };
    let ((key, flags), up) = match (parsed, up) {
        (Ok(request), Ok(up)) => (request, up),
        (_, Err(error)) | (Err(error), _) => {
            turn.put(error);
            return Step::Next;
        }
    };
    let mut line = [0; RETURNS_MAX];
    match arithmetic(turn, key, &flags, up, &mut line) {
        Arithmetic::Done(..) if flags.returns.quiet => {}
        Arithmetic::Done(len, number) => {
            turn.put(&line[..len]);
            if flags.has(b'v') {
                let mut value = [0; U64_DIGITS + 2];
                turn.put(Cursor::new(&mut value).number(number).put(b"\r\n").bytes());
            }
        }
        Arithmetic::NotFound if flags.returns.quiet => {}
        Arithmetic::NotFound => status(turn, b"NF", key, &flags.returns, |_, _| {}),
        Arithmetic::Refused(b"EX") => status(turn, b"EX", key, &flags.returns, |_, _| {}),
        Arithmetic::Refused(error) => turn.put(error),
    }
    Step::Next
}

/// Counts, or makes the item if it is to be made; writes the answer's first line to `line`.
fn arithmetic(turn: &Turn<'_, '_>, key: &[u8], flags: &Flags, up: bool, line: &mut [u8]) -> Arithmetic {
    let store = turn.store();
    let hash = store.hash(key);
    let request = Arith { up, delta: flags.delta, cas: flags.cas, own_cas: flags.own_cas };
    // A second round only if another thread made the item in between.
    for _ in 0..2 {
        let counted = store.arith(turn.now, hash, key, &request, |shard, counted| match counted {
            Counted::Done { number, at } => {
                (counted, write_count(turn, line, shard.entry_mut(at), key, flags, number, false))
            }
            _ => (counted, 0),
        });
        let Some((counted, len)) = counted else {
            turn.count(Stat::StoreNoMemory);
            return Arithmetic::Refused(OUT_OF_MEMORY);
        };
        commands::count_arith(turn, up, counted);
        match counted {
            Counted::Done { number, .. } => return Arithmetic::Done(len, number),
            Counted::Exists => return Arithmetic::Refused(b"EX"),
            Counted::NotANumber => {
                return Arithmetic::Refused(b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n");
            }
            Counted::NotFound => {}
        }
        let Some(time) = flags.vivify else { break };
        let mut put = Put::new(Mode::Add, 0, turn.expires(time));
        put.own_cas = flags.own_cas;
        let mut digits = [0; U64_DIGITS];
        let mut text = Cursor::new(&mut digits);
        let text = text.number(flags.initial).bytes();
        match store.put(turn.now, hash, key, &put, Value::Borrowed(text)) {
            Stored::Unmet => continue,
            Stored::Done { .. } => {}
            _ => return Arithmetic::Refused(OUT_OF_MEMORY),
        }
        let mut shard = store.shard(hash);
        let Some(at) = shard.lookup(turn.now, hash as u32, key).hit() else { break };
        let len = write_count(turn, line, shard.entry_mut(at), key, flags, flags.initial, true);
        return Arithmetic::Done(len, flags.initial);
    }
    Arithmetic::NotFound
}

fn write_count(
    turn: &Turn<'_, '_>,
    line: &mut [u8],
    entry: &mut Entry,
    key: &[u8],
    flags: &Flags,
    number: u64,
    fresh: bool,
) -> usize {
    let mut digits = [0; U64_DIGITS];
    let mut out = Cursor::new(line);
    if flags.has(b'v') {
        let len = Cursor::new(&mut digits).number(number).len();
        out.put(b"VA ").number(len as u64);
    } else {
        out.put(b"HD");
    }
    flags.returns.write(&mut out, key, |flag, out| match flag {
        b'c' => drop(out.put(b" c").number(entry.cas)),
        b't' => write_time(out, entry.expires, turn.now),
        b'T' => entry.expires = flags.time.map_or(entry.expires, |time| turn.expires(time)),
        b'N' if fresh => entry.expires = flags.vivify.map_or(entry.expires, |time| turn.expires(time)),
        _ => {}
    });
    out.put(b"\r\n").len()
}

/// `me <key> [b]`
pub(super) fn debug(turn: &mut Turn<'_, '_>, mut words: Words<'_>) -> Step {
    turn.count(Stat::CmdMeta);
    let mut buf = [0; KEY_MAX];
    let name = words.next();
    let key = match request(name, words, b"b", &mut buf) {
        Ok((key, _)) => key,
        Err(error) => {
            turn.put(error);
            return Step::Next;
        }
    };
    let hash = turn.store().hash(key);
    let mut shard = turn.store().shard(hash);
    let mut line = [0; RETURNS_MAX];
    let mut out = Cursor::new(&mut line);
    match shard.lookup(turn.now, hash as u32, key).hit() {
        None => drop(out.put(b"EN\r\n")),
        Some(at) => {
            let entry = shard.entry(at);
            out.put(b"ME ").put(name.unwrap_or_default()).put(b" exp=");
            match entry.expires {
                NEVER => out.put(b"-1"),
                at => out.number(u64::from(at.saturating_sub(turn.now))),
            };
            out.put(b" la=").number(u64::from(turn.now.saturating_sub(entry.seen)));
            out.put(b" cas=").number(entry.cas);
            out.put(if entry.marks.has(Marks::FETCHED) { b" fetch=yes" } else { b" fetch=no" });
            out.put(b" cls=1 size=").number(entry.data.footprint() as u64).put(b"\r\n");
        }
    }
    drop(shard);
    turn.put(out.bytes());
    Step::Next
}
