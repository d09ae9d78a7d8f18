//! Which key a request names.

use crate::stream::Rng;
use crate::text::{as_text, number, quote};
use crate::zipf::Zipf;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How often each key is asked for: `uniform`, or `zipf:S`, where the key of rank r is asked for in proportion to r^-S (S from 0 to 10;
/// 0.99 is YCSB's, larger is more skewed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keys(Kind);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Kind {
    #[default]
    Uniform,
    Zipf(f64),
}

as_text!(Keys);

impl Keys {
    /// Every key as often.
    pub fn uniform() -> Keys {
        Keys(Kind::Uniform)
    }

    /// The key of rank r in proportion to r^-`exponent`.
    ///
    /// # Errors
    /// A sentence when the exponent is not in 0..=10.
    pub fn zipf(exponent: f64) -> Result<Keys, String> {
        if !(0.0..=10.0).contains(&exponent) {
            return Err(format!("zipf exponent {exponent} must be from 0 to 10"));
        }
        Ok(Keys(Kind::Zipf(exponent)))
    }
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Keys, String> {
        match text.trim().split_once(':') {
            None if text.trim() == "uniform" => Ok(Keys::uniform()),
            Some(("zipf", exponent)) => Keys::zipf(number(exponent)?),
            _ => Err(format!("{} is not a choice of keys: uniform or zipf:S, such as zipf:0.99", quote(text))),
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Uniform => f.write_str("uniform"),
            Kind::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// Draws keys of `0..n`. The ranks are scattered over the keys by a fixed bijection, so that hot keys are not neighbours in memory.
#[derive(Clone, Copy, Debug)]
pub struct KeyChooser {
    n: u32,
    zipf: Option<Zipf>,
    /// Has no common divisor with `n`, and is near the golden section of it: neighbouring ranks are far apart.
    stride: u64,
}

impl KeyChooser {
    /// For keys `0..n`; none count as one.
    pub fn new(keys: &Keys, n: u32) -> KeyChooser {
        let n = n.max(1);
        let zipf = match keys.0 {
            Kind::Uniform => None,
            Kind::Zipf(exponent) => Some(Zipf::new(n, exponent)),
        };
        let golden = (f64::from(n) * 0.618_033_988_75) as u64;
        let stride = (golden.max(1)..=u64::from(n)).find(|&stride| coprime(stride, u64::from(n))).unwrap_or(1);
        KeyChooser { n, zipf, stride }
    }

    /// A key at random, less than `n`.
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        match &self.zipf {
            None => rng.random_range(0..self.n),
            Some(zipf) => self.key_of(zipf.rank(rng)),
        }
    }

    /// The key of a rank, 1 being asked for most.
    fn key_of(&self, rank: u32) -> u32 {
        (u64::from(rank) * self.stride % u64::from(self.n)) as u32
    }
}

fn coprime(a: u64, b: u64) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Purpose, stream};
    use proptest::prelude::*;

    fn counts(keys: &str, n: u32, draws: u32) -> Vec<u32> {
        let chooser = KeyChooser::new(&keys.parse().unwrap(), n);
        let mut rng = stream(1, 0, Purpose::Requests);
        let mut counts = vec![0; n as usize];
        (0..draws).for_each(|_| counts[chooser.draw(&mut rng) as usize] += 1);
        counts
    }

    #[test]
    fn uniform_asks_for_every_key_as_often() {
        assert!(counts("uniform", 10, 100_000).iter().all(|n| (9_500..10_500).contains(n)));
        assert!(counts("zipf:0", 10, 100_000).iter().all(|n| (9_500..10_500).contains(n)));
    }

    #[test]
    fn zipf_asks_in_proportion_to_a_power_of_the_rank() {
        for exponent in [0.5, 0.99, 1.0, 2.0] {
            let mut counts = counts(&format!("zipf:{exponent}"), 100, 400_000);
            counts.sort_unstable_by(|a, b| b.cmp(a));
            let whole: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1usize, 2, 5] {
                let expected = 400_000.0 * (rank as f64).powf(-exponent) / whole;
                let got = f64::from(counts[rank - 1]);
                assert!((got - expected).abs() < 0.05 * expected, "{exponent} {rank}: {got} {expected}");
            }
        }
    }

    #[test]
    fn hot_keys_are_not_neighbours() {
        let chooser = KeyChooser::new(&Keys::zipf(0.99).unwrap(), 1_000_000);
        let mut hot: Vec<u32> = (1..=100).map(|rank| chooser.key_of(rank)).collect();
        hot.sort_unstable();
        assert!(hot.windows(2).all(|pair| pair[1] - pair[0] > 1000), "{hot:?}");
    }

    #[test]
    fn hostile_texts_are_refused() {
        for text in ["", "zipf", "zipf:", "zipf:-1", "zipf:NaN", "zipf:11", "uniform:3"] {
            assert!(text.parse::<Keys>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ranks_are_scattered_over_all_keys(n in 1..3000u32) {
            let chooser = KeyChooser::new(&Keys::zipf(1.0).unwrap(), n);
            let mut seen = vec![false; n as usize];
            (1..=n).for_each(|rank| seen[chooser.key_of(rank) as usize] = true);
            prop_assert!(seen.iter().all(|seen| *seen));
        }

        #[test]
        fn keys_are_below_n(n: u32, exponent in 0.0..=10.0f64, seed: u64) {
            let mut rng = stream(seed, 0, Purpose::Requests);
            for keys in [Keys::uniform(), Keys::zipf(exponent).unwrap()] {
                let chooser = KeyChooser::new(&keys, n);
                prop_assert!((0..100).all(|_| chooser.draw(&mut rng) < n.max(1)));
                prop_assert_eq!(keys.to_string().parse::<Keys>().unwrap(), keys);
            }
        }
    }
}
