use std::fmt::Write;

use anyhow::{Result, bail};
use load::Side as Saturated;
use report::{Column, Series, Style, Table};
use serde_json::{Value, json};
use units::Nanos;

use super::side::Side;
use super::{Asked, alternate};
use crate::measure::Point;
use crate::stats::Spread;
use crate::{Interrupted, Lab};

/// How much of a bench is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All of it.
    Full,
    /// Hardly any, in a second or so: that it runs, not what it says.
    Tiny,
}

impl Extent {
    /// All of these, or the first two.
    pub(super) fn of<T>(self, all: &[T]) -> &[T] {
        match self {
            Extent::Full => all,
            Extent::Tiny => &all[..all.len().min(2)],
        }
    }

    /// The rounds: as many as asked for, or one.
    pub(super) fn rounds(self, asked: &Asked) -> u32 {
        if self == Extent::Tiny { 1 } else { asked.repeats.max(1) }
    }

    /// A window of a share of the point that was asked for.
    pub(super) fn window(self, asked: &Asked, share: f64) -> Nanos {
        let least = Nanos::from_millis(50);
        match self {
            Extent::Full => Nanos((asked.point.0 as f64 * share) as u64).max(least),
            Extent::Tiny => least,
        }
    }
}

/// One window in numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Sample {
    /// Right replies per second.
    pub(super) rps: f64,
    /// Latencies in microseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// The share of the window in which the server's threads had something to do.
    pub(super) busy: f64,
    /// Which side could not keep up with an open loop.
    pub(super) saturated: Option<Saturated>,
    /// The machine was too noisy.
    pub(super) void: bool,
}

impl Sample {
    pub(super) fn of(point: &Point) -> Sample {
        let us = |q| point.outcome.quantile(q).0 as f64 / 1e3;
        Sample {
            rps: point.outcome.achieved_rps(),
            p50: us(0.5),
            p99: point.outcome.typical(0.99).0 as f64 / 1e3,
            busy: point.server_busy(),
            saturated: point.outcome.saturated(),
            void: point.void(),
        }
    }
}

/// The windows of a bench, by side and by what it varies.
pub(super) struct Grid {
    /// What is varied: the horizontal axis.
    pub(super) xs: Vec<u32>,
    cells: Vec<Vec<Vec<Sample>>>,
}

impl Grid {
    pub(super) fn new(sides: usize, xs: &[u32]) -> Grid {
        Grid { xs: xs.to_vec(), cells: vec![vec![Vec::new(); xs.len()]; sides] }
    }

    /// The samples of a side at the `x`-th value, those of a quiet machine if there is one. A window in which nothing was
    /// answered, or nothing that no noise had touched, is no sample.
    pub(super) fn samples(&self, side: usize, x: usize) -> Vec<Sample> {
        let all: Vec<Sample> = self.cells[side][x].iter().filter(|s| s.p50 > 0.0).copied().collect();
        let quiet: Vec<Sample> = all.iter().filter(|s| !s.void).copied().collect();
        if quiet.is_empty() { all } else { quiet }
    }

    /// A figure's spread over the rounds.
    pub(super) fn spread(&self, side: usize, x: usize, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples(side, x).iter().map(figure))
    }

    /// A line through a side's medians; `figure` is given the varied value and the sample.
    pub(super) fn line(&self, side: usize, name: &str, figure: impl Fn(f64, &Sample) -> f64) -> Series {
        let point = |(i, x): (usize, &u32)| {
            let x = f64::from(*x);
            self.spread(side, i, |s| figure(x, s)).map(|y| at(x, y))
        };
        let points = self.xs.iter().enumerate().filter_map(point).collect();
        Series { name: name.to_owned(), style: Style::Line, points }
    }

    /// Lines of all sides.
    pub(super) fn lines(&self, sides: &[Side], figure: impl Fn(f64, &Sample) -> f64 + Copy) -> Vec<Series> {
        let line = |(i, side): (usize, &Side)| self.line(i, &side.name, figure);
        sides.iter().enumerate().map(line).filter(|s| !s.points.is_empty()).collect()
    }

    /// Whether there is anything at all.
    pub(super) fn is_empty(&self) -> bool {
        self.cells.iter().flatten().all(Vec::is_empty)
    }
}

