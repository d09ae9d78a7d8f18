//! What theory and the model of the scheduler say for two cores: the figures that measured ones are held against.
//!
//! The model is a simulation of the four ways with the costs of a machine of this kind (1.0 us of network work per request, 5 us to
//! an interrupt's handler and 2 us at its sender, 0.2 us for touching another core's lines), made before this code was; so these are
//! predictions. The bounds are those of queueing theory, without any cost.

use dataplane::{Assist, Sched};

/// A service-time distribution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Law {
    Det,
    Exp,
    B1,
}

impl Law {
    pub(super) const ALL: [Law; 3] = [Law::Det, Law::Exp, Law::B1];

    pub(super) fn name(self) -> &'static str {
        ["det", "exp", "b1"][self as usize]
    }

    pub(super) fn title(self) -> &'static str {
        ["deterministic", "exponential", "bimodal-1 (90 % at S/2, 10 % at 5.5 S)"][self as usize]
    }
}

/// The ways, in the order of tables.
pub(super) const MODES: [Sched; 4] =
    [Sched::Ix, Sched::Zygos(Assist::None), Sched::Zygos(Assist::Ipi), Sched::Zygos(Assist::Lend)];

/// The highest load with p99 <= 10 S at two cores, in per cent: by S, then way, then law.
const PREDICTED: [(u32, [[f64; 3]; 4]); 2] = [
    (50, [[75.0, 52.8, 30.5], [84.1, 67.7, 40.3], [84.1, 70.1, 55.4], [84.6, 70.9, 56.9]]),
    (100, [[75.9, 53.4, 30.9], [85.1, 68.5, 41.0], [85.4, 71.3, 56.8], [85.6, 71.8, 57.6]]),
];

/// The same without any cost: a queue for each core, and one for both (first come, first served).
const PARTITIONED: [f64; 3] = [77.3, 53.95, 30.7];
const CENTRAL: [f64; 3] = [88.1, 75.8, 60.9];

/// The prediction as a share of what the cores can do; `None` where there is none: other numbers of cores or service times.
pub(super) fn predicted(cores: usize, us: u32, mode: usize, law: Law) -> Option<f64> {
    let (_, table) = PREDICTED.iter().find(|(s, _)| *s == us && cores == 2)?;
    Some(table[mode][law as usize] / 100.0)
}

/// The bounds, partitioned and central, as shares.
pub(super) fn bounds(law: Law) -> [f64; 2] {
    [PARTITIONED[law as usize] / 100.0, CENTRAL[law as usize] / 100.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_keep_below_their_bounds_and_lending_is_the_best() {
        for law in Law::ALL {
            let [partitioned, central] = bounds(law);
            for us in [50, 100] {
                let at = |mode| predicted(2, us, mode, law).unwrap();
                // The bounds are rounded, and the model is a simulation.
                assert!(at(0) <= partitioned + 0.005 && at(3) <= central && at(0) < at(1), "{law:?} {us}");
                assert!((1..4).all(|m| at(m) <= at(3)));
            }
        }
        assert_eq!((predicted(4, 50, 0, Law::Exp), predicted(2, 20, 0, Law::Exp)), (None, None));
    }
}
