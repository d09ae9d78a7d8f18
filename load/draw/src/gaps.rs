//! The shape of the gaps between arrivals, as a distribution of mean 1. The rate is the [`Pattern`](crate::Pattern)'s.

use crate::file::{format_list, parse_list, read};
use crate::quantile::gpareto;
use crate::stream::Rng;
use crate::text::{as_text, number, quote};
use rand::Rng as _;
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The shape of Facebook's inter-arrival gaps (Atikoglu et al. 2012, section 5: generalized Pareto(0, 16.0292, 0.154971) in
/// microseconds); the scale follows from the rate.
const ETC_SHAPE: f64 = 0.154971;

/// How arrivals are spread around their rate.
///
/// | text | gaps | variance / mean^2 |
/// |---|---|---|
/// | `poisson` | exponential: independent users, many of them | 1 |
/// | `uniform` | anything from 0 to twice the mean | 1/3 |
/// | `fixed` | all equal | 0 |
/// | `gpareto[:SHAPE]` | generalized Pareto at location 0, `SHAPE` in -1..1 (0.154971: Facebook's ETC) | 1 / (1 - 2 SHAPE) |
/// | `trace:FILE` | those between the ascending instants of a file (seconds, one a line), repeated | the trace's |
///
/// A trace displays as `values:` and its gaps, which parses back. Each thread enters the trace at a place of its own: one thread repeats it
/// as it was, several superpose it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gaps(Kind);

#[derive(Clone, Debug, Default, PartialEq)]
enum Kind {
    #[default]
    Poisson,
    Uniform,
    Fixed,
    /// The shape, in -1..1.
    GPareto(f64),
    /// The gaps as they were written, none negative, and the factor that makes their mean 1.
    Trace {
        gaps: Arc<[f64]>,
        scale: f64,
    },
}

as_text!(Gaps);

impl Gaps {
    /// Exponential gaps: a Poisson process.
    pub fn poisson() -> Gaps {
        Gaps(Kind::Poisson)
    }

    /// Gaps from 0 to twice the mean.
    pub fn uniform() -> Gaps {
        Gaps(Kind::Uniform)
    }

    /// Equal gaps.
    pub fn fixed() -> Gaps {
        Gaps(Kind::Fixed)
    }

    /// Generalized Pareto gaps.
    ///
    /// # Errors
    /// A sentence when `shape` is not in -1..1: at 1 the mean is infinite.
    pub fn gpareto(shape: f64) -> Result<Gaps, String> {
        if !(-1.0..1.0).contains(&shape) {
            return Err(format!("gap shape {shape} must be at least -1 and less than 1"));
        }
        Ok(Gaps(Kind::GPareto(shape)))
    }

    /// Gaps in the order of `gaps`, repeated; their unit does not matter.
    ///
    /// # Errors
    /// A sentence when there are none, one is negative or not finite, or all are 0.
    pub fn trace(gaps: &[f64]) -> Result<Gaps, String> {
        if let Some(bad) = gaps.iter().find(|gap| !(0.0..=1e12).contains(*gap)) {
            return Err(format!("gap {bad} must be a time of at most 1e12 seconds"));
        }
        let scale = gaps.len() as f64 / gaps.iter().sum::<f64>();
        if !scale.is_finite() {
            return Err("the gaps of a trace must not all be 0".to_string());
        }
        Ok(Gaps(Kind::Trace { gaps: gaps.into(), scale }))
    }

    /// The next gap, of mean 1. `state` is the place in a trace; it starts anywhere (0 does) and is not used by the other shapes.
    pub fn draw(&self, state: &mut usize, rng: &mut Rng) -> f64 {
        match &self.0 {
            Kind::Poisson => Exp1.sample(rng),
            Kind::Uniform => 2.0 * rng.random::<f64>(),
            Kind::Fixed => 1.0,
            Kind::GPareto(shape) => gpareto(rng.random(), 0.0, 1.0 - shape, *shape),
            Kind::Trace { gaps, scale } => {
                let gap = gaps[*state % gaps.len()];
                *state = (*state + 1) % gaps.len();
                gap * scale
            }
        }
    }

