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
/// The 99th percentile without a backlog, in request times: from `world` with lending, so many of 16 cores awake, 2752 connections, a million requests of 2.4 to 3.6 us.
const CHANCE: [[f64; 7]; 5] = [
    [5.4, 8.5, 12.3, 17.0, 26.3, 39.0, 58.5],
    [4.7, 7.2, 10.6, 14.3, 20.5, 28.0, 41.0],
    [4.1, 5.6, 7.9, 11.3, 15.8, 20.0, 29.0],
    [3.76, 4.25, 5.56, 7.65, 11.2, 15.0, 18.4],
    [3.77, 4.12, 4.57, 5.75, 8.15, 11.5, 15.0],
];
/// The same where application code takes long enough for others to lend: 8 and 16 threads, requests of 3.8 to 5 us.
const LENT: [[f64; 7]; 2] = [[1.95, 2.45, 3.07, 3.92, 5.71, 8.55, 14.0], [1.75, 2.01, 2.4, 2.9, 3.7, 5.15, 8.2]];
/// From here on it does, in nanoseconds of a request, of which 66 % are the application's; 2.5 us.
const LENDS_NS: f64 = 3.78e3;

/// The 99th percentile without a backlog, in nanoseconds, when `n` threads are busy for a share of their time with requests of this length. Between the figures of the tables
/// their logarithms are evenly spaced; below half, a request that finds all threads busy is rare, and the first figure shrinks with the load.
fn chance(busy: f64, n: f64, each: f64) -> f64 {
    let at = |row: &[f64; 7]| {
        let (i, part) = between(&BUSY, busy);
        (row[i].ln() * (1.0 - part) + row[i + 1].ln() * part).exp()
    };
    let (rows, threads) =
        if each >= LENDS_NS && n >= 8.0 { (&LENT[..], &THREADS[3..]) } else { (&CHANCE[..], &THREADS[..]) };
    let (i, part) = between(&threads.iter().map(|n| n.ln()).collect::<Vec<_>>(), n.max(1.0).ln());
    let times = (at(&rows[i]).ln() * (1.0 - part) + at(&rows[i + 1]).ln() * part).exp();
    let idle = (busy / BUSY[0]).min(1.0);
    each * (1.0 + (times - 1.0) * idle)
}

/// How waits are distributed whose 99th percentile is 1: exponentially. Shares of the requests, and what they wait, in steps that are finer than a class of latencies is.
fn tail() -> [(f64, f64); 40] {
    const FINER: f64 = 0.85;
    let mut above = 1.0;
    std::array::from_fn(|i| {
        let share = if i == 39 { above } else { above * (1.0 - FINER) };
        let middle = above - share / 2.0;
        above -= share;
        (share, -middle.ln() / 100.0_f64.ln())
    })
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
        let (tail, unlucky) = (tail(), (chance(busy, n, cost.all()) - each).max(0.0));
        while self.clock < end {
            let new = poisson(rate * STEP_NS, dice);
            self.tick.full |= self.queued + new >= RING * n;
            let able = n * STEP_NS / each;
            let before = self.queued;
            let served = (before + new).min(able);
            self.queued = before + new - served;
            // Who comes meanwhile waits for what is there; else only if nobody happens to be free.
            let wait = |queued: f64| queued * each / n;
            if wait(before.max(self.queued)) > unlucky {
                out.spread(each + wait(before), each + wait(self.queued), new);
            } else {
                tail.iter().for_each(|(share, times)| out.add(each + unlucky * times, new * share));
            }
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
