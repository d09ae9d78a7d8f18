use std::fmt;

use crate::{FLOW_GROUPS, FlowGroupId};

/// A set of flow groups: a bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct GroupSet(u128);

const _: () = assert!(FLOW_GROUPS <= u128::BITS as usize);

impl GroupSet {
    /// None.
    pub const NONE: GroupSet = GroupSet(0);

    /// Adds a group; one that does not exist is left out.
    pub fn insert(&mut self, group: FlowGroupId) {
        if group.index() < FLOW_GROUPS {
            self.0 |= 1 << group.index();
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, group: FlowGroupId) {
        if group.index() < FLOW_GROUPS {
            self.0 &= !(1 << group.index());
        }
    }

    /// Whether the group is in the set.
    #[inline]
    pub fn contains(self, group: FlowGroupId) -> bool {
        group.index() < FLOW_GROUPS && self.0 >> group.index() & 1 != 0
    }

    /// Whether the two have a group in common.
    pub fn intersects(self, other: GroupSet) -> bool {
        self.0 & other.0 != 0
    }

    /// How many groups.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The groups, ascending.
    pub fn iter(self) -> impl Iterator<Item = FlowGroupId> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let group = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (group < u128::BITS).then_some(FlowGroupId(group as u16))
        })
    }

    /// The set as two words, low groups first: for memory that several threads touch.
    pub fn to_words(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    /// The set of two such words.
    pub fn from_words(words: [u64; 2]) -> GroupSet {
        GroupSet(u128::from(words[0]) | u128::from(words[1]) << 64)
    }
}

impl FromIterator<FlowGroupId> for GroupSet {
    fn from_iter<I: IntoIterator<Item = FlowGroupId>>(all: I) -> GroupSet {
        let mut set = GroupSet::NONE;
        all.into_iter().for_each(|group| set.insert(group));
        set
    }
}

impl fmt::Debug for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|g| g.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let mut set: GroupSet = [0, 63, 64, 127, 128].map(FlowGroupId).into_iter().collect();
        assert_eq!(set.iter().map(|g| g.0).collect::<Vec<_>>(), [0, 63, 64, 127], "there is no group 128");
        assert_eq!((set.len(), GroupSet::from_words(set.to_words())), (4, set));
        set.remove(FlowGroupId(64));
        assert!(!set.contains(FlowGroupId(64)) && set.contains(FlowGroupId(127)) && !set.contains(FlowGroupId(500)));
        assert!(GroupSet::NONE.is_empty() && GroupSet::NONE.iter().next().is_none());
    }
}
