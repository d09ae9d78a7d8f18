//! Connections that do not live long: n messages each, then a reset and the next one (thesis figure 2.5, its left part).

use anyhow::Result;
use load::{Churn, Hangup, Pace};
use report::{Axis, Column, Figure, Table};
use serde_json::json;
use units::Nanos;

use super::grid::{Extent, Grid, Plan, START, cells, columns, remarks, text, visit};
use super::side::{Shape, Side, Way};
use super::{Asked, Finding, echo, finish, went_through};
use crate::Lab;
use crate::stack::Stack;

/// Messages per connection.
const MESSAGES: [u32; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

const STACKS: [Stack; 3] = [Stack::LinuxPartitioned, Stack::LinuxFloating, Stack::Zygix];

/// Open at once.
const CONNECTIONS: u32 = 100;

/// Bytes of a message.
const SIZE: u32 = 64;

/// A window's share of the point that was asked for.
const SHARE: f64 = 0.2;

fn plan(asked: &Asked, extent: Extent) -> Plan {
    let takes = Lab::takes(extent.window(asked, SHARE)) + Nanos(START.0 / 5);
    Plan { what: "churn", rounds: extent.rounds(asked), takes, from: Nanos::ZERO }
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, extent: Extent) -> Nanos {
    plan(asked, extent).total(STACKS.len(), extent.of(&MESSAGES).len())
}

/// Runs the bench.
///
/// # Errors
/// No server starts. One that does not, or fails later, is left out with a note.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent) -> Result<Finding> {
    let messages = extent.of(&MESSAGES);
    let side = |(i, stack): (usize, &Stack)| Side::new(Way::Sockets(*stack), "echo", i);
    let mut sides: Vec<Side> = STACKS.iter().enumerate().map(side).collect();
    let mut grid = Grid::new(sides.len(), messages);
    let (plan, length) = (plan(asked, extent), extent.window(asked, SHARE));
    lab.progress.plan(takes(asked, extent));
    let measured = visit(lab, &mut sides, &mut grid, &plan, |lab, side, _, x| {
        let churn = Some(Churn { requests: messages[x], how: Hangup::Rst });
        let shape = Shape { churn, ..Shape::new(echo(SIZE), CONNECTIONS, 1) };
        let point = side.measure(lab, &shape, Pace::Closed, length)?;
        side.errors += point.outcome.errors.total();
        Ok(point)
    });
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "churn", "Connections that do not live long", asked, &[], through)?;
    let (notes, errors) = remarks(&sides);
    document.notes.extend(notes);
    document.notes.push(format!(
        "{CONNECTIONS} connections at a time, each opened, asked n times for the echo of {SIZE} B, one message at a time, and reset; \
         closed loop, windows of {:.2} s. One client core on Linux sockets opens and resets as fast as it can: where the \
         server's core is not busy, it is the client's core that limits.",
        length.as_secs_f64()
    ));
    document.figures = figures(&grid, &sides);
    let table = table(&grid, &sides);
    let text = text(&table);
    document.tables = vec![table];
    Ok(Finding { document, text, errors, interrupted: !through })
}

fn figures(grid: &Grid, sides: &[Side]) -> Vec<Figure> {
    let x = Axis { label: "messages per connection".into(), log: true, ..Axis::default() };
    vec![
        Figure {
            id: "messages".into(),
            title: "Messages by the life of a connection".into(),
            caption: format!(
                "{SIZE} B echoed, {CONNECTIONS} connections at a time, each reset after so many messages."
            ),
            x: x.clone(),
            y: Axis { label: "messages".into(), unit: "1/s".into(), ..Axis::default() },
            series: grid.lines(sides, |_, s| s.rps),
        },
        Figure {
            id: "connections".into(),
            title: "Connections by their life".into(),
            caption: "The same windows, as connections opened, served and reset.".into(),
            x,
            y: Axis { label: "connections".into(), unit: "1/s".into(), log: true, ..Axis::default() },
            series: grid.lines(sides, |n, s| s.rps / n),
        },
    ]
}

fn table(grid: &Grid, sides: &[Side]) -> Table {
    let mut rows = Vec::new();
    for (x, n) in grid.xs.iter().enumerate() {
        for (i, side) in sides.iter().enumerate() {
            let connections = cells(grid.spread(i, x, |s| s.rps / f64::from(*n)));
            let messages = cells(grid.spread(i, x, |s| s.rps));
            let busy = grid.spread(i, x, |s| s.busy * 100.0).map(|s| s.median);
            let row = [json!(n), json!(side.name)].into_iter().chain(connections).chain(messages);
            rows.push(row.chain([json!(busy)]).collect());
        }
    }
    let ends = [Column::number("messages per connection", "").decimals(0), Column::text("stack")];
    let columns = ends.into_iter().chain(columns("connections", "1/s")).chain(columns("messages", "1/s"));
    Table {
        id: "rates".into(),
        title: "Connections and messages per second".into(),
        caption: "The server is busy when its threads run and do not poll in vain; softirqs on the client's core are not in it.".into(),
        columns: columns.chain([Column::number("server busy", "%").decimals(0)]).collect(),
        rows,
    }
}
