//! Congestion control: how fast the window grows, and by how much it shrinks. When that is, is decided in `recovery`.
//!
//! | | growth beyond ssthresh | at a loss | at a mark |
//! |---|---|---|---|
//! | NewReno (RFC 5681) | a segment per round trip | 1/2 | 1/2 |
//! | CUBIC (RFC 9438) | a cubic function of time, at least as NewReno | 0.7 | 0.7 |
//! | DCTCP (RFC 8257) | as NewReno | 1/2 | by the share of marked bytes |
//!
//! Windows count bytes. Slow start is the same for all (RFC 5681 section 3.1, RFC 3465 with L = 2), but the first one of NewReno and CUBIC, which
//! is HyStart++ (RFC 9406, with L = 8). DCTCP's ends with a mark, before a queue is long.

use units::Nanos;
use wire::tcp::Timestamps;

use crate::cubic::Cubic;
use crate::dctcp::Dctcp;
use crate::hystart::{self, Growth, Start};
use crate::tcb::{Bits, Tcb};
use crate::{Config, Congestion};

/// The largest congestion window: far above any bandwidth-delay product, far below half the circle.
pub(crate) const CWND_MAX: u32 = 1 << 30;
/// The slow-start threshold before any loss (RFC 5681 section 3.1: arbitrarily high).
pub(crate) const SSTHRESH_START: u32 = CWND_MAX;

/// The algorithm of a connection, and what it remembers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    NewReno,
    Cubic(Cubic),
    Dctcp(Dctcp),
    /// The first slow start of one of the first two: what these will have to remember begins with its end.
    Starting(Congestion, Start),
}

impl Control {
    /// For a connection that begins.
    pub(crate) fn new(congestion: Congestion) -> Control {
        match congestion {
            Congestion::NewReno | Congestion::Cubic => Control::Starting(congestion, Start::NEW),
            Congestion::Dctcp => Control::Dctcp(Dctcp::NEW),
        }
    }

    /// For one that has left its first slow start.
    fn started(congestion: Congestion) -> Control {
        match congestion {
            Congestion::NewReno => Control::NewReno,
            Congestion::Cubic => Control::Cubic(Cubic::NEW),
            Congestion::Dctcp => Control::Dctcp(Dctcp::NEW),
        }
    }
}

impl Tcb {
    /// The congestion control of this connection.
    pub fn congestion(&self) -> Congestion {
        match self.control {
            Control::NewReno => Congestion::NewReno,
            Control::Cubic(_) => Congestion::Cubic,
            Control::Dctcp(_) => Congestion::Dctcp,
            Control::Starting(congestion, _) => congestion,
        }
    }

    /// Changes the congestion control; the window stays.
    pub fn set_congestion(&mut self, congestion: Congestion) {
        let starts = self.ssthresh == SSTHRESH_START;
        self.control = if starts { Control::new(congestion) } else { Control::started(congestion) };
    }

    /// The initial window, and the one after idleness (RFC 6928; RFC 5681 section 4.1).
    pub(crate) fn initial_cwnd(&self) -> u32 {
        (u32::from(self.iw) * u32::from(self.smss)).clamp(u32::from(self.smss), CWND_MAX)
    }

    /// New data was acknowledged while nothing is being repaired, or in slow start after a timeout.
    #[inline]
    pub(crate) fn grow(&mut self, now: Nanos, acked: u32, flight: u32, ts: Option<Timestamps>) {
        // RFC 7661: a window that is not used is no evidence that the path would carry it.
        let used = self.has(Bits::LIMITED) || flight >= self.cwnd / 2;
        if !used || self.cwnd > self.snd_wnd || self.cwnd >= CWND_MAX {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.slow_start(now, acked, ts);
        } else {
            self.leave_start();
            self.avoid(now, acked);
        }
    }

    /// RFC 5681 section 3.1; the first one, RFC 9406 section 4.2.
    fn slow_start(&mut self, now: Nanos, acked: u32, ts: Option<Timestamps>) {
        let smss = u32::from(self.smss);
        let ms = ts.filter(|_| self.has(Bits::TS)).map(|ts| self.ts_now(now).wrapping_sub(ts.ecr));
        let Control::Starting(_, start) = &mut self.control else {
            self.cwnd += acked.min(2 * smss);
            return;
        };
        // A minute and more is no round trip but an echo that was made up.
        let ms = ms.and_then(|ms| u16::try_from(ms).ok()).filter(|ms| *ms < 60_000);
        let step = acked.min(hystart::LIMIT * smss);
        match start.acked(ms, self.snd_una, self.snd_nxt) {
            Growth::Full => self.cwnd += step,
            Growth::Conservative => self.cwnd += step / hystart::DIVISOR,
            Growth::Over => {
                self.ssthresh = self.cwnd;
                self.leave_start();
            }
        }
    }

