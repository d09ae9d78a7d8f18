use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dataplane::{Assist, Sched};
use echo::{Echo, Mode};
use kv::Kv;
use units::Nanos;
use zygix::Service;

use crate::Usage;
use crate::args::{
    self, App, CongestionControl, EchoMode, EcnUse, Epoll, Helping, IdlePolicy, On, Scheduler, Serve, Stack, Steering,
};
use crate::control::{Control, ServerStats};
use crate::serve_zygix::{self, ZygixOptions};
use crate::values::{HostAddress, Network, NicUri};

/// Where Zygix lives unless told otherwise: in the benchmarking range.
const ADDRESS: Network = Network { address: Ipv4Addr::new(198, 18, 0, 2), prefix: 24 };

/// Descriptors of a server beside its connections'.
const SPARE_FILES: u64 = 128;

/// Connections beyond the limit that are let in to be told so.
const TURNED_AWAY: usize = 64;

/// Bound of a batch of Zygix, unless told otherwise.
const BATCH: u16 = 64;

/// `zygix serve`.
pub(crate) fn run(serve: &Serve) -> anyhow::Result<()> {
    match &serve.app {
        App::Kv(args) => launch(Arc::new(store(args)?), "kv", args.port, false, &args.on),
        App::Echo(args) => {
            let mode = match args.mode {
                EchoMode::Echo => Mode::Echo,
                EchoMode::Discard => Mode::Discard,
                EchoMode::Source => Mode::Source,
            };
            launch(Arc::new(Echo::new(mode)), "echo", args.port, mode == Mode::Echo, &args.on)
        }
        App::Spin(args) => launch(Arc::new(spin::Service::default()), "spin", args.port, true, &args.on),
    }
}

fn store(args: &args::Kv) -> Result<Kv, Usage> {
    let (item, memory) = (args.max_item_size.0, args.memory_limit.0);
    if !(1 << 10..=1 << 30).contains(&item) {
        return Err(Usage("-I: an item may have 1k to 1g at most".into()));
    }
    Ok(Kv::new(kv::Config {
        memory_limit: memory,
        item_size_max: item,
        max_conns: args.on.conn_limit,
        evict: !args.disable_evictions,
        verbosity: args.on.verbose.into(),
        ..kv::Config::default()
    }))
}

fn launch<S: Service>(service: Arc<S>, name: &'static str, port: u16, datagrams: bool, on: &On) -> anyhow::Result<()> {
    check_pins(on)?;
    match on.stack {
        Stack::LinuxPartitioned | Stack::LinuxFloating => on_linux(service, name, port, datagrams, on),
        Stack::Zygix => {
            let options = zygix_options(name, port, datagrams, on)?;
            serve_zygix::run(service, options, Control::new(on.supervised, on.verbose))
        }
    }
}

/// A core that we may not use is better named before anything has started.
fn check_pins(on: &On) -> anyhow::Result<()> {
    let Some(pin) = &on.pin else { return Ok(()) };
    let allowed = sys::thread::allowed_cores()?;
    match pin.0.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(Usage(format!("--pin: core {core} is not ours to use; we have {allowed:?}")).into()),
        None => Ok(()),
    }
}

fn on_linux<S: Service>(service: Arc<S>, name: &str, port: u16, datagrams: bool, on: &On) -> anyhow::Result<()> {
    for (given, option) in
        [(on.netns.is_some(), "--netns"), (on.addr.is_some(), "--addr"), (on.pcap.is_some(), "--pcap")]
    {
        if given {
            return Err(
                Usage(format!("{option} is Zygix's; the Linux stack serves the machine's own addresses (-l)")).into()
            );
        }
    }
    let (config, stack) = linux_config(port, datagrams, on)?;
    // What the limit refuses is refused when a connection comes, and counted.
    let _ = sys::limit::allow_open_files(u64::from(on.conn_limit) + SPARE_FILES);
    let control = Control::new(on.supervised, on.verbose);
    let report = linux::serve_ready(service, &config, &|| control.stopping(), |running| {
        let line = format!("{name} at {} on {stack}, {} thread(s)", running.addr, config.threads);
        control.ready(&line, move || linux_stats(&running.counters));
    })?;
    if control.wants_counters() {
        for (i, t) in report.threads.iter().enumerate() {
            control.note(2, &format!("thread {i}: {t:?}"));
        }
    }
    control.finished(&format!("served: {report}"));
    Ok(())
}

