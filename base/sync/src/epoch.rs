//! How one core learns that another's receive ring holds nothing older than what it has taken from its own.
//!
//! ```text
//!   who polls the ring                       who waits
//!   ---- fence ----                          takes a frame from a ring of its own
//!   poll; pass on what there was             ---- fence ----
//!   nothing left: count + 1                  reads the count: n
//!                                            passed when the count is n + 2 or more
//! ```
//!
//! The poll that makes n + 1 may have begun before the frame was taken. The one that makes n + 2 has begun after n + 1 was written, hence after n was
//! read: of the two fences the waiter's is first, and so that poll finds whatever had been put into the ring before the frame was. What it found has
//! been passed on before the count says so (release, acquire).

use crate::atomic::{AtomicU32, Ordering, fence};

/// Counts the polls that found a ring empty. Written by whoever holds the ring; read by anybody.
#[derive(Debug)]
pub struct Epoch(AtomicU32);

/// A count of polls that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u32);

impl Epoch {
    /// No poll yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Epoch {
        Epoch(AtomicU32::new(0))
    }

    /// Before a poll that may count.
    #[inline]
    pub fn begins(&self) {
        fence(Ordering::SeqCst);
    }

    /// After a poll that found nothing (any more), and after what it had found was passed on. One thread at a time.
    #[inline]
    pub fn was_empty(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Where the count is, to wait from.
    #[inline]
    pub fn mark(&self) -> Mark {
        fence(Ordering::SeqCst);
        Mark(self.0.load(Ordering::Relaxed))
    }

    /// Whether a poll that began after `mark` was made has found the ring empty: what it passed on is visible.
    #[inline]
    pub fn passed(&self, mark: Mark) -> bool {
        self.0.load(Ordering::Acquire).wrapping_sub(mark.0) >= 2
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_empty_polls_pass_a_mark_whatever_the_count() {
        for first in [0, u32::MAX, u32::MAX - 1] {
            let epoch = Epoch(AtomicU32::new(first));
            let mark = epoch.mark();
            let after = [(); 3].map(|()| {
                epoch.begins();
                epoch.was_empty();
                epoch.passed(mark)
            });
            assert_eq!(after, [false, true, true], "the first may have begun before");
        }
    }
}
