//! The real system on any number of cores, in virtual time.
//!
//! ```text
//!    openloop: clients, real frames          dataplane: turn, shuffle layer, stealing, lending            spin: the application
//!           │                                      │        netstack, tcp                                      │
//!           └── Charged: each frame takes time ────┘                                                           └── takes the time that its
//!                                                  │                                                               requests say
//!                                     engine: an agenda of events, one standing clock
//! ```
//!
//! There is no scheduling, TCP or policy here: the very code that serves on a machine runs, and only time is modelled. An elastic thread's turn is called in its
//! parts; what each part costs ([`Costs`]) passes on the clock before the next, and its network layers stay held for so long. Everything happens
//! on one thread, in the order of the agenda, so the same [`Setup`] gives the same bytes.
//!
//! | file | what |
//! |---|---|
//! | `engine.rs` | cores, interrupts, stalls |
//! | `agenda.rs` | events in order |
//! | `control.rs` | flow groups that move, cores that are parked and unparked: [`Moves`] |
//! | `charged.rs` | a queue whose frames take time |
//! | `costs.rs` | [`Costs`]: what operations take |
//! | `measure.rs` | [`measure`] a load, or a [`closed_loop`]; find the [`max_load`] at an objective |
//! | [`campaign`] | worlds drawn from seeds, and what must hold in each |
//! | `clients.rs` | two loads at one world's queues |
//! | `skew.rs` | [`skew`]: some connections carry most of the load; the control plane's rule evens it out |
//! | `replay.rs` | [`replay`]: a configuration is changed under load |
//! | `trace.rs` | one line per transition |
//!
//! Idle cores see what comes after [`Costs::poll_ns`]; they do not sleep. Absent on purpose: caches, hyperthreads, memory bandwidth. At most 64 cores.
#![forbid(unsafe_code)]

mod agenda;
pub mod campaign;
mod charged;
mod clients;
mod control;
mod costs;
mod engine;
mod measure;
mod replay;
mod skew;
mod trace;

pub use control::Moves;
pub use costs::Costs;
pub use engine::Stalls;
pub use measure::{Found, Row, Setup, closed_loop, max_load, measure};
pub use replay::{Configuration, Replay, Replayed, replay};
pub use skew::{Placed, Skew, Skewed, Window, skew};
pub use trace::Trace;

/// Why a world does not come to be, or ends.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// More cores than a word has bits, or none.
    #[error("{0} cores; a world has 1 to 64")]
    Cores(usize),
    /// A load that is none.
    #[error("a load of {0}; use more than 0, and at most 1.5 (1 is all cores busy with the application)")]
    Load(f64),
    /// A load that changes.
    #[error("a pattern of load: {0}")]
    Pattern(String),
    /// A file of costs.
    #[error("costs in {0}: {1}")]
    Costs(String, String),
    /// Memory.
    #[error("{0}")]
    Memory(#[from] mem::MemError),
    /// The load generator.
    #[error("{0}")]
    OpenLoop(#[from] openloop::OpenLoopError),
    /// The load generator's configuration.
    #[error("{0}")]
    Config(#[from] openloop::ConfigError),
    /// What must hold does not.
    #[error("seed {seed}: {what}")]
    Broken {
        /// The seed that shows it.
        seed: u64,
        /// What went wrong, and in what world.
        what: String,
    },
}
