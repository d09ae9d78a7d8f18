//! UDP datagrams (RFC 768).
//!
//! ```text
//!   0          2          4        6        8
//!   | src port | dst port | length | csum   | payload
//! ```

use crate::checksum::Sum;
use crate::{Addr, Malformed, be16, ipv4};

/// Bytes of the header.
pub const HEADER: usize = 8;

/// A UDP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// Header and payload, in bytes.
    pub len: u16,
    /// The checksum as it stands on the wire; 0: the sender computed none.
    pub checksum: u16,
}

/// Splits a datagram into header and payload; bytes after its length are cut off. The checksum is not verified:
/// see [`Header::checksum_ok`].
///
/// # Errors
/// [`Malformed::Truncated`] when bytes are missing, [`Malformed::Length`] for a length below 8.
#[inline]
pub fn parse(datagram: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let head: &[u8; HEADER] = datagram.first_chunk().ok_or(Malformed::Truncated)?;
    let header =
        Header { src_port: be16(head, 0), dst_port: be16(head, 2), len: be16(head, 4), checksum: be16(head, 6) };
    if usize::from(header.len) < HEADER {
        return Err(Malformed::Length);
    }
    let payload = datagram.get(HEADER..usize::from(header.len)).ok_or(Malformed::Truncated)?;
    Ok((header, payload))
}

impl Header {
    /// Writes the header to the front of `out` and returns its length (8). Panics if `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Header { src_port, dst_port, len, checksum } = *self;
        let out: &mut [u8; HEADER] = out.first_chunk_mut().expect("room for a UDP header");
        out[..2].copy_from_slice(&src_port.to_be_bytes());
        out[2..4].copy_from_slice(&dst_port.to_be_bytes());
        out[4..6].copy_from_slice(&len.to_be_bytes());
        out[6..8].copy_from_slice(&checksum.to_be_bytes());
        HEADER
    }

    /// This header with the checksum for `payload` between these addresses (RFC 768: zero is sent as all ones).
    #[must_use]
    pub fn with_checksum(self, src: impl Into<Addr>, dst: impl Into<Addr>, payload: &[u8]) -> Header {
        let mut head = [0; HEADER];
        Header { checksum: 0, ..self }.emit(&mut head);
        let sum =
            Sum::pseudo(&src.into(), &dst.into(), ipv4::UDP, u32::from(self.len)).with(&head).with(payload).finish();
        Header { checksum: if sum == 0 { 0xffff } else { sum }, ..self }
    }

    /// Whether the checksum is right for `payload` between these addresses, or absent over IPv4 (RFC 768; over IPv6 it must be there,
    /// RFC 8200 section 8.1).
    pub fn checksum_ok(&self, src: impl Into<Addr>, dst: impl Into<Addr>, payload: &[u8]) -> bool {
        let (src, dst) = (src.into(), dst.into());
        let mut head = [0; HEADER];
        self.emit(&mut head);
        if self.checksum == 0 {
            return src.is_v4();
        }
        Sum::pseudo(&src, &dst, ipv4::UDP, u32::from(self.len)).with(&head).with(payload).is_valid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn over_ipv6_the_checksum_must_be_there() {
        let header = Header { src_port: 1, dst_port: 2, len: HEADER as u16, checksum: 0 };
        assert!(header.checksum_ok(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, &[]));
        assert!(!header.checksum_ok(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &[]));
        let summed = header.with_checksum(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &[]);
        assert!(summed.checksum_ok(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &[]));
    }

    proptest! {
        #[test]
        fn emit_then_parse(src_port: u16, dst_port: u16, ips: [u32; 2], payload in proptest::collection::vec(any::<u8>(), 0..300), pad in 0usize..20) {
            let (src, dst) = (Ipv4Addr::from_bits(ips[0]), Ipv4Addr::from_bits(ips[1]));
            let len = (HEADER + payload.len()) as u16;
            let header = Header { src_port, dst_port, len, checksum: 0 }.with_checksum(src, dst, &payload);
            prop_assert_ne!(header.checksum, 0);
            let mut datagram = vec![0; HEADER];
            header.emit(&mut datagram);
            datagram.extend(&payload);
            datagram.resize(datagram.len() + pad, 0xee);
            prop_assert_eq!(parse(&datagram), Ok((header, &payload[..])));
            prop_assert!(header.checksum_ok(src, dst, &payload));
            let other = Header { dst_port: dst_port ^ 1, ..header };
            prop_assert!(!other.checksum_ok(src, dst, &payload));
            prop_assert_eq!(parse(&datagram[..usize::from(len) - 1]).err(), Some(Malformed::Truncated));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((header, payload)) = parse(&bytes) {
                prop_assert_eq!(payload.len() + HEADER, usize::from(header.len));
            }
        }
    }
}
