//! Datagrams put together from their fragments (RFC 791 section 3.2, RFC 815, RFC 8200 section 4.5), within fixed bounds.
//!
//! ```text
//!   piece (key, offset, len, more) ──► Table ──┬─► kept: wait for the others
//!                                              ├─► whole: all pieces, in order
//!                                              └─► refused: an overlap, a contradiction; all of that datagram goes
//!                          expire(now) ────────┴─► too late: the first piece, if it came, for the ICMP error
//! ```
//!
//! What a peer can make us hold is bounded three times: datagrams in the table, datagrams of one source, pieces of one datagram and of
//! all. Where a bound is met, the oldest makes room: of that source, if it is the source's bound. So who floods pushes out its own.
//! Fragments that overlap are never merged: their datagram is dropped (RFC 5722, for IPv4 as well: RFC 1858's attacks need overlaps). A
//! duplicate of a piece that we have is passed over (RFC 8200 section 4.5 lets us), for networks do duplicate.
//!
//! The table knows neither buffers nor headers: a piece's bytes are a `T` of the caller's. No clock, no allocation after construction.
//! Work per piece is bounded by [`PIECES`] and the number of datagrams.
#![forbid(unsafe_code)]

mod table;

pub use table::{Key, Limits, Outcome, PIECES, Piece, Refused, Table, Whole};

#[cfg(test)]
mod tests;
