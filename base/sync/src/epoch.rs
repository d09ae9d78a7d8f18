//! How one core learns that another's receive ring holds nothing older than what it has taken from its own.
//!
//! ```text
//!   who polls the ring                       who waits
//!   ---- fence ----                          takes a frame from a ring of its own
//!   notes where the ring ends                ---- fence ----
//!   polls, until it is past that place;      reads the count: n
//!   passes on what there was: count + 1
//!                                            passed when the count is n + 2 or more
//! ```
//!
//! The round that makes n + 1 may have begun before the frame was taken. The one that makes n + 2 has begun after n + 1 was written, hence after n was
//! read: of the two fences the waiter's is first, and so that round's end of the ring is behind whatever had been put there before the frame was. What it
//! found has been passed on before the count says so (release, acquire). A ring that never runs empty holds nobody up: what counts is its end when a round
//! begins.

use crate::atomic::{AtomicU32, Ordering, fence};

/// Counts rounds of a ring. Written by whoever holds the ring; read by anybody.
#[derive(Debug)]
pub struct Epoch(AtomicU32);

/// The count, read before it is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u32);

/// The count, read to see what has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count(u32);

impl Epoch {
    /// No round yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Epoch {
        Epoch(AtomicU32::new(0))
    }

    /// A round begins: before the end of the ring is looked at.
    #[inline]
    pub fn begins(&self) {
        fence(Ordering::SeqCst);
    }

    /// All that was in the ring when the round began has been taken out, and passed on. One thread at a time.
    #[inline]
    pub fn ends(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Where the count is, to wait from.
    #[inline]
    pub fn mark(&self) -> Mark {
        fence(Ordering::SeqCst);
        Mark(self.0.load(Ordering::Relaxed))
    }

    /// Where the count is. What the rounds that it counts have passed on is visible.
    #[inline]
    pub fn count(&self) -> Count {
        Count(self.0.load(Ordering::Acquire))
    }

    /// Whether a whole round has been since `mark` was made.
    #[inline]
    pub fn passed(&self, mark: Mark) -> bool {
        self.count().is_past(mark)
    }
}

impl Count {
    /// Whether a whole round had been since `mark` was made when the count was read.
    #[inline]
    pub fn is_past(self, mark: Mark) -> bool {
        self.0.wrapping_sub(mark.0) >= 2
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_rounds_pass_a_mark_whatever_the_count() {
        for first in [0, u32::MAX, u32::MAX - 1] {
            let epoch = Epoch(AtomicU32::new(first));
            let mark = epoch.mark();
            let after = [(); 3].map(|()| {
                epoch.begins();
                epoch.ends();
                epoch.passed(mark)
            });
            assert_eq!(after, [false, true, true], "the first may have begun before");
        }
    }
}
