//! A fixed number of buffers with one allocating owner, to which freed buffers return from anywhere.
//!
//! ```text
//!   region  | header 64 B | capacity B | header 64 B | capacity B | ...      count times
//!   idle    list of the owner, last in first out: alloc and free are a few plain stores
//!   returns LinkStack in `Home`: foreign frees and drops push, the owner takes all when it runs dry
//! ```
//!
//! # Soundness
//! Every header is either in `idle`, in `returns`, or owned by exactly one [`Mbuf`]; only its present owner touches
//! it (the return stack's release and acquire pass it on). Headers and buffers live in `Home::region`. `Home` dies
//! when the pool is gone *and* all buffers are back: a pool dropped earlier closes its return stack, and the last
//! buffer frees `Home`. So memory always outlives the mbufs in it, whatever the order of drops.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use sync::{Link, LinkStack, Linked};

use crate::{Backing, Mbuf, MbufQueue, MemError, Region, Room};

/// What a buffer begins with; its bytes follow. One cache line, so that the data starts on its own.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// The next buffer of whichever list or queue this one is in.
    pub(crate) link: Link<Header>,
    /// Where the buffer returns to; never changes.
    pub(crate) home: NonNull<Home>,
    /// The view: `len` bytes from `off`, within `capacity`.
    pub(crate) off: u32,
    pub(crate) len: u32,
    /// Payload bytes of the buffer; never changes.
    pub(crate) capacity: u32,
    /// A word for the owner's own use.
    pub(crate) tag: u32,
}

const _: () = assert!(size_of::<Header>() == 64);

// SAFETY: `link` is the same field always, and lists and queues of this crate touch those of their own nodes only.
unsafe impl Linked for Header {
    #[inline]
    fn link(&self) -> &Link<Header> {
        &self.link
    }
}

/// What outlives the pool if buffers do: the memory, and the stack through which they return.
pub(crate) struct Home {
    pub(crate) returns: LinkStack<Header>,
    region: Region,
}

/// A mempool: `count` buffers of `capacity` bytes, allocated by one thread at a time and freed by any.
///
/// A pool may be dropped while its mbufs live; its memory goes with the last of them.
#[derive(Debug)]
pub struct Pool {
    home: NonNull<Home>,
    idle: Cell<*mut Header>,
    available: Cell<u32>,
    count: u32,
    capacity: u32,
}

// SAFETY: the pool owns its idle headers, and `Home` is made to be reached from several threads.
unsafe impl Send for Pool {}

impl Pool {
    /// Reserves and touches `count` buffers with room for `capacity` bytes each (rounded up to whole cache lines).
    ///
    /// Errors: the kernel refuses that much memory.
    pub fn new(room: Room, count: u32, capacity: u32) -> Result<Pool, MemError> {
        let capacity = capacity.checked_next_multiple_of(64).ok_or_else(MemError::too_large)?;
        let stride = size_of::<Header>() + capacity as usize;
        let bytes = stride.checked_mul(count as usize).ok_or_else(MemError::too_large)?;
        let region = Region::new(room, bytes, true)?;
        let base = region.base();
        let home = NonNull::from(Box::leak(Box::new(Home { returns: LinkStack::new(), region })));
        let pool = Pool { home, idle: Cell::new(ptr::null_mut()), available: Cell::new(0), count, capacity };
        for i in (0..count as usize).rev() {
            // SAFETY: buffer `i` lies in the region, aligned to 64 since base and stride are, and belongs to the new
            // pool.
            unsafe {
                let header = base.add(i * stride).cast::<Header>();
                header.write(Header { link: Link::new(), home, off: 0, len: 0, capacity, tag: 0 });
                pool.put(header);
            }
        }
        Ok(pool)
    }

    /// An empty buffer (no headroom, tag 0), or none while all are out. A few nanoseconds.
    #[inline]
    pub fn alloc(&mut self) -> Option<Mbuf> {
        if self.idle.get().is_null() {
            self.reclaim();
        }
        let mut header = NonNull::new(self.idle.get())?;
        // SAFETY: a header of the idle list is the pool's, and from here on the new mbuf's.
        unsafe {
            let head = header.as_mut();
            self.idle.set(head.link.get());
            self.available.set(self.available.get() - 1);
            (head.off, head.len, head.tag) = (0, 0, 0);
            Some(Mbuf::from_header(header))
        }
    }

    /// Takes a buffer back: into the idle list if it is this pool's, else to its own pool's return stack.
    #[inline]
    pub fn free(&mut self, mbuf: Mbuf) {
        if mbuf.header().home == self.home {
            // SAFETY: the header is this pool's, and the mbuf that owned it is consumed here.
            unsafe { self.put(mbuf.into_header()) };
        }
    }

    /// Takes all buffers of `queue` back, as [`free`](Self::free) does.
    pub fn free_queue(&mut self, mut queue: MbufQueue) {
        while let Some(mbuf) = queue.pop_front() {
            self.free(mbuf);
        }
    }

    /// Buffers that `alloc` would hand out now, those that have returned meanwhile included.
    #[inline]
    pub fn available(&self) -> usize {
        self.reclaim();
        self.available.get() as usize
    }

    /// Buffers there are, in and out.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes a buffer holds.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Which pages the buffers lie in.
    pub fn backing(&self) -> Backing {
        self.home().region.backing()
    }

    #[inline]
    fn home(&self) -> &Home {
        // SAFETY: `Home` lives at least as long as its pool.
        unsafe { self.home.as_ref() }
    }

    /// Moves what others freed into the idle list; a plain load if nothing came. Bounded by `count`.
    #[inline]
    fn reclaim(&self) {
        for header in self.home().returns.take() {
            // SAFETY: only headers of this pool are pushed here, and taking them made them the pool's.
            unsafe { self.put(header) };
        }
    }

    /// # Safety
    /// `header` is a buffer of this pool and belongs to the caller, who gives it up.
    #[inline]
    unsafe fn put(&self, header: NonNull<Header>) {
        // SAFETY: the header was the caller's and is the pool's from here on.
        unsafe { header.as_ref().link.set(self.idle.get()) };
        self.idle.set(header.as_ptr());
        self.available.set(self.available.get() + 1);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let out = self.count - self.available.get();
        // SAFETY: what is not idle is out or in the return stack, and `Home` stays until the last has come back.
        if unsafe { self.home().returns.close(out as usize) } {
            // SAFETY: every buffer is back and the pool is going: nobody else knows this `Home`.
            unsafe { demolish(self.home) };
        }
    }
}

/// Sends a buffer home from wherever it is. One compare-exchange.
///
/// # Safety
/// The caller owns `header` and gives it up.
#[inline]
pub(crate) unsafe fn send_home(header: NonNull<Header>) {
    // SAFETY: the header is the caller's, so its pool counts it as out, and hence `Home` is alive.
    unsafe {
        let home = header.as_ref().home;
        if home.as_ref().returns.push(header) {
            demolish(home);
        }
    }
}

/// Frees the memory of a pool.
///
/// # Safety
/// The pool is gone or going, all its buffers are back, and this is called once.
#[cold]
unsafe fn demolish(home: NonNull<Home>) {
    // SAFETY: `home` came from a leaked box, and nobody else refers to it any more.
    drop(unsafe { Box::from_raw(home.as_ptr()) });
}
