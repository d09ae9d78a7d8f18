//! The system calls of the referee that neither std nor `sys` offers: a TUN without Ethernet, sockets that are bound and
//! have options before they listen or connect.
//!
//! # Soundness
//! Every call passes either plain integers or pointers to local values of `repr(C)` structs of libc together with their
//! size, which the kernel reads or fills before the call returns; no pointer is kept by the kernel. Descriptors that
//! calls return are owned from the same line on, descriptors that calls take are borrowed from owners. The tests that
//! run the scripts on Linux go through all of it.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_void};

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A new TUN interface (IP packets, no header before them), not blocking.
///
/// # Errors
/// No `/dev/net/tun`, or no CAP_NET_ADMIN in the namespace.
pub(super) fn open_tun(name: &str) -> io::Result<std::fs::File> {
    let file = std::fs::File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = request_for(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(file)
}

fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain integers, all of which may be zero.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

fn inet(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// A TCP socket, not blocking.
///
/// # Errors
/// What the kernel says.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes integers only.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a socket to an address.
///
/// # Errors
/// What the kernel says.
pub(super) fn bind(socket: &OwnedFd, address: SocketAddrV4) -> io::Result<()> {
    let address = inet(address);
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a sockaddr_in that lives until the call returns.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// Listens on a bound socket.
///
/// # Errors
/// What the kernel says.
pub(super) fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::listen(socket.as_raw_fd(), 16) }).map(drop)
}

/// Begins an active open.
///
/// # Errors
/// What the kernel says, other than that it takes time.
pub(super) fn connect(socket: &OwnedFd, address: SocketAddrV4) -> io::Result<()> {
    let address = inet(address);
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a sockaddr_in that lives until the call returns.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) }) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(()),
    }
}

/// Sets a socket option that is an integer.
///
/// # Errors
/// What the kernel says.
pub(super) fn set(socket: impl AsFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    set_bytes(socket, level, option, &value)
}

/// Chooses the socket's congestion control by the kernel's name for it.
///
/// # Errors
/// What the kernel says: it may lack the algorithm.
pub(super) fn set_congestion(socket: impl AsFd, name: &str) -> io::Result<()> {
    let mut value = [0u8; 16];
    value.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    set_bytes(socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, &value)
}

/// Makes the next close of the socket send RST.
///
/// # Errors
/// What the kernel says.
pub(super) fn set_abort_on_close(socket: impl AsFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_bytes(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

fn set_bytes<T: Copy>(socket: impl AsFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let (value, len) = ((value as *const T).cast::<c_void>(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads `len` bytes of `value`, which is borrowed until the call returns.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value, len) }).map(drop)
}

/// Bytes that wait to be read.
///
/// # Errors
/// What the kernel says.
pub(super) fn readable(socket: impl AsFd) -> io::Result<u32> {
    let mut bytes: c_int = 0;
    // SAFETY: FIONREAD writes one int, which lives until the call returns.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(bytes.unsigned_abs())
}
