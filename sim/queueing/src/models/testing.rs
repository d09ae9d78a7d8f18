//! For tests: lists of requests, and how long each stays.

use super::{Job, Model};
use crate::system::{Policy, System};
use draw::{Purpose, ServiceTimes, stream};
use proptest::prelude::*;
use units::Nanos;

/// At least one request, as the gap before it and its work.
pub(crate) fn requests(most: usize) -> impl Strategy<Value = Vec<(f64, f64)>> {
    proptest::collection::vec((0.0..2.0f64, 0.0..4.0f64), 1..most)
}

/// How long each of `requests` (gap, work) stays, in the order of arrival.
pub(crate) fn stays<M: Model>(servers: usize, policy: Policy, requests: &[(f64, f64)]) -> Vec<f64> {
    let dealt: Vec<(f64, f64, f64)> = requests.iter().map(|&(gap, work)| (gap, work, 0.0)).collect();
    stays_of::<M>(servers, policy, &dealt)
}

/// The same with picks (gap, work, pick).
pub(crate) fn stays_of<M: Model>(servers: usize, policy: Policy, requests: &[(f64, f64, f64)]) -> Vec<f64> {
    let system = System::new(servers, policy, ServiceTimes::det(Nanos(1)));
    let mut model = M::new(&system, stream(1, 0, Purpose::Connections));
    let mut stays = vec![None; requests.len()];
    let mut told = |job: Job, stay: f64| {
        let before = stays[job.nth as usize].replace(stay);
        assert_eq!(before, None, "request {} left twice", job.nth);
    };
    let mut at = 0.0;
    for (nth, &(gap, work, pick)) in requests.iter().enumerate() {
        at += gap;
        model.arrive(Job { nth: nth as u64, at, work }, pick, &mut told);
    }
    model.drain(&mut told);
    stays.into_iter().map(|stay| stay.expect("every request leaves")).collect()
}
