//! Tables 2.4 and 2.5, figures 2.10 to 2.12, beside the thesis's numbers.

use energy::{Frontier, Moved, Pattern, Second, Service};
use machine::Machine as Modelled;
use report::{Axis, Column, Document, Figure, Machine, Noise, Point, Series, Style, Table};
use serde_json::{Value, json};

use super::Cell;
use super::reaction::{self, Jumps};

/// What the thesis reached, and its bound: table 2.4, in per cent.
fn thesis(pattern: Pattern, policy: &str) -> (f64, f64) {
    match (pattern, policy) {
        (Pattern::Slope, "energy") => (51.0, 54.0),
        (Pattern::Step, "energy") => (50.0, 54.0),
        (Pattern::Sine, "energy") => (42.0, 49.0),
        (Pattern::Slope, _) => (44.0, 48.0),
        (Pattern::Step, _) => (41.0, 47.0),
        (Pattern::Sine, _) => (31.0, 38.0),
    }
}

pub(super) fn document(cells: &[Cell], jumps: &[Jumps], started: String) -> Document {
    let mut figures: Vec<Figure> = cells.iter().flat_map(three).collect();
    for (nth, figure) in figures.iter_mut().enumerate() {
        figure.id = format!("energy-{nth}");
    }
    Document {
        kind: "energy".into(),
        title: "Energy and consolidation under three patterns of load".into(),
        command: crate::bench::command_line(),
        started,
        commit: report::commit(),
        machine: Machine::here(),
        figures,
        tables: vec![table_2_4(cells), table_2_5(cells), reaction::table(jumps)],
        noise: Noise { verdict: "simulated: no noise".into(), ..Noise::default() },
        notes: vec![
            "Simulated: the policies and their loop are the real code; cores are queues, power is a model of the thesis's machine.".into(),
            "What a move of flow groups takes is drawn from the thesis's table 2.5.".into(),
        ],
        ..Document::default()
    }
}

fn table_2_4(cells: &[Cell]) -> Table {
    let columns = [
        Column::text("schedule"),
        Column::text("pattern"),
        Column::text("policy"),
        Column::number("reached", "%").decimals(1),
        Column::number("thesis", "%").decimals(0),
        Column::number("bound", "%").decimals(1),
        Column::number("thesis's bound", "%").decimals(0),
        Column::number("of the bound", "%").decimals(1),
        Column::number("violations", "s").decimals(0),
        Column::number("power", "W").decimals(1),
        Column::number("at most", "W").decimals(1),
    ];
    let row = |c: &Cell| -> Vec<Value> {
        let reached = if c.policy == "energy" { c.outcome.saved } else { c.outcome.background };
        let (theirs, bound) = thesis(c.pattern, c.policy);
        vec![
            json!(c.sched_name()),
            json!(c.pattern.name()),
            json!(c.policy),
            json!(100.0 * reached),
            json!(theirs),
            json!(100.0 * c.bound()),
            json!(bound),
            json!(100.0 * reached / c.bound()),
            json!(c.outcome.violations),
            json!(c.outcome.watts),
            json!(c.outcome.most_w),
        ]
    };
    Table {
        id: "table-2-4".into(),
        title: "Table 2.4: energy saved, background throughput kept".into(),
        caption: "Energy: of what the largest configuration draws under the same load. Consolidation: of the background job's throughput alone. A violation is \
                  a second in which p99 exceeds 500 us; the thesis counts 25 in its six runs."
            .into(),
        columns: columns.into(),
        rows: cells.iter().map(row).collect(),
    }
}

fn table_2_5(cells: &[Cell]) -> Table {
    let moves = || cells.iter().flat_map(|c| &c.outcome.changes).flat_map(|c| &c.moves);
    let row = |name: &str, add: bool, theirs: [f64; 3]| -> Vec<Value> {
        let mut all: Vec<f64> = moves().filter(|m: &&Moved| m.add == add).map(|m| m.total_ns / 1e3).collect();
        all.sort_by(f64::total_cmp);
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let p95 = all.get(all.len() * 95 / 100).copied();
        let [a, b, c] = theirs;
        vec![json!(name), json!(all.len()), json!(mean), json!(p95), json!(all.last()), json!(a), json!(b), json!(c)]
    };
    let us = |name: &str| Column::number(name, "us").decimals(0);
    Table {
        id: "table-2-5".into(),
        title: "Table 2.5: moves of flow groups in these runs".into(),
        caption: "Drawn from a log-normal distribution of the thesis's mean and deviation: an assumption of the model, not a result. `zygix bench migrate` measures ours."
            .into(),
        columns: vec![
            Column::text(""),
            Column::number("moves", "").decimals(0),
            us("mean"),
            us("p95"),
            us("longest"),
            us("thesis's mean"),
            us("its p95"),
            us("its longest"),
        ],
        rows: vec![
            row("cores come", true, [585.0, 1684.0, 6126.0]),
            row("cores go", false, [89.0, 162.0, 335.0]),
        ],
    }
}

