//! Each parser of headers. What it accepts is emitted again where there is an emitter, and must be the same when parsed.

use wire::{Addr, arp, ethernet, icmp, icmpv6, ipv4, ipv6, ndp, quote, tcp, udp};

/// The first byte says which parser, the rest is what it gets.
pub(crate) fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    match which % 11 {
        0 => drop(ethernet::parse(bytes)),
        1 => arp_packet(bytes),
        2 => drop(ipv4::parse(bytes)),
        3 => drop(icmp::parse(bytes)),
        4 => drop(udp::parse(bytes)),
        5 => drop(tcp::Header::parse(bytes)),
        6 => options(bytes),
        7 => ipv6_packet(bytes),
        8 => drop(icmpv6::parse(&Addr::ALL_NODES, &Addr::ALL_NODES, bytes)),
        9 => neighbours(bytes),
        _ => drop(quote::parse(bytes)),
    }
}

fn arp_packet(bytes: &[u8]) {
    if let Ok(packet) = arp::parse(bytes) {
        let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
        packet.emit_frame(&mut frame);
        assert_eq!(arp::parse(&frame[ethernet::HEADER..]).as_ref(), Ok(&packet));
    }
}

fn ipv6_packet(bytes: &[u8]) {
    let Ok(header) = ipv6::Header::parse(bytes, bytes.len()) else { return };
    let mut again = [0; ipv6::HEADER];
    header.emit(&mut again);
    assert_eq!(again, bytes[..ipv6::HEADER]);
    let end = ipv6::HEADER + usize::from(header.payload_len);
    if let Ok(upper) = ipv6::walk(&bytes[..end], &header) {
        assert!(upper.at <= end, "{upper:?} beyond {end} bytes");
    }
}

fn neighbours(bytes: &[u8]) {
    if let Ok(message) = ndp::parse(bytes) {
        let mut room = [0; 128];
        let len = message.emit(&Addr::ALL_NODES, &Addr::ALL_NODES, &mut room);
        let sent = matches!(message, ndp::Message::Solicitation { .. } | ndp::Message::Advertisement { .. });
        assert_eq!(len > 0, sent, "{message:?}");
        assert!(!sent || ndp::parse(&room[..len]) == Ok(message));
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
