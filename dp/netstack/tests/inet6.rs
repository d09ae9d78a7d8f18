//! IPv6, neighbour discovery, fragments and ICMP, given to one stack as frames: what it answers, and what it does not believe.

use std::sync::Arc;

use abi::{Code, Cookie, Dead, Handle, Syscall};
use mem::{MbufQueue, Pool, Room};
use netstack::{Batch, Datagram, DropReason, Pending, Shared, Stack, StackConfig};
use nic::Cable;
use units::{CoreId, FlowGroupId, Nanos};
use wire::checksum::Sum;
use wire::tcp::{Flags, Options};
use wire::{Addr, Ipv4Addr, Ipv6Addr, Mac, Seq, arp, ethernet, icmp, icmpv6, ipv4, ipv6, ndp, tcp, udp};

const MAC: Mac = Mac::local(1);
const PEER_MAC: Mac = Mac::local(2);
const EVIL_MAC: Mac = Mac::local(666);
const OURS: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 2);
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);
const OURS_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const PEER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PORT: u16 = 7;

struct World {
    shared: Arc<Shared>,
    stack: Stack<Cable>,
    arena: Pool,
    batch: Batch,
    now: Nanos,
    /// What the application got, and what became of its connections.
    datagrams: Vec<Datagram>,
    ends: Vec<Dead>,
    /// The connection that the application heard of last, and its window.
    last: Option<(Handle, u32)>,
}

impl World {
    fn new() -> World {
        let config = StackConfig {
            tcp_ports: vec![PORT],
            udp_ports: vec![PORT],
            max_conns: 64,
            ..StackConfig::new(MAC, OURS, 64).with_address(OURS_V4, 24)
        };
        let shared = Arc::new(Shared::new(config, 1, [3; 48], |_| FlowGroupId(5), |_| {}).unwrap());
        World {
            stack: Stack::new(CoreId(0), shared.clone(), Cable::new(1500, MAC.0)).unwrap(),
            shared,
            arena: Pool::new(Room::Exchange, 64, 2048).unwrap(),
            batch: Batch::new(64),
            now: Nanos::from_secs(1),
            datagrams: Vec::new(),
            ends: Vec::new(),
            last: None,
        }
    }

    /// Gives the stack a frame, lets it work, and takes what it sends. Questions for the peer's address are answered.
    fn give(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.stack.nic().to_stack.push_back(frame.to_vec());
        self.turn()
    }

    fn turn(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        loop {
            self.now += Nanos::from_millis(3);
            self.stack.ingest(self.now, 64);
            self.stack.dispatch(64, &mut self.batch);
            self.ends.extend(
                self.batch.entries().iter().filter(|e| e.pending.contains(Pending::DEAD)).filter_map(|e| e.dead),
            );
            self.last = self.batch.entries().last().map(|e| (e.handle, e.window)).or(self.last);
            self.stack.complete(self.now, &mut self.batch);
            self.datagrams.extend(self.batch.drain_datagrams());
            self.batch.clear();
            self.stack.egress(self.now, &mut self.arena);
            let out: Vec<_> = self.stack.nic().from_stack.drain(..).collect();
            let asked = out.iter().filter_map(|frame| self.answer(frame)).collect::<Vec<_>>();
            let quiet = asked.is_empty();
            asked.into_iter().for_each(|answer| self.stack.nic().to_stack.push_back(answer));
            sent.extend(out);
            if quiet {
                return sent;
            }
        }
    }

    /// The answer to a question of the stack for the peer's hardware address.
    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let (eth, packet) = ethernet::parse(frame).unwrap();
        if eth.ethertype == ethernet::ARP {
            let question = arp::parse(packet).unwrap();
            let mut answer = vec![0; ethernet::MIN_FRAME];
            question.reply(PEER_MAC).emit_frame(&mut answer);
            return (question.operation == arp::Operation::Request).then_some(answer);
        }
        match sent_ndp(frame) {
            Some((_, src, ndp::Message::Solicitation { target, .. })) if target == PEER.into() => {
                Some(advertise(target, Some(PEER_MAC), true, &src))
            }
            _ => None,
        }
    }

    fn drops(&self, why: DropReason) -> u64 {
        self.shared.total(|m| m.drops(why))
    }
}

