//! The rate of arrivals over a run: constant, or one of the thesis's patterns, or a file's.
//!
//! Every pattern is a sequence of straight pieces, so that its integral is exact and a stretch without arrivals is one piece to skip. Only
//! the sine is approximated, by chords of at most 10 ms.

use crate::file::{format_list, parse_list, read};
use crate::stream::mix;
use crate::text::{as_text, format_rate, format_seconds, number, parse_rate, quote, rate_or_zero, seconds, within};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use units::Nanos;

/// The highest rate of a pattern, in requests a second.
pub const MAX_RATE: f64 = 1e9;
/// The lowest peak of a pattern, in requests a second: one request in 30 years. Less is taken for a mistake.
pub const MIN_RATE: f64 = 1e-9;

/// A stair of more steps than this is a slope.
const MOST_STEPS: f64 = 10_000.0;
/// The shortest cycle a pattern may have; bounds how many pieces a run can have.
const SHORTEST: u64 = 100_000_000;
/// How long a step of the stair lasts, if it does not say.
const STEP_NANOS: u64 = 10_000_000_000;
/// The period of the sine, if it does not say.
const PERIOD_NANOS: u64 = 60_000_000_000;
/// How often noise is drawn anew.
const NOISE_NANOS: u64 = 5_000_000_000;
/// The longest chord of the sine.
const CHORD_NANOS: u64 = 10_000_000;
/// A mean over more pieces than this is sampled.
const MOST_PIECES: usize = 200_000;

/// A rate over time, in requests a second.
///
/// | text | rate |
/// |---|---|
/// | `50k`, `1.5m`, `20000` | constant |
/// | `slope:PEAK[,SECONDS]` | from 0 up to `PEAK` and back to 0, over the whole run, or in `SECONDS` and then anew |
/// | `step:STEP,PEAK[,SECONDS]` | `STEP` more every `SECONDS` (10) up to `PEAK`, down again by the same stair, then anew |
/// | `sine:LOW,HIGH[,PERIOD[,NOISE]]` | from `LOW` to `HIGH` and back in `PERIOD` (60) seconds; plus noise of up to +-`NOISE`, never below 0 |
/// | `file:FILE` | straight between the file's points, `second rate` a line; constant before the first and after the last |
///
/// The noise is uniform, drawn anew every 5 seconds, and the same in every run: all threads and machines follow one pattern.
/// A file's pattern displays as `values:SECOND,RATE,...`, which parses back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Constant(f64),
    /// `cycle` nanoseconds, or the whole run.
    Slope {
        peak: f64,
        cycle: Option<u64>,
    },
    Step {
        step: f64,
        peak: f64,
        each: u64,
    },
    Sine {
        low: f64,
        high: f64,
        period: u64,
        noise: f64,
    },
    /// Seconds and rates in turn, as they were written, the seconds ascending.
    File(Arc<[f64]>),
}

as_text!(Pattern);

/// A stretch of a run, in nanoseconds from its start, in which the rate is a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    /// More than any instant asked for; the last piece ends never.
    pub(crate) end: u64,
    /// Requests a second at the start.
    pub(crate) from: f64,
    /// Requests a second towards the end.
    pub(crate) to: f64,
}

impl Piece {
    fn at(&self, at: u64) -> f64 {
        let share = (at - self.start) as f64 / (self.end - self.start) as f64;
        self.from + (self.to - self.from) * share
    }
}

impl Pattern {
    /// The same rate all the time, moved into [`MIN_RATE`]..=[`MAX_RATE`] if it is outside.
    pub fn constant(rate: f64) -> Pattern {
        Pattern(Kind::Constant(within(rate, MIN_RATE, MAX_RATE)))
    }

    /// Whether the rate never changes.
    pub fn is_constant(&self) -> bool {
        matches!(self.0, Kind::Constant(_))
    }

    /// The rate `at` an instant since the start of a run of length `span`, in requests a second.
    pub fn rate_at(&self, at: Nanos, span: Nanos) -> f64 {
        self.piece(at.0.min(u64::MAX - 1), span.0).at(at.0.min(u64::MAX - 1))
    }

    /// The highest rate the pattern may reach, in requests a second (with the most noise; a short run may end before).
    pub fn peak(&self) -> f64 {
        match &self.0 {
            Kind::Constant(rate) => *rate,
            Kind::Slope { peak, .. } | Kind::Step { peak, .. } => *peak,
            Kind::Sine { high, noise, .. } => high + noise,
            Kind::File(points) => points.iter().skip(1).step_by(2).copied().fold(0.0, f64::max),
        }
    }