    /// The time from an instant that knows nothing of the process to its next arrival, and the place in a trace after it: a process begun
    /// so is stationary, and the threads' equal gaps do not fall on the same instants. The residual of gaps with the survival function
    /// `S` and mean 1 has the density `S`.
    pub(crate) fn first(&self, state: &mut usize, rng: &mut Rng) -> f64 {
        match &self.0 {
            Kind::Poisson => Exp1.sample(rng),
            Kind::Uniform => 2.0 * (1.0 - rng.random::<f64>().sqrt()),
            Kind::Fixed => rng.random(),
            // The integral of (1 + k x / s)^(-1/k), s = 1 - k, is again generalized Pareto: shape k / (1 - k), scale 1.
            Kind::GPareto(shape) => gpareto(rng.random(), 0.0, 1.0, shape / (1.0 - shape)),
            Kind::Trace { gaps, scale } => {
                let mut left = rng.random::<f64>() * gaps.len() as f64 / scale;
                for (nth, gap) in gaps.iter().enumerate() {
                    if left < *gap {
                        *state = (nth + 1) % gaps.len();
                        return (gap - left) * scale;
                    }
                    left -= gap;
                }
                // Rounding may leave a grain behind the last gap.
                *state = 0;
                0.0
            }
        }
    }

    /// The variance of the gaps over the square of their mean; infinite for `gpareto` from 0.5 on.
    pub fn cv2(&self) -> f64 {
        match &self.0 {
            Kind::Poisson => 1.0,
            Kind::Uniform => 1.0 / 3.0,
            Kind::Fixed => 0.0,
            Kind::GPareto(shape) if *shape >= 0.5 => f64::INFINITY,
            Kind::GPareto(shape) => 1.0 / (1.0 - 2.0 * shape),
            Kind::Trace { gaps, scale } => {
                gaps.iter().map(|gap| (gap * scale - 1.0).powi(2)).sum::<f64>() / gaps.len() as f64
            }
        }
    }
}

impl FromStr for Gaps {
    type Err = String;

    fn from_str(text: &str) -> Result<Gaps, String> {
        let (word, rest) = text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest)));
        match (word, rest) {
            ("poisson", None) => Ok(Gaps::poisson()),
            ("uniform", None) => Ok(Gaps::uniform()),
            ("fixed", None) => Ok(Gaps::fixed()),
            ("gpareto", None) => Gaps::gpareto(ETC_SHAPE),
            ("gpareto", Some(shape)) => Gaps::gpareto(number(shape)?),
            ("values", Some(list)) => Gaps::trace(&parse_list(list)?),
            ("trace", Some(path)) => {
                let instants = read(path, 1, |_, word| number(word))?;
                if instants.len() < 2 {
                    return Err(format!("{}: a trace needs two instants or more", quote(path)));
                }
                if let Some(nth) = instants.windows(2).position(|pair| pair[1] < pair[0]) {
                    let (late, early) = (instants[nth], instants[nth + 1]);
                    return Err(format!(
                        "{}: instants must ascend, but {early} follows {late}: sort the file",
                        quote(path)
                    ));
                }
                let gaps: Vec<f64> = instants.windows(2).map(|pair| pair[1] - pair[0]).collect();
                Gaps::trace(&gaps).map_err(|said| format!("{}: {said}", quote(path)))
            }
            _ => Err(format!(
                "{} is not a shape of gaps: poisson, uniform, fixed, gpareto[:SHAPE] or trace:FILE",
                quote(text)
            )),
        }
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Poisson => f.write_str("poisson"),
            Kind::Uniform => f.write_str("uniform"),
            Kind::Fixed => f.write_str("fixed"),
            Kind::GPareto(shape) if *shape == ETC_SHAPE => f.write_str("gpareto"),
            Kind::GPareto(shape) => write!(f, "gpareto:{shape}"),
            Kind::Trace { gaps, .. } => format_list(gaps, f),
        }
    }
}

#[cfg(test)]
mod tests;
