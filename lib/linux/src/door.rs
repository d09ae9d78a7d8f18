use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use sys::socket;
use zygix::{Peer, Service};

use crate::conn::Conn;
use crate::handler::Env;
use crate::turn::{dead_of, out_of_descriptors};

/// Connections taken from a listener per event.
pub(crate) const ACCEPTS: usize = 64;

/// Where a thread's connections come from: its listener, or the one that all share; and `connect`.
pub(crate) struct Door {
    listener: Arc<TcpListener>,
    /// The address that connections are accepted on.
    pub(crate) local: SocketAddr,
    /// A descriptor to give up when there are no others, so that a waiting connection can be accepted and reset.
    spare: Option<File>,
}

/// Who was found waiting.
pub(crate) enum Knock<C> {
    /// A connection, and the service wants it.
    In(Conn<C>),
    /// One that was turned away, or had gone away itself.
    Away,
    /// None.
    Nobody,
}

impl Door {
    pub(crate) fn new(listener: Arc<TcpListener>, local: SocketAddr) -> Door {
        Door { listener, local, spare: File::open("/dev/null").ok() }
    }

    /// The next connection that waits to be accepted.
    pub(crate) fn accept<S: Service>(&mut self, env: &mut Env<S>) -> Knock<S::Conn> {
        let (stream, remote) = match socket::accept(&self.listener) {
            Ok(accepted) => accepted,
            Err(e) if out_of_descriptors(&e) => return self.refuse_one(env),
            // A connection that was reset while it waited is no reason to stop.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => return Knock::Away,
            Err(_) => return Knock::Nobody,
        };
        let local =
            if self.local.ip().is_unspecified() { stream.local_addr().unwrap_or(self.local) } else { self.local };
        let peer = Peer { remote, local };
        match env.accept(&peer) {
            Some(state) => {
                env.counters.accepted.inc();
                Knock::In(Conn::new(stream, peer, state, false))
            }
            None => {
                env.counters.rejected.inc();
                socket::abort(stream);
                Knock::Away
            }
        }
    }

    /// Out of descriptors: resets one waiting connection by means of the spare descriptor, so that the listener
    /// does not stay ready for ever.
    #[cold]
    fn refuse_one<S: Service>(&mut self, env: &Env<S>) -> Knock<S::Conn> {
        if self.spare.take().is_none() {
            // Another connection's end may have made room for one.
            self.spare = File::open("/dev/null").ok();
            return Knock::Nobody;
        }
        let refused = socket::accept(&self.listener);
        let knock = if refused.is_ok() { Knock::Away } else { Knock::Nobody };
        if let Ok((stream, _)) = refused {
            env.counters.rejected.inc();
            socket::abort(stream);
        }
        self.spare = File::open("/dev/null").ok();
        knock
    }

    /// Begins to connect to `dst`; `None` when that failed at once, of which the service has been told.
    pub(crate) fn connect<S: Service>(
        &self,
        env: &mut Env<S>,
        dst: SocketAddr,
        state: S::Conn,
    ) -> Option<Conn<S::Conn>> {
        env.counters.connects.inc();
        match socket::connect(dst) {
            Ok(stream) => {
                let local = stream.local_addr().unwrap_or(self.local);
                Some(Conn::new(stream, Peer { remote: dst, local }, state, true))
            }
            Err(e) => {
                env.counters.closed.inc();
                env.closed(state, dead_of(&e));
                None
            }
        }
    }
}
