use std::net::SocketAddr;

use units::Nanos;

use crate::{Cookie, Handle, Peer, RxRef, TcpOption};

/// A run of entries in the batch's scatter-gather array: whole transmit buffers, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxRange {
    /// The first entry.
    pub first: u32,
    /// How many entries.
    pub count: u32,
}

/// A batched syscall (thesis table 2.2, with half-close, abort, options, timers and datagrams added).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syscall {
    /// Opens a connection; the outcome comes as `connected`.
    Connect {
        /// The application's name of the connection to be.
        cookie: Cookie,
        /// Where to.
        dst: SocketAddr,
    },
    /// Accepts the connection of a `knock`.
    Accept {
        /// The connection.
        handle: Handle,
        /// The application's name of it.
        cookie: Cookie,
    },
    /// Transmits the buffers of `sg`. Returns the bytes that the window admitted; nothing beyond them is kept.
    /// A window is a promise until the next one is told, so an application that stays within the last one loses nothing, whether or
    /// not the connection is in the batch.
    Sendv {
        /// The connection.
        handle: Handle,
        /// The buffers.
        sg: TxRange,
        /// Bytes that wait beyond `sg` for the window to open: a `sent` will say when.
        waiting: u32,
    },
    /// Advances the receive window by `bytes` and frees the message buffers that they filled.
    RecvDone {
        /// The connection.
        handle: Handle,
        /// Bytes consumed.
        bytes: u32,
    },
    /// Says that no more will be sent; receiving goes on (half-close).
    Shutdown {
        /// The connection.
        handle: Handle,
    },
    /// Closes or rejects a connection; its handle is stale from here on.
    Close {
        /// The connection.
        handle: Handle,
    },
    /// Ends a connection with RST; its handle is stale from here on.
    Abort {
        /// The connection.
        handle: Handle,
    },
    /// Sets an option of the connection. Refused if it is out of bounds.
    SetOption {
        /// The connection.
        handle: Handle,
        /// Which, and to what.
        option: TcpOption,
    },
    /// Sets (or, with [`Nanos::MAX`], clears) the connection's one application deadline.
    Timer {
        /// The connection.
        handle: Handle,
        /// The instant, on the dataplane's clock.
        deadline: Nanos,
    },
    /// Sends the buffers of `sg` as one datagram.
    UdpSend {
        /// Where to, and from which local port.
        peer: Peer,
        /// The buffers.
        sg: TxRange,
    },
    /// Frees the buffer of a received datagram.
    UdpRecvDone {
        /// The buffer.
        mbuf: RxRef,
    },
}

impl Syscall {
    /// The connection that it is about, if it is about one.
    pub const fn handle(&self) -> Option<Handle> {
        match *self {
            Syscall::Accept { handle, .. }
            | Syscall::Sendv { handle, .. }
            | Syscall::RecvDone { handle, .. }
            | Syscall::Shutdown { handle }
            | Syscall::Close { handle }
            | Syscall::Abort { handle }
            | Syscall::SetOption { handle, .. }
            | Syscall::Timer { handle, .. } => Some(handle),
            Syscall::Connect { .. } | Syscall::UdpSend { .. } | Syscall::UdpRecvDone { .. } => None,
        }
    }
}
