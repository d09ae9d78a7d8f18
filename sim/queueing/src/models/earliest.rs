//! An instant for each server, and which of them is the earliest.
//!
//! ```text
//!                 1: min(2, 3)                  a tournament: each inner place has the lesser of the two below it,
//!          2: min(4, 5)    3: min(6, 7)         so that a change touches one place a level. Levels are followed
//!        4: t0   5: t1   6: t2   7: never       by arithmetic, not by branches that a processor would guess wrong.
//! ```

/// Instants of `n` servers.
#[derive(Clone, Debug)]
pub(crate) struct Earliest {
    /// Place 0 is not used; the servers' instants begin at `leaves`.
    tree: Vec<f64>,
    /// A power of two.
    leaves: usize,
}

impl Earliest {
    /// All `n` (at least one) servers have the instant `at`.
    pub(crate) fn new(n: usize, at: f64) -> Earliest {
        let leaves = n.max(1).next_power_of_two();
        let mut tree = vec![f64::INFINITY; 2 * leaves];
        tree[leaves..leaves + n.max(1)].fill(at);
        for i in (1..leaves).rev() {
            tree[i] = least(tree[2 * i], tree[2 * i + 1]);
        }
        Earliest { tree, leaves }
    }

    /// A server with the earliest instant, and that. O(log n).
    #[inline]
    pub(crate) fn first(&self) -> (usize, f64) {
        let at = self.tree[1];
        let mut i = 1;
        while i < self.leaves {
            i = 2 * i + usize::from(self.tree[2 * i] != at);
        }
        (i - self.leaves, at)
    }

    /// Gives server `nth` another instant; infinity for never. O(log n).
    #[inline]
    pub(crate) fn set(&mut self, nth: usize, at: f64) {
        let mut i = self.leaves + nth;
        let mut up = at;
        self.tree[i] = at;
        while i > 1 {
            up = least(up, self.tree[i ^ 1]);
            i /= 2;
            self.tree[i] = up;
        }
    }
}

/// One instruction, unlike `f64::min`, which must mind what is no number.
#[inline]
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_is_the_least(n in 1..40usize, sets in proptest::collection::vec((0..40usize, 0.0..10.0f64), 0..100)) {
            let mut earliest = Earliest::new(n, 5.0);
            let mut model = vec![5.0; n];
            for (nth, at) in sets {
                earliest.set(nth % n, at);
                model[nth % n] = at;
                let (first, instant) = earliest.first();
                prop_assert_eq!(instant, model.iter().copied().fold(f64::INFINITY, f64::min));
                prop_assert_eq!(model[first], instant);
            }
        }
    }
}
