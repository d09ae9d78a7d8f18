//! `zygix bench migrate`: flow groups that change cores under load (thesis table 2.5).

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use dataplane::{Assist, Sched};
use lab::kinds::migrate::{self, CONNECTIONS, Line, Measured};
use load::draw::parse_span;
use units::Nanos;

use crate::Usage;

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Seconds of random migrations; cores are removed and added for half as long
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// The load, as a share of what the server comes to in a closed loop
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = share)]
    pub(crate) load: f64,

    /// Only one way to schedule: ix or zygos
    #[arg(long, value_name = "NAME", value_parser = ["ix", "zygos"])]
    pub(crate) sched: Option<String>,

    /// The server's smallest retransmission timeout, such as 1s: longer than the machine takes a processor away
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) rto_min: Option<Nanos>,

    /// Write the result to FILE as one JSON object; the second way to schedule is in it as "zygos"
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.2..=3600.0).contains(s)).ok_or_else(|| "write seconds from 0.2 to 3600".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.01..=1.0).contains(s)).ok_or_else(|| "write a share from 0.01 to 1".into())
}

/// `zygix bench migrate`.
pub(crate) fn run(args: &Migrate) -> Result<()> {
    sys::stop::install();
    let cores = sys::thread::allowed_cores()?;
    if cores.len() < 2 {
        return Err(Usage("bench migrate needs two cores: flow groups have to go somewhere".into()).into());
    }
    let wanted = |name: &str| args.sched.as_deref().is_none_or(|s| s == name);
    let ways = [("ix", Sched::Ix), ("zygos", Sched::Zygos(Assist::Lend))];
    let mut all: Vec<Measured> = Vec::new();
    for (_, sched) in ways.into_iter().filter(|(name, _)| wanted(name)) {
        let measured = migrate::run(sched, &cores, Nanos((args.seconds * 1e9) as u64), args.load, args.rto_min)?;
        show(&measured);
        all.push(measured);
        if sys::stop::requested() {
            break;
        }
    }
    let Some(first) = all.first() else { return Ok(()) };
    if let Some(path) = &args.json {
        let mut object = first.object();
        if let (Some(second), Some(fields)) = (all.get(1), object.as_object_mut()) {
            fields.insert("zygos".into(), second.object());
        }
        let text = serde_json::to_string_pretty(&object)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if sys::stop::requested() {
        bail!("interrupted: these are the results so far");
    }
    match all.iter().map(|m| m.lost + m.reordered + m.duplicated).sum::<u64>() {
        0 => Ok(()),
        n => bail!("{n} requests or segments were lost, reordered or doubled"),
    }
}

fn show(m: &Measured) {
    let us = |t: Nanos| t.0 as f64 / 1e3;
    say(&format!(
        "{} on {} cores (emulated: no wire), {CONNECTIONS} connections, {:.0} of {:.0} requests/s ({:.0} %): p99 {:.0} us, without migrations {:.0} us",
        m.sched,
        m.cores,
        m.rate,
        m.capacity,
        m.load * 100.0,
        us(m.p99),
        us(m.p99_still)
    ));
    say(&format!(
        "{} requests answered; {} lost, {} reordered, {} duplicated",
        m.answered, m.lost, m.reordered, m.duplicated
    ));
    for (name, c) in [("with moves", &m.causes), ("without", &m.causes_still)] {
        let drops: String = c.drops.iter().map(|(reason, n)| format!(", {n} dropped: {reason}")).collect();
        say(&format!(
            "{name}: {} out of order, {} sent again, {} timeouts, {} went on before their turn{drops}",
            c.out_of_order, c.retransmits, c.timeouts, c.order_given_up
        ));
    }
    say(&format!("{:<10} {:>26} {:>26} {:>26}", "avg/p95/max", "random groups", "add a core", "remove a core"));
    let cell = |l: Line| format!("{:.0} / {:.0} / {:.0}", l.avg, l.p95, l.max);
    for (((name, random), (_, add)), (_, remove)) in
        m.random.lines().into_iter().zip(m.add.lines()).zip(m.remove.lines())
    {
        let unit = if name == "packets" { "" } else { ", us" };
        let [random, add, remove] = [random, add, remove].map(cell);
        say(&format!("{:<10} {random:>26} {add:>26} {remove:>26}", format!("{name}{unit}")));
    }
    say(&format!("{:<10} {:>26} {:>26} {:>26}\n", "moves", m.random.len(), m.add.len(), m.remove.len()));
}

/// A line on standard output. Whoever closed that has seen enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
