use abi::Handle;
use units::FlowGroupId;

/// Values by slot, each with a generation: a key of a value that has left is refused, never followed to its successor.
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    /// Which thread this is, as the group of its handles.
    group: FlowGroupId,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new(group: FlowGroupId) -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new(), group }
    }

    /// Values in it.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Puts `value` in; gives it back when all slots that a handle can name are taken.
    pub(crate) fn insert(&mut self, value: T) -> Result<Handle, T> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.entries.len() >= Handle::MAX_SLOTS as usize => return Err(value),
            None => {
                self.entries.push(Entry { generation: 0, value: None });
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[slot as usize];
        entry.value = Some(value);
        Ok(Handle::new(self.group, slot, entry.generation))
    }

    pub(crate) fn get(&self, key: Handle) -> Option<&T> {
        let entry = self.entries.get(key.slot() as usize)?;
        if entry.generation == key.generation() && key.group() == self.group { entry.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Handle) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot() as usize)?;
        if entry.generation == key.generation() && key.group() == self.group { entry.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Handle) -> Option<T> {
        self.get_mut(key)?;
        let entry = &mut self.entries[key.slot() as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot());
        entry.value.take()
    }

    /// The keys of all values.
    pub(crate) fn keys(&self) -> Vec<Handle> {
        let live = self.entries.iter().enumerate().filter(|(_, e)| e.value.is_some());
        live.map(|(slot, e)| Handle::new(self.group, slot as u32, e.generation)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_with_its_value_though_the_slot_lives_on() {
        let mut slab = Slab::new(FlowGroupId(3));
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c').unwrap();
        assert_eq!((c.slot(), slab.len()), (a.slot(), 2));
        assert_eq!(slab.get_mut(a).copied(), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get_mut(b).copied(), Some('b'));
        assert_eq!((slab.get_mut(c).copied(), slab.get(c), slab.get(a)), (Some('c'), Some(&'c'), None));
        let foreign = Handle::new(FlowGroupId(4), c.slot(), c.generation());
        assert_eq!(slab.get_mut(foreign), None);
        assert_eq!(slab.keys(), vec![c, b]);
    }
}
