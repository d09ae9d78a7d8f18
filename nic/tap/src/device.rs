//! The ioctls of /dev/net/tun (linux/if_tun.h).
//!
//! # Soundness
//! Each call passes an integer, or a pointer to an integer or `ifreq` that lives across the call and has the size that
//! the request's number encodes.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use sys::{SysError, link};

use crate::TapError;

const PATH: &str = "/dev/net/tun";
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0;
const OFFLOAD_CSUM: libc::c_ulong = 1;
const OFFLOAD_TSO4: libc::c_ulong = 2;
const OFFLOAD_TSO6: libc::c_ulong = 4;
const IFF_TUN_EXCL: u16 = 0x8000;
const IFF_PERSIST: u16 = 0x0800;

/// The flags of a queue: TAP, several queues, no packet information; with the virtio header or without.
fn flags(vnet: bool) -> u16 {
    let vnet = if vnet { libc::IFF_VNET_HDR } else { 0 };
    (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | vnet) as u16
}

/// Opens all queues of a TAP with identical flags, and verifies that the device has them.
///
/// The device is new and goes with its last queue, unless a persistent one of that name lies idle: that one is used.
pub(crate) fn open_queues(name: &str, queues: u16, vnet: bool) -> Result<Vec<OwnedFd>, TapError> {
    let existing = existing(name)?;
    let wanted = flags(vnet);
    let mut fds = Vec::with_capacity(usize::from(queues));
    for i in 0..queues {
        // EXCL on the first queue of a new device: nobody else's device of that name is joined by accident.
        let flags = if i == 0 && !existing { wanted | IFF_TUN_EXCL } else { wanted };
        fds.push(attach(name, flags)?);
    }
    for fd in &fds {
        let found = read_flags(fd.as_fd(), name)? & !(IFF_TUN_EXCL | IFF_PERSIST);
        if found != wanted {
            return Err(other_flags(name, &format!("wanted {wanted:#x}, found {found:#x}")));
        }
    }
    Ok(fds)
}

/// Whether a TAP of that name is there for us to use; an error if the name is taken otherwise.
fn existing(name: &str) -> Result<bool, TapError> {
    link::check_name(name)?;
    if !link::exists(name) {
        return Ok(false);
    }
    let info = link::info(name)?;
    match info.tun {
        None => {
            let kind = if info.kind.is_empty() { "loopback or a piece of hardware".to_owned() } else { info.kind };
            Err(TapError::OtherKind { name: name.to_owned(), kind })
        }
        Some(tun) if !tun.tap => Err(TapError::OtherKind { name: name.to_owned(), kind: "TUN".to_owned() }),
        Some(tun) if tun.queues > 0 => Err(TapError::Busy { name: name.to_owned(), queues: tun.queues }),
        Some(tun) if !tun.multi_queue => Err(other_flags(name, "it was made for one queue, without multi_queue")),
        Some(_) => Ok(true),
    }
}

fn other_flags(name: &str, differs: &str) -> TapError {
    TapError::OtherFlags { name: name.to_owned(), differs: differs.to_owned() }
}

/// One more queue of the device, made if need be.
pub(crate) fn attach(name: &str, flags: u16) -> Result<OwnedFd, SysError> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(PATH);
    let fd = OwnedFd::from(file.map_err(|e| {
        SysError::new("open", e)
            .on(PATH)
            .remedy_for(libc::ENOENT, "load the tun module (modprobe tun), or give the container the device")
            .remedy_for(libc::EACCES, "run as a user who may open it")
    })?);
    let mut request = ifreq(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: a live ifreq.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &mut request) };
    check(ret, "ioctl(TUNSETIFF)", name).map_err(|e| {
        e.remedy_for(libc::EPERM, "needs CAP_NET_ADMIN: run as root, or in a user and network namespace of your own")
            .remedy_for(libc::EBUSY, "the TAP is open elsewhere: end that process or choose another name")
            .remedy_for(libc::EINVAL, "an interface of that name has other flags: delete it or choose another name")
    })?;
    Ok(fd)
}

