//! A store on Linux and on Zygix over the same veth, with one client that is on AF_XDP itself and so costs little.
//!
//! ```text
//!   client, own stack: AF_XDP on zxl30 --- veth --- zxr30   memcached; our store on linux-partitioned     (198.18.30.2, the kernel's)
//!                                                   zxr30   our store on Zygix, AF_XDP                    (198.18.30.4)
//! ```
//!
//! Servers run one at a time, so that no program stands before a Linux server, and no client polls beside another. Each turn: the server starts
//! and gets its records; one connection for the unloaded latency; a hundred for the maximum at the objective, for the cost of a request there,
//! and at a load that is the same for all.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use load::search::SearchConfig;
use load::{Load, Pace, Spec, ZygixNet};
use report::{Column, Table};
use serde_json::json;
use units::Nanos;
use xdp::{XdpConfig, XdpNic};

use super::hunt::{Hunt, Runner, hunt};
use super::stacks::{SLO, Work};
use super::{Asked, Extent, Finding, alternate, finish, text, usr, went_through};
use crate::account::Cost;
use crate::measure;
use crate::net::{Link, PREFIX};
use crate::server::Server;
use crate::stack::{Serving, Stack};
use crate::stats::{Spread, paired};
use crate::{Contender, Lab};

const LINK: Link = Link(30);
/// Addresses on the link that are nobody's in Linux.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 30, 3);
const ZYGIX: Ipv4Addr = Ipv4Addr::new(198, 18, 30, 4);

const STACKS: [Stack; 3] = [Stack::Memcached, Stack::LinuxPartitioned, Stack::Zygix];

/// Connections, and requests outstanding on each.
const SHAPE: (u32, u32) = (100, 4);
/// The load at which costs are compared, as a share of what the slowest came to in a closed loop.
const EQUAL_SHARE: f64 = 0.5;
const PRECISION: f64 = 0.05;
const TRIES: u32 = 9;
/// Starting, storing and connecting, roughly, per turn.
const START: Nanos = Nanos::from_secs(4);

/// What was measured of a server in a round.
#[derive(Clone, Copy, Default)]
struct Round {
    unloaded_us: Option<f64>,
    max_rps: Option<f64>,
    /// Microseconds per request at equal load: all of it, its threads', the kernel's on the client's core.
    cost: Option<[f64; 3]>,
    /// Microseconds per request, all of it, at the highest load that it could bear at the objective.
    full_us: Option<f64>,
    /// At equal load, of ours: requests per turn that found any, and system calls made to transmit, per request.
    turns: Option<[f64; 2]>,
}

struct Side {
    stack: Stack,
    closed_rps: f64,
    rounds: Vec<Round>,
    errors: u64,
    skipped: Option<String>,
}

/// Lengths of windows.
#[derive(Clone, Copy)]
struct Lengths {
    unloaded: Nanos,
    step: Nanos,
    point: Nanos,
}

impl Lengths {
    fn of(asked: &Asked, extent: Extent) -> Lengths {
        let part = |share| extent.window(asked, share);
        Lengths { unloaded: part(0.4), step: part(0.4), point: part(1.0) }
    }

    fn turn(self) -> Nanos {
        let search = Lab::takes(self.step).0 * u64::from(TRIES);
        Nanos(START.0 + Lab::takes(self.unloaded).0 + search + 2 * Lab::takes(self.point).0)
    }
}

/// Runs the bench.
///
/// # Errors
/// AF_XDP is refused here; no server starts. One that does not, or fails later, is left out with a note.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent) -> Result<Finding> {
    lab.net.veth(LINK)?;
    let side = |&stack| Side { stack, closed_rps: 0.0, rounds: Vec::new(), errors: 0, skipped: None };
    let mut sides: Vec<Side> = STACKS.iter().map(side).collect();
    let (lengths, rounds) = (Lengths::of(asked, extent), extent.rounds(asked));
    let turns = u64::from(rounds + 1) * sides.len() as u64;
    lab.progress.plan(Nanos(lengths.turn().0 * turns));
    let measured = all(lab, asked, lengths, rounds, &mut sides);
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "xdp", "A store over AF_XDP and over Linux", asked, &[], through)?;
    let skipped = sides.iter().filter_map(|s| Some(format!("{}: {}", s.stack.name(), s.skipped.as_ref()?)));
    document.notes.extend(skipped);
    document.notes.push(format!(
        "USR on {} records, {} connections with {} requests outstanding each, Poisson arrivals; the client's own stack is on AF_XDP in every \
         row. Server time is that of decision 0005: the server's threads, and softirqs on the client's core, where a send over veth \
         runs the server's receive path.",
        asked.records, SHAPE.0, SHAPE.1
    ));
    document.notes.extend(sides.iter().filter_map(small_batches));
    let tables = vec![figures(&sides), ratios(&sides)];
    let text = tables.iter().map(text).collect::<Vec<_>>().join("\n");
    document.tables = tables;
    let errors = sides.iter().map(|s| s.errors).sum();
    Ok(Finding { document, text, errors, interrupted: !through })
}

