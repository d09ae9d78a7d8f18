use std::fmt;

use units::Nanos;

use crate::demand::{Demand, Estimate};
use crate::ladder::{Ladder, Step};
use crate::mistake::Mistake;
use crate::rules::Rules;
use crate::sense::Sense;

/// The control loop: where it is on its ladder, and what it remembers. Called ten times a second.
#[derive(Clone, Debug)]
pub struct Loop {
    rules: Rules,
    ladder: Ladder,
    at: usize,
    up: Option<Nanos>,
    down: Option<Nanos>,
    demand: Demand,
    /// Decisions in a row that found the limit passed.
    over: u32,
    /// The last step down that had to be taken back.
    mistake: Option<Mistake>,
}

/// What is to be done. `to` is a step of the ladder.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Decision {
    /// Nothing.
    Hold {
        /// Why.
        reason: Reason,
    },
    /// More.
    Up {
        /// The step to go to.
        to: usize,
        /// Why.
        reason: Reason,
    },
    /// Less.
    Down {
        /// The step to go to.
        to: usize,
        /// Why.
        reason: Reason,
    },
}

/// Why, with the numbers that decided. Displays as one line.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// No core reports.
    Blind,
    /// Who comes last waits too long.
    Delay {
        /// At this core.
        core: usize,
        /// So long, in nanoseconds.
        delay_ns: f64,
        /// The most that it may be.
        limit_ns: f64,
    },
    /// A ring was full: nobody knows how much more there was.
    RingFull {
        /// This core's.
        core: usize,
    },
    /// The service's own latency misses the objective.
    Latency {
        /// Its 99th percentile in nanoseconds.
        p99_ns: f64,
        /// The objective.
        slo_ns: f64,
    },
    /// The load is about to be more than this step can do. Shares of what the highest step does.
    Ahead {
        /// The load that is expected.
        expected: f64,
        /// What is planned with at this step.
        planned: f64,
    },
    /// More is needed, and there is no more.
    Top {
        /// The worst delay, in nanoseconds.
        delay_ns: f64,
    },
    /// A step is not needed.
    Idle {
        /// The idle share of the cores, steals taken into account.
        idle: f64,
        /// The share that the step brought.
        share: f64,
    },
    /// A decision waits until the last one has had its effect.
    Waiting {
        /// So long, in nanoseconds.
        for_ns: u64,
    },
    /// The step below was tried with this load, and was not enough.
    Tried {
        /// Which.
        step: usize,
        /// It is not tried again for so long, in nanoseconds, unless the load falls.
        for_ns: u64,
    },
    /// All is well.
    Steady {
        /// The worst delay, in nanoseconds.
        delay_ns: f64,
        /// The idle share of the cores.
        idle: f64,
    },
}

impl Decision {
    /// The step to go to; `None` if this one stays.
    pub fn to(&self) -> Option<usize> {
        match self {
            Decision::Hold { .. } => None,
            Decision::Up { to, .. } | Decision::Down { to, .. } => Some(*to),
        }
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        match self {
            Decision::Hold { reason } | Decision::Up { reason, .. } | Decision::Down { reason, .. } => *reason,
        }
    }
}

impl Loop {
    /// A loop at the highest step: a service that is found running is not harmed by being looked at.
    pub fn new(rules: Rules, ladder: Ladder) -> Loop {
        let at = ladder.top();
        Loop { rules, ladder, at, up: None, down: None, demand: Demand::default(), over: 0, mistake: None }
    }

    /// The ladder.
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// The thresholds.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Where it is.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The configuration that it wants.
    pub fn step(&self) -> &Step {
        &self.ladder.steps()[self.at]
    }

    /// The machine is at this step, whatever was decided: an actuator failed, or somebody else has set it. Beyond the highest counts as that.
    pub fn set(&mut self, step: usize) {
        self.at = step.min(self.ladder.top());
    }