    /// The mean rate over a run of length `span`, in requests a second: its integral over the time. Runs of very many pieces are sampled.
    pub fn mean(&self, span: Nanos) -> f64 {
        if span.0 == 0 {
            return self.rate_at(Nanos::ZERO, span);
        }
        let (mut at, mut arrivals) = (0, 0.0);
        for _ in 0..MOST_PIECES {
            let piece = self.piece(at, span.0);
            let end = piece.end.min(span.0);
            arrivals += (piece.at(at) + piece.at(end)) / 2.0 * (end - at) as f64;
            at = end;
            if at == span.0 {
                return arrivals / span.0 as f64;
            }
        }
        let step = span.0 as f64 / MOST_PIECES as f64;
        let rates = (0..MOST_PIECES).map(|nth| self.rate_at(Nanos(((nth as f64 + 0.5) * step) as u64), span));
        rates.sum::<f64>() / MOST_PIECES as f64
    }

    /// The same pattern with every rate multiplied by `factor`; the factor is moved so that the peak stays in [`MIN_RATE`]..=[`MAX_RATE`].
    pub fn scaled(&self, factor: f64) -> Pattern {
        let peak = self.peak();
        let factor = within(factor, MIN_RATE / peak, MAX_RATE / peak);
        Pattern(match &self.0 {
            Kind::Constant(rate) => Kind::Constant(rate * factor),
            Kind::Slope { peak, cycle } => Kind::Slope { peak: peak * factor, cycle: *cycle },
            Kind::Step { step, peak, each } => Kind::Step { step: step * factor, peak: peak * factor, each: *each },
            Kind::Sine { low, high, period, noise } => {
                Kind::Sine { low: low * factor, high: high * factor, period: *period, noise: noise * factor }
            }
            Kind::File(points) => Kind::File(
                points.iter().enumerate().map(|(nth, &v)| if nth % 2 == 1 { v * factor } else { v }).collect(),
            ),
        })
    }

    /// The piece that holds the instant `at` (less than `u64::MAX`) of a run of `span` nanoseconds.
    pub(crate) fn piece(&self, at: u64, span: u64) -> Piece {
        match &self.0 {
            Kind::Constant(rate) => Piece { start: 0, end: u64::MAX, from: *rate, to: *rate },
            Kind::Slope { peak, cycle } => {
                let cycle = cycle.unwrap_or(span).max(2);
                let (start, half) = (at - at % cycle, cycle / 2);
                if at - start < half {
                    Piece { start, end: start.saturating_add(half), from: 0.0, to: *peak }
                } else {
                    Piece { start: start + half, end: start.saturating_add(cycle), from: *peak, to: 0.0 }
                }
            }
            Kind::Step { step, peak, each } => {
                let up = stairs(*step, *peak);
                let nth = at / each;
                let level = nth % (2 * up - 1);
                let level = if level < up { level + 1 } else { 2 * up - 1 - level };
                let rate = (*step * level as f64).min(*peak);
                Piece { start: nth * each, end: (nth * each).saturating_add(*each), from: rate, to: rate }
            }
            Kind::Sine { low, high, period, noise } => {
                let chord = CHORD_NANOS.min(period / 64);
                let (chord_start, noise_start) = (at - at % chord, at - at % NOISE_NANOS);
                let (start, end) = (
                    chord_start.max(noise_start),
                    (chord_start.saturating_add(chord)).min(noise_start.saturating_add(NOISE_NANOS)),
                );
                let moved = noise * noise_of(at / NOISE_NANOS);
                let rate = |at: u64| {
                    let angle = (at % period) as f64 / *period as f64 * std::f64::consts::TAU;
                    (low + (high - low) * (1.0 - angle.cos()) / 2.0 + moved).max(0.0)
                };
                Piece { start, end, from: rate(start), to: rate(end) }
            }
            Kind::File(points) => file_piece(points, at),
        }
    }
}

/// How many steps lead up to the peak.
fn stairs(step: f64, peak: f64) -> u64 {
    // A peak that is a multiple but for rounding needs no further step.
    ((peak / step - 1e-9).ceil() as u64).max(1)
}

