//! What turns cost: with 1 to 32 requests, and with none.

use std::hint::black_box;

use anyhow::Result;
use dataplane::{Assist, Sched, Step};
use sys::clock::{self, Clock};
use units::Nanos;

use super::Meter;
use super::rig::{Core, GAP, Rig};
use crate::stats::median;

/// Requests of a turn.
const SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Turns of each size from which a line is made.
const TURNS: usize = 60;
/// The first so many turns of a block find cold caches, and do not count.
const COLD: usize = 30;
/// Empty turns that are timed as one.
const EMPTY: usize = 256;
/// A part of a turn that takes longer was interrupted.
const TOO_LONG: Nanos = Nanos::from_micros(200);

/// What was measured, by block, in nanoseconds.
#[derive(Default)]
pub(super) struct Turns {
    pub(super) rx: Vec<f64>,
    pub(super) tx: Vec<f64>,
    pub(super) turn: Vec<f64>,
    pub(super) call: Vec<f64>,
}

/// The parts of a turn, in nanoseconds.
type Parts = [f64; 3];

/// Measures turns until the meter says that it is enough.
///
/// # Errors
/// Memory is not to be had; [`Interrupted`](crate::Interrupted).
pub(super) fn measure(meter: &Meter) -> Result<Turns> {
    let mut rig = Rig::new(1, Sched::Ix)?;
    let mut all = Turns::default();
    while meter.goes_on(all.rx.len()) {
        let (mut parts, mut turns) = (SIZES.map(|_| Vec::<Parts>::with_capacity(TURNS)), 0);
        let total: usize = SIZES.iter().sum::<usize>() * (TURNS + COLD);
        rig.rounds(total as u64, |cores, clock| {
            let at = turns % SIZES.len();
            // Up and down, so that no size always follows the same one.
            let at = if (turns / SIZES.len()).is_multiple_of(2) { at } else { SIZES.len() - 1 - at };
            let timed = timed(&mut cores[0], clock, SIZES[at]);
            if let Some(timed) = timed {
                turns += 1;
                if turns > COLD {
                    parts[at].push(timed);
                }
            }
            parts.iter().any(|of| of.len() < TURNS)
        })?;
        let line = |part: usize| {
            let points = SIZES.iter().zip(&parts).map(|(n, of)| (*n as f64, median(of.iter().map(|p| p[part]))));
            line(&points.collect::<Vec<_>>())
        };
        let [begin, run, resume] = [line(0), line(1), line(2)];
        all.rx.push(begin.1);
        all.tx.push(resume.1 + run.1);
        all.turn.push(begin.0 + resume.0);
        all.call.push(run.0);
    }
    Ok(all)
}

/// A turn with so many requests; `None` if it had others, or something came in between.
fn timed(core: &mut Core, clock: &Clock, requests: usize) -> Option<Parts> {
    clock.spend(Nanos(requests as u64 * GAP.0));
    let now = clock.now();
    let (_, ready) = core.exchange(requests)?;
    let Core { thread, app } = core;
    let wake_at = zygix_wake(app);
    let t0 = clock::now();
    let step = thread.begin(now, wake_at);
    let t1 = clock::now();
    let Step::Run(mut call) = step else { return None };
    thread.run(&mut call, now, app);
    let t2 = clock::now();
    let called = call.len();
    thread.resume(call, now, app);
    let t3 = clock::now();
    let parts = [t1 - t0, t2 - t1, t3 - t2];
    let whole = ready == requests && called == requests && core.sent() == requests;
    (whole && parts.iter().all(|part| *part < TOO_LONG)).then_some(parts.map(|part| part.0 as f64))
}

/// What the runner asks an application in each turn.
fn zygix_wake(app: &impl dataplane::App) -> Nanos {
    app.wake_at()
}

/// The line through such points: intercept and slope, each the median of what the points say two by two (Theil and Sen), which one bad point
/// does not bend.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let pairs = points.iter().enumerate().flat_map(|(i, a)| points[i + 1..].iter().map(move |b| (a, b)));
    let slope = median(pairs.map(|(a, b)| (b.1 - a.1) / (b.0 - a.0)));
    (median(points.iter().map(|(x, y)| y - slope * x)), slope)
}

/// Empty turns in ZygOS mode on two cores, in nanoseconds each, until the meter says that it is enough.
///
/// # Errors
/// As [`measure`].
pub(super) fn empty(meter: &Meter) -> Result<Vec<f64>> {
    let rig = &mut Rig::new(2, Sched::Zygos(Assist::Lend))?;
    let now = rig.clock.now();
    // The other one has just polled.
    rig.cores[1].turn(now);
    let Core { thread, app } = &mut rig.cores[0];
    let mut all = Vec::new();
    while meter.goes_on(all.len()) {
        let pieces = (0..32).map(|_| {
            let before = clock::now();
            for _ in 0..EMPTY {
                // A thread's loop reads the clock for each turn.
                black_box(clock::now());
                black_box(thread.begin(now, zygix_wake(app)));
            }
            (clock::now() - before).0 as f64 / EMPTY as f64
        });
        all.push(median(pieces));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_points_and_a_bad_one_does_not_bend_it() {
        let points = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].map(|x| (x, 300.0 + 120.0 * x));
        assert_eq!(line(&points), (300.0, 120.0));
        let mut bad = points;
        bad[3].1 += 5000.0;
        assert_eq!(line(&bad), (300.0, 120.0));
    }
}
