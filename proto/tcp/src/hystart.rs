//! HyStart++ (RFC 9406): the first slow start ends when round trips become longer, before the queue that makes them so overflows.
//!
//! ```text
//!   slow start --- round trips are longer by a threshold ---> conservative slow start --- 5 rounds ---> congestion avoidance
//!        ^                                                        |
//!        +---------------- they are shorter again ----------------+
//! ```
//!
//! It needs eight samples of each round trip. We time one segment per round trip ([`crate::rto`]); here the echo of a timestamp is good enough,
//! since the least threshold is 4 ms and its clock ticks in milliseconds. Without timestamps, or where a round trip brings fewer
//! than eight ACKs, this is slow start as ever.

use wire::Seq;

/// MIN_RTT_THRESH and MAX_RTT_THRESH, in milliseconds, and MIN_RTT_DIVISOR (section 4.3).
const THRESH_MS: [u16; 2] = [4, 16];
const RTT_DIVISOR: u16 = 8;
/// N_RTT_SAMPLE.
const SAMPLES: u8 = 8;
/// CSS_ROUNDS.
const ROUNDS: u8 = 5;
/// CSS_GROWTH_DIVISOR.
pub(crate) const DIVISOR: u32 = 4;
/// L, in segments, for a sender that does not pace.
pub(crate) const LIMIT: u32 = 8;
/// No round trip has been measured.
const UNKNOWN: u16 = u16::MAX;

/// What is remembered until slow start has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Start {
    /// windowEnd. Meaningless before the first ACK of a round.
    end: Seq,
    /// lastRoundMinRTT, currentRoundMinRTT, cssBaselineMinRtt, in milliseconds.
    last_ms: u16,
    now_ms: u16,
    base_ms: u16,
    /// rttSampleCount.
    samples: u8,
    /// The number of the present round of conservative slow start; 0: slow start.
    css: u8,
    /// `end` is known.
    begun: bool,
}

/// How the window grows with an ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// By what is acknowledged.
    Full,
    /// By a quarter of it.
    Conservative,
    /// Slow start is over: ssthresh is cwnd.
    Over,
}

impl Start {
    pub(crate) const NEW: Start =
        Start { end: Seq(0), last_ms: UNKNOWN, now_ms: UNKNOWN, base_ms: UNKNOWN, samples: 0, css: 0, begun: false };

    /// An ACK up to `una`, `nxt` being the end of what was sent, that came `rtt_ms` after what it acknowledges (section 4.2).
    pub(crate) fn acked(&mut self, rtt_ms: Option<u16>, una: Seq, nxt: Seq) -> Growth {
        if !self.begun {
            (self.begun, self.end) = (true, nxt);
        }
        if let Some(ms) = rtt_ms {
            self.now_ms = self.now_ms.min(ms);
            self.samples = self.samples.saturating_add(1);
        }
        if self.samples >= SAMPLES {
            self.judge();
        }
        if una.ge(self.end) && self.ends_round(una, nxt) {
            return Growth::Over;
        }
        if self.css > 0 { Growth::Conservative } else { Growth::Full }
    }

    fn judge(&mut self) {
        if self.css > 0 {
            // "Likely a false positive: resume slow start".
            if self.now_ms < self.base_ms {
                (self.base_ms, self.css) = (UNKNOWN, 0);
            }
        } else if self.last_ms != UNKNOWN {
            let [least, most] = THRESH_MS;
            let thresh = (self.last_ms / RTT_DIVISOR).clamp(least, most);
            if self.now_ms >= self.last_ms.saturating_add(thresh) {
                (self.base_ms, self.css) = (self.now_ms, 1);
            }
        }
    }

    /// Whether it was the last round of all.
    fn ends_round(&mut self, una: Seq, nxt: Seq) -> bool {
        (self.last_ms, self.now_ms, self.samples) = (self.now_ms, UNKNOWN, 0);
        // Where all is acknowledged at once, the next round is what will have been sent by its first ACK.
        (self.begun, self.end) = (una != nxt, nxt);
        if self.css > 0 {
            self.css += 1;
        }
        self.css > ROUNDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of `acks` segments is acknowledged one by one, all `ms` after they were sent.
    fn round(s: &mut Start, una: &mut u32, acks: u32, ms: u16) -> Vec<Growth> {
        let nxt = *una + acks * 1000;
        let ack = |i: u32| s.acked(Some(ms), Seq(*una + i * 1000), Seq(nxt));
        let growth = (1..=acks).map(ack).collect();
        *una = nxt;
        growth
    }

    #[test]
    fn longer_round_trips_end_slow_start_after_five_conservative_rounds() {
        let (mut s, mut una) = (Start::NEW, 0);
        for _ in 0..3 {
            assert!(round(&mut s, &mut una, 10, 20).iter().all(|g| *g == Growth::Full));
        }
        assert!(round(&mut s, &mut una, 10, 23).iter().all(|g| *g == Growth::Full), "less than 4 ms longer");
        // 27 ms: four longer than the round before. The eighth sample decides.
        let growth = round(&mut s, &mut una, 10, 27);
        assert_eq!(growth.iter().filter(|g| **g == Growth::Full).count(), 7);
        for _ in 0..3 {
            assert!(round(&mut s, &mut una, 10, 40).iter().all(|g| *g == Growth::Conservative));
        }
        assert_eq!(round(&mut s, &mut una, 10, 40).last(), Some(&Growth::Over), "the partial round counts");
    }

    #[test]
    fn a_false_alarm_is_taken_back() {
        let (mut s, mut una) = (Start::NEW, 0);
        round(&mut s, &mut una, 10, 20);
        assert_eq!(round(&mut s, &mut una, 10, 30).last(), Some(&Growth::Conservative));
        let growth = round(&mut s, &mut una, 10, 21);
        assert_eq!((growth[6], growth[7]), (Growth::Conservative, Growth::Full));
    }

    #[test]
    fn seven_samples_say_nothing_and_the_threshold_is_an_eighth() {
        let (mut s, mut una) = (Start::NEW, 0);
        for ms in [20, 60, 100] {
            assert!(round(&mut s, &mut una, 7, ms).iter().all(|g| *g == Growth::Full));
        }
        assert!(round(&mut s, &mut una, 10, 111).iter().all(|g| *g == Growth::Full), "100 / 8 = 12");
        assert_eq!(round(&mut s, &mut una, 10, 124).last(), Some(&Growth::Conservative), "111 + 13");
    }
}
