use std::net::SocketAddr;

use abi::Handle;
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

    /// Opens a connection to `dst` with state `conn`; `connected` or `closed` will follow.
    pub fn connect(&mut self, dst: SocketAddr, conn: S::Conn) {
        self.ops.push(Op::Connect(dst, conn));
    }

    /// Resumes a connection that answered [`Next::Pause`](crate::Next::Pause). One that has ended is ignored.
    pub fn resume(&mut self, who: ConnRef) {
        self.ops.push(Op::Resume(who));
    }
}
