/// Fills `out` with the bytes that the source sends from `offset` on.
///
/// The eight bytes at offset 8k are a mix of k (the finalizer of SplitMix64), so every offset can be made on its
/// own and no two stretches look alike.
pub fn pattern(offset: u64, out: &mut [u8]) {
    let mut at = offset;
    let mut left = out;
    while !left.is_empty() {
        let skip = (at % 8) as usize;
        let take = left.len().min(8 - skip);
        let (now, later) = left.split_at_mut(take);
        now.copy_from_slice(&mix(at / 8).to_le_bytes()[skip..skip + take]);
        at += take as u64;
        left = later;
    }
}

fn mix(k: u64) -> u64 {
    let mut z = k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
