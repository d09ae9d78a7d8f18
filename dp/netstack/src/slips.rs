//! The stack's side of the shuffle layer: filling slips with ready connections, offering them, and carrying out what comes home.
//!
//! All of it runs under the stack's lock, whoever holds it: the home core, a core that lends itself, or the interrupt handler. A *narrow* slip
//! is what others may steal: one connection (or one datagram), or a few whose handlers are short, for these are not worth a crossing each.
//! A *wide* one is the home's own batch. It is never offered, but comes home like the others when its home finds its lock taken.

use std::collections::VecDeque;
use std::sync::Arc;

use abi::Handle;
use nic::Queue;
use shuffle::{Shuffle, Slip, Take};
use units::Nanos;

use crate::batch::{Batch, Pending};
use crate::flow_group::ConnId;
use crate::stack::Stack;
use crate::trips::Trip;

/// Slips of one core, of either kind.
pub(crate) const SLIPS: usize = NARROW + WIDE;
/// Slips that may be offered, running or on their way home at once, per core. Other connections wait in the ready queue.
const NARROW: usize = 256;
/// Connections on one of them.
pub const NARROW_MAX: usize = 8;
/// The home's own batches: one runs, and others may be on their way home while its lock is taken.
const WIDE: usize = 4;

/// What travels between cores.
pub type Work = Box<Batch>;

/// A stack's slips.
pub(crate) struct Slips {
    pub(crate) shuffle: Arc<Shuffle<Work>>,
    narrow: Vec<Slip>,
    wide: Vec<Slip>,
    /// Came home, and not carried out yet.
    back: VecDeque<Slip>,
}

impl Slips {
    /// The slips of a core whose own batches have up to `bound` connections.
    pub(crate) fn new(bound: usize) -> Slips {
        // The last narrow slip that a batch takes in may take it past its bound.
        let room = |n| if n < NARROW { NARROW_MAX } else { bound + NARROW_MAX };
        let all = (0..NARROW + WIDE).map(|n| Box::new(Batch::new(room(n))));
        let (shuffle, mut narrow) = Shuffle::new(all);
        let wide = narrow.split_off(NARROW);
        Slips { shuffle: Arc::new(shuffle), narrow, wide, back: VecDeque::with_capacity(NARROW + WIDE) }
    }
}

impl<Q: Queue> Stack<Q> {
    /// The shuffle layer of this core, for those who steal from it.
    pub fn shuffle(&self) -> &Arc<Shuffle<Work>> {
        &self.slips.shuffle
    }

    /// Offers what is ready, up to `each` connections (at most [`NARROW_MAX`]) on a slip, until `most` slips are on offer or none is free.
    /// Returns how many are new.
    pub fn offer(&mut self, most: usize, each: usize) -> usize {
        let mut n = 0;
        for _ in self.slips.shuffle.offered()..most {
            if self.ready() == 0 {
                break;
            }
            let Some(slip) = self.slips.narrow.pop() else { break };
            // Taken out while it is filled, for both are this stack's.
            let Some(mut work) = self.slips.shuffle.lift(slip) else { continue };
            let filled = self.dispatch(each.clamp(1, NARROW_MAX), &mut work);
            self.slips.shuffle.put(slip, work);
            if filled == 0 {
                self.slips.narrow.push(slip);
                continue;
            }
            self.slips.shuffle.offer(slip);
            n += 1;
        }
        self.metrics.offers.add(n as u64);
        n
    }

    /// A batch for the home itself, of up to `max` connections: first what it had offered and nobody took, then what is ready. It comes
    /// back by [`Stack::finish`] or, when the lock is taken by then, by `Shuffle::give_back`.
    pub fn draw(&mut self, max: usize) -> Option<(Slip, Work)> {
        let slip = self.slips.wide.pop()?;
        let mut work = self.slips.shuffle.lift(slip)?;
        while work.len() < max
            && let Take::One(narrow, mut offered) = self.slips.shuffle.take()
        {
            let since = offered.since;
            work.since = if work.is_empty() { since } else { work.since.min(since) };
            self.absorb(&mut work, &mut offered);
            self.slips.shuffle.put(narrow, offered);
            self.slips.narrow.push(narrow);
        }
        if work.len() < max {
            self.dispatch(max - work.len(), &mut work);
        }
        if work.is_empty() {
            self.slips.shuffle.put(slip, work);
            self.slips.wide.push(slip);
            return None;
        }
        self.metrics.batches.inc();
        self.metrics.batch_conns.add(work.len() as u64);
        Some((slip, work))
    }

    /// Moves what was to tell on one batch to the end of another.
    fn absorb(&mut self, into: &mut Batch, from: &mut Batch) {
        for entry in from.entries.drain(..) {
            let id = ConnId::new(entry.handle.group(), entry.handle.slot());
            if let Some(conn) = self.groups.conn_mut(id) {
                conn.place = into.entries.len() as u16;
            }
            into.entries.push(entry);
        }
        into.datagrams.append(&mut from.datagrams);
        into.refused.append(&mut from.refused);
        for (to, token) in from.messages.drain(..) {
            if into.messages.len() < into.messages.capacity() {
                into.messages.push((to, token));
            } else {
                self.wait_for_room(to, token);
            }
        }
    }

    /// A message that found no room in its connection's batch: it is told after that.
    #[cold]
    fn wait_for_room(&mut self, to: Handle, token: u64) {
        match self.groups.named(to) {
            Ok((_, conn)) => {
                conn.pending.insert(Pending::MESSAGE);
                self.mail.push_back((to, token));
            }
            Err(_) => self.deliver_elsewhere(to, token),
        }
    }

    /// Carries out a batch that the home itself has run.
    pub fn finish(&mut self, now: Nanos, slip: Slip, mut work: Work) {
        if work.took > Nanos::ZERO {
            self.metrics.stolen.inc();
            self.metrics.helped_ns.add(std::mem::take(&mut work.took).0);
        }
        if !work.left.travelled {
            self.complete(now, &mut work);
            if work.has_left() {
                return self.send_on(Trip::new(self.core, slip, work));
            }
        }
        work.clear();
        self.slips.shuffle.put(slip, work);
        self.file(slip);
    }

    /// Carries out the syscalls of up to `most` batches that came home ("remote syscalls"). Returns how many.
    pub fn complete_returned(&mut self, now: Nanos, most: usize) -> usize {
        let Slips { shuffle, back, .. } = &mut self.slips;
        shuffle.returned(|slip| back.push_back(slip));
        let mut n = 0;
        while n < most
            && let Some(slip) = self.slips.back.pop_front()
        {
            if let Some(work) = self.slips.shuffle.lift(slip) {
                self.finish(now, slip, work);
                n += 1;
            }
        }
        self.metrics.remote_syscalls.add(n as u64);
        n
    }

    /// Whether batches have come home that are not carried out yet.
    pub fn has_returned(&self) -> bool {
        !self.slips.back.is_empty() || self.slips.shuffle.has_returns()
    }

    /// Slips that are not free: on offer, running, or on their way home. For metrics and tests.
    pub fn slips_out(&self) -> usize {
        NARROW + WIDE - self.slips.narrow.len() - self.slips.wide.len()
    }

    /// Files a free slip.
    fn file(&mut self, slip: Slip) {
        if slip.number() < NARROW { &mut self.slips.narrow } else { &mut self.slips.wide }.push(slip);
    }
}
