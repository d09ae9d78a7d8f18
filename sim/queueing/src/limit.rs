//! The load at which a latency objective is just met.
//!
//! What is sought is the load at which the share of late requests is what the objective allows. Late requests are counted exactly, at
//! several loads at once that see the same requests.
//!
//! ```text
//!   late share (log)                      1. locate: eight steps over 0..1, then over the step in which the share is passed, until steps
//!      |                  /                  are smaller than the noise
//!      |                 o  high          2. refine: three loads around that place, independent replications until the interval is
//!   1% |- - - - - - - -/- - - - - -          narrow enough. Between two loads the logarithm of the share is nearly a line: the
//!      |             o  near                 root is taken from all replications together, its interval from how much
//!      |         /                           they differ there (Student's t) over the slope
//!      |      o  low                      3. outside of the three: they are moved, and spread; and where they are many intervals
//!      |                                     apart, they are moved together: far apart, the line is not one
//!      +-----------------------> load
//! ```
//!
//! One root of the pooled shares, not a mean of roots: that would be biased by how far a replication's root is from a line of its share.

use crate::feed::{Length, Sink, feed};
use crate::replications::{Effort, Watch, replicate};
use crate::student::half_width;
use crate::system::System;

/// Replications come in packs of this many, so that the answer does not depend on the number of threads.
const PACK: u32 = 8;
/// Streams of replications that only locate are apart from those that refine.
const LOCATE: u32 = 1 << 31;
/// Steps of a location.
const STEPS: u32 = 8;
/// How many of them back or on, if it is not where it was thought to be.
const STEPS_BACK: f64 = 4.0;
/// How often they are taken at most; half a dozen is usual.
const SEARCHES: u32 = 64;
/// As good as no load: here nobody waits.
const LEAST: f64 = 1e-4;
/// How often the three loads are moved at most.
const MOVES: u32 = 20;
/// They are moved together when they are so many half-widths of the root's interval apart ...
const WIDE: f64 = 6.0;
/// ... and then are so many.
const CLOSE: f64 = 2.0;

/// What [`max_load`] is to find.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Which system.
    pub system: System,
    /// The objective, in mean service times.
    pub slo: f64,
    /// The share of the requests that must meet it, such as 0.99.
    pub quantile: f64,
    /// How wide the 95 % confidence interval may be to either side, as a share of the full load (0.001: a tenth of a point).
    pub precision: f64,
    /// How many requests may be simulated, at all loads together, for that: then the interval is as it is.
    pub max_requests: u64,
    /// Seed, threads, and the length of a replication.
    pub effort: Effort,
}

impl Question {
    /// The 99th percentile of `system` within `slo` mean service times, to a tenth of a point, with at most a thousand million requests.
    pub fn p99(system: System, slo: f64) -> Question {
        Question {
            system,
            slo,
            quantile: 0.99,
            precision: 0.001,
            max_requests: 1_000_000_000,
            effort: Effort::default(),
        }
    }

    /// The share of requests that may be late.
    fn allowed(&self) -> f64 {
        (1.0 - self.quantile).clamp(0.0, 1.0)
    }
}

/// What [`max_load`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The highest load (0..=1: arrivals a mean service time over servers) that meets the objective. 0: not even requests that never wait do; 1:
    /// it is met at full load in runs of this length.
    pub max_load: f64,
    /// The half-width of the 95 % confidence interval; infinite if it is not known.
    pub ci95: f64,
    /// Whether that is as narrow as was asked for.
    pub precise: bool,
    /// Replications behind it.
    pub replications: u32,
    /// Counted requests of each.
    pub requests: u64,
    /// Requests simulated for it, at all loads together, warm-up included.
    pub simulated: u64,
}

/// The highest load at which `question`'s share of the requests meets its objective. `None` if the watch ended it before there was a first
/// answer; if later, it is the one there was.
///
/// Under processor sharing a higher load may shorten a single sojourn; what is sought is a root of the share of late requests, and that
/// grows with the load all the same.
pub fn max_load(question: &Question, watch: &Watch<'_>) -> Option<Answer> {
    let search = Search { question, watch, before: watch.simulated() };
    match search.locate()? {
        Place::Nowhere(end, requests) => {
            // That none is low enough is sure; that all are, is said of runs of this length only.
            let half_width = if end == 0.0 { 0.0 } else { f64::INFINITY };
            Some(search.answer(Root::of(end, half_width), PACK, requests))
        }
        Place::Near(root) => search.refine(root),
    }
}

/// Where the objective is just met, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Root {
    load: f64,
    half_width: f64,
}

impl Root {
    fn of(load: f64, half_width: f64) -> Root {
        Root { load, half_width }
    }
}

enum Place {
    /// At an end: at no load, or at all; in runs of so many requests.
    Nowhere(f64, u64),
    Near(Root),
}

