/// Fills `out` with the bytes that the source sends from `offset` on.
///
/// The eight bytes at offset 8k are a mix of k (the finalizer of SplitMix64), so every offset can be made on its
/// own and no two stretches look alike.
pub fn pattern(offset: u64, out: &mut [u8]) {
    // The rest of a word that has begun before, whole words, the beginning of one.
    let skip = (offset % 8) as usize;
    let (first, rest) = out.split_at_mut(if skip == 0 { 0 } else { out.len().min(8 - skip) });
    first.copy_from_slice(&mix(offset / 8).to_le_bytes()[skip..][..first.len()]);
    let mut k = offset.div_ceil(8);
    let (words, last) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = mix(k).to_le_bytes();
        k += 1;
    }
    last.copy_from_slice(&mix(k).to_le_bytes()[..last.len()]);
}

#[inline]
fn mix(k: u64) -> u64 {
    let mut z = k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Characters of a line of [`chargen`], without its end.
const LINE: u64 = 72;
/// Printable characters of ASCII, the blank among them.
const PRINTABLE: u64 = 95;

/// Fills `out` with the characters from `offset` on: lines of 72, each beginning one character further in ASCII than the one before (RFC
/// 864's recommended syntax).
pub fn chargen(offset: u64, out: &mut [u8]) {
    for (i, byte) in (offset..).zip(out) {
        let (line, column) = (i / (LINE + 2), i % (LINE + 2));
        *byte = match column.checked_sub(LINE) {
            None => b' ' + ((line + column) % PRINTABLE) as u8,
            Some(0) => b'\r',
            Some(_) => b'\n',
        };
    }
}
