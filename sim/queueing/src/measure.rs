//! How long requests stay at given loads.

use crate::feed::{Length, Sink, feed};
use crate::histogram::Histogram;
use crate::replications::{Effort, Watch, replicate};
use crate::student::half_width;
use crate::system::System;

/// Independent runs behind a [`Row`].
const REPLICATIONS: u32 = 10;

/// How long requests stay at one load, in mean service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Arrivals a mean service time over servers.
    pub load: f64,
    /// The median, to a thousandth, as the other percentiles.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The half-width of its 95 % confidence interval.
    pub p99_ci95: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The mean.
    pub mean: f64,
    /// The half-width of its 95 % confidence interval.
    pub mean_ci95: f64,
    /// The longest.
    pub max: f64,
    /// The mean of stay over own work. Infinite in theory where work has a density at 0 and requests wait, as exponential work
    /// first come first served: then it grows with the length of the run.
    pub slowdown_mean: f64,
    /// The 99th percentile of stay over own work.
    pub slowdown_p99: f64,
    /// Requests counted, of all replications.
    pub requests: u64,
    /// Replications that came to their end.
    pub replications: u32,
}

/// The stays and slowdowns of one run at one load.
struct Stays {
    stays: Histogram,
    slowdowns: Histogram,
}

impl Sink for Stays {
    #[inline]
    fn take(&mut self, work: f64, stay: f64) {
        self.stays.record(stay);
        // Of no work there is no slowdown.
        if work > 0.0 {
            self.slowdowns.record(stay / work);
        }
    }
}

/// How long requests stay in `system` at each of `loads` (moved into 0.0001..=0.9999), from ten independent replications; all loads see the
/// same random numbers. `None` if the watch ended it before one was done: with fewer replications intervals are wider, with fewer than
/// four infinite.
pub fn measure(system: &System, loads: &[f64], effort: &Effort, watch: &Watch<'_>) -> Option<Vec<Row>> {
    let loads: Vec<f64> = loads.iter().map(|load| load.clamp(1e-4, 0.9999)).collect();
    let length = length(system, &loads, effort);
    watch.plan(u64::from(REPLICATIONS) * length.total() * loads.len() as u64);
    let runs = replicate(effort.threads, 0..REPLICATIONS, |nth| {
        let empty = || Stays { stays: Histogram::new(), slowdowns: Histogram::new() };
        feed(system, &loads, length, (effort.seed, nth), watch, empty)
    });
    if runs.is_empty() {
        return None;
    }
    let row = |(nth, load): (usize, &f64)| {
        let parts: Vec<&Stays> = runs.iter().map(|run| &run[nth]).collect();
        row(*load, &parts)
    };
    Some(loads.iter().enumerate().map(row).collect())
}

fn row(load: f64, parts: &[&Stays]) -> Row {
    let (mut stays, mut slowdowns) = (Histogram::new(), Histogram::new());
    for part in parts {
        stays.add(&part.stays);
        slowdowns.add(&part.slowdowns);
    }
    let spread = |of: fn(&Histogram) -> f64| half_width(&parts.iter().map(|part| of(&part.stays)).collect::<Vec<_>>());
    Row {
        load,
        p50: stays.quantile(0.5),
        p99: stays.quantile(0.99),
        p99_ci95: spread(|stays| stays.quantile(0.99)),
        p999: stays.quantile(0.999),
        mean: stays.mean(),
        mean_ci95: spread(Histogram::mean),
        max: stays.max(),
        slowdown_mean: slowdowns.mean(),
        slowdown_p99: slowdowns.quantile(0.99),
        requests: stays.len(),
        replications: parts.len() as u32,
    }
}

/// Long enough for the highest load.
fn length(system: &System, loads: &[f64], effort: &Effort) -> Length {
    let highest = loads.iter().copied().fold(0.0, f64::max);
    let forgets = system.forgets(1.0 - highest);
    let counted = effort.requests.unwrap_or_else(|| ((20.0 * forgets) as u64).clamp(500_000, 20_000_000));
    let warmup = (counted / 10).max((3.0 * forgets) as u64).min(counted);
    Length { warmup, counted: counted.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use draw::ServiceTimes;
    use units::Nanos;

    fn small(threads: usize, loads: &[f64], watch: &Watch<'_>) -> Option<Vec<Row>> {
        let system = System::new(4, Policy::Central, ServiceTimes::exp(Nanos(1000)));
        measure(&system, loads, &Effort { requests: Some(2000), threads, ..Effort::default() }, watch)
    }

    #[test]
    fn equal_seeds_give_equal_rows_on_any_number_of_threads() {
        let one = small(1, &[0.5, 0.9], &Watch::none()).unwrap();
        assert_eq!(small(3, &[0.5, 0.9], &Watch::none()).unwrap(), one);
        assert_eq!((one[0].requests, one[0].replications), (20_000, 10));
        assert!(one[0].p50 < one[0].p99 && one[0].p99 < one[0].p999 && one[0].p999 <= one[0].max);
        assert!(one[0].p99 < one[1].p99 && one[0].p99_ci95 < one[0].p99);
    }

    #[test]
    fn what_was_ended_before_a_run_was_done_has_no_rows() {
        assert_eq!(small(2, &[0.5], &Watch::new(|| true)), None);
    }

    #[test]
    fn loads_near_one_are_given_longer_runs() {
        let system = System::new(4, Policy::Central, ServiceTimes::exp(Nanos(1000)));
        let of = |load: f64| length(&system, &[0.1, load], &Effort::default());
        assert_eq!(of(0.5), Length { warmup: 50_000, counted: 500_000 });
        assert!(of(0.99).counted > 700_000 && of(0.99).warmup > 100_000);
        assert_eq!(of(0.9999), Length { warmup: 20_000_000, counted: 20_000_000 });
    }
}
