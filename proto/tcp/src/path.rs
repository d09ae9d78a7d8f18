//! Segments fitted to what the path carries (RFC 1191, RFC 8201), and the suspicion that it carries less than it says (RFC 4821, RFC 8899).

use units::Nanos;

use crate::tcb::{Bits, MIN_MSS, TIMESTAMPS_LEN, Tcb};
use crate::{Config, State};

/// Timeouts in a row after which a path is suspected of swallowing large segments (RFC 8899 section 4.3 leaves the number to us).
const SUSPECT_AFTER: u8 = 3;

impl Tcb {
    /// The path carries segments of at most `mss` bytes, options counted. From now on none is larger; those in flight that are, are lost,
    /// and everything in flight is sent again. The congestion window stays: nothing was congested (RFC 1191 section 6.5). Returns whether
    /// segments became smaller. Cost: constant.
    pub fn path_narrowed(&mut self, now: Nanos, cfg: &Config, mss: u16) -> bool {
        let options = if self.has(Bits::TS) { TIMESTAMPS_LEN } else { 0 };
        let smss = mss.max(MIN_MSS) - options;
        if smss >= self.smss || !self.state.is_synchronized() || self.state == State::Closed {
            return false;
        }
        self.smss = smss;
        if self.flight() > 0 && self.unacked() > 0 {
            let (cwnd, ssthresh) = (self.cwnd, self.ssthresh);
            // Known to be lost: nothing to be found out by F-RTO first.
            self.enter_loss(now, &Config { frto: false, ..cfg.clone() });
            (self.cwnd, self.ssthresh) = (cwnd, ssthresh);
        }
        true
    }

    /// Whether the path may be a black hole for segments of this size: several timeouts in a row, with at least a full segment in flight.
    pub fn black_hole(&self) -> bool {
        self.retries >= SUSPECT_AFTER && self.state.is_synchronized() && self.unacked() >= u32::from(self.smss)
    }
}
