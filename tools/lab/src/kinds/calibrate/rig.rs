use std::cell::Cell;
use std::sync::Arc;

use anyhow::Result;
use dataplane::{ElasticThread, Sched};
use load::draw::{Gaps, ServiceTimes};
use load::requests::{Spin, Workload};
use netstack::{PoolSizes, Shared, StackConfig};
use nic::Nic;
use openloop::{Config, Director, Drive, OpenLoop, OpenLoopError, OpenLoopQueue};
use spin::wire::{HEADER, Reply, Request};
use sys::clock::Clock;
use units::{CoreId, Nanos};
use zygix::{Cx, Next, Peer, Received, Runtime, Service, ServiceApp};

use super::ready::{RING, Ready};
use crate::Interrupted;

/// So many that a random one is hardly ever still busy, and so few that acknowledgements ride on requests.
const CONNECTIONS: u32 = 512;
/// Requests of a core, and the time from one to the next on the standing clock.
pub(super) const GAP: Nanos = Nanos::from_micros(2);
const POOLS: PoolSizes = PoolSizes { rx: 1024, spill: 1, tx: 1024, small: 512 };
/// When time begins: some of the product takes 0 for never.
const DAWN: Nanos = Nanos::from_secs(1);
/// By the standing clock.
const PATIENCE: Nanos = Nanos::from_secs(10);
/// The least time between two turns that are not timed.
const STEP: Nanos = Nanos::from_micros(20);

/// Answers requests of the spin server as if it had spent their time: it computes nothing, and shares nothing between cores.
pub(super) struct Answers;

impl Service for Answers {
    type Conn = ();
    type Core = ();
    type Msg = ();

    fn core(&self, _id: CoreId) {}

    fn accept(&self, _core: &mut (), _peer: &Peer) -> Option<()> {
        Some(())
    }

    fn recv(&self, _cx: &mut Cx<'_, Self>, _conn: &mut (), rx: &mut Received<'_>, tx: &mut zygix::Reply<'_>) -> Next {
        loop {
            let mut header = [0; HEADER];
            if rx.copy_to(&mut header) < HEADER {
                return if rx.fin() { Next::Close } else { Next::AtLeast(HEADER) };
            }
            let Ok(request) = Request::decode(&header) else { return Next::Abort };
            if !tx.reserve(HEADER) {
                return Next::Read;
            }
            // These requests have no padding.
            rx.consume(HEADER);
            tx.write(&Reply { id: request.id, spent: request.time }.encode());
        }
    }
}

/// An elastic thread with its application. Two of them share no line of a cache, as on stacks of their own.
#[repr(align(128))]
pub(super) struct Core {
    pub(super) thread: ElasticThread<Ready<OpenLoopQueue>>,
    pub(super) app: ServiceApp<Answers>,
}

impl Core {
    /// The other side of its queue, if nobody is in its network layer: [`Ready::exchange`].
    pub(super) fn exchange(&self, max: usize) -> Option<(usize, usize)> {
        self.thread.stack().map(|mut stack| stack.nic().exchange(max))
    }

    /// Frames that it has transmitted since then.
    pub(super) fn sent(&self) -> usize {
        self.thread.stack().map_or(0, |mut stack| stack.nic().sent())
    }

    /// A turn that nobody times.
    pub(super) fn turn(&mut self, now: Nanos) {
        self.exchange(RING / 2);
        self.thread.turn(now, || now, &mut self.app);
    }
}

/// Servers that are driven by hand, by a clock that stands between turns. Their application answers, and computes nothing.
pub(super) struct Rig {
    pub(super) cores: Vec<Core>,
    pub(super) clock: Clock,
    director: Director,
}

impl Rig {
    /// On one queue for each core, connections open.
    ///
    /// # Errors
    /// Memory is not to be had.
    pub(super) fn new(cores: u16, sched: Sched) -> Result<Rig> {
        let clock = Clock::standing(DAWN);
        let work = Workload::Spin(Spin::new(ServiceTimes::det(Nanos::from_micros(10))));
        let connections = CONNECTIONS * u32::from(cores);
        let config = Config { connections, clock: clock.clone(), ..Config::new(cores, work) };
        let (mut nic, director) = OpenLoop::new(&config)?;
        let queues = nic.queues().into_iter().map(Ready::new).collect::<Result<Vec<_>, _>>()?;
        let stack = StackConfig {
            tcp_ports: vec![config.port],
            max_conns: 2 * connections as usize,
            pools: POOLS,
            ..StackConfig::new(config.server.mac, config.server.ip, 15)
        };
        let secret = std::array::from_fn(|i| i as u8);
        let shared = Shared::new(stack, usize::from(cores), secret, move |t| nic.flow_group(t), |_| ())?;
        let shared = Arc::new(shared);
        let runtime = Runtime::new(Arc::new(Answers), shared.clone());
        let threads = ElasticThread::crew(&shared, queues, sched)?;
        let cores = (0..).zip(threads).map(|(i, thread)| Core { thread, app: runtime.app(CoreId(i)) });
        let mut rig = Rig { cores: cores.collect(), clock, director };
        for core in &mut rig.cores {
            core.thread.start(DAWN, &mut core.app);
        }
        let Rig { cores, clock, director } = &mut rig;
        director.by_hand(&mut || idle(cores, clock)).connect(PATIENCE).map_err(refusal)?;
        Ok(rig)
    }

    /// Makes `requests` requests for each core, and calls `round` until it says that it has had enough. It has to pass time on the
    /// clock.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(super) fn rounds(&mut self, requests: u64, mut round: impl FnMut(&mut [Core], &Clock) -> bool) -> Result<()> {
        let Rig { cores, clock, director } = self;
        let window = Nanos(requests * GAP.0);
        let drive = Drive {
            gaps: Gaps::fixed(),
            warmup: Nanos::ZERO,
            slice: window,
            keep: false,
            patience: PATIENCE,
            ..Drive::new(1e9 / GAP.0 as f64 * cores.len() as f64, window)
        };
        // Requests begin a while after they were ordered.
        let (begins, mut enough) = (Cell::new(Nanos::MAX), false);
        let mut step = || {
            if clock.now() < begins.get() || enough {
                idle(cores, clock);
            } else {
                enough = !round(cores, clock);
            }
        };
        let outcome = director.by_hand(&mut step).run_watched(&drive, |opens| begins.set(opens)).map_err(refusal)?;
        if outcome.interrupted || sys::stop::requested() {
            return Err(Interrupted.into());
        }
        match outcome.errors.total() {
            0 => Ok(()),
            n => anyhow::bail!("{n} requests of the calibration went wrong: {}", outcome.errors),
        }
    }
}

/// A turn of each that nobody times.
fn idle(cores: &mut [Core], clock: &Clock) {
    clock.spend(STEP);
    cores.iter_mut().for_each(|core| core.turn(clock.now()));
}

fn refusal(e: OpenLoopError) -> anyhow::Error {
    match e {
        OpenLoopError::Stopped => Interrupted.into(),
        e => e.into(),
    }
}
