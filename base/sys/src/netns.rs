//! Network namespaces, own, named (as `ip netns` keeps them) and unprivileged; and what privileges we have.
//!
//! A namespace belongs to a *thread*: threads started afterwards inherit it, others keep theirs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::{SysError, check};

/// Where `ip netns` keeps its names.
const DIRECTORY: &str = "/run/netns";
const NEED_ADMIN: &str = "run as root, or enter a user namespace first";

fn unshare(flags: libc::c_int, call: &'static str) -> Result<(), SysError> {
    // SAFETY: takes an integer; new namespaces affect nothing that Rust relies on.
    check(unsafe { libc::unshare(flags) }, call).map(drop)
}

/// Moves the calling thread into a new, empty network namespace, which ends with its last thread and descriptor.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN: see [`unshare_user_net`].
pub fn unshare_net() -> Result<(), SysError> {
    unshare(libc::CLONE_NEWNET, "unshare(CLONE_NEWNET)").map_err(|e| e.remedy_for(libc::EPERM, NEED_ADMIN))
}

/// Moves this process, which must still have one thread only, into a new user namespace, where it is root, and a new
/// network namespace of that. Any user may do this where unprivileged user namespaces are allowed. Inside, interfaces
/// can be made and configured; bpf(2) stays refused.
///
/// # Errors
/// `EINVAL` when other threads run; `EPERM` or `ENOSPC` when the system allows no user namespaces.
pub fn unshare_user_net() -> Result<(), SysError> {
    // SAFETY: take nothing, cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET, "unshare(CLONE_NEWUSER|CLONE_NEWNET)").map_err(|e| {
        e.remedy_for(libc::EINVAL, "call it before the first thread is started")
            .remedy_for(libc::EPERM, "allow user namespaces (kernel.unprivileged_userns_clone=1), or run as root")
            .remedy_for(libc::ENOSPC, "raise user.max_user_namespaces")
    })?;
    // user_namespaces(7): an unprivileged process must give up setgroups before it maps its group.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write(path: &str, text: &str) -> Result<(), SysError> {
    fs::write(path, text).map_err(|e| SysError::new("write", e).on(path))
}

/// The calling thread's network namespace.
///
/// # Errors
/// When /proc is not mounted.
pub fn current() -> Result<OwnedFd, SysError> {
    open(Path::new("/proc/thread-self/ns/net"))
}

fn open(path: &Path) -> Result<OwnedFd, SysError> {
    File::open(path).map(OwnedFd::from).map_err(|e| SysError::new("open", e).on(path.display().to_string()))
}

/// Moves the calling thread into the network namespace of a descriptor.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EINVAL` when it is not a network namespace.
pub fn enter(namespace: impl AsFd) -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let ret = unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNET) };
    check(ret, "setns").map(drop).map_err(|e| e.remedy_for(libc::EPERM, NEED_ADMIN))
}

/// The network namespace with this name.
///
/// # Errors
/// `ENOENT` when there is none; `EINVAL` for a name that is not a file name.
pub fn named(name: &str) -> Result<OwnedFd, SysError> {
    open(&path(name)?)
}

/// The names of those that `ip netns` knows.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Moves the calling thread into the network namespace with this name.
///
/// # Errors
/// As [`named`] and [`enter`].
pub fn enter_named(name: &str) -> Result<(), SysError> {
    enter(named(name)?)
}

/// Makes an empty network namespace with this name; it stays until [`delete_named`], and `ip netns` sees it.
///
/// # Errors
/// `EEXIST` when the name is taken; `EPERM`/`EACCES` unless root.
pub fn create_named(name: &str) -> Result<(), SysError> {
    let path = path(name)?;
    make_directory()?;
    OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| {
        SysError::new("open", e).on(path.display().to_string()).remedy_for(libc::EEXIST, "the name is taken")
    })?;
    let target = path.display().to_string();
    // A thread of its own makes the namespace: the caller stays where it is.
    let made = std::thread::spawn(move || {
        unshare_net()?;
        mount("/proc/thread-self/ns/net", &target, libc::MS_BIND)
    })
    .join()
    .expect("that thread does not panic");
    made.inspect_err(|_| drop(fs::remove_file(&path)))
}

