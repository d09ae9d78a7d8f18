use std::io::Write as _;

use report::{Axis, Document, Figure, Machine as Here, Noise, Point, Series, Style};

use super::{Best, Found, Objective, Pareto, Static};

/// Rows of a table at most, or a few more.
const ROWS: usize = 20;

/// What is said of a result beside its figures.
#[derive(Default)]
pub(super) struct Words {
    pub(super) started: String,
    pub(super) kind: String,
    pub(super) title: String,
    /// Of which machine, and how it was found.
    pub(super) how: String,
    pub(super) noise: Noise,
    pub(super) notes: Vec<String>,
    /// The length of a window.
    pub(super) seconds: f64,
    /// What was found is too little for one.
    pub(super) no_policy: bool,
}

/// The unit of values, and what a value is multiplied by.
fn unit(objective: Objective) -> (&'static str, f64) {
    match objective {
        Objective::Energy => ("W", 1.0),
        Objective::Consolidate => ("% background", 100.0),
    }
}

/// Prints the frontier, which was found among so many configurations.
pub(super) fn frontier(found: &Found<'_>, all: &str, remark: &str) {
    let mut out = std::io::stdout().lock();
    let (unit, scale) = unit(found.objective);
    let (frontier, name) = (&found.frontier, found.machine.name());
    let distinct = found.distinct().len();
    let _ = writeln!(out, "{name}: {all}, {distinct} of them on the frontier{remark}");
    let _ = writeln!(out, "{:>10} {:>14} {:>14}  configuration", "K req/s", unit, "clock only");
    let decimals = match frontier.last().map_or(0.0, |p| p.rps) {
        0.0..1e4 => 3,
        1e4..1e6 => 1,
        _ => 0,
    };
    for (i, p) in frontier.iter().enumerate().filter(|(i, _)| i % (frontier.len() / ROWS).max(1) == 0) {
        let clock = found.clock_only.get(i).map_or("-".into(), |p| format!("{:.1}", scale * p.value));
        let _ = writeln!(out, "{:>10.decimals$} {:>14.1} {clock:>14}  {}", p.rps / 1e3, scale * p.value, p.state);
    }
}

/// Prints what became of the policy.
pub(super) fn policy(args: &Pareto, found: &Found<'_>) {
    let steps = found.table().steps.len();
    let where_ = match &args.policy {
        Some(path) => format!("in {}", path.display()),
        None => "--policy FILE writes it".to_owned(),
    };
    let _ = writeln!(std::io::stdout().lock(), "\npolicy of {steps} steps; {where_}");
}

/// Figures 2.8 and 2.9.
pub(super) fn document(found: &Found<'_>, words: &Words) -> Document {
    let energy = found.objective == Objective::Energy;
    let scale = unit(found.objective).1;
    let line = |all: &[Best]| all.iter().map(|p| Point::new(p.rps, scale * p.value)).collect::<Vec<_>>();
    // One series for all static configurations, broken between them.
    let gap = Point::new(f64::NAN, f64::NAN);
    let of = |s: &Static| s.line.iter().map(|(rps, value)| Point::new(*rps, scale * value)).collect::<Vec<_>>();
    let all: Vec<Point> = found.distinct().into_iter().flat_map(|s| of(s).into_iter().chain([gap])).collect();
    let (label, unit) = if energy { ("power", "W") } else { ("background", "%") };
    let series = |name: &str, style, points| Series { name: name.into(), style, points };
    let figure = |id: &str, title: &str, series| Figure {
        id: id.into(),
        title: title.into(),
        caption: words.how.clone(),
        x: Axis { label: "load".into(), unit: "1/s".into(), ..Axis::default() },
        y: Axis { label: label.into(), unit: unit.into(), ..Axis::default() },
        series,
    };
    let name =
        if energy { "2.8a: energy of static configurations" } else { "2.8b: background beside static configurations" };
    let mut figures = vec![figure(
        "pareto",
        name,
        vec![series("static", Style::Bound, all), series("frontier", Style::Points, line(&found.frontier))],
    )];
    if energy {
        let both = vec![
            series("frontier", Style::Bound, line(&found.frontier)),
            series("clock only", Style::Bound, line(&found.clock_only)),
        ];
        figures.push(figure("dvfs", "2.9: the frontier, and what the clock alone gives", both));
    }
    Document {
        kind: words.kind.clone(),
        title: words.title.clone(),
        command: crate::bench::command_line(),
        started: words.started.clone(),
        commit: report::commit(),
        machine: Here::here(),
        seconds_per_point: words.seconds,
        figures,
        noise: words.noise.clone(),
        notes: words.notes.clone(),
        ..Document::default()
    }
}
