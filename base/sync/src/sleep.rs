//! How a core falls asleep without missing the work that arrives meanwhile.
//!
//! ```text
//!   sleeper                          waker
//!   asleep = 1                       publish the work
//!   ---- SeqCst fence ----           ---- SeqCst fence ----
//!   look at every source again       asleep?  then ring its bell
//!   nothing: block on the bell
//! ```
//!
//! Of two SeqCst fences one is first: either the sleeper sees the work, or the waker sees it asleep. Both may
//! happen, and then the bell rings for nothing; neither cannot (checked in `tests/loom.rs`).

use crate::atomic::{AtomicU32, Ordering, fence};

/// Says whether a core sleeps (or is about to). The bell, an eventfd or a futex, is the caller's.
///
/// An integer and not a bool, so that it may lie in memory that another process writes. Zeroed memory is an awake word.
#[derive(Debug)]
#[repr(transparent)]
pub struct SleepWord(AtomicU32);

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

impl SleepWord {
    /// The word of a core that is awake.
    #[allow(clippy::new_without_default)]
    pub fn new() -> SleepWord {
        SleepWord(AtomicU32::new(AWAKE))
    }

    /// Sleeper: announces sleep. After it, look at every source once more, then block, or [`cancel`](Self::cancel).
    #[inline]
    pub fn prepare(&self) {
        self.0.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeper: awake again, be it that work was found before blocking or that the bell rang.
    #[inline]
    pub fn cancel(&self) {
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Waker, after it published work: whether it must ring the bell. Of several wakers that see one sleep, one is told
    /// to; it has then to do so. Costs a fence, so ask once per batch.
    #[inline]
    #[must_use = "a sleeper was claimed: ring its bell"]
    pub fn wake_needed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_asleep() && self.0.swap(AWAKE, Ordering::Relaxed) == ASLEEP
    }

    /// Whether the core seemed asleep a moment ago: for choosing whom to wake, not for deciding that nobody must be.
    #[inline]
    pub fn is_asleep(&self) -> bool {
        self.0.load(Ordering::Relaxed) != AWAKE
    }
}
