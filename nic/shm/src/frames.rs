//! A ring of frames from one queue to another.
//!
//! ```text
//!   descriptor   | 0 ... 0 | group 16 | length 32 |     group 0xffff: not hashed
//!   slot         frame, or 2048 B of it
//! ```
//!
//! A frame of more than a slot, which only a super-frame is, lies in as many slots as it takes; the first one's descriptor speaks for all.
//!
//! Descriptors lie together, eight to a cache line. Slots are 33 lines apart: an odd number, so that the first lines of
//! neighbouring frames fall into different sets of the cache.
//!
//! # Soundness
//! See `memory.rs`. A `Ring` points at one ring of a mapping that it keeps alive; slot numbers are below `slots`
//! because [`sync::ring`] masks them. A descriptor is read once, checked, and then only the checked copy is used.
//! Which side writes a slot is up to the indices: a peer that writes out of turn garbles its own frames.

use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nic::TxFrame;
use sync::ring::{Consumer, Ends, Producer};
use units::{FLOW_GROUPS, FlowGroupId};
use wire::{ethernet, ipv6};

use crate::memory::{Memory, Side};

/// The largest frame of one slot in bytes, Ethernet header included.
pub const FRAME_MAX: usize = 2048;

/// The largest super-frame in bytes: an IP packet of 64 KiB behind its Ethernet header, and IPv6's.
pub const SUPER_MAX: usize = ethernet::HEADER + ipv6::HEADER + u16::MAX as usize;

/// Slots of the largest super-frame.
pub(crate) const CHAIN: u32 = SUPER_MAX.div_ceil(FRAME_MAX) as u32;

/// Bytes from slot to slot.
const STRIDE: usize = 33 * 64;
const _: () = assert!(STRIDE >= FRAME_MAX && STRIDE % 128 == 64);

/// Cache lines at the front of a slot that are fetched early: headers and a small message.
const FRONT: usize = 2;
const _: () = assert!(FRONT * 64 <= FRAME_MAX);

/// In a descriptor: the sender did not hash this frame.
const NO_GROUP: u16 = u16::MAX;

/// Bytes of a ring with `slots` slots.
pub(crate) const fn bytes(slots: u32) -> usize {
    (size_of::<Ends>() + slots as usize * (size_of::<u64>() + STRIDE)).next_multiple_of(128)
}

/// One ring in the shared memory.
struct Ring {
    ends: NonNull<Ends>,
    descriptors: NonNull<AtomicU64>,
    slots: NonNull<u8>,
    _memory: Arc<Memory>,
}

// SAFETY: the pointers lead into `_memory`, which may be used from any thread.
unsafe impl Send for Ring {}
// SAFETY: what a shared ring gives safely are atomics; who reaches for the bytes of a slot answers for that himself.
unsafe impl Sync for Ring {}

impl Ring {
    fn new(memory: &Arc<Memory>, side: Side, from: u16, to: u16) -> Ring {
        let base = memory.ring(side, from, to);
        let slots = memory.geometry().ring as usize;
        // SAFETY: `bytes(slots)` bytes follow `base`: the ends, then the descriptors, then the slots.
        let (descriptors, bytes) = unsafe {
            let descriptors = base.add(size_of::<Ends>());
            (descriptors, descriptors.add(slots * size_of::<u64>()))
        };
        Ring { ends: base.cast(), descriptors: descriptors.cast(), slots: bytes, _memory: Arc::clone(memory) }
    }

    #[inline]
    fn ends(&self) -> &Ends {
        // SAFETY: at the start of the ring, aligned, and made of atomics.
        unsafe { self.ends.as_ref() }
    }

    /// # Safety
    /// `slot` is below the number of slots.
    #[inline]
    unsafe fn descriptor(&self, slot: usize) -> &AtomicU64 {
        // SAFETY: there are as many descriptors as slots.
        unsafe { self.descriptors.add(slot).as_ref() }
    }

    /// # Safety
    /// `slot` is below the number of slots.
    #[inline]
    unsafe fn bytes(&self, slot: usize) -> *mut u8 {
        // SAFETY: the slot lies in the ring.
        unsafe { self.slots.add(slot * STRIDE).as_ptr() }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ends().fmt(f)
    }
}

/// A ring as an onlooker sees it.
#[derive(Debug)]
pub(crate) struct Onlooker(Ring);

