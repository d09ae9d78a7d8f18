use machine::{Clock, Machine, State};

use crate::pattern::{Pattern, RUN_S};
use crate::service::Service;

/// What static configurations make of a pattern: the largest all the time, and at each instant the best that carries the load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Mean watts of the largest configuration.
    pub most_w: f64,
    /// Mean watts on the frontier.
    pub pareto_w: f64,
    /// The share of energy that the frontier saves.
    pub saved: f64,
    /// The background job's throughput on the frontier, as a share of what it does alone.
    pub background: f64,
}

/// A point of a frontier.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Requests per second.
    pub rps: f64,
    /// The best configuration that carries them.
    pub state: State,
    /// Its watts, or the background job's share.
    pub value: f64,
}

/// All static configurations of a machine, with what each carries.
#[derive(Clone, Debug)]
pub struct Frontier<'a> {
    machine: &'a Machine,
    service: &'a Service,
    states: Vec<(State, f64)>,
}

impl<'a> Frontier<'a> {
    /// All configurations of the machine, by what the model says they carry.
    pub fn new(machine: &'a Machine, service: &'a Service) -> Frontier<'a> {
        let states = machine.states().into_iter().map(|s| (s, service.carries(machine, &s)));
        Frontier { machine, service, states: states.collect() }
    }

    /// Configurations with what each was found to carry.
    pub fn of(machine: &'a Machine, service: &'a Service, states: Vec<(State, f64)>) -> Frontier<'a> {
        Frontier { machine, service, states }
    }

    /// Only those that use all cores and threads: what is left if nothing but the clock is changed.
    pub fn clock_only(&self) -> Frontier<'a> {
        let (cores, threads) = (self.machine.cores(), self.machine.threads_per_core());
        let all = |s: &State| s.cores == cores && s.threads == threads;
        Frontier { states: self.states.iter().copied().filter(|(s, _)| all(s)).collect(), ..*self }
    }

    /// The watts of a configuration under a load that it carries.
    pub fn watts(&self, state: &State, carries: f64, rps: f64) -> f64 {
        self.machine.power_w(state, rps / carries * self.service.full)
    }

    /// The least watts at which the load is carried.
    pub fn energy(&self, rps: f64) -> Option<Point> {
        let able = self.states.iter().filter(|(_, carries)| *carries >= rps);
        let points = able.map(|(state, carries)| Point { rps, state: *state, value: self.watts(state, *carries, rps) });
        points.min_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// The most that a background job gets beside the load, at the nominal clock (thesis section 2.5.3); nothing in turbo mode or on all cores.
    pub fn background(&self, rps: f64) -> Option<Point> {
        let nominal = |s: &State| match s.clock {
            Clock::Step(step) => {
                self.machine.clocks_mhz().nth(step).is_some_and(|mhz| mhz == self.machine.nominal_mhz())
            }
            Clock::Turbo => s.cores == self.machine.cores(),
        };
        let able = self.states.iter().filter(|(s, carries)| nominal(s) && *carries >= rps);
        let share = |s: &State| self.service.background(self.machine, self.machine.cores() - s.cores);
        let points = able.map(|(state, _)| Point { rps, state: *state, value: share(state) });
        points.max_by(|a, b| a.value.total_cmp(&b.value).then(self.least_watts(b, a)))
    }

    fn least_watts(&self, a: &Point, b: &Point) -> std::cmp::Ordering {
        self.machine.power_w(&a.state, 1.0).total_cmp(&self.machine.power_w(&b.state, 1.0))
    }

    /// What it comes to under a pattern.
    pub fn bounds(&self, pattern: Pattern, seed: u64) -> Bounds {
        let most = self.machine.most();
        let carries = self.states.iter().find(|(s, _)| *s == most).map_or(self.service.most_rps, |(_, c)| *c);
        let (mut most_w, mut pareto_w, mut background, mut n) = (0.0, 0.0, 0.0, 0.0);
        let steps = (RUN_S * 10.0) as usize;
        for i in 0..steps {
            let rps = pattern.rate((i as f64 + 0.5) / 10.0, self.service.most_rps, seed);
            let at_most = self.watts(&most, carries, rps.min(carries));
            most_w += at_most;
            pareto_w += self.energy(rps).map_or(at_most, |p| p.value);
            background += self.background(rps).map_or(0.0, |p| p.value);
            n += 1.0;
        }
        let saved = 1.0 - pareto_w / most_w;
        Bounds { most_w: most_w / n, pareto_w: pareto_w / n, saved, background: background / n }
    }
}
