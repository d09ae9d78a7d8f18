use rand::Rng;
use rand::rngs::StdRng;
use rand_distr::Exp;
use units::Nanos;

/// A Poisson process: the instants at which requests are meant to be sent.
pub(crate) struct Arrivals {
    gap: Exp<f64>,
    next: f64,
}

impl Arrivals {
    /// Arrivals from `start` on, `rate` of them a second on average (more than 0).
    pub(crate) fn new(start: Nanos, rate: f64) -> Arrivals {
        // A rate out of range is the caller's mistake; `Exp` accepts all positive ones.
        let gap = Exp::new(rate.max(1e-3) / 1e9).expect("a positive rate");
        Arrivals { gap, next: start.0 as f64 }
    }

    /// The next one if it is due by `now`.
    pub(crate) fn due(&mut self, now: Nanos, rng: &mut StdRng) -> Option<Nanos> {
        let at = self.next();
        if at > now {
            return None;
        }
        self.next += rng.sample(self.gap);
        Some(at)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Nanos {
        Nanos(self.next as u64)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_a_poisson_process() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut arrivals = Arrivals::new(Nanos::ZERO, 1e5);
        let times: Vec<f64> =
            std::iter::from_fn(|| arrivals.due(Nanos::from_secs(1), &mut rng)).map(|t| t.0 as f64).collect();
        // 100 000 expected, standard deviation 316.
        assert!((98_000..102_000).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.97..1.03).contains(&(var.sqrt() / mean)), "variation {}", var.sqrt() / mean);
    }
}
