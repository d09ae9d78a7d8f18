//! Deadlines that many threads wait for: timerfd. One that only its own thread waits for is cheaper as a timeout.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use units::Nanos;

use crate::{SysError, owned};

/// A descriptor that is readable from a chosen instant on, until it is set anew. On the clock of [`crate::clock::now`].
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// One that is not set.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<TimerFd, SysError> {
        // SAFETY: takes integers only.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        let fd = owned(fd, "timerfd_create").map_err(|e| e.remedy_for(libc::EMFILE, "raise the limit: ulimit -n"))?;
        Ok(TimerFd(fd))
    }

    /// Readable from `at` on, at once if that has passed; `None`: never. What it was set to before, and whether it was
    /// readable, is forgotten. About 0.3 us.
    pub fn set(&self, at: Option<Nanos>) {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would mean never.
        let at = at.map_or(zero, |at| {
            let at = at.0.max(1);
            let (seconds, rest) = (at / 1_000_000_000, at % 1_000_000_000);
            libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: rest as libc::c_long }
        });
        let spec = libc::itimerspec { it_interval: zero, it_value: at };
        // SAFETY: `spec` is live; the old value is not asked for. It cannot fail: the descriptor is a timer, the time valid.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut()) };
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use crate::wait::readable;

    #[test]
    fn it_is_readable_from_its_instant_until_set_anew() {
        let timer = TimerFd::new().unwrap();
        let is_due = |wait| readable(&[timer.0.as_raw_fd()], wait).unwrap() == 1;
        assert!(!is_due(Nanos::ZERO));
        let at = now() + Nanos::from_millis(2);
        timer.set(Some(at));
        assert!(is_due(Nanos::MAX) && now() >= at);
        assert!(is_due(Nanos::ZERO));
        timer.set(None);
        assert!(!is_due(Nanos::ZERO));
        timer.set(Some(Nanos::ZERO));
        assert!(is_due(Nanos::MAX));
        timer.set(Some(now() + Nanos::from_secs(1000)));
        assert!(!is_due(Nanos::ZERO));
    }
}
