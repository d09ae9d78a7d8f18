//! An application on the dataplane: NIC, stack, elastic threads, and their end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dataplane::{Dataplane, Idle, RunnerConfig, Sched, Steer};
use door::{Called, Door, DoorConfig, DoorError};
use mem::Backing;
use netstack::{DropReason, Network, Shared, StackConfig};
use nic::{Nic, Pcap, Queue, Steering};
use tap::{TapConfig, TapNic};
use units::{CoreId, Nanos};
use xdp::{Watch, XdpConfig, XdpNic};
use zygix::{Runtime, Service};

use crate::control::{Control, ServerStats};
use crate::values::{NicUri, XdpUri};

/// How often the main thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);
/// The headers of IPv4 and TCP without options: MTU less this is the segment size.
const HEADERS: u16 = 40;

/// What the dataplane is told at start.
#[derive(Clone, Debug)]
pub(crate) struct ZygixOptions {
    /// What is served, for the ready line.
    pub(crate) name: &'static str,
    /// The port, TCP.
    pub(crate) port: u16,
    /// Serve datagrams on the same port, too.
    pub(crate) datagrams: bool,
    /// The NIC.
    pub(crate) nic: NicUri,
    /// The network namespace to make a TAP in.
    pub(crate) netns: Option<String>,
    /// Our addresses and prefixes.
    pub(crate) addrs: Vec<(IpAddr, u8)>,
    /// The addresses to give to Linux's end of a TAP.
    pub(crate) host_addrs: Vec<(IpAddr, u8)>,
    /// The next hops to other networks.
    pub(crate) gateways: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// Elastic threads.
    pub(crate) threads: u16,
    /// Their cores, in order; those beyond the list float.
    pub(crate) pin: Vec<usize>,
    /// Connections at most.
    pub(crate) max_conns: usize,
    /// B.
    pub(crate) batch: usize,
    /// Poll for ever instead of sleeping after a while.
    pub(crate) spin: bool,
    /// Which core runs what.
    pub(crate) sched: Sched,
    /// Leave steering to software even where the NIC could.
    pub(crate) software_steering: bool,
    /// TCP's least retransmission timeout.
    pub(crate) rto_min: Nanos,
    /// How long TCP's acknowledgements may wait for data to ride on.
    pub(crate) delayed_ack: Nanos,
    pub(crate) congestion: tcp::Congestion,
    pub(crate) ecn: tcp::Ecn,
    pub(crate) pacing: bool,
    /// How it is called by those who look at it and give it commands; none: nobody can.
    pub(crate) called: Option<Called>,
    /// Record all frames here.
    pub(crate) pcap: Option<PathBuf>,
}

impl ZygixOptions {
    /// Where the service is, for the ready line: `198.18.0.2:7007, [2001:2::2]:7007`.
    fn ends(&self) -> String {
        let all = self.addrs.iter().map(|(ip, _)| SocketAddr::new(*ip, self.port).to_string());
        all.collect::<Vec<_>>().join(", ")
    }
}

