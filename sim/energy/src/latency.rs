/// Counts of latencies, in classes of 0.5 to 1 %.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    counts: Vec<f64>,
    total: f64,
}

/// Classes to a power of two.
const FINE: usize = 1 << BITS;
const BITS: u32 = 7;
/// Powers of two, in nanoseconds: up to 17 s.
const POWERS: usize = 34;

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { counts: vec![0.0; FINE * POWERS], total: 0.0 }
    }
}

impl Latencies {
    /// `n` requests that took about so long.
    pub(crate) fn add(&mut self, ns: f64, n: f64) {
        let ns = ns.max(1.0);
        // The exponent and the first bits of the fraction are the class.
        let bits = ns.to_bits();
        let class = ((bits >> (52 - BITS)) as usize).saturating_sub(1023 << BITS);
        self.counts[class.min(FINE * POWERS - 1)] += n;
        self.total += n;
    }

    /// `n` requests that took from `first` to `last`, evenly.
    pub(crate) fn spread(&mut self, first: f64, last: f64, n: f64) {
        let points = if n < 1.5 { 1.0 } else { n.min(4.0).floor() };
        for i in 0..points as usize {
            let at = (i as f64 + 0.5) / points;
            self.add(first + (last - first) * at, n / points);
        }
    }

    /// And all these.
    pub(crate) fn merge(&mut self, others: &Latencies) {
        self.counts.iter_mut().zip(&others.counts).for_each(|(n, more)| *n += more);
        self.total += others.total;
    }

    /// The `q` quantile in nanoseconds; 0 if there is nothing.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let wanted = self.total * q;
        let mut seen = 0.0;
        for (class, n) in self.counts.iter().enumerate() {
            seen += n;
            if *n > 0.0 && seen >= wanted {
                return f64::from_bits((((class + (1023 << BITS)) as u64) << (52 - BITS)) | 1 << (51 - BITS));
            }
        }
        0.0
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0.0);
        self.total = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_class() {
        let mut all = Latencies::default();
        assert_eq!(all.quantile(0.99), 0.0);
        all.spread(100.0, 100.0, 990.0);
        all.add(123_456.0, 10.0);
        assert!((all.quantile(0.5) / 100.0 - 1.0).abs() < 0.03);
        assert!((all.quantile(0.99) / 100.0 - 1.0).abs() < 0.03);
        assert!((all.quantile(0.991) / 123_456.0 - 1.0).abs() < 0.03);
        all.add(f64::INFINITY, 1e6);
        assert!(all.quantile(0.5) > 1e10);
    }
}
