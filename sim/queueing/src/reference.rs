//! Highest loads with p99 <= 10 mean service times, to compare with: those that have a formula, and a table for the rest.
//!
//! The table was simulated by others, and two of its parts cannot be had again. Bimodal-2: a system with one request in a thousand of
//! 500 mean service times forgets its past 125 times later than with exponential work, millions of requests near full load; runs that are
//! long enough give less, most of all under sharing. There the number present is that of M/M/n whatever the work (insensitivity), which
//! bounds n = 16 near 98.5 %, not above 99. Stealing: the table does not say whom an idle server steals from.

use crate::closed::{md1_max_load, mmn_max_load};
use crate::system::{Policy, System};
use draw::Gaps;

/// Per cent, by servers; each deterministic, exponential, bimodal-1, bimodal-2. Simulated, but for the exponential ones; NaN: above 99.
const CENTRAL: [(usize, [f64; 4]); 5] = [
    (2, [88.1, 75.8, 60.9, 13.4]),
    (4, [94.0, 87.5, 79.2, 35.6]),
    (8, [97.0, 93.6, 89.4, 51.0]),
    (16, [98.4, 96.77, 94.4, 64.8]),
    (64, [99.8, 99.18, 99.0, 85.6]),
];

/// The same under processor sharing.
const SHARING: [(usize, [f64; 4]); 5] = [
    (2, [79.1, 63.8, 48.4, 90.5]),
    (4, [88.8, 78.9, 67.9, 97.8]),
    (8, [94.2, 88.2, 80.6, 99.5]),
    (16, [96.9, 93.6, 88.7, f64::NAN]),
    (64, [99.4, 98.3, 96.6, f64::NAN]),
];

/// The same at any number of servers with a queue each, first come first served and sharing.
const PARTITIONED: [f64; 4] = [77.3, 53.95, 30.7, 1.8];
const PARTITIONED_SHARING: [f64; 4] = [63.3, 41.0, 20.8, 80.1];

/// Stealing at 16 servers.
const STEAL: [f64; 3] = [97.9, 95.7, 92.4];

/// The highest load (0..1) at which a share `q` of `system`'s requests stay at most `slo` mean service times, from a formula: Poisson
/// arrivals, first come first served, exponential work in one queue or many, or equal work in single queues.
pub fn exact(system: &System, slo: f64, q: f64) -> Option<f64> {
    if system.gaps != Gaps::poisson() {
        return None;
    }
    let alone = system.n() == 1 || system.policy == Policy::Partitioned;
    let in_order = matches!(system.policy, Policy::Central | Policy::Partitioned)
        || (system.n() == 1 && system.policy == Policy::Steal);
    match system.work.name() {
        "exp" if in_order => Some(mmn_max_load(if alone { 1 } else { system.n() }, slo, q)),
        "det" if in_order && alone && slo <= 16.0 => Some(md1_max_load(slo, q)),
        _ => None,
    }
}

/// The same at the 99th percentile and 10 mean service times, to a tenth of a point, from a table; `None` where it says nothing.
pub fn table(system: &System) -> Option<f64> {
    if system.gaps != Gaps::poisson() {
        return None;
    }
    let column = ["det", "exp", "bimodal1", "bimodal2"].iter().position(|name| *name == system.work.name())?;
    let of = |rows: &[(usize, [f64; 4])]| rows.iter().find(|row| row.0 == system.n()).map(|row| row.1[column]);
    let percent = match system.policy {
        Policy::Partitioned => Some(PARTITIONED[column]),
        Policy::PartitionedSharing => Some(PARTITIONED_SHARING[column]),
        Policy::Central if system.n() == 1 => Some(PARTITIONED[column]),
        Policy::Sharing if system.n() == 1 => Some(PARTITIONED_SHARING[column]),
        Policy::Central => of(&CENTRAL),
        Policy::Sharing => of(&SHARING),
        Policy::Steal if system.n() == 16 => STEAL.get(column).copied(),
        _ => None,
    };
    percent.filter(|percent| percent.is_finite()).map(|percent| percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use draw::ServiceTimes;
    use units::Nanos;

    #[test]
    fn the_table_agrees_with_the_formulas() {
        let mean = Nanos::from_micros(1);
        let mut both = 0;
        for n in [1, 2, 4, 8, 16, 64] {
            for policy in [Policy::Central, Policy::Partitioned] {
                for work in [ServiceTimes::det(mean), ServiceTimes::exp(mean)] {
                    let system = System::new(n, policy, work);
                    if let (Some(exact), Some(table)) = (exact(&system, 10.0, 0.99), table(&system)) {
                        both += 1;
                        assert!((exact - table).abs() < 0.0006, "{system:?}: {exact} {table}");
                    }
                }
            }
        }
        assert_eq!(both, 6 + 6 + 1 + 6);
    }

    #[test]
    fn other_systems_have_none() {
        let exp = ServiceTimes::exp(Nanos::from_micros(1));
        let system = System { gaps: Gaps::fixed(), ..System::new(2, Policy::Central, exp.clone()) };
        assert_eq!((exact(&system, 10.0, 0.99), table(&system)), (None, None));
        let system = System::new(3, Policy::Sharing, exp);
        assert_eq!((exact(&system, 10.0, 0.99), table(&system)), (None, None));
    }
}
