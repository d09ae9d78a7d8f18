//! The emulated wire: two NICs in shared memory, for two halves of one process or for two processes.
//!
//! ```text
//!   side 0, n queues                                          side 1, m queues
//!   queue i  tx -- RSS: flow group -> RETA of side 1 -> j --> ring(0, i, j) --> rx  queue j
//!   queue i  rx <-- ring(1, j, i) <-- i <- RETA of side 0 <-- RSS ------------- tx  queue j
//! ```
//!
//! One ring per transmit queue and receive queue, so each has one producer and one consumer and no ring is ever
//! shared. The *sender* computes the Toeplitz hash, as the receiver's hardware would, and reads the receiver's
//! redirection table. A frame is copied into a slot and out of it: once received, it is out of the peer's reach.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what a side asks for |
//! | `memory.rs` | the shared mapping: who may write what, where everything lies |
//! | `frames.rs` | a ring of frames: [`sync::ring`]'s indices, descriptors, bytes |
//! | `queue.rs` | the queue pair; RSS of the sender; the doorbell |
//! | `handshake.rs` | how two processes come to share a wire: Unix socket, sealed memfd, eventfds |
//! | `end.rs` | both ways to get one: [`pair`], [`ShmNic::listen`] and [`ShmNic::connect`] |
//!
//! The peer is not trusted with memory: whatever it writes, we stay within bounds and count its nonsense
//! (`memory.rs`). It can waste our time, like any peer on a network, and no more. Absent on purpose: reconnection, more than two ends.

mod config;
mod end;
mod frames;
mod handshake;
mod memory;
mod queue;

pub use config::{Config, LARGE_RING};
pub use end::{ShmNic, pair};
pub use frames::{FRAME_MAX, SUPER_MAX};
pub use handshake::Listener;
pub use memory::QUEUES_MAX;
pub use queue::ShmQueue;