impl Onlooker {
    pub(crate) fn new(memory: &Arc<Memory>, side: Side, from: u16, to: u16) -> Onlooker {
        Onlooker(Ring::new(memory, side, from, to))
    }

    /// Whether frames seem to wait.
    pub(crate) fn waiting(&self) -> bool {
        self.0.ends().waiting()
    }
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// There is no free slot.
    Full,
    /// Nothing, or more than a slot holds.
    Length,
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender {
    ring: Ring,
    end: Producer,
    /// Super-frames were agreed on.
    large: bool,
    /// How far it had been filled when somebody last asked to be told of that.
    mark: u32,
}

/// A descriptor.
#[inline]
fn word(len: usize, group: Option<FlowGroupId>) -> u64 {
    u64::from(group.map_or(NO_GROUP, |group| group.0)) << 32 | len as u64
}

impl Sender {
    pub(crate) fn new(memory: &Arc<Memory>, side: Side, from: u16, to: u16, large: bool) -> Sender {
        let end = Producer::new(memory.geometry().ring);
        Sender { ring: Ring::new(memory, side, from, to), end, large, mark: 0 }
    }

    /// Notes how far the ring is filled.
    pub(crate) fn mark(&mut self) {
        self.mark = self.end.mark();
    }

    /// Whether the receiver has taken what was there then.
    pub(crate) fn passed(&self) -> bool {
        self.end.passed(self.ring.ends(), self.mark)
    }

    /// Copies a frame into the next slot.
    ///
    /// Errors: the ring is full; the frame is empty, or longer than [`FRAME_MAX`] (where super-frames were agreed on, [`SUPER_MAX`]).
    #[inline]
    pub(crate) fn push(&mut self, frame: &TxFrame<'_>, group: Option<FlowGroupId>) -> Result<usize, Refused> {
        let len = frame.len();
        if len == 0 || len > FRAME_MAX {
            return self.push_super(frame, len, group);
        }
        let Some(slot) = self.end.slot(self.ring.ends()) else {
            return Err(Refused::Full);
        };
        // SAFETY: the slot is one of the ring's, and its STRIDE bytes have room for all pieces, `len` together.
        unsafe {
            let mut to = self.ring.bytes(slot);
            ptr::copy_nonoverlapping(frame.head.as_ptr(), to, frame.head.len());
            to = to.add(frame.head.len());
            for piece in frame.payload {
                ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
                to = to.add(piece.len());
            }
            self.ring.descriptor(slot).store(word(len, group), Relaxed);
        }
        self.end.push();
        Ok(len)
    }

    /// Copies a super-frame into the next slots and shows it to the receiver, which need not wait for others to begin with it.
    #[inline(never)]
    fn push_super(&mut self, frame: &TxFrame<'_>, len: usize, group: Option<FlowGroupId>) -> Result<usize, Refused> {
        let longest = if self.large { SUPER_MAX } else { FRAME_MAX };
        if len == 0 || len > longest {
            return Err(Refused::Length);
        }
        if !self.end.has_room(self.ring.ends(), len.div_ceil(FRAME_MAX) as u32) {
            return Err(Refused::Full);
        }
        let (mut descriptor, mut filled, mut slot) = (word(len, group), 0, 0);
        for mut piece in std::iter::once(frame.head).chain(frame.payload.iter().map(|piece| &**piece)) {
            while !piece.is_empty() {
                if filled == 0 {
                    slot = self.end.slot(self.ring.ends()).ok_or(Refused::Full)?;
                    // SAFETY: the slot is one of the ring's.
                    unsafe { self.ring.descriptor(slot) }.store(std::mem::take(&mut descriptor), Relaxed);
                    self.end.push();
                }
                let (now, rest) = piece.split_at(piece.len().min(FRAME_MAX - filled));
                // SAFETY: the slot is one of the ring's, and `filled` and `now` together are no more than FRAME_MAX bytes.
                unsafe { ptr::copy_nonoverlapping(now.as_ptr(), self.ring.bytes(slot).add(filled), now.len()) };
                filled = (filled + now.len()) % FRAME_MAX;
                piece = rest;
            }
        }
        self.publish();
        Ok(len)
    }

    /// Whether the largest super-frame would find room.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.end.has_room(self.ring.ends(), CHAIN)
    }

