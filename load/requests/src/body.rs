//! Bytes that are cheap to make and to check: a head of their own, then a stretch of a fixed pattern.
//!
//! ```text
//!   | head, 8 B, of this body | pattern from `start` on, repeated with its period of 4 KiB ... |
//!   `------------------------------ len ------------------------------------------------------'
//! ```
//!
//! The head tells bodies apart; the rest finds damage, loss and displacement. Both are copied and compared in long
//! stretches.

/// Bytes of a body that are its own.
pub(crate) const HEAD: usize = 8;

/// The period of the pattern. A power of two.
pub(crate) const PERIOD: usize = 4096;

/// Printable, without blanks or line ends: these bytes may stand in keys.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Two periods, so that one period lies together from any place in the first on.
static PATTERN: [u8; 2 * PERIOD] = {
    let mut pattern = [0; 2 * PERIOD];
    let mut i = 0;
    while i < pattern.len() {
        pattern[i] = ALPHABET[mix((i % PERIOD) as u64) as usize % 64];
        i += 1;
    }
    pattern
};

/// A bijection of 64 bits in which every bit of the argument moves about half of the result's (the finalizer of SplitMix64).
#[inline]
pub(crate) const fn mix(k: u64) -> u64 {
    let mut z = k.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// One period of the pattern, from a place that the low 12 bits of `hash` choose.
#[inline]
pub(crate) fn stretch(hash: u64) -> &'static [u8] {
    let start = hash as usize % PERIOD;
    &PATTERN[start..start + PERIOD]
}

/// Eight printable bytes made of 48 bits of `hash`.
#[inline]
pub(crate) fn letters(hash: u64) -> [u8; HEAD] {
    std::array::from_fn(|i| ALPHABET[(hash >> (6 * i)) as usize % 64])
}

/// A body: described, not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Body {
    /// The first bytes; a shorter body has only some of them.
    pub(crate) head: [u8; HEAD],
    /// Where in the pattern the rest begins: the low 12 bits count.
    pub(crate) start: u64,
    /// All bytes, head included.
    pub(crate) len: usize,
}

impl Body {
    /// Appends its bytes.
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let head = self.len.min(HEAD);
        out.extend_from_slice(&self.head[..head]);
        let mut left = self.len - head;
        let stretch = stretch(self.start);
        while left > 0 {
            let n = left.min(PERIOD);
            out.extend_from_slice(&stretch[..n]);
            left -= n;
        }
    }

    /// Whether `bytes` are exactly its bytes.
    #[inline]
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        if bytes.len() != self.len {
            return false;
        }
        let (head, rest) = bytes.split_at(self.len.min(HEAD));
        let stretch = stretch(self.start);
        *head == self.head[..head.len()] && rest.chunks(PERIOD).all(|chunk| *chunk == stretch[..chunk.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_knows_its_bytes() {
        for len in [0, 1, 7, 8, 9, 100, PERIOD + HEAD, PERIOD + HEAD + 1, 3 * PERIOD] {
            let body = Body { head: letters(mix(7)), start: 4000, len };
            let mut bytes = Vec::new();
            body.write(&mut bytes);
            assert_eq!(bytes.len(), len);
            assert!(body.is(&bytes));
            for at in [0, len / 2, len.saturating_sub(1)].into_iter().filter(|at| *at < len) {
                bytes[at] ^= 1;
                assert!(!body.is(&bytes), "byte {at} of {len}");
                bytes[at] ^= 1;
            }
            bytes.push(b'x');
            assert!(!body.is(&bytes));
        }
    }

    #[test]
    fn all_bytes_are_printable() {
        assert!(PATTERN.iter().chain(&letters(mix(1))).all(|byte| byte.is_ascii_graphic()));
    }
}
