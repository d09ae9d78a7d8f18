//! The library's books: one record per connection, reachable from every core, its memory growing in slabs.

use std::alloc::{Layout, handle_alloc_error};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use abi::Cookie;
use mem::{Chunk, Depot, MbufQueue, Pages};
use sync::{TryGuard, TryLock};

/// Records per slab.
const SLAB: usize = mem::CHUNK;

/// What the library keeps of a connection.
pub(crate) struct Record<C> {
    /// The application's state; `None` once it was given back.
    pub(crate) conn: Option<C>,
    /// Written and not yet admitted by the window.
    pub(crate) backlog: MbufQueue,
    /// Do not call `recv` with fewer bytes than this, unless the peer has finished.
    pub(crate) at_least: usize,
    pub(crate) paused: bool,
    /// The handler lacked room and is to be called again when there is some.
    pub(crate) starved: bool,
    /// The armed deadline is the library's, not the application's.
    pub(crate) retry: bool,
    /// Shut down once the backlog is sent.
    pub(crate) shutdown: bool,
    /// Close once the backlog is sent.
    pub(crate) closing: bool,
    /// Whether the handler has seen the end of the stream.
    pub(crate) fin_shown: bool,
}

impl<C> Default for Record<C> {
    fn default() -> Record<C> {
        Record {
            conn: None,
            backlog: MbufQueue::new(),
            at_least: 0,
            paused: false,
            starved: false,
            retry: false,
            shutdown: false,
            closing: false,
            fin_shown: false,
        }
    }
}

type Slab<C> = Chunk<TryLock<Record<C>>>;

/// All records of a service.
pub(crate) struct Records<C> {
    slabs: Box<[OnceLock<Slab<C>>]>,
    depot: Depot<TryLock<Record<C>>>,
    /// Closed records. Taken for a moment at each open and close, by any core.
    free: Mutex<Vec<u32>>,
    /// The first record that was never used.
    fresh: AtomicU32,
}

impl<C> Records<C> {
    /// Books for at most `limit` connections. That there is not even the address space for them is treated as any container treats it.
    pub(crate) fn new(limit: usize, pages: Pages) -> Records<C> {
        let depot = Depot::new(limit, pages);
        Records {
            depot: depot.unwrap_or_else(|_| handle_alloc_error(Layout::new::<[TryLock<Record<C>>; SLAB]>())),
            slabs: (0..limit.div_ceil(SLAB)).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Vec::with_capacity(limit)),
            fresh: AtomicU32::new(0),
        }
    }

    /// Opens a record for `conn`; gives it back when the books are full.
    pub(crate) fn open(&self, conn: C) -> Result<Cookie, C> {
        let Some(n) = self.free().pop().or_else(|| self.never_used()) else { return Err(conn) };
        let Some(slab) = self.slab(n as usize / SLAB) else { return Err(conn) };
        // Nobody else knows of a free record.
        let Some(mut record) = slab[n as usize % SLAB].try_lock() else { return Err(conn) };
        *record = Record { conn: Some(conn), ..Record::default() };
        Ok(Cookie(u64::from(n)))
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn never_used(&self) -> Option<u32> {
        let limit = (self.slabs.len() * SLAB) as u32;
        self.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1)).ok()
    }

    /// The record of a connection. Only its busy owner asks, so the lock is always free; `None` is a broken cookie.
    #[inline]
    pub(crate) fn get(&self, cookie: Cookie) -> Option<TryGuard<'_, Record<C>>> {
        let n = usize::try_from(cookie.0).ok()?;
        self.slabs.get(n / SLAB)?.get()?.get(n % SLAB)?.try_lock()
    }

    /// A slab, made when it is first asked for. Of two cores that ask at once, one gives its own back.
    fn slab(&self, at: usize) -> Option<&Slab<C>> {
        let place = self.slabs.get(at)?;
        if place.get().is_none() {
            let _ = place.set(self.depot.take()?);
        }
        place.get()
    }

    /// Has the record of a connection fetched.
    #[inline]
    pub(crate) fn prefetch(&self, cookie: Cookie) {
        let n = cookie.0 as usize;
        if let Some(record) = self.slabs.get(n / SLAB).and_then(|slab| slab.get()?.get(n % SLAB)) {
            mem::prefetch(record);
        }
    }

    /// Closes a record. Its cookie may be used again at once.
    pub(crate) fn close(&self, cookie: Cookie) {
        if let Some(mut record) = self.get(cookie) {
            *record = Record::default();
            drop(record);
            self.free().push(cookie.0 as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_books_give_the_state_back_and_closed_records_are_used_again() {
        let books = Records::new(SLAB, Pages::Small);
        let all: Vec<_> = (0..SLAB).map(|i| books.open(i).unwrap()).collect();
        assert_eq!(books.open(999), Err(999));
        books.close(all[7]);
        assert_eq!(books.open(1000), Ok(all[7]));
        assert_eq!(books.get(all[7]).unwrap().conn, Some(1000));
        assert!(books.get(Cookie(u64::MAX)).is_none());
    }
}
