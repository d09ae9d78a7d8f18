//! `zygix pareto --sim`: what each configuration carries at the objective, and which of them are worth having (thesis section 2.5.3, figures 2.8 and 2.9).

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use energy::{Frontier, Point as Best, Service};
use machine::{Machine, State};
use policy::{Entry, Table as Policy};
use report::{Axis, Document, Figure, Machine as Here, Noise, Point, Series, Style};
use serde_json::{Value, json};

use crate::Usage;
use crate::energy::write;

#[derive(Args, Debug)]
pub(crate) struct Pareto {
    /// In the simulator (there is no other way yet)
    #[arg(long)]
    pub(crate) sim: bool,

    /// The machine: e5-2665, generic:N, or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "e5-2665")]
    pub(crate) machine: String,

    /// What the frontier is best at: energy, or background throughput
    #[arg(long, value_name = "NAME", value_parser = ["energy", "consolidate"], default_value = "energy")]
    pub(crate) objective: String,

    /// Loads at which configurations are compared
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) loads: u32,

    /// Write the policy that follows from the frontier to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// File figures in DIR, and draw all results that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

fn load(name: &str) -> Result<Machine> {
    if name.ends_with(".toml") {
        let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
        return Machine::parse(&text).with_context(|| name.to_owned());
    }
    Ok(Machine::builtin(name)?)
}

/// `zygix pareto`.
pub(crate) fn run(args: &Pareto) -> Result<()> {
    if !args.sim {
        return Err(Usage("pareto: add --sim; configurations of this machine are not measured".into()).into());
    }
    let started = lab::utc(sys::clock::wall());
    let machine = load(&args.machine)?;
    let usr = Service::usr();
    // The service's rate belongs to the thesis's machine: another does what its cores do, at the same time for a request.
    let reference = Machine::builtin("e5-2665")?;
    let most = usr.most_rps * usr.does(&machine, &machine.most()) / usr.does(&reference, &reference.most());
    let service = Service { most_rps: most, ..usr };
    let all = Frontier::new(&machine, &service);
    let energy = args.objective == "energy";
    let best = |f: &Frontier<'_>, rps: f64| if energy { f.energy(rps) } else { f.background(rps) };
    let sweep = |f: &Frontier<'_>| -> Vec<Best> {
        (1..=args.loads).filter_map(|i| best(f, most * f64::from(i) / f64::from(args.loads))).collect()
    };
    let (frontier, clock_only) = (sweep(&all), sweep(&all.clock_only()));
    let table = table(&args.objective, &machine, &service, &frontier);
    show(args, &machine, &frontier, &clock_only, &table);
    if let Some(path) = &args.policy {
        std::fs::write(path, table.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.json {
        let states = machine.states();
        let state = |s: &State| json!({"state": s.to_string(), "rps": service.carries(&machine, s), "watts": machine.power_w(s, service.full)});
        let object = json!({
            "machine": machine.name(),
            "objective": args.objective,
            "configurations": states.iter().map(state).collect::<Vec<Value>>(),
            "frontier": frontier.iter().map(point).collect::<Vec<Value>>(),
            "dvfs_only": clock_only.iter().map(point).collect::<Vec<Value>>(),
            "policy": table.to_string(),
        });
        write(path, &object)?;
    }
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let document = document(args, &machine, &service, started, &frontier, &clock_only);
        write(&dir.join(format!("pareto-{}.json", args.objective)), &serde_json::to_value(document)?)?;
        crate::report::draw(dir, &dir.join("index.html"))?;
    }
    Ok(())
}

fn point(p: &Best) -> Value {
    json!({"rps": p.rps, "state": p.state.to_string(), "value": p.value})
}

/// The distinct configurations of a frontier, by what they carry.
fn distinct(frontier: &[Best]) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    for p in frontier {
        if !states.contains(&p.state) {
            states.push(p.state);
        }
    }
    states
}

