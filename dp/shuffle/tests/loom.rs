//! Every interleaving of the shuffle layer and of the two rules that its users go by, under loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p shuffle --release --test loom`.
//!
//! The rules are those of dp/dataplane: who leaves a slip for the holder of a lock, and who sleeps. They are written out here, for there
//! they are woven into the network layer; `Home` has what of it matters.
#![cfg(loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::*, fence};
use loom::thread;
use shuffle::{Shuffle, Slip, Take};
use sync::TryLock;

/// Every schedule with at most this many switches away from a thread that could go on.
fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

/// Takes what is offered, adds `by` to it and gives it back. Says how often it did so.
fn serve(shuffle: &Shuffle<u32>, by: u32) -> u32 {
    match shuffle.take() {
        Take::One(slip, work) => {
            shuffle.give_back(slip, work + by);
            1
        }
        Take::Empty | Take::Raced => 0,
    }
}

/// One slip, offered, taken by a thief or by its home, given back, and offered once more as soon as it is home.
#[test]
fn a_slip_goes_round_whoever_takes_it() {
    bounded(3, || {
        let (shuffle, free) = Shuffle::new([0u32]);
        let (shuffle, slip) = (Arc::new(shuffle), free[0]);
        let thief = thread::spawn({
            let shuffle = shuffle.clone();
            move || serve(&shuffle, 100) + serve(&shuffle, 100)
        });
        let mut rounds = 0;
        let mut served = 0;
        for fresh in [true, false, false] {
            let mut home = fresh;
            shuffle.returned(|s| home |= s == slip);
            if home {
                assert!(shuffle.with(slip, |work| *work += 1).is_some(), "it is home, so nobody has it");
                shuffle.offer(slip);
                rounds += 1;
            }
            served += serve(&shuffle, 100);
        }
        served += thief.join().unwrap();
        let (mut back, mut left) = (0, shuffle.offered() as u32);
        shuffle.returned(|_| back += 1);
        if let Take::One(_, work) = shuffle.take() {
            shuffle.put(slip, work);
            left -= 1;
        }
        assert_eq!(left, 0);
        assert!(back <= 1 && (rounds == served || rounds == served + 1), "{rounds} offered, {served} served");
        assert_eq!(
            shuffle.with(slip, |work| *work),
            Some(rounds + 100 * served),
            "nothing of it is lost, or done twice"
        );
    });
}

/// Two slips on offer, a thief and a home that both take: none is taken twice, each comes back once.
#[test]
fn two_takers_share_what_is_offered() {
    bounded(3, || {
        let (shuffle, free) = Shuffle::new([0u32, 0]);
        let shuffle = Arc::new(shuffle);
        shuffle.offer(free[0]);
        let thief = thread::spawn({
            let shuffle = shuffle.clone();
            move || serve(&shuffle, 1) + serve(&shuffle, 1)
        });
        shuffle.offer(free[1]);
        let served = serve(&shuffle, 1) + serve(&shuffle, 1) + thief.join().unwrap();
        let mut back = Vec::new();
        shuffle.returned(|slip| back.push(slip.number()));
        back.sort();
        assert!(back.len() == served as usize && back.windows(2).all(|w| w[0] != w[1]), "{back:?}");
        let work: u32 = back.iter().filter_map(|n| shuffle.with(free[*n], |work| *work)).sum();
        assert_eq!((work, shuffle.offered()), (served, 2 - served as usize));
    });
}

/// What of a core's network layer the combining rule needs: its lock, and how many slips were completed under it.
struct Home {
    shuffle: Shuffle<u32>,
    stack: TryLock<u32>,
}

impl Home {
    /// Two slips that are out, in the hands of two cores.
    fn with_two_out() -> (Arc<Home>, [(Slip, u32); 2]) {
        let (shuffle, free) = Shuffle::new([1u32, 1]);
        let out = [free[0], free[1]].map(|slip| (slip, shuffle.lift(slip).unwrap()));
        (Arc::new(Home { shuffle, stack: TryLock::new(0) }), out)
    }

    /// Carries out what has come back, if nobody is at it.
    fn collect(&self) -> bool {
        let Some(mut completed) = self.stack.try_lock() else { return false };
        self.shuffle.returned(|slip| *completed += self.shuffle.lift(slip).expect("it is home"));
        true
    }

