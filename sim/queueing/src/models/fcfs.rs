//! First come first served: how long a request stays is known when it arrives.

use super::earliest::Earliest;
use super::{Job, Model, dealt};
use crate::system::System;
use draw::Rng;

/// One queue before `n` servers: who comes first takes the server that is free first. With one server this is Lindley's recursion. O(log n) a
/// request.
pub(crate) struct Central {
    /// When each server will be free.
    free: Earliest,
}

impl Model for Central {
    const DEALS: bool = false;

    fn new(system: &System, _: Rng) -> Central {
        Central { free: Earliest::new(system.n(), 0.0) }
    }

    #[inline]
    fn arrive(&mut self, job: Job, _: f64, done: &mut impl FnMut(Job, f64)) {
        let (server, free) = self.free.first();
        let leaves = free.max(job.at) + job.work;
        self.free.set(server, leaves);
        done(job, leaves - job.at);
    }

    fn drain(&mut self, _: &mut impl FnMut(Job, f64)) {}
}

/// Queues that do not help one another. O(1) a request.
pub(crate) struct Partitioned {
    /// When each server will be free.
    free: Vec<f64>,
}

impl Model for Partitioned {
    const DEALS: bool = true;

    fn new(system: &System, _: Rng) -> Partitioned {
        Partitioned { free: vec![0.0; system.n()] }
    }

    #[inline]
    fn arrive(&mut self, job: Job, pick: f64, done: &mut impl FnMut(Job, f64)) {
        let server = dealt(pick, self.free.len());
        let leaves = self.free[server].max(job.at) + job.work;
        self.free[server] = leaves;
        done(job, leaves - job.at);
    }

    fn drain(&mut self, _: &mut impl FnMut(Job, f64)) {}
}

#[cfg(test)]
mod tests {
    use super::super::testing::{requests, stays, stays_of};
    use super::*;
    use crate::Policy;
    use proptest::prelude::*;

    /// Arrivals given by gaps, and work, at one queue.
    fn central(servers: usize, gaps_and_work: &[(f64, f64)]) -> Vec<f64> {
        stays::<Central>(servers, Policy::Central, gaps_and_work)
    }

    #[test]
    fn a_request_waits_for_the_server_that_is_free_first() {
        // Two servers: only the first is ever busy when another comes.
        assert_eq!(central(2, &[(0.0, 5.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]), [5.0, 1.0, 1.0, 1.0]);
        // Arrivals at once: the third waits for the second.
        assert_eq!(central(2, &[(0.0, 5.0), (0.0, 2.0), (0.0, 1.0)]), [5.0, 2.0, 3.0]);
    }

    #[test]
    fn a_dealt_request_waits_for_its_own_server() {
        let dealt = [(0.0, 5.0, 0.0), (0.0, 1.0, 0.4), (0.0, 1.0, 0.6), (0.0, 1.0, 0.999)];
        assert_eq!(stays_of::<Partitioned>(2, Policy::Partitioned, &dealt), [5.0, 6.0, 1.0, 2.0]);
    }

    proptest! {
        #[test]
        fn one_server_is_lindleys_recursion(requests in requests(100)) {
            let mut wait: f64 = 0.0;
            let mut expected = Vec::new();
            for (nth, (_, work)) in requests.iter().enumerate() {
                expected.push(wait + work);
                let gap = requests.get(nth + 1).map_or(0.0, |next| next.0);
                wait = (wait + work - gap).max(0.0);
            }
            let partitioned = stays::<Partitioned>(1, Policy::Partitioned, &requests);
            for (got, expected) in central(1, &requests).into_iter().chain(partitioned).zip(expected.iter().cycle()) {
                prop_assert!((got - expected).abs() < 1e-9, "{} {}", got, expected);
            }
        }

        #[test]
        fn more_servers_never_make_a_request_stay_longer(requests in requests(100), servers in 1..6usize) {
            for (few, more) in central(servers, &requests).into_iter().zip(central(servers + 1, &requests)) {
                prop_assert!(more <= few + 1e-9);
            }
        }

        #[test]
        fn enough_servers_leave_only_the_work(requests in requests(50)) {
            for (stay, (_, work)) in central(requests.len(), &requests).into_iter().zip(&requests) {
                prop_assert!((stay - work).abs() < 1e-9);
            }
        }
    }
}
