//! The binary protocol (memcached's wiki, BinaryProtocolRevamped).
//!
//! ```text
//!   0        1        2        3        4        5        6        7
//! | 0x80   | opcode | key length      | extras | type 0 | vbucket         |
//! | total body length                 | opaque                            |
//! | cas                                                                   |
//! | extras ... key ... value                                              |
//! ```
//!
//! An answer has 0x81 for 0x80 and a status for the vbucket. SASL is not offered: its opcodes are unknown ones.

use std::sync::Arc;

use zygix::Received;

use crate::ascii::{self, VERSION};
use crate::clock::Secs;
use crate::conn::{Conn, State, Step};
use crate::digits::Cursor;
use crate::service::Turn;
use crate::stats::{self, Stat};
use crate::store::{Arith, Counted, Data, KEY_MAX, Lookup, Mode, Put, Stored, Value};
use crate::upload::{self, Answer, Outcome};

/// The first byte of a request; no text command begins with it.
pub(crate) const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;
const HEADER: usize = 24;
/// No request has more extras.
const EXTRAS_MAX: usize = 20;

/// What was asked, without the quiet variants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Get { key: bool, touch: bool },
    Store(Mode),
    Delete,
    Arith { up: bool },
    Quit,
    Flush,
    Noop,
    Version,
    Stat,
    Verbosity,
    Touch,
}

impl Op {
    /// The operation of an opcode, and whether it is quiet.
    fn of(opcode: u8) -> Option<(Op, bool)> {
        let get = |key, touch| Op::Get { key, touch };
        Some(match opcode {
            0x00 => (get(false, false), false),
            0x01 => (Op::Store(Mode::Set), false),
            0x02 => (Op::Store(Mode::Add), false),
            0x03 => (Op::Store(Mode::Replace), false),
            0x04 => (Op::Delete, false),
            0x05 => (Op::Arith { up: true }, false),
            0x06 => (Op::Arith { up: false }, false),
            0x07 => (Op::Quit, false),
            0x08 => (Op::Flush, false),
            0x09 => (get(false, false), true),
            0x0a => (Op::Noop, false),
            0x0b => (Op::Version, false),
            0x0c => (get(true, false), false),
            0x0d => (get(true, false), true),
            0x0e => (Op::Store(Mode::Append), false),
            0x0f => (Op::Store(Mode::Prepend), false),
            0x10 => (Op::Stat, false),
            0x11 => (Op::Store(Mode::Set), true),
            0x12 => (Op::Store(Mode::Add), true),
            0x13 => (Op::Store(Mode::Replace), true),
            0x14 => (Op::Delete, true),
            0x15 => (Op::Arith { up: true }, true),
            0x16 => (Op::Arith { up: false }, true),
            0x17 => (Op::Quit, true),
            0x18 => (Op::Flush, true),
            0x19 => (Op::Store(Mode::Append), true),
            0x1a => (Op::Store(Mode::Prepend), true),
            0x1b => (Op::Verbosity, false),
            0x1c => (Op::Touch, false),
            0x1d => (get(false, true), false),
            0x1e => (get(false, true), true),
            0x23 => (get(true, true), false),
            0x24 => (get(true, true), true),
            _ => return None,
        })
    }

    /// The lengths that extras may have: (the one, the other).
    fn extras(self) -> (usize, usize) {
        match self {
            Op::Get { touch: true, .. } | Op::Touch | Op::Verbosity => (4, 4),
            Op::Store(Mode::Append | Mode::Prepend) => (0, 0),
            Op::Store(_) => (8, 8),
            Op::Arith { .. } => (20, 20),
            Op::Flush => (0, 4),
            Op::Get { .. } | Op::Delete | Op::Quit | Op::Noop | Op::Version | Op::Stat => (0, 0),
        }
    }

    /// Whether it needs a key; `None`: it may have one.
    fn keyed(self) -> Option<bool> {
        match self {
            Op::Get { .. } | Op::Store(_) | Op::Delete | Op::Arith { .. } | Op::Touch => Some(true),
            Op::Quit | Op::Flush | Op::Noop | Op::Version | Op::Verbosity => Some(false),
            Op::Stat => None,
        }
    }
}

/// The response statuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
enum Status {
    Ok = 0,
    NotFound = 1,
    Exists = 2,
    TooLarge = 3,
    Invalid = 4,
    NotStored = 5,
    NotANumber = 6,
    UnknownCommand = 0x81,
    NoMemory = 0x82,
}

