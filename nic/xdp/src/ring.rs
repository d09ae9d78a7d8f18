//! Rings shared with the kernel, and the memory that their entries speak of.
//!
//! ```text
//!   mapping | .. producer .. consumer .. flags .. | entry 0 | entry 1 | ...     offsets by XDP_MMAP_OFFSETS
//!   chunks  | received frames ... | frames to transmit ... |                    entry = offset of a chunk, or a place in it
//! ```
//!
//! # Soundness
//! A `Ring` maps one ring of a socket for as long as it lives and touches only: two indices and a flag word, as atomics, and
//! entries below `slots` (indices are masked). Its user is either the producer or the consumer, never both (`socket.rs` says which), and
//! has `&mut`; entries between consumer and producer belong to the consumer, others to the producer, and the indices are published by
//! release and read by acquire, as in the kernel (Documentation/networking/af_xdp.rst). The kernel is trusted with indices as it
//! is with everything else; numbers that make no sense are bounded all the same.
//!
//! `Chunks` owns a [`Region`]. A chunk is the kernel's from when its offset is put into fill or transmit ring to when it comes back by receive or
//! completion ring; in between nobody here reads or writes it: `queue.rs` keeps the count. All access is by copy, within bounds that
//! are checked here.

use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mem::{MemError, Region, Room};
use nic::TxFrame;
use sys::SysError;

/// A ring of `T`s, as one of its ends.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    map: Arc<Map>,
    entries: NonNull<T>,
    mask: u32,
    /// Our index; what was published of it.
    own: u32,
    published: u32,
    /// The other end's index, when last looked at.
    other: u32,
    /// As consumer: where the ring ended when that was noted.
    mark: u32,
}

/// A ring's mapping: what onlookers share.
#[derive(Debug)]
struct Map {
    base: NonNull<u8>,
    len: usize,
    producer: usize,
    consumer: usize,
    flags: usize,
}

// SAFETY: a mapping belongs to the process; what is reached through a shared one are atomics.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}
// SAFETY: the entries lie in the mapping, and only the value's owner reaches for them.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: a shared ring can only be looked at; who changes it has it alone.
unsafe impl<T: Sync> Sync for Ring<T> {}

impl Map {
    /// # Safety
    /// `at` is the offset of an aligned u32 in the mapping.
    #[inline]
    unsafe fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the caller's promise, and the mapping lives as long as `self`.
        unsafe { self.base.add(at).cast::<AtomicU32>().as_ref() }
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: checked in `Ring::map`.
        unsafe { self.word(self.producer) }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: checked in `Ring::map`.
        unsafe { self.word(self.consumer) }
    }
}

impl Map {
    /// Whether the kernel wants to be told of new entries.
    #[inline]
    fn needs_wakeup(&self) -> bool {
        // SAFETY: checked in `Ring::map`.
        let flags = unsafe { self.word(self.flags) };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `Ring::map` with this length, and no reference outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Answers, to any thread, how a ring is.
#[derive(Clone, Debug)]
pub(crate) struct Onlooker(Arc<Map>);

impl Onlooker {
    #[inline]
    pub(crate) fn waiting(&self) -> bool {
        self.0.producer().load(Ordering::Relaxed) != self.0.consumer().load(Ordering::Relaxed)
    }

    /// Whether the kernel wants to be told of new entries.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.0.needs_wakeup()
    }
}

impl<T: Copy> Ring<T> {
    /// Maps a ring with `slots` (a power of two) entries of a socket.
    pub(crate) fn map(
        fd: RawFd,
        at: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        slots: u32,
    ) -> Result<Ring<T>, SysError> {
        assert!(slots.is_power_of_two());
        let len = offsets.desc as usize + slots as usize * size_of::<T>();
        let place = |offset: u64, align: usize| {
            let offset = offset as usize;
            assert!(offset.is_multiple_of(align) && offset + align <= len, "the kernel's ring offsets");
            offset
        };
        let (producer, consumer) = (place(offsets.producer, 4), place(offsets.consumer, 4));
        let (flags, entries) = (place(offsets.flags, 4), place(offsets.desc, 8));
        let (rw, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, rw, how, fd, at) };
        if base == libc::MAP_FAILED {
            return Err(SysError::last("mmap").on("a ring of an AF_XDP socket"));
        }
        let base = NonNull::new(base.cast::<u8>()).expect("mmap returns no null unless asked to");
        // SAFETY: `entries` is within the mapping.
        let entries = unsafe { base.add(entries).cast() };
        let map = Arc::new(Map { base, len, producer, consumer, flags });
        Ok(Ring { map, entries, mask: slots - 1, own: 0, published: 0, other: 0, mark: 0 })
    }

    pub(crate) fn onlooker(&self) -> Onlooker {
        Onlooker(self.map.clone())
    }

    fn slots(&self) -> u32 {
        self.mask + 1
    }

    #[inline]
    fn entry(&self, index: u32) -> *mut T {
        // SAFETY: the masked index is below the number of slots, all of which are mapped.
        unsafe { self.entries.add((index & self.mask) as usize).as_ptr() }
    }

