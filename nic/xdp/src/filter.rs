//! The XDP program: which frames are ours.
//!
//! ```text
//!   IPv4   to one of our addresses: all protocols, all fragments             -> the socket of the queue it came by, or of its flow group
//!   IPv6   likewise; and neighbour solicitations (RFC 4861 section 4.3) for one of them, whatever group they go to
//!   ARP    whose target protocol address (RFC 826) is ours
//!   else, and where there is no socket                                       -> the kernel, untouched
//! ```
//!
//! Where ports are named, of TCP and UDP only whole packets to one of these are ours. The kernel may have such an address, too: then nothing else
//! to it is ours, neither ARP nor ICMP nor fragments, and `copies.rs` says how the answers that both stacks need come to both.
//!
//! Frames behind a VLAN tag are the kernel's. Addresses and ports stand in the program's instructions. Where all sockets are on one
//! queue, it looks the flow group's socket up as a TAP's steering program does (`nic/tap/steering.rs`).

use std::net::IpAddr;

use sys::SysError;
use sys::bpf::{Array, Assembler, Label, Program, Reg, SocketMap, Width};
use tap::FlowHash;
use wire::{ethernet, ipv4};

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
/// Both ports, as far as the end of both.
const PORTS: i32 = 4;
const ICMPV6: i32 = 58;
const SOLICITATION: i32 = 135;

/// What is ours on an interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ours {
    /// Addresses that nobody else has.
    pub(crate) alone: Vec<IpAddr>,
    /// Addresses that the kernel has, too; only with ports.
    pub(crate) shared: Vec<IpAddr>,
    /// If any: the ports of TCP and UDP that are ours. Else all are.
    pub(crate) ports: Vec<u16>,
}

/// Whose socket gets a frame of ours.
#[derive(Clone, Copy)]
pub(crate) enum To<'a> {
    /// The one with the number of the queue that the frame came by.
    Queue,
    /// The one that this table has for the frame's flow group, or the first: all are on one queue.
    Group(&'a FlowHash, &'a Array),
    /// The first: all are on one queue.
    First,
}

/// Loads the program for this and for this map of sockets.
pub(crate) fn load(ours: &Ours, sockets: &SocketMap, to: To<'_>) -> Result<Program, SysError> {
    Program::xdp(&assemble(ours, sockets, to, PASS), NAME)
}

