//! Gathered reads and writes on a bare descriptor, without an allocation.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

/// readv(2): fills the slices in order; returns the bytes read.
///
/// # Errors
/// As readv(2), as a bare [`io::Error`] (this is a data-path call; `EAGAIN` is [`io::ErrorKind::WouldBlock`]).
#[inline]
pub fn readv(fd: impl AsFd, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    // SAFETY: `IoSliceMut` is ABI-compatible with `iovec`, by its documentation; the slices are live and ours to write.
    let n = unsafe { libc::readv(fd.as_fd().as_raw_fd(), into.as_mut_ptr().cast(), into.len() as libc::c_int) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

/// writev(2): writes the slices in order; returns the bytes written.
///
/// # Errors
/// As writev(2), as a bare [`io::Error`].
#[inline]
pub fn writev(fd: impl AsFd, from: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: `IoSlice` is ABI-compatible with `iovec`, by its documentation; the slices are live.
    let n = unsafe { libc::writev(fd.as_fd().as_raw_fd(), from.as_ptr().cast(), from.len() as libc::c_int) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn pieces_keep_their_order() {
        let (a, b) = UnixDatagram::pair().unwrap();
        assert_eq!(writev(&a, &[IoSlice::new(b"he"), IoSlice::new(b""), IoSlice::new(b"llo")]).unwrap(), 5);
        let (mut x, mut y) = ([0; 3], [0; 9]);
        assert_eq!(readv(&b, &mut [IoSliceMut::new(&mut x), IoSliceMut::new(&mut y)]).unwrap(), 5);
        assert_eq!((&x, &y[..2]), (b"hel", &b"lo"[..]));
        b.set_nonblocking(true).unwrap();
        assert_eq!(readv(&b, &mut [IoSliceMut::new(&mut x)]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
