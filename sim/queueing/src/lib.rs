//! What queueing theory says of a server: how long requests stay when nothing but waiting and work takes time.
//!
//! ```text
//!   fcfs:  ---> [ | | ] ---> n servers      one queue, first come first served: the bound no scheduler without preemption beats
//!   partitioned:  --+--> [ | | ] ---> 1     n queues, each request sent to one at random: what hashing flows to cores gives
//!                   +--> [ | | ] ---> 1
//! ```
//!
//! Files: [`simulate`](fcfs) G/G/n in virtual time; `sojourns` what came out; [`closed`] the formulas that need no simulation; `limit`
//! the load at which a latency objective is met.
//!
//! Time has no unit here: a mean service time of 1 is customary, and the load is then arrivals a unit over servers. Nothing here reads a
//! clock. Absent on purpose: processor sharing, preemption, stealing and any cost of the network.
#![forbid(unsafe_code)]

pub mod closed;
mod limit;
mod simulate;
mod sojourns;

pub use limit::{Discipline, Question, Rng, max_load};
pub use simulate::{fcfs, partitioned};
pub use sojourns::Sojourns;
