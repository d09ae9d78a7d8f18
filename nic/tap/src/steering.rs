//! Which flow group a frame belongs to, and which queue gets it: the same function twice, in Rust and for the kernel.
//!
//! Toeplitz would be long in a program, so the group is a keyed multiply-xorshift of the four names:
//!
//! ```text
//!   h = (addresses ^ key0) * key1;  h ^= h >> 32
//!   h = (h ^ ports) * key2;         h ^= h >> 32;  h *= key1;  group = h >> 57
//! ```
//!
//! with the 8 bytes of both addresses and the 4 bytes of both ports read in the machine's byte order as they stand in the
//! frame. IPv6's 32 bytes of addresses go through the first line as four words, each on top of what the ones before left:
//!
//! ```text
//!   h = key0;  for each word: { h = (h ^ word) * key1;  h ^= h >> 32 }
//! ```
//!
//! The keys are drawn at start, so that a peer cannot aim its flows at one group. The last multiplication is not one too many: the upper bits of a single
//! product go round evenly as ports are counted up, and with one key in sixty all the connections of a client come to the same queue of two.

use sys::SysError;
use sys::bpf::{Array, Assembler, Label, Program, Reg, Width};
use units::{FLOW_GROUPS, FlowGroupId};
use wire::{Tuple, ethernet, ipv4};

/// 2^7 groups: the hash's upper seven bits.
const SHIFT: i32 = 64 - FLOW_GROUPS.ilog2() as i32;
const _: () = assert!(FLOW_GROUPS == 128);

/// The keys of the flow-group function.
#[derive(Clone, Copy, Debug)]
pub struct FlowHash {
    xor: u64,
    /// Odd, so that multiplication loses nothing.
    multipliers: [u64; 2],
}

impl FlowHash {
    /// Keys drawn at random.
    pub fn random() -> FlowHash {
        FlowHash::new([sys::random::u64(), sys::random::u64(), sys::random::u64()])
    }

    pub(crate) const fn new([xor, a, b]: [u64; 3]) -> FlowHash {
        FlowHash { xor, multipliers: [a | 1, b | 1] }
    }

    /// The flow group of frames that arrive on flow `t`. About 2 ns, 5 ns for IPv6.
    #[inline]
    pub fn group(&self, t: &Tuple) -> FlowGroupId {
        let (hash, ports) = match t.rss_input_v4() {
            Some([a, b, c, d, e, f, g, h, ports @ ..]) => {
                (self.word(self.xor, u64::from_ne_bytes([a, b, c, d, e, f, g, h])), ports)
            }
            None => {
                let input = t.rss_input_v6();
                let (words, rest) = input.as_chunks::<8>();
                let hash = words.iter().fold(self.xor, |hash, word| self.word(hash, u64::from_ne_bytes(*word)));
                (hash, rest.first_chunk().copied().unwrap_or_default())
            }
        };
        let hash =
            mix(hash ^ u64::from(u32::from_ne_bytes(ports)), self.multipliers[1]).wrapping_mul(self.multipliers[0]);
        FlowGroupId((hash >> SHIFT) as u16)
    }

    #[inline(always)]
    const fn word(&self, hash: u64, word: u64) -> u64 {
        mix(hash ^ word, self.multipliers[0])
    }
}

#[inline(always)]
const fn mix(hash: u64, multiplier: u64) -> u64 {
    let hash = hash.wrapping_mul(multiplier);
    hash ^ hash >> 32
}

/// The part of a frame that the program copies to its stack: from the Ethernet type to the ports of a packet without
/// options. The stack must be read aligned, so the addresses lie at a multiple of 8.
const COPY_FROM: i32 = 12;
const COPY_LEN: i32 = 26;
/// Where frame byte `at` is, relative to the frame pointer: byte 26 (source address) at -16.
const fn slot(at: i32) -> i16 {
    (at - 26 - 16) as i16
}
const PORTS: i32 = 34;
const KEY: i16 = -36;
const TCX_NEXT: i32 = -1;
/// In `struct __sk_buff`.
const QUEUE_MAPPING: i16 = 12;
/// IPv6: addresses and ports in one piece, copied to another place that is a multiple of 8.
const V6_FROM: i32 = 22;
const V6_LEN: i32 = 36;
const V6_AT: i16 = -80;

/// A steering program and its table.
#[derive(Debug)]
pub struct Steering {
    /// The queue of each flow group.
    pub reta: Array,
    /// The program.
    pub program: Program,
}

/// How the program says which queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It returns it.
    Returned,
    /// It writes it into the packet's `queue_mapping`, as if a NIC had received it there, and returns TCX_NEXT. What has no flow stays
    /// as it is.
    Mapped,
}

