//! Processor sharing: all that are present are served at once, each at the same speed.
//!
//! With k present at n servers that speed is min(1, n / k). A virtual clock that runs at it tells each request, the moment it arrives,
//! what the clock will say when it leaves: who leaves first is at the top of a heap, and nobody else need be looked at.

use super::{Job, Model, dealt};
use crate::system::System;
use draw::Rng;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A request, and what the virtual clock says when it leaves. The earliest is the greatest, so that it is on top of a heap.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Present {
    leaves: f64,
    job: Job,
}

impl Eq for Present {}

impl Ord for Present {
    fn cmp(&self, other: &Present) -> Ordering {
        other.leaves.total_cmp(&self.leaves)
    }
}

impl PartialOrd for Present {
    fn partial_cmp(&self, other: &Present) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All present share the servers: M/G/n/PS. O(log k) a request with k present.
#[derive(Debug)]
pub(crate) struct Sharing {
    servers: f64,
    present: BinaryHeap<Present>,
    /// Up to where it is simulated.
    now: f64,
    /// The work that each one present has had since the system was last empty.
    clock: f64,
}

impl Sharing {
    fn with(servers: usize) -> Sharing {
        Sharing { servers: servers as f64, present: BinaryHeap::new(), now: 0.0, clock: 0.0 }
    }

    /// Lets time pass until `to`.
    fn pass(&mut self, to: f64, done: &mut impl FnMut(Job, f64)) {
        while let Some(next) = self.present.peek() {
            // A unit of the virtual clock takes so long.
            let unit = (self.present.len() as f64 / self.servers).max(1.0);
            let at = self.now + (next.leaves - self.clock) * unit;
            if at > to {
                self.clock += (to - self.now) / unit;
                self.now = to;
                return;
            }
            (self.now, self.clock) = (at, next.leaves);
            done(next.job, at - next.job.at);
            self.present.pop();
        }
        // From zero again, so that rounding does not grow with time.
        (self.now, self.clock) = (to, 0.0);
    }

    fn take(&mut self, job: Job, done: &mut impl FnMut(Job, f64)) {
        self.pass(job.at, done);
        self.present.push(Present { leaves: self.clock + job.work, job });
    }
}

impl Model for Sharing {
    const DEALS: bool = false;

    fn new(system: &System, _: Rng) -> Sharing {
        Sharing::with(system.n())
    }

    fn arrive(&mut self, job: Job, _: f64, done: &mut impl FnMut(Job, f64)) {
        self.take(job, done);
    }

    fn drain(&mut self, done: &mut impl FnMut(Job, f64)) {
        self.pass(f64::INFINITY, done);
    }
}

/// Each server is shared by what was dealt to it: n x M/G/1/PS.
#[derive(Debug)]
pub(crate) struct PartitionedSharing(Vec<Sharing>);

impl Model for PartitionedSharing {
    const DEALS: bool = true;

    fn new(system: &System, _: Rng) -> PartitionedSharing {
        PartitionedSharing((0..system.n()).map(|_| Sharing::with(1)).collect())
    }

    fn arrive(&mut self, job: Job, pick: f64, done: &mut impl FnMut(Job, f64)) {
        let server = dealt(pick, self.0.len());
        self.0[server].take(job, done);
    }

    fn drain(&mut self, done: &mut impl FnMut(Job, f64)) {
        for server in &mut self.0 {
            server.pass(f64::INFINITY, done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{requests, stays, stays_of};
    use super::*;
    use crate::Policy;
    use proptest::prelude::*;

    /// The same by looking at everybody's remaining work at every event.
    fn plainly(servers: usize, requests: &[(f64, f64)]) -> Vec<f64> {
        let mut arrivals: Vec<(f64, f64)> = Vec::new();
        let mut at = 0.0;
        for (gap, work) in requests {
            at += gap;
            arrivals.push((at, *work));
        }
        let mut left: Vec<f64> = requests.iter().map(|r| r.1).collect();
        let mut stays = vec![0.0; requests.len()];
        let (mut now, mut here, mut next) = (0.0, Vec::<usize>::new(), 0);
        while next < arrivals.len() || !here.is_empty() {
            let speed = (servers as f64 / here.len() as f64).min(1.0);
            let leaver = here.iter().copied().min_by(|a, b| left[*a].total_cmp(&left[*b]));
            let leaves = leaver.map_or(f64::INFINITY, |i| now + left[i] / speed);
            let arrives = arrivals.get(next).map_or(f64::INFINITY, |a| a.0);
            let to = leaves.min(arrives);
            here.iter().for_each(|i| left[*i] -= (to - now) * speed);
            now = to;
            if leaves <= arrives {
                let leaver = leaver.expect("somebody leaves");
                here.retain(|i| *i != leaver);
                stays[leaver] = now - arrivals[leaver].0;
            } else {
                here.push(next);
                next += 1;
            }
        }
        stays
    }

    #[test]
    fn two_that_share_one_server_take_twice_as_long() {
        assert_eq!(stays::<Sharing>(1, Policy::Sharing, &[(0.0, 1.0), (0.0, 1.0)]), [2.0, 2.0]);
        assert_eq!(stays::<Sharing>(2, Policy::Sharing, &[(0.0, 1.0), (0.0, 1.0)]), [1.0, 1.0]);
        // Three at two servers: two thirds each until the first is done, then one server each.
        assert_eq!(stays::<Sharing>(2, Policy::Sharing, &[(0.0, 2.0), (0.0, 2.0), (0.0, 3.0)]), [3.0, 3.0, 4.0]);
        // A short one passes a long one.
        assert_eq!(stays::<Sharing>(1, Policy::Sharing, &[(0.0, 9.0), (1.0, 1.0)]), [10.0, 2.0]);
    }

    #[test]
    fn dealt_requests_share_with_their_own() {
        let dealt = [(0.0, 1.0, 0.1), (0.0, 1.0, 0.2), (0.0, 1.0, 0.9)];
        assert_eq!(stays_of::<PartitionedSharing>(2, Policy::PartitionedSharing, &dealt), [2.0, 2.0, 1.0]);
    }

    proptest! {
        #[test]
        fn the_virtual_clock_tells_what_remaining_work_does(requests in requests(60), servers in 1..5usize) {
            let plain = plainly(servers, &requests);
            for (got, expected) in stays::<Sharing>(servers, Policy::Sharing, &requests).into_iter().zip(plain) {
                prop_assert!((got - expected).abs() < 1e-6, "{} {}", got, expected);
            }
        }

        #[test]
        fn partitions_of_one_server_are_that_server(requests in requests(60)) {
            let one = stays::<Sharing>(1, Policy::Sharing, &requests);
            prop_assert_eq!(stays::<PartitionedSharing>(1, Policy::PartitionedSharing, &requests), one);
        }
    }
}