    /// Decides, and takes for granted that it is done ([`Loop::set`] says otherwise). Cost: a few hundred steps of arithmetic, no allocation worth naming.
    pub fn decide(&mut self, sense: &Sense) -> Decision {
        if sense.active().next().is_none() {
            return Decision::Hold { reason: Reason::Blind };
        }
        let estimate = self.demand.observe(sense, self.ladder.worth(self.at), &self.rules);
        let decision = match self.unsafe_now(sense) {
            Some(reason) => {
                self.over += 1;
                self.more(sense, reason, &estimate, true)
            }
            None => {
                self.over = 0;
                let (expected, planned) = (self.expected(&estimate), self.rules.full * self.ladder.worth(self.at));
                match self.plans() && expected > planned && self.at < self.ladder.top() {
                    true => self.more(sense, Reason::Ahead { expected, planned }, &estimate, false),
                    false => self.less(sense, &estimate),
                }
            }
        };
        if let Some(to) = decision.to() {
            self.learn(sense.at, to);
            *(if to > self.at { &mut self.up } else { &mut self.down }) = Some(sense.at);
            self.at = to;
        }
        decision
    }

    /// Going up from a step soon after it was gone down to: it was not enough for this load.
    fn learn(&mut self, now: Nanos, to: usize) {
        let soon = self.down.is_some_and(|down| now - down < self.rules.mistake_within);
        if to > self.at && soon {
            let load = self.demand.usual();
            self.mistake = Some(Mistake::after(self.mistake.as_ref(), now, self.at, load, &self.rules));
        }
    }

    /// Whether the load is looked ahead at all.
    fn plans(&self) -> bool {
        self.rules.ahead > Nanos::ZERO || self.rules.jump_reserve > 0.0
    }

    /// What the load may be when the next decisions take effect: it may go on as it does, and jump as it did.
    fn expected(&self, estimate: &Estimate) -> f64 {
        estimate.now + estimate.slope.max(0.0) * self.rules.ahead.as_secs_f64() + estimate.jump
    }

    /// Whether the objective is in danger now.
    fn unsafe_now(&self, sense: &Sense) -> Option<Reason> {
        if let Some((core, _)) = sense.cores.iter().enumerate().find(|(_, c)| c.active && c.queue_full) {
            return Some(Reason::RingFull { core });
        }
        let (core, delay_ns) = sense.worst_delay();
        let limit_ns = self.rules.limit_ns();
        if delay_ns > limit_ns {
            return Some(Reason::Delay { core, delay_ns, limit_ns });
        }
        let p99_ns = sense.active().filter_map(|c| c.latency_p99_ns).fold(0.0, f64::max);
        (p99_ns > self.rules.slo_ns).then_some(Reason::Latency { p99_ns, slo_ns: self.rules.slo_ns })
    }

    /// A step up, or as many as the load asks for. For safety's sake, one that was down shortly before does not matter.
    fn more(&self, sense: &Sense, reason: Reason, estimate: &Estimate, safety: bool) -> Decision {
        if self.at == self.ladder.top() {
            return Decision::Hold { reason: Reason::Top { delay_ns: sense.worst_delay().1 } };
        }
        let mut wait = left(sense.at, self.up, self.rules.up_after);
        if !safety {
            wait = wait.max(left(sense.at, self.down, self.rules.up_after_down));
        }
        if wait > Nanos::ZERO {
            return Decision::Hold { reason: Reason::Waiting { for_ns: wait.0 } };
        }
        let enough = self.ladder.enough(self.expected(estimate) / self.rules.full);
        // What has not helped is doubled.
        let urgent = self.at + (1 << self.over.saturating_sub(1).min(16));
        let most = (self.at + self.rules.stride).min(self.ladder.top());
        let wanted = if safety { enough.max(urgent) } else { enough };
        Decision::Up { to: wanted.clamp(self.at + 1, most), reason }
    }