/// The program; `orphan` is what becomes of a frame of ours that has no socket.
fn assemble(ours: &Ours, sockets: &SocketMap, to: To<'_>, orphan: i32) -> Assembler {
    let (v4, v4_shared) = (words_v4(&ours.alone), words_v4(&ours.shared));
    let (v6, v6_shared) = (words_v6(&ours.alone), words_v6(&ours.shared));
    let mut a = Assembler::new();
    let (take, pass, not_v4, not_arp) = (a.label(), a.label(), a.label(), a.label());
    let alone = [a.label(), a.label()];
    let shared = [a.label(), a.label()];
    a.mov(Reg::R6, Reg::R1);
    a.load(Width::W4, Reg::R2, Reg::R1, DATA);
    a.load(Width::W4, Reg::R3, Reg::R1, DATA_END);
    within(&mut a, V4, pass);
    a.load(Width::W2, Reg::R5, Reg::R2, 12);
    a.jump_ne(Reg::R5, i32::from(ethernet::IPV4.to_be()), not_v4);
    any_of_v4(&mut a, &v4, 30, alone[0]);
    any_of_v4(&mut a, &v4_shared, 30, shared[0]);
    a.jump(pass);
    a.bind(not_v4);
    a.jump_ne(Reg::R5, i32::from(ethernet::ARP.to_be()), not_arp);
    within(&mut a, ARP, pass);
    any_of_v4(&mut a, &v4, 38, take);
    a.jump(pass);
    a.bind(not_arp);
    a.jump_ne(Reg::R5, i32::from(ethernet::IPV6.to_be()), pass);
    within(&mut a, V6, pass);
    any_of_v6(&mut a, &v6, 38, alone[1]);
    any_of_v6(&mut a, &v6_shared, 38, shared[1]);
    a.load(Width::W1, Reg::R5, Reg::R2, 20);
    a.jump_ne(Reg::R5, ICMPV6, pass);
    within(&mut a, NS, pass);
    a.load(Width::W1, Reg::R5, Reg::R2, 54);
    a.jump_ne(Reg::R5, SOLICITATION, pass);
    any_of_v6(&mut a, &v6, 62, take);
    a.bind(pass);
    a.mov_imm(Reg::R0, PASS);
    a.exit();
    // The verifier takes no instructions that cannot be reached.
    let ports = &ours.ports;
    for (at, v4, v6, other) in [(alone, &v4, &v6, take), (shared, &v4_shared, &v6_shared, pass)] {
        if !v4.is_empty() {
            a.bind(at[0]);
            ports_v4(&mut a, ports, take, pass, other);
        }
        if !v6.is_empty() {
            a.bind(at[1]);
            ports_v6(&mut a, ports, take, pass, other);
        }
    }
    a.bind(take);
    match to {
        To::Queue => a.load(Width::W4, Reg::R2, Reg::R6, QUEUE),
        To::First => a.mov_imm(Reg::R2, 0),
        To::Group(hash, table) => {
            let (none, found) = (a.label(), a.label());
            tap::look_up(&mut a, hash, table, Assembler::XDP_LOAD_BYTES, none);
            a.mov(Reg::R2, Reg::R0);
            a.jump(found);
            a.bind(none);
            a.mov_imm(Reg::R2, 0);
            a.bind(found);
        }
    }
    a.load_map(Reg::R1, sockets);
    a.mov_imm(Reg::R3, orphan);
    a.call(Assembler::REDIRECT_MAP);
    a.exit();
    a
}

/// Addresses of IPv4 as words in the machine's order, as they are read from a frame.
fn words_v4(addresses: &[IpAddr]) -> Vec<u32> {
    let octets = addresses.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None });
    octets.map(u32::from_ne_bytes).collect()
}

/// Addresses of IPv6 as two such words.
fn words_v6(addresses: &[IpAddr]) -> Vec<[u64; 2]> {
    let octets = addresses.iter().filter_map(|a| if let IpAddr::V6(a) = a { Some(a.octets()) } else { None });
    octets.map(halves).collect()
}

/// A frame to an address of ours: off to `take` if it is a whole TCP or UDP packet to one of these ports, to `pass` if to another, and what has no
/// port to `other`. Without ports, all is taken.
fn ports_v4(a: &mut Assembler, ports: &[u16], take: Label, pass: Label, other: Label) {
    if ports.is_empty() {
        return a.jump(take);
    }
    transport_or(a, 23, other);
    a.load(Width::W2, Reg::R5, Reg::R2, 20);
    a.jump_any(Reg::R5, i32::from((ipv4::MF | ipv4::OFFSET_MASK).to_be()), other);
    a.load(Width::W1, Reg::R7, Reg::R2, 14);
    a.and_imm(Reg::R7, 15);
    a.shl_imm(Reg::R7, 2);
    a.add(Reg::R7, Reg::R2);
    a.mov(Reg::R4, Reg::R7);
    a.add_imm(Reg::R4, ethernet::HEADER as i32 + PORTS);
    a.jump_gt_reg(Reg::R4, Reg::R3, other);
    a.load(Width::W2, Reg::R5, Reg::R7, ethernet::HEADER as i16 + 2);
    any_port(a, ports, take, pass);
}

/// The same for IPv6, where what has extension headers counts as having no port.
fn ports_v6(a: &mut Assembler, ports: &[u16], take: Label, pass: Label, other: Label) {
    if ports.is_empty() {
        return a.jump(take);
    }
    transport_or(a, 20, other);
    within(a, V6 + PORTS, other);
    a.load(Width::W2, Reg::R5, Reg::R2, V6 as i16 + 2);
    any_port(a, ports, take, pass);
}

