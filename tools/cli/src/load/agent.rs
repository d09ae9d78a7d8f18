use std::io::Write;

use load::Place;

use super::args::{self, AGENT_PORT};
use super::plan::{check_pins, resolve};

/// `zygix load agent`: until a signal ends it.
pub(crate) fn run(args: &args::Agent) -> anyhow::Result<()> {
    let addr = resolve(&args.listen, AGENT_PORT).or_else(|e| match args.listen.parse() {
        // Any port that is free: of use to those who read it off the next line.
        Ok(any) => Ok(any),
        Err(_) => Err(e),
    })?;
    let cores = args.pin.clone().unwrap_or_default();
    let spin = args.spin || (!args.no_spin && check_pins(&cores)? > 1);
    sys::limit::raise_open_files()?;
    sys::stop::install();
    let agent = fleet::Agent::bind(addr)?;
    say(&format!("agent {} at {}; Ctrl-C ends it", fleet::VERSION, agent.addr()));
    if !addr.ip().is_loopback() {
        say("whoever can reach this address can have it send load anywhere");
    }
    agent.serve(&sys::stop::requested, &Place { cores: cores.0, spin }, &say)?;
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
