//! How soon more is added once the objective is in danger: a load that has been served jumps to one that is not.

use rand::{Rng as _, SeedableRng as _};

use crate::run::{DECIDE, Run, Setup, TICK_NS};

/// When the load jumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jump {
    /// After seconds of steady load, at any instant between two decisions.
    Steady,
    /// Within half a second after resources were removed.
    AfterRemoval,
}

/// What came of a jump. Times are in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reaction {
    /// From the jump until the published delay estimate was over its limit, or a ring was full.
    pub seen_ns: f64,
    /// The longest time for which it was so before more was set, or it was within its limit by itself.
    pub added_ns: f64,
    /// From the first instant at which it was so to the last.
    pub over_ns: f64,
    /// Between the last removal before the jump and the jump; `None` if there was none.
    pub since_removal_ns: Option<f64>,
    /// Steps of the ladder: at the jump, and when all was well again.
    pub steps: (usize, usize),
}

/// Before the jump, at most.
const BEFORE: usize = 600;
/// After it.
const AFTER: usize = 400;
/// Steady load before the jump.
const STEADY: usize = 200;
/// A jump after a removal comes within so many ticks of it.
const SHORTLY: usize = 50;

/// Jumps once, from a load, to 1.1 to 3 times what the configuration of that moment carries: all drawn from the setup's seed, as the instant is. `None`: the estimate was
/// not over its limit within four seconds, or was so before the jump. The setup's pattern plays no part.
pub fn react(setup: &Setup<'_>, jump: Jump) -> Option<Reaction> {
    let mut dice = draw::Rng::seed_from_u64(setup.seed ^ 0x7265_6163_7400);
    let service = setup.service;
    let share = |run: &Run<'_>| run.control.ladder().worth(run.control.position());
    let top = setup.ladder.top();
    // Room for a jump above the step.
    let step = dice.random_range(0..=setup.ladder.enough(0.4).min(top.saturating_sub(1)));
    let rps = setup.ladder.worth(step) * dice.random_range(0.3..0.9) * service.most_rps;
    let (above, times) = (dice.random_range(1..=4usize), dice.random_range(1.1..3.0));
    let wait = match jump {
        Jump::Steady => STEADY + dice.random_range(0..DECIDE),
        Jump::AfterRemoval => dice.random_range(1..=SHORTLY),
    };
    let from = if jump == Jump::Steady { step } else { (step + above).min(top) };
    let mut run = Run::new(setup, from);
    let (mut tick, mut left) = (0, (jump == Jump::Steady).then_some(wait));
    while left != Some(0) {
        if tick == BEFORE {
            return None;
        }
        tick += 1;
        left = left.map(|n| n - 1);
        if step_on(&mut run, tick, rps) && run.changes.last().is_some_and(|c| c.to < c.from) {
            left = left.or(Some(wait));
        }
    }
    let at = tick as f64 * TICK_NS;
    let removal = run.changes.iter().rev().find(|c| c.to < c.from).map(|c| at - c.at * 1e9);
    let (from, high) = (run.control.position(), (share(&run) * times).min(0.97) * service.most_rps);
    if run.over(at) || from == top {
        return None;
    }
    let mut after = After::default();
    for tick in tick + 1..=tick + AFTER {
        let now = tick as f64 * TICK_NS;
        run.tick(now, high);
        let over = run.over(now);
        let up = tick.is_multiple_of(DECIDE) && {
            run.decide(now, high);
            run.changes.last().is_some_and(|c| c.to > c.from && c.at * 1e9 == now)
        };
        after.tick(now, over, up);
        if after.first.is_some() && after.added && !over {
            break;
        }
    }
    let first = after.first?;
    Some(Reaction {
        seen_ns: first - at,
        added_ns: after.longest,
        over_ns: after.last - first,
        since_removal_ns: removal,
        steps: (from, run.control.position()),
    })
}

/// What is seen after a jump.
#[derive(Default)]
struct After {
    /// When the estimate was over its limit for the first time, and when for the last.
    first: Option<f64>,
    last: f64,
    /// Since when it is over, while nothing has been added.
    since: Option<f64>,
    /// The longest such time.
    longest: f64,
    /// More was set while it was over.
    added: bool,
}

impl After {
    fn tick(&mut self, now: f64, over: bool, up: bool) {
        if over {
            self.first = self.first.or(Some(now));
            self.last = now;
            if !self.added {
                self.since = self.since.or(Some(now));
            }
        }
        if let Some(since) = self.since {
            self.longest = self.longest.max(now - since);
        }
        self.added |= over && up;
        if !over || up {
            self.since = None;
        }
    }
}

/// A tick, and a decision if it is time for one. Whether something was changed.
fn step_on(run: &mut Run<'_>, tick: usize, rps: f64) -> bool {
    let (now, before) = (tick as f64 * TICK_NS, run.changes.len());
    run.tick(now, rps);
    if tick.is_multiple_of(DECIDE) {
        run.decide(now, rps);
    }
    run.changes.len() > before
}