/// Counts late requests.
struct Late {
    slo: f64,
    late: u64,
}

impl Sink for Late {
    #[inline]
    fn take(&mut self, _: f64, stay: f64) {
        self.late += u64::from(stay > self.slo);
    }
}

struct Search<'a> {
    question: &'a Question,
    watch: &'a Watch<'a>,
    /// What the watch had seen before.
    before: u64,
}

impl Search<'_> {
    fn simulated(&self) -> u64 {
        self.watch.simulated() - self.before
    }

    /// Adds `replications` (numbers of streams) of `length` at `tally`'s loads.
    fn add(&self, tally: &mut Tally, length: Length, replications: std::ops::Range<u32>) {
        let Question { system, slo, effort, .. } = self.question;
        let late = replicate(effort.threads, replications, |nth| {
            let late = || Late { slo: *slo, late: 0 };
            let late = feed(system, &tally.loads, length, (effort.seed, nth), self.watch, late)?;
            Some(late.iter().map(|late| late.late as f64 / length.counted as f64).collect())
        });
        tally.late.extend(late);
    }

    /// The length of a replication that refines at a load that is `below` under 1.
    fn length(&self, below: f64) -> Length {
        let forgets = self.question.system.forgets(below);
        let counted = (50.0 * forgets).clamp(500_000.0, 20_000_000.0) as u64;
        with_warmup(self.question.effort.requests.unwrap_or(counted), forgets)
    }

    /// Whether a replication may be as long as it takes to forget the past at a load that is `below` under 1.
    fn long_enough(&self, below: f64) -> bool {
        self.question.system.forgets(below) < self.length(below).counted as f64
    }

    /// Where the objective is just met, to within noise or the precision asked for.
    fn locate(&self) -> Option<Place> {
        let allowed = self.question.allowed();
        let (mut low, mut high) = (LEAST, 1.0);
        for _ in 0..SEARCHES {
            let step = (high - low) / f64::from(STEPS);
            // Finer steps, and loads nearer to 1, ask for longer runs; shorter ones will do than in the end.
            let below = step.max(1.0 - high);
            let (forgets, full) = (self.question.system.forgets(below), self.length(below));
            let length = with_warmup((full.counted / 8).max((forgets as u64).min(full.counted / 2)), forgets);
            let mut tally = Tally::new((0..=STEPS).map(|i| low + step * f64::from(i)).collect());
            self.plan_location(length, full);
            self.add(&mut tally, length, LOCATE..LOCATE + PACK);
            if tally.late.len() < PACK as usize {
                return None;
            }
            let passed = match tally.shares().iter().position(|share| *share > allowed) {
                Some(0) if low == LEAST => return Some(Place::Nowhere(0.0, length.counted)),
                // Runs of another length had seen it in this step, and were wrong.
                Some(0) => {
                    (low, high) = ((low - STEPS_BACK * step).max(LEAST), low);
                    continue;
                }
                None if high < 1.0 => {
                    (low, high) = (high, (high + STEPS_BACK * step).min(1.0));
                    continue;
                }
                // At full load queues grow for ever, but slowly: longer runs may tell, as long as there are any.
                None if self.long_enough(step / f64::from(STEPS)) => {
                    low = 1.0 - step;
                    continue;
                }
                None => return Some(Place::Nowhere(1.0, length.counted)),
                Some(passed) => passed,
            };
            let root = tally.root(allowed).unwrap_or(Root::of(low, 1.0));
            // Steps that noise does not let see are not worth taking.
            if step <= root.half_width.max(self.question.precision) || step < 1e-6 {
                return Some(Place::Near(Root { half_width: root.half_width.min(1.0), ..root }));
            }
            (low, high) = (tally.loads[passed - 1], tally.loads[passed]);
        }
        Some(Place::Near(Root::of(low.midpoint(high), 1.0)))
    }

    /// Three steps are usual, and then some replications.
    fn plan_location(&self, length: Length, full: Length) {
        self.watch.plan(u64::from(PACK) * (3 * length.total() * u64::from(STEPS + 1) + 9 * full.total()));
    }

    fn refine(&self, from: Root) -> Option<Answer> {
        let length = self.length(1.0 - from.load);
        let mut near = from.load;
        let mut apart = (1.5 * from.half_width).max(self.question.precision / 2.0);
        let (mut last, mut wanted) = (from, PACK);
        for _ in 0..MOVES {
            // Never at an end, where a logarithm has none.
            let (low, high) = ((near - apart).max(near / 2.0), (near + apart).min(near.midpoint(1.0)));
            let mut tally = Tally::new(vec![low, near, high]);
            match self.narrow(&mut tally, length, wanted) {
                Narrowed::Done(root) => return Some(self.answer(root, tally.late.len() as u32, length.counted)),
                Narrowed::Ended(root) => {
                    return Some(self.answer(root.unwrap_or(last), tally.late.len() as u32, length.counted));
                }
                Narrowed::Outside(load) => {
                    (last, wanted) = (Root::of(load, f64::INFINITY), PACK);
                    near = load;
                    apart *= 2.0;
                }
                Narrowed::Wide(root) => {
                    // With as many replications as it took to see that.
                    (last, wanted) = (root, tally.late.len() as u32);
                    near = root.load;
                    apart = CLOSE * self.sight(root);
                }
            }
        }
        Some(self.answer(Root { half_width: f64::INFINITY, ..last }, 0, length.counted))
    }

    /// What can be told apart, or need not be.
    fn sight(&self, root: Root) -> f64 {
        root.half_width.max(self.question.precision / 2.0)
    }

    /// Adds replications until the root's interval is narrow enough.
    fn narrow(&self, tally: &mut Tally, length: Length, mut wanted: u32) -> Narrowed {
        let each = length.total() * tally.loads.len() as u64;
        let apart = (tally.loads[2] - tally.loads[0]) / 2.0;
        let mut known = None;
        loop {
            let have = tally.late.len() as u32;
            self.watch.plan(u64::from(wanted - have) * each);
            self.add(tally, length, have..wanted);
            let ended = (tally.late.len() as u32) < wanted;
            if ended && tally.late.len() < 4 {
                return Narrowed::Ended(known);
            }
            let Some(root) = tally.root(self.question.allowed()) else {
                return if ended {
                    Narrowed::Ended(known)
                } else {
                    Narrowed::Outside(tally.beyond(self.question.allowed()))
                };
            };
            // Between loads that are far apart the line is not quite one.
            if apart > WIDE * self.sight(root) {
                let again = tally.late.len() as u64 * each;
                if ended || self.simulated().saturating_add(again) > self.question.max_requests {
                    return Narrowed::Ended(Some(Root { half_width: root.half_width.max(apart / WIDE), ..root }));
                }
                return Narrowed::Wide(root);
            }
            known = Some(root);
            if root.half_width <= self.question.precision {
                return Narrowed::Done(root);
            }
            // As many as the interval asks for, a tenth more; but at most four times as many as there are, for it is an estimate, too.
            let have = tally.late.len() as f64;
            let needs = (1.1 * have * (root.half_width / self.question.precision).powi(2)).min(4.0 * have);
            let left = self.question.max_requests.saturating_sub(self.simulated()) / each.max(1);
            let more =
                ((needs - have).max(1.0) as u64).div_ceil(u64::from(PACK)).min(left / u64::from(PACK)) as u32 * PACK;
            if ended || more == 0 {
                return Narrowed::Ended(known);
            }
            wanted += more;
        }
    }

    fn answer(&self, root: Root, replications: u32, requests: u64) -> Answer {
        Answer {
            max_load: root.load,
            ci95: root.half_width,
            precise: root.half_width <= self.question.precision,
            replications,
            requests,
            simulated: self.simulated(),
        }
    }
}

