use units::Nanos;

use crate::nodes::{NIL, Nodes, TimerId};
use crate::occupied::Occupied;

const LEVELS: usize = 3;
const SLOTS: usize = 256;
/// Slots of a level, as a shift.
const BITS: u32 = 8;

/// The wheel of one core.
///
/// A timer with deadline `d` fires at the first [`Wheel::advance`] at or after `d` rounded up to a whole tick of 16 us:
/// never early, and less than one tick late if the caller advances often enough.
#[derive(Debug)]
pub struct Wheel {
    /// The next tick to be worked off: every tick before it is done.
    current: u64,
    occupied: [Occupied; LEVELS],
    /// Heads of the slots' lists.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    nodes: Nodes,
}

impl Wheel {
    /// The resolution.
    pub const TICK: Nanos = Nanos(16_000);

    /// A wheel for at most `n` armed timers. Reserves 32 bytes for each (pages become resident as they are used).
    ///
    /// # Panics
    /// If `n` does not fit 32 bits.
    pub fn with_capacity(n: usize) -> Wheel {
        Wheel {
            current: 0,
            occupied: [Occupied::default(); LEVELS],
            heads: Box::new([[NIL; SLOTS]; LEVELS]),
            nodes: Nodes::with_capacity(n),
        }
    }

    /// Armed timers.
    pub fn len(&self) -> usize {
        self.nodes.armed()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Arms a timer that hands `token` back when it is due. A deadline in the past fires at the next tick. `None` when
    /// the capacity is used up. Constant time.
    #[inline]
    pub fn arm(&mut self, deadline: Nanos, token: u64) -> Option<TimerId> {
        let (at, id) = self.nodes.take(tick_at_or_after(deadline), token)?;
        self.file(at);
        Some(id)
    }

    /// Disarms a timer; `false` when it had fired or been cancelled before. Constant time.
    #[inline]
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let Some(at) = self.nodes.find(id) else {
            return false;
        };
        self.unfile(at);
        self.nodes.give(at);
        true
    }

    /// The memory that [`Wheel::cancel`] touches first, for who wants to have it fetched.
    #[inline]
    pub fn peek(&self, id: TimerId) -> Option<&impl Sized> {
        self.nodes.get(id)
    }

    /// Moves an armed timer to another deadline; `false` when it had fired or been cancelled before. Constant time.
    #[inline]
    pub fn rearm(&mut self, id: TimerId, deadline: Nanos) -> bool {
        let Some(at) = self.nodes.find(id) else {
            return false;
        };
        self.unfile(at);
        self.nodes.node_mut(at).tick = tick_at_or_after(deadline);
        self.file(at);
        true
    }

