//! The library that applications are written on: one [`Service`], run on the dataplane, on Linux sockets, or in a simulator.
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | the trait, and what a handler may answer |
//! | `received.rs` | the bytes that came, borrowed where they lie |
//! | `reply.rs` | the bytes that go, written where they will be sent from |
//! | `cx.rs` | the handler's surroundings: core state, clock, timers, new connections |
//! | `runtime.rs` | `Service` on the dataplane's event conditions and batched syscalls |
//! | `records.rs` | the library's books: one record per connection |
//! | `mailbox.rs` | how background threads reach a connection |
//!
//! Deliberately absent: threads, sockets, protocols.
#![forbid(unsafe_code)]

mod cx;
mod mailbox;
mod received;
mod records;
mod reply;
mod runtime;
mod service;

pub use abi::{Dead, Peer, TcpOption};
pub use cx::{ConnRef, Cx, Op};
pub use mailbox::Mailbox;
pub use received::{Received, RxBuf};
pub use reply::{Reply, SEND_CAP, SEND_MARK, TxBuf};
pub use runtime::{Runtime, ServiceApp};
pub use service::{Next, Service};
