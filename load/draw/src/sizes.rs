//! How large keys, values and messages are.

use crate::file::{format_list, parse_list, read};
use crate::quantile::{gev, gpareto};
use crate::stream::Rng;
use crate::text::{as_text, number, quote, within};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The largest size a description may name: 64 MiB.
pub const MAX_SIZE: u32 = 64 << 20;

/// Where the families with unbounded tails are cut if they do not say: 1 byte to 1 MiB.
const CUT: (u32, u32) = (1, 1 << 20);
/// Keys of ETC: 20 to 70 B (the thesis's range).
const KEY_CUT: (u32, u32) = (20, 70);
/// Values of ETC: 1 B to 1 KB (the thesis's range).
const VALUE_CUT: (u32, u32) = (1, 1024);

/// The shares of ETC's values of 0, 1, ... 14 B, which fit no smooth distribution (Atikoglu et al., "Workload Analysis of a Large-Scale
/// Key-Value Store", SIGMETRICS 2012, table 5). They add up to 0.44155; the rest follows [`ETC_TAIL`].
const ETC_SMALL: [f64; 15] = [
    0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837, 0.00837, 0.08989,
    0.00092, 0.00326, 0.01980,
];
/// Location, scale and shape of the generalized Pareto distribution of ETC's other values (the same paper, section 5). The paper writes the
/// location as 0 for a tail that starts at 15 bytes; taken from there, as the IX study does, no value of the tail falls among the small.
const ETC_TAIL: (f64, f64, f64) = (15.0, 214.476, 0.348238);
/// Location, scale and shape of the generalized extreme value distribution of ETC's keys (the same paper, section 5).
const ETC_KEY: (f64, f64, f64) = (30.7984, 8.20449, 0.078688);

/// Sizes in bytes.
///
/// | text | sizes |
/// |---|---|
/// | `64` | always this |
/// | `uniform:A-B` | every size from A to B as often |
/// | `gev:MU,SIGMA,XI[:MIN-MAX]` | generalized extreme value distribution |
/// | `gpareto:LOC,SCALE,SHAPE[:MIN-MAX]` | generalized Pareto distribution |
/// | `etc-key` | keys of Facebook's ETC pool: `gev:30.7984,8.20449,0.078688:20-70` |
/// | `etc-value` | its values: 15 probabilities for 0 to 14 B, then `gpareto:15,214.476,0.348238`; from 1 to 1024 B |
/// | `file:FILE` | those of the file, `size weight` a line |
///
/// Real values are rounded down to bytes. A cut (`MIN-MAX`, 1 B to 1 MiB by default) moves what is outside to the nearest end, so the
/// quantiles inside stay those of the uncut distribution. A file's sizes display as `values:SIZE,WEIGHT,...`, which parses back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sizes(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Fixed(u32),
    Uniform(u32, u32),
    Gev { fit: (f64, f64, f64), cut: (u32, u32) },
    GPareto { fit: (f64, f64, f64), cut: (u32, u32) },
    EtcKey,
    EtcValue,
    Table(Table),
}

/// Sizes with weights.
#[derive(Clone, Debug, PartialEq)]
struct Table {
    /// Sizes and weights in turn, as they were written.
    pairs: Arc<[f64]>,
    /// The share of the sizes up to each, ascending; the last is 1.
    below: Arc<[f64]>,
}

as_text!(Sizes);

impl Sizes {
    /// Always `size` bytes, at most [`MAX_SIZE`].
    pub fn fixed(size: u32) -> Sizes {
        Sizes(Kind::Fixed(size.min(MAX_SIZE)))
    }

    /// The keys of Facebook's ETC pool, 20 to 70 B.
    pub fn etc_key() -> Sizes {
        Sizes(Kind::EtcKey)
    }

    /// The values of Facebook's ETC pool, 1 to 1024 B.
    pub fn etc_value() -> Sizes {
        Sizes(Kind::EtcValue)
    }

