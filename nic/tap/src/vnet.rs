//! The virtio header before each frame (virtio 1.2 section 5.1.6, as `struct virtio_net_hdr_v1`), in native byte order.
//!
//! ```text
//!   0       1          2         4          6            8             10            12
//!   | flags | gso type | hdr len | gso size | csum start | csum offset | num buffers |
//! ```

use nic::{CsumStart, Gso};

/// Bytes of the header.
pub(crate) const SIZE: usize = 12;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;
/// Ethernet and the smallest IP header: no transport header starts before.
const MIN_CSUM_START: usize = 34;

/// The header of a frame that we send.
#[inline]
pub(crate) fn emit(csum: Option<CsumStart>, gso: Option<Gso>) -> [u8; SIZE] {
    let mut header = [0; SIZE];
    if let Some(CsumStart { start, offset }) = csum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
    }
    if let Some(Gso { mss, hdr_len, v6 }) = gso {
        header[1] = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        header[2..4].copy_from_slice(&hdr_len.to_ne_bytes());
        header[4..6].copy_from_slice(&mss.to_ne_bytes());
    }
    header
}

/// Whether the transport checksum of a received frame of `len` bytes needs no check: the kernel verified it, or left it
/// out on a path that cannot corrupt it. `None` if the header contradicts the frame or names what we never offered.
#[inline]
pub(crate) fn csum_ok(header: &[u8; SIZE], len: usize) -> Option<bool> {
    let field = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    match header[1] & !GSO_ECN {
        GSO_NONE => {}
        GSO_TCPV4 | GSO_TCPV6 if field(4) > 0 => {}
        _ => return None,
    }
    if header[0] & NEEDS_CSUM != 0 {
        let start = field(6);
        let sound = start >= MIN_CSUM_START && start + field(8) + 2 <= len;
        return sound.then_some(true);
    }
    Some(header[0] & DATA_VALID != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_we_emit_is_what_we_would_accept() {
        let csum = CsumStart { start: 34, offset: 16 };
        let gso = Gso { mss: 1448, hdr_len: 66, v6: false };
        assert_eq!(csum_ok(&emit(None, None), 60), Some(false));
        assert_eq!(csum_ok(&emit(Some(csum), None), 60), Some(true));
        assert_eq!(csum_ok(&emit(Some(csum), Some(gso)), 9000), Some(true));
    }

    #[test]
    fn contradictions_are_refused() {
        let csum = |start, offset| emit(Some(CsumStart { start, offset }), None);
        assert_eq!(csum_ok(&csum(34, 16), 51), None);
        assert_eq!(csum_ok(&csum(34, 16), 52), Some(true));
        assert_eq!(csum_ok(&csum(0, 16), 60), None);
        assert_eq!(csum_ok(&csum(u16::MAX, u16::MAX), 60), None);
        let gso = |mss, v6| emit(None, Some(Gso { mss, hdr_len: 54, v6 }));
        assert_eq!(csum_ok(&gso(0, false), 60), None);
        assert_eq!(csum_ok(&gso(1428, true), 60), Some(false));
        assert_eq!(csum_ok(&[0, 3, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0], 60), None);
    }

    proptest! {
        #[test]
        fn any_header_gets_an_answer(header: [u8; SIZE], len in 0usize..70_000) {
            if csum_ok(&header, len) == Some(true) {
                prop_assert!(header[0] & 3 != 0);
            }
        }
    }
}
