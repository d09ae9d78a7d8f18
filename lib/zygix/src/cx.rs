use std::net::SocketAddr;

use abi::{Handle, TcpOption};
use units::Nanos;

use crate::Service;

/// Names a connection from anywhere, for as long as one likes: `Copy + Send`, and refused once the connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnRef(pub(crate) Handle);

impl ConnRef {
    /// The reference of a backend's handle.
    pub fn new(handle: Handle) -> ConnRef {
        ConnRef(handle)
    }

    /// The backend's handle.
    pub fn handle(self) -> Handle {
        self.0
    }
}

/// What a handler asked for beside its reply; the backend carries it out when the handler has returned.
#[derive(Debug)]
pub enum Op<C> {
    /// Set the connection's deadline.
    Timer(Nanos),
    /// Set an option of the connection, before what the handler wrote is sent.
    Option(TcpOption),
    /// Open a connection.
    Connect(SocketAddr, C),
    /// Call the `recv` of a paused connection again.
    Resume(ConnRef),
}

/// The surroundings of a handler.
pub struct Cx<'a, S: Service> {
    /// State of the executing elastic thread.
    pub core: &'a mut S::Core,
    now: Nanos,
    me: ConnRef,
    ops: &'a mut Vec<Op<S::Conn>>,
}

impl<'a, S: Service> Cx<'a, S> {
    /// For backends and tests: `ops` collects what the handler asks for.
    pub fn new(core: &'a mut S::Core, now: Nanos, me: ConnRef, ops: &'a mut Vec<Op<S::Conn>>) -> Cx<'a, S> {
        Cx { core, now, me, ops }
    }

    /// The instant at which this batch began, on the backend's monotonic clock.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The connection whose handler runs.
    pub fn me(&self) -> ConnRef {
        self.me
    }

    /// Calls `timer` for this connection once, `after` from now. A connection has one deadline; a new one replaces it.
    pub fn set_timer(&mut self, after: Nanos) {
        self.ops.push(Op::Timer(self.now + after));
    }

    /// Whether segments of this connection that are not full go at once, as they do by default, or wait while others are in flight (Nagle's
    /// algorithm, RFC 9293 section 3.7.4). Holds from what this handler writes on, as do all options.
    pub fn set_nodelay(&mut self, on: bool) {
        self.ops.push(Op::Option(TcpOption::NoDelay(on)));
    }

    /// Whether segments that are not full wait for more, until this is taken back or the connection is closed: for an answer that is written by
    /// several handlers. None waits for ever: after a while without more (Zygix: a retransmission timeout; Linux: 200 ms) it goes.
    pub fn set_cork(&mut self, on: bool) {
        self.ops.push(Op::Option(TcpOption::Cork(on)));
    }

    /// How long the peer may leave data unacknowledged before the connection ends as [`Dead::TimedOut`](crate::Dead::TimedOut) (RFC 5482).
    /// `None`: as long as the retries take. Brought within 1 ms and [`TcpOption::USER_TIMEOUT_MAX`].
    pub fn set_user_timeout(&mut self, after: Option<Nanos>) {
        self.ops.push(Op::Option(TcpOption::UserTimeout(after).bounded()));
    }

    /// What [`Next::Close`](crate::Next::Close) does about what the peer has not acknowledged: `None`, it is sent for as long as it takes;
    /// zero, it is discarded, and the peer gets a reset, once the last byte has been handed to TCP; else it has so long, at most
    /// [`TcpOption::LINGER_MAX`].
    pub fn set_linger(&mut self, after: Option<Nanos>) {
        self.ops.push(Op::Option(TcpOption::Linger(after).bounded()));
    }

    /// Opens a connection to `dst` with state `conn`; `connected` or `closed` will follow.
    pub fn connect(&mut self, dst: SocketAddr, conn: S::Conn) {
        self.ops.push(Op::Connect(dst, conn));
    }

    /// Resumes a connection that answered [`Next::Pause`](crate::Next::Pause). One that has ended is ignored.
    pub fn resume(&mut self, who: ConnRef) {
        self.ops.push(Op::Resume(who));
    }
}
