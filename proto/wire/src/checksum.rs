//! The Internet checksum (RFC 1071): ones' complement sums, over bytes that may lie in several pieces.
//!
//! A sum is kept in the machine's byte order and turned around once, at the end (RFC 1071 section 2(B)); four bytes are
//! added at a time into 64 bits, so that no carry is lost and compilers can use vector registers.

use std::net::Ipv4Addr;

use crate::Addr;

/// A ones' complement sum in progress: of the pieces of a gather list, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Native-order 16-bit words, carries not yet folded. Below 2^34 after each piece, so 2^30 pieces fit.
    sum: u64,
    /// An odd number of bytes has been added: the next byte is the low half of its word.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Sum {
        Sum { sum: 0, odd: false }
    }

    /// The sum of a pseudo-header (RFC 9293 section 3.1): addresses, `protocol`, and `len`, the bytes of transport
    /// header and payload.
    #[inline]
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u32) -> Sum {
        // Each number below is a multiple of 16-bit words in network order; `to_be` yields what memory would hold.
        let sum = u64::from(src.to_bits().to_be())
            + u64::from(dst.to_bits().to_be())
            + u64::from(u32::from(protocol).to_be())
            + u64::from(len.to_be());
        Sum { sum: halve(sum), odd: false }
    }

    /// The sum of IPv6's pseudo-header (RFC 8200 section 8.1): addresses, upper-layer length, next header.
    pub fn pseudo_v6(src: &Addr, dst: &Addr, protocol: u8, len: u32) -> Sum {
        let ((a, b), (c, d)) = (src.halves(), dst.halves());
        let words = u64::from(u32::from(protocol).to_be()) + u64::from(len.to_be());
        Sum { sum: halve([a, b, c, d].iter().fold(words, |sum, half| sum + halve(half.to_be()))), odd: false }
    }

    /// The sum of the pseudo-header of these addresses' family, which is the source's.
    #[inline(always)]
    pub fn pseudo(src: &Addr, dst: &Addr, protocol: u8, len: u32) -> Sum {
        match src.to_v4() {
            Some(src) => Sum::pseudo_v4(src, dst.low_v4(), protocol, len),
            None => Sum::pseudo_v6(src, dst, protocol, len),
        }
    }

    /// Adds the bytes that come next. About 0.1 ns per byte.
    #[inline]
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let piece = sum_bytes(bytes);
        self.append(piece, bytes.len() % 2 == 1);
    }

    /// The sum with `bytes` added.
    #[inline]
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Sum {
        self.add_bytes(bytes);
        self
    }

    /// Adds a sum that was taken apart, of the bytes that come next.
    #[inline]
    pub fn add(&mut self, next: Sum) {
        self.append(next.sum, next.odd);
    }

    #[inline]
    fn append(&mut self, piece: u64, odd: bool) {
        // A piece at an odd place has its bytes in the other halves of the words (RFC 1071 section 2(B): swapping the
        // bytes of a sum is the sum of swapped bytes).
        let piece = if self.odd { u64::from(fold_native(piece).swap_bytes()) } else { halve(piece) };
        self.sum = halve(self.sum + piece);
        self.odd ^= odd;
    }

    /// The folded sum, not complemented, as a number: `to_be_bytes` is what goes on the wire. This is what a partial
    /// checksum offload wants in the field (of the pseudo-header only).
    #[inline]
    pub fn fold(self) -> u16 {
        u16::from_be(fold_native(self.sum))
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// Whether bytes that include their own checksum are intact.
    #[inline]
    pub fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Folds a sum of 16-bit words (or of 32-bit words made of them) to 16 bits, carries brought round.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    fold_native(sum)
}

#[inline]
const fn fold_native(sum: u64) -> u16 {
    let sum = halve(sum); // below 2^33
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32); // below 2^18
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[inline]
const fn halve(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// The native-order sum of `bytes`, a last odd byte padded with zero.
#[inline]
fn sum_bytes(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let mut sum = 0;
    // A sum of 2^32 words of 32 bits fits 64 bits: 16 GiB, more than any slice of a frame.
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        let mut lanes = [0u64; 4];
        for (i, word) in words.iter().enumerate() {
            lanes[i % 4] += u64::from(u32::from_ne_bytes(*word));
        }
        sum += lanes.iter().sum::<u64>();
    }
    // Fewer than 64 bytes, a header for instance: eight at a time, each carry brought round at once.
    let (words, mut rest) = rest.as_chunks::<8>();
    sum = halve(sum);
    for word in words {
        let (added, carry) = sum.overflowing_add(u64::from_ne_bytes(*word));
        sum = added + u64::from(carry);
    }
    sum = halve(sum);
    if let Some((word, less)) = rest.split_first_chunk::<4>() {
        sum += u64::from(u32::from_ne_bytes(*word));
        rest = less;
    }
    if rest.is_empty() {
        return sum;
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 1, word for word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().with(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::new().with(&bytes).finish(), !0xddf2);
        // The same bytes in groups, one of odd length ("Sum, break at odd").
        assert_eq!(Sum::new().with(&bytes[..3]).with(&bytes[3..]).fold(), 0xddf2);
    }

    #[test]
    fn a_pseudo_header_is_the_sum_of_its_twelve_bytes() {
        let (src, dst) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 255, 2));
        let bytes = [198, 18, 0, 1, 198, 18, 255, 2, 0, 6, 0x12, 0x34];
        assert_eq!(Sum::pseudo_v4(src, dst, 6, 0x1234).fold(), reference(&bytes));
    }

    #[test]
    fn a_pseudo_header_of_ipv6_is_the_sum_of_its_forty_bytes() {
        let (src, dst) = ("2001:2:ffff:fffe::1", "fe80::ffff:ffff:ffff:2");
        let (src, dst): (std::net::Ipv6Addr, std::net::Ipv6Addr) = (src.parse().unwrap(), dst.parse().unwrap());
        let bytes = [&src.octets()[..], &dst.octets(), &[0, 1, 0x23, 0x45, 0, 0, 0, 58]].concat();
        assert_eq!(Sum::pseudo(&src.into(), &dst.into(), 58, 0x1_2345).fold(), reference(&bytes));
    }

    #[test]
    fn a_valid_block_sums_to_all_ones() {
        let mut bytes = *b"zygix dataplane!\0\0";
        let sum = Sum::new().with(&bytes).finish();
        bytes[16..].copy_from_slice(&sum.to_be_bytes());
        assert!(Sum::new().with(&bytes).is_valid());
        bytes[3] ^= 4;
        assert!(!Sum::new().with(&bytes).is_valid());
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(Sum::new().with(&bytes).fold(), reference(&bytes));
        }

        #[test]
        fn cuts_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..300), mut cuts: Vec<u16>) {
            cuts.iter_mut().for_each(|c| *c %= bytes.len() as u16 + 1);
            cuts.sort_unstable();
            let (mut whole, mut apart, mut from) = (Sum::new(), Sum::new(), 0);
            for to in cuts.into_iter().map(usize::from).chain([bytes.len()]) {
                whole.add_bytes(&bytes[from..to]);
                apart.add(Sum::new().with(&bytes[from..to]));
                from = to;
            }
            prop_assert_eq!(whole.fold(), reference(&bytes));
            prop_assert_eq!(apart.fold(), reference(&bytes));
        }

        #[test]
        fn many_ones_lose_no_carry(n in 0usize..70_000) {
            let bytes = vec![0xff; n];
            prop_assert_eq!(Sum::new().with(&bytes).fold(), reference(&bytes));
        }
    }
}
