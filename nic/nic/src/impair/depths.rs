/// Buckets between an empty queue and a full one.
const BUCKETS: usize = 512;

/// How many bytes waited in a queue whenever a frame came to it.
#[derive(Clone, Debug)]
pub struct Depths {
    queue: u64,
    counts: Vec<u64>,
}

impl Depths {
    /// Of a queue of so many bytes; of 0: nothing is kept.
    pub(super) fn new(queue: u32) -> Depths {
        Depths { queue: queue.into(), counts: if queue > 0 { vec![0; BUCKETS + 1] } else { Vec::new() } }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        let bucket = (bytes * BUCKETS as u64).checked_div(self.queue).unwrap_or(0).min(BUCKETS as u64);
        if let Some(count) = self.counts.get_mut(bucket as usize) {
            *count += 1;
        }
    }

    /// Frames that came.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What a share `q` of the frames found at most, in bytes: exact to 1/512 of the queue. 0 if none came.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = (self.count() as f64 * q.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|n| {
            seen += n;
            seen >= wanted.max(1)
        });
        at.map_or(0, |bucket| bucket as u64 * self.queue / BUCKETS as u64)
    }

    /// Those that were added since `before`, an earlier state of the same.
    #[must_use]
    pub fn since(&self, before: &Depths) -> Depths {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Depths { queue: self.queue, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_ramp() {
        let mut depths = Depths::new(51_200);
        (0..51_200).for_each(|bytes| depths.add(bytes));
        assert_eq!((depths.quantile(0.0), depths.quantile(0.5), depths.quantile(1.0)), (0, 25_500, 51_100));
        let before = depths.clone();
        depths.add(90_000);
        let since = depths.since(&before);
        assert_eq!((since.count(), since.quantile(0.5)), (1, 51_200), "more than the queue holds counts as a full one");
    }

    #[test]
    fn without_a_queue_nothing_is_kept() {
        let mut depths = Depths::new(0);
        depths.add(7);
        assert_eq!((depths.count(), depths.quantile(0.5)), (0, 0));
    }
}
