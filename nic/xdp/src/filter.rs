//! The XDP program: which frames are ours.
//!
//! ```text
//!   IPv4   to one of our addresses: all protocols, all fragments             -> the socket of the queue it came by
//!   IPv6   likewise; and neighbour solicitations (RFC 4861 section 4.3) for one of them, whatever group they go to
//!   ARP    whose target protocol address (RFC 826) is ours
//!   else, and where the queue has no socket                                  -> the kernel, untouched
//! ```
//!
//! Frames behind a VLAN tag are the kernel's. The addresses stand in the program's instructions: it reads no map but that of the sockets.

use std::net::IpAddr;

use sys::SysError;
use sys::bpf::{Assembler, Label, Program, Reg, SocketMap, Width};
use wire::ethernet;

/// What programs of ours are called, for `bpftool prog` and for our own errors.
pub(crate) const NAME: &str = "zygix_xdp";

/// XDP_PASS
const PASS: i32 = 2;
/// Fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const QUEUE: i16 = 16;
/// The length of a frame with the least IPv4 header, ARP packet, IPv6 header, neighbour solicitation.
const V4: i32 = 34;
const ARP: i32 = 42;
const V6: i32 = 54;
const NS: i32 = 78;
const ICMPV6: i32 = 58;
const SOLICITATION: i32 = 135;

/// Loads the program for these addresses and this map of sockets, by queue.
pub(crate) fn load(addresses: &[IpAddr], sockets: &SocketMap) -> Result<Program, SysError> {
    Program::xdp(&assemble(addresses, sockets, PASS), NAME)
}

/// The program; `orphan` is what becomes of a frame of ours whose queue has no socket.
fn assemble(addresses: &[IpAddr], sockets: &SocketMap, orphan: i32) -> Assembler {
    let v4: Vec<u32> = addresses
        .iter()
        .filter_map(|a| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None })
        .map(u32::from_ne_bytes)
        .collect();
    let v6: Vec<[u64; 2]> = addresses
        .iter()
        .filter_map(|a| if let IpAddr::V6(a) = a { Some(a.octets()) } else { None })
        .map(halves)
        .collect();
    let mut a = Assembler::new();
    let (take, pass, not_v4, not_arp) = (a.label(), a.label(), a.label(), a.label());
    a.mov(Reg::R6, Reg::R1);
    a.load(Width::W4, Reg::R2, Reg::R1, DATA);
    a.load(Width::W4, Reg::R3, Reg::R1, DATA_END);
    within(&mut a, V4, pass);
    a.load(Width::W2, Reg::R5, Reg::R2, 12);
    a.jump_ne(Reg::R5, i32::from(ethernet::IPV4.to_be()), not_v4);
    any_of_v4(&mut a, &v4, 30, take, pass);
    a.bind(not_v4);
    a.jump_ne(Reg::R5, i32::from(ethernet::ARP.to_be()), not_arp);
    within(&mut a, ARP, pass);
    any_of_v4(&mut a, &v4, 38, take, pass);
    a.bind(not_arp);
    a.jump_ne(Reg::R5, i32::from(ethernet::IPV6.to_be()), pass);
    within(&mut a, V6, pass);
    any_of_v6(&mut a, &v6, 38, take);
    a.load(Width::W1, Reg::R5, Reg::R2, 20);
    a.jump_ne(Reg::R5, ICMPV6, pass);
    within(&mut a, NS, pass);
    a.load(Width::W1, Reg::R5, Reg::R2, 54);
    a.jump_ne(Reg::R5, SOLICITATION, pass);
    any_of_v6(&mut a, &v6, 62, take);
    a.bind(pass);
    a.mov_imm(Reg::R0, PASS);
    a.exit();
    a.bind(take);
    a.load(Width::W4, Reg::R2, Reg::R6, QUEUE);
    a.load_map(Reg::R1, sockets);
    a.mov_imm(Reg::R3, orphan);
    a.call(Assembler::REDIRECT_MAP);
    a.exit();
    a
}

