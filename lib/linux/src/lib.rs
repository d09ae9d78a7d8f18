//! A [`Service`](zygix::Service) on Linux sockets, partitioned: the same application, another stack under it.
//!
//! ```text
//!   thread 0                          thread 1                  ...
//!   SO_REUSEPORT listener --+         (the same, nothing shared)
//!   UDP socket -------------+
//!   connections ------------+--> epoll --> recv --> Service::recv --> send
//!   inbox (an eventfd) -----+
//! ```
//!
//! Each thread owns the connections that the kernel gave its listener, for life. An event costs one `recv`, one
//! handler call and one `send`; pipelined requests share them.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what is chosen at start-up, what is counted |
//! | `serve.rs` | threads: start, pin, stop, report |
//! | `thread.rs` | one thread's loop |
//! | `handler.rs` | calling the service: buffers in and out, panics caught |
//! | `conn.rs` | one connection: unconsumed and unsent bytes, what it waits for |
//! | `slab.rs` | connections by slot and generation |
//! | `timers.rs` | one deadline per connection |
//! | `inbox.rs` | what other threads ask of this one |
//!
//! Bytes in flight live in per-thread buffers that every event starts with anew; only what a handler did not
//! consume, or a peer did not yet take, is kept with its connection, on the heap. So an idle connection holds no
//! buffer, and no connection can starve another of buffers.
//!
//! Deliberately absent: the floating mode (one pool of connections for all threads), protocols, measurements.
#![forbid(unsafe_code)]

mod config;
mod conn;
mod handler;
mod inbox;
mod serve;
mod slab;
mod thread;
mod timers;

pub use config::{Config, Counters, Report, ThreadReport};
pub use inbox::Mailbox;
pub use serve::{Error, Running, serve, serve_ready};

#[cfg(test)]
mod tests;
