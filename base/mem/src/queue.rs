//! A FIFO of buffers through the links in their headers.
//!
//! # Soundness
//! The queue owns the buffers from `head` to `tail`; each but the last links to the next, the last to null. A link
//! therefore *is* an `Option<Mbuf>`, and is lent as one. No `&mut Mbuf` into the queue is ever handed out, because
//! swapping two mbufs would tear the chain: [`MbufMut`] changes the view only, and keeps the byte count right while
//! it does.

use std::fmt;
use std::iter::FusedIterator;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::ptr::{self, NonNull};

use crate::pool::Header;
use crate::{Mbuf, Pool};

/// An intrusive queue of mbufs that knows its length in bytes. Every operation but iteration, copying and consuming
/// is O(1).
pub struct MbufQueue {
    head: Option<Mbuf>,
    tail: *mut Header,
    bytes: u32,
    count: u32,
}

const _: () = assert!(size_of::<MbufQueue>() == 24);

// SAFETY: the queue owns its mbufs, and those are Send.
unsafe impl Send for MbufQueue {}
// SAFETY: a shared queue can only be read, and mbufs are Sync.
unsafe impl Sync for MbufQueue {}

/// What follows `mbuf` in its queue.
///
/// # Safety
/// `mbuf` is in a queue that stays unchanged while the answer lives.
#[inline]
unsafe fn after(mbuf: &Mbuf) -> &Option<Mbuf> {
    // SAFETY: a link is null or a buffer owned by the queue, and `Option<Mbuf>`, one nullable pointer, has the same
    // layout.
    unsafe { &*mbuf.header().link.as_ptr().cast() }
}

impl MbufQueue {
    /// An empty queue.
    pub const fn new() -> MbufQueue {
        MbufQueue { head: None, tail: ptr::null_mut(), bytes: 0, count: 0 }
    }

    /// Data bytes in all mbufs together.
    #[inline]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Mbufs in the queue.
    #[inline]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no mbuf (an empty mbuf is one).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Puts `mbuf` behind all others.
    #[inline]
    pub fn push_back(&mut self, mbuf: Mbuf) {
        self.append(&mut MbufQueue::from(mbuf));
    }

    /// Puts `mbuf` before all others.
    #[inline]
    pub fn push_front(&mut self, mbuf: Mbuf) {
        self.prepend(&mut MbufQueue::from(mbuf));
    }

    /// Takes the first mbuf out.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Mbuf> {
        let mbuf = self.head.take()?;
        // SAFETY: the queue owned the chain behind `mbuf`, and goes on owning it through `head`.
        self.head = unsafe { NonNull::new(mbuf.header().link.get()).map(|next| Mbuf::from_header(next)) };
        self.bytes -= mbuf.len() as u32;
        self.count -= 1;
        Some(mbuf)
    }

    /// Moves all of `other` behind what is here.
    #[inline]
    pub fn append(&mut self, other: &mut MbufQueue) {
        let Some(first) = other.head.take() else {
            return;
        };
        if self.is_empty() {
            self.head = Some(first);
        } else {
            // SAFETY: a queue that is not empty owns its last buffer, to whose link the other chain passes.
            unsafe { (*self.tail).link.set(first.into_header().as_ptr()) };
        }
        self.tail = other.tail;
        self.bytes += mem::take(&mut other.bytes);
        self.count += mem::take(&mut other.count);
    }

    /// Moves all of `other` before what is here.
    #[inline]
    pub fn prepend(&mut self, other: &mut MbufQueue) {
        other.append(self);
        mem::swap(self, other);
    }

    /// The first mbuf.
    #[inline]
    pub fn front(&self) -> Option<&Mbuf> {
        self.head.as_ref()
    }

    /// The last mbuf.
    #[inline]
    pub fn back(&self) -> Option<&Mbuf> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the queue is not empty, so `tail` is a buffer it owns, and one pointer like an mbuf.
        Some(unsafe { &*(&raw const self.tail).cast() })
    }

    /// The first mbuf, to change its data.
    #[inline]
    pub fn front_mut(&mut self) -> Option<MbufMut<'_>> {
        let header = self.head.as_ref()?.as_header();
        // SAFETY: `header` is the queue's, which stays borrowed while the handle lives.
        Some(unsafe { MbufMut::new(header, &mut self.bytes) })
    }

    /// The last mbuf, to change its data: to append to it, for instance.
    #[inline]
    pub fn back_mut(&mut self) -> Option<MbufMut<'_>> {
        let header = NonNull::new(self.tail).filter(|_| self.head.is_some())?;
        // SAFETY: `header` is the queue's, which stays borrowed while the handle lives.
        Some(unsafe { MbufMut::new(header, &mut self.bytes) })
    }

    /// All mbufs, first to last.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.head)
    }

    /// Drops the first `n` bytes: mbufs used up go to `pool` if it is given (else home by themselves), and the one
    /// they end in is trimmed. Panics if there are fewer bytes. O(mbufs freed).
    pub fn consume(&mut self, n: u32, mut pool: Option<&mut Pool>) {
        assert!(n <= self.bytes, "consumed more than there is");
        let mut left = n as usize;
        while let Some(mut front) = self.front_mut() {
            if left < front.len() {
                return front.trim_front(left);
            }
            left -= front.len();
            let used = self.pop_front();
            if let (Some(pool), Some(mbuf)) = (pool.as_deref_mut(), used) {
                pool.free(mbuf);
            }
        }
    }

    /// Copies bytes from `offset` on into `out`; answers how many there were.
    pub fn copy_to(&self, offset: u32, out: &mut [u8]) -> usize {
        let (mut skip, mut done) = (offset as usize, 0);
        for mbuf in self {
            if done == out.len() {
                break;
            }
            let skipped = skip.min(mbuf.len());
            skip -= skipped;
            let n = (mbuf.len() - skipped).min(out.len() - done);
            out[done..done + n].copy_from_slice(&mbuf[skipped..skipped + n]);
            done += n;
        }
        done
    }
}

