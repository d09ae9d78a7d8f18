use dataplane::{Assist, Sched as Mode};
use draw::ServiceTimes;
use machine::State;
use units::{CoreId, Nanos};
use world::{Configuration, Costs, Replay, WorldError};

use crate::latency::Latencies;
use crate::pattern::RUN_S;
use crate::pool::STEAL_NS;
use crate::run::{CLOCK_NS, Outcome, Run, Sched, Setup, TICK_NS, threads};
use crate::service::Service;

/// The second around a reconfiguration, in both simulators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replayed {
    /// When it was, in seconds.
    pub at: f64,
    /// The steps of the ladder before and after it.
    pub steps: (usize, usize),
    /// Reconfigurations in that second: itself, and such as were near.
    pub changes: usize,
    /// The share of the threads' time that the load asks for, before and after.
    pub busy: (f64, f64),
    /// Requests in `world`, all repetitions together.
    pub requests: u64,
    /// p99 in nanoseconds of the cores as they are modelled here.
    pub model_ns: f64,
    /// p99 in nanoseconds of the real dataplane in virtual time.
    pub world_ns: f64,
    /// The longest time from a change until its cores had come or gone, there.
    pub took_ns: f64,
}

impl Replayed {
    /// Model over world.
    pub fn ratio(&self) -> f64 {
        self.model_ns / self.world_ns
    }
}

/// How far a second reaches to either side.
const HALF_S: f64 = 0.5;
/// Load before it, so that queues are as they would be.
const LEAD_S: f64 = 0.2;
/// A second of few requests is played more often, up to so many times.
const TIMES: f64 = 16.0;

/// What a request takes at a pace of 1, in nanoseconds: on the fastest threads, for nobody may serve it in less time than it asks for.
fn at_best_ns(setup: &Setup<'_>) -> f64 {
    let each = |state: &State| setup.service.request_ns(setup.machine, state);
    setup.machine.states().iter().map(each).fold(f64::INFINITY, f64::min)
}

/// How much longer than at best a request takes on the way from one configuration to another, by how many threads are awake. The clock has changed already.
fn paces(setup: &Setup<'_>, from: &State, to: &State) -> Vec<f64> {
    let machine = setup.machine;
    let pace =
        |state: &State| setup.service.request_ns(machine, &State { clock: to.clock, ..*state }) / at_best_ns(setup);
    let threads = |state: &State| (state.cores * state.threads) as f64;
    let way = threads(to) - threads(from);
    let at = |awake: usize| {
        let share = if way == 0.0 { 1.0 } else { ((awake as f64 - threads(from)) / way).clamp(0.0, 1.0) };
        pace(from) * (1.0 - share) + pace(to) * share
    };
    (1..=machine.cores() * machine.threads_per_core()).map(at).collect()
}

/// A world of as many cores as the machine has hardware threads.
fn world(setup: &Setup<'_>) -> world::Setup {
    let Service { rx, app, .. } = *setup.service;
    let ns = |share: f64| (at_best_ns(setup) * share).round() as u64;
    let costs = Costs {
        name: "energy".into(),
        rx_ns: ns(rx),
        tx_ns: ns(1.0 - rx - app),
        steal_ns: STEAL_NS as u64,
        lend_ns: STEAL_NS as u64,
        ..Costs::thesis()
    };
    let mode = match setup.sched {
        Sched::Ix => Mode::Ix,
        Sched::Zygos => Mode::Zygos(Assist::Lend),
    };
    let threads = setup.machine.cores() * setup.machine.threads_per_core();
    let times = ServiceTimes::det(Nanos(ns(app)));
    world::Setup {
        costs,
        connections: setup.connections,
        batch: setup.batch,
        // One core may be left with all connections.
        tx_buffers: (setup.connections + 64).next_multiple_of(992),
        seed: setup.seed,
        ..world::Setup::new(threads, mode, times)
    }
}

/// A stretch of a run, in ticks.
struct Stretch {
    /// With which tick it begins, with which the window does, and with which both end.
    begins: usize,
    opens: usize,
    ends: usize,
    /// The step of the ladder at the beginning.
    first: usize,
    /// To which it was changed, after which tick.
    changes: Vec<(usize, usize)>,
}

impl Stretch {
    /// Around a change.
    fn around(outcome: &Outcome, at: f64) -> Stretch {
        let tick = |s: f64| (s.clamp(0.0, RUN_S) * 1e9 / TICK_NS).round() as usize;
        let (begins, opens, ends) = (tick(at - HALF_S - LEAD_S), tick(at - HALF_S), tick(at + HALF_S));
        let first = outcome.changes.iter().rfind(|c| tick(c.at) <= begins).map_or(outcome.begun, |c| c.to);
        let within = outcome.changes.iter().filter(|c| (begins + 1..=ends).contains(&tick(c.at)));
        Stretch { begins, opens, ends, first, changes: within.map(|c| (tick(c.at), c.to)).collect() }
    }