fn all(lab: &mut Lab, asked: &Asked, lengths: Lengths, rounds: u32, sides: &mut [Side]) -> Result<()> {
    // The first turn of all: where to look, and what load all can bear.
    for side in sides.iter_mut() {
        let closed = (|| -> Result<f64> {
            let mut runner = open(lab, side.stack, asked, SHAPE)?;
            runner.load.preload().map_err(measure::refusal)?;
            Ok(runner.window(lab, Pace::Closed, lengths.step)?.outcome.achieved_rps())
        })();
        match closed {
            Ok(rps) => side.closed_rps = rps,
            Err(e) if e.is::<crate::Interrupted>() => return Err(e),
            Err(e) => {
                lab.progress.warn(&format!("SKIPPED {}: {e:#}", side.stack.name()));
                side.skipped = Some(format!("{e:#}"));
            }
        }
    }
    let lowest = sides.iter().filter(|s| s.closed_rps > 0.0).map(|s| s.closed_rps).min_by(f64::total_cmp);
    let equal = lowest.context("nothing could be measured")? * EQUAL_SHARE;
    for round in 0..rounds {
        lab.progress.part(&format!("round {} of {rounds}", round + 1));
        for i in alternate(sides.len(), round) {
            if sides[i].skipped.is_none() {
                turn(lab, asked, lengths, equal, &mut sides[i])?;
            }
        }
    }
    Ok(())
}

/// One turn of one server.
fn turn(lab: &mut Lab, asked: &Asked, lengths: Lengths, equal: f64, side: &mut Side) -> Result<()> {
    let mut round = Round::default();
    let mut runner = open(lab, side.stack, asked, (1, 1))?;
    runner.load.preload().map_err(measure::refusal)?;
    let point = runner.window(lab, Pace::Closed, lengths.unloaded)?;
    side.errors += point.outcome.errors.total();
    round.unloaded_us = Some(point.outcome.quantile(0.5).0 as f64 / 1e3);
    let Runner { server, load, .. } = runner;
    drop(load);
    let load = client(lab, &server, asked, SHAPE)?;
    let mut runner = Runner::new(server, load);
    let config = SearchConfig {
        start: Some(side.closed_rps * 0.75),
        precision: PRECISION,
        tries: TRIES,
        ..SearchConfig::new(SLO, side.closed_rps * 0.02, side.closed_rps * 2.0)
    };
    let deadline = sys::clock::now() + lengths.turn();
    let how = Hunt { pace: &|rate| Work::Usr.pace(rate), step: lengths.step, deadline };
    let hunted = hunt(lab, &mut [&mut runner], vec![config], &[0], &how)?;
    round.max_rps = hunted.iter().find_map(|h| h.found.max_rps);
    side.errors += hunted.iter().flat_map(|h| &h.tried).map(|t| t.wrong).sum::<u64>();
    if let Some(rate) = round.max_rps {
        lab.progress.say(&format!("{} at its highest load", side.stack.name()));
        let point = runner.window(lab, Work::Usr.pace(rate), lengths.point)?;
        side.errors += point.outcome.errors.total();
        round.full_us = Some(point.cost.total());
    }
    lab.progress.say(&format!("{} at {equal:.0} requests/s, as all", side.stack.name()));
    const COUNTED: [&str; 2] = ["turns_busy", "nic.tx_calls"];
    let before = runner.server.server.counters(COUNTED)?;
    let point = runner.window(lab, Work::Usr.pace(equal), lengths.point)?;
    let after = runner.server.server.counters(COUNTED)?;
    let requests = point.cost.requests as f64;
    round.turns = before.zip(after).filter(|(b, a)| a[0] > b[0]).map(|([turns, calls], [more_turns, more_calls])| {
        [requests / (more_turns - turns) as f64, (more_calls - calls) as f64 / requests.max(1.0)]
    });
    side.errors += point.outcome.errors.total();
    let each = |c: &Cost| [c.total(), c.per_request(c.threads), c.per_request(c.kernel)];
    round.cost = Some(each(&point.cost));
    side.rounds.push(round);
    Ok(())
}

/// Starts a server, and a client of so many connections and requests outstanding.
fn open(lab: &mut Lab, stack: Stack, asked: &Asked, shape: (u32, u32)) -> Result<Runner> {
    let cores = vec![lab.accounting.server_core];
    let serving = Serving { stack, app: "kv", link: LINK, cores, more: Vec::new() };
    let server = match stack {
        Stack::Zygix => lab.net.at_server(|| Server::ours("zygix", "kv", &arguments(&serving)))?,
        _ => serving.start(&lab.net)?,
    };
    let server = Contender { serving, server };
    let load = client(lab, &server, asked, shape)?;
    Ok(Runner::new(server, load))
}

