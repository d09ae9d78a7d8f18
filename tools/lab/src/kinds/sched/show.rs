//! What was measured as rows, tables and figures.

use dataplane::{Assist, Sched};
use report::{Axis, Column, Document, Figure, Series, Style, Table};
use serde_json::{Value, json};

use super::model::{MODES, bounds, predicted};
use super::{Cell, Measured, SLO, SWEPT, Scope, Swept, TOLD, tiny};
use crate::kinds::grid::{at, cells, columns};
use crate::kinds::hunt;
use crate::stats::{Spread, paired};

/// Puts everything into the document.
pub(super) fn fill(document: &mut Document, scope: &Scope, m: &Measured) {
    let cores = scope.cores.len();
    document.cores = Some(cores as u32);
    document.network_us_per_request = m.network.last().map(|(_, s)| s.median);
    document.rows = m.cells.iter().map(|c| row(c, cores)).collect();
    document.tables = vec![maxima(m, cores), tails(m), small(m)];
    document.tables.retain(|t| !t.rows.is_empty());
    document.figures = figures(scope, m, cores);
    document.figures.retain(|f| !f.series.is_empty());
    document.notes.extend(notes(scope, m));
}

/// The words of the two options.
pub(super) fn words(sched: Sched) -> (&'static str, &'static str) {
    match sched {
        Sched::Ix => ("ix", "none"),
        Sched::Zygos(Assist::None) => ("zygos", "none"),
        Sched::Zygos(Assist::Ipi) => ("zygos", "ipi"),
        Sched::Zygos(Assist::Lend) => ("zygos", "lend"),
    }
}

fn row(c: &Cell, cores: usize) -> Value {
    let (sched, assist) = words(MODES[c.mode]);
    let max = Spread::of(c.max.iter().copied().flatten());
    let told = |i: usize| Spread::of(c.told[i].iter().copied());
    json!({
        "dist": c.law.name(), "s_us": c.us, "sched": sched, "assist": assist,
        "max_load": max.map(|s| s.median), "max_load_low": max.map(|s| s.low), "max_load_high": max.map(|s| s.high),
        "p99_over_s_at_50": told(0).map(|s| s.median), "p99_over_s_at_75": told(1).map(|s| s.median),
        "model_max_load": predicted(cores, c.us, c.mode, c.law),
        "confident": c.confident,
    })
}

fn maxima(m: &Measured, cores: usize) -> Table {
    let mut columns_ = vec![Column::text("law"), Column::number("S", "us"), Column::text("way")];
    columns_.extend(columns("highest load", "%"));
    columns_.extend([
        Column::number("model", "%").decimals(1),
        Column::number("bound", "%").decimals(1),
        Column::number("of IX", "").decimals(2),
    ]);
    let rows = m.cells.iter().map(|c| {
        let percent = |s: Spread| Spread { median: 100.0 * s.median, low: 100.0 * s.low, high: 100.0 * s.high };
        let max = Spread::of(c.max.iter().copied().flatten()).map(percent);
        let [partitioned, central] = bounds(c.law);
        let bound = if c.mode == 0 { partitioned } else { central };
        let ix = m.cells.iter().find(|o| (o.law, o.us, o.mode) == (c.law, c.us, 0));
        let ratio = ix.and_then(|ix| paired(&c.max, &ix.max)).map(|s| s.median);
        let mut row = vec![json!(c.law.name()), json!(c.us), json!(MODES[c.mode].to_string())];
        row.extend(cells(max));
        row.push(json!(predicted(cores, c.us, c.mode, c.law).map(|p| 100.0 * p)));
        row.push(json!((cores == 2).then_some(100.0 * bound)));
        row.push(json!(ratio));
        row
    });
    Table {
        id: "maxima".into(),
        title: format!("Highest load with p99 <= {SLO} S"),
        caption: "In per cent of what the cores can do. Model: predicted before the code was written. Bound: theory without costs, for IX that \
                  of a queue per core, else of one queue. Of IX: the ratio within a round."
            .into(),
        columns: columns_,
        rows: rows.collect(),
    }
}

