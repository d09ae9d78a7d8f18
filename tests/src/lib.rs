//! System tests: the built binary `zygix`, driven as its users drive it, by real clients in network namespaces of
//! their own.
//!
//! ```text
//!   cargo test -p tests
//!        |  a thread in the namespace           the namespace zxt-PID-N
//!        +--> client (nc, memccp, python, std) ---- Linux ==== TAP zx0 ==== zygix serve   (stack zygix, software)
//!                                                     \------ lo ---------- zygix serve   (stack linux)
//! ```
//!
//! | file | what |
//! |---|---|
//! | `binary.rs` | where the binary is, or how it is built |
//! | `stack.rs` | what a test runs on: our stack steered, our stack with software RSS, Linux sockets |
//! | `command.rs` | the command line of `zygix serve`, in one place |
//! | `namespace.rs` | a network namespace that ends with its value, and whatever runs in it |
//! | `server.rs` | a `zygix` process: its log, its ready line, its end |
//! | `rig.rs` | a server in a namespace, ready for clients |
//! | `veth.rs` | an interface for AF_XDP, and its other end |
//! | `crossing.rs` | a server behind a link with faults |
//! | `transfer.rs` | bulk up and down, every byte checked |
//! | `run.rs` | other programs: run to their end, with a guard against hanging |
//! | `text.rs` | a client of memcached's text protocol that hides nothing |
//! | `frames.rs` | Ethernet frames made byte by byte, right and wrong ones |
//! | `need.rs` | skipping loudly what cannot run here |
//! | `os.rs` | the four system calls that `std` lacks |
//!
//! Nothing here asserts a time; waits have limits only so that a hang ends as a failure.
//!
//! Environment: `ZYGIX_BIN` (the binary), `ZYGIX_STACKS` (for example `zygix,linux`; default all), `ZYGIX_VENV` (a Python
//! environment with pymemcache and pylibmc; default `target/venv`), `ZYGIX_SKIPS` (a file that gets a line for each
//! test that could not run).

mod binary;
mod command;
mod crossing;
pub mod frames;
mod namespace;
pub mod need;
pub mod os;
mod rig;
mod run;
mod server;
mod stack;
mod text;
mod transfer;
mod veth;

pub use binary::path as zygix_path;
pub use command::{App, Serve};
pub use crossing::Crossing;
pub use namespace::Namespace;
pub use rig::{CLIENT, PORT, Rig, SERVER, SERVER_V6, TAP, V6};
pub use run::{Ran, finish, piped, run};
pub use server::{Counters, Ended, Server};
pub use stack::Stack;
pub use text::Text;
pub use transfer::{download, upload};
pub use veth::{KERNEL, Veth, XDP};

use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging. No test waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
