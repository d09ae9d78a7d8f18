//! `zygix demo`: the same key-value store on both stacks, the same load, in turn; a table at the end.
//!
//! | file | what |
//! |---|---|
//! | `net.rs` | namespaces and links, which end with the process |
//! | `child.rs` | a server process |
//! | `account.rs` | what a request costs the server |
//! | `bench.rs` | slices of load, in alternation; what they came to |
//! | `report.rs` | the table, the JSON object |

mod account;
mod bench;
mod child;
mod net;
mod report;

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use units::Nanos;

use account::{Accounting, Billing};
use bench::{Bench, Plan};
use child::Server;
use net::Net;

use crate::args::Demo;

/// The port that both servers listen on.
const PORT: u16 = 11211;

/// `zygix demo`.
pub(crate) fn run(demo: &Demo) -> Result<()> {
    sys::stop::install();
    let result = measure(demo);
    if let Some(path) = &demo.json {
        let object = match &result {
            Ok(result) => result.json(),
            Err(e) => json!({ "ok": false, "errors": 0, "error": format!("{e:#}") }),
        };
        write_json(path, &object)?;
    }
    let result = result?;
    println!("{}", result.table());
    match result.errors() {
        0 => Ok(()),
        n => bail!("{n} errors: see the table"),
    }
}

fn write_json(path: &Path, object: &Value) -> Result<()> {
    std::fs::write(path, format!("{object:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}

fn measure(demo: &Demo) -> Result<report::Outcome> {
    let progress = Progress::new();
    progress.say("setting up");
    let cores = sys::thread::allowed_cores()?;
    // Namespaces before the first thread: a user namespace takes a process of one thread.
    let net = Net::build(demo.null)?;
    let (load_core, server_core) = choose(&cores);
    let accounting = Accounting { load_core, server_core, billing: Billing::detect()? };

    let linux = net.at_server(|| start_linux("linux", net::LINUX, server_core))?;
    let zygix = if demo.null {
        net.at_server(|| start_linux("second linux", net::ZYGIX, server_core))?
    } else {
        start_zygix(server_core)?
    };
    let ready = [zygix.ready.clone(), linux.ready.clone()];
    let plan = Plan::new(Nanos::from_secs(demo.seconds.into()));
    let mut bench = Bench::new(plan, accounting, [zygix, linux], demo)?;
    let rounds = bench.run(&progress)?;
    progress.say("ending");
    bench.end()?;
    progress.clear();
    Ok(report::Outcome {
        rounds,
        plan,
        accounting,
        ready,
        unprivileged: net.unprivileged,
        null: demo.null,
        connections: demo.connections,
        depth: demo.depth,
    })
}

/// A core for the load and one for the servers: the first two that do not share a core's execution units, if there are such.
fn choose(cores: &[usize]) -> (usize, usize) {
    let load = cores.first().copied().unwrap_or(0);
    let siblings = siblings(load);
    let other = cores.iter().skip(1).find(|c| !siblings.contains(c)).or(cores.get(1));
    (load, other.copied().unwrap_or(load))
}

/// Hardware threads of the same core.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.trim().parse::<crate::values::Cores>().map(|c| c.0).unwrap_or_default()
}

fn start_linux(name: &'static str, address: std::net::Ipv4Addr, core: usize) -> Result<Server> {
    let args = format!("--stack linux-partitioned -l {address} -p {PORT} --pin {core}");
    Server::start(name, &words(&args))
}

fn start_zygix(core: usize) -> Result<Server> {
    let (tap, addr, host, prefix) = (net::TAP, net::ZYGIX, net::TAP_HOST, net::PREFIX);
    let args = format!("--nic tap:{tap} --addr {addr}/{prefix} --host-addr {host}/{prefix} -p {PORT} --pin {core}");
    Server::start("zygix", &words(&args))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// One line on standard error that says what is going on: rewritten on a terminal, else one line per step.
pub(crate) struct Progress {
    terminal: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal() }
    }

    /// Says what is going on now.
    pub(crate) fn say(&self, what: &str) {
        let mut err = std::io::stderr().lock();
        let _ = if self.terminal {
            write!(err, "\r\x1b[Kdemo: {what} ...").and_then(|()| err.flush())
        } else {
            writeln!(err, "demo: {what}")
        };
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_and_the_servers_share_a_core_only_if_there_is_one() {
        assert_eq!(choose(&[5]), (5, 5));
        let (load, server) = choose(&sys::thread::allowed_cores().unwrap());
        assert_eq!(load == server, sys::thread::allowed_cores().unwrap().len() == 1);
    }
}