fn with_warmup(counted: u64, forgets: f64) -> Length {
    let counted = counted.max(1);
    Length { counted, warmup: (counted / 20).max((3.0 * forgets) as u64).min(counted) }
}

enum Narrowed {
    /// Narrow enough.
    Done(Root),
    /// It may not go on, or not any more; what was known by then.
    Ended(Option<Root>),
    /// The three loads are not around it: it may be here.
    Outside(f64),
    /// They are farther apart than need be.
    Wide(Root),
}

/// Shares of late requests: by replication, at each of some ascending loads.
struct Tally {
    loads: Vec<f64>,
    late: Vec<Vec<f64>>,
}

impl Tally {
    fn new(loads: Vec<f64>) -> Tally {
        Tally { loads, late: Vec::new() }
    }

    /// Of all replications, by load.
    fn shares(&self) -> Vec<f64> {
        let of = |nth: usize| self.late.iter().map(|late| late[nth]).sum::<f64>() / self.late.len().max(1) as f64;
        (0..self.loads.len()).map(of).collect()
    }

    /// Where the share is `allowed`, by a line through the logarithms at the loads before and behind; `None` if it is not passed.
    fn root(&self, allowed: f64) -> Option<Root> {
        let shares = self.shares();
        let behind = shares.iter().position(|share| *share > allowed).filter(|behind| *behind > 0)?;
        let (load, step) = (self.loads[behind - 1], self.loads[behind] - self.loads[behind - 1]);
        let [before, after] = [shares[behind - 1].max(TINY), shares[behind]];
        let (part, slope) = line([before, after], allowed);
        // How a replication moves the root: by how far its shares are off, relatively, each in its part (the delta method).
        let there = |late: &Vec<f64>| (1.0 - part) * late[behind - 1] / before + part * late[behind] / after;
        let there: Vec<f64> = self.late.iter().map(there).collect();
        Some(Root::of(load + part * step, half_width(&there) * step / slope))
    }

