//! The benches, one file or folder each.
//!
//! A bench is a function from a [`Lab`] and what was [asked](Asked) to a [`Finding`]: it plans its points, starts the servers,
//! measures all of them in alternation ([`alternate`]), and fills a [`report::Document`]. A Ctrl-C on the way ([`Interrupted`])
//! ends the measuring, not the bench: what there is by then is the document, marked. [`finish`] does that for all of them.
//!
//! | file | what |
//! |---|---|
//! | [`hunt`] | for all of them: a server with its client, the maximum at an objective, curves |
//! | [`stacks`] | the same applications on all stacks: maximum load at an SLO, latency, server time |
//! | [`pingpong`] | one message at a time, by size: latency and bandwidth |
//! | [`churn`] | connections that live for 1 to 1024 messages |
//! | [`sizes`] | many messages of 64 B to 8 KB |
//! | [`batch`] | latency against throughput by the bound of a batch |
//! | [`bulk`] | one connection's goodput by wire and fault, beside Linux's; how flows share a slow link |
//! | [`sched`] | the four ways to schedule, on all cores, against the model; and [`sched::stall`] |
//! | [`spin`] | work of known length on the Linux stacks, against what queueing theory allows |
//! | [`migrate`] | flow groups that move under load, cores that are added and removed |
//! | [`pareto`] | what each configuration of this machine carries, draws and leaves to others; it needs no [`Lab`] |
//! | [`calibrate`] | what operations take on this machine, for simulated worlds; it needs no [`Lab`] |
//! | [`xdp`] | a store on Linux and on Zygix over one veth, with a client that is on AF_XDP |
//! | [`truth`] | the load generator against known answers |
//! | `side.rs`, `grid.rs` | what these six share: a server with its client, and measurements laid out by both |
//! | `rig/` | the dataplane on cores of this machine, on the open-loop NIC, in this process |

use anyhow::Result;
use load::draw::Sizes;
use load::requests::{Echo, Kv, Workload};
use report::Document;
use units::Nanos;

use crate::noise::Question;
use crate::{Interrupted, Lab};

pub mod batch;
pub mod bulk;
pub mod calibrate;
pub mod churn;
mod grid;
pub mod hunt;
pub mod migrate;
pub mod pareto;
pub mod pingpong;
mod rig;
pub mod sched;
mod side;
pub mod sizes;
pub mod spin;
pub mod stacks;
pub mod truth;
pub mod xdp;

pub use grid::{Extent, text};

/// What all benches are asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The command line, for the document.
    pub command: String,
    /// The length of a measured point.
    pub point: Nanos,
    /// How often each point is measured.
    pub repeats: u32,
    /// Records of a store.
    pub records: u32,
}

/// What a bench has come to.
pub struct Finding {
    /// For programs and for the report.
    pub document: Document,
    /// For people: a table.
    pub text: String,
    /// Requests that went wrong where none should have.
    pub errors: u64,
    /// It was ended early.
    pub interrupted: bool,
}

/// The order in which round number `round` measures `n` contenders: whoever went first goes last next time, so that a machine
/// that slows down or speeds up favours nobody.
pub fn alternate(n: usize, round: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Whether the bench went through: an interruption is no failure.
///
/// # Errors
/// Those that are failures.
pub fn went_through(measured: Result<()>) -> Result<bool> {
    match measured {
        Ok(()) => Ok(true),
        Err(e) if e.is::<Interrupted>() => Ok(false),
        Err(e) => Err(e),
    }
}

/// A document of the bench, with what the lab knows; `through` is [`went_through`]'s answer.
///
/// # Errors
/// /proc is not mounted.
pub fn finish(
    lab: &Lab,
    kind: &str,
    title: &str,
    asked: &Asked,
    questions: &[Question],
    through: bool,
) -> Result<Document> {
    let mut document = lab.document(kind, title, &asked.command, questions)?;
    document.seconds_per_point = asked.point.as_secs_f64();
    document.repeats = asked.repeats;
    if !through {
        document.notes.insert(0, "Interrupted: these are the results so far.".into());
    }
    Ok(document)
}

/// Echo of messages of so many bytes.
pub fn echo(bytes: u32) -> Workload {
    Workload::Echo(Echo { size: Sizes::fixed(bytes) })
}

/// Facebook's USR on so many records.
pub fn usr(records: u32) -> Workload {
    Workload::Kv(Kv { records, ..Kv::usr() })
}

/// Facebook's ETC on so many records.
pub fn etc(records: u32) -> Workload {
    Workload::Kv(Kv { records, ..Kv::etc() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_round_goes_the_other_way() {
        assert_eq!(alternate(3, 0), [0, 1, 2]);
        assert_eq!(alternate(3, 1), [2, 1, 0]);
        assert_eq!(alternate(3, 2), alternate(3, 0));
    }

    #[test]
    fn an_interruption_is_no_failure() {
        assert!(went_through(Ok(())).unwrap());
        assert!(!went_through(Err(Interrupted.into())).unwrap());
        assert!(went_through(Err(anyhow::anyhow!("worse"))).is_err());
    }
}
