//! Benches of the dataplane itself, over the shm wire: no Linux network, no load generator, both ends ours.
//!
//! | file | what |
//! |---|---|
//! | `echo.rs` | messages per second through one server core |
//! | `rig.rs` | both ends of a wire on one thread, turn by turn, in virtual time |
//! | `idle.rs` | memory per idle connection |
//! | `scale.rs`, `crowd.rs` | a million connections: memory and throughput; their client, which keeps 16 bytes of each |
//! | `flood.rs` | SYNs that nobody stands by, beside connections that are served |
//! | `client.rs` | the client: an application on the raw ABI |
//!
//! Every result is labelled as an emulated wire. `examples/count.rs` is the program whose instructions callgrind counts,
//! `examples/crowd.rs` the one whose cache misses it does.
#![forbid(unsafe_code)]

mod client;
mod crowd;
mod echo;
mod flood;
mod idle;
mod rig;
mod scale;

pub use client::{Client, Tally};
pub use echo::{EchoConfig, EchoResult, echo};
pub use flood::{FloodConfig, FloodResult, flood};
pub use idle::{IdleResult, idle};
pub use rig::{CrowdRig, Rig};
pub use scale::{ScaleConfig, ScaleRow, scale};
