//! Receive side scaling: the Toeplitz hash by which NICs spread flows (Microsoft, "RSS hashing functions").
//!
//! The hash is linear: each set input bit xors in the 32 key bits that begin at the bit's place. So it is a sum over
//! nibbles of values that depend on (place, nibble) alone: 72 places x 16 values, 4.5 KB, of which IPv4 uses 1.5 KB, looked up.

use units::FlowGroupId;

use crate::{Addr, Tuple, be16, ethernet, ipv4};

/// Bytes of an RSS key.
pub const KEY: usize = 40;
/// Bytes of the hash input for TCP or UDP over IPv4.
pub const INPUT_V4: usize = 12;
/// Bytes of the hash input for TCP or UDP over IPv6.
pub const INPUT_V6: usize = 36;

/// Where addresses and ports are in an IPv4 frame without options.
const NAMES_AT: usize = ethernet::HEADER + 12;

/// The key of Microsoft's verification suite, which most drivers use by default.
pub const MICROSOFT_KEY: [u8; KEY] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// A Toeplitz hash with its key's tables.
#[derive(Clone)]
pub struct Toeplitz {
    /// By nibble of the input (high half of byte 0 first), then by that nibble's value.
    tables: [[u32; 16]; 2 * INPUT_V6],
}

impl std::fmt::Debug for Toeplitz {
    // Its key is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toeplitz")
    }
}

impl Toeplitz {
    /// The hash under `key`. Peers that know the key can choose flows that collide: draw it at random where they are
    /// not trusted.
    pub const fn new(key: &[u8; KEY]) -> Toeplitz {
        let mut tables = [[0; 16]; 2 * INPUT_V6];
        let mut place = 0;
        while place < 2 * INPUT_V6 {
            let mut value = 0;
            while value < 16 {
                let mut bit = 0;
                while bit < 4 {
                    if value & (8 >> bit) != 0 {
                        tables[place][value] ^= window(key, 4 * place + bit);
                    }
                    bit += 1;
                }
                value += 1;
            }
            place += 1;
        }
        Toeplitz { tables }
    }

    /// The hash of the 12 bytes source address, destination address, source port, destination port. About 8 ns.
    #[inline]
    pub fn hash_v4(&self, input: &[u8; INPUT_V4]) -> u32 {
        self.hash_bytes(input)
    }

    /// The hash of the 36 bytes source address, destination address, source port, destination port. About 20 ns.
    pub fn hash_v6(&self, input: &[u8; INPUT_V6]) -> u32 {
        self.hash_bytes(input)
    }

    #[inline(always)]
    fn hash_bytes(&self, input: &[u8]) -> u32 {
        let mut hash = 0;
        for (pair, byte) in self.tables.as_chunks::<2>().0.iter().zip(input) {
            hash ^= pair[0][usize::from(byte >> 4)] ^ pair[1][usize::from(byte & 15)];
        }
        hash
    }

    /// The hash of source and destination address: for packets that are neither TCP nor UDP.
    pub fn hash_addresses(&self, src: impl Into<Addr>, dst: impl Into<Addr>) -> u32 {
        // Zero bits add nothing, so the shorter input is the longer one with zero ports.
        self.hash(&Tuple { local: dst.into(), remote: src.into(), local_port: 0, remote_port: 0 })
    }

    /// The hash of frames that arrive on flow `t`.
    #[inline]
    pub fn hash(&self, t: &Tuple) -> u32 {
        match t.rss_input_v4() {
            Some(input) => self.hash_v4(&input),
            None => self.hash_v6(&t.rss_input_v6()),
        }
    }

    /// The flow group of a frame, as its receiver's hardware would compute it; `None` where [`Tuple::of_frame`] is. The usual frame's names
    /// stand side by side and are hashed where they stand.
    #[inline]
    pub fn group_of_frame(&self, frame: &[u8]) -> Option<FlowGroupId> {
        let head: &[u8; NAMES_AT + INPUT_V4] = match frame.first_chunk() {
            Some(head) if be16(head, 12) == ethernet::IPV4 && head[14] == 0x45 => head,
            _ => return Tuple::of_frame(frame).map(|t| self.flow_group(&t)),
        };
        let fragment = be16(head, 20) & (ipv4::MF | ipv4::OFFSET_MASK) != 0;
        if fragment || !matches!(head[23], ipv4::TCP | ipv4::UDP) {
            return None;
        }
        head[NAMES_AT..].first_chunk().map(|names| FlowGroupId::of_hash(self.hash_v4(names)))
    }

