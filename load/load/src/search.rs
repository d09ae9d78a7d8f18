//! The search for the highest rate at which a latency objective holds.
//!
//! It measures nothing: the caller asks for the [next](Search::next) rate, loads the server with it, [tells](Search::tell)
//! what came of it, and reads the [result](Search::result) when there is nothing more to try. So the search runs against
//! a formula as well as against a server, and its tests do.
//!
//! ```text
//!            pass      pass   pass fail          fail
//!   low -------+---------+------+---+--------------+------- high      rates
//!              1         2      5   4              3                  the order in which they were tried
//!                               |   |
//!                               P   F   the answer is P; done when F - P <= precision * F
//! ```
//!
//! One window proves little. Whether a rate passes is decided by how many requests were over the limit: clearly when the
//! 95 % bound of that share is on one side of what the objective allows; else the rate is measured again and the majority
//! decides. The samples of one window are not independent (a stall of the machine delays all that come during it), so that bound
//! is too sure of itself: before the search ends, both ends of the bracket are measured a second time, and one that
//! does not hold is put to the vote. The bracket is worked out anew from all votes at each step, so it opens
//! again by itself when an end falls.

use std::fmt;
use std::str::FromStr;

use units::Nanos;

/// A service level objective: a quantile of the latency and its limit, such as `p99=500us`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slo {
    /// Which share of the requests is to be within the limit: 0.99 for p99.
    pub quantile: f64,
    /// The limit.
    pub limit: Nanos,
}

impl Slo {
    /// The share of requests that may exceed the limit.
    pub fn allowance(&self) -> f64 {
        1.0 - self.quantile
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        let wanted = || format!("`{text}`: write an objective as p99=500us (p50, p95, p99, p99.9 ...; ns, us, ms, s)");
        let (quantile, limit) = text.split_once('=').ok_or_else(wanted)?;
        let percent: f64 = quantile.strip_prefix('p').and_then(|p| p.parse().ok()).ok_or_else(wanted)?;
        if !(percent > 0.0 && percent <= 99.9999) {
            return Err(format!("`{text}`: a percentile is more than 0 and at most 99.9999"));
        }
        let limit = draw::parse_span(limit)?;
        if limit == Nanos::ZERO {
            return Err(format!("`{text}`: no latency is within a limit of 0"));
        }
        Ok(Slo { quantile: percent / 100.0, limit })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Six decimals of a per cent, so that 0.999 * 100 reads 99.9.
        let percent = (self.quantile * 1e8).round() / 1e6;
        write!(f, "p{percent}={}", draw::format_span(self.limit))
    }
}

/// What to search for, and where.
#[derive(Clone, PartialEq, Debug)]
pub struct SearchConfig {
    /// The objective.
    pub slo: Slo,
    /// The lowest rate of interest, in requests per second: if it fails, there is no answer.
    pub low: f64,
    /// The highest rate of interest: if it passes, it is the answer.
    pub high: f64,
    /// The rate to begin with: a guess saves windows. Without one, at `low`.
    pub start: Option<f64>,
    /// How close the answer is to be to a rate that fails, relative to that.
    pub precision: f64,
    /// How many windows may decide on one rate (void ones not counted): 1 to 9.
    pub repeats: u32,
    /// How many windows the whole search may take, void ones included: 1 to 400.
    pub tries: u32,
}

impl SearchConfig {
    /// From `low` to `high`, to 2 %, with up to three windows per rate and 48 in all.
    pub fn new(slo: Slo, low: f64, high: f64) -> SearchConfig {
        SearchConfig { slo, low, high, start: None, precision: 0.02, repeats: 3, tries: 48 }
    }

    /// The same with every value where the search can work with it.
    fn tamed(mut self) -> SearchConfig {
        let or = |x: f64, else_: f64| if x.is_finite() { x } else { else_ };
        self.low = or(self.low, 1.0).clamp(1e-3, 1e12);
        self.high = or(self.high, 1e12).clamp(self.low, 1e12);
        self.start = self.start.filter(|s| s.is_finite()).map(|s| s.clamp(self.low, self.high));
        self.precision = or(self.precision, 0.02).clamp(1e-3, 0.5);
        self.repeats = self.repeats.clamp(1, 9);
        self.tries = self.tries.clamp(1, 400);
        self.slo.quantile = or(self.slo.quantile, 0.99).clamp(0.0, 1.0);
        self
    }
}

