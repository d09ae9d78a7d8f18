use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use units::Nanos;

/// Frames under way, and when they come out: by instant, and in the order in which they were put in at equal instants.
///
/// Pushing and popping cost O(log n), and a walk over those that wait for later ones, which are at most a few hundred.
#[derive(Debug)]
pub struct Line<F> {
    heap: BinaryHeap<Reverse<Entry<F>>>,
    behind: Vec<Behind<F>>,
    seq: u64,
}

#[derive(Debug)]
struct Entry<F> {
    at: Nanos,
    seq: u64,
    frame: F,
}

/// A frame that waits for `left` later ones, or for an instant.
#[derive(Debug)]
struct Behind<F> {
    left: u32,
    until: Nanos,
    frame: F,
}

impl<F> Line<F> {
    /// An empty one.
    pub fn new() -> Line<F> {
        Line { heap: BinaryHeap::new(), behind: Vec::new(), seq: 0 }
    }

    /// Frames under way.
    pub fn len(&self) -> usize {
        self.heap.len() + self.behind.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.behind.is_empty()
    }

    /// A frame that comes out at `at`.
    pub fn push(&mut self, at: Nanos, frame: F) {
        self.insert(at, frame);
        for held in &mut self.behind {
            held.left -= 1;
        }
        while let Some(i) = self.behind.iter().position(|held| held.left == 0) {
            let Behind { until, frame, .. } = self.behind.remove(i);
            self.insert(at.min(until), frame);
        }
    }

    /// A frame that comes out behind `later` frames that are pushed after it, or at `until`.
    pub fn push_behind(&mut self, later: u32, until: Nanos, frame: F) {
        self.behind.push(Behind { left: later.max(1), until, frame });
    }

    fn insert(&mut self, at: Nanos, frame: F) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at, seq: self.seq, frame }));
    }

    /// The next frame that comes out at `now` or before.
    pub fn pop(&mut self, now: Nanos) -> Option<F> {
        if self.heap.peek().is_some_and(|Reverse(first)| first.at <= now) {
            return self.heap.pop().map(|Reverse(entry)| entry.frame);
        }
        let over = self.behind.iter().position(|held| held.until <= now)?;
        Some(self.behind.remove(over).frame)
    }

    /// When the next one comes out.
    pub fn due(&self) -> Option<Nanos> {
        let first = self.heap.peek().map(|Reverse(first)| first.at);
        first.into_iter().chain(self.behind.iter().map(|held| held.until)).min()
    }
}

impl<F> Default for Line<F> {
    fn default() -> Line<F> {
        Line::new()
    }
}

impl<F> Ord for Entry<F> {
    fn cmp(&self, other: &Entry<F>) -> Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

impl<F> PartialOrd for Entry<F> {
    fn partial_cmp(&self, other: &Entry<F>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<F> PartialEq for Entry<F> {
    fn eq(&self, other: &Entry<F>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<F> Eq for Entry<F> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(line: &mut Line<u32>, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| line.pop(Nanos(now))).collect()
    }

    #[test]
    fn frames_come_out_by_instant_then_in_order() {
        let mut line = Line::new();
        for (at, frame) in [(5, 1), (3, 2), (5, 3), (9, 4)] {
            line.push(Nanos(at), frame);
        }
        assert_eq!((line.due(), line.len()), (Some(Nanos(3)), 4));
        assert_eq!(all(&mut line, 5), [2, 1, 3]);
        assert_eq!((all(&mut line, 8), line.due()), (vec![], Some(Nanos(9))));
    }

    #[test]
    fn a_frame_waits_for_those_that_overtake_it() {
        let mut line = Line::new();
        line.push_behind(2, Nanos(100), 0);
        for frame in 1..=3 {
            line.push(Nanos(0), frame);
        }
        assert_eq!(all(&mut line, 0), [1, 2, 0, 3]);
    }

    #[test]
    fn but_not_for_ever() {
        let mut line = Line::new();
        line.push_behind(5, Nanos(100), 0);
        line.push(Nanos(0), 1);
        assert_eq!((all(&mut line, 99), line.due()), (vec![1], Some(Nanos(100))));
        assert_eq!(all(&mut line, 100), [0]);
        assert!(line.is_empty());
    }
}
