//! A server on cores of the machine, in this very process: the dataplane on the open-loop NIC.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the server, and a window of load on it |
//! | `still.rs` | an application, and a core that stands still |
//! | `watch.rs` | gaps of the machine, and the application's time |

mod still;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use anyhow::{Context, Result};
use dataplane::{Dataplane, Idle, RunnerConfig, Sched};
use load::Outcome;
use load::requests::Workload;
use load::search::{self, Slo};
use netstack::{Metrics, PoolSizes, StackConfig};
use nic::Nic;
use openloop::{Config, Director, Drive, OpenLoop, OpenLoopError};
use spin::{Spend, Work};
use sys::clock;
use units::{CoreId, Nanos};
use zygix::{Runtime, Service};

pub(super) use self::still::Stall;
use self::still::Still;
use self::watch::{Gap, Gaps, Watched};
use crate::Interrupted;
use crate::measure::until;
use crate::noise::{Noise, VOID_SHARE};

/// How long the opening of connections, or the storing of records, may take.
const PATIENCE: Nanos = Nanos::from_secs(10);
/// So many that a random one is hardly ever still busy.
const CONNECTIONS: u32 = 1024;
/// So few that a server's caches hold them, and that acknowledgements ride on requests.
const FEW: u32 = 64;
/// Gaps under tiny tasks are looked at as if they took this long: a twentieth of their objective.
const TINY: Nanos = Nanos::from_micros(25);
/// Bound of a batch.
const BATCH: usize = 64;
/// By which noise is counted.
const PIECE: Nanos = Nanos::from_millis(1);
/// A window votes by so many blocks of its requests.
const BLOCKS: usize = 16;
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
    pub(super) outcome: Outcome,
    /// Latencies of the requests that no gap had touched, by the time for which they were meant; all, if that leaves too few.
    pub(super) kept: Vec<Nanos>,
    /// In pieces of [`PIECE`].
    pub(super) noise: Noise,
    /// Of the window, and of the requests answered in it.
    pub(super) counts: Counts,
    pub(super) answered: u64,
}

impl Shot {
    /// Too many of the slices were noisy.
    pub(super) fn void(&self) -> bool {
        self.noise.share() > VOID_SHARE
    }

    /// The 99th percentile of what was kept.
    pub(super) fn p99(&self) -> Nanos {
        quantile(&self.kept, 0.99)
    }

    /// What the window says to a search: blocks of consecutive requests are its samples.
    pub(super) fn vote(&self, slo: &Slo) -> search::Point {
        if self.void() {
            return search::Point::void();
        }
        let size = (self.kept.len() / BLOCKS).max(1);
        let above: Vec<bool> = self.kept.chunks_exact(size).map(|b| quantile(b, slo.quantile) > slo.limit).collect();
        let (answered, offered) = (self.outcome.answered_in_window as f64, self.outcome.offered as f64);
        // A gap just before the window's end takes what it held up with it.
        let held_up = 20.0 * offered.sqrt() + 20.0;
        search::Point {
            latency: self.p99(),
            ok_rate: answered >= 0.97 * offered - held_up && self.outcome.errors.total() as f64 <= 0.001 * offered,
            samples: above.len() as u64,
            above: above.iter().filter(|above| **above).count() as u64,
            void: false,
        }
    }

    /// Per request answered.
    pub(super) fn per_request(&self, count: u64) -> f64 {
        count as f64 / self.answered.max(1) as f64
    }
}

/// The value that a share `q` of the latencies did not exceed; zero of none.
fn quantile(latencies: &[Nanos], q: f64) -> Nanos {
    let mut sorted = latencies.to_vec();
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    if sorted.is_empty() { Nanos::ZERO } else { *sorted.select_nth_unstable(at).1 }
}

/// What is left out for a gap, beyond it: requests that were there when it began, and those behind which the backlog had to be worked off.
#[derive(Clone, Copy)]
pub(super) struct Margins {
    /// Shorter gaps are nothing to speak of.
    pub(super) least: Nanos,
    before: Nanos,
    after: Nanos,
}

impl Margins {
    /// For work of this mean length.
    pub(super) fn of(mean: Nanos) -> Margins {
        Margins { least: Nanos(mean.0 / 2), before: Nanos(5 * mean.0), after: Nanos(10 * mean.0) }
    }

