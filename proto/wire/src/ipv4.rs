//! IPv4 headers (RFC 791). Options are skipped when received and never sent; fragments are recognised, not reassembled.
//!
//! ```text
//!   0        1     2         4    6            8    9      10      12    16    20
//!   |ver|ihl |dscp|| total   | id |flags|offset|ttl | prot | csum  | src | dst | options
//!             ecn
//! ```

use std::net::Ipv4Addr;

use crate::{Malformed, be16, be32};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// "Don't fragment" in the flags word.
pub const DF: u16 = 0x4000;
/// "More fragments" in the flags word.
pub const MF: u16 = 0x2000;
/// The fragment's offset, in units of 8 bytes, in the flags word.
pub const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Who sent the packet.
    pub src: Ipv4Addr,
    /// To whom.
    pub dst: Ipv4Addr,
    /// What the payload is: [`TCP`], [`UDP`], [`ICMP`], …
    pub protocol: u8,
    /// Hops left.
    pub ttl: u8,
    /// Differentiated services code point (6 bits).
    pub dscp: u8,
    /// Explicit congestion notification (RFC 3168): 0 not capable, 1 and 2 capable, 3 congestion experienced.
    pub ecn: u8,
    /// Header and payload, in bytes.
    pub total_len: u16,
    /// The header with its options, in bytes (20..=60); [`Header::emit`] writes 20.
    pub header_len: u8,
    /// Names the packet among its fragments.
    pub id: u16,
    /// "Don't fragment".
    pub df: bool,
    /// More fragments follow.
    pub mf: bool,
    /// Where this fragment belongs, in bytes.
    pub frag_offset: u16,
}

/// Splits a packet that lies in one piece into header and payload; link padding after the total length is cut off.
///
/// # Errors
/// As [`Header::parse`].
#[inline]
pub fn parse(packet: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let header = Header::parse(packet, packet.len())?;
    // Both bounds were checked against packet.len(); `get` keeps it so without trusting this line.
    let payload = packet.get(usize::from(header.header_len)..usize::from(header.total_len));
    Ok((header, payload.ok_or(Malformed::Truncated)?))
}

/// Writes the header to the front of `out` and returns its length. Panics if `out` is shorter.
#[inline]
pub fn emit(out: &mut [u8], header: &Header) -> usize {
    header.emit(out)
}

/// ECN capable, not marked: ECT(0) (RFC 3168 section 5).
pub const ECT_0: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// Makes the header at the front of `packet`, as [`Header::emit`] wrote it without ECN, say ECT(0). The checksum follows (RFC 1624,
/// equation 3). Panics if `packet` is shorter than a header.
#[inline]
pub fn set_ect(packet: &mut [u8]) {
    let fixed: &mut [u8; HEADER] = packet.first_chunk_mut().expect("room for an IPv4 header");
    let before = be16(fixed, 0);
    fixed[1] |= ECT_0;
    let sum = u64::from(!be16(fixed, 10)) + u64::from(!before) + u64::from(be16(fixed, 0));
    let checksum = !crate::checksum::fold(sum);
    fixed[10..12].copy_from_slice(&checksum.to_be_bytes());
}

impl Header {
    /// A header for `payload_len` bytes of `protocol`: DF set, TTL 64, id 0 (atomic, RFC 6864 section 4.1), no ECN.
    #[inline]
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload_len: u16) -> Header {
        Header {
            src,
            dst,
            protocol,
            ttl: 64,
            dscp: 0,
            ecn: 0,
            total_len: HEADER as u16 + payload_len,
            header_len: HEADER as u8,
            id: 0,
            df: true,
            mf: false,
            frag_offset: 0,
        }
    }

    /// Reads and verifies the header at the front of `head`, which belongs to a packet of `packet_len` bytes in all
    /// (more than `head` when the packet lies in several pieces). The whole header must lie in `head`.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when `head` ends within the header or the packet before its total length;
    /// [`Malformed::Version`] if not 4; [`Malformed::Length`] if the header length is below 20 or beyond the total;
    /// [`Malformed::Checksum`].
    #[inline]
    pub fn parse(head: &[u8], packet_len: usize) -> Result<Header, Malformed> {
        let fixed: &[u8; HEADER] = head.first_chunk().ok_or(Malformed::Truncated)?;
        if fixed[0] != 0x45 {
            return Header::parse_options(head, fixed, packet_len);
        }
        if fixed_sum(fixed) != 0xffff {
            return Err(Malformed::Checksum);
        }
        Header::of(fixed, HEADER, packet_len)
    }

    /// The rare header: not version 4, or with options.
    #[cold]
    fn parse_options(head: &[u8], fixed: &[u8; HEADER], packet_len: usize) -> Result<Header, Malformed> {
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_len = usize::from(fixed[0] & 15) * 4;
        if header_len < HEADER {
            return Err(Malformed::Length);
        }
        let whole = head.get(..header_len).ok_or(Malformed::Truncated)?;
        if !crate::checksum::Sum::new().with(whole).is_valid() {
            return Err(Malformed::Checksum);
        }
        Header::of(fixed, header_len, packet_len)
    }

    #[inline(always)]
    fn of(fixed: &[u8; HEADER], header_len: usize, packet_len: usize) -> Result<Header, Malformed> {
        let total_len = be16(fixed, 2);
        if usize::from(total_len) < header_len {
            return Err(Malformed::Length);
        }
        if usize::from(total_len) > packet_len {
            return Err(Malformed::Truncated);
        }
        let fragment = be16(fixed, 6);
        Ok(Header {
            src: Ipv4Addr::from_bits(be32(fixed, 12)),
            dst: Ipv4Addr::from_bits(be32(fixed, 16)),
            protocol: fixed[9],
            ttl: fixed[8],
            dscp: fixed[1] >> 2,
            ecn: fixed[1] & 3,
            total_len,
            header_len: header_len as u8,
            id: be16(fixed, 4),
            df: fragment & DF != 0,
            mf: fragment & MF != 0,
            frag_offset: (fragment & OFFSET_MASK) << 3,
        })
    }

    /// Bytes after the header.
    #[inline]
    pub const fn payload_len(&self) -> u16 {
        self.total_len - self.header_len as u16
    }

    /// Whether the packet is a piece of a larger one.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.mf || self.frag_offset != 0
    }

    /// Writes the header, without options and with its checksum, to the front of `out` and returns its length (20).
    /// Panics if `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Header { src, dst, protocol, ttl, dscp, ecn, total_len, header_len: _, id, df, mf, frag_offset } = *self;
        let out: &mut [u8; HEADER] = out.first_chunk_mut().expect("room for an IPv4 header");
        let fragment = if df { DF } else { 0 } | if mf { MF } else { 0 } | (frag_offset >> 3);
        // Summed in registers: bytes just stored one by one would be slow to load as words.
        let tos = dscp << 2 | (ecn & 3);
        let mut words = [
            u32::from_be_bytes([0x45, tos, 0, 0]) | u32::from(total_len),
            u32::from(id) << 16 | u32::from(fragment),
            u32::from_be_bytes([ttl, protocol, 0, 0]),
            src.to_bits(),
            dst.to_bits(),
        ];
        words[2] |= u32::from(!crate::checksum::fold(words.iter().map(|&word| u64::from(word)).sum()));
        for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_be_bytes();
        }
        HEADER
    }
}

