//! Buffers leave, travel and come home; their memory outlives them.

use std::sync::mpsc;
use std::thread;

use mem::{Mbuf, Pool, Room};
use proptest::prelude::*;

fn pool(count: u32) -> Pool {
    Pool::new(Room::Received, count, 256).unwrap()
}

#[test]
fn a_pool_runs_dry_and_recovers() {
    let mut pool = pool(3);
    let mut out: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((out.len(), pool.available()), (3, 0));
    drop(out.pop());
    assert_eq!(pool.available(), 1, "a dropped buffer is back");
    assert!(pool.alloc().is_some());
    out.into_iter().for_each(|mbuf| pool.free(mbuf));
    assert_eq!((pool.available(), pool.count(), pool.capacity()), (3, 3, 256));
}

#[test]
fn an_empty_pool_is_a_pool() {
    let mut pool = pool(0);
    assert!(pool.alloc().is_none());
}

#[test]
fn buffers_do_not_overlap_and_begin_on_cache_lines() {
    let mut pool = Pool::new(Room::Private, 8, 100).unwrap();
    let mut all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    for (i, mbuf) in all.iter_mut().enumerate() {
        assert_eq!((mbuf.capacity(), mbuf.as_ptr().addr() % 64), (128, 0));
        mbuf.spare_mut().fill(i as u8);
        mbuf.grow(128);
    }
    for (i, mbuf) in all.iter().enumerate() {
        assert!(mbuf.iter().all(|&byte| byte == i as u8));
    }
}

#[test]
fn a_buffer_starts_afresh() {
    let mut pool = pool(1);
    let mut mbuf = pool.alloc().unwrap();
    mbuf.reset(10);
    mbuf.extend(b"old");
    mbuf.set_tag(9);
    pool.free(mbuf);
    let mbuf = pool.alloc().unwrap();
    assert_eq!((mbuf.headroom(), mbuf.len(), mbuf.tag(), mbuf.tailroom()), (0, 0, 0, 256));
}

#[test]
fn a_buffer_freed_at_another_pool_goes_to_its_own() {
    let (mut here, mut there) = (pool(2), pool(2));
    there.free(here.alloc().unwrap());
    assert_eq!((here.available(), there.available()), (2, 2));
}

#[test]
fn buffers_return_from_other_threads() {
    const COUNT: u32 = 64;
    const ROUNDS: usize = 20_000;
    let mut pool = pool(COUNT);
    let (to_peer, from_home) = mpsc::sync_channel::<Mbuf>(COUNT as usize);
    let peers = thread::spawn(move || {
        let (to_second, from_first) = mpsc::sync_channel::<Mbuf>(8);
        let second = thread::spawn(move || from_first.into_iter().map(|mbuf| usize::from(mbuf[0])).sum::<usize>());
        let mut sum = 0;
        for (i, mbuf) in from_home.into_iter().enumerate() {
            match i % 2 {
                0 => sum += usize::from(mbuf[0]),
                _ => to_second.send(mbuf).unwrap(),
            }
        }
        drop(to_second);
        sum + second.join().unwrap()
    });
    let mut sent = 0;
    for i in 0..ROUNDS {
        let mut mbuf = loop {
            match pool.alloc() {
                Some(mbuf) => break mbuf,
                None => thread::yield_now(),
            }
        };
        mbuf.extend(&[i as u8]);
        sent += i & 0xff;
        to_peer.send(mbuf).unwrap();
    }
    drop(to_peer);
    assert_eq!(peers.join().unwrap(), sent);
    assert_eq!(pool.available(), COUNT as usize, "every buffer came home");
}

#[test]
fn a_buffer_may_outlive_its_pool() {
    let (dying, survivors) = (
        pool(8),
        thread::scope(|scope| {
            let mut pool = pool(8);
            let mut out: Vec<Mbuf> = (0..6).map(|_| pool.alloc().unwrap()).collect();
            out.iter_mut().for_each(|mbuf| _ = mbuf.extend(b"still here"));
            let racing = out.split_off(3);
            let racer = scope.spawn(move || drop(racing));
            drop(pool);
            racer.join().unwrap();
            out
        }),
    );
    drop(dying);
    assert!(survivors.iter().all(|mbuf| &mbuf[..] == b"still here"));
}

/// What `/proc/self/maps` says about the address.
fn is_mapped(addr: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        (usize::from_str_radix(from, 16).unwrap()..usize::from_str_radix(to, 16).unwrap()).contains(&addr)
    })
}

#[test]
fn memory_goes_with_the_last_of_pool_and_buffers() {
    let mut early = pool(2);
    let mbuf = early.alloc().unwrap();
    let addr = mbuf.as_ptr().addr();
    drop(early);
    assert!(is_mapped(addr), "a buffer keeps its memory");
    drop(mbuf);
    // Another test's thread may map the same address meanwhile, so a hole is looked for in several attempts.
    let mut freed = !is_mapped(addr);
    for _ in 0..20 {
        let mut pool = pool(2);
        let addr = pool.alloc().unwrap().as_ptr().addr();
        drop(pool);
        freed |= !is_mapped(addr);
    }
    assert!(freed, "the pool's memory was never given back");
}

proptest! {
    #[test]
    fn views_stay_within_the_buffer(
        headroom in 0usize..=256,
        pieces in prop::collection::vec(any::<Vec<u8>>(), 0..8),
        front: u8,
        keep: u8,
    ) {
        let mut pool = pool(1);
        let mut mbuf = pool.alloc().unwrap();
        mbuf.reset(headroom);
        let mut model = Vec::new();
        for piece in &pieces {
            let n = mbuf.extend(piece);
            prop_assert_eq!(n, piece.len().min(256 - headroom - model.len()));
            model.extend(&piece[..n]);
        }
        let front = usize::from(front).min(model.len());
        mbuf.trim_front(front);
        mbuf.truncate(usize::from(keep));
        model.drain(..front);
        model.truncate(usize::from(keep));
        prop_assert_eq!(&mbuf[..], &model[..]);
        prop_assert_eq!(mbuf.headroom() + mbuf.len() + mbuf.tailroom(), mbuf.capacity());
        prop_assert_eq!(mbuf.headroom(), headroom + front);
    }
}

#[test]
#[should_panic(expected = "grown beyond the buffer")]
fn growing_beyond_the_buffer_is_a_mistake() {
    pool(1).alloc().unwrap().grow(257);
}

#[test]
#[should_panic(expected = "trimmed more than there is")]
fn trimming_beyond_the_data_is_a_mistake() {
    pool(1).alloc().unwrap().trim_front(1);
}
