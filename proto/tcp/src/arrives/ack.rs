//! Fifth: check the ACK field.

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Segment, Timestamps};

use super::Text;
use crate::Phase;
use crate::outcome::reset_reply;
use crate::sack::Told;
use crate::tcb::{Bits, Tcb};
use crate::{Arrival, CloseReason, Config, DropReason, Events, State};

impl Tcb {
    /// `false`: the segment is done with.
    pub(super) fn check_ack(
        &mut self,
        now: Nanos,
        cfg: &Config,
        seg: &Segment,
        text: &Text,
        out: &mut Arrival,
    ) -> bool {
        if self.state == State::SynReceived {
            // "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED ... if not acceptable, form a reset".
            if seg.ack.le(self.snd_una) || seg.ack.gt(self.snd_nxt) {
                out.drop = Some(DropReason::FutureAck);
                out.reply = reset_reply(seg);
                return false;
            }
            let scaled = !seg.flags.contains(Flags::SYN);
            self.snd_wnd = u32::from(seg.wnd) << if scaled { self.snd_shift } else { 0 };
            self.snd_wnd_max = self.snd_wnd_max.max(self.snd_wnd);
            (self.snd_wl1, self.snd_wl2) = (seg.seq, seg.ack);
            self.connected(now, cfg, seg, out);
            return true;
        }
        if !self.ack_in_range(now, cfg, seg, out) {
            return false;
        }
        if seg.ack.ge(self.snd_una) {
            self.take_ack(now, cfg, seg, text, out);
        }
        self.after_ack(now, cfg, out)
    }

    /// RFC 5961 section 5.2: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT, else the segment is dropped and challenged.
    fn ack_in_range(&mut self, now: Nanos, cfg: &Config, seg: &Segment, out: &mut Arrival) -> bool {
        let reason = if seg.ack.gt(self.snd_nxt) {
            // RFC 9293: "If the ACK acks something not yet sent, then send an ACK, drop the segment".
            DropReason::FutureAck
        } else if seg.ack.lt(self.snd_una - self.snd_wnd_max) {
            DropReason::OldAck
        } else {
            return true;
        };
        out.drop = Some(reason);
        out.reply = self.challenge(now, cfg);
        false
    }

    /// SND.UNA =< SEG.ACK =< SND.NXT: window, scoreboard, and what it acknowledges or repeats.
    fn take_ack(&mut self, now: Nanos, cfg: &Config, seg: &Segment, text: &Text, out: &mut Arrival) {
        let wnd_before = self.snd_wnd;
        // "If SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)".
        if self.snd_wl1.lt(text.seq) || (self.snd_wl1 == text.seq && self.snd_wl2.le(seg.ack)) {
            self.take_window(text.seq, seg.ack, seg.wnd);
        }
        let (flight, acked) = (self.flight(), seg.ack.since(self.snd_una));
        let selective = self.selective();
        let told = if selective { self.read_blocks(now, seg) } else { Told::default() };
        let cwnd = self.cwnd;
        if !selective && self.has(Bits::RECORD) && self.phase != Phase::Open && self.is_undone(seg, &told, acked) {
            self.undo();
        }
        if acked > 0 {
            self.advance_una(now, cfg, seg.ack, seg.opts.timestamps, out);
        } else if flight > 0 && !selective {
            // RFC 5681 section 2; with SACK, news in the blocks are what makes a duplicate (RFC 6675 section 2).
            let duplicate = seg.seg_len() == 0 && self.snd_wnd == wnd_before && !self.has(Bits::PERSIST);
            if duplicate && (!self.has(Bits::SACK) || !seg.opts.sacks.is_empty()) {
                self.on_duplicate_ack();
            }
        }
        if self.has(Bits::ECN) {
            self.note_echo(seg, acked, cwnd, flight);
        }
        if selective {
            if told.news && self.has(Bits::PTO) {
                // RFC 8985 section 7.2: no probe while blocks report something.
                self.clear(Bits::PTO);
                self.rtx_at = now + self.rto_now(cfg);
            }
            self.after_blocks(now, seg, &told, acked, flight);
        }
        if self.has(Bits::PROBED) {
            self.after_probe(seg, &told, acked);
        }
        if (self.snd_wnd == 0 || self.has(Bits::PERSIST)) && !self.has(Bits::GONE) {
            // RFC 9293 section 3.8.6.1, MUST-37: a peer that answers may keep its window closed for ever. But where the user has left, nobody
            // could give such a connection up; so it ends with its retries (RFC 6429).
            self.retries = 0;
        }
        if self.has(Bits::PERSIST) && self.worth_sending(self.room()) {
            self.leave_persist();
        }
        self.tell_writable(out);
    }

    /// SND.WND := SEG.WND, scaled (RFC 7323 section 2.3).
    #[inline(always)]
    pub(super) fn take_window(&mut self, seq: Seq, ack: Seq, wnd: u16) {
        self.snd_wnd = u32::from(wnd) << self.snd_shift;
        self.snd_wnd_max = self.snd_wnd_max.max(self.snd_wnd);
        self.snd_wl1 = seq;
        self.snd_wl2 = ack;
    }

    /// "If SND.UNA < SEG.ACK =< SND.NXT, then set SND.UNA <- SEG.ACK": round-trip time, congestion control, timer.
    #[inline(always)]
    pub(super) fn advance_una(
        &mut self,
        now: Nanos,
        cfg: &Config,
        ack: Seq,
        ts: Option<Timestamps>,
        out: &mut Arrival,
    ) {
        let flight = self.flight();
        let acked = ack.since(self.snd_una);
        // Our FIN is a sequence number, not a byte.
        let fin = ack.gt(self.snd_end);
        out.acked = acked - u32::from(fin);
        // What a repair sends again ends at `recover`; new data lies beyond.
        let again = self.phase != Phase::Open && self.rtt_seq.le(self.recover);
        self.sample_rtt(now, cfg, ack, ts, again);
        self.snd_una = ack;
        self.retries = 0;
        self.rxt = self.rxt.max(ack);
        self.clear(Bits::AT_RECOVER);
        self.on_new_ack(now, acked, flight, ts);
        // RFC 6298 section 5.2 and 5.3.
        if ack == self.snd_nxt {
            self.rtx_at = Nanos::MAX;
            self.clear(Bits::REO | Bits::PTO);
        } else {
            self.arm_flight(now, cfg);
        }
    }

    /// A sender that was refused hears when the next `send` is worth while.
    #[inline(always)]
    pub(super) fn tell_writable(&mut self, out: &mut Arrival) {
        if self.has(Bits::WANT) && self.worth_sending(self.send_window()) {
            self.clear(Bits::WANT);
            out.events |= Events::WRITABLE;
        }
    }

    /// What an acknowledged FIN means to the closing states. `false`: the segment is done with.
    fn after_ack(&mut self, now: Nanos, cfg: &Config, out: &mut Arrival) -> bool {
        let fin_acked = self.snd_una.gt(self.snd_end);
        match self.state {
            // "If the FIN segment is now acknowledged, then enter FIN-WAIT-2 and continue processing in that state".
            State::FinWait1 if fin_acked => {
                self.state = State::FinWait2;
                if self.has(Bits::GONE) {
                    self.long_at = now + cfg.fin_wait2;
                }
                true
            }
            State::Closing if fin_acked => {
                self.enter_time_wait(now, cfg);
                true
            }
            // "The only thing that can arrive in this state is an acknowledgment of our FIN".
            State::LastAck if fin_acked => {
                self.cease(CloseReason::Normal, out);
                false
            }
            _ => true,
        }
    }
}
