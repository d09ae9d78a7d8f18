//! Requests in, stays out: one run of a system at one or several loads.
//!
//! All loads see the same requests; only the gaps before them are stretched. Differences between loads are then not noise, and the
//! random numbers, half of the work, are drawn once. Gaps, work and picks come from streams of their own, so that policies that need
//! more numbers do not shift the others'.

use crate::models::{Central, Job, Model, Partitioned, PartitionedSharing, Quantum, Sharing, Steal};
use crate::replications::Watch;
use crate::system::{Policy, System};
use draw::{Purpose, Rng, stream};
use rand::{Rng as _, SeedableRng};

/// How many requests are drawn at a time, and between two looks at the watch.
const BLOCK: usize = 512;

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Length {
    /// Requests that find the system emptier than it will be, and are not counted.
    pub(crate) warmup: u64,
    /// Requests that are counted.
    pub(crate) counted: u64,
}

impl Length {
    /// All of them.
    pub(crate) fn total(self) -> u64 {
        self.warmup + self.counted
    }

    /// How many more may come so that the last counted do not leave an emptying system.
    fn after(self) -> u64 {
        self.counted / 4 + 4096
    }
}

/// Takes what is counted.
pub(crate) trait Sink {
    /// A request of `work` has stayed for `stay`.
    fn take(&mut self, work: f64, stay: f64);
}

/// One run, the `replication`-th with `seed`: a sink for each of `loads` (more than 0), in their order. `None` if the watch ended it.
pub(crate) fn feed<S: Sink>(
    system: &System,
    loads: &[f64],
    length: Length,
    (seed, replication): (u64, u32),
    watch: &Watch<'_>,
    sink: impl Fn() -> S,
) -> Option<Vec<S>> {
    let source = Source::new(system, seed, replication);
    let run = Run { system, loads, length, watch };
    match system.policy {
        Policy::Central => run.with::<Central, S>(source, sink),
        Policy::Partitioned => run.with::<Partitioned, S>(source, sink),
        Policy::Sharing => run.with::<Sharing, S>(source, sink),
        Policy::PartitionedSharing => run.with::<PartitionedSharing, S>(source, sink),
        Policy::Steal => run.with::<Steal, S>(source, sink),
        Policy::Quantum { .. } => run.with::<Quantum, S>(source, sink),
    }
}

/// A request as every load sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    /// Of mean 1.
    gap: f64,
    work: f64,
    /// Which server, 0..1.
    pick: f64,
}

/// Draws requests.
struct Source<'a> {
    system: &'a System,
    gaps: Rng,
    work: Rng,
    picks: Rng,
    /// For choices of the policy itself.
    own: Rng,
    /// The place in a trace of gaps.
    place: usize,
}

impl Source<'_> {
    fn new(system: &System, seed: u64, replication: u32) -> Source<'_> {
        let of = |purpose| stream(seed, replication, purpose);
        let (mut gaps, mut picks) = (of(Purpose::Arrivals), of(Purpose::Connections));
        let own = Rng::seed_from_u64(picks.random());
        // Replications enter a trace anywhere.
        let place = gaps.random::<u32>() as usize;
        Source { system, gaps, work: of(Purpose::Requests), picks, own, place }
    }

    fn fill(&mut self, requests: &mut [Request], deals: bool) {
        for request in requests {
            request.gap = self.system.gaps.draw(&mut self.place, &mut self.gaps);
            request.work = self.system.work.draw_unit(&mut self.work);
            if deals {
                request.pick = self.picks.random();
            }
        }
    }
}

/// The system at one load.
struct Lane<M, S> {
    model: M,
    /// A gap of 1 takes so long.
    stretch: f64,
    at: f64,
    /// Counted requests that have not left.
    left: u64,
    sink: S,
}

impl<M: Model, S: Sink> Lane<M, S> {
    #[inline]
    fn take(&mut self, nth: u64, request: &Request, length: Length) {
        let Lane { model, left, sink, .. } = self;
        self.at += request.gap * self.stretch;
        let job = Job { nth, at: self.at, work: request.work };
        model.arrive(job, request.pick, &mut |job, stay| count(job, stay, length, left, sink));
    }

    fn drain(&mut self, length: Length) {
        let Lane { model, left, sink, .. } = self;
        model.drain(&mut |job, stay| count(job, stay, length, left, sink));
    }
}

#[inline]
fn count(job: Job, stay: f64, length: Length, left: &mut u64, sink: &mut impl Sink) {
    // One comparison for both ends: what is before the warm-up's end wraps around.
    if job.nth.wrapping_sub(length.warmup) < length.counted {
        *left -= 1;
        sink.take(job.work, stay);
    }
}

struct Run<'a> {
    system: &'a System,
    loads: &'a [f64],
    length: Length,
    watch: &'a Watch<'a>,
}

