use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A refusal by the operating system: which call, on what, why, and what a person can do about it.
#[derive(Debug, thiserror::Error)]
#[error("{call}{}: {cause}{}", Detail(" of ", on), Detail("; ", remedy))]
pub struct SysError {
    /// The system call, as its manual page is named.
    pub call: &'static str,
    /// What it was applied to (an interface, a file), or empty.
    pub on: String,
    /// The cause. It is part of the message, and so no further link of the chain.
    pub cause: io::Error,
    /// What to do about it, or empty.
    pub remedy: &'static str,
}

struct Detail<'a, T: ?Sized>(&'static str, &'a T);

impl<T: AsRef<str>> fmt::Display for Detail<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.1.as_ref();
        if text.is_empty() { Ok(()) } else { write!(f, "{}{text}", self.0) }
    }
}

impl SysError {
    /// The error that the last libc call of this thread left in `errno`.
    pub fn last(call: &'static str) -> SysError {
        SysError::new(call, io::Error::last_os_error())
    }

    /// An error with a cause of the caller's.
    pub fn new(call: &'static str, source: io::Error) -> SysError {
        SysError { call, on: String::new(), cause: source, remedy: "" }
    }

    /// Names the thing that the call was applied to.
    #[must_use]
    pub fn on(mut self, what: impl Into<String>) -> SysError {
        self.on = what.into();
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn remedy(mut self, remedy: &'static str) -> SysError {
        self.remedy = remedy;
        self
    }

    /// Adds advice if the cause is `errno`.
    #[must_use]
    pub fn remedy_for(self, errno: i32, remedy: &'static str) -> SysError {
        if self.errno() == Some(errno) { self.remedy(remedy) } else { self }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    /// Whether a privilege is missing.
    pub fn is_permission(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }
}

impl From<SysError> for io::Error {
    fn from(e: SysError) -> io::Error {
        io::Error::new(e.cause.kind(), e)
    }
}

/// A libc return value: -1 means `errno`.
pub(crate) fn check(ret: impl Into<i64>, call: &'static str) -> Result<i64, SysError> {
    match ret.into() {
        -1 => Err(SysError::last(call)),
        n => Ok(n),
    }
}

/// A descriptor that the kernel has just made, or its refusal.
pub(crate) fn owned(ret: impl Into<i64>, call: &'static str) -> Result<OwnedFd, SysError> {
    let fd = check(ret, call)?;
    // SAFETY: every caller passes the direct return value of a call that creates a descriptor, once; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_call_object_cause_and_remedy() {
        let e = SysError::new("open", io::Error::from_raw_os_error(libc::ENOENT)).on("/dev/net/tun").remedy("load tun");
        assert_eq!(e.to_string(), "open of /dev/net/tun: No such file or directory (os error 2); load tun");
        let plain = SysError::new("bpf", io::Error::from_raw_os_error(libc::EPERM)).remedy_for(libc::ENOENT, "no");
        assert_eq!(plain.to_string(), "bpf: Operation not permitted (os error 1)");
        assert!(plain.is_permission() && !e.is_permission());
        assert_eq!(io::Error::from(e).kind(), io::ErrorKind::NotFound);
    }
}
