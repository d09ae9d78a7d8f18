//! A few pages of 64-bit words that one process writes and others read.
//!
//! # Soundness
//! A mapping is as large as its file, which is sealed against shrinking, so that no access faults; it lives as long as its value. The words are reached
//! through atomics only, and through loads only where the mapping is for reading. They are whatever another process wrote: any value is valid.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{SysError, memfd};

/// Words at most: 1 MiB.
pub const WORDS_MAX: usize = 1 << 17;

/// A mapping of whole words.
#[derive(Debug)]
struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and its words are atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: &OwnedFd, words: usize, protection: i32) -> Result<Mapping, SysError> {
        let fd = fd.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe { libc::mmap(ptr::null_mut(), words * 8, protection, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(at.cast()) {
            Some(base) if at != libc::MAP_FAILED => Ok(Mapping { base, words }),
            _ => Err(SysError::last("mmap")),
        }
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped, page-aligned, for as long as `self` lives.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and references to its words end with `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}

/// Shared words as their maker has them: all zero at first.
#[derive(Debug)]
pub struct SharedWords {
    mapping: Mapping,
    fd: OwnedFd,
}

impl SharedWords {
    /// Makes `words` of them. Whoever gets the descriptor can read; where the kernel can see to it (Linux 5.1), nobody else can write.
    ///
    /// # Errors
    /// As [`memfd::create_sealed`]; `EINVAL`: none, or more than [`WORDS_MAX`].
    pub fn create(words: usize) -> Result<SharedWords, SysError> {
        if !(1..=WORDS_MAX).contains(&words) {
            return Err(SysError::new("mmap", io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let fd = memfd::create(c"zygix-page", words as u64 * 8)?;
        let mapping = Mapping::new(&fd, words, libc::PROT_READ | libc::PROT_WRITE)?;
        memfd::seal(&fd, true)?;
        Ok(SharedWords { mapping, fd })
    }
}

impl AsRef<[AtomicU64]> for SharedWords {
    fn as_ref(&self) -> &[AtomicU64] {
        self.mapping.words()
    }
}

impl AsFd for SharedWords {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Shared words that somebody else made, to be read.
#[derive(Debug)]
pub struct WordsView(Mapping);

impl WordsView {
    /// Maps what came from elsewhere.
    ///
    /// # Errors
    /// It is no sealed file ([`memfd::sealed_len`]), or has not one whole word.
    pub fn open(fd: OwnedFd) -> Result<WordsView, SysError> {
        let words = (memfd::sealed_len(&fd)? / 8).min(WORDS_MAX as u64) as usize;
        if words == 0 {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "there is nothing in it");
            return Err(SysError::new("mmap", cause));
        }
        Ok(WordsView(Mapping::new(&fd, words, libc::PROT_READ)?))
    }

    /// How many words there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.words
    }

    /// Word `at`, by a load with acquire ordering; 0 if there is none.
    #[inline]
    pub fn load(&self, at: usize) -> u64 {
        // Loads only: the mapping cannot be written.
        self.0.words().get(at).map_or(0, |w| w.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_one_writes_others_see_and_cannot_change() {
        let words = SharedWords::create(1000).unwrap();
        let view = WordsView::open(words.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((view.len(), view.load(999), view.load(1000)), (1000, 0, 0));
        words.as_ref()[999].store(7, Ordering::Release);
        assert_eq!(view.load(999), 7);
        let fd = words.as_fd().try_clone_to_owned().unwrap();
        // Kernels before 5.1 cannot keep others from writing.
        if memfd::is_write_sealed(&fd) {
            assert!(Mapping::new(&fd, 1000, libc::PROT_READ | libc::PROT_WRITE).is_err());
        }
        drop(words);
        assert_eq!(view.load(999), 7, "it outlives its maker");
    }

    #[test]
    fn what_could_shrink_or_is_empty_is_refused() {
        assert!(WordsView::open(File::open("/proc/self/status").unwrap().into()).is_err());
        assert!(WordsView::open(memfd::create_sealed(c"test", 7).unwrap()).is_err());
        assert!(SharedWords::create(0).is_err() && SharedWords::create(WORDS_MAX + 1).is_err());
    }
}
