//! When a service gets more of the machine, when less, and what: pure functions of what its cores report.
//!
//! ```text
//!    Sense ──► Loop::decide ──► Decision { up, down, hold; and why }
//!               │      │
//!             Rules  Ladder: configurations in the order in which they are taken
//!              when    what
//! ```
//!
//! *When* to add is decided by the delay that the queues mean for who comes last, against a share of the objective; and, before there is a queue, by where the load
//! is going. *When* to remove, by idle time, against what the last step had brought. *What*, by the [`Ladder`] (thesis section 2.4.6 and 2.6).
//! The control plane and the simulator call the same code, ten times a second. Nothing here reads a clock, a file, or acts.
//!
//! | file | what |
//! |---|---|
//! | `sense.rs` | [`Sense`]: what the cores report |
//! | `rules.rs` | [`Rules`]: the thresholds, and which of them make no sense |
//! | `ladder.rs` | [`Ladder`]: `energy`, `consolidate`, `static`, `minmax` |
//! | `pareto.rs` | a ladder from a search over the configurations of a machine, and its text |
//! | `control.rs` | [`Loop`], [`Decision`], [`Reason`] |
//! | `mistake.rs` | steps down that had to be taken back, and are not repeated for a while |
//! | `demand.rs` | how much load there is, where it is going, how it jumps |
//! | `balance.rs` | [`balance`]: which flow groups go where, so that the cores are even; [`even_out`]: when that is worth it |
#![forbid(unsafe_code)]

mod balance;
mod control;
mod demand;
mod ladder;
mod mistake;
mod pareto;
mod rules;
mod sense;

pub use balance::{Evened, Group, balance, even_out};
pub use control::{Decision, Loop, Reason};
pub use ladder::{Ladder, LadderError, Step};
pub use pareto::{Entry, Table};
pub use rules::{Rules, RulesError};
pub use sense::{CoreSense, Sense};
