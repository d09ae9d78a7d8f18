//! What the measured configurations are worth at a load: the best of those that carry it. Pure.

use machine::{Clock, Machine, State};

/// What a frontier is best at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Objective {
    /// The least watts. Cores that are not needed sleep.
    Energy,
    /// The most background work. It has the cpus that are not needed.
    Consolidate,
}

impl Objective {
    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        ["energy", "consolidate"][self as usize]
    }

    /// Whether a configuration is one for this objective: background work is for the nominal clock (thesis section 2.5.3), and turbo mode for when all cores serve.
    pub fn allows(self, machine: &Machine, state: &State) -> bool {
        let nominal = match state.clock {
            Clock::Step(step) => machine.clocks_mhz().nth(step).is_some_and(|mhz| mhz == machine.nominal_mhz()),
            Clock::Turbo => state.cores == machine.cores(),
        };
        self == Objective::Energy || nominal
    }
}

/// A configuration under some load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Requests per second that were offered.
    pub rps: f64,
    /// Latency's 99th percentile in microseconds.
    pub p99_us: f64,
    /// The share of their time in which hardware threads had something to do.
    pub busy: f64,
    /// Watts of the machine, by the counters or the model.
    pub watts: f64,
    /// What the background job did, as a share of what it does alone on all cpus; none where there is no job.
    pub background: Option<f64>,
    /// The machine was disturbed each time: p99 is of all requests, and says little.
    pub noisy: bool,
}

/// What was found of a configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Configuration {
    /// Which.
    pub state: State,
    /// The most requests per second that keep to the objective; `None`: not even the least load did.
    pub rps: Option<f64>,
    /// Whether the search for it came to its end.
    pub confident: bool,
    /// What it was known to carry at most before.
    pub bound: Option<f64>,
    /// At shares of that, ascending.
    pub samples: Vec<Sample>,
}

impl Configuration {
    /// Whether the machine was too busy to tell anything of it.
    pub fn is_unknown(&self) -> bool {
        self.rps.is_none() && !self.confident
    }

    /// Whether it carries a load.
    pub fn carries(&self, rps: f64) -> bool {
        self.rps.is_some_and(|most| most >= rps) && !self.samples.is_empty()
    }

    /// Watts at a load: straight lines between what was measured, and on beyond its ends.
    pub fn watts(&self, rps: f64) -> f64 {
        self.between(rps, |s| s.watts)
    }

    /// The background job's share at a load, likewise; 0 without a job.
    pub fn background(&self, rps: f64) -> f64 {
        self.between(rps, |s| s.background.unwrap_or(0.0))
    }

    /// Whichever the objective is about.
    pub fn value(&self, objective: Objective, rps: f64) -> f64 {
        match objective {
            Objective::Energy => self.watts(rps),
            Objective::Consolidate => self.background(rps),
        }
    }

    fn between(&self, rps: f64, of: impl Fn(&Sample) -> f64) -> f64 {
        let after = self.samples.partition_point(|s| s.rps < rps).clamp(1, self.samples.len().max(2) - 1);
        match (self.samples.get(after - 1), self.samples.get(after)) {
            (Some(a), Some(b)) if b.rps > a.rps => {
                let share = (rps - a.rps) / (b.rps - a.rps);
                (of(a) + share * (of(b) - of(a))).max(0.0)
            }
            (Some(a), _) => of(a),
            _ => f64::NAN,
        }
    }
}

/// The best of those that carry a load, and its value; of equals, the one that draws least.
pub fn best<'a>(
    all: impl IntoIterator<Item = &'a Configuration>,
    objective: Objective,
    rps: f64,
) -> Option<(State, f64)> {
    // The less, the better.
    let rank = |c: &Configuration| match objective {
        Objective::Energy => (c.watts(rps), 0.0),
        Objective::Consolidate => (-c.background(rps), c.watts(rps)),
    };
    let able = all.into_iter().filter(|c| c.carries(rps)).map(|c| (rank(c), c));
    let found = able.min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    found.map(|(_, c)| (c.state, c.value(objective, rps)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two watts a core and one for each thousand requests, of which a core carries one; the job has what is left of four cores.
    fn of(cores: usize, measured: bool) -> Configuration {
        let most = 1000.0 * cores as f64;
        let sample = |share: f64| Sample {
            rps: share * most,
            p99_us: 100.0,
            busy: share,
            watts: 2.0 * cores as f64 + share * cores as f64,
            noisy: false,
            background: Some(1.0 - cores as f64 / 4.0),
        };
        Configuration {
            state: State { cores, threads: 1, clock: Clock::Step(0) },
            rps: measured.then_some(most),
            confident: true,
            bound: None,
            samples: if measured { vec![sample(0.1), sample(0.5), sample(0.9)] } else { Vec::new() },
        }
    }

    #[test]
    fn values_lie_on_lines_between_what_was_measured() {
        let two = of(2, true);
        for rps in [0.0, 200.0, 700.0, 1800.0, 2000.0] {
            assert!((two.watts(rps) - (4.0 + rps / 1000.0)).abs() < 1e-9, "{rps}");
        }
        let mut bent = of(1, true);
        bent.samples[1].watts = 5.0;
        assert!((bent.watts(300.0) - (2.1 + 5.0) / 2.0).abs() < 1e-9);
        // A line that would go below zero ends there.
        bent.samples[0].watts = 0.1;
        assert_eq!(bent.watts(0.0), 0.0);
        bent.samples.truncate(1);
        assert!(!of(1, false).is_unknown() && Configuration { confident: false, ..of(1, false) }.is_unknown());
        assert_eq!((bent.watts(700.0), bent.carries(1000.0), bent.carries(1001.0)), (0.1, true, false));
    }

    #[test]
    fn the_best_is_the_least_that_carries_the_load() {
        let all = [of(4, true), of(3, false), of(2, true), of(1, true)];
        let cores = |objective, rps| best(&all, objective, rps).map(|(state, _)| state.cores);
        for objective in [Objective::Energy, Objective::Consolidate] {
            assert_eq!(cores(objective, 500.0), Some(1));
            assert_eq!(cores(objective, 1500.0), Some(2));
            assert_eq!(cores(objective, 2500.0), Some(4), "what was not found to carry anything carries nothing");
            assert_eq!(cores(objective, 4001.0), None);
        }
        assert_eq!(best(&all, Objective::Consolidate, 1500.0).unwrap().1, 0.5);
        assert!((best(&all, Objective::Energy, 1500.0).unwrap().1 - 5.5).abs() < 1e-9);
        // Of equals, the one that draws least.
        let mut hot = of(1, true);
        hot.state.clock = Clock::Turbo;
        hot.samples.iter_mut().for_each(|s| s.watts += 9.0);
        assert_eq!(best(&[hot, of(1, true)], Objective::Consolidate, 500.0).unwrap().0.clock, Clock::Step(0));
    }
}
