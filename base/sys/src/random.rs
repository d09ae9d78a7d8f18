//! Seeds: random bytes of the kernel (getrandom(2)). For keys and seeds; not for the data path.

/// 64 random bits. Waits, once after boot, until the kernel has some.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Fills `bytes` with random bits.
pub fn fill(bytes: &mut [u8]) {
    // getrandom(2) gives up to 256 bytes at once, uninterrupted.
    for piece in bytes.chunks_mut(256) {
        // SAFETY: a live buffer of the length passed.
        let n = unsafe { libc::getrandom(piece.as_mut_ptr().cast(), piece.len(), 0) };
        assert_eq!(n, piece.len() as isize, "every Linux since 3.17 has getrandom");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_is_filled() {
        let mut seen = [0u8; 700];
        for _ in 0..8 {
            let mut bytes = [0; 700];
            super::fill(&mut bytes);
            seen.iter_mut().zip(bytes).for_each(|(s, b)| *s |= b);
        }
        assert!(!seen.contains(&0) && super::u64() != super::u64());
    }
}
