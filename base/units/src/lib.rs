//! The words every plane shares: instants and spans in nanoseconds, names of cores and flow groups, and counters with one writer.
//!
//! Nothing here knows of a clock, a thread or a packet. Values are plain integers behind types, so that a
//! microsecond cannot be passed for a nanosecond, nor a core for a flow group.
#![forbid(unsafe_code)]

mod counter;
mod groups;
mod id;
mod nanos;

pub use counter::Counter;
pub use groups::GroupSet;
pub use id::{CoreId, FLOW_GROUPS, FlowGroupId};
pub use nanos::Nanos;
