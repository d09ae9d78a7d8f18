//! Header prediction: the segment that a quiet connection expects next, taken without the steps.

use units::Nanos;
use wire::tcp::{Flags, Segment};

use crate::Phase;
use crate::tcb::{Bits, Tcb};
use crate::{Arrival, Config, Payload, State};

impl Tcb {
    /// The outcome, if the segment is in-order data or an ACK of new data (or both) and nothing is going on: no repair,
    /// no gap, no odd flag or option. Then every step of section 3.10.7.4 is known to pass; what they would do is done here.
    #[inline(always)]
    pub(super) fn predicted(&mut self, now: Nanos, cfg: &Config, seg: &Segment) -> Option<Arrival> {
        const ODD: Flags =
            Flags::FIN.union(Flags::SYN).union(Flags::RST).union(Flags::ACK).union(Flags::ECE).union(Flags::CWR);
        const BUSY: Bits = Bits(Bits::FIN_HELD.0 | Bits::PERSIST.0 | Bits::RECORD.0 | Bits::PROBED.0 | Bits::ECE_DUE.0);
        let quiet = self.state == State::Established
            && self.phase == Phase::Open
            && self.dupacks == 0
            && self.retries == 0
            && !self.has(BUSY);
        let plain = seg.flags.0 & ODD.0 == Flags::ACK.0
            && seg.seq == self.rcv_nxt
            && seg.len <= self.rcv_edge.since(self.rcv_nxt)
            && seg.opts.sacks.is_empty()
            && !seg.ce;
        let acked = seg.ack.since(self.snd_una);
        if !quiet || !plain || acked > self.flight() || (acked == 0 && seg.len == 0) {
            return None;
        }
        // RFC 7323 section 5.3 R1, R3.
        let stamped = match seg.opts.timestamps {
            Some(ts) if self.has(Bits::TS) && ts.val.wrapping_sub(self.ts_recent) as i32 >= 0 => Some(ts),
            None if !self.has(Bits::TS) => None,
            _ => return None,
        };
        if let Some(ts) = stamped
            && seg.seq.le(self.last_ack_sent)
        {
            self.ts_recent = ts.val;
        }
        self.last_rcv = now;
        let mut out = Arrival::default();
        // Fifth: ESTABLISHED; in order, hence newer than SND.WL1.
        self.take_window(seg.seq, seg.ack, seg.wnd);
        if acked > 0 {
            self.advance_una(now, cfg, seg.ack, seg.opts.timestamps, &mut out);
            if self.has(Bits::ECN) {
                self.count_marks(acked, false);
            }
        }
        self.tell_writable(&mut out);
        // Seventh.
        if seg.len > 0 {
            self.rcv_nxt += seg.len;
            self.unread = self.unread.wrapping_add(seg.len);
            self.ack_policy(now, cfg, seg.len);
            out.payload = Payload::InOrder { skip: 0, len: seg.len };
            out.advanced = seg.len;
        }
        Some(out)
    }
}
