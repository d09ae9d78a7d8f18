//! The TAP against the live kernel, each test in a network namespace of its own.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use common::{End, HOST, Received, US, config, in_own_namespace, open, skipped};
use nic::{Nic, Queue, Steering};
use tap::{TapConfig, TapError, TapNic};
use units::{FLOW_GROUPS, FlowGroupId};
use wire::Seq;
use wire::tcp::{Flags, Header, Options};

/// Sends one datagram to us from each of `sockets` to each of `ports`.
fn send_flows(sockets: &[UdpSocket], ports: std::ops::Range<u16>) -> usize {
    for socket in sockets {
        for port in ports.clone() {
            socket.send_to(b"flow", (US, port)).unwrap();
        }
    }
    sockets.len() * ports.len()
}

/// Takes `count` frames from all ends; calls `check` with the queue's number and the frame.
fn take(ends: &mut [End], count: usize, mut check: impl FnMut(u16, &Received)) {
    for _ in 0..count {
        // A datagram is in its queue when send_to has returned: no waiting.
        let (queue, frame) =
            ends.iter_mut().enumerate().find_map(|(q, end)| Some((q as u16, end.poll()?))).expect("no frame was lost");
        check(queue, &frame);
    }
    assert!(ends.iter_mut().all(|end| end.poll().is_none()));
}

#[test]
fn frames_follow_the_redirection_table() {
    in_own_namespace("frames_follow_the_redirection_table", || {
        let mut nic = open(&config(2)).unwrap();
        if let Some(refusal) = nic.steering_refusal() {
            return skipped("frames_follow_the_redirection_table", refusal);
        }
        assert_eq!(nic.steering(), Steering::Hardware);
        let mut ends = End::of(&mut nic);
        let sockets: Vec<UdpSocket> = (0..16).map(|_| UdpSocket::bind((HOST, 0)).unwrap()).collect();
        // In turn as opened; all to one; a pattern; all to the other.
        let tables: [&dyn Fn(u16) -> u16; 4] = [&|g| g % 2, &|_| 1, &|g| u16::from(g % 7 < 3), &|_| 0];
        for (round, table) in tables.into_iter().enumerate() {
            if round > 0 {
                (0..FLOW_GROUPS as u16).for_each(|g| nic.set_reta(FlowGroupId(g), table(g)).unwrap());
            }
            let mut groups = [0; FLOW_GROUPS];
            let count = send_flows(&sockets, 1000..1064);
            take(&mut ends, count, |queue, frame| {
                let group = nic.flow_group(&frame.tuple);
                groups[group.index()] += 1;
                assert_eq!(queue, table(group.0), "{:?} of {group:?}", frame.tuple);
                assert_eq!(queue, nic.reta(group));
            });
            assert!(groups.iter().filter(|&&n| n > 0).count() > 100, "1024 flows reach most groups: {groups:?}");
        }
    });
}

#[test]
fn software_steering_can_be_had_on_purpose() {
    in_own_namespace("software_steering_can_be_had_on_purpose", || {
        let mut nic = open(&TapConfig { software_steering: true, ..config(2) }).unwrap();
        assert_eq!((nic.steering(), nic.steering_refusal().is_none()), (Steering::Software, true));
        let mut ends = End::of(&mut nic);
        nic.set_reta(FlowGroupId(5), 1).unwrap();
        assert_eq!(nic.reta(FlowGroupId(5)), 1);
        let sockets = [UdpSocket::bind((HOST, 0)).unwrap()];
        let count = send_flows(&sockets, 1000..1064);
        take(&mut ends, count, |_, frame| assert_eq!(frame.payload, b"flow"));
    });
}

#[test]
fn the_table_refuses_what_is_not_there() {
    in_own_namespace("the_table_refuses_what_is_not_there", || {
        let mut nic = open(&config(2)).unwrap();
        assert!(nic.set_reta(FlowGroupId(0), 2).is_err() && nic.set_reta(FlowGroupId(128), 0).is_err());
        assert_eq!((nic.queues().len(), nic.queues().len(), nic.queue_count()), (2, 0, 2));
    });
}

