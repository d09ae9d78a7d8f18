//! The network layer of one core: frames in, connections served, frames out.
//!
//! ```text
//!   NIC queue ─ rx.rs ─┬─ neighbours.rs ndp.rs   icmp.rs path_mtu.rs   fragments.rs
//!                      ├─ udp.rs
//!     ahead.rs         └─ tcp_in.rs ── FlowGroup { FlowTable, half-open entries, Conn }   flow_group.rs flow_table.rs conn.rs
//!                                          │  ready list                     ▲
//!                                          ▼                                 │ syscalls.rs
//!                                       dispatch ──── Batch (batch.rs) ── complete
//!   NIC queue ─ tx.rs ◄─ output of dirty connections, timers.rs
//! ```
//!
//! While SYNs flood, flood.rs looks at a burst first and answers them in short.
//!
//! Flow groups come from and go to other stacks: moves.rs, and trips.rs for the batches that were out meanwhile.
//!
//! A [`Stack`] is one value per core, reached only through its `StackGuard`; [`Shared`] is what all stacks read.
//! Flow groups are values that own their connections and half-open entries; for every frame the owner word of its group
//! decides who handles it ([`Shared::owner`]), whichever queue delivered it.
//!
//! Deliberately absent: threads, sleeping, the application (dp/dataplane), TCP itself (proto/tcp), and
//! anything that allocates after construction, but for the slabs of connections that grow with their number.
#![forbid(unsafe_code)]

mod addresses;
mod ahead;
mod batch;
mod bucket;
mod config;
mod conn;
mod drop_reason;
mod early;
mod flood;
mod flow_group;
mod flow_table;
mod fragments;
mod half_open;
mod icmp;
mod metrics;
mod moves;
mod ndp;
mod neighbours;
mod path_mtu;
mod ports;
mod rx;
mod shared;
mod slips;
mod stack;
mod syscalls;
mod tcp_in;
mod timers;
mod trips;
mod tx;
mod udp;

pub use batch::{Batch, Datagram, Entry, Pending};
pub use config::{Network, PoolSizes, StackConfig};
pub use drop_reason::DropReason;
pub use flow_group::CONN_BYTES;
pub use metrics::Metrics;
pub use moves::{Busy, GRACE, ORDER, Parcel};
pub use shared::{PostError, Shared};
pub use slips::{NARROW_MAX, Work};
pub use stack::{Progress, Stack};
