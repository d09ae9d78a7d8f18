/// A 64-bit checksum of a byte stream: the same however the stream was cut into pieces.
///
/// It finds loss, duplication, reordering and damage by accident; it is no defence against a forger. Words of eight
/// bytes are folded in by multiplication with an odd constant, so gigabytes take no notable time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    state: u64,
    /// Bytes of a word that is not full yet, lowest first.
    partial: u64,
    count: u64,
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Digest {
    /// The digest of nothing.
    pub fn new() -> Digest {
        Digest::default()
    }

    /// Bytes taken so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next bytes of the stream.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !self.count.is_multiple_of(8)
            && let Some((first, rest)) = bytes.split_first()
        {
            self.push(*first);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        self.count += words.len() as u64 * 8;
        for byte in rest {
            self.push(*byte);
        }
    }

    /// The checksum of everything taken.
    pub fn finish(&self) -> u64 {
        let mut last = self.clone();
        last.fold(self.partial);
        last.fold(self.count);
        last.state
    }

    fn push(&mut self, byte: u8) {
        self.partial |= u64::from(byte) << (self.count % 8 * 8);
        self.count += 1;
        if self.count.is_multiple_of(8) {
            let word = std::mem::take(&mut self.partial);
            self.fold(word);
        }
    }

    fn fold(&mut self, word: u64) {
        self.state = (self.state.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}
