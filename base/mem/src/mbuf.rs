//! One buffer and its single owner.
//!
//! # Soundness
//! An `Mbuf` owns its header and buffer exclusively from `Pool::alloc` to its drop, so `&Mbuf` may read and `&mut
//! Mbuf` may write both. `off + len <= capacity` always: every method that changes the view checks it, in release
//! too. The bytes are initialised from the start, because the kernel zeroes pages, so any part of the buffer may be a
//! `&[u8]`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use crate::pool::{Header, send_home};

/// A buffer of a [`Pool`](crate::Pool), by its only handle: a view `[off, off + len)` of `capacity` bytes.
///
/// ```text
///   | headroom |  data = &self[..]  | tailroom |
///   0         off               off + len   capacity
/// ```
///
/// Dropping it sends it home from any thread at the cost of one compare-exchange; a core that is the pool's owner uses
/// [`Pool::free`](crate::Pool::free) instead. One pointer wide, `Option` included.
#[repr(transparent)]
pub struct Mbuf(NonNull<Header>);

// SAFETY: an mbuf is the only way to its header and bytes, and its pool takes it back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: a shared mbuf can only be read.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// The handle of a buffer.
    ///
    /// # Safety
    /// The caller owns `header`, a live buffer, and gives it up.
    #[inline]
    pub(crate) unsafe fn from_header(header: NonNull<Header>) -> Mbuf {
        Mbuf(header)
    }

    /// The buffer behind the handle, still the handle's.
    #[inline]
    pub(crate) fn as_header(&self) -> NonNull<Header> {
        self.0
    }

    /// The buffer behind the handle, now the caller's.
    #[inline]
    pub(crate) fn into_header(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mbuf owns a live header.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: the mbuf owns a live header, and `&mut self` is the only way to it.
        unsafe { self.0.as_mut() }
    }

    /// The buffer's byte `at`, which is at most `capacity`.
    #[inline]
    fn byte(&self, at: u32) -> *mut u8 {
        // SAFETY: `capacity` bytes follow the header in the same mapping.
        unsafe { self.0.as_ptr().add(1).cast::<u8>().add(at as usize) }
    }

    /// Has the header fetched, which whoever frees the buffer touches, and the first line of bytes, which its next owner fills: what was freed
    /// last is allocated first.
    #[inline(always)]
    pub fn prefetch(&self) {
        // The line behind the header is the buffer's; a place to fetch from need not be a place to read.
        let lines = self.0.as_ptr().cast::<[Header; 2]>();
        crate::prefetch::prefetch_at(lines);
    }

    /// Bytes that the buffer holds, headroom and tailroom included.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.header().capacity as usize
    }

    /// Bytes before the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.header().off as usize
    }

    /// Bytes after the data.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let Header { off, len, capacity, .. } = *self.header();
        (capacity - off - len) as usize
    }

    /// Empties the buffer and leaves `headroom` bytes before the data to come. Panics if it has not as many.
    #[inline]
    pub fn reset(&mut self, headroom: usize) {
        assert!(headroom <= self.capacity(), "headroom beyond the buffer");
        let header = self.header_mut();
        (header.off, header.len) = (headroom as u32, 0);
    }

    /// The tail room: whatever earlier owners left there. Write into it, then [`grow`](Self::grow).
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let Header { off, len, .. } = *self.header();
        // SAFETY: [off + len, capacity) is in the buffer, initialised, and reached through `&mut self` only.
        unsafe { slice::from_raw_parts_mut(self.byte(off + len), self.tailroom()) }
    }

    /// Makes the first `n` bytes of the tail room part of the data. Panics if there are fewer.
    #[inline]
    pub fn grow(&mut self, n: usize) {
        assert!(n <= self.tailroom(), "grown beyond the buffer");
        self.header_mut().len += n as u32;
    }

    /// Makes the data `n` bytes long, from where it begins. Panics if the buffer ends before.
    #[inline]
    pub fn set_len(&mut self, n: usize) {
        assert!(n <= self.capacity() - self.headroom(), "grown beyond the buffer");
        self.header_mut().len = n as u32;
    }

    /// Appends as much of `bytes` as fits; answers how much that was.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.tailroom());
        self.spare_mut()[..n].copy_from_slice(&bytes[..n]);
        self.header_mut().len += n as u32;
        n
    }

    /// Drops the first `n` bytes of the data; they become headroom. Panics if there are fewer.
    #[inline]
    pub fn trim_front(&mut self, n: usize) {
        assert!(n <= self.len(), "trimmed more than there is");
        let header = self.header_mut();
        header.off += n as u32;
        header.len -= n as u32;
    }

    /// Keeps the first `n` bytes of the data, all of them if there are no more.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        let len = self.len().min(n);
        self.header_mut().len = len as u32;
    }

    /// A word that travels with the buffer, 0 at first: a sequence number, a flow group, whatever the owner likes.
    #[inline]
    pub fn tag(&self) -> u32 {
        self.header().tag
    }

    /// Sets the word that travels with the buffer.
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        self.header_mut().tag = tag;
    }
}

impl Deref for Mbuf {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        let Header { off, len, .. } = *self.header();
        // SAFETY: the view lies in the buffer, is initialised, and nobody writes while `&self` lives.
        unsafe { slice::from_raw_parts(self.byte(off), len as usize) }
    }
}

impl DerefMut for Mbuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let Header { off, len, .. } = *self.header();
        // SAFETY: the view lies in the buffer, is initialised, and is reached through `&mut self` only.
        unsafe { slice::from_raw_parts_mut(self.byte(off), len as usize) }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mbuf owned its header and is going.
        unsafe { send_home(self.0) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} + {} of {})", self.headroom(), self.len(), self.capacity())
    }
}
