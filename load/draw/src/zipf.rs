//! Zipf's distribution by rejection-inversion (W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from monotone
//! discrete distributions", ACM TOMACS 6(3), 1996): a few logarithms a draw however many ranks, and no table.
//!
//! The histogram of k^-s is covered by the area under the curve x^-s. A point of that area is drawn by inversion and rounded to a rank;
//! the little that the curve has too much over a bar is rejected, a few draws in a hundred.

use crate::stream::Rng;
use crate::text::within;
use rand::Rng as _;

/// Ranks 1..=n in proportion to rank^-exponent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Zipf {
    n: f64,
    exponent: f64,
    /// The area up to the left end, with the whole first bar in it, and up to the right end.
    left: f64,
    right: f64,
    /// A point at most so far left of its rank is under the bar in any case: no power to compute.
    sure: f64,
}

impl Zipf {
    /// For `n` of 1 or more and an exponent of 0 or more.
    pub(crate) fn new(n: u32, exponent: f64) -> Zipf {
        let n = f64::from(n);
        let mut zipf = Zipf { n, exponent, left: 0.0, right: 0.0, sure: 0.0 };
        zipf.left = zipf.area(1.5) - 1.0;
        zipf.right = zipf.area(n + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.area(2.5) - zipf.bar(2.0));
        zipf
    }

    /// A rank at random.
    pub(crate) fn rank(&self, rng: &mut Rng) -> u32 {
        loop {
            let area = self.left + rng.random::<f64>() * (self.right - self.left);
            let x = self.inverse(area);
            let rank = within(x.round(), 1.0, self.n);
            if rank - x <= self.sure || area >= self.area(rank + 0.5) - self.bar(rank) {
                return rank as u32;
            }
        }
    }

    /// The height of the bar of a rank.
    fn bar(&self, rank: f64) -> f64 {
        rank.powf(-self.exponent)
    }

    /// The integral of x^-s from 1: (x^(1-s) - 1) / (1 - s), in the form that holds at s = 1 (the logarithm), too.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        if power.abs() < 1e-12 { log } else { log * power.exp_m1() / power }
    }

    /// Where the area is that large.
    fn inverse(&self, area: f64) -> f64 {
        // Rounding must not leave the domain of the logarithm.
        let power = ((1.0 - self.exponent) * area).max(-1.0);
        let log = if power.abs() < 1e-12 { area } else { area * power.ln_1p() / power };
        log.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Purpose, stream};
    use proptest::prelude::*;

    #[test]
    fn every_rank_has_its_share() {
        const DRAWS: u32 = 400_000;
        for exponent in [0.0, 0.3, 0.99, 1.0, 1.000_001, 1.5, 4.0, 10.0] {
            for n in [1, 2, 3, 20] {
                let zipf = Zipf::new(n, exponent);
                let mut rng = stream(5, n, Purpose::Requests);
                let mut counts = vec![0u32; n as usize];
                (0..DRAWS).for_each(|_| counts[zipf.rank(&mut rng) as usize - 1] += 1);
                let whole: f64 = (1..=n).map(|rank| f64::from(rank).powf(-exponent)).sum();
                for (rank, count) in (1..).zip(&counts) {
                    let share = f64::from(rank).powf(-exponent) / whole;
                    let (expected, spread) =
                        (f64::from(DRAWS) * share, (f64::from(DRAWS) * share * (1.0 - share)).sqrt());
                    let off = (f64::from(*count) - expected).abs();
                    assert!(off <= 5.0 * spread + 1.0, "{exponent} {n} {rank}: {count} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_million_ranks_are_drawn_in_proportion() {
        const DRAWS: u32 = 400_000;
        let zipf = Zipf::new(1_000_000, 0.99);
        let mut rng = stream(6, 0, Purpose::Requests);
        let ranks: Vec<u32> = (0..DRAWS).map(|_| zipf.rank(&mut rng)).collect();
        let weight = |most: u32| (1..=most).map(|rank| f64::from(rank).powf(-0.99)).sum::<f64>();
        for most in [1, 10, 1000, 100_000, 999_999] {
            let expected = weight(most) / weight(1_000_000);
            let got = ranks.iter().filter(|rank| **rank <= most).count() as f64 / f64::from(DRAWS);
            assert!((got - expected).abs() < 0.005, "{most}: {got} {expected}");
        }
    }

    proptest! {
        #[test]
        fn the_inverse_inverts(exponent in 0.0..3.0f64, x in 1.0..1e4f64) {
            let zipf = Zipf::new(10, exponent);
            let back = zipf.inverse(zipf.area(x));
            // Steep tails have little area left to tell one x from another.
            prop_assert!((back - x).abs() < 1e-3 * x, "{} {}", x, back);
        }
    }
}
