//! Tiny tasks: a store's requests take well below a microsecond, so whatever a way to schedule costs shows here.
//!
//! On the open-loop NIC with all cores as servers: the highest rate at the objective. Over the shm wire with one core as server and one as
//! client: requests per second of a closed loop, which is at its limit.

use std::sync::Arc;

use anyhow::{Context, Result};
use dataplane::{Dataplane, Idle, RunnerConfig, Sched};
use load::search::{Search, SearchConfig, Slo};
use load::{Load, Pace, Spec, ZygixNet};
use netstack::StackConfig;
use nic::Nic;
use units::Nanos;
use wire::{Ipv4Addr, Mac};
use zygix::Runtime;

use super::model::MODES;
use super::{Measured, Scope};
use crate::kinds::grid::times;
use crate::kinds::rig::{App, Rig};
use crate::kinds::{alternate, hunt, usr};
use crate::{Interrupted, Lab, measure as measuring};

/// The objective.
pub(super) const SLO: Nanos = Nanos::from_micros(500);
/// Where the maximum is looked for, in requests per second.
const RATES: [f64; 2] = [50e3, 20e6];
/// The ways that are compared: partitioned, and lending.
const COMPARED: [usize; 2] = [0, MODES.len() - 1];
/// Connections over the shm wire, and requests under way on each.
const SHM: (u32, u32) = (100, 4);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 1), 7);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// One way on one wire.
pub(super) struct Cell {
    pub(super) wire: &'static str,
    pub(super) mode: usize,
    /// Requests per second by round; `None` where the objective was not held.
    pub(super) rps: Vec<Option<f64>>,
}

/// What a round takes at most.
pub(super) fn takes(scope: &Scope, round: u32) -> Nanos {
    let shm = times(scope.takes(1), COMPARED.len());
    times(scope.takes(1), COMPARED.len() * scope.tries[usize::from(round > 0)] as usize) + shm
}

/// One round.
pub(super) fn measure(lab: &mut Lab, scope: &Scope, all: &mut Measured, round: u32) -> Result<()> {
    if all.tiny.is_empty() {
        let cells = |wire| COMPARED.map(|mode| Cell { wire, mode, rps: vec![] });
        all.tiny = ["openloop", "shm"].into_iter().flat_map(cells).collect();
    }
    let (open, closed) = all.tiny.split_at_mut(COMPARED.len());
    search(lab, scope, open, round)?;
    for i in alternate(closed.len(), round) {
        lab.progress.say(&format!("sched: {}, USR over shm", MODES[closed[i].mode]));
        let rps = over_shm(lab, scope, MODES[closed[i].mode])?;
        closed[i].rps.push(rps);
    }
    Ok(())
}

fn search(lab: &mut Lab, scope: &Scope, cells: &mut [Cell], round: u32) -> Result<()> {
    let slo = Slo { quantile: 0.99, limit: SLO };
    let workload = usr(scope.asked.records.min(100_000));
    let tries = scope.tries[usize::from(round > 0)];
    let of = |cell: &Cell| {
        let start = cell.rps.iter().rev().find_map(|m| *m).unwrap_or(1e6);
        let config = SearchConfig::new(slo, RATES[0], RATES[1]);
        hunt::by_slices(&SearchConfig { start: Some(start), precision: 0.04, tries, ..config })
    };
    let mut searches: Vec<Search> = cells.iter().map(of).collect();
    let mut going = true;
    while going {
        going = false;
        for i in alternate(cells.len(), round) {
            let Some(rate) = searches[i].next() else { continue };
            going = true;
            let sched = MODES[cells[i].mode];
            lab.progress.say(&format!("sched: {sched}, USR at {rate:.0} requests/s"));
            let rig = Rig::start(sched, &scope.cores, &App::Kv, &workload)?;
            let shot = rig.window(rate, 0.5, scope.window(1))?;
            lab.noise.add(&shot.noise);
            searches[i].tell(rate, shot.vote(&slo));
        }
    }
    for (search, cell) in searches.iter().zip(cells) {
        cell.rps.push(search.result().max_rps);
    }
    Ok(())
}

/// Requests per second of one server core at the other end of an shm wire.
fn over_shm(lab: &Lab, scope: &Scope, sched: Sched) -> Result<Option<f64>> {
    let config = |n| shm::Config { mac: Mac::local(n), ..shm::Config::default() };
    let (mut near, far) = shm::pair(&config(1), &config(2))?;
    let stack = StackConfig { tcp_ports: vec![SERVER.1], ..StackConfig::new(Mac::local(1), SERVER.0, 24) };
    let (server, client) = (lab.accounting.server_core, lab.accounting.load_core);
    let runner =
        RunnerConfig { pin: vec![server], idle: if server == client { Idle::default() } else { Idle::Spin }, sched };
    let (store, queues) = (Arc::new(kv::Kv::new(kv::Config::default())), near.queues());
    let dataplane = Dataplane::start(
        stack,
        queues,
        move |tuple| near.flow_group(tuple),
        &runner,
        |core, shared| Runtime::new(store.clone(), shared.clone()).app(core),
    )
    .context("the server does not start")?;
    let workload = usr(scope.asked.records.min(100_000));
    let spec = Spec { connections: SHM.0, depth: SHM.1, ..Spec::new(workload, SERVER.into()) };
    let net = ZygixNet { mac: Mac::local(2), ip: CLIENT.into(), prefix: 24 };
    let mut load = Load::zygix(&spec, &lab.place(), far, net).map_err(measuring::refusal)?;
    load.preload().map_err(measuring::refusal)?;
    let outcome = load.run(&Lab::window(Pace::Closed, scope.window(1))).map_err(measuring::refusal)?;
    drop(load);
    dataplane.stop();
    if outcome.interrupted || sys::stop::requested() {
        return Err(Interrupted.into());
    }
    Ok((outcome.typical(0.99) <= SLO).then(|| outcome.achieved_rps()))
}
