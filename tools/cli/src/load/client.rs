use std::sync::Arc;

use anyhow::{Context, bail};
use fleet::{AgentReport, Crew, CrewLive};
use load::requests::Workload;
use load::{Live, Load, Outcome, Spec, Window, ZygixNet};
use shm::ShmNic;
use tap::{TapConfig, TapNic};
use xdp::{XdpConfig, XdpNic};

use super::plan::{Plan, Wire};

/// Descriptors beside the connections': the epolls, the doorbells, the files of the process.
const SPARE_FILES: u64 = 64;

/// Whoever makes the load, with its connections open.
pub(crate) enum Client {
    Here(Box<Load>),
    Elsewhere(Crew),
}

/// What it has done so far, to be watched.
#[derive(Clone)]
pub(crate) enum Watch {
    Here(Arc<Live>),
    Elsewhere(Arc<CrewLive>),
}

impl Client {
    pub(crate) fn open(plan: &Plan) -> anyhow::Result<Client> {
        let spec = &plan.spec;
        if let Some(name) = &plan.netns {
            // Threads that are started from here on are in it, too.
            sys::netns::enter_named(name)?;
        }
        match &plan.wire {
            Wire::Linux => {
                check_files(spec)?;
                check_ports(spec)?;
                Ok(Client::Here(Box::new(Load::linux(spec, &plan.place)?)))
            }
            Wire::Agents(agents) => Ok(Client::Elsewhere(Crew::join(agents, spec)?)),
            Wire::Shm { path, ours } => {
                let mac = wire::Mac::local(2);
                let config = shm::Config {
                    queues: spec.threads as u16,
                    trusted: true,
                    large: true,
                    mac,
                    ..shm::Config::default()
                };
                let nic = ShmNic::connect(path, &config).with_context(|| {
                    format!(
                        "shm:{} (is `zygix serve {} --nic shm:...` at its other end?)",
                        path.display(),
                        server(plan)
                    )
                })?;
                let net = ZygixNet { mac, ip: ours.address, prefix: ours.prefix };
                Ok(Client::Here(Box::new(Load::zygix(spec, &plan.place, nic, net)?)))
            }
            Wire::Xdp { uri, ours } => {
                let addresses = vec![ours.address];
                let config = XdpConfig {
                    mode: uri.mode,
                    busy_poll: uri.busy_poll,
                    ..XdpConfig::new(uri.name.as_str(), spec.threads as u16, addresses)
                };
                let nic = XdpNic::open(&config)?;
                let net = ZygixNet { mac: nic.mac(), ip: ours.address, prefix: ours.prefix };
                Ok(Client::Here(Box::new(Load::zygix(spec, &plan.place, nic, net)?)))
            }
            Wire::Tap { name, ours, host } => {
                let config = TapConfig {
                    host_addrs: host.iter().map(|h| (h.address, h.prefix)).collect(),
                    ..TapConfig::new(name.as_str(), spec.threads as u16)
                };
                let nic = TapNic::open(&config)?;
                let net = ZygixNet { mac: nic.mac(), ip: ours.address, prefix: ours.prefix };
                Ok(Client::Here(Box::new(Load::zygix(spec, &plan.place, nic, net)?)))
            }
        }
    }

    pub(crate) fn watch(&self) -> Watch {
        match self {
            Client::Here(load) => Watch::Here(load.live()),
            Client::Elsewhere(crew) => Watch::Elsewhere(crew.live()),
        }
    }

    pub(crate) fn preload(&mut self) -> anyhow::Result<()> {
        match self {
            Client::Here(load) => Ok(load.preload()?),
            Client::Elsewhere(crew) => Ok(crew.preload()?),
        }
    }

    /// Asks something else from the next window on.
    pub(crate) fn ask(&mut self, workload: Workload) -> anyhow::Result<()> {
        match self {
            Client::Here(load) => Ok(load.ask(workload)?),
            Client::Elsewhere(_) => bail!("agents ask one thing only"),
        }
    }

    /// A window, and what became of the agents in it.
    pub(crate) fn run(&mut self, window: &Window) -> anyhow::Result<(Outcome, Vec<AgentReport>)> {
        match self {
            Client::Here(load) => Ok((load.run(window)?, Vec::new())),
            Client::Elsewhere(crew) => {
                let done = crew.run(window)?;
                Ok((done.outcome, done.agents))
            }
        }
    }
}

impl Watch {
    pub(crate) fn answered(&self) -> u64 {
        match self {
            Watch::Here(live) => live.answered.get(),
            Watch::Elsewhere(live) => live.answered(),
        }
    }

    pub(crate) fn errors(&self) -> u64 {
        match self {
            Watch::Here(live) => live.errors.get(),
            Watch::Elsewhere(live) => live.errors(),
        }
    }

    pub(crate) fn stored(&self) -> u64 {
        match self {
            Watch::Here(live) => live.stored.get(),
            Watch::Elsewhere(live) => live.stored(),
        }
    }
}

/// The application to be served for `plan`.
fn server(plan: &Plan) -> &'static str {
    if plan.app == "pingpong" { "echo" } else { plan.app }
}

/// Raises the limit of open files as far as it goes; says how, if that is not far enough.
fn check_files(spec: &Spec) -> anyhow::Result<()> {
    let wanted = u64::from(spec.connections) + u64::from(spec.probe) + 2 * u64::from(spec.threads) + SPARE_FILES;
    let limit = sys::limit::allow_open_files(wanted)?;
    if wanted > limit {
        bail!(
            "{} connections need {wanted} open files, and this process may have {limit}: raise the hard limit \
             (as root: ulimit -Hn {wanted}; for a service: LimitNOFILE=), or use fewer connections",
            spec.connections + spec.probe
        );
    }
    Ok(())
}

/// A connection needs a local port of its own towards the one target.
fn check_ports(spec: &Spec) -> anyhow::Result<()> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports: Vec<u32> = range.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    let &[first, last] = ports.as_slice() else { return Ok(()) };
    let addresses = spec.local.len().max(1) as u32;
    let (wanted, there) = (spec.connections.saturating_add(spec.probe), (last.saturating_sub(first) + 1) * addresses);
    if wanted > there {
        bail!(
            "{wanted} connections to one address need as many local ports, and there are {there} ({first} to {last}): widen the \
             range (as root: sysctl net.ipv4.ip_local_port_range='1024 65535'), connect from more addresses (--local), or share the load among --agents"
        );
    }
    Ok(())
}