    /// After a slip was left, or the lock was released.
    fn look_again(&self) {
        loop {
            fence(SeqCst);
            if !self.shuffle.has_returns() || !self.collect() {
                return;
            }
        }
    }

    fn give_back(&self, slip: Slip, work: u32) {
        self.shuffle.give_back(slip, work);
        self.look_again();
    }

    /// A pass that has something else to do, then lets go.
    fn pass(&self) {
        if let Some(guard) = self.stack.try_lock() {
            drop(guard);
            self.look_again();
        }
    }
}

/// The combining rule: a thief gives back while the home is in a pass. When both are done, nothing has been left behind.
#[test]
fn no_slip_is_stranded_behind_a_lock() {
    bounded(4, || {
        let (home, [stolen, own]) = Home::with_two_out();
        let thief = thread::spawn({
            let home = home.clone();
            move || home.give_back(stolen.0, stolen.1)
        });
        home.pass();
        home.give_back(own.0, own.1);
        thief.join().unwrap();
        assert!(!home.shuffle.has_returns());
        assert_eq!(*home.stack.try_lock().expect("free at the end"), 2);
    });
}

/// The same with two thieves and a lender, none of which is the home: it is in application code, and comes back to nothing left.
#[test]
fn thieves_and_a_lender_leave_nothing_for_the_home() {
    bounded(2, || {
        let (home, out) = Home::with_two_out();
        let thieves = out.map(|(slip, work)| {
            let home = home.clone();
            thread::spawn(move || home.give_back(slip, work))
        });
        home.pass();
        thieves.into_iter().for_each(|t| t.join().unwrap());
        assert!(!home.shuffle.has_returns());
        assert_eq!(*home.stack.try_lock().expect("free at the end"), 2);
    });
}

/// Cores that may be asleep, as those that make work see them.
#[derive(Default)]
struct Beds {
    asleep: AtomicU32,
    each: [AtomicBool; 2],
}

impl Beds {
    /// Says that `core` is about to sleep.
    fn lie_down(&self, core: usize) {
        self.each[core].store(true, Relaxed);
        self.asleep.fetch_add(1, SeqCst);
        fence(SeqCst);
    }

    /// The core that is to be woken for work just offered.
    fn somebody(&self) -> Option<usize> {
        fence(SeqCst);
        if self.asleep.load(Relaxed) == 0 {
            return None;
        }
        self.each.iter().position(|asleep| asleep.load(Relaxed))
    }
}

/// Either the core that lies down sees the offer, or the one that offers sees it lying down.
#[test]
fn no_offer_is_slept_through() {
    bounded(4, || {
        let (shuffle, free) = Shuffle::new([0u32]);
        let shared = Arc::new((shuffle, Beds::default()));
        let sleeper = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.lie_down(1);
                shared.0.offered() > 0
            }
        });
        shared.0.offer(free[0]);
        let woken = shared.1.somebody();
        let saw = sleeper.join().unwrap();
        assert!(saw || woken == Some(1), "offered, and asleep for ever");
    });
}

/// Two cores lie down: whoever is chosen to be woken is one that does, and if nobody is, both have seen the offer.
#[test]
fn one_of_two_sleepers_is_found() {
    bounded(3, || {
        let (shuffle, free) = Shuffle::new([0u32]);
        let shared = Arc::new((shuffle, Beds::default()));
        let sleepers = [0, 1].map(|core| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.lie_down(core);
                shared.0.offered() > 0
            })
        });
        shared.0.offer(free[0]);
        let woken = shared.1.somebody();
        let saw = sleepers.map(|s| s.join().unwrap());
        assert!(woken.is_some() || saw == [true, true], "woken {woken:?}, seen by {saw:?}");
    });
}

/// A slip that comes home while its home falls asleep. The home looks at what was returned after it has let go of its lock, for who
/// gives back finds the lock taken until then and leaves.
#[test]
fn no_return_is_slept_through() {
    bounded(4, || {
        let (home, [stolen, _]) = Home::with_two_out();
        let thief = thread::spawn({
            let home = home.clone();
            move || home.give_back(stolen.0, stolen.1)
        });
        let guard = home.stack.try_lock();
        let fell_asleep = guard.is_some();
        drop(guard);
        fence(SeqCst);
        let saw = home.shuffle.has_returns();
        thief.join().unwrap();
        let completed = *home.stack.try_lock().expect("free at the end");
        assert!(!fell_asleep || saw || completed == 1, "back, and asleep for ever");
    });
}