/// Throughput with its events, p99 against the objective, power or background.
fn three(cell: &Cell) -> [Figure; 3] {
    let number = match cell.pattern {
        Pattern::Slope => "2.10",
        Pattern::Step => "2.11",
        Pattern::Sine => "2.12",
    };
    let named =
        |what: &str| format!("{number}: {}, {}, {}: {what}", cell.pattern.name(), cell.policy, cell.sched_name());
    [throughput(cell, named("throughput")), latency(cell, named("p99")), worth(cell, named("efficiency"))]
}

fn over_time(cell: &Cell, of: impl Fn(&Second) -> f64) -> Vec<Point> {
    cell.outcome.seconds.iter().enumerate().map(|(i, s)| Point::new(i as f64 + 0.5, of(s))).collect()
}

fn seconds() -> Axis {
    Axis { label: "time".into(), max: Some(240.0), ..Axis::default() }
}

fn throughput(cell: &Cell, title: String) -> Figure {
    let events = |up: bool| {
        let changes = cell.outcome.changes.iter().filter(|c| (c.to > c.from) == up);
        changes.map(|c| Point::new(c.at, c.rps)).collect()
    };
    Figure {
        title,
        caption: "Requests per second, and where resources are added and removed.".into(),
        x: seconds(),
        y: Axis { label: "throughput".into(), unit: "1/s".into(), ..Axis::default() },
        series: vec![
            Series { name: "served".into(), style: Style::Bound, points: over_time(cell, |s| s.served) },
            Series { name: "added".into(), style: Style::Points, points: events(true) },
            Series { name: "removed".into(), style: Style::Points, points: events(false) },
        ],
        ..Figure::default()
    }
}

fn latency(cell: &Cell, title: String) -> Figure {
    Figure {
        title,
        caption: format!("Of each second; {} of them miss the objective, which is marked.", cell.outcome.violations),
        x: seconds(),
        y: Axis { label: "p99".into(), unit: "us".into(), max: Some(1000.0), mark: Some(500.0), ..Axis::default() },
        series: vec![Series { name: "p99".into(), style: Style::Points, points: over_time(cell, |s| s.p99_ns / 1e3) }],
        ..Figure::default()
    }
}

fn worth(cell: &Cell, title: String) -> Figure {
    let (Ok(machine), service) = (Modelled::builtin("e5-2665"), Service::usr()) else { return Figure::default() };
    let frontier = Frontier::new(&machine, &service);
    let energy = cell.policy == "energy";
    let most = |s: &Second| frontier.watts(&machine.most(), service.most_rps, s.offered);
    let bound = |s: &Second| match energy {
        true => frontier.energy(s.offered).map_or(f64::NAN, |p| p.value),
        false => 100.0 * frontier.background(s.offered).map_or(0.0, |p| p.value),
    };
    let mine = |s: &Second| if energy { s.watts } else { 100.0 * s.background };
    let line = |name: &str, style, points| Series { name: name.into(), style, points };
    let mut series = vec![
        line("dynamic", Style::Points, over_time(cell, mine)),
        line("Pareto bound", Style::Bound, over_time(cell, bound)),
    ];
    if energy {
        series.push(line("all cores, turbo", Style::Bound, over_time(cell, most)));
    }
    let (label, unit) = if energy { ("power", "W") } else { ("background", "%") };
    Figure {
        title,
        caption: "Against the largest static configuration, and the best one for each load.".into(),
        x: seconds(),
        y: Axis { label: label.into(), unit: unit.into(), ..Axis::default() },
        series,
        ..Figure::default()
    }
}
