//! File descriptors over Unix sockets (SCM_RIGHTS, unix(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{SysError, check};

/// How many descriptors one message can carry here (Linux allows 253).
pub const MAX_FDS: usize = 32;

/// Room for one control message with [`MAX_FDS`] descriptors, aligned as `cmsghdr` wants.
#[repr(C, align(8))]
struct Control([u8; 16 + 4 * MAX_FDS + 8]);

// SAFETY: CMSG_SPACE is arithmetic.
const _: () = assert!(size_of::<Control>() >= unsafe { libc::CMSG_SPACE(4 * MAX_FDS as u32) } as usize);

/// Sends `bytes` (at least one) together with `fds`; the receiver gets duplicates. Returns the bytes sent.
///
/// # Errors
/// As sendmsg(2); a peer that has closed is `EPIPE`, not a signal. More than [`MAX_FDS`] descriptors or no byte: `EINVAL`.
pub fn send_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, SysError> {
    if fds.len() > MAX_FDS || bytes.is_empty() {
        return Err(SysError::new("sendmsg", io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; _]);
    let mut msg = message(&mut iov, &mut control);
    let payload = size_of_val(fds) as u32;
    if fds.is_empty() {
        msg.msg_control = std::ptr::null_mut();
        msg.msg_controllen = 0;
    } else {
        // SAFETY: CMSG_SPACE is arithmetic.
        msg.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
        // SAFETY: `control` is aligned and holds CMSG_SPACE(payload) bytes (asserted above for the most), so the first
        // header and `fds.len()` integers after it lie inside.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
            let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
            for (i, fd) in fds.iter().enumerate() {
                data.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: `msg` points at live buffers of the sizes in it; the kernel only reads them.
    let n = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &msg, libc::MSG_NOSIGNAL) };
    check(n as i64, "sendmsg").map(|n| n as usize)
}

/// Receives bytes and the descriptors that came with them (close-on-exec). 0 bytes: the peer has closed.
///
/// # Errors
/// As recvmsg(2). More than [`MAX_FDS`] descriptors: [`io::ErrorKind::InvalidData`]; all are closed.
pub fn recv_fds(socket: impl AsFd, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), SysError> {
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; _]);
    let mut msg = message(&mut iov, &mut control);
    // SAFETY: `msg` points at live buffers of the sizes in it.
    let n = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut msg, libc::MSG_CMSG_CLOEXEC) };
    let n = check(n as i64, "recvmsg")? as usize;
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote well-formed control messages into `control`; each SCM_RIGHTS message holds
    // (cmsg_len - CMSG_LEN(0)) / 4 descriptors that are new and ours alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                let count = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / 4;
                fds.extend((0..count).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(&msg, header);
        }
    }
    if msg.msg_flags & libc::MSG_CTRUNC != 0 {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "more descriptors than agreed");
        return Err(SysError::new("recvmsg", cause));
    }
    Ok((n, fds))
}

fn message(iov: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a struct of integers and pointers, for which zero is valid.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_iov = iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.0.as_mut_ptr().cast();
    msg.msg_controllen = control.0.len() as _;
    msg
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_their_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut file = File::from(crate::memfd::create_sealed(c"test", 16).unwrap());
        file.write_all(b"hello").unwrap();
        let bell = crate::wait::EventFd::new().unwrap();
        assert_eq!(send_fds(&a, b"x!", &[file.as_fd(), bell.as_fd()]).unwrap(), 2);
        let mut bytes = [0; 8];
        let (n, fds) = recv_fds(&b, &mut bytes).unwrap();
        assert_eq!((&bytes[..n], fds.len()), (&b"x!"[..], 2));
        let [f, e]: [OwnedFd; 2] = fds.try_into().unwrap();
        let (mut copy, mut text) = (File::from(f), [0; 5]);
        copy.rewind().unwrap();
        copy.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        bell.ring();
        assert!(crate::wait::EventFd::from_owned(e).take());
    }

    #[test]
    fn plain_bytes_and_a_closed_peer() {
        let (a, b) = UnixStream::pair().unwrap();
        send_fds(&a, b"plain", &[]).unwrap();
        let mut bytes = [0; 8];
        let (n, fds) = recv_fds(&b, &mut bytes).unwrap();
        assert_eq!((n, fds.len()), (5, 0));
        drop(a);
        assert_eq!(recv_fds(&b, &mut bytes).unwrap().0, 0);
        assert_eq!(send_fds(&b, b"x", &[]).unwrap_err().errno(), Some(libc::EPIPE));
        assert_eq!(send_fds(&b, b"", &[]).unwrap_err().errno(), Some(libc::EINVAL));
    }

    #[test]
    fn the_most_descriptors_fit() {
        let (a, b) = UnixStream::pair().unwrap();
        let many = [a.as_fd(); MAX_FDS + 1];
        send_fds(&a, b"x", &many[..MAX_FDS]).unwrap();
        assert_eq!(recv_fds(&b, &mut [0]).unwrap().1.len(), MAX_FDS);
        assert!(send_fds(&a, b"x", &many).is_err());
    }
}
