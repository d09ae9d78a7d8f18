use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use units::Nanos;

use crate::job::{Done, Order};

/// Where one queue and the bench's thread meet: orders one way, answers the other, and two words for whoever is curious.
///
/// The queue tries the lock only when the count of orders has changed or it has an answer to leave; it never waits.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Desk {
    orders: AtomicU64,
    /// When the queue's next frame is due, in ns: what other cores ask.
    due: AtomicU64,
    /// Once the table has been set: the queues that have groups here, and those of them that a frame is due for already. Bits.
    sharers: AtomicU64,
    waiting: AtomicU64,
    /// Connections that are open.
    pub(crate) open: AtomicU32,
    /// SYNs that were refused since connections were asked for.
    pub(crate) refused: AtomicU64,
    slots: Mutex<Slots>,
    news: Condvar,
}

#[derive(Default)]
struct Slots {
    order: Option<(u64, Order)>,
    halt: bool,
    done: Option<(u64, Done)>,
    gone: bool,
}

/// What a look at the desk yields.
pub(crate) struct Post {
    pub(crate) order: Option<(u64, Order)>,
    pub(crate) halt: bool,
}

/// The queue does not exist any more.
pub(crate) struct Gone;

impl Desk {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_slots(&self) -> Option<MutexGuard<'_, Slots>> {
        match self.slots.try_lock() {
            Ok(slots) => Some(slots),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Gives the queue something to do, instead of what it may still be doing. Returns the order's number.
    pub(crate) fn put(&self, order: Order) -> u64 {
        let mut slots = self.slots();
        let number = self.orders.load(Ordering::Relaxed) + 1;
        slots.order = Some((number, order));
        (slots.done, slots.halt) = (None, false);
        // Whoever looks whether there is something to do here is to look closer.
        self.set_due(Nanos::ZERO);
        self.orders.store(number, Ordering::Release);
        number
    }

    /// Has the queue end early what it is doing.
    pub(crate) fn halt(&self) {
        let mut slots = self.slots();
        slots.halt = true;
        self.orders.fetch_add(1, Ordering::Release);
    }

    /// Waits until order `number` is answered, the queue is gone, or `patience` has passed (`None`).
    pub(crate) fn wait(&self, number: u64, patience: Nanos) -> Option<Result<Done, Gone>> {
        let mut slots = self.slots();
        loop {
            match slots.done.take() {
                Some((of, done)) if of == number => return Some(Ok(done)),
                _ if slots.gone => return Some(Err(Gone)),
                _ if patience == Nanos::ZERO => return None,
                _ => {}
            }
            let patience = Duration::from_nanos(patience.0);
            let (now, timeout) = self.news.wait_timeout(slots, patience).unwrap_or_else(PoisonError::into_inner);
            slots = now;
            if timeout.timed_out() {
                let done = slots.done.take();
                return done.filter(|(of, _)| *of == number).map(|(_, done)| Ok(done));
            }
        }
    }

    // ---- the queue's side ----

    /// Whether there is something new: one load.
    #[inline]
    pub(crate) fn has_news(&self, seen: u64) -> bool {
        self.orders.load(Ordering::Relaxed) != seen
    }

    /// What is new, unless somebody has the lock this moment.
    #[cold]
    pub(crate) fn take(&self, seen: &mut u64) -> Option<Post> {
        let mut slots = self.try_slots()?;
        *seen = self.orders.load(Ordering::Acquire);
        Some(Post { order: slots.order.take(), halt: std::mem::take(&mut slots.halt) })
    }

    /// Leaves the answer to order `number`; gives it back if somebody has the lock this moment.
    #[cold]
    pub(crate) fn done(&self, number: u64, done: Done) -> Option<Done> {
        let Some(mut slots) = self.try_slots() else { return Some(done) };
        // A newer order is being waited for.
        if slots.order.is_none() {
            slots.done = Some((number, done));
        }
        drop(slots);
        self.news.notify_all();
        None
    }

    /// The queue ends.
    pub(crate) fn gone(&self) {
        self.slots().gone = true;
        self.news.notify_all();
    }

    /// Says when the next frame is due.
    #[inline]
    pub(crate) fn set_due(&self, due: Nanos) {
        self.due.store(due.0, Ordering::Relaxed);
    }

    /// When the next frame is due.
    #[inline]
    pub(crate) fn due(&self) -> Nanos {
        Nanos(self.due.load(Ordering::Relaxed))
    }

    /// The queues that have groups here from now on.
    pub(crate) fn share(&self, sharers: u64) {
        self.sharers.store(sharers, Ordering::Release);
    }

    /// The queues that a frame is due for.
    pub(crate) fn set_waiting(&self, queues: u64) {
        if self.waiting.load(Ordering::Relaxed) != queues {
            self.waiting.store(queues, Ordering::Release);
        }
    }

    /// Whether the table has been set.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.sharers.load(Ordering::Relaxed) != 0
    }

    /// When the next frame is due for a queue, once the table has been set.
    pub(crate) fn due_for(&self, queue: usize) -> Nanos {
        let bit = 1 << queue;
        if self.waiting.load(Ordering::Acquire) & bit != 0 {
            Nanos::ZERO
        } else if self.sharers.load(Ordering::Relaxed) & bit != 0 {
            self.due()
        } else {
            Nanos::MAX
        }
    }
}
