//! Seventh: process the segment text. Eighth: check the FIN bit.

use units::Nanos;

use super::Text;
use crate::tcb::{Bits, Tcb};
use crate::{Arrival, CloseReason, Config, DropReason, Events, Payload, State};

impl Tcb {
    /// Payload within the window: in order it moves RCV.NXT, out of order it is held (RFC 9293 section 3.10.7.4, SHLD-31).
    pub(super) fn segment_text(&mut self, now: Nanos, cfg: &Config, text: &Text, keep_ooo: bool, out: &mut Arrival) {
        if text.len == 0 {
            return;
        }
        if !self.state.can_receive() {
            // "This should not occur since a FIN has been received from the remote side. Ignore the segment text."
            out.drop = Some(DropReason::AfterClose);
            return;
        }
        if self.has(Bits::GONE) {
            // RFC 9293 section 3.6.1, SHLD-3: "new data is received after CLOSE is called ... send a RST".
            out.drop = Some(DropReason::AfterClose);
            out.reply = Some(self.reset_emit());
            return self.cease(CloseReason::Aborted, out);
        }
        if text.seq == self.rcv_nxt {
            self.text_in_order(now, cfg, text, out);
        } else {
            self.text_out_of_order(cfg, text, keep_ooo, out);
        }
    }

    fn text_in_order(&mut self, now: Nanos, cfg: &Config, text: &Text, out: &mut Arrival) {
        let before = self.rcv_nxt;
        self.rcv_nxt += text.len;
        let mut filled = self.holds();
        if let Some(record) = self.record.as_deref_mut() {
            while let Some(right) = record.held.connect(self.rcv_nxt) {
                self.rcv_nxt = self.rcv_nxt.max(right);
                filled = true;
            }
        }
        out.payload = Payload::InOrder { skip: text.skip, len: text.len };
        out.advanced = self.rcv_nxt.since(before);
        self.unread = self.unread.wrapping_add(out.advanced);
        self.ack_policy(now, cfg, text.len);
        if filled {
            // RFC 5681 section 4.2: "an immediate ACK when the incoming segment fills in all or part of a gap".
            self.set(Bits::ACK_NOW);
        }
    }

    fn text_out_of_order(&mut self, cfg: &Config, text: &Text, keep_ooo: bool, out: &mut Arrival) {
        // RFC 5681 section 4.2: "an immediate duplicate ACK when an out-of-order segment arrives".
        // An ACK of data in order that was due before (both came in one batch) is not a duplicate: it goes first.
        let owed = u8::from(self.has(Bits::ACK_NOW) && self.dups_due == 0);
        self.dups_due = self.dups_due.saturating_add(1 + owed);
        let reports = cfg.dsack && self.has(Bits::SACK);
        let Some(record) = self.record.as_deref_mut() else {
            out.drop = Some(DropReason::OooFull);
            return;
        };
        let (left, right) = record.held.gap_within(text.seq, text.seq + text.len);
        if left != text.seq && reports {
            // RFC 2883 section 4.2.
            record.twice = Some((text.seq, left));
        }
        if left == right {
            out.drop = Some(DropReason::Duplicate);
        } else if keep_ooo && record.held.hold(left, right) {
            let skip = text.skip.wrapping_add(left.since(text.seq));
            out.payload = Payload::OutOfOrder { skip, len: right.since(left), seq: left };
        } else {
            out.drop = Some(DropReason::OooFull);
        }
    }

    /// RFC 9293 section 3.8.6.3, RFC 5681 section 4.2: every second full segment at once, any other within `delayed_ack`.
    #[inline(always)]
    pub(super) fn ack_policy(&mut self, now: Nanos, cfg: &Config, len: u32) {
        let len = u16::try_from(len).unwrap_or(u16::MAX).min(cfg.mss);
        self.rcv_mss = self.rcv_mss.max(len);
        if self.rcv_nxt.since(self.last_ack_sent) >= 2 * u32::from(self.rcv_mss) {
            self.set(Bits::ACK_NOW);
        } else if self.ack_at == Nanos::MAX {
            self.ack_at = now + cfg.delayed_ack;
        }
    }

    /// The FIN of this segment, or one that came before the data that precedes it.
    pub(super) fn check_fin(&mut self, now: Nanos, cfg: &Config, text: &Text, out: &mut Arrival) {
        if text.fin && self.state.can_receive() {
            self.rcv_fin = text.seq + text.len;
            self.set(Bits::FIN_HELD);
            if self.rcv_fin.gt(self.rcv_nxt) {
                self.set(Bits::ACK_NOW);
            }
        }
        if !self.has(Bits::FIN_HELD) || self.rcv_fin.gt(self.rcv_nxt) || self.state == State::Closed {
            return;
        }
        self.clear(Bits::FIN_HELD);
        if self.rcv_fin != self.rcv_nxt || !self.state.can_receive() {
            // Data beyond its own FIN: the peer contradicts itself, and the data was first. Or a second FIN.
            return;
        }
        // "advance RCV.NXT over the FIN, and send an acknowledgment for the FIN".
        self.rcv_nxt += 1;
        self.rcv_edge = self.rcv_edge.max(self.rcv_nxt);
        if let Some(record) = self.record.as_deref_mut() {
            record.held.clear();
        }
        self.set(Bits::ACK_NOW);
        out.events |= Events::PEER_FIN;
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.enter_time_wait(now, cfg),
            _ => {}
        }
    }
}
