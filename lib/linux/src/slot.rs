use std::sync::atomic::{AtomicU32, Ordering::SeqCst, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A value that several threads may get news for, and that one of them at a time works on: the per-socket lock of the
/// floating mode.
///
/// ```text
///   thread A                              thread B
///   announce(READ), claim: has it
///   takes the news, runs the handler
///        :                                announce(MAIL), claim: is taken, goes away
///   lets go
///   news again? claim: has it
///   takes the news, runs the handler
///   lets go; no news: goes away
/// ```
///
/// Nobody ever waits for the lock, so a handler that takes long holds up its own connection only. Whoever finds it taken
/// may go away, since the holder looks for news once more after it has let go; so none is lost. News of one kind merge.
pub(crate) struct Slot<T> {
    news: AtomicU32,
    value: Mutex<T>,
}

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Slot<T> {
        Slot { news: AtomicU32::new(0), value: Mutex::new(value) }
    }

    /// Adds bits of news. [`Slot::claim`] has to follow.
    pub(crate) fn announce(&self, news: u32) {
        self.news.fetch_or(news, SeqCst);
    }

    /// The value, and all the news so far, if there are any and nobody else works on it. After the guard is dropped this
    /// has to be called again, until it answers `None`.
    pub(crate) fn claim(&self) -> Option<(MutexGuard<'_, T>, u32)> {
        // Two threads, each of which writes one word and then reads the other's: this one has let go of the lock and looks
        // for news, the other has announced news and looks at the lock. With a fence between, one of them sees.
        fence(SeqCst);
        if self.news.load(SeqCst) == 0 {
            return None;
        }
        let guard = match self.value.try_lock() {
            Ok(guard) => guard,
            // A handler's panic is caught before it gets here; one of ours has been told already.
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let news = self.news.swap(0, SeqCst);
        Some((guard, news))
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    #[test]
    fn whoever_finds_it_taken_leaves_the_news_to_the_holder() {
        let slot = Slot::new('v');
        assert!(slot.claim().is_none(), "without news there is nothing to do");
        slot.announce(1);
        let (guard, news) = slot.claim().unwrap();
        assert_eq!((*guard, news), ('v', 1));
        slot.announce(2);
        slot.announce(4);
        assert!(slot.claim().is_none());
        drop(guard);
        let (guard, news) = slot.claim().unwrap();
        assert_eq!(news, 6);
        drop(guard);
        assert!(slot.claim().is_none());
    }

    #[test]
    fn no_news_are_lost_between_threads_and_no_two_hold_it() {
        const EACH: u64 = 20_000;
        let (slot, held, posted) = (Slot::new(0_u64), AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        posted.fetch_add(1, SeqCst);
                        slot.announce(1);
                        while let Some((mut done, _)) = slot.claim() {
                            assert!(!held.swap(true, SeqCst), "two at a time");
                            // What had been posted when the news were taken is seen to.
                            *done = posted.load(SeqCst);
                            held.store(false, SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(slot.into_inner(), 4 * EACH);
    }
}
