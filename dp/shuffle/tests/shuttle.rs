//! The whole protocol of ZygOS mode, in a model that is too large for every schedule: two homes with connections, a third core that has
//! none, and a network. Under shuttle, by chance: `RUSTFLAGS="--cfg shuttle" cargo test -p shuffle --release --test shuttle`.
//!
//! `Shuffle`, `Phase`, the locks and the sleep words are the real ones; around them is what dp/netstack and dp/dataplane do with them, without
//! packets. Events of a connection are numbers. Checked are: each is handled once and in order, no connection on two cores at a time,
//! nobody sleeps while there is work for him (shuttle reports a deadlock), and at the end nothing is left and every slip is free.
#![cfg(shuttle)]

use std::collections::VecDeque;
use std::sync::Arc;

use shuffle::{Phase, Shuffle, Slip, Step, Take};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering::*, fence};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use sync::{SleepWord, TryGuard, TryLock};

const CORES: usize = 3;
const HOMES: usize = 2;
/// Connections of each home, and events of each connection.
const CONNS: usize = 3;
const EVENTS: u32 = 3;
const SLIPS: usize = 2;
/// What one lend works off, and how often who lets go of a lock goes back.
const LEND: usize = 1;
const AGAIN: usize = 2;

/// What is on a slip: events of one connection, and whether its handler closes it.
#[derive(Debug, Default)]
struct Batch {
    conn: usize,
    events: Vec<u32>,
    close: bool,
}

/// A connection as its network layer has it.
#[derive(Default)]
struct Conn {
    phase: Phase,
    untold: Vec<u32>,
    gone: bool,
}

/// A network layer.
struct Net {
    conns: Vec<Conn>,
    ready: VecDeque<usize>,
    free: Vec<Slip>,
    back: VecDeque<Slip>,
}

struct Home {
    shuffle: Shuffle<Batch>,
    net: TryLock<Net>,
    /// Frames that came and were not received: connection and event.
    wire: Mutex<VecDeque<(usize, u32)>>,
    /// Something was left here that others may do: what is a deadline that has passed there.
    due: AtomicBool,
    /// What the application keeps of each connection: the last event that it has handled.
    records: Vec<TryLock<u32>>,
}

/// Where a core sleeps, and what others see of it.
struct Seat {
    word: SleepWord,
    bell: (Mutex<bool>, Condvar),
    in_app: AtomicBool,
    asleep: AtomicBool,
}

impl Seat {
    fn wake(&self) {
        if self.word.wake_needed() {
            self.ring();
        }
    }

    fn ring(&self) {
        *self.bell.0.lock().unwrap() = true;
        self.bell.1.notify_all();
    }
}

struct World {
    lends: bool,
    homes: Vec<Home>,
    seats: Vec<Seat>,
    asleep: AtomicU32,
    watcher: AtomicU32,
    /// Events that have been handled and completed, or dropped since their connection was gone.
    settled: AtomicU32,
}

const ALL: u32 = HOMES as u32 * CONNS as u32 * EVENTS;

impl World {
    fn new(lends: bool) -> World {
        let home = |_| {
            let (shuffle, free) = Shuffle::new((0..SLIPS).map(|_| Batch::default()));
            let conns = (0..CONNS).map(|_| Conn::default()).collect();
            Home {
                shuffle,
                net: TryLock::new(Net { conns, ready: VecDeque::new(), free, back: VecDeque::new() }),
                wire: Mutex::new(VecDeque::new()),
                due: AtomicBool::new(false),
                records: (0..CONNS).map(|_| TryLock::new(0)).collect(),
            }
        };
        let seat = |_| Seat {
            word: SleepWord::new(),
            bell: (Mutex::new(false), Condvar::new()),
            in_app: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        };
        World {
            lends,
            homes: (0..HOMES).map(home).collect(),
            seats: (0..CORES).map(seat).collect(),
            asleep: AtomicU32::new(0),
            watcher: AtomicU32::new(0),
            settled: AtomicU32::new(0),
        }
    }

    fn done(&self) -> bool {
        self.settled.load(SeqCst) == ALL
    }