/// What the command line says of a Linux stack, and the stack's name.
fn linux_config(port: u16, datagrams: bool, on: &On) -> Result<(linux::Config, &'static str), Usage> {
    if on.sched != Scheduler::Ix || on.assist.is_some() {
        let option = if on.assist.is_some() { "--assist" } else { "--sched" };
        return Err(Usage(format!("{option} is Zygix's own: Linux schedules a Linux stack; leave --stack out")));
    }
    let addr = SocketAddr::new(on.listen.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port);
    let (config, stack) = match (on.stack, on.epoll) {
        (Stack::LinuxFloating, Epoll::Shared) => {
            (linux::Config::floating(addr, linux::Sharing::Shared), "linux-floating")
        }
        (Stack::LinuxFloating, Epoll::Exclusive) => {
            (linux::Config::floating(addr, linux::Sharing::Exclusive), "linux-floating")
        }
        (_, Epoll::Exclusive) => return Err(Usage("--epoll is linux-floating's: add --stack linux-floating".into())),
        (_, Epoll::Shared) => (linux::Config::new(addr), "linux-partitioned"),
    };
    let config = linux::Config {
        threads: on.threads.into(),
        cores: on.pin.clone().unwrap_or_default().0,
        batch: on.batch.map_or(config.batch, usize::from),
        tuned: on.tuned,
        congestion: on.linux_congestion.clone(),
        datagrams,
        ..config
    };
    Ok((config, stack))
}

/// A thread that waits in `epoll_wait` uses no CPU time: nothing is idle polling.
fn linux_stats(counters: &[Arc<linux::Counters>]) -> ServerStats {
    let sum = |get: fn(&linux::Counters) -> u64| counters.iter().map(|c| get(c)).sum();
    ServerStats {
        idle_ns: 0,
        counters: vec![
            ("accepted".into(), sum(|c| c.accepted.get())),
            ("calls".into(), sum(|c| c.calls.get())),
            ("batches".into(), sum(|c| c.batches.get())),
            ("panics".into(), sum(|c| c.panics.get())),
        ],
    }
}

fn sched(on: &On) -> Result<Sched, Usage> {
    match (on.sched, on.assist) {
        (Scheduler::Ix, None) => Ok(Sched::Ix),
        (Scheduler::Ix, Some(_)) => Err(Usage("--assist says how idle cores steal: add --sched zygos".into())),
        (Scheduler::Zygos, None | Some(Helping::Lend)) => Ok(Sched::Zygos(Assist::Lend)),
        (Scheduler::Zygos, Some(Helping::Ipi)) => Ok(Sched::Zygos(Assist::Ipi)),
        (Scheduler::Zygos, Some(Helping::None)) => Ok(Sched::Zygos(Assist::None)),
    }
}

fn zygix_options(name: &'static str, port: u16, datagrams: bool, on: &On) -> Result<ZygixOptions, Usage> {
    if on.tuned || on.linux_congestion.is_some() || on.epoll != Epoll::Shared {
        let option = match (on.tuned, &on.linux_congestion) {
            (true, _) => "--tuned",
            (false, Some(_)) => "--linux-congestion",
            (false, None) => "--epoll",
        };
        return Err(Usage(format!("{option} is the Linux stacks': add --stack linux-floating or linux-partitioned")));
    }
    let addr = match (on.addr, on.listen) {
        (addr, None) => addr.unwrap_or(ADDRESS),
        (Some(addr), Some(IpAddr::V4(l))) if l == addr.address => addr,
        (None, Some(IpAddr::V4(address))) => {
            format!("{address}/{}", ADDRESS.prefix).parse().map_err(|e| Usage(format!("-l {address}: {e}")))?
        }
        (None, Some(IpAddr::V6(_))) => return Err(Usage("-l: Zygix serves IPv4 only so far".into())),
        (Some(addr), Some(l)) => {
            return Err(Usage(format!("-l {l} contradicts --addr {}: give one of them", addr.address)));
        }
    };
    let host_addr = match (on.host_addr, &on.nic) {
        (Some(HostAddress::Leave), _) | (None, NicUri::Shm(_)) => None,
        (None, NicUri::Tap(_)) => Some(addr.neighbour()),
        (Some(HostAddress::Set(host)), NicUri::Tap(_)) if host.neighbours(addr) => Some(host),
        (Some(HostAddress::Set(host)), NicUri::Tap(_)) => {
            let (ours, theirs) = (addr.address, host.address);
            return Err(Usage(format!(
                "--host-addr {theirs} is no neighbour of {ours}: take the same network and prefix"
            )));
        }
        (Some(HostAddress::Set(_)), NicUri::Shm(_)) => {
            return Err(Usage("--host-addr: Linux is not on an shm wire".into()));
        }
    };
    if on.netns.is_some() && matches!(on.nic, NicUri::Shm(_)) {
        return Err(Usage("--netns: an shm wire is in no network namespace".into()));
    }
    Ok(ZygixOptions {
        name,
        port,
        datagrams,
        nic: on.nic.clone(),
        netns: on.netns.clone(),
        addr: (addr.address, addr.prefix),
        host_addr: host_addr.map(|h| (h.address, h.prefix)),
        threads: on.threads,
        pin: on.pin.clone().unwrap_or_default().0,
        max_conns: on.conn_limit as usize + TURNED_AWAY + on.conn_limit as usize / 8,
        batch: on.batch.unwrap_or(BATCH).into(),
        spin: on.idle == IdlePolicy::Spin,
        sched: sched(on)?,
        software_steering: on.steering == Steering::Software,
        rto_min: Nanos::from_millis(on.rto_min.into()),
        delayed_ack: Nanos::from_micros(on.delayed_ack.into()),
        congestion: congestion(on.congestion),
        ecn: ecn(on),
        pcap: on.pcap.clone(),
    })
}

