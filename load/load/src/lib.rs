//! The load generator: requests at the times at which they are meant to be sent, and how long each took from then on.
//!
//! ```text
//!   Spec, Window ──► Engine (one per thread)            no socket, no clock: drives a test, a socket, a dataplane alike
//!                      │  when: draw::Arrivals          what: requests::Asker
//!                      ▼
//!                    Wire ── linux.rs   TCP sockets, epoll
//!                         └─ native.rs  our own stack, on a batch's syscalls, over any NIC
//! ```
//!
//! What keeps it honest: in an open loop a request's latency counts from the instant that the arrival process *meant* for it,
//! also when its connection was blocked by the pipeline depth, when the client itself was late, and when the server stood
//! still: nothing is left out because nothing could be sent (no coordinated omission). Every reply is checked, and what is
//! wrong, missing or cut off is an error. How late the client was is measured apart, so that a client that cannot keep
//! up is told from a server that cannot.
//!
//! | file | what |
//! |---|---|
//! | `spec.rs` | what to do: connections, depth, pace, windows |
//! | `engine.rs` | one thread's load: who asks next, what has come back, what is late |
//! | `link.rs` | one connection of it |
//! | `job.rs` | one window of it |
//! | `slices.rs` | latencies by the time at which the requests were meant |
//! | `outcome.rs` | what it came to, on one thread or many |
//! | `recorder.rs` | the same accounts for requests that another crate makes |
//! | `desk.rs` | how a thread gets its jobs and says what became of them |
//! | `linux.rs`, `native.rs` | the transports |
//! | `group.rs` | [`Load`]: the threads of a run |
//! | `search.rs` | the maximum load at an SLO |
//!
//! Deliberately absent: threads of other machines (`fleet`), command lines, tables.
#![forbid(unsafe_code)]

mod desk;
mod engine;
mod group;
mod job;
mod link;
mod linux;
mod native;
mod outcome;
mod recorder;
pub mod search;
mod slices;
mod spec;
#[cfg(test)]
mod truth;

pub use desk::{Count, Live};
pub use draw;
pub use group::{Load, Running};
pub use hdrhistogram::Histogram;
pub use outcome::{Errors, Outcome, Side, Slice, histogram};
pub use recorder::Recorder;
pub use requests;
pub use spec::{Churn, Hangup, LoadError, Pace, Place, Spec, Window, ZygixNet};
