//! Each parser of headers. What it accepts is emitted again where there is an emitter, and must be the same when parsed.

use wire::{arp, ethernet, icmp, ipv4, tcp, udp};

/// The first byte says which parser, the rest is what it gets.
pub(crate) fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    match which % 7 {
        0 => drop(ethernet::parse(bytes)),
        1 => arp_packet(bytes),
        2 => drop(ipv4::parse(bytes)),
        3 => drop(icmp::parse(bytes)),
        4 => drop(udp::parse(bytes)),
        5 => drop(tcp::Header::parse(bytes)),
        _ => options(bytes),
    }
}

fn arp_packet(bytes: &[u8]) {
    if let Ok(packet) = arp::parse(bytes) {
        let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
        packet.emit_frame(&mut frame);
        assert_eq!(arp::parse(&frame[ethernet::HEADER..]).as_ref(), Ok(&packet));
    }
}

fn options(bytes: &[u8]) {
    let Ok(options) = tcp::Options::parse(bytes) else { return };
    let mut room = [0; 40];
    let len = options.emit(&mut room);
    assert!(len <= room.len() && len % 4 == 0);
    // Of the blocks, as many as there is room for.
    let again = tcp::Options::parse(&room[..len]).expect("what was emitted is understood");
    assert!(options.sacks.iter().zip(again.sacks.iter()).all(|(a, b)| a == b));
    assert_eq!(tcp::Options { sacks: options.sacks, ..again }, options);
}
