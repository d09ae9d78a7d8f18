//! How the kernel treats this process's memory.

use crate::{SysError, check};

/// Keeps all memory of the process, present and future, in RAM: what is mapped from here on is filled at once, so that no
/// page fault comes later.
///
/// # Errors
/// `ENOMEM` and `EPERM` without the privilege, when the limit on locked memory is lower than what is mapped.
pub fn lock_all() -> Result<(), SysError> {
    const REMEDY: &str = "raise the limit (ulimit -l unlimited) or run as root";
    // SAFETY: takes integers only; no mapping moves.
    let ret = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    check(ret, "mlockall").map(drop).map_err(|e| e.remedy_for(libc::ENOMEM, REMEDY).remedy_for(libc::EPERM, REMEDY))
}

/// Takes back [`lock_all`].
///
/// # Errors
/// None in practice.
pub fn unlock_all() -> Result<(), SysError> {
    // SAFETY: takes nothing; no mapping moves.
    check(unsafe { libc::munlockall() }, "munlockall").map(drop)
}

/// No transparent huge pages for this process from here on: memory that is filled already keeps what it has, and the kernel
/// no longer stops threads to merge pages.
///
/// # Errors
/// `EINVAL` on kernels before 3.15.
pub fn no_huge_pages() -> Result<(), SysError> {
    // SAFETY: takes integers only; the unused ones must be zero.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, "prctl")
        .map(drop)
        .map_err(|e| e.on("PR_SET_THP_DISABLE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str) -> Option<String> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    #[test]
    fn the_kernel_confirms_both() {
        no_huge_pages().unwrap();
        // Told since Linux 5.0.
        assert!(status("THP_enabled").is_none_or(|enabled| enabled == "0"));
        // Under a limit that is just met, the memory of tests beside this one would be refused.
        if !status("Uid").unwrap().starts_with("0\t") {
            let why = SysError::new("mlockall", std::io::Error::from_raw_os_error(libc::EPERM));
            return crate::skipped("the_kernel_confirms_both", &why);
        }
        lock_all().unwrap();
        assert_ne!(status("VmLck").unwrap(), "0 kB");
        unlock_all().unwrap();
        assert_eq!(status("VmLck").unwrap(), "0 kB");
    }
}
