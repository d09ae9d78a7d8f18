//! A link with faults between two interfaces: whatever stack is at either end, its frames meet the same impairments.
//!
//! ```text
//!   namespace 1                        this process                          namespace 2
//!   Linux ---- TAP ---- Queue a == [Impairment a->b] ==> Queue b ---- TAP ---- Linux, or a bridge device
//!                                <== [Impairment b->a] ==                        with Zygix's TAP as another port
//! ```
//!
//! | file | what |
//! |---|---|
//! | `bridge.rs` | [`Bridge`]: any two [`Queue`](nic::Queue)s, a direction at a time; one thread that sleeps until something is due |
//! | `taps.rs` | [`between`]: two TAPs in two namespaces, joined |
//!
//! **Offloads.** A share of lost frames has to be a share of lost segments, and a damaged frame must carry a checksum that is
//! wrong. So the TAPs are opened without the virtio header: on these two interfaces Linux has no TSO, no checksum offload and no large
//! receive, and hands over MTU-sized frames whose checksums are in place, whichever offloads the sender's own interface has. Queues
//! that receive super-frames are refused. Checksums that another kind of queue only promises are filled in.
//!
//! Memory is bounded: by the pool of 8192 buffers for what is under way both ways; what finds none waits in the interface's own queue.
//!
//! Absent on purpose: learning addresses (there are two ends), more than one flow of time (each direction has one line), routing.
#![forbid(unsafe_code)]

mod bridge;
mod taps;

pub use bridge::{Bridge, Pumped, Running, Seen};
pub use taps::{End, between};
