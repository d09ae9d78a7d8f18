//! What a buffer costs: `cargo run --release -p mem --example pool_cost`. Nanoseconds each, best of several runs.

use std::hint::black_box;
use std::time::Instant;

use mem::{Mbuf, MbufQueue, Pool, Room};

const ROUNDS: u32 = 20_000;
const BATCH: u32 = 64;

fn measure(name: &str, mut batch: impl FnMut()) {
    let mut run = || {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| batch());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS * BATCH)
    };
    let best = (0..7).map(|_| run()).fold(f64::INFINITY, f64::min);
    println!("{name:<44} {best:6.2} ns");
}

fn main() {
    let mut pool = Pool::new(Room::Private, 4096, 2048).expect("memory for buffers");
    println!("{:?} pages", pool.backing());
    let mut held: Vec<Mbuf> = Vec::with_capacity(BATCH as usize);
    measure("alloc, free", || {
        held.extend((0..BATCH).map_while(|_| pool.alloc()));
        held.drain(..).for_each(|mbuf| pool.free(black_box(mbuf)));
    });
    measure("alloc, drop (return stack), reclaim", || {
        held.extend((0..BATCH).map_while(|_| pool.alloc()));
        held.drain(..).for_each(|mbuf| drop(black_box(mbuf)));
    });
    let mut queue = MbufQueue::new();
    measure("alloc, push_back, consume", || {
        for _ in 0..BATCH {
            let mut mbuf = pool.alloc().expect("fewer are held than there are");
            mbuf.set_len(64);
            queue.push_back(mbuf);
        }
        for _ in 0..BATCH {
            queue.consume(64, Some(&mut pool));
        }
    });
}
