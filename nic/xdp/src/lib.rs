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
//! | `xdp_nic.rs` | the interface as a whole: its queues, the redirection table; [`Watch`] |
//! | `setup.rs` | checks, modes, program and sockets at their places |
//! | `filter.rs` | the XDP program |
//! | `copies.rs` | where the kernel has our address, too: what both stacks need to see |
//! | `socket.rs` | the socket: options, binding, kicks |
//! | `ring.rs` | rings and chunks, shared with the kernel |
//! | `supply.rs` | chunks for the kernel and back from it, also for several sockets on one queue |
//! | `queue.rs` | receive and transmit |
//! | `partial.rs` | checksums that a Linux peer left undone |
//! | `peer.rs` | steering by a program at a veth's other end |
//! | `rss.rs` | steering by a NIC's own table |
//! | `error.rs` | refusals |
//!
//! The program is assembled at start and attached by a BPF link: it goes with the process, however that ends. A frame is copied once on each way
//! within our own memory: received frames into an mbuf, which has its header before it and belongs to whoever reads the data for as long as
//! that takes, frames to transmit into one piece, which is what the transmit ring takes.
//!
//! Where the interface has as many receive queues as there are elastic threads, each has a queue and memory of its own. Where it has one, or delivers all by one,
//! all threads have a socket on that, and the program looks the flow group's up: `supply.rs` says what they share.
//!
//! Absent on purpose: frames of several pieces (MTU above 2034), VLANs, checksum metadata, and any other number of threads than queues. See decision 0016.
//!
//! # Soundness
//! Unsafe code is in `socket.rs`, `ring.rs` and `copies.rs`; each says why it is sound.

mod config;
mod copies;
mod error;
mod filter;
mod partial;
mod peer;
mod queue;
mod ring;
mod rss;
mod setup;
mod socket;
mod supply;
mod xdp_nic;

pub use config::{MAX_PORTS, Mode, XdpConfig};
pub use error::XdpError;
pub use queue::XdpQueue;
pub use rss::RssError;
pub use socket::Statistics;
pub use xdp_nic::{Watch, XdpNic};