    fn settle(&self, events: u32) {
        if events > 0 && self.settled.fetch_add(events, SeqCst) + events == ALL {
            // The model is over.
            self.seats.iter().for_each(Seat::ring);
        }
    }

    // --- under a home's lock ---------------------------------------------------------------------------------

    fn receive(&self, home: usize, net: &mut Net, most: usize) -> usize {
        for n in 0..most {
            let Some((at, event)) = self.homes[home].wire.lock().unwrap().pop_front() else { return n };
            let conn = &mut net.conns[at];
            if conn.gone {
                self.settle(1);
                continue;
            }
            conn.untold.push(event);
            if conn.phase.step(Step::News) {
                net.ready.push_back(at);
            }
        }
        most
    }

    /// Fills a slip with the connection that has been ready for longest.
    fn fill(&self, home: usize, net: &mut Net) -> Option<Slip> {
        let at = *net.ready.front()?;
        let slip = net.free.pop()?;
        net.ready.pop_front();
        let conn = &mut net.conns[at];
        let _ = conn.phase.step(Step::Batched);
        let events = std::mem::take(&mut conn.untold);
        let filled = self.homes[home].shuffle.with(slip, |batch| *batch = Batch { conn: at, events, close: false });
        assert!(filled.is_some(), "a free slip is at home");
        Some(slip)
    }

    fn offer(&self, home: usize, net: &mut Net) -> usize {
        let mut n = 0;
        while let Some(slip) = self.fill(home, net) {
            self.homes[home].shuffle.offer(slip);
            n += 1;
        }
        n
    }

    fn complete(&self, net: &mut Net, slip: Slip, batch: Batch) {
        let conn = &mut net.conns[batch.conn];
        conn.gone |= batch.close;
        let mut settled = batch.events.len() as u32;
        if conn.gone {
            settled += std::mem::take(&mut conn.untold).len() as u32;
        }
        if conn.phase.step(if conn.untold.is_empty() { Step::Completed } else { Step::CompletedWithNews }) {
            net.ready.push_back(batch.conn);
        }
        net.free.push(slip);
        self.settle(settled);
    }

    fn complete_returned(&self, home: usize, net: &mut Net, most: usize) -> usize {
        let shuffle = &self.homes[home].shuffle;
        let Net { back, .. } = net;
        shuffle.returned(|slip| back.push_back(slip));
        let mut n = 0;
        while n < most
            && let Some(slip) = net.back.pop_front()
        {
            let batch = shuffle.lift(slip).expect("what came back is there");
            shuffle.put(slip, Batch::default());
            self.complete(net, slip, batch);
            n += 1;
        }
        n
    }

    // --- around the lock -------------------------------------------------------------------------------------

    fn collect(&self, home: usize) -> bool {
        let Some(mut net) = self.homes[home].net.try_lock() else { return false };
        self.complete_returned(home, &mut net, LEND);
        self.wrap_up(home, &net);
        true
    }

    fn wrap_up(&self, home: usize, net: &Net) {
        self.homes[home].due.store(!net.back.is_empty() || !net.ready.is_empty(), Relaxed);
    }

    fn look_again(&self, home: usize) {
        for _ in 0..AGAIN {
            fence(SeqCst);
            if !self.homes[home].shuffle.has_returns() || !self.collect(home) {
                return;
            }
        }
    }

    fn release(&self, home: usize, net: TryGuard<'_, Net>) {
        drop(net);
        self.look_again(home);
    }

    fn give_back(&self, home: usize, slip: Slip, batch: Batch, collect: bool) {
        self.homes[home].shuffle.give_back(slip, batch);
        if collect {
            self.look_again(home);
        }
    }

    fn wake_somebody(&self) {
        fence(SeqCst);
        if self.asleep.load(Relaxed) > 0
            && let Some(sleeper) = self.seats.iter().find(|s| s.asleep.load(Relaxed))
        {
            sleeper.wake();
        }
    }

    fn is_watched(&self) -> bool {
        let watcher = self.watcher.load(Relaxed) as usize;
        let awake = |s: &Seat| !s.in_app.load(Relaxed) && !s.asleep.load(Relaxed);
        watcher != 0 && awake(&self.seats[watcher - 1])
    }

