//! Resource limits.

use crate::{SysError, check};

/// Raises the number of open files that this process may have to the most that it may ask for, and returns that.
///
/// # Errors
/// As setrlimit(2).
pub fn raise_open_files() -> Result<u64, SysError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit that the call fills.
    let ret = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    check(ret, "getrlimit")?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is live.
    let ret = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    check(ret, "setrlimit").map_err(|e| e.on("open files"))?;
    Ok(limit.rlim_cur)
}

/// Lets this process open `wanted` files if that can be had: as far as it may ask for, and beyond where it has the privilege
/// (CAP_SYS_RESOURCE). Returns how many it may open now, which can be fewer.
///
/// # Errors
/// As setrlimit(2), below the limit that it may always ask for.
pub fn allow_open_files(wanted: u64) -> Result<u64, SysError> {
    let limit = raise_open_files()?;
    if limit >= wanted {
        return Ok(limit);
    }
    let more = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
    // SAFETY: `more` is a live rlimit. A refusal leaves the limit that there was.
    let ret = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &more) };
    Ok(if ret == 0 { wanted } else { limit })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_at_its_top_afterwards() {
        let top = super::raise_open_files().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((columns[3], columns[4]), (&*top.to_string(), &*top.to_string()));
    }
}
