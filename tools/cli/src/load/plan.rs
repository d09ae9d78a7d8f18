use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::Context;
use load::draw::{Gaps, Pattern, Sizes};
use load::requests::{self, Workload};
use load::search::Slo;
use load::{Churn, Hangup, Pace, Place, Spec, Window};
use units::Nanos;

use super::args::{AGENT_PORT, Echo, HangupHow, How, Kv, KvWorkload, Pingpong, Spin, Sweep, Via};
use crate::Usage;
use crate::values::{Cores, HostAddress, Network, NicUri, XdpUri};

/// The windows of a search or a sweep, unless told otherwise.
const POINT_SECONDS: f64 = 3.0;
const SECONDS: f64 = 10.0;

/// A command line that makes sense: what will be done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `kv`, `echo`, `spin`, `pingpong`.
    pub(crate) app: &'static str,
    /// Now, since 1970.
    pub(crate) started: Nanos,
    /// What to ask, by name, for people.
    pub(crate) what: String,
    pub(crate) spec: Spec,
    pub(crate) place: Place,
    pub(crate) wire: Wire,
    pub(crate) netns: Option<String>,
    pub(crate) preload: bool,
    pub(crate) gaps: Gaps,
    /// A window; its pace is that of the first.
    pub(crate) window: Window,
    pub(crate) task: Task,
    pub(crate) slo: Option<Slo>,
    pub(crate) json: Option<PathBuf>,
}

/// What carries the requests.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Wire {
    Linux,
    Tap { name: String, ours: Network, host: Option<Network> },
    Xdp { uri: XdpUri, ours: Network },
    Shm { path: PathBuf, ours: Network },
    Agents(Vec<SocketAddr>),
}

impl Wire {
    /// As the JSON object has it. Agents use Linux sockets.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Wire::Linux | Wire::Agents(_) => "linux",
            Wire::Tap { .. } => "tap",
            Wire::Xdp { .. } => "xdp",
            Wire::Shm { .. } => "shm",
        }
    }
}

/// Which windows there will be.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Task {
    Once,
    Sweep { rates: Sweep, max: Option<f64> },
    FindMax { slo: Slo, precision: f64, max: Option<f64> },
    Pingpong(Vec<u32>),
}

/// Where a server of this kind is by default.
struct Home {
    app: &'static str,
    port: u16,
}

impl Plan {
    pub(crate) fn kv(args: &Kv) -> anyhow::Result<Plan> {
        let (name, mut kv) = match args.workload {
            KvWorkload::Usr => ("usr", requests::Kv::usr()),
            KvWorkload::Etc => ("etc", requests::Kv::etc()),
            KvWorkload::EtcScripts => ("etc-scripts", requests::Kv::etc_scripts()),
        };
        kv.protocol = args.protocol;
        let changed = args.key.is_some() || args.value.is_some() || args.gets.is_some() || args.keys.is_some();
        kv.records = args.records.unwrap_or(kv.records);
        kv.key = args.key.clone().unwrap_or(kv.key);
        kv.value = args.value.clone().unwrap_or(kv.value);
        kv.gets = args.gets.unwrap_or(kv.gets);
        kv.keys = args.keys.unwrap_or(kv.keys);
        let what = format!("{name}{}, {} records", if changed { " (changed)" } else { "" }, kv.records);
        let home = Home { app: "kv", port: 11211 };
        let mut plan = Plan::new(home, args.target.as_deref(), Workload::Kv(kv), &args.how)?;
        (plan.what, plan.preload) = (what, !args.no_preload);
        Ok(plan)
    }

    pub(crate) fn echo(args: &Echo) -> anyhow::Result<Plan> {
        let workload = Workload::Echo(requests::Echo { size: args.size.clone() });
        let plan = Plan::new(Home { app: "echo", port: 7007 }, args.target.as_deref(), workload, &args.how)?;
        Ok(Plan { what: format!("messages of {} B", brief(&args.size.to_string())), ..plan })
    }

    pub(crate) fn spin(args: &Spin) -> anyhow::Result<Plan> {
        let workload = Workload::Spin(requests::Spin { time: args.time.clone(), size: args.size });
        let plan = Plan::new(Home { app: "spin", port: 7008 }, args.target.as_deref(), workload, &args.how)?;
        Ok(Plan { what: format!("service times {}", brief(&args.time.to_string())), ..plan })
    }

