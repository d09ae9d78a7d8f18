//! First: check the sequence number; before that, timestamps (RFC 7323 section 5.3).

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Segment};

use super::Text;
use crate::tcb::{Bits, Tcb};
use crate::{Arrival, Config, DropReason, State};

/// RFC 7323 section 5.5: a TS.Recent older than this says nothing, for the peer's clock may have wrapped its sign.
const TS_RECENT_VALID: Nanos = Nanos::from_secs(24 * 24 * 3600);
/// No segment is longer; keeps sums of sequence numbers within half the circle.
const LEN_MAX: u32 = 1 << 30;

impl Tcb {
    /// The part of the segment within the window, or `None` for a segment that is not acceptable: answered if it needs an
    /// answer.
    pub(super) fn check_sequence(
        &mut self,
        now: Nanos,
        cfg: &Config,
        seg: &Segment,
        out: &mut Arrival,
    ) -> Option<Text> {
        let mut text = Text { seq: seg.seq, skip: 0, len: seg.len, fin: seg.flags.contains(Flags::FIN) };
        let mut seg_len = seg.seg_len();
        if self.repeats_simultaneous_syn(seg) {
            text.seq = self.rcv_nxt;
            seg_len -= 1;
        }
        if let Some(reason) = self.check_timestamp(now, seg) {
            // RFC 7323 section 3.2: without the option "silently drop"; section 5.3 R1: "send an ACK".
            let answer = reason == DropReason::Paws;
            return self.refuse(now, cfg, seg, reason, answer, out);
        }
        let window = self.rcv_edge.since(self.rcv_nxt);
        let ahead = text.seq.since(self.rcv_nxt);
        if seg_len > LEN_MAX {
            return self.refuse(now, cfg, seg, DropReason::OutOfWindow, false, out);
        }
        if text.seq.lt(self.rcv_nxt) {
            if (text.seq + seg_len).le(self.rcv_nxt) {
                self.note_twice(cfg, text.seq, text.seq + text.len);
                // A retransmitted FIN: "acknowledge it, and restart the 2 MSL timeout" (eighth step, TIME-WAIT).
                if self.state == State::TimeWait && text.fin {
                    self.enter_time_wait(now, cfg);
                }
                return self.refuse(now, cfg, seg, DropReason::Duplicate, true, out);
            }
            text.skip = self.rcv_nxt.since(text.seq).min(text.len);
            self.note_twice(cfg, text.seq, text.seq + text.skip);
        } else if ahead > window || (ahead == window && seg_len > 0 && ahead > 0) {
            // Deviation: an empty segment at the very edge is acceptable, which section 3.10.7.4's table is not: a peer that
            // has filled our window says all its ACKs from there.
            return self.refuse(now, cfg, seg, DropReason::OutOfWindow, true, out);
        }
        text.seq += text.skip;
        text.len -= text.skip;
        self.trim_to_window(&mut text, out);
        self.accept_timestamp(seg);
        self.last_rcv = now;
        Some(text)
    }

    /// RFC 2883 section 4.1: a stretch that came again, to be reported at once.
    #[cold]
    fn note_twice(&mut self, cfg: &Config, left: Seq, right: Seq) {
        let reports = cfg.dsack && self.has(Bits::SACK);
        if let Some(record) = self.record.as_deref_mut().filter(|_| reports && left.lt(right)) {
            record.twice = Some((left, right));
            self.set(Bits::ACK_NOW);
        }
    }

    /// "Segments with higher beginning sequence numbers SHOULD be held"; what does not fit the window is cut off. A closed window
    /// still lets the ACK of its probe through ("special allowance ... to accept valid ACKs").
    fn trim_to_window(&mut self, text: &mut Text, out: &mut Arrival) {
        let room = self.rcv_edge.since(text.seq);
        if text.len > room {
            text.len = room;
            text.fin = false;
            self.set(Bits::ACK_NOW);
            if room == 0 {
                out.drop = Some(DropReason::OutOfWindow);
            }
        }
    }

    /// Both sides opened at once and the peer repeats its SYN, now with an ACK: RFC 9293 figure 8, line 6, which the table of
    /// the first step would refuse, since the SYN lies before RCV.NXT.
    pub(super) fn repeats_simultaneous_syn(&self, seg: &Segment) -> bool {
        self.state == State::SynReceived
            && seg.flags.contains(Flags::SYN)
            && !seg.flags.contains(Flags::RST)
            && seg.seq + 1 == self.rcv_nxt
    }

    /// RFC 7323 section 5.3 R1 and section 3.2. Resets are exempt.
    fn check_timestamp(&self, now: Nanos, seg: &Segment) -> Option<DropReason> {
        if !self.has(Bits::TS) || seg.flags.contains(Flags::RST) {
            return None;
        }
        let Some(ts) = seg.opts.timestamps else {
            return Some(DropReason::NoTimestamp);
        };
        let older = (ts.val.wrapping_sub(self.ts_recent) as i32) < 0;
        (older && now - self.last_rcv < TS_RECENT_VALID).then_some(DropReason::Paws)
    }

    /// RFC 7323 section 5.3 R3: TS.Recent comes from the segment that spans Last.ACK.sent.
    fn accept_timestamp(&mut self, seg: &Segment) {
        if let Some(ts) = seg.opts.timestamps
            && self.has(Bits::TS)
            && !seg.flags.contains(Flags::RST)
            && seg.seq.le(self.last_ack_sent)
        {
            self.ts_recent = ts.val;
        }
    }

    /// "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless the RST bit is set)".
    ///
    /// One with data or FIN is answered each time, since its sender waits for that; an empty one, and a SYN (RFC 5961 section 7), at the
    /// rate of challenge ACKs, so that two ends cannot answer each other for ever.
    fn refuse(
        &mut self,
        now: Nanos,
        cfg: &Config,
        seg: &Segment,
        reason: DropReason,
        answer: bool,
        out: &mut Arrival,
    ) -> Option<Text> {
        out.drop = Some(reason);
        if answer && !seg.flags.contains(Flags::RST) {
            if seg.seg_len() > 0 && !seg.flags.contains(Flags::SYN) {
                self.set(Bits::ACK_NOW);
            } else {
                out.reply = self.challenge(now, cfg);
            }
        }
        None
    }
}