    /// Where it may be if it is not between the loads.
    fn beyond(&self, allowed: f64) -> f64 {
        let shares = self.shares();
        let (first, last) = (self.loads[0], self.loads[self.loads.len() - 1]);
        if shares[0] > allowed { first } else { last }
    }
}

/// A share that is as good as none.
const TINY: f64 = 1e-12;

/// On the line between the logarithms of two shares, the one behind greater than `allowed`: how far from the one before (0..=1) `allowed` is
/// reached, and the difference of the logarithms.
fn line([before, behind]: [f64; 2], allowed: f64) -> (f64, f64) {
    let (before, behind, allowed) = (before.max(TINY).ln(), behind.max(TINY).ln(), allowed.max(TINY).ln());
    let slope = behind - before;
    let part = if slope > 0.0 { ((allowed - before) / slope).clamp(0.0, 1.0) } else { 0.5 };
    (part, slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use crate::closed::mmn_max_load;
    use draw::ServiceTimes;
    use units::Nanos;

    fn question(servers: usize, policy: Policy, slo: f64) -> Question {
        let system = System::new(servers, policy, ServiceTimes::exp(Nanos(1000)));
        let effort = Effort { requests: Some(20_000), ..Effort::default() };
        Question { precision: 0.01, effort, ..Question::p99(system, slo) }
    }

    fn found(question: &Question) -> Answer {
        max_load(question, &Watch::none()).expect("nobody ends it")
    }

    #[test]
    fn the_interval_holds_the_exact_value() {
        let (mut inside, mut all) = (0, 0);
        for seed in 0..12 {
            let mut question = question(2, Policy::Central, 10.0);
            question.effort.seed = seed;
            let answer = found(&question);
            assert!(answer.precise && answer.ci95 <= 0.01 && answer.replications >= PACK, "{answer:?}");
            all += 1;
            inside += u32::from((answer.max_load - mmn_max_load(2, 10.0, 0.99)).abs() <= answer.ci95);
        }
        // 95 % of them would be 11.4; fewer than 9 come about once in four hundred such tests.
        assert!(inside >= 9, "{inside} of {all}");
    }

    #[test]
    fn impossible_and_trivial_objectives() {
        // Two per cent of exponential work is longer than four means.
        let never = found(&question(2, Policy::Central, 4.0));
        assert_eq!((never.max_load, never.ci95), (0.0, 0.0));
        let always = found(&question(2, Policy::Sharing, 1e9));
        assert_eq!((always.max_load, always.ci95, always.precise), (1.0, f64::INFINITY, false));
    }

    #[test]
    fn equal_seeds_give_equal_answers_on_any_number_of_threads() {
        let one = question(4, Policy::Steal, 10.0);
        let mut three = one.clone();
        three.effort.threads = 3;
        let mut other = one.clone();
        other.effort.seed = 2;
        assert_eq!(found(&one), found(&three));
        assert_ne!(found(&one).max_load, found(&other).max_load);
    }

    #[test]
    fn what_is_not_reached_is_said() {
        let small = Question { precision: 1e-5, max_requests: 3_000_000, ..question(2, Policy::Central, 10.0) };
        let answer = found(&small);
        assert!(!answer.precise && answer.ci95 > 1e-5 && answer.ci95 < 0.05, "{answer:?}");
        // What was begun is carried through: location, and a first pack.
        assert!(answer.simulated < 8_000_000, "{answer:?}");
    }

    #[test]
    fn a_search_that_is_ended_gives_what_it_has() {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        assert_eq!(max_load(&question(2, Policy::Central, 10.0), &Watch::new(|| true)), None);
        let looks = AtomicU64::new(0);
        let watch = Watch::new(|| looks.fetch_add(1, Relaxed) > 8000);
        let long = Question { precision: 1e-6, ..question(2, Policy::Central, 10.0) };
        let answer = max_load(&long, &watch).expect("it was located by then");
        assert!(!answer.precise && (0.6..0.9).contains(&answer.max_load), "{answer:?}");
    }

    #[test]
    fn roots_lie_on_the_line_through_the_logarithms() {
        let tally = Tally { loads: vec![0.5, 0.6, 0.7], late: vec![vec![0.0001, 0.001, 0.1]; 8] };
        let root = tally.root(0.01).unwrap();
        assert!((root.load - 0.65).abs() < 1e-12 && root.half_width < 1e-12, "{root:?}");
        assert_eq!((tally.root(0.5), tally.root(0.00001)), (None, None));
        assert_eq!((tally.beyond(0.5), tally.beyond(0.00001)), (0.7, 0.5));
    }
}
