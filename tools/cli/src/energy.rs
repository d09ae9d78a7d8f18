//! `zygix bench energy --sim`: the thesis's six four-minute runs under the control plane's policies, with and without stealing (table 2.4, figures 2.10 to 2.12).

mod draw;
mod reaction;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use clap::Args;
use energy::{Bounds, Frontier, Outcome, Pattern, Replayed, Sched, Service, Setup};
use machine::Machine;
use policy::{Ladder, Rules};
use serde_json::{Value, json};

use crate::Usage;
use reaction::Jumps;

#[derive(Args, Debug)]
pub(crate) struct Energy {
    /// In the simulator (there is no other way yet: watts and clocks of this machine are not used)
    #[arg(long)]
    pub(crate) sim: bool,

    /// The thresholds: ours, or those of the thesis's controller
    #[arg(long, value_name = "NAME", value_parser = ["ours", "thesis"], default_value = "ours")]
    pub(crate) rules: String,

    /// Reconfigurations of each run that are played once more in `sim world`, with the second around each: so many, evenly chosen, or all (which takes an hour)
    #[arg(long, value_name = "N|all", default_value = "2", value_parser = compare)]
    pub(crate) compare: usize,

    /// Requests of each of these at least, if sixteen repetitions are enough for them
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub(crate) requests: u64,

    /// Jumps of the load for each schedule, policy and moment: how soon is more added?
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub(crate) jumps: u16,

    /// Where random numbers come from
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=1 << 40))]
    pub(crate) seed: u64,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// File figures and tables in DIR, and draw all results that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

fn compare(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        n => n.parse().map_err(|_| "use a number, or all".into()),
    }
}

/// A run, and what it is held against.
struct Cell {
    sched: Sched,
    pattern: Pattern,
    policy: &'static str,
    bounds: Bounds,
    outcome: Outcome,
    replayed: Vec<Replayed>,
    /// Reconfigurations with too few requests around them to compare.
    quiet: usize,
}

impl Cell {
    fn sched_name(&self) -> &'static str {
        sched_name(self.sched)
    }

    fn bound(&self) -> f64 {
        if self.policy == "energy" { self.bounds.saved } else { self.bounds.background }
    }

    /// Ratios of p99, model over world, ascending.
    fn ratios(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.replayed.iter().map(Replayed::ratio).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn window(&self, r: &Replayed) -> Value {
        let state = |step: usize| self.outcome.ladder.steps()[step].state.to_string();
        json!({
            "at_s": r.at,
            "from": state(r.steps.0),
            "to": state(r.steps.1),
            "changes": r.changes,
            "busy_before": r.busy.0,
            "busy_after": r.busy.1,
            "requests": r.requests,
            "p99_us": r.model_ns / 1e3,
            "world_p99_us": r.world_ns / 1e3,
            "ratio": r.ratio(),
            "moves_took_us": r.took_ns / 1e3,
        })
    }

    fn object(&self) -> Value {
        let ratios = self.ratios();
        let median = ratios.get(ratios.len() / 2);
        let o = &self.outcome;
        json!({
            "sched": self.sched_name(),
            "pattern": self.pattern.name(),
            "policy": self.policy,
            "saved": o.saved,
            "background": o.background,
            "pareto_bound": self.bound(),
            "violations": o.violations,
            "window_p99_ratio_to_world": median,
            "window_p99_ratio_low": ratios.first(),
            "window_p99_ratio_high": ratios.last(),
            "windows_compared": ratios.len(),
            "windows_within_10_percent": within(&ratios),
            "windows_quiet": self.quiet,
            "windows": self.replayed.iter().map(|r| self.window(r)).collect::<Vec<Value>>(),
            "reconfigurations": o.changes.len(),
            "watts": o.watts,
            "most_w": o.most_w,
        })
    }
}

/// How many ratios say that two are the same within 10 %.
fn within(ratios: &[f64]) -> usize {
    ratios.iter().filter(|r| (0.9..=1.1).contains(*r)).count()
}

fn sched_name(sched: Sched) -> &'static str {
    match sched {
        Sched::Ix => "ix",
        Sched::Zygos => "zygos",
    }
}

fn ladder(policy: &str, machine: &Machine) -> Ladder {
    if policy == "energy" { Ladder::energy(machine) } else { Ladder::consolidate(machine) }
}