/// Takes the name away; the namespace ends with its last thread and descriptor.
///
/// # Errors
/// `ENOENT` when there is none; `EPERM` unless root.
pub fn delete_named(name: &str) -> Result<(), SysError> {
    let path = path(name)?;
    let target = c_string(&path.display().to_string());
    // SAFETY: `target` is a live C string.
    let unmounted = check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }, "umount2");
    match unmounted {
        Err(e) if e.errno() != Some(libc::EINVAL) => return Err(e.on(path.display().to_string())),
        _ => {} // EINVAL: not mounted, a leftover of a failed creation
    }
    fs::remove_file(&path).map_err(|e| SysError::new("unlink", e).on(path.display().to_string()))
}

/// The directory of names, set up as `ip netns` does: a shared mount, so that names appear in every mount namespace.
fn make_directory() -> Result<(), SysError> {
    fs::create_dir_all(DIRECTORY).map_err(|e| SysError::new("mkdir", e).on(DIRECTORY).remedy(NEED_ADMIN))?;
    let shared = || mount("", DIRECTORY, libc::MS_SHARED | libc::MS_REC);
    match shared() {
        // Not a mount point yet.
        Err(e) if e.errno() == Some(libc::EINVAL) => {
            mount(DIRECTORY, DIRECTORY, libc::MS_BIND | libc::MS_REC)?;
            shared()
        }
        done => done,
    }
}

fn mount(source: &str, target: &str, flags: libc::c_ulong) -> Result<(), SysError> {
    let (from, to) = (c_string(source), c_string(target));
    // SAFETY: both are live C strings; no type and no data are needed for these flags.
    let ret = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), c"none".as_ptr(), flags, std::ptr::null()) };
    check(ret, "mount").map(drop).map_err(|e| e.on(target).remedy_for(libc::EPERM, "run as root"))
}

fn path(name: &str) -> Result<PathBuf, SysError> {
    if name.is_empty() || name.len() > 255 || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        let cause = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(SysError::new("open", cause).on(format!("namespace {name:?}")).remedy("use a plain file name"));
    }
    Ok(Path::new(DIRECTORY).join(name))
}

fn c_string(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).expect("paths were checked for NUL")
}

/// Whether the effective user is root (of its user namespace).
pub fn is_root() -> bool {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Whether this thread may configure interfaces of its namespace (has CAP_NET_ADMIN in its user namespace).
pub fn can_admin() -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    let Ok(status) = fs::read_to_string("/proc/thread-self/status") else {
        return false;
    };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| caps >> CAP_NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `f` in a thread with a network namespace of its own; says why if that cannot be.
    fn in_own_namespace(test: &str, f: impl FnOnce() + Send) {
        std::thread::scope(|s| {
            s.spawn(|| match unshare_net() {
                Err(e) if e.is_permission() => crate::skipped(test, &e),
                done => {
                    done.unwrap();
                    f();
                }
            });
        });
    }

    fn interfaces() -> Vec<String> {
        let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        text.lines().skip(2).map(|l| l.split(':').next().unwrap().trim().to_owned()).collect()
    }

    #[test]
    fn a_new_namespace_has_only_a_loopback() {
        in_own_namespace("a_new_namespace_has_only_a_loopback", || {
            assert!(interfaces().iter().all(|i| i == "lo" || i.ends_with('0')), "{:?}", interfaces());
            assert_eq!(crate::link::index("lo").unwrap(), 1);
            assert!(can_admin());
        });
    }

    #[test]
    fn named_namespaces_come_and_go() {
        in_own_namespace("named_namespaces_come_and_go", || {
            let name = format!("zygix-test-{}", std::process::id());
            // A mount namespace of the thread's own: the machine's list of names is not touched.
            unshare(libc::CLONE_NEWNS, "unshare(CLONE_NEWNS)").unwrap();
            mount("", "/", libc::MS_PRIVATE | libc::MS_REC).unwrap();
            create_named(&name).unwrap();
            let home = current().unwrap();
            let result = std::panic::catch_unwind(|| {
                assert_eq!(create_named(&name).unwrap_err().errno(), Some(libc::EEXIST));
                crate::link::add_veth("here0", "there0", crate::link::Place::Namespace(named(&name).unwrap().as_fd()))
                    .unwrap();
                assert!(crate::link::exists("here0") && !crate::link::exists("there0"));
                enter_named(&name).unwrap();
                assert!(crate::link::exists("there0") && !crate::link::exists("here0"));
                enter(&home).unwrap();
            });
            delete_named(&name).unwrap();
            result.unwrap();
            assert_eq!(enter_named(&name).unwrap_err().errno(), Some(libc::ENOENT));
        });
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for bad in ["", "..", "a/b", "a\0b"] {
            assert_eq!(named(bad).unwrap_err().errno(), Some(libc::EINVAL), "{bad:?}");
        }
    }
}