/// A point with its range.
pub(super) fn at(x: f64, y: Spread) -> report::Point {
    report::Point::spread(x, y.median, y.low, y.high)
}

/// Measures all sides at all values, side by side: every round visits all values, every value all sides, in alternating order.
/// `done` of the bench's plan is over before, `takes` is what one window does. A side that fails is left out from then on,
/// with a warning.
///
/// # Errors
/// [`Interrupted`]; no side is left.
pub(super) fn visit(
    lab: &mut Lab,
    sides: &mut [Side],
    grid: &mut Grid,
    plan: &Plan,
    mut window: impl FnMut(&mut Lab, &mut Side, usize, usize) -> Result<Point>,
) -> Result<()> {
    let mut done = plan.from;
    for round in 0..plan.rounds {
        lab.progress.part(&format!("{}: round {} of {}", plan.what, round + 1, plan.rounds));
        for x in 0..grid.xs.len() {
            for i in alternate(sides.len(), round + x as u32) {
                let side = &mut sides[i];
                done += plan.takes;
                if side.skipped.is_some() {
                    continue;
                }
                lab.progress.say(&format!("{}: {} at {}", plan.what, side.name, grid.xs[x]));
                let point = window(lab, side, i, x);
                side.rest();
                lab.progress.to(done);
                match point {
                    Ok(point) => grid.cells[i][x].push(Sample::of(&point)),
                    Err(e) if e.is::<Interrupted>() => return Err(e),
                    Err(e) => skip(lab, side, &format!("{e:#}")),
                }
            }
            if sides.iter().all(|s| s.skipped.is_some()) {
                let reasons: Vec<&str> = sides.iter().filter_map(|s| s.skipped.as_deref()).collect();
                bail!("nothing could be measured: {}", reasons.join("; "));
            }
        }
    }
    Ok(())
}

/// Leaves a side out from now on, and says so.
pub(super) fn skip(lab: &Lab, side: &mut Side, why: &str) {
    lab.progress.warn(&format!("SKIPPED {}: {why}", side.name));
    side.skipped = Some(why.to_owned());
    side.end();
}

/// How [`visit`] goes about it.
pub(super) struct Plan {
    /// For progress.
    pub(super) what: &'static str,
    pub(super) rounds: u32,
    /// What one window takes at most.
    pub(super) takes: Nanos,
    /// What of the bench's time was planned for what is before.
    pub(super) from: Nanos,
}

impl Plan {
    /// What the whole of it takes.
    pub(super) fn total(&self, sides: usize, xs: usize) -> Nanos {
        times(self.takes, self.rounds as usize * sides * xs)
    }
}

/// So many times as long.
pub(super) fn times(span: Nanos, n: usize) -> Nanos {
    Nanos(span.0 * n as u64)
}

/// What starting a server with its client takes.
pub(super) const START: Nanos = Nanos::from_millis(400);

/// What sides have to say beside their figures, and how many errors they had.
pub(super) fn remarks(sides: &[Side]) -> (Vec<String>, u64) {
    let skipped = |s: &Side| s.skipped.as_ref().map(|why| format!("{}: left out: {why}", s.name));
    let errors = |s: &Side| (s.errors > 0).then(|| format!("{}: {} errors where none should be", s.name, s.errors));
    let notes = sides.iter().flat_map(|s| [skipped(s), errors(s)]).flatten().collect();
    let failed = sides.iter().filter(|s| s.skipped.is_some()).count() as u64;
    (notes, failed + sides.iter().map(|s| s.errors).sum::<u64>())
}

/// The cells of a spread: median, lowest and highest.
pub(super) fn cells(spread: Option<Spread>) -> [Value; 2] {
    let range = |s: Spread| format!("{} to {}", brief(s.low), brief(s.high));
    [json!(spread.map(|s| s.median)), json!(spread.map(range))]
}

/// The columns for [`cells`].
pub(super) fn columns(name: &str, unit: &str) -> [Column; 2] {
    [Column::number(name, unit), Column::text("range")]
}

