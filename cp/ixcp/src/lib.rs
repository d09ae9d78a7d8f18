//! The control plane: it looks at dataplanes ten times a second, asks policies, and acts.
//!
//! ```text
//!            Daemon: every 100 ms
//!              |
//!      for each dataplane: Governor                                    Host
//!        sense    page -> policy::Sense        sensing.rs                topology, clocks, power, background jobs
//!        decide   policy::Loop                                             ^
//!        act      park, unpark, pin, move  <-- plan.rs -- who is where --- set clocks, give cpus
//!              |
//!           View, History, Journal  ----> http.rs: page, /metrics, /api        `zygix top`
//! ```
//!
//! A dataplane does not need it: it serves on, as it was last set, when the control plane ends or is killed, and is taken over by the next. At its end the control plane
//! takes back what it has changed.
//!
//! | file | what |
//! |---|---|
//! | `config.rs`, `example.toml` | the configuration, and what is wrong with one |
//! | `daemon.rs` | [`Daemon`]: the loop |
//! | `governor.rs` | one dataplane: sense, decide, act; gone and back |
//! | `plane.rs` | [`Plane`]: a dataplane as the governor needs it; the attached one |
//! | `sensing.rs` | from two snapshots to what policies are told, and people |
//! | `plan.rs` | from a configuration to elastic threads and cpus |
//! | `host.rs` | the machine: what it has, what it lacks, who gets what |
//! | `instance.rs` | one control plane per host: lock, record of changes, where it is |
//! | `journal.rs` | decisions and events, with reasons |
//! | `view.rs` | [`View`]: what it knows now; [`History`]: the last ten minutes |
//! | `http.rs`, `page.html`, `metrics.rs` | seeing it: web page, Prometheus |
//!
//! Absent on purpose: policies (crate `policy`), files of the kernel (crate `actuate`), shared memory (crate `attach`).
#![forbid(unsafe_code)]

mod config;
mod daemon;
mod governor;
mod host;
mod http;
mod instance;
mod journal;
mod metrics;
mod plan;
mod plane;
mod sensing;
mod view;

pub use config::{Config, ConfigError, EXAMPLE, JobConfig, LISTEN, PlaneConfig, Policy};
pub use daemon::{Daemon, Options, Report};
pub use http::get;
pub use instance::{Instance, InstanceError, Whereabouts, whereabouts};
pub use journal::{Event, Kind};
pub use plan::{machine, speed};
pub use plane::{Attach, Plane};
pub use sensing::Senses;
pub use view::{CoreView, History, HostView, JobView, PlaneView, Sample, View};
