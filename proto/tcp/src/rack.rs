//! RACK (RFC 8985 section 6): what was sent before something that has arrived, and has had time to arrive, is lost.
//!
//! The RFC compares the time of sending of every segment. We know it of pieces, within bounds ([`crate::flight`]); where a bound
//! is wide, a piece is taken to have been sent as late as the one that arrived: its time runs from that arrival on.

use units::Nanos;
use wire::Seq;

use crate::flight::{Piece, Tick};
use crate::record::Record;
use crate::tcb::{Bits, Tcb};
use crate::{Config, Phase};

/// Recoveries without a DSACK after which the window is narrow again (RFC 8985 section 6.2 step 4).
const PERSIST: u8 = 16;

/// The most recently sent segment that has arrived (RACK.xmit_ts, RACK.end_seq), and the highest (RACK.fack).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rack {
    known: bool,
    /// It was sent more than once.
    again: bool,
    end: Seq,
    /// The earliest instant at which it can have been sent.
    sent: Tick,
    /// When the ACK came that told of it.
    arrival: Nanos,
    pub(crate) fack: Seq,
}

impl Rack {
    pub(crate) const NEW: Rack =
        Rack { known: false, again: false, end: Seq(0), sent: Tick::ZERO, arrival: Nanos::ZERO, fack: Seq(0) };

    /// `[from, to)` of a piece has arrived (section 6.2 steps 2 and 3). Whether that shows reordering.
    pub(crate) fn delivered(&mut self, now: Nanos, from: Seq, to: Seq, piece: &Piece) -> bool {
        let again = piece.fate.is_again();
        let reordered = !again && from.lt(self.fack);
        self.fack = self.fack.max(to);
        let in_order = !again && !self.again && to.gt(self.end);
        let same = piece.first == self.sent && to.gt(self.end);
        if !self.known || piece.first.after(self.sent) || in_order || same {
            *self = Rack { known: true, again, end: to, sent: piece.first, arrival: now, fack: self.fack };
        }
        reordered
    }

    /// Whether the piece was sent before what has arrived (RACK_sent_after).
    fn sent_after(&self, piece: &Piece) -> bool {
        let in_order = !self.again && !piece.fate.is_again() && self.end.ge(piece.end);
        let later = self.end.gt(piece.end) && self.sent == piece.last;
        self.known && (self.sent.after(piece.last) || in_order || later)
    }

    /// When the piece has had time enough: RFC 8985's "Segment.xmit_ts + RACK.rtt + RACK.reo_wnd", RACK.rtt being the span from
    /// `sent` to `arrival`.
    fn due(&self, piece: &Piece, reo_wnd: Nanos) -> Nanos {
        self.arrival + reo_wnd - self.sent.since(piece.last)
    }
}

impl Tcb {
    /// RACK_detect_loss (section 6.2 step 5): whether something is newly believed lost, and when the next may be.
    pub(crate) fn detect_loss(&mut self, now: Nanos) -> (bool, Nanos) {
        let (reo_wnd, least) = (self.reo_wnd(), Nanos::from_micros(u64::from(self.min_rtt_us)));
        let Some(record) = self.record.as_deref_mut() else { return (false, Nanos::MAX) };
        let Record { flight, rack, .. } = record;
        let mut wait = Nanos::ZERO;
        let lost = flight.lose(|piece| {
            if !rack.sent_after(piece) {
                return false;
            }
            // A repair that has been out for less than any round trip cannot have been answered yet.
            let out = Tick::of(now).since(piece.last);
            if piece.fate.is_again() && out < least {
                wait = wait.max(now + (least - out));
                return false;
            }
            // With no window, what was sent before is due by now, whenever it was sent.
            let due = if reo_wnd == Nanos::ZERO { now } else { rack.due(piece, reo_wnd) };
            if due > now {
                wait = wait.max(due);
            }
            due <= now
        });
        (lost, if wait == Nanos::ZERO { Nanos::MAX } else { wait })
    }

    /// Section 6.2 step 4: the reordering window.
    fn reo_wnd(&self) -> Nanos {
        if !self.has(Bits::REORDERED) && (self.phase != Phase::Open || self.many_sacked()) {
            return Nanos::ZERO;
        }
        let wnd_us = u64::from(self.reo_mult.max(1)) * u64::from(self.min_rtt_us) / 4;
        Nanos::from_micros(wnd_us.min(u64::from(self.srtt8 >> 3)))
    }

    /// Section 6.2 step 4: a DSACK says that the window was too narrow; once per round trip.
    pub(crate) fn widen_reo_wnd(&mut self) {
        let (una, nxt) = (self.snd_una, self.snd_nxt);
        let Some(record) = self.record.as_deref_mut() else { return };
        if record.dsack_round.is_some_and(|round| una.ge(round)) {
            record.dsack_round = None;
        }
        if record.dsack_round.is_none() {
            record.dsack_round = Some(nxt);
            self.reo_mult = self.reo_mult.saturating_add(1).max(2);
            self.reo_persist = PERSIST;
        }
    }

    /// Section 6.2 step 4: a recovery has ended.
    pub(crate) fn narrow_reo_wnd(&mut self) {
        self.reo_persist = self.reo_persist.saturating_sub(1);
        if self.reo_persist == 0 {
            self.reo_mult = 1;
        }
    }

    /// Section 6.3, at a retransmission timeout: lost is the first segment, and all that was sent longer than a round trip and
    /// the window ago.
    pub(crate) fn lose_on_timeout(&mut self, now: Nanos) {
        let (una, smss) = (self.snd_una, u32::from(self.smss));
        let due = Nanos::from_micros(u64::from(self.srtt8 >> 3)) + self.reo_wnd();
        let end = una + smss.min(self.flight());
        let Some(record) = self.record.as_deref_mut() else { return };
        record.flight.lose_head(una, end);
        record.flight.lose(|piece| Tick::of(now).since(piece.last) >= due);
    }

    /// The reordering timer: the time of what was sent before is over (section 6.2 step 5).
    #[cold]
    pub(crate) fn reordering_timeout(&mut self, now: Nanos, cfg: &Config) {
        self.clear(Bits::REO);
        self.rtx_at = now + self.rto_now(cfg);
        self.find_losses(now, 0, false);
    }
}
