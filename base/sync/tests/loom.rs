//! Every interleaving of the lock-free types, under loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p sync --release --test loom`.
#![cfg(loom)]

use std::ptr::NonNull;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*, fence};
use loom::thread;
use sync::cell::UnsafeCell;
use sync::ring::{Consumer, Ends, Producer};
use sync::{Epoch, Link, LinkStack, Linked, Offers, Returns, SleepWord, Taken, TryLock};

#[test]
fn a_try_lock_admits_one_at_a_time_and_hands_its_writes_on() {
    loom::model(|| {
        let lock = Arc::new(TryLock::new(0));
        let add = |lock: &TryLock<u32>| match lock.try_lock() {
            Some(mut n) => {
                *n += 1;
                1
            }
            None => 0,
        };
        let other = thread::spawn({
            let lock = lock.clone();
            move || add(&lock) + add(&lock)
        });
        let here = add(&lock);
        let taken = here + other.join().unwrap();
        assert!(taken >= 1, "somebody finds it free");
        assert_eq!(*lock.try_lock().expect("free at the end"), taken);
    });
}

/// The combining rule of lending: who finds the lock taken leaves a note, and the holder looks for notes after it has
/// let go.
#[test]
fn a_note_left_for_the_holder_is_not_stranded() {
    loom::model(|| {
        let shared = Arc::new((TryLock::new(()), AtomicBool::new(false)));
        let serve = |(lock, note): &(TryLock<()>, AtomicBool)| -> usize {
            let mut served = 0;
            loop {
                let Some(guard) = lock.try_lock() else {
                    return served;
                };
                served += usize::from(note.compare_exchange(true, false, Acquire, Relaxed).is_ok());
                drop(guard);
                fence(SeqCst);
                if !note.load(Relaxed) {
                    return served;
                }
            }
        };
        let poster = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.store(true, Release);
                fence(SeqCst);
                serve(&shared)
            }
        });
        let here = serve(&shared);
        assert_eq!(here + poster.join().unwrap(), 1, "the note is served exactly once");
    });
}

#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        struct Core {
            word: SleepWord,
            work: AtomicUsize,
            bell: AtomicUsize,
        }
        let core = Arc::new(Core { word: SleepWord::new(), work: AtomicUsize::new(0), bell: AtomicUsize::new(0) });
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let core = core.clone();
                thread::spawn(move || {
                    core.work.fetch_add(1, Relaxed);
                    if core.word.wake_needed() {
                        core.bell.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        core.word.prepare();
        let seen = core.work.load(Relaxed);
        if seen > 0 {
            core.word.cancel();
        }
        for waker in wakers {
            waker.join().unwrap();
        }
        let rung = core.bell.load(Relaxed);
        assert!(seen > 0 || rung == 1, "asleep for ever, or rung twice: seen {seen}, rung {rung}");
    });
}

struct Node {
    link: Link<Node>,
    value: usize,
}

// SAFETY: always the same field, touched by the stack only.
unsafe impl Linked for Node {
    fn link(&self) -> &Link<Node> {
        &self.link
    }
}

/// Nodes for a test's threads: who owns which is the test's business, and loom's to check.
struct Nodes([Node; 2]);

// SAFETY: the threads of each test touch their own nodes only, which loom verifies.
unsafe impl Send for Nodes {}
// SAFETY: as above.
unsafe impl Sync for Nodes {}

fn nodes() -> Arc<Nodes> {
    Arc::new(Nodes([0, 1].map(|value| Node { link: Link::new(), value })))
}

#[test]
fn every_node_pushed_is_taken_once() {
    loom::model(|| {
        let (stack, nodes) = (Arc::new(LinkStack::new()), nodes());
        let pushers = [0, 1].map(|i| {
            let (stack, nodes) = (stack.clone(), nodes.clone());
            thread::spawn(move || {
                // SAFETY: node `i` is this thread's, and the stack is never closed.
                let last = unsafe { stack.push(NonNull::from(&nodes.0[i])) };
                assert!(!last);
            })
        });
        // SAFETY: `nodes` is alive.
        let value = |node: NonNull<Node>| unsafe { node.as_ref() }.value;
        let mut taken = Vec::new();
        while taken.len() < 2 {
            taken.extend(stack.take().map(value));
            // Not for courtesy: where the take was a plain load, only a yield makes loom try the other threads first.
            thread::yield_now();
        }
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        assert_eq!(stack.take().count(), 0);
        taken.sort();
        assert_eq!(taken, [0, 1]);
    });
}

