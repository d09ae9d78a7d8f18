//! The operations that change a value: storing in its six ways, and arithmetic.

use std::sync::Arc;

use super::budget::{Budget, Charge};
use super::item::{Data, HEADER, Large, Marks, OVERHEAD, SMALL_MAX};
use super::shard::{Shard, Short};
use crate::clock::Secs;
use crate::digits::{U64_DIGITS, write_u64};

/// How to store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// A request to store, without the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    pub(crate) mode: Mode,
    pub(crate) flags: u32,
    pub(crate) expires: Secs,
    /// Only if the item still has this cas value.
    pub(crate) cas: Option<u64>,
    /// The cas value that the item is to have, instead of a fresh one.
    pub(crate) own_cas: Option<u64>,
    /// If the item's cas value is newer than `cas`, store all the same, as stale.
    pub(crate) stale: bool,
    /// Append or prepend to nothing makes an item that expires then.
    pub(crate) vivify: Option<Secs>,
}

impl Put {
    /// A plain `set` and its variants.
    pub(crate) fn new(mode: Mode, flags: u32, expires: Secs) -> Put {
        Put { mode, flags, expires, cas: None, own_cas: None, stale: false, vivify: None }
    }
}

/// The value to store. It is used up only when the request is carried out.
#[derive(Debug)]
pub(crate) enum Value<'v> {
    /// It lies somewhere else.
    Borrowed(&'v [u8]),
    /// Key and value, collected in the memory that can become the item, and the claim for that.
    Owned { bytes: Vec<u8>, charge: Charge },
}

/// What a request to store came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// Done: the item's cas value now, and the length of its value.
    Done {
        cas: u64,
        len: usize,
    },
    /// The mode asks for an item that is not there, or for none where there is one.
    Unmet,
    /// The cas value has changed.
    Exists,
    NotFound,
    TooLarge,
    NoMemory,
}

/// A request to count up or down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arith {
    pub(crate) up: bool,
    pub(crate) delta: u64,
    pub(crate) cas: Option<u64>,
    pub(crate) own_cas: Option<u64>,
}

/// What arithmetic came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    /// The new number, and where the item is.
    Done {
        number: u64,
        at: u32,
    },
    NotFound,
    Exists,
    NotANumber,
}

/// What an operation that may need memory has to know.
pub(super) struct Means<'m> {
    pub(super) now: Secs,
    pub(super) budget: &'m Arc<Budget>,
    pub(super) evict: bool,
    pub(super) item_max: usize,
}

impl Shard {
    /// Carries out `put` for `key`. On [`Short`], nothing has changed, `value` included.
    pub(super) fn put(
        &mut self,
        means: &Means<'_>,
        hash: u32,
        key: &[u8],
        put: &Put,
        value: &mut Value<'_>,
    ) -> Result<Stored, Short> {
        let found = self.lookup(means.now, hash, key).hit();
        let (mut expires, mut marks) = (put.expires, Marks::USED);
        match (put.mode, found) {
            (Mode::Add, Some(at)) => {
                self.entry_mut(at).touch(means.now);
                return Ok(Stored::Unmet);
            }
            (Mode::Replace, None) => return Ok(Stored::Unmet),
            (Mode::Set, None) if put.cas.is_some() => return Ok(Stored::NotFound),
            (Mode::Append | Mode::Prepend, None) => match put.vivify {
                Some(at) => expires = at,
                None => return Ok(Stored::Unmet),
            },
            (_, None) => {}
            (_, Some(at)) => {
                let entry = self.entry(at);
                match put.cas {
                    Some(cas) if cas != entry.cas => {
                        if !put.stale || cas > entry.cas {
                            return Ok(Stored::Exists);
                        }
                        expires = entry.expires;
                        marks = Marks::USED.with(Marks::STALE).with(entry.marks.only(Marks::WON));
                    }
                    _ => {}
                }
            }
        }
        if let (Mode::Append | Mode::Prepend, Some(at)) = (put.mode, found) {
            return self.join(means, at, put, value);
        }
        let at = self.write(means, found, hash, key, value)?;
        self.tally.stored += 1;
        let (cas, epoch) = (put.own_cas.unwrap_or_else(|| self.fresh_cas()), self.epoch);
        let entry = self.entry_mut(at);
        entry.cas = cas;
        entry.flags = put.flags;
        entry.expires = expires;
        entry.seen = means.now;
        entry.epoch = epoch;
        entry.marks = marks;
        Ok(Stored::Done { cas, len: entry.value().len() })
    }

    /// Makes `value` the value of the item at `found`, or of a new item; returns where it is.
    fn write(
        &mut self,
        means: &Means<'_>,
        found: Option<u32>,
        hash: u32,
        key: &[u8],
        value: &mut Value<'_>,
    ) -> Result<u32, Short> {
        let data = match value {
            Value::Borrowed(new) => {
                let len = key.len() + new.len();
                if let Some(at) = found
                    && let Data::Small(old) = &mut self.entry_mut(at).data
                    && old.len() == len
                {
                    old[key.len()..].copy_from_slice(new);
                    return Ok(at);
                }
                self.room(means.now, self.growth(found, len), found, means.evict)?;
                Data::Small(gather(key, new, &[]).into_boxed_slice())
            }
            Value::Owned { bytes, charge } => {
                if bytes.len() > SMALL_MAX {
                    let need = if found.is_some() { 0 } else { OVERHEAD };
                    self.room(means.now, need, found, means.evict)?;
                    let claim = std::mem::replace(charge, Charge::new(means.budget));
                    Data::Large(Arc::new(Large { bytes: std::mem::take(bytes), charge: claim }))
                } else {
                    let need = self.growth(found, bytes.len());
                    self.adopt(std::mem::replace(charge, Charge::new(means.budget)).into_bytes());
                    self.room(means.now, need, found, means.evict)?;
                    Data::Small(std::mem::take(bytes).into_boxed_slice())
                }
            }
        };
        Ok(match found {
            Some(at) => {
                self.swap_data(at, data);
                at
            }
            None => self.insert(hash, key.len(), data),
        })
    }