impl Status {
    fn text(self) -> &'static [u8] {
        match self {
            Status::Ok => b"",
            Status::NotFound => b"Not found",
            Status::Exists => b"Data exists for key.",
            Status::TooLarge => b"Too large.",
            Status::Invalid => b"Invalid arguments",
            Status::NotStored => b"Not stored.",
            Status::NotANumber => b"Non-numeric server-side value for incr or decr",
            Status::UnknownCommand => b"Unknown command",
            Status::NoMemory => b"Out of memory",
        }
    }
}

/// The header of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    opcode: u8,
    quiet: bool,
    opaque: [u8; 4],
    cas: u64,
    key_len: usize,
    extras_len: usize,
    body_len: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

impl Head {
    /// Reads the header in the first 24 of `bytes`.
    fn read(bytes: &[u8]) -> Head {
        Head {
            opcode: bytes[1],
            quiet: false,
            key_len: usize::from(u16_at(bytes, 2)),
            extras_len: usize::from(bytes[4]),
            body_len: u32_at(bytes, 8) as usize,
            opaque: [bytes[12], bytes[13], bytes[14], bytes[15]],
            cas: u64_at(bytes, 16),
        }
    }

    /// Whether the lengths are possible for the operation.
    fn valid(&self, op: Op) -> bool {
        let before_value = self.key_len + self.extras_len;
        let (one, other) = op.extras();
        let value_ok =
            if matches!(op, Op::Store(_)) { before_value <= self.body_len } else { before_value == self.body_len };
        value_ok
            && (self.extras_len == one || self.extras_len == other)
            && self.key_len <= KEY_MAX
            && op.keyed().is_none_or(|keyed| keyed == (self.key_len > 0))
    }

    fn cas(&self) -> Option<u64> {
        Some(self.cas).filter(|cas| *cas != 0)
    }

    /// An answer's header.
    fn response(&self, status: Status, extras: usize, key: usize, value: usize, cas: u64) -> [u8; HEADER] {
        let mut head = [0; HEADER];
        let mut out = Cursor::new(&mut head);
        out.put(&[RESPONSE, self.opcode]).put(&(key as u16).to_be_bytes()).put(&[extras as u8, 0]);
        out.put(&(status as u16).to_be_bytes());
        out.put(&((extras + key + value) as u32).to_be_bytes()).put(&self.opaque).put(&cas.to_be_bytes());
        head
    }

    fn reply(&self, turn: &mut Turn<'_, '_>, extras: &[u8], key: &[u8], value: &[u8], cas: u64) {
        turn.put(&self.response(Status::Ok, extras.len(), key.len(), value.len(), cas));
        for part in [extras, key, value] {
            turn.put(part);
        }
    }

    /// Answers success, unless success goes without saying.
    fn ok(&self, turn: &mut Turn<'_, '_>, value: &[u8], cas: u64) {
        if !self.quiet {
            self.reply(turn, &[], &[], value, cas);
        }
    }

    fn error(&self, turn: &mut Turn<'_, '_>, status: Status) {
        let text = status.text();
        turn.put(&self.response(status, 0, 0, text.len(), 0));
        turn.put(text);
    }
}

/// Executes the next request.
pub(crate) fn packet(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>) -> Step {
    if rx.len() < HEADER {
        return Step::Bytes(if rx.is_empty() { 1 } else { HEADER });
    }
    let mut bytes = [0; HEADER + EXTRAS_MAX + KEY_MAX];
    let have = rx.copy_to(&mut bytes);
    if bytes[0] != REQUEST {
        return Step::Close;
    }
    if !turn.room() {
        return Step::Room;
    }
    let mut head = Head::read(&bytes);
    let Some((op, quiet)) = Op::of(head.opcode) else {
        head.error(turn, Status::UnknownCommand);
        rx.consume(HEADER);
        conn.state = State::Swallow(head.body_len as u64);
        return Step::Next;
    };
    head.quiet = quiet;
    if !head.valid(op) {
        head.error(turn, Status::Invalid);
        return Step::Close;
    }
    let len = HEADER + head.extras_len + head.key_len;
    if have < len {
        return Step::Bytes(len);
    }
    let (extras, key) = bytes[HEADER..len].split_at(head.extras_len);
    match op {
        Op::Get { key: with_key, touch } => {
            let expires = touch.then(|| turn.expires(i64::from(u32_at(extras, 0))));
            if !get(turn, conn, &head, key, with_key, expires) {
                return Step::Room;
            }
        }
        Op::Stat => {
            if !stat(turn, &head, key) {
                return Step::Room;
            }
        }
        Op::Store(mode) => {
            rx.consume(len);
            return store(turn, conn, rx, head, extras, key, mode);
        }
        Op::Quit => {
            head.ok(turn, &[], 0);
            return Step::Close;
        }
        _ => simple(turn, &head, op, extras, key),
    }
    rx.consume(len);
    Step::Next
}

