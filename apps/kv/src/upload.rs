use zygix::Received;

use crate::ascii::{self, Returns};
use crate::binary::{self, Head};
use crate::conn::{Conn, State, Step};
use crate::service::Turn;
use crate::stats::Stat;
use crate::store::{Charge, Mode, OVERHEAD, Put, SMALL_MAX, Stored, Value, cost};

/// How much memory a large value claims at first; then as much again as it has, as its bytes come.
const FIRST_CLAIM: usize = 64 * 1024;

/// In what form a request to store is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Classic { noreply: bool },
    Meta(Returns),
    Binary(Head),
}

impl Answer {
    /// What must follow the value.
    fn tail(&self) -> &'static [u8] {
        match self {
            Answer::Classic { .. } | Answer::Meta(_) => b"\r\n",
            Answer::Binary(_) => b"",
        }
    }

    /// Answers. There must be room.
    fn give(&self, turn: &mut Turn<'_, '_>, key: &[u8], put: &Put, outcome: Outcome) {
        if put.cas.is_some() {
            match outcome {
                Outcome::Tried(Stored::Done { .. }) => turn.count(Stat::CasHits),
                Outcome::Tried(Stored::Exists) => turn.count(Stat::CasBadval),
                Outcome::Tried(Stored::NotFound) => turn.count(Stat::CasMisses),
                _ => {}
            }
        }
        match outcome {
            Outcome::Tried(Stored::TooLarge) => turn.count(Stat::StoreTooLarge),
            Outcome::Tried(Stored::NoMemory) => turn.count(Stat::StoreNoMemory),
            _ => {}
        }
        match self {
            Answer::Classic { noreply: true } => {}
            Answer::Classic { noreply: false } => turn.put(ascii::outcome(outcome)),
            Answer::Meta(returns) => ascii::meta_stored(turn, key, returns, outcome),
            Answer::Binary(head) => binary::stored(turn, head, put, outcome),
        }
    }
}

/// What became of the value that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Tried(Stored),
    /// The line end after it was not there.
    BadChunk,
}

/// A value that is coming in, collected in the memory that becomes the item.
#[derive(Debug)]
pub(crate) struct Upload {
    put: Put,
    answer: Answer,
    hash: u64,
    key_len: usize,
    /// Key, then what has come of the value.
    body: Vec<u8>,
    charge: Charge,
    /// Bytes of the value to come.
    left: usize,
}

/// Begins to store a value of `len` bytes under `key`; it comes next in `rx`. There must be room for an answer.
pub(crate) fn begin(
    turn: &mut Turn<'_, '_>,
    conn: &mut Conn,
    rx: &mut Received<'_>,
    key: &[u8],
    put: Put,
    len: usize,
    answer: Answer,
) -> Step {
    turn.count(Stat::CmdSet);
    let total = key.len() + len;
    if !turn.store().fits(total) {
        conn.state = refuse(turn, key, &put, &answer, len, Stored::TooLarge);
        return Step::Next;
    }
    let hash = turn.store().hash(key);
    let (chunk, tail) = (rx.chunk(), answer.tail());
    if total <= SMALL_MAX && chunk.len() >= len + tail.len() {
        let (value, rest) = chunk.split_at(len);
        let outcome = if rest.starts_with(tail) {
            Outcome::Tried(turn.store().put(turn.now, hash, key, &put, Value::Borrowed(value)))
        } else {
            Outcome::BadChunk
        };
        answer.give(turn, key, &put, outcome);
        rx.consume(len + tail.len());
        return Step::Next;
    }
    let mut upload = Box::new(Upload {
        put,
        answer,
        hash,
        key_len: key.len(),
        body: Vec::new(),
        charge: turn.store().charge(),
        left: len,
    });
    if !upload.make_room(turn, total) {
        conn.state = refuse(turn, key, &upload.put, &upload.answer, len, Stored::NoMemory);
        return Step::Next;
    }
    upload.body.extend_from_slice(key);
    conn.state = State::Upload(upload);
    Step::Next
}

/// Answers that the value cannot be stored; returns the state that swallows its `left` bytes.
fn refuse(turn: &mut Turn<'_, '_>, key: &[u8], put: &Put, answer: &Answer, left: usize, why: Stored) -> State {
    if put.mode == Mode::Set {
        // As memcached does: better no value than one that the client tried to overwrite.
        let hash = turn.store().hash(key);
        let mut shard = turn.store().shard(hash);
        if let Some(at) = shard.lookup(turn.now, hash as u32, key).hit() {
            shard.delete(at);
        }
    }
    answer.give(turn, key, put, Outcome::Tried(why));
    State::Swallow((left + answer.tail().len()) as u64)
}

impl Upload {
    /// Moves on; `Err` is the state that follows when this is over.
    pub(crate) fn step(&mut self, turn: &mut Turn<'_, '_>, rx: &mut Received<'_>) -> Result<Step, State> {
        while self.left > 0 {
            let chunk = rx.chunk();
            if chunk.is_empty() {
                return Ok(Step::Bytes(1));
            }
            if self.body.len() == self.body.capacity() && !self.make_room(turn, self.body.len() + self.left) {
                return if turn.room() { Err(self.give_up(turn)) } else { Ok(Step::Room) };
            }
            let n = chunk.len().min(self.left).min(self.body.capacity() - self.body.len());
            self.body.extend_from_slice(&chunk[..n]);
            rx.consume(n);
            self.left -= n;
        }
        let tail = self.answer.tail();
        if rx.len() < tail.len() {
            return Ok(Step::Bytes(tail.len()));
        }
        if !turn.room() {
            return Ok(Step::Room);
        }
        let mut end = [0; 2];
        rx.copy_to(&mut end);
        rx.consume(tail.len());
        let key_copy = self.key();
        let key = &key_copy.0[..key_copy.1];
        let outcome = if end.starts_with(tail) {
            let bytes = std::mem::take(&mut self.body);
            let charge = std::mem::replace(&mut self.charge, turn.store().charge());
            Outcome::Tried(turn.store().put(turn.now, self.hash, key, &self.put, Value::Owned { bytes, charge }))
        } else {
            Outcome::BadChunk
        };
        self.answer.give(turn, key, &self.put, outcome);
        Err(State::Command)
    }

    /// The key, apart from the body that becomes the item.
    fn key(&self) -> ([u8; u8::MAX as usize], usize) {
        let mut key = [0; u8::MAX as usize];
        key[..self.key_len].copy_from_slice(&self.body[..self.key_len]);
        (key, self.key_len)
    }

    fn give_up(&mut self, turn: &mut Turn<'_, '_>) -> State {
        let key_copy = self.key();
        self.body = Vec::new();
        self.charge = turn.store().charge();
        refuse(turn, &key_copy.0[..key_copy.1], &self.put, &self.answer, self.left, Stored::NoMemory)
    }

    /// Claims and allocates memory for more bytes, of `total` in the end.
    fn make_room(&mut self, turn: &mut Turn<'_, '_>, total: usize) -> bool {
        let have = self.body.capacity();
        let (more, claim) = if total <= SMALL_MAX {
            (total, cost(total))
        } else {
            let more = (total - have).min(have.max(FIRST_CLAIM));
            (more, more + if have == 0 { OVERHEAD } else { 0 })
        };
        if !turn.store().grow(turn.now, &mut self.charge, claim) {
            return false;
        }
        self.body.reserve_exact(more);
        true
    }
}
