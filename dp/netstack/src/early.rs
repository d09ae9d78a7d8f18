//! Frames that wait until older ones of their flow group have come: a queue for each group, all in one store of a fixed size.

use units::{FLOW_GROUPS, FlowGroupId, GroupSet};

/// No place.
const NONE: u32 = u32::MAX;

/// Queues of `T`, one for each flow group. Every call costs the same, however many wait.
pub(crate) struct Early<T> {
    /// Grows to its capacity as places are needed, and not beyond.
    places: Vec<Place<T>>,
    free: u32,
    /// The first and the last place of each group that has any.
    ends: Box<[(u32, u32); FLOW_GROUPS]>,
    groups: GroupSet,
    len: usize,
}

struct Place<T> {
    /// `None`: it is free.
    item: Option<T>,
    next: u32,
}

impl<T> Early<T> {
    /// Room for `most` in all. Pages become resident as they are used.
    pub(crate) fn new(most: usize) -> Early<T> {
        Early {
            places: Vec::with_capacity(most),
            free: NONE,
            ends: Box::new([(NONE, NONE); FLOW_GROUPS]),
            groups: GroupSet::NONE,
            len: 0,
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The groups that have any.
    pub(crate) fn groups(&self) -> GroupSet {
        self.groups
    }

    /// Puts one behind those of its group. False: there is no room, and it is gone.
    pub(crate) fn push(&mut self, group: FlowGroupId, item: T) -> bool {
        let place = Place { item: Some(item), next: NONE };
        let at = if self.free != NONE {
            let at = self.free;
            self.free = std::mem::replace(&mut self.places[at as usize], place).next;
            at
        } else if self.places.len() < self.places.capacity() {
            self.places.push(place);
            self.places.len() as u32 - 1
        } else {
            return false;
        };
        let ends = &mut self.ends[group.index()];
        if self.groups.contains(group) {
            self.places[ends.1 as usize].next = at;
            ends.1 = at;
        } else {
            *ends = (at, at);
            self.groups.insert(group);
        }
        self.len += 1;
        true
    }

    /// The first of a group.
    pub(crate) fn front(&self, group: FlowGroupId) -> Option<&T> {
        self.groups.contains(group).then(|| self.places[self.ends[group.index()].0 as usize].item.as_ref())?
    }

    /// Takes the first of a group.
    pub(crate) fn pop(&mut self, group: FlowGroupId) -> Option<T> {
        if !self.groups.contains(group) {
            return None;
        }
        let ends = &mut self.ends[group.index()];
        let at = ends.0;
        let place = std::mem::replace(&mut self.places[at as usize], Place { item: None, next: self.free });
        self.free = at;
        ends.0 = place.next;
        if place.next == NONE {
            self.groups.remove(group);
        }
        self.len -= 1;
        place.item
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn each_group_has_a_queue_and_all_share_the_room() {
        let group = |n| FlowGroupId(n);
        let mut early = Early::new(3);
        let most = early.places.capacity();
        assert!((0..most).all(|n| early.push(group(n as u16 % 2), n)));
        assert!(!early.push(group(5), 99), "there is no room, and none is made");
        assert_eq!((early.len(), early.front(group(1)), early.front(group(5))), (most, Some(&1), None));
        assert_eq!((early.pop(group(0)), early.pop(group(5))), (Some(0), None));
        assert!(early.push(group(5), 99));
        assert_eq!(early.groups().iter().collect::<Vec<_>>(), [0, 1, 5].map(group));
        assert_eq!(early.pop(group(5)), Some(99));
        assert!(!early.groups().contains(group(5)));
    }

    proptest::proptest! {
        #[test]
        fn it_is_as_many_queues(steps in proptest::collection::vec((0u16..4, proptest::bool::ANY), 0..300)) {
            let mut early = Early::new(16);
            let most = early.places.capacity();
            let mut model: [VecDeque<usize>; 4] = Default::default();
            for (n, (group, push)) in steps.into_iter().enumerate() {
                let queue = &mut model[usize::from(group)];
                if push {
                    let room = early.len() < most;
                    assert_eq!(early.push(FlowGroupId(group), n), room);
                    queue.extend(room.then_some(n));
                } else {
                    assert_eq!(early.pop(FlowGroupId(group)), queue.pop_front());
                }
                assert_eq!(early.front(FlowGroupId(group)), queue.front());
                assert_eq!(early.len(), model.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
