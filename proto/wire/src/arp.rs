//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!   0     2     4   5   6   8             14           18            24          28
//!   | htype| ptype|hl |pl |op | sender mac | sender ip | target mac | target ip |
//! ```

use std::net::Ipv4Addr;

use crate::{Mac, Malformed, be16, be32, ethernet};

/// Bytes of a packet.
pub const PACKET: usize = 28;
/// Ethernet 1, IPv4 0x0800, address lengths 6 and 4: the only kind that we speak.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// "Who has the target address?"
    Request,
    /// "I, the sender, have it."
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's Ethernet address.
    pub sender_mac: Mac,
    /// The sender's IPv4 address (0.0.0.0 in a probe, RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The target's Ethernet address (unknown, zero, in a request).
    pub target_mac: Mac,
    /// The target's IPv4 address.
    pub target_ip: Ipv4Addr,
}

/// Reads a packet; trailing padding is ignored.
///
/// # Errors
/// [`Malformed::Truncated`] below 28 bytes, [`Malformed::Version`] for other hardware, protocols or operations.
pub fn parse(bytes: &[u8]) -> Result<Packet, Malformed> {
    let bytes: &[u8; PACKET] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
    if bytes[..6] != KIND {
        return Err(Malformed::Version);
    }
    let operation = match be16(bytes, 6) {
        1 => Operation::Request,
        2 => Operation::Reply,
        _ => return Err(Malformed::Version),
    };
    let mac = |at: usize| Mac([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4], bytes[at + 5]]);
    Ok(Packet {
        operation,
        sender_mac: mac(8),
        sender_ip: Ipv4Addr::from_bits(be32(bytes, 14)),
        target_mac: mac(18),
        target_ip: Ipv4Addr::from_bits(be32(bytes, 24)),
    })
}

impl Packet {
    /// The question "who has `target`?", asked by `mac` with address `ip`.
    pub const fn request(mac: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Packet {
        Packet {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: Mac::ZERO,
            target_ip: target,
        }
    }

    /// The answer to this request: "`mac` has the address you asked for".
    pub const fn reply(&self, mac: Mac) -> Packet {
        Packet {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Writes the packet to the front of `out` and returns its length. Panics if `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Packet { operation, sender_mac, sender_ip, target_mac, target_ip } = *self;
        let out: &mut [u8; PACKET] = out.first_chunk_mut().expect("room for an ARP packet");
        out[..6].copy_from_slice(&KIND);
        let operation: u16 = match operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[6..8].copy_from_slice(&operation.to_be_bytes());
        out[8..14].copy_from_slice(&sender_mac.0);
        out[14..18].copy_from_slice(&sender_ip.octets());
        out[18..24].copy_from_slice(&target_mac.0);
        out[24..28].copy_from_slice(&target_ip.octets());
        PACKET
    }

    /// Writes this packet as a whole frame, from its sender to its target (to everybody while the target is unknown),
    /// and returns the frame's length. Panics if `out` is shorter than 42 bytes.
    pub fn emit_frame(&self, out: &mut [u8]) -> usize {
        let dst = if self.target_mac == Mac::ZERO { Mac::BROADCAST } else { self.target_mac };
        let header = ethernet::Header { dst, src: self.sender_mac, ethertype: ethernet::ARP };
        let n = header.emit(out);
        n + self.emit(&mut out[n..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn emit_then_parse(reply: bool, sm: [u8; 6], si: u32, tm: [u8; 6], ti: u32) {
            let packet = Packet {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: Mac(sm),
                sender_ip: Ipv4Addr::from_bits(si),
                target_mac: Mac(tm),
                target_ip: Ipv4Addr::from_bits(ti),
            };
            let mut bytes = [0xee; PACKET + 18];
            prop_assert_eq!(packet.emit(&mut bytes), PACKET);
            prop_assert_eq!(parse(&bytes), Ok(packet));
            prop_assert_eq!(parse(&bytes[..PACKET - 1]), Err(Malformed::Truncated));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = parse(&bytes) {
                let mut again = [0; PACKET];
                packet.emit(&mut again);
                prop_assert_eq!(&again[..], &bytes[..PACKET]);
            }
        }
    }

    #[test]
    fn a_reply_swaps_the_ends_and_goes_to_the_asker() {
        let (a, b) = (Mac::local(1), Mac::local(2));
        let (ip_a, ip_b) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
        let request = Packet::request(a, ip_a, ip_b);
        let mut frame = [0; 64];
        let n = request.emit_frame(&mut frame);
        let (header, payload) = ethernet::parse(&frame[..n]).unwrap();
        assert_eq!((header.dst, header.ethertype, parse(payload)), (Mac::BROADCAST, ethernet::ARP, Ok(request)));
        let reply = request.reply(b);
        let n = reply.emit_frame(&mut frame);
        assert_eq!(ethernet::parse(&frame[..n]).unwrap().0.dst, a);
        assert_eq!((reply.sender_ip, reply.target_ip), (ip_b, ip_a));
    }
}