/// The frontier as a policy. Heuristic: a configuration that carries less than 1 % more than the one before is left out, for it would be passed through at once.
fn table(objective: &str, machine: &Machine, service: &Service, frontier: &[Best]) -> Policy {
    let mut entries: Vec<Entry> = distinct(frontier)
        .into_iter()
        .map(|state| Entry {
            state,
            background: objective == "consolidate" && state.cores < machine.cores(),
            load: service.carries(machine, &state),
        })
        .collect();
    entries.sort_by(|a, b| a.load.total_cmp(&b.load));
    let top = entries.last().map_or(0.0, |e| e.load);
    let mut steps: Vec<Entry> = Vec::new();
    for entry in entries {
        if entry.load >= top || steps.last().is_none_or(|last| entry.load >= last.load * 1.01) {
            steps.push(entry);
        }
    }
    Policy { name: "pareto".into(), machine: machine.name().to_owned(), steps }
}

fn show(args: &Pareto, machine: &Machine, frontier: &[Best], clock_only: &[Best], table: &Policy) {
    let mut out = std::io::stdout().lock();
    let (unit, scale) = if args.objective == "energy" { ("W", 1.0) } else { ("% background", 100.0) };
    let _ = writeln!(
        out,
        "{}: {} configurations, {} of them on the frontier (45 of 224 in the thesis, energy)",
        machine.name(),
        machine.states().len(),
        distinct(frontier).len()
    );
    let _ = writeln!(out, "{:>10} {:>14} {:>14}  configuration", "K req/s", unit, "clock only");
    for (i, p) in frontier.iter().enumerate().filter(|(i, _)| i % (frontier.len() / 20).max(1) == 0) {
        let clock = clock_only.get(i).map_or(f64::NAN, |p| scale * p.value);
        let _ = writeln!(out, "{:>10.0} {:>14.1} {clock:>14.1}  {}", p.rps / 1e3, scale * p.value, p.state);
    }
    let _ = writeln!(
        out,
        "\npolicy of {} steps; {}",
        table.steps.len(),
        match &args.policy {
            Some(path) => format!("in {}", path.display()),
            None => "--policy FILE writes it".to_owned(),
        }
    );
}

fn document(
    args: &Pareto,
    machine: &Machine,
    service: &Service,
    started: String,
    frontier: &[Best],
    clock_only: &[Best],
) -> Document {
    let energy = args.objective == "energy";
    let scale = if energy { 1.0 } else { 100.0 };
    let line = |all: &[Best]| all.iter().map(|p| Point::new(p.rps, scale * p.value)).collect::<Vec<_>>();
    let statics = |s: &State| -> Vec<Point> {
        let carries = service.carries(machine, s);
        let all = Frontier::of(machine, service, vec![(*s, carries)]);
        let value = |rps: f64| {
            if energy {
                all.watts(s, carries, rps)
            } else {
                scale * service.background(machine, machine.cores() - s.cores)
            }
        };
        [0.0, carries].map(|rps| Point::new(rps, value(rps))).into()
    };
    let (label, unit) = if energy { ("power", "W") } else { ("background", "%") };
    let axes = || {
        let x = Axis { label: "load".into(), unit: "1/s".into(), ..Axis::default() };
        (x, Axis { label: label.into(), unit: unit.into(), ..Axis::default() })
    };
    // One series for all static configurations, broken between them.
    let gap = Point::new(f64::NAN, f64::NAN);
    let all: Vec<Point> = distinct(frontier).iter().flat_map(|s| statics(s).into_iter().chain([gap])).collect();
    let series = |name: &str, style, points| Series { name: name.into(), style, points };
    let figure = |id: &str, title: &str, series| {
        let (x, y) = axes();
        Figure { id: id.into(), title: title.into(), caption: format!("{}, modelled.", machine.name()), x, y, series }
    };
    let name =
        if energy { "2.8a: energy of static configurations" } else { "2.8b: background beside static configurations" };
    let mut figures = vec![figure(
        "pareto",
        name,
        vec![series("static", Style::Bound, all), series("frontier", Style::Points, line(frontier))],
    )];
    if energy {
        let both = vec![
            series("frontier", Style::Bound, line(frontier)),
            series("clock only", Style::Bound, line(clock_only)),
        ];
        figures.push(figure("dvfs", "2.9: the frontier, and what the clock alone gives", both));
    }
    Document {
        kind: format!("pareto-{}", args.objective),
        title: format!("Static configurations: {}", args.objective),
        command: crate::bench::command_line(),
        started,
        commit: report::commit(),
        machine: Here::here(),
        figures,
        noise: Noise { verdict: "modelled: no noise".into(), ..Noise::default() },
        ..Document::default()
    }
}
