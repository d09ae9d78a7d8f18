//! A lock that is taken or not, but never waited for (the StackLock of lending, and of small records).
//!
//! # Soundness
//! `held` goes from false to true only by the compare-exchange of the one thread that then owns the guard; the value
//! is reached through that guard alone. The guard ends its access to the cell first and clears `held` last (the order
//! of its fields), with release, which the next holder acquires. `tests/loom.rs` checks both.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::atomic::{AtomicBool, Ordering};
use crate::cell::{MutPtr, UnsafeCell};

/// The lock of a core's `Stack`: the home takes it inside the dataplane, a lender when it finds it free.
pub type StackLock<T> = TryLock<T>;

/// What holding a [`StackLock`] looks like.
pub type StackGuard<'a, T> = TryGuard<'a, T>;

/// A value that one thread at a time may reach; the others are told so and go on with something else.
///
/// Taking costs one compare-exchange, releasing one store. A panic under the guard releases: whoever shares the value
/// decides what a half-done change means.
pub struct TryLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock moves exclusive access between threads, never shared access; so `T: Send` is enough.
unsafe impl<T: Send> Sync for TryLock<T> {}
// SAFETY: as above, and an owned lock moves its value with it.
unsafe impl<T: Send> Send for TryLock<T> {}

/// Exclusive access to the value of a [`TryLock`], until dropped.
#[must_use = "the lock is free again as soon as its guard is dropped"]
pub struct TryGuard<'a, T> {
    // The order matters: the access ends before the lock opens.
    value: MutPtr<T>,
    _held: Held<'a>,
}

/// Opens the lock when dropped.
struct Held<'a>(&'a AtomicBool);

impl<T> TryLock<T> {
    /// A free lock around `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> TryLock<T> {
        TryLock { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// A free lock around `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> TryLock<T> {
        TryLock { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock if it is free. Never blocks, never spins.
    ///
    /// It looks before it tries, so that cores that ask in vain share the line instead of tearing it from the holder.
    #[inline]
    pub fn try_lock(&self) -> Option<TryGuard<'_, T>> {
        if self.is_held() {
            return None;
        }
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(TryGuard { value: self.value.get_mut(), _held: Held(&self.held) })
    }

    /// Whether somebody held the lock a moment ago: a hint for those who choose whom to help.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

impl<T: Default> Default for TryLock<T> {
    fn default() -> TryLock<T> {
        TryLock::new(T::default())
    }
}

impl<T> Deref for TryGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists, hence this thread holds the lock, and `&self` admits readers only.
        unsafe { self.value.deref() }
    }
}

impl<T> DerefMut for TryGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists, hence this thread holds the lock, and `&mut self` admits no other reference.
        unsafe { self.value.deref() }
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> fmt::Debug for TryLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_held() { "TryLock(held)" } else { "TryLock(free)" })
    }
}
