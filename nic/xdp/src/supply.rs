//! The chunks of a queue of the interface: those that the kernel may fill, and those that come back from it.
//!
//! Fill and completion ring belong to a queue and its memory, not to a socket. One socket on a queue has them for itself; several sockets on one queue, for several
//! elastic threads, share them: whoever finds the lock free does what is to be done, and whoever does not keeps his chunks until the next time. Nobody waits.
//!
//! ```text
//!   received, copied out ─► back (each thread's) ─► fill ring
//!   completion ring ─► free (each thread's) ─► what is over: spare ─► a thread that has few
//! ```

use std::sync::Arc;

use sync::TryLock;

use crate::ring::{Onlooker, Ring};

/// What the sockets on one queue have in common.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) fill: Ring<u64>,
    pub(crate) done: Ring<u64>,
    /// Free chunks for transmission that nobody has. Its capacity is that of the completion ring.
    pub(crate) spare: Vec<u64>,
}

/// A socket's share.
#[derive(Debug)]
pub(crate) struct Supply {
    rings: Arc<TryLock<Rings>>,
    hungry: Onlooker,
    mask: u64,
    /// Chunks for transmission that are free. No more are kept than there were at first.
    pub(crate) free: Vec<u64>,
    own: usize,
    /// Chunks that the fill ring is to have. There is room for all.
    back: Vec<u64>,
}

impl Supply {
    /// A share with these chunks for transmission, of memory with chunks of `size` bytes; at most `all` are received into.
    pub(crate) fn new(rings: Arc<TryLock<Rings>>, hungry: Onlooker, size: u32, free: Vec<u64>, all: usize) -> Supply {
        let own = free.len();
        Supply { rings, hungry, mask: !u64::from(size - 1), free, own, back: Vec::with_capacity(all) }
    }

    /// The chunk around `addr` may be received into again.
    #[inline]
    pub(crate) fn give(&mut self, addr: u64) {
        self.back.push(addr & self.mask);
    }

    /// Hands what was given to the kernel. False: not all, as another thread is at it.
    #[inline]
    pub(crate) fn give_back(&mut self) -> bool {
        if self.back.is_empty() {
            return true;
        }
        let Some(mut rings) = self.rings.try_lock() else { return false };
        // There is room: a chunk is either in one of the rings or with one of us.
        self.back.drain(..).for_each(|chunk| _ = rings.fill.push(chunk));
        rings.fill.publish();
        true
    }

    /// Whether the driver waits to be told that there are chunks.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.hungry.needs_wakeup()
    }

    /// Takes back the chunks of frames that are out.
    #[inline]
    pub(crate) fn reap(&mut self) {
        let Some(mut rings) = self.rings.try_lock() else { return };
        let n = rings.done.ready(u32::MAX);
        for i in 0..n {
            let chunk = rings.done.peek(i) & self.mask;
            let heap = if self.free.len() < self.own { &mut self.free } else { &mut rings.spare };
            // More than there are would be the kernel's mistake.
            if heap.len() < heap.capacity() {
                heap.push(chunk);
            }
        }
        rings.done.release(n);
        let wanted = self.own / 4;
        while self.free.len() < wanted
            && let Some(chunk) = rings.spare.pop()
        {
            self.free.push(chunk);
        }
    }
}
