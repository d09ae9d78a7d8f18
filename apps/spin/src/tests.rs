use std::net::SocketAddr;

use mem::{MbufQueue, Pool, Room};
use proptest::prelude::*;
use units::{CoreId, FlowGroupId, Nanos};
use zygix::{ConnRef, Cx, Next, Peer, Received, Reply, SEND_CAP, SEND_MARK, Service as _};

use crate::Service;
use crate::wire::{self, HEADER, REQUEST_MAX, Request, TIME_MAX};

fn peer() -> Peer {
    Peer { remote: SocketAddr::from(([198, 18, 0, 2], 4000)), local: SocketAddr::from(([198, 18, 0, 1], 7)) }
}

fn request(id: u32, length: u32, time: Nanos) -> Vec<u8> {
    let mut bytes = Request { length, id, time }.encode().to_vec();
    bytes.resize(length.max(HEADER as u32) as usize, b'p');
    bytes
}

/// Feeds `pieces`, then FIN if asked for, as a backend would; returns the replies and how it ended.
fn talk(pieces: &[&[u8]], fin: bool) -> (Vec<wire::Reply>, Next) {
    let mut inward = Pool::new(Room::Received, 512, 2048).expect("pool");
    let mut outward = Pool::new(Room::Exchange, 64, 2048).expect("pool");
    let (mut queue, mut ops, mut answer) = (MbufQueue::new(), Vec::new(), Vec::new());
    let mut conn = Service::default().accept(&mut (), &peer()).expect("accepted");
    let me = ConnRef::new(abi::Handle::new(FlowGroupId(0), 0, 0));
    let mut last = Next::Read;
    for step in 0..pieces.len() + usize::from(fin) {
        let fin = step == pieces.len();
        for part in pieces.get(step).unwrap_or(&&[][..]).chunks(1400) {
            let mut mbuf = inward.alloc().expect("buffer");
            mbuf.extend(part);
            queue.push_back(mbuf);
        }
        loop {
            Service::default().core(CoreId(0));
            let mut core = ();
            let mut cx: Cx<'_, Service> = Cx::new(&mut core, Nanos(1), me, &mut ops);
            let mut out = MbufQueue::new();
            let mut tx = Reply::new(&mut out, &mut outward, SEND_CAP - SEND_MARK);
            let mut rx = Received::new(&queue, fin, &mut []);
            last = if rx.is_empty() && !fin {
                Service::default().writable(&mut cx, &mut conn, &mut tx)
            } else {
                Service::default().recv(&mut cx, &mut conn, &mut rx, &mut tx)
            };
            let (used, starved) = (rx.consumed(), tx.starved());
            queue.consume(used as u32, Some(&mut inward));
            if last == Next::Abort {
                return (replies(&answer), last);
            }
            out.iter().for_each(|part| answer.extend_from_slice(part));
            if last == Next::Close {
                return (replies(&answer), last);
            }
            if !starved {
                break;
            }
        }
    }
    (replies(&answer), last)
}

fn replies(bytes: &[u8]) -> Vec<wire::Reply> {
    let (whole, rest) = bytes.as_chunks::<HEADER>();
    assert!(rest.is_empty(), "a reply is {HEADER} bytes");
    whole.iter().map(|reply| wire::Reply::decode(reply).expect("a reply")).collect()
}

fn ids(replies: &[wire::Reply]) -> Vec<u32> {
    replies.iter().map(|reply| reply.id).collect()
}

#[test]
fn at_least_the_time_asked_for_is_spent() {
    let begun = sys::clock::now();
    let (replies, _) = talk(&[&request(3, 16, Nanos::from_micros(300))], false);
    let passed = sys::clock::now().0 - begun.0;
    assert_eq!(ids(&replies), [3]);
    assert!(replies[0].spent >= Nanos::from_micros(300), "{:?}", replies[0].spent);
    assert!(replies[0].spent.0 <= passed, "it claims more than has passed");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let all: Vec<u8> = (0..5).flat_map(|id| request(id, 16 + id * 1000, Nanos(u64::from(5 - id) * 1000))).collect();
    let (replies, end) = talk(&[&all], true);
    assert_eq!(ids(&replies), [0, 1, 2, 3, 4]);
    assert!(replies.iter().zip(0..).all(|(reply, id)| reply.spent.0 >= (5 - id) * 1000));
    assert_eq!(end, Next::Close);
}