/// What a window at some rate came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// The latency at the objective's quantile.
    pub latency: Nanos,
    /// The rate was really had: nearly all that was offered was answered, and rightly. If not, the rate fails whatever
    /// the latency of the rest.
    pub ok_rate: bool,
    /// Requests whose latency is known.
    pub samples: u64,
    /// Those of them that were over the objective's limit.
    pub above: u64,
    /// The window says nothing: it was interrupted, or the machine was too busy otherwise.
    pub void: bool,
}

impl Point {
    /// A window that says nothing.
    pub const fn void() -> Point {
        Point { latency: Nanos::ZERO, ok_rate: false, samples: 0, above: 0, void: true }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The highest rate that holds the objective; none when even the lowest does not.
    pub max_rps: Option<f64>,
    /// The highest rate known to pass; the lowest rate of interest when none does.
    pub low: f64,
    /// The lowest rate known to fail; the highest rate of interest when none does.
    pub high: f64,
    /// Windows measured.
    pub tries: u32,
    /// The bracket was closed to the precision asked for, by more than one window at each end, within the tries
    /// allowed. (With a single window per rate allowed, one at each end.)
    pub confident: bool,
}

/// What is known of one rate.
#[derive(Clone, Copy, Debug)]
struct Rate {
    rate: f64,
    passes: u32,
    fails: u32,
    voids: u32,
    /// The first window that said anything said it clearly.
    clear: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Pass,
    Fail,
    Open,
}

impl Rate {
    fn votes(&self) -> u32 {
        self.passes + self.fails
    }

    fn verdict(&self, repeats: u32) -> Verdict {
        let (most, passed) = (self.passes.max(self.fails), self.passes > self.fails);
        let settled = match self.votes() {
            0 => false,
            1 if self.clear => true,
            // What is still to come could not turn it; or nothing is to come.
            n => most * 2 > repeats || n >= repeats,
        };
        match (settled, passed) {
            (false, _) => Verdict::Open,
            (true, true) => Verdict::Pass,
            // A tie is no proof that the objective holds.
            (true, false) => Verdict::Fail,
        }
    }
}

/// A search under way. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Search {
    config: SearchConfig,
    /// By rate, ascending.
    rates: Vec<Rate>,
    tries: u32,
}

/// What the votes so far say.
struct Bracket<'a> {
    pass: Option<&'a Rate>,
    fail: Option<&'a Rate>,
}

/// What to do next.
enum Step {
    Try(f64),
    /// The answer is known; whether for sure.
    Done,
}

impl Search {
    /// A search. Values that make no sense (not finite, out of order, no window allowed) are replaced by the nearest that do.
    pub fn new(config: SearchConfig) -> Search {
        Search { config: config.tamed(), rates: Vec::new(), tries: 0 }
    }