fn frame(dst: Mac, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER];
    let ethertype = if packet[0] >> 4 == 4 { ethernet::IPV4 } else { ethernet::IPV6 };
    ethernet::Header { dst, src: PEER_MAC, ethertype }.emit(&mut frame);
    frame.extend(packet);
    frame
}

/// A packet of the peer that begins with `next`.
fn packet_v6(src: impl Into<Addr>, dst: impl Into<Addr>, next: u8, hops: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ipv6::HEADER];
    let header = ipv6::Header::new(src.into(), dst.into(), next, rest.len() as u16);
    ipv6::Header { hop_limit: hops, ..header }.emit(&mut packet);
    packet.extend(rest);
    packet
}

fn packet_v4(src: Ipv4Addr, protocol: u8, id: u16, offset: u16, mf: bool, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ipv4::HEADER];
    let header = ipv4::Header::new(src, OURS_V4, protocol, rest.len() as u16);
    ipv4::Header { id, df: false, mf, frag_offset: offset, ..header }.emit(&mut packet);
    packet.extend(rest);
    packet
}

fn datagram(src: impl Into<Addr>, dst: impl Into<Addr>, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (udp::HEADER + payload.len()) as u16;
    let header = udp::Header { src_port: 4000, dst_port: port, len, checksum: 0 };
    let mut bytes = vec![0; udp::HEADER];
    header.with_checksum(src, dst, payload).emit(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn echo_request(src: impl Into<Addr>, dst: impl Into<Addr>) -> Vec<u8> {
    let message = icmpv6::Message::EchoRequest { ident: 1, seq: 2, data: b"are you there?" };
    let mut bytes = vec![0; message.len()];
    message.emit(&src.into(), &dst.into(), &mut bytes);
    bytes
}

fn ndp_frame(message: &ndp::Message, src: Addr, dst: Addr, hops: u8) -> Vec<u8> {
    let mut bytes = [0; ndp::MESSAGE];
    let len = message.emit(&src, &dst, &mut bytes);
    let mac = if dst.is_multicast() { Mac::of_group(&dst) } else { MAC };
    frame(mac, &packet_v6(src, dst, ipv6::ICMP, hops, &bytes[..len]))
}

fn advertise(target: Addr, mac: Option<Mac>, solicited: bool, to: &Addr) -> Vec<u8> {
    ndp_frame(&ndp::Message::Advertisement { target, mac, router: false, solicited, replace: true }, target, *to, 255)
}

/// A message of neighbour discovery that the stack sent: its frame's destination, its source, itself.
fn sent_ndp(frame: &[u8]) -> Option<(Mac, Addr, ndp::Message)> {
    let (eth, packet) = ethernet::parse(frame).ok()?;
    let ip = ipv6::Header::parse(packet, packet.len()).ok().filter(|ip| ip.next == ipv6::ICMP)?;
    assert!(icmpv6::parse(&ip.src, &ip.dst, &packet[ipv6::HEADER..]).is_ok(), "a bad checksum was sent");
    let message = ndp::parse(&packet[ipv6::HEADER..]).ok()?;
    assert_eq!(ip.hop_limit, ndp::HOP_LIMIT);
    Some((eth.dst, ip.src, message))
}

/// The ICMPv6 errors and echoes among sent frames, by type and code, with what the second word says.
fn sent_icmpv6(frames: &[Vec<u8>]) -> Vec<(u8, u8, u32)> {
    let read = |frame: &Vec<u8>| {
        let (_, packet) = ethernet::parse(frame).ok()?;
        let ip = ipv6::Header::parse(packet, packet.len()).ok().filter(|ip| ip.next == ipv6::ICMP)?;
        let bytes = &packet[ipv6::HEADER..];
        assert!(icmpv6::parse(&ip.src, &ip.dst, bytes).is_ok(), "a bad checksum was sent");
        assert!(packet.len() <= 1280, "an error fits the smallest MTU");
        (!ndp::is_kind(bytes[0]))
            .then(|| (bytes[0], bytes[1], u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])))
    };
    frames.iter().filter_map(read).collect()
}

