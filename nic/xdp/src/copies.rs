//! What two stacks at one address both need to see.
//!
//! Of an address that the kernel has, too, only named ports are ours (`filter.rs`). ARP, ICMP and neighbour discovery are the kernel's, so it answers for
//! both of us, with the Ethernet address that is both of ours. But answers to *our* questions, and errors about *our* packets, come to it as well.
//! So a packet socket has copies of these made for us:
//!
//! ```text
//!   ARP      replies (RFC 826)
//!   ICMP     destination unreachable, time exceeded, parameter problem (RFC 792), in packets without options
//!   ICMPv6   errors (RFC 4443 section 2.1: types 1 to 4), neighbour advertisements (RFC 4861 section 4.4)
//! ```
//!
//! They lie in a ring in shared memory, so that to look whether there is one is a load. Questions (echo, ARP, solicitations) are not copied: one answer is enough.
//!
//! # Soundness
//! The ring is a mapping of this value's for as long as it lives. A frame's head is 4-byte aligned and within the mapping by its index; its status
//! word is an atomic, and while that says TP_STATUS_USER the frame is ours to read (Documentation/networking/packet_mmap.rst). The kernel's offsets
//! and lengths are checked against the frame's size.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use sys::SysError;
use sys::bpf::{Assembler, Program, Reg, Width};
use wire::{ethernet, ipv4};

/// Frames of the ring, their bytes, and how many lie in a block of the kernel's.
const FRAMES: u32 = 64;
const FRAME: u32 = 2048;
const PER_BLOCK: u32 = 16;
/// Of a frame at most: these packets are short, and an error quotes as much as we look at.
const SNAP: i32 = 1600;
const LEN: usize = FRAMES as usize * FRAME as usize;

/// The copies, as the queue that passes them on sees them.
#[derive(Debug)]
pub(crate) struct Copies {
    fd: OwnedFd,
    base: NonNull<u8>,
    next: u32,
}

// SAFETY: the mapping belongs to the process, and only the value's owner reads from it.
unsafe impl Send for Copies {}
// SAFETY: a shared value gives away its descriptor only.
unsafe impl Sync for Copies {}

impl Copies {
    /// Copies of what comes by this interface from now on.
    pub(crate) fn of(interface: u32) -> Result<Copies, SysError> {
        let program = Program::socket_filter(&assemble())?;
        // Protocol 0: nothing comes before it is bound.
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(SysError::last("socket(AF_PACKET)"));
        }
        // SAFETY: the kernel has just made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let program = program.as_fd().as_raw_fd();
        set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program, "setsockopt(SO_ATTACH_BPF)")?;
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        set(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version, "setsockopt(PACKET_VERSION)")?;
        let ring = libc::tpacket_req {
            tp_block_size: FRAME * PER_BLOCK,
            tp_block_nr: FRAMES / PER_BLOCK,
            tp_frame_size: FRAME,
            tp_frame_nr: FRAMES,
        };
        set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &ring, "setsockopt(PACKET_RX_RING)")?;
        // What the kernel sends is not for us. Before Linux 4.20 it is dropped later, as sent by ourselves.
        let _ = set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1, "setsockopt(PACKET_IGNORE_OUTGOING)");
        let (rw, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), LEN, rw, how, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(SysError::last("mmap").on("the ring of a packet socket"));
        }
        let base = NonNull::new(base.cast()).expect("mmap returns no null unless asked to");
        let copies = Copies { fd, base, next: 0 };
        copies.bind(interface)?;
        Ok(copies)
    }

    fn bind(&self, interface: u32) -> Result<(), SysError> {
        // SAFETY: a struct of integers, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface as i32;
        let (at, len) = ((&raw const address).cast(), size_of_val(&address) as u32);
        // SAFETY: a live address of the length passed.
        match unsafe { libc::bind(self.fd.as_raw_fd(), at, len) } {
            0 => Ok(()),
            _ => Err(SysError::last("bind(AF_PACKET)")),
        }
    }

    /// The head of the next frame, and its status word.
    #[inline]
    fn head(&self) -> (NonNull<u8>, &AtomicU32) {
        // SAFETY: `next` is below FRAMES, so the head lies in the mapping, aligned; its first word is the status, of the kernel's and ours.
        unsafe {
            let head = self.base.add((self.next * FRAME) as usize);
            (head, head.cast::<AtomicU32>().as_ref())
        }
    }

    /// Whether there is one. A load.
    #[inline]
    pub(crate) fn waiting(&self) -> bool {
        self.head().1.load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Shows the next one to `use_it`, if there is one, and gives its place back.
    pub(crate) fn next(&mut self, use_it: impl FnOnce(&[u8])) -> bool {
        if !self.waiting() {
            return false;
        }
        let (head, status) = self.head();
        // SAFETY: the frame is ours now, and its head, of integers, is filled in.
        let said = unsafe { head.cast::<libc::tpacket2_hdr>().read() };
        let (at, len) = (u32::from(said.tp_mac), said.tp_snaplen);
        if at.checked_add(len).is_some_and(|end| end <= FRAME) {
            // SAFETY: within the frame as just checked, and the kernel does not write there until it has it back.
            use_it(unsafe { std::slice::from_raw_parts(head.add(at as usize).as_ptr(), len as usize) });
        }
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % FRAMES;
        true
    }
}

impl AsFd for Copies {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `of` with this length, and no reference outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), LEN) };
    }
}

fn set<T>(
    fd: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
    call: &'static str,
) -> Result<(), SysError> {
    let (at, len) = (ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: a live value of the length passed.
    let ret = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, at, len) };
    if ret < 0 { Err(SysError::last(call)) } else { Ok(()) }
}