    /// The rate to measure next, in requests per second; none when the search is over. The same until it is told about.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<f64> {
        if self.tries >= self.config.tries || self.hopeless() {
            return None;
        }
        match self.step() {
            Step::Try(rate) => Some(rate),
            Step::Done => None,
        }
    }

    /// What a window at `rate` came to. A rate that was not asked for is welcome, one that is no rate is ignored.
    pub fn tell(&mut self, rate: f64, point: Point) {
        if !(rate.is_finite() && rate > 0.0) {
            return;
        }
        self.tries += 1;
        let at = self.rates.partition_point(|r| r.rate < rate);
        if self.rates.get(at).is_none_or(|r| r.rate != rate) {
            self.rates.insert(at, Rate { rate, passes: 0, fails: 0, voids: 0, clear: false });
        }
        let entry = &mut self.rates[at];
        if point.void {
            entry.voids += 1;
            return;
        }
        let (passed, clear) = judge(&self.config.slo, &point);
        if entry.votes() == 0 {
            entry.clear = clear;
        }
        if passed {
            entry.passes += 1;
        } else {
            entry.fails += 1;
        }
    }

    /// What is known by now.
    pub fn result(&self) -> Found {
        let Bracket { pass, fail } = self.bracket();
        let done = matches!(self.step(), Step::Done);
        Found {
            max_rps: pass.map(|r| r.rate),
            low: pass.map_or(self.config.low, |r| r.rate),
            high: fail.map_or(self.config.high, |r| r.rate),
            tries: self.tries,
            confident: done,
        }
    }

    fn verdict(&self, rate: &Rate) -> Verdict {
        rate.verdict(self.config.repeats)
    }

    /// The lowest rate that fails, and the highest below it that passes.
    fn bracket(&self) -> Bracket<'_> {
        let fail = self.rates.iter().position(|r| self.verdict(r) == Verdict::Fail);
        let below = &self.rates[..fail.unwrap_or(self.rates.len())];
        let pass = below.iter().rev().find(|r| self.verdict(r) == Verdict::Pass);
        Bracket { pass, fail: fail.map(|i| &self.rates[i]) }
    }

    fn step(&self) -> Step {
        // Begun is to be finished first.
        if let Some(open) = self.rates.iter().find(|r| self.verdict(r) == Verdict::Open) {
            return Step::Try(open.rate);
        }
        let SearchConfig { low, high, start, precision, repeats, .. } = self.config;
        let second = |end: &Rate| end.votes() < 2 && repeats > 1;
        // Without a guess the climb doubles; a guess is likely to be near.
        let climb = if start.is_some() { 1.5 } else { 2.0 };
        match self.bracket() {
            Bracket { pass: None, fail: None } => Step::Try(start.unwrap_or(low)),
            Bracket { pass: Some(p), fail: None } if p.rate < high => Step::Try((p.rate * climb).min(high)),
            Bracket { pass: None, fail: Some(f) } if f.rate > low => Step::Try((f.rate / 2.0).max(low)),
            Bracket { pass: Some(p), fail: Some(f) } if f.rate - p.rate > precision * f.rate => {
                Step::Try((p.rate + f.rate) / 2.0)
            }
            Bracket { fail: Some(f), .. } if second(f) => Step::Try(f.rate),
            Bracket { pass: Some(p), .. } if second(p) => Step::Try(p.rate),
            _ => Step::Done,
        }
    }

    /// A rate that is void again and again: the machine is too busy for the question.
    fn hopeless(&self) -> bool {
        self.rates.iter().any(|r| r.voids > self.config.repeats + 2)
    }
}

/// Whether a window holds the objective, and whether it says so clearly.
fn judge(slo: &Slo, point: &Point) -> (bool, bool) {
    if !point.ok_rate || point.samples == 0 {
        return (false, true);
    }
    let (low, high) = share_bounds(point.above.min(point.samples), point.samples);
    let allowance = slo.allowance();
    let passed = point.above as f64 <= allowance * point.samples as f64;
    (passed, if passed { high < allowance } else { low > allowance })
}

