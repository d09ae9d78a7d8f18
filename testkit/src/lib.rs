//! Packet scripts: what a TCP does, as text, run on our engine and on Linux as the referee.
//!
//! ```text
//!   scripts/close/simultaneous.pkt --parse--> Script --run--> trace, and the line that failed
//!                                                      |
//!                       user calls, checks             v
//!                    +----------------------------- Subject -----------------------------+
//!                    |  engine  |  the whole stack  |  Linux (own namespace, TUN)   |
//!                    |       virtual time           |           real time           |
//!                    +----------- segments in, segments out ----------------------------+
//! ```
//!
//! Scripts are described in `scripts/README.md`. Their head comment names the RFC section that they show; their
//! `linux:` line says whether Linux agrees, and if not, why.
//!
//! | file | holds |
//! |---|---|
//! | `script` | a script as values |
//! | `parse` | text to script; errors with line numbers |
//! | `numbers` | relative and absolute sequence numbers; a pattern held against a segment |
//! | `run` | the interpreter and its trace |
//! | `subject` | the seam: what a stack must offer to be scripted |
//! | `engine` | `proto/tcp` as a subject |
//! | `whole/` | the dataplane as a subject: frames, flow table, timing wheel, batched syscalls |
//! | `linux/` | the kernel as a subject |
//! | `packet` | segments as IPv4 packets |
//! | `library` | the scripts of this folder; the table of results |
#![deny(unsafe_code)]

pub mod engine;
mod library;
pub mod linux;
mod numbers;
mod packet;
mod parse;
mod run;
pub mod script;
mod subject;
pub mod whole;

pub use library::{Row, Verdict, load, load_all, table, verdict};
pub use parse::{ParseError, parse};
pub use run::{Entry, Failure, Run, run};
pub use script::Script;
pub use subject::{Heard, LOCAL, LOCAL_PORT, Make, Pace, REMOTE, REMOTE_PORT, Refusal, Subject, stream, stream_byte};
