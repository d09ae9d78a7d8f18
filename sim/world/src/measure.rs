use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use abi::LatencyHistogram;
use dataplane::{Controller, ElasticThread, Sched};
use draw::ServiceTimes;
use netstack::{DropReason, PoolSizes, Shared, StackConfig};
use nic::{Faults, Faulty, Nic};
use openloop::{Config, Director, Drive, Hand, Host, OpenLoop, Outcome};
use requests::{Spin, Workload};
use sys::clock::Clock;
use units::{CoreId, FLOW_GROUPS, Nanos};
use wire::Mac;
use zygix::Runtime;

use crate::WorldError;
use crate::charged::Charged;
use crate::clients::{Both, Directors, OTHERS};
use crate::control::{Control, Frames, Moves, frames};
use crate::costs::Costs;
use crate::engine::{Engine, Parts, Signals, Stalls};
use crate::trace::Trace;

/// Buffers of a core: a world has many cores, and no bulk transfers. As many as whole huge pages hold, for clearing these is most of what a world costs at first.
const POOLS: PoolSizes = PoolSizes { rx: 1984, spill: 1, tx: 992, small: 1024 };
/// When worlds begin: some of the product takes 0 for never.
const DAWN: Nanos = Nanos::from_secs(1);
/// Events between two looks at whether what was ordered is done.
const STEPS: usize = 64;
/// How long connections may take to open.
const PATIENCE: Nanos = Nanos::from_secs(10);

/// A world.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Cores: 1 to 64.
    pub cores: usize,
    /// How they share the work.
    pub sched: Sched,
    /// What operations take.
    pub costs: Costs,
    /// How long requests are served.
    pub times: ServiceTimes,
    /// TCP connections, all cores together.
    pub connections: u32,
    /// Further connections, which are idle in all measurements but those of [`skew`](crate::skew).
    pub others: u32,
    /// The bound B on batches.
    pub batch: usize,
    /// Transmit buffers of a core: each connection may hold one until its reply is acknowledged.
    pub tx_buffers: u32,
    /// Cores that are taken away.
    pub stalls: Option<Stalls>,
    /// Flow groups that move.
    pub moves: Option<Moves>,
    /// A core that is lost: it does not come back from the first application code that it runs under load.
    pub lost: Option<usize>,
    /// What the wire does to frames, once all connections are open.
    pub faults: Faults,
    /// Where all random numbers begin.
    pub seed: u64,
}

impl Setup {
    /// The thesis's: 2752 connections, batches of at most 64, its costs, nothing that disturbs.
    pub fn new(cores: usize, sched: Sched, times: ServiceTimes) -> Setup {
        Setup {
            cores,
            sched,
            costs: Costs::thesis(),
            times,
            connections: 2752,
            others: 0,
            batch: 64,
            tx_buffers: POOLS.tx,
            stalls: None,
            moves: None,
            lost: None,
            faults: Faults::default(),
            seed: 1,
        }
    }

    /// Requests per second at `load`: a share of what the cores could do if they did nothing but the application.
    pub fn rate(&self, load: f64) -> f64 {
        load * self.cores as f64 / self.times.mean().as_secs_f64()
    }
}

/// What a load came to. Latencies are from the intended arrival to the transmitted reply.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// A share of what the cores could do without any cost.
    pub load: f64,
    /// Requests of the window.
    pub requests: u64,
    /// The median.
    pub p50: Nanos,
    /// The 99th percentile.
    pub p99: Nanos,
    /// The 99.9th.
    pub p999: Nanos,
    /// The mean, in nanoseconds.
    pub mean_ns: f64,
    /// The longest.
    pub max: Nanos,
    /// Steals per request.
    pub steal_rate: f64,
    /// Lends per request.
    pub lend_rate: f64,
    /// Interrupts per request.
    pub interrupt_rate: f64,
    /// Replies per second of the window.
    pub throughput: f64,
    /// Requests without a right reply.
    pub errors: u64,
    /// Moves of flow groups.
    pub moves: u64,
    /// Segments that the server's TCP met out of order.
    pub reordered: u64,
    /// Segments that it met, or sent, twice.
    pub duplicated: u64,
    /// Frames that the server dropped, those aside that it met twice.
    pub dropped: u64,
    /// The service's own 99th percentile, from receive to transmit, as a metrics page would have it; the warm-up's requests count as
    /// well, and what is left of opening the connections: some hundreds of requests that waited for each other, which short runs show.
    pub own_p99: Nanos,
}

