//! Partitioned cores: each hardware thread is a queue that is served in bounded batches, as a turn of IX does.

use std::collections::VecDeque;

use rand::Rng as _;

use crate::latency::Latencies;

/// An RX ring with so many frames is full (those of IX had 512). What comes then waits all the same, as the open-loop NIC's requests do: nothing is dropped.
pub(crate) const RING: f64 = 512.0;

/// What a request costs a thread, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Cost {
    /// Receiving it, and the application.
    pub(crate) before_ns: f64,
    /// Sending a frame of replies.
    pub(crate) tx_ns: f64,
}

/// Frames of replies to `n` requests that come over `connections`, drawn at random: those to the same connection leave together.
pub(crate) fn frames(n: f64, connections: f64) -> f64 {
    let c = connections.max(1.0);
    if c.is_finite() { (c * (1.0 - (1.0 - 1.0 / c).powf(n))).min(n) } else { n }
}

impl Cost {
    pub(crate) fn all(self) -> f64 {
        self.before_ns + self.tx_ns
    }
}

/// Requests that came evenly within a span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wave {
    pub(crate) from: f64,
    pub(crate) span: f64,
    pub(crate) n: f64,
}

/// A hardware thread. Times are in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thread {
    /// Until when it has been simulated: the end of its last turn.
    pub(crate) clock: f64,
    waiting: VecDeque<Wave>,
    queued: f64,
    pub(crate) tick: Tick,
}

/// What a thread did in a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tick {
    pub(crate) busy_ns: f64,
    pub(crate) turns: f64,
    pub(crate) served: f64,
    pub(crate) full: bool,
}

impl Thread {
    /// What waits.
    pub(crate) fn queued(&self) -> f64 {
        self.queued
    }

    /// Lets it work until `end`, while requests come at `rate` per nanosecond over so many connections.
    pub(crate) fn work(
        &mut self,
        end: f64,
        (rate, connections): (f64, f64),
        cost: Cost,
        bound: f64,
        dice: &mut draw::Rng,
        out: &mut Latencies,
    ) {
        self.tick = Tick::default();
        while self.clock < end {
            if self.queued == 0.0 {
                let gap = if rate > 0.0 { -(1.0 - dice.random::<f64>()).ln() / rate } else { f64::INFINITY };
                if self.clock + gap >= end {
                    self.clock = end;
                    return;
                }
                self.clock += gap;
                self.come(Wave { from: self.clock, span: 0.0, n: 1.0 });
            }
            let batch = self.queued.min(bound);
            let cost = Cost { tx_ns: cost.tx_ns * frames(batch, connections) / batch, ..cost };
            let span = batch * cost.all();
            self.serve(batch, cost, out);
            let new = poisson(rate * span, dice);
            self.come(Wave { from: self.clock, span, n: new });
            self.clock += span;
            self.tick.busy_ns += span;
            self.tick.turns += 1.0;
            self.tick.served += batch;
        }
    }

    /// Requests come.
    pub(crate) fn come(&mut self, wave: Wave) {
        self.tick.full |= self.queued + wave.n >= RING;
        if wave.n > 0.0 {
            self.queued += wave.n;
            self.waiting.push_back(wave);
        }
    }

    /// A turn takes the oldest of those that wait: replies leave one after the other at its end.
    fn serve(&mut self, batch: f64, cost: Cost, out: &mut Latencies) {
        let mut done = 0.0;
        while done < batch {
            let Some(wave) = self.waiting.front_mut() else { break };
            let take = wave.n.min(batch - done);
            let part = wave.span * take / wave.n;
            let leaves = |nth: f64| self.clock + batch * cost.before_ns + (nth + 0.5) * cost.tx_ns;
            let (first, last) = (leaves(done) - wave.from, leaves(done + take) - wave.from - part);
            out.spread(first, last, take);
            done += take;
            if take >= wave.n {
                self.waiting.pop_front();
            } else {
                *wave = Wave { from: wave.from + part, span: wave.span - part, n: wave.n - take };
            }
        }
        self.queued = if self.waiting.is_empty() { 0.0 } else { self.queued - done };
    }

    /// It is kept from its work.
    pub(crate) fn stall(&mut self, ns: f64) {
        self.clock += ns;
    }

