//! NICs that people have, beside the kernel: AF_XDP sockets on an interface of Linux.
//!
//! ```text
//!   frame -> driver -> XDP program: for one of our addresses? --no--> the kernel's own stack, as ever
//!                                        | yes
//!                                        v
//!            socket of the receive queue that it came by            XdpQueue, one per elastic thread
//!              receive ring -> chunk -> (copy) -> mbuf              rx_burst
//!              fill ring    <- chunk
//!              frame -> (gather) -> chunk -> transmit ring -> kick  tx, flush
//!                                   chunk <- completion ring
//! ```
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what to use |
//! | `xdp_nic.rs` | the interface as a whole: checks, modes, sockets, the redirection table; [`Watch`] |
//! | `filter.rs` | the XDP program |
//! | `socket.rs` | the socket: options, binding, kicks |
//! | `ring.rs` | rings and chunks, shared with the kernel |
//! | `queue.rs` | receive and transmit |
//! | `partial.rs` | checksums that a Linux peer left undone |
//! | `peer.rs` | steering by a program at a veth's other end |
//! | `error.rs` | refusals |
//!
//! The program is assembled at start and attached by a BPF link: it goes with the process, however that ends. A frame is copied once on each way
//! within our own memory: received frames into an mbuf, which has its header before it and belongs to whoever reads the data for as long as
//! that takes, frames to transmit into one piece, which is what the transmit ring takes.
//!
//! Absent on purpose: frames of several pieces (MTU above 2034), VLANs, hardware's RSS table, checksum metadata, and sharing a queue between
//! sockets: as many queues as elastic threads, and as many elastic threads as queues. See decision 0016.
//!
//! # Soundness
//! Unsafe code is in `socket.rs` and `ring.rs`; each says why it is sound.

mod config;
mod error;
mod filter;
mod partial;
mod peer;
mod queue;
mod ring;
mod socket;
mod xdp_nic;

pub use config::{Mode, XdpConfig};
pub use error::XdpError;
pub use queue::XdpQueue;
pub use socket::Statistics;
pub use xdp_nic::{Watch, XdpNic};
