use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mem::{Mbuf, MbufQueue, Pool};
use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use sync::SleepWord;
use sys::wait::EventFd;
use units::FlowGroupId;
use wire::Tuple;
use wire::rss::{MICROSOFT_KEY, Toeplitz};

use crate::frames::{Descriptor, FRAME_MAX, Onlooker, Receiver, Refused, Sender};
use crate::memory::{Memory, Port, Side};

/// The hash that both sides' NICs compute.
static RSS: Toeplitz = Toeplitz::new(&MICROSOFT_KEY);

/// The flow group of frames that arrive on flow `tuple`.
#[inline]
pub(crate) fn flow_group(tuple: &Tuple) -> FlowGroupId {
    RSS.flow_group(tuple)
}

/// What the queues of a side share: the memory, and a doorbell per receive queue of either side.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) memory: Arc<Memory>,
    pub(crate) bells: [Vec<EventFd>; 2],
}

/// A queue pair of an emulated NIC.
#[derive(Debug)]
pub struct ShmQueue {
    /// To each receive queue of the other side.
    senders: Vec<Sender>,
    /// From each transmit queue of the other side.
    receivers: Vec<Receiver>,
    /// Receive queues of the other side that have frames to be published, a bit each.
    dirty: u32,
    /// The receiver to look at first next time.
    turn: usize,
    counters: QueueCounters,
    side: Side,
    index: usize,
    caps: Caps,
    link: Arc<Link>,
}

/// How many frames ahead the receiver fetches: enough to hide the way from the sender's cache, few enough to stay in ours.
const AHEAD: usize = 6;
/// What a super-frame has beyond its first buffer goes into a spill buffer if it is of at least this size, else into ordinary ones.
const SPILL: usize = 8192;

impl ShmQueue {
    /// Queue `index` of `side`. There must be one of each.
    pub(crate) fn new(link: &Arc<Link>, side: Side, index: u16, caps: Caps) -> ShmQueue {
        let memory = &link.memory;
        let peers = 0..memory.geometry().queues[1 - side];
        ShmQueue {
            senders: peers.clone().map(|peer| Sender::new(memory, side, index, peer, caps.tso)).collect(),
            receivers: peers.map(|peer| Receiver::new(memory, 1 - side, peer, index)).collect(),
            dirty: 0,
            turn: 0,
            counters: QueueCounters::default(),
            side,
            index: index.into(),
            caps,
            link: Arc::clone(link),
        }
    }

    #[inline]
    fn peer(&self) -> &Port {
        self.link.memory.port(1 - self.side)
    }

    fn sleep_word(&self) -> &SleepWord {
        &self.link.memory.port(self.side).asleep[self.index].0
    }

    /// Takes up to `max` frames that came by receiver `from`.
    #[inline]
    fn receive(&mut self, from: usize, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) {
        let ShmQueue { receivers, counters, caps, .. } = self;
        let receiver = &mut receivers[from];
        let mut ready = receiver.ready(max);
        for ahead in 0..ready.min(AHEAD) {
            receiver.fetch(ahead as u32);
        }
        let end = out.len() + max;
        while ready > 0 {
            if AHEAD < ready {
                receiver.fetch(AHEAD as u32);
            }
            ready -= 1;
            let Some(descriptor) = receiver.peek() else {
                counters.rx_invalid += 1;
                receiver.pop();
                continue;
            };
            if descriptor.len > FRAME_MAX {
                if !receive_super(receiver, &descriptor, pools, counters, caps, out) {
                    break;
                }
                ready = receiver.ready(end - out.len());
                continue;
            }
            let Some(mut head) = pools.mbufs.alloc() else {
                counters.rx_nombuf += 1;
                break;
            };
            let len = descriptor.len;
            if len > head.capacity() {
                counters.rx_truncated += 1;
                receiver.pop();
                pools.mbufs.free(head);
                continue;
            }
            head.grow(len);
            receiver.copy_to(&mut head);
            receiver.pop();
            counters.rx_frames += 1;
            counters.rx_bytes += len as u64;
            let csum_ok = caps.rx_csum;
            out.push(RxFrame { head, rest: MbufQueue::new(), csum_ok, group: descriptor.group });
        }
        receiver.release();
    }
}

/// Takes a super-frame: all its slots, or, if it was not agreed on or is not all there, the first one. False: no buffers are left, and it stays.
#[inline(never)]
fn receive_super(
    receiver: &mut Receiver,
    descriptor: &Descriptor,
    pools: &mut RxPools,
    counters: &mut QueueCounters,
    caps: &Caps,
    out: &mut Vec<RxFrame>,
) -> bool {
    let Descriptor { len, group } = *descriptor;
    let slots = len.div_ceil(FRAME_MAX);
    // An honest sender shows all slots of a frame at once.
    if !caps.large_rx || receiver.ready(slots) < slots {
        counters.rx_invalid += 1;
        receiver.pop();
        return true;
    }
    let Some(mut head) = pools.mbufs.alloc() else {
        counters.rx_nombuf += 1;
        return false;
    };
    let front = len.min(head.capacity());
    head.grow(front);
    receiver.copy_part(0, &mut head);
    let Some(rest) = receive_rest(receiver, front, len, pools) else {
        counters.rx_nombuf += 1;
        pools.mbufs.free(head);
        return false;
    };
    for _ in 0..slots {
        receiver.pop();
    }
    // The sender has more of these: it should not wait for the end of the burst.
    receiver.release();
    counters.rx_frames += 1;
    counters.rx_bytes += len as u64;
    out.push(RxFrame { head, rest, csum_ok: caps.rx_csum, group });
    true
}

