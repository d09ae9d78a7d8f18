//! A [`Service`](zygix::Service) on Linux sockets: the same application, another stack under it. In two modes.
//!
//! ```text
//!  partitioned                                      floating
//!
//!  thread 0                      thread 1 ...                                     thread 0   thread 1 ...
//!  SO_REUSEPORT listener -+      (the same,         listener ---------+              |         |
//!  UDP socket ------------+       nothing           UDP socket -------+              +----+----+
//!  connections -----------+        shared)          connections ------+--> epoll --> whoever is free
//!  inbox (an eventfd) ----+                         inbox ------------+                   |
//!                         |                         alarm (a timerfd)-+         lock of the connection
//!                       epoll                                                             |
//!                         |                                              recv --> Service::recv --> send
//!    recv --> Service::recv --> send
//! ```
//!
//! Partitioned, a thread owns the connections that the kernel gave its listener, for life. Floating, all are in one pool,
//! each with a lock of its own that nobody waits for: who finds it taken leaves its news to the holder. So handlers of
//! one connection run one at a time and in order, whichever threads they run on, and none waits behind another
//! connection's. Either way an event costs one `recv`, one handler call and one `send`; pipelined requests share them.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what is chosen at start-up, what is counted |
//! | `serve.rs` | threads: start, pin, stop, report |
//! | `turn.rs` | one event of one connection, the same in both modes |
//! | `handler.rs` | calling the service: buffers in and out, panics caught |
//! | `conn.rs` | one connection: unconsumed and unsent bytes, what it waits for |
//! | `door.rs`, `datagram.rs` | accepting and connecting; UDP |
//! | `partitioned.rs` | a thread's loop over connections of its own |
//! | `floating.rs` | a thread's loop over everybody's |
//! | `pool.rs` | what those loops share: connections, deadlines, epoll |
//! | `slot.rs` | the lock that nobody waits for |
//! | `slab.rs` | connections by slot and generation |
//! | `timers.rs` | one deadline per connection |
//! | `inbox.rs` | what other threads ask of a connection |
//!
//! Bytes in flight live in per-thread buffers that every event starts with anew; only what a handler did not
//! consume, or a peer did not yet take, is kept with its connection, on the heap. So an idle connection holds no
//! buffer, and no connection can starve another of buffers.
//!
//! Deliberately absent: protocols, measurements, tuning of the machine (SYN cookies, the accept queue's length).
#![forbid(unsafe_code)]

mod config;
mod conn;
mod datagram;
mod door;
mod floating;
mod handler;
mod inbox;
mod partitioned;
mod pool;
mod serve;
mod slab;
mod slot;
mod timers;
mod turn;

pub use config::{Config, Counters, Mode, Report, Sharing, ThreadReport};
pub use inbox::Mailbox;
pub use serve::{Error, Running, serve, serve_ready};

#[cfg(test)]
mod tests;