/// Runs `service` on the dataplane until `control` says stop.
pub(crate) fn run<S: Service>(service: Arc<S>, opts: ZygixOptions, control: Control) -> anyhow::Result<()> {
    match &opts.nic {
        NicUri::Tap(name) => {
            let _namespace = opts.netns.as_deref().map(Namespace::enter).transpose()?;
            let nic = open_tap(name, &opts)?;
            if nic.steering() == Steering::Software {
                let why = nic.steering_refusal().map_or("asked for".into(), |e| format!("{e}"));
                eprintln!("zygix: software RSS: every core forwards the frames of the others' flow groups ({why})");
            }
            let line = format!("{} at {}, TAP {}", opts.name, opts.ends(), nic.name());
            let (mac, mtu) = (nic.mac(), nic.caps().mtu);
            serve(service, &opts, nic, mac, mtu, &line, control, None)
        }
        NicUri::Xdp(uri) => {
            let name = &uri.name;
            let _namespace = opts.netns.as_deref().map(Namespace::enter).transpose()?;
            let ends = opts.ends();
            let mut opts = opts.clone();
            with_link_local(&mut opts.addrs);
            let nic = open_xdp(uri, &opts)?;
            if let Some(why) = nic.fallback() {
                control.note(0, &format!("{name}: mode {}, as there is no better one ({why})", nic.mode()));
            }
            if let Some(why) = nic.steering_refusal() {
                control.note(
                    0,
                    &format!("software RSS: every core forwards the frames of the others' flow groups ({why})"),
                );
            }
            let busy = match nic.busy_poll() {
                Some(Ok(())) => ", busy polling",
                Some(Err(why)) => {
                    control.note(0, &format!("{name}: no busy polling, frames come by interrupts ({why})"));
                    ""
                }
                None => "",
            };
            let ports = uri.ports.as_ref().map_or(String::new(), |_| ", of its addresses the named ports only".into());
            let line = format!("{} at {ends}, AF_XDP on {name} ({}{ports}{busy})", opts.name, nic.mode());
            let (mac, mtu, watch) = (nic.mac(), nic.caps().mtu, nic.watch());
            serve(service, &opts, nic, mac, mtu, &line, control, Some(Lookout::new(watch)))
        }
        NicUri::Shm(path) => {
            // As TAP's NIC has them; in force if the other end wants them, too.
            let config = shm::Config {
                queues: opts.threads,
                trusted: true,
                large: true,
                mac: wire::Mac::local(1),
                ..shm::Config::default()
            };
            let listener = shm::Listener::bind(path, &config)?;
            control.note(0, &format!("waiting for the other end at {}", path.display()));
            // In short waits: a signal that comes just before one would not end it.
            while !control.stopping() {
                if sys::wait::readable(&[listener.as_fd().as_raw_fd()], Nanos::from_millis(50))? != 0 {
                    break;
                }
            }
            if control.stopping() {
                return Ok(());
            }
            let nic = match listener.accept() {
                Err(e) if control.stopping() || e.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
                other => other?,
            };
            let line = format!("{} at {}, shm wire (emulated)", opts.name, opts.ends());
            let (mac, mtu) = (wire::Mac(nic.caps().mac), nic.caps().mtu);
            serve(service, &opts, nic, mac, mtu, &line, control, None)
        }
    }
}

/// A link-local address of our own beside IPv6 ones: the one that follows from the interface's Ethernet address is the kernel's.
fn with_link_local(addrs: &mut Vec<(IpAddr, u8)>) {
    let local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if addrs.iter().any(|(ip, _)| ip.is_ipv6()) && !addrs.iter().any(|(ip, _)| local(ip)) {
        let made_up = wire::Addr::link_local(wire::Mac::local(sys::random::u64() as u32));
        addrs.push((IpAddr::V6(Ipv6Addr::from(made_up.octets())), 64));
    }
}

fn open_xdp(uri: &XdpUri, opts: &ZygixOptions) -> anyhow::Result<XdpNic> {
    let addresses = opts.addrs.iter().map(|(ip, _)| *ip).collect();
    let software_steering = opts.software_steering;
    let mut ports = uri.ports.clone();
    if let Some(ports) = ports.as_mut().filter(|p| p.is_empty()) {
        ports.push(opts.port);
    }
    let config = XdpConfig {
        mode: uri.mode,
        ports: ports.unwrap_or_default(),
        busy_poll: uri.busy_poll,
        software_steering,
        ..XdpConfig::new(uri.name.as_str(), opts.threads, addresses)
    };
    Ok(XdpNic::open(&config)?)
}

/// Says once, in a line, what an interface suffers from while it is in use.
struct Lookout {
    watch: Watch,
    gone: bool,
    cut: bool,
    full: bool,
    rounds: u32,
}

/// [`LOOK`]s from one look at the interface to the next: about a second.
const ROUNDS: u32 = 50;

impl Lookout {
    fn new(watch: Watch) -> Lookout {
        Lookout { watch, gone: false, cut: false, full: false, rounds: 0 }
    }

    fn look(&mut self, control: Control) {
        self.rounds += 1;
        if !self.rounds.is_multiple_of(ROUNDS) {
            return;
        }
        let name = self.watch.name();
        if !self.gone && self.watch.is_gone() {
            self.gone = true;
            control.note(0, &format!("interface {name} has gone: nothing comes or leaves any more; end me, and start me again when it is back"));
        }
        let seen = self.watch.statistics();
        // The kernel counts frames that found no chunk here as well.
        if !self.cut && seen.rx_dropped > seen.rx_fill_empty {
            self.cut = true;
            control.note(
                0,
                &format!("{name} delivers frames larger than its MTU, and they are lost: on its peer, ethtool -K PEER tso off gso off"),
            );
        }
        if !self.full && seen.rx_ring_full + seen.rx_fill_empty > 0 {
            self.full = true;
            control.note(1, &format!("frames from {name} come faster than they are taken, and are lost"));
        }
    }

