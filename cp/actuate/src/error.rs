use std::io;

use sys::SysError;

/// Why something could not be read or set. One line each, naming the thing and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActuateError {
    /// The file is not there: this machine, or its kernel, lacks it.
    #[error("{0}: not on this machine")]
    Missing(String),
    /// The file can be read only, or only by others.
    #[error("{0}: may not be {1}; run as root, and where /sys is not mounted read-only")]
    ReadOnly(String, &'static str),
    /// The kernel says that it is in use (EBUSY).
    #[error("{0}: in use by somebody else")]
    Busy(String),
    /// The kernel does not take this value.
    #[error("{path}: the kernel refuses `{value}`")]
    Refused {
        /// Which file.
        path: String,
        /// What was written.
        value: String,
    },
    /// What the file says cannot be understood.
    #[error("{path}: says `{found}`, expected {wanted}")]
    Nonsense {
        /// Which file.
        path: String,
        /// Its text, shortened.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The logical processor is switched off, or there is none of this number.
    #[error("cpu {0} is offline")]
    Offline(usize),
    /// The process has ended.
    #[error("process {0} is gone")]
    Gone(u32),
    /// The command could not be started.
    #[error("command `{command}`: {cause}")]
    Start {
        /// Its first word.
        command: String,
        /// Why.
        cause: io::Error,
    },
    /// A path that no file of the kernel can have. It comes from a damaged record of changes.
    #[error("`{0}` is no path below /sys")]
    Foreign(String),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SysError),
    /// Anything else.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        cause: io::Error,
    },
}

impl ActuateError {
    /// What a failure of the file system means for `path`; `value` is what was written, if anything.
    pub(crate) fn of(path: &str, value: Option<&str>, cause: io::Error) -> ActuateError {
        use io::ErrorKind as K;
        let path = path.to_owned();
        match (cause.kind(), value) {
            (K::NotFound, _) => ActuateError::Missing(path),
            (K::PermissionDenied | K::ReadOnlyFilesystem, None) => ActuateError::ReadOnly(path, "read"),
            (K::PermissionDenied | K::ReadOnlyFilesystem, Some(_)) => ActuateError::ReadOnly(path, "written"),
            (K::ResourceBusy, _) => ActuateError::Busy(path),
            (K::InvalidInput, Some(value)) => ActuateError::Refused { path, value: value.to_owned() },
            _ => ActuateError::Io { path, cause },
        }
    }

    /// Whether it says no more than that this machine lacks the thing.
    pub fn is_missing(&self) -> bool {
        matches!(self, ActuateError::Missing(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_become_sentences() {
        for (errno, value, said) in [
            (16, Some("1"), "f: in use by somebody else"),
            (30, Some("1"), "f: may not be written; run as root, and where /sys is not mounted read-only"),
            (13, None, "f: may not be read; run as root, and where /sys is not mounted read-only"),
            (22, Some("fast"), "f: the kernel refuses `fast`"),
            (2, None, "f: not on this machine"),
            (28, Some("0-1"), "f: No space left on device (os error 28)"),
        ] {
            assert_eq!(ActuateError::of("f", value, io::Error::from_raw_os_error(errno)).to_string(), said);
        }
    }
}
