use units::Nanos;

/// What one elastic thread reports. Averages are exponentially weighted, of values that are taken every 10 ms.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CoreSense {
    /// It serves; it is not parked. What a core says that is not active counts for nothing.
    pub active: bool,
    /// Frames and ready connections that wait, with the factors 0.5, 0.25 and 0.125: the first is the quickest to follow.
    pub queue: [f64; 3],
    /// The queue's ring was seen full in the last period: there was more than it can say.
    pub queue_full: bool,
    /// How many a turn takes.
    pub batch: f64,
    /// How long a turn takes that finds something, in nanoseconds.
    pub iteration_ns: f64,
    /// The share of its time in which it found nothing to do, neither of its own nor of others; factors as for `queue`.
    pub idle: [f64; 3],
    /// The share of the work of its flow groups that other cores did: steals and lends. 0 without stealing.
    pub remote_share: f64,
    /// The 99th percentile of the service's own latency in the last window, from receive to transmit; `None` if nothing was served.
    pub latency_p99_ns: Option<f64>,
}

/// What a dataplane reports at one instant.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sense {
    /// When, on any clock that does not go back.
    pub at: Nanos,
    /// The bound B on a batch.
    pub batch_bound: usize,
    /// By elastic thread.
    pub cores: Vec<CoreSense>,
}

impl CoreSense {
    /// How long who comes now waits: turns until it is its turn, times how long one takes, in nanoseconds (thesis section 2.4.6).
    pub fn delay_ns(&self, batch_bound: usize) -> f64 {
        (known(self.queue[0]) / batch_bound.max(1) as f64).ceil() * known(self.iteration_ns)
    }

    /// How long it takes for one that waits, in nanoseconds.
    pub(crate) fn each_ns(&self) -> f64 {
        known(self.iteration_ns) / known(self.batch).max(1.0)
    }
}

impl Sense {
    /// The cores that serve.
    pub fn active(&self) -> impl Iterator<Item = &CoreSense> {
        self.cores.iter().filter(|c| c.active)
    }

    /// The worst of [`CoreSense::delay_ns`], and whose it is. (0, 0) if no core is active.
    pub fn worst_delay(&self) -> (usize, f64) {
        let active = self.cores.iter().enumerate().filter(|(_, c)| c.active);
        let delays = active.map(|(i, c)| (i, c.delay_ns(self.batch_bound)));
        delays.fold((0, 0.0), |worst, new| if new.1 > worst.1 { new } else { worst })
    }

    /// The mean over the active cores of one of their values; 0 if none is.
    pub(crate) fn mean(&self, of: impl Fn(&CoreSense) -> f64) -> f64 {
        let (n, sum) = self.active().fold((0, 0.0), |(n, sum), c| (n + 1, sum + known(of(c))));
        if n == 0 { 0.0 } else { sum / f64::from(n) }
    }

    /// The idle share of the active cores, less what stealing makes it look better by. Work that others took over is done by cores that were idle: that time is
    /// counted as theirs. But a stolen piece costs more than one that stays at home (`steal_cost`, a share), and with fewer thieves it stays.
    pub fn idle(&self, factor: usize, steal_cost: f64) -> f64 {
        let idle = self.mean(|c| c.idle[factor.min(2)]).clamp(0.0, 1.0);
        let stolen = self.mean(|c| c.remote_share).clamp(0.0, 1.0);
        (idle - steal_cost * stolen * (1.0 - idle)).max(0.0)
    }
}

/// A number that is one: what no core can mean counts as nothing.
pub(crate) fn known(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(queue: f64, idle: f64) -> CoreSense {
        CoreSense {
            active: true,
            queue: [queue; 3],
            idle: [idle; 3],
            iteration_ns: 100_000.0,
            batch: 64.0,
            ..CoreSense::default()
        }
    }

    #[test]
    fn who_comes_last_waits_for_whole_turns() {
        let sense = |cores| Sense { at: Nanos(1), batch_bound: 64, cores };
        assert_eq!(sense(vec![core(0.0, 1.0), core(1.0, 0.5)]).worst_delay(), (1, 100_000.0));
        assert_eq!(sense(vec![core(65.0, 1.0), core(64.0, 0.5)]).worst_delay(), (0, 200_000.0));
        let parked = CoreSense { active: false, ..core(1e6, 0.0) };
        assert_eq!(sense(vec![parked, core(1.0, 0.0)]).worst_delay(), (1, 100_000.0));
        assert_eq!(sense(vec![]).worst_delay(), (0, 0.0));
    }

    #[test]
    fn nonsense_is_no_load() {
        let mut broken = core(f64::NAN, f64::INFINITY);
        broken.remote_share = f64::NAN;
        let sense = Sense { at: Nanos(1), batch_bound: 0, cores: vec![broken] };
        assert_eq!((sense.worst_delay(), sense.idle(0, 0.1), sense.idle(9, 0.1)), ((0, 0.0), 0.0, 0.0));
    }

    #[test]
    fn stolen_work_makes_idle_time_worth_less() {
        let sense = |stolen| {
            let mut home = core(0.0, 0.2);
            home.remote_share = stolen;
            Sense { at: Nanos(1), batch_bound: 64, cores: vec![home, core(0.0, 0.6)] }
        };
        assert!((sense(0.0).idle(0, 0.1) - 0.4).abs() < 1e-9);
        assert!((sense(1.0).idle(0, 0.1) - (0.4 - 0.1 * 0.5 * 0.6)).abs() < 1e-9);
    }
}
