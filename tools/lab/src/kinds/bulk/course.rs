//! The network of the impaired rows: one link with faults, and behind it both stacks.
//!
//! ```text
//!   client namespace                                      far namespace                   host namespace
//!     Linux sockets --- zlb TAP ==[ faults ]== zlb TAP --- sw0 ---+--- TAP zx60  Zygix, sink
//!     198.18.60.1                                                 +--- TAP zx61  Zygix, source
//!                                                                 +--- veth ------------- Linux, both
//! ```
//!
//! Each server is a port of the same switch, so a frame of either stack has the same way and the same dice. Segments are what is lost: the
//! link's TAPs have no offloads (crate `bridge`), and Linux cuts super-frames of either before they get there.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Result, anyhow};
use bridge::{End, Running, Seen};
use nic::Faults;
use sys::link::{self, Place};
use sys::netns;

use super::{Congestion, Direction, Who};
use crate::Lab;
use crate::net::PREFIX;
use crate::server::Server;

/// The link's interface, at both ends.
const LINK: &str = "zlb";
/// The switch behind it.
const SWITCH: &str = "sw0";
/// The third number of all addresses.
const NET: u8 = 60;
/// Where sinks listen, and sources.
const PORTS: [u16; 2] = [7001, 7002];

/// Link, switch and servers. Servers end first.
pub(super) struct Course {
    _servers: Vec<Server>,
    link: Running,
    _far: OwnedFd,
    _host: OwnedFd,
}

impl Course {
    /// Makes the namespaces and the link, and starts the servers.
    ///
    /// # Errors
    /// The kernel's: no bridge device, no privilege; a server's complaint.
    pub(super) fn build(lab: &Lab, congestion: Congestion, options: &[String]) -> Result<Course> {
        let (far, host) = (namespace()?, namespace()?);
        inside(&far, || Ok(link::add_bridge(SWITCH).and_then(|()| link::up(SWITCH))?))?;
        let near = netns::current()?;
        let a = End { namespace: near.as_fd(), name: LINK, address: Some((address(1).into(), PREFIX)) };
        let b = End { namespace: far.as_fd(), name: LINK, address: None };
        let link = bridge::between(&a, &b, [Faults::default(); 2], 1)?.start(None)?;
        inside(&far, || Ok(link::add_port(LINK, SWITCH)?))?;
        inside(&far, || {
            link::add_veth("zv1", "zv0", Place::Namespace(host.as_fd()))?;
            link::add_port("zv1", SWITCH)?;
            Ok(link::up("zv1")?)
        })?;
        let core = lab.accounting.server_core.to_string();
        let mut servers = Vec::new();
        for direction in Direction::ALL {
            let (addr, port) = (place(Who::Zygix, direction), PORTS[direction.index()]);
            let tap = format!("zx{}", NET as usize + direction.index());
            let line = format!(
                "--mode {} --nic tap:{tap} --addr {}/{PREFIX} --host-addr none -p {port} --pin {core}",
                direction.mode(),
                addr.ip()
            );
            let arguments = words(&line).chain(options.iter().cloned()).collect::<Vec<_>>();
            servers.push(inside(&far, || {
                let server = Server::ours("zygix", "echo", &arguments)?;
                link::add_port(&tap, SWITCH)?;
                Ok(server)
            })?);
        }
        inside(&host, || {
            link::add_address("zv0", address(4), PREFIX)?;
            Ok(link::up("zv0")?)
        })?;
        for direction in Direction::ALL {
            let (addr, port) = (place(Who::Linux, direction), PORTS[direction.index()]);
            let mode = direction.mode();
            let line =
                format!("--mode {mode} --stack linux-partitioned --tuned -l {} -p {port} --pin {core}", addr.ip());
            let control = ["--linux-congestion".to_owned(), congestion.linux().to_owned()];
            let arguments = words(&line).chain(control).collect::<Vec<_>>();
            servers.push(inside(&host, || Server::ours("linux", "echo", &arguments))?);
        }
        Ok(Course { _servers: servers, link, _far: far, _host: host })
    }

    /// These faults from now on, from the client to the servers and back.
    pub(super) fn set(&self, faults: [Faults; 2], seed: u64) {
        self.link.set(faults, seed);
    }

    /// What became of the frames since then.
    pub(super) fn seen(&self) -> Seen {
        self.link.seen()
    }
}

/// Where a server is.
pub(super) fn place(who: Who, direction: Direction) -> SocketAddr {
    let host = match who {
        Who::Zygix => 2 + direction.index() as u8,
        Who::Linux => 4,
    };
    SocketAddr::from((address(host), PORTS[direction.index()]))
}

const fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, NET, host)
}

fn words(line: &str) -> impl Iterator<Item = String> + '_ {
    line.split_whitespace().map(str::to_owned)
}

/// A new network namespace, its loopback up.
fn namespace() -> Result<OwnedFd> {
    thread(|| {
        netns::unshare_net()?;
        link::up("lo")?;
        Ok(netns::current()?)
    })
}

/// Runs `f` in a thread in that namespace; children that it starts stay there.
fn inside<R: Send>(namespace: &OwnedFd, f: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    thread(|| {
        netns::enter(namespace)?;
        f()
    })
}

fn thread<R: Send>(f: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|_| Err(anyhow!("a thread has panicked"))))
}
