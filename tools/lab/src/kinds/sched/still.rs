//! The spin server on a core that now and then stands still in application code; and what is noted of cores that do so by themselves.

use std::sync::{Arc, Mutex, PoisonError};

use spin::Conn;
use sys::clock;
use units::{CoreId, Nanos};
use zygix::{Cx, Next, Peer, Received, Reply, Service};

/// A core that stands still.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Stall {
    /// Every so often; zero: never.
    pub(super) every: Nanos,
    /// For so long.
    pub(super) length: Nanos,
    /// As if the hypervisor had taken the core away: interrupts are held back until it is over.
    pub(super) descheduled: bool,
}

impl Stall {
    /// It never does.
    pub(super) const NEVER: Stall = Stall { every: Nanos::ZERO, length: Nanos::ZERO, descheduled: false };
}

/// The core to which it happens.
const VICTIM: CoreId = CoreId(0);

/// A stretch of time in which a core was away: the hypervisor had it, or another thread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Gap {
    /// The core was there at these instants, and not all the time between.
    pub(super) from: Nanos,
    pub(super) to: Nanos,
    /// How long it was away.
    pub(super) lost: Nanos,
}

/// The gaps of all cores.
#[derive(Clone, Default)]
pub(super) struct Gaps(Arc<Mutex<Vec<Gap>>>);

impl Gaps {
    /// Those so far.
    pub(super) fn take(&self) -> Vec<Gap> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, gap: Gap) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }
}

/// Clocks are compared this often, at the end of a batch: 0.2 us.
const EVERY: Nanos = Nanos::from_micros(250);

/// The server.
pub(super) struct Still {
    stall: Stall,
    gaps: Gaps,
    /// Shorter gaps are not noted.
    least: Nanos,
}

/// What the executing thread knows.
pub(super) struct Core {
    victim: bool,
    next: Nanos,
    /// When clocks were last compared: the time, and this thread's share of it.
    wall: Nanos,
    cpu: Nanos,
}

impl Still {
    /// A server that notes in `gaps` where a core was away for `least` or longer.
    pub(super) fn new(stall: Stall, gaps: Gaps, least: Nanos) -> Still {
        Still { stall, gaps, least }
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
        Core { victim: id == VICTIM, next: Nanos::ZERO, wall: Nanos::MAX, cpu: Nanos::ZERO }
    }

    fn accept(&self, _core: &mut Core, peer: &Peer) -> Option<Conn> {
        spin::Service.accept(&mut (), peer)
    }

    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        let (now, me) = (cx.now(), cx.me());
        self.perhaps(cx.core, now);
        // The spin server asks for nothing but its reply.
        spin::Service.recv(&mut Cx::new(&mut (), now, me, &mut Vec::new()), conn, rx, tx)
    }

    fn writable(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        spin::Service.writable(&mut Cx::new(&mut (), cx.now(), cx.me(), &mut Vec::new()), conn, tx)
    }

    fn batch_end(&self, core: &mut Core) {
        let now = clock::now();
        if core.wall != Nanos::MAX && now < core.wall + EVERY {
            return;
        }
        let cpu = clock::thread_cpu();
        let lost = (now - core.wall) - (cpu - core.cpu);
        if core.wall != Nanos::MAX && lost >= self.least {
            self.gaps.note(Gap { from: core.wall, to: now, lost });
        }
        (core.wall, core.cpu) = (now, cpu);
    }
}
