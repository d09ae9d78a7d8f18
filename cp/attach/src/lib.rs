//! Dataplanes seen from another process: which there are, what their metrics pages say, and how they are given commands.
//!
//! ```text
//!   list() ─────► /run/zygix/*.sock, $XDG_RUNTIME_DIR/zygix/*.sock            live, stale
//!   Dataplane::attach(name) ──► hello ──► descriptor of the page, mapped to be read
//!        .snapshot()   from the page: no system call, no lock, nothing that the dataplane notices
//!        .command(..)  over the socket: a line there, a line back
//! ```
//!
//! | file | what |
//! |---|---|
//! | `list.rs` | names and their sockets |
//! | `link.rs` | one socket: lines, descriptors, patience |
//! | `dataplane.rs` | one dataplane: page and commands |
//! | `snapshot.rs` | what a page says at one moment |
//!
//! Absent on purpose: what is to be done about it (policies), and anything that a dataplane would have to wait for.
#![forbid(unsafe_code)]

mod dataplane;
mod link;
mod list;
mod snapshot;

pub use dataplane::Dataplane;
pub use list::{Found, Presence, list};
pub use snapshot::{CoreSnapshot, Snapshot};

use std::io;
use std::path::PathBuf;

use abi::{PageError, Refusal};
use sys::SysError;

/// Why a dataplane could not be attached to, or did not do what it was told. One line each, which says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no dataplane of that name.
    #[error("there is no dataplane {name}; {}", running(.there))]
    NoSuch {
        /// The name.
        name: String,
        /// Those there are.
        there: Vec<String>,
    },
    /// No name was given, and there is none.
    #[error("no dataplane runs here (`zygix serve APP` starts one; root's are root's to see)")]
    NoneRuns,
    /// No name was given, and there are several.
    #[error("several dataplanes run: say which by --name ({})", .0.join(", "))]
    Several(Vec<String>),
    /// Its socket is there, and it has ended without clearing up.
    #[error("dataplane {name} has ended and left {} behind; the next of that name takes it over", .socket.display())]
    Stale {
        /// The name.
        name: String,
        /// What it left.
        socket: PathBuf,
    },
    /// Its socket may not be used.
    #[error("{}: {cause}; be who started the dataplane, or root", .socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// It has ended, or closed the connection.
    #[error("the dataplane has ended (or its control channel has): {0}")]
    Gone(String),
    /// It did not answer in time.
    #[error("the dataplane does not answer; is its process stopped?")]
    Silent,
    /// Its answer makes no sense.
    #[error("what answers there is no dataplane of this version: {0}")]
    Protocol(String),
    /// Its metrics page cannot be read.
    #[error(transparent)]
    Page(#[from] PageError),
    /// It cannot be mapped.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// It has answered that it does not.
    #[error(transparent)]
    Refused(Refusal),
}

fn running(there: &[String]) -> String {
    if there.is_empty() { "none runs here".into() } else { format!("there are: {}", there.join(", ")) }
}