    /// The stretches of `[opens, closes)` that gaps have spoilt, ascending and apart.
    fn spoilt(&self, gaps: &[Gap], load: f64, opens: Nanos, closes: Nanos) -> Vec<(Nanos, Nanos)> {
        // What has piled up meanwhile is worked off with what the load leaves; beyond its capacity nothing is ever as before.
        let longer = 2.0 / (1.0 - load.min(0.9));
        let each =
            gaps.iter().map(|g| (g.from - self.before, g.to + self.after + Nanos((longer * g.lost.0 as f64) as u64)));
        let mut all: Vec<_> = each.map(|(a, b)| (a.max(opens), b.min(closes))).filter(|(a, b)| a < b).collect();
        all.sort_unstable();
        let mut apart: Vec<(Nanos, Nanos)> = Vec::new();
        for (from, to) in all {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        apart
    }
}

/// The running server.
pub(super) struct Rig {
    gaps: Gaps,
    spent: Option<Arc<AtomicU64>>,
    margins: Margins,
    dataplane: Dataplane,
    director: Director,
}

/// What is served, so that one function starts all.
pub(super) enum App {
    /// Work of known length, on cores of which one now and then stands still.
    /// Gaps by this mean service time.
    Spin(Stall, Nanos),
    /// Work that takes as long as the hardware makes it. Gaps by this mean service time.
    Work(Work, Nanos),
    /// Work of known length, and the time that it takes is taken down.
    Timed,
    /// The store.
    Kv,
}

impl Rig {
    /// A server on these cores, its connections open and its records stored.
    ///
    /// # Errors
    /// Memory or cores are not to be had; somebody asked for the end.
    pub(super) fn start(sched: Sched, cores: &[usize], app: &App, workload: &Workload) -> Result<Rig> {
        let margins = match app {
            App::Spin(_, mean) => Margins::of(*mean),
            App::Work(_, mean) => Margins::of((*mean).max(TINY)),
            App::Timed => Margins::of(Nanos::ZERO),
            App::Kv => Margins::of(TINY),
        };
        // In a larger batch all replies wait for the last: no bound of queueing theory is about that.
        let bound = if sched == Sched::Ix { 1 } else { BATCH };
        match app {
            App::Spin(stall, _) => Rig::of(sched, cores, Still::new(*stall), workload, margins, bound, false),
            App::Work(work, _) => {
                let service = spin::Service { by: Spend::Work(*work) };
                Rig::of(sched, cores, service, workload, margins, bound, false)
            }
            App::Timed => Rig::of(sched, cores, spin::Service::default(), workload, margins, BATCH, true),
            App::Kv => Rig::of(sched, cores, kv::Kv::new(kv::Config::default()), workload, margins, BATCH, false),
        }
    }

    fn of<S: Service>(
        sched: Sched,
        cores: &[usize],
        service: S,
        workload: &Workload,
        margins: Margins,
        bound: usize,
        timed: bool,
    ) -> Result<Rig> {
        let connections = if timed { FEW } else { CONNECTIONS };
        let config = Config { connections, ..Config::new(cores.len() as u16, workload.clone()) };
        let (mut nic, director) = OpenLoop::new(&config)?;
        let stack = StackConfig {
            tcp_ports: vec![config.port],
            max_conns: 2 * CONNECTIONS as usize,
            pools: POOLS,
            batch: bound,
            ..StackConfig::new(config.server.mac, config.server.ip, 15)
        };
        let runner = RunnerConfig { pin: cores.to_vec(), idle: Idle::Spin, sched };
        let (service, queues, mut runtime) = (Arc::new(service), nic.queues(), None);
        let (spent, gaps) = (timed.then(Arc::<AtomicU64>::default), Gaps::default());
        let dataplane = Dataplane::start(
            stack,
            queues,
            move |tuple| nic.flow_group(tuple),
            &runner,
            |core, shared| Watched {
                app: runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core),
                watch: (margins.least > Nanos::ZERO).then(|| gaps.watch(margins.least)),
                spent: spent.clone(),
            },
        )
        .context("the server does not start")?;
        let rig = Rig { gaps, margins, spent, dataplane, director };
        rig.director.connect(PATIENCE).map_err(refusal)?;
        rig.director.preload(PATIENCE).map_err(refusal)?;
        Ok(rig)
    }

    /// Loads the server for a window with a `rate` that is this share of what the cores can do.
    ///
    /// # Errors
    /// [`Interrupted`]; the generator's.
    pub(super) fn window(&self, rate: f64, load: f64, length: Nanos) -> Result<Shot> {
        self.watched(rate, load, length, || ())
    }

