//! One queue pair: a socket bound to one queue of the interface.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mem::MbufQueue;
use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use sys::SysError;
use sys::epoll::{Epoll, Interest};

use crate::copies::Copies;
use crate::partial::Flows;
use crate::socket::{Descriptor, Fd, Socket};
use crate::supply::Supply;

/// Slots of a receive and of a transmit ring, and chunks of a socket for each direction.
pub(crate) const SLOTS: u32 = 2048;
/// Frames at least that one kick sends: the kernel's own limit where ours cannot be set.
const KICK: u32 = 32;
/// Kicks of one flush at most: enough for a full ring.
const KICKS: u32 = SLOTS / KICK;
/// How many frames ahead the beginning of a frame is fetched.
const AHEAD: u32 = 4;
/// Chunks that are free for transmission: below that, the completion ring is looked at.
const LOW: usize = 64;

/// What others than its thread may know of a queue.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) fd: Arc<Fd>,
    /// Frames whose checksum a Linux peer had left undone.
    pub(crate) partial: AtomicU64,
    /// System calls made to transmit.
    pub(crate) kicks: AtomicU64,
    /// The interface is gone for good.
    pub(crate) gone: AtomicBool,
}

/// A queue pair of an interface, by AF_XDP.
#[derive(Debug)]
pub struct XdpQueue {
    socket: Socket,
    caps: Arc<Caps>,
    seen: Arc<Seen>,
    supply: Supply,
    /// Published frames may still be in the ring because the kernel did not take them.
    unsent: bool,
    /// Of a veth, where the peer's checksums may be partial.
    flows: Option<Flows>,
    /// Empty polls run the driver's receive path.
    busy: bool,
    /// What both stacks need to see, if this queue is to pass it on; and what is readable when that or the socket is.
    copies: Option<(Copies, Epoll)>,
    counters: QueueCounters,
}

impl XdpQueue {
    /// A queue over a bound socket with its share of the queue's chunks.
    pub(crate) fn new(socket: Socket, supply: Supply, caps: Arc<Caps>, veth: bool) -> XdpQueue {
        let seen = Seen {
            fd: socket.fd.clone(),
            partial: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        };
        let (seen, counters) = (Arc::new(seen), QueueCounters::default());
        let flows = veth.then(Flows::new);
        XdpQueue { socket, supply, caps, seen, unsent: false, flows, busy: false, copies: None, counters }
    }

    /// Has empty polls run the driver's receive path, for so long.
    pub(crate) fn busy_poll(&mut self, micros: u32) -> Result<(), SysError> {
        self.socket.busy_poll(micros)?;
        self.busy = true;
        Ok(())
    }

    /// Has it pass on these copies, too.
    pub(crate) fn pass_on(&mut self, copies: Copies) -> Result<(), SysError> {
        let watch = || {
            let both = Epoll::new()?;
            both.add(&*self.socket.fd, 0, Interest::READ)?;
            both.add(&copies, 1, Interest::READ)?;
            Ok(both)
        };
        let both = watch().map_err(|e| SysError::new("epoll", e))?;
        self.copies = Some((copies, both));
        Ok(())
    }

    pub(crate) fn seen(&self) -> Arc<Seen> {
        self.seen.clone()
    }

    /// Copies one received frame into an mbuf; its chunk is free afterwards. `None`: dropped, and counted.
    #[inline]
    fn take(&mut self, d: Descriptor, mut head: mem::Mbuf, pools: &mut RxPools) -> Option<RxFrame> {
        let len = d.len as usize;
        if len > head.capacity() || !self.socket.chunks.holds(d.addr, len) {
            if len > head.capacity() {
                self.counters.rx_truncated += 1;
            } else {
                self.counters.rx_invalid += 1;
            }
            pools.mbufs.free(head);
            return None;
        }
        head.grow(len);
        self.socket.chunks.copy_to(d.addr, &mut head);
        let csum_ok = self.flows.as_mut().is_some_and(|flows| flows.is_partial(&head));
        if csum_ok {
            self.seen.partial.store(self.seen.partial.load(Relaxed) + 1, Relaxed);
        }
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += len as u64;
        Some(RxFrame { head, rest: MbufQueue::new(), csum_ok, group: None })
    }

    /// The next copy, into an mbuf of its own.
    #[cold]
    fn take_copy(&mut self, pools: &mut RxPools) -> Option<RxFrame> {
        let (copies, _) = self.copies.as_mut()?;
        let Some(mut head) = pools.mbufs.alloc() else {
            self.counters.rx_nombuf += 1;
            return None;
        };
        let mut len = 0;
        copies.next(|frame| len = head.extend(frame));
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += len as u64;
        Some(RxFrame { head, rest: MbufQueue::new(), csum_ok: false, group: None })
    }

    /// Whether a copy waits.
    #[inline]
    fn has_copy(&self) -> bool {
        self.copies.as_ref().is_some_and(|(copies, _)| copies.waiting())
    }