#[test]
fn more_requests_than_replies_have_room() {
    let n = ((SEND_CAP - SEND_MARK) / HEADER) as u32 * 2 + 100;
    let all: Vec<u8> = (0..n).flat_map(|id| request(id, 16, Nanos::ZERO)).collect();
    let (replies, end) = talk(&[&all], true);
    assert!(ids(&replies).into_iter().eq(0..n));
    assert_eq!(end, Next::Close);
}

#[test]
fn the_last_request_waits_for_room_without_more_bytes_to_come() {
    // One more than there is room for, and its padding: nothing is left to receive when the room runs out.
    let n = ((SEND_CAP - SEND_MARK) / HEADER) as u32;
    let all: Vec<u8> = (0..=n).flat_map(|id| request(id, 20, Nanos::ZERO)).collect();
    let (replies, end) = talk(&[&all], false);
    assert!(ids(&replies).into_iter().eq(0..=n));
    assert_eq!(end, Next::Read);
}

#[test]
fn the_longest_request_is_served() {
    let (replies, _) = talk(&[&request(1, REQUEST_MAX, Nanos::ZERO), &request(2, 16, Nanos::ZERO)], false);
    assert_eq!(ids(&replies), [1, 2]);
}

#[test]
fn a_request_that_is_cut_short_is_waited_for() {
    let whole = request(1, 40, Nanos::ZERO);
    assert_eq!(talk(&[&whole[..10]], false), (Vec::new(), Next::AtLeast(HEADER)));
    assert_eq!(talk(&[&whole[..20]], false), (Vec::new(), Next::AtLeast(20)));
    assert_eq!(talk(&[&whole[..10]], true), (Vec::new(), Next::Close));
    assert_eq!(talk(&[&whole[..20]], true), (Vec::new(), Next::Close));
}

#[test]
fn hostile_requests_abort_the_connection() {
    for (length, time) in [
        (0, Nanos::ZERO),
        (15, Nanos::ZERO),
        (REQUEST_MAX + 1, Nanos::ZERO),
        (u32::MAX, Nanos::ZERO),
        (16, TIME_MAX + Nanos(1)),
        (16, Nanos(u64::MAX)),
    ] {
        let header = Request { length, id: 1, time }.encode();
        assert_eq!(talk(&[&header], false), (Vec::new(), Next::Abort), "{length} bytes, {time:?}");
    }
    assert_eq!(talk(&[b"GET / HTTP/1.1\r\n\r\n"], false).1, Next::Abort);
}

#[test]
fn a_datagram_is_one_request() {
    let send = |data: &[u8], room| {
        let mut pool = Pool::new(Room::Exchange, 4, 2048).expect("pool");
        let mut out = MbufQueue::new();
        Service::default().datagram(&mut (), &peer(), data, &mut Reply::new(&mut out, &mut pool, room));
        replies(&out.iter().map(|m| m.to_vec()).collect::<Vec<_>>().concat())
    };
    let good = request(9, 100, Nanos::from_micros(20));
    let answer = send(&good, 1472);
    assert_eq!(ids(&answer), [9]);
    assert!(answer[0].spent >= Nanos::from_micros(20));
    assert!(send(&good, 15).is_empty(), "half a reply");
    assert!(send(&good[..99], 1472).is_empty(), "cut short");
    assert!(send(&[&good[..], b"x"].concat(), 1472).is_empty(), "too long");
    assert!(send(&good[..15], 1472).is_empty(), "no header");
    assert!(send(&request(9, 16, TIME_MAX + Nanos(1)), 1472).is_empty(), "too much time");
}

proptest! {
    #[test]
    fn cuts_do_not_show(lengths in prop::collection::vec(16..4000u32, 1..6), cuts in prop::collection::vec(0.0..1.0f64, 0..6)) {
        let all: Vec<u8> =
            lengths.iter().zip(0..).flat_map(|(length, id)| request(id, *length, Nanos::ZERO)).collect();
        let mut at: Vec<usize> = cuts.iter().map(|cut| (cut * all.len() as f64) as usize).collect();
        at.extend([0, all.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|ends| &all[ends[0]..ends[1]]).collect();
        let (replies, end) = talk(&pieces, true);
        prop_assert_eq!(end, Next::Close);
        prop_assert!(ids(&replies).into_iter().eq(0..lengths.len() as u32));
    }

    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), small: bool) {
        // Plausible headers get further than random ones.
        if small {
            bytes.iter_mut().skip(1).for_each(|byte| *byte = 0);
        }
        let (_, end) = talk(&[&bytes], true);
        prop_assert!(matches!(end, Next::Close | Next::Abort));
    }
}
