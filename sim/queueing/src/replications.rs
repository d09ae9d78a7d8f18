//! Independent runs on all cores, and what watches them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How much is simulated, where the numbers come from, and on how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Equal seeds give equal answers.
    pub seed: u64,
    /// Counted requests of a replication; `None`: as many as the question needs.
    pub requests: Option<u64>,
    /// Threads that share the replications; none counts as one. The answer does not depend on them.
    pub threads: usize,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { seed: 1, requests: None, threads: 1 }
    }
}

/// How far a simulation is, and whether it is to go on. Another thread may look.
pub struct Watch<'a> {
    simulated: AtomicU64,
    planned: AtomicU64,
    end: Box<dyn Fn() -> bool + Sync + 'a>,
}

impl<'a> Watch<'a> {
    /// Simulations end soon after `end` says so; it is asked often, by all threads.
    pub fn new(end: impl Fn() -> bool + Sync + 'a) -> Watch<'a> {
        Watch { simulated: AtomicU64::new(0), planned: AtomicU64::new(0), end: Box::new(end) }
    }

    /// Nobody ends it.
    pub fn none() -> Watch<'static> {
        Watch::new(|| false)
    }

    /// Requests simulated under this watch, at all loads together, warm-up included.
    pub fn simulated(&self) -> u64 {
        self.simulated.load(Relaxed)
    }

    /// How many there will be as far as is known; it may change.
    pub fn planned(&self) -> u64 {
        self.planned.load(Relaxed)
    }

    /// There will be `more` requests.
    pub(crate) fn plan(&self, more: u64) {
        self.planned.store(self.simulated().saturating_add(more), Relaxed);
    }

    /// So many more have been simulated; whether to go on.
    pub(crate) fn go_on(&self, more: u64) -> bool {
        self.simulated.fetch_add(more, Relaxed);
        !(self.end)()
    }
}

/// The answers of `run` for each of `numbers`, in their order, on so many threads. Those that have none (the watch ended them) are left out.
pub(crate) fn replicate<T: Send>(
    threads: usize,
    numbers: std::ops::Range<u32>,
    run: impl Fn(u32) -> Option<T> + Sync,
) -> Vec<T> {
    let next = AtomicU32::new(numbers.start);
    let answers = Mutex::new(Vec::new());
    let work = || {
        loop {
            let nth = next.fetch_add(1, Relaxed);
            if nth >= numbers.end {
                return;
            }
            let Some(answer) = run(nth) else { return };
            // A thread that panics does so outside of the lock.
            answers.lock().unwrap_or_else(|e| e.into_inner()).push((nth, answer));
        }
    };
    std::thread::scope(|scope| {
        // This thread is one of them; a machine that refuses the others leaves it all the work.
        for _ in 1..threads.clamp(1, numbers.len().max(1)) {
            if std::thread::Builder::new().name("replication".into()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let mut answers = answers.into_inner().unwrap_or_else(|e| e.into_inner());
    answers.sort_unstable_by_key(|(nth, _)| *nth);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_whatever_the_threads() {
        for threads in [0, 1, 3, 100] {
            assert_eq!(replicate(threads, 5..25, |n| Some(n * n)), (5..25).map(|n| n * n).collect::<Vec<_>>());
        }
        assert_eq!(replicate(4, 3..3, Some), []);
    }

    #[test]
    fn what_was_ended_is_left_out() {
        let watch = Watch::new(|| true);
        assert_eq!(replicate(1, 0..8, |n| watch.go_on(1).then_some(n)), []);
        assert_eq!(watch.simulated(), 1);
    }
}