/// The operations whose answer always has room.
fn simple(turn: &mut Turn<'_, '_>, head: &Head, op: Op, extras: &[u8], key: &[u8]) {
    match op {
        Op::Delete => delete(turn, head, key),
        Op::Arith { up } => arith(turn, head, extras, key, up),
        Op::Touch => touch(turn, head, key, u32_at(extras, 0)),
        Op::Flush => {
            let time = if extras.is_empty() { 0 } else { u32_at(extras, 0) };
            turn.count(Stat::CmdFlush);
            turn.store().flush(turn.now, turn.expires(i64::from(time)));
            head.ok(turn, &[], 0);
        }
        Op::Verbosity => {
            turn.kv.set_verbosity(u32_at(extras, 0));
            head.ok(turn, &[], 0);
        }
        Op::Version => head.ok(turn, VERSION.as_bytes(), 0),
        // The others are handled apart.
        Op::Noop | Op::Get { .. } | Op::Store(_) | Op::Quit | Op::Stat => head.ok(turn, &[], 0),
    }
}

/// False: there is no room, nothing was done.
fn get(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    head: &Head,
    key: &[u8],
    with_key: bool,
    expires: Option<Secs>,
) -> bool {
    let store = turn.kv.store();
    let hash = store.hash(key);
    let mut shard = store.shard(hash);
    let found = shard.lookup(turn.now, hash as u32, key);
    let shown: &[u8] = if with_key { key } else { &[] };
    let hit = found.hit();
    if let Some(at) = hit {
        let entry = shard.entry_mut(at);
        let (value, flags) = (entry.value(), entry.flags.to_be_bytes());
        let copied = if matches!(entry.data, Data::Small(_)) { value.len() } else { 0 };
        if !turn.tx.reserve(HEADER + flags.len() + shown.len() + copied) {
            return false;
        }
        turn.put(&head.response(Status::Ok, flags.len(), shown.len(), value.len(), entry.cas));
        turn.put(&flags);
        turn.put(shown);
        match &entry.data {
            Data::Small(_) => turn.put(value),
            Data::Large(large) => conn.send_large(Arc::clone(large), key.len(), b""),
        }
        entry.touch(turn.now);
        entry.expires = expires.unwrap_or(entry.expires);
    }
    drop(shard);
    turn.count(Stat::CmdGet);
    turn.count(if hit.is_some() { Stat::GetHits } else { Stat::GetMisses });
    match found {
        Lookup::Expired => turn.count(Stat::GetExpired),
        Lookup::Flushed => turn.count(Stat::GetFlushed),
        Lookup::Hit(_) | Lookup::Miss => {}
    }
    if expires.is_some() {
        turn.count(Stat::CmdTouch);
        turn.count(if hit.is_some() { Stat::TouchHits } else { Stat::TouchMisses });
    }
    if hit.is_none() && !head.quiet {
        if with_key {
            // Instead of the text: the key tells which of several was missed.
            turn.put(&head.response(Status::NotFound, 0, key.len(), 0, 0));
            turn.put(key);
        } else {
            head.error(turn, Status::NotFound);
        }
    }
    true
}

fn store(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    rx: &mut Received<'_>,
    head: Head,
    extras: &[u8],
    key: &[u8],
    mode: Mode,
) -> Step {
    let (flags, time) = if extras.is_empty() { (0, 0) } else { (u32_at(extras, 0), u32_at(extras, 4)) };
    let mut put = Put::new(mode, flags, turn.expires(expiration(time)));
    put.cas = head.cas();
    let len = head.body_len - head.extras_len - head.key_len;
    upload::begin(turn, conn, rx, key, put, len, Answer::Binary(head))
}

/// The extras carry 32 bits; memcached reads them with a sign.
fn expiration(time: u32) -> i64 {
    i64::from(time as i32)
}

/// Answers a request to store.
pub(crate) fn stored(turn: &mut Turn<'_, '_>, head: &Head, put: &Put, outcome: Outcome) {
    let status = match outcome {
        Outcome::BadChunk => Status::Invalid,
        Outcome::Tried(stored) => match (stored, put.mode) {
            (Stored::Done { cas, .. }, _) => return head.ok(turn, &[], cas),
            (Stored::Unmet, Mode::Add) | (Stored::Exists, _) => Status::Exists,
            (Stored::Unmet, Mode::Replace) | (Stored::NotFound, _) => Status::NotFound,
            (Stored::Unmet, _) => Status::NotStored,
            (Stored::TooLarge, _) => Status::TooLarge,
            (Stored::NoMemory, _) => Status::NoMemory,
        },
    };
    head.error(turn, status);
}