fn congestion(of: CongestionControl) -> tcp::Congestion {
    match of {
        CongestionControl::Cubic => tcp::Congestion::Cubic,
        CongestionControl::NewReno => tcp::Congestion::NewReno,
        CongestionControl::Dctcp => tcp::Congestion::Dctcp,
    }
}

/// DCTCP is of no use without marks.
fn ecn(on: &On) -> tcp::Ecn {
    match on.ecn {
        Some(EcnUse::Off) => tcp::Ecn::Off,
        Some(EcnUse::On) => tcp::Ecn::On,
        None if on.congestion == CongestionControl::Dctcp => tcp::Ecn::On,
        Some(EcnUse::Accept) | None => tcp::Ecn::Accept,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn options(line: &str) -> Result<ZygixOptions, String> {
        let cli = Cli::parse_from(format!("zygix serve kv {line}").split_whitespace());
        let Command::Serve(Serve { app: App::Kv(kv) }) = cli.command else { unreachable!("`serve kv` was written") };
        zygix_options("kv", kv.port, false, &kv.on).map_err(|e| e.0)
    }

    #[test]
    fn addresses_complete_each_other() {
        let plain = options("").unwrap();
        assert_eq!(plain.addr, ([198, 18, 0, 2].into(), 24));
        assert_eq!(plain.host_addr, Some(([198, 18, 0, 1].into(), 24)));
        let listen = options("-l 10.1.2.1").unwrap();
        assert_eq!((listen.addr.0, listen.host_addr.unwrap().0), ([10, 1, 2, 1].into(), [10, 1, 2, 2].into()));
        assert_eq!(options("--host-addr none").unwrap().host_addr, None);
        assert_eq!(options("--nic shm:/run/wire").unwrap().host_addr, None);
    }

    #[test]
    fn dctcp_offers_ecn_unless_told_otherwise() {
        let ecn = |line| options(line).map(|o| (o.congestion, o.ecn));
        assert_eq!(ecn(""), Ok((tcp::Congestion::Cubic, tcp::Ecn::Accept)));
        assert_eq!(ecn("--congestion dctcp"), Ok((tcp::Congestion::Dctcp, tcp::Ecn::On)));
        assert_eq!(ecn("--congestion dctcp --ecn off"), Ok((tcp::Congestion::Dctcp, tcp::Ecn::Off)));
        assert_eq!(ecn("--congestion newreno --ecn on"), Ok((tcp::Congestion::NewReno, tcp::Ecn::On)));
    }

    #[test]
    fn contradictions_are_named() {
        for (line, complaint) in [
            ("--addr 198.18.0.2/24 -l 198.18.0.3", "contradicts"),
            ("-l ::1", "IPv4 only"),
            ("--host-addr 198.18.1.1/24", "no neighbour"),
            ("--nic shm:/run/wire --netns blue", "--netns"),
            ("--nic shm:/run/wire --host-addr 198.18.0.1/24", "not on an shm wire"),
            ("--assist lend", "add --sched zygos"),
            ("--tuned", "the Linux stacks'"),
            ("--epoll exclusive", "the Linux stacks'"),
        ] {
            let said = options(line).unwrap_err();
            assert!(said.contains(complaint), "{line}: {said}");
        }
    }

    #[test]
    fn a_linux_stack_is_configured_by_its_name() {
        let config = |line: &str| {
            let cli = Cli::parse_from(format!("zygix serve spin {line}").split_whitespace());
            let Command::Serve(Serve { app: App::Spin(spin) }) = cli.command else { unreachable!("it was written") };
            linux_config(spin.port, true, &spin.on).map_err(|e| e.0)
        };
        let (plain, name) = config("--stack linux-partitioned").unwrap();
        assert_eq!((plain.mode, plain.batch, name), (linux::Mode::Partitioned, 64, "linux-partitioned"));
        assert_eq!((plain.addr.port(), plain.tuned), (7008, false));
        let (floating, name) = config("--stack linux-floating -t 3 --tuned").unwrap();
        let mode = linux::Mode::Floating(linux::Sharing::Shared);
        assert_eq!((floating.mode, floating.batch, floating.threads, name), (mode, 1, 3, "linux-floating"));
        assert!(floating.tuned);
        let (exclusive, _) = config("--stack linux-floating --epoll exclusive --batch 8").unwrap();
        assert_eq!((exclusive.mode, exclusive.batch), (linux::Mode::Floating(linux::Sharing::Exclusive), 8));
        assert!(config("--stack linux-partitioned --epoll exclusive").unwrap_err().contains("linux-floating"));
        assert!(config("--stack linux-partitioned --sched zygos").unwrap_err().contains("leave --stack out"));
        assert!(config("--stack linux-floating --assist lend").unwrap_err().contains("--assist"));
    }
}
