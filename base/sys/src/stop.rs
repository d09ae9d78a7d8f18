//! SIGINT and SIGTERM as a flag that loops look at. The first signal asks for a clean end; a second one ends at once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static REQUESTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    // One relaxed store: async-signal-safe. It publishes nothing but itself.
    REQUESTED.store(true, Relaxed);
}

/// Catches SIGINT and SIGTERM from here on. Any number of calls; blocking calls of the receiving thread end with EINTR.
pub fn install() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: a struct of integers, for which zero is valid (no flags, no handler, empty mask).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND;
        // SAFETY: `action` is live; the handler is async-signal-safe; these signals can be caught, so it cannot fail.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// Whether the end has been asked for. A plain load.
#[inline]
pub fn requested() -> bool {
    REQUESTED.load(Relaxed)
}

/// Asks for the end from within: as a signal would.
pub fn request() {
    REQUESTED.store(true, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_flag() {
        install();
        assert!(!requested());
        // SAFETY: sends this process a signal whose handler was installed above.
        assert_eq!(unsafe { libc::raise(libc::SIGTERM) }, 0);
        assert!(requested());
    }
}
