//! Clocks: monotonic time, and CPU time per thread (the kernel's utime/stime count in ticks and are useless here).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use units::Nanos;

use crate::{SysError, check};

fn read(clock: libc::clockid_t) -> Result<Nanos, SysError> {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a live timespec that the call fills.
    let ret = unsafe { libc::clock_gettime(clock, &mut t) };
    check(ret, "clock_gettime")?;
    Ok(Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64))
}

/// Nanoseconds since an arbitrary beginning (boot), never backwards; the same in all processes. About 25 ns (vDSO).
#[inline]
pub fn now() -> Nanos {
    read(libc::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC")
}

/// Where time comes from: the machine, or whoever models it. A clone reads the same clock.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// [`now`].
    #[default]
    Machine,
    /// Nanoseconds that stand still until somebody moves them: for runs that are to come out the same every time.
    Virtual(Arc<Standing>),
}

/// A clock that stands still, on a processor that does not exist either.
#[derive(Debug)]
pub struct Standing {
    at: AtomicU64,
    /// What a nanosecond of work takes, in parts of 2^-16.
    pace: AtomicU64,
}

/// A pace of 1.
const EVEN_PACE: f64 = 65536.0;

impl Clock {
    /// One that stands still, at `at`, where work takes as long as it says.
    pub fn standing(at: Nanos) -> Clock {
        Clock::Virtual(Arc::new(Standing { at: AtomicU64::new(at.0), pace: AtomicU64::new(EVEN_PACE as u64) }))
    }

    /// From now on work takes so many times as long as it says, on a standing clock: as on a processor that was slowed down. 1/65536 to 65536.
    pub fn set_pace(&self, pace: f64) {
        if let Clock::Virtual(standing) = self {
            standing.pace.store((pace * EVEN_PACE).clamp(1.0, EVEN_PACE * EVEN_PACE) as u64, Relaxed);
        }
    }

    /// What it shows.
    #[inline]
    pub fn now(&self) -> Nanos {
        match self {
            Clock::Machine => now(),
            Clock::Virtual(standing) => Nanos(standing.at.load(Relaxed)),
        }
    }

    /// Sets a standing clock, forwards or backwards. The machine's goes by itself.
    #[inline]
    pub fn set(&self, to: Nanos) {
        if let Clock::Virtual(standing) = self {
            standing.at.store(to.0, Relaxed);
        }
    }

    /// Works for `time`, and returns how long that took: the machine's clock is polled for so long, a standing one is moved, by its pace.
    ///
    /// There is no PAUSE in the loop: it would lend the core to its hyperthread, which the work that this stands for would
    /// not do, and a hypervisor may take it for an invitation to run somebody else.
    #[inline]
    pub fn spend(&self, time: Nanos) -> Nanos {
        if let Clock::Virtual(standing) = self {
            let takes = ((u128::from(time.0) * u128::from(standing.pace.load(Relaxed))) >> 16) as u64;
            standing.at.fetch_add(takes, Relaxed);
            return Nanos(takes);
        }
        let begun = now();
        loop {
            let spent = now() - begun;
            if spent >= time {
                return spent;
            }
        }
    }
}

/// Seconds and nanoseconds since 1970: for capture files and reports, not for measuring.
pub fn wall() -> Nanos {
    read(libc::CLOCK_REALTIME).expect("every Linux has CLOCK_REALTIME")
}

/// CPU time of the calling thread, user and kernel, since its start. About 150 ns.
pub fn thread_cpu() -> Nanos {
    read(libc::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has CLOCK_THREAD_CPUTIME_ID")
}

/// CPU time of all threads of this process since its start.
pub fn process_cpu() -> Nanos {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).expect("every Linux has CLOCK_PROCESS_CPUTIME_ID")
}

/// The CPU clock of a thread, readable by any thread of the same process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadClock {
    clock: libc::clockid_t,
}

impl ThreadClock {
    /// The calling thread's clock, to be read from elsewhere.
    pub fn current() -> ThreadClock {
        ThreadClock::of(crate::thread::id())
    }

    /// The clock of thread `tid` of this process (see [`crate::thread::id`]).
    pub const fn of(tid: u32) -> ThreadClock {
        // The kernel's encoding (posix-timers_types.h): complement of the id, then "per thread" (4) and "sched" (2).
        ThreadClock { clock: !(tid as i32) << 3 | 4 | 2 }
    }

    /// CPU time of that thread, user and kernel, since its start.
    ///
    /// # Errors
    /// `EINVAL` when it has ended.
    pub fn read(self) -> Result<Nanos, SysError> {
        read(self.clock)
            .map_err(|e| e.on("a thread's CPU clock").remedy("the thread has ended, or is of another process"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn time_does_not_go_backwards() {
        let times: Vec<Nanos> = (0..100).map(|_| now()).collect();
        assert!(times.is_sorted() && times[0] > Nanos::ZERO);
    }

    #[test]
    fn a_standing_clock_is_moved_and_the_machines_is_waited_for() {
        let standing = Clock::standing(Nanos(5));
        let same = standing.clone();
        assert_eq!((same.spend(Nanos(7)), standing.now()), (Nanos(7), Nanos(12)));
        same.set(Nanos(3));
        assert_eq!(standing.now(), Nanos(3));
        standing.set_pace(1.5);
        assert_eq!((same.spend(Nanos(8)), same.now()), (Nanos(12), Nanos(15)));
        let machine = Clock::default();
        let before = machine.now();
        let spent = machine.spend(Nanos::from_micros(50));
        assert!(spent >= Nanos::from_micros(50) && machine.now() - before >= spent);
    }

    #[test]
    fn another_threads_clock_shows_its_work_and_ends_with_it() {
        let ((clock_tx, clock_rx), (go_tx, go_rx)) = (channel(), channel::<()>());
        let thread = std::thread::spawn(move || {
            let before = thread_cpu();
            while thread_cpu() < before + Nanos::from_millis(2) {}
            clock_tx.send((ThreadClock::current(), thread_cpu())).unwrap();
            let _ = go_rx.recv();
        });
        let (clock, own) = clock_rx.recv().unwrap();
        assert!(clock.read().unwrap() >= own && own >= Nanos::from_millis(2));
        drop(go_tx);
        thread.join().unwrap();
        while clock.read().is_ok() {
            std::thread::yield_now(); // join returns a little before the kernel forgets the thread
        }
    }
}
