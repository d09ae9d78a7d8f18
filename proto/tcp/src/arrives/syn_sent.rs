//! SYN-SENT (RFC 9293 section 3.10.7.3).

use units::Nanos;
use wire::tcp::{Flags, Segment};

use super::Text;
use crate::outcome::reset_reply;
use crate::tcb::{Bits, Handshake, Tcb};
use crate::{Arrival, CloseReason, Config, DropReason, Events, State};

impl Tcb {
    pub(super) fn arrives_in_syn_sent(
        &mut self,
        now: Nanos,
        cfg: &Config,
        seg: &Segment,
        keep_ooo: bool,
        out: &mut Arrival,
    ) {
        let ack = seg.flags.contains(Flags::ACK);
        // First: "if SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset".
        if ack && (seg.ack.le(self.snd_una) || seg.ack.gt(self.snd_nxt)) {
            out.drop = Some(DropReason::FutureAck);
            out.reply = reset_reply(seg);
            return;
        }
        // Second. RFC 5961 section 3.2: the reset must acknowledge our SYN.
        if seg.flags.contains(Flags::RST) {
            if ack {
                self.cease(CloseReason::Refused, out);
            } else {
                out.drop = Some(DropReason::BadRst);
            }
            return;
        }
        // Fifth: "if neither of the SYN or RST bits is set, then drop the segment and return".
        if !seg.flags.contains(Flags::SYN) {
            out.drop = Some(DropReason::NoConnection);
            return;
        }
        // Fourth: the SYN.
        let shake = Handshake::of_syn(cfg, self.snd_una, self.ts_offset, seg);
        self.agree(cfg, &shake);
        self.last_ack_sent = self.rcv_nxt;
        self.last_rcv = now;
        self.snd_wnd = u32::from(seg.wnd);
        self.snd_wnd_max = self.snd_wnd;
        (self.snd_wl1, self.snd_wl2) = (seg.seq, seg.ack);
        if ack {
            self.connected(now, cfg, seg, out);
            // "continue processing at the sixth step": data of the SYN-ACK.
            let fin = seg.flags.contains(Flags::FIN);
            let len = seg.len.min(self.rcv_edge.since(self.rcv_nxt));
            let text = Text { seq: self.rcv_nxt, skip: 0, len, fin: fin && len == seg.len };
            self.segment_text(now, cfg, &text, keep_ooo, out);
            self.check_fin(now, cfg, &text, out);
        } else {
            // "Otherwise, enter SYN-RECEIVED, form a SYN,ACK segment". Data or FIN of the SYN: the peer sends it again.
            self.state = State::SynReceived;
            self.set(Bits::SYN_DUE);
        }
    }

    /// Our SYN is acknowledged: ESTABLISHED.
    pub(super) fn connected(&mut self, now: Nanos, cfg: &Config, seg: &Segment, out: &mut Arrival) {
        let again = self.retries > 0;
        let ts = seg.opts.timestamps;
        self.sample_rtt(now, cfg, seg.ack, ts, again);
        if again {
            self.after_lost_syn();
        }
        self.snd_una = seg.ack;
        self.rxt = seg.ack;
        self.recover = seg.ack;
        self.ecn_end = seg.ack;
        (self.retries, self.backoff) = (0, 0);
        self.rtx_at = Nanos::MAX;
        self.clear(Bits::SYN_DUE | Bits::TIMING);
        if seg.flags.contains(Flags::SYN) {
            // A plain ACK has nothing to be acknowledged; data and FIN see to themselves.
            self.set(Bits::ACK_NOW);
        }
        self.enter_established(now, cfg);
        out.events |= Events::CONNECTED;
        if self.has(Bits::FIN) {
            // CLOSE came in SYN-RECEIVED and was queued.
            self.state = State::FinWait1;
        }
        self.tell_writable(out);
    }

    /// The handshake needed a retransmission: RFC 6298 section 5.7 (RTO of 3 s without a sample), RFC 5681 section 3.1 (one segment).
    pub(crate) fn after_lost_syn(&mut self) {
        const RTO_US: u32 = 3_000_000;
        if self.srtt8 == 0 {
            self.rto_us = self.rto_us.max(RTO_US);
        }
        self.cwnd = u32::from(self.smss);
    }
}
