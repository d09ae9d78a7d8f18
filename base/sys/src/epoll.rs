//! Readiness of many descriptors at once: epoll, level-triggered unless asked otherwise.
//!
//! Called by what runs on Linux sockets: the backend for `Service`, the load generator. Leaves out any policy about who
//! waits for what. Errors are plain [`io::Error`]s: these calls are on the data path.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What to be told about a descriptor. Errors and hang-ups are always told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interest(u32);

impl Interest {
    /// Errors and hang-ups only.
    pub const NONE: Interest = Interest(0);
    /// Bytes, connections or the peer's end have arrived.
    pub const READ: Interest = Interest(libc::EPOLLIN as u32);
    /// There is room to write.
    pub const WRITE: Interest = Interest(libc::EPOLLOUT as u32);
    /// The peer has finished, apart from bytes that may lie before its end (EPOLLRDHUP).
    pub const END: Interest = Interest(libc::EPOLLRDHUP as u32);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn has(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Told once for each time that it comes about (EPOLLET), not for as long as it lasts.
    #[must_use]
    pub const fn edge(self) -> Interest {
        Interest(self.0 | libc::EPOLLET as u32)
    }

    /// When several instances watch the descriptor, an arrival wakes at least one instead of all (EPOLLEXCLUSIVE).
    ///
    /// Fit for [`Epoll::add`] of `READ`, `WRITE` and [`edge`](Interest::edge) only. [`Epoll::modify`] refuses (`EINVAL`)
    /// a descriptor that was added so; it has to be removed and added anew (epoll_ctl(2)).
    #[must_use]
    pub const fn exclusive(self) -> Interest {
        Interest(self.0 | libc::EPOLLEXCLUSIVE as u32)
    }

    /// `self` if `when`, else nothing.
    #[must_use]
    pub const fn when(self, when: bool) -> Interest {
        if when { self } else { Interest::NONE }
    }
}

/// One descriptor's report.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token it was added with.
    pub token: u64,
    bits: u32,
}

impl Ready {
    /// Reading will not block: there are bytes, an end, or an error to fetch.
    pub const fn readable(self) -> bool {
        self.bits & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    /// Writing will not block.
    pub const fn writable(self) -> bool {
        self.bits & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    /// The peer has finished; reported only to who asked for [`Interest::END`].
    pub const fn ended(self) -> bool {
        self.bits & libc::EPOLLRDHUP as u32 != 0
    }

    /// The descriptor is in error, or both directions have ended; reported whether wanted or not.
    pub const fn broken(self) -> bool {
        self.bits & (libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }
}

/// Room for the reports of one wait.
pub struct Events {
    buf: Vec<libc::epoll_event>,
    len: usize,
}

impl Events {
    /// At most `max` reports per wait (at least one).
    pub fn new(max: usize) -> Events {
        Events { buf: vec![libc::epoll_event { events: 0, u64: 0 }; max.max(1)], len: 0 }
    }

    /// How many descriptors the last wait reported.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the last wait reported none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `index`-th report of the last wait.
    pub fn get(&self, index: usize) -> Option<Ready> {
        let e = self.buf[..self.len].get(index)?;
        Some(Ready { token: e.u64, bits: e.events })
    }
}

/// An epoll instance. Its descriptor is readable when one that it watches is ready.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    /// Cleared when the kernel has no `epoll_pwait2` (before Linux 5.11): then timeouts round up to milliseconds.
    fine: AtomicBool,
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Epoll {
    /// A new one, closed on exec.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was opened just now and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, fine: AtomicBool::new(true) })
    }

    /// Begins to watch `fd`, which is reported as `token`. Closing `fd` ends it.
    pub fn add(&self, fd: &impl AsFd, token: u64, what: Interest) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd.as_fd(), token, what)
    }

    /// Changes what is watched for.
    pub fn modify(&self, fd: &impl AsFd, token: u64, what: Interest) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_MOD, fd.as_fd(), token, what)
    }

    /// Stops watching `fd`, errors and hang-ups included.
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_DEL, fd.as_fd(), 0, Interest::NONE)
    }

    fn ctl(&self, op: libc::c_int, fd: BorrowedFd<'_>, token: u64, what: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: what.0, u64: token };
        // SAFETY: both descriptors are open during the call, `event` lives across it.
        let r = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd.as_raw_fd(), &mut event) };
        if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until something is ready, `timeout` has passed (`None`: for ever), or a signal came (no reports then).
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.len = 0;
        let n = match timeout {
            Some(t) if !t.is_zero() && self.fine.load(Relaxed) => self.wait_fine(events, t),
            t => self.wait_coarse(events, t),
        };
        if n >= 0 {
            events.len = n as usize;
            return Ok(events.len);
        }
        match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            e => Err(e),
        }
    }

    fn wait_fine(&self, events: &mut Events, timeout: Duration) -> i64 {
        let at = libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the kernel writes at most `buf.len()` events; `at` lives across the call; no signal mask is given.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.buf.as_mut_ptr(),
                events.buf.len() as libc::c_int,
                &at as *const libc::timespec,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if n < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            self.fine.store(false, Relaxed);
            return self.wait_coarse(events, Some(timeout));
        }
        n
    }

    fn wait_coarse(&self, events: &mut Events, timeout: Option<Duration>) -> i64 {
        let ms = timeout.map_or(-1, |t| t.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as libc::c_int);
        // SAFETY: the kernel writes at most `buf.len()` events.
        let n = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), events.buf.as_mut_ptr(), events.buf.len() as libc::c_int, ms)
        };
        n.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::EventFd;

    #[test]
    fn a_bell_is_reported_until_cleared() {
        let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        let mut events = Events::new(4);
        epoll.add(&bell, 7, Interest::READ).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        bell.ring();
        bell.ring();
        for _ in 0..2 {
            assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
            let ready = events.get(0).unwrap();
            assert!(ready.token == 7 && ready.readable() && !ready.broken());
        }
        assert!(bell.take());
        assert_eq!(epoll.wait(&mut events, Some(Duration::from_micros(10))).unwrap(), 0);
        assert!(events.get(0).is_none());
        bell.ring();
        epoll.remove(&bell).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn an_edge_is_reported_once_and_again_when_renewed() {
        let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        let mut events = Events::new(4);
        let mut count = || epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        bell.ring();
        epoll.add(&bell, 7, Interest::READ.edge()).unwrap();
        assert_eq!((count(), count()), (1, 0));
        bell.ring();
        assert_eq!((count(), count()), (1, 0));
        epoll.modify(&bell, 7, Interest::READ.edge()).unwrap();
        assert_eq!((count(), count()), (1, 0));
    }

    #[test]
    fn of_exclusive_instances_without_a_waiter_each_may_look_and_none_may_modify() {
        let (epolls, bell) = ([Epoll::new().unwrap(), Epoll::new().unwrap()], EventFd::new().unwrap());
        let what = Interest::READ.edge().exclusive();
        assert!(what.has(Interest::READ) && !what.has(Interest::WRITE));
        for epoll in &epolls {
            epoll.add(&bell, 7, what).unwrap();
            let refused = epoll.modify(&bell, 7, Interest::READ).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        }
        bell.ring();
        let mut events = Events::new(4);
        // Nobody waited, so the ring is kept for whoever comes first: nothing is lost.
        assert_eq!(epolls[1].wait(&mut events, Some(Duration::ZERO)).unwrap(), 1);
        assert!(bell.take());
        assert_eq!(epolls[0].wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    }
}
