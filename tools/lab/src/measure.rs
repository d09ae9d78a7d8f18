//! One window of load on one server: what the client saw, what it cost the server, and how noisy it was.
//!
//! The clocks of the server are read at the window's two ends, while the load runs; the counts of the scheduler at the
//! end of each slice. Requests are counted by the same readings as the time, so that it does not matter if these come a
//! little late.

use std::collections::BTreeSet;
use std::thread;

use anyhow::Result;
use load::{Load, LoadError, Outcome, Window};
use sys::clock::{self, ThreadClock};
use units::Nanos;

use crate::Interrupted;
use crate::account::{Accounting, Cost, Reading, Softirqs};
use crate::noise::{self, Noise, Runner, Watch};
use crate::server::Server;

/// The slices by which noise is looked for, where the window is long enough for that.
const SLICE: Nanos = Nanos::from_millis(25);

/// A window is cut into at least so many slices, so that discarding one does not discard much of it.
const SLICES: u64 = 10;

/// The load generator keeps at most so many slices apart.
const SLICES_MAX: u64 = 300;

/// A window of load, measured.
#[derive(Clone, Debug)]
pub struct Point {
    /// What the client saw; noisy slices are left out unless that leaves too little ([`Point::void`]).
    pub outcome: Outcome,
    /// What it cost the server, noisy slices included: CPU time is not what a busy machine falsifies.
    pub cost: Cost,
    /// How noisy it was.
    pub noise: Noise,
}

impl Point {
    /// Too many of the slices were noisy ([`noise::VOID_SHARE`]): nothing was left out, and the latencies say nothing.
    pub fn void(&self) -> bool {
        self.noise.share() > noise::VOID_SHARE
    }

    /// The share of the window during which the server's threads did something else than poll in vain.
    pub fn server_busy(&self) -> f64 {
        self.cost.threads.as_secs_f64() / self.cost.wall.as_secs_f64().max(1e-9)
    }

    /// CPU time of the client per request in microseconds, its waiting included if it spins.
    pub fn client_us(&self) -> f64 {
        self.outcome.cpu.0 as f64 / 1e3 / self.outcome.sent.max(1) as f64
    }
}

/// The length of the slices of such a window: 25 ms, less in a short one, more in one of more than 7 s.
pub fn slice_of(window: Nanos) -> Nanos {
    SLICE.min(Nanos(window.0 / SLICES)).max(Nanos(window.0.div_ceil(SLICES_MAX))).max(Nanos(1))
}

/// Runs `window` on a server and reads both sides' clocks. `window` should keep slices of [`slice_of`] its length.
///
/// # Errors
/// [`Interrupted`]; the load's and the server's.
pub fn point(load: &mut Load, server: &mut Server, accounting: &Accounting, window: &Window) -> Result<Point> {
    let mut watch = watch(load, server, accounting, window.slice);
    let slices = window.window.0 / window.slice.0.max(1);
    let (outcome, cost) = costed(load, server, accounting, window, |opens| {
        watch.read();
        for i in 1..=slices {
            until(opens + Nanos(window.slice.0 * i));
            watch.read();
        }
    })?;
    let noisy = watch.noisy();
    let waited = watch.waits().iter().map(|w| w.0).sum();
    let noise = Noise { slices, discarded: noisy.len() as u64, waited: Nanos(waited) };
    let keep_all = noisy.is_empty() || noise.share() > noise::VOID_SHARE;
    let outcome = if keep_all { outcome } else { outcome.without(&noisy) };
    Ok(Point { outcome, cost, noise })
}

/// Follows the threads of both sides, and their cores where each side has one of its own.
fn watch(load: &Load, server: &Server, accounting: &Accounting, slice: Nanos) -> Watch {
    let watch = Watch::new(threads(load, server), slice);
    let cores: BTreeSet<usize> =
        noise::threads_of(server.pid()).into_iter().filter_map(|tid| noise::pinned(server.pid(), tid)).collect();
    let alone = cores.len() == 1 && cores.contains(&accounting.server_core) && !accounting.shared();
    if !alone {
        return watch;
    }
    let clients = load.tids().into_iter().map(|tid| Runner::Thread(ThreadClock::of(tid))).collect();
    watch.core(accounting.load_core, clients).core(accounting.server_core, vec![Runner::Process(server.clock())])
}

/// Threads of both sides: process and thread ids.
fn threads(load: &Load, server: &Server) -> Vec<(u32, u32)> {
    let (ours, theirs) = (std::process::id(), server.pid());
    let client = load.tids().into_iter().map(|tid| (ours, tid));
    client.chain(noise::threads_of(theirs).into_iter().map(|tid| (theirs, tid))).collect()
}

/// Runs `window` on a server and reads its clocks at both ends of the window. `meanwhile` is called when it opens, with that
/// instant, and should return when it closes.
///
/// # Errors
/// [`Interrupted`]; the load's and the server's.
pub fn costed(
    load: &mut Load,
    server: &mut Server,
    accounting: &Accounting,
    window: &Window,
    meanwhile: impl FnOnce(Nanos),
) -> Result<(Outcome, Cost)> {
    let live = load.live();
    let mut reading = || -> Result<Reading> {
        let usage = server.usage()?;
        Ok(Reading { at: clock::now(), requests: live.answered.get(), usage, softirqs: Softirqs::read()? })
    };
    let running = load.start(window);
    let (opens, closes) = (running.opens(), running.closes());
    until(opens);
    let from = reading();
    meanwhile(opens);
    until(closes);
    let to = reading();
    let outcome = running.join();
    if sys::stop::requested() {
        return Err(Interrupted.into());
    }
    // A server that has died is the cause of whatever the client complains about.
    let (from, to) = (from?, to?);
    let outcome = outcome.map_err(refusal)?;
    if outcome.interrupted {
        return Err(Interrupted.into());
    }
    Ok((outcome, accounting.cost(&from, &to)))
}

/// The load's complaint; a wish to stop is no complaint.
pub fn refusal(e: LoadError) -> anyhow::Error {
    match e {
        LoadError::Stopped => Interrupted.into(),
        e => e.into(),
    }
}

/// Sleeps; wakes up early when the end is asked for.
pub(crate) fn until(at: Nanos) {
    while clock::now() < at && !sys::stop::requested() {
        thread::sleep((at - clock::now()).min(Nanos::from_millis(50)).duration());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_fit_their_window() {
        for (window_ms, slice_ms) in [(100, 10), (199, 19), (250, 25), (7_000, 25), (60_000, 200)] {
            let slice = slice_of(Nanos::from_millis(window_ms));
            assert_eq!(slice.millis(), slice_ms, "{window_ms}");
            assert!(Nanos::from_millis(window_ms).0.div_ceil(slice.0) <= SLICES_MAX);
        }
        assert_eq!(slice_of(Nanos::ZERO), Nanos(1));
    }
}
