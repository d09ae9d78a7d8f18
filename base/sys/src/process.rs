//! Other processes: their CPU time.

use units::Nanos;

use crate::{SysError, check};

/// The CPU clock of a whole process, readable by any process of the same machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessClock {
    clock: libc::clockid_t,
}

impl ProcessClock {
    /// The clock of process `pid`: all of its threads, ended ones included.
    ///
    /// # Errors
    /// `ESRCH` when there is no such process.
    pub fn of(pid: u32) -> Result<ProcessClock, SysError> {
        let mut clock = 0;
        // SAFETY: `clock` is a live clockid_t that the call fills.
        let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
        if error != 0 {
            let cause = std::io::Error::from_raw_os_error(error);
            return Err(SysError::new("clock_getcpuclockid", cause).on(format!("process {pid}")));
        }
        Ok(ProcessClock { clock })
    }

    /// CPU time so far, user and kernel.
    ///
    /// # Errors
    /// `EINVAL` when the process has ended.
    pub fn read(self) -> Result<Nanos, SysError> {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a live timespec that the call fills.
        check(unsafe { libc::clock_gettime(self.clock, &mut t) }, "clock_gettime")?;
        Ok(Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::process_cpu;

    #[test]
    fn our_own_process_seen_from_outside_is_what_it_sees() {
        let before = process_cpu();
        let seen = ProcessClock::of(std::process::id()).unwrap().read().unwrap();
        assert!(before <= seen && seen <= process_cpu());
        let none = 1 << 22 | 1; // above the largest pid there can be
        assert!(ProcessClock::of(none).is_err());
    }
}