/// The ones' complement sum of a header without options.
#[inline(always)]
fn fixed_sum(fixed: &[u8; HEADER]) -> u16 {
    let sum = (0..5).map(|i| u64::from(be32(fixed, 4 * i))).sum::<u64>();
    crate::checksum::fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = Header> {
        (any::<[u32; 2]>(), any::<[u8; 3]>(), 0u8..64, 0u8..4, 20u16.., any::<u16>(), any::<[bool; 2]>(), 0u16..8192)
            .prop_map(|(ips, [protocol, ttl, _], dscp, ecn, total_len, id, [df, mf], offset)| Header {
                src: Ipv4Addr::from_bits(ips[0]),
                dst: Ipv4Addr::from_bits(ips[1]),
                protocol,
                ttl,
                dscp,
                ecn,
                total_len,
                header_len: 20,
                id,
                df,
                mf,
                frag_offset: offset << 3,
            })
    }

    proptest! {
        #[test]
        fn emit_then_parse(header in any_header()) {
            let mut bytes = [0xee; HEADER];
            prop_assert_eq!(header.emit(&mut bytes), HEADER);
            let total = usize::from(header.total_len);
            prop_assert_eq!(Header::parse(&bytes, total), Ok(header));
            prop_assert_eq!(Header::parse(&bytes, total - 1), Err(Malformed::Truncated));
        }

        #[test]
        fn ect_is_added_with_its_checksum(header in any_header()) {
            let mut bytes = [0; HEADER];
            Header { ecn: 0, ..header }.emit(&mut bytes);
            set_ect(&mut bytes);
            let total = usize::from(header.total_len);
            prop_assert_eq!(Header::parse(&bytes, total), Ok(Header { ecn: ECT_0, ..header }));
        }

        #[test]
        fn any_flipped_bit_is_noticed(header in any_header(), bit in 0usize..160) {
            let mut bytes = [0; HEADER];
            header.emit(&mut bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::parse(&bytes, 65535).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), fix: bool) {
            if fix && bytes.len() >= HEADER {
                let len = bytes.len() as u16;
                bytes[0] = 0x40 | bytes[0] & 15;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                let end = (usize::from(bytes[0] & 15) * 4).min(bytes.len());
                bytes[10..12].copy_from_slice(&[0, 0]);
                let sum = crate::checksum::Sum::new().with(&bytes[..end]).finish();
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            if let Ok((header, payload)) = parse(&bytes) {
                prop_assert_eq!(payload.len(), usize::from(header.payload_len()));
                prop_assert!(header.header_len >= 20);
            }
        }
    }

    #[test]
    fn options_are_skipped_and_padding_is_cut() {
        let mut packet = vec![0u8; 60];
        Header { total_len: 24 + 3, ..Header::new(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, UDP, 0) }.emit(&mut packet);
        packet[0] = 0x46;
        packet[10..12].copy_from_slice(&[0, 0]);
        packet[20..24].copy_from_slice(&[1, 1, 1, 0]);
        packet[24..27].copy_from_slice(b"abc");
        let sum = crate::checksum::Sum::new().with(&packet[..24]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let (header, payload) = parse(&packet).unwrap();
        assert_eq!((header.header_len, payload), (24, &b"abc"[..]));
        packet[0] = 0x44;
        assert_eq!(parse(&packet), Err(Malformed::Length));
        packet[0] = 0x65;
        assert_eq!(parse(&packet), Err(Malformed::Version));
        packet[0] = 0x4f;
        assert_eq!(parse(&packet[..40]), Err(Malformed::Truncated));
    }

    #[test]
    fn a_total_shorter_than_the_header_is_refused() {
        let mut bytes = [0; HEADER];
        Header { total_len: 19, ..Header::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, TCP, 0) }.emit(&mut bytes);
        assert_eq!(Header::parse(&bytes, 1500), Err(Malformed::Length));
    }
}
