//! `sim figures`: the figures of the thesis's chapter 3, from the real code in virtual time, with the thesis's numbers beside them.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use dataplane::{Assist, Sched};
use indicatif::ProgressBar;
use load::draw::ServiceTimes;
use queueing::{Effort, Policy, Question, System, Watch};
use report::{Axis, Column, Document, Figure, Machine, Noise, Point, Series, Style, Table};
use serde_json::json;
use units::Nanos;
use world::{Costs, Row, Setup, WorldError};

use super::queueing::bar;
use super::world_args::Figures;

/// A way to schedule, and the bound on its batches.
type Way = (&'static str, Sched, usize);
const IX: Way = ("ix, B = 1", Sched::Ix, 1);
const IX_64: Way = ("ix, B = 64", Sched::Ix, 64);
const NONE: Way = ("zygos, none", Sched::Zygos(Assist::None), 64);
const IPI: Way = ("zygos, ipi", Sched::Zygos(Assist::Ipi), 64);
const LEND: Way = ("zygos, lend", Sched::Zygos(Assist::Lend), 64);

/// A distribution of service times with this mean.
type Law = fn(Nanos) -> ServiceTimes;
/// The laws, as figures call them.
const LAWS: [(&str, Law); 3] = [("det", ServiceTimes::det), ("exp", ServiceTimes::exp), ("b1", ServiceTimes::bimodal1)];
/// Service times in microseconds at which highest loads are sought.
const TIMES: [u64; 6] = [5, 10, 20, 30, 50, 100];
/// The objective in service times, and a lenient one (figure 3.13b).
const SLO: f64 = 10.0;
const LENIENT: f64 = 100.0;
/// How closely a highest load is sought, as a share.
const PRECISION: f64 = 0.005;
/// Loads of a curve.
const LOADS: [f64; 14] = [0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9];
/// What the thesis says (sections 3.6.2, 3.6.3): law, S in us, way, share of which bound, in per cent.
const THESIS: [(&str, u64, Way, Policy, f64); 7] = [
    ("exp", 10, IPI, Policy::Central, 75.0),
    ("exp", 25, IPI, Policy::Central, 88.0),
    ("det", 30, IPI, Policy::Central, 90.0),
    ("exp", 40, IPI, Policy::Central, 90.0),
    ("b1", 40, IPI, Policy::Central, 90.0),
    ("det", 25, IX, Policy::Partitioned, 90.0),
    ("exp", 25, IX, Policy::Partitioned, 90.0),
];

/// One thing to be simulated: all are independent.
enum Task {
    /// p99 by load.
    Curve { us: u64, law: usize, way: Way },
    /// The highest load.
    Highest { us: u64, law: usize, way: Way },
}

enum Done {
    Curve(Vec<Row>),
    Highest(f64),
}

/// `zygix sim figures`.
pub(super) fn run(args: &Figures) -> Result<()> {
    sys::stop::install();
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let costs = args.costs.costs()?;
    let started = lab::utc(sys::clock::wall());
    let tasks = tasks();
    let bar = bar();
    if let Some(bar) = &bar {
        bar.set_length(tasks.len() as u64);
    }
    let done = carry_out(args, &costs, &tasks, bar.as_ref());
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    if sys::stop::requested() {
        bail!("interrupted: figures are drawn when all is there");
    }
    let done = done?;
    let document = document(args, &costs, started, &tasks, &done);
    let path = args.out.join("world.json");
    std::fs::write(&path, serde_json::to_string_pretty(&document)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    crate::report::draw(&args.out, &args.out.join("index.html"))?;
    let mut out = std::io::stdout().lock();
    for table in &document.tables {
        let _ = writeln!(out, "{}", lab::kinds::text(table));
    }
    Ok(())
}

fn tasks() -> Vec<Task> {
    let mut tasks = Vec::new();
    for (law, us, way, ..) in THESIS {
        tasks.push(Task::Highest { us, law: law_at(law), way });
    }
    for way in [IX, NONE, IPI, LEND] {
        for law in 0..LAWS.len() {
            tasks.extend(TIMES.map(|us| Task::Highest { us, law, way }));
            tasks.extend([10, 25].map(|us| Task::Curve { us, law, way }));
        }
    }
    tasks.push(Task::Curve { us: 10, law: 0, way: IX_64 });
    tasks
}

fn law_at(name: &str) -> usize {
    LAWS.iter().position(|(law, _)| *law == name).unwrap_or(0)
}

fn carry_out(args: &Figures, costs: &Costs, tasks: &[Task], bar: Option<&ProgressBar>) -> Result<Vec<Done>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..sys::thread::allowed_cores().map_or(1, |c| c.len()) {
            scope.spawn(|| {
                while let Some((nth, task)) = Some(next.fetch_add(1, Relaxed)).and_then(|n| Some((n, tasks.get(n)?)))
                    && !sys::stop::requested()
                {
                    let result = one(args, costs, task);
                    done.lock().unwrap_or_else(|e| e.into_inner()).push((nth, result));
                    if let Some(bar) = bar {
                        bar.inc(1);
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(nth, _)| *nth);
    Ok(done.into_iter().map(|(_, result)| result).collect::<Result<_, WorldError>>()?)
}

fn one(args: &Figures, costs: &Costs, task: &Task) -> Result<Done, WorldError> {
    let setup = |us: u64, law: usize, way: Way| Setup {
        costs: costs.clone(),
        batch: way.2,
        seed: args.seed,
        ..Setup::new(usize::from(args.n), way.1, LAWS[law].1(Nanos::from_micros(us)))
    };
    match *task {
        Task::Highest { us, law, way } => {
            let found = world::max_load(&setup(us, law, way), SLO, PRECISION, args.requests, |_| ())?;
            Ok(Done::Highest(found.max_load))
        }
        Task::Curve { us, law, way } => {
            let mut rows = Vec::new();
            world::measure(&setup(us, law, way), &LOADS, args.requests, None, |row| {
                // Beyond this a queue only grows.
                let more = row.p99.0 < 2 * LENIENT as u64 * us * 1000;
                rows.push(row);
                more
            })?;
            Ok(Done::Curve(rows))
        }
    }
}

/// A bound of queueing theory, in per cent.
fn bound(args: &Figures, law: usize, policy: Policy) -> f64 {
    let system = System::new(usize::from(args.n), policy, LAWS[law].1(Nanos::from_micros(1)));
    let question = Question { precision: 0.002, effort: Effort::default(), ..Question::p99(system, SLO) };
    queueing::max_load(&question, &Watch::new(sys::stop::requested)).map_or(f64::NAN, |a| 100.0 * a.max_load)
}

fn document(args: &Figures, costs: &Costs, started: String, tasks: &[Task], done: &[Done]) -> Document {
    let bounds: Vec<[f64; 2]> = (0..LAWS.len())
        .map(|law| [Policy::Central, Policy::Partitioned].map(|policy| bound(args, law, policy)))
        .collect();
    let mut figures = Vec::new();
    for (us, name) in [(10, "3.6"), (25, "3.7")] {
        for (law, (text, _)) in LAWS.iter().enumerate() {
            let wanted = |task: &Task| match task {
                Task::Curve { us: u, law: l, way } => *u == us && *l == law && way.0 != IX_64.0,
                Task::Highest { .. } => false,
            };
            figures.push(curves(format!("{name}: p99 by load, {text}, S = {us} us"), SLO, us, tasks, done, wanted));
        }
    }
    for slo in [SLO, LENIENT] {
        let wanted = |task: &Task| match task {
            Task::Curve { us: 10, law: 0, way } => [IX.0, IX_64.0, IPI.0, LEND.0].contains(&way.0),
            _ => false,
        };
        figures.push(curves(format!("3.13: batching, det, S = 10 us, p99 to {slo} S"), slo, 10, tasks, done, wanted));
    }
    figures.push(steals(tasks, done));
    for (law, (text, _)) in LAWS.iter().enumerate() {
        figures.push(highest(
            format!("3.3, 3.8: highest load with p99 <= 10 S, {text}"),
            law,
            &bounds[law],
            tasks,
            done,
        ));
    }
    for (nth, figure) in figures.iter_mut().enumerate() {
        figure.id = format!("world-{nth}");
    }
    Document {
        kind: "world".into(),
        title: format!("The dataplane on {} cores, in virtual time", args.n),
        command: crate::bench::command_line(),
        started,
        commit: report::commit(),
        machine: Machine::here(),
        figures,
        tables: vec![against(args, &bounds, tasks, done)],
        noise: Noise { verdict: "simulated: no noise".into(), ..Noise::default() },
        notes: vec![format!(
            "The real turn, shuffle layer, TCP engine and application; only time is modelled. Costs: {}, {} + {} ns of network per request. {} requests at each load.",
            costs.name, costs.rx_ns, costs.tx_ns, args.requests
        )],
        ..Document::default()
    }
}

fn curves(title: String, slo: f64, us: u64, tasks: &[Task], done: &[Done], wanted: impl Fn(&Task) -> bool) -> Figure {
    let mut series = Vec::new();
    for (task, done) in tasks.iter().zip(done) {
        if let (Task::Curve { way, .. }, Done::Curve(rows)) = (task, done)
            && wanted(task)
        {
            let points = rows.iter().map(|r| Point::new(100.0 * r.load, r.p99.0 as f64 / (us * 1000) as f64)).collect();
            series.push(Series { name: way.0.into(), style: Style::Line, points });
        }
    }
    Figure {
        title,
        caption: "In mean service times, from the intended arrival to the transmitted reply. The objective is marked."
            .into(),
        x: Axis { label: "load".into(), unit: "%".into(), max: Some(100.0), ..Axis::default() },
        y: Axis { label: "p99".into(), unit: "S".into(), max: Some(2.0 * slo), mark: Some(slo), ..Axis::default() },
        series,
        ..Figure::default()
    }
}

/// Figure 3.9.
fn steals(tasks: &[Task], done: &[Done]) -> Figure {
    let mut series = Vec::new();
    for (task, done) in tasks.iter().zip(done) {
        if let (Task::Curve { us: 25, law: 1, way }, Done::Curve(rows)) = (task, done)
            && way.1 != Sched::Ix
        {
            let points = rows.iter().map(|r| Point::new(100.0 * r.load, 100.0 * r.steal_rate)).collect();
            series.push(Series { name: way.0.into(), style: Style::Line, points });
        }
    }
    Figure {
        title: "3.9: steals by load, exp, S = 25 us".into(),
        caption: "Steals per 100 requests. The thesis: about 33 at most without interrupts (marked), far more with, most at 77 % load.".into(),
        x: Axis { label: "load".into(), unit: "%".into(), max: Some(100.0), ..Axis::default() },
        y: Axis { label: "steals".into(), unit: "%".into(), mark: Some(33.0), ..Axis::default() },
        series,
        ..Figure::default()
    }
}

/// Figures 3.3 and 3.8.
fn highest(title: String, law: usize, bounds: &[f64; 2], tasks: &[Task], done: &[Done]) -> Figure {
    let mut series = Vec::new();
    for way in [IX, NONE, IPI, LEND] {
        let mut points: Vec<Point> = tasks
            .iter()
            .zip(done)
            .filter_map(|(task, done)| match (task, done) {
                (Task::Highest { us, law: l, way: w }, Done::Highest(load)) if *l == law && w.0 == way.0 => {
                    Some(Point::new(*us as f64, 100.0 * load))
                }
                _ => None,
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        points.dedup_by(|a, b| a.x == b.x);
        series.push(Series { name: way.0.into(), style: Style::Line, points });
    }
    for (name, bound) in ["central bound", "partitioned bound"].into_iter().zip(bounds) {
        let ends = [TIMES[0], TIMES[TIMES.len() - 1]];
        let points = ends.map(|us| Point::new(us as f64, *bound)).to_vec();
        series.push(Series { name: name.into(), style: Style::Bound, points });
    }
    Figure {
        title,
        caption: "By the mean service time S, with the bounds of queueing theory, which has no costs.".into(),
        x: Axis { label: "S".into(), unit: "us".into(), log: true, ..Axis::default() },
        y: Axis { label: "highest load".into(), unit: "%".into(), max: Some(100.0), ..Axis::default() },
        series,
        ..Figure::default()
    }
}

/// What the thesis says, and what comes out here.
fn against(args: &Figures, bounds: &[[f64; 2]], tasks: &[Task], done: &[Done]) -> Table {
    let row = |(task, done): (&Task, &Done), (name, us, way, policy, said): (&str, u64, Way, Policy, f64)| {
        let (Task::Highest { law, .. }, Done::Highest(load)) = (task, done) else { return None };
        let bound = bounds[*law][usize::from(policy == Policy::Partitioned)];
        let share = 100.0 * 100.0 * load / bound;
        let cells = [json!(name), json!(us), json!(way.0), json!(policy.to_string()), json!(said)];
        Some(cells.into_iter().chain([json!(share), json!(share - said), json!(100.0 * load)]).collect())
    };
    Table {
        id: "thesis".into(),
        title: format!("Against the thesis, {} cores", args.n),
        caption: "The highest load with p99 <= 10 S as a share of a bound. The thesis has 16 cores. The first row is what the thesis's costs are fitted to.".into(),
        columns: vec![
            Column::text("law"),
            Column::number("S", "us").decimals(0),
            Column::text("way"),
            Column::text("bound"),
            Column::number("thesis", "%").decimals(0),
            Column::number("here", "%").decimals(1),
            Column::number("off", "points").decimals(1),
            Column::number("highest load", "%").decimals(1),
        ],
        rows: tasks.iter().zip(done).zip(THESIS).filter_map(|(pair, said)| row(pair, said)).collect(),
    }
}
