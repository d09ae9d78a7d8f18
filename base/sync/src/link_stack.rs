//! The return stack: many threads push nodes, the owner takes all of them at once.
//!
//! The links run through the nodes, so nothing is allocated and nothing can overflow. No node is ever popped alone,
//! so a head that went away and came back (ABA) does no harm: a push only needs "the head is what my link says".
//!
//! When the owner goes while nodes are still out, it *closes* the stack and leaves a debt: whoever pays the last node
//! back learns of it and tears down in the owner's stead.
//!
//! ```text
//!   head -> node -> node -> null      open
//!   head = CLOSED, owed = n           closed; each push pays 1; the step that makes owed 0 is the last
//! ```
//!
//! # Soundness
//! A node belongs to its pusher until the compare-exchange (release) hands it over, then to the stack, then to the
//! taker (acquire): the link, a plain cell, is touched by its present owner only. After a push that handed a node
//! over, the pusher does not touch the stack again, for the owner may already have freed it. `tests/loom.rs` checks
//! the links, the debt and that exactly one step is the last.

use std::iter::FusedIterator;
use std::ptr::{self, NonNull};

use crate::atomic::{AtomicIsize, AtomicPtr, Ordering};
use crate::cell::UnsafeCell;

/// The place in a node where its queue keeps the next one.
#[derive(Debug)]
#[repr(transparent)]
pub struct Link<T>(UnsafeCell<*mut T>);

impl<T> Link<T> {
    /// A link to nothing.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Link<T> {
        Link(UnsafeCell::new(ptr::null_mut()))
    }

    /// The next node, or null.
    ///
    /// # Safety
    /// The caller owns the node.
    #[inline]
    pub unsafe fn get(&self) -> *mut T {
        // SAFETY: the owner of the node is the only one to touch its link.
        unsafe { *self.0.get_mut().deref() }
    }

    /// Makes `next` the next node.
    ///
    /// # Safety
    /// The caller owns the node.
    #[inline]
    pub unsafe fn set(&self, next: *mut T) {
        // SAFETY: the owner of the node is the only one to touch its link.
        unsafe { *self.0.get_mut().deref() = next }
    }

    /// Where the address of the next node is kept, for queues that lend a view of it.
    #[cfg(not(loom))]
    #[inline]
    pub fn as_ptr(&self) -> *const *mut T {
        (&raw const self.0).cast()
    }
}

/// A node that carries its own link.
///
/// # Safety
/// `link` returns the same field at every call, and nothing but the owner of the node touches that field.
pub unsafe trait Linked: Sized {
    /// The link of this node.
    fn link(&self) -> &Link<Self>;
}

/// A stack with many pushers and one taker of everything. Unbounded, lock-free, 16 bytes.
#[derive(Debug)]
pub struct LinkStack<T> {
    head: AtomicPtr<T>,
    owed: AtomicIsize,
}

/// The head of a stack that takes no more nodes: an address that no node has.
fn closed<T>() -> *mut T {
    const { assert!(align_of::<T>() > 1) };
    ptr::without_provenance_mut(1)
}

impl<T: Linked> LinkStack<T> {
    /// An empty, open stack.
    #[allow(clippy::new_without_default)]
    pub fn new() -> LinkStack<T> {
        LinkStack { head: AtomicPtr::new(ptr::null_mut()), owed: AtomicIsize::new(0) }
    }

    /// Hands `node` over. True: the stack is closed and this was the last node owed to it, so the caller frees
    /// whatever the owner left behind. Any thread; one compare-exchange unless pushers collide.
    ///
    /// # Safety
    /// The caller owns `node`, gives it up, and `node` counts among the nodes that [`close`](Self::close) is told of.
    #[inline]
    #[must_use = "true makes the caller responsible for tearing down"]
    pub unsafe fn push(&self, node: NonNull<T>) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                return self.owed.fetch_sub(1, Ordering::AcqRel) == 1;
            }
            // SAFETY: the node is still the caller's.
            unsafe { node.as_ref().link().set(head) };
            let new = node.as_ptr();
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return false,
                Err(now) => head = now,
            }
        }
    }

    /// Takes everything pushed so far, last one first. Owner only, and not after `close`. A plain load when there
    /// is nothing.
    #[inline]
    pub fn take(&self) -> Chain<T> {
        if self.head.load(Ordering::Relaxed).is_null() {
            return Chain(ptr::null_mut());
        }
        Chain(self.head.swap(ptr::null_mut(), Ordering::Acquire))
    }

    /// Closes the stack for good: `out` nodes were not in the owner's hands when it last looked (those in the stack
    /// included). True: all have come back, and the owner tears down; else the last pusher will be told to. Owner
    /// only, once.
    ///
    /// # Safety
    /// `out` is right; and unless the answer is true, the stack stays alive until a `push` says true.
    #[must_use = "true makes the caller responsible for tearing down"]
    pub unsafe fn close(&self, out: usize) -> bool {
        let returned = Chain(self.head.swap(closed(), Ordering::Acquire)).count();
        let owed = (out - returned) as isize;
        // Nodes paid since the swap stand in `owed` as negative numbers; only a sum of zero means all.
        self.owed.fetch_add(owed, Ordering::AcqRel) == -owed
    }
}

/// Nodes taken from a [`LinkStack`]: the iterator hands out ownership of each.
#[derive(Debug)]
pub struct Chain<T>(*mut T);

impl<T: Linked> Iterator for Chain<T> {
    type Item = NonNull<T>;

    #[inline]
    fn next(&mut self) -> Option<NonNull<T>> {
        let node = NonNull::new(self.0)?;
        // SAFETY: the taker owns the whole chain until it hands a node out, and this one is handed out only now.
        self.0 = unsafe { node.as_ref().link().get() };
        Some(node)
    }
}

impl<T: Linked> FusedIterator for Chain<T> {}
