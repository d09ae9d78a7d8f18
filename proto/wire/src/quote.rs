//! The packet that an ICMP error quotes: of which flow of ours it was. The quote is the beginning of a packet that we sent, as its
//! reporter saw it, or something that somebody made up: it is believed only if it fits a flow (RFC 5927).

use crate::{Ipv4Addr, Seq, Tuple, be16, be32, ipv4, ipv6};

/// What a quote says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// The flow, as we see it: `local` is who sent the packet.
    pub tuple: Tuple,
    /// TCP or UDP.
    pub protocol: u8,
    /// The sequence number, of TCP.
    pub seq: Option<Seq>,
    /// Bytes of the whole packet, IP header included, as its header says.
    pub total: u32,
}

/// Reads a quote; `None` if it is too short or was neither TCP nor UDP, or no first fragment.
pub fn parse(original: &[u8]) -> Option<Quote> {
    match original.first()? >> 4 {
        4 => parse_v4(original),
        6 => parse_v6(original),
        _ => None,
    }
}

fn parse_v4(original: &[u8]) -> Option<Quote> {
    // Its checksum and TTL may have changed on the way, so it is not verified.
    let head: &[u8; ipv4::HEADER] = original.first_chunk()?;
    if be16(head, 6) & ipv4::OFFSET_MASK != 0 {
        return None;
    }
    let upper = original.get(usize::from(head[0] & 15).max(5) * 4..)?;
    let (src, dst) = (Ipv4Addr::from_bits(be32(head, 12)), Ipv4Addr::from_bits(be32(head, 16)));
    let names = Tuple { local: src.into(), remote: dst.into(), ..Tuple::default() };
    with_ports(names, head[9], upper, be16(head, 2).into())
}

fn parse_v6(original: &[u8]) -> Option<Quote> {
    let header = ipv6::Header::parse(original, usize::MAX).ok()?;
    let upper = ipv6::walk(original, &header).ok()?;
    // We never send a first fragment without the transport header.
    let (protocol, at) = match upper.fragment {
        None => (upper.protocol, upper.at),
        Some(f) if f.offset == 0 => (f.next, f.at + ipv6::FRAGMENT_HEADER),
        Some(_) => return None,
    };
    let names = Tuple { local: header.src, remote: header.dst, ..Tuple::default() };
    with_ports(names, protocol, original.get(at..)?, ipv6::HEADER as u32 + u32::from(header.payload_len))
}

fn with_ports(names: Tuple, protocol: u8, upper: &[u8], total: u32) -> Option<Quote> {
    let ports: &[u8; 8] = upper.first_chunk()?;
    let seq = match protocol {
        ipv4::TCP => Some(Seq(be32(ports, 4))),
        ipv4::UDP => None,
        _ => return None,
    };
    let tuple = Tuple { local_port: be16(ports, 0), remote_port: be16(ports, 2), ..names };
    Some(Quote { tuple, protocol, seq, total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Addr;
    use proptest::prelude::*;

    #[test]
    fn the_flow_of_a_quote_is_seen_from_our_side() {
        let ports = [0, 80, 0x12, 0x34, 0, 0, 0, 9];
        let mut four = vec![0; ipv4::HEADER];
        ipv4::Header::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), ipv4::TCP, 1000).emit(&mut four);
        four.extend(ports);
        let quote = parse(&four).unwrap();
        assert_eq!(format!("{:?}", quote.tuple), "10.0.0.1:80<-10.0.0.2:4660");
        assert_eq!((quote.seq, quote.total, quote.protocol), (Some(Seq(9)), 1020, ipv4::TCP));
        assert_eq!(parse(&four[..27]), None);
        let (a, b) = (Addr::link_local(crate::Mac([2; 6])), Addr::ALL_NODES);
        let mut six = vec![0; ipv6::HEADER];
        ipv6::Header::new(a, b, ipv4::UDP, 1000).emit(&mut six);
        six.extend(ports);
        let quote = parse(&six).unwrap();
        assert_eq!((quote.tuple.local, quote.tuple.remote, quote.seq, quote.total), (a, b, None, 1040));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(version in prop_oneof![Just(4u8), Just(6)], mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            bytes.first_mut().into_iter().for_each(|b| *b = *b & 15 | version << 4);
            let _ = parse(&bytes);
        }
    }
}
