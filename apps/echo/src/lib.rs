//! Echo, and two services like it: a sink that digests what it reads, and a source of a known pattern.
//!
//! ```text
//!  echo     client  --- bytes ---------------------->  the same bytes
//!  discard  client  --- bytes, then FIN ------------>  "<count> <digest>\n", close
//!  source   client  --- "<count>\n" ---------------->  that many bytes of the pattern, close
//! ```
//!
//! With the last two a bulk transfer in either direction is checked end to end: [`Digest`] and [`pattern`] are
//! public so that the other end computes the same. Which of the three a connection meets is decided by the local
//! port it came to. Datagrams are echoed on ports of the echo mode.
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | the three modes as one `Service` |
//! | `digest.rs` | the checksum of a byte stream, blind to how it was cut |
//! | `pattern.rs` | the byte at any offset of the source |
#![forbid(unsafe_code)]

mod digest;
mod pattern;
mod service;
#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use pattern::pattern;
pub use service::{Conn, Echo, Mode};
