use std::fmt;

/// How many flow groups a dataplane has: RSS maps every flow to one of them (thesis section 2.3.3; the Intel 82599 has 128).
pub const FLOW_GROUPS: usize = 128;

/// An elastic thread, and by pinning the hardware thread under it: 0, 1, 2 …
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// A flow group: an index below [`FLOW_GROUPS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowGroupId(pub u16);

impl CoreId {
    /// The position of this core's value in a table with one entry per core.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl FlowGroupId {
    /// The flow group of an RSS hash: its low bits, as RETAs are indexed.
    pub const fn of_hash(hash: u32) -> FlowGroupId {
        FlowGroupId((hash as usize % FLOW_GROUPS) as u16)
    }

    /// The position of this group's value in a table with one entry per flow group.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core{}", self.0)
    }
}

impl fmt::Debug for FlowGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group{}", self.0)
    }
}
