//! stub
use units::Nanos;
use wire::{Seq, Tuple};

/// The key of initial sequence numbers.
#[derive(Clone, Debug)]
pub struct IsnKey {
    key: [u8; 16],
}

#[allow(unused_variables)]
impl IsnKey {
    /// A key from a random source of the caller's.
    pub fn new(key: [u8; 16]) -> IsnKey {
        IsnKey { key }
    }
    /// The initial sequence number.
    pub fn isn(&self, now: Nanos, tuple: &Tuple) -> Seq {
        Seq(self.key[0].into())
    }
    /// The offset of the timestamp clock of a tuple.
    pub fn ts_offset(&self, tuple: &Tuple) -> u32 {
        0
    }
}
