//! The one binary: `zygix serve` runs an application, `zygix demo` shows what that is worth.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `values.rs` | sizes, addresses, lists of cores, NICs as they are written there |
//! | `serve.rs` | `serve`: an application on a stack |
//! | `serve_zygix.rs` | ... on the dataplane |
//! | `load/` | `load`: load on a server; agents that make it |
//! | `control.rs` | a server's ready line, its counters, its end |
//! | `cp.rs` | `cp`: the control plane (crate `ixcp`) |
//! | `top/` | `top`: a terminal's view of it |
//! | `ctl/` | `ctl`: commands for running dataplanes, and what they say of themselves |
//! | `demo/` | `demo`: two servers, one load, a table |
//! | `bench.rs`, `bench_args.rs` | `bench`: stacks side by side (crate `lab`) |
//! | `connections.rs` | `bench connections`: what very many connections cost |
//! | `migrate.rs` | `bench migrate`: flow groups that change cores under load |
//! | `link.rs` | `bench link`: two interfaces joined by a link with faults |
//! | `energy.rs`, `energy/` | `bench energy`: the control plane's policies, simulated |
//! | `pareto/` | `pareto`: configurations that are worth having, measured or modelled |
//! | `sim/` | `sim`: models |
//! | `report.rs` | `report`: a page of results |
//!
//! Exit codes: 0 done, 1 failed, 2 the command line makes no sense; `load` has more of them.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod bench_args;
mod connections;
mod control;
mod cp;
mod ctl;
mod demo;
mod energy;
mod link;
mod load;
mod migrate;
mod pareto;
mod report;
mod serve;
mod serve_zygix;
mod sim;
mod top;
mod values;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

/// A command line that was understood and cannot be meant: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    // Prints help and complaints itself, and ends with code 2.
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Load(load) => crate::load::run(&load),
        Command::Demo(demo) => demo::run(&demo),
        Command::Bench(bench) => crate::bench::run(&bench),
        Command::Sim(sim) => crate::sim::run(&sim),
        Command::Pareto(args) => pareto::run(&args),
        Command::Report(report) => crate::report::run(&report),
        Command::Ctl(ctl) => crate::ctl::run(&ctl),
        Command::Cp(cp) => crate::cp::run(&cp),
        Command::Top(top) => crate::top::run(&top),
    };
    let Err(e) = done else { return ExitCode::SUCCESS };
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "zygix: {}", one_line(&e));
    match e.downcast_ref::<load::Verdict>() {
        Some(verdict) => ExitCode::from(verdict.code),
        None => ExitCode::from(if e.is::<Usage>() { 2 } else { 1 }),
    }
}

/// The error and its causes on one line.
fn one_line(e: &anyhow::Error) -> String {
    format!("{e:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
