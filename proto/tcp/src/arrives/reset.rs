//! Second: check the RST bit. Fourth: check the SYN bit.

use units::Nanos;
use wire::tcp::{Flags, Segment};

use crate::tcb::{Bits, Tcb};
use crate::{Arrival, CloseReason, Config, DropReason, Events, State};

impl Tcb {
    /// RFC 5961 section 3: only a reset at exactly RCV.NXT counts; one elsewhere in the window is challenged.
    pub(super) fn check_reset(&mut self, now: Nanos, cfg: &Config, seg: &Segment, out: &mut Arrival) {
        if self.state == State::TimeWait {
            // RFC 1337 section 3: "ignore RST segments in TIME-WAIT state".
            out.drop = Some(DropReason::BadRst);
        } else if seg.seq == self.rcv_nxt {
            // SYN-RECEIVED here stems from an active OPEN: "signal the user 'connection refused'".
            let refused = self.state == State::SynReceived;
            self.cease(if refused { CloseReason::Refused } else { CloseReason::Reset }, out);
        } else {
            out.drop = Some(DropReason::BadRst);
            out.reply = self.challenge(now, cfg);
        }
    }

    /// RFC 5961 section 4: a SYN is answered by a challenge ACK. A peer that has restarted answers that with a reset.
    /// `true`: the segment is done with.
    pub(super) fn check_syn(&mut self, now: Nanos, cfg: &Config, seg: &Segment, out: &mut Arrival) -> bool {
        if !seg.flags.contains(Flags::SYN) {
            return false;
        }
        if self.repeats_simultaneous_syn(seg) {
            if seg.flags.contains(Flags::ACK) {
                return false;
            }
            // The peer's bare SYN again: our SYN-ACK was lost.
            self.set(Bits::SYN_DUE);
            out.drop = Some(DropReason::Duplicate);
            return true;
        }
        out.drop = Some(DropReason::BadSyn);
        out.reply = self.challenge(now, cfg);
        true
    }

    /// TIME-WAIT: a SYN that cannot be an old duplicate may open the tuple anew (RFC 9293 section 3.10.7.4 fourth step, MAY-2;
    /// RFC 6191 section 2; RFC 1122 section 4.2.2.13).
    pub(super) fn reuses_time_wait(&self, seg: &Segment, out: &mut Arrival) -> bool {
        let syn = seg.flags.0 & (Flags::SYN | Flags::ACK | Flags::RST).0 == Flags::SYN.0;
        if self.state != State::TimeWait || !syn {
            return false;
        }
        let newer_seq = seg.seq.gt(self.rcv_nxt);
        let reuse = match seg.opts.timestamps.filter(|_| self.has(Bits::TS)) {
            Some(ts) => {
                let age = ts.val.wrapping_sub(self.ts_recent) as i32;
                age > 0 || (age == 0 && newer_seq)
            }
            None => newer_seq,
        };
        if reuse {
            out.events |= Events::TIMEWAIT_REUSE;
        }
        reuse
    }
}
