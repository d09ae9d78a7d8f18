//! SYNs that nobody stands by, beside 100 connections that are served: `flood [SYNS-PER-REQUEST] [SECONDS] [PORTS]`.
//!
//! PORTS: 2 (unless said), and those that flood are behind a port of their own, as at a switch; 1, and all stand in one line.

use std::time::Duration;

use bench::{FloodConfig, flood};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arg = |n, or: &str| std::env::args().nth(n).unwrap_or_else(|| or.to_owned());
    let (syns, seconds): (usize, f64) = (arg(1, "1").parse()?, arg(2, "2").parse()?);
    let ports: u16 = arg(3, "2").parse()?;
    let cores = sys::thread::allowed_cores()?;
    let [server, client, ..] = cores[..] else { return Err("two cores are needed".into()) };
    let span = Duration::from_secs_f64(seconds.clamp(0.1, 60.0));
    let r = flood(&FloodConfig {
        conns: 100,
        syns: syns.clamp(1, 1000),
        ports: ports.clamp(1, 2),
        span,
        pin: [server, client],
    })?;
    let [calm, flooded] = r.rps;
    println!("requests/s  {calm:.0} without, {flooded:.0} with the flood: {:.0} %", 100.0 * flooded / calm);
    println!("server busy {:.0} % of the time without, {:.0} % with the flood", 100.0 * r.busy[0], 100.0 * r.busy[1]);
    println!("SYNs/s      {:.0} taken, {:.0} answered", r.syns[0], r.syns[1]);
    println!("late        {} of {} connections opened during the flood", r.late[1], r.late[0]);
    println!("memory      {:.1} KB more, {} errors", r.grown / 1024.0, r.errors);
    Ok(())
}
