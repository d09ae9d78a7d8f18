use std::sync::Arc;

use super::budget::Budget;
use super::item::{Data, Entry, Marks, cost};
use crate::clock::{NEVER, Secs};

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// Buckets that a new shard starts with; a power of two.
const FIRST_BUCKETS: usize = 64;

/// What looking for a key came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    /// Here it is.
    Hit(u32),
    Miss,
    /// It was there, past its time; now it is gone.
    Expired,
    /// It was there, from before a `flush_all`; now it is gone.
    Flushed,
}

impl Lookup {
    pub(crate) fn hit(self) -> Option<u32> {
        match self {
            Lookup::Hit(at) => Some(at),
            Lookup::Miss | Lookup::Expired | Lookup::Flushed => None,
        }
    }
}

/// So many bytes are missing. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Short(pub(crate) usize);

/// What a shard has seen, for `stats`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) stored: u64,
    pub(crate) evictions: u64,
    pub(crate) evicted_unfetched: u64,
    pub(crate) reclaimed: u64,
    pub(crate) expired_unfetched: u64,
}

/// A part of the store: all items whose keys hash to it. Used under its lock.
///
/// The index is a linear hash table: one bucket is split for each item beyond one per bucket, so no insertion
/// pays for the growth of the whole. Chains run through the entries.
///
/// ```text
///   heads:    [ 3 | NIL | 0 | ... ]            bucket -> first entry
///   entries:  [ e0 -> e7 | e1 | free | ... ]   slots are reused before the table grows; the clock hand walks here
/// ```
#[derive(Debug)]
pub(crate) struct Shard {
    heads: Vec<u32>,
    /// The least power of two that is not below the number of buckets, minus one.
    mask: u32,
    pub(super) entries: Vec<Entry>,
    free: u32,
    items: u32,
    /// Bytes of small items and of all overheads; never above `quota`.
    used: usize,
    /// Bytes claimed from the budget.
    quota: usize,
    /// The claim grows in steps of this many bytes, so that the shared budget is rarely touched.
    step: usize,
    budget: Arc<Budget>,
    pub(super) hand: u32,
    /// Items of earlier epochs are flushed.
    pub(super) epoch: u32,
    /// When the next epoch begins, if a delayed flush is pending.
    flush_at: Secs,
    next_cas: u64,
    cas_step: u64,
    pub(super) tally: Tally,
}

impl Shard {
    /// Shard `index` of `count`: its cas values are those that leave `index` when divided by `count`.
    pub(super) fn new(index: usize, count: usize, step: usize, budget: &Arc<Budget>) -> Shard {
        Shard {
            heads: vec![NIL; FIRST_BUCKETS],
            mask: FIRST_BUCKETS as u32 - 1,
            entries: Vec::new(),
            free: NIL,
            items: 0,
            used: 0,
            quota: 0,
            step,
            budget: Arc::clone(budget),
            hand: 0,
            epoch: 0,
            flush_at: NEVER,
            next_cas: (count + index) as u64,
            cas_step: count as u64,
            tally: Tally::default(),
        }
    }

    /// Items in the table, expired and flushed ones that nobody met included.
    pub(crate) fn items(&self) -> u32 {
        self.items
    }

    /// Bytes accounted for.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes claimed from the budget and not used yet.
    pub(crate) fn reserve(&self) -> usize {
        self.quota - self.used
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// All items, for statistics.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.marks.has(Marks::USED))
    }

    #[inline]
    pub(crate) fn entry(&self, at: u32) -> &Entry {
        &self.entries[at as usize]
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.entries[at as usize]
    }

    /// Makes everything stored before `at` invisible from then on (`at` in the past: from now on).
    pub(crate) fn flush(&mut self, now: Secs, at: Secs) {
        self.flush_at = at.max(1);
        self.tick(now);
    }

