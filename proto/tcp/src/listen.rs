//! A half-open passive connection: SYN-RECEIVED (RFC 9293 section 3.10.7.2 and 3.10.7.4) in 40 bytes.
//!
//! The caller's listener keeps these in a bounded table under their tuples; when it is full, [`crate::SynCookies`] take over.
//!
//! ```text
//!   SYN --> HalfOpen::syn_arrives --> SYN-ACK          ACK --> segment_arrives --> Established(Tcb)
//!                  |  ^                                RST --> Reset
//!                  +--+ timeout: SYN-ACK again
//! ```

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Options, SackBlocks, Segment, Timestamps};

use crate::outcome::reset_reply;
use crate::output::syn_window;
use crate::tcb::{Handshake, Tcb, ts_clock};
use crate::{Config, DropReason, Emit};

/// A passive connection in SYN-RECEIVED.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    deadline: Nanos,
    iss: Seq,
    irs: Seq,
    ts_recent: u32,
    ts_offset: u32,
    /// The peer's MSS option.
    mss: Option<u16>,
    /// The peer's window shift, if in use.
    wscale: Option<u8>,
    sack: bool,
    timestamps: bool,
    ecn: bool,
    retries: u8,
}

const _: () = assert!(size_of::<HalfOpen>() == 40);

/// What a segment does to a half-open connection.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, into the caller's table; a box would allocate")]
pub enum HalfOutcome {
    /// The handshake is done. The caller gives the same segment to [`Tcb::segment_arrives`] of the new block, for it may
    /// carry data.
    Established(Tcb),
    /// Nothing happens.
    Drop(DropReason),
    /// To be sent; the entry stays.
    Reply(Emit),
    /// The peer gave up: the entry goes (RFC 9293 section 3.10.7.4 second step: "return to the LISTEN state").
    Reset,
}

impl HalfOpen {
    /// A SYN in LISTEN (RFC 9293 section 3.10.7.2 third step): the entry, and the SYN-ACK to send. The caller has seen to it that
    /// the segment has SYN and neither ACK nor RST.
    ///
    /// Deviation: data in the SYN is not queued; the peer sends it again.
    pub fn syn_arrives(now: Nanos, cfg: &Config, isn: Seq, seg: &Segment) -> (HalfOpen, Emit) {
        HalfOpen::syn_arrives_with_ts_offset(now, cfg, isn, 0, seg)
    }

    /// As [`HalfOpen::syn_arrives`], with the offset of the timestamp clock ([`crate::IsnKey::ts_offset`]).
    pub fn syn_arrives_with_ts_offset(
        now: Nanos,
        cfg: &Config,
        isn: Seq,
        ts_offset: u32,
        seg: &Segment,
    ) -> (HalfOpen, Emit) {
        let Handshake { iss, irs, mss, wscale, sack, ts_recent, ts_offset, ecn } =
            Handshake::of_syn(cfg, isn, ts_offset, seg);
        let half = HalfOpen {
            deadline: now + cfg.rto_initial,
            iss,
            irs,
            ts_recent: ts_recent.unwrap_or(0),
            ts_offset,
            mss,
            wscale,
            sack,
            timestamps: ts_recent.is_some(),
            ecn,
            retries: 0,
        };
        let emit = half.syn_ack(now, cfg);
        (half, emit)
    }

    fn handshake(&self) -> Handshake {
        let HalfOpen { iss, irs, mss, wscale, sack, ts_offset, ecn, .. } = *self;
        Handshake { iss, irs, mss, wscale, sack, ts_recent: self.timestamps.then_some(self.ts_recent), ts_offset, ecn }
    }

    fn syn_ack(&self, now: Nanos, cfg: &Config) -> Emit {
        let mut emit = syn_ack(cfg, &self.handshake(), ts_clock(now).wrapping_add(self.ts_offset));
        emit.rexmit = self.retries > 0;
        emit
    }

    /// "<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>".
    fn ack(&self, now: Nanos, cfg: &Config) -> Emit {
        let mut emit = self.syn_ack(now, cfg);
        emit.seq += 1;
        emit.flags = Flags::ACK;
        emit.opts = Options { timestamps: emit.opts.timestamps, ..Options::NONE };
        emit.wnd = syn_window(cfg) >> self.wscale.and(cfg.shift()).unwrap_or(0);
        emit.rexmit = false;
        emit
    }

