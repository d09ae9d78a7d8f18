//! Comparisons side by side: the same load on several servers in turn, what each request cost them, and how far the
//! machine disturbed it.
//!
//! ```text
//!   Lab ── Net ──────── namespaces, a link per server               net.rs
//!    │     Contender ── a server process on a stack, at an address  stack.rs, server.rs
//!    │     Load ─────── its client (crate `load`)
//!    └──── Point ────── one window: Outcome, Cost, Noise            measure.rs, account.rs, noise.rs
//!   kinds ───────────── what is asked: plans, points, a report::Document
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`net`] | namespaces and links, which end with the process |
//! | [`cores`] | which cores |
//! | [`server`] | a server process: ours, or someone else's |
//! | [`stack`] | how a server of each stack is started |
//! | [`account`] | what a request costs the server |
//! | [`noise`] | waiting in the run queue, slices discarded for it, the verdict |
//! | [`measure`] | one window |
//! | [`stats`] | medians and paired ratios |
//! | [`progress`] | what is going on, and how long it will take |
//! | `room.rs` | [`Lab`]: all of it together |
//! | [`kinds`] | the benches, one file or folder each |
//!
//! Absent on purpose: command lines (`cli`), drawing (`report`), load from other machines (`fleet`).
#![forbid(unsafe_code)]

pub mod account;
pub mod cores;
pub mod kinds;
pub mod measure;
pub mod net;
pub mod noise;
pub mod progress;
mod room;
pub mod server;
pub mod stack;
pub mod stats;

use std::fmt;

pub use room::{Contender, Lab, utc};

/// Somebody asked for the end (Ctrl-C): not a failure of what was measured until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}
