//! The indices of a ring with one producer and one consumer; what the slots hold is their owners' affair.
//!
//! ```text
//!              head (consumer writes)      tail (producer writes)
//!               v                           v
//!   | free | free | ready | ready | ready | free | ...     slot of index i: i mod slots
//! ```
//!
//! Indices count frames for ever (and wrap); each end keeps a private copy of both and looks at the other's only when
//! its copy says full or too few, so in steady state one release store per burst is all that crosses cores.
//!
//! The other end may be another process, and lie. An index from it counts only if it leaves between 0 and `slots`
//! frames; slot numbers are masked whatever happens. So a lie costs the liar frames, and nobody memory.
//!
//! Zeroed memory is an empty ring.

use crate::atomic::{AtomicU32, Ordering};

/// A value on cache lines of its own (two, since processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Line<T>(pub T);

/// The half of a ring that both ends see.
#[derive(Debug)]
#[repr(C)]
pub struct Ends {
    tail: Line<AtomicU32>,
    head: Line<AtomicU32>,
}

impl Ends {
    /// An empty ring.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Ends {
        Ends { tail: Line(AtomicU32::new(0)), head: Line(AtomicU32::new(0)) }
    }

    /// Whether frames seemed to wait a moment ago: for anybody who looks on.
    #[inline]
    pub fn waiting(&self) -> bool {
        self.tail.0.load(Ordering::Relaxed) != self.head.0.load(Ordering::Relaxed)
    }
}

/// The end that fills slots. There is one per [`Ends`], and it always gets the same one.
#[derive(Debug)]
pub struct Producer {
    slots: u32,
    /// The next slot to fill.
    tail: u32,
    /// What the consumer knows of `tail`.
    published: u32,
    /// The consumer's head, when last looked at.
    head: u32,
    lies: u64,
}

/// The end that empties slots. There is one per [`Ends`], and it always gets the same one.
#[derive(Debug)]
pub struct Consumer {
    slots: u32,
    /// The next slot to empty.
    head: u32,
    /// What the producer knows of `head`.
    released: u32,
    /// The producer's tail, when last looked at.
    tail: u32,
    lies: u64,
}

impl Producer {
    /// The producer of an empty ring of `slots`, a power of two.
    pub const fn new(slots: u32) -> Producer {
        assert!(slots.is_power_of_two());
        Producer { slots, tail: 0, published: 0, head: 0, lies: 0 }
    }

    /// The slot to fill next, or none while all are full.
    #[inline]
    pub fn slot(&mut self, ends: &Ends) -> Option<usize> {
        if self.tail.wrapping_sub(self.head) == self.slots {
            let head = ends.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(head) > self.slots {
                self.lies += 1;
                return None;
            }
            self.head = head;
            if self.tail.wrapping_sub(head) == self.slots {
                return None;
            }
        }
        Some((self.tail & (self.slots - 1)) as usize)
    }

    /// Whether `n` slots are free, or more: then [`slot`](Self::slot) yields that many. Looks at the consumer's index only if fewer are known of.
    #[inline]
    pub fn has_room(&mut self, ends: &Ends, n: u32) -> bool {
        if self.slots - self.tail.wrapping_sub(self.head) >= n {
            return true;
        }
        let head = ends.head.0.load(Ordering::Acquire);
        let filled = self.tail.wrapping_sub(head);
        if filled > self.slots {
            self.lies += 1;
            return false;
        }
        self.head = head;
        self.slots - filled >= n
    }

    /// The slot is filled; the consumer learns of it by [`publish`](Self::publish).
    #[inline]
    pub fn push(&mut self) {
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the consumer all slots filled so far: one release store.
    #[inline]
    pub fn publish(&mut self, ends: &Ends) {
        if self.published != self.tail {
            self.published = self.tail;
            ends.tail.0.store(self.tail, Ordering::Release);
        }
    }

    /// How far the ring has been filled, for [`passed`](Self::passed).
    pub fn mark(&self) -> u32 {
        self.tail
    }

    /// Whether the consumer has emptied every slot that was filled before `mark`.
    pub fn passed(&self, ends: &Ends, mark: u32) -> bool {
        let left = mark.wrapping_sub(ends.head.0.load(Ordering::Acquire));
        // An index beyond the mark leaves more than there are slots, if it is no lie; and who lies about what it has had harms itself.
        left == 0 || left > self.slots
    }

    /// How often the consumer's index was impossible.
    pub fn lies(&self) -> u64 {
        self.lies
    }
}

impl Consumer {
    /// The consumer of an empty ring of `slots`, a power of two.
    pub const fn new(slots: u32) -> Consumer {
        assert!(slots.is_power_of_two());
        Consumer { slots, head: 0, released: 0, tail: 0, lies: 0 }
    }

    /// How many slots are ready, up to `want`. Looks at the producer's index only if fewer are known of.
    #[inline]
    pub fn ready(&mut self, ends: &Ends, want: u32) -> u32 {
        let known = self.tail.wrapping_sub(self.head);
        if known >= want {
            return want;
        }
        let tail = ends.tail.0.load(Ordering::Acquire);
        let ready = tail.wrapping_sub(self.head);
        if ready > self.slots {
            self.lies += 1;
            return known;
        }
        self.tail = tail;
        ready.min(want)
    }

    /// The slot to empty next, `ahead` of those at hand: one of the [`ready`](Self::ready) ones if `ahead` is below
    /// their number.
    #[inline]
    pub fn slot(&self, ahead: u32) -> usize {
        (self.head.wrapping_add(ahead) & (self.slots - 1)) as usize
    }