#[test]
fn a_question_for_our_address_is_answered_and_the_asker_is_asked() {
    let mut w = World::new();
    let target = Addr::from(OURS);
    let ask = ndp::Message::Solicitation { target, mac: Some(PEER_MAC) };
    let sent = w.give(&ndp_frame(&ask, PEER.into(), target.solicited_node(), 255));
    let told: Vec<_> = sent.iter().filter_map(|f| sent_ndp(f)).collect();
    let answer = ndp::Message::Advertisement { target, mac: Some(MAC), router: false, solicited: true, replace: true };
    assert_eq!(told[0], (PEER_MAC, target, answer));
    assert_eq!(told[1].0, Mac::of_group(&Addr::from(PEER).solicited_node()), "what it says of itself is not believed");
    // The link-local address is ours as well.
    let target = Addr::link_local(MAC);
    let ask = ndp::Message::Solicitation { target, mac: Some(PEER_MAC) };
    let sent = w.give(&ndp_frame(&ask, PEER.into(), target.solicited_node(), 255));
    assert!(matches!(sent_ndp(&sent[0]), Some((_, src, ndp::Message::Advertisement { .. })) if src == target));
}

#[test]
fn a_probe_for_our_address_is_answered_to_all() {
    let mut w = World::new();
    let target = Addr::from(OURS);
    let probe = ndp::Message::Solicitation { target, mac: None };
    let sent = w.give(&ndp_frame(&probe, Addr::UNSPECIFIED, target.solicited_node(), 255));
    let answer = ndp::Message::Advertisement { target, mac: Some(MAC), router: false, solicited: false, replace: true };
    assert_eq!(sent_ndp(&sent[0]), Some((Mac::of_group(&Addr::ALL_NODES), target, answer)));
}

