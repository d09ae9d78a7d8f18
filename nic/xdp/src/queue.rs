//! One queue pair: a socket bound to one queue of the interface.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mem::MbufQueue;
use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};

use crate::partial;
use crate::socket::{Descriptor, Fd, Socket};

/// Slots of each of the four rings, and chunks for each direction.
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
    /// The interface is gone for good.
    pub(crate) gone: AtomicBool,
}

/// A queue pair of an interface, by AF_XDP.
#[derive(Debug)]
pub struct XdpQueue {
    socket: Socket,
    caps: Arc<Caps>,
    seen: Arc<Seen>,
    /// Offsets of chunks for transmission that are free. Its capacity is their number.
    free: Vec<u64>,
    /// Published frames may still be in the ring because the kernel did not take them.
    unsent: bool,
    /// The peer's checksums may be partial.
    veth: bool,
    counters: QueueCounters,
}

impl XdpQueue {
    /// Puts all receive chunks into the fill ring. `socket` has 2 x [`SLOTS`] chunks.
    pub(crate) fn new(mut socket: Socket, caps: Arc<Caps>, veth: bool) -> XdpQueue {
        let size = u64::from(socket.chunks.size());
        for chunk in 0..u64::from(SLOTS) {
            socket.fill.push(chunk * size);
        }
        socket.fill.publish();
        // A driver that was bound before there were chunks may wait to be told.
        socket.fd.kick_rx();
        let free = (u64::from(SLOTS)..2 * u64::from(SLOTS)).rev().map(|chunk| chunk * size).collect();
        let seen = Seen { fd: socket.fd.clone(), partial: AtomicU64::new(0), gone: AtomicBool::new(false) };
        let (seen, counters) = (Arc::new(seen), QueueCounters::default());
        XdpQueue { socket, caps, seen, free, unsent: false, veth, counters }
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
        let csum_ok = self.veth && partial::is(&head);
        if csum_ok {
            self.seen.partial.store(self.seen.partial.load(Relaxed) + 1, Relaxed);
        }
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += len as u64;
        Some(RxFrame { head, rest: MbufQueue::new(), csum_ok, group: None })
    }

    /// A driver that has run out of chunks wants to be told that there are some (zero-copy only).
    #[inline]
    fn refill(&mut self) {
        if self.socket.fill.needs_wakeup() {
            self.counters.rx_syscalls += 1;
            self.socket.fd.kick_rx();
        }
    }

    /// Takes back the chunks of frames that are out.
    #[inline]
    fn reap(&mut self) {
        let n = self.socket.done.ready(SLOTS);
        for i in 0..n {
            let chunk = self.socket.chunks.chunk_of(self.socket.done.peek(i));
            if self.free.len() < self.free.capacity() {
                self.free.push(chunk);
            }
        }
        self.socket.done.release(n);
    }

    /// Has the kernel send what is in the ring, all of it if it can.
    fn kick(&mut self) {
        if !self.socket.tx.needs_wakeup() {
            self.unsent = false;
            return;
        }
        for _ in 0..KICKS {
            self.counters.tx_syscalls += 1;
            let kicked = self.socket.fd.kick_tx();
            self.unsent = !self.socket.tx.is_drained();
            match kicked {
                _ if !self.unsent => return,
                // More than one kick sends.
                Ok(()) | Err(libc::EAGAIN) => self.reap(),
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
        let max = max.min(out.capacity() - before).min(SLOTS as usize) as u32;
        let ready = self.socket.rx.ready(max);
        if ready == 0 {
            self.refill();
            return 0;
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
            // There is room: a chunk is either with us or in one of the rings.
            self.socket.fill.push(self.socket.chunks.chunk_of(d.addr));
        }
        self.socket.rx.release(taken);
        self.socket.fill.publish();
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
        if self.free.len() < LOW {
            self.reap();
        }
        let Some(&chunk) = self.free.last() else {
            self.counters.tx_full += 1;
            return Err(TxFull);
        };
        self.socket.chunks.gather(chunk, frame, len);
        if !self.socket.tx.push(Descriptor { addr: chunk, len: len as u32, options: 0 }) {
            self.counters.tx_full += 1;
            return Err(TxFull);
        }
        self.free.pop();
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

    fn rx_hint(&self) -> RxHint {
        let ring = self.socket.rx.onlooker();
        Arc::new(move || ring.waiting())
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.socket.fd.as_raw_fd())
    }

    fn before_sleep(&mut self) -> bool {
        if self.unsent {
            self.kick();
        }
        self.socket.rx.ready(1) == 0 // and readiness is a level
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        self.counters
    }
}