    // --- a core ----------------------------------------------------------------------------------------------

    fn run(&self, own: usize, home: usize, mut batch: Batch) -> Batch {
        self.seats[own].in_app.store(true, Relaxed);
        let mut last = self.homes[home].records[batch.conn].try_lock().expect("one core at a time has a connection");
        for event in &batch.events {
            assert_eq!(*event, *last + 1, "in order, and once");
            *last = *event;
            thread::yield_now();
        }
        batch.close = thread_rng().gen_ratio(1, 8);
        drop(last);
        self.seats[own].in_app.store(false, Relaxed);
        batch
    }

    /// A turn's first half; a core without connections has none.
    fn home_pass(&self, own: usize) -> (usize, Option<(Slip, Batch)>) {
        let Some(home) = self.homes.get(own) else { return (0, None) };
        let Some(mut net) = home.net.try_lock() else {
            return match home.shuffle.take() {
                Take::One(slip, batch) => (0, Some((slip, batch))),
                Take::Empty | Take::Raced => (0, None),
            };
        };
        let work = self.complete_returned(own, &mut net, 2 * LEND) + self.receive(own, &mut net, 2);
        let drawn = match home.shuffle.take() {
            Take::One(slip, batch) => Some((slip, batch)),
            Take::Empty | Take::Raced => {
                self.fill(own, &mut net).map(|slip| (slip, home.shuffle.lift(slip).expect("a filled slip is at home")))
            }
        };
        let offered = if drawn.is_some() { self.offer(own, &mut net) } else { 0 };
        self.wrap_up(own, &net);
        self.release(own, net);
        if offered > 1 || drawn.is_some() && !self.is_watched() {
            self.wake_somebody();
        }
        (work, drawn)
    }

    fn hand_in(&self, own: usize, slip: Slip, batch: Batch) {
        let Some(mut net) = self.homes[own].net.try_lock() else {
            return self.give_back(own, slip, batch, true);
        };
        self.homes[own].shuffle.put(slip, Batch::default());
        self.complete(&mut net, slip, batch);
        self.wrap_up(own, &net);
        self.release(own, net);
    }

    fn steal(&self, own: usize, home: usize) -> bool {
        let Take::One(slip, batch) = self.homes[home].shuffle.take() else { return false };
        let batch = self.run(own, home, batch);
        self.give_back(home, slip, batch, self.lends);
        if !self.lends {
            self.seats[home].wake();
        }
        true
    }

    fn lend(&self, home: usize) -> bool {
        let it = &self.homes[home];
        let seat = &self.seats[home];
        // One that is neither may not have polled for a while: which only a clock could tell.
        let away = seat.in_app.load(Relaxed) || seat.asleep.load(Relaxed) || thread_rng().gen_ratio(1, 4);
        let work = it.shuffle.has_returns() || it.due.load(Relaxed) || !it.wire.lock().unwrap().is_empty();
        if !self.lends || !away || it.net.is_held() || !work {
            return false;
        }
        let Some(mut net) = it.net.try_lock() else { return false };
        self.complete_returned(home, &mut net, LEND);
        self.receive(home, &mut net, 1);
        let offered = self.offer(home, &mut net);
        self.wrap_up(home, &net);
        self.release(home, net);
        if offered > 1 {
            self.wake_somebody();
        }
        true
    }

    fn turn(&self, own: usize) -> bool {
        let (work, drawn) = self.home_pass(own);
        if let Some((slip, batch)) = drawn {
            let batch = self.run(own, own, batch);
            self.hand_in(own, slip, batch);
            return true;
        }
        let first = thread_rng().gen_range(0..HOMES);
        let victims = (0..HOMES).map(|v| (first + v) % HOMES).filter(|v| *v != own);
        work > 0 || victims.clone().any(|v| self.steal(own, v)) || victims.clone().any(|v| self.lend(v))
    }

