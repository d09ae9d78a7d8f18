//! The queues, and the table that says which of them gets a flow group's frames.
//!
//! ```text
//!   lane 0 ─┬─ connections of groups that the table gives to queue 0 ──► their frames, when queue 0 is polled
//!           └─ of others ──────────────────────────────────────────────► when queue 1 is
//! ```
//!
//! As long as the table is as it was at the start, a lane is its queue's alone. From then on every queue makes the frames of its own groups, whichever lane
//! their connections are in: a core that is away delays nobody else's. When the table is set, what is due by then goes to the old queue, as a NIC would
//! have had it in its ring. Where requests leave in order ([`Config::in_order`]) and more is due than a burst has room for, each lane gets a part of the room as
//! large as its part of the queue's groups: all wait about as long, as they would in one ring.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use mem::{Pool, Room};
use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use sys::clock::Clock;
use units::{FLOW_GROUPS, FlowGroupId};
use wire::{Ipv4Addr, Tuple, ethernet};

use crate::backend::RSS;
use crate::config::Config;
use crate::desk::Desk;
use crate::lane::Lane;

/// Frames that may lie in the rings of all queues, and in one of them, when the table is set. What finds no room is made for the new queue.
const UNDER_WAY: u32 = 1024;
const RING: usize = 256;
/// Multiples of it are spread evenly over the remainders of any division.
const GOLDEN: usize = 0x9e37_79b1;

/// Which queue each flow group's frames go to.
pub(crate) struct Reta([AtomicU16; FLOW_GROUPS]);

impl Reta {
    #[inline]
    pub(crate) fn queue(&self, group: FlowGroupId) -> usize {
        usize::from(self.0[group.index() % FLOW_GROUPS].load(Relaxed))
    }
}

/// What all queues share.
pub(crate) struct Wire {
    lanes: Box<[Mutex<Lane>]>,
    desks: Vec<Arc<Desk>>,
    clock: Clock,
    in_order: bool,
    reta: Reta,
    /// How many groups each queue has, and how many of them are in which lane: lanes of queue 0, of queue 1, …
    groups: Box<[AtomicUsize]>,
    parts: Box<[AtomicUsize]>,
    rings: Box<[Ring]>,
    /// The table is not as it was at the start.
    moved: AtomicBool,
    /// Buffers of the frames in the rings, once there were any.
    pools: Mutex<Option<RxPools>>,
}

/// What was due when the table was set: older than what is made from then on.
#[derive(Default)]
struct Ring {
    waiting: AtomicUsize,
    frames: Mutex<Vec<RxFrame>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    pub(crate) fn new(lanes: Vec<Lane>, desks: Vec<Arc<Desk>>, config: &Config) -> Wire {
        let n = lanes.len();
        let in_lane = |lane: usize| (FLOW_GROUPS + n - 1 - lane) / n;
        let part = |at: usize| AtomicUsize::new(if at / n == at % n { in_lane(at % n) } else { 0 });
        Wire {
            reta: Reta(std::array::from_fn(|group| AtomicU16::new((group % n) as u16))),
            groups: (0..n).map(|queue| AtomicUsize::new(in_lane(queue))).collect(),
            parts: (0..n * n).map(part).collect(),
            rings: (0..n).map(|_| Ring::default()).collect(),
            lanes: lanes.into_iter().map(Mutex::new).collect(),
            moved: AtomicBool::new(false),
            pools: Mutex::new(None),
            desks,
            clock: config.clock.clone(),
            in_order: config.in_order,
        }
    }

    pub(crate) fn queues(&self) -> usize {
        self.lanes.len()
    }

    /// The queues that have groups of a lane: bits.
    fn sharers(&self, lane: usize) -> u64 {
        let bit = |g: usize| 1 << self.reta.queue(FlowGroupId(g as u16));
        (lane..FLOW_GROUPS).step_by(self.lanes.len()).fold(0, |all, g| all | bit(g))
    }

    /// Directs the frames of `group` to `queue`, both of which there are.
    pub(crate) fn set_reta(&self, group: FlowGroupId, queue: u16) {
        let mut pools = lock(&self.pools);
        if pools.is_none() {
            let pool = |count| Pool::new(Room::Received, count, 2048);
            // Without memory nothing lies in a ring when the table is set.
            *pools = pool(UNDER_WAY).and_then(|mbufs| Ok(RxPools { mbufs, spills: pool(1)? })).ok();
        }
        let old = self.reta.queue(group);
        if !self.moved.load(Relaxed) {
            let all: Vec<_> = self.lanes.iter().map(lock).collect();
            for (lane, desk) in self.desks.iter().enumerate() {
                desk.share(self.sharers(lane));
            }
            self.moved.store(true, Release);
            drop(all);
        }
        let at = group.index() % self.lanes.len();
        let mut lane = lock(&self.lanes[at]);
        if let Some(pools) = &mut *pools {
            let mut ring = lock(&self.rings[old].frames);
            ring.reserve(RING);
            let room = RING.saturating_sub(ring.len());
            lane.rx_burst_for(old, &self.reta, pools, room, &mut ring);
            self.rings[old].waiting.store(ring.len(), Release);
        }
        self.reta.0[group.index()].store(queue, Relaxed);
        let (n, queue) = (self.lanes.len(), usize::from(queue));
        for (of, at) in [(&self.groups, [old, queue]), (&self.parts, [old * n + at, queue * n + at])] {
            of[at[0]].fetch_sub(1, Relaxed);
            of[at[1]].fetch_add(1, Relaxed);
        }
        self.desks[at].share(self.sharers(at));
        lane.redirect(old, &self.reta);
    }