    /// Gives the kernel its chunks. A driver that has run out of them wants to be told that there are some (zero-copy only).
    #[inline]
    fn refill(&mut self) {
        self.supply.give_back();
        if self.supply.is_awaited() {
            self.counters.rx_syscalls += 1;
            self.socket.fd.kick_rx();
        }
    }

    /// Has the kernel send what is in the ring, all of it if it can.
    fn kick(&mut self) {
        if !self.socket.tx.needs_wakeup() {
            self.unsent = false;
            return;
        }
        for _ in 0..KICKS {
            self.counters.tx_syscalls += 1;
            self.seen.kicks.store(self.counters.tx_syscalls, Relaxed);
            let kicked = self.socket.fd.kick_tx();
            self.unsent = !self.socket.tx.is_drained();
            match kicked {
                _ if !self.unsent => return,
                // More than one kick sends.
                Ok(()) | Err(libc::EAGAIN) => self.supply.reap(),
                // The way out is full: later.
                Err(libc::EBUSY | libc::ENOBUFS | libc::EINTR | libc::ENOMEM) => return,
                Err(e) => return self.refused(e),
            }
        }
    }

    /// The interface is down (frames wait for it to come back) or gone.
    #[cold]
    fn refused(&mut self, error: i32) {
        if error != libc::ENETDOWN {
            self.counters.tx_errors += 1;
            self.seen.gone.store(true, Relaxed);
            self.unsent = false;
        }
    }
}

impl Queue for XdpQueue {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    #[inline]
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        if self.unsent {
            self.kick();
        }
        let before = out.len();
        let mut max = max.min(out.capacity() - before).min(SLOTS as usize) as u32;
        if max > 0 && self.has_copy() {
            out.extend(self.take_copy(pools));
            max -= 1;
        }
        let mut ready = self.socket.rx.ready(max);
        if ready == 0 {
            self.refill();
            if self.busy && max > 0 {
                self.counters.rx_syscalls += 1;
                self.socket.fd.kick_rx();
                ready = self.socket.rx.ready(max);
            }
        }
        if ready == 0 {
            return out.len() - before;
        }
        (0..ready.min(AHEAD)).for_each(|i| self.socket.chunks.fetch(self.socket.rx.peek(i).addr));
        let mut taken = 0;
        for i in 0..ready {
            if i + AHEAD < ready {
                self.socket.chunks.fetch(self.socket.rx.peek(i + AHEAD).addr);
            }
            let Some(head) = pools.mbufs.alloc() else {
                self.counters.rx_nombuf += 1;
                break;
            };
            let d = self.socket.rx.peek(i);
            taken += 1;
            if let Some(frame) = self.take(d, head, pools) {
                out.push(frame);
            }
            self.supply.give(d.addr);
        }
        self.socket.rx.release(taken);
        self.refill();
        out.len() - before
    }

    #[inline]
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        assert!(frame.csum.is_none() && frame.gso.is_none(), "a frame asks for an offload that the capabilities deny");
        let len = frame.len();
        // A frame that does not fit, or an interface that is gone: lost, as on a wire that is cut.
        if len == 0 || len > self.socket.chunks.size() as usize || self.seen.gone.load(Relaxed) {
            self.counters.tx_errors += 1;
            return Ok(());
        }
        if self.supply.free.len() < LOW {
            self.supply.reap();
        }
        let Some(&chunk) = self.supply.free.last() else {
            self.counters.tx_full += 1;
            return Err(TxFull);
        };
        self.socket.chunks.gather(chunk, frame, len);
        if !self.socket.tx.push(Descriptor { addr: chunk, len: len as u32, options: 0 }) {
            self.counters.tx_full += 1;
            return Err(TxFull);
        }
        self.supply.free.pop();
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += len as u64;
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {
        if self.socket.tx.publish() || self.unsent {
            self.kick();
        }
    }

    fn rx_waiting(&mut self) -> usize {
        self.socket.rx.ready(u32::MAX) as usize
    }

    fn rx_mark(&mut self) {
        self.socket.rx.mark();
    }

    fn rx_passed(&mut self) -> bool {
        self.socket.rx.passed()
    }

    fn rx_hint(&self) -> RxHint {
        let ring = self.socket.rx.onlooker();
        Arc::new(move || ring.waiting())
    }

    fn wait_fd(&self) -> Option<RawFd> {
        let both = self.copies.as_ref().map(|(_, both)| both.as_fd().as_raw_fd());
        Some(both.unwrap_or(self.socket.fd.as_raw_fd()))
    }

    fn before_sleep(&mut self) -> bool {
        if self.unsent {
            self.kick();
        }
        self.supply.give_back() && self.socket.rx.ready(1) == 0 && !self.has_copy() // and readiness is a level
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        self.counters
    }
}
