//! The spin server on a core that now and then stands still in application code.

use spin::Conn;
use sys::clock;
use units::{CoreId, Nanos};
use zygix::{Cx, Next, Peer, Received, Reply, Service};

/// A core that stands still.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Stall {
    /// Every so often; zero: never.
    pub(in super::super) every: Nanos,
    /// For so long.
    pub(in super::super) length: Nanos,
    /// As if the hypervisor had taken the core away: interrupts are held back until it is over.
    pub(in super::super) descheduled: bool,
}

impl Stall {
    /// It never does.
    pub(in super::super) const NEVER: Stall = Stall { every: Nanos::ZERO, length: Nanos::ZERO, descheduled: false };
}

/// The core to which it happens.
const VICTIM: CoreId = CoreId(0);

/// The server.
pub(super) struct Still {
    stall: Stall,
}

/// What the executing thread knows.
pub(super) struct Core {
    victim: bool,
    next: Nanos,
}

impl Still {
    pub(super) fn new(stall: Stall) -> Still {
        Still { stall }
    }

    fn perhaps(&self, core: &mut Core, now: Nanos) {
        let Stall { every, length, descheduled } = self.stall;
        if !core.victim || every == Nanos::ZERO || now < core.next {
            return;
        }
        core.next = now + every;
        let end = clock::now() + length;
        let stand = || while clock::now() < end {};
        if descheduled { sys::interrupt::held(stand) } else { stand() }
    }
}

impl Service for Still {
    type Conn = Conn;
    type Core = Core;
    type Msg = ();

    fn core(&self, id: CoreId) -> Core {
        Core { victim: id == VICTIM, next: Nanos::ZERO }
    }

    fn accept(&self, _core: &mut Core, peer: &Peer) -> Option<Conn> {
        spin::Service::default().accept(&mut (), peer)
    }

    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        let (now, me) = (cx.now(), cx.me());
        self.perhaps(cx.core, now);
        // The spin server asks for nothing but its reply.
        spin::Service::default().recv(&mut Cx::new(&mut (), now, me, &mut Vec::new()), conn, rx, tx)
    }

    fn writable(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        spin::Service::default().writable(&mut Cx::new(&mut (), cx.now(), cx.me(), &mut Vec::new()), conn, tx)
    }
}