fn read_flags(fd: BorrowedFd<'_>, name: &str) -> Result<u16, SysError> {
    let mut request = ifreq(name)?;
    // SAFETY: a live ifreq, which the call fills.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &mut request) };
    check(ret, "ioctl(TUNGETIFF)", name)?;
    // SAFETY: the call has filled this member; any bits are a valid integer.
    Ok(unsafe { request.ifr_ifru.ifru_flags } as u16)
}

/// Sets the virtio header's size and the offloads that we can take, for the whole device: once, before it is up.
pub(crate) fn set_vnet(fd: BorrowedFd<'_>, header_size: libc::c_int, name: &str) -> Result<(), SysError> {
    // SAFETY: a live integer.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ, &header_size) };
    check(ret, "ioctl(TUNSETVNETHDRSZ)", name)?;
    // SAFETY: takes an integer.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6) };
    check(ret, "ioctl(TUNSETOFFLOAD)", name)
}

/// Lets a program choose the queue of each frame.
pub(crate) fn set_steering(fd: BorrowedFd<'_>, program: BorrowedFd<'_>, name: &str) -> Result<(), SysError> {
    let program: libc::c_int = program.as_raw_fd();
    // SAFETY: a live integer.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETSTEERINGEBPF, &program) };
    check(ret, "ioctl(TUNSETSTEERINGEBPF)", name)
}

fn ifreq(name: &str) -> Result<libc::ifreq, SysError> {
    let name = link::check_name(name)?;
    // SAFETY: a struct of integers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

fn check(ret: libc::c_int, call: &'static str, name: &str) -> Result<(), SysError> {
    if ret < 0 { Err(SysError::new(call, io::Error::last_os_error()).on(name)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb;
    const NAME: &str = "zxtest0";

    fn in_own_namespace(test: &str, f: impl FnOnce() + Send) {
        std::thread::scope(|s| {
            s.spawn(|| match sys::netns::unshare_net() {
                Err(e) if e.is_permission() => crate::queue::skipped(test, &e.to_string()),
                Ok(()) if !std::path::Path::new(PATH).exists() => crate::queue::skipped(test, "no /dev/net/tun"),
                done => {
                    done.unwrap();
                    f();
                }
            });
        });
    }

    /// A device of these flags that stays when we let go.
    fn persistent(flags: u16) -> OwnedFd {
        let fd = attach(NAME, flags).unwrap();
        let on: libc::c_ulong = 1;
        // SAFETY: takes an integer.
        assert_eq!(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETPERSIST, on) }, 0);
        fd
    }

    #[test]
    fn an_idle_persistent_tap_is_used() {
        in_own_namespace("an_idle_persistent_tap_is_used", || {
            // Idle, but made without the virtio header: ours are the flags that count, being the first.
            drop(persistent(flags(false)));
            let before = link::info(NAME).unwrap().tun.unwrap();
            assert!(before.persist && before.multi_queue && !before.vnet_hdr && before.queues == 0);
            let fds = open_queues(NAME, 3, true).unwrap();
            let after = link::info(NAME).unwrap().tun.unwrap();
            assert!(after.vnet_hdr && after.queues == 3);
            drop(fds);
            link::delete(NAME).unwrap();
        });
    }

    #[test]
    fn other_flags_and_other_owners_are_refused() {
        in_own_namespace("other_flags_and_other_owners_are_refused", || {
            let single = persistent((libc::IFF_TAP | libc::IFF_NO_PI) as u16);
            // In use or idle: the kernel does not count the queue of a device that can have one only.
            let refused = open_queues(NAME, 1, true).unwrap_err();
            assert!(matches!(&refused, TapError::OtherFlags { .. }), "{refused}");
            drop(single);
            let refused = open_queues(NAME, 1, true).unwrap_err();
            assert!(matches!(&refused, TapError::OtherFlags { .. }), "{refused}");
            link::delete(NAME).unwrap();
            drop(persistent((libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE) as u16));
            let refused = open_queues(NAME, 1, true).unwrap_err();
            assert!(matches!(&refused, TapError::OtherKind { kind, .. } if kind == "TUN"), "{refused}");
            link::delete(NAME).unwrap();
        });
    }
}
