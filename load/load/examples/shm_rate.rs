//! What one client core generates over an shm wire: `cargo run --release -p load --example shm_rate [CONNECTIONS DEPTH]`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane::{Dataplane, Idle, RunnerConfig};
use load::requests::{Echo, Workload};
use load::{Load, Outcome, Pace, Place, Spec, Window, ZygixNet};
use netstack::StackConfig;
use nic::Nic;
use units::Nanos;
use zygix::Runtime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |n: usize, or: u32| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (connections, depth) = (number(1, 100), number(2, 1));
    let config = |n| shm::Config { mac: wire::Mac([2, 0, 0, 0, 0, n]), ..shm::Config::default() };
    let (mut near, far) = shm::pair(&config(1), &config(2))?;
    let server = Ipv4Addr::new(198, 18, 0, 1);
    let stack = StackConfig { tcp_ports: vec![7], ..StackConfig::new(config(1).mac, server, 24) };
    let service = Arc::new(echo::Echo::default());
    let runner = RunnerConfig { pin: vec![1], idle: Idle::Spin, ..RunnerConfig::default() };
    let queues = near.queues();
    let dataplane = Dataplane::start(
        stack,
        queues,
        move |t| near.flow_group(t),
        &runner,
        |core, shared| Runtime::new(service.clone(), shared.clone()).app(core),
    )?;
    let workload = Workload::Echo(Echo { size: "64".parse()? });
    let spec = Spec { connections, depth, ..Spec::new(workload, (server, 7).into()) };
    let net = ZygixNet { mac: config(2).mac, ip: Ipv4Addr::new(198, 18, 0, 2).into(), prefix: 24 };
    let mut load = Load::zygix(&spec, &Place { cores: vec![0], spin: true }, far, net)?;
    println!(
        "64 B echo, {connections} connection(s), depth {depth}, one server core, one client core, shm wire (emulated)"
    );
    for _ in 0..5 {
        let closed = load.run(&Window::new(Pace::Closed, Nanos::from_secs(1)))?;
        println!("closed loop   {}", line(&closed));
        let half = Pace::poisson(closed.achieved_rps() * 0.5);
        println!("half of that  {}", line(&load.run(&Window::new(half, Nanos::from_secs(1)))?));
    }
    drop(load);
    dataplane.stop();
    Ok(())
}

fn line(o: &Outcome) -> String {
    let us = |n: u64| n as f64 / 1e3;
    let late = us(o.lateness.value_at_quantile(0.99));
    let (rate, p50, p99) = (o.achieved_rps(), us(o.p50().0), us(o.p99().0));
    format!("{rate:>9.0}/s  p50 {p50:>7.1} us  p99 {p99:>8.1} us  client late by {late:.1} us at p99, {}", o.errors)
}