    /// The first slow start has ended.
    #[inline]
    fn leave_start(&mut self) {
        if let Control::Starting(congestion, _) = self.control {
            self.control = Control::started(congestion);
        }
    }

    /// Congestion avoidance.
    fn avoid(&mut self, now: Nanos, acked: u32) {
        let smss = u32::from(self.smss);
        if let Control::Cubic(cubic) = &mut self.control {
            let rtt = Nanos::from_micros(u64::from(self.srtt8 >> 3));
            // RFC 9438 section 4.3, cwnd_prior: what ssthresh was 0.7 of.
            //
            // Deviation: alpha stays 9/17 (the RFC: SHOULD be 1 from cwnd_prior on) while round trips are a quarter longer than the least, for
            // then there is a queue that others may share. Linux's CUBIC knows no other alpha; beside 1 it is left a third or less.
            let queued = self.srtt8 >> 3 > self.min_rtt_us.saturating_add(self.min_rtt_us / 4);
            let prior = if queued { u32::MAX } else { self.ssthresh.saturating_mul(10) / 7 };
            self.cwnd = cubic.grow(now + rtt, self.cwnd, smss, acked, prior, &mut self.credit).min(CWND_MAX);
            return;
        }
        // RFC 5681 section 3.1, in bytes acknowledged (RFC 3465): no division.
        self.credit = self.credit.saturating_add(acked);
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.cwnd += smss;
        }
    }

    /// FlightSize before a reduction: of what was in flight when the sender last sent.
    ///
    /// ACKs come in batches, and nothing is sent between those of one batch. By the time that one of them reports a loss, those before
    /// it have emptied the network of what the sender would have put in their place; what is left in flight says how late in the
    /// batch the loss was found, not what the path carried. A sender that cwnd holds back had cwnd in flight. RFC 9438 section 4.6
    /// allows cwnd where it does not grow while it is not used ([`Tcb::grow`]); limited transmit does not count (RFC 5681 section 3.2).
    pub(crate) fn flight_before(&self, flight: u32) -> u32 {
        if self.has(Bits::LIMITED) && self.cwnd <= self.snd_wnd_max { self.cwnd } else { flight.min(self.cwnd) }
    }

    /// ssthresh after a loss with `flight` outstanding (RFC 5681 equation (4); RFC 9438 section 4.6).
    pub(crate) fn reduced_for_loss(&mut self, flight: u32) -> u32 {
        let (smss, flight) = (u32::from(self.smss), self.flight_before(flight));
        self.credit = 0;
        self.leave_start();
        match &mut self.control {
            Control::Cubic(cubic) => cubic.loss(self.cwnd, flight, smss),
            Control::NewReno | Control::Dctcp(_) | Control::Starting(..) => (flight / 2).max(2 * smss),
        }
    }

    /// An ACK says that a packet was marked on its way (RFC 3168 section 6.1.2): the window shrinks as if it had been lost, once per
    /// round trip, and does not grow. `cwnd` and `flight` were before the ACK. DCTCP: by the share of marks (RFC 8257 section 3.3).
    #[cold]
    pub(crate) fn marked(&mut self, cwnd: u32, flight: u32) {
        if self.phase == crate::Phase::Open {
            (self.cwnd, self.credit) = (self.cwnd.min(cwnd), 0);
        }
        if self.phase != crate::Phase::Open || self.snd_una.lt(self.ecn_end) {
            return;
        }
        let smss = u32::from(self.smss);
        self.ssthresh = match &mut self.control {
            Control::Dctcp(dctcp) => dctcp.reduced(self.cwnd).max(2 * smss),
            _ => self.reduced_for_loss(flight),
        };
        self.cwnd = self.cwnd.min(self.ssthresh);
        self.credit = 0;
        self.ecn_end = self.snd_nxt;
        self.set(Bits::CWR_DUE);
    }

    /// Counts marks for DCTCP (RFC 8257 section 3.3).
    #[inline]
    pub(crate) fn count_marks(&mut self, acked: u32, marked: bool) {
        if let Control::Dctcp(dctcp) = &mut self.control {
            dctcp.acked(acked, marked, self.snd_una, self.snd_nxt);
        }
    }

    /// RFC 5681 section 4.1: after more than one RTO without sending, cwnd is the restart window.
    #[cold]
    pub(crate) fn restart_after_idle(&mut self) {
        self.cwnd = self.cwnd.min(self.initial_cwnd());
        if self.ssthresh == SSTHRESH_START {
            // Slow start has not ended, or what ended it was taken back: what is kept for later begins anew with the next loss.
            return;
        }
        self.credit = 0;
        if let Control::Cubic(cubic) = &mut self.control {
            // RFC 9438 section 5.8: time in which nothing was sent is no time to grow in.
            cubic.pause();
        }
    }
}

impl Config {
    /// The initial window in segments, at least one.
    pub(crate) fn iw(&self) -> u8 {
        u8::try_from(self.initial_window.max(1)).unwrap_or(u8::MAX)
    }
}
