//! The system calls that `std` lacks: signals and packet sockets.
//!
//! # Soundness
//! Every unsafe block is one libc call. Pointers come from live borrows whose size is passed beside them; a descriptor
//! becomes an `OwnedFd` once, right where the kernel made it. `inject` and the namespace's test exercise all of it.
#![allow(unsafe_code, reason = "four system calls that no dependency of ours offers")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Sends a signal to a process; one that is gone does not matter.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: takes integers only.
    let _ = unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// A socket that sends and receives whole Ethernet frames on one interface.
pub struct Packets {
    fd: OwnedFd,
}

impl Packets {
    /// On an interface of the calling thread's namespace.
    ///
    /// # Errors
    /// No such interface; no privilege.
    pub fn open(interface: &str) -> io::Result<Packets> {
        let index = sys::link::index(interface).map_err(io::Error::other)?;
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: takes integers only.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(all)) })?;
        // SAFETY: the kernel just made it, nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: all,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a live sockaddr_ll of that length.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
        let patience = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
        set(&fd, libc::SO_RCVTIMEO, &patience)?;
        Ok(Packets { fd })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The interface is down or gone, or the frame longer than its MTU.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` is live and of that length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame on the interface, in either direction; `None` if none comes for a tenth of a second.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 1 << 16];
        // SAFETY: `frame` is live and of that length.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(got).ok()?);
        Some(frame)
    }
}

fn set<T: Copy>(socket: impl AsFd, option: i32, value: &T) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is live, plain data of that length.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), len) }).map(drop)
}
