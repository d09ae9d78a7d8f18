use std::collections::VecDeque;

use requests::{Ask, Asker, Verdict};
use units::Nanos;

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) ask: Ask,
    /// When it was meant to be sent.
    pub(crate) since: Nanos,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Closed,
    Opening,
    Open,
}

/// What came makes no sense: where the next reply begins is unknown.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Garbage;

/// One connection of the load, as far as requests and replies go.
///
/// ```text
///   waiting (open loop: blocked by depth, or not open) ──► pending: [ under way ... | unwritten ... ] ──► reply
///                                                                     bytes that the transport did not take: unsent
/// ```
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) phase: Phase,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) waiting: VecDeque<Pending>,
    /// How many of `pending`, from the back, are not written yet.
    unwritten: usize,
    /// Requests of this life of the connection.
    pub(crate) asked: u32,
    /// Whether it stands in the engine's list of those that have something to send.
    pub(crate) dirty: bool,
    /// The beginning of a reply whose end has not come.
    partial: Vec<u8>,
    /// Bytes that `partial` must have before another look is worth it.
    need: usize,
    unsent: Vec<u8>,
}

/// A buffer larger than this is given back when it has emptied.
const KEEP: usize = 4096;

impl Link {
    pub(crate) fn new() -> Link {
        Link {
            phase: Phase::Closed,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            unwritten: 0,
            asked: 0,
            dirty: false,
            partial: Vec::new(),
            need: 0,
            unsent: Vec::new(),
        }
    }

    /// Adds a request, to be written with the next [`Link::write`].
    #[inline]
    pub(crate) fn ask(&mut self, request: Pending) {
        self.pending.push_back(request);
        self.unwritten += 1;
        self.asked = self.asked.saturating_add(1);
    }

    /// Whether there is anything for the transport.
    pub(crate) fn has_output(&self) -> bool {
        self.unwritten > 0 || !self.unsent.is_empty()
    }

    /// Hands what is to be sent to `send`, which says how much it took; `None` if the connection is broken. Returns how many
    /// requests were written. `scratch` saves allocations.
    pub(crate) fn write(
        &mut self,
        asker: &Asker,
        scratch: &mut Vec<u8>,
        mut send: impl FnMut(&[u8]) -> Option<usize>,
    ) -> Option<usize> {
        if !self.unsent.is_empty() {
            let took = send(&self.unsent)?;
            self.unsent.drain(..took);
            if !self.unsent.is_empty() {
                return Some(0);
            }
            if self.unsent.capacity() > KEEP {
                self.unsent = Vec::new();
            }
        }
        let wrote = std::mem::take(&mut self.unwritten);
        if wrote == 0 {
            return Some(0);
        }
        scratch.clear();
        for request in self.pending.range(self.pending.len() - wrote..) {
            asker.write(request.ask, scratch);
        }
        let took = send(scratch)?;
        self.unsent.extend_from_slice(&scratch[took..]);
        Some(wrote)
    }

    /// Takes received bytes; `done` is told of each complete reply: to which request, and whether it is the right one.
    pub(crate) fn receive(
        &mut self,
        asker: &Asker,
        bytes: &[u8],
        mut done: impl FnMut(Pending, bool),
    ) -> Result<(), Garbage> {
        if self.partial.is_empty() {
            let used = self.judge(asker, bytes, &mut done)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() < self.need {
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.partial);
        let used = self.judge(asker, &all, &mut done)?;
        all.drain(..used);
        if !all.is_empty() || all.capacity() <= KEEP {
            self.partial = all;
        }
        Ok(())
    }

    /// Judges as many replies as are complete; returns the bytes that they took.
    fn judge(&mut self, asker: &Asker, bytes: &[u8], done: &mut impl FnMut(Pending, bool)) -> Result<usize, Garbage> {
        let mut at = 0;
        while at < bytes.len() {
            // Bytes that nobody asked for, or before the request was written: a server out of step.
            if self.pending.len() == self.unwritten {
                return Err(Garbage);
            }
            let Some(&request) = self.pending.front() else { return Err(Garbage) };
            let (len, right) = match asker.judge(request.ask, &bytes[at..]) {
                Verdict::Right(len) => (len, true),
                Verdict::Wrong(len) => (len, false),
                Verdict::Incomplete(need) => {
                    self.need = need;
                    break;
                }
                Verdict::Garbage => return Err(Garbage),
            };
            if len == 0 || len > bytes.len() - at {
                return Err(Garbage);
            }
            at += len;
            self.pending.pop_front();
            done(request, right);
        }
        Ok(at)
    }

    /// Forgets what was under way, as with a connection that has ended; what still waits stays. Returns how many requests went.
    pub(crate) fn forget(&mut self) -> usize {
        let lost = self.pending.len();
        self.pending.clear();
        self.unwritten = 0;
        self.asked = 0;
        self.need = 0;
        self.partial = Vec::new();
        self.unsent = Vec::new();
        lost
    }
}
