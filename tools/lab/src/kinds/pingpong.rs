//! One message at a time over one connection, by size, as NetPIPE does it (thesis figure 2.4): half the round trip as the latency of
//! one way, and the bandwidth that comes of it.

use anyhow::Result;
use report::{Axis, Column, Figure, Table};
use serde_json::json;
use units::Nanos;

use super::grid::{Extent, Grid, Plan, START, cells, columns, remarks, text, visit};
use super::side::{Shape, Side, Way};
use super::{Asked, Finding, echo, finish, went_through};
use crate::Lab;
use crate::stack::Stack;

/// 64 B to 1 MB, by powers of two.
const SIZES: [u32; 15] = [
    64,
    128,
    256,
    512,
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
];

const WAYS: [Way; 3] = [Way::Sockets(Stack::LinuxPartitioned), Way::Sockets(Stack::Zygix), Way::Shm];

/// A window's share of the point that was asked for: even of the largest messages there are hundreds in a second.
const SHARE: f64 = 0.2;

fn plan(asked: &Asked, extent: Extent) -> Plan {
    let takes = Lab::takes(extent.window(asked, SHARE)) + Nanos(START.0 / 3);
    Plan { what: "pingpong", rounds: extent.rounds(asked), takes, from: Nanos::ZERO }
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
        let shape = Shape::new(echo(sizes[x]), 1, 1);
        let point = side.measure(lab, &shape, load::Pace::Closed, length)?;
        side.errors += point.outcome.errors.total();
        Ok(point)
    });
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "pingpong", "One message at a time", asked, &[], through)?;
    let (notes, errors) = remarks(&sides);
    document.notes.extend(notes);
    document.notes.push(format!(
        "One connection, one message at a time, closed loop; windows of {:.2} s; both ends poll. Half the round trip counts as one \
         way. The wires are memory: there is no line rate to reach.",
        length.as_secs_f64()
    ));
    document.figures = figures(&grid, &sides);
    let table = table(&grid, &sides);
    let text = text(&table);
    document.tables = vec![table];
    Ok(Finding { document, text, errors, interrupted: !through })
}

/// Gigabits per second one way: `rps` round trips carry `size` bytes there and back.
fn gbits(size: f64, rps: f64) -> f64 {
    2.0 * 8.0 * size * rps / 1e9
}

fn figures(grid: &Grid, sides: &[Side]) -> Vec<Figure> {
    let x = Axis { label: "message size".into(), unit: "B".into(), log: true, ..Axis::default() };
    vec![
        Figure {
            id: "latency".into(),
            title: "Latency of one way by message size".into(),
            caption: "Half the median round trip. Whiskers: the lowest and the highest of the rounds.".into(),
            x: x.clone(),
            y: Axis { label: "one-way latency".into(), unit: "us".into(), log: true, ..Axis::default() },
            series: grid.lines(sides, |_, s| s.p50 / 2.0),
        },
        Figure {
            id: "bandwidth".into(),
            title: "Bandwidth by message size".into(),
            caption: "Message bytes over half the mean round trip.".into(),
            x,
            y: Axis { label: "bandwidth".into(), unit: "Gbit/s".into(), ..Axis::default() },
            series: grid.lines(sides, |x, s| gbits(x, s.rps)),
        },
    ]
}

fn table(grid: &Grid, sides: &[Side]) -> Table {
    let smallest = grid.xs.first().copied().unwrap_or_default();
    let [latency, range] = columns(&format!("{smallest} B one way, p50"), "us");
    let mut rows = Vec::new();
    for (i, side) in sides.iter().enumerate() {
        let line = grid.line(i, &side.name, |x, s| gbits(x, s.rps));
        let curve: Vec<(f64, f64)> = line.points.iter().map(|p| (p.x, p.y)).collect();
        let peak = curve.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        let [p50, range] = cells(grid.spread(i, 0, |s| s.p50 / 2.0));
        let p99 = grid.spread(i, 0, |s| s.p99 / 2.0).map(|s| s.median);
        rows.push(vec![
            json!(side.name),
            p50,
            range,
            json!(p99),
            json!(peak.map(|p| p.1)),
            json!(peak.map(|p| p.0)),
            json!(half_size(&curve)),
        ]);
    }
    Table {
        id: "summary".into(),
        title: "Latency, bandwidth, half-bandwidth size".into(),
        caption: "The half-bandwidth size is where a stack's bandwidth reaches half of its own peak: the smaller, the less a \
                  message costs beside its bytes. Between two sizes it is interpolated."
            .into(),
        columns: vec![
            Column::text("stack"),
            latency,
            range,
            Column::number("p99", "us"),
            Column::number("peak bandwidth", "Gbit/s"),
            Column::number("peak at", "B").decimals(0),
            Column::number("half-bandwidth size", "B").decimals(0),
        ],
        rows,
    }
}

/// The size at which a curve of (size, bandwidth), by ascending size, first reaches half of its peak, interpolated on a
/// logarithmic axis.
fn half_size(curve: &[(f64, f64)]) -> Option<f64> {
    let half = curve.iter().map(|p| p.1).max_by(f64::total_cmp)? / 2.0;
    let at = curve.iter().position(|p| p.1 >= half)?;
    let (x1, y1) = curve[at];
    let Some((x0, y0)) = at.checked_sub(1).map(|i| curve[i]) else { return Some(x1) };
    let share = (half - y0) / (y1 - y0).max(f64::MIN_POSITIVE);
    Some((x0.ln() + share * (x1.ln() - x0.ln())).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_half_bandwidth_size_is_between_two_sizes() {
        let curve = [(64.0, 1.0), (128.0, 2.0), (256.0, 4.0), (512.0, 6.0)];
        assert_eq!(half_size(&curve).unwrap().round(), (128.0 * 2f64.sqrt()).round());
        assert_eq!(half_size(&[(64.0, 5.0), (128.0, 6.0)]), Some(64.0), "reached from the start");
        assert_eq!(half_size(&[]), None);
    }

    #[test]
    fn the_wire_carries_a_message_each_way() {
        // 100 us a round trip, 50 us each way, 1250 B in that: 25 B/us.
        assert!((gbits(1250.0, 10_000.0) - 0.2).abs() < 1e-12);
        assert!(SIZES.windows(2).all(|w| w[1] == w[0] * 2));
    }
}
