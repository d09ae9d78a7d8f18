//! Memory from the kernel: anonymous, private to the process, aligned to huge pages.
//!
//! # Soundness
//! A `Region` owns its mapping: nobody else unmaps it, and it unmaps exactly what it mapped. It hands out a raw
//! address and no references; who builds on it (pools, depots) keeps the region alive for as long as anything points
//! into it.

use std::ptr::{self, NonNull};

use crate::MemError;

/// The size and alignment of a huge page on x86-64, in bytes.
pub const HUGE_PAGE: usize = 2 << 20;

/// What a mapping is for, and so which protection it gets where there are keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// The dataplane's own: the application neither reads nor writes.
    Private,
    /// Received buffers: the application reads.
    Received,
    /// What both sides write and neither trusts: event and syscall arrays, reply arenas.
    Exchange,
}

/// Where the pages of a region come from: worth a line at start-up, as TLB misses depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Reserved huge pages (`vm.nr_hugepages`).
    HugeTlb,
    /// Ordinary memory that the kernel was advised to keep in huge pages.
    Transparent,
    /// 4 KiB pages, resident once touched.
    Small,
}

/// Which pages to ask for where memory becomes resident as it is touched.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Pages {
    /// 4 KiB: what is resident follows closely what is used, and no first touch takes long.
    Small,
    /// 2 MiB where the kernel has them: for what is touched all over the place, as each page takes an entry of the TLB. The first touch of each
    /// clears 2 MiB (about 100 us).
    #[default]
    Huge,
}

/// A mapping of its own, zeroed, aligned to [`HUGE_PAGE`].
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    room: Room,
    backing: Backing,
}

// SAFETY: a mapping belongs to the process, not to a thread, and `Region` itself reads and writes none of it.
unsafe impl Send for Region {}
// SAFETY: as above; every method of a shared region only reports.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes`, rounded up to whole huge pages: reserved ones if the kernel has enough of them, else ordinary
    /// memory with the advice to use huge pages. With `prefault` all pages asked for are resident on return (a fault
    /// costs about 2 us).
    ///
    /// Errors: the kernel refuses that much memory.
    pub fn new(room: Room, bytes: usize, prefault: bool) -> Result<Region, MemError> {
        let len = round_up(bytes)?;
        let region = match Region::huge(room, len) {
            Some(region) => region,
            None => Region::aligned(room, len, 0, Backing::Transparent)?,
        };
        if prefault {
            region.populate(bytes)?;
        }
        Ok(region)
    }

    /// Reserves addresses for `bytes`, in pages that become resident when touched: a reservation may be far larger
    /// than what is ever used.
    ///
    /// Errors: no such range of addresses is left.
    pub fn lazy(room: Room, bytes: usize, pages: Pages) -> Result<Region, MemError> {
        let backing = match pages {
            Pages::Small => Backing::Small,
            Pages::Huge => Backing::Transparent,
        };
        Region::aligned(room, round_up(bytes)?, libc::MAP_NORESERVE, backing)
    }

    /// The first byte; aligned to [`HUGE_PAGE`].
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes mapped: a multiple of [`HUGE_PAGE`].
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What the region is for.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Which pages it got.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// A mapping of reserved huge pages, or nothing where there are not enough.
    fn huge(room: Room, len: usize) -> Option<Region> {
        let base = map(len, libc::MAP_HUGETLB)?;
        Some(Region { base, len, room, backing: Backing::HugeTlb })
    }

    /// A mapping of ordinary pages, aligned by mapping one huge page more and giving both ends back.
    fn aligned(room: Room, len: usize, flags: i32, backing: Backing) -> Result<Region, MemError> {
        let wide = len + HUGE_PAGE;
        let start = map(wide, flags).ok_or_else(|| MemError::last("mmap", len))?;
        let before = start.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: `before` is less than HUGE_PAGE, and `wide` bytes are mapped from `start`.
        let base = unsafe { start.add(before) };
        // SAFETY: both pieces lie in the mapping just made, outside of [base, base + len), and nothing refers to them.
        unsafe {
            unmap(start, before);
            unmap(base.add(len), HUGE_PAGE - before);
        }
        let advice = if backing == Backing::Small { libc::MADV_NOHUGEPAGE } else { libc::MADV_HUGEPAGE };
        // SAFETY: advice about our own mapping changes no contents. A kernel without huge pages refuses it, and may.
        unsafe { libc::madvise(base.as_ptr().cast(), len, advice) };
        Ok(Region { base, len, room, backing })
    }

    /// Makes the first `bytes` resident.
    fn populate(&self, bytes: usize) -> Result<(), MemError> {
        // SAFETY: populating our own mapping changes no contents, and `bytes` is at most `len`.
        let done = unsafe { libc::madvise(self.base.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
        match std::io::Error::last_os_error().raw_os_error() {
            _ if done == 0 => Ok(()),
            // Before Linux 5.14 there is no such advice; the faults come later then.
            Some(libc::EINVAL) => Ok(()),
            _ => Err(MemError::last("madvise(MADV_POPULATE_WRITE)", bytes)),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever pointed into it kept the region alive until now.
        unsafe { unmap(self.base, self.len) };
    }
}

fn round_up(bytes: usize) -> Result<usize, MemError> {
    let len = bytes.max(1).checked_next_multiple_of(HUGE_PAGE);
    len.filter(|&len| len < isize::MAX as usize - HUGE_PAGE).ok_or_else(MemError::too_large)
}

fn map(len: usize, flags: i32) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if at == libc::MAP_FAILED { None } else { NonNull::new(at.cast()) }
}

/// # Safety
/// `[at, at + len)` is mapped, whole pages, and nothing refers to it any more.
unsafe fn unmap(at: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: the caller's promise.
        let done = unsafe { libc::munmap(at.as_ptr().cast(), len) };
        debug_assert_eq!(done, 0, "munmap of our own mapping");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_aligned_zeroed_and_writable_to_its_end() {
        for prefault in [false, true] {
            let region = Region::new(Room::Private, HUGE_PAGE + 1, prefault).unwrap();
            assert_eq!((region.base().as_ptr().addr() % HUGE_PAGE, region.len()), (0, 2 * HUGE_PAGE));
            let last = region.base().as_ptr().wrapping_add(region.len() - 1);
            // SAFETY: the last byte of a live mapping that only this test uses.
            unsafe {
                assert_eq!(last.read(), 0);
                last.write(7);
                assert_eq!(last.read(), 7);
            }
        }
    }

    #[test]
    fn a_lazy_region_may_be_larger_than_memory() {
        let region = Region::lazy(Room::Private, 1 << 42, Pages::Small).unwrap();
        assert_eq!((region.len(), region.backing()), (1 << 42, Backing::Small));
    }

    #[test]
    fn an_impossible_size_is_an_error_with_a_remedy() {
        let text = Region::new(Room::Private, usize::MAX, false).unwrap_err().to_string();
        assert!(text.contains("fewer buffers"), "{text}");
        let text = Region::new(Room::Private, 1 << 60, false).unwrap_err().to_string();
        assert!(text.contains("mmap"), "{text}");
    }
}
