//! From the ends of a flow to a slot: open addressing under a keyed hash, so that a peer who chooses tuples cannot choose collisions.
//!
//! ```text
//!   entry:  | 32 bits of the hash | slot + 1 |      0 = free
//! ```
//! Linear probing, deletion by shifting back: no tombstones, so a table that was full once is as good as new. The slot's own
//! tuple decides; the hash bits only save looking at it. Fixed size: at most three quarters of the entries are used.

use std::hash::Hasher;

use mem::{MemError, Pages, Words};
use siphasher::sip::SipHasher13;

use crate::addresses::Ends;

/// The secret of all flow tables of a dataplane.
#[derive(Clone, Copy)]
pub(crate) struct FlowKey(u64, u64);

impl FlowKey {
    pub(crate) fn new(secret: [u8; 16]) -> FlowKey {
        let n = u128::from_le_bytes(secret);
        FlowKey(n as u64, (n >> 64) as u64)
    }

    /// SipHash-1-3 of the ends: about 10 ns.
    #[inline(always)]
    pub(crate) fn hash(&self, e: &Ends) -> u64 {
        let mut h = SipHasher13::new_with_keys(self.0, self.1);
        let (high, low) = e.remote.halves();
        if !e.is_v4() {
            h.write_u64(high);
        }
        // Our own end's number goes where IPv4 has zeros. Over IPv6 it may meet another remote address, once for each of ours.
        h.write_u64(low ^ u64::from(e.local.0) << 56);
        h.write_u32(u32::from(e.remote_port) << 16 | u32::from(e.local_port));
        h.finish()
    }
}

/// A map from hashed tuples to slot numbers below 2^31.
pub(crate) struct FlowTable {
    entries: Words,
    used: usize,
}

impl FlowTable {
    /// `count` tables that hold `limit` flows each. Untouched parts cost address space only.
    pub(crate) fn tables(count: usize, limit: usize, pages: Pages) -> Result<Vec<FlowTable>, MemError> {
        let size = (limit * 4 / 3 + 8).next_power_of_two();
        Ok(Words::tables(count, size, pages)?.into_iter().map(|entries| FlowTable { entries, used: 0 }).collect())
    }

    /// Has the place fetched where a search for this hash begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        mem::prefetch(&self.entries[self.place(hash)]);
    }

    /// The first slot with this hash that a search would look at.
    #[inline]
    pub(crate) fn first(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    fn entry(hash: u64, slot: u32) -> u64 {
        (hash & !0xffff_ffff) | u64::from(slot + 1)
    }

    /// The slot with this hash for which `is` holds. Expected O(1) at any filling.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.place(hash);
        loop {
            let e = self.entries[at];
            if e == 0 {
                return None;
            }
            let slot = e as u32 - 1;
            if (e ^ hash) >> 32 == 0 && is(slot) {
                return Some(slot);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
    }

    /// Adds a flow that is not in the table; false when the table is full.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) -> bool {
        if self.used * 4 >= self.entries.len() * 3 {
            return false;
        }
        let mut at = self.place(hash);
        while self.entries[at] != 0 {
            at = (at + 1) & (self.entries.len() - 1);
        }
        self.entries[at] = Self::entry(hash, slot);
        self.used += 1;
        true
    }

    /// Removes a flow. The hash of every entry behind it must be known to shift it back: `hash_of` tells it.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.position(hash, slot) else { return };
        let mask = self.entries.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let e = self.entries[at];
            if e == 0 {
                break;
            }
            let home = self.place(hash_of(e as u32 - 1));
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = e;
                hole = at;
            }
        }
        self.entries[hole] = 0;
        self.used -= 1;
    }

    fn position(&self, hash: u64, slot: u32) -> Option<usize> {
        let wanted = Self::entry(hash, slot);
        let mut at = self.place(hash);
        while self.entries[at] != 0 {
            if self.entries[at] == wanted {
                return Some(at);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
        None
    }

    /// Bytes of memory when every entry has been touched.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn table(limit: usize) -> FlowTable {
        FlowTable::tables(1, limit, Pages::Small).unwrap().remove(0)
    }

    /// Entries that a search may have to look at: the longest run of used ones.
    fn longest_run(t: &FlowTable) -> usize {
        let twice = t.entries.iter().chain(t.entries.iter());
        twice.fold((0, 0), |(run, most), &e| if e == 0 { (0, most) } else { (run + 1, most.max(run + 1)) }).1
    }

    /// Somebody who knew one stack's key and chose tuples that all collide there is in nobody's way under another key.
    #[test]
    fn tuples_that_collide_under_one_key_do_not_under_another() {
        let (known, ours) = (FlowKey::new([1; 16]), FlowKey::new([2; 16]));
        let (mut theirs, mut table) = (table(1024), table(1024));
        let ends = |n: u32| Ends {
            remote: wire::Addr::v4(std::net::Ipv4Addr::from_bits(0xc612_0000 + (n >> 16))),
            remote_port: n as u16,
            local_port: 80,
            local: crate::addresses::LocalId(0),
        };
        let chosen = (0..).map(ends).filter(|e| known.hash(e) & 0x7ff == 77).take(512);
        for (slot, e) in chosen.enumerate() {
            assert!(theirs.insert(known.hash(&e), slot as u32) && table.insert(ours.hash(&e), slot as u32));
        }
        assert!(longest_run(&theirs) >= 512, "the choice is a bad one for the key that it was made for");
        assert!(longest_run(&table) <= 32, "{} entries in a row", longest_run(&table));
    }

    #[test]
    fn colliding_hashes_are_told_apart_by_the_slot() {
        let mut t = table(16);
        for slot in 0..5 {
            assert!(t.insert(7, slot));
        }
        t.remove(7, 2, |_| 7);
        assert_eq!(t.find(7, |s| s == 2), None);
        for slot in [0, 1, 3, 4] {
            assert_eq!(t.find(7, |s| s == slot), Some(slot));
        }
    }

    #[test]
    fn a_full_table_says_so_and_recovers() {
        let mut t = table(4);
        let n = (0..).take_while(|&s| t.insert(u64::from(s) << 32 | 3, s)).count() as u32;
        assert!(n >= 4);
        t.remove(3, 0, |s| u64::from(s) << 32 | 3);
        assert!(t.insert(99, 1000));
        assert_eq!(t.find(99, |_| true), Some(1000));
    }

    proptest! {
        /// The table agrees with a map under any history, with few distinct homes so that runs are long.
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((any::<bool>(), 0u32..60), 1..400)) {
            let hash_of = |s: u32| u64::from(s).wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0x38;
            let mut table = table(64);
            let mut model = HashMap::new();
            for (add, slot) in ops {
                if add && !model.contains_key(&slot) {
                    prop_assert!(table.insert(hash_of(slot), slot));
                    model.insert(slot, ());
                } else if !add && model.remove(&slot).is_some() {
                    table.remove(hash_of(slot), slot, hash_of);
                }
                for s in 0..60 {
                    prop_assert_eq!(table.find(hash_of(s), |x| x == s).is_some(), model.contains_key(&s));
                }
            }
        }
    }
}
