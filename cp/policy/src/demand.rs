use std::collections::VecDeque;

use units::Nanos;

use crate::rules::Rules;
use crate::sense::Sense;

/// How many estimates are kept: 4 s of them.
const KEPT: usize = 40;
/// Over how many estimates a slope, and over how many a jump is seen.
const SLOPE_OVER: usize = 10;
const JUMP_OVER: usize = 5;
/// What is called a jump, as a share of what the machine can do at most.
const JUMP: f64 = 0.03;
/// A jump is forgotten after this.
const JUMP_LASTS: Nanos = Nanos::from_secs(60);
/// What a full ring is taken for: so much more than is served, as a share.
const BEYOND_FULL: f64 = 0.05;

/// Estimates that what is called the usual load is the median of: a second of them.
const USUAL_OVER: usize = 10;

/// How much load there is, in units of what the highest step can do, from what the cores report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    past: VecDeque<(Nanos, f64)>,
    /// What waits at all cores, as time of one of them in nanoseconds, when last seen.
    backlog: Option<(Nanos, f64)>,
    /// The largest difference of the jump that is going on.
    jumping: f64,
    /// Jumps that are over, the newest last.
    jumps: VecDeque<(Nanos, f64)>,
}

/// What is known of the load.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Estimate {
    /// Now.
    pub(crate) now: f64,
    /// Its change in a second, jumps left out.
    pub(crate) slope: f64,
    /// What it may jump by.
    pub(crate) jump: f64,
}

impl Demand {
    /// Takes in what the cores say while they are at a step that does `worth`.
    pub(crate) fn observe(&mut self, sense: &Sense, worth: f64, rules: &Rules) -> Estimate {
        let now = worth * (1.0 - sense.idle(1, 0.0)) + worth * self.growth(sense);
        let now = now.max(0.0);
        self.past.push_back((sense.at, now));
        if self.past.len() > KEPT {
            self.past.pop_front();
        }
        let slope = self.slope();
        self.note_jump(sense.at, slope, rules);
        let rises = self.jumps.iter().map(|(_, by)| *by).chain([self.jumping]);
        Estimate { now, slope, jump: rises.fold(0.0, f64::max) * rules.jump_reserve }
    }

    /// The load of the last second: the median of its estimates. 0 if there are none.
    pub(crate) fn usual(&self) -> f64 {
        let mut last: Vec<f64> = self.past.iter().rev().take(USUAL_OVER).map(|(_, load)| *load).collect();
        last.sort_by(f64::total_cmp);
        last.get(last.len() / 2).copied().unwrap_or(0.0)
    }

    /// How much more comes than is served, as a share of what the active cores can do: what waits grows by it. Less than 0 while it shrinks.
    fn growth(&mut self, sense: &Sense) -> f64 {
        let cores = sense.active().count();
        let backlog: f64 = sense.active().map(|c| crate::sense::known(c.queue[0]) * c.each_ns()).sum();
        let before = self.backlog.replace((sense.at, backlog));
        let full = if sense.active().any(|c| c.queue_full) { BEYOND_FULL } else { -1.0 };
        match before {
            Some((at, was)) if sense.at > at && cores > 0 => {
                let grown = (backlog - was) / (sense.at - at).0 as f64 / cores as f64;
                grown.clamp(-1.0, 1.0).max(full)
            }
            _ => full.max(0.0),
        }
    }

    /// The median of the differences over a second: a jump among them does not count.
    fn slope(&self) -> f64 {
        let later = self.past.iter().skip(SLOPE_OVER);
        let mut slopes: Vec<f64> = self
            .past
            .iter()
            .zip(later)
            .filter(|(a, b)| b.0 > a.0)
            .map(|(a, b)| (b.1 - a.1) / (b.0 - a.0).as_secs_f64())
            .collect();
        if slopes.len() < SLOPE_OVER {
            return 0.0;
        }
        slopes.sort_by(f64::total_cmp);
        slopes[slopes.len() / 2]
    }

    fn note_jump(&mut self, at: Nanos, slope: f64, rules: &Rules) {
        let n = self.past.len();
        if n > JUMP_OVER {
            let (was, is) = (self.past[n - 1 - JUMP_OVER], self.past[n - 1]);
            let by = is.1 - was.1 - slope * (is.0 - was.0).as_secs_f64();
            if by.abs() < JUMP {
                if self.jumping != 0.0 {
                    self.jumps.push_back((at, self.jumping));
                    self.jumping = 0.0;
                }
            } else if by.abs() > self.jumping.abs() || by.signum() != self.jumping.signum() {
                self.jumping = by;
            }
        }
        while self.jumps.len() > rules.jumps || self.jumps.front().is_some_and(|j| at - j.0 > JUMP_LASTS) {
            self.jumps.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::CoreSense;

    fn at(tenth: u64, busy: f64, queue: f64) -> Sense {
        let core = CoreSense {
            active: true,
            queue: [queue; 3],
            batch: 1.0,
            iteration_ns: 1e6,
            idle: [1.0 - busy; 3],
            ..CoreSense::default()
        };
        Sense { at: Nanos::from_millis(100 * tenth), batch_bound: 64, cores: vec![core.clone(), core] }
    }

    #[test]
    fn load_is_what_is_served_and_what_waits_longer() {
        let (mut demand, rules) = (Demand::default(), Rules::new(500e3));
        assert!((demand.observe(&at(1, 0.5, 0.0), 0.4, &rules).now - 0.2).abs() < 1e-9);
        // 20 more wait at each core after 100 ms, a millisecond each: a fifth of a core's time.
        assert!((demand.observe(&at(2, 1.0, 20.0), 0.4, &rules).now - 0.4 * 1.2).abs() < 1e-9);
        assert!((demand.observe(&at(3, 1.0, 0.0), 0.4, &rules).now - 0.4 * 0.8).abs() < 1e-9);
        let mut full = at(4, 1.0, 0.0);
        full.cores[1].queue_full = true;
        assert!((demand.observe(&full, 0.4, &rules).now - 0.4 * 1.05).abs() < 1e-9);
    }

    #[test]
    fn a_slope_is_followed_and_a_jump_is_not_a_slope() {
        let (mut demand, rules) = (Demand::default(), Rules { jump_reserve: 1.0, ..Rules::new(500e3) });
        let mut last = Estimate::default();
        for i in 0..40 {
            last = demand.observe(&at(i, 0.2 + 0.001 * i as f64, 0.0), 1.0, &rules);
        }
        assert!((last.slope - 0.01).abs() < 1e-9 && last.jump == 0.0);
        for i in 40..50 {
            last = demand.observe(&at(i, 0.4 + 0.001 * i as f64, 0.0), 1.0, &rules);
        }
        assert!((last.slope - 0.01).abs() < 1e-9 && (last.jump - 0.2).abs() < 0.01, "{last:?}");
    }

    #[test]
    fn rises_are_remembered_for_some_jumps() {
        let (mut demand, rules) = (Demand::default(), Rules { jumps: 3, jump_reserve: 1.0, ..Rules::new(500e3) });
        let mut jump = Vec::new();
        for (i, level) in [0.2, 0.4, 0.3, 0.2, 0.1].into_iter().enumerate() {
            for j in 0..50 {
                let estimate = demand.observe(&at(50 * i as u64 + j, level, 0.0), 1.0, &rules);
                if j == 49 {
                    jump.push((estimate.jump * 100.0).round());
                }
            }
        }
        assert_eq!(jump, [0.0, 20.0, 20.0, 20.0, 0.0], "three falls in a row: no rise is expected");
    }
}
