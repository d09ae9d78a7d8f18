use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The memory that nobody has claimed yet. Whoever holds memory has taken its bytes from here and gives them back.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Budget {
        Budget(AtomicUsize::new(bytes))
    }

    /// Unclaimed bytes.
    pub(crate) fn left(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Claims `bytes`, all or nothing.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    /// Returns what was claimed.
    pub(crate) fn give(&self, bytes: usize) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

/// A claim on the budget that ends with its holder: with a half-received value when its connection dies, with a
/// large item when the last reader has sent it.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// A claim of nothing yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Charge {
        Charge { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Claims `more` bytes; false if there are not as many.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let ok = self.budget.take(more);
        self.bytes += if ok { more } else { 0 };
        ok
    }

    /// Another claim of nothing, on the same budget.
    pub(crate) fn another(&self) -> Charge {
        Charge::new(&self.budget)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives up the claim without returning it: the caller accounts for the bytes from now on.
    pub(crate) fn into_bytes(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}