impl From<Mbuf> for MbufQueue {
    #[inline]
    fn from(mbuf: Mbuf) -> MbufQueue {
        let header = mbuf.as_header();
        // SAFETY: the mbuf's buffer is the queue's from here on.
        unsafe { header.as_ref().link.set(ptr::null_mut()) };
        MbufQueue { bytes: mbuf.len() as u32, count: 1, head: Some(mbuf), tail: header.as_ptr() }
    }
}

impl Default for MbufQueue {
    fn default() -> MbufQueue {
        MbufQueue::new()
    }
}

impl Drop for MbufQueue {
    #[inline]
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl fmt::Debug for MbufQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a MbufQueue {
    type Item = &'a Mbuf;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The mbufs of a queue, first to last.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a Option<Mbuf>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Mbuf;

    #[inline]
    fn next(&mut self) -> Option<&'a Mbuf> {
        let mbuf = self.0.as_ref()?;
        // SAFETY: the mbuf is in the queue that `'a` borrows.
        self.0 = unsafe { after(mbuf) };
        Some(mbuf)
    }
}

impl FusedIterator for Iter<'_> {}

/// An mbuf in a queue, to read as an [`Mbuf`] and to change by the methods here, which tell the queue.
#[derive(Debug)]
pub struct MbufMut<'a> {
    mbuf: ManuallyDrop<Mbuf>,
    bytes: &'a mut u32,
}

impl<'a> MbufMut<'a> {
    /// # Safety
    /// `header` is in the queue whose byte count is `bytes`, and the queue is not touched while the handle lives.
    #[inline]
    unsafe fn new(header: NonNull<Header>, bytes: &'a mut u32) -> MbufMut<'a> {
        // SAFETY: the second owner is a fiction: it is never dropped, and ends before the first is used again.
        let mbuf = unsafe { Mbuf::from_header(header) };
        MbufMut { mbuf: ManuallyDrop::new(mbuf), bytes }
    }

    /// Changes the view, and the count by what that changed.
    #[inline]
    fn change<R>(&mut self, how: impl FnOnce(&mut Mbuf) -> R) -> R {
        let before = self.mbuf.len() as u32;
        let answer = how(&mut self.mbuf);
        *self.bytes = *self.bytes - before + self.mbuf.len() as u32;
        answer
    }

    /// The data.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.mbuf
    }

    /// See [`Mbuf::spare_mut`].
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.mbuf.spare_mut()
    }

    /// See [`Mbuf::grow`].
    #[inline]
    pub fn grow(&mut self, n: usize) {
        self.change(|mbuf| mbuf.grow(n));
    }

    /// See [`Mbuf::extend`].
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        self.change(|mbuf| mbuf.extend(bytes))
    }

    /// See [`Mbuf::trim_front`].
    #[inline]
    pub fn trim_front(&mut self, n: usize) {
        self.change(|mbuf| mbuf.trim_front(n));
    }

    /// See [`Mbuf::truncate`].
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        self.change(|mbuf| mbuf.truncate(n));
    }

    /// See [`Mbuf::set_tag`].
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        self.mbuf.set_tag(tag);
    }
}

impl Deref for MbufMut<'_> {
    type Target = Mbuf;
    #[inline]
    fn deref(&self) -> &Mbuf {
        &self.mbuf
    }
}
