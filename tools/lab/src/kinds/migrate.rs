//! Flow groups that move under load, and cores that are removed and added in turn (thesis table 2.5): what each step takes, and that nothing is lost, doubled
//! or reordered by it. All cores are servers; the open-loop NIC makes pipelined requests over many connections, and each reply is the one right answer to
//! the next request of its connection or it is counted as wrong.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dataplane::{Controller, Dataplane, Idle, MoveError, Report, RunnerConfig, Sched};
use load::Outcome;
use load::draw::ServiceTimes;
use netstack::{DropReason, Metrics, PoolSizes, Shared, StackConfig};
use nic::Nic;
use openloop::{Config, Director, Drive, OpenLoop};
use serde_json::{Value, json};
use sys::clock;
use units::{CoreId, FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};
use zygix::Runtime;

use super::echo;
use crate::measure::until;

/// As the thesis's memcached was asked.
pub const CONNECTIONS: u32 = 2752;
/// Random migrations.
const EVERY: Nanos = Nanos::from_millis(5);
/// What is made up for of it, when moves had to wait.
const CATCH_UP: Nanos = Nanos::from_millis(50);
/// How long a core is left parked, and then left to serve.
const TURN: Nanos = Nanos::from_millis(100);
const PATIENCE: Nanos = Nanos::from_secs(10);
const POOLS: PoolSizes = PoolSizes { rx: 8192, spill: 2, tx: 8192, small: 1024 };

/// What the steps of moves took.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    reports: Vec<Report>,
    /// Requests that were turned down, for a group had come a moment before.
    pub refused: u64,
}

/// One step of all moves, in microseconds; packets as they are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    /// The mean.
    pub avg: f64,
    /// 95 in 100 took no longer.
    pub p95: f64,
    /// The longest.
    pub max: f64,
}

