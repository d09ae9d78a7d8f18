//! A server on every core of the machine, in this very process: the dataplane on the open-loop NIC.

use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use dataplane::{Dataplane, Idle, RunnerConfig, Sched};
use load::Outcome;
use load::requests::Workload;
use netstack::{Metrics, PoolSizes, StackConfig};
use nic::Nic;
use openloop::{Config, Director, Drive, OpenLoop, OpenLoopError};
use sys::clock::{self, ThreadClock};
use units::{CoreId, Nanos};
use zygix::{Runtime, Service};

use super::still::Stall;
use crate::Interrupted;
use crate::noise::{self, Noise, Runner, Watch};

/// How long the opening of connections, or the storing of records, may take.
const PATIENCE: Nanos = Nanos::from_secs(10);
/// So many that a random one is hardly ever still busy.
const CONNECTIONS: u32 = 1024;
/// Buffers per core: enough for what waits at ten times the load that a core can do for a second or so.
const POOLS: PoolSizes = PoolSizes { rx: 4096, spill: 2, tx: 4096, small: 1024 };

/// What is counted beside latencies.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Counts {
    pub(super) steals: u64,
    pub(super) lends: u64,
    pub(super) interrupts: u64,
    pub(super) taken: u64,
    pub(super) remote: u64,
    pub(super) busy: Nanos,
}

impl Counts {
    fn of(dataplane: &Dataplane) -> Counts {
        let total = |of: fn(&Metrics) -> u64| dataplane.shared().total(of);
        Counts {
            steals: total(|m| m.steals.get()),
            lends: total(|m| m.lends.get()),
            interrupts: total(|m| m.interrupts.get()),
            taken: total(|m| m.lock_taken.get()),
            remote: total(|m| m.remote_syscalls.get()),
            busy: Nanos(total(|m| m.busy_ns.get())),
        }
    }

    fn since(self, o: Counts) -> Counts {
        Counts {
            steals: self.steals - o.steals,
            lends: self.lends - o.lends,
            interrupts: self.interrupts - o.interrupts,
            taken: self.taken - o.taken,
            remote: self.remote - o.remote,
            busy: self.busy - o.busy,
        }
    }
}

/// One window.
pub(super) struct Shot {
    /// Noisy slices are left out, unless that leaves too little.
    pub(super) outcome: Outcome,
    pub(super) noise: Noise,
    /// Of the window, and of the requests answered in it.
    pub(super) counts: Counts,
    pub(super) answered: u64,
}

impl Shot {
    /// Too many of the slices were noisy.
    pub(super) fn void(&self) -> bool {
        self.noise.share() > noise::VOID_SHARE
    }

    /// Per request answered.
    pub(super) fn per_request(&self, count: u64) -> f64 {
        count as f64 / self.answered.max(1) as f64
    }
}

/// The running server.
pub(super) struct Rig {
    dataplane: Dataplane,
    director: Director,
    cores: Vec<usize>,
}

/// What is served, so that one function starts all.
pub(super) enum App {
    /// Work of known length, on cores of which one now and then stands still.
    Spin(Stall),
    /// The store.
    Kv,
}

impl Rig {
    /// A server on these cores, its connections open and its records stored.
    ///
    /// # Errors
    /// Memory or cores are not to be had; somebody asked for the end.
    pub(super) fn start(sched: Sched, cores: &[usize], app: &App, workload: &Workload) -> Result<Rig> {
        match app {
            App::Spin(stall) => Rig::of(sched, cores, super::still::Still::new(*stall), workload),
            App::Kv => Rig::of(sched, cores, kv::Kv::new(kv::Config::default()), workload),
        }
    }

