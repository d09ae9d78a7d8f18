//! SEGMENT ARRIVES (RFC 9293 section 3.10.7), one file per step:
//!
//! | file | step |
//! |---|---|
//! | `predicted` | the two cases that make up nearly all segments, decided at once |
//! | `syn_sent` | section 3.10.7.3 |
//! | `sequence` | 3.10.7.4 first: sequence number, timestamps (RFC 7323 section 5.3) |
//! | `reset` | second and fourth: RST, SYN (RFC 5961 sections 3 and 4, RFC 1337, RFC 6191) |
//! | `ack` | fifth: ACK (RFC 5961 section 5, RFC 5681, RFC 6675) |
//! | `text` | seventh and eighth: payload, FIN |
//!
//! The third step (security) has no meaning any more; the sixth (URG) is left out: the urgent pointer is ignored and
//! urgent data is ordinary data (RFC 6093 section 6 advises applications against it).

mod ack;
mod predicted;
mod reset;
mod sequence;
mod syn_sent;
mod text;

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Segment};

use crate::outcome::reset_reply;
use crate::sack::DUP_THRESH;
use crate::tcb::{Bits, Tcb, stamp};
use crate::{Arrival, Config, DropReason, Emit, Records, State};

/// The part of a segment that lies in the receive window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    /// SEG.SEQ after trimming.
    pub(crate) seq: Seq,
    /// Payload bytes trimmed off the front.
    pub(crate) skip: u32,
    /// Payload bytes left.
    pub(crate) len: u32,
    /// Whether a FIN follows them.
    pub(crate) fin: bool,
}

impl Tcb {
    /// SEGMENT ARRIVES. `keep_ooo`: the caller has a buffer for a payload that is out of order. `records`: the stack's, out of which the
    /// connection takes one if there is trouble.
    ///
    /// About 20 ns for in-order data or a plain ACK in ESTABLISHED.
    #[inline(never)]
    pub fn segment_arrives(
        &mut self,
        now: Nanos,
        cfg: &Config,
        seg: &Segment,
        keep_ooo: bool,
        records: &mut Records,
    ) -> Arrival {
        match self.predicted(now, cfg, seg) {
            Some(arrival) => arrival,
            None => self.segment_arrives_any(now, cfg, seg, keep_ooo, records),
        }
    }

    #[cold]
    #[inline(never)]
    fn segment_arrives_any(
        &mut self,
        now: Nanos,
        cfg: &Config,
        seg: &Segment,
        keep_ooo: bool,
        records: &mut Records,
    ) -> Arrival {
        let mut out = Arrival::default();
        if !self.has(Bits::RECORD) && self.is_trouble(cfg, seg) {
            self.take_record(records);
        }
        match self.state {
            State::Closed => {
                // Section 3.10.7.1.
                out.reply = reset_reply(seg);
                out.drop = Some(DropReason::NoConnection);
            }
            State::SynSent => self.arrives_in_syn_sent(now, cfg, seg, keep_ooo, &mut out),
            _ => self.arrives_otherwise(now, cfg, seg, keep_ooo, &mut out),
        }
        if self.has(Bits::RECORD) {
            self.release_record(records);
        }
        out
    }

    /// Whether a segment is a sign of loss, reordering or duplication, so that the connection needs a record.
    fn is_trouble(&self, cfg: &Config, seg: &Segment) -> bool {
        if !self.state.is_synchronized() {
            return false;
        }
        let told = !seg.opts.sacks.is_empty() && self.has(Bits::SACK);
        let early = seg.len > 0 && seg.seq.gt(self.rcv_nxt);
        let twice = seg.len > 0 && seg.seq.lt(self.rcv_nxt) && cfg.dsack && self.has(Bits::SACK);
        let third = self.dupacks >= DUP_THRESH - 1 && seg.ack == self.snd_una && self.flight() > 0;
        told || early || twice || third
    }

    /// Section 3.10.7.4.
    fn arrives_otherwise(&mut self, now: Nanos, cfg: &Config, seg: &Segment, keep_ooo: bool, out: &mut Arrival) {
        if self.reuses_time_wait(seg, out) {
            return;
        }
        let Some(text) = self.check_sequence(now, cfg, seg, out) else {
            return;
        };
        if seg.flags.contains(Flags::RST) {
            return self.check_reset(now, cfg, seg, out);
        }
        if self.check_syn(now, cfg, seg, out) {
            return;
        }
        // Fifth: "if the ACK bit is off, drop the segment".
        if !seg.flags.contains(Flags::ACK) {
            out.drop = Some(DropReason::NoAckBit);
            return;
        }
        if !self.check_ack(now, cfg, seg, &text, out) {
            return;
        }
        if self.has(Bits::ECN) {
            self.note_mark(seg);
        }
        self.segment_text(now, cfg, &text, keep_ooo, out);
        self.check_fin(now, cfg, &text, out);
    }

    /// An ACK that answers what should not have come, at most one in `challenge_spacing` (RFC 5961 section 7).
    pub(crate) fn challenge(&mut self, now: Nanos, cfg: &Config) -> Option<Emit> {
        let spacing = u32::try_from(cfg.challenge_spacing.0 >> 20).unwrap_or(u32::MAX);
        if stamp(now).wrapping_sub(self.challenged) < spacing {
            return None;
        }
        self.challenged = stamp(now);
        Some(self.emit_ack(now))
    }
}
