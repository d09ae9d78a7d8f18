//! Super-frames over the wire: whole, in order, only where both sides want them, and bounded whatever the peer says of their length.

mod common;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;

use common::{Place, pools, receive, send, udp};
use mem::{Pool, Room};
use nic::{Nic, Queue, RxFrame, RxPools, TxFrame, TxFull};
use proptest::prelude::*;
use shm::{Config, FRAME_MAX, LARGE_RING, Listener, SUPER_MAX, ShmQueue};
use sys::unix::recv_fds;

const SPILL: u32 = 64 * 1024 + 64;

fn large(ring: u32) -> Config {
    Config { ring, large: true, ..Config::default() }
}

fn wire(left: &Config, right: &Config) -> (ShmQueue, ShmQueue) {
    let (mut left, mut right) = shm::pair(left, right).unwrap();
    (left.queues().remove(0), right.queues().remove(0))
}

/// Buffers of a receiver, so many of each kind.
fn with_spills(mbufs: u32, spills: u32) -> RxPools {
    RxPools { spills: Pool::new(Room::Received, spills, SPILL).unwrap(), ..pools(mbufs, 2048) }
}

/// A frame of `len` bytes, no two of them alike nearby.
fn body(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i) as u8 ^ seed).collect()
}

fn whole(frame: &RxFrame) -> Vec<u8> {
    frame.rest.iter().fold(frame.head.to_vec(), |mut all, piece| {
        all.extend_from_slice(piece);
        all
    })
}

#[test]
fn any_length_arrives_whole_in_both_directions() {
    let (mut left, mut right) = wire(&large(LARGE_RING), &large(LARGE_RING));
    assert!(left.caps().tso && left.caps().large_rx && right.caps().tso && right.caps().large_rx);
    let mut pools = with_spills(64, 2);
    // The ring wraps at other places each time.
    for len in [1, FRAME_MAX, FRAME_MAX + 1, 2 * FRAME_MAX, 10_000, 40_001, 65_535, SUPER_MAX, SUPER_MAX - 1] {
        let frame = body(len, 7);
        for back in [false, true] {
            let (from, to) = if back { (&mut right, &mut left) } else { (&mut left, &mut right) };
            let (head, rest) = frame.split_at(len.min(66));
            let pieces: Vec<IoSlice<'_>> = rest.chunks(1999).map(IoSlice::new).collect();
            from.tx(&TxFrame { head, payload: &pieces, csum: None, gso: None }).unwrap();
            from.flush();
            let frames = receive(to, &mut pools, 4);
            assert_eq!((frames.len(), whole(&frames[0]) == frame), (1, true), "{len} bytes");
        }
    }
    assert_eq!(send(&mut left, &body(SUPER_MAX + 1, 0)), Ok(()), "dropped");
    let counted = left.counters();
    assert_eq!((counted.tx_errors, counted.tx_frames, counted.rx_frames, counted.rx_invalid), (1, 9, 9, 0));
    assert_eq!(counted.tx_bytes, counted.rx_bytes);
}

#[test]
fn they_take_two_that_want_them_and_a_ring_that_holds_them() {
    let small = Config::default();
    for (left, right) in [(large(512), small.clone()), (small.clone(), large(512)), (large(32), large(32))] {
        let (mut left, mut right) = wire(&left, &right);
        assert!(!left.caps().tso && !left.caps().large_rx && !right.caps().tso && !right.caps().large_rx);
        assert_eq!(send(&mut left, &body(FRAME_MAX + 1, 0)), Ok(()));
        left.flush();
        assert_eq!((left.counters().tx_errors, receive(&mut right, &mut pools(4, 2048), 4).len()), (1, 0));
    }
}

#[test]
fn processes_agree_on_them() {
    for (mine, theirs) in [(true, true), (true, false), (false, true)] {
        let place = Place::new();
        let listener = Listener::bind(&place.0, &Config { large: mine, ..Config::default() }).unwrap();
        let (here, there) = thread::scope(|scope| {
            // The ring is the listener's: what the other says of one does not count.
            let config = Config { large: theirs, ring: 2, ..Config::default() };
            let there = scope.spawn(|| shm::ShmNic::connect(&place.0, &{ config }).unwrap());
            (listener.accept().unwrap(), there.join().unwrap())
        });
        let both = mine && theirs;
        assert_eq!([here.caps().tso, here.caps().large_rx, there.caps().tso, there.caps().large_rx], [both; 4]);
    }
}

#[test]
fn without_spill_buffers_ordinary_ones_do_and_without_those_the_frame_waits() {
    let (mut left, mut right) = wire(&large(256), &large(256));
    let frame = body(60_000, 3);
    for _ in 0..3 {
        send(&mut left, &frame).unwrap();
    }
    left.flush();
    let mut pools = with_spills(32, 1);
    let held = receive(&mut right, &mut pools, 8);
    assert_eq!(held.iter().map(|frame| frame.rest.len()).collect::<Vec<_>>(), [1, 29], "a spill buffer, then many");
    assert_eq!((right.counters().rx_nombuf, pools.mbufs.available(), pools.spills.available()), (1, 1, 0));
    assert!(held.iter().all(|got| whole(got) == frame));
    drop(held);
    assert_eq!(receive(&mut right, &mut pools, 8).iter().map(whole).collect::<Vec<_>>(), [frame]);
    assert_eq!((pools.mbufs.available(), pools.spills.available()), (32, 1));
}

