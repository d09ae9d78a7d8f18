use std::net::SocketAddr;

use abi::{Dead, Peer};
use units::CoreId;

use crate::{Cx, Received, Reply};

/// What a handler wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Call `recv` when more has come. Bytes that were not consumed are shown again, first.
    Read,
    /// Call `recv` when at least this many unconsumed bytes are there (or the peer has finished), to save rescans
    /// of a long item. Capped by the receive window.
    AtLeast(usize),
    /// Do not call `recv` until the connection is resumed.
    Pause,
    /// Send what was written, then close.
    Close,
    /// Reset the connection; what was written is discarded.
    Abort,
}

/// A network service, written once for every place it can run.
///
/// One value is shared by all elastic threads; a connection's state moves with the connection. Handlers run to
/// completion: they never block, and they answer through `tx`. For one connection, handlers run one at a time and
/// in order, whichever core runs them.
///
/// A handler that panics costs its own connection (it is reset, and `closed` is told [`Dead::Panicked`]); the
/// other connections of the batch are not affected.
pub trait Service: Send + Sync + Sized + 'static {
    /// The application's state of one connection.
    type Conn: Send + 'static;
    /// State of the executing elastic thread: scratch space, counters, a cached clock.
    type Core: Send + 'static;
    /// What background threads send to a connection.
    type Msg: Send + 'static;

    /// Makes the state of one elastic thread, at start.
    fn core(&self, id: CoreId) -> Self::Core;

    /// Connections that this elastic thread opens at start; each is answered by `connected` or `closed`.
    fn dial(&self, core: &mut Self::Core) -> Vec<(SocketAddr, Self::Conn)> {
        let _ = core;
        Vec::new()
    }

    /// A peer has opened a connection (`knock`). `None` rejects it with a reset.
    fn accept(&self, core: &mut Self::Core, peer: &Peer) -> Option<Self::Conn>;

    /// An accepted connection can be written to: the place to speak first, as a mail or database server does.
    fn opened(&self, cx: &mut Cx<'_, Self>, conn: &mut Self::Conn, tx: &mut Reply<'_>) -> Next {
        let _ = (cx, conn, tx);
        Next::Read
    }

    /// Bytes have come, or the peer has finished (`rx.fin()`), or there is room again for a handler that lacked it.
    ///
    /// Not called while more than [`SEND_MARK`](crate::SEND_MARK) bytes of earlier replies wait unsent.
    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Self::Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next;

    /// A connection opened by [`Cx::connect`] is established.
    fn connected(&self, cx: &mut Cx<'_, Self>, conn: &mut Self::Conn, tx: &mut Reply<'_>) -> Next {
        let _ = (cx, conn, tx);
        Next::Read
    }

    /// The unsent backlog fell below the mark (or [`Reply::reserve`] had failed and there is room again), and no received bytes wait.
    fn writable(&self, cx: &mut Cx<'_, Self>, conn: &mut Self::Conn, tx: &mut Reply<'_>) -> Next {
        let _ = (cx, conn, tx);
        Next::Read
    }

    /// The deadline of [`Cx::set_timer`] has passed.
    fn timer(&self, cx: &mut Cx<'_, Self>, conn: &mut Self::Conn, tx: &mut Reply<'_>) -> Next {
        let _ = (cx, conn, tx);
        Next::Read
    }

    /// A background thread posted a message to this connection.
    fn message(&self, cx: &mut Cx<'_, Self>, conn: &mut Self::Conn, msg: Self::Msg, tx: &mut Reply<'_>) -> Next {
        let _ = (cx, conn, msg, tx);
        Next::Read
    }

    /// The connection is gone: the state comes back. Called once for each accepted connection and for each
    /// [`Cx::connect`], also when that never opened.
    fn closed(&self, core: &mut Self::Core, conn: Self::Conn, why: Dead) {
        let _ = (core, conn, why);
    }

    /// A datagram has come. What is written to `tx` goes back as one datagram, if it is not empty.
    fn datagram(&self, core: &mut Self::Core, peer: &Peer, data: &[u8], tx: &mut Reply<'_>) {
        let _ = (core, peer, data, tx);
    }

    /// The last handler of a batch has run on this thread: the place for work once per batch.
    fn batch_end(&self, core: &mut Self::Core) {
        let _ = core;
    }
}
