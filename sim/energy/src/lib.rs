//! Four minutes of varying load under the control plane's real policies, on a machine that is modelled: what energy is saved, what is left for others, how often
//! the objective is missed (thesis section 2.6).
//!
//! ```text
//!   Pattern ──► cores: queues in batches, or one pool ──► meters: averages every 10 ms ──► policy::Loop, ten times a second
//!                  ▲                                                                              │
//!                  └── Service at a machine::State, flow groups by policy::balance ◄──────────────┘
//! ```
//!
//! The policies, their loop and the placing of flow groups are the code that serves; cores are coarser than in `world`: a thread is a queue with bounded batches
//! whose requests all take as long, so that millions a second take seconds to simulate. The second around each reconfiguration can be held against `world`: [`replay`].
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | [`Service`]: what a request takes, in which configuration; what a background job does |
//! | `pattern.rs` | [`Pattern`]: slope, step, sine with noise |
//! | `cores.rs`, `pool.rs` | the cores: partitioned (IX), or with stealing (ZygOS) |
//! | `latency.rs` | percentiles |
//! | `meters.rs` | what a dataplane publishes, from what the cores did |
//! | `moves.rs` | reconfigurations: who owns which flow group, and what it costs to change that |
//! | `run.rs` | [`run`]: four minutes |
//! | `react.rs` | [`react`]: how soon more is added after a jump of the load |
//! | `bound.rs` | [`Bounds`], [`Frontier`]: what static configurations make of a load |
//! | `replay.rs` | [`replay`]: the second around a reconfiguration, here and in the simulator of the real code |
#![forbid(unsafe_code)]

mod bound;
mod cores;
mod latency;
mod meters;
mod moves;
mod pattern;
mod pool;
mod react;
mod replay;
mod run;
mod service;

pub use bound::{Bounds, Frontier, Point};
pub use moves::Moved;
pub use pattern::Pattern;
pub use react::{Jump, Reaction, react};
pub use replay::{Replayed, replay};
pub use run::{Change, Outcome, Sched, Second, Setup, run};
pub use service::Service;
