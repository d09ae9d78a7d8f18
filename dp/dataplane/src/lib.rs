//! The dataplane: elastic threads that run to completion, and the loop around them.
//!
//! | file | what |
//! |---|---|
//! | `turn.rs` | one turn of an elastic thread: ingest, dispatch, complete, egress |
//! | `view.rs` | what the application sees of a batch, and how it answers |
//! | `runner.rs` | pinned threads around the turn; the idle policy |
//!
//! The turn takes `now` and does a bounded amount of work: the runner drives it with the clock, a simulator may drive it with
//! its own. Deliberately absent: stealing and lending (dp/shuffle, when it comes), protection keys (dp/guard), and policies.
#![forbid(unsafe_code)]

mod runner;
mod turn;
mod view;

pub use runner::{Dataplane, Idle, RunError, RunnerConfig};
pub use turn::{ElasticThread, Turn};
pub use view::{App, BatchView};