    /// Since its beginning.
    fn since(&self, tick: usize) -> Nanos {
        Nanos(((tick - self.begins) as f64 * TICK_NS) as u64)
    }
}

/// Plays the second around the `nth` change of a run once more, here and in a world with the same cores, speeds, connections, flow groups and load, as often as it takes
/// to have about so many requests there. `None`: it has hardly any.
///
/// # Errors
/// The world does not come to be.
pub fn replay(setup: &Setup<'_>, outcome: &Outcome, nth: usize, requests: u64) -> Result<Option<Replayed>, WorldError> {
    let Setup { machine, service, pattern, seed, .. } = *setup;
    let Some(change) = outcome.changes.get(nth) else { return Ok(None) };
    let stretch = Stretch::around(outcome, change.at);
    let rate = |tick: usize| pattern.rate((tick as f64 - 0.5) * TICK_NS / 1e9, service.most_rps, seed);
    let served: f64 = (stretch.opens + 1..=stretch.ends).map(|tick| rate(tick) * TICK_NS / 1e9).sum();
    if served < 1000.0 {
        return Ok(None);
    }
    let times = (requests as f64 / served).ceil().clamp(1.0, TIMES) as u32;
    let mut model = Latencies::default();
    for repetition in 0..u64::from(times) {
        let again = Setup { seed: seed + (repetition << 32), ..setup.clone() };
        model.merge(&latencies(&again, &stretch, rate, outcome));
    }
    let world = world::replay(&world(setup), &in_world(setup, &stretch, rate, outcome)?, times)?;
    let busy = |step: usize| {
        let state = outcome.ladder.steps()[step].state;
        change.rps / 1e9 * service.request_ns(machine, &state) / (state.cores * state.threads) as f64
    };
    Ok(Some(Replayed {
        at: change.at,
        steps: (change.from, change.to),
        changes: stretch.changes.iter().filter(|(tick, _)| *tick > stretch.opens).count(),
        busy: (busy(change.from), busy(change.to)),
        requests: world.requests,
        model_ns: model.quantile(0.99),
        world_ns: world.p99.0 as f64,
        took_ns: world.took.0 as f64,
    }))
}

/// The latencies of the window here.
fn latencies(setup: &Setup<'_>, stretch: &Stretch, rate: impl Fn(usize) -> f64, outcome: &Outcome) -> Latencies {
    let mut run = Run::new(setup, stretch.first);
    let mut changes = stretch.changes.iter().peekable();
    for tick in stretch.begins + 1..=stretch.ends {
        let end = stretch.since(tick).0 as f64;
        run.tick(end, rate(tick));
        if let Some((_, to)) = changes.next_if(|(at, _)| *at == tick) {
            run.set(outcome.ladder.steps()[*to].state, end, rate(tick));
        }
        if tick == stretch.opens {
            run.latencies.clear();
        }
    }
    run.latencies
}

/// The same for a world.
fn in_world(
    setup: &Setup<'_>,
    stretch: &Stretch,
    rate: impl Fn(usize) -> f64,
    outcome: &Outcome,
) -> Result<Replay, WorldError> {
    let state = |step: usize| outcome.ladder.steps()[step].state;
    let configuration = |from: &State, to: &State| Configuration {
        awake: threads(setup.machine, to).into_iter().map(|t| CoreId(t as u16)).collect(),
        paces: paces(setup, from, to),
    };
    let first = state(stretch.first);
    let mut last = first;
    let change = |(tick, to): &(usize, usize)| {
        let to = state(*to);
        let from = std::mem::replace(&mut last, to);
        let stop = if from.clock == to.clock { 0.0 } else { CLOCK_NS };
        (stretch.since(*tick), configuration(&from, &to), Nanos(stop as u64))
    };
    let changes = stretch.changes.iter().map(change).collect();
    // A tick has one rate: from its beginning to a microsecond before its end.
    let points = (stretch.begins + 1..=stretch.ends).map(|tick| {
        let (end, rate) = (stretch.since(tick).as_secs_f64(), rate(tick));
        format!("{},{rate},{},{rate}", end - TICK_NS / 1e9, end - 1e-6)
    });
    let points: Vec<String> = points.collect();
    Ok(Replay {
        pattern: format!("values:{}", points.join(",")).parse().map_err(WorldError::Pattern)?,
        lead: stretch.since(stretch.opens),
        window: stretch.since(stretch.ends) - stretch.since(stretch.opens),
        first: configuration(&first, &first),
        changes,
    })
}
