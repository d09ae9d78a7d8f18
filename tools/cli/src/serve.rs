use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dataplane::{Assist, Sched};
use door::Called;
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
use crate::values::{HostAddress, Network, NicUri, XdpUri};

/// Where Zygix lives unless told otherwise: in the benchmarking range.
const ADDRESS: Network = Network { address: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2)), prefix: 24 };
/// The prefix of an IPv6 address that is given without one.
const PREFIX_V6: u8 = 64;
/// Addresses at most.
const ADDRESSES: usize = 16;

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
        App::Discard(args) => launch(Arc::new(Echo::new(Mode::Sink)), "discard", args.port, true, &args.on),
        App::Chargen(args) => launch(Arc::new(Echo::new(Mode::Chargen)), "chargen", args.port, true, &args.on),
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
    for (given, option) in [
        (on.netns.is_some(), "--netns"),
        (!on.addr.is_empty(), "--addr"),
        (!on.gateway.is_empty(), "--gateway"),
        (on.pcap.is_some(), "--pcap"),
        (on.name.as_ref().is_some_and(|name| name != "none"), "--name"),
    ] {
        if given {
            return Err(Usage(format!(
                "{option} is Zygix's: the Linux stacks serve the machine's own addresses (-l), and have no commands"
            ))
            .into());
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
    let addrs = addresses(on)?;
    let host_addrs = host_addresses(on, &addrs)?;
    let gateways = gateways(on, &addrs)?;
    if on.netns.is_some() && matches!(on.nic, NicUri::Shm(_)) {
        return Err(Usage("--netns: an shm wire is in no network namespace".into()));
    }
    if let NicUri::Xdp(XdpUri { ports: Some(ports), .. }) = &on.nic
        && !ports.is_empty()
        && !ports.contains(&port)
    {
        return Err(Usage(format!("--nic: port {port} is served, and must be among the ports to take")));
    }
    Ok(ZygixOptions {
        name,
        port,
        datagrams,
        nic: on.nic.clone(),
        netns: on.netns.clone(),
        addrs: addrs.iter().map(|a| (a.address, a.prefix)).collect(),
        host_addrs: host_addrs.iter().map(|h| (h.address, h.prefix)).collect(),
        gateways,
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
        pacing: on.pacing,
        called: called(name, on),
        pcap: on.pcap.clone(),
    })
}

/// Whoever supervises a server has his own ways to look at it.
fn called(app: &str, on: &On) -> Option<Called> {
    match on.name.as_deref() {
        Some("none") => None,
        Some(name) => Some(Called::By(name.to_owned())),
        None if on.supervised => None,
        None => Some(Called::Like(app.to_owned())),
    }
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

/// Our own addresses: --addr, or short -l.
fn addresses(on: &On) -> Result<Vec<Network>, Usage> {
    if on.addr.len() > ADDRESSES {
        return Err(Usage(format!("--addr: {ADDRESSES} addresses at most")));
    }
    let mut sorted: Vec<IpAddr> = on.addr.iter().map(|a| a.address).collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Usage(format!("--addr: {} is named twice", twice[0])));
    }
    match (&on.addr[..], on.listen) {
        ([], None) => Ok(vec![ADDRESS]),
        (all, None) => Ok(all.to_vec()),
        (all, Some(l)) if all.iter().any(|a| a.address == l) => Ok(all.to_vec()),
        ([], Some(l)) => {
            let prefix = if l.is_ipv4() { ADDRESS.prefix } else { PREFIX_V6 };
            let network = format!("{l}/{prefix}").parse().map_err(|e| Usage(format!("-l {l}: {e}")))?;
            Ok(vec![network])
        }
        ([first, ..], Some(l)) => Err(Usage(format!("-l {l} contradicts --addr {}: give one of them", first.address))),
    }
}