/// The owner goes while both nodes are out: exactly one step is the last, and it finds all nodes at rest.
#[test]
fn exactly_one_pays_the_last_of_the_debt() {
    loom::model(|| {
        let (stack, nodes, last) = (Arc::new(LinkStack::new()), nodes(), Arc::new(AtomicUsize::new(0)));
        let tear_down = |nodes: &Nodes, last: &AtomicUsize| {
            last.fetch_add(1, Relaxed);
            for node in &nodes.0 {
                // SAFETY: the last one owns everything; if it did not, loom would see two at the same link.
                unsafe { node.link.set(std::ptr::null_mut()) };
            }
        };
        let pushers = [0, 1].map(|i| {
            let (stack, nodes, last) = (stack.clone(), nodes.clone(), last.clone());
            thread::spawn(move || {
                // SAFETY: node `i` is this thread's, and one of the two that are out.
                if unsafe { stack.push(NonNull::from(&nodes.0[i])) } {
                    tear_down(&nodes, &last);
                }
            })
        });
        // SAFETY: two nodes are out.
        if unsafe { stack.close(2) } {
            tear_down(&nodes, &last);
        }
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        assert_eq!(last.load(Relaxed), 1);
    });
}

/// Slots of a ring: whose turn each is, the indices say, and loom checks.
struct Slots([UnsafeCell<u32>; 2]);

// SAFETY: the ring under test keeps producer and consumer out of each other's slots, which loom verifies.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

#[test]
fn a_slot_is_in_one_hand_and_frames_come_in_order() {
    loom::model(|| {
        let ring = Arc::new((Ends::new(), Slots([0, 0].map(UnsafeCell::new))));
        let consumer = thread::spawn({
            let ring = ring.clone();
            move || {
                let (ends, slots) = &*ring;
                let (mut consumer, mut got) = (Consumer::new(2), Vec::new());
                for _ in 0..2 {
                    for _ in 0..consumer.ready(ends, 2) {
                        // SAFETY: the slot is ready, so it is the consumer's.
                        got.push(unsafe { *slots.0[consumer.slot(0)].get_mut().deref() });
                        consumer.pop();
                    }
                    consumer.release(ends);
                }
                assert_eq!(consumer.lies(), 0);
                got
            }
        });
        let (ends, slots) = &*ring;
        let (mut producer, mut sent) = (Producer::new(2), 0);
        for frame in 1..=4 {
            let Some(slot) = producer.slot(ends) else {
                break;
            };
            // SAFETY: the slot is free, so it is the producer's.
            unsafe { *slots.0[slot].get_mut().deref() = frame };
            producer.push();
            producer.publish(ends);
            sent = frame;
        }
        let got = consumer.join().unwrap();
        assert!(got.len() <= sent as usize && got.iter().copied().eq(1..=got.len() as u32), "{got:?} of {sent}");
        assert_eq!(producer.lies(), 0);
    });
}

/// What numbers stand for: written by whoever has the number, which loom verifies.
struct Contents([UnsafeCell<u32>; 3]);

// SAFETY: the queues under test pass each number, and with it its place here, from one hand to the next.
unsafe impl Send for Contents {}
// SAFETY: as above.
unsafe impl Sync for Contents {}

impl Contents {
    fn new() -> Contents {
        Contents([0; 3].map(UnsafeCell::new))
    }

    /// Replaces what stands at `number`.
    fn swap(&self, number: u32, value: u32) -> u32 {
        let place = self.0[number as usize].get_mut();
        // SAFETY: the caller has the number.
        std::mem::replace(unsafe { place.deref() }, value)
    }
}

/// Two slots for three numbers: the third goes where a taker may still be reading the first.
#[test]
fn each_number_on_offer_is_taken_once_with_all_that_belongs_to_it() {
    bounded(3, || {
        let shared = Arc::new((Offers::new(2), Contents::new()));
        let take = |(offers, contents): &(Offers, Contents)| match offers.take() {
            Taken::One(n) => {
                assert_eq!(contents.swap(n, 0), 10 + n, "what was written before it was offered");
                Some(n)
            }
            Taken::Empty | Taken::Raced => None,
        };
        let takers = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || [take(&shared), take(&shared)])
        });
        let (offers, contents) = &*shared;
        let mut pushed = Vec::new();
        for n in 0..3 {
            contents.swap(n, 10 + n);
            if offers.push(n) {
                pushed.push(n);
            }
        }
        assert!(pushed.len() >= 2, "two always fit");
        let mut taken: Vec<u32> = takers.into_iter().flat_map(|t| t.join().unwrap()).flatten().collect();
        taken.extend(std::iter::from_fn(|| take(&shared)));
        taken.sort();
        assert_eq!(taken, pushed, "none twice, none lost, none invented");
    });
}

