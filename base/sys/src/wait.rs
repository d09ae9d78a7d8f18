//! Waiting: doorbells (eventfd) and sleep until one of a few descriptors is readable (ppoll).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use units::Nanos;

use crate::{SysError, check, owned};

/// How many descriptors one [`readable`] can watch.
pub const MAX_FDS: usize = 64;

/// A doorbell between threads or processes: a counter that can be waited for. Never blocks.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A doorbell that has not been rung.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn new() -> Result<EventFd, SysError> {
        // SAFETY: takes integers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        Ok(EventFd(owned(fd, "eventfd").map_err(|e| e.remedy_for(libc::EMFILE, "raise the limit: ulimit -n"))?))
    }

    /// A doorbell that another process made and sent.
    pub const fn from_owned(fd: OwnedFd) -> EventFd {
        EventFd(fd)
    }

    /// Rings: whoever waits, wakes. About 0.3 us, more if somebody sleeps.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is a live buffer of eight bytes. The only failure is EAGAIN of a counter at its top, rung already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes the rings so far: `true` if there were any.
    pub fn take(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: `count` is a live buffer of eight bytes.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) == 8 }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(e: EventFd) -> OwnedFd {
        e.0
    }
}

/// Sleeps until one of `fds` is readable (or broken), `timeout` has passed, or a signal came; [`Nanos::MAX`] waits for
/// ever. Returns a bit per descriptor, by position; 0 after a timeout or a signal. A number that is not an open
/// descriptor counts as ready, so that its user gets the error.
///
/// # Errors
/// `ENOMEM`; nothing else with at most [`MAX_FDS`] descriptors (more panic).
pub fn readable(fds: &[RawFd], timeout: Nanos) -> Result<u64, SysError> {
    assert!(fds.len() <= MAX_FDS, "{} descriptors to wait for, at most {MAX_FDS}", fds.len());
    let mut polls = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; MAX_FDS];
    for (poll, &fd) in polls.iter_mut().zip(fds) {
        poll.fd = fd;
    }
    let spec = libc::timespec {
        tv_sec: (timeout.0 / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout.0 % 1_000_000_000) as libc::c_long,
    };
    let spec = if timeout == Nanos::MAX { std::ptr::null() } else { &raw const spec };
    // SAFETY: `polls` holds at least `fds.len()` live entries; `spec` is null or a live timespec; no signal mask.
    let ret = unsafe { libc::ppoll(polls.as_mut_ptr(), fds.len() as libc::nfds_t, spec, std::ptr::null()) };
    match check(ret, "ppoll") {
        Err(e) if e.errno() == Some(libc::EINTR) => Ok(0),
        Err(e) => Err(e),
        Ok(_) => {
            let ready = polls.iter().zip(fds).enumerate().filter(|(_, (poll, _))| poll.revents != 0);
            Ok(ready.fold(0, |mask, (i, _)| mask | 1 << i))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rung_bell_is_the_one_that_wakes() {
        let bells: Vec<EventFd> = (0..3).map(|_| EventFd::new().unwrap()).collect();
        let fds: Vec<RawFd> = bells.iter().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(readable(&fds, Nanos::ZERO).unwrap(), 0);
        bells[1].ring();
        bells[1].ring();
        assert_eq!(readable(&fds, Nanos::MAX).unwrap(), 0b010);
        assert!(bells[1].take() && !bells[1].take() && !bells[0].take());
        assert_eq!(readable(&fds, Nanos::from_micros(50)).unwrap(), 0);
    }

    #[test]
    fn a_sleeper_is_woken_by_another_thread() {
        let bell = EventFd::new().unwrap();
        std::thread::scope(|s| {
            let sleeper = s.spawn(|| readable(&[bell.as_raw_fd()], Nanos::MAX).unwrap());
            bell.ring();
            assert_eq!(sleeper.join().unwrap(), 1);
        });
    }
}
