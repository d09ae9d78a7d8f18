//! An axis: from values to places, and which places are named.
//!
//! A place is a share of the axis: 0 is its beginning, 1 its end.

use crate::doc::Axis;
use crate::number::{NO_BREAK, trimmed};

/// Numbers beyond it are nobody's measurements; leaving them out keeps the arithmetic of ranges finite.
const LARGEST: f64 = 1e18;

/// An axis with its range chosen.
#[derive(Debug)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Ticks are powers of two.
    binary: bool,
    unit: Unit,
    most: usize,
}

/// Whether an axis can show `value` at all.
pub(crate) fn drawable(value: f64, log: bool) -> bool {
    value.is_finite() && value.abs() <= LARGEST && (!log || value >= 1.0 / LARGEST)
}

impl Scale {
    /// The scale of `axis` for `values`, with at most `most` ticks. `None` if there is nothing to draw.
    pub(crate) fn new(axis: &Axis, values: &[f64], most: usize) -> Option<Scale> {
        let drawn = || values.iter().copied().filter(|&v| drawable(v, axis.log));
        let min = drawn().min_by(f64::total_cmp)?;
        let mut max = drawn().max_by(f64::total_cmp)?;
        let unit = Unit::of(&axis.unit);
        let binary =
            axis.log && (unit == Unit::Bytes || max >= 4.0 && drawn().all(|v| v >= 1.0 && v.log2().fract() == 0.0));
        let mut min = min;
        // A mark far away from all values would press them flat.
        if let Some(mark) = axis.mark.filter(|&m| drawable(m, axis.log)) {
            let (near, far) = if axis.log { (min / 30.0, max * 30.0) } else { (min.min(0.0), max * 2.5) };
            if (near..=far).contains(&mark) {
                (min, max) = (min.min(mark), max.max(mark));
            }
        }
        let (low, mut high) = if axis.log { log_range(min, max) } else { linear_range(min, max) };
        if let Some(end) = axis.max.filter(|&end| drawable(end, axis.log) && end > low) {
            high = end;
        }
        Some(Scale { low, high, log: axis.log, binary, unit, most: most.max(2) })
    }

    /// The place of a drawable value; outside 0..1 if it is beyond the axis.
    pub(crate) fn place(&self, value: f64) -> f64 {
        if self.log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Places and names of the ticks, ascending.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let values = match (self.log, self.unit) {
            (true, Unit::Percentile) => self.decades(&[1.0, 2.0], true),
            (true, _) if self.binary => self.powers_of_two(),
            (true, _) => self.log_ticks(),
            (false, _) => self.linear_ticks(),
        };
        values.into_iter().map(|v| (self.place(v), self.name(v))).collect()
    }

    /// A value as a tick says it.
    pub(crate) fn name(&self, value: f64) -> String {
        self.unit.name(value, self.binary)
    }

    fn inside(&self, value: f64) -> bool {
        let slack = 1e-9;
        (-slack..=1.0 + slack).contains(&self.place(value))
    }

