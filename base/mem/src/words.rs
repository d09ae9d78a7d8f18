//! Tables of 64-bit numbers, all zero at first, that share the pages of one region.
//!
//! # Soundness
//! Table `i` has words `i * len .. (i + 1) * len` of the region, which is zeroed when mapped; no other table has any of them, so that a table owns
//! its words as a `Box<[u64]>` would. Each table keeps the region alive.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use crate::{MemError, Pages, Region, Room};

/// One of several tables of numbers in common pages: small tables that are all touched at random take one entry of the TLB together.
#[derive(Debug)]
pub struct Words {
    base: NonNull<u64>,
    len: usize,
    _region: Arc<Region>,
}

// SAFETY: a table owns its words alone.
unsafe impl Send for Words {}
// SAFETY: shared tables can only be read.
unsafe impl Sync for Words {}

impl Words {
    /// `count` tables of `len` words each. Untouched parts cost address space only.
    ///
    /// Errors: no such range of addresses is left.
    pub fn tables(count: usize, len: usize, pages: Pages) -> Result<Vec<Words>, MemError> {
        let bytes = count.checked_mul(len).and_then(|n| n.checked_mul(size_of::<u64>()));
        let region = Arc::new(Region::lazy(Room::Private, bytes.ok_or_else(MemError::too_large)?, pages)?);
        let first = region.base().cast::<u64>();
        // SAFETY: all words of all tables lie in the region.
        let table = |i: usize| Words { base: unsafe { first.add(i * len) }, len, _region: region.clone() };
        Ok((0..count).map(table).collect())
    }
}

impl Deref for Words {
    type Target = [u64];
    #[inline]
    fn deref(&self) -> &[u64] {
        // SAFETY: `len` words, mapped and initialised by the kernel, owned by this table.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Words {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above, and `&mut self` is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_zero_apart_and_outlive_one_another() {
        let mut tables = Words::tables(3, 700, Pages::Huge).unwrap();
        assert!(tables.iter().all(|t| t.len() == 700 && t.iter().all(|w| *w == 0)));
        tables[1].fill(7);
        assert!(tables[0].iter().chain(tables[2].iter()).all(|w| *w == 0));
        let last = tables.pop().unwrap();
        drop(tables);
        assert!(last.iter().all(|w| *w == 0));
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Words::tables(usize::MAX, 2, Pages::Small).is_err());
    }
}
