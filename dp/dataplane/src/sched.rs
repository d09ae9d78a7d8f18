//! Which core runs what, chosen at start.

use std::fmt;

/// How ready connections get to the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sched {
    /// Partitioned: each core runs what its own flow groups have, in batches (thesis chapter 2).
    #[default]
    Ix,
    /// Work-conserving: idle cores steal ready connections (thesis chapter 3).
    Zygos(Assist),
}

/// What an idle core does that finds network work at a core which is in application code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Assist {
    /// Waits until that core comes back: the cooperative baseline.
    None,
    /// Interrupts it, by a signal, as ZygOS does.
    Ipi,
    /// Does the work in its stead: the network layer is behind a lock that is free while application code runs.
    #[default]
    Lend,
}

impl fmt::Display for Sched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sched::Ix => f.write_str("ix"),
            Sched::Zygos(assist) => write!(f, "zygos, {assist}"),
        }
    }
}

impl fmt::Display for Assist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Assist::None => "none",
            Assist::Ipi => "ipi",
            Assist::Lend => "lend",
        })
    }
}