/// Three significant digits; whole numbers from 100 on.
pub(super) fn brief(value: f64) -> String {
    match value.abs() {
        a if !a.is_finite() => "-".into(),
        a if a >= 99.95 => format!("{value:.0}"),
        a if a >= 9.995 => format!("{value:.1}"),
        0.0 => "0".into(),
        a if a >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}

/// A table for people at a terminal.
pub fn text(table: &Table) -> String {
    let heading = |c: &Column| if c.unit.is_empty() { c.name.clone() } else { format!("{} ({})", c.name, c.unit) };
    let cell = |v: &Value, c: &Column| match (v, c.decimals) {
        (Value::Null, _) => "-".into(),
        (Value::String(s), _) => s.clone(),
        (v, Some(d)) => v.as_f64().map_or("-".into(), |n| format!("{n:.*}", usize::from(d))),
        (v, None) => v.as_f64().map_or("-".into(), brief),
    };
    let head: Vec<String> = table.columns.iter().map(heading).collect();
    let body = table.rows.iter().map(|row| row.iter().zip(&table.columns).map(|(v, c)| cell(v, c)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", table.title);
    for line in &lines {
        let mut row = String::new();
        for (i, cell) in line.iter().enumerate() {
            let (width, words) = (width(i), table.columns[i].text);
            let _ = if words { write!(row, "{cell:<width$}  ") } else { write!(row, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rps: f64, void: bool) -> Sample {
        Sample { rps, p50: 10.0, p99: 20.0, busy: 0.5, saturated: None, void }
    }

    fn asked(seconds: f64, repeats: u32) -> Asked {
        Asked { command: String::new(), point: Nanos((seconds * 1e9) as u64), repeats, records: 1 }
    }

    #[test]
    fn quiet_windows_speak_for_noisy_ones() {
        let mut grid = Grid::new(2, &[64, 128]);
        assert!(grid.is_empty());
        grid.cells[0][1] = vec![sample(9.0, true), sample(2.0, false), sample(4.0, false)];
        grid.cells[1][0] = vec![sample(7.0, true)];
        assert_eq!(grid.spread(0, 1, |s| s.rps).unwrap(), Spread { median: 3.0, low: 2.0, high: 4.0 });
        assert_eq!(grid.spread(1, 0, |s| s.rps).unwrap().median, 7.0, "if there is no quiet one, any will do");
        assert_eq!(grid.spread(1, 1, |s| s.rps), None);
        grid.cells[1][1] = vec![Sample { p50: 0.0, ..sample(0.0, false) }];
        assert_eq!(grid.spread(1, 1, |s| s.rps), None, "nothing was answered");
        let line = grid.line(0, "a", |x, s| x * s.rps);
        assert_eq!(line.points, [report::Point::spread(128.0, 384.0, 256.0, 512.0)]);
        assert!(!grid.is_empty());
    }

    #[test]
    fn a_tiny_extent_is_tiny() {
        let long = asked(5.0, 3);
        assert_eq!(Extent::Full.of(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(Extent::Tiny.of(&[1, 2, 3]), [1, 2]);
        assert_eq!(Extent::Tiny.of(&[1]), [1]);
        assert_eq!((Extent::Full.rounds(&long), Extent::Tiny.rounds(&long)), (3, 1));
        assert_eq!(Extent::Full.window(&long, 0.2), Nanos::from_secs(1));
        assert_eq!(Extent::Full.window(&asked(0.05, 1), 0.2), Extent::Tiny.window(&long, 0.2));
    }

    #[test]
    fn tables_are_aligned_for_people() {
        let table = Table {
            title: "What".into(),
            columns: vec![Column::text("who"), Column::number("rate", "1/s"), Column::number("p99", "us").decimals(1)],
            rows: vec![vec![json!("a"), json!(123_456.7), json!(2.25)], vec![json!("bcde"), json!(null), json!(0.0)]],
            ..Table::default()
        };
        assert_eq!(
            text(&table),
            "What\nwho   rate (1/s)  p99 (us)\na         123457       2.2\nbcde           -       0.0\n"
        );
        assert_eq!([brief(0.0), brief(12.34), brief(0.5), brief(1e-4)], ["0", "12.3", "0.50", "1.0e-4"]);
    }
}
