//! Messages per second through one server core, with a client on a core of its own.

use std::sync::Arc;
use std::time::Duration;

use dataplane::{Dataplane, Idle, RunnerConfig};
use echo::{Echo, Mode};
use netstack::Metrics;
use nic::Nic;
use serde::Serialize;
use zygix::Runtime;

use crate::rig::{PORT, SERVER, configs, wire};
use crate::{Client, Tally};

/// What to measure.
#[derive(Clone, Debug)]
pub struct EchoConfig {
    /// Connections.
    pub conns: usize,
    /// Bytes per message.
    pub size: usize,
    /// Messages under way per connection.
    pub depth: u32,
    /// The batch bound of both ends.
    pub batch: usize,
    /// How long to measure, after a tenth of it as warm-up.
    pub duration: Duration,
    /// The hardware threads of server and client.
    pub pin: [usize; 2],
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EchoResult {
    /// Always "shm (emulated wire)".
    pub wire: &'static str,
    /// Connections.
    pub conns: usize,
    /// Bytes per message.
    pub size: usize,
    /// Messages under way per connection.
    pub depth: u32,
    /// The batch bound.
    pub batch: usize,
    /// Messages echoed per second.
    pub messages_per_s: f64,
    /// Nanoseconds in which the server's core was not polling in vain, per message.
    pub server_busy_ns: f64,
    /// Connections in the server's mean batch.
    pub mean_batch: f64,
    /// Connections that failed, and damaged messages.
    pub errors: u64,
}

/// Runs the bench on two threads.
///
/// # Errors
/// Memory, descriptors or threads cannot be had.
pub fn echo(config: &EchoConfig) -> Result<EchoResult, Box<dyn std::error::Error>> {
    let (server, client) = configs(config.batch, config.conns.max(64));
    let (mut server_nic, mut client_nic) = wire()?;
    let (server_queues, client_queues) = (server_nic.queues(), client_nic.queues());
    let runner = |core| RunnerConfig { pin: vec![core], idle: Idle::Spin, ..RunnerConfig::default() };
    let tally = Arc::new(Tally::default());
    let service = Arc::new(Echo::new(Mode::Echo));
    let server = Dataplane::start(
        server,
        server_queues,
        move |t| server_nic.flow_group(t),
        &runner(config.pin[0]),
        |core, shared| Runtime::new(service.clone(), shared.clone()).app(core),
    )?;
    let client = Dataplane::start(
        client,
        client_queues,
        move |t| client_nic.flow_group(t),
        &runner(config.pin[1]),
        |_, _| Client::new((SERVER, PORT).into(), config.conns, config.size, config.depth, tally.clone()),
    )?;
    std::thread::sleep(config.duration / 10);
    let read = |m: fn(&Metrics) -> u64| server.shared().total(m);
    let before =
        (tally.messages.get(), read(|m| m.busy_ns.get()), read(|m| m.batches.get()), read(|m| m.batch_conns.get()));
    let start = sys::clock::now();
    std::thread::sleep(config.duration);
    let span = sys::clock::now() - start;
    let after =
        (tally.messages.get(), read(|m| m.busy_ns.get()), read(|m| m.batches.get()), read(|m| m.batch_conns.get()));
    client.stop();
    server.stop();
    let messages = (after.0 - before.0) as f64;
    Ok(EchoResult {
        wire: "shm (emulated wire)",
        conns: config.conns,
        size: config.size,
        depth: config.depth,
        batch: config.batch,
        messages_per_s: messages / span.as_secs_f64(),
        server_busy_ns: (after.1 - before.1) as f64 / messages.max(1.0),
        mean_batch: (after.3 - before.3) as f64 / ((after.2 - before.2) as f64).max(1.0),
        errors: tally.errors.get(),
    })
}