/// One-sided 95 % bounds of a share, of which `hits` in `n` were seen: Wilson's score interval, which also holds near 0.
fn share_bounds(hits: u64, n: u64) -> (f64, f64) {
    const Z: f64 = 1.6449;
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    ((centre - spread) / scale, (centre + spread) / scale)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng};

    use super::*;

    const SLO: Slo = Slo { quantile: 0.99, limit: Nanos(500_000) };

    /// A window of one second on a server whose sojourn time is exponential: an M/M/1 queue of capacity `mu`.
    fn mm1(rate: f64, mu: f64, rng: &mut SmallRng) -> Point {
        let samples = (rate as u64).max(1);
        if rate >= mu {
            return Point { latency: Nanos::from_secs(1), ok_rate: false, samples, above: samples, void: false };
        }
        let tail = (-(mu - rate) * SLO.limit.as_secs_f64()).exp();
        // A normal approximation is plenty for the count of those above.
        let sd = (samples as f64 * tail * (1.0 - tail)).sqrt();
        let noise: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let above = (samples as f64 * tail + sd * noise).round().clamp(0.0, samples as f64) as u64;
        let latency = Nanos(((0.01f64).ln() / -(mu - rate) * 1e9) as u64);
        Point { latency, ok_rate: true, samples, above, void: false }
    }

    /// The rate at which p99 of that queue is at the limit.
    fn knee(mu: f64) -> f64 {
        mu - 100f64.ln() / SLO.limit.as_secs_f64()
    }

    fn run(search: &mut Search, mut server: impl FnMut(f64) -> Point) -> Found {
        let mut windows = 0;
        while let Some(rate) = search.next() {
            assert_eq!(search.next(), Some(rate), "asking twice changes nothing");
            let point = server(rate);
            search.tell(rate, point);
            windows += 1;
            assert!(windows <= 500, "it does not end");
        }
        assert_eq!(search.result().tries, windows);
        search.result()
    }

    #[test]
    fn the_knee_of_a_queue_is_found_within_the_precision() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mu = rng.random_range(2e4..2e6);
            let mut config = SearchConfig::new(SLO, 1e3, 1e9);
            if seed % 2 == 0 {
                config.start = Some(mu * rng.random_range(0.2..1.5));
            }
            let found = run(&mut Search::new(config), |rate| mm1(rate, mu, &mut rng));
            let max = found.max_rps.unwrap();
            // The precision, and as much again for what a window of one second cannot tell apart.
            assert!((max / knee(mu) - 1.0).abs() < 0.04, "seed {seed}: {max} of {}", knee(mu));
            assert!(found.confident && found.low == max && found.high > max, "{found:?}");
            assert!((found.high - found.low) <= 0.02 * found.high);
        }
    }

    /// How many of 200 searches end more than 5 % too low when one window in 25 sees a stall in which 3 % of its requests
    /// wait, whatever the rate.
    fn misled(repeats: u32) -> u32 {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut misled = 0;
        for _ in 0..200 {
            let config = SearchConfig { repeats, ..SearchConfig::new(SLO, 1e3, 1e9) };
            let found = run(&mut Search::new(config), |rate| {
                let mut point = mm1(rate, 2e5, &mut rng);
                point.above += if rng.random_bool(0.04) { point.samples * 3 / 100 } else { 0 };
                point
            });
            misled += u32::from(found.max_rps.unwrap_or(0.0) < 0.95 * knee(2e5));
        }
        misled
    }

    #[test]
    fn stalls_of_the_machine_seldom_pull_the_answer_down() {
        let (single, voted) = (misled(1), misled(3));
        // A single window per rate: 1 - 0.96^15 of them. A vote: two stalls at the same rate.
        assert!(single > 50 && voted < 20, "{single} and {voted} of 200");
    }

    #[test]
    fn a_curve_without_a_knee_ends_at_the_highest_rate() {
        let fine = |rate: f64| Point { latency: Nanos(1), ok_rate: true, samples: rate as u64, above: 0, void: false };
        let found = run(&mut Search::new(SearchConfig::new(SLO, 1e4, 3e6)), fine);
        assert_eq!((found.max_rps, found.high, found.confident), (Some(3e6), 3e6, true));
    }

    #[test]
    fn an_objective_missed_at_the_lowest_rate_has_no_answer() {
        let slow = |rate: f64| Point {
            latency: Nanos::from_millis(1),
            ok_rate: true,
            samples: rate as u64,
            above: rate as u64,
            void: false,
        };
        let found = run(&mut Search::new(SearchConfig::new(SLO, 1e3, 1e6)), slow);
        assert_eq!((found.max_rps, found.low, found.high), (None, 1e3, 1e3));
        assert_eq!((found.tries, found.confident), (2, true));
        let guess = SearchConfig { start: Some(64e3), ..SearchConfig::new(SLO, 1e3, 1e6) };
        assert_eq!(run(&mut Search::new(guess), slow).max_rps, None);
    }

    #[test]
    fn a_rate_that_is_not_reached_fails_however_fast_the_rest() {
        let found = run(&mut Search::new(SearchConfig::new(SLO, 1e3, 1e6)), |rate| Point {
            latency: Nanos::from_micros(20),
            ok_rate: rate < 5e4,
            samples: rate as u64,
            above: 0,
            void: false,
        });
        assert!((4.8e4..5e4).contains(&found.max_rps.unwrap()), "{found:?}");
        let dead = run(&mut Search::new(SearchConfig::new(SLO, 1e3, 1e6)), |_| Point {
            ok_rate: true,
            samples: 0,
            ..Point { void: false, ..Point::void() }
        });
        assert_eq!(dead.max_rps, None, "no answers are no proof");
    }

    #[test]
    fn void_windows_are_measured_again_and_not_for_ever() {
        let mut rng = SmallRng::seed_from_u64(3);
        let found = run(&mut Search::new(SearchConfig::new(SLO, 1e3, 1e9)), |rate| {
            if rng.random_bool(0.3) { Point::void() } else { mm1(rate, 1e5, &mut rng) }
        });
        assert!((found.max_rps.unwrap() / knee(1e5) - 1.0).abs() < 0.04, "{found:?}");
        let mut noisy = Search::new(SearchConfig::new(SLO, 1e3, 1e9));
        let found = run(&mut noisy, |_| Point::void());
        assert_eq!((found.max_rps, found.confident), (None, false));
        assert!(found.tries < 10);
    }

    #[test]
    fn few_samples_are_backed_by_more_windows() {
        // 100 samples with none above are compatible with far more than 1 %.
        let few = |_| Point { latency: Nanos(1), ok_rate: true, samples: 100, above: 0, void: false };
        let mut search = Search::new(SearchConfig::new(SLO, 100.0, 100.0));
        let found = run(&mut search, few);
        assert_eq!((found.max_rps, found.tries), (Some(100.0), 2));
        // Here the point estimates differ: three windows, two of which pass.
        let mut windows = 0;
        let mut search = Search::new(SearchConfig::new(SLO, 100.0, 100.0));
        let found = run(&mut search, |_| {
            windows += 1;
            Point {
                latency: Nanos(1),
                ok_rate: true,
                samples: 100,
                above: if windows == 1 { 2 } else { 1 },
                void: false,
            }
        });
        assert_eq!((found.max_rps, found.tries), (Some(100.0), 3));
    }

    #[test]
    fn tries_run_out() {
        let mut rng = SmallRng::seed_from_u64(5);
        let config = SearchConfig { tries: 6, ..SearchConfig::new(SLO, 1e3, 1e9) };
        let found = run(&mut Search::new(config), |rate| mm1(rate, 1e5, &mut rng));
        assert_eq!((found.tries, found.confident), (6, false));
        assert!(found.max_rps.is_some_and(|max| max < 1e5));
    }

    #[test]
    fn values_that_make_no_sense_do_no_harm() {
        let slos = [SLO, Slo { quantile: f64::NAN, limit: Nanos::ZERO }, Slo { quantile: 7.0, limit: Nanos::MAX }];
        let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, 1e5];
        let mut rng = SmallRng::seed_from_u64(1);
        for slo in slos {
            for low in numbers {
                for high in numbers {
                    for (precision, repeats, tries) in [(0.0, 0, 0), (f64::NAN, u32::MAX, u32::MAX), (2.0, 1, 9)] {
                        let config = SearchConfig { slo, low, high, start: Some(low), precision, repeats, tries };
                        let mut search = Search::new(config);
                        search.tell(f64::NAN, Point::void());
                        search.tell(-3.0, Point::void());
                        let found = run(&mut search, |rate| mm1(rate, 1e5, &mut rng));
                        assert!(found.low.is_finite() && found.high.is_finite());
                    }
                }
            }
        }
    }

    #[test]
    fn objectives_read_back_as_they_are_written() {
        for text in ["p99=500us", "p99.9=1ms", "p50=20us", "p99.99=2s", "p95=1500ns"] {
            assert_eq!(text.parse::<Slo>().unwrap().to_string(), text);
        }
        assert_eq!("p99=500us".parse(), Ok(SLO));
        assert_eq!("p99=0.5ms".parse(), Ok(SLO));
        for bad in [
            "",
            "p99",
            "p99=",
            "p99=500",
            "99=1ms",
            "p100=1ms",
            "p0=1ms",
            "pNaN=1ms",
            "p99=0us",
            "p99=-1us",
            "p99=1e99s",
            "p99=infs",
        ] {
            assert!(bad.parse::<Slo>().is_err(), "{bad}");
        }
    }
}
