//! Segments as packets between the script's two addresses of either family, for subjects that move bytes.

use units::Nanos;
use wire::checksum::Sum;
use wire::tcp::{CHECKSUM_OFFSET, Header, Segment};
use wire::{Addr, ipv4, ipv6};

use crate::subject::{Heard, LOCAL, LOCAL_V6, REMOTE, REMOTE_PORT, REMOTE_V6};

/// Which addresses a script's packets have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Family {
    /// [`LOCAL`] and [`REMOTE`].
    #[default]
    V4,
    /// [`LOCAL_V6`] and [`REMOTE_V6`].
    V6,
}

impl Family {
    /// The stack's address, and the peer's.
    pub(crate) fn ends(self) -> (Addr, Addr) {
        match self {
            Family::V4 => (LOCAL.into(), REMOTE.into()),
            Family::V6 => (LOCAL_V6.into(), REMOTE_V6.into()),
        }
    }

    /// Bytes of the IP header.
    pub(crate) fn header(self) -> usize {
        match self {
            Family::V4 => ipv4::HEADER,
            Family::V6 => ipv6::HEADER,
        }
    }
}

/// A packet of the peer to the stack's port `to`.
pub(crate) fn emit(family: Family, seg: &Segment, payload: &[u8], from: u16, to: u16) -> Vec<u8> {
    let header = Header {
        src_port: from,
        dst_port: to,
        seq: seg.seq,
        ack: seg.ack,
        flags: seg.flags,
        window: seg.wnd,
        urgent: 0,
        options: seg.opts,
        header_len: 0,
    };
    let tcp_len = header.wire_len() + payload.len();
    let mut packet = vec![0; family.header() + tcp_len];
    let (local, remote) = family.ends();
    let ecn = if seg.ce { ipv4::CE } else { 0 };
    let ip_len = match family {
        Family::V4 => {
            ipv4::Header { ecn, ..ipv4::Header::new(REMOTE, LOCAL, ipv4::TCP, tcp_len as u16) }.emit(&mut packet)
        }
        Family::V6 => {
            ipv6::Header { ecn, ..ipv6::Header::new(remote, local, ipv4::TCP, tcp_len as u16) }.emit(&mut packet)
        }
    };
    let tcp = &mut packet[ip_len..];
    let header_len = header.emit(tcp);
    tcp[header_len..].copy_from_slice(payload);
    let sum = Sum::pseudo(&remote, &local, ipv4::TCP, tcp_len as u32).with(tcp).finish();
    tcp[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A packet of the stack to the peer's port, and the port it came from. `None` if it is not intact TCP between the two.
pub(crate) fn parse(family: Family, packet: &[u8], at: Nanos) -> Option<(u16, Heard)> {
    let (protocol, ends, ecn, segment) = match family {
        Family::V4 => {
            let (ip, segment) = ipv4::parse(packet).ok()?;
            (ip.protocol, (ip.src.into(), ip.dst.into()), ip.ecn, segment)
        }
        Family::V6 => {
            let ip = ipv6::Header::parse(packet, packet.len()).ok()?;
            let end = ipv6::HEADER + usize::from(ip.payload_len);
            (ip.next, (ip.src, ip.dst), ip.ecn, packet.get(ipv6::HEADER..end)?)
        }
    };
    if protocol != ipv4::TCP || ends != family.ends() {
        return None;
    }
    let tcp = Header::parse(segment).ok()?;
    let intact = wire::tcp::checksum_ok(ends.0, ends.1, std::iter::once(segment));
    if tcp.dst_port != REMOTE_PORT || !intact {
        return None;
    }
    let payload = &segment[usize::from(tcp.header_len)..];
    let seg = Segment::of(&tcp, payload.len() as u32);
    Some((tcp.src_port, Heard { at, seg, payload: Some(payload.to_vec()), ect: matches!(ecn, 1 | 2) }))
}