    /// The densest sensible set of ticks that is not too dense. Less than three: linear ones serve better.
    fn log_ticks(&self) -> Vec<f64> {
        let sets: [&[f64]; 4] = [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let ticks = sets.into_iter().map(|set| self.decades(set, false)).find(|ticks| ticks.len() <= self.most);
        match ticks {
            Some(ticks) if ticks.len() >= 3 => ticks,
            Some(_) => self.linear_ticks(),
            None => thinned(self.decades(&[1.0], false), self.most),
        }
    }

    /// The multiples of the powers of ten; with `first` the multiples of 1 only, and the plain powers after it.
    fn decades(&self, multiples: &[f64], first: bool) -> Vec<f64> {
        let (from, to) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let all = (from..=to).flat_map(|e| {
            let count = if first && e != 0 { 1 } else { multiples.len() };
            multiples[..count].iter().map(move |m| m * 10f64.powi(e))
        });
        let inside: Vec<f64> = all.filter(|&v| self.inside(v)).collect();
        if first { thinned(inside, self.most) } else { inside }
    }

    fn powers_of_two(&self) -> Vec<f64> {
        let (from, to) = (self.low.log2().floor() as i32, self.high.log2().ceil() as i32);
        thinned((from..=to).map(|e| 2f64.powi(e)).filter(|&v| self.inside(v)).collect(), self.most)
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / self.most as f64;
        let step = if self.unit == Unit::Bytes && rough >= 64.0 {
            2f64.powi(rough.log2().ceil() as i32)
        } else {
            let power = 10f64.powi(rough.log10().floor() as i32);
            [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough * 0.999).unwrap_or(rough)
        };
        let (from, to) = ((self.low / step).floor() as i64, (self.high / step).ceil() as i64);
        // The range spans at most `most` steps; the bound guards against a step lost to rounding.
        (from..=to).take(4 * self.most).map(|n| n as f64 * step).filter(|&v| self.inside(v)).collect()
    }
}

/// Every `n`th of `ticks`, so that at most `most` are left.
fn thinned(ticks: Vec<f64>, most: usize) -> Vec<f64> {
    let every = ticks.len().div_ceil(most).max(1);
    ticks.into_iter().step_by(every).collect()
}

fn log_range(min: f64, max: f64) -> (f64, f64) {
    let margin = ((max / min).ln() * 0.04).max(0.04).exp();
    if max / min < 1.5 { (min / 1.5, max * 1.5) } else { (min / margin, max * margin) }
}

/// From zero, unless that would press the values into the upper half.
fn linear_range(min: f64, max: f64) -> (f64, f64) {
    let margin = (max - min) * 0.05;
    match (min, max) {
        (0.0, 0.0) => (0.0, 1.0),
        (min, max) if min >= 0.0 && min <= 0.5 * max => (0.0, max * 1.05),
        (min, max) if min == max => (min - 0.5 * min.abs(), max + 0.5 * max.abs()),
        _ => (min - margin, max + margin),
    }
}

/// A unit that has ways of its own to say numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Seconds in one unit.
    Time(f64),
    Bytes,
    Percent,
    /// The number is 1 / (1 - q): each further nine is as far as the one before.
    Percentile,
    Plain,
}

impl Unit {
    pub(crate) fn of(name: &str) -> Unit {
        match name {
            "ns" => Unit::Time(1e-9),
            "us" => Unit::Time(1e-6),
            "ms" => Unit::Time(1e-3),
            "s" => Unit::Time(1.0),
            "B" => Unit::Bytes,
            "%" => Unit::Percent,
            "percentile" => Unit::Percentile,
            _ => Unit::Plain,
        }
    }

    /// Whether ticks carry the unit, so that the label of the axis need not.
    pub(crate) fn on_ticks(self) -> bool {
        self != Unit::Plain
    }

