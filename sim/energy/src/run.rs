use machine::{Machine, State};
use policy::{Decision, Ladder, Loop, Reason, Rules};
use rand::SeedableRng as _;
use units::Nanos;

use crate::cores::{Cost, Thread, Wave, poisson};
use crate::latency::Latencies;
use crate::meters::{self, Meter, Seen};
use crate::moves::{Groups, Moved};
use crate::pattern::{Pattern, RUN_S};
use crate::pool::{Pool, STEAL_NS, stolen};
use crate::service::Service;

/// How often the dataplane publishes, and how often the loop decides.
pub(crate) const TICK_NS: f64 = 10e6;
pub(crate) const DECIDE: usize = 10;
const SECOND: usize = 100;
/// For how long a change of the clock stops everything, in nanoseconds.
pub(crate) const CLOCK_NS: f64 = 20e3;

/// How connections are scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sched {
    /// Each thread its own.
    Ix,
    /// Idle threads steal.
    Zygos,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// On which machine.
    pub machine: &'a Machine,
    /// What is served.
    pub service: &'a Service,
    /// Under which load.
    pub pattern: Pattern,
    /// How it is scheduled.
    pub sched: Sched,
    /// What is set, in which order.
    pub ladder: Ladder,
    /// When.
    pub rules: Rules,
    /// Connections: each flow group has as many.
    pub connections: u32,
    /// The bound B on a batch.
    pub batch: usize,
    /// Where random numbers come from.
    pub seed: u64,
}

impl<'a> Setup<'a> {
    /// The thesis's: 2752 connections, batches of at most 64; our rules.
    pub fn new(
        machine: &'a Machine,
        service: &'a Service,
        pattern: Pattern,
        sched: Sched,
        ladder: Ladder,
    ) -> Setup<'a> {
        let rules = Rules::new(service.slo_ns);
        Setup { machine, service, pattern, sched, ladder, rules, connections: 2752, batch: 64, seed: 1 }
    }
}

/// A second of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Second {
    /// Requests per second that were asked for.
    pub offered: f64,
    /// And served.
    pub served: f64,
    /// The clients' 99th percentile, in nanoseconds.
    pub p99_ns: f64,
    /// Mean watts.
    pub watts: f64,
    /// The background job's share.
    pub background: f64,
    /// The step of the ladder at its end.
    pub step: usize,
}

/// A reconfiguration.
#[derive(Clone, Debug)]
pub struct Change {
    /// When, in seconds.
    pub at: f64,
    /// From this step of the ladder.
    pub from: usize,
    /// To this one.
    pub to: usize,
    /// Why.
    pub reason: Reason,
    /// The load, in requests per second.
    pub rps: f64,
    /// The flow groups that moved.
    pub moves: Vec<Moved>,
}

/// Four minutes.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By second.
    pub seconds: Vec<Second>,
    /// The step of the ladder at the beginning.
    pub begun: usize,
    /// What was changed.
    pub changes: Vec<Change>,
    /// Mean watts.
    pub watts: f64,
    /// Mean watts of the largest configuration under the same load.
    pub most_w: f64,
    /// 1 - `watts` / `most_w`.
    pub saved: f64,
    /// The background job's mean share.
    pub background: f64,
    /// Seconds whose p99 misses the objective.
    pub violations: usize,
    /// The configurations that were in use, by step.
    pub ladder: Ladder,
}

/// The cores, as one.
enum Cores {
    Ix(Vec<Thread>),
    Zygos(Pool),
}

/// A run that goes on: cores, what they publish, and the control loop.
pub(crate) struct Run<'a> {
    setup: &'a Setup<'a>,
    dice: draw::Rng,
    pub(crate) control: Loop,
    state: State,
    cores: Cores,
    groups: Groups,
    shares: Vec<f64>,
    meters: Vec<Meter>,
    pub(crate) latencies: Latencies,
    pub(crate) changes: Vec<Change>,
}

/// Frames beside each request that only acknowledge the last reply, when so many requests per second come on a connection: where the next request is later than a client waits for it,
/// which is 10 to 20 ms for those of the open-loop NIC.
fn acknowledgements(rate: f64) -> f64 {
    let (soon, late) = (10e-3 * rate, 20e-3 * rate);
    if soon < 1e-6 { 1.0 } else { ((-soon).exp() - (-late).exp()) / soon }
}

/// Runs a pattern under a policy.
pub fn run(setup: &Setup<'_>) -> Outcome {
    let rps = setup.pattern.rate(0.0, setup.service.most_rps, setup.seed);
    let step = setup.ladder.enough(1.2 * rps / setup.service.most_rps);
    Run::new(setup, step).all()
}

