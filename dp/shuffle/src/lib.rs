//! The shuffle layer of one core: its ready work where every core can take it, and the way home.
//!
//! ```text
//!   network layer of the home core                          any core
//!      fill ──► offer ───────────► shuffle queue ─────────► take, run the application
//!        ▲                                                     │
//!        └── free ◄── complete ◄── returns ◄────────────────── give_back        "remote syscalls"
//! ```
//!
//! Work travels in numbered *slips*, made at start and used again and again. A slip is free, being filled, offered, taken or returned;
//! the number is what moves, so no step allocates and none can overflow: the queue has room for all slips, and so have the returns.
//! When no slip is free, what is ready waits in the home's own queue, where it would have waited anyway.
//!
//! *Filling, offering, completing* need the lock of the home's network layer (one thread at a time, each sees what the last one did). *Taking
//! and giving back* need nothing: a core that runs out of work, or the home itself while another core has its lock, helps itself.
//!
//! | file | what |
//! |---|---|
//! | [`state`](Phase) | idle, ready, busy: the table |
//! | `lib.rs` | [`Shuffle`] |
//!
//! Sources: thesis sections 3.3 to 3.5 (shuffle queue, remote syscalls). Deliberately absent: what is on a slip, whom to steal from, and when
//! (dp/dataplane). The two queues are `sync::Offers` and `sync::Returns`; `tests/loom.rs` runs this crate and them through every interleaving,
//! `tests/shuttle.rs` the whole protocol around them through many, and `tests/stress.rs` does it on threads.
#![forbid(unsafe_code)]

mod state;

pub use state::{Phase, Step};
use sync::{Offers, Returns, Taken, TryLock};

/// The number of a slip of one particular [`Shuffle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slip(u32);

impl Slip {
    /// Its place among the slips that the layer was made with.
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// What came of an attempt to take.
#[derive(Debug)]
pub enum Take<T> {
    /// Work: to be run, and given back with its slip.
    One(Slip, T),
    /// Nothing is offered.
    Empty,
    /// Another core was faster; there may be more.
    Raced,
}

/// The shuffle queue of one core, its slips, and the way home.
#[derive(Debug)]
pub struct Shuffle<T> {
    offers: Offers,
    returns: Returns,
    /// `None` while somebody has it. The locks are never contended: a slip is in one hand at a time.
    slips: Box<[TryLock<Option<T>>]>,
}

impl<T> Shuffle<T> {
    /// The shuffle layer of a core with these slips. All of them are free: their numbers go to whoever fills.
    pub fn new(slips: impl IntoIterator<Item = T>) -> (Shuffle<T>, Vec<Slip>) {
        let slips: Box<[_]> = slips.into_iter().map(|slip| TryLock::new(Some(slip))).collect();
        let n = slips.len() as u32;
        (Shuffle { offers: Offers::new(slips.len()), returns: Returns::new(n), slips }, (0..n).map(Slip).collect())
    }

    /// Lets `with` at a slip that is free or returned: to fill it, or to carry out what came back on it. `None` if another has it,
    /// which means that the caller has no right to it.
    #[inline]
    pub fn with<R>(&self, slip: Slip, with: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.slips.get(slip.0 as usize)?.try_lock()?.as_mut().map(with)
    }

    /// Offers a filled slip to all cores. Under the home's lock. There is room for all slips.
    #[inline]
    pub fn offer(&self, slip: Slip) {
        let pushed = self.offers.push(slip.0);
        debug_assert!(pushed, "there is room for all slips");
    }

    /// Takes the slip out that was offered first. Any core.
    #[inline]
    pub fn take(&self) -> Take<T> {
        match self.offers.take() {
            Taken::Empty => Take::Empty,
            Taken::Raced => Take::Raced,
            Taken::One(n) => match self.lift(Slip(n)) {
                Some(work) => Take::One(Slip(n), work),
                None => Take::Raced,
            },
        }
    }

    /// Takes a free slip's contents out, to be given back like those of an offered one.
    #[inline]
    pub fn lift(&self, slip: Slip) -> Option<T> {
        self.slips.get(slip.0 as usize)?.try_lock()?.take()
    }

    /// Puts the contents of a slip back where they were, without returning it: for its home, which completes it at once.
    #[inline]
    pub fn put(&self, slip: Slip, work: T) {
        if let Some(mut place) = self.slips.get(slip.0 as usize).and_then(TryLock::try_lock) {
            *place = Some(work);
        }
    }

    /// Gives work back to its home. Any core; what comes of it is the home's affair, or that of whoever has its lock.
    #[inline]
    pub fn give_back(&self, slip: Slip, work: T) {
        self.put(slip, work);
        self.returns.push(slip.0);
    }

    /// Hands over all slips that came back, in their order. Under the home's lock.
    #[inline]
    pub fn returned(&self, mut each: impl FnMut(Slip)) {
        self.returns.take(|n| each(Slip(n)));
    }

    /// How much was offered a moment ago.
    #[inline]
    pub fn offered(&self) -> usize {
        self.offers.len()
    }

    /// Whether something had come back a moment ago.
    #[inline]
    pub fn has_returns(&self) -> bool {
        !self.returns.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slip_goes_round() {
        let (shuffle, free) = Shuffle::new([String::new(), String::new()]);
        assert!(matches!(shuffle.take(), Take::Empty));
        for (slip, text) in free.iter().zip(["a", "b"]) {
            shuffle.with(*slip, |s| s.push_str(text)).unwrap();
            shuffle.offer(*slip);
        }
        let (Take::One(first, a), Take::One(second, b)) = (shuffle.take(), shuffle.take()) else {
            panic!("two were offered")
        };
        assert_eq!((a.as_str(), b.as_str(), shuffle.offered()), ("a", "b", 0));
        assert!(shuffle.with(first, |_| ()).is_none(), "it is out");
        shuffle.give_back(second, b + "!");
        shuffle.give_back(first, a + "?");
        assert!(shuffle.has_returns());
        let mut home = Vec::new();
        shuffle.returned(|slip| home.push((slip, shuffle.with(slip, |s| s.clone()).unwrap())));
        assert_eq!(home, [(second, "b!".to_owned()), (first, "a?".to_owned())]);
        assert!(!shuffle.has_returns());
    }
}
