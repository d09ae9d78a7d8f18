//! Cores that steal: whoever is free takes what waits, wherever. One queue for all threads, in steps of 50 us.

use std::collections::VecDeque;

use crate::cores::{Cost, RING, Tick, Wave, poisson};
use crate::latency::Latencies;

const STEP_NS: f64 = 50e3;
/// What a stolen request costs more, in nanoseconds, and the share that is stolen at most, when half of the threads are idle (`world` has 200 ns; the thesis a third).
pub(crate) const STEAL_NS: f64 = 200.0;
const STOLEN: f64 = 0.33;

/// All threads together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    clock: f64,
    /// Requests that wait or are served, and when they came.
    queued: f64,
    waiting: VecDeque<Wave>,
    pub(crate) tick: Tick,
}

/// The share of requests that is stolen when threads are busy for a share of their time.
pub(crate) fn stolen(busy: f64) -> f64 {
    let busy = busy.clamp(0.0, 1.0);
    STOLEN * 4.0 * busy * (1.0 - busy)
}

/// How busy threads are, how many there are, and what a request takes in nanoseconds, for [`CHANCE`].
const BUSY: [f64; 9] = [0.5, 0.65, 0.75, 0.82, 0.88, 0.92, 0.95, 0.97, 0.99];
const THREADS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
const EACH: [f64; 2] = [2500.0, 3500.0];
/// The 99th percentile without a backlog, in request times: from `world` with lending, so many of 16 cores awake, 2752 connections, 1.5 million requests under steady load. For one
/// thread, and for two at 99 %, the last figures go on from those before; 16 threads at 2.5 us from those at 2.9 and 3.5.
const CHANCE: [[[f64; 9]; 5]; 2] = [
    [
        [5.4, 8.5, 12.3, 17.0, 26.3, 39.0, 58.5, 106.0, 207.0],
        [5.0, 7.55, 11.0, 15.1, 22.0, 30.5, 44.0, 68.0, 160.0],
        [4.76, 6.1, 8.34, 11.7, 16.7, 21.3, 30.6, 44.5, 100.0],
        [3.77, 4.27, 5.65, 7.77, 11.9, 16.5, 20.4, 28.0, 54.5],
        [3.78, 4.12, 4.57, 5.82, 8.4, 12.5, 17.6, 21.2, 36.0],
    ],
    [
        [5.4, 8.5, 12.3, 17.0, 26.3, 39.0, 58.5, 106.0, 207.0],
        [5.0, 7.55, 11.0, 15.1, 22.0, 30.5, 44.0, 68.0, 160.0],
        [3.92, 5.44, 7.86, 11.0, 14.8, 19.0, 26.4, 37.5, 99.0],
        [3.76, 4.25, 5.62, 7.65, 10.8, 13.7, 17.2, 26.3, 64.0],
        [3.77, 4.12, 4.56, 5.69, 7.9, 10.9, 13.7, 15.8, 28.0],
    ],
];
/// The same where application code takes long enough for others to lend: 8 and 16 threads, requests of 3.9 to 5.6 us.
const LENT: [[f64; 9]; 2] =
    [[1.99, 2.45, 3.07, 3.94, 5.7, 8.53, 13.9, 22.4, 64.0], [1.75, 2.02, 2.39, 2.85, 3.7, 5.15, 7.95, 13.2, 35.7]];
/// From here on it does, in nanoseconds of a request, of which 66 % are the application's; 2.5 us.
const LENDS_NS: f64 = 3.78e3;

fn lends(n: f64, each: f64) -> bool {
    each >= LENDS_NS && n >= 8.0
}

/// The 99th percentile without a backlog, in nanoseconds, when `n` threads are busy for a share of their time with requests of this length. Between the figures of the tables
/// their logarithms are evenly spaced; below half, a request that finds all threads busy is rare, and the first figure shrinks with the load.
fn chance(busy: f64, n: f64, each: f64) -> f64 {
    let (i, part) = between(&BUSY, busy.min(BUSY[8]));
    let at = |row: &[f64; 9]| row[i].ln() * (1.0 - part) + row[i + 1].ln() * part;
    let (j, more) = between(&THREADS.map(f64::ln), n.max(1.0).ln());
    let of = |rows: &[[f64; 9]; 5]| at(&rows[j]) * (1.0 - more) + at(&rows[j + 1]) * more;
    let times = if lends(n, each) {
        let more = (n / 8.0).log2().min(1.0);
        at(&LENT[0]) * (1.0 - more) + at(&LENT[1]) * more
    } else {
        let long = ((each - EACH[0]) / (EACH[1] - EACH[0])).clamp(0.0, 1.0);
        of(&CHANCE[0]) * (1.0 - long) + of(&CHANCE[1]) * long
    };
    let idle = (busy / BUSY[0]).min(1.0);
    each * (1.0 + (times.exp() - 1.0) * idle)
}

