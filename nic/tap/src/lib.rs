//! The default NIC: a multi-queue TAP device. Linux itself is the wire and the peer.
//!
//! ```text
//!   TapNic::open(TapConfig) -- one function: all queues, identical flags, header size, offloads, steering, link up
//!      | queues()
//!      v
//!   TapQueue  one descriptor     readv  [vnet header 12][mbuf][spill 64 KB]
//!                                writev [vnet header 12][head][payload ...]
//!   Linux -> steering program: flow group of the frame -> BPF array of 128 -> queue       (set_reta: one plain store)
//! ```
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what to open |
//! | `device.rs` | the ioctls |
//! | `steering.rs` | the flow-group function, in Rust and as a program for the kernel |
//! | `vnet.rs` | the virtio header: checksums and super-frames |
//! | `queue.rs` | receive and transmit |
//! | `tap_nic.rs` | opening, the redirection table |
//! | `error.rs` | refusals |
//!
//! With the virtio header, partial checksums and TCP super-frames of up to 64 KB pass in both directions. Without the
//! privilege for bpf(2) (an unprivileged user in a namespace of its own) the device works, but the kernel spreads frames as
//! it likes: [`nic::Steering::Software`]. Transmission enters the kernel at once, frame by frame (about 1 us each), so
//! there is no doorbell; IFF_NAPI is not used, being slower.
//!
//! Absent on purpose: namespaces and routes (the caller enters one first), persistence, TUN.
//!
//! # Soundness
//! Unsafe code is in `device.rs` only: ioctls whose arguments are integers and one `ifreq`, all live for the call.

mod config;
mod device;
mod error;
mod queue;
mod steering;
mod tap_nic;
mod vnet;

pub use config::TapConfig;
pub use error::TapError;
pub use queue::TapQueue;
pub use steering::{FlowHash, Steering, look_up};
pub use tap_nic::TapNic;