    /// Begins the next epoch if a delayed flush is due. Each operation on a shard comes through here first.
    #[inline]
    fn tick(&mut self, now: Secs) {
        if self.flush_at != NEVER && self.flush_at <= now {
            self.flush_at = NEVER;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// A cas value that was never used.
    pub(super) fn fresh_cas(&mut self) -> u64 {
        let cas = self.next_cas;
        self.next_cas += self.cas_step;
        cas
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        let bucket = (hash & self.mask) as usize;
        if bucket < self.heads.len() { bucket } else { (hash & self.mask >> 1) as usize }
    }

    /// Looks for a key. An item that has expired or was flushed is dropped on the way.
    #[inline]
    pub(crate) fn lookup(&mut self, now: Secs, hash: u32, key: &[u8]) -> Lookup {
        self.tick(now);
        let mut at = self.heads[self.bucket(hash)];
        while at != NIL {
            let entry = &self.entries[at as usize];
            if entry.hash == hash && entry.key() == key {
                if entry.expired(now) || entry.epoch != self.epoch {
                    return self.drop_dead(at);
                }
                return Lookup::Hit(at);
            }
            at = entry.next;
        }
        Lookup::Miss
    }

    #[cold]
    fn drop_dead(&mut self, at: u32) -> Lookup {
        let flushed = self.entries[at as usize].epoch != self.epoch;
        self.delete(at);
        if flushed { Lookup::Flushed } else { Lookup::Expired }
    }

    /// Takes an item out for good: nothing waits for its memory, so much of it is returned to the budget.
    pub(crate) fn delete(&mut self, at: u32) {
        self.remove(at);
        if self.reserve() > 8 * self.step {
            let surplus = self.reserve() - self.step;
            self.quota -= surplus;
            self.budget.give(surplus);
        }
    }

    /// Takes an item out, to make room in this shard. Returns the memory that went with it.
    pub(super) fn remove(&mut self, at: u32) -> usize {
        let Entry { data, hash, next, .. } = std::mem::take(self.entry_mut(at));
        let bucket = self.bucket(hash);
        let mut from = self.heads[bucket];
        if from == at {
            self.heads[bucket] = next;
        } else {
            while self.entries[from as usize].next != at {
                from = self.entries[from as usize].next;
            }
            self.entries[from as usize].next = next;
        }
        self.entries[at as usize].next = self.free;
        self.free = at;
        self.items -= 1;
        self.used -= data.cost();
        data.footprint()
    }

    /// Makes `need` more bytes usable: from the quota, from the budget, or by evicting (never the item at `pinned`).
    pub(super) fn room(&mut self, now: Secs, need: usize, pinned: Option<u32>, evict: bool) -> Result<(), Short> {
        let enough = |shard: &Shard| shard.used + need <= shard.quota;
        if enough(self) {
            return Ok(());
        }
        let missing = self.used + need - self.quota;
        for claim in [missing.max(self.step), missing] {
            if self.budget.take(claim) {
                self.quota += claim;
                return Ok(());
            }
        }
        if !evict {
            self.reap_some(now, pinned);
        }
        while evict && !enough(self) && self.evict(now, pinned).is_some() {}
        if enough(self) { Ok(()) } else { Err(Short(missing)) }
    }

    /// Returns unused quota to the budget, after evicting until `target` bytes have come free.
    pub(super) fn give_back(&mut self, now: Secs, target: usize, evict: bool) {
        self.tick(now);
        let mut freed = self.reserve();
        if !evict {
            freed += self.reap_some(now, None);
        }
        while evict && freed < target {
            let Some(more) = self.evict(now, None) else { break };
            freed += more;
        }
        self.budget.give(self.reserve());
        self.quota = self.used;
    }

    /// Adds bytes that are already claimed from the budget to the quota.
    pub(super) fn adopt(&mut self, bytes: usize) {
        self.quota += bytes;
    }

    /// Puts new data at `at`, whose cost the quota must cover.
    pub(super) fn swap_data(&mut self, at: u32, data: Data) {
        let new = data.cost();
        let old = std::mem::replace(&mut self.entry_mut(at).data, data).cost();
        self.used = self.used + new - old;
        debug_assert!(self.used <= self.quota);
    }

    /// Adds an item with this data, whose cost the quota must cover. The caller fills in the rest.
    pub(super) fn insert(&mut self, hash: u32, key_len: usize, data: Data) -> u32 {
        self.used += data.cost();
        debug_assert!(self.used <= self.quota);
        self.items += 1;
        if self.items as usize > self.heads.len() {
            self.split();
        }
        let bucket = self.bucket(hash);
        let entry = Entry {
            data,
            hash,
            next: self.heads[bucket],
            key_len: key_len as u8,
            marks: Marks::USED,
            epoch: self.epoch,
            ..Entry::default()
        };
        let at = if self.free == NIL {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        } else {
            let at = self.free;
            self.free = self.entries[at as usize].next;
            self.entries[at as usize] = entry;
            at
        };
        self.heads[bucket] = at;
        at
    }

    /// Adds a bucket and moves to it what belongs there.
    fn split(&mut self) {
        let fresh = self.heads.len() as u32;
        if fresh > self.mask {
            self.mask = self.mask << 1 | 1;
        }
        let source = (fresh & self.mask >> 1) as usize;
        let mut at = std::mem::replace(&mut self.heads[source], NIL);
        self.heads.push(NIL);
        while at != NIL {
            let next = self.entries[at as usize].next;
            let bucket = self.bucket(self.entries[at as usize].hash);
            self.entries[at as usize].next = self.heads[bucket];
            self.heads[bucket] = at;
            at = next;
        }
    }

    /// What replacing the item at `at` (or adding one) by a small item of `len` bytes takes beyond what is used.
    pub(super) fn growth(&self, at: Option<u32>, len: usize) -> usize {
        cost(len).saturating_sub(at.map_or(0, |at| self.entry(at).data.cost()))
    }
}