fn tails(m: &Measured) -> Table {
    let mut columns_ = vec![Column::text("law"), Column::number("S", "us"), Column::text("way")];
    for load in TOLD {
        columns_.extend(columns(&format!("p99 at {:.0} %", 100.0 * load), "S"));
    }
    let rows = m.cells.iter().map(|c| {
        let mut row = vec![json!(c.law.name()), json!(c.us), json!(MODES[c.mode].to_string())];
        c.told.iter().for_each(|told| row.extend(cells(Spread::of(told.iter().copied()))));
        row
    });
    Table {
        id: "tails".into(),
        title: "p99 at fixed loads".into(),
        caption: "In service times. Beyond its highest load a way has no steady state: what is told then grows with the window.".into(),
        columns: columns_,
        rows: rows.collect(),
    }
}

fn small(m: &Measured) -> Table {
    let mut columns_ = vec![Column::text("wire"), Column::text("way")];
    columns_.extend(columns("USR", "requests/s"));
    columns_.extend(columns("of IX", ""));
    let rows = m.tiny.iter().map(|c| {
        let ix = m.tiny.iter().find(|o| o.wire == c.wire && o.mode == 0);
        let mut row = vec![json!(c.wire), json!(MODES[c.mode].to_string())];
        row.extend(cells(Spread::of(c.rps.iter().copied().flatten())));
        row.extend(cells(ix.and_then(|ix| paired(&c.rps, &ix.rps))));
        row
    });
    Table {
        id: "tiny".into(),
        title: format!("Tiny tasks: the store's USR with p99 <= {} us", tiny::SLO.micros()),
        caption: "openloop: the highest rate at the objective on all cores, requests made on these very cores. shm: a closed loop, 100 connections with \
                  four requests under way each, one server core, one client core."
            .into(),
        columns: columns_,
        rows: rows.collect(),
    }
}

fn figures(scope: &Scope, m: &Measured, cores: usize) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &us in scope.times {
        for &law in scope.laws {
            let full = cores as f64 * 1e6 / f64::from(us);
            let line = |c: &Cell| {
                let tried: Vec<hunt::Tried> = c
                    .tried
                    .iter()
                    .map(|t| hunt::Tried { rate: 100.0 * t.rate / full, achieved: 100.0 * t.achieved / full, ..*t })
                    .map(|t| hunt::Tried { latency_us: t.latency_us / f64::from(us), ..t })
                    .collect();
                Series {
                    name: MODES[c.mode].to_string(),
                    style: Style::Line,
                    points: hunt::curve(&tried, 2.0 * f64::from(SLO)),
                }
            };
            let of = m.cells.iter().filter(|c| (c.law, c.us) == (law, us));
            figures.push(Figure {
                id: format!("{}-{us}", law.name()),
                title: format!("p99 by load: {}, S = {us} us", law.title()),
                caption: "The windows of the search. The objective is marked.".into(),
                x: Axis { label: "load".into(), unit: "%".into(), ..Axis::default() },
                y: Axis {
                    label: "p99".into(),
                    unit: "S".into(),
                    max: Some(2.0 * f64::from(SLO)),
                    mark: Some(f64::from(SLO)),
                    ..Axis::default()
                },
                series: of.map(line).filter(|s| !s.points.is_empty()).collect(),
            });
        }
    }
    let by = |id: &str, title: &str, of: fn(&Swept) -> &Vec<f64>| {
        let line = |mode: usize| {
            let of_mode = m.swept.iter().filter(|s| s.mode == mode);
            let points = of_mode.filter_map(|s| {
                let y = Spread::of(of(s).iter().map(|n| 100.0 * n))?;
                Some(at(100.0 * s.load, y))
            });
            Series { name: MODES[mode].to_string(), style: Style::Line, points: points.collect() }
        };
        Figure {
            id: id.into(),
            title: title.into(),
            caption: format!("{}, S = {} us (thesis figure 3.9, at {cores} cores).", SWEPT.0.title(), SWEPT.1),
            x: Axis { label: "load".into(), unit: "%".into(), ..Axis::default() },
            y: Axis { label: "per request".into(), unit: "%".into(), ..Axis::default() },
            series: (1..MODES.len()).map(line).filter(|s| !s.points.is_empty()).collect(),
        }
    };
    figures.push(by("steals", "Steals by load", |s| &s.steals));
    figures.push(by("lends", "Lends by load", |s| &s.lends));
    figures.push(by("interrupts", "Interrupts by load", |s| &s.interrupts));
    figures
}