fn arguments(serving: &Serving) -> Vec<String> {
    let (port, core) = (serving.addr().port(), serving.cores[0]);
    let line = format!("--nic xdp:zxr{} --addr {ZYGIX}/{PREFIX} -p {port} -t 1 --pin {core} -c 4096 -m 1024", LINK.0);
    line.split_whitespace().map(str::to_owned).collect()
}

fn client(lab: &Lab, to: &Contender, asked: &Asked, (connections, depth): (u32, u32)) -> Result<Load> {
    let mut target = to.serving.addr();
    if to.serving.stack == Stack::Zygix {
        target.set_ip(IpAddr::V4(ZYGIX));
    }
    let nic = XdpNic::open(&XdpConfig::new(format!("zxl{}", LINK.0), 1, vec![CLIENT.into()]))?;
    let net = ZygixNet { mac: nic.mac(), ip: CLIENT.into(), prefix: PREFIX };
    let spec = Spec { connections, depth, ..Spec::new(usr(asked.records), target) };
    Load::zygix(&spec, &lab.place(), nic, net).map_err(measure::refusal)
}

/// How large the batches were in which a side of ours handled the equal load: what a turn costs is divided by that.
fn small_batches(side: &Side) -> Option<String> {
    let median = |which: usize| Spread::of(side.rounds.iter().filter_map(|r| Some(r.turns?[which]))).map(|s| s.median);
    let (batch, calls) = (median(0)?, median(1)?);
    let name = side.stack.name();
    Some(format!(
        "{name} at the equal load: {batch:.2} requests a turn, {calls:.2} transmit calls a request (medians of the rounds)."
    ))
}

/// A figure of each round of a side.
fn each(side: &Side, figure: impl Fn(&Round) -> Option<f64>) -> Vec<Option<f64>> {
    side.rounds.iter().map(figure).collect()
}

type Figure = fn(&Round) -> Option<f64>;
const FIGURES: [(&str, &str, Figure); 6] = [
    ("requests at p99 <= 500 us", "1/s", |r| r.max_rps),
    ("server time at that load", "us", |r| r.full_us),
    ("server time at equal load", "us", |r| r.cost.map(|c| c[0])),
    ("its threads", "us", |r| r.cost.map(|c| c[1])),
    ("softirqs", "us", |r| r.cost.map(|c| c[2])),
    ("unloaded p50", "us", |r| r.unloaded_us),
];

fn figures(sides: &[Side]) -> Table {
    let mut columns = vec![Column::text("server")];
    for (name, unit, _) in FIGURES {
        columns.extend([Column::number(name, unit), Column::text("low to high")]);
    }
    let row = |side: &Side| {
        let mut row = vec![json!(side.stack.name())];
        for (_, _, figure) in FIGURES {
            let spread = Spread::of(each(side, figure).into_iter().flatten());
            row.push(json!(spread.map(|s| s.median)));
            row.push(json!(spread.map_or(String::new(), |s| format!("{} to {}", short(s.low), short(s.high)))));
        }
        row
    };
    Table {
        id: "xdp".into(),
        title: "One core, one veth, one client on AF_XDP".into(),
        caption: "Medians of the rounds. Server time per request: threads and softirqs; at the highest load of each, and at one load for all, half of what the slowest came to in a closed loop, \
                  where batches are small.".into(),
        columns,
        rows: sides.iter().filter(|s| !s.rounds.is_empty()).map(row).collect(),
    }
}

/// Four digits are enough.
fn short(value: f64) -> f64 {
    if value >= 1000.0 { value.round() } else { (value * 100.0).round() / 100.0 }
}

/// Zygix against each of the others, round by round.
fn ratios(sides: &[Side]) -> Table {
    let zygix = sides.iter().find(|s| s.stack == Stack::Zygix);
    let against = |side: &Side| {
        let zygix = zygix?;
        let ratio = |figure: Figure, more: bool| {
            let (ours, theirs) = (each(zygix, figure), each(side, figure));
            paired(if more { &ours } else { &theirs }, if more { &theirs } else { &ours }).map(|s| s.median)
        };
        let [max, full, cost, _, _, unloaded] = FIGURES.map(|f| f.2);
        Some(vec![
            json!(side.stack.name()),
            json!(ratio(max, true)),
            json!(ratio(full, false)),
            json!(ratio(cost, false)),
            json!(ratio(unloaded, false)),
        ])
    };
    Table {
        id: "ratios".into(),
        title: "Zygix, times better".into(),
        caption: "Medians of the ratios of each round.".into(),
        columns: vec![
            Column::text("than"),
            Column::number("throughput", "").decimals(2),
            Column::number("server time, highest load", "").decimals(2),
            Column::number("server time, equal load", "").decimals(2),
            Column::number("unloaded p50", "").decimals(2),
        ],
        rows: sides.iter().filter(|s| s.stack != Stack::Zygix).filter_map(against).collect(),
    }
}
