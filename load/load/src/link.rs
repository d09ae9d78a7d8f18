use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::TcpStream;

use sys::socket;
use units::Nanos;

use crate::protocol::{Ask, Verdict};

/// Reply bytes fetched at a time.
const READ: usize = 16 * 1024;

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) ask: Ask,
    /// From when its latency counts.
    pub(crate) since: Nanos,
}

/// One connection: requests go out in order, replies come back in order.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    /// Requests written, or to be written, and not answered.
    pub(crate) pending: VecDeque<Pending>,
    /// Open loop: requests that are due and wait for the depth to allow them.
    pub(crate) waiting: VecDeque<Pending>,
    out: Vec<u8>,
    sent: usize,
    replies: Vec<u8>,
    have: usize,
    /// In the list of links with something to send.
    pub(crate) dirty: bool,
    /// Epoll watches for room to write.
    pub(crate) watches_room: bool,
}

/// Why a connection is of no more use.
pub(crate) struct Broken;

impl Link {
    pub(crate) fn new(stream: TcpStream, depth: usize) -> Link {
        Link {
            stream,
            pending: VecDeque::with_capacity(depth),
            waiting: VecDeque::new(),
            out: Vec::with_capacity(64 * depth),
            sent: 0,
            replies: vec![0; READ],
            have: 0,
            dirty: false,
            watches_room: false,
        }
    }

    /// Queues a request; `send` sends it.
    pub(crate) fn ask(&mut self, request: Pending) {
        request.ask.write(&mut self.out);
        self.pending.push_back(request);
    }

    /// Whether bytes wait for room.
    pub(crate) fn unsent(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Sends what is queued, as far as there is room.
    pub(crate) fn send(&mut self) -> Result<(), Broken> {
        while self.unsent() {
            match socket::send(&self.stream, &[IoSlice::new(&self.out[self.sent..])]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads once and hands each reply that is complete to `done`: the request, and whether the reply was right.
    pub(crate) fn receive(&mut self, mut done: impl FnMut(Pending, bool)) -> Result<(), Broken> {
        match self.stream.read(&mut self.replies[self.have..]) {
            Ok(0) => return Err(Broken),
            Ok(n) => self.have += n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(()),
            Err(_) => return Err(Broken),
        }
        let mut at = 0;
        while at < self.have {
            let Some(&oldest) = self.pending.front() else { return Err(Broken) };
            let right = match oldest.ask.judge(&self.replies[at..self.have]) {
                Verdict::Right(n) => {
                    at += n;
                    true
                }
                Verdict::Wrong(n) => {
                    at += n;
                    false
                }
                Verdict::Incomplete => break,
                Verdict::Garbage => return Err(Broken),
            };
            self.pending.pop_front();
            done(oldest, right);
        }
        self.replies.copy_within(at..self.have, 0);
        self.have -= at;
        // A wrong value larger than the buffer would never be complete.
        if self.have == self.replies.len() { Err(Broken) } else { Ok(()) }
    }
}
