//! The TCP engine: RFC 9293 as a value that is told what happened and says what to do.
//!
//! ```text
//!            segment_arrives(now, segment)          send / consumed / shutdown / close / abort
//!                        |                                        |
//!                        v                                        v
//!   listen::HalfOpen --> Tcb  (sequence ranges, no bytes, no clock, no allocation)
//!   cookie::SynCookies   |                          |
//!                        v                          v
//!            Arrival: what the caller keeps,   poll_transmit -> Emit: "a segment of these
//!            frees, tells its user             flags and of these bytes of the send queue"
//! ```
//!
//! The caller (`netstack`; the simulator; the tests) owns the bytes: the send queue, the in-order and the
//! out-of-order receive queues. The engine speaks of them as ranges. The contract:
//!
//! - [`Tcb::segment_arrives`], [`Tcb::timeout`] and the user calls [`Tcb::send`], [`Tcb::consumed`], [`Tcb::shutdown`],
//!   [`Tcb::close`], [`Tcb::abort`] are told `now` (never going backwards) and change the state;
//! - after any of them [`Tcb::poll_transmit`] is called until it returns `None`, at the latest at the end of the turn;
//! - then [`Tcb::deadline`] says when [`Tcb::timeout`] is due if nothing else happens before.
//!
//! ```
//! use tcp::{Config, Events, HalfOpen, HalfOutcome, Records, State, Tcb};
//! use units::Nanos;
//! use wire::Seq;
//!
//! let (cfg, now, mut records) = (Config::default(), Nanos::from_secs(1), Records::new(16));
//! // The client's SYN, the server's SYN-ACK, the client's ACK: any wire between them would do.
//! let mut client = Tcb::connect(now, &cfg, Seq(7));
//! let syn = client.poll_transmit(now, &cfg, 1460).unwrap().segment();
//! let (mut half, syn_ack) = HalfOpen::syn_arrives(now, &cfg, Seq(9), &syn);
//! let arrival = client.segment_arrives(now, &cfg, &syn_ack.segment(), true, &mut records);
//! assert!(arrival.events.contains(Events::CONNECTED));
//! let ack = client.poll_transmit(now, &cfg, 1460).unwrap().segment();
//! let HalfOutcome::Established(mut server) = half.segment_arrives(now, &cfg, &ack) else { panic!() };
//!
//! // 100 bytes: the client's user appends them to the send queue, whose first 100 bytes the segment then carries.
//! assert_eq!(client.send(now, 100), 100);
//! let data = client.poll_transmit(now, &cfg, 1460).unwrap();
//! assert_eq!((data.offset, data.len), (0, 100));
//! assert_eq!(server.segment_arrives(now, &cfg, &data.segment(), true, &mut records).advanced, 100);
//! // The ACK waits for something to ride on, until the deadline.
//! assert!(server.poll_transmit(now, &cfg, 1460).is_none());
//! let later = server.deadline();
//! let _ = server.timeout(later, &cfg, &mut records);
//! let ack = server.poll_transmit(later, &cfg, 1460).unwrap().segment();
//! assert_eq!(client.segment_arrives(later, &cfg, &ack, true, &mut records).acked, 100);
//! assert_eq!((client.state(), client.unacked()), (State::Established, 0));
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `tcb` | the transmission control block, its layout and its invariants |
//! | `state` | the connection states and what each allows |
//! | `config` | the parameters of an engine |
//! | `arrives/` | SEGMENT ARRIVES (RFC 9293 section 3.10.7), one file per step |
//! | `user` | OPEN, SEND, RECEIVE, CLOSE, ABORT (section 3.10.1 to 3.10.5) |
//! | `output` | what is sent next: loss repair, new data, FIN, acknowledgements, probes |
//! | `timers` | the deadlines and what happens at them (section 3.10.8; persist, keep-alive, TIME-WAIT) |
//! | `path` | segments fitted to the path's MTU (RFC 1191, 8201, 4821) |
//! | `rto` | round-trip time and retransmission timeout (RFC 6298) |
//! | `congestion`, `cubic`, `dctcp` | how the window grows and shrinks: NewReno, CUBIC, DCTCP (RFC 5681, 9438, 8257) |
//! | `hystart` | the end of the first slow start (RFC 9406) |
//! | `pacing` | a window leaves over its round trip (after RFC 9002 section 7.7) |
//! | `recovery` | what is sent again, and undone: fast recovery, PRR, F-RTO, Eifel (RFC 6582, 6675, 9937, 5682, 4015) |
//! | `record` | what only connections in trouble have: a bounded number of records |
//! | `flight` | the sender's scoreboard, piece by piece |
//! | `rack`, `tlp` | when something is lost (RFC 8985) |
//! | `sack` | blocks received and sent (RFC 2018, 2883) |
//! | `ecn` | explicit congestion notification (RFC 3168) |
//! | `listen` | a half-open passive connection in 40 bytes |
//! | `cookie` | SYN cookies: a half-open connection in no bytes at all (RFC 4987) |
//! | `isn` | initial sequence numbers (RFC 6528), timestamp offsets |
//! | `outcome` | the answers: `Arrival`, `Emit`, `Events`, `CloseReason`, `DropReason` |
//!
//! Absent on purpose: the clock, threads, buffers, checksums, ports and demultiplexing (the caller's); urgent data
//! (accepted as ordinary data), TCP Fast Open.
#![forbid(unsafe_code)]

mod arrives;
mod config;
mod congestion;
pub mod cookie;
mod cubic;
mod dctcp;
mod ecn;
mod flight;
mod hystart;
pub mod isn;
pub mod listen;
mod outcome;
mod output;
mod pacing;
mod path;
mod rack;
mod record;
mod recovery;
mod rto;
mod sack;
mod state;
mod tcb;
mod timers;
mod tlp;
mod user;

pub use config::{Config, Congestion, Ecn, KeepAlive};
pub use cookie::{PlainSynAck, SynCookies};
pub use isn::IsnKey;
pub use listen::{HalfOpen, HalfOutcome};
pub use outcome::{Arrival, CloseReason, DropReason, Emit, Events, Payload, reset_reply};
pub use record::{Records, Spare};
pub(crate) use recovery::Phase;
pub use state::State;
pub use tcb::{Tcb, Timer};

#[cfg(test)]
mod tests;
