//! What `std::net` leaves out of TCP and UDP sockets: REUSEPORT, chosen backlogs, connecting without blocking, RST on close.
//!
//! Called by the Linux-socket backend and the load generator. Everything else they do with sockets is `std::net`, which
//! is also why errors are plain [`io::Error`]s here.

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use units::Nanos;

/// A listener on `addr`, non-blocking, with SO_REUSEADDR and SO_REUSEPORT: each of several threads opens its own, and
/// the kernel spreads connections over them. What it accepts has TCP_NODELAY. `backlog` is capped by net.core.somaxconn.
pub fn listen(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let fd = open(addr, libc::SOCK_STREAM)?;
    set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    set_int(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    bind(&fd, addr)?;
    let backlog = backlog.min(i32::MAX as u32) as libc::c_int;
    // SAFETY: no pointers; the descriptor is open.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(TcpListener::from(fd))
}

/// A non-blocking datagram socket on `addr`, with SO_REUSEPORT.
pub fn datagrams(addr: SocketAddr) -> io::Result<UdpSocket> {
    let fd = open(addr, libc::SOCK_DGRAM)?;
    set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    bind(&fd, addr)?;
    Ok(UdpSocket::from(fd))
}

/// Whether `addr` is free for a server: binds it without REUSEPORT, so that another process's group is noticed.
/// The error is the one to report.
pub fn probe(addr: SocketAddr) -> io::Result<()> {
    let fd = open(addr, libc::SOCK_STREAM)?;
    set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind(&fd, addr)?;
    // SAFETY: no pointers; the descriptor is open. Two listeners without REUSEPORT cannot share an address.
    check(unsafe { libc::listen(fd.as_raw_fd(), 1) })
}

/// The next connection, non-blocking. `WouldBlock` when none waits.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    // SAFETY: an all-zero sockaddr_storage is a valid value of that plain C structure.
    let mut from: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `from` has room for `len` bytes, and both live across the call.
    let fd = unsafe {
        libc::accept4(listener.as_raw_fd(), (&raw mut from).cast(), &mut len, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
    };
    check(fd)?;
    // SAFETY: `fd` was opened just now and nobody else has it.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let peer = decode(&from).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
    Ok((stream, peer))
}

/// Begins to connect to `addr`, with TCP_NODELAY: writable when done, with the outcome in `take_error`.
pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    connect_from(None, addr)
}

/// As [`connect`], from a local address of the caller's choice: each has ports of its own towards `addr`.
pub fn connect_from(local: Option<IpAddr>, addr: SocketAddr) -> io::Result<TcpStream> {
    let fd = open(addr, libc::SOCK_STREAM)?;
    set_int(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if let Some(ip) = local {
        // The port is chosen at connect, where one may serve several targets; without it, here, where it may not.
        let _ = set_int(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
        bind(&fd, SocketAddr::new(ip, 0))?;
    }
    let r = with_sockaddr(addr, |sa, len| {
        // SAFETY: `sa` points to `len` bytes of a socket address during this call.
        unsafe { libc::connect(fd.as_raw_fd(), sa, len) }
    });
    match check(r) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(TcpStream::from(fd)),
    }
}

/// Closes `stream` with a reset: unsent bytes are discarded (SO_LINGER 0).
pub fn abort(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: `linger` is read as the option's structure, of that size. A failure leaves an ordinary close.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}

/// Whether segments that are not full wait for more (TCP_CORK).
///
/// # Errors
/// As setsockopt(2): none of an open socket.
pub fn set_cork(stream: &TcpStream, on: bool) -> io::Result<()> {
    set_int(stream, libc::IPPROTO_TCP, libc::TCP_CORK, on.into())
}

/// How long data may stay unacknowledged (TCP_USER_TIMEOUT, in milliseconds, rounded up); `None`: as long as the retries take.
///
/// # Errors
/// As setsockopt(2): none of an open socket.
pub fn set_user_timeout(stream: &TcpStream, after: Option<Nanos>) -> io::Result<()> {
    let millis =
        after.map_or(0, |after| libc::c_int::try_from(after.0.div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX));
    set_int(stream, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, millis)
}

/// Sends from `parts` in order, without SIGPIPE; returns the bytes that the socket took. At most 1024 parts are looked at.
pub fn send(stream: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is valid: no name, no parts, no control data.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is guaranteed to be ABI compatible with `iovec`; the kernel only reads it here.
    msg.msg_iov = parts.as_ptr() as *mut libc::iovec;
    msg.msg_iovlen = parts.len().min(1024) as _;
    // SAFETY: `msg` names `parts`, whose slices are borrowed across the call.
    let n = unsafe { libc::sendmsg(stream.as_raw_fd(), &msg, libc::MSG_NOSIGNAL) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

/// Chooses the congestion control of a connection, or of those that a listener will accept (TCP_CONGESTION): `cubic`, `reno`, whatever
/// /proc/sys/net/ipv4/tcp_available_congestion_control names.
///
/// # Errors
/// `ENOENT`: there is none of that name; `EPERM`: it is not for everybody.
pub fn set_congestion(socket: &impl AsRawFd, name: &str) -> io::Result<()> {
    // SAFETY: the name's bytes are live, and their number is passed beside them.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    })
}

/// The congestion control of a connection, by name.
///
/// # Errors
/// As getsockopt(2): none of an open socket.
pub fn congestion(stream: &TcpStream) -> io::Result<String> {
    let mut name = [0u8; 16];
    let mut len = name.len() as libc::socklen_t;
    // SAFETY: `name` has room for `len` bytes, and both live across the call.
    check(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &mut len,
        )
    })?;
    Ok(name.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect())
}

fn open(addr: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: `fd` was opened just now and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
    check(with_sockaddr(addr, |sa, len| {
        // SAFETY: `sa` points to `len` bytes of a socket address during this call.
        unsafe { libc::bind(fd.as_raw_fd(), sa, len) }
    }))
}

fn set_int(fd: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is read as an int, of that size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) })
}

