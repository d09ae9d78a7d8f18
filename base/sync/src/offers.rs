//! A queue with one pusher and any number of takers: how ready work is offered to every core.
//!
//! ```text
//!   slots  [ . . 7 2 9 . . ]     numbers, whatever they name
//!              ^     ^
//!              head  tail        takers move head by compare-exchange; the pusher moves tail
//! ```
//!
//! The pusher is whoever holds the lock that guards the pushing side: one at a time, and what one did the next has seen. Takers
//! need nothing. Nobody waits for anybody: a taker that is descheduled in the middle has either taken its number or not.
//!
//! A slot is written again only after `head` has passed it, so a taker whose compare-exchange succeeds has read what was
//! pushed there: had the slot changed, `head` would have, too.

use crate::atomic::{AtomicU32, Ordering};
use crate::ring::Line;

/// A bounded queue of numbers, first in, first out.
#[derive(Debug)]
pub struct Offers {
    head: Line<AtomicU32>,
    tail: Line<AtomicU32>,
    slots: Box<[AtomicU32]>,
}

/// What came of an attempt to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// This one.
    One(u32),
    /// Nothing is offered.
    Empty,
    /// Another was faster; there may be more.
    Raced,
}

impl Offers {
    /// A queue of at most `capacity` numbers, which is rounded up to a power of two.
    pub fn new(capacity: usize) -> Offers {
        Offers {
            head: Line(AtomicU32::new(0)),
            tail: Line(AtomicU32::new(0)),
            slots: (0..capacity.next_power_of_two()).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Offers `number`; false when the queue is full. One pusher at a time.
    #[inline]
    #[must_use = "a number that was not pushed is still the caller's"]
    pub fn push(&self, number: u32) -> bool {
        let tail = self.tail.0.load(Ordering::Relaxed);
        // Acquire: the takers' reads of the slot are over.
        let head = self.head.0.load(Ordering::Acquire);
        if tail.wrapping_sub(head) as usize >= self.slots.len() {
            return false;
        }
        self.slot(tail).store(number, Ordering::Relaxed);
        self.tail.0.store(tail.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest, in one attempt. Any thread.
    #[inline]
    pub fn take(&self) -> Taken {
        let head = self.head.0.load(Ordering::Acquire);
        if head == self.tail.0.load(Ordering::Acquire) {
            return Taken::Empty;
        }
        let number = self.slot(head).load(Ordering::Relaxed);
        match self.head.0.compare_exchange(head, head.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Taken::One(number),
            Err(_) => Taken::Raced,
        }
    }

    /// How many were offered a moment ago.
    #[inline]
    pub fn len(&self) -> usize {
        let head = self.head.0.load(Ordering::Relaxed);
        // Read one after the other: takers may have passed the tail that was read, never by more than the capacity.
        (self.tail.0.load(Ordering::Relaxed).wrapping_sub(head) as usize).min(self.slots.len())
    }

    /// Whether nothing was offered a moment ago.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn slot(&self, at: u32) -> &AtomicU32 {
        &self.slots[at as usize & (self.slots.len() - 1)]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_and_no_more_than_fit() {
        let offers = Offers::new(3);
        assert_eq!(offers.take(), Taken::Empty);
        for round in 0..10 {
            for n in 0..4 {
                assert!(offers.push(10 * round + n), "four slots for three");
            }
            assert!(!offers.push(99) && offers.len() == 4);
            for n in 0..4 {
                assert_eq!(offers.take(), Taken::One(10 * round + n));
            }
            assert!(offers.is_empty() && offers.take() == Taken::Empty);
        }
    }

    #[test]
    fn indices_may_wrap() {
        let mut offers = Offers::new(4);
        (offers.head, offers.tail) = (Line(AtomicU32::new(u32::MAX - 1)), Line(AtomicU32::new(u32::MAX - 1)));
        for n in 0..4 {
            assert!(offers.push(n));
        }
        assert!(!offers.push(4));
        assert_eq!([(); 4].map(|()| offers.take()), [0, 1, 2, 3].map(Taken::One));
    }
}
