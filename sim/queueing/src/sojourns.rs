/// How long requests stayed, from arrival to the end of their service.
#[derive(Clone, Debug, PartialEq)]
pub struct Sojourns {
    /// Ascending.
    sorted: Vec<f64>,
    mean: f64,
}

impl Sojourns {
    pub(crate) fn new(mut times: Vec<f64>) -> Sojourns {
        times.sort_unstable_by(f64::total_cmp);
        let mean = if times.is_empty() { 0.0 } else { times.iter().sum::<f64>() / times.len() as f64 };
        Sojourns { sorted: times, mean }
    }

    /// The least time that a share `q` (moved into 0..=1) of the requests did not exceed; 0 without requests.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.sorted.len() as f64).ceil() as usize;
        let rank = rank.clamp(1, self.sorted.len().max(1));
        self.sorted.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// The mean; 0 without requests.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The longest; 0 without requests.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// The share of the requests that stayed longer than `limit`; 0 without requests.
    pub fn share_above(&self, limit: f64) -> f64 {
        let above = self.sorted.len() - self.sorted.partition_point(|time| *time <= limit);
        above as f64 / self.sorted.len().max(1) as f64
    }

    /// How many requests there were.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_ranks() {
        let s = Sojourns::new(vec![3.0, 1.0, 2.0, 4.0]);
        assert_eq!([0.0, 0.25, 0.26, 0.5, 0.99, 1.0, 7.0].map(|q| s.quantile(q)), [1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 4.0]);
        assert_eq!((s.mean(), s.max(), s.share_above(2.0), s.len()), (2.5, 4.0, 0.5, 4));
    }

    #[test]
    fn no_requests_are_no_trouble() {
        let s = Sojourns::new(Vec::new());
        assert_eq!((s.quantile(0.99), s.mean(), s.max(), s.share_above(1.0)), (0.0, 0.0, 0.0, 0.0));
        assert!(s.is_empty());
    }

    proptest! {
        #[test]
        fn no_more_than_its_share_is_above_a_quantile(times in proptest::collection::vec(0.0..100.0f64, 1..200), q in 0.0..=1.0f64) {
            let s = Sojourns::new(times);
            prop_assert!(s.share_above(s.quantile(q)) <= 1.0 - q + 1e-9);
        }
    }
}