    /// The quantile function: the size that a share `u` (moved into 0..1) of all is not above. A pure function, so that a key's size can
    /// be one of its hash; ascends with `u`.
    pub fn at(&self, u: f64) -> u32 {
        // The largest number below 1 keeps the tails finite.
        let u = within(u, 0.0, 1.0 - f64::EPSILON / 2.0);
        match &self.0 {
            Kind::Fixed(size) => *size,
            Kind::Uniform(low, high) => (low + (u * f64::from(high - low + 1)) as u32).min(*high),
            Kind::Gev { fit, cut } => whole(gev(u, fit.0, fit.1, fit.2), *cut),
            Kind::GPareto { fit, cut } => whole(gpareto(u, fit.0, fit.1, fit.2), *cut),
            Kind::EtcKey => whole(gev(u, ETC_KEY.0, ETC_KEY.1, ETC_KEY.2), KEY_CUT),
            Kind::EtcValue => etc_value(u),
            Kind::Table(table) => table.at(u),
        }
    }

    /// A size at random.
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        match &self.0 {
            Kind::Fixed(size) => *size,
            _ => self.at(rng.random()),
        }
    }

    /// The largest size there is, in bytes.
    pub fn max(&self) -> u32 {
        match &self.0 {
            Kind::Fixed(size) => *size,
            Kind::Uniform(_, high) => *high,
            Kind::Gev { cut, .. } | Kind::GPareto { cut, .. } => cut.1,
            Kind::EtcKey => KEY_CUT.1,
            Kind::EtcValue => VALUE_CUT.1,
            Kind::Table(table) => table.sizes().fold(0, u32::max),
        }
    }

    /// The smallest size there is, in bytes.
    pub fn min(&self) -> u32 {
        self.at(0.0)
    }

    /// The mean size in bytes: exact for `64`, `uniform` and `file`, else over 65536 equal shares.
    pub fn mean(&self) -> f64 {
        const SHARES: u32 = 1 << 16;
        match &self.0 {
            Kind::Fixed(size) => f64::from(*size),
            Kind::Uniform(low, high) => (f64::from(*low) + f64::from(*high)) / 2.0,
            // Rounding may carry it past the ends by a grain.
            Kind::Table(table) => within(table.mean(), f64::from(self.min()), f64::from(self.max())),
            _ => {
                let sum: f64 =
                    (0..SHARES).map(|nth| f64::from(self.at((f64::from(nth) + 0.5) / f64::from(SHARES)))).sum();
                sum / f64::from(SHARES)
            }
        }
    }
}

/// Rounded down and moved into the cut.
fn whole(size: f64, cut: (u32, u32)) -> u32 {
    within(size, f64::from(cut.0), f64::from(cut.1)) as u32
}

fn etc_value(u: f64) -> u32 {
    let mut below = 0.0;
    for (size, share) in (0..).zip(ETC_SMALL) {
        below += share;
        if u < below {
            return size.max(VALUE_CUT.0);
        }
    }
    let (location, scale, shape) = ETC_TAIL;
    whole(gpareto((u - below) / (1.0 - below), location, scale, shape), VALUE_CUT)
}

impl Table {
    fn new(mut pairs: Vec<f64>) -> Result<Table, String> {
        if !pairs.len().is_multiple_of(2) {
            return Err("sizes need pairs: size, weight".to_string());
        }
        for pair in pairs.chunks_exact(2) {
            if !(0.0..=f64::from(MAX_SIZE)).contains(&pair[0]) || pair[0].fract() != 0.0 {
                return Err(format!("size {} must be a whole number of bytes, at most {MAX_SIZE}", pair[0]));
            }
            if !(0.0..=1e12).contains(&pair[1]) {
                return Err(format!("weight {} must be 0 or more and at most 1e12", pair[1]));
            }
        }
        let mut sorted: Vec<[f64; 2]> = pairs.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        sorted.retain(|[_, weight]| *weight > 0.0);
        sorted.sort_by(|a, b| a[0].total_cmp(&b[0]));
        pairs = sorted.into_flattened();
        let total: f64 = pairs.iter().skip(1).step_by(2).sum();
        if !(total > 0.0 && (1.0 / total).is_finite()) {
            return Err("the weights must not all be 0".to_string());
        }
        let mut sum = 0.0;
        let mut below: Vec<f64> = Vec::with_capacity(pairs.len() / 2);
        for pair in pairs.chunks_exact(2) {
            sum += pair[1];
            below.push(sum / total);
        }
        // Not a grain less, so that every u in 0..1 finds a size.
        if let Some(last) = below.last_mut() {
            *last = 1.0;
        }
        Ok(Table { pairs: pairs.into(), below: below.into() })
    }

