//! TCP headers (RFC 9293 section 3.1) and the options that we speak (MSS, window scale, SACK, timestamps).
//!
//! ```text
//!   0          2          4      8      12       13     14       16      18       20
//!   | src port | dst port | seq  | ack  |off|rsv |flags | window | csum  | urgent | options
//! ```
//!
//! [`Header`] is the whole header as values; [`Segment`] is what the TCP engine wants to know of it.

mod flags;
mod header;
mod options;

pub use flags::Flags;
pub use header::{CHECKSUM_OFFSET, HEADER, Header, HeaderRef, MAX_HEADER, Segment, checksum_ok};
pub use options::{MAX_OPTIONS, Options, SackBlocks, Timestamps};