impl Steps {
    /// How many moves.
    pub fn len(&self) -> usize {
        self.reports.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// The lines of the thesis's table: name and figures.
    pub fn lines(&self) -> [(&'static str, Line); 6] {
        let us = |of: fn(&Report) -> Nanos| self.line(move |r| of(r).0 as f64 / 1e3);
        [
            ("prepare", us(|r| r.prepare)),
            ("wait", us(|r| r.wait)),
            ("rpc", us(|r| r.rpc)),
            ("deferred", us(|r| r.deferred)),
            ("total", us(|r| r.total)),
            ("packets", self.line(|r| r.packets as f64)),
        ]
    }

    fn line(&self, of: impl Fn(&Report) -> f64) -> Line {
        let mut all: Vec<f64> = self.reports.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let at = |q: f64| all.get(((all.len() as f64 * q).ceil() as usize).saturating_sub(1)).copied().unwrap_or(0.0);
        Line { avg: all.iter().sum::<f64>() / all.len().max(1) as f64, p95: at(0.95), max: at(1.0) }
    }

    fn take(&mut self, moved: Result<Vec<Report>, MoveError>) -> Result<()> {
        match moved {
            Ok(reports) => self.reports.extend(reports),
            Err(MoveError::TimedOut(_)) => self.refused += 1,
            Err(e) => bail!("a move failed: {e}"),
        }
        Ok(())
    }

    fn object(&self) -> Value {
        let mut object = serde_json::Map::new();
        for (name, Line { avg, p95, max }) in self.lines() {
            let key = if name == "packets" { name.to_owned() } else { format!("{name}_us") };
            object.insert(key, json!({ "avg": avg, "p95": p95, "max": max }));
        }
        object.insert("moves".into(), json!(self.len()));
        object.insert("refused".into(), json!(self.refused));
        object.into()
    }
}

/// What may double or reorder segments, counted over all cores.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    /// Segments that came out of order to the server's TCP.
    pub out_of_order: u64,
    /// Segments that it sent again.
    pub retransmits: u64,
    /// Timers that asked for that: the acknowledgement did not come in time.
    pub timeouts: u64,
    /// Deferred frames that went on although older ones may have been on their way.
    pub order_given_up: u64,
    /// Frames dropped, by reason: those that came twice ("tcp_window") among them.
    pub drops: Vec<(&'static str, u64)>,
}

impl Causes {
    fn of(shared: &Shared) -> Causes {
        let total = |of: fn(&Metrics) -> u64| shared.total(of);
        let drops = |reason: &DropReason| (reason.label(), shared.total(|m| m.drops(*reason)));
        Causes {
            out_of_order: total(|m| m.tcp_out_of_order.get()),
            retransmits: total(|m| m.tcp_retransmits.get()),
            timeouts: total(|m| m.tcp_timeouts.get()),
            order_given_up: total(|m| m.order_given_up.get()),
            drops: DropReason::ALL.iter().map(drops).collect(),
        }
    }

    /// What has been added since.
    fn since(&self, before: &Causes) -> Causes {
        let drops = self.drops.iter().zip(&before.drops).map(|((name, n), (_, m))| (*name, n - m));
        Causes {
            out_of_order: self.out_of_order - before.out_of_order,
            retransmits: self.retransmits - before.retransmits,
            timeouts: self.timeouts - before.timeouts,
            order_given_up: self.order_given_up - before.order_given_up,
            drops: drops.filter(|(_, n)| *n > 0).collect(),
        }
    }

    /// Segments that came or were sent twice.
    pub fn duplicated(&self) -> u64 {
        let twice = self.drops.iter().filter(|(name, _)| *name == DropReason::TcpWindow.label());
        self.retransmits + twice.map(|(_, n)| n).sum::<u64>()
    }

    fn object(&self) -> Value {
        let drops: serde_json::Map<_, _> = self.drops.iter().map(|(name, n)| ((*name).to_owned(), json!(n))).collect();
        json!({
            "duplicated": self.duplicated(),
            "reordered": self.out_of_order,
            "retransmits": self.retransmits,
            "timeouts": self.timeouts,
            "order_given_up": self.order_given_up,
            "drops": drops,
        })
    }
}

/// What was measured in one way to schedule.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub sched: Sched,
    /// Server cores.
    pub cores: usize,
    /// The smallest retransmission timeout, if not the usual one.
    pub rto_min: Option<Nanos>,
    /// The share of its capacity that the server was asked for.
    pub load: f64,
    /// What the server came to in a closed loop, in requests per second, and what it was asked at random migrations.
    pub capacity: f64,
    /// The latter.
    pub rate: f64,
    /// Moves of random groups to random cores.
    pub random: Steps,
    /// Moves that took a core's groups from it, and that gave it some.
    pub remove: Steps,
    /// The latter.
    pub add: Steps,
    /// Requests without an answer, or whose connection broke.
    pub lost: u64,
    /// Replies that were not the answer to the next request of their connection, and segments that came to the server's TCP out of order.
    pub reordered: u64,
    /// Segments that came to the server's TCP twice, or that it sent twice.
    pub duplicated: u64,
    /// What lies behind these, with moves and without any.
    pub causes: Causes,
    /// The latter: what the machine does by itself, in a stretch half as long as the one with moves.
    pub causes_still: Causes,
    /// Requests that were answered.
    pub answered: u64,
    /// The 99th percentile of latency under random migrations, and before them, without any.
    pub p99: Nanos,
    /// The latter.
    pub p99_still: Nanos,
}

impl Measured {
    /// The object that is written for programs.
    pub fn object(&self) -> Value {
        json!({
            "wire": "openloop",
            "sched": self.sched.to_string(),
            "cores": self.cores,
            "load": self.load,
            "rto_min_us": self.rto_min.map(|t| t.0 as f64 / 1e3),
            "connections": CONNECTIONS,
            "capacity": self.capacity,
            "rate": self.rate,
            "answered": self.answered,
            "migrations": self.random.len(),
            "lost": self.lost,
            "reordered": self.reordered,
            "duplicated": self.duplicated,
            "causes": self.causes.object(),
            "without_moves": self.causes_still.object(),
            "p99_us": self.p99.0 as f64 / 1e3,
            "p99_still_us": self.p99_still.0 as f64 / 1e3,
            "random": self.random.object(),
            "add": self.add.object(),
            "remove": self.remove.object(),
        })
    }
}

/// The server, its load and its controller.
struct Rig {
    dataplane: Dataplane,
    director: Director,
    controller: Controller,
    cores: usize,
}

impl Rig {
    fn start(sched: Sched, cores: &[usize], rto_min: Option<Nanos>) -> Result<Rig> {
        let config = Config { connections: CONNECTIONS, ..Config::new(cores.len() as u16, echo(64)) };
        let (mut nic, director) = OpenLoop::new(&config)?;
        let mut stack = StackConfig {
            tcp_ports: vec![config.port],
            max_conns: 2 * CONNECTIONS as usize,
            pools: POOLS,
            ..StackConfig::new(config.server.mac, config.server.ip, 15)
        };
        stack.tcp.rto_min = rto_min.unwrap_or(stack.tcp.rto_min);
        let runner = RunnerConfig { pin: cores.to_vec(), idle: Idle::Spin, sched };
        let (queues, mut runtime) = (nic.queues(), None);
        let nic = Arc::new(nic);
        let (groups, service) = (nic.clone(), Arc::new(::echo::Echo::new(::echo::Mode::Echo)));
        let dataplane = Dataplane::start(
            stack,
            queues,
            move |t| groups.flow_group(t),
            &runner,
            |core, shared| runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core),
        )
        .context("the server does not start")?;
        let controller = dataplane.controller(Some(Box::new(move |g, q| nic.set_reta(g, q))));
        let controller = controller.context("a dataplane without cores")?;
        director.connect(PATIENCE)?;
        Ok(Rig { dataplane, director, controller, cores: cores.len() })
    }

