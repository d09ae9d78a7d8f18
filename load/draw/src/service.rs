//! How long the server works on a request: the service times of the ZygOS study.

use crate::file::{format_list, parse_list, read};
use crate::stream::Rng;
use crate::text::{as_text, format_span, number, parse_span, quote};
use rand::Rng as _;
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use units::Nanos;

/// The longest mean, and the longest single time of a file.
const LONGEST: Nanos = Nanos::from_secs(10);

/// Service times with the mean S (`10us`, `1ms`; from 1 ns to 10 s).
///
/// | text | times |
/// |---|---|
/// | `det:S` | always S |
/// | `exp:S` | exponential |
/// | `bimodal1:S` | 90 % S/2, 10 % 5.5 S |
/// | `bimodal2:S` | 99.9 % S/2, 0.1 % 500.5 S |
/// | `file:FILE` | those of the file (microseconds, one a line), each as often, in random order |
///
/// A file's times display as `values:` and microseconds, which parses back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceTimes(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Shaped(Shape, Nanos),
    /// Microseconds as they were written, and their mean.
    File(Arc<[f64]>, f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Det,
    Exp,
    Bimodal1,
    Bimodal2,
}

impl Shape {
    const ALL: [Shape; 4] = [Shape::Det, Shape::Exp, Shape::Bimodal1, Shape::Bimodal2];

    fn name(self) -> &'static str {
        match self {
            Shape::Det => "det",
            Shape::Exp => "exp",
            Shape::Bimodal1 => "bimodal1",
            Shape::Bimodal2 => "bimodal2",
        }
    }

    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Shape::Det => 1.0,
            Shape::Exp => Exp1.sample(rng),
            Shape::Bimodal1 => two(rng, 0.1, 5.5),
            Shape::Bimodal2 => two(rng, 0.001, 500.5),
        }
    }
}

/// `long` with probability `share`, else a half.
fn two(rng: &mut Rng, share: f64, long: f64) -> f64 {
    if rng.random::<f64>() < share { long } else { 0.5 }
}

as_text!(ServiceTimes);

impl ServiceTimes {
    /// Always `mean`, moved into 1 ns..=10 s.
    pub fn det(mean: Nanos) -> ServiceTimes {
        ServiceTimes::shaped(Shape::Det, mean)
    }

    /// Exponential, with the mean moved into 1 ns..=10 s.
    pub fn exp(mean: Nanos) -> ServiceTimes {
        ServiceTimes::shaped(Shape::Exp, mean)
    }

    /// 90 % half the mean, 10 % 5.5 times the mean; the mean is moved into 1 ns..=10 s.
    pub fn bimodal1(mean: Nanos) -> ServiceTimes {
        ServiceTimes::shaped(Shape::Bimodal1, mean)
    }

    /// 99.9 % half the mean, 0.1 % 500.5 times the mean; the mean is moved into 1 ns..=10 s.
    pub fn bimodal2(mean: Nanos) -> ServiceTimes {
        ServiceTimes::shaped(Shape::Bimodal2, mean)
    }

    fn shaped(shape: Shape, mean: Nanos) -> ServiceTimes {
        ServiceTimes(Kind::Shaped(shape, mean.clamp(Nanos(1), LONGEST)))
    }

    fn file(micros: Vec<f64>) -> Result<ServiceTimes, String> {
        let longest = LONGEST.0 as f64 / 1e3;
        if let Some(bad) = micros.iter().find(|time| !(0.0..=longest).contains(*time)) {
            return Err(format!("service time {bad} must be from 0 to {longest} microseconds"));
        }
        let mean = micros.iter().sum::<f64>() / micros.len() as f64;
        if mean < 1e-3 {
            return Err("service times must have a mean of a nanosecond or more".to_string());
        }
        Ok(ServiceTimes(Kind::File(micros.into(), mean)))
    }

    /// A time at random.
    pub fn draw(&self, rng: &mut Rng) -> Nanos {
        match &self.0 {
            Kind::Shaped(shape, mean) => Nanos((shape.draw(rng) * mean.0 as f64).round() as u64),
            Kind::File(micros, _) => Nanos((micros[rng.random_range(0..micros.len())] * 1e3).round() as u64),
        }
    }

    /// A time at random in units of the mean: what a queueing model asks for.
    pub fn draw_unit(&self, rng: &mut Rng) -> f64 {
        match &self.0 {
            Kind::Shaped(shape, _) => shape.draw(rng),
            Kind::File(micros, mean) => micros[rng.random_range(0..micros.len())] / mean,
        }
    }

    /// The mean, to the nanosecond.
    pub fn mean(&self) -> Nanos {
        match &self.0 {
            Kind::Shaped(_, mean) => *mean,
            Kind::File(_, mean) => Nanos((mean * 1e3).round() as u64),
        }
    }

    /// The same distribution with another mean, moved into 1 ns..=10 s; a file's times keep theirs.
    pub fn with_mean(&self, mean: Nanos) -> ServiceTimes {
        match &self.0 {
            Kind::Shaped(shape, _) => ServiceTimes::shaped(*shape, mean),
            Kind::File(..) => self.clone(),
        }
    }