    /// An instant until which the caller may sleep: no timer is due before it. It is exact for what is due within
    /// 4 ms, else it is when a slot must be re-filed, some time before the deadline. `None` when nothing is armed.
    /// Constant time.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.next_stop().map(|tick| Nanos(tick.saturating_mul(Wheel::TICK.0)))
    }

    /// Works off what is due at `now`, calling `fired` with each token in the order of ticks, and within a tick in the
    /// order of filing. Touches at most `budget` timers (fired or re-filed); the rest waits for the next call, which
    /// [`Wheel::next_deadline`] shows by an instant that is not after `now`. Returns how many fired.
    ///
    /// `now` never goes backwards; a jump costs a step per occupied slot that it passes.
    pub fn advance(&mut self, now: Nanos, budget: usize, fired: &mut impl FnMut(u64)) -> usize {
        let target = now.0 / Wheel::TICK.0;
        let mut left = budget;
        let mut count = 0;
        while self.current <= target {
            let Some(stop) = self.next_stop().filter(|&stop| stop <= target) else {
                self.current = target + 1;
                break;
            };
            self.current = stop;
            if !self.cascade(&mut left) {
                break;
            }
            let slot = stop as u8;
            while self.heads[0][usize::from(slot)] != NIL {
                if left == 0 {
                    return count;
                }
                left -= 1;
                let at = self.heads[0][usize::from(slot)];
                let token = self.nodes.node(at).token;
                self.unfile(at);
                self.nodes.give(at);
                count += 1;
                fired(token);
            }
        }
        count
    }

    /// Disarms every timer whose token `wanted` picks, and hands the token out: to be armed on another wheel. One pass over all armed timers.
    pub fn take_out(&mut self, wanted: impl Fn(u64) -> bool, mut taken: impl FnMut(u64)) {
        for level in 0..LEVELS {
            for slot in 0..SLOTS {
                let mut left = self.nodes.count(self.heads[level][slot]);
                let mut at = self.heads[level][slot];
                while left > 0 {
                    left -= 1;
                    let next = self.nodes.after(at);
                    let token = self.nodes.node(at).token;
                    if wanted(token) {
                        self.unfile(at);
                        self.nodes.give(at);
                        taken(token);
                    }
                    at = next;
                }
            }
        }
    }

    /// Re-files the slots of the upper levels whose time has come. `false`: the budget ran out before.
    #[inline]
    fn cascade(&mut self, left: &mut usize) -> bool {
        for level in (1..LEVELS).rev() {
            let slot = slot_of(self.current, level);
            // Nothing that is filed now lands in this slot again (see `file`), so this ends.
            while self.heads[level][usize::from(slot)] != NIL {
                if *left == 0 {
                    return false;
                }
                *left -= 1;
                let at = self.heads[level][usize::from(slot)];
                self.unfile(at);
                self.file(at);
            }
        }
        true
    }

    /// The earliest tick at which a slot is to be fired or re-filed.
    #[inline]
    fn next_stop(&self) -> Option<u64> {
        let mut stop: Option<u64> = None;
        for level in 0..LEVELS {
            let shift = BITS * level as u32;
            if let Some(distance) = self.occupied[level].distance(slot_of(self.current, level)) {
                // The current slot of an upper level (distance 0) is one whose re-filing ran out of budget.
                let tick = (((self.current >> shift) + distance) << shift).max(self.current);
                stop = Some(stop.map_or(tick, |s| s.min(tick)));
            }
        }
        stop
    }

    /// Puts a node where its tick says.
    ///
    /// ```text
    ///   level 0:  tick within 256 ticks of current           slot = tick mod 256
    ///   level n:  within 255 slots of current's slot         slot = (tick >> 8n) mod 256, never current's own
    ///   beyond:   level 2, the last slot before current's own
    /// ```
    #[inline]
    fn file(&mut self, at: u32) {
        let tick = self.nodes.node(at).tick.max(self.current);
        let (level, slot) = if tick - self.current < SLOTS as u64 {
            (0, tick as u8)
        } else if (tick >> BITS) - (self.current >> BITS) < SLOTS as u64 {
            (1, slot_of(tick, 1))
        } else if (tick >> (2 * BITS)) - (self.current >> (2 * BITS)) < SLOTS as u64 {
            (2, slot_of(tick, 2))
        } else {
            (2, slot_of(self.current, 2).wrapping_sub(1))
        };
        self.nodes.node_mut(at).place = (level << BITS) as u16 | u16::from(slot);
        self.nodes.append(&mut self.heads[level][usize::from(slot)], at);
        self.occupied[level].set(slot);
    }

    /// Takes a node out of its slot.
    #[inline]
    fn unfile(&mut self, at: u32) {
        let place = self.nodes.node(at).place;
        let (level, slot) = (usize::from(place >> BITS), place as u8);
        let head = &mut self.heads[level][usize::from(slot)];
        self.nodes.unlink(head, at);
        if *head == NIL {
            self.occupied[level].clear(slot);
        }
    }
}

#[inline]
fn slot_of(tick: u64, level: usize) -> u8 {
    (tick >> (BITS * level as u32)) as u8
}

#[inline]
fn tick_at_or_after(deadline: Nanos) -> u64 {
    deadline.0.div_ceil(Wheel::TICK.0)
}