    pub(crate) fn pingpong(args: &Pingpong) -> anyhow::Result<Plan> {
        let sizes: Vec<usize> = match args.sizes.is_empty() {
            false => args.sizes.iter().map(|s| s.0).collect(),
            true => (6..usize::BITS).map(|bit| 1 << bit).take_while(|&s: &usize| s <= args.max.0).collect(),
        };
        let most = requests::ECHO_MAX;
        if let Some(size) = sizes.iter().find(|&&s| s > most) {
            return Err(Usage(format!("a message has at most {most} bytes, not {size}")).into());
        }
        if sizes.is_empty() {
            return Err(Usage(format!("--max {}: the sizes begin at 64 B", args.max.0)).into());
        }
        let how = How::plain(args.via.clone(), args.seconds, args.seed, args.json.clone());
        let sizes: Vec<u32> = sizes.iter().map(|&s| s as u32).collect();
        let workload = Workload::Echo(requests::Echo { size: Sizes::fixed(sizes[0]) });
        let plan = Plan::new(Home { app: "pingpong", port: 7007 }, args.target.as_deref(), workload, &how)?;
        let what = match sizes[..] {
            [only] => format!("messages of {only} B"),
            _ => format!("messages of {} to {} B", sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0)),
        };
        Ok(Plan { what, task: Task::Pingpong(sizes), ..plan })
    }

    fn new(home: Home, target: Option<&str>, workload: Workload, how: &How) -> anyhow::Result<Plan> {
        workload.check().map_err(Usage)?;
        let target = find_target(target, &home, &how.via)?;
        let wire = wire(how, target)?;
        let churn = how.churn.map(|requests| {
            let how = if how.hangup == HangupHow::Rst { Hangup::Rst } else { Hangup::Fin };
            Churn { requests, how }
        });
        let spec = Spec {
            workload,
            target,
            local: how.local.clone(),
            connections: how.conns,
            depth: how.depth,
            churn,
            probe: how.probe,
            threads: how.threads,
            seed: how.seed,
        };
        spec.check().map_err(|e| Usage(e.to_string()))?;
        let task = task(how);
        let local = !matches!(wire, Wire::Agents(_));
        Ok(Plan {
            app: home.app,
            started: sys::clock::wall(),
            what: String::new(),
            spec,
            place: if local { place(&how.via, how.threads)? } else { Place::default() },
            wire,
            netns: how.via.netns.clone(),
            preload: false,
            gaps: how.arrivals.clone(),
            window: window(how, &task),
            task,
            slo: how.slo,
            json: writable(how.json.clone())?,
        })
    }
}

impl How {
    /// Of `pingpong`: one connection, one message at a time.
    fn plain(via: Via, seconds: f64, seed: u64, json: Option<PathBuf>) -> How {
        How {
            rate: None,
            arrivals: Gaps::poisson(),
            seconds: Some(seconds),
            warmup: None,
            patience: 2.0,
            seed,
            local: Vec::new(),
            conns: 1,
            depth: 1,
            churn: None,
            hangup: HangupHow::Rst,
            probe: 0,
            threads: 1,
            via,
            agents: Vec::new(),
            slo: None,
            find_max: false,
            precision: 0.02,
            max_rate: None,
            sweep: None,
            json,
        }
    }
}

/// A description that carries a file's values is too long to show.
pub(crate) fn brief(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn task(how: &How) -> Task {
    match (&how.sweep, how.find_max, how.slo) {
        (Some(rates), ..) => Task::Sweep { rates: rates.clone(), max: how.max_rate },
        (None, true, Some(slo)) => Task::FindMax { slo, precision: how.precision, max: how.max_rate },
        _ => Task::Once,
    }
}

fn window(how: &How, task: &Task) -> Window {
    let nanos = |s: f64| Nanos((s * 1e9) as u64);
    let default = if *task == Task::Once { SECONDS } else { POINT_SECONDS };
    let pace = match &how.rate {
        Some(pattern) => Pace::Open { gaps: how.arrivals.clone(), pattern: pattern.clone() },
        None => Pace::Closed,
    };
    let mut window = Window::new(pace, nanos(how.seconds.unwrap_or(default)));
    window.warmup = how.warmup.map_or(window.warmup, nanos);
    window.patience = nanos(how.patience);
    window
}

/// The window at a steady rate.
pub(crate) fn at_rate(window: &Window, gaps: &Gaps, rate: f64) -> Window {
    Window { pace: Pace::Open { gaps: gaps.clone(), pattern: Pattern::constant(rate) }, ..window.clone() }
}

/// `ADDRESS[:PORT]`, names included. A name that cannot be resolved is no mistake of the command line.
pub(crate) fn resolve(text: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let unresolved = || format!("cannot resolve {text}; write the server as ADDRESS or ADDRESS:PORT");
    let found = if let Ok(addr) = text.parse::<SocketAddr>() {
        addr
    } else if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        SocketAddr::new(ip, port)
    } else {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, digits)) => (name, digits.parse().map_err(|_| Usage(format!("{text}: {digits} is no port")))?),
            None => (text, port),
        };
        let all: Vec<SocketAddr> = (name, port).to_socket_addrs().with_context(unresolved)?.collect();
        let v4 = all.iter().find(|a| a.is_ipv4()).or(all.first());
        *v4.with_context(unresolved)?
    };
    match found.port() {
        0 => Err(Usage(format!("{text}: there is no port 0")).into()),
        _ => Ok(found),
    }
}

