//! Round-trip time and retransmission timeout (RFC 6298).
//!
//! One segment per round trip is timed on the caller's clock, to the nanosecond, unless something was sent again (Karn).
//! Timestamps (RFC 7323 section 4) step in where Karn's rule leaves no sample: after a retransmission.
//!
//! Deviation: RFC 7323 section 4.1 would sample by timestamps only. Their clock ticks in milliseconds, which is 10 to
//! 100 round trips of a data centre.

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

    /// Takes the sample that an ACK of new data gives, if it gives one. `again`: some of it had been sent again.
    #[inline]
    pub(crate) fn sample_rtt(&mut self, now: Nanos, cfg: &Config, ack: Seq, ts: Option<Timestamps>, again: bool) {
        if self.has(Bits::TIMING) {
            if ack.ge(self.rtt_seq) {
                self.clear(Bits::TIMING);
                self.measured(cfg, now - self.rtt_at);
            }
        } else if again {
            self.sample_by_timestamp(now, cfg, ts);
        }
    }

    /// RFC 7323 section 4.1: "TSecr of an ACK that advances the left edge".
    #[cold]
    fn sample_by_timestamp(&mut self, now: Nanos, cfg: &Config, ts: Option<Timestamps>) {
        if let Some(ts) = ts.filter(|ts| self.has(Bits::TS) && ts.ecr != 0) {
            let ticks = self.ts_now(now).wrapping_sub(ts.ecr);
            // The peer's echo is not to be trusted with more than we could have waited.
            if u64::from(ticks) <= cfg.rto_max.millis() {
                self.measured(cfg, Nanos::from_millis(u64::from(ticks.max(1))));
            }
        }
    }

    /// RFC 6298 section 2.2 and 2.3, in microseconds, srtt scaled by 8 and rttvar by 4 so that the gains are shifts.
    #[inline]
    pub(crate) fn measured(&mut self, cfg: &Config, rtt: Nanos) {
        const MINUTE_US: u64 = 60_000_000;
        let r = rtt.micros().clamp(1, MINUTE_US) as u32;
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
        self.rto_us = u64::from(rto).clamp(cfg.rto_min.micros(), cfg.rto_max.micros().max(cfg.rto_min.micros())) as u32;
        // Karn: the backed-off timeout stays until there is a sample.
        self.backoff = 0;
    }
}
