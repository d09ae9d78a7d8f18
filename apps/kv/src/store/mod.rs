//! The store: shards with a lock each, chosen by a keyed hash, and the memory that they share.
//!
//! | file | what |
//! |---|---|
//! | `shard.rs` | index and table of one shard, and its claim on memory |
//! | `put.rs` | storing, joining, counting |
//! | `clock_hand.rs` | eviction |
//! | `item.rs` | an item, small or large |
//! | `budget.rs` | unclaimed memory, and claims on it |
//!
//! A lock is held for one operation on one item: at most the copy of 4 KiB, the few evictions that one store
//! needs, or a join of large values.

mod budget;
mod clock_hand;
mod item;
mod put;
mod shard;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use siphasher::sip::SipHasher13;

use budget::Budget;
use put::Means;

pub(crate) use budget::Charge;
use item::HEADER;
pub(crate) use item::{Data, Entry, KEY_MAX, Large, Marks, OVERHEAD, SMALL_MAX, cost};
pub(crate) use put::{Arith, Counted, Mode, Put, Stored, Value};
use shard::Short;
pub(crate) use shard::{Lookup, Shard, Tally};

use crate::Config;
use crate::clock::Secs;

/// A shard does not share its cache lines (nor the pair that the hardware prefetches) with the next.
#[repr(align(128))]
#[derive(Debug)]
struct Apart(Mutex<Shard>);

/// All items.
#[derive(Debug)]
pub(crate) struct Store {
    shards: Box<[Apart]>,
    /// The shard is the hash shifted right by this: the low half is left to the shard's index.
    shift: u32,
    hasher: SipHasher13,
    budget: Arc<Budget>,
    limit: usize,
    item_max: usize,
    evict: bool,
    /// Where the next search for memory begins.
    cursor: AtomicUsize,
}

/// How often an operation that lacked memory tries again after memory was found. Others may be quicker each time.
const TRIES: usize = 4;

impl Store {
    pub(crate) fn new(config: &Config) -> Store {
        // A keyed hash, so that nobody outside can choose keys that collide.
        let random = RandomState::new();
        let [k0, k1] = config.hash_key.unwrap_or_else(|| [random.hash_one(0), random.hash_one(1)]);
        let count = config.shards.clamp(2, 1 << 16).next_power_of_two();
        let step = (config.memory_limit / (count * 64)).clamp(256, 64 << 10);
        let budget = Arc::new(Budget::new(config.memory_limit));
        Store {
            shards: (0..count).map(|i| Apart(Mutex::new(Shard::new(i, count, step, &budget)))).collect(),
            shift: 64 - count.trailing_zeros(),
            hasher: SipHasher13::new_with_keys(k0, k1),
            budget,
            limit: config.memory_limit,
            item_max: config.item_size_max.min(config.memory_limit / 2),
            evict: config.evict,
            cursor: AtomicUsize::new(0),
        }
    }

    /// The hash of a key: it chooses the shard, and the bucket there.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Locks the shard of `hash`. A panic of an earlier holder is its own affair: shards are changed in steps that leave them whole.
    #[inline]
    pub(crate) fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.lock((hash >> self.shift) as usize)
    }

    #[inline]
    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that may be claimed in all.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes claimed: by items, by what shards keep in reserve, by values that are coming in.
    pub(crate) fn claimed(&self) -> usize {
        self.limit.saturating_sub(self.budget.left())
    }

    /// Whether an item with a key and value of so many bytes may be stored at all.
    pub(crate) fn fits(&self, len: usize) -> bool {
        len.saturating_add(HEADER) <= self.item_max
    }

    /// The item size limit in effect.
    pub(crate) fn item_max(&self) -> usize {
        self.item_max
    }

    pub(crate) fn evicts(&self) -> bool {
        self.evict
    }

    /// Stores `value` under `key`.
    pub(crate) fn put(&self, now: Secs, hash: u64, key: &[u8], put: &Put, mut value: Value<'_>) -> Stored {
        self.retry(now, |means| self.shard(hash).put(means, hash as u32, key, put, &mut value))
            .unwrap_or(Stored::NoMemory)
    }

    /// Counts the item of `key` up or down; then `done` sees the shard, still locked. `None` when memory is lacking.
    pub(crate) fn arith<T>(
        &self,
        now: Secs,
        hash: u64,
        key: &[u8],
        arith: &Arith,
        mut done: impl FnMut(&mut Shard, Counted) -> T,
    ) -> Option<T> {
        self.retry(now, |means| {
            let mut shard = self.shard(hash);
            let counted = shard.arith(means, hash as u32, key, arith)?;
            Ok(done(&mut shard, counted))
        })
    }

    fn retry<T>(&self, now: Secs, mut operation: impl FnMut(&Means<'_>) -> Result<T, Short>) -> Option<T> {
        let means = Means { now, budget: &self.budget, evict: self.evict, item_max: self.item_max };
        for _ in 0..TRIES {
            match operation(&means) {
                Ok(done) => return Some(done),
                Err(Short(bytes)) => {
                    if !self.find_memory(now, bytes) {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// An empty claim.
    pub(crate) fn charge(&self) -> Charge {
        Charge::new(&self.budget)
    }

    /// Enlarges a claim, if need be by evicting.
    pub(crate) fn grow(&self, now: Secs, charge: &mut Charge, more: usize) -> bool {
        (0..TRIES).any(|_| charge.grow(more) || (self.find_memory(now, more) && charge.grow(more)))
    }

    /// Collects `bytes` in the budget, from shard after shard; false if there are not as many. Bounded by two rounds.
    #[cold]
    fn find_memory(&self, now: Secs, bytes: usize) -> bool {
        if bytes > self.limit / 2 {
            return false;
        }
        // A little from each, so that no shard pays for a large item alone.
        let share = (bytes / 4).max(4096);
        for _ in 0..2 * self.shards.len() {
            if self.budget.left() >= bytes {
                return true;
            }
            let next = self.cursor.fetch_add(1, Relaxed) % self.shards.len();
            self.lock(next).give_back(now, share, self.evict);
        }
        self.budget.left() >= bytes
    }

    /// Makes everything stored before `at` invisible from then on.
    pub(crate) fn flush(&self, now: Secs, at: Secs) {
        for index in 0..self.shards.len() {
            self.lock(index).flush(now, at);
        }
    }

    /// Shows each shard in turn, locked.
    pub(crate) fn each_shard(&self, mut look: impl FnMut(&Shard)) {
        for index in 0..self.shards.len() {
            look(&self.lock(index));
        }
    }
}
