//! Judges a build: does it keep what the campaign checks, and how long do a few fixed worlds take? `cargo xtask mutations` runs it on the product, then on
//! builds of it that are broken on purpose.
//!
//! `judge SEEDS`: seeds 0 to SEEDS, then the worlds. One JSON object per line, as it comes:
//!
//! ```text
//!   {"begins":"seed 7"}
//!   {"ends":"seed 7"}
//!   {"broken":7,"what":"..."}                           the first that is; then nothing more, and the exit code is 1
//!   {"world":"...","seed":1,"p50":..,"p99":..,"mean":..,"steal_rate":..,"errors":..}        nanoseconds
//! ```

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use dataplane::{Assist, Sched};
use draw::ServiceTimes;
use serde_json::{Value, json};
use units::Nanos;
use world::{Costs, Setup, WorldError, campaign, measure};

/// Each world is run from this many seeds: how far they differ is what chance does.
const SEEDS: u64 = 3;

/// A world, its load, and how many requests.
type Fixed = (&'static str, Setup, f64, u64);

/// Loads at which queues form, in each way to assist; with handlers that go one at a time, and with short ones that share batches.
fn worlds(seed: u64) -> [Fixed; 7] {
    let us = Nanos::from_micros;
    let long = |assist, times| Setup { seed, ..Setup::new(4, Sched::Zygos(assist), times) };
    let cheap = Costs { rx_ns: 100, tx_ns: 100, ..Costs::thesis() };
    let short =
        |cores, sched| Setup { seed, costs: cheap.clone(), ..Setup::new(cores, sched, ServiceTimes::exp(us(1))) };
    [
        ("10 us, none", long(Assist::None, ServiceTimes::exp(us(10))), 0.6, 60_000),
        ("10 us, ipi", long(Assist::Ipi, ServiceTimes::exp(us(10))), 0.6, 60_000),
        ("10 us, lend", long(Assist::Lend, ServiceTimes::exp(us(10))), 0.6, 60_000),
        ("25 us bimodal-1, lend", long(Assist::Lend, ServiceTimes::bimodal1(us(25))), 0.7, 60_000),
        ("1 us, ix", short(4, Sched::Ix), 0.7, 60_000),
        ("1 us, lend", short(4, Sched::Zygos(Assist::Lend)), 0.7, 60_000),
        // More than they can do, so that what is ready waits for slips.
        ("1 us, lend, too much", short(2, Sched::Zygos(Assist::Lend)), 0.9, 60_000),
    ]
}

/// Says a line. Who does not listen any more has heard enough.
fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(2);
    }
}

/// Calls `each` with 0 to `n`, on all cores, until one answers false.
fn all(n: u64, each: impl Fn(u64) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !enough.load(Relaxed) {
            let i = next.fetch_add(1, Relaxed);
            if i >= n {
                return;
            }
            if !each(i) {
                enough.store(true, Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
}

/// The lowest broken seed below `seeds`: all that are lower were begun before it, and are waited for.
fn first_broken(seeds: u64) -> Option<(u64, WorldError)> {
    let broken = Mutex::new(Vec::new());
    all(seeds, |seed| {
        say(&json!({ "begins": format!("seed {seed}") }));
        let verdict = campaign::check(seed, None);
        say(&json!({ "ends": format!("seed {seed}") }));
        let held = verdict.is_ok();
        broken.lock().unwrap_or_else(|e| e.into_inner()).extend(verdict.err().map(|e| (seed, e)));
        held
    });
    broken.into_inner().unwrap_or_else(|e| e.into_inner()).into_iter().min_by_key(|(seed, _)| *seed)
}

/// Runs world `i % n` from seed `i / n`.
fn run(i: u64) {
    let seed = i % SEEDS + 1;
    let worlds = worlds(seed);
    let (name, setup, load, requests) = &worlds[(i / SEEDS) as usize];
    let label = format!("world {name}, seed {seed}");
    say(&json!({ "begins": label }));
    let mut rows = Vec::new();
    let end = measure(setup, &[*load], *requests, None, |row| {
        rows.push(row);
        true
    });
    say(&json!({ "ends": label }));
    match (end, rows.first()) {
        (Ok(()), Some(row)) => say(&json!({
            "world": name, "seed": seed, "p50": row.p50.0, "p99": row.p99.0, "mean": row.mean_ns, "steal_rate": row.steal_rate, "errors": row.errors,
        })),
        (end, _) => say(&json!({ "world": name, "seed": seed, "failed": format!("{end:?}") })),
    }
}

fn main() -> ExitCode {
    let Some(Ok(seeds)) = std::env::args().nth(1).map(|n| n.parse()) else {
        eprintln!("usage: judge SEEDS");
        return ExitCode::from(2);
    };
    if let Some((seed, why)) = first_broken(seeds) {
        say(&json!({ "broken": seed, "what": why.to_string() }));
        return ExitCode::FAILURE;
    }
    all(worlds(1).len() as u64 * SEEDS, |i| {
        run(i);
        true
    });
    ExitCode::SUCCESS
}
