//! The dataplane: elastic threads that run to completion, and the loop around them.
//!
//! | file | what |
//! |---|---|
//! | `turn.rs` | one turn of an elastic thread: begin, run, resume; what these are in IX mode |
//! | `zygos.rs` | what they are in ZygOS mode: the same, and stealing and lending |
//! | `station.rs` | what cores know of each other, and do for each other |
//! | `sched.rs` | the modes |
//! | `mover.rs` | flow groups change cores: the steps, and whose they are |
//! | `control.rs` | the controller: asks for moves, parks and unparks cores, keeps the times |
//! | `view.rs` | what the application sees of a batch, and how it answers |
//! | `publish.rs` | what the cores have counted, as the metrics page tells it |
//! | `runner.rs` | pinned threads around the turn; the idle policy |
//!
//! The turn takes `now` and does a bounded amount of work: the runner drives it with the clock, a simulator may drive it with
//! its own. Deliberately absent: the queues by which work travels (dp/shuffle), protection keys, and policies.
#![forbid(unsafe_code)]

mod control;
mod mover;
mod publish;
mod runner;
mod sched;
mod station;
mod turn;
mod view;
mod zygos;

pub use control::{Controller, CoreState, MoveError, Report, Request, Steer, Wish};
pub use publish::{Place, Publisher};
pub use runner::{Dataplane, Idle, RunError, RunnerConfig};
pub use sched::{Assist, Sched};
pub use station::{Crew, Hold, Line};
pub use turn::{Call, ElasticThread, Step, Turn};
pub use view::{App, BatchView};
