//! Token buckets: answers that a stranger can ask for at will go out at a pace, whatever he asks.

use units::Nanos;

/// Tokens, of which one comes in each span, up to a burst.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    burst: u32,
    every: Nanos,
    /// When the last token was put in.
    filled: Nanos,
}

impl Bucket {
    /// ICMP errors of both families (RFC 4443 section 2.4 f, RFC 1812 section 4.3.2.8).
    pub(crate) fn of_icmp_errors() -> Bucket {
        Bucket::new(50, Nanos::from_millis(1))
    }

    /// Resets in answer to segments of no connection.
    ///
    /// Deviation: RFC 9293 section 3.10.7.1 answers each. Whoever gets none sends again, and is told then: so a restart among many connections
    /// takes a little longer, and a flood from forged addresses is not passed on to those who own them.
    pub(crate) fn of_resets() -> Bucket {
        Bucket::new(256, Nanos::from_micros(100))
    }

    fn new(burst: u32, every: Nanos) -> Bucket {
        Bucket { tokens: burst, burst, every, filled: Nanos::ZERO }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Nanos) -> bool {
        let new = (now - self.filled).0 / self.every.0;
        if new > 0 {
            self.tokens = u64::from(self.tokens).saturating_add(new).min(self.burst.into()) as u32;
            self.filled = now;
        }
        let some = self.tokens > 0;
        self.tokens -= u32::from(some);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_out_in_a_burst_and_then_at_a_pace() {
        let mut bucket = Bucket::of_icmp_errors();
        let now = Nanos::from_secs(1);
        assert_eq!((0..1000).filter(|_| bucket.take(now)).count(), 50);
        assert_eq!((0..1000).filter(|_| bucket.take(now + Nanos::from_millis(10))).count(), 10);
        assert_eq!((0..1000).filter(|_| bucket.take(now + Nanos::from_secs(10))).count(), 50);
        let paced =
            (0..100_000).filter(|n| bucket.take(now + Nanos::from_secs(20) + Nanos::from_micros(10 * n))).count();
        assert!((1000..1060).contains(&paced), "{paced} in a second");
    }
}
