//! A flood of SYNs beside connections that are served: what these lose, whether new ones get in, what memory does.

use std::sync::Arc;
use std::time::Duration;

use dataplane::{Dataplane, Idle, RunnerConfig};
use echo::{Echo, Mode};
use nic::Nic;
use zygix::Runtime;

use crate::crowd::Crowd;
use crate::idle::resident;
use crate::rig::{configs, wire_of};

/// Requests without a reply.
const UNDER_WAY: usize = 64;
/// Frames of either kind placed at once.
const AT_ONCE: usize = 16;
/// Connections opened during the flood.
const LATE: usize = 1000;

/// When a client asks again for a connection that did not open.
const AGAIN: units::Nanos = units::Nanos::from_millis(250);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct FloodConfig {
    /// Connections that are served all the time.
    pub conns: usize,
    /// SYNs offered for each request that is asked; at least 1. With many, they fill whatever room the wire has.
    pub syns: usize,
    /// The ports by which frames come, each with a ring of its own: 2, and those that flood are behind another port than those that are served,
    /// as they are at a switch, and the NIC takes from both in turn; 1, and all stand in one line.
    pub ports: u16,
    /// How long to measure without and with the flood.
    pub span: Duration,
    /// The hardware threads of server and client.
    pub pin: [usize; 2],
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct FloodResult {
    /// Replies per second without and with the flood.
    pub rps: [f64; 2],
    /// The part of that time in which the server had something to do: below 1, the client is what limits both.
    pub busy: [f64; 2],
    /// SYNs per second that the server took, and how many of them it answered.
    pub syns: [f64; 2],
    /// Connections that were asked for during the flood, and those that were opened.
    pub late: [usize; 2],
    /// Bytes that the process grew by during the flood.
    pub grown: f64,
    /// Wrong replies, connections lost.
    pub errors: u64,
}

/// Serves connections without, then with SYNs that nobody stands by.
///
/// # Errors
/// Memory or threads cannot be had; connections do not open before the flood.
pub fn flood(config: &FloodConfig) -> Result<FloodResult, Box<dyn std::error::Error>> {
    let (server, _) = configs(64, 4 * (config.conns + LATE));
    let (mut server_nic, mut client_nic) = wire_of(config.ports)?;
    let queues = server_nic.queues();
    let mut crowd = Crowd::new(client_nic.queues(), config.conns + LATE)?;
    let service = Arc::new(Echo::new(Mode::Echo));
    let runner = RunnerConfig { pin: vec![config.pin[0]], idle: Idle::Spin, ..RunnerConfig::default() };
    let server = Dataplane::start(
        server,
        queues,
        move |t| server_nic.flow_group(t),
        &runner,
        |core, shared| Runtime::new(service.clone(), shared.clone()).app(core),
    )?;
    sys::thread::pin(config.pin[1])?;
    crate::scale::open(&mut crowd, config.conns)?;
    let mut phase = |flooded: bool, late: usize| {
        let busy = || server.shared().total(|m| m.busy_ns.get());
        let (before, worked, began) = ((crowd.replies, crowd.floods, crowd.answers), busy(), sys::clock::now());
        let span = units::Nanos(config.span.as_nanos() as u64);
        let (mut now, mut again) = (began, began + AGAIN);
        while now < began + span {
            crowd.ask_some(now, UNDER_WAY);
            if flooded {
                crowd.flood_some(AT_ONCE * config.syns);
                crowd.open_some(now, config.conns + late);
            }
            if now >= again {
                crowd.insist();
                again = now + AGAIN;
            }
            now = sys::clock::now();
        }
        let took = (now - began).as_secs_f64();
        let [replies, floods, answers] =
            [crowd.replies - before.0, crowd.floods - before.1, crowd.answers - before.2].map(|n| n as f64 / took);
        (replies, (busy() - worked) as f64 / (now - began).0 as f64, [floods, answers])
    };
    phase(false, 0);
    let calm = phase(false, 0);
    // What is touched once is touched.
    phase(true, 0);
    let before = resident()? as f64;
    let flooded = phase(true, LATE);
    let grown = resident()? as f64 - before;
    let late = [LATE, crowd.open() - config.conns];
    let errors = crowd.errors;
    server.stop();
    Ok(FloodResult { rps: [calm.0, flooded.0], busy: [calm.1, flooded.1], syns: flooded.2, late, grown, errors })
}