    /// The slot is emptied; the producer gets it back by [`release`](Self::release).
    #[inline]
    pub fn pop(&mut self) {
        self.head = self.head.wrapping_add(1);
    }

    /// Where the ring ends now.
    pub fn mark(&mut self, ends: &Ends) -> u32 {
        self.ready(ends, u32::MAX);
        self.tail
    }

    /// Whether all that was there when `mark` was made has been emptied. Only while no more than 2^31 slots have been since.
    pub fn passed(&self, mark: u32) -> bool {
        self.head.wrapping_sub(mark) as i32 >= 0
    }

    /// Gives all slots emptied so far back to the producer: one release store.
    #[inline]
    pub fn release(&mut self, ends: &Ends) {
        if self.released != self.head {
            self.released = self.head;
            ends.head.0.store(self.head, Ordering::Release);
        }
    }

    /// How often the producer's index was impossible.
    pub fn lies(&self) -> u64 {
        self.lies
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_passed_when_what_was_there_is_emptied_whatever_came_since() {
        for start in [0, u32::MAX - 1] {
            let (ends, mut producer, mut consumer) = ring(start);
            let fill = |producer: &mut Producer| {
                assert!(producer.has_room(&ends, 1));
                producer.push();
                producer.publish(&ends);
            };
            let empty = consumer.mark(&ends);
            assert!(consumer.passed(empty));
            fill(&mut producer);
            fill(&mut producer);
            let mark = consumer.mark(&ends);
            let seen = [(); 2].map(|()| {
                fill(&mut producer);
                assert!(!consumer.passed(mark) && consumer.ready(&ends, 1) == 1);
                consumer.pop();
                consumer.passed(mark)
            });
            assert_eq!(seen, [false, true]);
        }
    }

    fn ring(start: u32) -> (Ends, Producer, Consumer) {
        let (mut producer, mut consumer) = (Producer::new(4), Consumer::new(4));
        (producer.tail, producer.published, producer.head) = (start, start, start);
        (consumer.head, consumer.released, consumer.tail) = (start, start, start);
        (Ends { tail: Line(start.into()), head: Line(start.into()) }, producer, consumer)
    }

    #[test]
    fn a_mark_is_passed_when_all_before_it_are_emptied() {
        let (ends, mut producer, mut consumer) = ring(u32::MAX - 1);
        (0..3).for_each(|_| producer.push());
        let mark = producer.mark();
        producer.push();
        producer.publish(&ends);
        assert_eq!(consumer.ready(&ends, 4), 4);
        let passed = [(); 4].map(|()| {
            consumer.pop();
            consumer.release(&ends);
            producer.passed(&ends, mark)
        });
        assert_eq!(passed, [false, false, true, true]);
    }

    #[test]
    fn the_ring_fills_empties_and_wraps() {
        let (ends, mut producer, mut consumer) = ring(u32::MAX - 1);
        for _ in 0..3 {
            let mut filled = Vec::new();
            while let Some(slot) = producer.slot(&ends) {
                filled.push(slot);
                producer.push();
            }
            assert_eq!(filled, [2, 3, 0, 1]);
            assert_eq!(consumer.ready(&ends, 9), 0, "nothing is ready before it is published");
            producer.publish(&ends);
            assert_eq!((consumer.ready(&ends, 9), consumer.ready(&ends, 3)), (4, 3));
            for slot in filled {
                assert_eq!(consumer.slot(0), slot);
                consumer.pop();
            }
            assert_eq!(producer.slot(&ends), None, "nothing is free before it is released");
            consumer.release(&ends);
        }
        assert_eq!((producer.lies(), consumer.lies()), (0, 0));
    }

    #[test]
    fn room_is_what_is_free() {
        let (ends, mut producer, mut consumer) = ring(u32::MAX - 1);
        assert!(producer.has_room(&ends, 4) && !producer.has_room(&ends, 5));
        for _ in 0..3 {
            assert!(producer.slot(&ends).is_some());
            producer.push();
        }
        producer.publish(&ends);
        assert!(producer.has_room(&ends, 1) && !producer.has_room(&ends, 2));
        assert_eq!(consumer.ready(&ends, 2), 2);
        consumer.pop();
        consumer.pop();
        assert!(!producer.has_room(&ends, 2), "nothing is free before it is released");
        consumer.release(&ends);
        assert!(producer.has_room(&ends, 3) && !producer.has_room(&ends, 4));
        ends.head.0.store(7, Ordering::Relaxed);
        assert!(!producer.has_room(&ends, 4) && producer.has_room(&ends, 3), "an impossible index changes nothing");
        assert_eq!(producer.lies(), 1);
    }

    #[test]
    fn impossible_indices_are_counted_and_ignored() {
        let (ends, mut producer, mut consumer) = ring(10);
        for tail in [15, 9, 10 + (1 << 31), 0] {
            ends.tail.0.store(tail, Ordering::Relaxed);
            assert_eq!(consumer.ready(&ends, 9), 0, "tail {tail}");
        }
        assert_eq!(consumer.lies(), 4);
        while producer.slot(&ends).is_some() {
            producer.push();
        }
        for head in [9, 15, 0, 10 + (1 << 31)] {
            ends.head.0.store(head, Ordering::Relaxed);
            assert_eq!(producer.slot(&ends), None, "head {head}");
        }
        assert_eq!(producer.lies(), 4);
        producer.publish(&ends);
        assert_eq!(consumer.ready(&ends, 9), 4, "an honest index is believed again");
    }
}