    /// The same; `edge` is called as the window opens, and as it closes.
    ///
    /// # Errors
    /// As [`Rig::window`].
    pub(super) fn watched(&self, rate: f64, load: f64, length: Nanos, mut edge: impl FnMut()) -> Result<Shot> {
        let drive =
            Drive { slice: Nanos::from_millis(100).min(length), keep: true, each: true, ..Drive::new(rate, length) };
        let (mut counts, mut window) = (Counts::default(), (Nanos::ZERO, Nanos::ZERO));
        let outcome = self.director.run_watched(&drive, |opens| {
            until(opens);
            edge();
            let before = Counts::of(&self.dataplane);
            window = (opens, opens + length);
            until(window.1);
            counts = Counts::of(&self.dataplane).since(before);
            edge();
        });
        let mut outcome = outcome.map_err(refusal)?;
        if outcome.interrupted || sys::stop::requested() {
            return Err(Interrupted.into());
        }
        let spoilt = self.margins.spoilt(&self.gaps.take(), load, window.0, window.1);
        let lost: u64 = spoilt.iter().map(|(from, to)| (*to - *from).0).sum();
        let noise = Noise {
            slices: length.0 / PIECE.0,
            discarded: lost.div_ceil(PIECE.0).min(length.0 / PIECE.0),
            waited: Nanos::ZERO,
        };
        outcome.each.sort_unstable();
        let touched = |meant: &Nanos| {
            let next = spoilt.partition_point(|(_, to)| to <= meant);
            spoilt.get(next).is_some_and(|(from, _)| from <= meant)
        };
        let keep_all = noise.share() > VOID_SHARE;
        let kept = outcome.each.iter().filter(|(meant, _)| keep_all || !touched(meant)).map(|(_, l)| *l).collect();
        let answered = outcome.answered_in_window;
        outcome.each = Vec::new();
        Ok(Shot { outcome, kept, noise, counts, answered })
    }

    /// What the network costs a core per request, in microseconds, piece by piece of such a window: the time that turns took which found something to do, without
    /// what the application took in them; and how many frames such a turn had. The server was started to be timed.
    ///
    /// # Errors
    /// As [`Rig::window`].
    pub(super) fn network_us(&self, rate: f64, length: Nanos) -> Result<(Vec<f64>, f64)> {
        let drive = Drive { keep: false, ..Drive::new(rate, length) };
        let mut each = Vec::new();
        let read = || {
            let shared = self.dataplane.shared();
            let spent = self.spent.as_ref().map_or(0, |s| s.load(Relaxed));
            let requests = shared.total(|m: &Metrics| m.tcp_bytes_out.get()) / spin::wire::HEADER as u64;
            (shared.total(|m: &Metrics| m.busy_ns.get()).saturating_sub(spent), requests)
        };
        let outcome = self.director.run_watched(&drive, |opens| {
            until(opens);
            let mut last = read();
            while clock::now() < opens + length && !sys::stop::requested() {
                thread::sleep(std::time::Duration::from_millis(10));
                let now = read();
                if now.1 > last.1 {
                    each.push(now.0.saturating_sub(last.0) as f64 / 1e3 / (now.1 - last.1) as f64);
                }
                last = now;
            }
        });
        outcome.map_err(refusal)?;
        let total = |of: fn(&Metrics) -> u64| self.dataplane.shared().total(of) as f64;
        let burst = total(|m| m.rx_frames.get()) / total(|m| m.turns_busy.get()).max(1.0);
        Ok((each, burst))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_spoil_what_is_around_them() {
        let us = Nanos::from_micros;
        let margins = Margins::of(us(10));
        let gap = |from: u64, to: u64, lost: u64| Gap { from: us(from), to: us(to), lost: us(lost) };
        let gaps = [gap(5000, 5100, 30), gap(1000, 1200, 100), gap(1300, 1400, 50), gap(20, 40, 6)];
        let spoilt = margins.spoilt(&gaps, 0.5, us(100), us(5200));
        assert_eq!(spoilt, [(us(100), us(164)), (us(950), us(1700)), (us(4950), us(5200))]);
    }

    #[test]
    fn quantiles_of_a_few() {
        let of = |n: u64| (1..=n).rev().map(Nanos).collect::<Vec<_>>();
        assert_eq!(
            (quantile(&of(100), 0.99), quantile(&of(1), 0.99), quantile(&[], 0.5)),
            (Nanos(100), Nanos(1), Nanos::ZERO)
        );
    }
}
