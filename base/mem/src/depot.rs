//! Objects by the chunk: memory grows as they are used, addresses never move.
//!
//! A depot reserves *addresses* for all objects there may ever be, and pages only become resident as chunks are first
//! taken: a table for a million connections costs what the present ones need. A chunk given back is handed out again
//! before a new one is touched. Taking and giving back are rare (once per 32 objects), so a mutex guards them.
//!
//! # Soundness
//! Chunk `i` occupies the `i`-th piece of the region. Its number is either `>= fresh` (memory untouched), in `back`
//! (32 live objects that nobody refers to), or in exactly one [`Chunk`] (32 live objects that it owns). Each `Chunk`
//! keeps the depot alive, so when the depot goes all chunks are back, and exactly those have objects to drop.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{MemError, Pages, Region, Room};

/// Objects in a chunk.
pub const CHUNK: usize = 32;

/// Where chunks of `T` come from and return to; shared by all cores. A clone is the same depot.
pub struct Depot<T>(Arc<Shelf<T>>);

/// Exclusive ownership of [`CHUNK`] objects; drop gives them back as they are.
pub struct Chunk<T> {
    number: u32,
    items: NonNull<[T; CHUNK]>,
    shelf: Arc<Shelf<T>>,
}

struct Shelf<T> {
    base: NonNull<[T; CHUNK]>,
    chunks: u32,
    /// Chunks that are out.
    out: AtomicU32,
    stock: Mutex<Stock>,
    /// Keeps `base` valid.
    _region: Region,
}

struct Stock {
    /// The first chunk that nobody ever took.
    fresh: u32,
    /// Chunks that came back.
    back: Vec<u32>,
}

// SAFETY: a shelf hands each object to one chunk at a time and reads none itself; moving objects between threads asks
// for `T: Send`.
unsafe impl<T: Send> Send for Shelf<T> {}
// SAFETY: as above; the stock is behind a mutex.
unsafe impl<T: Send> Sync for Shelf<T> {}
// SAFETY: a chunk owns its objects as a `Box<[T]>` would.
unsafe impl<T: Send> Send for Chunk<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Chunk<T> {}

impl<T> Depot<T> {
    /// Reserves addresses for `n` objects, rounded up to whole chunks, in pages of the given kind.
    ///
    /// Errors: no such range of addresses is left.
    pub fn new(n: usize, pages: Pages) -> Result<Depot<T>, MemError> {
        const { assert!(align_of::<T>() <= crate::HUGE_PAGE && size_of::<T>() > 0) };
        let chunks = u32::try_from(n.div_ceil(CHUNK)).map_err(|_| MemError::too_large())?;
        let bytes = size_of::<[T; CHUNK]>().checked_mul(chunks as usize).ok_or_else(MemError::too_large)?;
        let region = Region::lazy(Room::Private, bytes, pages)?;
        let stock = Mutex::new(Stock { fresh: 0, back: Vec::with_capacity(chunks as usize) });
        Ok(Depot(Arc::new(Shelf {
            base: region.base().cast(),
            chunks,
            out: AtomicU32::new(0),
            stock,
            _region: region,
        })))
    }

    /// Objects there can be at once.
    pub fn capacity(&self) -> usize {
        self.0.chunks as usize * CHUNK
    }

    /// Objects in chunks that are taken now. Costs a load.
    #[inline]
    pub fn taken(&self) -> usize {
        self.0.out.load(Ordering::Relaxed) as usize * CHUNK
    }
}

impl<T: Default> Depot<T> {
    /// Takes a chunk, or none while all are out. Objects taken for the first time are `T::default()`, others are as
    /// their last owner left them.
    pub fn take(&self) -> Option<Chunk<T>> {
        let shelf = &self.0;
        let mut stock = shelf.stock();
        let (number, used) = match stock.back.pop() {
            Some(number) => (number, true),
            None if stock.fresh < shelf.chunks => (stock.fresh, false),
            None => return None,
        };
        stock.fresh = stock.fresh.max(number + 1);
        drop(stock);
        shelf.out.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `number` is below `chunks`, so the piece lies in the region.
        let items = unsafe { shelf.base.add(number as usize) };
        if !used {
            for i in 0..CHUNK {
                // SAFETY: a fresh piece is nobody's yet, and `i` is within it. Should `default` panic, the chunk is
                // merely lost.
                unsafe { items.cast::<T>().add(i).write(T::default()) };
            }
        }
        Some(Chunk { number, items, shelf: Arc::clone(shelf) })
    }
}

impl<T> Shelf<T> {
    /// The stock; a panic elsewhere cannot have left it half changed.
    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Shelf<T> {
    fn drop(&mut self) {
        for number in self.stock.get_mut().unwrap_or_else(PoisonError::into_inner).back.drain(..) {
            // SAFETY: a chunk that came back holds live objects that nobody else refers to.
            unsafe { ptr::drop_in_place(self.base.add(number as usize).as_ptr()) };
        }
    }
}

impl<T> Clone for Depot<T> {
    fn clone(&self) -> Depot<T> {
        Depot(Arc::clone(&self.0))
    }
}

impl<T> Chunk<T> {
    /// Which of the depot's chunks this is: a name that stays the same wherever the chunk goes.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl<T> Deref for Chunk<T> {
    type Target = [T; CHUNK];
    #[inline]
    fn deref(&self) -> &[T; CHUNK] {
        // SAFETY: the chunk owns its live objects, CHUNK of them.
        unsafe { self.items.cast().as_ref() }
    }
}

impl<T> DerefMut for Chunk<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T; CHUNK] {
        // SAFETY: the chunk owns its live objects, CHUNK of them, and `&mut self` is the only way to them.
        unsafe { self.items.cast().as_mut() }
    }
}

impl<T> Drop for Chunk<T> {
    fn drop(&mut self) {
        // Within the capacity reserved for all chunks: no allocation.
        self.shelf.stock().back.push(self.number);
        self.shelf.out.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Depot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Depot({} of {})", self.taken(), self.capacity())
    }
}

impl<T: fmt::Debug> fmt::Debug for Chunk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