/// How waits are distributed whose 99th percentile is 1: exponentially to a power. Shares of the requests, and what they wait, in steps that are finer than a class of latencies is.
fn tail(power: f64) -> [(f64, f64); 80] {
    const FINER: f64 = 0.92;
    let mut above = 1.0;
    std::array::from_fn(|i| {
        let share = if i == 79 { above } else { above * (1.0 - FINER) };
        let middle = above - share / 2.0;
        above -= share;
        (share, (-middle.ln() / 100.0_f64.ln()).powf(power))
    })
}

/// The power for [`tail`]: with lending few requests wait, and some of them long.
fn power(busy: f64, n: f64, each: f64) -> f64 {
    if lends(n, each) { 1.2 + 4.0 * (busy - 0.88).clamp(0.0, 0.07) } else { 1.0 }
}

/// What changes when requests wait: fitted to `world` under 50 and 100 ms of 1.05 to 1.25 times what threads can do.
struct Behind {
    /// Frames sent for each: replies to those of a connection that wait together leave together, and what waits for longer than a millisecond is acknowledged by itself.
    frames: f64,
    /// How much longer threads take that get into each other's way.
    slower: f64,
    /// Connections take turns, each with all that it has: how much longer than in one queue some wait.
    uneven: f64,
}

impl Behind {
    /// When they wait for so long, and come at `rate` on each connection.
    fn new(wait: f64, rate: f64, threads: f64) -> Behind {
        // Nanoseconds; requests of a connection per nanosecond, beyond which chance makes connections less unlike.
        const DELAYED_ACK: f64 = 1e6;
        const ALIKE: f64 = 550e-9;
        let together = wait * rate;
        let (in_the_way, unlike) = if threads > 1.0 { (0.025, 0.4) } else { (0.01, 0.2) };
        let acks = (1.0 - DELAYED_ACK / wait.max(DELAYED_ACK)) / (1.0 + rate * DELAYED_ACK);
        Behind {
            frames: 1.0 / (1.0 + 0.5 * together.powf(0.7)) + acks,
            slower: 1.0 + in_the_way * (wait / 300e3).min(1.0),
            uneven: 1.0 + unlike * (together / 2.0).min(1.0) * (ALIKE / rate.max(ALIKE)),
        }
    }
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

    /// Lets `threads` work until `end`, while requests come at `rate` per nanosecond over so many connections.
    pub(crate) fn work(
        &mut self,
        end: f64,
        (rate, connections): (f64, f64),
        cost: Cost,
        threads: usize,
        dice: &mut draw::Rng,
        out: &mut Latencies,
    ) {
        self.tick = Tick::default();
        let n = threads as f64;
        let busy = (rate * cost.all() / n).min(1.0);
        let each = cost.all() + STEAL_NS * stolen(busy);
        let (tail, unlucky) = (tail(power(busy, n, cost.all())), (chance(busy, n, cost.all()) - each).max(0.0));
        while self.clock < end {
            let new = poisson(rate * STEP_NS, dice);
            self.tick.full |= self.queued + new >= RING * n;
            let before = self.queued;
            let behind = Behind::new(before * each / n, rate / connections, n);
            let each = (each + cost.tx_ns * (behind.frames - 1.0)) * behind.slower;
            let able = n * STEP_NS / each;
            let served = (before + new).min(able);
            self.come(Wave { from: self.clock, span: STEP_NS, n: new });
            // What is served now waited only if nobody happened to be free; behind a backlog, for that as well.
            let mut done = 0.0;
            while done < served
                && let Some(wave) = self.waiting.front_mut()
            {
                let take = wave.n.min(served - done);
                let part = wave.span * take / wave.n;
                let waits = |nth: f64, came: f64| self.clock + nth * each / n - came;
                let (first, last) = (waits(done, wave.from), waits(done + take, wave.from + part));
                let mean = (first + last) / 2.0;
                let all = each + if mean > unlucky { mean * behind.uneven } else { 0.0 };
                tail.iter().for_each(|(share, times)| out.add(all + unlucky * times, take * share));
                done += take;
                if take >= wave.n {
                    self.waiting.pop_front();
                } else {
                    *wave = Wave { from: wave.from + part, span: wave.span - part, n: wave.n - take };
                }
            }
            self.queued = if self.waiting.is_empty() { 0.0 } else { before + new - served };
            self.tick.busy_ns += served * each;
            self.tick.served += served;
            self.tick.turns += served.min(n * STEP_NS / each);
            self.clock += STEP_NS;
        }
    }

    /// Requests come.
    fn come(&mut self, wave: Wave) {
        if wave.n > 0.0 {
            self.queued += wave.n;
            self.waiting.push_back(wave);
        }
    }

    /// All threads are kept from their work: what comes meanwhile waits.
    pub(crate) fn stall(&mut self, requests: f64) {
        self.come(Wave { from: self.clock, span: 0.0, n: requests });
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
            pool.work(1e9, (load * 16.0 / 10e3, 2752.0), cost, 16, &mut dice, &mut out);
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