    /// Shows the receiver what was pushed.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.end.publish(self.ring.ends());
    }

    /// Impossible indices seen.
    pub(crate) fn lies(&self) -> u64 {
        self.end.lies()
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver {
    ring: Ring,
    end: Consumer,
    /// Where the ring ended when that was noted.
    mark: u32,
}

/// What the sender says about its next frame, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor {
    /// 1 to [`SUPER_MAX`].
    pub(crate) len: usize,
    /// The flow group, if the frame was hashed.
    pub(crate) group: Option<FlowGroupId>,
}

impl Descriptor {
    /// Errors: no honest sender writes such a word.
    #[inline]
    fn check(word: u64) -> Option<Descriptor> {
        let (group, len) = ((word >> 32) as u16, word as u32 as usize);
        let known = group == NO_GROUP || usize::from(group) < FLOW_GROUPS;
        if word >> 48 != 0 || len == 0 || len > SUPER_MAX || !known {
            return None;
        }
        Some(Descriptor { len, group: (group != NO_GROUP).then_some(FlowGroupId(group)) })
    }
}

impl Receiver {
    pub(crate) fn new(memory: &Arc<Memory>, side: Side, from: u16, to: u16) -> Receiver {
        Receiver { ring: Ring::new(memory, side, from, to), end: Consumer::new(memory.geometry().ring), mark: 0 }
    }

    /// How many slots wait, up to `want`.
    #[inline]
    pub(crate) fn ready(&mut self, want: usize) -> usize {
        self.end.ready(self.ring.ends(), want.min(u32::MAX as usize) as u32) as usize
    }

    /// The next frame's description; none if it makes no sense. Only if a frame is ready.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Descriptor> {
        // SAFETY: slot numbers of the consumer are below the number of slots.
        Descriptor::check(unsafe { self.ring.descriptor(self.end.slot(0)) }.load(Relaxed))
    }

    /// Asks the cache for the front of the frame `ahead` of the next one, which must be ready: the sender's core has written it, and
    /// it takes a tenth of a microsecond to come over.
    #[inline]
    pub(crate) fn fetch(&self, ahead: u32) {
        // SAFETY: slot numbers of the consumer are below the number of slots.
        let slot = unsafe { self.ring.bytes(self.end.slot(ahead)) };
        #[cfg(target_arch = "x86_64")]
        for line in 0..FRONT {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint, which reads nothing; the lines are within the slot.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(slot.add(line * 64).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = slot;
    }

    /// Copies the first bytes of the next frame to `out`, which is no longer than [`FRAME_MAX`].
    #[inline]
    pub(crate) fn copy_to(&self, out: &mut [u8]) {
        assert!(out.len() <= FRAME_MAX);
        // SAFETY: the slot is one of the ring's and has FRAME_MAX bytes; `out` is memory of our own, elsewhere.
        unsafe { ptr::copy_nonoverlapping(self.ring.bytes(self.end.slot(0)), out.as_mut_ptr(), out.len()) };
    }

    /// Copies what lies from byte `at` of the next frame on, which the caller has found to be ready as far as that, to `out`.
    pub(crate) fn copy_part(&self, at: usize, out: &mut [u8]) {
        assert!(at + out.len() <= SUPER_MAX);
        let (mut ahead, mut skip) = ((at / FRAME_MAX) as u32, at % FRAME_MAX);
        let mut left = out;
        while !left.is_empty() {
            let (now, rest) = left.split_at_mut((FRAME_MAX - skip).min(left.len()));
            // SAFETY: slot numbers are below the number of slots, `skip` and `now` together are no more than FRAME_MAX bytes; `now` is memory of
            // our own, elsewhere.
            unsafe {
                let from = self.ring.bytes(self.end.slot(ahead)).add(skip);
                ptr::copy_nonoverlapping(from, now.as_mut_ptr(), now.len());
            }
            (ahead, skip, left) = (ahead + 1, 0, rest);
        }
    }

    /// Is done with the next slot: with the next frame, if that has but one.
    #[inline]
    pub(crate) fn pop(&mut self) {
        self.end.pop();
    }

    /// Notes where the ring ends.
    pub(crate) fn mark(&mut self) {
        self.mark = self.end.mark(self.ring.ends());
    }

    /// Whether all that was there then is done with.
    pub(crate) fn passed(&self) -> bool {
        self.end.passed(self.mark)
    }

    /// Gives the slots that are done with back to the sender.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.end.release(self.ring.ends());
    }

    /// Impossible indices seen.
    pub(crate) fn lies(&self) -> u64 {
        self.end.lies()
    }
}