#[test]
fn checksums_are_partial_with_the_header_and_real_without() {
    for vnet in [true, false] {
        in_own_namespace("checksums_are_partial_with_the_header_and_real_without", || {
            let mut nic = open(&TapConfig { vnet, ..config(1) }).unwrap();
            let mut ends = End::of(&mut nic);
            let end = &mut ends[0];
            assert_eq!((nic.caps().tx_csum, nic.caps().tso, nic.caps().mtu), (vnet, vnet, 1500));
            let socket = UdpSocket::bind((HOST, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket.send_to(b"down", (US, 9)).unwrap();
            let frame = end.next();
            assert_eq!((frame.csum_ok, &frame.payload[..]), (vnet, &b"down"[..]));
            let port = socket.local_addr().unwrap().port();
            end.send_udp(9, port, b"damaged", 0x0100);
            end.send_udp(9, port, b"sound", 0);
            let mut buffer = [0; 64];
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"sound", "Linux drops the damaged one");
        });
    }
}

/// A TCP connection of ours to `listener`, made by hand: sequence numbers after the handshake, and Linux's window shift.
fn handshake(end: &mut End, port: u16) -> (Header, u8) {
    let options = Options { mss: Some(1460), wscale: Some(7), ..Options::NONE };
    let mut header = Header {
        src_port: 4000,
        dst_port: port,
        seq: Seq(u32::MAX - 5000), // wraps soon
        ack: Seq(0),
        flags: Flags::SYN,
        window: u16::MAX,
        urgent: 0,
        options,
        header_len: 20,
    };
    end.send_tcp(&header, &[], 1460);
    let syn_ack = loop {
        if let Some(tcp) = end.next().tcp {
            break tcp;
        }
    };
    assert!(syn_ack.flags.contains(Flags::SYN | Flags::ACK) && syn_ack.ack == header.seq + 1);
    header.seq += 1;
    header.ack = syn_ack.seq + 1;
    header.flags = Flags::ACK;
    header.options = Options::NONE;
    end.send_tcp(&header, &[], 1460);
    (header, syn_ack.options.wscale.unwrap_or(0))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 509) as u8).collect()
}

#[test]
fn super_frames_pass_in_both_directions() {
    in_own_namespace("super_frames_pass_in_both_directions", || {
        const LEN: usize = 1_000_000;
        let mut nic = open(&config(1)).unwrap();
        let mut ends = End::of(&mut nic);
        let end = &mut ends[0];
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Linux's side: sends LEN bytes, then reads LEN bytes.
        let linux = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&pattern(LEN)).unwrap();
            let mut got = vec![0; LEN];
            stream.read_exact(&mut got).unwrap();
            got
        });
        let (mut ours, shift) = handshake(end, port);

        let (mut got, mut largest) = (Vec::new(), 0);
        while got.len() < LEN {
            let frame = end.next();
            let Some(tcp) = frame.tcp else { continue };
            assert!(frame.csum_ok);
            if tcp.seq == ours.ack {
                largest = largest.max(frame.len);
                ours.ack += frame.payload.len() as u32;
                got.extend(frame.payload);
            }
            end.send_tcp(&ours, &[], 1460);
        }
        assert!(got == pattern(LEN), "the bytes are Linux's");
        assert!(largest > 3000, "no super-frame came, the largest had {largest} bytes");

        let data = pattern(LEN);
        let (start, mut acked, mut window) = (ours.seq, 0, 60_000);
        while acked < LEN {
            let mut sent = acked;
            while sent < LEN && sent - acked < window {
                let n = (20 * 1460).min(LEN - sent).min(window - (sent - acked));
                end.send_tcp(&Header { seq: start + sent as u32, ..ours }, &data[sent..sent + n], 1460);
                sent += n;
            }
            while acked < sent {
                let Some(tcp) = end.next().tcp else { continue };
                acked = acked.max(tcp.ack.since(start) as usize);
                window = (usize::from(tcp.window) << shift).max(1460);
            }
        }
        assert!(linux.join().unwrap() == data, "the bytes are ours");
        let counters = end.queue.counters();
        assert!(counters.tx_errors == 0 && counters.rx_invalid == 0, "{counters:?}");
    });
}

#[test]
fn a_name_that_is_taken_is_refused_with_a_reason() {
    in_own_namespace("a_name_that_is_taken_is_refused_with_a_reason", || {
        let nic = open(&config(2)).unwrap();
        let busy = TapNic::open(&config(2)).unwrap_err();
        assert!(matches!(busy, TapError::Busy { queues: 2, .. }), "{busy}");
        drop(nic);
        assert!(!sys::link::exists("zxtest0"), "it goes with its last queue");
        sys::link::add_veth("zxtest0", "zxtest1", sys::link::Place::Here).unwrap();
        let other = TapNic::open(&config(2)).unwrap_err();
        assert!(matches!(&other, TapError::OtherKind { kind, .. } if kind == "veth"), "{other}");
        let bad = TapNic::open(&TapConfig::new("no/name", 1)).unwrap_err();
        assert!(bad.to_string().contains("15 characters"), "{bad}");
        assert!(matches!(TapNic::open(&TapConfig::new("x", 0)), Err(TapError::Queues(0))));
        assert!(matches!(TapNic::open(&TapConfig { mtu: 20, ..config(1) }), Err(TapError::Mtu(20))));
    });
}
