use std::{error, fmt, io};

/// Memory that the kernel refused.
#[derive(Debug)]
pub struct MemError {
    call: &'static str,
    bytes: usize,
    cause: io::Error,
}

impl MemError {
    /// What the last system call, `call`, left in errno.
    pub(crate) fn last(call: &'static str, bytes: usize) -> MemError {
        MemError { call, bytes, cause: io::Error::last_os_error() }
    }

    /// A request that is beyond any address space.
    pub(crate) fn too_large() -> MemError {
        MemError { call: "mmap", bytes: usize::MAX, cause: io::ErrorKind::OutOfMemory.into() }
    }
}

impl fmt::Display for MemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemError { call, bytes, cause } = self;
        let mib = bytes.div_ceil(1 << 20);
        write!(
            f,
            "{call} of {mib} MiB: {cause}; ask for fewer buffers or raise the limit on memory (ulimit -v, memory.max)"
        )
    }
}

impl error::Error for MemError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}
