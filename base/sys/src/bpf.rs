//! bpf(2): small programs assembled at run time, and arrays shared with them. No compiler, no library.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{SysError, check, owned};

mod asm;
mod attach;

pub use asm::{Assembler, Label, Reg, Width};
pub use attach::{Attachment, SocketMap, XdpMode, program_name};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
/// Where a program of a type that goes to several places will be attached.
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_EGRESS: u32 = 47;
const REFUSED: &str =
    "needs CAP_BPF in the initial user namespace (run as root), or kernel.unprivileged_bpf_disabled=0";

/// The part of `union bpf_attr` that BPF_MAP_CREATE reads.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_TEST_RUN reads.
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// The call itself. Safe only for attributes whose pointers (as integers) lead to live memory of the sizes beside them.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> i64 {
    // SAFETY: `attr` is a live, fully initialised prefix of `union bpf_attr`, of the size passed; its inner pointers are
    // the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) }
}

/// An array of 64-bit values that programs read and this process writes by plain stores (BPF_F_MMAPABLE): a change is
/// seen by the next run, without a syscall.
#[derive(Debug)]
pub struct Array {
    fd: OwnedFd,
    values: NonNull<AtomicU64>,
    len: u32,
    mapped: usize,
}

// SAFETY: the mapping lives as long as the value, is reached through atomics only, and no thread is special to it.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

impl Array {
    /// An array of `len` zeros.
    ///
    /// # Errors
    /// `EPERM` without the privilege (in any user namespace but the first, for one); `EINVAL` before Linux 5.5.
    pub fn new(len: u32) -> Result<Array, SysError> {
        let mut attr = MapCreate {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: 8,
            max_entries: len,
            map_flags: MAP_MMAPABLE,
        };
        // SAFETY: the attribute holds no pointers.
        let fd = unsafe { bpf(MAP_CREATE, &mut attr) };
        let fd = owned(fd, "bpf(BPF_MAP_CREATE)").map_err(|e| e.remedy_for(libc::EPERM, REFUSED))?;
        let mapped = (len as usize * 8).next_multiple_of(4096);
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let at = unsafe {
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), mapped, rw, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED {
            return Err(SysError::last("mmap").on("a BPF array"));
        }
        let values = NonNull::new(at.cast()).expect("mmap returns no null unless asked to");
        Ok(Array { fd, values, len, mapped })
    }

    /// How many values there are.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none: never, the kernel refuses such an array.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn slot(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len(), "index {index} of a BPF array of {}", self.len);
        // SAFETY: the mapping holds `len` values, 8 bytes apart and aligned, for as long as `self` lives; the kernel and
        // we access them as aligned 64-bit words only.
        unsafe { self.values.add(index).as_ref() }
    }

    /// Replaces a value; programs that run from now on may see it at once. Panics beyond the end.
    pub fn set(&self, index: usize, value: u64) {
        self.slot(index).store(value, Relaxed);
    }

    /// A value. Panics beyond the end.
    pub fn get(&self, index: usize) -> u64 {
        self.slot(index).load(Relaxed)
    }
}

impl AsFd for Array {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `new` with this length and no reference into it outlives `self`.
        unsafe { libc::munmap(self.values.as_ptr().cast(), self.mapped) };
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

impl Program {
    /// Loads a socket filter (context: the packet; result: r0).
    ///
    /// # Errors
    /// `EPERM` without the privilege; `EACCES` or `EINVAL` with the verifier's words when it finds fault.
    pub fn socket_filter(assembler: &Assembler) -> Result<Program, SysError> {
        Program::load(assembler, "", PROG_TYPE_SOCKET_FILTER, 0)
    }

    /// Loads a program for an interface's receive path (context: `struct xdp_md`; result: XDP_*), by at most 15 characters of `name`.
    ///
    /// # Errors
    /// As [`Program::socket_filter`].
    pub fn xdp(assembler: &Assembler, name: &str) -> Result<Program, SysError> {
        Program::load(assembler, name, PROG_TYPE_XDP, ATTACH_XDP)
    }

    /// Loads a program for an interface's transmit path (context: `struct __sk_buff`; result: TCX_*).
    ///
    /// # Errors
    /// As [`Program::socket_filter`]; `EINVAL` before Linux 6.6.
    pub fn tcx_egress(assembler: &Assembler, name: &str) -> Result<Program, SysError> {
        Program::load(assembler, name, PROG_TYPE_SCHED_CLS, ATTACH_TCX_EGRESS)
    }

