use std::sync::Arc;

use super::budget::Charge;
use crate::clock::{NEVER, Secs};

/// The longest key in bytes (memcached's protocol.txt, "Keys").
pub(crate) const KEY_MAX: usize = 250;

/// Key and value up to this many bytes are copied under the shard's lock and belong to the shard; a longer item is
/// reference counted, so that it can be sent in pieces after the lock is released. Also the most room for a reply
/// that is ever waited for: it must be less than the least that a backend with scarce buffers will grant.
pub(crate) const SMALL_MAX: usize = 4096;

/// What an item costs beside its key and value: entry, index slot, and the allocator's header. A large one costs
/// it twice: it has a count and a vector besides.
pub(crate) const OVERHEAD: usize = 96;

/// What memcached's item header takes; counted against the item size limit, so that the same sizes are refused.
pub(crate) const HEADER: usize = 58;

/// The bytes that a shard accounts for a small item whose key and value have `len` bytes.
pub(crate) const fn cost(len: usize) -> usize {
    OVERHEAD + len.next_multiple_of(16)
}

/// Key and value of a large item, and the claim on memory that they hold.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) bytes: Vec<u8>,
    pub(crate) charge: Charge,
}

/// Key and value, in one allocation: the key first.
#[derive(Debug)]
pub(crate) enum Data {
    Small(Box<[u8]>),
    Large(Arc<Large>),
}

impl Data {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Data::Small(bytes) => bytes,
            Data::Large(large) => &large.bytes,
        }
    }

    /// What the shard accounts for it (a large item accounts for its own bytes).
    pub(crate) fn cost(&self) -> usize {
        match self {
            Data::Small(bytes) => cost(bytes.len()),
            Data::Large(_) => OVERHEAD,
        }
    }

    /// All memory that goes with it.
    pub(crate) fn footprint(&self) -> usize {
        match self {
            Data::Small(_) => self.cost(),
            Data::Large(large) => OVERHEAD + large.charge.bytes(),
        }
    }
}

impl Default for Data {
    fn default() -> Data {
        Data::Small(Box::default())
    }
}

/// One-bit facts about an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Marks(u8);

impl Marks {
    /// The slot holds an item.
    pub(crate) const USED: Marks = Marks(1);
    /// Read since it was stored.
    pub(crate) const FETCHED: Marks = Marks(2);
    /// Read since the clock hand passed.
    pub(crate) const RECENT: Marks = Marks(4);
    /// Invalidated; served until somebody recaches it (meta protocol).
    pub(crate) const STALE: Marks = Marks(8);
    /// Somebody was told to recache it (meta protocol).
    pub(crate) const WON: Marks = Marks(16);

    #[inline]
    pub(crate) fn has(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(crate) fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    #[inline]
    pub(crate) fn without(self, other: Marks) -> Marks {
        Marks(self.0 & !other.0)
    }

    pub(crate) fn only(self, other: Marks) -> Marks {
        Marks(self.0 & other.0)
    }
}

/// An item in its shard's table.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) data: Data,
    /// Low half of the key's hash.
    pub(crate) hash: u32,
    /// The next entry of the same bucket, or of the free list.
    pub(crate) next: u32,
    /// Changes with every change of the value.
    pub(crate) cas: u64,
    /// The client's own 32 bits.
    pub(crate) flags: u32,
    pub(crate) expires: Secs,
    /// When it was last read or stored.
    pub(crate) seen: Secs,
    /// The shard's epoch when it was stored: an older one was flushed.
    pub(crate) epoch: u32,
    pub(crate) key_len: u8,
    pub(crate) marks: Marks,
}

const _: () = assert!(size_of::<Entry>() <= 64, "an entry fits a cache line");
const _: () = assert!(KEY_MAX <= u8::MAX as usize);

impl Entry {
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.data.bytes()[..usize::from(self.key_len)]
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        &self.data.bytes()[usize::from(self.key_len)..]
    }

    #[inline]
    pub(crate) fn expired(&self, now: Secs) -> bool {
        self.expires != NEVER && self.expires <= now
    }

    /// Notes that it was read.
    #[inline]
    pub(crate) fn touch(&mut self, now: Secs) {
        self.marks = self.marks.with(Marks::FETCHED).with(Marks::RECENT);
        self.seen = now;
    }
}
