//! The load at which a latency objective is just met, by simulation.

use crate::simulate::{Central, Partitioned};
use rand::{Rng as _, SeedableRng};

/// The generator that draws work: the same type as the load generator's.
pub type Rng = rand::rngs::SmallRng;

/// How requests find a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// One queue before all servers, first come first served.
    Central,
    /// A queue for each server, chosen at random.
    Partitioned,
}

/// What [`max_load`] is to find.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// How many servers; none counts as one.
    pub servers: usize,
    /// How requests find one.
    pub discipline: Discipline,
    /// The objective, in mean service times.
    pub slo: f64,
    /// The share of the requests that must meet it, such as 0.99.
    pub quantile: f64,
    /// How many requests to simulate at each load. The error of the answer falls with their square root; a million give it to about half
    /// a point of load, if the work does not vary wildly.
    pub requests: usize,
    /// How many to let pass before.
    pub warmup: usize,
    /// Where the numbers come from: equal seeds give equal answers.
    pub seed: u64,
}

impl Question {
    /// The 99th percentile within `slo` mean service times, on `servers` servers with one queue, from a million requests.
    pub fn p99(servers: usize, slo: f64) -> Question {
        let discipline = Discipline::Central;
        Question { servers, discipline, slo, quantile: 0.99, requests: 1_000_000, warmup: 50_000, seed: 1 }
    }

    /// The same with a queue for each server.
    pub fn partitioned(self) -> Question {
        Question { discipline: Discipline::Partitioned, ..self }
    }
}

/// A request as every load sees it: only the gap before it is stretched.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// Of mean 1.
    gap: f64,
    work: f64,
    /// Which server, 0..1.
    pick: f64,
}

/// The highest load (0..=1: arrivals times mean work over servers) at which `question`'s share of the requests meets its objective; 0 if it
/// is missed even by requests that never wait. Arrivals are Poisson; `work` draws service times of mean 1.
///
/// Every load is tried with the same random numbers. A higher load then never shortens a sojourn, so the bisection has one answer and the
/// differences between systems are not noise. Holds 24 bytes a request.
pub fn max_load(question: &Question, mut work: impl FnMut(&mut Rng) -> f64) -> f64 {
    let mut rng = Rng::seed_from_u64(question.seed);
    let total = question.requests.saturating_add(question.warmup);
    let draw = |_| Request { gap: -(-rng.random::<f64>()).ln_1p(), work: work(&mut rng), pick: rng.random() };
    let requests: Vec<Request> = (0..total).map(draw).collect();
    let allowed = (question.requests as f64 * (1.0 - question.quantile)).max(0.0);
    let meets = |load: f64| late(question, &requests, load) as f64 <= allowed;
    let mut low = 0.0;
    let mut high = 1.0;
    if meets(high) {
        return 1.0;
    }
    // A thousandth of a point of load is far within the error of the sample.
    while high - low > 1e-5 {
        let middle = (low + high) / 2.0;
        if meets(middle) { low = middle } else { high = middle }
    }
    low
}

/// How many requests miss the objective at `load` (more than 0).
fn late(question: &Question, requests: &[Request], load: f64) -> usize {
    let stretch = 1.0 / (load * question.servers.max(1) as f64);
    let (mut central, mut parts) = (Central::new(question.servers), Partitioned::new(question.servers));
    let mut at = 0.0;
    let mut late = 0;
    for (nth, request) in requests.iter().enumerate() {
        at += request.gap * stretch;
        let stayed = match question.discipline {
            Discipline::Central => central.serve(at, request.work),
            Discipline::Partitioned => parts.serve(at, request.work, request.pick),
        };
        late += usize::from(nth >= question.warmup && stayed > question.slo);
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closed::mmn_max_load;

    fn det(_: &mut Rng) -> f64 {
        1.0
    }

    fn exp(rng: &mut Rng) -> f64 {
        -(-rng.random::<f64>()).ln_1p()
    }

    fn bimodal1(rng: &mut Rng) -> f64 {
        if rng.random::<f64>() < 0.1 { 5.5 } else { 0.5 }
    }

    /// The theory's rows: 99th percentile within ten mean service times, in percent of the load.
    #[test]
    fn the_rows_of_the_theory() {
        for (servers, percents) in [(1, [77.3, 53.95, 30.7]), (2, [88.1, 75.8, 60.9]), (16, [98.4, 96.77, 94.4])] {
            let question = Question::p99(servers, 10.0);
            let loads = [max_load(&question, det), max_load(&question, exp), max_load(&question, bimodal1)];
            for (load, percent) in loads.iter().zip(percents) {
                assert!((load * 100.0 - percent).abs() < 1.2, "{servers}: {loads:?} {percents:?}");
            }
        }
    }

    #[test]
    fn partitioned_queues_carry_what_one_queue_of_one_server_does() {
        let load = max_load(&Question::p99(8, 10.0).partitioned(), exp);
        assert!((load - mmn_max_load(1, 10.0, 0.99)).abs() < 0.012, "{load}");
    }

    #[test]
    fn impossible_and_trivial_objectives() {
        let small = |slo| Question { requests: 10_000, warmup: 100, ..Question::p99(2, slo) };
        assert!(max_load(&small(0.5), det) < 1e-4);
        assert_eq!(max_load(&small(1e9), det), 1.0);
        assert_eq!(max_load(&Question { requests: 0, ..small(1.0) }, det), 1.0);
    }

    #[test]
    fn equal_seeds_give_equal_answers() {
        let question = Question { requests: 20_000, warmup: 1000, ..Question::p99(4, 10.0) };
        assert_eq!(max_load(&question, exp), max_load(&question, exp));
        assert_ne!(max_load(&question, exp), max_load(&Question { seed: 2, ..question.clone() }, exp));
    }
}
