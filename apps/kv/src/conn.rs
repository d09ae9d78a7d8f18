use std::sync::Arc;

use zygix::{Next, Received};

use crate::ascii::{self, Keys};
use crate::binary;
use crate::service::Turn;
use crate::store::Large;
use crate::upload::Upload;

/// State of one connection.
#[derive(Debug)]
pub struct Conn {
    protocol: Protocol,
    /// Whether the peer has finished and all its bytes are consumed.
    finished: bool,
    pub(crate) state: State,
    /// A value that is being sent. Goes on before anything else.
    sending: Option<Box<Sending>>,
}

/// The first byte decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Unknown,
    Ascii,
    Binary,
    /// There are too many connections already.
    Refused,
}

/// What the connection is in the middle of.
#[derive(Debug)]
pub(crate) enum State {
    /// Nothing: a command comes next.
    Command,
    /// A value is coming in.
    Upload(Box<Upload>),
    /// So many bytes are of no interest.
    Swallow(u64),
    /// The keys of a `get` or its like are being answered.
    Keys(Keys),
    /// The rest of a line is of no interest.
    SkipLine,
}

/// A large value on its way out.
#[derive(Debug)]
struct Sending {
    item: Arc<Large>,
    at: usize,
    /// What comes after it.
    tail: &'static [u8],
}

/// What one step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Something was done.
    Next,
    /// Nothing can be done before so many bytes are there.
    Bytes(usize),
    /// Nothing can be done before there is more room for the reply (which knows).
    Room,
    Close,
}

const CONN_MAX: usize = 64;
const _: () = assert!(size_of::<Conn>() <= CONN_MAX, "idle connections are many");

impl Conn {
    pub(crate) fn new() -> Conn {
        Conn { protocol: Protocol::Unknown, finished: false, state: State::Command, sending: None }
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.protocol == Protocol::Refused
    }

    pub(crate) fn refused() -> Conn {
        Conn { protocol: Protocol::Refused, ..Conn::new() }
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    /// Does what can be done with the bytes and the room there are.
    pub(crate) fn run(&mut self, turn: &mut Turn<'_, '_>, rx: &mut Received<'_>) -> Next {
        loop {
            match self.step(turn, rx) {
                Step::Next => {}
                Step::Bytes(_) if rx.fin() => return Next::Close,
                Step::Bytes(n) if n > rx.len() + 1 => return Next::AtLeast(n),
                Step::Bytes(_) => return Next::Read,
                Step::Room => {
                    self.finished = rx.fin() && rx.is_empty();
                    return Next::Read;
                }
                Step::Close => return Next::Close,
            }
        }
    }

    #[inline]
    fn step(&mut self, turn: &mut Turn<'_, '_>, rx: &mut Received<'_>) -> Step {
        if self.sending.is_some() {
            return self.send(turn);
        }
        match &mut self.state {
            State::Command => match self.protocol {
                Protocol::Ascii => ascii::command(turn, self, rx),
                Protocol::Binary => binary::packet(turn, self, rx),
                Protocol::Unknown | Protocol::Refused => self.first(turn, rx),
            },
            State::Keys(keys) => {
                let keys = *keys;
                ascii::next_key(turn, self, rx, keys)
            }
            State::Upload(upload) => match upload.step(turn, rx) {
                Ok(step) => step,
                Err(then) => {
                    self.state = then;
                    Step::Next
                }
            },
            State::Swallow(left) => {
                let some = rx.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                rx.consume(some);
                *left -= some as u64;
                if *left > 0 {
                    return Step::Bytes(1);
                }
                self.state = State::Command;
                Step::Next
            }
            State::SkipLine => self.skip_line(rx),
        }
    }

    /// The first bytes of the connection: learns the protocol.
    #[cold]
    fn first(&mut self, turn: &mut Turn<'_, '_>, rx: &mut Received<'_>) -> Step {
        if self.protocol == Protocol::Refused {
            if !turn.room() {
                return Step::Room;
            }
            turn.put(b"ERROR Too many open connections\r\n");
            return Step::Close;
        }
        match rx.chunk().first() {
            None => return Step::Bytes(1),
            Some(&binary::REQUEST) => self.protocol = Protocol::Binary,
            Some(_) => self.protocol = Protocol::Ascii,
        }
        Step::Next
    }

    fn skip_line(&mut self, rx: &mut Received<'_>) -> Step {
        let chunk = rx.chunk();
        match ascii::newline(chunk) {
            None if chunk.is_empty() => return Step::Bytes(1),
            None => rx.consume(chunk.len()),
            Some(end) => {
                rx.consume(end + 1);
                self.state = State::Command;
            }
        }
        Step::Next
    }

    /// Sends the value of a large item, then `tail`, before anything else happens on this connection.
    pub(crate) fn send_large(&mut self, item: Arc<Large>, key_len: usize, tail: &'static [u8]) {
        self.sending = Some(Box::new(Sending { item, at: key_len, tail }));
    }

    fn send(&mut self, turn: &mut Turn<'_, '_>) -> Step {
        let Some(sending) = &mut self.sending else { return Step::Next };
        let value = &sending.item.bytes[sending.at..];
        if !value.is_empty() {
            let wrote = turn.tx.write(value);
            turn.count_bytes(crate::stats::Stat::BytesWritten, wrote);
            sending.at += wrote;
            if wrote < value.len() {
                return Step::Room;
            }
        }
        if !turn.tx.reserve(sending.tail.len()) {
            return Step::Room;
        }
        let tail = sending.tail;
        self.sending = None;
        turn.put(tail);
        Step::Next
    }
}
