//! Load for a key-value server, over Linux TCP sockets: every request timed, every reply checked byte for byte.
//!
//! ```text
//!   Workload   what is asked: keys, values, the mix                workload.rs
//!      |
//!   arrivals   when: as soon as there is room, or by a schedule    arrivals.rs
//!      |
//!   Client     one thread: epoll, C connections, depth D           client.rs
//!      |         +-- Link   one connection: requests out, replies in   link.rs
//!      |                     +-- memcached's ASCII protocol            protocol.rs
//!   Outcome    requests, errors, latencies, the client's own cost  outcome.rs
//! ```
//!
//! *Closed loop*: each connection keeps D requests outstanding; the server sets the pace. *Open loop*: requests come by
//! a Poisson process of a given rate whatever the server does, and the latency of each counts from the instant at
//! which it was *meant* to be sent, so that a stall of the server (or of the client) shows in full.
//!
//! Deliberately absent: several machines, rates that vary, protocols other than this one.
#![forbid(unsafe_code)]

mod arrivals;
mod client;
mod link;
mod outcome;
mod protocol;
mod workload;

pub use client::{Client, Config, LoadError, Pace, Progress, Slice, run};
pub use outcome::{Errors, Outcome};
pub use workload::Workload;

#[cfg(test)]
mod tests;
