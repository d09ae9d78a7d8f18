//! What the network layer asks of a NIC: queue pairs, flow groups, and an honest list of abilities.
//!
//! ```text
//!   Nic ---- queues() ----> Queue, one per elastic thread         each a receive and a transmit ring
//!    |                        rx_burst -> RxFrame (mbufs)          tx(TxFrame) .. tx .. flush
//!    +-- flow_group(tuple)    before_sleep / after_sleep           the doorbell of an idle core
//!    +-- set_reta(group, q)
//! ```
//!
//! Files: `caps.rs` (abilities), `frame.rs` (what comes and goes), `queue.rs` (the two traits and the counters),
//! `pcap.rs` (a queue that records another queue's frames), `impair/` (what a bad wire does to frames, and a queue behind one),
//! `cable.rs` (a queue whose other end is in the hand of its owner).
//!
//! Backends are crates of their own beside this one. Absent on purpose: protocols, addresses, and any notion of who
//! owns a flow group; a NIC may deliver a frame to the wrong queue, and the network layer forwards it.
#![forbid(unsafe_code)]

mod cable;
mod caps;
mod frame;
mod impair;
mod pcap;
mod queue;

pub use cable::Cable;
pub use caps::{Caps, Steering};
pub use frame::{CsumStart, Gso, RxFrame, RxPools, TxFrame, TxFull};
pub use impair::{Depths, Faults, Faulty, Impairment, Line, Passage, Passed, complete_checksum, flip_bit, mark_ce};
pub use pcap::Pcap;
pub use queue::{Nic, Queue, QueueCounters, RxHint};
