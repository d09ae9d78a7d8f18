//! Half-open connections of one flow group: small entries in a fixed number, so that a flood of SYNs costs what it costs at start.

use tcp::HalfOpen;
use wheel::TimerId;

use crate::addresses::Ends;

/// A SYN that we answered.
pub(crate) struct Half {
    pub(crate) ends: Ends,
    pub(crate) hash: u64,
    pub(crate) half: HalfOpen,
    /// Its armed timer: it must not outlive the entry, or handshakes would use up the wheel.
    pub(crate) timer: Option<TimerId>,
    pub(crate) generation: u32,
}

/// A fixed number of entries.
pub(crate) struct HalfTable {
    slots: Vec<Option<Half>>,
    free: Vec<u32>,
    generation: u32,
}

impl HalfTable {
    pub(crate) fn new(limit: usize) -> HalfTable {
        HalfTable { slots: (0..limit).map(|_| None).collect(), free: (0..limit as u32).rev().collect(), generation: 0 }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Half> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Half> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Adds an entry; `None` when all are in use.
    pub(crate) fn insert(&mut self, ends: Ends, hash: u64, half: HalfOpen) -> Option<u32> {
        let slot = self.free.pop()?;
        self.generation = self.generation.wrapping_add(1);
        self.slots[slot as usize] = Some(Half { ends, hash, half, timer: None, generation: self.generation });
        Some(slot)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Half> {
        let half = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(half)
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * (size_of::<Option<Half>>() + 4)
    }
}
