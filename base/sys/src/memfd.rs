//! Shared memory without a name: a file that lives as long as its descriptors and mappings, and whose size is sealed so
//! that no holder can make another's access fault.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::{SysError, check, owned};

/// A zeroed file of `len` bytes that can neither shrink nor grow any more. `name` shows in /proc only.
///
/// # Errors
/// `EMFILE`, `ENOMEM`, `EINVAL` (memfd sealing absent: a kernel before 3.17).
pub fn create_sealed(name: &CStr, len: u64) -> Result<OwnedFd, SysError> {
    let fd = create(name, len)?;
    seal(&fd, false)?;
    Ok(fd)
}

/// As [`create_sealed`], before it is sealed.
pub(crate) fn create(name: &CStr, len: u64) -> Result<OwnedFd, SysError> {
    // SAFETY: `name` is a live C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    let fd = owned(fd, "memfd_create")?;
    // SAFETY: takes integers only.
    let ret = unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) };
    check(ret, "ftruncate")?;
    Ok(fd)
}

/// Seals its size; with `write`, and if the kernel knows of that, also against whoever does not write already.
pub(crate) fn seal(fd: &OwnedFd, write: bool) -> Result<(), SysError> {
    let add = |seals: libc::c_int| {
        // SAFETY: takes integers only.
        let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        check(ret, "fcntl(F_ADD_SEALS)")
    };
    if write {
        // Before Linux 5.1: EINVAL.
        let _ = add(libc::F_SEAL_FUTURE_WRITE);
    }
    add(libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL).map(drop)
}

#[cfg(test)]
pub(crate) fn is_write_sealed(fd: &OwnedFd) -> bool {
    // SAFETY: takes integers only.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) & libc::F_SEAL_FUTURE_WRITE != 0 }
}

/// The size of a file received from elsewhere, if it is sealed against shrinking: only then may it be mapped and
/// touched without fear of SIGBUS.
///
/// # Errors
/// `EINVAL` when it is not a sealable file; [`std::io::ErrorKind::InvalidData`] when the seal is missing.
pub fn sealed_len(fd: impl AsFd) -> Result<u64, SysError> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: takes integers only.
    let ret = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    let seals = check(ret, "fcntl(F_GET_SEALS)").map_err(|e| e.remedy("the other side did not send a memfd"))?;
    if seals as i32 & libc::F_SEAL_SHRINK == 0 {
        let missing = std::io::Error::new(std::io::ErrorKind::InvalidData, "the file could shrink under us");
        return Err(SysError::new("fcntl(F_GET_SEALS)", missing).remedy("the sender must seal it with F_SEAL_SHRINK"));
    }
    // SAFETY: a struct of integers, for which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is live and of the right type.
    check(unsafe { libc::fstat(fd, &mut stat) }, "fstat")?;
    Ok(stat.st_size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_sealed_file_keeps_its_size() {
        let file = File::from(create_sealed(c"test", 8192).unwrap());
        assert_eq!(sealed_len(&file).unwrap(), 8192);
        assert!(file.set_len(4096).is_err() && file.set_len(16384).is_err());
    }

    #[test]
    fn an_unsealed_file_is_refused() {
        // SAFETY: a live C string and flags.
        let fd =
            owned(unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_ALLOW_SEALING) }, "memfd_create").unwrap();
        assert_eq!(sealed_len(&fd).unwrap_err().cause.kind(), std::io::ErrorKind::InvalidData);
        assert!(sealed_len(File::open("/proc/self/status").unwrap()).is_err());
    }
}
