//! What is noted of the application on each core: how long it ran, and when the core was away by itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use dataplane::{App, BatchView};
use netstack::Batch;
use sys::clock;
use units::Nanos;

/// A stretch of time in which a core was away: the hypervisor had it, or another thread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Gap {
    /// The core was there at these instants, and not all the time between.
    pub(super) from: Nanos,
    pub(super) to: Nanos,
    /// How long it was away.
    pub(super) lost: Nanos,
}

/// The gaps of all cores.
#[derive(Clone, Default)]
pub(super) struct Gaps(Arc<Mutex<Vec<Gap>>>);

impl Gaps {
    /// Those so far.
    pub(super) fn take(&self) -> Vec<Gap> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, gap: Gap) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }
}

/// Clocks are compared this often: 0.2 us.
const EVERY: Nanos = Nanos::from_micros(250);

impl Gaps {
    /// For one core: compares its clocks now and then.
    pub(super) fn watch(&self, least: Nanos) -> Watch {
        Watch { gaps: self.clone(), least, wall: Nanos::MAX, cpu: Nanos::ZERO }
    }
}

/// One core's clocks.
pub(super) struct Watch {
    gaps: Gaps,
    /// Shorter gaps are not noted.
    least: Nanos,
    /// When they were last compared: the time, and this thread's share of it.
    wall: Nanos,
    cpu: Nanos,
}

impl Watch {
    fn look(&mut self) {
        let now = clock::now();
        if self.wall != Nanos::MAX && now < self.wall + EVERY {
            return;
        }
        let cpu = clock::thread_cpu();
        let lost = (now - self.wall) - (cpu - self.cpu);
        if self.wall != Nanos::MAX && lost >= self.least {
            self.gaps.note(Gap { from: self.wall, to: now, lost });
        }
        (self.wall, self.cpu) = (now, cpu);
    }
}

/// An application that is watched. Either costs a reading of the clock or two per batch.
pub(super) struct Watched<A> {
    pub(super) app: A,
    /// Looks for gaps at the end of batches.
    pub(super) watch: Option<Watch>,
    /// Where its time is added up.
    pub(super) spent: Option<Arc<AtomicU64>>,
}

impl<A: App> App for Watched<A> {
    fn start(&mut self, batch: &mut BatchView<'_>) {
        self.app.start(batch);
    }

    fn run(&mut self, batch: &mut BatchView<'_>) {
        let before = self.spent.is_some().then(clock::now);
        self.app.run(batch);
        if let (Some(spent), Some(before)) = (&self.spent, before) {
            spent.fetch_add((clock::now() - before).0, Relaxed);
        }
        if let Some(watch) = &mut self.watch {
            watch.look();
        }
    }

    fn returned(&mut self, batch: &Batch) {
        self.app.returned(batch);
    }

    fn wake_at(&self) -> Nanos {
        self.app.wake_at()
    }
}