    /// Whether the kernel wants to be told of new entries.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.map.needs_wakeup()
    }

    /// As producer: puts an entry in, not yet published. False: the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, entry: T) -> bool {
        if self.own.wrapping_sub(self.other) >= self.slots() {
            self.other = self.map.consumer().load(Ordering::Acquire);
            if self.own.wrapping_sub(self.other) >= self.slots() {
                return false;
            }
        }
        // SAFETY: the slot is free, hence the producer's, and this value is the only producer.
        unsafe { self.entry(self.own).write(entry) };
        self.own = self.own.wrapping_add(1);
        true
    }

    /// As producer: shows the kernel what was pushed. Answers whether there was anything.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.own == self.published {
            return false;
        }
        self.map.producer().store(self.own, Ordering::Release);
        self.published = self.own;
        true
    }

    /// As producer: whether the kernel has taken all that was published.
    #[inline]
    pub(crate) fn is_drained(&mut self) -> bool {
        self.other = self.map.consumer().load(Ordering::Acquire);
        self.other == self.published
    }

    /// As consumer: how many entries wait, up to the number of slots.
    #[inline]
    pub(crate) fn ready(&mut self, want: u32) -> u32 {
        if self.other.wrapping_sub(self.own) < want {
            self.other = self.map.producer().load(Ordering::Acquire);
        }
        self.other.wrapping_sub(self.own).min(want).min(self.slots())
    }

    /// As consumer: the entry `ahead` of the next one. Only if so many are ready.
    #[inline]
    pub(crate) fn peek(&self, ahead: u32) -> T {
        debug_assert!(self.other.wrapping_sub(self.own) > ahead);
        // SAFETY: the slot is filled, hence the consumer's, and any bits are a valid entry.
        unsafe { self.entry(self.own.wrapping_add(ahead)).read() }
    }

    /// As consumer: notes where the ring ends.
    pub(crate) fn mark(&mut self) {
        self.mark = self.own.wrapping_add(self.ready(u32::MAX));
    }

    /// As consumer: whether all that was there then has been released.
    pub(crate) fn passed(&self) -> bool {
        self.own.wrapping_sub(self.mark) as i32 >= 0
    }

    /// As consumer: is done with the next `n` entries.
    #[inline]
    pub(crate) fn release(&mut self, n: u32) {
        if n > 0 {
            self.own = self.own.wrapping_add(n);
            self.map.consumer().store(self.own, Ordering::Release);
        }
    }
}

/// Memory for frames, cut into chunks of a power of two: a UMEM.
#[derive(Debug)]
pub(crate) struct Chunks {
    region: Region,
    size: u32,
    count: u32,
}

impl Chunks {
    /// `count` chunks of `size` bytes (2048 or 4096).
    pub(crate) fn new(count: u32, size: u32) -> Result<Chunks, MemError> {
        assert!(matches!(size, 2048 | 4096));
        Ok(Chunks { region: Region::new(Room::Private, count as usize * size as usize, true)?, size, count })
    }

    /// Address and length in bytes, for the kernel.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.region.base().as_ptr().expose_provenance() as u64, u64::from(self.count) * u64::from(self.size))
    }

    /// Bytes of a chunk.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Whether `len` bytes from `addr` lie in one chunk of ours.
    #[inline]
    pub(crate) fn holds(&self, addr: u64, len: usize) -> bool {
        let within = (addr & u64::from(self.size - 1)) as usize;
        addr < u64::from(self.count) * u64::from(self.size) && within + len <= self.size as usize
    }

    /// Copies the bytes from `addr` on to `out`. The chunk must be ours: a received frame.
    #[inline]
    pub(crate) fn copy_to(&self, addr: u64, out: &mut [u8]) {
        assert!(self.holds(addr, out.len()));
        // SAFETY: in bounds as just checked; the chunk has come back from the kernel, and `out` is memory elsewhere.
        unsafe {
            let from = self.region.base().as_ptr().add(addr as usize);
            ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len());
        }
    }

    /// Asks the cache for the beginning of a frame that will be read soon.
    #[inline]
    pub(crate) fn fetch(&self, addr: u64) {
        if self.holds(addr, 128) {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint, which reads nothing; within bounds as just checked.
                unsafe {
                    let at = self.region.base().as_ptr().add(addr as usize).cast::<i8>();
                    _mm_prefetch::<_MM_HINT_T0>(at);
                    _mm_prefetch::<_MM_HINT_T0>(at.add(64));
                }
            }
        }
    }

    /// Writes a frame of `len` bytes, all pieces in a row, into the free chunk at `addr`.
    #[inline]
    pub(crate) fn gather(&self, addr: u64, frame: &TxFrame<'_>, len: usize) {
        assert!(self.holds(addr, len) && len == frame.len());
        // SAFETY: the chunk has room for all pieces, is not with the kernel, and the pieces lie elsewhere.
        unsafe {
            let mut to = self.region.base().as_ptr().add(addr as usize);
            ptr::copy_nonoverlapping(frame.head.as_ptr(), to, frame.head.len());
            to = to.add(frame.head.len());
            for piece in frame.payload {
                ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
                to = to.add(piece.len());
            }
        }
    }
}
