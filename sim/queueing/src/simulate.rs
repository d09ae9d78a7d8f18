//! G/G/n in virtual time: one pass over the requests, in the order of their arrival.

use crate::sojourns::Sojourns;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// An instant in a heap that has the earliest on top.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Free(f64);

impl Eq for Free {}

impl Ord for Free {
    fn cmp(&self, other: &Free) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

impl PartialOrd for Free {
    fn partial_cmp(&self, other: &Free) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One queue before `n` servers: who comes first takes the server that is free first.
#[derive(Debug)]
pub(crate) struct Central {
    /// When each server will be free.
    servers: BinaryHeap<Free>,
}

impl Central {
    /// None counts as one.
    pub(crate) fn new(servers: usize) -> Central {
        Central { servers: std::iter::repeat_n(Free(0.0), servers.max(1)).collect() }
    }

    /// Takes a request of `work` that arrives `at` an instant, not before the last one; how long it stays.
    pub(crate) fn serve(&mut self, at: f64, work: f64) -> f64 {
        // Never empty.
        let Some(mut first) = self.servers.peek_mut() else { return work };
        let done = first.0.max(at) + work;
        first.0 = done;
        // Sifts it down.
        drop::<PeekMut<'_, Free>>(first);
        done - at
    }
}

/// Queues that do not help one another.
#[derive(Debug)]
pub(crate) struct Partitioned {
    servers: Vec<f64>,
}

impl Partitioned {
    /// None counts as one.
    pub(crate) fn new(servers: usize) -> Partitioned {
        Partitioned { servers: vec![0.0; servers.max(1)] }
    }

