//! A queue for each server, first come first served, and stealing: a server whose queue is empty takes the oldest request of another
//! queue, chosen at random among those that have some. Nothing of that costs anything.
//!
//! No request waits while a server is idle, as with one queue; but requests do not start in the order of their arrival, so that the tail is
//! longer than that of one queue. The mean is the same.

use super::earliest::Earliest;
use super::{Job, Model, dealt};
use crate::system::System;
use draw::Rng;
use rand::Rng as _;
use std::collections::VecDeque;

/// Some of the numbers 0..n. Every operation is O(1).
struct Members {
    list: Vec<usize>,
    /// Where each is in the list; beyond the list if it is not there.
    place: Vec<usize>,
}

impl Members {
    fn none(n: usize) -> Members {
        Members { list: Vec::with_capacity(n), place: vec![usize::MAX; n] }
    }

    fn all(n: usize) -> Members {
        Members { list: (0..n).collect(), place: (0..n).collect() }
    }

    fn has(&self, member: usize) -> bool {
        self.place[member] != usize::MAX
    }

    fn add(&mut self, member: usize) {
        if !self.has(member) {
            self.place[member] = self.list.len();
            self.list.push(member);
        }
    }

    fn remove(&mut self, member: usize) {
        if self.has(member) {
            let place = std::mem::replace(&mut self.place[member], usize::MAX);
            self.list.swap_remove(place);
            if let Some(moved) = self.list.get(place) {
                self.place[*moved] = place;
            }
        }
    }

    /// One of them at random.
    fn any(&self, rng: &mut Rng) -> Option<usize> {
        match self.list.len() {
            0 => None,
            1 => Some(self.list[0]),
            n => Some(self.list[rng.random_range(0..n)]),
        }
    }
}

/// O(log n) a request.
pub(crate) struct Steal {
    /// When each server has done its request.
    ends: Earliest,
    queues: Vec<VecDeque<Job>>,
    /// The queues that are not empty.
    waiting: Members,
    idle: Members,
    rng: Rng,
}

impl Steal {
    fn start(&mut self, server: usize, job: Job, at: f64, done: &mut impl FnMut(Job, f64)) {
        let ends = at + job.work;
        self.ends.set(server, ends);
        done(job, ends - job.at);
    }

    /// Lets time pass until `to`.
    fn pass(&mut self, to: f64, done: &mut impl FnMut(Job, f64)) {
        loop {
            let (server, at) = self.ends.first();
            if at > to || at.is_infinite() {
                return;
            }
            let own = (!self.queues[server].is_empty()).then_some(server);
            let from = own.or_else(|| self.waiting.any(&mut self.rng));
            match from.and_then(|from| Some((from, self.queues[from].pop_front()?))) {
                Some((from, job)) => {
                    if self.queues[from].is_empty() {
                        self.waiting.remove(from);
                    }
                    self.start(server, job, at, done);
                }
                None => {
                    self.ends.set(server, f64::INFINITY);
                    self.idle.add(server);
                }
            }
        }
    }
}

impl Model for Steal {
    const DEALS: bool = true;

    fn new(system: &System, rng: Rng) -> Steal {
        let n = system.n();
        Steal {
            ends: Earliest::new(n, f64::INFINITY),
            queues: vec![VecDeque::new(); n],
            waiting: Members::none(n),
            idle: Members::all(n),
            rng,
        }
    }

    fn arrive(&mut self, job: Job, pick: f64, done: &mut impl FnMut(Job, f64)) {
        self.pass(job.at, done);
        let home = dealt(pick, self.queues.len());
        // Who is idle looks all the time.
        let server = if self.idle.has(home) { Some(home) } else { self.idle.any(&mut self.rng) };
        match server {
            Some(server) => {
                self.idle.remove(server);
                self.start(server, job, job.at, done);
            }
            None => {
                self.queues[home].push_back(job);
                self.waiting.add(home);
            }
        }
    }

    fn drain(&mut self, done: &mut impl FnMut(Job, f64)) {
        self.pass(f64::INFINITY, done);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fcfs::{Central, Partitioned};
    use super::super::testing::{requests, stays, stays_of};
    use super::*;
    use crate::Policy;
    use proptest::prelude::*;

    #[test]
    fn an_idle_server_takes_what_waits_elsewhere() {
        // All dealt to the first of two servers: the second takes the second at once, and the third when it is done.
        let dealt = [(0.0, 9.0, 0.0), (0.0, 2.0, 0.0), (0.0, 1.0, 0.0)];
        assert_eq!(stays_of::<Steal>(2, Policy::Steal, &dealt), [9.0, 2.0, 3.0]);
    }

    #[test]
    fn a_server_serves_its_own_queue_first() {
        // The third is older than the fourth, but the server that is free first has the fourth in its own queue.
        let dealt = [(0.0, 9.0, 0.0), (0.0, 1.0, 0.9), (0.1, 1.0, 0.0), (0.1, 1.0, 0.9)];
        let stays = stays_of::<Steal>(2, Policy::Steal, &dealt);
        let expected = [9.0, 1.0, 2.9, 1.8];
        assert!(stays.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{stays:?}");
    }

    proptest! {
        #[test]
        fn alone_there_is_nobody_to_steal_from(requests in requests(100)) {
            let alone = stays::<Partitioned>(1, Policy::Partitioned, &requests);
            for (got, expected) in stays::<Steal>(1, Policy::Steal, &requests).into_iter().zip(alone) {
                prop_assert!((got - expected).abs() < 1e-9);
            }
        }

        #[test]
        fn equal_work_waits_as_long_in_sum_as_in_one_queue(
            requests in proptest::collection::vec((0.0..1.0f64, 0.0..1.0f64), 1..200), servers in 1..6usize
        ) {
            // Servers that are never idle while somebody waits begin and end at the same instants, whomever they take.
            let dealt: Vec<(f64, f64, f64)> = requests.iter().map(|&(gap, pick)| (gap, 1.0, pick)).collect();
            let plain: Vec<(f64, f64)> = requests.iter().map(|&(gap, _)| (gap, 1.0)).collect();
            let stolen: f64 = stays_of::<Steal>(servers, Policy::Steal, &dealt).iter().sum();
            let central: f64 = stays::<Central>(servers, Policy::Central, &plain).iter().sum();
            prop_assert!((stolen - central).abs() < 1e-6, "{} {}", stolen, central);
        }
    }
}
