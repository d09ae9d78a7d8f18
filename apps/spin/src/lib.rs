//! The spin server: each request says how long it wants to be served, and is.
//!
//! ```text
//!  client  --- length, id, time to spend, padding --->  polls the clock for that time
//!          <-- length, id, time spent ----------------
//! ```
//!
//! The client draws the service times, so one server does for every distribution, and what a scheduler does to a known
//! distribution can be laid beside the queueing model of it (thesis chapter 3).
//!
//! | file | what |
//! |---|---|
//! | `wire.rs` | the format of requests and replies; `load/requests` speaks it too |
//! | `service.rs` | the server, over streams and datagrams |
//! | `work.rs` | work instead of time, for those who compare clocks and hardware threads |
//!
//! Deliberately absent: any distribution, and work that touches memory. The time is spent in registers, so it is the
//! same whether a core's caches are warm or not.
#![forbid(unsafe_code)]

mod service;
#[cfg(test)]
mod tests;
pub mod wire;
mod work;

pub use service::{Conn, Service, Spend};
pub use work::Work;
