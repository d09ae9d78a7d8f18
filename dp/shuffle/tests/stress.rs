//! The protocol on real threads, two for each of two homes and more than most machines have cores: order, exactly once, no loss.
//! Over 10^8 events, which takes seconds; `-- --nocapture` shows the progress.
#![cfg(not(any(loom, shuttle)))]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*, fence};
use std::time::Instant;

use shuffle::{Phase, Shuffle, Slip, Step, Take};
use sync::TryLock;

const ALL: u64 = 100_000_000;
const HOMES: usize = 2;
const THREADS: usize = 4;
const CONNS: usize = 200;
const SLIPS: usize = 64;
/// Events that may come to a home at once.
const BURST: u64 = 16;

/// Events of one connection, by number.
#[derive(Clone, Copy, Default, Debug)]
struct Batch {
    conn: usize,
    first: u64,
    count: u64,
}

#[derive(Default)]
struct Conn {
    phase: Phase,
    /// Events that have come, and of those the ones that have been put on a slip.
    came: u64,
    told: u64,
}

struct Net {
    conns: Vec<Conn>,
    ready: VecDeque<usize>,
    free: Vec<Slip>,
    /// Events that have not come yet.
    to_come: u64,
    dice: u32,
}

struct Home {
    shuffle: Shuffle<Batch>,
    net: TryLock<Net>,
    /// The last event of each connection that was handled.
    records: Vec<TryLock<u64>>,
    completed: AtomicU64,
    /// Slips on which they came back.
    slips: AtomicU64,
}

fn roll(dice: &mut u32) -> u32 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 17;
    *dice ^= *dice << 5;
    *dice
}

impl Home {
    fn new(events: u64, seed: u32) -> Home {
        let (shuffle, free) = Shuffle::new(vec![Batch::default(); SLIPS]);
        let conns = (0..CONNS).map(|_| Conn::default()).collect();
        Home {
            shuffle,
            net: TryLock::new(Net { conns, ready: VecDeque::new(), free, to_come: events, dice: seed }),
            records: (0..CONNS).map(|_| TryLock::new(0)).collect(),
            completed: AtomicU64::new(0),
            slips: AtomicU64::new(0),
        }
    }

    /// A pass of whoever has the lock: what came home, what comes from outside, and offers.
    fn pass(&self, net: &mut Net) -> bool {
        let mut work = self.complete_returned(net);
        // No more while many wait: events would gather, and few slips would carry them all.
        let burst = if net.ready.len() < SLIPS { BURST.min(net.to_come) } else { 0 };
        for _ in 0..burst {
            let at = roll(&mut net.dice) as usize % CONNS;
            net.conns[at].came += 1;
            net.to_come -= 1;
            work = true;
            if net.conns[at].phase.step(Step::News) {
                net.ready.push_back(at);
            }
        }
        while !net.ready.is_empty()
            && let Some(slip) = net.free.pop()
        {
            let Some(at) = net.ready.pop_front() else { break };
            let conn = &mut net.conns[at];
            let _ = conn.phase.step(Step::Batched);
            let batch = Batch { conn: at, first: conn.told + 1, count: conn.came - conn.told };
            conn.told = conn.came;
            self.shuffle.with(slip, |b| *b = batch).expect("a free slip is at home");
            self.shuffle.offer(slip);
        }
        work
    }

    fn complete_returned(&self, net: &mut Net) -> bool {
        let (mut completed, mut slips) = (0, 0);
        let Net { conns, ready, free, .. } = net;
        self.shuffle.returned(|slip| {
            let batch = self.shuffle.with(slip, |b| *b).expect("what came back is there");
            let conn = &mut conns[batch.conn];
            let news = conn.came > conn.told;
            if conn.phase.step(if news { Step::CompletedWithNews } else { Step::Completed }) {
                ready.push_back(batch.conn);
            }
            free.push(slip);
            completed += batch.count;
            slips += 1;
        });
        self.slips.fetch_add(slips, Relaxed);
        self.completed.fetch_add(completed, Relaxed);
        completed > 0
    }

    fn release_and_look_again(&self) {
        loop {
            fence(SeqCst);
            if !self.shuffle.has_returns() {
                return;
            }
            let Some(mut net) = self.net.try_lock() else { return };
            self.complete_returned(&mut net);
        }
    }

    /// Handles what is offered first.
    fn serve(&self) -> bool {
        let Take::One(slip, batch) = self.shuffle.take() else { return false };
        {
            let mut last = self.records[batch.conn].try_lock().expect("one thread at a time has a connection");
            assert_eq!(batch.first, *last + 1, "in order, and once");
            *last += batch.count;
        }
        self.shuffle.give_back(slip, batch);
        self.release_and_look_again();
        true
    }
}

/// Ends the other threads when one has panicked: they would wait for its events.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(std::thread::panicking(), Relaxed);
    }
}

fn thread(homes: &[Home], own: usize, events: u64, failed: &AtomicBool) {
    let _alarm = Alarm(failed);
    let mut dice = own as u32 + 1;
    let done = |home: &Home| home.completed.load(Acquire) == events;
    while !homes.iter().all(done) && !failed.load(Relaxed) {
        let first = roll(&mut dice) as usize % HOMES;
        let mut work = false;
        // Each is at home in one, steals from both, and lends itself to both now and then.
        for home in [own % HOMES, first] {
            if let Some(mut net) = homes[home].net.try_lock() {
                work |= homes[home].pass(&mut net);
                drop(net);
                homes[home].release_and_look_again();
            }
            work |= homes[home].serve();
        }
        if !work {
            std::thread::yield_now();
        }
    }
}

#[test]
fn every_event_is_handled_once_and_in_order() {
    let events = ALL / HOMES as u64;
    let homes: Vec<Home> = (1..=HOMES as u32).map(|seed| Home::new(events, seed)).collect();
    let (begun, failed) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (homes, failed) = (&homes, &failed);
        let threads: Vec<_> = (0..THREADS).map(|own| scope.spawn(move || thread(homes, own, events, failed))).collect();
        let mut next = 10_000_000;
        while !threads.iter().all(|t| t.is_finished()) {
            let completed: u64 = homes.iter().map(|h| h.completed.load(Relaxed)).sum();
            if completed >= next {
                println!("{next} events, {:.1} s", begun.elapsed().as_secs_f64());
                next += 10_000_000;
            }
            // Progress is looked at, not waited for.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    for home in &homes {
        let net = home.net.try_lock().expect("nobody holds it");
        assert!(net.to_come == 0 && net.ready.is_empty() && net.free.len() == SLIPS, "nothing is left");
        assert!(!home.shuffle.has_returns() && home.shuffle.offered() == 0);
        for (conn, record) in net.conns.iter().zip(&home.records) {
            assert!(conn.phase == Phase::Idle && Some(conn.came) == record.try_lock().map(|last| *last));
        }
    }
    let slips: u64 = homes.iter().map(|h| h.slips.load(Relaxed)).sum();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{ALL} events on {slips} slips, {THREADS} threads: none lost, none twice, all in order; {seconds:.1} s");
}
