//! What is done to a frame's bytes. A frame that is none of what is looked for here is left as it is.

use std::net::Ipv4Addr;

use wire::checksum::Sum;
use wire::{ethernet, ipv4};

const IPV6: u16 = 0x86dd;
/// Bytes of IPv6's fixed header (RFC 8200 section 3).
const IPV6_HEADER: usize = 40;
/// The congestion-experienced codepoint (RFC 3168 section 5).
const CE: u8 = 0b11;

/// Turns a bit over, counted from the first of the frame. One beyond its end is in nobody's way.
pub fn flip_bit(frame: &mut [u8], bit: usize) {
    if let Some(byte) = frame.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

/// Sets the congestion-experienced codepoint of an IPv4 or IPv6 packet that is ECN-capable (RFC 3168 section 5), and
/// brings IPv4's header checksum in line (RFC 1624, equation 3). Answers whether the frame bears it now.
pub fn mark_ce(frame: &mut [u8]) -> bool {
    match ethertype(frame) {
        Some(ethernet::IPV4) if frame.len() >= ethernet::HEADER + ipv4::HEADER => {
            let at = ethernet::HEADER;
            let word = |frame: &[u8], i: usize| u16::from_be_bytes([frame[at + i], frame[at + i + 1]]);
            if frame[at + 1] & CE == 0 {
                return false;
            }
            let (old, sum) = (word(frame, 0), word(frame, 10));
            frame[at + 1] |= CE;
            let new = word(frame, 0);
            let sum = u64::from(!sum) + u64::from(!old) + u64::from(new);
            // A fold of native words, and these are numbers: the same arithmetic.
            let sum = !fold(sum);
            frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
            true
        }
        Some(IPV6) if frame.len() >= ethernet::HEADER + IPV6_HEADER => {
            // Version, traffic class (of which the last two bits are ECN), flow label: 4, 8 and 20 bits.
            let byte = &mut frame[ethernet::HEADER + 1];
            if *byte >> 4 & CE == 0 {
                return false;
            }
            *byte |= CE << 4;
            true
        }
        _ => false,
    }
}

/// Fills in the checksum of a TCP or UDP packet that came with a promise instead (computed later, or checked already): a
/// frame as it would have been on a wire. `rest` is what of it lies elsewhere. Answers whether there was one to fill in;
/// fragments and packets with IPv6 extension headers are left alone.
pub fn complete_checksum<'a>(head: &mut [u8], rest: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
    let Some((start, len, protocol, pseudo)) = transport(head) else { return false };
    let field = start + if protocol == ipv4::TCP { 16 } else { 6 };
    let there = head.len() - start.min(head.len()) + rest.clone().map(<[u8]>::len).sum::<usize>();
    if field + 2 > head.len() || there < len {
        return false;
    }
    head[field..field + 2].fill(0);
    let (mut left, mut sum) = (len, pseudo);
    // Ethernet's padding is not the packet's.
    let mut add = |piece: &[u8]| {
        let n = piece.len().min(left);
        sum.add_bytes(&piece[..n]);
        left -= n;
    };
    add(&head[start..]);
    rest.for_each(&mut add);
    let sum = match sum.finish() {
        // RFC 768: zero would mean that there is none.
        0 if protocol == ipv4::UDP => 0xffff,
        sum => sum,
    };
    head[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Where the transport header begins, its length with the payload, the protocol and the pseudo-header's sum.
fn transport(frame: &[u8]) -> Option<(usize, usize, u8, Sum)> {
    let packet = frame.get(ethernet::HEADER..)?;
    match ethertype(frame)? {
        ethernet::IPV4 if packet.len() >= ipv4::HEADER => {
            let header_len = usize::from(packet[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let fragment = u16::from_be_bytes([packet[6], packet[7]]) & (ipv4::MF | ipv4::OFFSET_MASK) != 0;
            let len = total.checked_sub(header_len).filter(|_| header_len >= ipv4::HEADER && !fragment)?;
            let protocol = packet[9];
            let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
            let pseudo = Sum::pseudo_v4(address(12), address(16), protocol, len as u32);
            Some((ethernet::HEADER + header_len, len, protocol, pseudo))
        }
        IPV6 if packet.len() >= IPV6_HEADER => {
            let len = u16::from_be_bytes([packet[4], packet[5]]);
            let protocol = packet[6];
            // RFC 8200 section 8.1: the addresses, the length in 32 bits, the next header.
            let mut pseudo = Sum::new().with(&packet[8..IPV6_HEADER]);
            pseudo.add_bytes(&u32::from(len).to_be_bytes());
            pseudo.add_bytes(&u32::from(protocol).to_be_bytes());
            Some((ethernet::HEADER + IPV6_HEADER, len.into(), protocol, pseudo))
        }
        _ => None,
    }
    .filter(|(_, _, protocol, _)| [ipv4::TCP, ipv4::UDP].contains(protocol))
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    frame.get(12..14).map(|t| u16::from_be_bytes([t[0], t[1]]))
}

/// RFC 1071: carries brought round.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An Ethernet frame with a packet of `protocol` in IPv4 or IPv6, its checksums right, `pad` bytes behind it.
    pub(in crate::impair) fn frame(v6: bool, protocol: u8, traffic_class: u8, payload: &[u8], pad: usize) -> Vec<u8> {
        let transport = if protocol == ipv4::TCP { 20 } else { 8 };
        let len = transport + payload.len();
        let mut packet = if v6 {
            let mut head = vec![0x60 | traffic_class >> 4, traffic_class << 4 | 5, 1, 2];
            head.extend((len as u16).to_be_bytes());
            head.extend([protocol, 64]);
            head.extend(0x20u8..0x40);
            head
        } else {
            let mut head = vec![0x45, traffic_class];
            head.extend((20 + len as u16).to_be_bytes());
            head.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
            let sum = Sum::new().with(&head).finish();
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            head
        };
        packet.extend((0..transport as u8).map(|i| i.wrapping_mul(37)));
        packet.extend(payload);
        packet.extend(std::iter::repeat_n(0xee, pad));
        let mut frame = vec![2; 12];
        frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        frame.extend(packet);
        assert!(complete_checksum(&mut frame, std::iter::empty()));
        assert!(is_right(&frame));
        frame
    }

    /// Whether the transport checksum is right, by the definition: everything sums up to ones.
    pub(in crate::impair) fn is_right(frame: &[u8]) -> bool {
        let (start, len, _, pseudo) = transport(frame).unwrap();
        pseudo.with(&frame[start..start + len]).is_valid()
    }

    #[test]
    fn only_capable_packets_are_marked_and_the_header_stays_sound() {
        for v6 in [false, true] {
            for ecn in 0..4 {
                let mut frame = frame(v6, ipv4::TCP, 0xb8 | ecn, b"hello", 0);
                let before = frame.clone();
                assert_eq!(mark_ce(&mut frame), ecn != 0, "{v6} {ecn}");
                if ecn == 0 {
                    assert_eq!(frame, before);
                    continue;
                }
                let class = if v6 { frame[14] << 4 | frame[15] >> 4 } else { frame[15] };
                assert_eq!(class, 0xb8 | CE);
                assert!(v6 || Sum::new().with(&frame[14..34]).is_valid());
                assert!(is_right(&frame));
                let same = frame.iter().zip(&before).filter(|(a, b)| a == b).count();
                assert!(same >= frame.len() - 3, "nothing else has changed");
            }
        }
        for mut other in [vec![], vec![0; 14], vec![0xff; 60]] {
            assert!(!mark_ce(&mut other));
        }
    }

    #[test]
    fn a_checksum_that_was_promised_is_filled_in() {
        for (v6, protocol) in [(false, ipv4::TCP), (false, ipv4::UDP), (true, ipv4::TCP), (true, ipv4::UDP)] {
            let right = frame(v6, protocol, 0, b"some payload that is odd", 7);
            let mut promised = right.clone();
            let field = 14 + if v6 { 40 } else { 20 } + if protocol == ipv4::TCP { 16 } else { 6 };
            promised[field..field + 2].copy_from_slice(&[0xde, 0xad]);
            // In one piece, or with parts of it elsewhere.
            for cut in [promised.len(), promised.len() - 9, field + 2, field + 5] {
                let (head, rest) = promised.split_at(cut);
                let mut head = head.to_vec();
                assert!(complete_checksum(&mut head, rest.chunks(3)));
                assert_eq!([&head, rest].concat(), right, "cut at {cut}");
            }
        }
        let mut fragment = frame(false, ipv4::TCP, 0, b"x", 0);
        fragment[20] |= 0x20;
        assert!(!complete_checksum(&mut fragment, std::iter::empty()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut frame in prop::collection::vec(any::<u8>(), 0..100), v6: bool, bit in 0usize..1000) {
            if frame.len() > 15 {
                frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
            }
            mark_ce(&mut frame);
            complete_checksum(&mut frame, [&[1u8, 2][..]].into_iter());
            flip_bit(&mut frame, bit);
        }

        #[test]
        fn a_flipped_bit_never_passes_the_checksums(bit in 14usize * 8..(14 + 20 + 20 + 33) * 8) {
            let mut frame = frame(false, ipv4::TCP, 0, &[7; 33], 0);
            flip_bit(&mut frame, bit);
            let header = Sum::new().with(&frame[14..34]).is_valid();
            prop_assert!(!header || !is_right(&frame));
        }
    }
}