#[test]
fn neighbour_discovery_from_afar_or_unasked_is_not_believed() {
    let mut w = World::new();
    let (ours, peer) = (Addr::from(OURS), Addr::from(PEER));
    let ask = ndp::Message::Solicitation { target: ours, mac: Some(EVIL_MAC) };
    assert!(w.give(&ndp_frame(&ask, peer, ours, 254)).is_empty(), "it has passed a router");
    assert!(w.give(&advertise(peer, Some(EVIL_MAC), true, &ours)).is_empty());
    assert!(w.give(&advertise(peer, Some(EVIL_MAC), false, &Addr::ALL_NODES)).is_empty());
    assert_eq!(w.drops(DropReason::Ndp), 3);
    // Resolved by our own question; a later claim changes nothing.
    w.give(&frame(MAC, &packet_v6(PEER, OURS, ipv6::ICMP, 64, &echo_request(PEER, OURS))));
    w.give(&advertise(peer, Some(EVIL_MAC), true, &ours));
    let sent = w.give(&frame(MAC, &packet_v6(PEER, OURS, ipv6::ICMP, 64, &echo_request(PEER, OURS))));
    assert_eq!(ethernet::parse(&sent[0]).unwrap().0.dst, PEER_MAC);
    // Routers and redirects are not heeded.
    for (kind, len) in [(133, 8), (134, 16), (137, 40)] {
        let mut message = vec![0u8; len];
        message[0] = kind;
        let sum = Sum::pseudo_v6(&peer, &ours, ipv6::ICMP, len as u32).with(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert!(w.give(&frame(MAC, &packet_v6(PEER, OURS, ipv6::ICMP, 255, &message))).is_empty());
    }
    assert_eq!(w.drops(DropReason::Ndp), 7);
}

#[test]
fn pings_are_answered_but_not_those_to_a_group() {
    let mut w = World::new();
    let sent = w.give(&frame(MAC, &packet_v6(PEER, OURS, ipv6::ICMP, 64, &echo_request(PEER, OURS))));
    assert_eq!(sent_icmpv6(&sent), [(129, 0, 0x1_0002)]);
    let all = Addr::ALL_NODES;
    let group = Ipv6Addr::from(all.octets());
    let sent = w.give(&frame(Mac::of_group(&all), &packet_v6(PEER, group, ipv6::ICMP, 64, &echo_request(PEER, group))));
    assert_eq!(sent_icmpv6(&sent), []);
}

#[test]
fn datagrams_come_in_behind_extension_headers() {
    let mut w = World::new();
    let plain = datagram(PEER, OURS, PORT, b"plain");
    w.give(&frame(MAC, &packet_v6(PEER, OURS, 17, 64, &plain)));
    let behind = [
        &[ipv6::DESTINATION, 0, 1, 4, 0, 0, 0, 0][..],
        &[17, 0, 1, 4, 0, 0, 0, 0],
        &datagram(PEER, OURS, PORT, b"behind"),
    ];
    w.give(&frame(MAC, &packet_v6(PEER, OURS, ipv6::HOP_BY_HOP, 64, &behind.concat())));
    let mut atomic = [0; 8];
    ipv6::emit_fragment(&mut atomic, 17, 0, false, 9);
    let atomic = [&atomic[..], &datagram(PEER, OURS, PORT, b"atomic")].concat();
    w.give(&frame(MAC, &packet_v6(PEER, OURS, ipv6::FRAGMENT, 64, &atomic)));
    let got: Vec<&[u8]> = w.datagrams.iter().map(|d| &d.payload[..]).collect();
    assert_eq!(got, [&b"plain"[..], b"behind", b"atomic"]);
    let peer = w.datagrams[0].peer();
    assert_eq!((peer.remote.ip(), peer.local.ip()), (PEER.into(), OURS.into()));
}

#[test]
fn who_errs_is_told_once_and_at_a_pace() {
    let mut w = World::new();
    let mut tell = |next, rest: &[u8]| sent_icmpv6(&w.give(&frame(MAC, &packet_v6(PEER, OURS, next, 64, rest))));
    assert_eq!(tell(17, &datagram(PEER, OURS, 9, b"nobody")), [(1, 4, 0)], "port unreachable");
    assert_eq!(tell(99, &[0; 8]), [(4, 1, 6)], "unknown next header");
    assert_eq!(tell(ipv6::ROUTING, &[17, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [(4, 0, 42)], "source route");
    assert_eq!(tell(ipv6::DESTINATION, &[17, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), [(4, 2, 42)], "unknown option");
    let error = [1, 4, 0, 0, 0, 0, 0, 0];
    assert_eq!(tell(ipv6::ICMP, &error), [], "about an error nothing is said");
    let flood: usize = (0..300).map(|_| tell(17, &datagram(PEER, OURS, 9, b"nobody")).len()).sum();
    assert!((100..=300).contains(&flood));
    // All at one instant: the bucket's worth.
    for _ in 0..64 {
        w.stack.nic().to_stack.push_back(frame(MAC, &packet_v6(PEER, OURS, 17, 64, &datagram(PEER, OURS, 9, b""))));
    }
    assert!(sent_icmpv6(&w.turn()).len() <= 50);
    assert_eq!(w.drops(DropReason::UdpNoPort), 365);
}

#[test]
fn sources_that_cannot_be_are_refused() {
    let mut w = World::new();
    let group = Ipv6Addr::from(Addr::ALL_NODES.octets());
    for bad in [
        group,
        Ipv6Addr::LOCALHOST,
        OURS,
        Ipv6Addr::UNSPECIFIED,
        PEER_V4.to_ipv6_mapped(),
        PEER_V4.to_ipv6_compatible(),
    ] {
        let mut packet = packet_v6(PEER, OURS, 17, 64, &datagram(PEER, OURS, PORT, b"?"));
        packet[8..24].copy_from_slice(&bad.octets());
        assert!(w.give(&frame(MAC, &packet)).is_empty());
    }
    assert_eq!((w.drops(DropReason::BadSource), w.datagrams.len()), (6, 0));
}

/// The pieces of a datagram in frames: of `room` bytes each.
fn pieces(v6: bool, id: u16, whole: &[u8], room: usize) -> Vec<Vec<u8>> {
    let cut = |(i, piece): (usize, &[u8])| {
        let (offset, more) = ((i * room) as u16, (i + 1) * room < whole.len());
        if v6 {
            let mut head = vec![0; 8];
            ipv6::emit_fragment(&mut head, 17, offset, more, id.into());
            head.extend(piece);
            frame(MAC, &packet_v6(PEER, OURS, ipv6::FRAGMENT, 64, &head))
        } else {
            frame(MAC, &packet_v4(PEER_V4, ipv4::UDP, id, offset, more, piece))
        }
    };
    whole.chunks(room).enumerate().map(cut).collect()
}

#[test]
fn datagrams_are_put_together_from_fragments_in_any_order() {
    for v6 in [false, true] {
        let mut w = World::new();
        let payload: Vec<u8> = (0..60_000u32).map(|i| (i * 7 / 8) as u8).collect();
        let whole = if v6 { datagram(PEER, OURS, PORT, &payload) } else { datagram(PEER_V4, OURS_V4, PORT, &payload) };
        let mut frames = pieces(v6, 77, &whole, 1448);
        frames.reverse();
        frames.swap(3, 30);
        let before = w.stack.rx_available();
        frames.iter().for_each(|f| drop(w.give(f)));
        assert_eq!((w.datagrams.len(), w.drops(DropReason::Fragment)), (1, 0));
        assert!(w.datagrams[0].payload[..] == payload[..]);
        w.datagrams.clear();
        w.turn();
        assert_eq!(w.stack.rx_available(), before, "every buffer has come home");
    }
}

#[test]
fn overlapping_fragments_deliver_nothing() {
    for v6 in [false, true] {
        let mut w = World::new();
        let payload = vec![1; 3000];
        let whole = if v6 { datagram(PEER, OURS, PORT, &payload) } else { datagram(PEER_V4, OURS_V4, PORT, &payload) };
        let frames = pieces(v6, 77, &whole, 1000);
        // Another cut of the same datagram overlaps.
        let other = pieces(v6, 77, &whole, 808);
        for f in [&frames[0], &other[1], &frames[1], &frames[2], &frames[3]] {
            w.give(f);
        }
        assert_eq!(w.datagrams.len(), 0);
        assert!(w.drops(DropReason::Fragment) >= 2);
    }
}

#[test]
fn a_flood_of_fragments_pins_a_bounded_number_of_buffers() {
    let mut w = World::new();
    let before = w.stack.rx_available();
    let mut least = before;
    for n in 0..20_000u32 {
        // Ever new datagrams of ever new sources, never complete; every third in IPv6.
        let rest = [0; 1400];
        let packet = if n % 3 == 0 {
            let mut head = vec![0; 8];
            ipv6::emit_fragment(&mut head, 17, 8 * (n % 50) as u16, true, n);
            head.extend(rest);
            packet_v6(Ipv6Addr::from_bits(PEER.to_bits() + u128::from(n % 997)), OURS, ipv6::FRAGMENT, 64, &head)
        } else {
            let source = Ipv4Addr::from_bits(PEER_V4.to_bits() ^ (n % 991) << 8);
            packet_v4(source, ipv4::UDP, n as u16, 8 * (n % 50) as u16, true, &rest)
        };
        w.give(&frame(MAC, &packet));
        least = least.min(w.stack.rx_available());
    }
    assert!(before - least <= 1024 + 64, "{} buffers are held", before - least);
    // Service goes on.
    w.give(&frame(MAC, &packet_v6(PEER, OURS, 17, 64, &datagram(PEER, OURS, PORT, b"still there?"))));
    assert_eq!(w.datagrams.len(), 1);
    w.datagrams.clear();
    // When their time is over, all buffers are home.
    w.now += Nanos::from_secs(61);
    w.turn();
    // What is said of it waits for addresses that nobody has.
    w.now += Nanos::from_secs(4);
    w.turn();
    assert_eq!(w.stack.rx_available(), before);
    assert!(w.drops(DropReason::ReassemblyTime) > 0);
}

#[test]
fn a_datagram_that_stays_incomplete_is_reported_if_its_beginning_came() {
    let mut w = World::new();
    let frames = pieces(true, 5, &datagram(PEER, OURS, PORT, &[0; 3000]), 1448);
    w.give(&frames[0]);
    assert_eq!(sent_icmpv6(&w.turn()), []);
    w.now += Nanos::from_secs(61);
    assert_eq!(sent_icmpv6(&w.turn()), [(3, 1, 0)]);
    w.give(&frames[1]);
    w.now += Nanos::from_secs(61);
    assert_eq!(sent_icmpv6(&w.turn()), [], "not about a later fragment");
}

/// What an ICMP error quotes: a segment of ours.
fn quoted(local_port: u16, remote_port: u16, seq: u32, len: u16) -> Vec<u8> {
    let mut packet = vec![0; ipv6::HEADER];
    ipv6::Header::new(OURS.into(), PEER.into(), ipv4::TCP, 20 + len).emit(&mut packet);
    packet.extend(local_port.to_be_bytes());
    packet.extend(remote_port.to_be_bytes());
    packet.extend(seq.to_be_bytes());
    packet.resize(packet.len() + 12, 0);
    packet
}

fn error_frame(message: &icmpv6::Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; message.len()];
    message.emit(&PEER.into(), &OURS.into(), &mut bytes);
    frame(MAC, &packet_v6(PEER, OURS, ipv6::ICMP, 64, &bytes))
}

impl World {
    /// Dials the peer; answers our port and the SYN's sequence number.
    fn dial(&mut self) -> (u16, u32) {
        let dst = std::net::SocketAddr::new(PEER.into(), 80);
        self.batch.call(Syscall::Connect { cookie: Cookie(9), dst }).unwrap();
        let sent = self.turn();
        let syn = sent.iter().rev().find_map(|f| sent_tcp(f)).expect("a SYN");
        (syn.src_port, syn.seq.0)
    }

    fn segment(&mut self, to: u16, seq: u32, ack: u32, flags: Flags, options: Options, payload: &[u8]) -> Vec<Vec<u8>> {
        let (seq, ack, src_port) = (Seq(seq), Seq(ack), 80);
        let h =
            tcp::Header { src_port, dst_port: to, seq, ack, flags, window: 60_000, urgent: 0, options, header_len: 0 };
        let mut bytes = vec![0; h.wire_len()];
        h.emit(&mut bytes);
        bytes.extend(payload);
        let sum = Sum::pseudo_v6(&PEER.into(), &OURS.into(), 6, bytes.len() as u32).with(&bytes).finish();
        bytes[tcp::CHECKSUM_OFFSET..tcp::CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
        self.give(&frame(MAC, &packet_v6(PEER, OURS, 6, 64, &bytes)))
    }
}

fn sent_tcp(frame: &[u8]) -> Option<tcp::Header> {
    let (_, packet) = ethernet::parse(frame).ok()?;
    let ip = ipv6::Header::parse(packet, packet.len()).ok().filter(|ip| ip.next == 6)?;
    assert!(tcp::checksum_ok(ip.src, ip.dst, std::iter::once(&packet[40..])), "a bad checksum was sent");
    tcp::Header::parse(&packet[40..]).ok()
}

#[test]
fn a_dial_fails_where_icmp_says_so_and_only_if_it_quotes_the_syn() {
    for (code, end) in [(icmpv6::PORT, Dead::Refused), (0, Dead::Unreachable), (3, Dead::Unreachable)] {
        let mut w = World::new();
        let (port, isn) = w.dial();
        let unreachable =
            |seq| icmpv6::Message::Unreachable { code, original: Box::leak(quoted(port, 80, seq, 0).into()) };
        for forged in [isn.wrapping_add(1), isn.wrapping_sub(1), isn ^ 1 << 31] {
            w.give(&error_frame(&unreachable(forged)));
        }
        assert_eq!((w.ends.len(), w.drops(DropReason::IcmpForged)), (0, 3));
        w.give(&error_frame(&unreachable(isn)));
        assert_eq!(w.ends, [end]);
    }
}

/// RFC 9293 section 3.7.1, MUST-15: 1220 bytes over IPv6.
#[test]
fn a_peer_that_names_no_mss_gets_segments_of_1220_bytes() {
    let mut w = World::new();
    let (port, isn) = w.dial();
    w.segment(port, 1000, isn + 1, Flags::SYN | Flags::ACK, Options::NONE, b"");
    let (handle, window) = w.last.expect("the application is told");
    let mut queue = MbufQueue::new();
    for _ in 0..2 {
        let mut mbuf = w.arena.alloc().unwrap();
        mbuf.grow(1500);
        queue.push_back(mbuf);
    }
    let (sg, n) = w.batch.gather(&mut queue, window);
    assert_eq!(n, 3000);
    w.batch.call(Syscall::Sendv { handle, sg, waiting: 0 }).unwrap();
    let sizes: Vec<usize> = w.turn().iter().filter(|f| sent_tcp(f).is_some()).map(|f| f.len() - 14 - 40 - 20).collect();
    assert_eq!(sizes, [1220, 1220, 560]);
}

/// RFC 1122 section 3.3.6, which RFC 8200 does not repeat: what is for one host does not come in a frame for many.
#[test]
fn a_frame_for_all_brings_no_datagram_for_one() {
    let mut w = World::new();
    let all = Mac([0xff; 6]);
    w.give(&frame(all, &packet_v6(PEER, OURS, 17, 64, &datagram(PEER, OURS, PORT, b"six"))));
    w.give(&frame(all, &packet_v4(PEER_V4, 17, 1, 0, false, &datagram(PEER_V4, OURS_V4, PORT, b"four"))));
    assert_eq!((w.datagrams.len(), w.drops(DropReason::LinkGroup)), (0, 2));
    w.give(&frame(MAC, &packet_v6(PEER, OURS, 17, 64, &datagram(PEER, OURS, PORT, b"six"))));
    assert_eq!(w.datagrams.len(), 1);
}

#[test]
fn an_established_connection_outlives_what_icmp_says() {
    let mut w = World::new();
    let (port, isn) = w.dial();
    let mss = Options { mss: Some(1440), ..Options::NONE };
    w.segment(port, 100, isn.wrapping_add(1), Flags::SYN | Flags::ACK, mss, &[]);
    for code in 0..8 {
        let original = quoted(port, 80, isn.wrapping_add(1), 0);
        w.give(&error_frame(&icmpv6::Message::Unreachable { code, original: &original }));
    }
    assert_eq!((w.ends.len(), w.stack.connections()), (0, 1));
}

#[test]
fn errors_for_ipv4_are_sent_and_heard_too() {
    let mut w = World::new();
    let sent =
        w.give(&frame(MAC, &packet_v4(PEER_V4, ipv4::UDP, 1, 0, false, &datagram(PEER_V4, OURS_V4, 9, b"nobody"))));
    let errors = |sent: &[Vec<u8>]| {
        let read = |f: &Vec<u8>| {
            let (_, packet) = ethernet::parse(f).ok()?;
            let (ip, bytes) = ipv4::parse(packet).ok().filter(|(ip, _)| ip.protocol == ipv4::ICMP)?;
            assert!(icmp::parse(bytes).is_ok() && ip.total_len <= 576);
            Some((bytes[0], bytes[1]))
        };
        sent.iter().filter_map(read).collect::<Vec<_>>()
    };
    assert_eq!(errors(&sent), [(3, 3)]);
    let sent = w.give(&frame(MAC, &packet_v4(PEER_V4, 99, 1, 0, false, &[0; 20])));
    assert_eq!(errors(&sent), [(3, 2)], "protocol unreachable");
    let sent = w.give(&frame(Mac::BROADCAST, &packet_v4(PEER_V4, 99, 1, 0, false, &[0; 20])));
    assert_eq!(errors(&sent), [], "not about what all have got");
    let fragment = pieces(false, 3, &datagram(PEER_V4, OURS_V4, PORT, &[0; 3000]), 1480).swap_remove(0);
    w.give(&fragment);
    w.now += Nanos::from_secs(31);
    assert_eq!(errors(&w.turn()), [(11, 1)], "time exceeded");
}

#[test]
fn codes_of_calls_that_cannot_be() {
    let config = StackConfig::new(MAC, OURS_V4, 24);
    let shared = Arc::new(Shared::new(config, 1, [3; 48], |_| FlowGroupId(5), |_| {}).unwrap());
    let mut stack = Stack::new(CoreId(0), shared, Cable::new(1500, MAC.0)).unwrap();
    let mut batch = Batch::new(8);
    for dst in ["[2001:2::1]:80", "198.18.0.2:80", "224.0.0.1:80"] {
        batch.call(Syscall::Connect { cookie: Cookie(1), dst: dst.parse().unwrap() }).unwrap();
    }
    stack.complete(Nanos::from_secs(1), &mut batch);
    assert_eq!(batch.returns(), [Code::NotSupported as i64, Code::Invalid as i64, Code::Invalid as i64]);
}
