//! The one binary: `zygix serve` runs an application, `zygix demo` shows what that is worth.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `values.rs` | sizes, addresses, lists of cores, NICs as they are written there |
//! | `serve.rs` | `serve`: an application on a stack |
//! | `serve_zygix.rs` | ... on the dataplane |
//! | `ping.rs` | `ping`: a client on an shm wire |
//! | `control.rs` | a server's ready line, its counters, its end |
//! | `demo/` | `demo`: two servers, one load, a table |
//!
//! Exit codes: 0 done, 1 failed, 2 the command line makes no sense.
#![forbid(unsafe_code)]

mod args;
mod control;
mod demo;
mod ping;
mod serve;
mod serve_zygix;
mod values;

use std::fmt;
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
        Command::Ping(ping) => ping::run(&ping),
        Command::Demo(demo) => demo::run(&demo),
    };
    let Err(e) = done else { return ExitCode::SUCCESS };
    eprintln!("zygix: {}", one_line(&e));
    ExitCode::from(if e.is::<Usage>() { 2 } else { 1 })
}

/// The error and its causes on one line.
fn one_line(e: &anyhow::Error) -> String {
    format!("{e:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