    /// Of what waits and is in no ring yet, this share goes to another.
    pub(crate) fn share_with(&mut self, to: &mut Thread, share: f64) {
        let mut kept = 0.0;
        for wave in &mut self.waiting {
            let goes = (kept + wave.n - RING).clamp(0.0, wave.n) * share;
            kept += wave.n;
            wave.n -= goes;
            self.queued -= goes;
            to.come(Wave { n: goes, ..*wave });
        }
    }

    /// What waits goes to another.
    pub(crate) fn hand_over(&mut self, to: &mut Thread) {
        while let Some(wave) = self.waiting.pop_front() {
            to.come(wave);
        }
        self.queued = 0.0;
    }
}

/// A number of arrivals of which `mean` are expected.
pub(crate) fn poisson(mean: f64, dice: &mut draw::Rng) -> f64 {
    if mean <= 0.0 {
        return 0.0;
    }
    if mean > 16.0 {
        // Near enough to a normal distribution.
        let (a, b): (f64, f64) = (1.0 - dice.random::<f64>(), dice.random());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        return (mean + mean.sqrt() * normal).round().max(0.0);
    }
    // The first number whose distribution function exceeds a draw.
    let (draw, mut n) = (dice.random::<f64>(), 0.0);
    let mut likely = (-mean).exp();
    let mut below = likely;
    while draw > below && n < 200.0 {
        n += 1.0;
        likely *= mean / n;
        below += likely;
    }
    n
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const COST: Cost = Cost { before_ns: 800.0, tx_ns: 200.0 };

    fn at(load: f64) -> (Thread, Latencies, [f64; 3]) {
        let (mut thread, mut out) = (Thread::default(), Latencies::default());
        let mut dice = draw::Rng::seed_from_u64(1);
        let mut sum = [0.0; 3];
        for tick in 1..=100 {
            thread.work(f64::from(tick) * 10e6, (load / 1000.0, f64::INFINITY), COST, 64.0, &mut dice, &mut out);
            sum[0] += thread.tick.busy_ns;
            sum[1] += thread.tick.served;
            sum[2] += f64::from(u8::from(thread.tick.full));
        }
        (thread, out, sum)
    }

    #[test]
    fn a_thread_is_busy_for_its_load_and_batches_when_it_must() {
        for load in [0.1, 0.5, 0.9] {
            let (_, out, [busy, served, full]) = at(load);
            assert!((busy / 1e9 - load).abs() < 0.01 && full == 0.0, "{load}: {busy}");
            assert!((served - out.total()).abs() < 1e-6);
            // Nobody is faster than the work, nor slower than a few batches.
            assert!(out.quantile(0.01) > 950.0 && out.quantile(0.99) < 1e3 * 10.0 / (1.0 - load), "{load}");
        }
    }

    #[test]
    fn an_overloaded_thread_fills_its_ring_and_falls_behind() {
        let (thread, out, [busy, served, full]) = at(1.2);
        assert!(full >= 95.0 && busy > 0.99e9);
        // A fifth more than it can do, for a second.
        assert!((thread.queued() / 200_000.0 - 1.0).abs() < 0.05 && (served / 1e6 - 1.0).abs() < 0.01);
        assert!((out.quantile(0.5) / 83e6 - 1.0).abs() < 0.15, "{}", out.quantile(0.5));
    }

    #[test]
    fn replies_of_a_turn_to_one_connection_leave_together() {
        assert!((frames(1.0, 172.0) - 1.0).abs() < 1e-9 && frames(64.0, f64::INFINITY) == 64.0);
        assert!((frames(64.0, 172.0) - 53.6).abs() < 0.1 && (frames(64.0, 1.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn arrivals_have_their_mean_and_spread() {
        let mut dice = draw::Rng::seed_from_u64(2);
        for mean in [0.3, 5.0, 40.0] {
            let all: Vec<f64> = (0..20_000).map(|_| poisson(mean, &mut dice)).collect();
            let got = all.iter().sum::<f64>() / 20_000.0;
            let var = all.iter().map(|x| (x - got).powi(2)).sum::<f64>() / 20_000.0;
            assert!((got / mean - 1.0).abs() < 0.05 && (var / mean - 1.0).abs() < 0.1, "{mean}: {got} {var}");
        }
    }
}