    fn counters(&self) -> Vec<(String, u64)> {
        let seen = self.watch.statistics();
        vec![
            ("nic.partial_checksums".into(), self.watch.partial()),
            ("nic.tx_calls".into(), self.watch.kicks()),
            ("nic.rx_dropped".into(), seen.rx_dropped),
            ("nic.rx_ring_full".into(), seen.rx_ring_full),
            ("nic.rx_fill_empty".into(), seen.rx_fill_empty),
            ("nic.tx_invalid".into(), seen.tx_invalid),
            ("nic.gone".into(), self.watch.is_gone().into()),
        ]
    }
}

fn open_tap(name: &str, opts: &ZygixOptions) -> anyhow::Result<TapNic> {
    let config = TapConfig {
        software_steering: opts.software_steering,
        host_addrs: opts.host_addrs.clone(),
        ..TapConfig::new(name, opts.threads)
    };
    Ok(TapNic::open(&config)?)
}

#[allow(clippy::too_many_arguments)]
fn serve<S: Service, N>(
    service: Arc<S>,
    opts: &ZygixOptions,
    mut nic: N,
    mac: wire::Mac,
    mtu: u16,
    line: &str,
    control: Control,
    mut lookout: Option<Lookout>,
) -> anyhow::Result<()>
where
    N: Nic + Send + Sync + 'static,
    N::Queue: 'static,
{
    let stack = StackConfig {
        tcp: tcp::Config {
            mss: mtu - HEADERS,
            rto_min: opts.rto_min,
            delayed_ack: opts.delayed_ack,
            congestion: opts.congestion,
            ecn: opts.ecn,
            pacing: opts.pacing,
            ..tcp::Config::default()
        },
        max_conns: opts.max_conns,
        batch: opts.batch,
        tcp_ports: vec![opts.port],
        udp_ports: if opts.datagrams { vec![opts.port] } else { Vec::new() },
        addresses: opts.addrs.iter().map(|&(ip, prefix)| Network { address: ip.into(), prefix }).collect(),
        gateway: opts.gateways.0,
        gateway_v6: opts.gateways.1,
        ..StackConfig::new(mac, Ipv4Addr::UNSPECIFIED, 0)
    };
    let idle = if opts.spin { Idle::Spin } else { Idle::default() };
    let runner = RunnerConfig { pin: opts.pin.clone(), idle, sched: opts.sched };
    let queues = record(nic.queues(), opts)?;
    let nic = Arc::new(nic);
    let steering = nic.clone();
    let flows = move |t: &wire::Tuple| nic.flow_group(t);
    let mut runtime = None;
    let dataplane = Dataplane::start(stack, queues, flows, &runner, |core, shared| {
        runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core)
    })?;
    let shared = dataplane.shared().clone();
    note_oversubscription(opts, control);
    match dataplane.backing() {
        Some(Backing::Transparent) => {
            control.note(1, "no reserved huge pages: using transparent ones; sysctl vm.nr_hugepages=64 reserves some")
        }
        Some(Backing::Small) => control.note(
            0,
            "no huge pages: using small ones, which costs some speed; sysctl vm.nr_hugepages=64 reserves some",
        ),
        Some(Backing::HugeTlb) | None => {}
    }
    let line = format!("{line}, {} elastic thread(s), sched {}", opts.threads, opts.sched);
    let door =
        open_door(&dataplane, Box::new(move |group, queue| steering.set_reta(group, queue)), &line, opts, control)?;
    let line = door.as_ref().map_or(line.clone(), |door| format!("{line}, name {}", door.name()));
    // Whoever asks for counters outlives the dataplane, and must not keep it.
    let counted = Arc::downgrade(&shared);
    let watched = lookout.as_ref().map(|l| Lookout::new(l.watch.clone()));
    control.ready(&line, move || {
        let mut stats = counted.upgrade().map_or_else(ServerStats::default, |shared| stats(&shared));
        stats.counters.extend(watched.iter().flat_map(Lookout::counters));
        stats
    });
    while !control.stopping() {
        std::thread::sleep(LOOK);
        if let Some(lookout) = &mut lookout {
            lookout.look(control);
        }
        if !dataplane.is_running() {
            anyhow::bail!("an elastic thread has ended; its last words are above");
        }
    }
    // Who is at it waits for moves that are under way.
    drop(door);
    for core in dataplane.stop() {
        control.note(0, &format!("core {} is in application code that does not return: left behind", core.0));
    }
    if control.wants_counters() {
        for (name, n) in stats(&shared).counters {
            control.note(2, &format!("{name} {n}"));
        }
        for (name, n) in lookout.iter().flat_map(Lookout::counters) {
            control.note(2, &format!("{name} {n}"));
        }
    }
    control.finished(&summary(&shared));
    Ok(())
}

