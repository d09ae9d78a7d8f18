//! The queues, and the table that says which of them gets a flow group's frames.
//!
//! ```text
//!   lane 0 ─┬─ frames of groups that the table gives to queue 0 ──► queue 0
//!           └─ of others ──► crossing ────────────────────────────► queue 1      in the order in which they were made
//! ```
//!
//! A lane is polled by its own queue, and by another while that one has no group at all: it may never be polled then.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use sys::clock::Clock;
use units::{FLOW_GROUPS, FlowGroupId};

use crate::desk::Desk;
use crate::lane::Lane;

/// Frames that may wait for a queue from others' lanes. What finds no room comes by its lane's own queue.
const CROSSING: usize = 8192;

/// What all queues share.
pub(crate) struct Wire {
    lanes: Box<[Mutex<Lane>]>,
    desks: Vec<Arc<Desk>>,
    clock: Clock,
    reta: [AtomicU16; FLOW_GROUPS],
    /// The queue that polls each lane.
    polls: Box<[AtomicU16]>,
    crossing: Box<[Crossing]>,
    /// The table is not as it was at the start, or frames cross.
    moved: AtomicBool,
}

#[derive(Default)]
struct Crossing {
    waiting: AtomicUsize,
    frames: Mutex<VecDeque<RxFrame>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    pub(crate) fn new(lanes: Vec<Lane>, desks: Vec<Arc<Desk>>, clock: Clock) -> Wire {
        let n = lanes.len();
        Wire {
            reta: std::array::from_fn(|group| AtomicU16::new((group % n) as u16)),
            polls: (0..n as u16).map(AtomicU16::new).collect(),
            crossing: (0..n).map(|_| Crossing::default()).collect(),
            lanes: lanes.into_iter().map(Mutex::new).collect(),
            moved: AtomicBool::new(false),
            desks,
            clock,
        }
    }

    pub(crate) fn queues(&self) -> usize {
        self.lanes.len()
    }

    /// Directs the frames of `group` to `queue`, both of which there are.
    pub(crate) fn set_reta(&self, group: FlowGroupId, queue: u16) {
        self.crossing.iter().for_each(|c| lock(&c.frames).reserve(CROSSING));
        self.moved.store(true, Release);
        let before = self.reta[group.index()].swap(queue, Relaxed);
        let has_any = |queue: u16| self.reta.iter().any(|q| q.load(Relaxed) == queue);
        for (own, polls) in (0..).zip(&self.polls) {
            if own == queue {
                polls.store(own, Release);
            } else if polls.load(Relaxed) == before && !has_any(before) {
                polls.store(queue, Release);
            }
        }
    }

    /// The frames from `first` on that are not for `queue` go where they are to.
    #[cold]
    fn cross(&self, queue: usize, first: usize, out: &mut Vec<RxFrame>) {
        let mut at = first;
        while at < out.len() {
            let to = out[at].group.map_or(queue, |group| usize::from(self.reta[group.index()].load(Relaxed)));
            let crossing = &self.crossing[to];
            if to == queue || crossing.waiting.load(Relaxed) >= CROSSING {
                at += 1;
                continue;
            }
            let frame = out.remove(at);
            let mut frames = lock(&crossing.frames);
            frames.push_back(frame);
            crossing.waiting.store(frames.len(), Release);
        }
    }

    /// Takes what has crossed to `queue`.
    #[cold]
    fn crossed(&self, queue: usize, max: usize, out: &mut Vec<RxFrame>) {
        let crossing = &self.crossing[queue];
        if crossing.waiting.load(Acquire) == 0 {
            return;
        }
        let mut frames = lock(&crossing.frames);
        let n = max.min(frames.len()).min(out.capacity() - out.len());
        out.extend(frames.drain(..n));
        crossing.waiting.store(frames.len(), Release);
    }

    /// Whether a poll of `queue` would find something.
    fn is_due(&self, queue: usize) -> bool {
        let due = |lane: usize| self.desks[lane].due() <= self.clock.now();
        let polled = |lane: usize| usize::from(self.polls[lane].load(Relaxed)) == queue;
        self.crossing[queue].waiting.load(Relaxed) > 0 || (0..self.lanes.len()).any(|lane| polled(lane) && due(lane))
    }
}

/// A queue pair whose receive side makes requests, and whose transmit side takes the replies' times.
pub struct OpenLoopQueue {
    caps: Caps,
    own: usize,
    wire: Arc<Wire>,
}

impl OpenLoopQueue {
    pub(crate) fn new(caps: Caps, own: usize, wire: Arc<Wire>) -> OpenLoopQueue {
        OpenLoopQueue { caps, own, wire }
    }

    #[cold]
    fn receive_moved(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let (wire, own, before) = (&*self.wire, self.own, out.len());
        wire.crossed(own, max, out);
        for lane in (0..wire.lanes.len()).filter(|lane| usize::from(wire.polls[*lane].load(Acquire)) == own) {
            let (first, left) = (out.len(), max.saturating_sub(out.len() - before));
            let mut lane = lock(&wire.lanes[lane]);
            lane.rx_burst(pools, left, out);
            // Before others can poll it: its frames cross in their order.
            wire.cross(own, first, out);
        }
        out.len() - before
    }
}

impl Queue for OpenLoopQueue {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    #[inline]
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        if self.wire.moved.load(Acquire) {
            return self.receive_moved(pools, max, out);
        }
        let before = out.len();
        lock(&self.wire.lanes[self.own]).rx_burst(pools, max, out);
        out.len() - before
    }

    /// Never full: a frame ends here.
    #[inline]
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        let wire = &*self.wire;
        if !lock(&wire.lanes[self.own]).tx(frame) && wire.moved.load(Acquire) {
            let others = (0..wire.lanes.len()).filter(|lane| *lane != self.own);
            // What is no segment of any connection is nobody's.
            let _ = others.map(|lane| lock(&wire.lanes[lane]).tx(frame)).find(|taken| *taken);
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {}

    /// Compares the clock with the instant at which the next frame is due.
    fn rx_hint(&self) -> RxHint {
        let (wire, own) = (Arc::clone(&self.wire), self.own);
        Arc::new(move || wire.is_due(own))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    /// Never: a queue that makes its frames by the clock can only be polled.
    fn before_sleep(&mut self) -> bool {
        false
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        lock(&self.wire.lanes[self.own]).counters()
    }
}

impl Drop for OpenLoopQueue {
    fn drop(&mut self) {
        self.wire.desks[self.own].gone();
    }
}