    /// Half of each core's groups go to the next core, as they will lie when they have moved for a while: the emulated NIC, whose work is in the server's
    /// time, looks up from then on where each frame goes, and has each connection on a core of its own choice no longer.
    fn mix(&self) -> Result<()> {
        let owners = self.controller.groups();
        for core in 0..self.cores {
            let own = (0..FLOW_GROUPS as u16).map(FlowGroupId).filter(|g| owners[g.index()].index() == core);
            let half = GroupSet::from_iter(own.step_by(2));
            self.controller.move_groups(half, CoreId(((core + 1) % self.cores) as u16))?;
        }
        Ok(())
    }

    /// What the server comes to in a closed loop.
    fn capacity(&self) -> Result<f64> {
        let think = Some(ServiceTimes::det(Nanos::from_micros(1)));
        let drive = Drive { think, ..Drive::new(1000.0, Nanos::from_millis(500)) };
        Ok(self.director.run(&drive)?.achieved_rps())
    }

    /// Load at `rate`, during which `act` is called again and again.
    fn under(&self, rate: f64, length: Nanos, mut act: impl FnMut() -> Result<()>) -> Result<Outcome> {
        let mut went = Ok(());
        let outcome = self.director.run_watched(&Drive::new(rate, length), |opens| {
            until(opens);
            while clock::now() < opens + length && !sys::stop::requested() && went.is_ok() {
                went = act();
            }
        })?;
        went?;
        Ok(outcome)
    }

    /// Random groups go from a core that has most to one that has fewest: a core is never left with many more than its share, which would be more than
    /// it can serve.
    fn stir(&self, dice: &mut Dice, steps: &mut Steps, next: &mut Nanos) -> Result<()> {
        let owners = self.controller.groups();
        let mut cores: Vec<(usize, usize)> =
            (0..self.cores).map(|core| (owners.iter().filter(|owner| owner.index() == core).count(), core)).collect();
        cores.rotate_left(dice.roll(self.cores));
        cores.sort_by_key(|(groups, _)| *groups);
        let [(_, to), .., (_, from)] = cores[..] else { bail!("bench migrate needs two cores") };
        let (from, to) = (CoreId(from as u16), CoreId(to as u16));
        let mut groups = GroupSet::NONE;
        for _ in 0..1 + dice.roll(8) {
            let group = dice.roll(FLOW_GROUPS);
            if owners[group] == from {
                groups.insert(FlowGroupId(group as u16));
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        // One that had to wait for a group to settle is followed the sooner.
        until(*next);
        *next = (*next + EVERY).max(clock::now() - CATCH_UP);
        steps.take(self.controller.move_groups(groups, to))?;
        Ok(())
    }
}

/// Any spread will do.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

/// Measures one way to schedule at a share `load` of its capacity for `length` under random migrations, and half as long while cores are removed and added in turn.
/// `rto_min`: the server's smallest retransmission timeout, if not the usual one: on a machine that takes a processor away for longer, that alone doubles segments.
///
/// # Errors
/// The server does not start, or a move fails.
pub fn run(sched: Sched, cores: &[usize], length: Nanos, load: f64, rto_min: Option<Nanos>) -> Result<Measured> {
    if cores.len() < 2 {
        bail!("bench migrate needs two cores: flow groups have to go somewhere");
    }
    let rig = Rig::start(sched, cores, rto_min)?;
    rig.mix()?;
    let capacity = rig.capacity()?;
    let rate = load * capacity;
    let (mut random, mut add, mut remove) = (Steps::default(), Steps::default(), Steps::default());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let counts = || Causes::of(rig.dataplane.shared());
    let begun = counts();
    let still = rig.director.run(&Drive::new(rate, length))?;
    let before = counts();
    let mut next = clock::now();
    let stirred = rig.under(rate, length, || rig.stir(&mut dice, &mut random, &mut next))?;
    let less = rate * (rig.cores - 1) as f64 / rig.cores as f64;
    let mut turn = 0;
    let turned = rig.under(less, Nanos(length.0 / 2).max(Nanos::from_secs(1)), || {
        let core = CoreId((turn % rig.cores) as u16);
        turn += 1;
        remove.take(rig.controller.park(core))?;
        thread::sleep(Duration::from_nanos(TURN.0));
        if rig.controller.cores()[core.index()].parked {
            add.take(rig.controller.unpark(core, 0))?;
            thread::sleep(Duration::from_nanos(TURN.0));
        }
        Ok(())
    })?;
    let (causes, causes_still) = (counts().since(&before), before.since(&begun));
    let errors = [&stirred.errors, &turned.errors];
    Ok(Measured {
        sched,
        cores: rig.cores,
        load,
        rto_min,
        capacity,
        rate,
        random,
        remove,
        add,
        lost: errors.iter().map(|e| e.total() - e.wrong).sum(),
        reordered: errors.iter().map(|e| e.wrong).sum::<u64>() + causes.out_of_order,
        duplicated: causes.duplicated(),
        causes,
        causes_still,
        answered: stirred.completed + turned.completed,
        p99: stirred.p99(),
        p99_still: still.p99(),
    })
}