/// Linux's addresses at its end: one for each network of ours.
fn host_addresses(on: &On, ours: &[Network]) -> Result<Vec<Network>, Usage> {
    let given: Vec<Network> =
        on.host_addr.iter().filter_map(|h| if let HostAddress::Set(n) = h { Some(*n) } else { None }).collect();
    let not_ours = match on.nic {
        NicUri::Shm(_) => Some("--host-addr: Linux is not on an shm wire"),
        NicUri::Xdp(..) => Some("--host-addr: the interface is Linux's own and stays as it is (ip addr add)"),
        NicUri::Tap(_) => None,
    };
    if let Some(why) = not_ours {
        return if given.is_empty() { Ok(given) } else { Err(Usage(why.into())) };
    }
    if let Some(stray) = given.iter().find(|h| !ours.iter().any(|o| h.neighbours(*o))) {
        let of_family = |o: &&Network| o.address.is_ipv4() == stray.address.is_ipv4();
        let (theirs, ours) = (stray.address, ours.iter().find(of_family).unwrap_or(&ours[0]).address);
        return Err(Usage(format!("--host-addr {theirs} is no neighbour of {ours}: take the same network and prefix")));
    }
    if on.host_addr.contains(&HostAddress::Leave) {
        return Ok(given);
    }
    // Networks without an address get their first; those that share one share its neighbour.
    let mut all = given;
    for network in ours {
        if !all.iter().any(|h| h.neighbours(*network)) {
            let taken = |n: &Network| ours.iter().any(|o| o.address == n.address);
            let mut free = network.neighbour();
            while taken(&free) {
                free = free.above();
            }
            all.push(free);
        }
    }
    Ok(all)
}

/// The next hops: one of each family, on a network of ours.
fn gateways(on: &On, ours: &[Network]) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), Usage> {
    let mut found = (None, None);
    for &gateway in &on.gateway {
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !ours.iter().any(|o| o.neighbours(Network { address: gateway, ..*o })) {
            return Err(Usage(format!("--gateway {gateway} is on none of our networks")));
        }
        let twice = match gateway {
            IpAddr::V4(ip) => found.0.replace(ip).is_some(),
            IpAddr::V6(ip) => found.1.replace(ip).is_some(),
        };
        if twice {
            return Err(Usage(format!("--gateway {gateway}: there is one for that family already")));
        }
    }
    Ok(found)
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
        let net = |text: &str| text.parse::<Network>().map(|n| (n.address, n.prefix)).unwrap();
        assert_eq!((plain.addrs, plain.host_addrs), (vec![net("198.18.0.2/24")], vec![net("198.18.0.1/24")]));
        let listen = options("-l 10.1.2.1").unwrap();
        assert_eq!((listen.addrs, listen.host_addrs), (vec![net("10.1.2.1/24")], vec![net("10.1.2.2/24")]));
        assert_eq!(options("-l 2001:2::5").unwrap().host_addrs, [net("2001:2::1/64")]);
        let both = options("--addr 198.18.0.2/24 --addr 2001:2::1/64 --addr 2001:2::2/64 --gateway fe80::1").unwrap();
        assert_eq!((both.addrs.len(), both.host_addrs), (3, vec![net("198.18.0.1/24"), net("2001:2::3/64")]));
        assert_eq!(both.gateways, (None, Some("fe80::1".parse().unwrap())));
        assert_eq!(options("--host-addr none").unwrap().host_addrs, []);
        assert_eq!(options("--nic shm:/run/wire").unwrap().host_addrs, []);
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
            ("-l ff02::1", "no host's"),
            ("--addr 198.18.0.2/24 --addr 198.18.0.2/16", "twice"),
            ("--gateway 198.18.1.1", "none of our networks"),
            ("--gateway 198.18.0.1 --gateway 198.18.0.3", "already"),
            ("--host-addr 2001:2::1/64", "no neighbour"),
            ("--host-addr 198.18.1.1/24", "no neighbour"),
            ("--nic shm:/run/wire --netns blue", "--netns"),
            ("--nic xdp:eth0,ports=80", "must be among"),
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