#[test]
fn room_is_asked_for_before_one_is_made() {
    let (mut left, mut right) = wire(&large(LARGE_RING), &large(LARGE_RING));
    let mut pools = with_spills(64, 4);
    assert!(left.has_room());
    send(&mut left, &body(SUPER_MAX, 1)).unwrap();
    assert!(!left.has_room(), "31 slots are left");
    assert_eq!(send(&mut left, &body(SUPER_MAX, 2)), Err(TxFull));
    send(&mut left, &body(31 * FRAME_MAX, 3)).unwrap();
    assert_eq!(send(&mut left, &udp(1, b"")), Err(TxFull));
    assert_eq!(receive(&mut right, &mut pools, 1).len(), 1, "nobody has to ring for super-frames to be seen");
    assert!(left.has_room());
    assert_eq!(receive(&mut right, &mut pools, 1).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_ring_of_all_sizes_behaves_like_a_bounded_deque(
        script in prop::collection::vec(
            (prop_oneof![1..200usize, FRAME_MAX - 2..FRAME_MAX + 3, 1..SUPER_MAX + 1], any::<u8>(), 0..4usize), 1..60,
        ),
    ) {
        let (mut left, mut right) = wire(&large(LARGE_RING), &large(LARGE_RING));
        let mut pools = with_spills(128, 4);
        let (mut under_way, mut free) = (VecDeque::new(), LARGE_RING as usize);
        for (len, seed, max) in script {
            let (frame, slots) = (body(len, seed), len.div_ceil(FRAME_MAX));
            prop_assert_eq!(send(&mut left, &frame).is_ok(), slots <= free);
            if slots <= free {
                free -= slots;
                under_way.push_back(frame);
            }
            left.flush();
            let frames = receive(&mut right, &mut pools, max);
            prop_assert_eq!(frames.len(), max.min(under_way.len()));
            for frame in frames {
                let sent = under_way.pop_front().unwrap();
                free += sent.len().div_ceil(FRAME_MAX);
                prop_assert!(whole(&frame) == sent, "{} bytes", sent.len());
            }
        }
    }
}

/// A peer that joins as it should, wants super-frames, and then lies about how long its frames are.
struct Liar {
    file: File,
    victim: ShmQueue,
    /// Where the ring to the victim begins: after the ports, and the victim's own ring.
    ring: u64,
    shown: u32,
}

impl Liar {
    const RING: u32 = 64;

    fn join() -> Liar {
        let place = Place::new();
        let listener = Listener::bind(&place.0, &large(Liar::RING)).unwrap();
        let here = thread::spawn(|| listener.accept().unwrap());
        let mut stream = UnixStream::connect(&place.0).unwrap();
        let mut greeting = b"zygixshm".to_vec();
        for word in [2, 1 | 2 << 16, Liar::RING, 0] {
            greeting.extend(u32::to_le_bytes(word));
        }
        stream.write_all(&greeting).unwrap();
        let (_, fds) = recv_fds(&stream, &mut [0; 24]).unwrap();
        let file = File::from(fds.into_iter().next().unwrap());
        let victim = here.join().unwrap().queues().remove(0);
        // Both rings are equally long, and the second ends the file.
        let bytes = (256 + u64::from(Liar::RING) * (8 + 33 * 64)).next_multiple_of(128);
        let ring = file.metadata().unwrap().len() - bytes;
        Liar { file, victim, ring, shown: 0 }
    }

    /// Shows `slots` more slots, of which the first is said to hold `len` bytes, and what the victim makes of it.
    fn show(&mut self, len: u64, slots: u32, pools: &mut RxPools) -> Vec<RxFrame> {
        let first = u64::from(self.shown % Liar::RING);
        for slot in 0..u64::from(slots) {
            let word = if slot == 0 { 0xffff << 32 | len } else { 0 };
            let at = self.ring + 256 + (first + slot) % u64::from(Liar::RING) * 8;
            self.file.write_all_at(&u64::to_le_bytes(word), at).unwrap();
        }
        self.shown += slots;
        self.file.write_all_at(&self.shown.to_le_bytes(), self.ring).unwrap();
        receive(&mut self.victim, pools, 128)
    }
}

#[test]
fn lengths_that_cannot_be_are_counted_and_cost_the_liar_its_slots() {
    let mut liar = Liar::join();
    assert!(liar.victim.caps().large_rx);
    let mut pools = with_spills(64, 2);
    let (longest, slot) = (SUPER_MAX as u64, FRAME_MAX as u64);
    // What is said, how many slots are shown; then how many frames are taken, and how many slots are nonsense.
    for (len, slots, frames, nonsense) in [
        (60, 1, 1, 0),
        (longest, 33, 1, 0),
        (longest + 1, 1, 0, 1),
        (u64::from(u32::MAX), 1, 0, 1),
        (0, 1, 0, 1),
        (slot + 1, 2, 1, 0),
        (slot + 1, 1, 0, 1),
        (longest, 32, 0, 32),
        (longest, 1, 0, 1),
        (1 << 48 | 60, 1, 0, 1),
        (slot, 1, 1, 0),
        (slot, 3, 1, 2),
    ] {
        let before = liar.victim.counters();
        let taken = liar.show(len, slots, &mut pools);
        let after = liar.victim.counters();
        let bytes: usize = taken.iter().map(|frame| frame.head.len() + frame.rest.bytes() as usize).sum();
        assert_eq!(
            (taken.len(), bytes as u64),
            (frames, if frames == 0 { 0 } else { len }),
            "{len} B in {slots} slots"
        );
        assert_eq!(after.rx_invalid - before.rx_invalid, nonsense, "{len} B in {slots} slots");
    }
    assert_eq!((pools.mbufs.available(), pools.spills.available()), (64, 2), "no buffer is lost");
}
