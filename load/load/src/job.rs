use draw::Arrivals;
use requests::Workload;
use units::Nanos;

use crate::outcome::{Errors, Outcome, histogram};
use crate::slices::Slices;
use crate::{Histogram, Pace, Window};

/// What a thread is told to do.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Store the records `[from, to)`.
    Preload { from: u32, to: u32 },
    /// Load the server from the instant `start` on.
    Run { window: Window, start: Nanos },
    /// Ask this from now on.
    Ask(Workload),
    /// End all connections, and the thread.
    End,
}

/// A preload that makes no progress for so long has failed.
const STALLED: Nanos = Nanos::from_secs(10);

/// Requests outstanding per connection while records are stored.
const PRELOAD_DEPTH: usize = 32;

/// Where requests come from.
#[derive(Debug)]
pub(crate) enum Supply {
    /// At random, for ever.
    Mix,
    /// A SET of each record, once.
    Records { next: u32, end: u32 },
}

/// One order while it is being carried out.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) supply: Supply,
    pub(crate) depth: usize,
    /// Open loop: when requests are due.
    pub(crate) arrivals: Option<Arrivals>,
    /// Its mean rate, per second.
    rate: f64,
    /// Closed loop: connections from here on have not been given their first requests.
    pub(crate) fresh: usize,
    pub(crate) start: Nanos,
    pub(crate) opens: Nanos,
    pub(crate) closes: Nanos,
    /// When what has no answer will never have one.
    pub(crate) give_up: Nanos,
    pub(crate) slices: Slices,
    pub(crate) lateness: Histogram<u64>,
    /// Requests that found no place on their connection.
    pub(crate) held: u64,
    pub(crate) errors: Errors,
    pub(crate) sent: u64,
    /// Right replies, within the window or not.
    pub(crate) answered: u64,
    pub(crate) opened: u64,
    pub(crate) interrupted: bool,
    pub(crate) cpu_before: Nanos,
    keep: bool,
}

impl Job {
    /// A window of load.
    pub(crate) fn run(
        window: &Window,
        start: Nanos,
        depth: usize,
        probe: bool,
        arrivals: Option<(Arrivals, f64)>,
    ) -> Job {
        let opens = start + window.warmup;
        let closes = opens + window.window;
        Job {
            supply: Supply::Mix,
            depth,
            rate: arrivals.as_ref().map_or(0.0, |(_, rate)| *rate),
            arrivals: arrivals.map(|(a, _)| a),
            fresh: 0,
            start,
            opens,
            closes,
            give_up: closes + window.patience,
            slices: Slices::new(opens, window.window, window.slice, probe),
            lateness: histogram(),
            held: 0,
            errors: Errors::default(),
            sent: 0,
            answered: 0,
            opened: 0,
            interrupted: false,
            cpu_before: sys::clock::thread_cpu(),
            keep: window.keep,
        }
    }

    /// Records to store, from `now` on.
    pub(crate) fn preload(from: u32, to: u32, now: Nanos) -> Job {
        let window = Window { warmup: Nanos::ZERO, patience: Nanos::ZERO, ..Window::new(Pace::Closed, STALLED) };
        let job = Job::run(&window, now, PRELOAD_DEPTH, false, None);
        Job { supply: Supply::Records { next: from, end: to }, ..job }
    }

    /// Whether it stores records.
    pub(crate) fn is_preload(&self) -> bool {
        matches!(self.supply, Supply::Records { .. })
    }

    /// Whether requests are still to be made at `now`.
    pub(crate) fn supplies(&self, now: Nanos) -> bool {
        match self.supply {
            Supply::Mix => now < self.closes,
            Supply::Records { next, end } => next < end,
        }
    }

    /// A preload has made progress.
    pub(crate) fn progress(&mut self, now: Nanos) {
        self.closes = now + STALLED;
        self.give_up = self.closes;
    }

    /// Ends the window now.
    pub(crate) fn cut(&mut self, now: Nanos) {
        self.interrupted = true;
        self.closes = self.closes.min(now);
        self.give_up = now;
    }

    /// The next open-loop request is due then.
    pub(crate) fn next_arrival(&self) -> Nanos {
        self.arrivals.as_ref().map_or(Nanos::MAX, |a| a.peek())
    }

    /// Counts what a client that could not keep up never made: it was meant all the same.
    pub(crate) fn owe(&mut self) {
        if let Some(arrivals) = &mut self.arrivals {
            self.errors.unanswered += self.slices.owe_rest(arrivals, self.closes, self.rate);
        }
    }

    /// What it came to.
    pub(crate) fn finish(self) -> Outcome {
        let window = self.closes - self.opens;
        let mut outcome = Outcome::new(window, self.arrivals.is_some());
        outcome.sent = self.sent;
        outcome.errors = self.errors;
        outcome.opened = self.opened;
        outcome.interrupted = self.interrupted;
        outcome.lateness = self.lateness;
        outcome.held = self.held;
        outcome.cpu = sys::clock::thread_cpu() - self.cpu_before;
        self.slices.finish(window, self.keep, &mut outcome);
        outcome
    }
}