/// One slot, so that every push but the first is a reuse; and the takers race for each number.
#[test]
fn a_slot_is_reused_only_when_its_number_was_taken() {
    bounded(3, || {
        let offers = Arc::new(Offers::new(1));
        let takers = [(); 2].map(|()| {
            let offers = offers.clone();
            thread::spawn(move || offers.take())
        });
        let pushed: Vec<u32> = (1..=3).filter(|n| offers.push(*n)).collect();
        let one = |taken| match taken {
            Taken::One(n) => Some(n),
            Taken::Empty | Taken::Raced => None,
        };
        let mut taken: Vec<u32> = takers.into_iter().filter_map(|t| one(t.join().unwrap())).collect();
        taken.extend(one(offers.take()));
        taken.sort();
        assert_eq!(taken, pushed);
        assert_eq!(offers.take(), Taken::Empty);
    });
}

/// Each returner returns its numbers in an order, and finds it kept; what it did before is seen.
#[test]
fn all_that_was_returned_comes_once_and_in_each_returners_order() {
    bounded(3, || {
        let shared = Arc::new((Returns::new(3), Contents::new()));
        let give = |(returns, contents): &(Returns, Contents), n: u32| {
            contents.swap(n, 10 + n);
            assert!(returns.push(n));
        };
        let returners = [vec![2, 0], vec![1]].map(|numbers| {
            let shared = shared.clone();
            thread::spawn(move || numbers.into_iter().for_each(|n| give(&shared, n)))
        });
        let (returns, contents) = &*shared;
        let mut back = Vec::new();
        let mut take = || {
            returns.take(|n| {
                assert_eq!(contents.swap(n, 0), 10 + n);
                back.push(n);
            });
        };
        // As above: only a yield makes loom try the others before what is a plain load.
        for _ in 0..2 {
            thread::yield_now();
            take();
        }
        returners.into_iter().for_each(|t| t.join().unwrap());
        take();
        assert!(returns.is_empty());
        let at = |n| back.iter().position(|b| *b == n).expect("each comes back");
        assert!(back.len() == 3 && at(2) < at(0), "{back:?}");
    });
}

/// The taker hands a number out again while it still has others of the same take in its hands, and it comes back meanwhile.
#[test]
fn a_number_may_go_round_again_before_the_take_is_over() {
    bounded(3, || {
        let shared = Arc::new((Returns::new(2), Offers::new(2)));
        let (returns, offers) = &*shared;
        assert!(returns.push(0) && returns.push(1));
        let other = thread::spawn({
            let shared = shared.clone();
            move || match shared.1.take() {
                Taken::One(n) => usize::from(shared.0.push(n)),
                Taken::Empty | Taken::Raced => 0,
            }
        });
        let mut seen = Vec::new();
        returns.take(|n| {
            seen.push(n);
            if n == 0 {
                assert!(offers.push(n));
            }
        });
        assert_eq!(seen, [0, 1]);
        let again = other.join().unwrap();
        returns.take(|n| seen.push(n));
        assert_eq!(seen.len(), 2 + again, "{seen:?}");
        assert!(offers.len() + again == 1 && returns.is_empty());
    });
}

/// Every schedule with at most this many switches away from a thread that could go on.
fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

/// A sender puts a frame into the old ring, and the next one of the same flow into the new one. Who takes that from the new ring lets it pass only when
/// the old ring is known to hold nothing older: by then the first one has been passed on to it.
#[test]
fn a_frame_of_the_new_ring_waits_for_those_of_the_old_one() {
    loom::model(|| {
        struct Rings {
            old: AtomicBool,
            new: AtomicBool,
            passed_on: AtomicBool,
            epoch: Epoch,
        }
        let rings = Arc::new(Rings {
            old: AtomicBool::new(false),
            new: AtomicBool::new(false),
            passed_on: AtomicBool::new(false),
            epoch: Epoch::new(),
        });
        let sender = thread::spawn({
            let r = rings.clone();
            move || {
                r.old.store(true, Release);
                r.new.store(true, Release);
            }
        });
        let poller = thread::spawn({
            let r = rings.clone();
            move || {
                for _ in 0..2 {
                    r.epoch.begins();
                    let end = r.old.load(Acquire);
                    if end {
                        r.passed_on.store(true, Relaxed);
                    }
                    r.epoch.ends();
                }
            }
        });
        if rings.new.load(Acquire) {
            let mark = rings.epoch.mark();
            if rings.epoch.passed(mark) {
                assert!(rings.passed_on.load(Relaxed), "the older frame is still in the old ring");
            }
        }
        sender.join().unwrap();
        poller.join().unwrap();
    });
}