impl Steering {
    /// Loads the program for these keys, with a table of zeros.
    ///
    /// # Errors
    /// `EPERM` where bpf(2) is refused.
    pub fn load(hash: &FlowHash) -> Result<Steering, SysError> {
        let reta = Array::new(FLOW_GROUPS as u32)?;
        let program = Program::socket_filter(&assemble(hash, &reta, Answer::Returned))?;
        Ok(Steering { reta, program })
    }

    /// The same for the transmit path of an interface (TCX): frames leave by the queue that the table says, which on a veth is
    /// the queue by which they arrive at its other end.
    ///
    /// # Errors
    /// As [`Steering::load`]; `EINVAL` before Linux 6.6.
    pub fn egress(hash: &FlowHash) -> Result<Steering, SysError> {
        let reta = Array::new(FLOW_GROUPS as u32)?;
        let program = Program::tcx_egress(&assemble(hash, &reta, Answer::Mapped), "zygix_steer")?;
        Ok(Steering { reta, program })
    }
}

/// The program: the queue of a frame, 0 for anything but whole TCP or UDP over IP (as [`Tuple::of_frame`]).
fn assemble(hash: &FlowHash, reta: &Array, answer: Answer) -> Assembler {
    let mut a = Assembler::new();
    let queue0 = a.label();
    a.mov(Reg::R6, Reg::R1);
    look_up(&mut a, hash, reta, Assembler::SKB_LOAD_BYTES, queue0);
    if answer == Answer::Mapped {
        a.add_imm(Reg::R0, 1); // 0 means that none was recorded
        a.store(Width::W4, Reg::R6, QUEUE_MAPPING, Reg::R0);
        a.mov_imm(Reg::R0, TCX_NEXT);
    }
    a.exit();
    a.bind(queue0);
    a.mov_imm(Reg::R0, if answer == Answer::Mapped { TCX_NEXT } else { 0 });
    a.exit();
    a
}

/// Into a program whose packet is r6: r0 = what `reta` has for the packet's flow group, or off to `none` if it is no whole TCP or UDP over IP. By the helper
/// `load_bytes` ([`Assembler::SKB_LOAD_BYTES`] or [`Assembler::XDP_LOAD_BYTES`]). Registers but r6, and 80 bytes of the stack, are lost.
pub fn look_up(a: &mut Assembler, hash: &FlowHash, reta: &Array, load_bytes: i32, none: Label) {
    let (grouped, not_v4) = (a.label(), a.label());
    copy(a, COPY_LEN, slot(COPY_FROM));
    a.mov_imm(Reg::R2, COPY_FROM);
    a.call(load_bytes);
    a.jump_ne(Reg::R0, 0, none);
    a.load(Width::W2, Reg::R1, Reg::R10, slot(12));
    a.jump_ne(Reg::R1, i32::from(ethernet::IPV4.to_be()), not_v4);
    of_v4(a, hash, load_bytes, none);
    a.jump(grouped);
    a.bind(not_v4);
    a.jump_ne(Reg::R1, i32::from(ethernet::IPV6.to_be()), none);
    of_v6(a, hash, load_bytes, none);
    a.bind(grouped);
    a.store(Width::W4, Reg::R10, KEY, Reg::R7);
    a.load_map(Reg::R1, reta);
    a.mov(Reg::R2, Reg::R10);
    a.add_imm(Reg::R2, i32::from(KEY));
    a.call(Assembler::MAP_LOOKUP_ELEM);
    a.jump_eq(Reg::R0, 0, none);
    a.load(Width::W8, Reg::R0, Reg::R0, 0);
}

/// r7 = the flow group of an IPv4 frame, or off to `queue0`.
fn of_v4(a: &mut Assembler, hash: &FlowHash, load_bytes: i32, queue0: Label) {
    let (is_transport, no_options) = (a.label(), a.label());
    a.load(Width::W2, Reg::R1, Reg::R10, slot(20));
    a.jump_any(Reg::R1, i32::from((ipv4::MF | ipv4::OFFSET_MASK).to_be()), queue0);
    a.load(Width::W1, Reg::R1, Reg::R10, slot(23));
    a.jump_eq(Reg::R1, i32::from(ipv4::TCP), is_transport);
    a.jump_ne(Reg::R1, i32::from(ipv4::UDP), queue0);
    a.bind(is_transport);
    a.load(Width::W1, Reg::R7, Reg::R10, slot(14));
    a.jump_eq(Reg::R7, 0x45, no_options);
    // The rare packet with options (or of another version): the ports are further on.
    a.mov(Reg::R1, Reg::R7);
    a.shr_imm(Reg::R1, 4);
    a.jump_ne(Reg::R1, 4, queue0);
    a.and_imm(Reg::R7, 15);
    a.shl_imm(Reg::R7, 2);
    copy(a, 4, slot(PORTS));
    a.mov(Reg::R2, Reg::R7);
    a.add_imm(Reg::R2, ethernet::HEADER as i32);
    a.call(load_bytes);
    a.jump_ne(Reg::R0, 0, queue0);
    a.bind(no_options);
    a.mov_imm64(Reg::R7, hash.xor);
    mix_word(a, hash, slot(26));
    mix_ports(a, hash, slot(PORTS));
}

