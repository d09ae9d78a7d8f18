//! Other processes: their CPU time, stopping them for a while, and ending them.

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

/// A process that does not run. It goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen {
    pid: libc::pid_t,
}

impl Frozen {
    /// Stops all threads of process `pid` (SIGSTOP), wherever they are. It should be a child that has not been waited for: then
    /// the number cannot be another's meanwhile.
    ///
    /// # Errors
    /// `EINVAL` for what is no number of a process; `ESRCH` when there is none; `EPERM` when it is somebody else's.
    pub fn new(pid: u32) -> Result<Frozen, SysError> {
        // 0 and negative numbers would mean whole groups of processes.
        let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(|| SysError::new("kill", std::io::Error::from_raw_os_error(libc::EINVAL)))?;
        // SAFETY: kill has no memory preconditions.
        check(unsafe { libc::kill(pid, libc::SIGSTOP) }, "kill")?;
        Ok(Frozen { pid })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: as above. That it has ended meanwhile is no concern of ours.
        let _ = unsafe { libc::kill(self.pid, libc::SIGCONT) };
    }
}

/// What a process or a group of processes is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Stop running (SIGSTOP).
    Stop,
    /// Go on (SIGCONT).
    Continue,
    /// Please end (SIGTERM).
    Terminate,
    /// End (SIGKILL).
    Kill,
}

/// Who is sent a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// The process of this number.
    Process(u32),
    /// All processes of the group that this one leads.
    Group(u32),
}

/// Sends a signal. Whether the number still means the same process is the caller's to know.
///
/// # Errors
/// `EINVAL` for what is no number of a process (0 and 1 among them: nobody means those); `ESRCH` when there is none; `EPERM` when it is somebody else's.
pub fn send(signal: Signal, to: Receiver) -> Result<(), SysError> {
    let (Receiver::Process(number) | Receiver::Group(number)) = to;
    let number = libc::pid_t::try_from(number).ok().filter(|n| *n > 1);
    let number = number.ok_or_else(|| SysError::new("kill", std::io::Error::from_raw_os_error(libc::EINVAL)))?;
    let number = if matches!(to, Receiver::Group(_)) { -number } else { number };
    let signal = match signal {
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    // SAFETY: kill has no memory preconditions.
    check(unsafe { libc::kill(number, signal) }, "kill").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::process_cpu;

    #[test]
    fn a_group_is_stopped_placed_and_ended() {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let pid = child.id();
        let status = |field: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().find_map(|l| l.strip_prefix(field).map(|v| v.trim().to_owned())).unwrap()
        };
        send(Signal::Stop, Receiver::Group(pid)).unwrap();
        while !status("State:").starts_with('T') {
            std::thread::yield_now();
        }
        let core = *crate::thread::allowed_cores().unwrap().last().unwrap();
        crate::thread::pin_other(pid, &[core]).unwrap();
        assert_eq!(status("Cpus_allowed_list:"), core.to_string());
        send(Signal::Kill, Receiver::Group(pid)).unwrap();
        child.wait().unwrap();
        assert!(send(Signal::Continue, Receiver::Process(pid)).is_err());
        for nobody in [0, 1, u32::MAX] {
            assert_eq!(send(Signal::Kill, Receiver::Group(nobody)).unwrap_err().errno(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn a_frozen_process_goes_on_afterwards() {
        // It would run for ever.
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
        };
        let frozen = Frozen::new(child.id()).unwrap();
        while state() != 'T' {
            std::thread::yield_now();
        }
        drop(frozen);
        while state() == 'T' {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for nobody in [0, 1 << 22 | 1, u32::MAX] {
            assert!(Frozen::new(nobody).is_err(), "{nobody}");
        }
    }

    #[test]
    fn our_own_process_seen_from_outside_is_what_it_sees() {
        let before = process_cpu();
        let seen = ProcessClock::of(std::process::id()).unwrap().read().unwrap();
        assert!(before <= seen && seen <= process_cpu());
        let none = 1 << 22 | 1; // above the largest pid there can be
        assert!(ProcessClock::of(none).is_err());
    }
}
