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
    Program::xdp(&assemble(addresses, sockets), NAME)
}

fn assemble(addresses: &[IpAddr], sockets: &SocketMap) -> Assembler {
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
    a.mov_imm(Reg::R3, PASS);
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
