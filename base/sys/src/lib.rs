//! The syscall room: what the project asks of Linux beside the standard library, behind safe functions.
//!
//! | file | what |
//! |---|---|
//! | [`clock`] | monotonic time; CPU time of this and of other threads |
//! | [`thread`] | ids, pinning, the cores we may use |
//! | [`wait`] | eventfd doorbells and `ppoll` |
//! | [`timer`] | deadlines as descriptors |
//! | [`memfd`], [`page`] | sealed shared memory files; words that one process writes and others read |
//! | [`epoll`], [`socket`] | readiness of many sockets; what `std::net` leaves out |
//! | [`process`] | CPU time of other processes |
//! | [`unix`] | file descriptors over Unix sockets |
//! | [`stop`] | SIGINT and SIGTERM as a flag |
//! | [`interrupt`] | one thread makes another do something now |
//! | [`limit`] | resource limits |
//! | [`memory`] | locked memory, no huge pages |
//! | [`random`] | seeds from the kernel |
//! | [`io`] | `readv`/`writev` of plain slices |
//! | [`bpf`] | programs and maps through bpf(2), assembled at run time |
//! | [`netns`] | namespaces: own, named, unprivileged; privileges |
//! | [`netlink`], [`link`] | interfaces, addresses, neighbours, routes, veth pairs |
//! | [`ethtool`] | what drivers are asked: queues, offloads |
//!
//! Each fallible function answers [`SysError`]: the call, the cause, and where one is known the remedy.
//!
//! Absent on purpose: memory mappings for packets (crate `mem`), device ioctls of TAPs (crate `tap`), AF_XDP sockets (crate `xdp`), any policy.
//!
//! # Soundness
//! Every unsafe block is a syscall or a libc function. Three invariants make them sound: pointers passed in come from
//! live borrows of the size that is passed beside them; structures that the kernel fills are plain integers, valid for
//! any bit pattern, and zero before the call; a descriptor becomes an [`OwnedFd`](std::os::fd::OwnedFd) exactly once,
//! right where the kernel made it. The BPF array ([`bpf::Array`]) and shared words ([`page`]) keep their mappings for life and touch them
//! through atomics only. Tests exercise each file against the live kernel.

pub mod bpf;
pub mod clock;
pub mod epoll;
mod error;
pub mod ethtool;
pub mod interrupt;
pub mod io;
pub mod limit;
pub mod link;
pub mod memfd;
pub mod memory;
pub mod netlink;
pub mod netns;
pub mod page;
pub mod process;
pub mod random;
pub mod socket;
pub mod stop;
pub mod thread;
pub mod timer;
pub mod unix;
pub mod wait;

pub use error::SysError;

pub(crate) use error::{check, owned};

/// Says, past the test harness's capture, that a test could not run here, and how many could not so far.
#[cfg(test)]
pub(crate) fn skipped(test: &str, why: &SysError) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    // In one write, so that lines of parallel tests do not mix.
    let line = format!("SKIPPED {test} ({count} so far): {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
