//! Programs at interfaces: attached by a link that goes with its descriptor, and so with the process, however that ends.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{ATTACH_TCX_EGRESS, ATTACH_XDP, Program, REFUSED, bpf};
use crate::{SysError, check, owned};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;

/// The parts of `union bpf_attr` that the commands above read.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    /// Of TCX: a place relative to another program. None is asked for.
    relative: [u64; 2],
}

#[repr(C)]
struct GetById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The sockets that an XDP program can hand packets to, by a number of the user's (an XSKMAP).
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// A map of `len` empty places.
    ///
    /// # Errors
    /// `EPERM` without the privilege; `EINVAL` before Linux 4.18, or without AF_XDP.
    pub fn new(len: u32) -> Result<SocketMap, SysError> {
        let mut attr =
            MapCreate { map_type: MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: len, map_flags: 0 };
        // SAFETY: the attribute holds no pointers.
        let fd = unsafe { bpf(MAP_CREATE, &mut attr) };
        let fd = owned(fd, "bpf(BPF_MAP_CREATE)").map_err(|e| e.remedy_for(libc::EPERM, REFUSED))?;
        Ok(SocketMap(fd))
    }

    /// Puts a bound AF_XDP socket in a place; it leaves by itself when it is closed.
    ///
    /// # Errors
    /// `E2BIG` beyond the end; `EBADF`, `EOPNOTSUPP` for what is no such socket.
    pub fn set(&self, index: u32, socket: BorrowedFd<'_>) -> Result<(), SysError> {
        let value = socket.as_raw_fd() as u32;
        let (key, value) = (&raw const index, &raw const value);
        let map_fd = self.0.as_raw_fd() as u32;
        let mut attr = MapUpdate { map_fd, pad: 0, key: key as u64, value: value as u64, flags: 0 };
        // SAFETY: key and value are live integers of the sizes that the map was made with.
        check(unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }, "bpf(BPF_MAP_UPDATE_ELEM)").map(drop)
    }
}

impl AsFd for SocketMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where in the receive path an XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// In the driver, before the kernel makes anything of a frame.
    Native,
    /// In the stack's receive path, on what the kernel made of it: with any driver.
    Generic,
}

/// A program at its place, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Attachment(#[expect(dead_code, reason = "the descriptor is the attachment")] OwnedFd);

impl Attachment {
    /// Has an interface of the calling thread's namespace run `program` on each frame it receives.
    ///
    /// # Errors
    /// `EBUSY` or `EEXIST` when another program is there; `EOPNOTSUPP` when the driver has no such mode, `ERANGE` or `EINVAL` when
    /// it cannot with its present settings (the kernel does not say which: MTU, offloads, queues); `EPERM`; `ENODEV`.
    pub fn xdp(program: &Program, interface: u32, mode: XdpMode) -> Result<Attachment, SysError> {
        // XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE
        let flags = if mode == XdpMode::Generic { 1 << 1 } else { 1 << 2 };
        Attachment::new(program, interface, ATTACH_XDP, flags)
    }

    /// Has an interface of the calling thread's namespace run `program` on each frame it transmits, after those that are there.
    ///
    /// # Errors
    /// `EINVAL` before Linux 6.6; `EPERM`; `ENODEV`.
    pub fn tcx_egress(program: &Program, interface: u32) -> Result<Attachment, SysError> {
        Attachment::new(program, interface, ATTACH_TCX_EGRESS, 0)
    }

    fn new(program: &Program, interface: u32, attach_type: u32, flags: u32) -> Result<Attachment, SysError> {
        let prog_fd = program.as_fd().as_raw_fd() as u32;
        let mut attr = LinkCreate { prog_fd, target_ifindex: interface, attach_type, flags, relative: [0; 2] };
        // SAFETY: the attribute holds no pointers.
        let fd = unsafe { bpf(LINK_CREATE, &mut attr) };
        owned(fd, "bpf(BPF_LINK_CREATE)").map(Attachment).map_err(|e| e.remedy_for(libc::EPERM, REFUSED))
    }
}

/// The name that the loader of program `id` gave it; empty if none.
///
/// # Errors
/// `ENOENT` when there is no such program (any more); `EPERM`.
pub fn program_name(id: u32) -> Result<String, SysError> {
    let mut attr = GetById { id, next_id: 0, open_flags: 0 };
    // SAFETY: the attribute holds no pointers.
    let fd = check(unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }, "bpf(BPF_PROG_GET_FD_BY_ID)")?;
    // SAFETY: the kernel has just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // The beginning of struct bpf_prog_info, up to and with the name.
    let mut info = [0u8; 80];
    let mut attr =
        GetInfo { bpf_fd: program.as_raw_fd() as u32, info_len: info.len() as u32, info: info.as_mut_ptr() as u64 };
    // SAFETY: `info` is live, zero, and of the length passed.
    check(unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }, "bpf(BPF_OBJ_GET_INFO_BY_FD)")?;
    let name = &info[64..];
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}
