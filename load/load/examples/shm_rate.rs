//! What one client core generates over an shm wire: `cargo run --release -p load --example shm_rate [CONNECTIONS DEPTH]`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane::{Dataplane, Idle, RunnerConfig};
use load::requests::{Echo, Workload};
use load::{Load, Pace, Place, Spec, Window, ZygixNet};
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
    let runner = RunnerConfig { pin: vec![1], idle: Idle::Spin };
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
    let net = ZygixNet { mac: config(2).mac, ip: Ipv4Addr::new(198, 18, 0, 2), prefix: 24 };
    let mut load = Load::zygix(&spec, &Place { cores: vec![0], spin: true }, far, net)?;
    for round in 0..5 {
        let o = load.run(&Window::new(Pace::Closed, Nanos::from_secs(1)))?;
        let (p50, p99) = (o.p50().0 as f64 / 1e3, o.p99().0 as f64 / 1e3);
        println!("round {round}: {:.0}/s, p50 {p50:.1} us, p99 {p99:.1} us, {}", o.achieved_rps(), o.errors);
        let o = load.run(&Window::new(Pace::poisson(o.achieved_rps() * 0.5), Nanos::from_secs(1)))?;
        let (p50, p99) = (o.p50().0 as f64 / 1e3, o.p99().0 as f64 / 1e3);
        println!(
            "   open: {:.0}/s, p50 {p50:.1} us, p99 {p99:.1} us, {}, late p50 {} p99 {} ns",
            o.achieved_rps(),
            o.errors,
            o.lateness.value_at_quantile(0.5),
            o.lateness.value_at_quantile(0.99)
        );
    }
    drop(load);
    dataplane.stop();
    Ok(())
}