    /// `det`, `exp`, `bimodal1`, `bimodal2` or `file`.
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Kind::Shaped(shape, _) => shape.name(),
            Kind::File(..) => "file",
        }
    }
}

impl FromStr for ServiceTimes {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceTimes, String> {
        let (word, rest) = text.trim().split_once(':').unwrap_or((text, ""));
        if let Some(shape) = Shape::ALL.into_iter().find(|shape| shape.name() == word) {
            let mean = parse_span(rest)?;
            if mean == Nanos::ZERO || mean > LONGEST {
                return Err(format!("service time {} must be from 1ns to 10s", quote(rest)));
            }
            return Ok(ServiceTimes(Kind::Shaped(shape, mean)));
        }
        match word {
            "values" => ServiceTimes::file(parse_list(rest)?),
            "file" => ServiceTimes::file(read(rest, 1, |_, word| number(word))?)
                .map_err(|said| format!("{}: {said}", quote(rest))),
            _ => {
                let known = "det:S, exp:S, bimodal1:S, bimodal2:S (S such as 10us) or file:FILE";
                Err(format!("{} is not a distribution of service times: {known}", quote(text)))
            }
        }
    }
}

impl fmt::Display for ServiceTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Shaped(shape, mean) => write!(f, "{}:{}", shape.name(), format_span(*mean)),
            Kind::File(micros, _) => format_list(micros, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::testing::TempFile;
    use crate::stream::{Purpose, stream};
    use proptest::prelude::*;

    #[test]
    fn means_and_variances_are_the_definitions() {
        // The variance over the mean's square; of two points a at share 1 - p and b at p: p (1 - p) (b - a)^2.
        for (text, cv2) in [
            ("det:10us", 0.0),
            ("exp:10us", 1.0),
            ("bimodal1:10us", 0.09 * 25.0),
            ("bimodal2:10us", 0.001 * 0.999 * 250_000.0),
        ] {
            let times: ServiceTimes = text.parse().unwrap();
            let mut rng = stream(1, 0, Purpose::Requests);
            let drawn: Vec<f64> = (0..1_000_000).map(|_| times.draw(&mut rng).0 as f64 / 1e4).collect();
            let mean = drawn.iter().sum::<f64>() / 1e6;
            let variance = drawn.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 1e6;
            let (mean_error, variance_error) = ((mean - 1.0).abs(), (variance - cv2).abs());
            assert!(mean_error < 4.0 * (cv2 / 1e6).sqrt() + 1e-4, "{text}: {mean}");
            assert!(variance_error <= 0.15 * cv2, "{text}: {variance} {cv2}");
            assert_eq!(times.mean(), Nanos::from_micros(10));
        }
    }

    #[test]
    fn the_bimodals_have_two_values() {
        let mut rng = stream(1, 0, Purpose::Requests);
        for (text, short, long) in [("bimodal1:10us", 5_000, 55_000), ("bimodal2:10us", 5_000, 5_005_000)] {
            let times: ServiceTimes = text.parse().unwrap();
            assert!((0..10_000).all(|_| [short, long].contains(&times.draw(&mut rng).0)), "{text}");
        }
    }

    #[test]
    fn a_file_gives_its_times() {
        let file = TempFile::new("1.5\n2\n8.5 # slow\n");
        let times: ServiceTimes = format!("file:{}", file.path()).parse().unwrap();
        assert_eq!(
            (times.mean(), times.name(), times.to_string().as_str()),
            (Nanos(4_000), "file", "values:1.5,2,8.5")
        );
        let mut rng = stream(1, 0, Purpose::Requests);
        let units: f64 = (0..30_000).map(|_| times.draw_unit(&mut rng)).sum();
        assert!((units / 30_000.0 - 1.0).abs() < 0.03, "{units}");
        for (content, part) in
            [("", "no values"), ("0\n", "mean"), ("-1\n", "service time -1"), ("1e9\n", "microseconds")]
        {
            let file = TempFile::new(content);
            let said = format!("file:{}", file.path()).parse::<ServiceTimes>().unwrap_err();
            assert!(said.contains(part), "{content:?}: {said}");
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        for text in [
            "",
            "exp",
            "exp:",
            "exp:0us",
            "exp:10",
            "exp:-1us",
            "exp:1000s",
            "det:NaNus",
            "values:",
            "values:NaN",
            "gauss:1us",
        ] {
            assert!(text.parse::<ServiceTimes>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_survive_text_and_serde(shape in 0..4usize, mean in 1..=LONGEST.0, micros in proptest::collection::vec(1e-2..1e7f64, 1..9)) {
            for times in [ServiceTimes::shaped(Shape::ALL[shape], Nanos(mean)), ServiceTimes::file(micros).unwrap()] {
                prop_assert_eq!(&times.to_string().parse::<ServiceTimes>().unwrap(), &times);
                prop_assert_eq!(&serde_json::from_str::<ServiceTimes>(&serde_json::to_string(&times).unwrap()).unwrap(), &times);
            }
        }
    }
}
