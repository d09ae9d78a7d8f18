//! Frames that no honest peer sends, put on the wire byte by byte: each is dropped for the reason that fits it, gets
//! the answer that the RFCs ask for or none, and is in nobody's way.
#![forbid(unsafe_code)]

use std::io::Read;
use std::net::Ipv4Addr;

use tests::frames::{Frame, IP, L4, Segment, Wire, flags::*};
use tests::{App, CLIENT, PORT, Rig, SERVER, Serve, Stack, Text, need, on_stacks, wait_for};

/// A server, its wire, and a client whose connection has to outlive everything.
struct Bench {
    rig: Rig,
    wire: Wire,
    witness: Text,
}

impl Bench {
    fn start(stack: Stack) -> Result<Bench, String> {
        let rig = Rig::start(&Serve::new(App::Kv, stack).threads(2))?;
        let mut witness = rig.text();
        witness.set("witness", b"here");
        let wire = Wire::open(&rig.namespace);
        Ok(Bench { rig, wire, witness })
    }

    /// Sends frames; each has to be dropped for `reason`, and for nothing else.
    #[track_caller]
    fn dropped(&mut self, reason: &str, frames: &[(&str, Frame)]) {
        for (what, frame) in frames {
            let before = self.rig.server.counters();
            self.wire.send(frame);
            let drops = wait_for(&format!("the drop of {what} as {reason}"), || {
                let now = self.rig.server.counters();
                let drops = now.drops().into_iter().filter(|(r, n)| *n > before.dropped(r) && !is_chatter(r, reason));
                let drops: Vec<String> = drops.map(|(r, _)| r).collect();
                (!drops.is_empty()).then_some(drops)
            });
            assert_eq!(drops, [reason], "{what}");
            assert_eq!(self.witness.get("witness").as_deref(), Some(&b"here"[..]), "after {what}");
        }
    }

    /// What the server sends to `port` of ours after `frame`.
    #[track_caller]
    fn answer(&self, frame: &Frame, port: u16) -> Segment {
        self.wire.send(frame);
        self.wire.expect("an answer", |f| f.tcp_from(SERVER).filter(|s| s.dst_port == port))
    }

    #[track_caller]
    fn still_serves(mut self) {
        assert_eq!(self.witness.get("witness").as_deref(), Some(&b"here"[..]));
        self.rig.still_serves_kv();
    }
}

/// A connection's port, and the last segment that the server sent on it, overheard.
#[track_caller]
fn overhear(wire: &Wire, text: &mut Text) -> (u16, Segment) {
    let port = text.stream().local_addr().expect("it is connected").port();
    text.send("version\r\n");
    let last = wire.expect("the answer to `version`", |f| {
        f.tcp_from(SERVER).filter(|s| s.dst_port == port && f.0.windows(8).any(|w| w == b"VERSION "))
    });
    assert!(text.line().starts_with("VERSION"));
    (port, last)
}

/// Linux says something of its own from time to time (IPv6 neighbour discovery, IGMP; on a busy machine its TCP sends again
/// what was not lost), which is dropped for these.
fn is_chatter(reason: &str, expected: &str) -> bool {
    reason != expected && ["not_our_mac", "ethertype", "protocol", "tcp_window"].contains(&reason)
}