    /// SEGMENT ARRIVES in SYN-RECEIVED (RFC 9293 section 3.10.7.4), after a passive OPEN.
    pub fn segment_arrives(&mut self, now: Nanos, cfg: &Config, seg: &Segment) -> HalfOutcome {
        let rcv_nxt = self.irs + 1;
        let window = u32::from(syn_window(cfg));
        let flags = seg.flags;
        // The SYN again: our SYN-ACK was lost.
        if flags.0 & (Flags::SYN | Flags::ACK | Flags::RST).0 == Flags::SYN.0 && seg.seq == self.irs {
            return HalfOutcome::Reply(self.syn_ack(now, cfg));
        }
        // First: sequence number; timestamps (RFC 7323 section 5.3).
        let rst = flags.contains(Flags::RST);
        if !rst && self.timestamps {
            match seg.opts.timestamps {
                None => return HalfOutcome::Drop(DropReason::NoTimestamp),
                Some(ts) if (ts.val.wrapping_sub(self.ts_recent) as i32) < 0 => {
                    return HalfOutcome::Reply(self.ack(now, cfg));
                }
                Some(_) => {}
            }
        }
        if seg.seq.since(rcv_nxt) > window {
            return if rst {
                HalfOutcome::Drop(DropReason::OutOfWindow)
            } else {
                HalfOutcome::Reply(self.ack(now, cfg))
            };
        }
        // Second: RST. RFC 5961 section 3: exactly at RCV.NXT.
        if rst {
            return if seg.seq == rcv_nxt { HalfOutcome::Reset } else { HalfOutcome::Reply(self.ack(now, cfg)) };
        }
        // Fourth: SYN. "If the connection was initiated with a passive OPEN, then return this connection to the LISTEN state".
        if flags.contains(Flags::SYN) {
            return HalfOutcome::Reset;
        }
        // Fifth: ACK.
        if !flags.contains(Flags::ACK) {
            return HalfOutcome::Drop(DropReason::NoAckBit);
        }
        if seg.ack != self.iss + 1 {
            // "If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST>".
            return reset_reply(seg).map_or(HalfOutcome::Drop(DropReason::FutureAck), HalfOutcome::Reply);
        }
        HalfOutcome::Established(self.established(now, cfg, seg))
    }

    fn established(&self, now: Nanos, cfg: &Config, seg: &Segment) -> Tcb {
        let mut tcb = Tcb::accepted(now, cfg, &self.handshake(), seg);
        if self.retries == 0 {
            // The SYN-ACK was timed by its deadline.
            tcb.measured(cfg, now - Nanos(self.deadline.0.saturating_sub(cfg.rto_initial.0)));
        } else {
            tcb.after_lost_syn();
        }
        tcb
    }

    /// When [`HalfOpen::timeout`] is due.
    pub fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// The SYN-ACK again, with exponential back-off (RFC 6298 section 5.5); `None` when it was sent often enough: the entry
    /// goes.
    pub fn timeout(&mut self, now: Nanos, cfg: &Config) -> Option<Emit> {
        if self.retries >= cfg.syn_retries {
            return None;
        }
        self.retries += 1;
        let rto = cfg.rto_initial.0.saturating_mul(1 << self.retries.min(16)).min(cfg.rto_max.0);
        self.deadline = now + Nanos(rto);
        Some(self.syn_ack(now, cfg))
    }
}

/// "<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>" with the options that the SYN offered and we accept.
pub(crate) fn syn_ack(cfg: &Config, shake: &Handshake, ts_val: u32) -> Emit {
    let opts = Options {
        mss: Some(cfg.mss),
        wscale: shake.wscale.and(cfg.shift()),
        sack_permitted: shake.sack,
        timestamps: shake.ts_recent.map(|ecr| Timestamps { val: ts_val, ecr }),
        sacks: SackBlocks::EMPTY,
    };
    let ecn = if shake.ecn { Flags::ECE } else { Flags::NONE };
    let mut emit = Emit::control(shake.iss, shake.irs + 1, Flags::SYN | Flags::ACK | ecn);
    emit.opts = opts;
    emit.wnd = syn_window(cfg);
    emit.mss = cfg.mss;
    emit
}