    /// A step down, or as many as idle time allows for.
    fn less(&self, sense: &Sense, estimate: &Estimate) -> Decision {
        let steady = Decision::Hold {
            reason: Reason::Steady { delay_ns: sense.worst_delay().1, idle: sense.idle(0, self.rules.steal_cost) },
        };
        let Some(reason) = self.idle_for(sense, self.at) else { return steady };
        let mut to = self.at;
        let lowest = self.at.saturating_sub(self.rules.stride);
        let forbidden = self.mistake.as_ref().and_then(|m| m.forbids(sense.at, self.demand.usual(), &self.rules));
        let lowest = forbidden.map_or(lowest, |(step, _)| lowest.max(step + 1));
        while to > lowest && self.idle_for(sense, to).is_some() && self.keeps(estimate, to - 1) {
            to -= 1;
        }
        if to == self.at {
            let tried = forbidden
                .filter(|(step, _)| step + 1 == self.at)
                .map(|(step, left)| Reason::Tried { step, for_ns: left.0 });
            return tried.map_or(steady, |reason| Decision::Hold { reason });
        }
        let down = self.rules.down_after;
        let wait = left(sense.at, self.up, down).max(left(sense.at, self.down, down));
        match wait {
            Nanos::ZERO => Decision::Down { to, reason },
            wait => Decision::Hold { reason: Reason::Waiting { for_ns: wait.0 } },
        }
    }

    /// Whether the cores are idle for more than what the steps from `from` to here brought.
    fn idle_for(&self, sense: &Sense, from: usize) -> Option<Reason> {
        if from == 0 || sense.mean(|c| c.queue[2]) >= self.rules.down_queue {
            return None;
        }
        let share = 1.0 - self.ladder.worth(from - 1) / self.ladder.worth(self.at);
        let idle = sense.idle(0, self.rules.steal_cost);
        (idle > self.rules.down_margin * share).then_some(Reason::Idle { idle, share })
    }

    /// Whether a lower step would do for the load that is expected.
    fn keeps(&self, estimate: &Estimate, step: usize) -> bool {
        !self.plans() || self.expected(estimate) <= self.rules.full * self.ladder.worth(step)
    }
}

/// What is left of a span that began then.
fn left(now: Nanos, since: Option<Nanos>, span: Nanos) -> Nanos {
    since.map_or(Nanos::ZERO, |since| span - (now - since))
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Hold { reason } => write!(f, "hold: {reason}"),
            Decision::Up { to, reason } => write!(f, "up to step {to}: {reason}"),
            Decision::Down { to, reason } => write!(f, "down to step {to}: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: f64| ns / 1000.0;
        let percent = |share: f64| 100.0 * share;
        match *self {
            Reason::Blind => f.write_str("no core reports"),
            Reason::Delay { core, delay_ns, limit_ns } => {
                write!(f, "core {core} is {:.0} us behind, the limit is {:.0} us", us(delay_ns), us(limit_ns))
            }
            Reason::RingFull { core } => write!(f, "the ring of core {core} was full"),
            Reason::Latency { p99_ns, slo_ns } => {
                write!(f, "p99 of {:.0} us, the objective is {:.0} us", us(p99_ns), us(slo_ns))
            }
            Reason::Ahead { expected, planned } => {
                write!(f, "a load of {:.1} % is expected, {:.1} % are planned for", percent(expected), percent(planned))
            }
            Reason::Top { delay_ns } => write!(f, "{:.0} us behind, and there is no more to add", us(delay_ns)),
            Reason::Idle { idle, share } => {
                write!(f, "{:.1} % idle, {:.1} % are from what goes", percent(idle), percent(share))
            }
            Reason::Waiting { for_ns } => write!(f, "not before {} ms", for_ns.div_ceil(1_000_000)),
            Reason::Tried { step, for_ns } => {
                write!(f, "step {step} was not enough for this load; not before {} s", for_ns.div_ceil(1_000_000_000))
            }
            Reason::Steady { delay_ns, idle } => {
                write!(f, "{:.0} us behind, {:.1} % idle", us(delay_ns), percent(idle))
            }
        }
    }
}

#[cfg(test)]
mod tests;
