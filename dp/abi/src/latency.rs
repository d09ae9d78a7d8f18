use serde::Serialize;
use units::Nanos;

/// Smallest span that has a bucket of its own: 2^10 ns, about a microsecond. All below share the first.
const LEAST: u32 = 10;
/// Powers of two from there on: up to 2^31 ns, two seconds. All above share the last.
const OCTAVES: u32 = 21;
/// Buckets of an octave, as a power of two: each is 1/8 of the octave wide, so a quantile is known to 12 %.
const STEPS: u32 = 3;

/// How many buckets a [`LatencyHistogram`] has.
pub const LATENCY_BUCKETS: usize = 1 + ((OCTAVES as usize) << STEPS);

/// How many requests took how long, in buckets that grow with the time. Counts only grow: who wants to know of a window takes the difference of two.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct LatencyHistogram(Box<[u64]>);

impl Default for LatencyHistogram {
    fn default() -> LatencyHistogram {
        LatencyHistogram(vec![0; LATENCY_BUCKETS].into())
    }
}

impl LatencyHistogram {
    /// One with these counts, by bucket; those that are missing are zero, those too many are left out.
    pub fn of(counts: impl IntoIterator<Item = u64>) -> LatencyHistogram {
        let mut new = LatencyHistogram::default();
        new.0.iter_mut().zip(counts).for_each(|(place, n)| *place = n);
        new
    }

    /// The bucket of a span. A few instructions.
    #[inline]
    pub const fn bucket_of(span: Nanos) -> usize {
        let ns = if span.0 >> (LEAST + OCTAVES) != 0 { (1 << (LEAST + OCTAVES)) - 1 } else { span.0 };
        if ns >> LEAST == 0 {
            return 0;
        }
        let octave = 63 - ns.leading_zeros();
        let step = ns >> (octave - STEPS) & ((1 << STEPS) - 1);
        1 + (((octave - LEAST) as usize) << STEPS) + step as usize
    }

    /// The smallest span of a bucket.
    pub const fn floor(bucket: usize) -> Nanos {
        if bucket == 0 {
            return Nanos::ZERO;
        }
        let bucket = if bucket > LATENCY_BUCKETS { LATENCY_BUCKETS } else { bucket } - 1;
        let (octave, step) = (LEAST + (bucket >> STEPS) as u32, (bucket & ((1 << STEPS) - 1)) as u64);
        Nanos((1 << octave) + (step << (octave - STEPS)))
    }

    /// The counts, by bucket.
    pub fn counts(&self) -> &[u64] {
        &self.0
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &LatencyHistogram) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, n)| *own = own.wrapping_add(*n));
    }

    /// What came since `earlier`. One that was started anew has less in some bucket: then it is all new.
    pub fn since(&self, earlier: &LatencyHistogram) -> LatencyHistogram {
        if self.0.iter().zip(&earlier.0).any(|(now, before)| now < before) {
            return self.clone();
        }
        LatencyHistogram(self.0.iter().zip(&earlier.0).map(|(now, before)| now - before).collect())
    }

    /// The span that a share `q` (0 to 1) of all does not exceed, to the width of a bucket: its upper end. `None`: there are none.
    pub fn quantile(&self, q: f64) -> Option<Nanos> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0u64;
        for (bucket, n) in self.0.iter().enumerate() {
            seen = seen.saturating_add(*n);
            if seen >= rank {
                return Some(LatencyHistogram::floor(bucket + 1));
            }
        }
        Some(LatencyHistogram::floor(LATENCY_BUCKETS))
    }

    /// How many took longer than `limit`: those of the bucket that it lies in are counted as if spread evenly.
    pub fn above(&self, limit: Nanos) -> u64 {
        let at = LatencyHistogram::bucket_of(limit);
        let (low, high) = (LatencyHistogram::floor(at).0, LatencyHistogram::floor(at + 1).0);
        let over = high.saturating_sub(limit.0) as f64 / high.saturating_sub(low).max(1) as f64;
        let part = (self.0[at] as f64 * over.clamp(0.0, 1.0)).round() as u64;
        self.0[at + 1..].iter().fold(part, |sum, n| sum.wrapping_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        assert_eq!(LatencyHistogram::bucket_of(Nanos::ZERO), 0);
        assert_eq!(LatencyHistogram::bucket_of(Nanos::MAX), LATENCY_BUCKETS - 1);
        for bucket in 0..LATENCY_BUCKETS {
            let (low, high) = (LatencyHistogram::floor(bucket), LatencyHistogram::floor(bucket + 1));
            assert!(low < high, "{bucket}");
            assert_eq!(LatencyHistogram::bucket_of(low), bucket);
            assert_eq!(LatencyHistogram::bucket_of(Nanos(high.0 - 1)), bucket);
            assert!(bucket == 0 || (high.0 - low.0) as f64 / low.0 as f64 <= 0.125, "{bucket}");
        }
    }

    #[test]
    fn quantiles_of_a_window() {
        let of = |spans: &[(u64, u64)]| {
            let mut counts = vec![0; LATENCY_BUCKETS];
            spans.iter().for_each(|(us, n)| counts[LatencyHistogram::bucket_of(Nanos::from_micros(*us))] += n);
            LatencyHistogram::of(counts)
        };
        let (before, after) = (of(&[(10, 100)]), of(&[(10, 190), (1000, 10)]));
        let window = after.since(&before);
        assert_eq!((window.total(), window.above(Nanos::from_micros(500))), (100, 10));
        let near = |q: f64, us: u64| {
            let got = window.quantile(q).unwrap().0 as f64 / 1000.0;
            assert!(got >= us as f64 && got <= us as f64 * 1.13, "{q}: {got}");
        };
        near(0.5, 10);
        near(0.9, 10);
        near(0.99, 1000);
        assert_eq!(LatencyHistogram::default().quantile(0.5), None);
        assert_eq!(before.since(&after), before, "it was started anew");
    }
}
