use load::Side;

use super::Work;
use crate::account::Cost;
use crate::kinds::hunt::Tried;
use crate::measure::Point;
use crate::noise::Noise;
use crate::stack::Stack;
use crate::stats::Spread;

/// One workload on one stack: all that was measured.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) work: Work,
    pub(super) stack: Stack,
    /// Why there is nothing, or not everything.
    pub(super) skipped: Option<String>,
    /// As fast as it goes, requests per second; tells the search where to look.
    pub(super) closed_rps: f64,
    /// The rate at which all stacks of this workload are compared.
    pub(super) equal_rate: f64,
    /// As many as were completed, and perhaps one that was not.
    pub(super) rounds: Vec<Round>,
    /// Every window of a search, of the curve and at equal load.
    pub(super) tried: Vec<Tried>,
    /// Requests that went wrong where no load was too high for that.
    pub(super) errors: u64,
    /// Of all its windows.
    pub(super) noise: Noise,
}

/// One round. What is `None` was not measured, or the machine was too noisy for it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Round {
    pub(super) unloaded: Option<Latency>,
    /// The highest rate that held the objective.
    pub(super) max_rps: Option<f64>,
    pub(super) confident: bool,
    pub(super) equal: Option<Equal>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// The machine was too noisy.
    pub(super) void: bool,
}

/// A window at the load that is the same for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Equal {
    pub(super) cost: Cost,
    pub(super) latency: Latency,
    /// CPU time of the client per request, in microseconds.
    pub(super) client_us: f64,
}

impl Latency {
    pub(super) fn of(point: &Point) -> Latency {
        let us = |q| point.outcome.quantile(q).0 as f64 / 1e3;
        Latency { p50: us(0.5), p99: point.outcome.typical(0.99).0 as f64 / 1e3, void: point.void() }
    }
}

impl Row {
    pub(super) fn new(work: Work, stack: Stack) -> Row {
        Row {
            work,
            stack,
            skipped: None,
            closed_rps: 0.0,
            equal_rate: 0.0,
            rounds: Vec::new(),
            tried: Vec::new(),
            errors: 0,
            noise: Noise::default(),
        }
    }

    /// A figure of each round, `None` where there is none.
    pub(super) fn by_round(&self, figure: impl Fn(&Round) -> Option<f64>) -> Vec<Option<f64>> {
        self.rounds.iter().map(figure).collect()
    }

    /// Its spread over the rounds.
    pub(super) fn spread(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(figure))
    }

    /// A latency, of quiet rounds if there is one.
    pub(super) fn latency(&self, of: fn(&Round) -> Option<Latency>, figure: fn(&Latency) -> f64) -> Option<Spread> {
        let quiet = |r: &Round| of(r).filter(|l| !l.void).map(|l| figure(&l));
        self.spread(quiet).or_else(|| self.spread(|r| of(r).map(|l| figure(&l))))
    }

    /// All windows at equal load together: the parts of the cost are steadier so.
    pub(super) fn cost(&self) -> Option<Cost> {
        let mut sum: Option<Cost> = None;
        for equal in self.rounds.iter().filter_map(|r| r.equal) {
            sum.get_or_insert_default().add(&equal.cost);
        }
        sum
    }

    /// The side that broke the objective at the lowest rate at which it was broken above the maximum. `None` without a maximum.
    pub(super) fn saturated_side(&self) -> Option<Side> {
        let max = self.spread(figure::rps)?.median;
        let broken = self.tried.iter().filter(|t| !t.void && t.rate > max && t.broke.is_some());
        broken.min_by(|a, b| a.rate.total_cmp(&b.rate)).and_then(|t| t.broke)
    }

    /// Whether some round's figures are those of a machine that was too noisy, or a search came to no sure end.
    pub(super) fn unsure(&self) -> bool {
        let void = |l: Option<Latency>| l.is_some_and(|l| l.void);
        self.rounds.iter().any(|r| void(r.unloaded) || void(r.equal.map(|e| e.latency)) || !r.confident)
    }
}

/// Figures of a round.
pub(super) mod figure {
    use super::{Latency, Round};

    pub(in super::super) fn rps(r: &Round) -> Option<f64> {
        r.max_rps
    }

    pub(in super::super) fn p50(r: &Round) -> Option<f64> {
        r.unloaded.map(|l| l.p50)
    }

    pub(in super::super) fn p99(r: &Round) -> Option<f64> {
        r.unloaded.map(|l| l.p99)
    }

    pub(in super::super) fn server_us(r: &Round) -> Option<f64> {
        r.equal.map(|e| e.cost.total())
    }

    pub(in super::super) fn thread_us(r: &Round) -> Option<f64> {
        r.equal.map(|e| e.cost.per_request(e.cost.threads))
    }

    pub(in super::super) fn kernel_us(r: &Round) -> Option<f64> {
        r.equal.map(|e| e.cost.per_request(e.cost.kernel))
    }

    pub(in super::super) fn client_us(r: &Round) -> Option<f64> {
        r.equal.map(|e| e.client_us)
    }

    pub(in super::super) fn unloaded(r: &Round) -> Option<Latency> {
        r.unloaded
    }

    pub(in super::super) fn equal(r: &Round) -> Option<Latency> {
        r.equal.map(|e| e.latency)
    }
}
