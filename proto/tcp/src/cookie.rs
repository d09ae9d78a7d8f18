//! stub
use crate::{Config, Emit, Tcb};
use units::Nanos;
use wire::tcp::{Flags, Segment};
use wire::{Seq, Tuple};

/// The key of the cookies of one listener (or of a whole stack).
#[derive(Clone, Debug)]
pub struct SynCookies {
    key: [u8; 16],
}

#[allow(unused_variables, missing_docs)]
impl SynCookies {
    pub fn new(key: [u8; 16]) -> SynCookies {
        SynCookies { key }
    }
    /// The SYN-ACK whose sequence number is the cookie.
    pub fn make(&self, now: Nanos, cfg: &Config, tuple: &Tuple, seg: &Segment) -> Emit {
        Emit::control(Seq(self.key[0].into()), seg.seq + 1, Flags::SYN | Flags::ACK)
    }
    /// The connection that an ACK without an entry belongs to; the caller gives the segment to it after.
    pub fn check(&self, now: Nanos, cfg: &Config, tuple: &Tuple, seg: &Segment) -> Option<Tcb> {
        None
    }
}