/// r7 = the flow group of an IPv6 frame without extension headers, or off to `queue0`.
fn of_v6(a: &mut Assembler, hash: &FlowHash, load_bytes: i32, queue0: Label) {
    let is_transport = a.label();
    a.load(Width::W1, Reg::R1, Reg::R10, slot(14));
    a.shr_imm(Reg::R1, 4);
    a.jump_ne(Reg::R1, 6, queue0);
    a.load(Width::W1, Reg::R1, Reg::R10, slot(20));
    a.jump_eq(Reg::R1, i32::from(ipv4::TCP), is_transport);
    a.jump_ne(Reg::R1, i32::from(ipv4::UDP), queue0);
    a.bind(is_transport);
    copy(a, V6_LEN, V6_AT);
    a.mov_imm(Reg::R2, V6_FROM);
    a.call(load_bytes);
    a.jump_ne(Reg::R0, 0, queue0);
    // An IPv4 address in IPv6's clothes names no flow: source, then destination.
    for at in [V6_AT, V6_AT + 16] {
        let genuine = a.label();
        a.load(Width::W8, Reg::R1, Reg::R10, at);
        a.jump_ne(Reg::R1, 0, genuine);
        a.load(Width::W2, Reg::R1, Reg::R10, at + 8);
        a.jump_ne(Reg::R1, 0, genuine);
        a.load(Width::W2, Reg::R1, Reg::R10, at + 10);
        a.jump_eq(Reg::R1, 0xffff, queue0);
        a.bind(genuine);
    }
    a.mov_imm64(Reg::R7, hash.xor);
    for word in 0..4 {
        mix_word(a, hash, V6_AT + 8 * word);
    }
    mix_ports(a, hash, V6_AT + 32);
}

/// The arguments of SKB_LOAD_BYTES but the offset: packet r6, `len` bytes to the stack at `to`.
fn copy(a: &mut Assembler, len: i32, to: i16) {
    a.mov(Reg::R1, Reg::R6);
    a.mov(Reg::R3, Reg::R10);
    a.add_imm(Reg::R3, i32::from(to));
    a.mov_imm(Reg::R4, len);
}

/// r7 = r7 with the word on the stack at `at`: [`FlowHash::word`], line by line.
fn mix_word(a: &mut Assembler, hash: &FlowHash, at: i16) {
    a.load(Width::W8, Reg::R2, Reg::R10, at);
    a.xor(Reg::R7, Reg::R2);
    mix_by(a, hash.multipliers[0]);
}

/// r7 = [`mix`] of r7.
fn mix_by(a: &mut Assembler, multiplier: u64) {
    a.mov_imm64(Reg::R2, multiplier);
    a.mul(Reg::R7, Reg::R2);
    a.mov(Reg::R2, Reg::R7);
    a.shr_imm(Reg::R2, 32);
    a.xor(Reg::R7, Reg::R2);
}

