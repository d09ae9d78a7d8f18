//! How many frames a second the emulated wire carries: `cargo run --release -p shm --example wire_rate [SECONDS]`.
//!
//! Two rows: one thread that sends and receives in turn (instructions alone), and two threads (cache lines change cores).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use mem::{Pool, Room};
use nic::{Nic, Queue, RxFrame, RxPools, TxFrame};
use shm::{Config, ShmQueue};

const BATCH: usize = 64;

struct Receiver {
    queue: ShmQueue,
    pools: RxPools,
    burst: Vec<RxFrame>,
}

impl Receiver {
    fn receive(&mut self) -> usize {
        let n = self.queue.rx_burst(&mut self.pools, BATCH, &mut self.burst);
        for frame in self.burst.drain(..) {
            std::hint::black_box(frame.head[13]);
            self.pools.mbufs.free(frame.head);
        }
        n
    }
}

/// A TCP frame of `len` bytes on one of 64 flows.
fn frame(len: usize, flow: u8) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame[23] = 6;
    frame[35] = flow;
    frame
}

fn wire() -> (ShmQueue, Receiver) {
    let (mut left, mut right) = shm::pair(&Config::default(), &Config::default()).expect("memory for a wire");
    let pools = RxPools {
        mbufs: Pool::new(Room::Received, 1024, 2048).expect("memory for buffers"),
        spills: Pool::new(Room::Received, 0, 64).expect("no memory at all"),
    };
    let queue = right.queues().remove(0);
    (left.queues().remove(0), Receiver { queue, pools, burst: Vec::with_capacity(BATCH) })
}

/// Places up to a batch; answers how many were placed.
fn send(queue: &mut ShmQueue, frames: &[Vec<u8>]) -> usize {
    let mut placed = 0;
    for head in frames {
        if queue.tx(&TxFrame { head, payload: &[], csum: None, gso: None }).is_err() {
            break;
        }
        placed += 1;
    }
    queue.flush();
    placed
}

fn alone(frames: &[Vec<u8>], time: Duration) -> f64 {
    let (mut sender, mut receiver) = wire();
    let (start, mut received) = (Instant::now(), 0);
    while start.elapsed() < time {
        for _ in 0..100 {
            send(&mut sender, frames);
            received += receiver.receive();
        }
    }
    received as f64 / start.elapsed().as_secs_f64()
}

fn across(frames: &[Vec<u8>], time: Duration) -> f64 {
    let (mut sender, mut receiver) = wire();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !stop.load(Relaxed) {
                if send(&mut sender, frames) == 0 {
                    std::hint::spin_loop();
                }
            }
        });
        let (start, mut received) = (Instant::now(), 0);
        while start.elapsed() < time {
            for _ in 0..100 {
                received += receiver.receive();
            }
        }
        let rate = received as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Relaxed);
        sending.join().expect("the sender");
        rate
    })
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    println!("{:>6}  {:>22}  {:>22}", "bytes", "one thread", "two threads");
    for len in [64, 1514] {
        let frames: Vec<_> = (0..BATCH).map(|flow| frame(len, flow as u8)).collect();
        let row = [alone(&frames, time), across(&frames, time)];
        let [alone, across] = row.map(|rate| format!("{:.1} M/s {:.1} Gbit/s", rate / 1e6, rate * len as f64 * 8e-9));
        println!("{len:>6}  {alone:>22}  {across:>22}");
    }
}
