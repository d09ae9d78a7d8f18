//! Load from several machines: agents that make it, and a coordinator that tells them what, and adds up what came of it.
//!
//! ```text
//!   coordinator                                            agent (one per machine)
//!   Crew::join  ◄── zygix-agent 0.1.0+1 ─────────────────  Agent::serve
//!               ── hello 0.1.0+1 ──────────────────────►      one coordinator at a time
//!               ── spec {its share of connections} ─────►     Load::linux: connections open
//!               ◄── alive 0 0 0 0 37, ... ok ────────────
//!   preload     ── preload ─────────────────────────────►     (one agent does it for all)
//!   run         ── run {its share of the rate} ─────────►     Load::run
//!               ◄── alive 5021 5000 0 0 100, ... ────────     every second: sent, answered, errors, stored, connected
//!               ── stop ────────────────────────────────►     (if wanted) ends it early, with what there is
//!               ◄── done {outcome, histograms} ──────────
//!               ── bye ─────────────────────────────────►
//! ```
//!
//! Lines of text over TCP, so that a session can be read off the wire and had by hand. An agent that stays silent for
//! [`SILENCE`], or whose connection ends, is gone: the run goes on with the others, and [`CrewOutcome::agents`] says who is missing and
//! why. Histograms travel whole, so percentiles of several machines are those of all requests together.
//!
//! | file | what |
//! |---|---|
//! | `line.rs` | lines of limited length over TCP |
//! | `message.rs` | what the lines say; what is refused |
//! | `agent.rs` | the agent: sessions, one after the other |
//! | `worker.rs` | the thread that has the load, so that the session can go on talking |
//! | `crew.rs` | the coordinator |
//!
//! Absent on purpose: authentication and secrecy. Who can reach an agent can make it send load anywhere, so it listens on loopback unless
//! told otherwise, and other addresses belong to networks that are trusted. Clocks are not compared between machines: windows begin when the
//! line arrives, half a round trip apart at most, which the warm-up covers.
#![forbid(unsafe_code)]

mod agent;
mod crew;
mod line;
mod message;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub use agent::Agent;
pub use crew::{AgentReport, Crew, CrewLive, CrewOutcome};
pub use message::VERSION;

/// How long an agent may say nothing. It says that it is alive every second while it works.
pub const SILENCE: Duration = Duration::from_secs(10);

/// What went wrong between coordinator and agents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The agent cannot listen there.
    #[error("cannot listen on {addr}: {cause}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot reach the agent at {addr}: {cause}; start it there with `zygix load agent --listen {addr}`")]
    Unreachable {
        /// The agent.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// It is an agent of another version.
    #[error("the agent at {addr} is of version {theirs}, this is {ours}: run the same version on all machines")]
    Version {
        /// The agent.
        addr: SocketAddr,
        /// Its version.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// The agent cannot do what it was asked, or is gone.
    #[error("the agent at {addr}: {what}")]
    Agent {
        /// The agent.
        addr: SocketAddr,
        /// What it says, or why it is taken for gone.
        what: String,
    },
    /// The work cannot be divided.
    #[error("{0}")]
    Share(String),
    /// No agent is left.
    #[error("no agent is left: {0}")]
    NoneLeft(String),
}
