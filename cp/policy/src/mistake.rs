use units::Nanos;

use crate::rules::Rules;

/// A step down that had to be taken back soon: with this load, the step is not tried again for a while.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Mistake {
    /// When it was taken back.
    at: Nanos,
    /// The step that was not enough.
    step: usize,
    /// For this load.
    load: f64,
    /// How many such mistakes there were, one after the other.
    times: u32,
}

/// Loads are about the same that differ by no more than this share of the larger one.
const SAME: f64 = 0.15;

impl Mistake {
    /// Now, after the mistake `before`, if there was one: at about the same load, it is the same one again.
    pub(crate) fn after(before: Option<&Mistake>, at: Nanos, step: usize, load: f64, rules: &Rules) -> Mistake {
        let same = |m: &&Mistake| {
            let near = (m.load - load).abs() <= SAME * m.load.max(load);
            near && at - m.at < m.hold(rules) + rules.mistake_within + rules.down_after
        };
        Mistake { at, step, load, times: before.filter(same).map_or(0, |m| m.times) + 1 }
    }

    /// For how long the step is not tried.
    fn hold(&self, rules: &Rules) -> Nanos {
        let hold = rules.down_after.0.saturating_mul(1 << self.times.min(30));
        Nanos(hold).min(rules.mistake_most)
    }

    /// The step that is not to be gone down to, nor any below, and for how long; `None`: enough time has passed, or there is less load.
    pub(crate) fn forbids(&self, now: Nanos, load: f64, rules: &Rules) -> Option<(usize, Nanos)> {
        let left = self.hold(rules) - (now - self.at);
        (left > Nanos::ZERO && load >= (1.0 - SAME) * self.load).then_some((self.step, left))
    }
}
