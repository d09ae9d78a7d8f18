//! A wire within one process: what goes in comes out, in order, at the queue that the table names.

mod common;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::thread;

use common::{flow, pools, receive, send, udp};
use nic::{Nic, Queue, Steering, TxFrame, TxFull};
use proptest::prelude::*;
use shm::{Config, FRAME_MAX, ShmNic, ShmQueue};
use units::{FLOW_GROUPS, FlowGroupId, Nanos};

fn pair(left: u16, right: u16, ring: u32) -> (ShmNic, ShmNic) {
    let config = |queues| Config { queues, ring, ..Config::default() };
    shm::pair(&config(left), &config(right)).unwrap()
}

fn one_queue_each(ring: u32) -> (ShmQueue, ShmQueue) {
    let (mut left, mut right) = pair(1, 1, ring);
    (left.queues().remove(0), right.queues().remove(0))
}

#[test]
fn a_frame_arrives_as_it_was_gathered() {
    let (mut left, mut right) = one_queue_each(8);
    let mut pools = pools(8, 2048);
    let head = udp(7, b"");
    let pieces = [IoSlice::new(b"gath"), IoSlice::new(b""), IoSlice::new(b"ered")];
    left.tx(&TxFrame { head: &head, payload: &pieces, csum: None, gso: None }).unwrap();
    assert!(receive(&mut right, &mut pools, 8).is_empty(), "nothing arrives before the doorbell");
    left.flush();
    let frames = receive(&mut right, &mut pools, 8);
    assert_eq!((frames.len(), &frames[0].head[..]), (1, &udp(7, b"gathered")[..]));
    assert!(frames[0].rest.is_empty() && !frames[0].csum_ok);
    let (sent, received) = (left.counters(), right.counters());
    assert_eq!((sent.tx_frames, sent.tx_bytes, sent.tx_syscalls), (1, 50, 0));
    assert_eq!((received.rx_frames, received.rx_bytes, received.rx_syscalls), (1, 50, 0));
}

#[test]
fn the_sizes_at_the_edges() {
    let (mut left, mut right) = one_queue_each(8);
    let mut pools = pools(8, 2048);
    for len in [0, 1, FRAME_MAX, FRAME_MAX + 1] {
        assert_eq!(send(&mut left, &vec![len as u8; len]), Ok(()));
    }
    left.flush();
    let lens: Vec<_> = receive(&mut right, &mut pools, 8).iter().map(|frame| frame.head.len()).collect();
    assert_eq!(lens, [1, FRAME_MAX]);
    assert_eq!(left.counters().tx_errors, 2, "a frame of no or too many bytes is dropped and counted");
}

#[test]
fn every_flow_comes_to_the_queue_of_its_group() {
    let (mut left, mut right) = pair(3, 4, 128);
    let (mut senders, mut receivers) = (left.queues(), right.queues());
    assert_eq!((senders.len(), receivers.len(), right.queues().len()), (3, 4, 0));
    assert_eq!(right.steering(), Steering::Hardware);
    let mut pools = pools(512, 2048);
    let mut reta: Vec<u16> = (0..FLOW_GROUPS as u16).map(|group| group % 4).collect();
    for round in 0..3 {
        for port in 0..100 {
            send(&mut senders[usize::from(port) % 3], &udp(port, b"x")).unwrap();
        }
        senders.iter_mut().for_each(|queue| queue.flush());
        let mut seen = 0;
        for (index, queue) in receivers.iter_mut().enumerate() {
            for frame in receive(queue, &mut pools, 200) {
                let tuple = flow(u16::from_be_bytes([frame.head[34], frame.head[35]]));
                let group = right.flow_group(&tuple);
                assert_eq!(frame.group, Some(group));
                assert_eq!(usize::from(reta[group.index()]), index, "{tuple:?} of {group:?} in round {round}");
                seen += 1;
            }
        }
        assert_eq!(seen, 100);
        for (group, queue) in reta.iter_mut().enumerate() {
            *queue = (group as u16 / 7 + round) % 4;
            right.set_reta(FlowGroupId(group as u16), *queue).unwrap();
        }
    }
}