fn notes(scope: &Scope, m: &Measured) -> Vec<String> {
    let mut notes = vec![format!(
        "Every core is a server; the open-loop NIC makes the requests on them (Poisson, 1024 connections) and takes the replies' times at \
         transmit, from the instants for which requests were meant. Windows of {:.2} s or more, {} round(s); a stretch in which a core was \
         away (its thread's CPU clock stood still for half a service time or longer) is left out, with five service times before it and, after it, ten and as long as it takes to work off twice the gap at that load. In IX mode the batch bound is 1.",
        scope.window(scope.times[0]).as_secs_f64(),
        scope.rounds
    )];
    for (rate, s) in &m.network {
        notes.push(format!(
            "Network cost per request at {rate:.0} requests/s on {} cores: {:.2} us of a core, quartiles {:.2} to {:.2}. Receive, TCP, syscalls, transmit, \
             acknowledgements (IX, batch bound 64, 64 connections); without the application and its library, and without the generator's own share, \
             which is measured apart.",
            scope.cores.len(),
            s.median,
            s.low,
            s.high
        ));
    }
    let unsure = m.cells.iter().filter(|c| !c.confident).count();
    if unsure > 0 {
        notes.push(format!("{unsure} of {} maxima are not sure: a search ran out of windows.", m.cells.len()));
    }
    if m.errors > 0 {
        notes.push(format!("{} errors where none should be.", m.errors));
    }
    let sum = |of: fn(&super::Counts) -> u64, mode: usize| -> u64 {
        m.cells.iter().filter(|c| c.mode == mode).flat_map(|c| &c.counts).map(of).sum()
    };
    let lend = MODES.len() - 1;
    if m.cells.iter().all(|c| c.counts.is_empty()) {
        return notes;
    }
    notes.push(format!(
        "Lending, over all windows at {:.0} % load: {} network passes for others, {} batches came home to be carried out there, {} times a core \
         found its own network layer taken.",
        100.0 * TOLD[1],
        sum(|c| c.lends, lend),
        sum(|c| c.remote, lend),
        sum(|c| c.taken, lend)
    ));
    notes
}

#[cfg(test)]
mod tests {
    use super::super::model::Law;
    use super::*;

    #[test]
    fn a_row_has_what_others_rely_on() {
        let cell = Cell {
            law: Law::B1,
            us: 50,
            mode: 3,
            max: vec![Some(0.5), None, Some(0.6)],
            confident: true,
            told: [vec![7.0, 9.0, 8.0], vec![]],
            counts: vec![],
            tried: vec![],
        };
        let row = row(&cell, 2);
        assert_eq!((&row["dist"], &row["sched"], &row["assist"]), (&"b1".into(), &"zygos".into(), &"lend".into()));
        assert_eq!((&row["s_us"], &row["p99_over_s_at_50"]), (&50.into(), &8.0.into()));
        assert!(row["p99_over_s_at_75"].is_null());
        assert_eq!((row["max_load"].as_f64(), row["model_max_load"].as_f64()), (Some(0.55), Some(0.569)));
    }
}
