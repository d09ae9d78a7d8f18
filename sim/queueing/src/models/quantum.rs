//! Round robin: one queue, and a request that has had its slice goes back to the end of it if others wait.

use super::earliest::Earliest;
use super::{Job, Model};
use crate::system::{Policy, System};
use draw::Rng;
use std::collections::VecDeque;

/// A request that is not done.
#[derive(Clone, Copy, Debug)]
struct Task {
    job: Job,
    /// Work that it still needs.
    left: f64,
}

/// O(log n) a slice.
pub(crate) struct Quantum {
    slice: f64,
    switch: f64,
    /// When the slice of each server ends.
    ends: Earliest,
    /// What each server works on; stale at one that is idle.
    on: Vec<Task>,
    idle: Vec<usize>,
    queue: VecDeque<Task>,
}

impl Quantum {
    /// `server` works on `task` from `at` on, for a slice or until it is done.
    fn start(&mut self, server: usize, task: Task, at: f64) {
        // What rounding leaves over is not worth a slice.
        let run = if task.left <= self.slice * (1.0 + 1e-9) { task.left } else { self.slice };
        self.on[server] = Task { left: task.left - run, ..task };
        self.ends.set(server, at + run);
    }

    /// Lets time pass until `to`.
    fn pass(&mut self, to: f64, done: &mut impl FnMut(Job, f64)) {
        loop {
            let (server, at) = self.ends.first();
            if at > to || at.is_infinite() {
                return;
            }
            let task = self.on[server];
            let finished = task.left <= 0.0;
            if finished {
                done(task.job, at - task.job.at);
            }
            match self.queue.pop_front() {
                Some(next) if finished => self.start(server, next, at),
                Some(next) => {
                    self.queue.push_back(task);
                    self.start(server, next, at + self.switch);
                }
                None if finished => {
                    self.ends.set(server, f64::INFINITY);
                    self.idle.push(server);
                }
                None => self.start(server, task, at),
            }
        }
    }
}

impl Model for Quantum {
    const DEALS: bool = false;

    fn new(system: &System, _: Rng) -> Quantum {
        let n = system.n();
        let (slice, switch) = match system.policy {
            Policy::Quantum { slice, switch } => (slice, switch),
            // No slice ever ends: first come first served.
            _ => (f64::INFINITY, 0.0),
        };
        let nothing = Task { job: Job { nth: 0, at: 0.0, work: 0.0 }, left: 0.0 };
        Quantum {
            slice,
            switch,
            ends: Earliest::new(n, f64::INFINITY),
            on: vec![nothing; n],
            idle: (0..n).collect(),
            queue: VecDeque::new(),
        }
    }

    fn arrive(&mut self, job: Job, _: f64, done: &mut impl FnMut(Job, f64)) {
        self.pass(job.at, done);
        let task = Task { job, left: job.work };
        match self.idle.pop() {
            Some(server) => self.start(server, task, job.at),
            None => self.queue.push_back(task),
        }
    }

    fn drain(&mut self, done: &mut impl FnMut(Job, f64)) {
        self.pass(f64::INFINITY, done);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fcfs::Central;
    use super::super::sharing::Sharing;
    use super::super::testing::{requests, stays};
    use super::*;
    use proptest::prelude::*;

    fn quantum(servers: usize, slice: f64, switch: f64, requests: &[(f64, f64)]) -> Vec<f64> {
        stays::<Quantum>(servers, Policy::Quantum { slice, switch }, requests)
    }

    #[test]
    fn slices_go_round() {
        // 1 1 2 2 1: the first has 2 of its 3, then the second 2 of 2, then the first its last.
        assert_eq!(quantum(1, 2.0, 0.0, &[(0.0, 3.0), (0.0, 2.0)]), [5.0, 4.0]);
        // Each switch that puts a request back costs half a unit; ends do not.
        assert_eq!(quantum(1, 2.0, 0.5, &[(0.0, 3.0), (0.0, 2.0)]), [5.5, 4.5]);
        // Nobody waits: no switch.
        assert_eq!(quantum(2, 1.0, 0.5, &[(0.0, 3.0), (0.0, 2.0)]), [3.0, 2.0]);
    }

    proptest! {
        #[test]
        fn slices_that_never_end_are_first_come_first_served(requests in requests(100), servers in 1..6usize) {
            let central = stays::<Central>(servers, Policy::Central, &requests);
            for (got, expected) in quantum(servers, 1e6, 1.0, &requests).into_iter().zip(central) {
                prop_assert!((got - expected).abs() < 1e-9, "{} {}", got, expected);
            }
        }

        #[test]
        fn short_slices_come_close_to_sharing_one_server(requests in requests(30)) {
            // In a round each request is behind or ahead of its share by a slice at most, and so are the others.
            let slice = 0.001;
            let bound = slice * (requests.len() * requests.len()) as f64;
            let shared = stays::<Sharing>(1, Policy::Sharing, &requests);
            for (got, expected) in quantum(1, slice, 0.0, &requests).into_iter().zip(shared) {
                prop_assert!((got - expected).abs() <= bound, "{} {}", got, expected);
            }
        }
    }
}
