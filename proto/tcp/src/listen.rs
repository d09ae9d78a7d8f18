//! stub
use crate::{Config, DropReason, Emit, Tcb};
use units::Nanos;
use wire::Seq;
use wire::tcp::Segment;

/// A passive connection in SYN-RECEIVED.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    deadline: Nanos,
}

/// What a segment does to a half-open connection.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum HalfOutcome {
    /// The handshake is done: the caller gives the same segment to the new block's [`Tcb::segment_arrives`].
    Established(Tcb),
    /// Ignored.
    Drop(DropReason),
    /// To be sent; the entry stays.
    Reply(Emit),
    /// The peer reset it: the entry goes.
    Reset,
}

#[allow(unused_variables, missing_docs)]
impl HalfOpen {
    /// A SYN in LISTEN (the caller has checked: SYN, no ACK, no RST): the entry, and the SYN-ACK.
    pub fn syn_arrives(now: Nanos, cfg: &Config, isn: Seq, seg: &Segment) -> (HalfOpen, Emit) {
        HalfOpen::syn_arrives_with_ts_offset(now, cfg, isn, 0, seg)
    }
    /// As [`HalfOpen::syn_arrives`] with the offset of the timestamp clock, from [`crate::IsnKey::ts_offset`].
    pub fn syn_arrives_with_ts_offset(
        now: Nanos,
        cfg: &Config,
        isn: Seq,
        ts_offset: u32,
        seg: &Segment,
    ) -> (HalfOpen, Emit) {
        (HalfOpen { deadline: Nanos::MAX }, Emit::control(isn, seg.seq + 1, seg.flags))
    }
    pub fn segment_arrives(&mut self, now: Nanos, cfg: &Config, seg: &Segment) -> HalfOutcome {
        HalfOutcome::Reset
    }
    pub fn deadline(&self) -> Nanos {
        self.deadline
    }
    /// The SYN-ACK again; `None`: give up.
    pub fn timeout(&mut self, now: Nanos, cfg: &Config) -> Option<Emit> {
        None
    }
}