/// The bytes of a super-frame between `from` and `len`; `None` if there are not enough buffers.
fn receive_rest(receiver: &Receiver, from: usize, len: usize, pools: &mut RxPools) -> Option<MbufQueue> {
    let mut rest = MbufQueue::new();
    let take = |pool: &mut Pool, at: usize| -> Option<Mbuf> {
        let mut mbuf = pool.alloc()?;
        let n = (len - at).min(mbuf.capacity());
        mbuf.grow(n);
        receiver.copy_part(at, &mut mbuf);
        Some(mbuf)
    };
    let mut at = from;
    while at < len {
        let spill = if len - at >= SPILL { take(&mut pools.spills, at) } else { None };
        let Some(mbuf) = spill.or_else(|| take(&mut pools.mbufs, at)) else {
            pools.mbufs.free_queue(rest);
            return None;
        };
        at += mbuf.len();
        rest.push_back(mbuf);
    }
    Some(rest)
}

impl Queue for ShmQueue {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    #[inline]
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let before = out.len();
        let end = before + max.min(out.capacity() - before);
        // Each receiver is first in its turn, so that a busy one cannot starve the others.
        let first = self.turn;
        self.turn = if first + 1 < self.receivers.len() { first + 1 } else { 0 };
        for from in (first..self.receivers.len()).chain(0..first) {
            let room = end - out.len();
            if room == 0 {
                break;
            }
            self.receive(from, pools, room, out);
        }
        out.len() - before
    }

    /// Frames that are too large are dropped and counted (`tx_errors`).
    #[inline]
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        let group = RSS.group_of_frame(frame.head);
        // ARP and all else without ports goes to queue 0; so does what the peer's table sends to a queue it does not
        // have.
        let queue = group.map_or(0, |group| self.peer().reta[group.index()].load(Relaxed).into());
        let queue = if queue < self.senders.len() { queue } else { 0 };
        match self.senders[queue].push(frame, group) {
            Ok(len) => {
                self.dirty |= 1 << queue;
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len as u64;
                Ok(())
            }
            Err(Refused::Length) => {
                self.counters.tx_errors += 1;
                Ok(())
            }
            Err(Refused::Full) => {
                self.counters.tx_full += 1;
                Err(TxFull)
            }
        }
    }

    /// A super-frame counts as the slots that it takes.
    fn rx_waiting(&mut self) -> usize {
        self.receivers.iter_mut().map(|receiver| receiver.ready(usize::MAX)).sum()
    }

    /// To whatever queue of the peer it goes.
    #[inline]
    fn has_room(&mut self) -> bool {
        self.senders.iter_mut().all(Sender::has_room)
    }

    #[inline]
    fn flush(&mut self) {
        while self.dirty != 0 {
            let queue = self.dirty.trailing_zeros() as usize;
            self.dirty &= self.dirty - 1;
            self.senders[queue].publish();
            if self.peer().asleep[queue].0.wake_needed() {
                self.link.bells[1 - self.side][queue].ring();
                self.counters.tx_syscalls += 1;
            }
        }
    }

    fn tx_mark(&mut self) {
        self.senders.iter_mut().for_each(Sender::mark);
    }

    /// The peer takes each ring's frames in their order, but from several rings in any.
    fn tx_passed(&mut self) -> bool {
        self.senders.iter().all(Sender::passed)
    }

    fn rx_mark(&mut self) {
        self.receivers.iter_mut().for_each(Receiver::mark);
    }

    fn rx_passed(&mut self) -> bool {
        self.receivers.iter().all(Receiver::passed)
    }

    fn rx_hint(&self) -> RxHint {
        let memory = &self.link.memory;
        let peers = 0..memory.geometry().queues[1 - self.side];
        let rings: Vec<_> = peers.map(|peer| Onlooker::new(memory, 1 - self.side, peer, self.index as u16)).collect();
        Arc::new(move || rings.iter().any(Onlooker::waiting))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.link.bells[self.side][self.index].as_raw_fd())
    }

    fn before_sleep(&mut self) -> bool {
        self.sleep_word().prepare();
        let empty = self.receivers.iter_mut().all(|receiver| receiver.ready(1) == 0);
        if !empty {
            self.sleep_word().cancel();
        }
        empty
    }

    fn after_sleep(&mut self) {
        self.sleep_word().cancel();
        self.link.bells[self.side][self.index].take();
        self.counters.rx_syscalls += 1;
    }

    fn counters(&self) -> QueueCounters {
        let lies = self.receivers.iter().map(Receiver::lies).chain(self.senders.iter().map(Sender::lies));
        QueueCounters { rx_invalid: self.counters.rx_invalid + lies.sum::<u64>(), ..self.counters }
    }
}