    /// Appends or prepends to the item at `at`.
    fn join(&mut self, means: &Means<'_>, at: u32, put: &Put, value: &mut Value<'_>) -> Result<Stored, Short> {
        let entry = self.entry(at);
        let key_len = usize::from(entry.key_len);
        let more = match value {
            Value::Borrowed(bytes) => *bytes,
            Value::Owned { bytes, .. } => &bytes[key_len..],
        };
        let len = entry.data.bytes().len() + more.len();
        if len + HEADER > means.item_max {
            return Ok(Stored::TooLarge);
        }
        if !self.extend_large(at, put.mode, more)? {
            let small = len <= SMALL_MAX;
            let mut charge = Charge::new(means.budget);
            if small {
                self.room(means.now, self.growth(Some(at), len), Some(at), means.evict)?;
            } else if !charge.grow(len + OVERHEAD) {
                return Err(Short(len + OVERHEAD));
            }
            let entry = self.entry(at);
            let (first, second) = if put.mode == Mode::Append { (entry.value(), more) } else { (more, entry.value()) };
            let bytes = gather(entry.key(), first, second);
            let data = if small {
                Data::Small(bytes.into_boxed_slice())
            } else {
                Data::Large(Arc::new(Large { bytes, charge }))
            };
            self.swap_data(at, data);
        }
        self.tally.stored += 1;
        let cas = put.own_cas.unwrap_or_else(|| self.fresh_cas());
        let entry = self.entry_mut(at);
        entry.cas = cas;
        entry.seen = means.now;
        entry.marks = entry.marks.without(Marks::STALE).without(Marks::WON);
        Ok(Stored::Done { cas, len: len - key_len })
    }

    /// Appends in place, if the item is large and nobody is sending it; says whether that was so.
    fn extend_large(&mut self, at: u32, mode: Mode, more: &[u8]) -> Result<bool, Short> {
        let Data::Large(large) = &mut self.entry_mut(at).data else { return Ok(false) };
        let Some(large) = Arc::get_mut(large).filter(|_| mode == Mode::Append) else { return Ok(false) };
        if !large.charge.grow(more.len()) {
            return Err(Short(more.len()));
        }
        large.bytes.reserve_exact(more.len());
        large.bytes.extend_from_slice(more);
        Ok(true)
    }

    /// Takes the value away; key and all else stay.
    pub(crate) fn drop_value(&mut self, at: u32) {
        let entry = self.entry(at);
        let key = entry.key();
        let data = match &entry.data {
            Data::Small(_) => Data::Small(key.into()),
            Data::Large(large) => {
                // The overhead pays for a key, if the budget does not.
                let mut charge = large.charge.another();
                charge.grow(key.len());
                Data::Large(Arc::new(Large { bytes: key.to_vec(), charge }))
            }
        };
        self.swap_data(at, data);
        self.entry_mut(at).flags = 0;
    }

    /// Gives the item a new cas value: this one, or a fresh one.
    pub(crate) fn renew_cas(&mut self, at: u32, own: Option<u64>) {
        let cas = own.unwrap_or_else(|| self.fresh_cas());
        self.entry_mut(at).cas = cas;
    }

    /// Counts up or down. Down stops at zero, up wraps; a shorter result is padded with spaces (protocol.txt, "Increment/Decrement").
    pub(super) fn arith(&mut self, means: &Means<'_>, hash: u32, key: &[u8], arith: &Arith) -> Result<Counted, Short> {
        let Some(at) = self.lookup(means.now, hash, key).hit() else { return Ok(Counted::NotFound) };
        let entry = self.entry(at);
        if arith.cas.is_some_and(|cas| cas != entry.cas) {
            return Ok(Counted::Exists);
        }
        let Some(old) = number(entry.value()) else { return Ok(Counted::NotANumber) };
        let number = if arith.up { old.wrapping_add(arith.delta) } else { old.saturating_sub(arith.delta) };
        let mut digits = [b' '; U64_DIGITS];
        let len = write_u64(&mut digits, number);
        let old_len = entry.value().len();
        let text = &digits[..len.max(old_len)];
        let key_len = key.len();
        match &mut self.entry_mut(at).data {
            Data::Small(bytes) if old_len == text.len() => bytes[key_len..].copy_from_slice(text),
            Data::Small(_) | Data::Large(_) => {
                let need = self.growth(Some(at), key_len + text.len());
                self.room(means.now, need, Some(at), means.evict)?;
                self.swap_data(at, Data::Small(gather(key, text, &[]).into_boxed_slice()));
            }
        }
        let cas = arith.own_cas.unwrap_or_else(|| self.fresh_cas());
        let entry = self.entry_mut(at);
        entry.cas = cas;
        entry.touch(means.now);
        Ok(Counted::Done { number, at })
    }
}

/// The number that a value spells: digits, then perhaps the spaces of an earlier, longer number.
fn number(value: &[u8]) -> Option<u64> {
    if value.len() > U64_DIGITS {
        return None;
    }
    let digits = value.trim_ascii_end();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, byte| match byte {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// One allocation of exactly the size of its three parts.
fn gather(key: &[u8], first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + first.len() + second.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(first);
    bytes.extend_from_slice(second);
    bytes
}
