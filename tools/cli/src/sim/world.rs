use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use load::draw::ServiceTimes;
use queueing::{Effort, Policy, Question, System, Watch};
use serde_json::json;
use units::Nanos;
use world::{Costs, Found, Row, Setup, Trace, WorldError, campaign};

use super::queueing::bar;
use super::world_args::{Campaign, World};

/// A line on standard output. Whoever closed that has seen enough.
macro_rules! say {
    ($($what:tt)*) => {
        let _ = writeln!(std::io::stdout().lock(), $($what)*);
    };
}

/// How closely a highest load is sought, as a share.
const PRECISION: f64 = 0.003;
/// How closely the bounds are, which have no cost.
const BOUND_PRECISION: f64 = 0.001;
/// Shares of the highest load at which steals are counted; the peak is between.
const SWEEP: [f64; 9] = [0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Lines of the trace of a seed.
const LINES: u64 = 10_000_000;

/// `zygix sim world`.
pub(super) fn run(args: &World) -> Result<()> {
    sys::stop::install();
    let costs = args.costs.costs()?;
    if let Some(lost) = args.lost.filter(|lost| *lost >= args.n) {
        return Err(crate::Usage(format!("--lost {lost}: cores are 0 to {}", args.n - 1)).into());
    }
    if args.conns.len() > 1 && args.think.is_none() {
        return Err(crate::Usage("--conns: several numbers only with --think".into()).into());
    }
    let began = Instant::now();
    let bar = bar();
    let result = match &args.think {
        Some(think) => closed(args, think, &costs, bar.as_ref()),
        None if args.load.is_empty() => highest(args, &costs, bar.as_ref()),
        None => at(args, &costs, bar.as_ref()),
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let mut object = match result {
        Err(_) if sys::stop::requested() => bail!("interrupted: no world had come to its end"),
        result => result?,
    };
    for (key, value) in [
        ("n", json!(args.n)),
        ("s_us", json!(args.s)),
        ("dist", json!(args.dist.name)),
        ("sched", json!(args.setup(costs.clone(), 0).sched.to_string())),
        ("batch", json!(args.batch)),
        ("slo", json!(args.slo)),
        ("costs", json!(costs)),
        ("seed", json!(args.seed)),
        ("repeats", json!(args.repeats)),
        ("seconds", json!(began.elapsed().as_secs_f64())),
        ("commit", json!(report::commit())),
        ("command", json!(crate::bench::command_line())),
    ] {
        object[key] = value;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&object)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Does `what` for each seed, on all cores; what came of it in their order.
fn each_seed<R: Send>(
    args: &World,
    costs: &Costs,
    what: impl Fn(Setup) -> Result<R, WorldError> + Sync,
) -> Result<Vec<R>> {
    let (next, results) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = sys::thread::allowed_cores().map_or(1, |c| c.len()).min(usize::from(args.repeats));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Relaxed);
                    if nth >= u64::from(args.repeats) {
                        return;
                    }
                    let result = what(args.setup(costs.clone(), nth));
                    results.lock().unwrap_or_else(|e| e.into_inner()).push((nth, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    results.sort_by_key(|(nth, _)| *nth);
    Ok(results.into_iter().map(|(_, r)| r).collect::<Result<_, _>>()?)
}

/// The highest load at the objective.
fn highest(args: &World, costs: &Costs, bar: Option<&ProgressBar>) -> Result<serde_json::Value> {
    let tried = |row: &Row| {
        if let Some(bar) = bar {
            bar.set_message(format!("load {:.3}: p99 {:.1} S", row.load, row.p99.0 as f64 / (args.s * 1e3)));
            bar.inc(1);
        }
    };
    let found = each_seed(args, costs, |setup| {
        let found = world::max_load(&setup, args.slo, PRECISION, args.requests, tried)?;
        let loads = SWEEP.map(|share| share * found.max_load).to_vec();
        let mut sweep = Vec::new();
        if found.max_load > 0.0 {
            world::measure(&setup, &loads, args.requests / 2, None, |row| {
                tried(&row);
                sweep.push(row);
                true
            })?;
        }
        Ok((found, sweep))
    })?;
    let max_load = mean(found.iter().map(|(f, _)| f.max_load));
    let peaks = found.iter().filter_map(|(f, sweep)| peak(f, sweep));
    let (rates, places): (Vec<f64>, Vec<f64>) = peaks.unzip();
    let (rate, place) = (mean(rates.iter().copied()), mean(places.iter().copied()));
    let bound = |policy| {
        let system = System::new(usize::from(args.n), policy, args.dist.times.clone());
        let effort = Effort { seed: args.seed, ..Effort::default() };
        let question = Question { precision: BOUND_PRECISION, effort, ..Question::p99(system, args.slo) };
        queueing::max_load(&question, &Watch::new(sys::stop::requested)).map(|answer| answer.max_load)
    };
    let (central, partitioned) = (bound(Policy::Central), bound(Policy::Partitioned));
    let share = |of: Option<f64>| of.filter(|of| *of > 0.0).map(|of| max_load / of);
    let ci95 = half_width(&found.iter().map(|(f, _)| f.max_load).collect::<Vec<_>>());
    let percent = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
    say!(
        "highest load with p99 <= {} S   {}{}",
        args.slo,
        percent(Some(max_load)),
        ci95.map_or(String::new(), |c| format!(" +- {:.1}", 100.0 * c))
    );
    say!("of the central bound           {}   ({})", percent(share(central)), percent(central));
    say!("of the partitioned bound       {}   ({})", percent(share(partitioned)), percent(partitioned));
    say!("most steals                    {:.1} per 100 requests, at a load of {:.1} %", 100.0 * rate, 100.0 * place);
    Ok(json!({
        "max_load": max_load,
        "ci95": ci95,
        "share_of_central": share(central),
        "share_of_partitioned": share(partitioned),
        "central": central,
        "partitioned": partitioned,
        "steal_rate_peak": rate,
        "steal_rate_peak_load": place,
        "tried": found.iter().map(|(f, _)| rows(args, &f.rows)).collect::<Vec<_>>(),
        "sweep": found.iter().map(|(_, sweep)| rows(args, sweep)).collect::<Vec<_>>(),
    }))
}

/// Where steals per request are most, among loads that keep the objective.
fn peak(found: &Found, sweep: &[Row]) -> Option<(f64, f64)> {
    let kept = found.rows.iter().filter(|row| row.load <= found.max_load).chain(sweep);
    kept.map(|row| (row.steal_rate, row.load)).max_by(|a, b| a.0.total_cmp(&b.0))
}

/// What comes of given loads: means over the seeds.
fn at(args: &World, costs: &Costs, bar: Option<&ProgressBar>) -> Result<serde_json::Value> {
    let trace = match &args.trace {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some(Trace::new(Box::new(BufWriter::new(file)), args.trace_lines))
        }
        None => None,
    };
    let trace = Mutex::new(trace);
    let all = each_seed(args, costs, |setup| {
        let mut rows = Vec::new();
        let trace = trace.lock().unwrap_or_else(|e| e.into_inner()).take().filter(|_| setup.seed == args.seed);
        world::measure(&setup, &args.load, args.requests, trace, |row| {
            if let Some(bar) = bar {
                bar.inc(1);
            }
            rows.push(row);
            true
        })?;
        Ok(rows)
    })?;
    say!("{:>6} {HEAD}", "load");
    let row = |(nth, load): (usize, &f64)| {
        let seeds: Vec<&Row> = all.iter().filter_map(|rows| rows.get(nth)).collect();
        let (cells, mut object) = summary(args, &seeds);
        say!("{load:>6.3} {cells}");
        object["load"] = json!(load);
        object
    };
    Ok(json!({ "rows": args.load.iter().enumerate().map(row).collect::<Vec<_>>() }))
}

/// What comes of clients that think, for each number of them: means over the seeds.
fn closed(args: &World, think: &ServiceTimes, costs: &Costs, bar: Option<&ProgressBar>) -> Result<serde_json::Value> {
    say!("{:>7} {:>9} {:>6} {HEAD}", "clients", "per s", "load");
    let mut rows = Vec::new();
    for clients in &args.conns {
        let seeds = each_seed(args, costs, |setup| {
            let setup = Setup { connections: *clients, ..setup };
            let row = world::closed_loop(&setup, think, args.requests, None)?;
            if let Some(bar) = bar {
                bar.inc(1);
            }
            Ok(row)
        })?;
        let (cells, mut object) = summary(args, &seeds.iter().collect::<Vec<_>>());
        let (throughput, load) = (object["throughput"].as_f64(), object["load"].as_f64());
        say!("{clients:>7} {:>9.0} {:>6.3} {cells}", throughput.unwrap_or(0.0), load.unwrap_or(0.0));
        object["clients"] = json!(clients);
        rows.push(object);
    }
    Ok(json!({ "think": think.to_string(), "rows": rows }))
}

/// The columns of [`summary`].
const HEAD: &str = "  p50 (S)   p99 (S) p99.9 (S)  mean (S)   steals    lends     ipis";

/// Means over the seeds: the cells of a line, and an object.
fn summary(args: &World, seeds: &[&Row]) -> (String, serde_json::Value) {
    let of = |f: fn(&Row) -> f64| mean(seeds.iter().copied().map(f));
    let s = |f: fn(&Row) -> f64| of(f) / (args.s * 1e3);
    let (p50, p99, p999) = (s(|r| r.p50.0 as f64), s(|r| r.p99.0 as f64), s(|r| r.p999.0 as f64));
    let (mean, steals, lends) = (s(|r| r.mean_ns), of(|r| r.steal_rate), of(|r| r.lend_rate));
    let interrupts = of(|r| r.interrupt_rate);
    let cells = format!("{p50:>9.2} {p99:>9.2} {p999:>9.2} {mean:>9.2} {steals:>8.3} {lends:>8.3} {interrupts:>8.3}");
    let mut object = json!({
        "load": of(|r| r.load), "p50": p50, "p99": p99, "p999": p999, "mean": mean, "steal_rate": steals,
        "lend_rate": lends, "interrupt_rate": interrupts, "throughput": of(|r| r.throughput),
        "errors": of(|r| r.errors as f64), "requests": of(|r| r.requests as f64),
    });
    if args.migrate.is_some() {
        let all = |f: fn(&Row) -> u64| seeds.iter().copied().map(f).sum::<u64>();
        let (moves, lost, dropped) = (all(|r| r.moves), all(|r| r.errors), all(|r| r.dropped));
        let (reordered, duplicated) = (all(|r| r.reordered), all(|r| r.duplicated));
        say!("{moves} moves: {lost} lost, {reordered} reordered, {duplicated} duplicated, {dropped} dropped");
        object["migrations"] = json!({
            "moves": moves, "lost": lost, "reordered": reordered, "duplicated": duplicated, "dropped": dropped,
        });
    }
    (cells, object)
}

fn rows(args: &World, rows: &[Row]) -> serde_json::Value {
    let s = |time: Nanos| time.0 as f64 / (args.s * 1e3);
    let row = |r: &Row| {
        json!({
            "load": r.load, "p50": s(r.p50), "p99": s(r.p99), "p999": s(r.p999), "steal_rate": r.steal_rate,
            "lend_rate": r.lend_rate, "interrupt_rate": r.interrupt_rate, "errors": r.errors,
        })
    };
    rows.iter().map(row).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    if n == 0.0 { 0.0 } else { sum / n }
}

/// Half of the 95 % confidence interval of the mean, from the normal distribution: rough for few values.
fn half_width(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = mean(values.iter().copied());
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (n >= 2.0).then(|| 1.96 * (variance / n).sqrt())
}

/// `zygix sim campaign`.
pub(super) fn check(args: &Campaign) -> Result<()> {
    sys::stop::install();
    let trace = match &args.trace {
        Some(_) if args.seeds != 1 => {
            return Err(crate::Usage("--trace is of one seed: add --seeds 1 --first SEED".into()).into());
        }
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some(Trace::new(Box::new(BufWriter::new(file)), LINES))
        }
        None => None,
    };
    let (next, broken) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let (errors, trace) = (Mutex::new(Vec::new()), Mutex::new(trace));
    let began = Instant::now();
    let bar = bar();
    if let Some(bar) = &bar {
        bar.set_length(args.seeds);
    }
    std::thread::scope(|scope| {
        for _ in 0..sys::thread::allowed_cores().map_or(1, |c| c.len()) {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Relaxed);
                    // Seeds before a broken one are still tried: the first is named.
                    if nth >= args.seeds || nth > broken.load(Relaxed) || sys::stop::requested() {
                        return;
                    }
                    let trace = trace.lock().unwrap_or_else(|e| e.into_inner()).take();
                    match campaign::check(args.first + nth, trace) {
                        Err(e) if !sys::stop::requested() => {
                            broken.fetch_min(nth, Relaxed);
                            errors.lock().unwrap_or_else(|e| e.into_inner()).push((nth, e));
                        }
                        _ => {}
                    }
                    if let Some(bar) = &bar {
                        bar.inc(1);
                        bar.set_message(format!("seed {}", args.first + nth));
                    }
                }
            });
        }
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let mut errors = errors.into_inner().unwrap_or_else(|e| e.into_inner());
    errors.sort_by_key(|(nth, _)| *nth);
    if let Some((_, first)) = errors.first() {
        bail!("broken: {first}");
    }
    let tried = next.load(Relaxed).min(args.seeds);
    if sys::stop::requested() {
        bail!("interrupted: the {tried} seeds so far keep what is promised");
    }
    say!("{tried} seeds from {} on keep what is promised ({:.1} s)", args.first, began.elapsed().as_secs_f64());
    Ok(())
}