/// `zygix bench energy`.
pub(crate) fn run(args: &Energy) -> Result<()> {
    if !args.sim {
        return Err(Usage("bench energy: add --sim; watts of this machine are not measured".into()).into());
    }
    sys::stop::install();
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let started = lab::utc(sys::clock::wall());
    let (machine, service) = (Machine::builtin("e5-2665")?, Service::usr());
    let rules = match args.rules.as_str() {
        "thesis" => Rules::thesis(service.slo_ns),
        _ => Rules::new(service.slo_ns),
    };
    let cells = all(args, &rules, &machine, &service)?;
    let jumps = reaction::all(&rules, &machine, &service, args.seed, args.jumps);
    if sys::stop::requested() {
        bail!("interrupted");
    }
    show(&cells, &jumps);
    if let Some(path) = &args.json {
        let runs: Vec<Value> = cells.iter().map(Cell::object).collect();
        let jumps: Vec<Value> = jumps.iter().map(Jumps::object).collect();
        let object =
            json!({"machine": machine.name(), "rules": args.rules, "seed": args.seed, "runs": runs, "reaction": jumps});
        write(path, &object)?;
    }
    if let Some(dir) = &args.out {
        write(&dir.join("energy.json"), &serde_json::to_value(draw::document(&cells, &jumps, started))?)?;
        crate::report::draw(dir, &dir.join("index.html"))?;
    }
    Ok(())
}

pub(crate) fn write(path: &std::path::Path, object: &Value) -> Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(object)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The twelve runs, and then what they are held against.
fn all(args: &Energy, rules: &Rules, machine: &Machine, service: &Service) -> Result<Vec<Cell>> {
    let mut setups = Vec::new();
    for sched in [Sched::Ix, Sched::Zygos] {
        for pattern in Pattern::ALL {
            for policy in ["energy", "consolidate"] {
                let setup = Setup::new(machine, service, pattern, sched, ladder(policy, machine));
                setups.push((policy, Setup { seed: args.seed, rules: rules.clone(), ..setup }));
            }
        }
    }
    let mut cells = on_all_cores(&setups, |(policy, setup)| {
        let bounds = Frontier::new(machine, service).bounds(setup.pattern, args.seed);
        let outcome = energy::run(setup);
        let (sched, pattern) = (setup.sched, setup.pattern);
        Cell { sched, pattern, policy, bounds, outcome, replayed: Vec::new(), quiet: 0 }
    });
    let mut what = Vec::new();
    for (nth, cell) in cells.iter().enumerate() {
        let changes = cell.outcome.changes.len();
        let every = changes.div_ceil(args.compare.max(1)).max(1);
        what.extend((0..changes).step_by(every).take(args.compare).map(|change| (nth, change)));
    }
    let done = AtomicUsize::new(0);
    let replayed = on_all_cores(&what, |(nth, change)| {
        let one = energy::replay(&setups[*nth].1, &cells[*nth].outcome, *change, args.requests);
        let done = done.fetch_add(1, Relaxed) + 1;
        if done.is_multiple_of(10) || done == what.len() {
            eprintln!("{done} of {} reconfigurations played in sim world", what.len());
        }
        one
    });
    for ((nth, _), one) in what.iter().zip(replayed) {
        match one? {
            Some(one) => cells[*nth].replayed.push(one),
            None => cells[*nth].quiet += 1,
        }
    }
    Ok(cells)
}

/// Does something for each of these, as many at once as there are cores; fewer of them if somebody asks for the end.
fn on_all_cores<T: Sync, R: Send>(what: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..sys::thread::allowed_cores().map_or(1, |c| c.len()) {
            scope.spawn(|| {
                while let Some((nth, cell)) = Some(next.fetch_add(1, Relaxed)).and_then(|n| Some((n, what.get(n)?)))
                    && !sys::stop::requested()
                {
                    let result = each(cell);
                    done.lock().unwrap_or_else(|e| e.into_inner()).push((nth, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().map(|(_, result)| result).collect()
}

fn show(cells: &[Cell], jumps: &[Jumps]) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "{:<6} {:<8} {:<12} {:>8} {:>8} {:>11} {:>8} {:>11} {:>8} {:>16}",
        "sched",
        "pattern",
        "policy",
        "watts",
        "saved %",
        "background",
        "bound %",
        "violations",
        "changes",
        "p99 to world"
    );
    for c in cells {
        let (o, ratios) = (&c.outcome, c.ratios());
        let ratio = ratios
            .get(ratios.len() / 2)
            .map_or("-".into(), |m| format!("{m:.2} ({:.2}-{:.2})", ratios[0], ratios[ratios.len() - 1]));
        let _ = writeln!(
            out,
            "{:<6} {:<8} {:<12} {:>8.1} {:>8.1} {:>11.1} {:>8.1} {:>11} {:>8} {ratio:>16}",
            c.sched_name(),
            c.pattern.name(),
            c.policy,
            o.watts,
            100.0 * o.saved,
            100.0 * o.background,
            100.0 * c.bound(),
            o.violations,
            o.changes.len()
        );
    }
    for sched in ["ix", "zygos"] {
        let n: usize = cells.iter().filter(|c| c.sched_name() == sched).map(|c| c.outcome.violations).sum();
        let _ = writeln!(out, "{sched}: {n} seconds miss the objective in the six runs; 25 in the thesis");
    }
    reaction::show(&mut out, jumps);
}