#[test]
fn frames_without_ports_come_to_queue_0() {
    let (mut left, mut right) = pair(2, 3, 8);
    let (mut senders, mut receivers) = (left.queues(), right.queues());
    let mut pools = pools(8, 2048);
    let mut arp = vec![0xff; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut fragment = udp(3, b"first");
    fragment[20] = 0x20;
    let all = [arp, fragment, vec![1, 2, 3]];
    for frame in &all {
        send(&mut senders[1], frame).unwrap();
    }
    senders[1].flush();
    let frames = receive(&mut receivers[0], &mut pools, 8);
    assert!(frames.iter().map(|frame| &frame.head[..]).eq(all.iter().map(|frame| &frame[..])));
    assert!(frames.iter().all(|frame| frame.group.is_none()));
}

#[test]
fn a_full_ring_refuses_and_loses_nothing() {
    let (mut left, mut right) = one_queue_each(4);
    let mut pools = pools(16, 2048);
    for port in 0..4 {
        send(&mut left, &udp(port, b"")).unwrap();
    }
    assert_eq!(send(&mut left, &udp(4, b"")), Err(TxFull));
    left.flush();
    assert_eq!(send(&mut left, &udp(4, b"")), Err(TxFull), "the receiver has not looked yet");
    assert_eq!(receive(&mut right, &mut pools, 3).len(), 3);
    for port in 4..7 {
        send(&mut left, &udp(port, b"")).unwrap();
    }
    left.flush();
    let ports: Vec<_> = receive(&mut right, &mut pools, 16).iter().map(|frame| frame.head[35]).collect();
    assert_eq!(ports, [3, 4, 5, 6]);
    assert_eq!((left.counters().tx_full, left.counters().tx_frames), (2, 7));
}

#[test]
fn without_buffers_frames_wait_in_the_ring() {
    let (mut left, mut right) = one_queue_each(8);
    let mut pools = pools(2, 2048);
    for port in 0..3 {
        send(&mut left, &udp(port, b"")).unwrap();
    }
    left.flush();
    let held = receive(&mut right, &mut pools, 8);
    assert_eq!((held.len(), right.counters().rx_nombuf), (2, 1));
    drop(held);
    assert_eq!(receive(&mut right, &mut pools, 8)[0].head[35], 2);
}

#[test]
fn a_frame_beyond_the_buffers_is_dropped_and_counted() {
    let (mut left, mut right) = one_queue_each(8);
    let mut pools = pools(2, 64);
    send(&mut left, &[1; 65]).unwrap();
    send(&mut left, &[2; 64]).unwrap();
    left.flush();
    let frames = receive(&mut right, &mut pools, 8);
    assert_eq!((frames.len(), frames[0].head[0], right.counters().rx_truncated), (1, 2, 1));
    drop(frames);
    assert_eq!(pools.mbufs.available(), 2);
}

#[test]
fn the_burst_stays_within_the_vector() {
    let (mut left, mut right) = one_queue_each(8);
    let mut pools = pools(8, 2048);
    for port in 0..5 {
        send(&mut left, &udp(port, b"")).unwrap();
    }
    left.flush();
    let mut out = Vec::with_capacity(3);
    let capacity = out.capacity();
    assert_eq!(right.rx_burst(&mut pools, 64, &mut out), capacity.min(5));
    assert_eq!(right.rx_burst(&mut pools, 64, &mut out), 0);
    assert_eq!(out.capacity(), capacity);
}

#[test]
fn checksums_are_left_out_only_if_both_sides_trust() {
    let config = |trusted| Config { trusted, ..Config::default() };
    for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut a, mut b) = shm::pair(&config(left), &config(right)).unwrap();
        let (mut sender, mut receiver) = (a.queues().remove(0), b.queues().remove(0));
        send(&mut sender, &udp(1, b"")).unwrap();
        sender.flush();
        let mut pools = pools(1, 2048);
        let frames = receive(&mut receiver, &mut pools, 1);
        let both = left && right;
        assert_eq!((sender.caps().tx_csum, receiver.caps().rx_csum, frames[0].csum_ok), (both, both, both));
    }
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    for (queues, ring) in [(0, 8), (17, 8), (1, 0), (1, 1), (1, 6), (1, 1 << 17)] {
        let text =
            shm::pair(&Config { queues, ring, ..Config::default() }, &Config::default()).unwrap_err().to_string();
        assert!(text.contains("use "), "{text}");
    }
    let (left, _) = pair(2, 1, 8);
    assert!(left.set_reta(FlowGroupId(0), 2).is_err() && left.set_reta(FlowGroupId(128), 0).is_err());
}

