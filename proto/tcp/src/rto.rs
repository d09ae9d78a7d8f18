//! Round-trip time and retransmission timeout (RFC 6298).
//!
//! One segment per round trip is timed on the caller's clock, to the nanosecond. A segment that is sent again is timed only if
//! there are timestamps (RFC 7323), whose echo then tells which of its transmissions was acknowledged (Karn's question, RFC
//! 6298 section 3).
//!
//! Deviation: RFC 7323 section 4.1 would take the sample itself from the echo. Its clock ticks in milliseconds, 10 to 100
//! round trips of a data centre; and an ACK that was lost and is given again echoes the first arrival, which would count
//! the timeout in between as a round trip.

use units::Nanos;
use wire::Seq;
use wire::tcp::Timestamps;

use crate::Config;
use crate::tcb::{Bits, Tcb};

/// Back-off beyond this many doublings is past any `rto_max`.
const BACKOFF_MAX: u8 = 16;

impl Tcb {
    /// The timeout to arm now, with back-off (RFC 6298 section 5.5).
    #[inline]
    pub(crate) fn rto_now(&self, cfg: &Config) -> Nanos {
        Nanos(((u64::from(self.rto_us) * 1000) << self.backoff.min(BACKOFF_MAX)).min(cfg.rto_max.0))
    }

    /// RFC 6298 section 5.5: "back off the timer".
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1).min(BACKOFF_MAX);
    }

    /// Starts timing the data that ends at `end`, if none is being timed.
    #[inline]
    pub(crate) fn time_segment(&mut self, now: Nanos, end: Seq) {
        if !self.has(Bits::TIMING) {
            self.set(Bits::TIMING);
            self.rtt_seq = end;
            self.rtt_at = now;
        }
    }

    /// As [`Tcb::time_segment`], for what is sent again.
    pub(crate) fn time_again(&mut self, now: Nanos, end: Seq) {
        if self.has(Bits::TS) {
            self.time_segment(now, end);
        } else {
            self.clear(Bits::TIMING);
        }
    }

    /// Takes the sample that an ACK of new data gives, if it gives one. `again`: the timed segment was sent before.
    #[inline]
    pub(crate) fn sample_rtt(&mut self, now: Nanos, cfg: &Config, ack: Seq, ts: Option<Timestamps>, again: bool) {
        if self.has(Bits::TIMING) && ack.ge(self.rtt_seq) {
            self.clear(Bits::TIMING);
            if !again || self.echoes_timed(ts) {
                self.measured(cfg, now - self.rtt_at);
            }
        }
    }

    /// Whether an ACK was caused by the timed transmission, or a later one, and not by an earlier one.
    #[cold]
    fn echoes_timed(&self, ts: Option<Timestamps>) -> bool {
        let sent = self.ts_now(self.rtt_at);
        ts.is_some_and(|ts| self.has(Bits::TS) && ts.ecr.wrapping_sub(sent) as i32 >= 0)
    }

    /// RFC 6298 section 2.2 and 2.3, in microseconds, srtt scaled by 8 and rttvar by 4 so that the gains are shifts.
    #[inline]
    pub(crate) fn measured(&mut self, cfg: &Config, rtt: Nanos) {
        const MINUTE_US: u64 = 60_000_000;
        let r = rtt.micros().clamp(1, MINUTE_US) as u32;
        if r < self.min_rtt_us || self.min_rtt_us == 0 {
            self.min_rtt_us = r;
        }
        if self.srtt8 == 0 {
            self.srtt8 = r << 3;
            self.rttvar4 = r << 1;
        } else {
            let delta = r.abs_diff(self.srtt8 >> 3);
            self.rttvar4 = self.rttvar4.wrapping_sub(self.rttvar4 >> 2).wrapping_add(delta);
            self.srtt8 = self.srtt8.wrapping_sub(self.srtt8 >> 3).wrapping_add(r);
        }
        // Section 2.3: RTO = SRTT + max(G, K * RTTVAR); G is a tick of the timing wheel, 16 us.
        let rto = (self.srtt8 >> 3).saturating_add(self.rttvar4.max(16));
        // RFC 6298 sections 2.4 and 2.5.
        let least = u32::try_from(cfg.rto_min.micros()).unwrap_or(u32::MAX);
        let most = u32::try_from(cfg.rto_max.micros()).unwrap_or(u32::MAX);
        self.rto_us = rto.min(most).max(least);
        // Karn: the backed-off timeout stays until there is a sample.
        self.backoff = 0;
    }
}
