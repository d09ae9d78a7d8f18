//! Asking for memory before it is needed, so that many waits become one.
//!
//! # Soundness
//! A prefetch is a hint to the caches: it gives the program nothing to read, and an address that is not mapped makes it do nothing.

/// Bytes that caches move at a time on x86-64.
const LINE: usize = 64;

/// Asks the caches to fetch all lines of `at`, and does not wait: who works through many objects that are spread over memory asks for
/// several before touching the first (thesis section 2.3.2 has it of frames; here it is of connections). Changes nothing that a program can see.
#[inline(always)]
pub fn prefetch<T>(at: &T) {
    prefetch_at(std::ptr::from_ref(at));
}

/// As [`prefetch`], for no more than the first so many bytes.
#[inline(always)]
pub fn prefetch_first<T>(at: &T, bytes: usize) {
    lines(std::ptr::from_ref(at).cast(), bytes.min(size_of::<T>()));
}

/// As [`prefetch`], for what nobody may have a reference to.
#[inline(always)]
pub(crate) fn prefetch_at<T>(at: *const T) {
    lines(at.cast(), size_of::<T>());
}

#[inline(always)]
fn lines(first: *const u8, bytes: usize) {
    let lines = (first.addr() % LINE + bytes).div_ceil(LINE);
    for line in 0..lines {
        fetch(first.wrapping_add(line * LINE));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint; it reads nothing on behalf of the program and does not fault, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fetch(_at: *const u8) {}
