//! `zygix demo`: the same key-value store on both stacks, the same load, in turn; a table at the end.
//!
//! | file | what |
//! |---|---|
//! | `bench.rs` | slices of load, in alternation; what they came to |
//! | `report.rs` | the table, the JSON object |
//!
//! Namespaces, processes and the accounting are the crate `lab`'s.

mod bench;
mod report;

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use units::Nanos;

use bench::{Bench, Plan};
use lab::account::Accounting;
use lab::net::{Link, Net, PREFIX};
use lab::server::Server;

use crate::args::Demo;

/// The port that both servers listen on.
const PORT: u16 = 11211;

/// The TAP, with Zygix at its other end.
const ZYGIX: Link = Link(0);
/// The veth pair, with the Linux server.
const LINUX: Link = Link(1);

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
    // Namespaces before the first thread: a user namespace takes a process of one thread.
    let net = Net::build("the demo")?;
    let accounting = Accounting::here()?;
    let core = accounting.server_core;

    let linux = start_linux(&net, "linux", LINUX, core)?;
    let zygix = if demo.null { start_linux(&net, "second linux", ZYGIX, core)? } else { start_zygix(core)? };
    let ready = [zygix.ready.clone(), linux.ready.clone()];
    let plan = Plan::new(Nanos::from_secs(demo.seconds.into()));
    let mut bench = Bench::new(plan.clone(), accounting, [zygix, linux], demo)?;
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

/// A Linux server at the far end of a veth pair that is made for it.
fn start_linux(net: &Net, name: &str, link: Link, core: usize) -> Result<Server> {
    net.veth(link)?;
    let args = format!("--stack linux-partitioned -l {} -p {PORT} --pin {core}", link.server());
    net.at_server(|| Server::ours(name, "kv", &words(&args)))
}

fn start_zygix(core: usize) -> Result<Server> {
    let (tap, addr, host) = (ZYGIX.tap(), ZYGIX.server(), ZYGIX.host());
    let args = format!("--nic tap:{tap} --addr {addr}/{PREFIX} --host-addr {host}/{PREFIX} -p {PORT} --pin {core}");
    Server::ours("zygix", "kv", &words(&args))
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
