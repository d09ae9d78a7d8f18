//! A NIC whose frames lie ready, and whose transmitted frames lie until they are taken: what makes requests and judges replies runs between
//! the turns that are timed, and never within one.
//!
//! What a server's NIC does at least remains in the turn: each received frame is copied into a buffer of the stack, each transmitted one into a
//! slot of a ring.

use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use mem::{MemError, Pool, Room};
use nic::{Caps, CsumStart, Gso, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};

/// Frames each way at most.
pub(super) const RING: usize = 128;
/// Bytes of a slot: any frame.
const SLOT: usize = 2048;

/// A queue of which the other side is pumped by hand ([`Ready::exchange`]).
pub(super) struct Ready<Q> {
    inner: Q,
    pools: RxPools,
    /// Frames for the stack: those from `next` on have not been taken.
    fetched: Vec<RxFrame>,
    next: usize,
    /// What the hint says: there are some.
    waiting: Arc<AtomicBool>,
    /// Frames of the stack: the first `sent`.
    slots: Vec<Slot>,
    sent: usize,
}

struct Slot {
    bytes: Box<[u8; SLOT]>,
    len: usize,
    head: usize,
    csum: Option<CsumStart>,
    gso: Option<Gso>,
}

impl<Q: Queue> Ready<Q> {
    /// The queue `inner`, at arm's length.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub(super) fn new(inner: Q) -> Result<Ready<Q>, MemError> {
        let pools = RxPools {
            mbufs: Pool::new(Room::Received, 2 * RING as u32, SLOT as u32)?,
            spills: Pool::new(Room::Received, 1, SLOT as u32)?,
        };
        let slot = || Slot { bytes: Box::new([0; SLOT]), len: 0, head: 0, csum: None, gso: None };
        Ok(Ready {
            inner,
            pools,
            fetched: Vec::with_capacity(RING),
            next: 0,
            waiting: Arc::default(),
            slots: std::iter::repeat_with(slot).take(RING).collect(),
            sent: 0,
        })
    }

    /// Takes away what was transmitted, and lays at most `max` frames ready. Returns how many frames were taken away, and how many lie ready.
    pub(super) fn exchange(&mut self, max: usize) -> (usize, usize) {
        let sent = std::mem::take(&mut self.sent);
        for slot in &self.slots[..sent] {
            let (head, payload) = slot.bytes[..slot.len].split_at(slot.head);
            // It is never full.
            let _ = self.inner.tx(&TxFrame { head, payload: &[IoSlice::new(payload)], csum: slot.csum, gso: slot.gso });
        }
        let left = self.fetched.len() - self.next;
        for frame in self.fetched.drain(..self.next) {
            self.pools.mbufs.free(frame.head);
            self.pools.spills.free_queue(frame.rest);
        }
        self.next = 0;
        if left < max {
            self.inner.rx_burst(&mut self.pools, max - left, &mut self.fetched);
        }
        self.waiting.store(!self.fetched.is_empty(), Relaxed);
        (sent, self.fetched.len())
    }

    /// Frames that have been transmitted since the last [`Ready::exchange`].
    pub(super) fn sent(&self) -> usize {
        self.sent
    }
}

impl<Q: Queue> Queue for Ready<Q> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    #[inline]
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        if self.next == self.fetched.len() {
            return 0;
        }
        let room = max.min(out.capacity() - out.len());
        let before = self.next;
        for frame in self.fetched[before..].iter().take(room) {
            let Some(mut head) = pools.mbufs.alloc() else { break };
            head.reset(0);
            head.extend(&frame.head);
            out.push(RxFrame { head, rest: Default::default(), csum_ok: frame.csum_ok, group: frame.group });
            self.next += 1;
        }
        if self.next == self.fetched.len() {
            self.waiting.store(false, Relaxed);
        }
        self.next - before
    }

    #[inline]
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        let Some(slot) = self.slots.get_mut(self.sent) else { return Err(TxFull) };
        let (mut at, bytes) = (0, &mut slot.bytes[..]);
        let pieces = std::iter::once(frame.head).chain(frame.payload.iter().map(|piece| &piece[..]));
        for piece in pieces {
            // Nothing longer is sent: the MTU is 1500.
            let Some(room) = bytes.get_mut(at..at + piece.len()) else { return Err(TxFull) };
            room.copy_from_slice(piece);
            at += piece.len();
        }
        (slot.len, slot.head, slot.csum, slot.gso) = (at, frame.head.len(), frame.csum, frame.gso);
        self.sent += 1;
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {}

    fn rx_hint(&self) -> RxHint {
        let waiting = self.waiting.clone();
        Arc::new(move || waiting.load(Relaxed))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn before_sleep(&mut self) -> bool {
        false
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        self.inner.counters()
    }
}