    fn of<S: Service>(sched: Sched, cores: &[usize], service: S, workload: &Workload) -> Result<Rig> {
        let config = Config { connections: CONNECTIONS, ..Config::new(cores.len() as u16, workload.clone()) };
        let (mut nic, director) = OpenLoop::new(&config)?;
        let stack = StackConfig {
            tcp_ports: vec![config.port],
            max_conns: 2 * CONNECTIONS as usize,
            pools: POOLS,
            ..StackConfig::new(config.server.mac, config.server.ip, 15)
        };
        let runner = RunnerConfig { pin: cores.to_vec(), idle: Idle::Spin, sched };
        let (service, queues, mut runtime) = (Arc::new(service), nic.queues(), None);
        let dataplane = Dataplane::start(
            stack,
            queues,
            move |tuple| nic.flow_group(tuple),
            &runner,
            |core, shared| runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core),
        )
        .context("the server does not start")?;
        let rig = Rig { dataplane, director, cores: cores.to_vec() };
        rig.director.connect(PATIENCE).map_err(refusal)?;
        rig.director.preload(PATIENCE).map_err(refusal)?;
        Ok(rig)
    }

    /// Loads the server for a window, in slices of this length.
    ///
    /// # Errors
    /// [`Interrupted`]; the generator's.
    pub(super) fn window(&self, rate: f64, length: Nanos, slice: Nanos) -> Result<Shot> {
        let drive = Drive { slice: slice.min(length), ..Drive::new(rate, length) };
        let ours = std::process::id();
        let mut watch = Watch::new(self.dataplane.tids().iter().map(|tid| (ours, *tid)), drive.slice);
        for (core, tid) in self.cores.iter().zip(self.dataplane.tids()) {
            watch = watch.core(*core, vec![Runner::Thread(ThreadClock::of(*tid))]);
        }
        let slices = drive.window.0 / drive.slice.0;
        let mut counts = Counts::default();
        let outcome = self.director.run_watched(&drive, |opens| {
            until(opens);
            let before = Counts::of(&self.dataplane);
            watch.read();
            for i in 1..=slices {
                until(opens + Nanos(drive.slice.0 * i));
                watch.read();
            }
            counts = Counts::of(&self.dataplane).since(before);
        });
        let outcome = outcome.map_err(refusal)?;
        if outcome.interrupted || sys::stop::requested() {
            return Err(Interrupted.into());
        }
        let (noisy, waited) = (watch.noisy(), watch.waits().iter().map(|w| w.0).sum());
        let noise = Noise { slices, discarded: noisy.len() as u64, waited: Nanos(waited) };
        let answered = outcome.answered_in_window;
        let keep_all = noisy.is_empty() || noise.share() > noise::VOID_SHARE;
        let outcome = if keep_all { outcome } else { outcome.without(&noisy) };
        Ok(Shot { outcome, noise, counts, answered })
    }

    /// The median over slices of the time that a core is busy per request, in microseconds, at this rate.
    ///
    /// # Errors
    /// As [`Rig::window`].
    pub(super) fn busy_us(&self, rate: f64, length: Nanos) -> Result<Vec<f64>> {
        let drive = Drive { keep: false, ..Drive::new(rate, length) };
        let mut each = Vec::new();
        let answered = || self.dataplane.shared().total(|m: &Metrics| m.tcp_bytes_out.get());
        let outcome = self.director.run_watched(&drive, |opens| {
            until(opens);
            let mut last = (Counts::of(&self.dataplane).busy, answered());
            while clock::now() < opens + length && !sys::stop::requested() {
                thread::sleep(std::time::Duration::from_millis(10));
                let now = (Counts::of(&self.dataplane).busy, answered());
                let requests = (now.1 - last.1) / spin::wire::HEADER as u64;
                if requests > 0 {
                    each.push((now.0 - last.0).0 as f64 / 1e3 / requests as f64);
                }
                last = now;
            }
        });
        outcome.map_err(refusal)?;
        Ok(each)
    }

    /// What one core has counted, by name: for notes.
    pub(super) fn counter(&self, core: u16, of: fn(&Metrics) -> u64) -> u64 {
        of(self.dataplane.shared().metrics(CoreId(core)))
    }
}

fn refusal(e: OpenLoopError) -> anyhow::Error {
    match e {
        OpenLoopError::Stopped => Interrupted.into(),
        e => e.into(),
    }
}

fn until(at: Nanos) {
    while clock::now() < at && !sys::stop::requested() {
        thread::sleep((at - clock::now()).min(Nanos::from_millis(50)).duration());
    }
}
