//! `zygix ping`: messages to an echo service at the far end of an shm wire, through a Zygix stack of our own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bench::{Client, Tally};
use dataplane::{Dataplane, Idle, RunnerConfig};
use netstack::StackConfig;
use nic::Nic;
use serde_json::json;
use shm::ShmNic;
use wire::Mac;

use crate::Usage;
use crate::args::Ping;
use crate::values::NicUri;

/// How long the far end may take to answer the first time.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(ping: &Ping) -> anyhow::Result<()> {
    let NicUri::Shm(path) = &ping.nic else {
        return Err(
            Usage("ping goes over an shm wire: shm:PATH; over a TAP, Linux's own tools reach a Zygix".into()).into()
        );
    };
    sys::stop::install();
    let config = shm::Config { mac: Mac::local(2), ..shm::Config::default() };
    let mut wire = ShmNic::connect(path, &config)?;
    let here = ping.addr.neighbour();
    let stack = StackConfig {
        max_conns: usize::from(ping.conns),
        ..StackConfig::new(Mac::local(2), here.address, here.prefix)
    };
    let target = SocketAddr::from((ping.addr.address, ping.port));
    let tally = Arc::new(Tally::default());
    let client = |_, _: &Arc<_>| Client::new(target, ping.conns.into(), ping.size.0, ping.depth.into(), tally.clone());
    let queues = wire.queues();
    let runner = RunnerConfig { pin: ping.pin.into_iter().collect(), idle: Idle::Spin };
    let dataplane = Dataplane::start(stack, queues, move |t| wire.flow_group(t), &runner, client)?;
    wait(PATIENCE, || tally.messages.get() > 0 || tally.errors.get() > 0);
    if tally.messages.get() == 0 {
        bail!("nothing came back from {target}: is `zygix serve echo -p {}` at the other end of the wire?", ping.port);
    }
    let (start, before) = (sys::clock::now(), tally.messages.get());
    wait(Duration::from_secs_f64(ping.seconds), || false);
    let (span, messages) = (sys::clock::now() - start, tally.messages.get() - before);
    dataplane.stop();
    let errors = tally.errors.get();
    let rate = messages as f64 / span.as_secs_f64();
    let underway = f64::from(ping.conns) * f64::from(ping.depth);
    println!(
        "{messages} messages of {} B over {} connection(s), {rate:.0}/s, {:.2} us each way and back, {errors} errors",
        ping.size.0,
        ping.conns,
        underway * 1e6 / rate
    );
    if let Some(file) = &ping.json {
        let result = json!({"wire": "shm (emulated)", "messages": messages, "messages_per_s": rate, "errors": errors});
        std::fs::write(file, format!("{result:#}\n")).with_context(|| format!("--json {}", file.display()))?;
    }
    if errors > 0 { bail!("{errors} connections failed or messages came back damaged") } else { Ok(()) }
}

/// Sleeps until `done`, a signal, or the end of `span`.
fn wait(span: Duration, done: impl Fn() -> bool) {
    let end = sys::clock::now() + span.into();
    while sys::clock::now() < end && !done() && !sys::stop::requested() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
