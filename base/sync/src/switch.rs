//! The loom switch: the one file that knows which primitives are in use.
//!
//! Normally these are the standard library's. Under `--cfg loom` they are loom's, which record every access and
//! replay the test under each schedule that the memory model allows. Cells are reached by [`cell::MutPtr`] in
//! both cases, so that loom sees from when to when an access lasts. Under `--cfg shuttle` the atomics are shuttle's, which
//! let another thread go on at each access, by chance, and know no order but the sequential one: for models too large for loom.
//!
//! # Soundness
//! The stand-in for loom's cell hands out a raw pointer and dereferences nothing but what its caller vouches for.

/// Atomic integers and fences.
pub mod atomic {
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, Ordering, fence};
    #[cfg(shuttle)]
    pub use shuttle::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, Ordering, fence};
    #[cfg(not(any(loom, shuttle)))]
    pub use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, Ordering, fence};
}

/// Interior mutability whose accesses have a beginning and an end.
pub mod cell {
    #[cfg(loom)]
    pub use loom::cell::{MutPtr, UnsafeCell};

    /// [`std::cell::UnsafeCell`] with loom's interface.
    #[cfg(not(loom))]
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

    /// An access to an [`UnsafeCell`]; loom's counterpart lasts until it is dropped.
    #[cfg(not(loom))]
    #[derive(Debug)]
    pub struct MutPtr<T: ?Sized>(*mut T);

    #[cfg(not(loom))]
    impl<T> UnsafeCell<T> {
        /// A cell around `value`.
        pub const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }
    }

    #[cfg(not(loom))]
    impl<T: ?Sized> UnsafeCell<T> {
        /// Begins an exclusive access.
        #[inline]
        pub fn get_mut(&self) -> MutPtr<T> {
            MutPtr(self.0.get())
        }
    }

    #[cfg(not(loom))]
    impl<T: ?Sized> MutPtr<T> {
        /// The contents.
        ///
        /// # Safety
        /// The cell is alive, and nobody else reads or writes it while the reference lives.
        #[inline]
        #[allow(clippy::mut_from_ref)]
        pub unsafe fn deref(&self) -> &mut T {
            // SAFETY: the caller's promise is the dereference's condition.
            unsafe { &mut *self.0 }
        }
    }
}