fn find_target(given: Option<&str>, home: &Home, via: &Via) -> anyhow::Result<SocketAddr> {
    match (given, &via.nic) {
        (Some(text), _) => resolve(text, home.port),
        // Where `zygix serve` is, and where Linux is beside it.
        (None, Some(NicUri::Shm(_))) => Ok((Ipv4Addr::new(198, 18, 0, 2), home.port).into()),
        (None, Some(NicUri::Tap(_))) => Ok((Ipv4Addr::new(198, 18, 0, 1), home.port).into()),
        (None, Some(NicUri::Xdp(..)) | None) => {
            let (app, port) = (home.app, home.port);
            Err(Usage(format!("name the server: zygix load {app} ADDRESS[:PORT], such as 127.0.0.1:{port}")).into())
        }
    }
}

fn wire(how: &How, target: SocketAddr) -> anyhow::Result<Wire> {
    if !how.agents.is_empty() {
        let agents: Vec<SocketAddr> = how.agents.iter().map(|a| resolve(a, AGENT_PORT)).collect::<Result<_, _>>()?;
        let mut sorted = agents.clone();
        sorted.sort_unstable();
        sorted.dedup();
        return match sorted.len() == agents.len() {
            true => Ok(Wire::Agents(agents)),
            false => Err(Usage("--agents: one is named twice".into()).into()),
        };
    }
    let Some(nic) = &how.via.nic else { return Ok(Wire::Linux) };
    let there = target.ip();
    let prefix = how.via.addr.map_or(if there.is_ipv4() { 24 } else { 64 }, |a| a.prefix);
    let there: Network = format!("{there}/{prefix}").parse().map_err(|e| Usage(format!("{target}: {e}")))?;
    let ours = how.via.addr.unwrap_or(there.neighbour());
    if !ours.neighbours(there) {
        let (ours, there) = (ours.address, there.address);
        return Err(Usage(format!("--addr {ours} is no neighbour of the target {there}: take the same network")).into());
    }
    match (nic, how.via.host_addr) {
        (NicUri::Shm(_), Some(_)) => Err(Usage("--host-addr: Linux is not on an shm wire".into()).into()),
        (NicUri::Shm(_), None) if how.via.netns.is_some() => {
            Err(Usage("--netns: an shm wire is in no network namespace".into()).into())
        }
        (NicUri::Shm(path), None) => Ok(Wire::Shm { path: path.clone(), ours }),
        (NicUri::Xdp(..), Some(_)) => {
            Err(Usage("--host-addr: the interface is Linux's own and stays as it is (ip addr add)".into()).into())
        }
        (NicUri::Xdp(XdpUri { ports: Some(_), .. }), None) => {
            Err(Usage("--via: ports are a server's; the load takes any, at an address of its own".into()).into())
        }
        (NicUri::Xdp(uri), None) => Ok(Wire::Xdp { uri: uri.clone(), ours }),
        (NicUri::Tap(name), host) => {
            let host = match host {
                None => Some(there),
                Some(HostAddress::Leave) => None,
                Some(HostAddress::Set(host)) if host.neighbours(ours) => Some(host),
                Some(HostAddress::Set(host)) => {
                    let (host, ours) = (host.address, ours.address);
                    return Err(Usage(format!("--host-addr {host} is no neighbour of {ours}")).into());
                }
            };
            Ok(Wire::Tap { name: name.clone(), ours, host })
        }
    }
}

