//! A bad wire: what happens to frames, decided by a seed, and a queue behind such a wire.
//!
//! ```text
//!   frame -> lost? damaged? twice? -> | a queue in bytes, a rate | -> latency, jitter, late ones -> frame
//!                                       drops its tail, marks CE
//! ```
//!
//! | file | what |
//! |---|---|
//! | `impairment.rs` | [`Faults`], and the one place that decides: [`Impairment`]. Pure: no clock, no frame |
//! | `line.rs` | frames under way, by the instant at which they come out |
//! | `depths.rs` | how full the queue was |
//! | `bytes.rs` | what is done to a frame: a bit turned over, CE, a checksum filled in |
//! | `faulty.rs` | [`Faulty`]: any [`Queue`](crate::Queue) behind such a wire |
//!
//! The crate `bridge` joins two queues by two of them, one for each way.

mod bytes;
mod depths;
mod faulty;
mod impairment;
mod line;

pub use bytes::{complete_checksum, flip_bit, mark_ce};
pub use depths::Depths;
pub use faulty::Faulty;
pub use impairment::{Faults, Impairment, Passage, Passed};
pub use line::Line;
