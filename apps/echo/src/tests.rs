use std::net::SocketAddr;

use mem::{MbufQueue, Pool, Room};
use proptest::prelude::*;
use units::{CoreId, FlowGroupId, Nanos};
use zygix::{ConnRef, Cx, Next, Peer, Received, Reply, SEND_CAP, SEND_MARK, Service};

use crate::{Core, Digest, Echo, Mode, chargen, pattern};

fn peer(port: u16) -> Peer {
    Peer { remote: SocketAddr::from(([198, 18, 0, 2], 4000)), local: SocketAddr::from(([198, 18, 0, 1], port)) }
}

/// Feeds `pieces`, then FIN, as a backend would; returns the reply and whether the service closed.
fn talk(echo: &Echo, port: u16, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut inward = Pool::new(Room::Received, 256, 2048).expect("pool");
    let mut outward = Pool::new(Room::Exchange, 256, 2048).expect("pool");
    let mut queue = MbufQueue::new();
    let (mut ops, mut answer, mut closed) = (Vec::new(), Vec::new(), false);
    let _ = echo.core(CoreId(0));
    let mut conn = echo.accept(&mut Core::default(), &peer(port)).expect("accepted");
    let me = ConnRef::new(abi::Handle::new(FlowGroupId(0), 0, 0));
    for step in 0..=pieces.len() {
        let fin = step == pieces.len();
        for part in pieces.get(step).unwrap_or(&&[][..]).chunks(1400) {
            let mut mbuf = inward.alloc().expect("buffer");
            mbuf.extend(part);
            queue.push_back(mbuf);
        }
        loop {
            let mut core = Core::default();
            let mut cx: Cx<'_, Echo> = Cx::new(&mut core, Nanos(1), me, &mut ops);
            let mut out = MbufQueue::new();
            let mut tx = Reply::new(&mut out, &mut outward, SEND_CAP - SEND_MARK);
            let mut rx = Received::new(&queue, fin, &mut []);
            let next = if rx.is_empty() && !fin {
                echo.writable(&mut cx, &mut conn, &mut tx)
            } else {
                echo.recv(&mut cx, &mut conn, &mut rx, &mut tx)
            };
            let (used, starved) = (rx.consumed(), tx.starved());
            queue.consume(used as u32, Some(&mut inward));
            out.iter().for_each(|part| answer.extend_from_slice(part));
            closed |= next == Next::Close;
            if closed {
                return (answer, true);
            }
            if !starved {
                break;
            }
        }
    }
    (answer, closed)
}

#[test]
fn modes_are_chosen_by_port() {
    let echo = Echo::by_port([(9, Mode::Discard), (19, Mode::Source)]);
    assert_eq!(talk(&echo, 7, &[b"hello ", b"world"]), (b"hello world".to_vec(), true));
    let mut digest = Digest::new();
    digest.update(b"hello world");
    assert_eq!(talk(&echo, 9, &[b"hello ", b"world"]), (format!("11 {:016x}\n", digest.finish()).into_bytes(), true));
    let mut wanted = vec![0; 10];
    pattern(0, &mut wanted);
    assert_eq!(talk(&echo, 19, &[b"1", b"0\r\nmore"]), (wanted, true));
    assert_eq!(talk(&echo, 19, &[b"ten\n"]), (Vec::new(), true));
}

#[test]
fn a_long_source_outlives_many_reply_windows() {
    let mut wanted = vec![0; 1_000_003];
    pattern(0, &mut wanted);
    assert_eq!(talk(&Echo::new(Mode::Source), 1, &[b"1000003\n"]), (wanted, true));
}

#[test]
fn datagrams_come_back() {
    let mut pool = Pool::new(Room::Exchange, 4, 2048).expect("pool");
    let mut out = MbufQueue::new();
    Echo::default().datagram(&mut Core::default(), &peer(7), b"ping", &mut Reply::new(&mut out, &mut pool, 1472));
    assert_eq!(out.iter().map(|m| m.to_vec()).collect::<Vec<_>>().concat(), b"ping");
}

proptest! {
    #[test]
    fn the_digest_does_not_see_the_cuts(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..300usize, flip in 0..300usize) {
        let mut whole = Digest::new();
        whole.update(&bytes);
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        let mut pieces = Digest::new();
        pieces.update(a);
        pieces.update(b);
        prop_assert_eq!(&whole, &pieces);
        if flip < bytes.len() {
            let mut other = bytes.clone();
            other[flip] ^= 1;
            let mut damaged = Digest::new();
            damaged.update(&other);
            prop_assert_ne!(whole.finish(), damaged.finish());
        }
    }

    #[test]
    fn the_pattern_can_be_made_in_pieces(offset in 0..1000u64, len in 0..100usize, cut in 0..100usize) {
        let mut whole = vec![0; len];
        pattern(offset, &mut whole);
        let mut pieces = vec![0; len];
        let (a, b) = pieces.split_at_mut(cut.min(len));
        pattern(offset, a);
        pattern(offset + a.len() as u64, b);
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn chargen_sends_lines_that_walk_through_ascii() {
    let mut lines = [0; 74 * 96];
    chargen(0, &mut lines);
    assert!(lines.starts_with(b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n!\"#"));
    assert!(lines[74 * 94..].starts_with(b"~ !\""));
    assert_eq!(lines[..74], lines[74 * 95..], "after 95 lines it begins again");
    let mut part = [0; 100];
    chargen(1000, &mut part);
    assert_eq!(part, lines[1000..1100]);
}

/// What comes back for a datagram from this port to one of these modes.
fn answer(mode: Mode, from: u16, data: &[u8]) -> Vec<u8> {
    let mut outward = Pool::new(Room::Exchange, 64, 2048).expect("pool");
    let mut out = MbufQueue::new();
    let mut tx = Reply::new(&mut out, &mut outward, SEND_CAP);
    let ends = Peer { remote: SocketAddr::from(([198, 18, 0, 2], from)), ..peer(7007) };
    Echo::new(mode).datagram(&mut Core::default(), &ends, data, &mut tx);
    out.iter().flat_map(|m| m.to_vec()).collect()
}

#[test]
fn datagrams_are_answered_by_mode_and_never_to_a_service_that_answers() {
    assert_eq!(answer(Mode::Echo, 4000, b"ping"), b"ping");
    assert_eq!(answer(Mode::Sink, 4000, b"ping"), b"");
    let characters = answer(Mode::Chargen, 4000, b"");
    assert!((1..=512).contains(&characters.len()) && characters.starts_with(b" "));
    for from in [7, 13, 17, 19, 37, 53, 123, 7007] {
        for mode in [Mode::Echo, Mode::Chargen] {
            assert_eq!(answer(mode, from, b"ping"), b"", "{from}");
        }
    }
}

#[test]
fn the_sink_says_nothing_and_closes_with_its_peer() {
    assert_eq!(talk(&Echo::new(Mode::Sink), 9, &[b"all of this", b"is thrown away"]), (Vec::new(), true));
}
