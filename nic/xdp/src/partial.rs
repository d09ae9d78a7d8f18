//! Checksums that a Linux peer has left to hardware that is not there.
//!
//! A veth carries frames as the sending kernel made them, and that leaves the transport checksum to the interface: the field holds the
//! folded sum of the pseudo-header, not complemented. The mark that says so does not reach an AF_XDP socket. But the value
//! can be told: such a field equals exactly one number of 65536, which addresses, protocol and length determine. The wire between two ends of a
//! veth is memory, so a frame with that number is taken for what it is, and its checksum for good. Only on a veth: on
//! hardware, a frame that came over a cable has a checksum or is broken.
//!
//! Frames that were forwarded to a veth from elsewhere have whole checksums, and may have been damaged; one in 65536 of those looks the same. A sender leaves
//! out the checksums of a flow or it does not: after some whole ones in a row, a frame of that flow is not believed. The next is, should it have been one all the
//! same: what was lost then is sent again.

use wire::checksum::Sum;
use wire::{Addr, ethernet, ipv4};

const IPV6_HEADER: usize = 40;

/// After so many frames of a flow with whole checksums, one without is not believed.
const ENOUGH: u8 = 8;
/// Who has not been believed so often has both kinds, and is always believed.
const DOUBTS: u8 = 4;
/// Flows that are remembered; those that come after them in the same place take it.
const FLOWS: usize = 1024;

/// What the last frames of flows were like.
#[derive(Debug)]
pub(crate) struct Flows(Box<[Flow]>);

/// By its sender's address and port.
#[derive(Clone, Copy, Default, Debug)]
struct Flow {
    sender: u32,
    /// So many whole ones were the last, or more.
    whole: u8,
    /// How often a partial one was not believed.
    doubts: u8,
}

impl Flows {
    pub(crate) fn new() -> Flows {
        Flows(vec![Flow::default(); FLOWS].into())
    }

    /// Whether the checksum of `frame` is to be taken for good: it is an unfragmented TCP or UDP packet whose checksum field holds the sum of the
    /// pseudo-header and nothing else, and its flow has such frames.
    #[inline]
    pub(crate) fn is_partial(&mut self, frame: &[u8]) -> bool {
        let Some((partial, sender)) = partial(frame) else { return false };
        let flow = &mut self.0[sender as usize % FLOWS];
        if flow.sender != sender {
            *flow = Flow { sender, ..Flow::default() };
        }
        if !partial {
            flow.whole = flow.whole.saturating_add(1);
            return false;
        }
        let doubtful = std::mem::take(&mut flow.whole) >= ENOUGH && flow.doubts < DOUBTS;
        flow.doubts += u8::from(doubtful);
        !doubtful
    }
}

/// Whether it looks so, and a number for who has sent it.
#[inline]
fn partial(frame: &[u8]) -> Option<(bool, u32)> {
    let packet = frame.get(ethernet::HEADER..)?;
    let (protocol, transport, len, src, dst) = match u16::from_be_bytes([frame[12], frame[13]]) {
        ethernet::IPV4 => {
            let head = packet.first_chunk::<20>()?;
            let header = usize::from(head[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let fragment = u16::from_be_bytes([head[6], head[7]]) & (ipv4::MF | ipv4::OFFSET_MASK) != 0;
            if head[0] >> 4 != 4 || header < 20 || fragment {
                return None;
            }
            let address =
                |at: usize| Addr::from(std::net::Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]));
            (head[9], packet.get(header..)?, total.checked_sub(header)?, address(12), address(16))
        }
        ethernet::IPV6 => {
            let head = packet.first_chunk::<IPV6_HEADER>()?;
            let len = usize::from(u16::from_be_bytes([head[4], head[5]]));
            let address = |at: usize| {
                let octets: [u8; 16] = head[at..at + 16].try_into().unwrap_or_default();
                Addr::from(std::net::Ipv6Addr::from(octets))
            };
            (head[6], packet.get(IPV6_HEADER..)?, len, address(8), address(24))
        }
        _ => return None,
    };
    let at = match protocol {
        ipv4::TCP => 16,
        ipv4::UDP => 6,
        _ => return None,
    };
    let field = u16::from_be_bytes(*transport.get(at..)?.first_chunk()?);
    let port = u16::from_be_bytes(*transport.first_chunk()?);
    // The low half of an address tells hosts of a network apart. Any mixing will do: what collides is believed as before.
    let sender =
        ((src.low_v4().to_bits() ^ u32::from(port) << 16 ^ u32::from(port)).wrapping_mul(0x9e37_79b1)).rotate_left(16);
    Some((field == Sum::pseudo(&src, &dst, protocol, len as u32).fold(), sender))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    /// A UDP or TCP frame of IPv4 with this payload, its checksum complete or partial.
    fn frame(protocol: u8, payload: &[u8], complete: bool) -> Vec<u8> {
        let (src, dst) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
        let (size, at) = if protocol == ipv4::TCP { (20, 16) } else { (8, 6) };
        let len = size + payload.len();
        let mut f = vec![0; 34 + size];
        f[12] = 8;
        ipv4::Header::new(src, dst, protocol, len as u16).emit(&mut f[14..]);
        f[34..38].copy_from_slice(&[0x80, 1, 0, 7]);
        f.extend(payload);
        let pseudo = Sum::pseudo_v4(src, dst, protocol, len as u32);
        let sum = if complete { pseudo.with(&f[34..]).finish() } else { pseudo.fold() };
        f[34 + at..36 + at].copy_from_slice(&sum.to_be_bytes());
        f
    }

    fn is(frame: &[u8]) -> bool {
        Flows::new().is_partial(frame)
    }

    #[test]
    fn who_has_sent_whole_checksums_is_not_believed_to_have_left_one_out() {
        let (whole, partial) = (frame(ipv4::TCP, b"hello", true), frame(ipv4::TCP, b"hello", false));
        let mut flows = Flows::new();
        assert!(flows.is_partial(&partial), "nothing is known");
        for _ in 0..ENOUGH {
            assert!(!flows.is_partial(&whole));
        }
        assert!(!flows.is_partial(&partial));
        assert!(flows.is_partial(&partial), "it does leave them out: the second is believed");
        for doubted in [true, true, true, false] {
            (0..ENOUGH).for_each(|_| assert!(!flows.is_partial(&whole)));
            assert_eq!(flows.is_partial(&partial), !doubted, "in the end it is known to send both");
        }
        // Others' are their own affair.
        let mut flows = Flows::new();
        (0..300).for_each(|_| assert!(!flows.is_partial(&whole)));
        let mut other = partial.clone();
        other[35] ^= 4; // its port
        assert!(flows.is_partial(&other) && !flows.is_partial(&partial));
    }

    #[test]
    fn what_linux_leaves_undone_is_recognized_and_the_rest_is_not() {
        for protocol in [ipv4::TCP, ipv4::UDP] {
            assert!(is(&frame(protocol, b"hello", false)));
            assert!(!is(&frame(protocol, b"hello", true)));
            let mut other = frame(protocol, b"hello", false);
            other[29] ^= 1; // another source: another sum
            assert!(!is(&other));
            let mut fragment = frame(protocol, b"hello", false);
            fragment[20] |= 0x20;
            assert!(!is(&fragment));
        }
    }

    proptest! {
        #[test]
        fn any_frame_gets_an_answer(mut frame: Vec<u8>, v6: bool) {
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(&if v6 { ethernet::IPV6 } else { ethernet::IPV4 }.to_be_bytes());
            }
            is(&frame);
        }
    }
}