    /// The flow group of frames that arrive on flow `t`.
    #[inline]
    pub fn flow_group(&self, t: &Tuple) -> FlowGroupId {
        FlowGroupId::of_hash(self.hash(t))
    }
}

/// The 32 key bits that begin at bit `at`, most significant first.
const fn window(key: &[u8; KEY], at: usize) -> u32 {
    let mut bits = 0;
    let mut i = at;
    while i < at + 32 {
        bits = bits << 1 | (key[i / 8] >> (7 - i % 8) & 1) as u32;
        i += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The same page's IPv6 rows.
    const VECTORS_V6: [(&str, u16, &str, u16, u32, u32); 3] = [
        ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc18cd5, 0x40207d3d),
        ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c461c, 0xdde51bbf),
        ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4b61e985, 0x02d1feef),
    ];

    /// Microsoft, "Verifying the RSS hash calculation": IPv4 rows (destination, source, hash of addresses, with ports).
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 5] = [
        ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e8fc2, 0x51ccc178),
        ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718262a, 0xc626b0ea),
        ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0a5de, 0x5c2b394a),
        ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xafc7327f),
        ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d1809c5, 0x10e828a2),
    ];

    #[test]
    fn microsofts_verification_suite() {
        let toeplitz = Toeplitz::new(&MICROSOFT_KEY);
        for (dst, dst_port, src, src_port, addresses, full) in VECTORS {
            let (dst, src): (Ipv4Addr, Ipv4Addr) = (dst.parse().unwrap(), src.parse().unwrap());
            let t = Tuple { local: dst.into(), remote: src.into(), local_port: dst_port, remote_port: src_port };
            assert_eq!(toeplitz.hash(&t), full);
            assert_eq!(toeplitz.hash_addresses(src, dst), addresses);
            assert_eq!(toeplitz.flow_group(&t).index(), full as usize % 128);
        }
    }

    #[test]
    fn microsofts_verification_suite_for_ipv6() {
        let toeplitz = Toeplitz::new(&MICROSOFT_KEY);
        for (dst, dst_port, src, src_port, addresses, full) in VECTORS_V6 {
            let (dst, src): (Ipv6Addr, Ipv6Addr) = (dst.parse().unwrap(), src.parse().unwrap());
            let t = Tuple { local: dst.into(), remote: src.into(), local_port: dst_port, remote_port: src_port };
            assert_eq!((toeplitz.hash(&t), toeplitz.hash_addresses(src, dst)), (full, addresses));
        }
    }

    proptest! {
        #[test]
        fn a_frame_belongs_where_its_flow_does(
            shape in (0usize..80, any::<bool>(), 5u8..8, prop_oneof![Just(6u8), Just(17), any::<u8>()], prop_oneof![Just(0u8), Just(0x40), any::<u8>()]),
            mut frame: [u8; 80],
        ) {
            let (len, v6, words, protocol, flags) = shape;
            frame[12..15].copy_from_slice(&if v6 { [0x86, 0xdd, 0x60] } else { [8, 0, 0x40 | words] });
            (frame[20], frame[23]) = if v6 { (protocol, 0) } else { (flags, protocol) };
            if !v6 {
                frame[21] = 0;
            }
            for frame in [&frame[..], &frame[..len]] {
                let toeplitz = Toeplitz::new(&MICROSOFT_KEY);
                let flow = Tuple::of_frame(frame).map(|t| toeplitz.flow_group(&t));
                prop_assert_eq!(toeplitz.group_of_frame(frame), flow);
            }
        }

        #[test]
        fn tables_agree_with_the_definition(key: [u8; KEY], low: [u8; 18], high: [u8; 18]) {
            let input: [u8; INPUT_V6] = std::array::from_fn(|i| if i < 18 { low[i] } else { high[i - 18] });
            let hash = |bytes: usize| {
                let set = |bit: &usize| input[bit / 8] & (0x80 >> (bit % 8)) != 0;
                (0..8 * bytes).filter(set).fold(0, |hash, bit| hash ^ window(&key, bit))
            };
            let toeplitz = Toeplitz::new(&key);
            prop_assert_eq!(toeplitz.hash_v4(input.first_chunk().unwrap()), hash(INPUT_V4));
            prop_assert_eq!(toeplitz.hash_v6(&input), hash(INPUT_V6));
        }
    }
}
