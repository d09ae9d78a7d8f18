use std::io::IoSlice;

use mem::{Mbuf, MbufQueue, Pool};
use units::FlowGroupId;

/// Where a queue's received frames are put.
#[derive(Debug)]
pub struct RxPools {
    /// One buffer per frame, with room for the MTU.
    pub mbufs: Pool,
    /// Large buffers for the rest of super-frames.
    pub spills: Pool,
}

impl RxPools {
    /// Whether fewer than an eighth of the buffers are free: who holds many has to make do.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.mbufs.available() < self.mbufs.count() / 8
    }

    /// Whether fewer than a quarter are: who can free some does that first.
    #[inline]
    pub fn is_low(&self) -> bool {
        self.mbufs.available() < self.mbufs.count() / 4
    }
}

/// A received Ethernet frame, without its frame check sequence.
#[derive(Debug)]
pub struct RxFrame {
    /// The frame, or its beginning: all headers are here.
    pub head: Mbuf,
    /// Further bytes of a super-frame; else empty.
    pub rest: MbufQueue,
    /// The transport checksum was verified or need not be.
    pub csum_ok: bool,
    /// The flow group, if the NIC computed it.
    pub group: Option<FlowGroupId>,
}

/// A frame to transmit: headers and payload, where they lie.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// Ethernet to transport header, in one piece.
    pub head: &'a [u8],
    /// What follows, in order.
    pub payload: &'a [IoSlice<'a>],
    /// The transport checksum that the NIC is to complete. Only where [`Caps::tx_csum`](crate::Caps::tx_csum).
    pub csum: Option<CsumStart>,
    /// How to cut a super-frame. Only where [`Caps::tso`](crate::Caps::tso).
    pub gso: Option<Gso>,
}

impl TxFrame<'_> {
    /// Bytes of the frame.
    #[inline]
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// Whether there is not a single byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A partial checksum: the sum of the pseudo-header stands in the field, and the NIC adds the bytes from `start` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CsumStart {
    /// Where the transport header begins, in bytes from the start of the frame.
    pub start: u16,
    /// Where in it the checksum field is.
    pub offset: u16,
}

/// How a TCP super-frame is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// Payload bytes per segment.
    pub mss: u16,
    /// Ethernet to TCP header, in bytes: what each segment repeats.
    pub hdr_len: u16,
    /// IPv6, else IPv4.
    pub v6: bool,
}

/// The transmit ring is full: flush, and try the frame again in a later turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxFull;
