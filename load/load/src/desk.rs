use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::job::Order;
use crate::{LoadError, Outcome};

/// A count that several threads add to.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }
}

/// What the client has done since it was made, for others to watch while it runs. A few microseconds behind.
#[derive(Default, Debug)]
pub struct Live {
    /// Requests handed to the transport.
    pub sent: Count,
    /// Right replies.
    pub answered: Count,
    /// Everything that went wrong.
    pub errors: Count,
    /// Records stored before the load.
    pub stored: Count,
    /// Connections that have opened.
    pub connected: Count,
}

/// Where a client thread finds its orders and leaves what became of them.
#[derive(Default, Debug)]
pub(crate) struct Desk {
    /// Even: nothing new. Bumped with every order, so that a look costs one load.
    orders: AtomicU64,
    halt: AtomicBool,
    pub(crate) tid: AtomicU32,
    slots: Mutex<Slots>,
    news: Condvar,
}

#[derive(Default, Debug)]
struct Slots {
    order: Option<Order>,
    done: Option<Result<Outcome, LoadError>>,
    gone: bool,
}

impl Desk {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the thread something to do; what it had to do before must be done.
    pub(crate) fn put(&self, order: Order) {
        let mut slots = self.slots();
        slots.done = None;
        slots.order = Some(order);
        self.halt.store(false, Ordering::Relaxed);
        self.orders.fetch_add(1, Ordering::Release);
    }

    /// The thread's look for an order; `seen` is its own memory of the last one.
    #[inline]
    pub(crate) fn take(&self, seen: &mut u64) -> Option<Order> {
        let orders = self.orders.load(Ordering::Acquire);
        if orders == *seen {
            return None;
        }
        *seen = orders;
        self.slots().order.take()
    }

    /// Whether the present order is to be ended early.
    #[inline]
    pub(crate) fn halted(&self) -> bool {
        self.halt.load(Ordering::Relaxed)
    }

    /// Ends the present order early.
    pub(crate) fn halt(&self) {
        self.halt.store(true, Ordering::Relaxed);
    }

    /// The thread has done what it was told.
    pub(crate) fn done(&self, outcome: Result<Outcome, LoadError>) {
        self.slots().done = Some(outcome);
        self.news.notify_all();
    }

    /// The thread has ended.
    pub(crate) fn gone(&self) {
        self.slots().gone = true;
        self.news.notify_all();
    }

    /// What became of the order, if it is done.
    #[cfg(test)]
    pub(crate) fn try_result(&self) -> Option<Result<Outcome, LoadError>> {
        self.slots().done.take()
    }

    /// Waits until the order is done. Passes on the wish of the whole process to stop.
    pub(crate) fn wait(&self) -> Result<Outcome, LoadError> {
        let mut slots = self.slots();
        loop {
            if let Some(done) = slots.done.take() {
                return done;
            }
            if slots.gone {
                return Err(LoadError::Dead);
            }
            if sys::stop::requested() {
                self.halt();
            }
            let waited = self.news.wait_timeout(slots, Duration::from_millis(20));
            slots = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Says at the end of a thread, whichever way it ends, that there will be no more answers.
pub(crate) struct Attendance(pub(crate) std::sync::Arc<Desk>);

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.gone();
    }
}
