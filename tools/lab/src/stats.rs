//! Medians, and ratios of what was measured side by side.

use serde::{Deserialize, Serialize};

/// Several measurements of the same thing: the middle one and the range. Three to ten values have no more to say.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Of these values; `None` of none. Values that are not finite do not count.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        let low = values.iter().copied().min_by(f64::total_cmp)?;
        let high = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Spread { median: median(values), low, high })
    }

    /// The range's length.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// The middle value; the mean of the two in the middle if there are two. Zero of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, mid) if n % 2 == 1 => sorted[mid],
        (_, mid) => (sorted[mid - 1] + sorted[mid]) / 2.0,
    }
}

/// Paired ratios: `ours` over `theirs`, round by round. A round in which either was not measured (`None`) or theirs was
/// zero does not count: a ratio across rounds would compare different moments of the machine.
pub fn paired(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Spread> {
    let ratio = |(a, b): (&Option<f64>, &Option<f64>)| Some((*a)? / (*b)?);
    Spread::of(ours.iter().zip(theirs).filter_map(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn spreads_leave_out_what_is_no_number() {
        let s = Spread::of([2.0, f64::NAN, 1.0, 4.0, f64::INFINITY]).unwrap();
        assert_eq!((s.low, s.median, s.high, s.width()), (1.0, 2.0, 4.0, 3.0));
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let (a, b) = ([Some(1.0), Some(4.0), None, Some(9.0)], [Some(2.0), Some(4.0), Some(1.0), Some(3.0)]);
        let s = paired(&a, &b).unwrap();
        assert_eq!((s.low, s.median, s.high), (0.5, 1.0, 3.0));
        assert_eq!(paired(&a, &[Some(0.0)]), None, "a division by zero is no ratio");
        assert_eq!(paired(&[None], &[Some(1.0)]), None);
    }
}
