//! IPv6 headers (RFC 8200): the fixed one here, the chain of extension headers in `chain`.
//!
//! ```text
//!   0                4         6      7           8     24    40
//!   |ver|class|label | payload | next | hop limit | src | dst | extension headers, upper layer
//! ```

mod chain;

pub use chain::{FRAGMENT_HEADER, Fragment, Problem, Refusal, Upper, emit_fragment, walk};

use crate::{Addr, Malformed, be16, be32};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;
/// The smallest MTU of a link that carries IPv6 (section 5).
pub const MIN_MTU: u16 = 1280;
/// Next header: ICMPv6.
pub const ICMP: u8 = 58;
/// Next header: a fragment header.
pub const FRAGMENT: u8 = 44;
/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: destination options.
pub const DESTINATION: u8 = 60;
/// Next header: nothing follows.
pub const NONE: u8 = 59;
/// Where the Next Header field lies in the fixed header.
pub const NEXT_AT: usize = 6;

/// A fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Who sent the packet.
    pub src: Addr,
    /// To whom.
    pub dst: Addr,
    /// What follows this header.
    pub next: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Differentiated services code point (6 bits).
    pub dscp: u8,
    /// Explicit congestion notification (2 bits).
    pub ecn: u8,
    /// The flow label (20 bits).
    pub label: u32,
    /// Bytes after this header.
    pub payload_len: u16,
}

/// Makes the header at the front of `packet`, as [`Header::emit`] wrote it without ECN, say ECT(0) (RFC 3168 section 5). Panics if `packet` is shorter than a header.
#[inline]
pub fn set_ect(packet: &mut [u8]) {
    let fixed: &mut [u8; HEADER] = packet.first_chunk_mut().expect("room for an IPv6 header");
    // The traffic class lies across the first two bytes; its lowest two bits are ECN's.
    fixed[1] |= crate::ipv4::ECT_0 << 4;
}

impl Header {
    /// A header for `payload_len` bytes of `next`: hop limit 64, no flow label, no ECN.
    #[inline]
    pub const fn new(src: Addr, dst: Addr, next: u8, payload_len: u16) -> Header {
        Header { src, dst, next, hop_limit: 64, dscp: 0, ecn: 0, label: 0, payload_len }
    }

    /// Reads the header at the front of `head`, which belongs to a packet of `packet_len` bytes in all.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when `head` ends within the header or the packet before its payload length; [`Malformed::Version`] if
    /// not 6; [`Malformed::Address`] for IPv4-mapped addresses.
    #[inline]
    pub fn parse(head: &[u8], packet_len: usize) -> Result<Header, Malformed> {
        let head: &[u8; HEADER] = head.first_chunk().ok_or(Malformed::Truncated)?;
        let first = be32(head, 0);
        if first >> 28 != 6 {
            return Err(Malformed::Version);
        }
        let payload_len = be16(head, 4);
        if HEADER + usize::from(payload_len) > packet_len {
            return Err(Malformed::Truncated);
        }
        let addr = |at: usize| {
            let bytes = head[at..].first_chunk().ok_or(Malformed::Truncated)?;
            Addr::from_wire_v6(bytes).ok_or(Malformed::Address)
        };
        Ok(Header {
            src: addr(8)?,
            dst: addr(24)?,
            next: head[NEXT_AT],
            hop_limit: head[7],
            dscp: (first >> 22) as u8 & 63,
            ecn: (first >> 20) as u8 & 3,
            label: first & 0xf_ffff,
            payload_len,
        })
    }

    /// Writes the header to the front of `out` and returns its length (40). Panics if `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Header { src, dst, next, hop_limit, dscp, ecn, label, payload_len } = *self;
        let out: &mut [u8; HEADER] = out.first_chunk_mut().expect("room for an IPv6 header");
        let first = 6 << 28 | u32::from(dscp & 63) << 22 | u32::from(ecn & 3) << 20 | label & 0xf_ffff;
        out[..4].copy_from_slice(&first.to_be_bytes());
        out[4..6].copy_from_slice(&payload_len.to_be_bytes());
        out[NEXT_AT] = next;
        out[7] = hop_limit;
        out[8..24].copy_from_slice(&src.octets());
        out[24..40].copy_from_slice(&dst.octets());
        HEADER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    proptest! {
        #[test]
        fn emit_then_parse(ips: [u128; 2], words: [u8; 4], label in 0u32..1 << 20, payload_len: u16) {
            let [src, dst] = ips.map(|ip| Addr::from(Ipv6Addr::from_bits(ip | 1 << 127)));
            let [next, hop_limit, dscp, ecn] = words;
            let header = Header { src, dst, next, hop_limit, dscp: dscp & 63, ecn: ecn & 3, label, payload_len };
            let mut bytes = [0xee; HEADER];
            prop_assert_eq!(header.emit(&mut bytes), HEADER);
            let total = HEADER + usize::from(payload_len);
            prop_assert_eq!(Header::parse(&bytes, total), Ok(header));
            prop_assert_eq!(Header::parse(&bytes, total - 1), Err(Malformed::Truncated));
            prop_assert_eq!(Header::parse(&bytes[..HEADER - 1], total), Err(Malformed::Truncated));
            bytes[0] ^= 0x20;
            prop_assert_eq!(Header::parse(&bytes, total), Err(Malformed::Version));
        }
    }

    #[test]
    fn mapped_addresses_are_refused() {
        let mut bytes = [0; HEADER];
        Header::new(Addr::v4([10, 0, 0, 1].into()), Addr::ALL_NODES, NONE, 0).emit(&mut bytes);
        assert_eq!(Header::parse(&bytes, HEADER), Err(Malformed::Address));
    }
}