/// On if the protocol at `at` is TCP or UDP, else off to `other`.
fn transport_or(a: &mut Assembler, at: i16, other: Label) {
    let is = a.label();
    a.load(Width::W1, Reg::R5, Reg::R2, at);
    a.jump_eq(Reg::R5, i32::from(ipv4::TCP), is);
    a.jump_ne(Reg::R5, i32::from(ipv4::UDP), other);
    a.bind(is);
}

/// Off to `take` if r5, as read from a frame, is one of these ports, else to `pass`.
fn any_port(a: &mut Assembler, ports: &[u16], take: Label, pass: Label) {
    for port in ports {
        a.jump_eq(Reg::R5, i32::from(port.to_be()), take);
    }
    a.jump(pass);
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

/// Off to `take` if the word at `at` is one of these; else on.
fn any_of_v4(a: &mut Assembler, addresses: &[u32], at: i16, take: Label) {
    a.load(Width::W4, Reg::R5, Reg::R2, at);
    for &address in addresses {
        a.mov_imm64(Reg::R4, address.into());
        a.jump_eq_reg(Reg::R5, Reg::R4, take);
    }
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
    fn is_ours(frame: &[u8], ours: &Ours) -> bool {
        let one_of = |addresses: &[IpAddr], at: usize, len: usize| {
            let bytes = frame.get(at..at + len);
            addresses.iter().any(|a| match a {
                IpAddr::V4(a) => bytes == Some(&a.octets()),
                IpAddr::V6(a) => bytes == Some(&a.octets()),
            })
        };
        // Where the destination port is, if there is one.
        let by_port = |at: usize, len: usize, port: Option<usize>| {
            let alone = one_of(&ours.alone, at, len);
            if ours.ports.is_empty() || !alone && !one_of(&ours.shared, at, len) {
                return alone;
            }
            let port = port.and_then(|at| frame.get(at - 2..at + 2));
            port.map_or(alone, |p| ours.ports.contains(&u16::from_be_bytes([p[2], p[3]])))
        };
        match (&frame[12..14], frame.len()) {
            ([8, 0], 34..) => {
                let whole = frame[20] & 0x3f == 0 && frame[21] == 0;
                let port = 16 + usize::from(frame[14] & 15) * 4;
                by_port(30, 4, (matches!(frame[23], 6 | 17) && whole).then_some(port))
            }
            ([8, 6], 42..) => one_of(&ours.alone, 38, 4),
            ([0x86, 0xdd], 54..) => {
                let solicits = frame.len() >= 78 && frame[20] == 58 && frame[54] == 135;
                by_port(38, 16, matches!(frame[20], 6 | 17).then_some(56))
                    || solicits && !one_of(&ours.shared, 38, 16) && one_of(&ours.alone, 62, 16)
            }
            _ => false,
        }
    }

    /// A frame of 14 to 90 bytes, with one of the addresses, or nearly, at one of the places where they count, and often one of the ports.
    fn any_frame(addresses: Vec<IpAddr>, ports: Vec<u16>) -> impl Strategy<Value = Vec<u8>> {
        let ethertype = prop_oneof![Just([8u8, 0]), Just([8, 6]), Just([0x86, 0xdd]), any::<[u8; 2]>()];
        // Where the destination is, or else.
        let any_place = prop_oneof![Just(26usize), Just(30), Just(38), Just(22), Just(62)];
        let place = prop_oneof![2 => Just(None), 1 => any_place.prop_map(Some)];
        let shape = (ethertype, place, 0..addresses.len(), prop_oneof![3 => Just(0u8), 1 => Just(1)]);
        let protocol = prop_oneof![Just(None), Just(Some((6u8, 5u8))), Just(Some((17, 6)))];
        let transport = (protocol, 0..ports.len() + 1, prop_oneof![3 => Just(0u8), 1 => any::<u8>()]);
        let frame = (any::<[u8; 90]>(), 14..=90usize, any::<bool>(), any::<bool>(), shape, transport);
        frame.prop_map(
            move |(mut f, len, whole, solicits, (ethertype, place, which, off), (protocol, port, fragment))| {
                f[12..14].copy_from_slice(&ethertype);
                if solicits {
                    (f[20], f[54]) = (58, 135);
                }
                if let Some((protocol, words)) = protocol {
                    let v6 = ethertype[0] == 0x86;
                    let at = if v6 { 56 } else { 16 + usize::from(words) * 4 };
                    (f[14], f[20], f[21]) = if v6 { (0x60, protocol, 64) } else { (0x40 | words, fragment, 0) };
                    if !v6 {
                        f[23] = protocol;
                    }
                    f[at..at + 2].copy_from_slice(&ports.get(port).unwrap_or(&9).to_be_bytes());
                }
                let place = place.unwrap_or(if ethertype == [8, 0] { 30 } else { 38 });
                match addresses[which] {
                    IpAddr::V4(a) => f[place..place + 4].copy_from_slice(&a.octets()),
                    IpAddr::V6(a) => f[place..place + 16].copy_from_slice(&a.octets()),
                }
                f[place + 3] ^= off;
                f[..if whole { 90 } else { len }].to_vec()
            },
        )
    }

    fn addresses(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|a| a.parse().unwrap()).collect()
    }

    /// Tries the program for `ours` on frames for any of the addresses, by queue and by group.
    fn try_with(ours: &Ours) {
        try_to(ours, To::Queue);
        let hash = FlowHash::random();
        if let Ok(table) = Array::new(units::FLOW_GROUPS as u32) {
            try_to(ours, To::Group(&hash, &table));
        }
    }

    fn try_to(ours: &Ours, to: To<'_>) {
        let loaded = SocketMap::new(1).and_then(|map| Program::xdp(&assemble(ours, &map, to, OURS as i32), "test"));
        let program = match loaded {
            Err(e) if e.is_permission() => {
                use std::io::Write;
                // Past the harness's capture.
                let _ = writeln!(std::io::stderr(), "SKIPPED a test of nic/xdp/src/filter.rs: {e}");
                return;
            }
            loaded => loaded.unwrap(),
        };
        let mut runner = TestRunner::new(Config { cases: 4000, ..Config::default() });
        let taken = std::cell::Cell::new(0);
        let all = [&ours.alone[..], &ours.shared[..]].concat();
        runner
            .run(&any_frame(all, ours.ports.clone()), |frame| {
                // The kernel refuses to try packets that are too short for it.
                let said = program.test_run(&frame);
                prop_assume!(said.is_ok());
                let ours = is_ours(&frame, ours);
                taken.set(taken.get() + u32::from(ours));
                prop_assert_eq!(said.unwrap(), if ours { OURS } else { PASS as u32 });
                Ok(())
            })
            .unwrap();
        let taken = taken.get();
        assert!(taken > 100, "only {taken} frames were ours: the test does not try what it should");
    }

    #[test]
    fn the_kernel_takes_what_is_ours_and_nothing_else() {
        let alone = addresses(&["198.18.0.2", "203.0.113.255", "2001:2::2", "fe80::ff:fe00:1"]);
        try_with(&Ours { alone, ..Ours::default() });
    }

    #[test]
    fn of_named_ports_only_these() {
        let (alone, ports) = (addresses(&["198.18.0.2", "2001:2::2"]), vec![11211, 80]);
        try_with(&Ours { alone: alone.clone(), ports: ports.clone(), shared: Vec::new() });
        try_with(&Ours { alone, ports: ports.clone(), shared: addresses(&["198.18.0.9", "2001:2::9"]) });
        try_with(&Ours { alone: Vec::new(), ports, shared: addresses(&["198.18.0.9", "2001:2::9"]) });
    }
}