    fn load(assembler: &Assembler, name: &str, kind: u32, place: u32) -> Result<Program, SysError> {
        let insns = assembler.finish();
        let load = |log: &mut [u8]| load(&insns, name, kind, place, log);
        // Without a log first: an overlong log would fail a good program.
        match load(&mut []) {
            Ok(fd) => Ok(Program { fd }),
            Err(e) if e.is_permission() && e.errno() == Some(libc::EPERM) => Err(e.remedy(REFUSED)),
            Err(_) => {
                let mut log = vec![0; 1 << 16];
                load(&mut log).map(|fd| Program { fd }).map_err(|e| {
                    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
                    e.on(format!("a program; the verifier says:\n{}", String::from_utf8_lossy(&log[..end])))
                })
            }
        }
    }

    /// Runs the program once on `packet` (at least 14 bytes), as the kernel's own self tests do, and returns r0. A
    /// socket filter sees the packet without its first 14 bytes, which are taken for an Ethernet header.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL` for short packets.
    pub fn test_run(&self, packet: &[u8]) -> Result<u32, SysError> {
        let mut attr = TestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            retval: 0,
            data_size_in: packet.len() as u32,
            data_size_out: 0,
            data_in: packet.as_ptr() as u64,
            data_out: 0,
            repeat: 1,
            duration: 0,
        };
        // SAFETY: `data_in` leads to `data_size_in` live bytes; no output buffer.
        let ret = unsafe { bpf(PROG_TEST_RUN, &mut attr) };
        check(ret, "bpf(BPF_PROG_TEST_RUN)")?;
        Ok(attr.retval)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn load(insns: &[u64], name: &str, kind: u32, place: u32, log: &mut [u8]) -> Result<OwnedFd, SysError> {
    let mut prog_name = [0; 16];
    for (to, from) in prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut attr = ProgLoad {
        prog_type: kind,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type: place,
    };
    // SAFETY: `insns`, the licence and the log are live, and their lengths are those passed.
    owned(unsafe { bpf(PROG_LOAD, &mut attr) }, "bpf(BPF_PROG_LOAD)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// r0 = array[first byte of the packet] + 5, or 0xff when the byte is beyond the array.
    fn program(array: &Array) -> Assembler {
        let mut a = Assembler::new();
        let out = a.label();
        a.mov(Reg::R6, Reg::R1);
        a.mov_imm(Reg::R2, 0);
        a.mov(Reg::R3, Reg::R10);
        a.add_imm(Reg::R3, -4);
        a.store_imm(Width::W4, Reg::R10, -4, 0);
        a.mov_imm(Reg::R4, 1);
        a.call(Assembler::SKB_LOAD_BYTES);
        a.load_map(Reg::R1, array);
        a.mov(Reg::R2, Reg::R10);
        a.add_imm(Reg::R2, -4);
        a.call(Assembler::MAP_LOOKUP_ELEM);
        a.mov(Reg::R1, Reg::R0);
        a.mov_imm(Reg::R0, 0xff);
        a.jump_eq(Reg::R1, 0, out);
        a.load(Width::W8, Reg::R0, Reg::R1, 0);
        a.add_imm(Reg::R0, 5);
        a.bind(out);
        a.exit();
        a
    }

    #[test]
    fn a_program_reads_what_we_store() {
        let array = match Array::new(4) {
            Err(e) if e.is_permission() => {
                return crate::skipped("a_program_reads_what_we_store", &e);
            }
            array => array.unwrap(),
        };
        let program = Program::socket_filter(&program(&array)).unwrap();
        let run = |byte: u8| program.test_run(&[&[0; 14][..], &[byte; 60]].concat()).unwrap();
        assert_eq!((run(2), run(4)), (5, 0xff));
        array.set(2, 37);
        assert_eq!((run(2), run(3), array.get(2)), (42, 5, 37));
    }

    #[test]
    fn the_verifiers_words_reach_the_error() {
        let mut a = Assembler::new();
        a.exit(); // r0 was never set
        let e = Program::socket_filter(&a).unwrap_err();
        assert!(e.errno() == Some(libc::EPERM) || e.to_string().contains("R0"), "{e}");
    }
}
