//! The bound of a batch: what it gives in throughput, and whether it costs latency (thesis figure 2.13).
//!
//! Two settings: USR on the key-value store over TAP, with a Linux client, and echo over shm with our own. For each bound B the
//! load rises in steps that are shares of what that server came to in a closed loop.

use anyhow::Result;
use load::{Pace, Side as Saturated};
use report::{Axis, Column, Figure, Series, Style, Table};
use serde_json::json;
use units::Nanos;

use super::grid::{Extent, Grid, Plan, START, cells, columns, remarks, text, times, visit};
use super::side::{Shape, Side, Way};
use super::{Asked, Finding, echo, finish, usr, went_through};
use crate::Lab;
use crate::stack::Stack;
use crate::stats::{Spread, median};

/// B, as in the thesis.
const BOUNDS: [&str; 5] = ["1", "2", "8", "16", "64"];

/// Open-loop rates in per cent of what a closed loop came to.
const LOADS: [u32; 8] = [10, 25, 40, 55, 70, 80, 90, 100];

/// The objective, in microseconds.
const SLO: f64 = 500.0;

/// The latency axis ends at so many times that.
const AXIS: f64 = 4.0;

/// A window's share of the point that was asked for.
const SHARE: f64 = 0.16;

const CONNECTIONS: u32 = 100;
const DEPTH: u32 = 4;

/// What storing a record takes, roughly.
const STORE: Nanos = Nanos::from_micros(10);

/// A server of each bound, and how it is asked.
struct Setting {
    name: &'static str,
    title: &'static str,
    way: Way,
    app: &'static str,
    /// What starting takes: in all, and for each window.
    starts: [Nanos; 2],
}

fn settings(asked: &Asked) -> [Setting; 2] {
    [
        Setting {
            name: "usr-tap",
            title: "USR over TAP, Linux client",
            way: Way::Sockets(Stack::Zygix),
            app: "kv",
            starts: [times(START + times(STORE, asked.records as usize), BOUNDS.len()), Nanos::ZERO],
        },
        Setting {
            name: "echo-shm",
            title: "64 B echo over shm, our own client",
            way: Way::Shm,
            app: "echo",
            starts: [Nanos::ZERO, START],
        },
    ]
}

/// What was measured of a setting.
struct Measured {
    setting: Setting,
    sides: Vec<Side>,
    closed: Grid,
    open: Grid,
}

impl Setting {
    fn plan(&self, asked: &Asked, extent: Extent, rounds: u32, from: Nanos) -> Plan {
        let takes = Lab::takes(extent.window(asked, SHARE)) + self.starts[1];
        Plan { what: self.name, rounds, takes, from }
    }

    fn takes(&self, asked: &Asked, extent: Extent) -> Nanos {
        let sides = extent.of(&BOUNDS).len();
        let closed = self.plan(asked, extent, 1, Nanos::ZERO).total(sides, 1);
        let open = self.plan(asked, extent, extent.rounds(asked), Nanos::ZERO).total(sides, extent.of(&LOADS).len());
        self.starts[0] + closed + open
    }

    fn shape(&self, asked: &Asked) -> Shape {
        let workload = if self.app == "kv" { usr(asked.records) } else { echo(64) };
        Shape::new(workload, CONNECTIONS, DEPTH)
    }
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, extent: Extent) -> Nanos {
    settings(asked).iter().fold(Nanos::ZERO, |sum, s| sum + s.takes(asked, extent))
}

/// Runs the bench.
///
/// # Errors
/// No server starts. One that does not, or fails later, is left out with a note.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent) -> Result<Finding> {
    let mut all = Vec::new();
    lab.progress.plan(takes(asked, extent));
    let measured = measure_all(lab, asked, extent, &mut all);
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "batch", "The bound of a batch", asked, &[], through)?;
    document.notes.push(format!(
        "`serve --batch B`: at most B frames and connections in one turn. {CONNECTIONS} connections, up to {DEPTH} requests \
         outstanding on each; open loop, Poisson, at shares of what each server comes to in a closed loop; windows of {:.2} s.",
        extent.window(asked, SHARE).as_secs_f64()
    ));
    let mut errors = 0;
    for m in &all {
        let (notes, n) = remarks(&m.sides);
        document.notes.extend(notes.iter().map(|note| format!("{}, {note}", m.setting.title)));
        errors += n;
    }
    document.figures = all.iter().filter(|m| !m.open.is_empty()).map(figure).collect();
    document.tables = all.iter().filter(|m| !m.closed.is_empty()).map(table).collect();
    let text = document.tables.iter().map(text).collect::<Vec<_>>().join("\n");
    Ok(Finding { document, text, errors, interrupted: !through })
}

