//! Eviction: a clock hand goes round the shard's table. An item that was read since the last round is spared once.

use super::item::Marks;
use super::shard::Shard;
use crate::clock::Secs;

/// How many read items one eviction spares; after that the next one goes, read or not. Bounds the work.
const GRACE: usize = 64;

/// How many slots a shard that may not evict looks at for expired items, each time it lacks memory.
const REAP: usize = 64;

impl Shard {
    /// Drops one item, expired ones first met first; never the one at `pinned`. Returns the memory that it held.
    pub(crate) fn evict(&mut self, now: Secs, pinned: Option<u32>) -> Option<usize> {
        let mut grace = GRACE;
        // Two rounds at most: one may be spent on sparing.
        for _ in 0..2 * self.entries.len() {
            let at = self.next_slot();
            let entry = &mut self.entries[at as usize];
            if !entry.marks.has(Marks::USED) || Some(at) == pinned {
                continue;
            }
            if entry.expired(now) || entry.epoch != self.epoch {
                return Some(self.reap(at));
            }
            if entry.marks.has(Marks::RECENT) && grace > 0 {
                entry.marks = entry.marks.without(Marks::RECENT);
                grace -= 1;
                continue;
            }
            self.tally.evictions += 1;
            self.tally.evicted_unfetched += u64::from(!entry.marks.has(Marks::FETCHED));
            return Some(self.remove(at));
        }
        None
    }

    /// Drops the expired items among the next few slots; returns the memory that they held.
    pub(crate) fn reap_some(&mut self, now: Secs, pinned: Option<u32>) -> usize {
        let mut freed = 0;
        for _ in 0..REAP.min(self.entries.len()) {
            let at = self.next_slot();
            let entry = &self.entries[at as usize];
            if entry.marks.has(Marks::USED) && Some(at) != pinned && (entry.expired(now) || entry.epoch != self.epoch) {
                freed += self.reap(at);
            }
        }
        freed
    }

    fn reap(&mut self, at: u32) -> usize {
        self.tally.reclaimed += 1;
        self.tally.expired_unfetched += u64::from(!self.entries[at as usize].marks.has(Marks::FETCHED));
        self.remove(at)
    }

    fn next_slot(&mut self) -> u32 {
        let at = self.hand;
        self.hand = if at as usize + 1 < self.entries.len() { at + 1 } else { 0 };
        at
    }
}
