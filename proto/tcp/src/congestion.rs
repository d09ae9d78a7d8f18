//! Congestion control: slow start, congestion avoidance, fast retransmit and recovery.
//!
//! ```text
//!             3rd duplicate ACK, or IsLost(snd.una)           snd.una >= recover
//!   Open  ------------------------------------------> Recovery ----------------> Open
//!     |                                                   |
//!     +------------------- timeout ------> Loss <---------+      Loss --- snd.una >= recover ---> Open
//! ```
//!
//! Windows count bytes. With SACK, RFC 6675 says what is in the network; without, RFC 6582 inflates cwnd.

use wire::Seq;

use crate::Config;
use crate::sack::DUP_THRESH;
use crate::tcb::{Bits, Tcb};

/// The largest congestion window: far above any bandwidth-delay product, far below half the circle.
const CWND_MAX: u32 = 1 << 30;

/// How the sender reads acknowledgements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing is believed lost.
    Open,
    /// Fast recovery (RFC 6582, RFC 6675): what is lost is sent again at half the pace.
    Recovery,
    /// A timeout: everything that was out is believed lost (RFC 5681 section 3.1).
    Loss,
}

impl Tcb {
    /// The initial window, and the one after idleness (RFC 6928; RFC 5681 section 4.1).
    pub(crate) fn initial_cwnd(&self) -> u32 {
        (u32::from(self.iw) * u32::from(self.smss)).clamp(u32::from(self.smss), CWND_MAX)
    }

    /// An ACK advanced snd.una by `acked`; `flight` was outstanding before.
    #[inline]
    pub(crate) fn on_new_ack(&mut self, acked: u32, flight: u32) {
        if self.phase == Phase::Open {
            self.dupacks = 0;
            self.grow(acked, flight);
        } else {
            self.on_new_ack_repairing(acked, flight);
        }
    }

    #[cold]
    fn on_new_ack_repairing(&mut self, acked: u32, flight: u32) {
        let smss = u32::from(self.smss);
        let done = self.snd_una.ge(self.recover);
        match self.phase {
            Phase::Open => {}
            // RFC 5681 section 3.1: slow start up to ssthresh after a timeout.
            Phase::Loss => self.grow(acked, flight),
            Phase::Recovery if done => {
                // RFC 6582 section 3.2 step 3, full acknowledgements, option 1; RFC 6675 section 5 keeps ssthresh.
                self.cwnd = if self.has(Bits::SACK) {
                    self.ssthresh
                } else {
                    self.ssthresh.min(self.flight().max(smss).saturating_add(smss))
                };
            }
            Phase::Recovery => {
                // RFC 6582 section 3.2 step 3, partial acknowledgements: the next hole begins at snd.una. With SACK the
                // same holds where the scoreboard does not tell: data sent before the recovery is due by now.
                if self.rxt.le(self.snd_una) {
                    self.set(Bits::HEAD_LOST);
                }
                if !self.has(Bits::SACK) {
                    let back = if acked >= smss { smss } else { 0 };
                    self.cwnd = self.cwnd.saturating_sub(acked).saturating_add(back).max(smss);
                }
            }
        }
        if done {
            self.phase = Phase::Open;
            self.dupacks = 0;
            self.clear(Bits::HEAD_LOST);
            self.cwnd = self.cwnd.max(smss);
            if self.snd_una == self.recover {
                self.set(Bits::AT_RECOVER);
            }
        }
    }

    /// RFC 5681 section 3.1, in bytes acknowledged (RFC 3465, L = 2): no division.
    #[inline]
    fn grow(&mut self, acked: u32, flight: u32) {
        // RFC 7661: a window that is not used is no evidence that the path would carry it.
        let used = self.has(Bits::LIMITED) || flight >= self.cwnd / 2;
        if !used || self.cwnd > self.snd_wnd || self.cwnd >= CWND_MAX {
            return;
        }
        let smss = u32::from(self.smss);
        if self.cwnd < self.ssthresh {
            self.cwnd += acked.min(2 * smss);
        } else {
            self.credit = self.credit.saturating_add(acked);
            if self.credit >= self.cwnd {
                self.credit -= self.cwnd;
                self.cwnd += smss;
            }
        }
    }

    /// A duplicate ACK (RFC 5681 section 2; with SACK, RFC 6675 section 2).
    #[cold]
    pub(crate) fn on_duplicate_ack(&mut self) {
        self.dupacks = self.dupacks.saturating_add(1);
        match self.phase {
            // RFC 6675 section 5 (1) and (2).
            Phase::Open if self.has(Bits::SACK) && (self.dupacks >= DUP_THRESH || self.is_lost_below(0)) => {
                self.enter_recovery();
            }
            // RFC 6582 section 3.2 step 2: not when the duplicates may come from what a recovery sent again.
            Phase::Open if self.dupacks == DUP_THRESH && !self.has(Bits::AT_RECOVER) => self.enter_recovery(),
            // RFC 5681 section 3.2 step 4: a segment has left the network.
            Phase::Recovery if !self.has(Bits::SACK) => {
                self.cwnd = self.cwnd.saturating_add(u32::from(self.smss)).min(CWND_MAX);
            }
            _ => {}
        }
    }

