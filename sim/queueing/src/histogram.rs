//! Times in constant memory: how many fell into each of buckets whose width is a thousandth of their place.
//!
//! A bucket is the head of a float's bits, exponent and the first ten of the mantissa, so that finding it is a shift. (A histogram of
//! integers would ask for a unit that suits a request of 0.001 as well as one of 10^6.)

/// Bits of the mantissa.
const FINE: u32 = 10;
/// Times below 2^LEAST share a bucket, and times from 2^(LEAST + SPAN) on.
const LEAST: i32 = -20;
const SPAN: usize = 60;
const LENGTH: usize = SPAN << FINE;

/// Times, none negative.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    sum: f64,
    least: f64,
    most: f64,
    len: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; LENGTH], sum: 0.0, least: f64::INFINITY, most: 0.0, len: 0 }
    }

    #[inline]
    pub(crate) fn record(&mut self, time: f64) {
        self.counts[bucket(time)] += 1;
        self.sum += time;
        self.least = self.least.min(time);
        self.most = self.most.max(time);
        self.len += 1;
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        self.len += other.len;
    }

    /// The least time that a share `q` (0..=1) did not exceed, to a thousandth; 0 without any.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let rank = ((q * self.len as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (nth, count) in self.counts.iter().enumerate() {
            if *count != 0 && below + count >= rank {
                // Evenly within the bucket.
                let part = (rank - below) as f64 / *count as f64;
                let (from, to) = (edge(nth), edge(nth + 1));
                return (from + part * (to - from)).clamp(self.least, self.most);
            }
            below += count;
        }
        self.most
    }

    /// The mean; 0 without any.
    pub(crate) fn mean(&self) -> f64 {
        if self.len == 0 { 0.0 } else { self.sum / self.len as f64 }
    }

    /// The longest; 0 without any.
    pub(crate) fn max(&self) -> f64 {
        self.most
    }

    /// How many.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

#[inline]
fn bucket(time: f64) -> usize {
    let head = (time.to_bits() >> (f64::MANTISSA_DIGITS - 1 - FINE)) as usize;
    head.saturating_sub(first()).min(LENGTH - 1)
}

/// The head of the bits of 2^LEAST.
const fn first() -> usize {
    ((1023 + LEAST) as usize) << FINE
}

/// The time at which a bucket begins.
fn edge(bucket: usize) -> f64 {
    f64::from_bits(((bucket + first()) as u64) << (f64::MANTISSA_DIGITS - 1 - FINE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(times: &[f64]) -> Histogram {
        let mut histogram = Histogram::new();
        times.iter().for_each(|time| histogram.record(*time));
        histogram
    }

    #[test]
    fn nothing_is_no_trouble() {
        let none = Histogram::new();
        assert_eq!((none.quantile(0.99), none.mean(), none.max(), none.len()), (0.0, 0.0, 0.0, 0));
    }

    #[test]
    fn one_value_is_all_quantiles() {
        for time in [0.0, 1e-9, 1.0, 7.3, 1e15] {
            let one = of(&[time; 5]);
            assert!([0.0, 0.5, 1.0].iter().all(|q| one.quantile(*q) == time), "{time}");
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_ranks_to_a_thousandth(mut times in proptest::collection::vec(1e-5..1e9f64, 1..200), q in 0.0..=1.0f64) {
            let got = of(&times).quantile(q);
            times.sort_unstable_by(f64::total_cmp);
            let rank = ((q * times.len() as f64).ceil() as usize).max(1);
            prop_assert!((got / times[rank - 1] - 1.0).abs() < 1e-3, "{} {}", got, times[rank - 1]);
        }

        #[test]
        fn sums_are_of_both(a in proptest::collection::vec(0.0..100.0f64, 1..50), b in proptest::collection::vec(0.0..100.0f64, 1..50)) {
            let mut sum = of(&a);
            sum.add(&of(&b));
            let both = of(&[a, b].concat());
            prop_assert_eq!((sum.len(), sum.max(), sum.quantile(0.7)), (both.len(), both.max(), both.quantile(0.7)));
            prop_assert!((sum.mean() - both.mean()).abs() < 1e-9);
        }
    }
}
