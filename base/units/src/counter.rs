use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count with one writer and any number of readers.
///
/// The writer pays a plain load and a plain store (no locked instruction); readers on other threads see some recent
/// value. Two threads that write the same counter lose counts but break nothing else: that there is one writer at a
/// time is the caller's promise (a `StackGuard` makes it).
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Adds `n`. Writer only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one. Writer only.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Replaces the value (a gauge). Writer only.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The present value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