    fn name(self, value: f64, binary: bool) -> String {
        match self {
            _ if value == 0.0 => "0".to_string(),
            Unit::Time(seconds) => {
                prefixed(value * seconds * 1e9, &[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")])
            }
            Unit::Bytes => prefixed(
                value,
                &[(1024.0 * 1024.0 * 1024.0, "GB"), (1024.0 * 1024.0, "MB"), (1024.0, "KB"), (1.0, "B")],
            ),
            Unit::Percent => format!("{}%", trimmed(value, 4)),
            Unit::Percentile => percentile(value),
            Unit::Plain if binary && value < 1e6 => trimmed(value, 6),
            Unit::Plain => prefixed(value, &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]).replace(NO_BREAK, ""),
        }
    }
}

/// 1 / (1 - q) as the percentile q.
pub(crate) fn percentile(value: f64) -> String {
    // The share above, not below, has the precision: 1 / 10000 is exact where 0.9999 is not.
    let digits = value.log10().clamp(0.0, 12.0).ceil() as usize;
    let text = format!("{:.*}", digits, 100.0 - 100.0 / value);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

fn prefixed(value: f64, units: &[(f64, &str)]) -> String {
    let size = value.abs() * 1.0000001;
    let (factor, unit) = *units.iter().find(|(factor, _)| size >= *factor).or(units.last()).unwrap_or(&(1.0, ""));
    format!("{}{NO_BREAK}{unit}", trimmed(value / factor, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(unit: &str, log: bool, values: &[f64]) -> Vec<String> {
        let axis = Axis { unit: unit.to_string(), log, ..Axis::default() };
        let scale = Scale::new(&axis, values, 7).unwrap();
        let ticks = scale.ticks();
        assert!((2..=9).contains(&ticks.len()), "{ticks:?}");
        assert!(ticks.iter().all(|(place, _)| (-0.001..=1.001).contains(place)), "{ticks:?}");
        ticks.into_iter().map(|(_, name)| name.replace(NO_BREAK, " ")).collect()
    }

    #[test]
    fn log_ticks_are_human() {
        assert_eq!(
            names("us", true, &[10.0, 10_000.0]),
            ["10 us", "30 us", "100 us", "300 us", "1 ms", "3 ms", "10 ms"]
        );
        assert_eq!(names("us", true, &[22.0, 310.0]), ["20 us", "50 us", "100 us", "200 us"]);
        assert_eq!(names("requests/s", true, &[1e3, 1e7]), ["1k", "10k", "100k", "1M", "10M"]);
        assert_eq!(names("B", true, &[64.0, 8192.0]), ["64 B", "256 B", "1 KB", "4 KB"]);
        assert_eq!(names("", true, &[1.0, 2.0, 8.0, 16.0, 64.0]), ["1", "2", "4", "8", "16", "32", "64"]);
        assert_eq!(names("", true, &[1.0, 1024.0]).last().unwrap(), "1024");
        assert_eq!(names("percentile", true, &[1.0, 1e5]), ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%"]);
    }

    #[test]
    fn linear_ticks_are_human() {
        assert_eq!(names("requests/s", false, &[0.0, 207e3]), ["0", "50k", "100k", "150k", "200k"]);
        assert_eq!(names("us", false, &[120.0, 980.0]), ["0", "200 us", "400 us", "600 us", "800 us", "1 ms"]);
        assert_eq!(names("%", false, &[5.0, 100.0]), ["0", "20%", "40%", "60%", "80%", "100%"]);
    }

    #[test]
    fn odd_ranges_have_ticks() {
        for log in [false, true] {
            for values in [&[3.0][..], &[1e-17, 1e17], &[5.0, 5.0], &[999.0, 1001.0], &[1e18, 1e18]] {
                for unit in ["us", "B", "", "percentile"] {
                    let axis = Axis { unit: unit.to_string(), log, ..Axis::default() };
                    let scale = Scale::new(&axis, values, 7).unwrap();
                    assert!(scale.ticks().len() <= 12);
                    assert!(
                        values.iter().all(|&v| (0.0..=1.0).contains(&scale.place(v))),
                        "{log} {values:?} {scale:?}"
                    );
                }
            }
        }
        let axis = Axis { log: true, ..Axis::default() };
        assert!(Scale::new(&axis, &[f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300], 7).is_none());
        let zero = Scale::new(&Axis::default(), &[0.0], 7).unwrap();
        assert_eq!(zero.place(0.0), 0.0);
    }

    #[test]
    fn marks_widen_the_range_if_near() {
        let axis = |mark| Axis { unit: "us".to_string(), mark: Some(mark), ..Axis::default() };
        assert!(Scale::new(&axis(500.0), &[10.0, 300.0], 7).unwrap().place(500.0) <= 1.0);
        assert!(Scale::new(&axis(500.0), &[10.0, 20.0], 7).unwrap().place(500.0) > 1.0);
        let ended = Axis { max: Some(100.0), ..Axis::default() };
        assert_eq!(Scale::new(&ended, &[10.0, 300.0], 7).unwrap().place(100.0), 1.0);
    }
}
