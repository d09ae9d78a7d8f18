//! Many messages of one size: how many a second, and how many bits (thesis figure 2.5, its right part).

use anyhow::Result;
use load::Pace;
use report::{Axis, Column, Figure, Table};
use serde_json::json;
use units::Nanos;

use super::grid::{Extent, Grid, Plan, START, cells, columns, remarks, text, visit};
use super::side::{Shape, Side, Way};
use super::{Asked, Finding, echo, finish, went_through};
use crate::Lab;
use crate::stack::Stack;

/// Bytes of a message.
const SIZES: [u32; 8] = [64, 128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10];

const WAYS: [Way; 4] =
    [Way::Sockets(Stack::LinuxPartitioned), Way::Sockets(Stack::LinuxFloating), Way::Sockets(Stack::Zygix), Way::Shm];

const CONNECTIONS: u32 = 100;

/// A window's share of the point that was asked for.
const SHARE: f64 = 0.2;

fn plan(asked: &Asked, extent: Extent) -> Plan {
    let takes = Lab::takes(extent.window(asked, SHARE)) + Nanos(START.0 / 3);
    Plan { what: "sizes", rounds: extent.rounds(asked), takes, from: Nanos::ZERO }
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, extent: Extent) -> Nanos {
    plan(asked, extent).total(WAYS.len(), extent.of(&SIZES).len())
}

/// Runs the bench.
///
/// # Errors
/// No server starts. One that does not, or fails later, is left out with a note.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent) -> Result<Finding> {
    let sizes = extent.of(&SIZES);
    let mut sides: Vec<Side> = WAYS.iter().enumerate().map(|(i, way)| Side::new(*way, "echo", i)).collect();
    let mut grid = Grid::new(sides.len(), sizes);
    let (plan, length) = (plan(asked, extent), extent.window(asked, SHARE));
    lab.progress.plan(takes(asked, extent));
    let measured = visit(lab, &mut sides, &mut grid, &plan, |lab, side, _, x| {
        let shape = Shape::new(echo(sizes[x]), CONNECTIONS, 1);
        let point = side.measure(lab, &shape, Pace::Closed, length)?;
        side.errors += point.outcome.errors.total();
        Ok(point)
    });
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "sizes", "Messages by size", asked, &[], through)?;
    let (notes, errors) = remarks(&sides);
    document.notes.extend(notes);
    document.notes.push(format!(
        "{CONNECTIONS} connections that stay, one message at a time on each, closed loop, windows of {:.2} s. Where the server's \
         core is not busy, it is the client's core that limits; over shm the client is Zygix itself.",
        length.as_secs_f64()
    ));
    document.figures = figures(&grid, &sides);
    let table = table(&grid, &sides);
    let text = text(&table);
    document.tables = vec![table];
    Ok(Finding { document, text, errors, interrupted: !through })
}

/// Gigabits of messages per second in one direction.
fn gbits(size: f64, rps: f64) -> f64 {
    8.0 * size * rps / 1e9
}

fn figures(grid: &Grid, sides: &[Side]) -> Vec<Figure> {
    let x = Axis { label: "message size".into(), unit: "B".into(), log: true, ..Axis::default() };
    vec![
        Figure {
            id: "messages".into(),
            title: "Messages by size".into(),
            caption: format!("Echoed, {CONNECTIONS} connections, one message at a time on each."),
            x: x.clone(),
            y: Axis { label: "messages".into(), unit: "1/s".into(), ..Axis::default() },
            series: grid.lines(sides, |_, s| s.rps),
        },
        Figure {
            id: "bits".into(),
            title: "Bandwidth by message size".into(),
            caption: "The same windows: bytes of messages in each of the two directions, without any header.".into(),
            x,
            y: Axis { label: "bandwidth each way".into(), unit: "Gbit/s".into(), ..Axis::default() },
            series: grid.lines(sides, |x, s| gbits(x, s.rps)),
        },
    ]
}

fn table(grid: &Grid, sides: &[Side]) -> Table {
    let mut rows = Vec::new();
    for (x, size) in grid.xs.iter().enumerate() {
        for (i, side) in sides.iter().enumerate() {
            let messages = cells(grid.spread(i, x, |s| s.rps));
            let bits = grid.spread(i, x, |s| gbits(f64::from(*size), s.rps)).map(|s| s.median);
            let busy = grid.spread(i, x, |s| s.busy * 100.0).map(|s| s.median);
            let row = [json!(size), json!(side.name)].into_iter().chain(messages);
            rows.push(row.chain([json!(bits), json!(busy)]).collect());
        }
    }
    let ends = [Column::number("message", "B").decimals(0), Column::text("stack")];
    let rates = [Column::number("bandwidth each way", "Gbit/s"), Column::number("server busy", "%").decimals(0)];
    Table {
        id: "rates".into(),
        title: "Messages per second".into(),
        caption: "The server is busy when its threads run and do not poll in vain; softirqs on the client's core are not in it.".into(),
        columns: ends.into_iter().chain(columns("messages", "1/s")).chain(rates).collect(),
        rows,
    }
}
