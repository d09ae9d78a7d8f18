//! The open-loop NIC (`openloop:`): a NIC without a wire, whose queues make the requests themselves.
//!
//! ```text
//!       Director ── Drive ──► desk ──► OpenLoopQueue                           one per elastic thread
//!   the bench's thread,   ◄── Outcome     │
//!   asleep meanwhile                      │ rx_burst   what is due by now: requests at the instants that draw::Arrivals meant
//!                                         ▼            for them, over many connections, in Ethernet, IPv4 and TCP
//!                                     the server: our stack, scheduler and application, on every core of the machine
//!                                         │
//!                                         ▼ tx         the reply's time is taken here, and requests::Asker judges it
//!                                     load::Recorder   latency = transmitted - meant
//! ```
//!
//! A load generator beside the server needs cores of its own, which a small machine does not have. Here all cores are servers: the
//! arrivals are a schedule that whoever polls the queue finds in it, as a NIC's ring would have been filled meanwhile. Latency
//! counts from the *intended* arrival, so the time in which nobody polls is in it in full. What a real NIC, a wire and a client
//! would add is not.
//!
//! The generator runs on the servers' cores. What it costs is the server's loss; [`cost()`] measures it (per request and
//! reply, without a server), so that results can state the network's cost without it.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | [`Config`], and the sentences that refuse |
//! | `backend.rs` | [`OpenLoop`], the NIC; which flows belong to which queue |
//! | `queue.rs` | [`OpenLoopQueue`], and which of them gets a flow group's frames |
//! | `lane.rs` | what one queue's connections do: a burst, a transmitted frame, an order |
//! | `flows.rs`, `arrives.rs` | the connections of a queue: what they send, what comes |
//! | `conn.rs` | one connection: the client's TCP, as little as a server needs to see |
//! | `slab.rs` | requests without a reply, in reserved memory |
//! | `frames.rs` | frames in the server's buffers |
//! | `cost.rs` | what all this costs, measured |
//! | `director.rs`, `desk.rs`, `job.rs` | [`Director`], and how orders and outcomes pass between it and the queues |
//!
//! The client's TCP: a SYN with an MSS and no other option; data with PSH; acknowledgements on the next request, else after
//! 10 to 20 ms, at once for every second full segment and for duplicates; what is not acknowledged for 200 ms (in which the server polled)
//! is sent again from there; FIN and RST of the server break the connection, and another life of it begins. A request waits for
//! the server's window, and its latency counts meanwhile. Checksums of TCP are left out; frames say that they need not be verified, as
//! those of a NIC with offload do.
//!
//! On the data path nothing is allocated but the room for replies in several segments, once per connection, and what the
//! request's bytes take. Requests without a reply have 131 072 places per queue; what finds none is unanswered at once.
//!
//! Absent on purpose: lateness of the client (there is none: a request that is late is so because the server polled late), other clients' behaviour on the wire (loss, reordering).
#![forbid(unsafe_code)]

mod arrives;
mod backend;
mod config;
mod conn;
mod cost;
mod desk;
mod director;
mod flows;
mod frames;
mod job;
mod lane;
mod queue;
mod slab;

pub use backend::OpenLoop;
pub use config::{Config, ConfigError, Host, OpenLoopError, QUEUES_MAX};
pub use cost::{Cost, cost};
pub use director::{Director, Drive, Hand};
pub use draw;
pub use load::Outcome;
pub use queue::OpenLoopQueue;
pub use requests;
