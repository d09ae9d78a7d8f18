//! Ethernet II frames (IEEE 802.3 with a type field); no VLAN tags.
//!
//! ```text
//!   0         6         12     14
//!   | dst     | src     | type | payload
//! ```

use crate::{Mac, Malformed, be16};

/// Bytes of the header.
pub const HEADER: usize = 14;
/// The smallest frame a real link carries, without the checksum; shorter ones are padded with zeros.
pub const MIN_FRAME: usize = 60;
/// Ethertype of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethertype of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Ethertype of ARP.
pub const ARP: u16 = 0x0806;

/// An Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// To whom.
    pub dst: Mac,
    /// From whom.
    pub src: Mac,
    /// What the payload is: [`IPV4`], [`ARP`], …
    pub ethertype: u16,
}

/// Splits a frame into header and payload (padding included).
///
/// # Errors
/// [`Malformed::Truncated`] below 14 bytes.
#[inline]
pub fn parse(frame: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let (head, payload) = frame.split_first_chunk::<HEADER>().ok_or(Malformed::Truncated)?;
    Ok((Header::of(head), payload))
}

/// Writes the header to the front of `out` and returns its length. Panics if `out` is shorter.
#[inline]
pub fn emit(out: &mut [u8], header: &Header) -> usize {
    header.emit(out)
}

impl Header {
    #[inline]
    fn of(head: &[u8; HEADER]) -> Header {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *head;
        Header { dst: Mac([d0, d1, d2, d3, d4, d5]), src: Mac([s0, s1, s2, s3, s4, s5]), ethertype: be16(head, 12) }
    }

    /// Reads the header at the front of `frame`.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 14 bytes.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Header, Malformed> {
        frame.first_chunk().map(Header::of).ok_or(Malformed::Truncated)
    }

    /// Writes the header to the front of `out` and returns its length. Panics if `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Header { dst, src, ethertype } = *self;
        let out: &mut [u8; HEADER] = out.first_chunk_mut().expect("room for an Ethernet header");
        out[..6].copy_from_slice(&dst.0);
        out[6..12].copy_from_slice(&src.0);
        out[12..].copy_from_slice(&ethertype.to_be_bytes());
        HEADER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn emit_then_parse(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: Vec<u8>) {
            let header = Header { dst: Mac(dst), src: Mac(src), ethertype };
            let mut frame = vec![0; HEADER];
            prop_assert_eq!(emit(&mut frame, &header), HEADER);
            frame.extend(&payload);
            prop_assert_eq!(parse(&frame), Ok((header, &payload[..])));
            prop_assert_eq!(Header::parse(&frame), Ok(header));
        }

        #[test]
        fn short_frames_are_refused(len in 0..HEADER) {
            prop_assert_eq!(parse(&[0; HEADER][..len]), Err(Malformed::Truncated));
        }
    }
}
