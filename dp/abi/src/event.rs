use std::net::SocketAddr;

use crate::{Code, Cookie, Dead, Handle};

/// Both ends of a connection or a datagram, seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// The other end.
    pub remote: SocketAddr,
    /// This end.
    pub local: SocketAddr,
}

/// A received message buffer, named by its position in the batch that carries it; valid until that batch is completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RxRef(pub u32);

/// An event condition (thesis table 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A remotely initiated connection was opened. Answer with `accept` or `close`.
    Knock {
        /// The new connection.
        handle: Handle,
        /// Its ends.
        peer: Peer,
    },
    /// A locally initiated connection finished opening.
    Connected {
        /// The cookie given to `connect`.
        cookie: Cookie,
        /// The connection, when `outcome` is [`Code::Ok`].
        handle: Handle,
        /// `Ok`, or why not.
        outcome: Code,
    },
    /// A message buffer was received; `len` 0 says that the peer will send no more.
    Recv {
        /// The connection.
        cookie: Cookie,
        /// The buffer.
        mbuf: RxRef,
        /// Its bytes.
        len: u32,
    },
    /// Sent bytes were acknowledged and their buffers released, or the window opened.
    ///
    /// It comes by itself only to whom the last `sendv` left bytes waiting; else it rides on the connection's next event
    /// condition, so that an acknowledgment alone wakes no application.
    Sent {
        /// The connection.
        cookie: Cookie,
        /// Bytes acknowledged since the last `sent`.
        bytes: u32,
        /// Bytes that `sendv` admits now.
        window: u32,
    },
    /// The connection ended; its handle is stale.
    Dead {
        /// The connection.
        cookie: Cookie,
        /// Why.
        reason: Dead,
    },
    /// The deadline set by `timer` has passed.
    Timer {
        /// The connection.
        cookie: Cookie,
    },
    /// A background thread posted `token` to the connection.
    Message {
        /// The connection.
        cookie: Cookie,
        /// What was posted.
        token: u64,
    },
    /// A datagram was received on a port that the dataplane serves.
    UdpRecv {
        /// The payload.
        mbuf: RxRef,
        /// Its bytes.
        len: u32,
        /// Both ends.
        peer: Peer,
    },
}