fn measure_all(lab: &mut Lab, asked: &Asked, extent: Extent, all: &mut Vec<Measured>) -> Result<()> {
    let mut from = Nanos::ZERO;
    let bounds = extent.of(&BOUNDS);
    for (s, setting) in settings(asked).into_iter().enumerate() {
        let side = |(i, b): (usize, &&str)| {
            Side::new(setting.way, setting.app, s * BOUNDS.len() + i).named(&format!("B = {b}")).with(&["--batch", b])
        };
        let sides = bounds.iter().enumerate().map(side).collect();
        let (closed, open) = (Grid::new(bounds.len(), &[100]), Grid::new(bounds.len(), extent.of(&LOADS)));
        let next = from + setting.takes(asked, extent);
        all.push(Measured { setting, sides, closed, open });
        let Some(m) = all.last_mut() else { continue };
        let measured = measure(lab, asked, extent, m, from);
        m.sides.iter_mut().for_each(Side::end);
        measured?;
        from = next;
    }
    Ok(())
}

fn measure(lab: &mut Lab, asked: &Asked, extent: Extent, m: &mut Measured, from: Nanos) -> Result<()> {
    let (shape, length) = (m.setting.shape(asked), extent.window(asked, SHARE));
    let from = from + m.setting.starts[0];
    let plan = m.setting.plan(asked, extent, 1, from);
    visit(lab, &mut m.sides, &mut m.closed, &plan, |lab, side, _, _| {
        let point = side.measure(lab, &shape, Pace::Closed, length)?;
        side.errors += point.outcome.errors.total();
        Ok(point)
    })?;
    let capacity: Vec<f64> = (0..m.sides.len()).map(|i| m.capacity(i)).collect();
    let from = from + plan.total(m.sides.len(), 1);
    let plan = m.setting.plan(asked, extent, extent.rounds(asked), from);
    let loads = m.open.xs.clone();
    visit(lab, &mut m.sides, &mut m.open, &plan, |lab, side, i, x| {
        let rate = (capacity[i] * f64::from(loads[x]) / 100.0).max(1.0);
        let point = side.measure(lab, &shape, Pace::poisson(rate), length)?;
        // Too high a load excuses requests without an answer, but no wrong one.
        side.errors += point.outcome.errors.wrong;
        Ok(point)
    })
}

impl Measured {
    /// What a side came to in a closed loop.
    fn capacity(&self, side: usize) -> f64 {
        self.closed.spread(side, 0, |s| s.rps).map_or(1.0, |s| s.median)
    }

    /// p99 against throughput. Where the client could not keep up there is no point: it would say nothing of the server.
    fn curve(&self, side: usize) -> Vec<report::Point> {
        let mut points = Vec::new();
        for x in 0..self.open.xs.len() {
            let samples = self.open.samples(side, x);
            let fit = || samples.iter().filter(|s| s.saturated != Some(Saturated::Client));
            let Some(p99) = Spread::of(fit().map(|s| s.p99)) else { continue };
            points.push(super::grid::at(median(fit().map(|s| s.rps)), p99));
            if p99.median > SLO * AXIS {
                break;
            }
        }
        points
    }
}

fn figure(m: &Measured) -> Figure {
    let series = |(i, side): (usize, &Side)| Series { name: side.name.clone(), style: Style::Line, points: m.curve(i) };
    Figure {
        id: m.setting.name.into(),
        title: format!("Latency against throughput by batch bound: {}", m.setting.title),
        caption: "p99 from the intended send time, open loop. Where the client could not keep up there is no point."
            .into(),
        x: Axis { label: "requests answered".into(), unit: "1/s".into(), ..Axis::default() },
        y: Axis { label: "p99 latency".into(), unit: "us".into(), log: true, max: Some(SLO * AXIS), mark: Some(SLO) },
        series: m.sides.iter().enumerate().map(series).filter(|s| !s.points.is_empty()).collect(),
    }
}

fn table(m: &Measured) -> Table {
    let first = m.capacity(0);
    let mut rows = Vec::new();
    for (i, side) in m.sides.iter().enumerate() {
        let curve = m.curve(i);
        let held = curve.iter().take_while(|p| p.y <= SLO).last().map(|p| p.x);
        let closed = m.closed.spread(i, 0, |s| s.rps).map(|s| s.median);
        let unhurried = cells(m.open.spread(i, 0, |s| s.p99));
        let busy = m.closed.spread(i, 0, |s| s.busy * 100.0).map(|s| s.median);
        let row = [json!(side.name), json!(closed), json!(closed.map(|c| c / first)), json!(busy), json!(held)];
        rows.push(row.into_iter().chain(unhurried).collect());
    }
    let low = m.open.xs.first().copied().unwrap_or_default();
    let ends = [
        Column::text("bound"),
        Column::number("closed loop", "1/s"),
        Column::number("against the first", "ratio").decimals(2),
        Column::number("server busy", "%").decimals(0),
        Column::number(&format!("highest rate tried with p99 <= {SLO:.0} us"), "1/s"),
    ];
    Table {
        id: m.setting.name.into(),
        title: format!("Batch bound: {}", m.setting.title),
        caption: format!("p99 at low load is that at {low} % of the closed loop's rate."),
        columns: ends.into_iter().chain(columns("p99 at low load", "us")).collect(),
        rows,
    }
}