/// Where the threads run. They spin where that leaves a core to others.
fn place(via: &Via, threads: u32) -> anyhow::Result<Place> {
    let cores = via.pin.clone().unwrap_or_default();
    let allowed = check_pins(&cores)?;
    Ok(Place { cores: cores.0, spin: via.spin || (!via.no_spin && (threads as usize) < allowed) })
}

/// How many cores we may use, if all that are named are among them.
pub(crate) fn check_pins(cores: &Cores) -> anyhow::Result<usize> {
    let allowed = sys::thread::allowed_cores()?;
    match cores.0.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(Usage(format!("--pin: core {core} is not ours to use; we have {allowed:?}")).into()),
        None => Ok(allowed.len()),
    }
}

/// A result that cannot be written is better known before the load than after.
fn writable(json: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = json else { return Ok(None) };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !folder.is_dir() {
        return Err(Usage(format!("--json {}: that is no place for a file", path.display())).into());
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::What;
    use super::*;
    use crate::args::{Cli, Command};

    fn plan(line: &str) -> Result<Plan, String> {
        let words = format!("zygix load {line}");
        let cli = Cli::try_parse_from(words.split_whitespace()).map_err(|e| e.to_string())?;
        let Command::Load(load) = cli.command else { unreachable!("`load` was written") };
        let plan = match &load.what {
            What::Kv(args) => Plan::kv(args),
            What::Echo(args) => Plan::echo(args),
            What::Spin(args) => Plan::spin(args),
            What::Pingpong(args) => Plan::pingpong(args),
            What::Agent(_) => unreachable!("no plan"),
        };
        plan.map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn defaults_are_a_closed_loop() {
        let plan = plan("kv 127.0.0.1").unwrap();
        assert_eq!(plan.spec.target, "127.0.0.1:11211".parse().unwrap());
        assert_eq!((plan.spec.connections, plan.spec.depth, plan.spec.churn), (16, 1, None));
        assert_eq!((plan.window.pace, plan.window.window), (Pace::Closed, Nanos::from_secs(10)));
        assert_eq!((plan.task, plan.wire, plan.preload), (Task::Once, Wire::Linux, true));
    }

    #[test]
    fn every_part_of_a_workload_can_be_said() {
        let plan = plan(
            "kv [::1]:22122 --workload etc --records 5 --key 30 --value uniform:1-9 --gets 0.5 --keys zipf:0.99 \
             --protocol binary --no-preload --rate 1.5m --arrivals gpareto --conns 100 --depth 4 --churn 7 --hangup fin --probe 32 \
             --seconds 2 --warmup 0 --patience 0.5 --seed 9",
        )
        .unwrap();
        let Workload::Kv(kv) = &plan.spec.workload else { panic!() };
        assert_eq!((kv.records, kv.gets, kv.protocol), (5, 0.5, requests::Protocol::Binary));
        assert_eq!(
            (kv.key.to_string(), kv.value.to_string(), kv.keys.to_string()),
            ("30".into(), "uniform:1-9".into(), "zipf:0.99".into())
        );
        assert_eq!(plan.spec.churn, Some(Churn { requests: 7, how: Hangup::Fin }));
        assert_eq!((plan.spec.probe, plan.spec.seed, plan.preload), (32, 9, false));
        assert_eq!((plan.window.window, plan.window.warmup), (Nanos::from_secs(2), Nanos::ZERO));
        let Pace::Open { pattern, .. } = &plan.window.pace else { panic!() };
        assert_eq!(pattern.peak(), 1.5e6);
    }

    #[test]
    fn a_stack_of_our_own_finds_its_addresses() {
        let shm = plan("echo --nic shm:/run/wire").unwrap();
        assert_eq!(shm.spec.target, "198.18.0.2:7007".parse().unwrap());
        assert_eq!(shm.wire, Wire::Shm { path: "/run/wire".into(), ours: "198.18.0.1/24".parse().unwrap() });
        let tap = plan("kv --nic tap:zx1").unwrap();
        assert_eq!(tap.spec.target, "198.18.0.1:11211".parse().unwrap());
        let (ours, host) = ("198.18.0.2/24".parse().unwrap(), Some("198.18.0.1/24".parse().unwrap()));
        assert_eq!(tap.wire, Wire::Tap { name: "zx1".into(), ours, host });
        let told = plan("kv 10.1.2.3 --nic tap:zx1 --addr 10.1.2.9/16 --host-addr none").unwrap();
        assert_eq!(told.wire, Wire::Tap { name: "zx1".into(), ours: "10.1.2.9/16".parse().unwrap(), host: None });
    }

    #[test]
    fn tasks() {
        let slo = "p99=500us".parse().unwrap();
        let find = plan("spin 127.0.0.1 --find-max --slo p99=500us --max-rate 50k").unwrap();
        assert_eq!(find.task, Task::FindMax { slo, precision: 0.02, max: Some(5e4) });
        assert_eq!(find.window.window, Nanos::from_secs(3));
        let sweep = plan("echo 127.0.0.1 --sweep 10k,2.5k").unwrap();
        assert_eq!(sweep.task, Task::Sweep { rates: Sweep::Rates(vec![1e4, 2.5e3]), max: None });
        let sweep = plan("echo 127.0.0.1 --sweep 10 --max-rate 1m").unwrap();
        assert_eq!(sweep.task, Task::Sweep { rates: Sweep::Points(10), max: Some(1e6) });
        assert_eq!(plan("pingpong 127.0.0.1 --sizes 1,64,1k").unwrap().task, Task::Pingpong(vec![1, 64, 1024]));
        assert_eq!(plan("pingpong 127.0.0.1 --max 256").unwrap().task, Task::Pingpong(vec![64, 128, 256]));
        let fleet = plan("echo 127.0.0.1 --agents 127.0.0.1,127.0.0.1:8").unwrap();
        let agents = vec!["127.0.0.1:7117".parse().unwrap(), "127.0.0.1:8".parse().unwrap()];
        assert_eq!(fleet.wire, Wire::Agents(agents));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, complaint) in [
            ("kv", "name the server"),
            ("kv 127.0.0.1:0", "no port 0"),
            ("kv 127.0.0.1:kv", "no port"),
            ("kv 127.0.0.1 --rate 0", "too low"),
            ("kv 127.0.0.1 --rate 1e12", "outside"),
            ("kv 127.0.0.1 --rate fast", "not a rate"),
            ("kv 127.0.0.1 --conns 0", "0 is not in"),
            ("kv 127.0.0.1 --depth 0", "0 is not in"),
            ("kv 127.0.0.1 --threads 3 --conns 2", "only 2 connections"),
            ("kv 127.0.0.1 --seconds 0", "at least 0.01"),
            ("kv 127.0.0.1 --seconds NaN", "a week"),
            ("kv 127.0.0.1 --gets 1.5", "from 0 to 1"),
            ("kv 127.0.0.1 --key 300", "250 bytes"),
            ("kv 127.0.0.1 --find-max", "--slo"),
            ("kv 127.0.0.1 --find-max --slo p99=1ms --rate 5k", "cannot be used with"),
            ("kv 127.0.0.1 --slo fast", "p99=500us"),
            ("kv 127.0.0.1 --sweep 10k,0", "too low"),
            ("kv 127.0.0.1 --pin 4000", "not ours to use"),
            ("kv ::1 --nic shm:/run/wire", "no host's address"),
            ("kv 127.0.0.1 --addr 198.18.0.2/24", "--nic"),
            ("kv 10.0.0.1 --nic shm:/run/wire --addr 198.18.0.2/24", "no neighbour"),
            ("kv --nic shm:/run/wire --netns blue", "no network namespace"),
            ("kv --nic shm:/run/wire --host-addr none", "not on an shm wire"),
            ("kv --via xdp:eth0", "name the server"),
            ("kv 198.18.0.2 --via xdp:eth0 --host-addr none", "Linux's own"),
            ("kv 198.18.0.2 --via xdp:eth0,ports=80", "a server's"),
            ("kv 127.0.0.1 --agents 127.0.0.1 --nic tap:zx1", "cannot be used with"),
            ("kv 127.0.0.1 --agents 127.0.0.1,127.0.0.1:7117", "named twice"),
            ("kv 127.0.0.1 --json /nowhere/at/all.json", "no place for a file"),
            ("spin 127.0.0.1 --size 4", "16 to"),
            ("spin 127.0.0.1 --time exp:0us", "service time"),
            ("echo 127.0.0.1 --size 0", "size"),
            ("pingpong 127.0.0.1 --max 1", "begin at 64"),
            ("pingpong 127.0.0.1 --sizes 1g", "at most"),
            ("tea 127.0.0.1", "unrecognized subcommand"),
        ] {
            let said = plan(line).unwrap_err();
            assert!(said.contains(complaint), "{line}: {said}");
        }
    }
}