impl Run<'_> {
    fn with<M: Model, S: Sink>(&self, mut source: Source<'_>, sink: impl Fn() -> S) -> Option<Vec<S>> {
        let lane = |load: &f64| Lane {
            model: M::new(self.system, source.own.clone()),
            stretch: 1.0 / (load * self.system.n() as f64),
            at: 0.0,
            left: self.length.counted,
            sink: sink(),
        };
        let mut lanes: Vec<Lane<M, S>> = self.loads.iter().map(lane).collect();
        let mut block = [Request::default(); BLOCK];
        let (total, most) = (self.length.total(), self.length.total() + self.length.after());
        let mut fed = 0;
        while fed < total || (fed < most && lanes.iter().any(|lane| lane.left != 0)) {
            let end = if fed < total { total } else { most };
            let some = &mut block[..(end - fed).min(BLOCK as u64) as usize];
            source.fill(some, M::DEALS);
            // Lanes inside: they do not depend on one another, so that a processor works on several at once.
            for (nth, request) in (fed..).zip(&*some) {
                for lane in &mut lanes {
                    lane.take(nth, request, self.length);
                }
            }
            fed += some.len() as u64;
            if !self.watch.go_on((some.len() * lanes.len()) as u64) {
                return None;
            }
        }
        for lane in &mut lanes {
            lane.drain(self.length);
        }
        Some(lanes.into_iter().map(|lane| lane.sink).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use draw::{Gaps, ServiceTimes};
    use units::Nanos;

    /// Everything that was counted.
    struct Keep(Vec<(f64, f64)>);

    impl Sink for Keep {
        fn take(&mut self, work: f64, stay: f64) {
            self.0.push((work, stay));
        }
    }

    const POLICIES: [Policy; 6] = [
        Policy::Central,
        Policy::Partitioned,
        Policy::Sharing,
        Policy::PartitionedSharing,
        Policy::Steal,
        Policy::Quantum { slice: 0.5, switch: 0.0 },
    ];

    fn run(policy: Policy, loads: &[f64], warmup: u64, seed: u64) -> Vec<Vec<(f64, f64)>> {
        let system = System::new(4, policy, ServiceTimes::exp(Nanos(1000)));
        let length = Length { warmup, counted: 3000 };
        let keep = feed(&system, loads, length, (seed, 0), &Watch::none(), || Keep(Vec::new()));
        keep.expect("nobody ends it").into_iter().map(|keep| keep.0).collect()
    }

    #[test]
    fn what_is_counted_is_counted_once_and_stays_at_least_its_work() {
        for policy in POLICIES {
            for stays in run(policy, &[0.3, 0.9, 1.0], 100, 1) {
                assert_eq!(stays.len(), 3000, "{policy}");
                assert!(stays.iter().all(|(work, stay)| *stay >= work - 1e-6), "{policy}");
            }
        }
    }

    #[test]
    fn loads_share_their_random_numbers_and_do_not_disturb_each_other() {
        for policy in POLICIES {
            let both = run(policy, &[0.5, 0.8], 50, 7);
            assert_eq!(both[1], run(policy, &[0.8], 50, 7)[0], "{policy}");
            let mut work = both.map_work();
            let other = work.pop();
            assert_eq!(work.pop(), other, "{policy}");
            assert_ne!(both[1], run(policy, &[0.8], 50, 8)[0], "{policy}");
        }
    }

    trait MapWork {
        fn map_work(&self) -> Vec<Vec<u64>>;
    }

    impl MapWork for Vec<Vec<(f64, f64)>> {
        /// The work alone, in an order that does not depend on who left first.
        fn map_work(&self) -> Vec<Vec<u64>> {
            let sorted = |stays: &Vec<(f64, f64)>| {
                let mut work: Vec<u64> = stays.iter().map(|s| s.0.to_bits()).collect();
                work.sort_unstable();
                work
            };
            self.iter().map(sorted).collect()
        }
    }

    #[test]
    fn an_idle_system_leaves_only_the_work() {
        for policy in POLICIES {
            let stays = &run(policy, &[1e-6], 0, 3)[0];
            assert!(stays.iter().all(|(work, stay)| (stay - work).abs() < 1e-3), "{policy}");
        }
    }

    #[test]
    fn equal_gaps_at_half_a_load_never_meet() {
        let gaps = Gaps::fixed();
        let system = System { gaps, ..System::new(1, Policy::Central, ServiceTimes::det(Nanos(1000))) };
        let length = Length { warmup: 0, counted: 100 };
        let keep = feed(&system, &[0.5], length, (1, 0), &Watch::none(), || Keep(Vec::new())).expect("runs");
        assert!(keep[0].0.iter().all(|(_, stay)| *stay == 1.0));
    }
}