    fn may_sleep(&self, own: usize) -> bool {
        let me = own as u32 + 1;
        if self.seats.iter().all(|s| !s.in_app.load(Relaxed)) {
            let _ = self.watcher.compare_exchange(me, 0, Relaxed, Relaxed);
            return true;
        }
        let watched = self.watcher.load(Relaxed) != me && self.is_watched();
        if !watched {
            self.watcher.store(me, Relaxed);
        }
        watched
    }

    fn sleep(&self, own: usize) {
        let seat = &self.seats[own];
        let net = self.homes.get(own).map(|home| home.net.try_lock());
        if matches!(net, Some(None)) {
            return;
        }
        seat.word.prepare();
        seat.asleep.store(true, Relaxed);
        self.asleep.fetch_add(1, SeqCst);
        fence(SeqCst);
        let left = |net: &TryGuard<'_, Net>| {
            !net.back.is_empty() || !net.ready.is_empty() || !self.homes[own].wire.lock().unwrap().is_empty()
        };
        let mut nothing = !net.as_ref().and_then(Option::as_ref).is_some_and(left);
        drop(net);
        fence(SeqCst);
        nothing &= !self.homes.get(own).is_some_and(|home| home.shuffle.has_returns());
        nothing &= self.homes.iter().all(|home| home.shuffle.offered() == 0);
        nothing &= !self.lends || self.homes.iter().all(|home| !home.due.load(Relaxed));
        let mut rung = seat.bell.0.lock().unwrap();
        while nothing && !*rung && !self.done() {
            rung = seat.bell.1.wait(rung).unwrap();
        }
        *rung = false;
        drop(rung);
        seat.asleep.store(false, Relaxed);
        self.asleep.fetch_sub(1, SeqCst);
        seat.word.cancel();
    }

    fn core(&self, own: usize) {
        while !self.done() {
            if !self.turn(own) && self.may_sleep(own) {
                self.sleep(own);
            }
            thread::yield_now();
        }
    }

    /// Frames in some order of connections, each connection's events in theirs; the doorbell of a home that sleeps.
    fn network(&self) {
        let mut next = [[1u32; CONNS]; HOMES];
        for _ in 0..ALL {
            let (home, conn) = loop {
                let (home, conn) = (thread_rng().gen_range(0..HOMES), thread_rng().gen_range(0..CONNS));
                if next[home][conn] <= EVENTS {
                    break (home, conn);
                }
            };
            self.homes[home].wire.lock().unwrap().push_back((conn, next[home][conn]));
            next[home][conn] += 1;
            self.seats[home].wake();
        }
    }

    /// After all threads have ended.
    fn is_at_rest(&self) {
        for home in &self.homes {
            let net = home.net.try_lock().expect("nobody holds it");
            assert!(!home.shuffle.has_returns() && net.back.is_empty(), "nothing is stranded");
            assert!(home.shuffle.offered() == 0 && net.ready.is_empty() && home.wire.lock().unwrap().is_empty());
            assert_eq!(net.free.len(), SLIPS, "every slip is free");
            for (conn, record) in net.conns.iter().zip(&home.records) {
                let told = *record.try_lock().expect("nobody has it");
                assert!(conn.phase == Phase::Idle && conn.untold.is_empty() && (told == EVENTS || conn.gone));
            }
        }
    }
}

fn protocol(lends: bool) {
    let world = Arc::new(World::new(lends));
    let mut threads: Vec<_> = (0..CORES)
        .map(|own| {
            let world = world.clone();
            thread::spawn(move || world.core(own))
        })
        .collect();
    threads.push(thread::spawn({
        let world = world.clone();
        move || world.network()
    }));
    threads.into_iter().for_each(|t| t.join().unwrap());
    world.is_at_rest();
}

#[test]
fn thieves_and_homes_at_random() {
    shuttle::check_random(|| protocol(false), 20_000);
}

#[test]
fn lenders_thieves_and_homes_at_random() {
    shuttle::check_random(|| protocol(true), 20_000);
}

/// Few switches at the worst moments, rather than many anywhere.
#[test]
fn thieves_and_homes_with_few_switches() {
    shuttle::check_pct(|| protocol(false), 20_000, 4);
}

#[test]
fn lenders_thieves_and_homes_with_few_switches() {
    shuttle::check_pct(|| protocol(true), 20_000, 4);
}