#[derive(Clone, Debug)]
enum Op {
    Send(Vec<u8>),
    Flush,
    Receive(usize),
}

proptest! {
    #[test]
    fn a_ring_behaves_like_a_bounded_deque(
        script in prop::collection::vec(prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..100).prop_map(Op::Send),
            1 => Just(Op::Flush),
            2 => (1..6usize).prop_map(Op::Receive),
        ], 0..200),
    ) {
        let (mut left, mut right) = one_queue_each(4);
        let mut pools = pools(8, 2048);
        let (mut placed, mut flushed, mut returned) = (VecDeque::new(), VecDeque::new(), 4);
        for op in script {
            match op {
                Op::Send(frame) => {
                    let room = returned > 0;
                    prop_assert_eq!(send(&mut left, &frame).is_ok(), room);
                    if room {
                        returned -= 1;
                        placed.push_back(frame);
                    }
                }
                Op::Flush => {
                    left.flush();
                    flushed.append(&mut placed);
                }
                Op::Receive(max) => {
                    let frames = receive(&mut right, &mut pools, max);
                    let expected: Vec<_> = flushed.drain(..max.min(flushed.len())).collect();
                    let arrived = frames.iter().map(|frame| &frame.head[..]);
                    prop_assert!(arrived.eq(expected.iter().map(|frame| &frame[..])));
                    returned += expected.len();
                }
            }
        }
    }
}

/// Two senders, two receivers, rings so small that they wrap all the time, receivers that sleep whenever nothing is
/// there.
#[test]
fn threads_keep_the_order_of_every_flow_and_wake_each_other() {
    const FLOWS: u16 = 32;
    const EACH: u32 = 3_000;
    let (mut left, mut right) = pair(2, 2, 8);
    let (senders, receivers) = (left.queues(), right.queues());
    thread::scope(|scope| {
        for (index, mut queue) in senders.into_iter().enumerate() {
            scope.spawn(move || {
                for number in 0..EACH {
                    for port in (0..FLOWS).filter(|port| usize::from(*port) % 2 == index) {
                        let frame = udp(port, &number.to_be_bytes());
                        while send(&mut queue, &frame).is_err() {
                            queue.flush();
                            thread::yield_now();
                        }
                    }
                    if number % 3 == 0 {
                        queue.flush();
                    }
                }
                queue.flush();
            });
        }
        let right = &right;
        for (index, mut queue) in receivers.into_iter().enumerate() {
            scope.spawn(move || {
                let mine = |port: &u16| usize::from(right.flow_group(&flow(*port)).0) % 2 == index;
                let (mut next, mut left) = ([0; FLOWS as usize], (0..FLOWS).filter(mine).count() as u32 * EACH);
                let mut pools = pools(64, 256);
                while left > 0 {
                    let frames = receive(&mut queue, &mut pools, 16);
                    for frame in &frames {
                        let port = usize::from(frame.head[35]);
                        assert_eq!(frame.head[42..], u32::to_be_bytes(next[port]), "flow {port}");
                        next[port] += 1;
                        left -= 1;
                    }
                    if frames.is_empty() && queue.before_sleep() {
                        sys::wait::readable(&[queue.wait_fd().unwrap()], Nanos::MAX).unwrap();
                        queue.after_sleep();
                    }
                }
                assert_eq!(queue.counters().rx_invalid, 0);
            });
        }
    });
}

#[test]
fn the_bell_rings_for_sleepers_only() {
    let (mut left, mut right) = one_queue_each(8);
    let mut pools = pools(8, 2048);
    let readable = |queue: &ShmQueue| sys::wait::readable(&[queue.wait_fd().unwrap()], Nanos::ZERO).unwrap() == 1;
    let say = |queue: &mut ShmQueue| {
        send(queue, &udp(1, b"")).unwrap();
        queue.flush();
    };
    say(&mut left);
    assert!(!readable(&right) && !right.before_sleep(), "a frame waits: no sleep");
    receive(&mut right, &mut pools, 8);
    say(&mut left);
    assert!(!readable(&right), "a refused sleep leaves the bell silent");
    receive(&mut right, &mut pools, 8);
    assert!(right.before_sleep());
    say(&mut left);
    say(&mut left);
    assert!(readable(&right));
    right.after_sleep();
    assert!(!readable(&right));
    assert_eq!(left.counters().tx_syscalls, 1, "one ring per sleep");
}
