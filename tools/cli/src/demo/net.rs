use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use sys::link::{self, Place};
use sys::netns;

/// The prefix of all links here.
pub(crate) const PREFIX: u8 = 24;
/// Linux's end of the TAP.
pub(crate) const TAP_HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Zygix.
pub(crate) const ZYGIX: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The client's end of the veth pair.
const VETH_HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// The Linux server, at the other.
pub(crate) const LINUX: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
/// The TAP.
pub(crate) const TAP: &str = "zx0";

/// Two network namespaces without names: they, their links and addresses end with the processes in them, however
/// those end.
///
/// ```text
///   client namespace (ours)                     server namespace
///     load --- zx0  TAP 198.18.0.1 --- Zygix 198.18.0.2
///       \----- zxl0 veth 198.18.1.1 ------------- zxl1 198.18.1.2  Linux server
/// ```
pub(crate) struct Net {
    client: OwnedFd,
    server: OwnedFd,
    /// Whether a user namespace had to be made: no bpf(2) in it.
    pub(crate) unprivileged: bool,
}

impl Net {
    /// Makes both namespaces and the veth pair, and moves this process, which must have one thread, into the client's.
    /// With `null` a second pair stands in for the TAP.
    pub(crate) fn build(null: bool) -> Result<Net> {
        let unprivileged = enter_own()?;
        let server = netns::current()?;
        prepare()?;
        netns::unshare_net()?;
        let client = netns::current()?;
        prepare()?;
        let net = Net { client, server, unprivileged };
        net.pair("zxl", VETH_HOST, LINUX)?;
        if null {
            net.pair("zxz", TAP_HOST, ZYGIX)?;
        }
        Ok(net)
    }

    /// A veth pair: `name`0 here, `name`1 in the server's namespace.
    fn pair(&self, name: &str, here: Ipv4Addr, there: Ipv4Addr) -> Result<()> {
        let (near, far) = (format!("{name}0"), format!("{name}1"));
        link::add_veth(&near, &far, Place::Namespace(self.server.as_fd()))?;
        let connect = |name: &str, address| {
            link::add_address(name, address, PREFIX)?;
            link::up(name)
        };
        self.at_server(|| Ok(connect(&far, there)?))?;
        Ok(connect(&near, here)?)
    }

    /// Runs `f` in the server's namespace; children that it starts stay there.
    pub(crate) fn at_server<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        netns::enter(&self.server)?;
        let done = f();
        netns::enter(&self.client)?;
        done
    }
}

/// Readies a new namespace: its loopback, and Linux's usual congestion control. (A machine's own choice may be BBR, which
/// paces a connection of small requests by what it has seen of it, and adds milliseconds of its own to the tail.)
fn prepare() -> Result<()> {
    link::up("lo")?;
    // A namespace may choose among what the machine allows it; Reno is always allowed. If even that fails, the machine's
    // choice stays: it is the same for both stacks.
    let choose = |name| std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", name);
    let _ = choose("cubic").or_else(|_| choose("reno"));
    Ok(())
}

/// Moves into a new network namespace, by way of a user namespace if that takes one.
fn enter_own() -> Result<bool> {
    match netns::unshare_net() {
        Ok(()) => Ok(false),
        Err(e) if e.is_permission() => {
            netns::unshare_user_net().context(
                "the demo needs network namespaces, and neither root nor a user namespace is to be had (run it with sudo)",
            )?;
            Ok(true)
        }
        Err(e) => Err(e.into()),
    }
}