/// The part of a frame that the filter looks at: from the Ethernet type as far as the first byte of ICMP, or ICMPv6, on its stack.
const FROM: i16 = 12;
const AS_FAR_AS_V4: i16 = 36;
const ICMPV6_TYPE: i16 = 54;
const STACK: i16 = -24;
const ICMPV6: i32 = 58;
const ADVERTISEMENT: i32 = 136;

/// The filter: how much of a frame to copy, 0 for none.
fn assemble() -> Assembler {
    let mut a = Assembler::new();
    let (copy, none, not_arp, not_v4) = (a.label(), a.label(), a.label(), a.label());
    let at = |byte: i16| STACK + byte - FROM;
    a.mov(Reg::R6, Reg::R1);
    bytes(&mut a, FROM, AS_FAR_AS_V4 - FROM, STACK);
    a.jump_ne(Reg::R0, 0, none);
    a.load(Width::W2, Reg::R1, Reg::R10, at(12));
    a.jump_ne(Reg::R1, i32::from(ethernet::ARP.to_be()), not_arp);
    a.load(Width::W2, Reg::R1, Reg::R10, at(20));
    a.jump_eq(Reg::R1, i32::from(2u16.to_be()), copy);
    a.jump(none);
    a.bind(not_arp);
    a.jump_ne(Reg::R1, i32::from(ethernet::IPV4.to_be()), not_v4);
    a.load(Width::W1, Reg::R1, Reg::R10, at(14));
    a.jump_ne(Reg::R1, 0x45, none);
    a.load(Width::W1, Reg::R1, Reg::R10, at(23));
    a.jump_ne(Reg::R1, i32::from(ipv4::ICMP), none);
    a.load(Width::W1, Reg::R1, Reg::R10, at(34));
    for error in [3, 11, 12] {
        a.jump_eq(Reg::R1, error, copy);
    }
    a.jump(none);
    a.bind(not_v4);
    a.jump_ne(Reg::R1, i32::from(ethernet::IPV6.to_be()), none);
    a.load(Width::W1, Reg::R1, Reg::R10, at(20));
    a.jump_ne(Reg::R1, ICMPV6, none);
    bytes(&mut a, ICMPV6_TYPE, 1, STACK);
    a.jump_ne(Reg::R0, 0, none);
    a.load(Width::W1, Reg::R1, Reg::R10, STACK);
    for said in [1, 2, 3, 4, ADVERTISEMENT] {
        a.jump_eq(Reg::R1, said, copy);
    }
    a.bind(none);
    a.mov_imm(Reg::R0, 0);
    a.exit();
    a.bind(copy);
    a.mov_imm(Reg::R0, SNAP);
    a.exit();
    a
}

/// `len` bytes of packet r6 from `from` on to the stack at `to`; r0 is 0 if they are there.
fn bytes(a: &mut Assembler, from: i16, len: i16, to: i16) {
    a.mov(Reg::R1, Reg::R6);
    a.mov_imm(Reg::R2, from.into());
    a.mov(Reg::R3, Reg::R10);
    a.add_imm(Reg::R3, to.into());
    a.mov_imm(Reg::R4, len.into());
    a.call(Assembler::SKB_LOAD_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    /// What the head of this file says.
    fn both_need(f: &[u8]) -> bool {
        match (f.len() >= 36, f.get(12..14)) {
            (true, Some([8, 6])) => f[20..22] == [0, 2],
            (true, Some([8, 0])) => f[14] == 0x45 && f[23] == 1 && matches!(f[34], 3 | 11 | 12),
            (true, Some([0x86, 0xdd])) => f[20] == 58 && f.get(54).is_some_and(|t| matches!(t, 1..=4 | 136)),
            _ => false,
        }
    }

    #[test]
    fn answers_and_errors_are_copied_and_questions_are_not() {
        let program = match Program::socket_filter(&assemble()) {
            Err(e) if e.is_permission() => {
                use std::io::Write;
                // Past the harness's capture.
                let _ = writeln!(std::io::stderr(), "SKIPPED answers_and_errors_are_copied_and_questions_are_not: {e}");
                return;
            }
            loaded => loaded.unwrap(),
        };
        let ethertype = prop_oneof![Just([8u8, 0]), Just([8, 6]), Just([0x86, 0xdd]), any::<[u8; 2]>()];
        let kind = prop_oneof![1u8..14, 128u8..138];
        let icmp = prop_oneof![3 => Just(true), 1 => Just(false)];
        let frames = (any::<[u8; 90]>(), 14..=90usize, any::<bool>(), ethertype, kind, icmp);
        let frames = frames.prop_map(|(mut f, len, whole, ethertype, kind, icmp)| {
            f[12..14].copy_from_slice(&ethertype);
            if icmp {
                match ethertype {
                    [8, 6] => f[20..22].copy_from_slice(&[0, kind & 3]),
                    [8, 0] => (f[14], f[23], f[34]) = (0x45, 1, kind),
                    _ => (f[14], f[20], f[54]) = (0x60, 58, kind),
                }
            }
            f[..if whole { 90 } else { len }].to_vec()
        });
        let mut runner = TestRunner::new(Config { cases: 4000, ..Config::default() });
        let copied = std::cell::Cell::new(0);
        runner
            .run(&frames, |frame| {
                // The kernel's self test takes 14 bytes off as an Ethernet header; a packet socket of this kind does not.
                let said = program.test_run(&[&[0; 14][..], &frame].concat());
                prop_assume!(said.is_ok());
                let wanted = both_need(&frame);
                copied.set(copied.get() + u32::from(wanted));
                prop_assert_eq!(said.unwrap(), if wanted { SNAP as u32 } else { 0 });
                Ok(())
            })
            .unwrap();
        assert!(copied.get() > 100, "only {} were to be copied", copied.get());
    }
}
