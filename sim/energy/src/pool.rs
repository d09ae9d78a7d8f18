//! Cores that steal: whoever is free takes what waits, wherever. One queue for all threads, in steps of 50 us.

use crate::cores::{Cost, RING, Tick, poisson};
use crate::latency::Latencies;

const STEP_NS: f64 = 50e3;
/// What a stolen request costs more, in nanoseconds, and the share that is stolen at most, when half of the threads are idle (`world` has 200 ns; the thesis a third).
pub(crate) const STEAL_NS: f64 = 200.0;
const STOLEN: f64 = 0.33;

/// All threads together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    clock: f64,
    /// Requests that wait or are served.
    queued: f64,
    pub(crate) tick: Tick,
}

/// The share of requests that is stolen when threads are busy for a share of their time.
pub(crate) fn stolen(busy: f64) -> f64 {
    let busy = busy.clamp(0.0, 1.0);
    STOLEN * 4.0 * busy * (1.0 - busy)
}

/// How busy threads are, and how many there are, for [`CHANCE`].
const BUSY: [f64; 7] = [0.5, 0.65, 0.75, 0.82, 0.88, 0.92, 0.95];
const THREADS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
/// The 99th percentile without a backlog, in request times: from `world` with lending, steady load, 2752 connections on 16 threads (up to 512 on each of fewer), 100 000 requests, two seeds, requests
/// of 2.3 to 3.8 us.
const CHANCE: [[f64; 7]; 5] = [
    [5.42, 8.4, 12.3, 17.1, 26.2, 38.7, 57.9],
    [5.0, 7.4, 10.4, 14.2, 20.3, 26.6, 35.8],
    [3.9, 5.36, 7.56, 10.6, 14.0, 17.7, 22.8],
    [3.77, 4.34, 5.68, 7.8, 11.2, 14.2, 17.6],
    [3.78, 4.13, 4.56, 5.85, 8.25, 12.1, 16.2],
];
/// The same where application code takes long enough for others to lend: 16 threads, requests of 3.9 to 5.8 us.
const LENT: [f64; 7] = [1.75, 2.03, 2.4, 2.85, 3.6, 4.9, 7.3];
/// From here on it does, in nanoseconds of a request, of which 66 % are the application's.
const LENDS_NS: f64 = 3.8e3;

/// The 99th percentile without a backlog, in nanoseconds, when `n` threads are busy for a share of their time with requests of this length. Between the figures of the tables
/// their logarithms are evenly spaced; below half, a request that finds all threads busy is rare, and the first figure shrinks with the load.
fn chance(busy: f64, n: f64, each: f64) -> f64 {
    let at = |row: &[f64; 7]| {
        let (i, part) = between(&BUSY, busy);
        (row[i].ln() * (1.0 - part) + row[i + 1].ln() * part).exp()
    };
    let times = if each >= LENDS_NS && n >= 12.0 {
        at(&LENT)
    } else {
        let (i, part) = between(&THREADS.map(f64::ln), n.max(1.0).ln());
        (at(&CHANCE[i]).ln() * (1.0 - part) + at(&CHANCE[i + 1]).ln() * part).exp()
    };
    let idle = (busy / BUSY[0]).min(1.0);
    each * (1.0 + (times - 1.0) * idle)
}

/// The figure of an ascending list that comes before a value, and how far it is to the next; the last two go on.
fn between(list: &[f64], value: f64) -> (usize, f64) {
    let i = list.iter().rposition(|v| *v <= value).unwrap_or(0).min(list.len() - 2);
    (i, ((value - list[i]) / (list[i + 1] - list[i])).clamp(0.0, 1.5))
}

impl Pool {
    pub(crate) fn queued(&self) -> f64 {
        self.queued
    }

    /// Lets `threads` work until `end`, while requests come at `rate` per nanosecond.
    pub(crate) fn work(
        &mut self,
        end: f64,
        rate: f64,
        cost: Cost,
        threads: usize,
        dice: &mut draw::Rng,
        out: &mut Latencies,
    ) {
        self.tick = Tick::default();
        let n = threads as f64;
        let busy = (rate * cost.all() / n).min(1.0);
        let each = cost.all() + STEAL_NS * stolen(busy);
        while self.clock < end {
            let new = poisson(rate * STEP_NS, dice);
            let room = (RING * n - self.queued).max(0.0);
            let taken = new.min(room);
            self.tick.full |= taken < new;
            self.tick.dropped += new - taken;
            let able = n * STEP_NS / each;
            let before = self.queued;
            let served = (before + taken).min(able);
            self.queued = before + taken - served;
            // Who comes meanwhile waits for what is there, or for the chance that nobody is free, whichever is longer.
            let wait = |queued: f64| queued * each / n;
            // The last of four points of a spread is at 7/8: that one is to have the 99th percentile.
            let unlucky = each + (chance(busy, n, cost.all()) - each).max(0.0) * 8.0 / 7.0;
            out.spread(each + wait(before), unlucky.max(each + wait(self.queued)), taken);
            self.tick.busy_ns += served * each;
            self.tick.served += served;
            self.tick.turns += served.min(n * STEP_NS / each);
            self.clock += STEP_NS;
        }
    }

    /// All threads are kept from their work: what comes meanwhile waits.
    pub(crate) fn stall(&mut self, requests: f64) {
        self.queued += requests;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_pool_is_busy_for_its_load_and_queues_beyond() {
        let cost = Cost { before_ns: 8000.0, tx_ns: 2000.0 };
        let run = |load: f64| {
            let (mut pool, mut out) = (Pool::default(), Latencies::default());
            let mut dice = draw::Rng::seed_from_u64(1);
            pool.work(1e9, load * 16.0 / 10e3, cost, 16, &mut dice, &mut out);
            (pool, out)
        };
        let (pool, out) = run(0.5);
        assert!((pool.tick.busy_ns / 16e9 - 0.5).abs() < 0.02 && out.quantile(0.99) < 40e3);
        assert!(out.quantile(0.99) > 10e3);
        let (pool, out) = run(1.2);
        assert!(pool.tick.full && pool.queued() > 8000.0 && out.quantile(0.9) > 4e6);
    }

    #[test]
    fn latency_grows_with_load_and_shrinks_with_threads() {
        for n in [1.0, 2.0, 3.0, 6.0, 8.0, 14.0, 16.0] {
            let all: Vec<f64> = (1..=100).map(|percent| chance(f64::from(percent) / 100.0, n, 3e3)).collect();
            assert!(all.is_sorted() && all[0] >= 3e3, "{n}: {all:?}");
            assert!(chance(0.8, n, 3e3) <= chance(0.8, n / 2.0, 3e3) + 1e-6, "{n}");
        }
        assert!(chance(0.8, 16.0, 4e3) < chance(0.8, 16.0, 3.7e3), "lending helps");
    }
}