    /// Takes a request for the server that `pick` (0..1) names; how long it stays.
    pub(crate) fn serve(&mut self, at: f64, work: f64, pick: f64) -> f64 {
        let nth = ((pick * self.servers.len() as f64) as usize).min(self.servers.len() - 1);
        let done = self.servers[nth].max(at) + work;
        self.servers[nth] = done;
        done - at
    }
}

/// Feeds `warmup + n` requests and keeps the last `n`.
fn run(
    mut gaps: impl FnMut() -> f64,
    mut service: impl FnMut() -> f64,
    n: usize,
    warmup: usize,
    mut serve: impl FnMut(f64, f64) -> f64,
) -> Sojourns {
    let mut at = 0.0;
    let mut next = || {
        at += gaps();
        serve(at, service())
    };
    (0..warmup).for_each(|_| {
        next();
    });
    Sojourns::new((0..n).map(|_| next()).collect())
}

/// One queue before `servers` servers (none counts as one), first come first served: G/G/n. The gaps between arrivals come from `gaps`, the
/// work of each request from `service`, both not negative and in one unit. The first `warmup` requests find an emptier system and are not
/// counted; the `n` after them are. With one server this is Lindley's recursion. Costs O(log servers) a request.
pub fn fcfs(
    servers: usize,
    gaps: impl FnMut() -> f64,
    service: impl FnMut() -> f64,
    n: usize,
    warmup: usize,
) -> Sojourns {
    let mut queue = Central::new(servers);
    run(gaps, service, n, warmup, |at, work| queue.serve(at, work))
}

/// As [`fcfs`], but every request is sent to one of `servers` queues at random (uniformly, from `seed`), each with a server of its own.
pub fn partitioned(
    servers: usize,
    gaps: impl FnMut() -> f64,
    service: impl FnMut() -> f64,
    n: usize,
    warmup: usize,
    seed: u64,
) -> Sojourns {
    let mut queues = Partitioned::new(servers);
    let mut rng = SmallRng::seed_from_u64(seed);
    run(gaps, service, n, warmup, |at, work| queues.serve(at, work, rng.random()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closed::{mg1_mean, mm1_quantile, mmn_quantile};
    use proptest::prelude::*;

    fn exponential(seed: u64, mean: f64) -> impl FnMut() -> f64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        move || -mean * (-rng.random::<f64>()).ln_1p()
    }

    fn list(values: &[f64]) -> impl FnMut() -> f64 {
        let mut values = values.iter().copied();
        move || values.next().unwrap()
    }

    #[test]
    fn a_request_waits_for_the_server_that_is_free_first() {
        // Arrivals 0, 1, 2, 3; two servers; work 5, 1, 1, 1: only the first server is ever busy when another comes.
        let s = fcfs(2, list(&[0.0, 1.0, 1.0, 1.0]), list(&[5.0, 1.0, 1.0, 1.0]), 4, 0);
        assert_eq!((s.quantile(0.75), s.max()), (1.0, 5.0));
        // Arrivals at once: the third waits for the second.
        let s = fcfs(2, list(&[0.0, 0.0, 0.0]), list(&[5.0, 2.0, 1.0]), 3, 0);
        assert_eq!([0.3, 0.6, 1.0].map(|q| s.quantile(q)), [2.0, 3.0, 5.0]);
        // Warm-up requests wait and make wait, but do not count.
        let s = fcfs(1, list(&[0.0, 0.0]), list(&[5.0, 2.0]), 1, 1);
        assert_eq!((s.len(), s.max()), (1, 7.0));
    }

    #[test]
    fn one_exponential_server_is_mm1() {
        for load in [0.3, 0.7] {
            let s = fcfs(1, exponential(1, 1.0 / load), exponential(2, 1.0), 1_000_000, 10_000);
            for q in [0.5, 0.9, 0.99] {
                let exact = mm1_quantile(load, 1.0, q);
                assert!((s.quantile(q) - exact).abs() < 0.05 * exact, "{load} {q}: {} {exact}", s.quantile(q));
            }
        }
    }

    #[test]
    fn many_exponential_servers_are_mmn() {
        for (n, load) in [(2usize, 0.6), (8, 0.8), (16, 0.9)] {
            let rate = load * n as f64;
            let s = fcfs(n, exponential(3, 1.0 / rate), exponential(4, 1.0), 1_000_000, 50_000);
            for q in [0.5, 0.9, 0.99] {
                let exact = mmn_quantile(n, rate, 1.0, q);
                assert!((s.quantile(q) - exact).abs() < 0.04 * exact, "{n} {q}: {} {exact}", s.quantile(q));
            }
        }
    }

    #[test]
    fn partitioned_queues_under_poisson_arrivals_are_single_queues() {
        let s = partitioned(8, exponential(5, 1.0 / (8.0 * 0.6)), exponential(6, 1.0), 1_000_000, 50_000, 7);
        let exact = mm1_quantile(0.6, 1.0, 0.99);
        assert!((s.quantile(0.99) - exact).abs() < 0.05 * exact, "{} {exact}", s.quantile(0.99));
    }

    #[test]
    fn means_follow_pollaczek_and_khinchine() {
        let mut rng = SmallRng::seed_from_u64(9);
        let bimodal = move || if rng.random::<f64>() < 0.1 { 5.5 } else { 0.5 };
        let s = fcfs(1, exponential(8, 1.0 / 0.6), bimodal, 2_000_000, 10_000);
        let exact = mg1_mean(0.6, 1.0, 2.25);
        assert!((s.mean() - exact).abs() < 0.04 * exact, "{} {exact}", s.mean());
        let s = fcfs(1, exponential(8, 1.0 / 0.6), || 1.0, 2_000_000, 10_000);
        let exact = mg1_mean(0.6, 1.0, 0.0);
        assert!((s.mean() - exact).abs() < 0.02 * exact, "{} {exact}", s.mean());
    }

    proptest! {
        #[test]
        fn one_server_is_lindleys_recursion(requests in proptest::collection::vec((0.0..3.0f64, 0.0..2.0f64), 1..100)) {
            let (gaps, work): (Vec<f64>, Vec<f64>) = requests.iter().copied().unzip();
            let mut wait: f64 = 0.0;
            let mut expected = Vec::new();
            for nth in 0..gaps.len() {
                if nth != 0 {
                    wait = (wait + work[nth - 1] - gaps[nth]).max(0.0);
                }
                expected.push(wait + work[nth]);
            }
            let expected = Sojourns::new(expected);
            let got = fcfs(1, list(&gaps), list(&work), gaps.len(), 0);
            let alone = partitioned(1, list(&gaps), list(&work), gaps.len(), 0, 1);
            for q in [0.1, 0.5, 0.9, 1.0] {
                prop_assert!((got.quantile(q) - expected.quantile(q)).abs() < 1e-9);
                prop_assert!((alone.quantile(q) - expected.quantile(q)).abs() < 1e-9);
            }
        }

        #[test]
        fn more_servers_never_make_a_request_stay_longer(
            requests in proptest::collection::vec((0.0..1.0f64, 0.0..4.0f64), 1..100), servers in 1..6usize
        ) {
            let (gaps, work): (Vec<f64>, Vec<f64>) = requests.iter().copied().unzip();
            let few = fcfs(servers, list(&gaps), list(&work), gaps.len(), 0);
            let more = fcfs(servers + 1, list(&gaps), list(&work), gaps.len(), 0);
            prop_assert!(more.max() <= few.max() + 1e-9 && more.mean() <= few.mean() + 1e-9);
        }

        #[test]
        fn enough_servers_leave_only_the_work(requests in proptest::collection::vec((0.0..1.0f64, 0.0..4.0f64), 1..50)) {
            let (gaps, work): (Vec<f64>, Vec<f64>) = requests.iter().copied().unzip();
            let got = fcfs(work.len(), list(&gaps), list(&work), work.len(), 0);
            let alone = Sojourns::new(work);
            prop_assert!((got.mean() - alone.mean()).abs() < 1e-9 && (got.max() - alone.max()).abs() < 1e-9);
        }
    }
}
