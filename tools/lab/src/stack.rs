//! How a server of each stack is started, tuned the same way everywhere.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::net::{Link, Net, PREFIX};
use crate::server::Server;

/// The stacks that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stack {
    /// Debian's memcached: someone else's store on Linux sockets.
    Memcached,
    /// Our application on Linux sockets, an epoll loop per thread.
    LinuxPartitioned,
    /// The same, one pool of connections for all threads.
    LinuxFloating,
    /// Our application on our stack.
    Zygix,
}

impl Stack {
    /// All of them. The one that ratios refer to, linux-partitioned, stands beside those that it is compared with.
    pub const ALL: [Stack; 4] = [Stack::Memcached, Stack::LinuxPartitioned, Stack::LinuxFloating, Stack::Zygix];

    /// What it is called everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Stack::Memcached => "memcached",
            Stack::LinuxPartitioned => "linux-partitioned",
            Stack::LinuxFloating => "linux-floating",
            Stack::Zygix => "zygix",
        }
    }

    /// The wire to the Linux client.
    pub const fn wire(self) -> &'static str {
        match self {
            Stack::Zygix => "tap",
            _ => "veth",
        }
    }
}

/// A server to be started.
#[derive(Clone, Debug)]
pub struct Serving {
    /// On what.
    pub stack: Stack,
    /// `kv`, `echo` or `spin`.
    pub app: &'static str,
    /// Where: each server has a link of its own.
    pub link: Link,
    /// The cores that its threads are pinned to, one thread each.
    pub cores: Vec<usize>,
    /// More arguments of `zygix serve APP`, for ours.
    pub more: Vec<String>,
}

/// The port that every server listens on: each has an address of its own.
const PORT: u16 = 11211;

/// Connections that a server is ready for.
const CONNECTIONS: u32 = 4096;

/// Memory of a store, in megabytes.
const MEMORY: u32 = 1024;

impl Serving {
    /// Where it will listen.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((self.link.server(), PORT))
    }

    /// Starts it, in the namespace where it belongs. The link of a Linux server must be there.
    ///
    /// # Errors
    /// Its own complaint, in a line.
    pub fn start(&self, net: &Net) -> Result<Server> {
        match self.stack {
            Stack::Zygix => Server::ours(self.stack.name(), self.app, &self.arguments()),
            Stack::LinuxPartitioned | Stack::LinuxFloating => {
                net.at_server(|| Server::ours(self.stack.name(), self.app, &self.arguments()))
            }
            Stack::Memcached => net.at_server(|| Server::others("memcached", self.memcached()?, self.addr())),
        }
    }

    /// The arguments of `zygix serve APP`.
    fn arguments(&self) -> Vec<String> {
        let (link, cores) = (self.link, list(&self.cores));
        let mut line = match self.stack {
            Stack::Zygix => {
                let (addr, host) = (link.server(), link.host());
                format!("--nic tap:{} --addr {addr}/{PREFIX} --host-addr {host}/{PREFIX}", link.tap())
            }
            // Locked in memory, no huge pages behind its back.
            stack => format!("--stack {} -l {} --tuned", stack.name(), link.server()),
        };
        line += &format!(" -p {PORT} -t {} --pin {cores} -c {CONNECTIONS}", self.cores.len());
        if self.app == "kv" {
            line += &format!(" -m {MEMORY}");
        }
        line.split_whitespace().map(str::to_owned).chain(self.more.iter().cloned()).collect()
    }

    /// memcached, pinned whole, as many workers as cores. Its hash table has its final size (hashpower 20, as in the
    /// thesis), and no thread that only keeps house is started, so that the cores are the workers'.
    fn memcached(&self) -> Result<Command> {
        let program = memcached().context("memcached is not installed (apt install memcached)")?;
        let mut command = Command::new("taskset");
        command.args(["-c", &list(&self.cores)]);
        if in_path("setpriv").is_some() {
            // It ends with us, however we end.
            command.args(["setpriv", "--pdeathsig", "KILL"]);
        }
        let addr = self.addr();
        let quiet = "hashpower=20,no_hashexpand,no_lru_crawler,no_lru_maintainer,no_slab_reassign";
        command.arg(program);
        command.args(["-u", "root", "-U", "0", "-l", &addr.ip().to_string(), "-p", &addr.port().to_string()]);
        command.args(["-t", &self.cores.len().to_string(), "-m", &MEMORY.to_string(), "-c", &CONNECTIONS.to_string()]);
        command.args(["-o", quiet]);
        Ok(command)
    }
}

/// Where memcached is, if it is installed.
pub fn memcached() -> Option<PathBuf> {
    in_path("memcached")
}

/// Its version in its own words (`memcached 1.6.18`), for the record.
pub fn memcached_version() -> Option<String> {
    let said = Command::new(memcached()?).arg("-V").output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned()).filter(|s| !s.is_empty())
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.is_file())
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stack: Stack, app: &'static str) -> String {
        let serving =
            Serving { stack, app, link: Link(3), cores: vec![1, 2], more: vec!["--batch".into(), "1".into()] };
        serving.arguments().join(" ")
    }

    #[test]
    fn each_stack_is_started_in_its_own_way() {
        assert_eq!(
            line(Stack::Zygix, "echo"),
            "--nic tap:zx3 --addr 198.18.3.2/24 --host-addr 198.18.3.1/24 -p 11211 -t 2 --pin 1,2 -c 4096 --batch 1"
        );
        assert_eq!(
            line(Stack::LinuxFloating, "kv"),
            "--stack linux-floating -l 198.18.3.2 --tuned -p 11211 -t 2 --pin 1,2 -c 4096 -m 1024 --batch 1"
        );
    }
}
