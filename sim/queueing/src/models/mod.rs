//! The policies in virtual time. A model takes requests in the order of their arrival and tells how long each stays, as soon as that is
//! known: first come first served knows it on arrival, sharing only when the request leaves.
//!
//! | file | what |
//! |---|---|
//! | `earliest.rs` | which of n servers is free first |
//! | `fcfs.rs` | first come first served, one queue or many |
//! | `sharing.rs` | processor sharing, together or by server |
//! | `steal.rs` | a queue for each server, and stealing |
//! | `quantum.rs` | round robin |

mod earliest;
mod fcfs;
mod quantum;
mod sharing;
mod steal;

pub(crate) use fcfs::{Central, Partitioned};
pub(crate) use quantum::Quantum;
pub(crate) use sharing::{PartitionedSharing, Sharing};
pub(crate) use steal::Steal;

use crate::system::System;
use draw::Rng;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Job {
    /// Which one, in the order of arrival.
    pub(crate) nth: u64,
    /// When it arrived.
    pub(crate) at: f64,
    /// How long it keeps a server busy.
    pub(crate) work: f64,
}

/// A policy in virtual time.
pub(crate) trait Model: Sized {
    /// Whether requests are dealt to servers: where not, nobody need draw a pick.
    const DEALS: bool;

    /// As `system` says, empty at time 0. `rng` is for choices of the policy itself.
    fn new(system: &System, rng: Rng) -> Self;

    /// Takes `job`, which does not arrive before the last one, at the server that `pick` (0..1) names if requests are dealt. `done` is told of
    /// requests, this or earlier ones, and how long they stay.
    fn arrive(&mut self, job: Job, pick: f64, done: &mut impl FnMut(Job, f64));

    /// No more come: `done` is told of all that are left.
    fn drain(&mut self, done: &mut impl FnMut(Job, f64));
}

/// The server that a `pick` (0..1) names.
fn dealt(pick: f64, servers: usize) -> usize {
    ((pick * servers as f64) as usize).min(servers - 1)
}

#[cfg(test)]
pub(crate) mod testing;