/// The noise of the `nth` stretch, in -1..1.
fn noise_of(nth: u64) -> f64 {
    (mix(nth ^ 0x5a79_6769_7800_0000) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn file_piece(points: &[f64], at: u64) -> Piece {
    let time = |nth: usize| (points[2 * nth] * 1e9).round() as u64;
    let rate = |nth: usize| points[2 * nth + 1];
    let (mut before, mut behind) = (0, points.len() / 2);
    // The first point behind `at`, by halving.
    while before < behind {
        let middle = before.midpoint(behind);
        if time(middle) <= at { before = middle + 1 } else { behind = middle }
    }
    let last = points.len() / 2 - 1;
    match before {
        0 => Piece { start: 0, end: time(0), from: rate(0), to: rate(0) },
        n if n > last => Piece { start: time(last), end: u64::MAX, from: rate(last), to: rate(last) },
        n => Piece { start: time(n - 1), end: time(n), from: rate(n - 1), to: rate(n) },
    }
}

/// Checks and keeps the points of a file.
fn points(values: Vec<f64>) -> Result<Kind, String> {
    if !values.len().is_multiple_of(2) {
        return Err("a pattern needs pairs: second, rate".to_string());
    }
    let mut before = None;
    let mut peak = 0f64;
    for pair in values.chunks_exact(2) {
        let at = seconds(&pair[0].to_string(), 0)?;
        if before.is_some_and(|before| before >= at) {
            return Err(format!("seconds must ascend, but {} does not: sort the lines", pair[0]));
        }
        before = Some(at);
        peak = peak.max(rate_or_zero(&pair[1].to_string())?);
    }
    if peak < MIN_RATE * (1.0 - 1e-9) {
        return Err("the rate is 0 all the time: it must be more somewhere".to_string());
    }
    Ok(Kind::File(values.into()))
}

fn slope(words: &[&str]) -> Result<Kind, String> {
    let [peak, rest @ ..] = words else { return Err(String::new()) };
    let cycle = match rest {
        [] => None,
        [cycle] => Some(seconds(cycle, SHORTEST)?),
        _ => return Err(String::new()),
    };
    Ok(Kind::Slope { peak: parse_rate(peak)?, cycle })
}

fn step(words: &[&str]) -> Result<Kind, String> {
    let [step, peak, rest @ ..] = words else { return Err(String::new()) };
    let each = match rest {
        [] => STEP_NANOS,
        [each] => seconds(each, SHORTEST)?,
        _ => return Err(String::new()),
    };
    let (step, peak) = (rate_or_zero(step)?, parse_rate(peak)?);
    if step > peak {
        return Err(format!("a step of {} is more than the peak of {}", format_rate(step), format_rate(peak)));
    }
    if peak / step > MOST_STEPS * (1.0 + 1e-9) {
        return Err(format!(
            "more than {MOST_STEPS} steps of {} up to {}: take larger ones, or slope:PEAK",
            format_rate(step),
            format_rate(peak)
        ));
    }
    Ok(Kind::Step { step, peak, each })
}

fn sine(words: &[&str]) -> Result<Kind, String> {
    let [low, high, rest @ ..] = words else { return Err(String::new()) };
    let (period, noise) = match rest {
        [] => (PERIOD_NANOS, 0.0),
        [period] => (seconds(period, SHORTEST)?, 0.0),
        [period, noise] => (seconds(period, SHORTEST)?, rate_or_zero(noise)?),
        _ => return Err(String::new()),
    };
    let (low, high) = (rate_or_zero(low)?, rate_or_zero(high)?);
    if low > high {
        return Err(format!("the low rate {} is more than the high rate {}", format_rate(low), format_rate(high)));
    }
    // The highest rate must be possible, too.
    parse_rate(&(high + noise).to_string())?;
    Ok(Kind::Sine { low, high, period, noise })
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let Some((word, rest)) = text.trim().split_once(':') else {
            return parse_rate(text).map(|rate| Pattern(Kind::Constant(rate)));
        };
        let words = || rest.splitn(8, ',').collect::<Vec<_>>();
        let (usage, kind) = match word {
            "slope" => ("slope:PEAK[,SECONDS]", slope(&words())),
            "step" => ("step:STEP,PEAK[,SECONDS]", step(&words())),
            "sine" => ("sine:LOW,HIGH[,PERIOD[,NOISE]]", sine(&words())),
            "values" => ("values:SECOND,RATE,...", parse_list(rest).and_then(points)),
            "file" => {
                let parse = |column, word: &str| if column == 0 { number(word) } else { rate_or_zero(word) };
                (
                    "file:FILE",
                    read(rest, 2, parse)
                        .and_then(|values| points(values).map_err(|said| format!("{}: {said}", quote(rest)))),
                )
            }
            _ => {
                return Err(format!(
                    "{} is not a pattern of rates: a rate, or slope:, step:, sine:, file:",
                    quote(text)
                ));
            }
        };
        kind.map(Pattern).map_err(|said| if said.is_empty() { format!("{}: write {usage}", quote(text)) } else { said })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Constant(rate) => f.write_str(&format_rate(*rate)),
            Kind::Slope { peak, cycle: None } => write!(f, "slope:{}", format_rate(*peak)),
            Kind::Slope { peak, cycle: Some(cycle) } => {
                write!(f, "slope:{},{}", format_rate(*peak), format_seconds(*cycle))
            }
            Kind::Step { step, peak, each } => {
                write!(f, "step:{},{}", format_rate(*step), format_rate(*peak))?;
                if *each == STEP_NANOS { Ok(()) } else { write!(f, ",{}", format_seconds(*each)) }
            }
            Kind::Sine { low, high, period, noise } => {
                write!(f, "sine:{},{}", format_rate(*low), format_rate(*high))?;
                match (*period, *noise) {
                    (PERIOD_NANOS, 0.0) => Ok(()),
                    (period, 0.0) => write!(f, ",{}", format_seconds(period)),
                    (period, noise) => write!(f, ",{},{}", format_seconds(period), format_rate(noise)),
                }
            }
            Kind::File(points) => format_list(points, f),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
