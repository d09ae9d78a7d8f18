//! Segments as IPv4 packets between the script's two addresses, for subjects that move bytes.

use units::Nanos;
use wire::checksum::Sum;
use wire::ipv4;
use wire::tcp::{CHECKSUM_OFFSET, Header, Segment};

use crate::subject::{Heard, LOCAL, REMOTE, REMOTE_PORT};

/// A packet of the peer to the stack's port `to`.
pub(crate) fn emit(seg: &Segment, payload: &[u8], from: u16, to: u16) -> Vec<u8> {
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
    let mut packet = vec![0; ipv4::HEADER + tcp_len];
    let ecn = if seg.ce { ipv4::CE } else { 0 };
    let ip_len = ipv4::Header { ecn, ..ipv4::Header::new(REMOTE, LOCAL, ipv4::TCP, tcp_len as u16) }.emit(&mut packet);
    let tcp = &mut packet[ip_len..];
    let header_len = header.emit(tcp);
    tcp[header_len..].copy_from_slice(payload);
    let sum = Sum::pseudo_v4(REMOTE, LOCAL, ipv4::TCP, tcp_len as u32).with(tcp).finish();
    tcp[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A packet of the stack to the peer's port, and the port it came from. `None` if it is not intact TCP between the two.
pub(crate) fn parse(packet: &[u8], at: Nanos) -> Option<(u16, Heard)> {
    let (ip, segment) = ipv4::parse(packet).ok()?;
    if ip.protocol != ipv4::TCP || (ip.src, ip.dst) != (LOCAL, REMOTE) {
        return None;
    }
    let tcp = Header::parse(segment).ok()?;
    let intact = wire::tcp::checksum_ok(ip.src, ip.dst, std::iter::once(segment));
    if tcp.dst_port != REMOTE_PORT || !intact {
        return None;
    }
    let payload = &segment[usize::from(tcp.header_len)..];
    let seg = Segment::of(&tcp, payload.len() as u32);
    Some((tcp.src_port, Heard { at, seg, payload: Some(payload.to_vec()), ect: matches!(ip.ecn, 1 | 2) }))
}