    /// RFC 5681 section 3.2 step 2 and 3; RFC 6675 section 5 step (4).
    fn enter_recovery(&mut self) {
        let smss = u32::from(self.smss);
        self.ssthresh = self.half_flight();
        self.cwnd = if self.has(Bits::SACK) { self.ssthresh } else { self.ssthresh + u32::from(DUP_THRESH) * smss };
        self.phase = Phase::Recovery;
        self.recover = self.snd_nxt;
        self.rxt = self.snd_una;
        self.credit = 0;
        self.set(Bits::HEAD_LOST);
        self.clear(Bits::RESCUED | Bits::TIMING);
    }

    /// The retransmission timer expired (RFC 5681 section 3.1, RFC 6582 section 4, RFC 2018 section 8).
    pub(crate) fn enter_loss(&mut self) {
        // RFC 5681 section 3.1: ssthresh is held while the same data times out again.
        if self.retries == 0 {
            self.ssthresh = self.half_flight();
        }
        self.cwnd = u32::from(self.smss);
        self.credit = 0;
        self.dupacks = 0;
        self.phase = Phase::Loss;
        self.recover = self.snd_nxt;
        self.rxt = self.snd_una;
        // RFC 2018 section 8: the receiver may have reneged.
        self.sacked.clear();
        self.clear(Bits::HEAD_LOST | Bits::TIMING | Bits::AT_RECOVER);
    }

    /// RFC 5681 equation (4).
    fn half_flight(&self) -> u32 {
        (self.flight() / 2).max(2 * u32::from(self.smss))
    }

    /// RFC 5681 section 4.1: after more than one RTO without sending, cwnd is the restart window.
    pub(crate) fn restart_after_idle(&mut self) {
        self.cwnd = self.cwnd.min(self.initial_cwnd());
        self.credit = 0;
    }

    /// Bytes beyond snd.nxt that both windows admit now.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        let flight = self.flight();
        let by_peer = self.snd_wnd.saturating_sub(flight);
        if self.phase == Phase::Open && self.dupacks == 0 && self.sacked.is_empty() {
            return by_peer.min(self.cwnd.saturating_sub(flight));
        }
        by_peer.min(self.cwnd_room())
    }

    /// What cwnd admits beyond what is in the network.
    pub(crate) fn cwnd_room(&self) -> u32 {
        let mut cwnd = self.cwnd;
        if self.phase == Phase::Loss && self.rxt.lt(self.recover) {
            // What is lost goes first.
            return 0;
        }
        if self.phase == Phase::Open && !self.has(Bits::SACK) {
            // RFC 3042, limited transmit: one segment for each of the first two duplicates.
            cwnd = cwnd.saturating_add(u32::from(self.dupacks.min(2)) * u32::from(self.smss));
        }
        cwnd.saturating_sub(self.pipe())
    }

    /// The next stretch to send again, if there is one and the window allows: RFC 6675 section 4 "NextSeg ()". A segment
    /// is at most `max_payload` long.
    pub(crate) fn next_rexmit(&self, max_payload: u32) -> Option<Rexmit> {
        if self.phase == Phase::Open {
            return None;
        }
        if self.has(Bits::HEAD_LOST) {
            // RFC 6675 section 5 (4.3), RFC 5681 section 3.2 step 3: sent whatever the window.
            let (_, from, to) = self.hole_at_or_after(self.snd_una)?;
            return Some(Rexmit { from, to, rescue: false });
        }
        let segment = u32::from(self.smss).min(max_payload);
        let pipe = self.pipe();
        if pipe != 0 && pipe.saturating_add(segment) > self.cwnd {
            return None;
        }
        match self.phase {
            Phase::Loss => {
                let (_, from, to) = self.hole_at_or_after(self.rxt)?;
                let to = to.min(self.recover);
                // RFC 9293 section 3.8.6: the window may have shrunk; its first segment serves as the probe.
                let in_window = from == self.snd_una || from.since(self.snd_una) < self.snd_wnd;
                (from.lt(to) && in_window).then_some(Rexmit { from, to, rescue: false })
            }
            _ if self.has(Bits::SACK) => self.next_rexmit_by_scoreboard(),
            _ => None,
        }
    }

    fn next_rexmit_by_scoreboard(&self) -> Option<Rexmit> {
        let runs = self.sacked.as_slice().len();
        let hole = self.hole_at_or_after(self.rxt).filter(|(k, ..)| *k < runs);
        if let Some((k, from, to)) = hole
            && self.is_lost_below(k)
        {
            return Some(Rexmit { from, to, rescue: false }); // rule (1)
        }
        if self.unsent() > 0 && self.snd_wnd > self.flight() {
            return None; // rule (2): new data
        }
        if let Some((_, from, to)) = hole {
            return Some(Rexmit { from, to, rescue: false }); // rule (3)
        }
        // Rule (4): once per recovery, the highest outstanding octets.
        let smss = u32::from(self.smss);
        let (_, start, to) = self.hole_at_or_after(self.sacked.as_slice().last().map_or(self.snd_una, |r| r.1))?;
        let from = if to.since(start) > smss { to - smss } else { start };
        (!self.has(Bits::RESCUED)).then_some(Rexmit { from, to, rescue: true })
    }
}

/// A stretch to be sent again, at most one segment of it at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rexmit {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    pub(crate) rescue: bool,
}

/// The slow-start threshold before any loss (RFC 5681 section 3.1: arbitrarily high).
pub(crate) const SSTHRESH_START: u32 = CWND_MAX;

impl Config {
    /// The initial window in segments, at least one.
    pub(crate) fn iw(&self) -> u8 {
        u8::try_from(self.initial_window.max(1)).unwrap_or(u8::MAX)
    }
}