/// Loads a world at each of `loads` with about `requests` requests, one after the other, and calls `each` with what came of it; `false` ends it.
///
/// # Errors
/// The world does not come to be; somebody asked for the end.
pub fn measure(
    setup: &Setup,
    loads: &[f64],
    requests: u64,
    trace: Option<Trace>,
    mut each: impl FnMut(Row) -> bool,
) -> Result<(), WorldError> {
    with(setup, trace, |world| {
        for load in loads {
            if !each(world.load(*load, requests)?) {
                break;
            }
        }
        Ok(())
    })
}

/// Loads a world in a closed loop with about `requests` requests: a client on each connection asks, waits for the reply, thinks for a time drawn from `think`, and
/// asks again. The row's load is what came of that.
///
/// # Errors
/// As [`measure`].
pub fn closed_loop(
    setup: &Setup,
    think: &ServiceTimes,
    requests: u64,
    trace: Option<Trace>,
) -> Result<Row, WorldError> {
    with(setup, trace, |world| world.think(think, requests))
}

/// The highest load at which the 99th percentile keeps to the objective.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// A share of what the cores could do without any cost; 0: none was low enough.
    pub max_load: f64,
    /// All loads that were tried.
    pub rows: Vec<Row>,
}

/// Finds the highest load with p99 <= `slo` mean service times, to `precision` (a share), with about `requests` requests at each load that is tried. `each` is called after each.
///
/// # Errors
/// As [`measure`].
pub fn max_load(
    setup: &Setup,
    slo: f64,
    precision: f64,
    requests: u64,
    mut each: impl FnMut(&Row),
) -> Result<Found, WorldError> {
    let limit = setup.times.mean().0 as f64 * slo;
    with(setup, None, |world| {
        let (mut low, mut high) = (0.0, 1.0);
        let mut rows = Vec::new();
        while high - low > precision {
            let load = (low + high) / 2.0;
            let row = world.load(load, requests)?;
            each(&row);
            let kept = row.p99.0 as f64 <= limit && row.errors == 0;
            rows.push(row);
            if kept { low = load } else { high = load }
        }
        rows.sort_by(|a, b| a.load.total_cmp(&b.load));
        Ok(Found { max_load: low, rows })
    })
}

/// A world that lives.
pub(crate) struct World<'a> {
    pub(crate) engine: Engine<'a>,
    pub(crate) controller: &'a Controller,
    pub(crate) shared: &'a Arc<Shared>,
    directors: Directors,
    setup: &'a Setup,
    mended: Vec<Arc<AtomicBool>>,
    /// Frames by flow group, when the others were about to connect.
    pub(crate) before_others: Frames,
}

/// The NIC of the other clients, if there are any: the same flows go to the same queues.
fn others(setup: &Setup, first: &Config) -> Result<Option<(OpenLoop, Director)>, WorldError> {
    if setup.others == 0 {
        return Ok(None);
    }
    let client = Host { mac: Mac::local(4), ip: OTHERS };
    let seed = setup.seed ^ 0x6f74_6865_7273;
    Ok(Some(OpenLoop::new(&Config { connections: setup.others, client, seed, ..first.clone() })?))
}

