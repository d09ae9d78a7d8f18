/// Which of 256 slots hold a timer.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Occupied([u64; 4]);

impl Occupied {
    #[inline]
    pub(crate) fn set(&mut self, slot: u8) {
        self.0[usize::from(slot >> 6)] |= 1 << (slot & 63);
    }

    #[inline]
    pub(crate) fn clear(&mut self, slot: u8) {
        self.0[usize::from(slot >> 6)] &= !(1 << (slot & 63));
    }

    /// How many slots ahead of `from`, cyclically, the first occupied one lies (0: `from` itself). Five words at most.
    #[inline]
    pub(crate) fn distance(&self, from: u8) -> Option<u64> {
        let (word, bit) = (usize::from(from >> 6), u32::from(from & 63));
        let rest = self.0[word] >> bit;
        if rest != 0 {
            return Some(u64::from(rest.trailing_zeros()));
        }
        for i in 1..=4 {
            // The fourth is the first word again: its bits before `from`, since those after it are known to be clear.
            let bits = self.0[(word + i) & 3];
            if bits != 0 {
                return Some(i as u64 * 64 + u64::from(bits.trailing_zeros()) - u64::from(bit));
            }
        }
        None
    }
}
