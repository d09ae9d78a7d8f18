//! What the control plane sets on a machine, beside the dataplanes: clocks, turbo mode, and where background jobs may run; and what it reads: topology and power.
//!
//! ```text
//!   Clocks  Turbo  Job (Group)          Topology   Rapl
//!      \      |      /   change             |  read  |
//!       v     v     v                       v        v
//!          Knobs ------- writes -------->  Tree:  /  or a directory that looks like it
//!            | remembers what it found, restores it at the end;
//!            v a file keeps that for the next start, should this one be killed
//!          record
//! ```
//!
//! | file | what |
//! |---|---|
//! | `tree.rs` | [`Tree`]: the kernel's files, real or fake; lists of cpus |
//! | `knobs.rs` | [`Knobs`]: every change, remembered before it is made |
//! | `topology.rs` | [`Topology`]: hardware threads, cores, packages |
//! | `clock.rs`, `turbo.rs` | [`Clocks`], [`Turbo`]: cpufreq in its ways, and both switches of turbo mode |
//! | `cgroup.rs` | [`Group`]: cpuset and freezer of control groups, versions 1 and 2, also mixed |
//! | `background.rs` | [`Job`]: a command, processes, or somebody's control group |
//! | `power.rs` | [`Rapl`]: watts from energy counters |
//! | `error.rs` | [`ActuateError`]: one line each |
//!
//! Nothing here decides anything, and nothing knows dataplanes. Left out: clocks by MSR, `cpufreq` drivers' own files beyond `intel_pstate`'s, idle states, power of a
//! battery, taking cpus offline.
#![forbid(unsafe_code)]

mod background;
mod cgroup;
mod clock;
mod error;
mod knobs;
mod power;
mod topology;
mod tree;
mod turbo;

pub use background::{Job, Source};
pub use cgroup::{Group, Hierarchies};
pub use clock::{Clocks, Speed};
pub use error::ActuateError;
pub use knobs::Knobs;
pub use power::Rapl;
pub use topology::{Cpu, Topology};
pub use tree::{Tree, parse_cpus, show_cpus};
pub use turbo::Turbo;
