use std::fmt;

use units::FlowGroupId;

/// The dataplane's name of a connection: flow group, slot in the group, and the slot's generation.
///
/// It stays valid while the flow group migrates between cores, and goes stale the moment its connection ends: a
/// handle of an earlier generation is refused with [`Code::BadHandle`](crate::Code::BadHandle), never followed.
///
/// ```text
///  63       56 55              32 31                   0
/// |   group   |      slot        |      generation      |
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(u64);

impl Handle {
    /// The slots of one flow group that a handle can name.
    pub const MAX_SLOTS: u32 = 1 << 24;

    /// Composes a handle; `slot` must be below [`Handle::MAX_SLOTS`].
    pub const fn new(group: FlowGroupId, slot: u32, generation: u32) -> Handle {
        debug_assert!(slot < Handle::MAX_SLOTS);
        Handle((group.0 as u64) << 56 | (slot as u64) << 32 | generation as u64)
    }

    /// The flow group alleged by the handle (always below 256, not checked against the number of groups).
    pub const fn group(self) -> FlowGroupId {
        FlowGroupId((self.0 >> 56) as u16)
    }

    /// The slot alleged by the handle.
    pub const fn slot(self) -> u32 {
        (self.0 >> 32) as u32 & (Handle::MAX_SLOTS - 1)
    }

    /// The generation of the slot that the handle was made for.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// The handle as the integer that crosses the boundary.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// A handle from the integer that crossed the boundary: an allegation.
    pub const fn from_bits(bits: u64) -> Handle {
        Handle(bits)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.group().0, self.slot(), self.generation())
    }
}

/// The application's name of a connection: any value it likes, handed back with each of its event conditions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cookie(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_keeps_its_three_parts_apart() {
        let h = Handle::new(FlowGroupId(127), Handle::MAX_SLOTS - 1, u32::MAX);
        assert_eq!((h.group().0, h.slot(), h.generation()), (127, Handle::MAX_SLOTS - 1, u32::MAX));
        let h = Handle::from_bits(Handle::new(FlowGroupId(3), 77, 5).to_bits());
        assert_eq!((h.group().0, h.slot(), h.generation()), (3, 77, 5));
    }
}
