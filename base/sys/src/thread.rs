//! Threads: their ids and the cores they may run on.

use crate::{SysError, check};

/// The kernel's id of the calling thread.
pub fn id() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// The cores (logical processors) that the calling thread may run on, ascending.
///
/// # Errors
/// As sched_getaffinity(2).
pub fn allowed_cores() -> Result<Vec<usize>, SysError> {
    allowed_cores_of(0)
}

/// Confines the calling thread to one core.
///
/// # Errors
/// `EINVAL` when there is no such core or a cpuset forbids it.
pub fn pin(core: usize) -> Result<(), SysError> {
    pin_to(&[core])
}

/// Confines the calling thread to some cores.
///
/// # Errors
/// As [`pin`], for the cores together: one that is allowed suffices.
pub fn pin_to(cores: &[usize]) -> Result<(), SysError> {
    place(0, cores)
}

fn place(tid: libc::pid_t, cores: &[usize]) -> Result<(), SysError> {
    let mut set = cpu_set();
    for &core in cores.iter().filter(|&&core| core < libc::CPU_SETSIZE as usize) {
        // SAFETY: the index is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: `set` is a live cpu_set_t of the size passed.
    let ret = unsafe { libc::sched_setaffinity(tid, size_of_val(&set), &set) };
    check(ret, "sched_setaffinity").map(drop).map_err(|e| {
        e.on(format!("cores {cores:?}")).remedy("choose among the cores that the process may use (taskset -p, cpuset)")
    })
}

/// The cores that a thread of any process may run on, ascending; 0 is the calling one.
///
/// # Errors
/// `ESRCH`: there is no such thread (any more).
pub fn allowed_cores_of(tid: u32) -> Result<Vec<usize>, SysError> {
    let mut set = cpu_set();
    // SAFETY: `set` is a live cpu_set_t of the size passed.
    let ret = unsafe { libc::sched_getaffinity(tid as libc::pid_t, size_of_val(&set), &mut set) };
    check(ret, "sched_getaffinity").map_err(|e| e.on(format!("thread {tid}")))?;
    // SAFETY: the index is below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Confines another thread to some cores, of this process or of another.
///
/// # Errors
/// As [`pin_to`]; `ESRCH`: there is no such thread (any more); `EPERM`: it is another user's.
pub fn pin_other(tid: u32, cores: &[usize]) -> Result<(), SysError> {
    place(tid as libc::pid_t, cores)
}

/// Lets the calling thread's sleeps end when they are due, not up to 50 us later to save wake-ups (PR_SET_TIMERSLACK).
pub fn exact_timers() {
    let slack: libc::c_ulong = 1;
    // SAFETY: takes integers only. Where it is refused, timers are as they were.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
}

fn cpu_set() -> libc::cpu_set_t {
    // SAFETY: an array of integers, for which zero is valid: the empty set.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_on_its_core() {
        std::thread::spawn(|| {
            let core = *allowed_cores().unwrap().last().unwrap();
            pin(core).unwrap();
            assert_eq!(allowed_cores().unwrap(), [core]);
            let refused = pin(libc::CPU_SETSIZE as usize + 1).unwrap_err();
            assert_eq!(refused.errno(), Some(libc::EINVAL));
            assert_eq!(allowed_cores().unwrap(), [core]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn another_thread_is_placed() {
        let ((tell, told), (go, wait)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::spawn(move || {
            tell.send(id()).unwrap();
            let _ = wait.recv();
        });
        let tid = told.recv().unwrap();
        let core = *allowed_cores().unwrap().last().unwrap();
        pin_other(tid, &[core]).unwrap();
        assert_eq!(allowed_cores_of(tid).unwrap(), [core]);
        assert!(pin_other(tid, &[libc::CPU_SETSIZE as usize]).is_err());
        drop(go);
        thread.join().unwrap();
    }

    #[test]
    fn ids_differ() {
        let other = std::thread::spawn(id).join().unwrap();
        assert_ne!(id(), other);
    }
}