fn delete(turn: &mut Turn<'_, '_>, head: &Head, key: &[u8]) {
    let hash = turn.store().hash(key);
    let mut shard = turn.store().shard(hash);
    let found = shard.lookup(turn.now, hash as u32, key).hit();
    let changed = found.is_some_and(|at| head.cas().is_some_and(|cas| cas != shard.entry(at).cas));
    if let Some(at) = found
        && !changed
    {
        shard.delete(at);
    }
    drop(shard);
    match (found, changed) {
        (None, _) => {
            turn.count(Stat::DeleteMisses);
            head.error(turn, Status::NotFound);
        }
        (Some(_), true) => {
            turn.count(Stat::CasBadval);
            head.error(turn, Status::Exists);
        }
        (Some(_), false) => {
            turn.count(Stat::DeleteHits);
            head.ok(turn, &[], 0);
        }
    }
}

/// An expiration that says: do not make what is not there.
const DO_NOT_MAKE: u32 = u32::MAX;

fn arith(turn: &mut Turn<'_, '_>, head: &Head, extras: &[u8], key: &[u8], up: bool) {
    let (initial, time) = (u64_at(extras, 8), u32_at(extras, 16));
    let request = Arith { up, delta: u64_at(extras, 0), cas: head.cas(), own_cas: None };
    let hash = turn.store().hash(key);
    // A second round only if another thread made the item in between.
    for _ in 0..2 {
        let counted = turn.store().arith(turn.now, hash, key, &request, |shard, counted| match counted {
            Counted::Done { at, .. } => (counted, shard.entry(at).cas),
            _ => (counted, 0),
        });
        let Some((counted, cas)) = counted else { return head.error(turn, Status::NoMemory) };
        ascii::count_arith(turn, up, counted);
        match counted {
            Counted::Done { number, .. } => return head.ok(turn, &number.to_be_bytes(), cas),
            Counted::Exists => return head.error(turn, Status::Exists),
            Counted::NotANumber => return head.error(turn, Status::NotANumber),
            Counted::NotFound if time == DO_NOT_MAKE => return head.error(turn, Status::NotFound),
            Counted::NotFound => {}
        }
        let put = Put::new(Mode::Add, 0, turn.expires(expiration(time)));
        let mut digits = [0; crate::digits::U64_DIGITS];
        let mut text = Cursor::new(&mut digits);
        let text = text.number(initial).bytes();
        match turn.store().put(turn.now, hash, key, &put, Value::Borrowed(text)) {
            Stored::Done { cas, .. } => return head.ok(turn, &initial.to_be_bytes(), cas),
            Stored::Unmet => {}
            _ => return head.error(turn, Status::NoMemory),
        }
    }
    head.error(turn, Status::NotStored);
}

fn touch(turn: &mut Turn<'_, '_>, head: &Head, key: &[u8], time: u32) {
    let expires = turn.expires(expiration(time));
    let hash = turn.store().hash(key);
    let mut shard = turn.store().shard(hash);
    let found = shard.lookup(turn.now, hash as u32, key).hit();
    let mut cas = 0;
    if let Some(at) = found {
        let entry = shard.entry_mut(at);
        entry.touch(turn.now);
        entry.expires = expires;
        cas = entry.cas;
    }
    drop(shard);
    turn.count(Stat::CmdTouch);
    if found.is_some() {
        turn.count(Stat::TouchHits);
        head.ok(turn, &[], cas);
    } else {
        turn.count(Stat::TouchMisses);
        head.error(turn, Status::NotFound);
    }
}

/// False: there is no room, nothing was done (`reset` apart, which does not mind being done twice).
fn stat(turn: &mut Turn<'_, '_>, head: &Head, topic: &[u8]) -> bool {
    let lines = if topic == b"reset" {
        stats::reset(turn.kv);
        Some(Vec::new())
    } else {
        stats::collect(turn.kv, turn.now, topic)
    };
    let Some(lines) = lines else {
        head.error(turn, Status::NotFound);
        return true;
    };
    let total: usize = lines.iter().map(|(name, value)| HEADER + name.len() + value.len()).sum();
    if !turn.tx.reserve(total + HEADER) {
        return false;
    }
    for (name, value) in lines {
        head.reply(turn, &[], name.as_bytes(), value.as_bytes(), 0);
    }
    head.reply(turn, &[], &[], &[], 0);
    true
}