on_stacks! {
    /// To other stations and addresses, from addresses that nobody has, and of protocols that nobody speaks here.
    [zygix = Zygix, software = Software]
    fn frames_for_others_or_nobody(stack) {
        let mut bench = need!(Bench::start(stack));
        let wire = &bench.wire;
        let syn = wire.tcp(4000, SYN, 1, 0, &[], b"");
        let frames = [
            ("another station's", syn.clone().flipped(0, 0x04)),
            ("a multicast group's", syn.clone().with(0, &[1, 0, 0x5e, 0, 0, 251])),
        ];
        bench.dropped("not_our_mac", &frames);
        let wire = &bench.wire;
        let frames = [
            ("IPv6", wire.ethernet(0x86dd, &[0x60; 60])),
            ("LLDP", wire.ethernet(0x88cc, &[2; 46])),
            ("an 802.3 length", wire.ethernet(0x0040, &[0xaa; 64])),
            ("a VLAN's", wire.ethernet(0x8100, &[0; 60])),
        ];
        bench.dropped("ethertype", &frames);
        let frames = [
            ("to a neighbour", syn.clone().with(IP + 16, &[198, 18, 0, 77]).sealed()),
            ("to another network", syn.clone().with(IP + 16, &[192, 0, 2, 1]).sealed()),
            ("to loopback", syn.clone().with(IP + 16, &[127, 0, 0, 1]).sealed()),
        ];
        bench.dropped("not_our_address", &frames);
        let frames = [
            ("from loopback", syn.clone().with(IP + 12, &[127, 0, 0, 1]).sealed()),
            ("from nowhere", syn.clone().with(IP + 12, &[0, 0, 0, 0]).sealed()),
            ("from a broadcast address", syn.clone().with(IP + 12, &[255, 255, 255, 255]).sealed()),
            ("from the network's broadcast", syn.clone().with(IP + 12, &[198, 18, 0, 255]).sealed()),
            ("from a group", syn.clone().with(IP + 12, &[224, 0, 0, 5]).sealed()),
            // The land attack: a connection of the server with itself.
            ("from the server itself", syn.with(IP + 12, &SERVER.octets()).with(L4, &PORT.to_be_bytes()).sealed()),
        ];
        bench.dropped("bad_source", &frames);
        bench.still_serves();
    }

    /// Bad checksums, lengths and options; then damage of every kind at every place.
    [zygix = Zygix, software = Software]
    fn damaged_frames(stack) {
        let mut bench = need!(Bench::start(stack));
        let wire = &bench.wire;
        let syn = wire.tcp(4000, SYN, 1, 0, &[2, 4, 5, 180], b"");
        let udp = wire.udp(PORT, b"datagram");
        let frames = [
            ("IPv4 header", syn.clone().flipped(IP + 8, 1)),
            ("IPv4 checksum", syn.clone().flipped(IP + 10, 1)),
            ("TCP header", syn.clone().flipped(L4 + 4, 0x80)),
            ("TCP checksum", syn.clone().flipped(L4 + 17, 1)),
            ("TCP payload", wire.tcp(4000, ACK, 1, 1, &[], b"payload").flipped(L4 + 22, 4)),
            ("UDP payload", udp.clone().flipped(L4 + 9, 1)),
            ("ICMP payload", wire.icmp(8, 0, b"payload").flipped(L4 + 9, 1)),
        ];
        bench.dropped("checksum", &frames);

        let wire = &bench.wire;
        let ip_len = |frame: &Frame, len: u16| frame.clone().with(IP + 2, &len.to_be_bytes()).sealed();
        let echo = wire.icmp(8, 0, b"");
        let mut frames = vec![
            ("nothing after Ethernet", wire.ethernet(0x0800, &[])),
            ("half an IPv4 header", syn.clone().cut(IP + 10)),
            ("IP version 5", syn.clone().with(IP, &[0x55]).sealed()),
            ("IP version 6 as IPv4", syn.clone().with(IP, &[0x65]).sealed()),
            ("an IPv4 header of 16 bytes", syn.clone().with(IP, &[0x44]).sealed()),
            ("an IPv4 header longer than the frame", syn.clone().with(IP, &[0x4f]).sealed()),
            ("a length below the header's", ip_len(&syn, 19)),
            ("a length of nothing", ip_len(&syn, 0)),
            ("a length beyond the frame", ip_len(&syn, 1400)),
            ("a TCP header cut by the IP length", ip_len(&syn, 30)),
            ("a cut frame", syn.clone().cut(IP + 30)),
            ("a TCP header of 16 bytes", syn.clone().with(L4 + 12, &[0x40]).sealed()),
            ("a TCP header of nothing", syn.clone().with(L4 + 12, &[0x00]).sealed()),
            ("a TCP header longer than the segment", syn.clone().with(L4 + 12, &[0xf0]).sealed()),
            ("a UDP length beyond the packet", udp.clone().with(L4 + 4, &[0, 200]).sealed()),
            ("a UDP length below its header's", udp.clone().with(L4 + 4, &[0, 7]).sealed()),
            ("half a UDP header", ip_len(&udp, 24)),
            ("half an ICMP header", ip_len(&echo, 24)),
            ("half an ARP packet", wire.ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1])),
        ];
        // Options that cannot be: lengths of nothing, of one, past the end, and known ones with the wrong length.
        for (what, options) in [
            ("an option of length 0", &[8, 0, 0, 0][..]),
            ("an option of length 1", &[2, 1, 0, 0]),
            ("an option past the end", &[3, 9, 0, 0]),
            ("an unknown option past the end", &[99, 40, 0, 0]),
            ("a kind without a length", &[1, 1, 1, 2]),
        ] {
            frames.push((what, wire.tcp(4000, SYN, 1, 0, options, b"")));
        }
        bench.dropped("malformed", &frames);

        // Cut at every length, and with every byte of the headers changed: whatever it counts as, nothing breaks.
        for len in 14..syn.0.len() {
            bench.wire.send(&syn.clone().cut(len));
        }
        for at in 12..syn.0.len() {
            for bits in [0x01, 0x10, 0x80, 0xff] {
                bench.wire.send(&syn.clone().flipped(at, bits));
                bench.wire.send(&syn.clone().flipped(at, bits).sealed());
            }
        }
        bench.still_serves();
    }

    /// Fragments that fit nothing, and what is known of IP beyond TCP, UDP and ICMP: nothing.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn fragments_and_foreign_protocols(stack) {
        let mut bench = need!(Bench::start(stack));
        let wire = &bench.wire;
        let syn = wire.tcp(4000, SYN, 1, 0, &[], b"").with(IP + 4, &[7, 7]);
        let frames = [
            ("a fragment without a byte", syn.clone().with(IP + 6, &[0x20, 0]).with(IP + 2, &[0, 20]).sealed()),
            ("a fragment that ends in the middle of a word", syn.clone().with(IP + 6, &[0x20, 7]).with(IP + 2, &[0, 29]).sealed()),
            ("a fragment beyond 64 KiB", syn.clone().with(IP + 6, &[0x1f, 0xff]).sealed()),
        ];
        bench.dropped("fragment", &frames);
        // The tiny-fragment attack (RFC 1858) aims at the flags in the second fragment: an overlap costs both.
        let wire = &bench.wire;
        wire.send(&syn.clone().with(IP + 6, &[0x20, 0]).with(IP + 2, &[0, 36]).sealed());
        bench.dropped("fragment", &[("an overlap", syn.with(IP + 6, &[0, 1]).with(IP + 2, &[0, 32]).sealed())]);
        let wire = &bench.wire;
        let frames = [("GRE", wire.ipv4(47, &[0; 40])), ("nothing known", wire.ipv4(253, &[])), ("SCTP", wire.ipv4(132, &[7; 40]))];
        bench.dropped("protocol", &frames);
        let wire = &bench.wire;
        let frames = [
            ("an answer to no ping", wire.icmp(0, 0, b"pong")),
            ("a redirect", wire.icmp(5, 1, &[9; 28])),
            ("a timestamp request", wire.icmp(13, 0, &[0; 12])),
        ];
        bench.dropped("icmp", &frames);
        let wire = &bench.wire;
        // Whoever knows the ports could end connections so, were it believed (RFC 5927).
        let frames = [("a port unreachable", wire.icmp(3, 3, &wire.tcp(PORT, ACK, 1, 1, &[], b"").0[IP..L4 + 8]))];
        bench.dropped("icmp_forged", &frames);
        let frames = [("a datagram to a closed port", bench.wire.udp(9, b"anybody?"))];
        bench.dropped("udp_no_port", &frames);

        // A packet with IP options is one like any other.
        let mut frame = bench.wire.tcp(4001, SYN, 77, 0, &[], b"");
        frame.0.splice(L4..L4, [1, 1, 1, 0]);
        let frame = frame.with(IP, &[0x46]).with(IP + 2, &44_u16.to_be_bytes()).sealed();
        let answer = bench.answer(&frame, 4001);
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, 78));
        bench.still_serves();
    }

    /// Only what the server asked for changes whom it believes to be where.
    [zygix = Zygix, software = Software]
    fn arp_is_not_fooled(stack) {
        const THIEF: [u8; 6] = [2, 0xbb, 0xad, 0, 0, 1];
        let mut bench = need!(Bench::start(stack));
        let wire = &bench.wire;
        let frames = [
            ("an answer to no question", wire.arp(2, THIEF, CLIENT, SERVER)),
            ("a gratuitous answer", wire.arp(2, THIEF, CLIENT, CLIENT)),
            ("an answer for the server's own address", wire.arp(2, THIEF, SERVER, SERVER)),
            ("an answer for a stranger", wire.arp(2, THIEF, [198, 18, 0, 99].into(), SERVER)),
            ("a question for somebody else", wire.arp(1, wire.client, CLIENT, [198, 18, 0, 99].into())),
            ("a gratuitous question", wire.arp(1, THIEF, CLIENT, CLIENT)),
        ];
        bench.dropped("arp_unsolicited", &frames);
        let wire = &bench.wire;
        for (what, at, byte) in [("hardware", 1, 6), ("protocol", 2, 0x86), ("address length", 4, 8), ("protocol length", 5, 16)] {
            let odd = wire.arp(1, wire.client, CLIENT, SERVER).with(14 + at, &[byte]);
            wire.send(&odd);
            println!("another {what}");
        }
        // A question in the client's name from another station is answered to that one. The connections stay.
        wire.send(&wire.arp(1, THIEF, CLIENT, SERVER));
        let replied = wire.expect("an ARP answer", |f| (f.u16(12) == 0x0806 && f.0[21] == 2).then(|| f.0[..6].to_vec()));
        assert!(replied == THIEF || replied == wire.client, "the answer went to {replied:?}");
        bench.witness.set("witness", b"here");
        // And a claim to be the server, from the server's own address.
        bench.wire.send(&bench.wire.arp(1, THIEF, SERVER, SERVER));
        bench.still_serves();
    }

    /// Segments to ports where nobody listens, and impossible ones to the port where somebody does.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn segments_to_no_connection(stack) {
        let bench = need!(Bench::start(stack));
        let wire = &bench.wire;
        let elsewhere = |flags, seq, ack, payload: &[u8]| {
            wire.tcp(5000, flags, seq, ack, &[], payload).with(L4 + 2, &9_u16.to_be_bytes()).sealed()
        };
        // RFC 9293 section 3.10.7.1: the reset takes its number from the ACK, or acknowledges what came.
        let answer = bench.answer(&elsewhere(SYN, 100, 0, b""), 5000);
        assert_eq!((answer.flags, answer.seq, answer.ack), (RST | ACK, 0, 101));
        let answer = bench.answer(&elsewhere(ACK, 100, 4242, b""), 5000);
        assert_eq!((answer.flags & !ACK, answer.seq), (RST, 4242));
        let answer = bench.answer(&elsewhere(FIN | PSH | URG, 100, 0, b"12345"), 5000);
        assert_eq!((answer.flags, answer.seq, answer.ack), (RST | ACK, 0, 106));

        // A listener: an ACK gets a reset; a RST nothing; SYN with RST nothing.
        let answer = bench.answer(&wire.tcp(5001, ACK, 7, 99, &[], b""), 5001);
        assert_eq!((answer.flags & !ACK, answer.seq), (RST, 99));
        for (what, flags) in [("RST", RST), ("RST and SYN", RST | SYN), ("RST and ACK", RST | ACK), ("nothing", 0), ("FIN", FIN)] {
            let port = 5100 + u16::from(flags);
            wire.send(&wire.tcp(port, flags, 7, 0, &[], b""));
            // A frame that is answered tells that the one before it was dealt with.
            wire.send(&wire.tcp(5002, ACK, 7, 0, &[], b""));
            let mut answers = Vec::new();
            wire.expect("an answer", |f| {
                let s = f.tcp_from(SERVER)?;
                answers.push(s.dst_port);
                (s.dst_port == 5002).then_some(())
            });
            let silent = !answers.contains(&port);
            // Without ACK, SYN and RST, RFC 9293 drops at a listener.
            assert!(silent, "{what} to a listener was answered");
        }
        // A Christmas tree has a SYN in it; whatever becomes of it, the port stays usable.
        wire.send(&wire.tcp(5003, 0xff, 7, 0, &[], b"lights"));
        wire.send(&wire.tcp(5004, SYN | FIN, 7, 0, &[], b""));
        // Options at their limits: a segment size of nothing, the largest shift, an unknown kind, padding only.
        for (i, options) in [&[2, 4, 0, 0][..], &[2, 4, 0xff, 0xff], &[3, 3, 255], &[254, 6, 1, 2, 3, 4], &[1; 40], &[0; 40]].iter().enumerate() {
            let port = 5200 + i as u16;
            let answer = bench.answer(&wire.tcp(port, SYN, 1000, 0, options, b""), port);
            assert_eq!((answer.flags, answer.ack), (SYN | ACK, 1001), "options {options:?}");
        }
        bench.still_serves();
    }

    /// Blind attacks on an established connection (RFC 5961), by somebody who knows the ports, and even the numbers.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn blind_attacks_on_a_connection(stack) {
        let mut bench = need!(Bench::start(stack));
        let (port, last) = overhear(&bench.wire, &mut bench.witness);
        // Without the timestamps that were agreed on, a segment is dropped unseen (RFC 7323 section 3.2).
        let (val, ecr) = last.timestamps.expect("Linux and Zygix agree on them");
        let timestamps = [&[1, 1, 8, 10][..], &ecr.to_be_bytes(), &val.to_be_bytes()].concat();
        let (peer_next, own_next) = (last.ack, last.seq.wrapping_add(last.payload as u32));

        let wire = &bench.wire;
        let segment = |flags, seq, ack, payload: &[u8]| wire.tcp(port, flags, seq, ack, &timestamps, payload);
        let far = peer_next.wrapping_add(1 << 30);
        let challenged = |what: &str, frame: Frame| {
            // Challenges of one connection keep a distance (section 7).
            std::thread::sleep(std::time::Duration::from_millis(50));
            println!("{what}");
            let answer = bench.answer(&frame, port);
            assert_eq!((answer.flags & (ACK | RST | SYN | FIN), answer.ack), (ACK, peer_next), "{what}: {answer:?}");
        };
        // In the window, but not exactly the next number: a challenge, no reset (section 3.2). A SYN likewise (section 4.2).
        challenged("a RST in the window", segment(RST, peer_next.wrapping_add(100), 0, b""));
        challenged("a SYN in the window", segment(SYN, peer_next.wrapping_add(50), 0, b""));
        challenged("a SYN and ACK", segment(SYN | ACK, peer_next, own_next, b""));
        // Data far away is answered by an ACK that tells where we are, and not taken.
        challenged("data out of the window", segment(ACK | PSH, far, own_next, b"delete witness\r\n"));
        let frames = [
            ("a RST out of the window", segment(RST, far, 0, b"")),
            ("a RST just before the window", segment(RST, peer_next.wrapping_sub(1), 0, b"")),
            ("a RST just before the window, again", segment(RST, peer_next.wrapping_sub(70_000), 0, b"")),
            // Data in the window whose ACK acknowledges what was never sent, or what was sent long ago (section 5.2).
            ("an ACK of the future", segment(ACK | PSH, peer_next, own_next.wrapping_add(1 << 20), b"delete witness\r\n")),
            ("an ACK of the far past", segment(ACK | PSH, peer_next, own_next.wrapping_sub(1 << 30), b"delete witness\r\n")),
            ("data without ACK", segment(PSH, peer_next, 0, b"delete witness\r\n")),
            ("data without timestamps", wire.tcp(port, ACK | PSH, peer_next, own_next, &[], b"delete witness\r\n")),
            ("a FIN without ACK", segment(FIN, peer_next, 0, b"")),
        ];
        for (what, frame) in &frames {
            let before: u64 = bench.rig.server.counters().drops().values().sum();
            bench.wire.send(frame);
            wait_for(&format!("the drop of {what}"), || {
                (bench.rig.server.counters().drops().values().sum::<u64>() > before).then_some(())
            });
        }
        bench.witness.set("after", b"all");
        assert_eq!(bench.witness.get("after").as_deref(), Some(&b"all"[..]));

        // The counter-proof: the same frame does harm when every number is right.
        let mut victim = bench.rig.text();
        let (port, last) = overhear(&bench.wire, &mut victim);
        bench.wire.send(&bench.wire.tcp(port, RST, last.ack, 0, &[], b""));
        victim.send("version\r\n");
        let gone = victim.stream().read(&mut [0]);
        assert_eq!(gone.map_err(|e| e.kind()), Err(std::io::ErrorKind::ConnectionReset));
        bench.still_serves();
    }

    /// More half-open connections than there is room for, from addresses that exist and never answer: memory stays
    /// bounded, and cookies let honest clients in meanwhile.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic]
    fn a_flood_of_syns(stack) {
        const SYNS: u32 = 40_000;
        let mut bench = need!(Bench::start(stack));
        let attackers: Vec<Ipv4Addr> = (10..18).map(|host| [198, 18, 0, host].into()).collect();
        for (i, attacker) in attackers.iter().enumerate() {
            // By asking, each tells where it is, so that it can be answered. Nobody is there.
            let mac = [2, 0, 0, 0, 0, i as u8];
            bench.wire.send(&bench.wire.arp(1, mac, *attacker, SERVER));
        }
        let before = bench.rig.server.resident();
        for round in 0..SYNS {
            let attacker = attackers[round as usize % attackers.len()];
            let port = 1024 + (round / attackers.len() as u32) as u16;
            let syn = bench.wire.tcp(port, SYN, round, 0, &[2, 4, 5, 180, 1, 3, 3, 7], b"");
            bench.wire.send(&syn.with(IP + 12, &attacker.octets()).sealed());
            if round % 1000 == 999 {
                // The connection that was there is served, and a new one is let in.
                assert_eq!(bench.witness.get("witness").as_deref(), Some(&b"here"[..]), "after {round} SYNs");
                assert!(bench.rig.text().ask("version").starts_with("VERSION"), "after {round} SYNs");
            }
        }
        let grown = bench.rig.server.resident().saturating_sub(before);
        println!("{grown} bytes more after {SYNS} SYNs");
        assert!(grown < 16 << 20, "{grown} bytes more after {SYNS} SYNs");
        let counters = bench.rig.server.counters();
        let (sent, used) = (counters.total("syn_cookies_out"), counters.total("syn_cookies_in"));
        println!("{sent} cookies sent, {used} came back");
        assert!(sent > 1000 && used > 0, "{sent} cookies were sent, {used} came back: {counters:?}");
        bench.still_serves();
    }
}