fn check(r: libc::c_int) -> io::Result<()> {
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn with_sockaddr<R>(addr: SocketAddr, f: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> R) -> R {
    match addr {
        SocketAddr::V4(a) => {
            let sa = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: a.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.ip().octets()) },
                sin_zero: [0; 8],
            };
            f((&raw const sa).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(a) => {
            let sa = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: a.port().to_be(),
                sin6_flowinfo: a.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                sin6_scope_id: a.scope_id(),
            };
            f((&raw const sa).cast(), size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn decode(from: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let at: *const libc::sockaddr_storage = from;
    match libc::c_int::from(from.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in, which it is large and aligned enough for.
            let a = unsafe { &*at.cast::<libc::sockaddr_in>() };
            Some(SocketAddrV4::new(a.sin_addr.s_addr.to_ne_bytes().into(), u16::from_be(a.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6, which it is large and aligned enough for.
            let a = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            let port = u16::from_be(a.sin6_port);
            Some(SocketAddrV6::new(a.sin6_addr.s6_addr.into(), port, a.sin6_flowinfo, a.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
        loop {
            match accept(listener) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => return other.unwrap(),
            }
        }
    }

    #[test]
    fn two_listeners_share_a_port_and_a_probe_notices_them() {
        let first = listen(loopback(), 16).unwrap();
        let addr = first.local_addr().unwrap();
        let _second = listen(addr, 16).unwrap();
        assert_eq!(probe(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_accepted_address_is_the_connecting_one_in_both_families() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = listen(any.parse().unwrap(), 16) else { continue };
            let client = connect(listener.local_addr().unwrap()).unwrap();
            let (stream, from) = accepted(&listener);
            assert!(stream.nodelay().unwrap() && client.nodelay().unwrap());
            assert_eq!(from, client.local_addr().unwrap());
        }
    }

    #[test]
    fn options_are_set_in_their_units() {
        let listener = listen(loopback(), 16).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let get = |name| {
            let (mut value, mut len): (libc::c_int, _) = (-1, size_of::<libc::c_int>() as libc::socklen_t);
            // SAFETY: `value` has room for `len` bytes, and both live across the call.
            check(unsafe {
                libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, name, (&raw mut value).cast(), &mut len)
            })
            .unwrap();
            value
        };
        set_cork(&stream, true).unwrap();
        assert_eq!(get(libc::TCP_CORK), 1);
        set_cork(&stream, false).unwrap();
        assert_eq!(get(libc::TCP_CORK), 0);
        for (after, millis) in [(Some(Nanos(1)), 1), (Some(Nanos::from_secs(3)), 3000), (None, 0)] {
            set_user_timeout(&stream, after).unwrap();
            assert_eq!(get(libc::TCP_USER_TIMEOUT), millis);
        }
    }

    #[test]
    fn parts_arrive_in_order_and_an_abort_resets() {
        let listener = listen(loopback(), 16).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = accepted(&listener);
        assert_eq!(send(&server, &[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")]).unwrap(), 3);
        let mut got = [0; 3];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"abc");
        abort(server);
        assert_eq!(client.read(&mut got).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn congestion_control_is_chosen_by_name() {
        let listener = listen(loopback(), 16).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_congestion(&client, "reno").unwrap();
        assert_eq!(congestion(&client).unwrap(), "reno");
        set_congestion(&listener, "reno").unwrap();
        let heir = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted =
            std::iter::from_fn(|| Some(accepted(&listener))).find(|(_, from)| *from == heir.local_addr().unwrap());
        assert_eq!(congestion(&accepted.unwrap().0).unwrap(), "reno");
        assert_eq!(set_congestion(&client, "nonesuch").unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
