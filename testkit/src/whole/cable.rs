//! The peer's station at the other end of the stack's cable: frames that the script sends and hears, and ARP and NDP that answer for it.

use nic::Cable;
use wire::{Addr, Mac, arp, ethernet, ipv6, ndp};

/// The stack's address.
pub(super) const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The peer's.
const PEERS: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A packet of `peer` for the stack.
pub(super) fn send(cable: &mut Cable, peer: &Addr, packet: &[u8]) {
    let mut frame = vec![0; ethernet::HEADER];
    let ethertype = if peer.is_v4() { ethernet::IPV4 } else { ethernet::IPV6 };
    ethernet::Header { dst: OURS, src: PEERS, ethertype }.emit(&mut frame);
    frame.extend_from_slice(packet);
    cable.to_stack.push_back(frame);
}

/// The next packet of the stack. Its questions for the peer's address are answered.
pub(super) fn take(cable: &mut Cable, peer: &Addr) -> Option<Vec<u8>> {
    while let Some(frame) = cable.from_stack.pop_front() {
        let Ok((header, packet)) = ethernet::parse(&frame) else { continue };
        match header.ethertype {
            ethernet::ARP => answer(cable, peer, packet),
            ethernet::IPV6 if advertise(cable, peer, packet) => {}
            _ => return Some(packet.to_vec()),
        }
    }
    None
}

fn answer(cable: &mut Cable, peer: &Addr, packet: &[u8]) {
    let Ok(question) = arp::parse(packet) else { return };
    if question.operation == arp::Operation::Request && *peer == question.target_ip.into() {
        let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
        question.reply(PEERS).emit_frame(&mut frame);
        cable.to_stack.push_back(frame);
    }
}

/// Answers a solicitation of the stack; false if it was none.
fn advertise(cable: &mut Cable, peer: &Addr, packet: &[u8]) -> bool {
    let Ok(ip) = ipv6::Header::parse(packet, packet.len()) else { return false };
    let Ok(ndp::Message::Solicitation { target, .. }) = ndp::parse(&packet[ipv6::HEADER..]) else { return false };
    if ip.next != ipv6::ICMP || target != *peer {
        return false;
    }
    let answer =
        ndp::Message::Advertisement { target, mac: Some(PEERS), router: false, solicited: true, replace: true };
    let mut bytes = [0; ipv6::HEADER + ndp::MESSAGE];
    let len = answer.emit(&target, &ip.src, &mut bytes[ipv6::HEADER..]) as u16;
    let header = ipv6::Header::new(target, ip.src, ipv6::ICMP, len);
    ipv6::Header { hop_limit: ndp::HOP_LIMIT, ..header }.emit(&mut bytes);
    send(cable, peer, &bytes);
    true
}
