//! Two network namespaces without names, and the links between load and servers.
//!
//! ```text
//!   client namespace (ours)                     server namespace
//!     load --- zx0  TAP  198.18.0.1 --- Zygix 198.18.0.2
//!       \----- zxl1 veth 198.18.1.1 ------------- zxr1 198.18.1.2  a Linux server
//!       \----- zxl2 veth 198.18.2.1 ------------- zxr2 198.18.2.2  another
//! ```
//!
//! They, their links and addresses end with the processes in them, however those end.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use sys::link::{self, Place};
use sys::netns;

/// The prefix of all links here.
pub const PREFIX: u8 = 24;

/// Kernel settings of a tuned server's namespace, as the thesis tunes its Linux: a long accept queue, and no SYN
/// cookies, which would hide that it overflows.
const TUNED: [(&str, &str); 3] =
    [("net/ipv4/tcp_syncookies", "0"), ("net/core/somaxconn", "65535"), ("net/ipv4/tcp_max_syn_backlog", "65535")];

/// One link from the load to a server: a network of its own, 198.18.N.0/24.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(
    /// N: the number of the network.
    pub u8,
);

impl Link {
    /// The load's address.
    pub const fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, 1)
    }

    /// The server's address.
    pub const fn server(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, 2)
    }

    /// The TAP device's name, if it is one.
    pub fn tap(self) -> String {
        format!("zx{}", self.0)
    }
}

/// Both namespaces.
pub struct Net {
    client: OwnedFd,
    server: OwnedFd,
    /// Whether a user namespace had to be made: no bpf(2) in it.
    pub unprivileged: bool,
}

impl Net {
    /// Makes both namespaces, and moves this process into the client's. It must have one thread still: a user namespace,
    /// which is needed without root, takes a process of one thread. `who` needs it, for the complaint.
    ///
    /// # Errors
    /// Neither root nor a user namespace is to be had.
    pub fn build(who: &str) -> Result<Net> {
        let unprivileged = enter_own(who)?;
        let server = netns::current()?;
        prepare()?;
        netns::unshare_net()?;
        let client = netns::current()?;
        prepare()?;
        Ok(Net { client, server, unprivileged })
    }

    /// Makes a veth pair of the link: `zxlN` here, `zxrN` in the server's namespace, both with their addresses, and up.
    ///
    /// # Errors
    /// The kernel's, and when it is there already.
    pub fn veth(&self, to: Link) -> Result<()> {
        let (near, far) = (format!("zxl{}", to.0), format!("zxr{}", to.0));
        link::add_veth(&near, &far, Place::Namespace(self.server.as_fd()))?;
        let connect = |name: &str, address| {
            link::add_address(name, address, PREFIX)?;
            link::up(name)
        };
        self.at_server(|| Ok(connect(&far, to.server())?))?;
        Ok(connect(&near, to.host())?)
    }

    /// Runs `f` in the server's namespace; children that it starts stay there.
    ///
    /// # Errors
    /// Those of `f`; setns(2).
    pub fn at_server<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        netns::enter(&self.server)?;
        let done = f();
        netns::enter(&self.client)?;
        done
    }

    /// Tunes the server's namespace for Linux servers: a long accept queue, no SYN cookies. Answers what the kernel did
    /// not let us set (in a user namespace it may refuse).
    ///
    /// # Errors
    /// setns(2).
    pub fn tune(&self) -> Result<Vec<String>> {
        let set = |(name, value): (&str, &str)| {
            let done = std::fs::write(format!("/proc/sys/{name}"), value);
            done.err().map(|e| format!("{} stays as it is: {e}", name.replace('/', ".")))
        };
        self.at_server(|| Ok(TUNED.into_iter().filter_map(set).collect()))
    }
}

/// Readies a new namespace: its loopback, and Linux's usual congestion control. (A machine's own choice may be BBR, which
/// paces a connection of small requests by what it has seen of it, and adds milliseconds of its own to the tail.)
fn prepare() -> Result<()> {
    link::up("lo")?;
    // A namespace may choose among what the machine allows it; Reno is always allowed. If even that fails, the machine's
    // choice stays: it is the same for all stacks.
    let choose = |name| std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", name);
    let _ = choose("cubic").or_else(|_| choose("reno"));
    Ok(())
}

/// Moves into a new network namespace, by way of a user namespace if that takes one.
fn enter_own(who: &str) -> Result<bool> {
    match netns::unshare_net() {
        Ok(()) => Ok(false),
        Err(e) if e.is_permission() => {
            netns::unshare_user_net().with_context(|| {
                format!("{who} needs network namespaces, and neither root nor a user namespace is to be had (run it with sudo)")
            })?;
            Ok(true)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veth_pair_carries_a_connection_between_the_namespaces() {
        // In a thread of its own, which takes its namespaces with it.
        let done = std::thread::spawn(|| {
            if let Err(e) = netns::unshare_net() {
                eprintln!("SKIPPED a_veth_pair_carries_a_connection_between_the_namespaces: {e}");
                return;
            }
            let net = Net::build("the test").unwrap();
            let link = Link(7);
            net.veth(link).unwrap();
            assert_eq!(net.tune().unwrap(), [""; 0]);
            let listener = net.at_server(|| Ok(std::net::TcpListener::bind((link.server(), 0))?)).unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(from, client.local_addr().unwrap());
            assert_eq!(from.ip(), link.host());
        });
        done.join().unwrap();
    }
}