/// r7 = the flow group of r7 and the ports on the stack at `at`: the end of [`FlowHash::group`].
fn mix_ports(a: &mut Assembler, hash: &FlowHash, at: i16) {
    a.load(Width::W4, Reg::R2, Reg::R10, at);
    a.xor(Reg::R7, Reg::R2);
    mix_by(a, hash.multipliers[1]);
    a.mov_imm64(Reg::R2, hash.multipliers[0]);
    a.mul(Reg::R7, Reg::R2);
    a.shr_imm(Reg::R7, SHIFT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// A TCP or UDP frame (or something near it) with `options` words of IP options.
    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let protocol = prop_oneof![4 => Just(6u8), 4 => Just(17), 1 => any::<u8>()];
        let ethertype = prop_oneof![5 => Just(0x0800u16), 5 => Just(0x86dd), 1 => any::<u16>()];
        let version = prop_oneof![9 => Just(None), 1 => (0u8..16).prop_map(Some)];
        let fragment = prop_oneof![4 => Just(0u16), 4 => Just(0x4000), 1 => any::<u16>()];
        let shape = (protocol, ethertype, version, 5u8..16, fragment);
        let mapped = prop_oneof![9 => Just(None), 1 => prop_oneof![Just(22usize), Just(38)].prop_map(Some)];
        let rest = (0usize..=90, any::<bool>(), mapped);
        (shape, any::<[u8; 90]>(), rest).prop_map(|(shape, mut f, (cut, short, mapped))| {
            let (protocol, ethertype, version, words, fragment) = shape;
            let version = version.unwrap_or(if ethertype == 0x86dd { 6 } else { 4 });
            if ethertype == 0x86dd
                && let Some(at) = mapped
            {
                f[at..at + 10].fill(0);
                f[at + 10..at + 12].fill(0xff);
            }
            f[12..14].copy_from_slice(&ethertype.to_be_bytes());
            f[14] = version << 4 | words;
            f[20..22].copy_from_slice(&if ethertype == 0x86dd { [protocol, 64] } else { fragment.to_be_bytes() });
            if ethertype != 0x86dd {
                f[23] = protocol;
            }
            // Usually whole; else cut anywhere.
            f[..if short { cut } else { 90 }].to_vec()
        })
    }

    #[test]
    fn the_kernel_and_we_agree() {
        let hash = FlowHash::random();
        let steering = match Steering::load(&hash) {
            Err(e) if e.is_permission() => {
                return crate::queue::skipped("the_kernel_and_we_agree", &e.to_string());
            }
            loaded => loaded.unwrap(),
        };
        // Queue numbers that name their group, none of them the 0 of "no flow".
        (0..FLOW_GROUPS).for_each(|g| steering.reta.set(g, 1000 + g as u64));
        let mut runner = TestRunner::new(Config { cases: 2000, ..Config::default() });
        let result = runner.run(&any_frame(), |frame| {
            // The kernel's self test takes 14 bytes off as an Ethernet header; a TAP does not.
            let queue = steering.program.test_run(&[&[0; 14][..], &frame].concat());
            // It refuses packets that it finds too short itself.
            prop_assume!(queue.is_ok());
            let expected = Tuple::of_frame(&frame).map_or(0, |t| 1000 + hash.group(&t).index() as u32);
            prop_assert_eq!(queue.unwrap(), expected);
            Ok(())
        });
        result.unwrap();
        runner
            .run(&any::<(u32, u32, u16, u16)>(), |(local, remote, local_port, remote_port)| {
                let (local, remote) = (Ipv4Addr::from_bits(local), Ipv4Addr::from_bits(remote));
                let t = Tuple { local: local.into(), remote: remote.into(), local_port, remote_port };
                let mut frame = [0; 60];
                frame[12] = 8;
                ipv4::Header::new(remote, local, ipv4::UDP, 26).emit(&mut frame[14..]);
                frame[34..36].copy_from_slice(&remote_port.to_be_bytes());
                frame[36..38].copy_from_slice(&local_port.to_be_bytes());
                let queue = steering.program.test_run(&[&[0; 14][..], &frame].concat()).unwrap();
                prop_assert_eq!(queue, 1000 + hash.group(&t).index() as u32);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn flows_spread_over_all_groups() {
        // 64 Ki flows of one pair of hosts in each family; 1024 per group expected, standard deviation about 32.
        for keys in [[1, 2, 3], [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03, 0x94d0_49bb_1331_11eb]] {
            let hash = FlowHash::new(keys.map(|k: u64| k.wrapping_mul(0x2545_f491_4f6c_dd1d)));
            let mut counts = [0u32; FLOW_GROUPS];
            for port in 0..=u16::MAX {
                let flow = |local, remote| Tuple { local, remote, local_port: 7, remote_port: port };
                let v4 = flow(Ipv4Addr::new(198, 18, 0, 2).into(), Ipv4Addr::new(198, 18, 0, 1).into());
                let v6 = |n: u128| Ipv6Addr::from_bits(0x2001_0002 << 96 | n).into();
                counts[hash.group(&v4).index()] += 1;
                counts[hash.group(&flow(v6(2), v6(1))).index()] += 1;
            }
            assert!(counts.iter().all(|&n| (512..2048).contains(&n)), "{counts:?}");
        }
    }

    /// Linux counts the ports of a client's connections up, by two: whatever the keys, they spread over two queues as coins would.
    #[test]
    fn ports_that_are_counted_up_spread_over_two_queues() {
        let next = |key: &mut u64| {
            *key = key.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *key ^ *key >> 29
        };
        let mut key = 1;
        for _ in 0..2000 {
            let keys = [next(&mut key), next(&mut key), next(&mut key)];
            let (hash, first) = (FlowHash::new(keys), 0x8000 | next(&mut key) as u16 & 0x3fff);
            let (local, remote) = (Ipv4Addr::new(198, 18, 0, 2).into(), Ipv4Addr::new(198, 18, 0, 1).into());
            let flow = |nth: u16| Tuple { local, remote, local_port: 7, remote_port: first + 2 * nth };
            let odd = (0..64).filter(|nth| hash.group(&flow(*nth)).index() % 2 == 1).count();
            // 32 are expected, with a standard deviation of 4: six of them.
            assert!((8..=56).contains(&odd), "{odd} of 64 by the keys {keys:x?}");
        }
    }
}