    fn sizes(&self) -> impl Iterator<Item = u32> {
        self.pairs.iter().step_by(2).map(|size| *size as u32)
    }

    fn at(&self, u: f64) -> u32 {
        let nth = self.below.partition_point(|below| *below <= u).min(self.below.len() - 1);
        self.pairs[2 * nth] as u32
    }

    fn mean(&self) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for pair in self.pairs.chunks_exact(2) {
            sum += pair[0] * pair[1];
            weights += pair[1];
        }
        sum / weights
    }
}

/// Bytes, as a whole number.
fn size(text: &str) -> Result<u32, String> {
    match text.trim().parse::<u32>() {
        Ok(size) if size <= MAX_SIZE => Ok(size),
        _ => Err(format!("{} is not a size: a whole number of bytes, at most {MAX_SIZE}", quote(text))),
    }
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let (low, high) =
        text.split_once('-').ok_or_else(|| format!("{} is not a range of sizes: write it as 20-70", quote(text)))?;
    let (low, high) = (size(low)?, size(high)?);
    if low > high {
        return Err(format!("range {} must ascend", quote(text)));
    }
    Ok((low, high))
}

/// `LOCATION,SCALE,SHAPE[:MIN-MAX]`.
#[expect(clippy::type_complexity, reason = "the fit and the cut, taken apart at once")]
fn fit(text: &str) -> Result<((f64, f64, f64), (u32, u32)), String> {
    let (numbers, cut) = text.split_once(':').map_or((text, None), |(numbers, cut)| (numbers, Some(cut)));
    let words: Vec<&str> = numbers.splitn(4, ',').collect();
    let [location, scale, shape] = words[..] else {
        return Err(format!("{} must be location,scale,shape", quote(numbers)));
    };
    let (location, scale, shape) = (number(location)?, number(scale)?, number(shape)?);
    if location.abs() > 1e9 || !(1e-9..=1e9).contains(&scale) || !(-10.0..=10.0).contains(&shape) {
        return Err(format!(
            "{} needs a location within +-1e9, a scale from 1e-9 to 1e9 and a shape from -10 to 10",
            quote(numbers)
        ));
    }
    Ok(((location, scale, shape), cut.map_or(Ok(CUT), range)?))
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let text = text.trim();
        let kind = match text.split_once(':') {
            None if text == "etc-key" => Kind::EtcKey,
            None if text == "etc-value" => Kind::EtcValue,
            None if text.starts_with(|c: char| c.is_ascii_digit()) => Kind::Fixed(size(text)?),
            Some(("uniform", rest)) => {
                let (low, high) = range(rest)?;
                Kind::Uniform(low, high)
            }
            Some(("gev", rest)) => fit(rest).map(|(fit, cut)| Kind::Gev { fit, cut })?,
            Some(("gpareto", rest)) => fit(rest).map(|(fit, cut)| Kind::GPareto { fit, cut })?,
            Some(("values", list)) => Kind::Table(Table::new(parse_list(list)?)?),
            Some(("file", path)) => {
                let pairs = read(path, 2, |_, word| number(word))?;
                Kind::Table(Table::new(pairs).map_err(|said| format!("{}: {said}", quote(path)))?)
            }
            _ => {
                let known =
                    "64, uniform:A-B, gev:MU,SIGMA,XI, gpareto:LOC,SCALE,SHAPE, etc-key, etc-value or file:FILE";
                return Err(format!("{} is not a distribution of sizes: {known}", quote(text)));
            }
        };
        Ok(Sizes(kind))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, fit, cut) = match &self.0 {
            Kind::Fixed(size) => return write!(f, "{size}"),
            Kind::Uniform(low, high) => return write!(f, "uniform:{low}-{high}"),
            Kind::EtcKey => return f.write_str("etc-key"),
            Kind::EtcValue => return f.write_str("etc-value"),
            Kind::Table(table) => return format_list(&table.pairs, f),
            Kind::Gev { fit, cut } => ("gev", fit, cut),
            Kind::GPareto { fit, cut } => ("gpareto", fit, cut),
        };
        write!(f, "{name}:{},{},{}", fit.0, fit.1, fit.2)?;
        if *cut == CUT { Ok(()) } else { write!(f, ":{}-{}", cut.0, cut.1) }
    }
}

#[cfg(test)]
mod tests;
