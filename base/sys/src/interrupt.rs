//! Interrupting a running thread: a real-time signal whose handler calls what the thread has registered.
//!
//! It is how one core makes another do something *now*, in the middle of whatever that one runs: about 5 us to the handler and 2 us at
//! the sender on a virtual machine. The handler runs on a stack of its own, and the kernel saves and restores the whole extended state (AVX
//! included) around it, so the interrupted code notices nothing but time.
//!
//! What a handler may do is what POSIX calls async-signal-safe: it must not allocate, wait for a lock that the interrupted code may
//! hold, or unwind (a panic in it ends the process).

use std::cell::Cell;
use std::marker::PhantomData;

use crate::{SysError, check};

/// What runs in the handler.
type Handler = dyn Fn() + Send + Sync;

thread_local! {
    /// The handler of this thread, while it has one. Const and without a destructor: a plain load in the signal handler.
    static HANDLER: Cell<Option<*const Handler>> = const { Cell::new(None) };
}

/// Bytes of the handler's stack: a pass through the network layer takes some KB, and the saved state up to 11 KB (AMX).
const STACK: usize = 256 * 1024;

fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 4
}

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: errno is this thread's own; its address stays valid.
    let errno = unsafe { &mut *libc::__errno_location() };
    let saved = *errno;
    if let Some(handler) = HANDLER.get() {
        // SAFETY: the receiver that registered it lives on this very thread, and withdraws it before it frees it.
        unsafe { (*handler)() };
    }
    *errno = saved;
}

/// The registration of the calling thread: it can be interrupted until this is dropped (on the same thread).
pub struct Receiver {
    handler: Box<Handler>,
    stack: Box<[u8]>,
    line: Line,
    /// Belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

/// How others reach the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    process: libc::pid_t,
    thread: libc::pid_t,
}

impl Receiver {
    /// Makes the calling thread one that can be interrupted: `handler` is then called in the middle of anything that it does.
    ///
    /// # Errors
    /// As sigaction(2) and sigaltstack(2): in practice none.
    pub fn install(handler: Box<Handler>) -> Result<Receiver, SysError> {
        // SAFETY: a struct of integers, for which zero is valid (empty mask).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `action` is live, and the signal is one of those for applications.
        check(unsafe { libc::sigaction(signal(), &action, std::ptr::null_mut()) }, "sigaction")?;
        let mut stack = vec![0; STACK].into_boxed_slice();
        let alternative = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        // SAFETY: the stack lives as long as the receiver, which takes it out of use before it goes.
        check(unsafe { libc::sigaltstack(&alternative, std::ptr::null_mut()) }, "sigaltstack")?;
        // SAFETY: takes nothing, cannot fail.
        let process = unsafe { libc::getpid() };
        let line = Line { process, thread: crate::thread::id() as libc::pid_t };
        let receiver = Receiver { handler, stack, line, _thread: PhantomData };
        HANDLER.set(Some(&raw const *receiver.handler));
        Ok(receiver)
    }

    /// For those who interrupt it.
    pub fn line(&self) -> Line {
        self.line
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        HANDLER.set(None);
        let off = libc::stack_t { ss_sp: self.stack.as_mut_ptr().cast(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: `off` is live; the stack is not in use, for this thread is running here. It cannot fail then.
        unsafe { libc::sigaltstack(&off, std::ptr::null_mut()) };
    }
}

impl Line {
    /// Interrupts the thread. False: it is gone, or the kernel has no room for another signal to it.
    pub fn raise(self) -> bool {
        // SAFETY: takes integers only. A thread that has withdrawn its handler ignores the signal, and so does any other thread of
        // this process that got the id meanwhile.
        unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, signal()) == 0 }
    }
}

/// Runs `f` while interrupts of the calling thread are held back, as they are when the hypervisor has taken the core away: they come when it is over.
pub fn held<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: sets of integers, for which zero is valid; both live, both filled in below.
    let (mut set, mut before) = unsafe { std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
    // SAFETY: the sets are live, and the signal is a valid one: none of the three can fail.
    unsafe {
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal());
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
    }
    let result = f();
    // SAFETY: as above. If `f` unwinds, the signal stays blocked: interrupts are lost then, which their senders must bear anyway.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    #[test]
    fn a_thread_is_interrupted_while_it_computes_and_its_numbers_stay_right() {
        let (hits, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (tell, told) = std::sync::mpsc::channel();
        let worker = std::thread::spawn({
            let (hits, done) = (hits.clone(), done.clone());
            move || {
                // The handler spoils every register that it can reach by arithmetic.
                let handler = {
                    let hits = hits.clone();
                    move || {
                        let spoil: Vec4 = [hits.load(SeqCst) as f64; 16].map(|x| (x + 1.5).sqrt() * 7.25);
                        hits.fetch_add(1 + u64::from(spoil.iter().sum::<f64>() < 0.0), SeqCst);
                    }
                };
                let receiver = Receiver::install(Box::new(handler)).unwrap();
                tell.send(receiver.line()).unwrap();
                let mut wrong = 0;
                while !done.load(SeqCst) {
                    wrong += usize::from(sum(1000) != sum(1000));
                }
                (wrong, sum(1000))
            }
        });
        let line = told.recv().unwrap();
        while hits.load(SeqCst) < 1000 {
            assert!(line.raise() || !worker.is_finished());
            std::thread::yield_now();
        }
        done.store(true, SeqCst);
        assert_eq!(worker.join().unwrap(), (0, sum(1000)));
        assert!(!line.raise(), "nobody is there any more");
    }

    type Vec4 = [f64; 16];

    /// Floating point in as many registers as the compiler likes to use.
    #[inline(never)]
    fn sum(n: u32) -> u64 {
        let mut lanes: Vec4 = std::array::from_fn(|i| i as f64);
        for i in 0..n {
            let add = f64::from(i) * 0.25;
            lanes.iter_mut().enumerate().for_each(|(k, x)| *x = (*x + add).mul_add(0.999, k as f64 * 1e-3));
        }
        lanes.iter().fold(0, |all, x| all ^ x.to_bits())
    }
}