/// The hardware threads of a configuration, as the machine counts them.
pub(crate) fn threads(machine: &Machine, state: &State) -> Vec<usize> {
    (0..state.threads).flat_map(|t| (0..state.cores).map(move |c| c + t * machine.cores())).collect()
}

impl<'a> Run<'a> {
    /// Nothing has happened yet, at a step of the ladder.
    pub(crate) fn new(setup: &'a Setup<'a>, step: usize) -> Run<'a> {
        let machine = setup.machine;
        let dice = draw::Rng::seed_from_u64(setup.seed);
        let mut control = Loop::new(setup.rules.clone(), setup.ladder.clone());
        control.set(step);
        let most = machine.cores() * machine.threads_per_core();
        let mut run = Run {
            setup,
            state: control.step().state,
            control,
            cores: match setup.sched {
                Sched::Ix => Cores::Ix(vec![Thread::default(); most]),
                Sched::Zygos => Cores::Zygos(Pool::default()),
            },
            groups: Groups::new(),
            shares: Vec::new(),
            meters: vec![Meter::fresh(); most],
            latencies: Latencies::default(),
            changes: Vec::new(),
            dice,
        };
        run.groups.spread(&threads(machine, &run.state), true, &mut run.dice);
        run.shares = run.groups.shares(most);
        run
    }

    fn all(mut self) -> Outcome {
        let begun = self.control.position();
        let Setup { machine, service, pattern, seed, .. } = *self.setup;
        let frontier = crate::bound::Frontier::new(machine, service);
        let (mut seconds, mut second) = (Vec::new(), Second::zero());
        let mut most_w = 0.0;
        let ticks = (RUN_S * 1e9 / TICK_NS) as usize;
        for tick in 1..=ticks {
            let end = tick as f64 * TICK_NS;
            let rps = pattern.rate((end - TICK_NS / 2.0) / 1e9, service.most_rps, seed);
            let (busy, served) = self.tick(end, rps);
            let left = machine.cores() - self.state.cores;
            let background = self.control.step().background.then(|| service.background(machine, left));
            let part = 1.0 / SECOND as f64;
            second.offered += rps * part;
            second.served += served / TICK_NS * 1e9 * part;
            second.watts += machine.power_w(&self.state, busy) * part;
            second.background += background.unwrap_or(0.0) * part;
            most_w += frontier.watts(&machine.most(), service.most_rps, rps) / ticks as f64;
            if tick % DECIDE == 0 {
                self.decide(end, rps);
            }
            if tick % SECOND == 0 {
                second.p99_ns = self.latencies.quantile(0.99);
                second.step = self.control.position();
                self.latencies.clear();
                seconds.push(std::mem::replace(&mut second, Second::zero()));
            }
        }
        let mean = |of: fn(&Second) -> f64| seconds.iter().map(of).sum::<f64>() / seconds.len() as f64;
        let watts = mean(|s| s.watts);
        Outcome {
            watts,
            most_w,
            saved: 1.0 - watts / most_w,
            background: mean(|s| s.background),
            begun,
            violations: seconds.iter().filter(|s| s.p99_ns > service.slo_ns).count(),
            changes: self.changes,
            ladder: self.setup.ladder.clone(),
            seconds,
        }
    }

    fn cost(&self, rps: f64) -> Cost {
        let Service { rx, app, .. } = *self.setup.service;
        let all = self.setup.service.request_ns(self.setup.machine, &self.state);
        let acks = acknowledgements(rps / f64::from(self.setup.connections));
        Cost { before_ns: all * (rx * (1.0 + acks) + app), tx_ns: all * (1.0 - rx - app) }
    }

    /// 10 ms: how busy the threads in use were, and how many requests they served.
    pub(crate) fn tick(&mut self, end: f64, rps: f64) -> (f64, f64) {
        let rate = rps / 1e9;
        let (cost, active) = (self.cost(rps), threads(self.setup.machine, &self.state));
        let bound = self.setup.batch as f64;
        let connections = f64::from(self.setup.connections);
        let (mut busy, mut served) = (0.0, 0.0);
        match &mut self.cores {
            Cores::Ix(all) => {
                for t in &active {
                    let thread = &mut all[*t];
                    let load = (rate * self.shares[*t], connections * self.shares[*t]);
                    thread.work(end, load, cost, bound, &mut self.dice, &mut self.latencies);
                    let tick = thread.tick;
                    let turns = tick.turns.max(1.0);
                    self.meters[*t].tick(&Seen {
                        queue: thread.queued(),
                        full: tick.full,
                        batch: tick.served / turns,
                        iteration_ns: tick.busy_ns / turns,
                        idle: (1.0 - tick.busy_ns / TICK_NS).max(0.0),
                        stolen: 0.0,
                    });
                    busy += tick.busy_ns / TICK_NS;
                    served += tick.served;
                }
                busy /= active.len() as f64;
            }
            Cores::Zygos(pool) => {
                pool.work(end, (rate, connections), cost, active.len(), &mut self.dice, &mut self.latencies);
                let n = active.len() as f64;
                busy = pool.tick.busy_ns / TICK_NS / n;
                served = pool.tick.served;
                let seen = Seen {
                    queue: pool.queued() / n,
                    full: pool.tick.full,
                    batch: 1.0,
                    // A turn of a thread that steals takes one connection; what waits is served at B times its length.
                    iteration_ns: cost.all() + STEAL_NS * stolen(busy),
                    idle: (1.0 - busy).max(0.0),
                    stolen: stolen(busy),
                };
                active.iter().for_each(|t| self.meters[*t].tick(&seen));
            }
        }
        (busy.min(1.0), served)
    }

    fn bound(&self) -> usize {
        if self.setup.sched == Sched::Zygos { 1 } else { self.setup.batch }
    }

    /// Whether what is published says that the objective is in danger: the delay estimate is over its limit, or a ring is full.
    pub(crate) fn over(&self, end: f64) -> bool {
        let mut copy = self.meters.clone();
        let sense = meters::look(&mut copy, Nanos(end as u64), self.bound());
        sense.worst_delay().1 > self.setup.rules.limit_ns() || sense.active().any(|c| c.queue_full)
    }

    pub(crate) fn decide(&mut self, end: f64, rps: f64) {
        let bound = self.bound();
        let sense = meters::look(&mut self.meters, Nanos(end as u64), bound);
        let from = self.control.position();
        let decision: Decision = self.control.decide(&sense);
        let Some(to) = decision.to() else { return };
        let moves = self.set(self.control.step().state, end, rps);
        self.changes.push(Change { at: end / 1e9, from, to, reason: decision.reason(), rps, moves });
    }

    /// Sets a configuration, with what that costs.
    pub(crate) fn set(&mut self, state: State, now: f64, rps: f64) -> Vec<Moved> {
        let machine = self.setup.machine;
        let (old, new) = (threads(machine, &self.state), threads(machine, &state));
        let clock = self.state.clock != state.clock;
        self.state = state;
        for t in old.iter().filter(|t| !new.contains(t)) {
            self.meters[*t] = Meter::fresh();
        }
        let moves = self.groups.spread(&new, new.len() > old.len(), &mut self.dice);
        let mut left = std::mem::replace(&mut self.shares, self.groups.shares(self.meters.len()));
        match &mut self.cores {
            Cores::Ix(all) => {
                for t in &new {
                    let thread = &mut all[*t];
                    thread.clock = thread.clock.max(now) + if clock { CLOCK_NS } else { 0.0 };
                }
                for m in &moves {
                    let mut from = std::mem::take(&mut all[m.from]);
                    from.share_with(&mut all[m.to], m.share / left[m.from].max(m.share));
                    left[m.from] -= m.share;
                    all[m.from] = from;
                    all[m.from].stall(m.prepare_ns);
                    all[m.to].stall(m.deferred_ns);
                    // What came for them meanwhile has waited.
                    let n = poisson(rps / 1e9 * m.share * m.total_ns, &mut self.dice);
                    all[m.to].come(Wave { from: now - m.total_ns, span: m.total_ns, n });
                }
                for t in old.iter().filter(|t| !new.contains(t)) {
                    let mut gone = std::mem::take(&mut all[*t]);
                    let heir = moves.iter().find(|m| m.from == *t).map_or(new[0], |m| m.to);
                    gone.hand_over(&mut all[heir]);
                }
            }
            Cores::Zygos(pool) => {
                let stalls: f64 = moves.iter().map(|m| m.prepare_ns + m.deferred_ns).sum::<f64>() / new.len() as f64;
                pool.stall(rps / 1e9 * (stalls + if clock { CLOCK_NS } else { 0.0 }));
                for m in &moves {
                    let n = rps / 1e9 * m.share * m.total_ns;
                    self.latencies.spread(0.0, m.total_ns, n);
                }
            }
        }
        moves
    }
}

impl Second {
    fn zero() -> Second {
        Second { offered: 0.0, served: 0.0, p99_ns: 0.0, watts: 0.0, background: 0.0, step: 0 }
    }
}
