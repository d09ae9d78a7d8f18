use dataplane::{Assist, Sched as Mode};
use draw::ServiceTimes;
use machine::{Machine, State};
use rand::SeedableRng as _;
use units::Nanos;
use world::{Costs, WorldError};

use crate::cores::{Cost, Thread};
use crate::latency::Latencies;
use crate::pool::{Pool, STEAL_NS};
use crate::run::Sched;
use crate::service::Service;

/// A stretch of steady load in both simulators: p99 in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// How busy the threads are.
    pub busy: f64,
    /// Of the cores as they are modelled here.
    pub model_ns: f64,
    /// Of the real dataplane in virtual time.
    pub world_ns: f64,
}

impl Compared {
    /// Model over world.
    pub fn ratio(&self) -> f64 {
        self.model_ns / self.world_ns
    }
}

/// Busier threads than this have no steady state to be compared.
const BUSIEST: f64 = 0.97;

/// Serves about so many requests in `state` at `rps`, here and in `world`, with the same cores, speed and load. Partitioned threads have nothing to do with each other:
/// one with its share of the load stands for all. `None`: there is no steady state.
///
/// # Errors
/// The world does not come to be.
pub fn against(
    machine: &Machine,
    service: &Service,
    sched: Sched,
    (state, rps): (&State, f64),
    requests: u64,
    seed: u64,
) -> Result<Option<Compared>, WorldError> {
    let threads = state.cores * state.threads;
    let all = service.request_ns(machine, state);
    let busy = rps / 1e9 * all / threads as f64;
    if !(0.02..BUSIEST).contains(&busy) {
        return Ok(None);
    }
    let ns = |share: f64| (all * share).round().max(1.0) as u64;
    let (rx, app) = (ns(service.rx), ns(service.app));
    let tx = (all.round() as u64).saturating_sub(rx + app).max(1);
    let costs = Costs {
        name: "energy".into(),
        rx_ns: rx,
        tx_ns: tx,
        steal_ns: STEAL_NS as u64,
        lend_ns: STEAL_NS as u64,
        ..Costs::thesis()
    };
    let (cores, mode) = match sched {
        Sched::Ix => (1, Mode::Ix),
        Sched::Zygos => (threads, Mode::Zygos(Assist::Lend)),
    };
    let setup = world::Setup {
        costs,
        connections: (2752 * cores / threads).min(512 * cores) as u32,
        seed,
        ..world::Setup::new(cores, mode, ServiceTimes::det(Nanos(app)))
    };
    // A load of 1 is all cores busy with the application alone.
    let load = busy * app as f64 / all;
    let mut world_ns = 0.0;
    world::measure(&setup, &[load], requests, None, |row| {
        world_ns = row.p99.0 as f64;
        true
    })?;
    let cost = Cost { before_ns: (rx + app) as f64, tx_ns: tx as f64 };
    let (mut dice, mut out) = (draw::Rng::seed_from_u64(seed), Latencies::default());
    let rate = rps / 1e9 / threads as f64 * cores as f64;
    let span = 4.0 * requests as f64 / rate;
    match sched {
        Sched::Ix => {
            Thread::default().work(span, (rate, f64::from(setup.connections)), cost, 64.0, &mut dice, &mut out)
        }
        Sched::Zygos => Pool::default().work(span, rate, cost, threads, &mut dice, &mut out),
    }
    Ok(Some(Compared { busy, model_ns: out.quantile(0.99), world_ns }))
}