    /// Takes what lies in the ring of `queue`; how many frames.
    fn take_ring(&self, queue: usize, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let ring = &self.rings[queue];
        if ring.waiting.load(Acquire) == 0 {
            return 0;
        }
        let mut frames = lock(&ring.frames);
        let n = max.min(frames.len()).min(out.capacity() - out.len());
        out.extend(frames.drain(..n));
        ring.waiting.store(frames.len(), Release);
        n
    }

    /// A frame of `queue`: to the lane whose connection it is for, if it is a segment of one.
    #[cold]
    fn transmit_moved(&self, queue: usize, frame: &TxFrame<'_>) {
        let group = to_client(frame.head).map(|tuple| RSS.flow_group(&tuple));
        let mut lane = lock(&self.lanes[group.map_or(queue, |group| group.index() % self.lanes.len())]);
        if lane.tx(frame) {
            lane.sort_out(&self.reta);
        }
    }

    /// Whether a poll of `queue` would find something.
    fn is_due(&self, queue: usize) -> bool {
        let now = self.clock.now();
        match self.moved.load(Acquire) {
            false => self.desks[queue].due() <= now,
            true => {
                self.rings[queue].waiting.load(Relaxed) > 0 || self.desks.iter().any(|desk| desk.due_for(queue) <= now)
            }
        }
    }
}

/// The flow of a frame that the server sends, as the client's frames have it; none of what is no IPv4 or too short.
fn to_client(head: &[u8]) -> Option<Tuple> {
    let ethernet::Header { ethertype: ethernet::IPV4, .. } = ethernet::Header::parse(head).ok()? else { return None };
    let ip = head.get(ethernet::HEADER..)?;
    let at = 4 * usize::from(ip.first()? & 15);
    let [src, dst] = [12, 16].map(|at| Some(Ipv4Addr::from_bits(u32::from_be_bytes(*ip.get(at..)?.first_chunk()?))));
    let [local_port, remote_port] = [at, at + 2].map(|at| Some(u16::from_be_bytes(*ip.get(at..)?.first_chunk()?)));
    Some(Tuple { local: src?.into(), remote: dst?.into(), local_port: local_port?, remote_port: remote_port? })
}

/// A queue pair whose receive side makes requests, and whose transmit side takes the replies' times.
pub struct OpenLoopQueue {
    caps: Caps,
    own: usize,
    wire: Arc<Wire>,
    /// Polls since the table has been set. The lane that comes first is the next one each time.
    polls: usize,
    /// Frames of the ring that are older than the mark.
    older: usize,
}

impl OpenLoopQueue {
    pub(crate) fn new(caps: Caps, own: usize, wire: Arc<Wire>) -> OpenLoopQueue {
        OpenLoopQueue { caps, own, wire, polls: own, older: 0 }
    }

    #[cold]
    fn receive_moved(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let (wire, own, before, lanes) = (&*self.wire, self.own, out.len(), self.wire.lanes.len());
        let now = wire.clock.now();
        self.older = self.older.saturating_sub(wire.take_ring(own, max, out));
        self.polls = self.polls.wrapping_add(1);
        let first = self.polls % lanes;
        // Each lane's part first, rounded up or down so that all of them are the whole room, and that over polls each has what is due to it: in overload a share of a
        // frame makes the difference. Then, if some had more and others nothing, whoever has.
        let (groups, parts) = (wire.groups[own].load(Relaxed).max(1), &wire.parts[own * lanes..]);
        for in_parts in [true, false].into_iter().filter(|in_parts| wire.in_order || !in_parts) {
            let (mut more, mut upto) = (false, self.polls.wrapping_mul(GOLDEN) % groups);
            for at in (first..lanes).chain(0..first) {
                let left = max.saturating_sub(out.len() - before);
                let from = upto;
                upto += max * parts[at].load(Relaxed);
                // Who does not lock what it has nothing to get from delays nobody, should it be taken off its processor.
                if left == 0 || wire.desks[at].due_for(own) > now {
                    continue;
                }
                // Nor does it wait for who has it: what is there will be there at the next poll.
                let mut lane = match wire.lanes[at].try_lock() {
                    Ok(lane) => lane,
                    Err(TryLockError::Poisoned(lane)) => lane.into_inner(),
                    Err(TryLockError::WouldBlock) => continue,
                };
                // The table has been set meanwhile: what lies in the ring is older.
                if wire.rings[own].waiting.load(Acquire) > 0 {
                    return out.len() - before;
                }
                let room = if in_parts { left.min(upto / groups - from / groups) } else { left };
                let had = out.len();
                lane.rx_burst_for(own, &wire.reta, pools, room, out);
                more |= out.len() - had >= room;
            }
            if !more || 4 * (out.len() - before) >= 3 * max {
                break;
            }
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
        let before = out.len();
        let mut lane = lock(&self.wire.lanes[self.own]);
        if self.wire.moved.load(Relaxed) {
            drop(lane);
            return self.receive_moved(pools, max, out);
        }
        lane.rx_burst(pools, max, out);
        out.len() - before
    }

    /// Never full: a frame ends here.
    #[inline]
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        let wire = &*self.wire;
        let mut lane = lock(&wire.lanes[self.own]);
        if wire.moved.load(Relaxed) {
            drop(lane);
            wire.transmit_moved(self.own, frame);
            return Ok(());
        }
        lane.tx(frame);
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {}

    /// What is made from now on is made for where the table directs it now: older is only what lies in the ring.
    fn rx_mark(&mut self) {
        self.older = self.wire.rings[self.own].waiting.load(Acquire);
    }

    fn rx_passed(&mut self) -> bool {
        self.older == 0
    }

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