/// Makes a world with all connections open, and ends it after `what`.
pub(crate) fn with<R>(
    setup: &Setup,
    trace: Option<Trace>,
    what: impl FnOnce(&mut World<'_>) -> Result<R, WorldError>,
) -> Result<R, WorldError> {
    if !(1..=64).contains(&setup.cores) {
        return Err(WorldError::Cores(setup.cores));
    }
    let (clock, signals) = (Clock::standing(DAWN), Signals::default());
    let config = Config {
        connections: setup.connections,
        seed: setup.seed,
        clock: clock.clone(),
        in_order: true,
        ..Config::new(setup.cores as u16, Workload::Spin(Spin::new(setup.times.clone())))
    };
    let (mut nic, first) = OpenLoop::new(&config)?;
    let mut others = others(setup, &config)?;
    let mut more = others.as_mut().map(|(nic, _)| nic.queues().into_iter());
    let both = |queue| Both::new(queue, more.as_mut().and_then(Iterator::next));
    let queues: Vec<Both> = nic.queues().into_iter().map(both).collect();
    let (nic, (more, second)) = (Arc::new(nic), others.unzip());
    let directors = Directors { first, others: second };
    let faulty = |(at, queue)| Faulty::new(queue, setup.faults, clock.clone(), setup.seed.wrapping_add(at));
    let wires: Vec<_> = (0..).zip(queues).map(faulty).collect();
    let (late, mended) = (wires.iter().map(Faulty::due).collect(), wires.iter().map(Faulty::mended).collect());
    let charged = |(at, queue)| Charged::new(queue, at, &clock, &setup.costs, &signals.touched);
    let queues: Vec<_> = wires.into_iter().enumerate().map(charged).collect();
    let stack = StackConfig {
        tcp_ports: vec![config.port],
        max_conns: (setup.connections + setup.others) as usize + 1024,
        pools: PoolSizes { tx: setup.tx_buffers, ..POOLS },
        batch: setup.batch,
        ..StackConfig::new(config.server.mac, config.server.ip, 16)
    };
    let secret = std::array::from_fn(|i| setup.seed.to_le_bytes()[i % 8] ^ i as u8);
    let woken = signals.woken.clone();
    let wake = move |core: CoreId| {
        woken.fetch_or(1 << core.index(), Relaxed);
    };
    let groups = nic.clone();
    let shared = Arc::new(Shared::new(stack, setup.cores, secret, move |t| groups.flow_group(t), wake)?);
    let threads = ElasticThread::crew(&shared, queues, setup.sched)?;
    let crew = threads[0].crew_mates().clone();
    let runtime = Runtime::new(Arc::new(spin::Service { by: spin::Spend::Time(clock.clone()) }), shared.clone());
    let apps = (0..setup.cores as u16).map(|n| runtime.app(CoreId(n))).collect();
    let controller = Controller::new(&shared, &crew, sys::clock::now);
    controller.steer_by(Box::new(move |group, queue| {
        more.as_ref().map_or(Ok(()), |more: &OpenLoop| more.set_reta(group, queue))?;
        nic.set_reta(group, queue)
    }));
    let parts = Parts { threads, apps, director: directors.clone(), late, clock, signals };
    let mut engine = Engine::new(&crew, setup, parts);
    engine.trace = trace;
    let (shared, controller) = (&shared, &controller);
    let mut world = World { engine, controller, shared, directors, setup, mended, before_others: [0; FLOW_GROUPS] };
    world.mend(true);
    world.hand(|hand| hand.connect(PATIENCE))?;
    world.before_others = world.frames();
    world.hand_of_others(|hand| hand.connect(PATIENCE)).transpose()?;
    world.mend(false);
    world.engine.lose = setup.lost;
    if let Some(moves) = setup.moves {
        world.engine.control_by(Control::new(controller, moves, setup.seed));
    }
    what(&mut world)
}

impl<'a> World<'a> {
    /// Directs the load generator, while the world moves.
    pub(crate) fn hand<R>(&mut self, what: impl FnOnce(&mut Hand<'_>) -> R) -> R {
        let World { engine, directors, .. } = self;
        what(&mut directors.first.by_hand(&mut || (0..STEPS).for_each(|_| engine.step())))
    }

    /// A stretch of load, with a look at the engine again and again. It is told when the load began.
    pub(crate) fn run_looking(
        &mut self,
        drive: &Drive,
        mut look: impl FnMut(&mut Engine<'a>, Nanos),
    ) -> Result<Outcome, WorldError> {
        let World { engine, directors, .. } = self;
        let began = Cell::new(Nanos::MAX);
        let mut pump = || {
            (0..STEPS).for_each(|_| engine.step());
            look(engine, began.get());
        };
        let outcome = directors.first.by_hand(&mut pump).run_watched(drive, |opens| began.set(opens - drive.warmup))?;
        if outcome.interrupted { Err(openloop::OpenLoopError::Stopped.into()) } else { Ok(outcome) }
    }

    /// As [`World::hand`] for the others; `None` if there are none.
    pub(crate) fn hand_of_others<R>(&mut self, what: impl FnOnce(&mut Hand<'_>) -> R) -> Option<R> {
        let World { engine, directors, .. } = self;
        let others = directors.others.as_ref()?;
        Some(what(&mut others.by_hand(&mut || (0..STEPS).for_each(|_| engine.step()))))
    }

    /// A stretch of load by all clients at once.
    pub(crate) fn run_both(&mut self, first: &Drive, others: &Drive) -> Result<Outcome, WorldError> {
        let World { engine, directors, .. } = self;
        let engine = RefCell::new(engine);
        let mut pump = || (0..STEPS).for_each(|_| engine.borrow_mut().step());
        let mut theirs = None;
        let also = |_| {
            let mut pump = || (0..STEPS).for_each(|_| engine.borrow_mut().step());
            theirs = directors.others.as_ref().map(|director| director.by_hand(&mut pump).run(others));
        };
        let mut outcome = directors.first.by_hand(&mut pump).run_watched(first, also)?;
        if let Some(theirs) = theirs {
            outcome.merge(&theirs?);
        }
        if outcome.interrupted { Err(openloop::OpenLoopError::Stopped.into()) } else { Ok(outcome) }
    }

    /// Ends the wire's faults, or lets them begin.
    pub(crate) fn mend(&self, mended: bool) {
        self.mended.iter().for_each(|m| m.store(mended, Relaxed));
    }

    /// Lets time pass.
    pub(crate) fn rest(&mut self, span: Nanos) -> Result<(), WorldError> {
        let until = self.engine.now() + span;
        while self.engine.now() < until {
            if sys::stop::requested() {
                return Err(openloop::OpenLoopError::Stopped.into());
            }
            self.engine.step();
        }
        Ok(())
    }

    /// What a core has that serves nobody: connections, slips that are not home, receive buffers, transmit buffers.
    pub(crate) fn whole(&self) -> [usize; 4] {
        [0, 0, POOLS.rx as usize, self.setup.tx_buffers as usize]
    }

    /// What requests took by the server's own account.
    fn own_latency(&self) -> LatencyHistogram {
        let mut sum = LatencyHistogram::default();
        (0..self.engine.cores()).for_each(|core| sum.add(&self.engine.metrics(core).latency()));
        sum
    }

    /// Frames that have come for each flow group.
    pub(crate) fn frames(&self) -> Frames {
        frames(self.shared)
    }

    fn counted(&self) -> [u64; 7] {
        let sum = |f: fn(&netstack::Metrics) -> u64| (0..self.engine.cores()).map(|c| f(self.engine.metrics(c))).sum();
        let twice = sum(|m| m.drops(DropReason::TcpWindow));
        let dropped: u64 = sum(|m| m.drops_total());
        let moves = self.engine.control.as_ref().map_or(0, |c| c.reports.len() as u64);
        [
            sum(|m| m.steals.get()),
            sum(|m| m.lends.get()),
            sum(|m| m.interrupts.get()),
            moves,
            sum(|m| m.tcp_out_of_order.get()),
            twice + sum(|m| m.tcp_retransmits.get()),
            dropped - twice,
        ]
    }

    /// What was dropped so far, by reason.
    pub(crate) fn drops(&self) -> String {
        let sum = |reason: &DropReason| {
            (0..self.engine.cores()).map(|core| self.engine.metrics(core).drops(*reason)).sum::<u64>()
        };
        DropReason::ALL
            .iter()
            .map(|r| (sum(r), r))
            .filter(|(n, _)| *n > 0)
            .map(|(n, r)| format!(", {n} {r:?}"))
            .collect()
    }

    /// Lets the move that is under way come to its end, if there is one, and no other begin.
    pub(crate) fn settle(&mut self, patience: Nanos) -> Result<bool, WorldError> {
        let until = self.engine.now() + patience;
        while self.engine.control.as_mut().is_some_and(|c| !c.ends()) {
            if self.engine.now() >= until {
                return Ok(false);
            }
            self.rest(Nanos::from_millis(1))?;
        }
        Ok(true)
    }

    /// A stretch of load.
    pub(crate) fn load(&mut self, load: f64, requests: u64) -> Result<Row, WorldError> {
        if !(load > 0.0 && load <= 1.5) {
            return Err(WorldError::Load(load));
        }
        self.drive(self.setup.rate(load), None, requests, load)
    }

    /// A stretch of load by clients that think.
    fn think(&mut self, think: &ServiceTimes, requests: u64) -> Result<Row, WorldError> {
        // No more than either the clients or the cores can do.
        let round = (think.mean() + self.setup.times.mean()).as_secs_f64();
        let rate = (f64::from(self.setup.connections) / round).min(self.setup.rate(1.0));
        let row = self.drive(rate, Some(think.clone()), requests, 0.0)?;
        Ok(Row { load: row.throughput / self.setup.rate(1.0), ..row })
    }

    fn drive(&mut self, rate: f64, think: Option<ServiceTimes>, requests: u64, load: f64) -> Result<Row, WorldError> {
        let span = |n: f64| Nanos((n / rate * 1e9).max(1.0) as u64);
        let window = span(requests as f64);
        let warmup = span(requests as f64 / 5.0).max(Nanos(50 * self.setup.times.mean().0));
        // A bad wire costs a client 200 ms per loss, one after the other on a connection.
        let patience = if self.setup.faults == Faults::default() { Nanos::from_secs(1) } else { Nanos::from_secs(300) };
        let drive = Drive { think, warmup, slice: window, keep: false, patience, ..Drive::new(rate, window) };
        let (before, own) = (self.counted(), self.own_latency());
        let outcome = self.hand(|hand| hand.run(&drive))?;
        let after = self.counted();
        if outcome.interrupted {
            return Err(openloop::OpenLoopError::Stopped.into());
        }
        let per = |i: usize| (after[i] - before[i]) as f64 / outcome.sent.max(1) as f64;
        Ok(Row {
            load,
            requests: outcome.completed,
            p50: outcome.p50(),
            p99: outcome.p99(),
            p999: Nanos(outcome.latency.value_at_quantile(0.999)),
            mean_ns: outcome.latency.mean(),
            max: Nanos(outcome.latency.max()),
            steal_rate: per(0),
            lend_rate: per(1),
            interrupt_rate: per(2),
            throughput: outcome.achieved_rps(),
            errors: outcome.errors.total(),
            moves: after[3] - before[3],
            reordered: after[4] - before[4],
            duplicated: after[5] - before[5],
            dropped: after[6] - before[6],
            own_p99: self.own_latency().since(&own).quantile(0.99).unwrap_or(Nanos::ZERO),
        })
    }
}