/// The door to the control plane. Where one was not asked for by name, service goes on without.
fn open_door(
    dataplane: &Dataplane,
    steer: Steer,
    about: &str,
    opts: &ZygixOptions,
    control: Control,
) -> anyhow::Result<Option<Door>> {
    let Some(called) = opts.called.clone() else { return Ok(None) };
    let named = matches!(called, Called::By(_));
    let config = DoorConfig { called, about: about.to_owned(), sched: opts.sched, directory: None };
    match Door::open(dataplane, Some(steer), &config) {
        Ok(door) => {
            control.note(1, &format!("commands and metrics at {}", door.path().display()));
            Ok(Some(door))
        }
        Err(DoorError::Name(e)) if !named => {
            control.note(0, &format!("`zygix ctl` will not find this: {e}"));
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

/// The queues, recorded if `--pcap` says so.
fn record<Q: Queue>(queues: Vec<Q>, opts: &ZygixOptions) -> anyhow::Result<Vec<Pcap<Q>>> {
    let Some(file) = &opts.pcap else { return Ok(queues.into_iter().map(Pcap::off).collect()) };
    let recorded = queues.into_iter().enumerate().map(|(i, queue)| Ok(Pcap::create(queue, &Pcap::<Q>::path(file, i))?));
    recorded.collect()
}

fn note_oversubscription(opts: &ZygixOptions, control: Control) {
    let cores = sys::thread::allowed_cores().map_or(usize::MAX, |c| c.len());
    if usize::from(opts.threads) > cores {
        control.note(
            0,
            &format!(
                "{} elastic threads on {cores} core(s): they will take turns, and tails will suffer",
                opts.threads
            ),
        );
    }
}

/// All counters of all cores; those of a core are prefixed by its number.
fn stats(shared: &Shared) -> ServerStats {
    let mut counters = Vec::new();
    for core in 0..shared.cores() {
        let metrics = shared.metrics(CoreId(core as u16));
        counters.extend(metrics.named().map(|(name, n)| (format!("core{core}.{name}"), n)));
        let drops = DropReason::ALL.iter().map(|&why| (why.label(), metrics.drops(why))).filter(|(_, n)| *n > 0);
        counters.extend(drops.map(|(name, n)| (format!("core{core}.drop.{name}"), n)));
    }
    ServerStats { idle_ns: shared.total(|m| m.idle_ns.get()), counters }
}

fn summary(shared: &Shared) -> String {
    let total = |of: fn(&netstack::Metrics) -> u64| shared.total(of);
    format!(
        "served: {} connections, {} segments in, {} frames out, {} bytes in, {} bytes out, {} retransmitted, {} frames dropped",
        total(|m| m.tcp_accepts.get()),
        total(|m| m.tcp_segments_in.get()),
        total(|m| m.tx_frames.get()),
        total(|m| m.tcp_bytes_in.get()),
        total(|m| m.tcp_bytes_out.get()),
        total(|m| m.tcp_retransmits.get()),
        total(netstack::Metrics::drops_total),
    )
}

/// A named network namespace that we are in; deleted at the end if we made it.
struct Namespace<'a> {
    name: &'a str,
    ours: bool,
}

impl<'a> Namespace<'a> {
    fn enter(name: &'a str) -> anyhow::Result<Namespace<'a>> {
        let ours = sys::netns::named(name).is_err();
        if ours {
            sys::netns::create_named(name)?;
        }
        let namespace = Namespace { name, ours };
        sys::netns::enter_named(name)?;
        Ok(namespace)
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if self.ours {
            // Somebody may have deleted it already.
            let _ = sys::netns::delete_named(self.name);
        }
    }
}