/// An address as two words in the machine's order, as they are read from a frame.
fn halves(octets: [u8; 16]) -> [u64; 2] {
    let (words, _) = octets.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

/// On only with frames of at least `len` bytes.
fn within(a: &mut Assembler, len: i32, pass: Label) {
    a.mov(Reg::R4, Reg::R2);
    a.add_imm(Reg::R4, len);
    a.jump_gt_reg(Reg::R4, Reg::R3, pass);
}

/// Off to `take` if the word at `at` is one of these, else to `pass`.
fn any_of_v4(a: &mut Assembler, addresses: &[u32], at: i16, take: Label, pass: Label) {
    a.load(Width::W4, Reg::R5, Reg::R2, at);
    for &address in addresses {
        a.mov_imm64(Reg::R4, address.into());
        a.jump_eq_reg(Reg::R5, Reg::R4, take);
    }
    a.jump(pass);
}

/// Off to `take` if the 16 bytes at `at` are one of these; else on.
fn any_of_v6(a: &mut Assembler, addresses: &[[u64; 2]], at: i16, take: Label) {
    for [high, low] in addresses {
        let other = a.label();
        a.load(Width::W8, Reg::R5, Reg::R2, at);
        a.mov_imm64(Reg::R4, *high);
        a.jump_ne_reg(Reg::R5, Reg::R4, other);
        a.load(Width::W8, Reg::R5, Reg::R2, at + 8);
        a.mov_imm64(Reg::R4, *low);
        a.jump_eq_reg(Reg::R5, Reg::R4, take);
        a.bind(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    /// XDP_DROP: what a frame of ours comes to here, as there are no sockets.
    const OURS: u32 = 1;

    /// Which frames are to be ours, as the head of this file has it.
    fn is_ours(frame: &[u8], addresses: &[IpAddr]) -> bool {
        let has = |at: usize, len: usize| {
            let bytes = frame.get(at..at + len);
            addresses.iter().any(|a| match a {
                IpAddr::V4(a) => bytes == Some(&a.octets()),
                IpAddr::V6(a) => bytes == Some(&a.octets()),
            })
        };
        match (&frame[12..14], frame.len()) {
            ([8, 0], 34..) => has(30, 4),
            ([8, 6], 42..) => has(38, 4),
            ([0x86, 0xdd], 54..) => {
                has(38, 16) || frame.len() >= 78 && frame[20] == 58 && frame[54] == 135 && has(62, 16)
            }
            _ => false,
        }
    }

    /// A frame of 14 to 90 bytes, with one of the addresses, or nearly, at one of the places where they count.
    fn any_frame(addresses: Vec<IpAddr>) -> impl Strategy<Value = Vec<u8>> {
        let ethertype = prop_oneof![Just([8u8, 0]), Just([8, 6]), Just([0x86, 0xdd]), any::<[u8; 2]>()];
        let place = prop_oneof![Just(26usize), Just(30), Just(38), Just(22), Just(62)];
        let shape = (ethertype, place, 0..addresses.len(), prop_oneof![3 => Just(0u8), 1 => Just(1)]);
        (any::<[u8; 90]>(), 14..=90usize, any::<bool>(), any::<bool>(), shape).prop_map(
            move |(mut f, len, whole, solicits, (ethertype, place, which, off))| {
                f[12..14].copy_from_slice(&ethertype);
                if solicits {
                    (f[20], f[54]) = (58, 135);
                }
                match addresses[which] {
                    IpAddr::V4(a) => f[place..place + 4].copy_from_slice(&a.octets()),
                    IpAddr::V6(a) => f[place..place + 16].copy_from_slice(&a.octets()),
                }
                f[place + 3] ^= off;
                f[..if whole { 90 } else { len }].to_vec()
            },
        )
    }

    #[test]
    fn the_kernel_takes_what_is_ours_and_nothing_else() {
        let addresses: Vec<IpAddr> =
            ["198.18.0.2", "203.0.113.255", "2001:2::2", "fe80::ff:fe00:1"].map(|a| a.parse().unwrap()).into();
        let loaded = SocketMap::new(1).and_then(|map| Program::xdp(&assemble(&addresses, &map, OURS as i32), "test"));
        let program = match loaded {
            Err(e) if e.is_permission() => {
                use std::io::Write;
                // Past the harness's capture.
                let _ = writeln!(std::io::stderr(), "SKIPPED the_kernel_takes_what_is_ours_and_nothing_else: {e}");
                return;
            }
            loaded => loaded.unwrap(),
        };
        let mut runner = TestRunner::new(Config { cases: 4000, ..Config::default() });
        let taken = std::cell::Cell::new(0);
        runner
            .run(&any_frame(addresses.clone()), |frame| {
                // The kernel refuses to try packets that are too short for it.
                let said = program.test_run(&frame);
                prop_assume!(said.is_ok());
                let ours = is_ours(&frame, &addresses);
                taken.set(taken.get() + u32::from(ours));
                prop_assert_eq!(said.unwrap(), if ours { OURS } else { PASS as u32 });
                Ok(())
            })
            .unwrap();
        let taken = taken.get();
        assert!(taken > 100, "only {taken} frames were ours: the test does not try what it should");
    }
}
