//! What queueing theory says of a server: how long requests stay when nothing but waiting and work takes time.
//!
//! ```text
//!   central          ---> [ | | ] ---> n servers      one queue, first come first served: the bound no scheduler without preemption beats
//!   partitioned      --+--> [ | | ] ---> 1            n queues, each request dealt to one at random: what hashing flows to cores gives
//!                      +--> [ | | ] ---> 1
//!   ps               ---> all present share n servers, one server each at most
//!   ps-partitioned   --+--> all present share 1       ... n times, dealt at random
//!                      +--> all present share 1
//!   steal            --+--> [ | | ] ---> 1 --+        as partitioned, but a server without work takes the oldest
//!                      +--> [ | | ] ---> 1 <-+        request of another queue, at no cost
//!   quantum:Q        ---> [ | | ] ---> n servers --+  one queue; after Q a request goes back to its end
//!                          ^-----------------------+
//!
//!   draw: gaps, work, picks ---> models ---> stays ---> measure: percentiles at given loads
//!                                                  +--> limit: the load at which p99 meets an objective
//! ```
//!
//! | file | what |
//! |---|---|
//! | `system.rs` | [`System`]: servers, policy, work and gaps; policies as text |
//! | `models/` | one file for each kind of policy, and `earliest.rs`: which server is free first |
//! | `feed.rs` | requests in: the same random numbers for several loads at once; warm-up out |
//! | `measure.rs`, `histogram.rs` | [`measure`]: percentiles, means and slowdowns at given loads |
//! | `limit.rs` | [`max_load`]: the highest load that meets a latency objective, with its confidence interval |
//! | `replications.rs`, `student.rs` | independent runs on all cores; what may be concluded from them |
//! | [`closed`] | the formulas that need no simulation; the models are tested against them first of all |
//! | [`reference`](mod@reference) | the table of highest loads that others have found, for comparison |
//!
//! Time has no unit here: the mean service time is 1, and the load is arrivals a unit over servers. Nothing here reads a clock: what may
//! take long is watched, and ended, through [`Watch`]. Equal seeds give equal answers, on any number of threads.
//!
//! Near a load of 1 runs must be long: a queue forgets its past only after about 4 v / (1 - load)^2 requests (v: half the sum of the squared
//! coefficients of variation of gaps and work, 1 for M/M, 125 for bimodal-2; that is 40 000 requests at 0.99 for M/M, four
//! million at 0.999), and that many times the servers where queues do not help one another. The lengths chosen here keep to that; whoever
//! chooses others should too.
//!
//! Absent on purpose: any cost of the network, of stealing and of interrupts; flows, and the order that they demand.
#![forbid(unsafe_code)]

pub mod closed;
mod feed;
mod histogram;
mod limit;
mod measure;
mod models;
pub mod reference;
mod replications;
mod student;
mod system;

pub use limit::{Answer, Question, max_load};
pub use measure::{Row, measure};
pub use replications::{Effort, Watch};
pub use system::{MAX_SERVERS, Policy, System};
