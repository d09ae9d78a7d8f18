//! Echo, and services like it: a sink that digests what it reads, a source of a known pattern, and RFC 863's and RFC 864's.
//!
//! ```text
//!  echo     client  --- bytes ---------------------->  the same bytes
//!  discard  client  --- bytes, then FIN ------------>  "<count> <digest>\n", close
//!  source   client  --- "<count>\n" ---------------->  that many bytes of the pattern, close
//!  sink     client  --- bytes ---------------------->  nothing (RFC 863)
//!  chargen  client  <-- lines of characters ---------  until the client closes (RFC 864)
//! ```
//!
//! With discard and source a bulk transfer in either direction is checked end to end: [`Digest`] and [`pattern`] are
//! public so that the other end computes the same. Which of them a connection meets is decided by the local
//! port it came to. Datagrams are echoed on ports of the echo mode, and answered
//! with up to 512 characters on those of chargen: at most once each, and never those that claim to come from a service that answers.
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | the modes as one `Service` |
//! | `digest.rs` | the checksum of a byte stream, blind to how it was cut |
//! | `pattern.rs` | the byte at any offset of the source, and of chargen |
#![forbid(unsafe_code)]

mod digest;
mod pattern;
mod service;
#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use pattern::{chargen, pattern};
pub use service::{Conn, Core, Echo, Mode};
