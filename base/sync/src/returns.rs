//! The way back of numbered things: many return, one takes all that came, and none is ever refused.
//!
//! A stack whose links are an array, one place per number. A number is returned by whoever has it and by nobody twice before it
//! was taken, so its place is free when it comes: nothing can overflow. As nobody pops a single one, a head that went away and came
//! back does no harm.

use crate::atomic::{AtomicU32, Ordering};
use crate::ring::Line;

/// No number.
const NONE: u32 = u32::MAX;

/// Returned numbers below a bound that is fixed at start.
#[derive(Debug)]
pub struct Returns {
    head: Line<AtomicU32>,
    next: Box<[AtomicU32]>,
}

impl Returns {
    /// For the numbers below `bound`.
    pub fn new(bound: u32) -> Returns {
        Returns { head: Line(AtomicU32::new(NONE)), next: (0..bound).map(|_| AtomicU32::new(NONE)).collect() }
    }

    /// Returns `number`. Any thread that has it; false for a number that is out of bounds.
    #[inline]
    pub fn push(&self, number: u32) -> bool {
        let Some(next) = self.next.get(number as usize) else { return false };
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            next.store(head, Ordering::Relaxed);
            match self.head.0.compare_exchange_weak(head, number, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all that was returned and hands it to `each` in the order in which it came. One taker at a time.
    #[inline]
    pub fn take(&self, mut each: impl FnMut(u32)) {
        if self.is_empty() {
            return;
        }
        // Acquire: what the returners did before.
        let mut last = self.head.0.swap(NONE, Ordering::Acquire);
        // Turned round in place, for the chain begins with the newest.
        let mut first = NONE;
        while let Some(next) = self.next.get(last as usize) {
            let before = next.load(Ordering::Relaxed);
            next.store(first, Ordering::Relaxed);
            (first, last) = (last, before);
        }
        while let Some(next) = self.next.get(first as usize) {
            let number = first;
            // Read before `each`, which may let the number go round again.
            first = next.load(Ordering::Relaxed);
            each(number);
        }
    }

    /// Whether nothing had been returned a moment ago.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.0.load(Ordering::Relaxed) == NONE
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn taken(returns: &Returns) -> Vec<u32> {
        let mut all = Vec::new();
        returns.take(|n| all.push(n));
        all
    }

    #[test]
    fn all_come_back_in_their_order() {
        let returns = Returns::new(5);
        assert!(returns.is_empty() && taken(&returns).is_empty());
        for order in [vec![3, 0, 4, 1, 2], vec![2], vec![4, 3]] {
            assert!(order.iter().all(|n| returns.push(*n)));
            assert!(!returns.is_empty());
            assert_eq!(taken(&returns), order);
        }
        assert!(!returns.push(5), "no such number");
        assert!(returns.is_empty());
    }

    #[test]
    fn a_number_may_come_back_while_others_are_handed_out() {
        let returns = Returns::new(3);
        assert!(returns.push(0) && returns.push(1));
        let mut again = true;
        returns.take(|n| {
            if std::mem::take(&mut again) {
                assert!(returns.push(n) && returns.push(2));
            }
        });
        assert_eq!(taken(&returns), [0, 2]);
    }
}
