//! One connection as its home stack keeps it: the engine's control block, three queues of buffers, and what the
//! application has not been told yet. `shuffle::Phase` has the table of what becomes idle, ready or busy, and when.

use abi::{Cookie, Dead, TcpOption};
use mem::MbufQueue;
use shuffle::{Phase, Step};
use tcp::Tcb;
use units::Nanos;
use wheel::TimerId;

use crate::addresses::Ends;
use crate::batch::Pending;

/// How far the application is with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Owner {
    /// The slot is free.
    #[default]
    Nobody,
    /// Opened by a peer; the application has not answered the knock.
    Knocking,
    /// Being opened by the application.
    Connecting,
    /// The application has it.
    App,
    /// The application has closed it; TCP ends on its own, and nothing is told any more.
    Gone,
}

/// The grain of a linger.
const LINGER_STEP: Nanos = Nanos::from_millis(10);
const _: () = assert!(TcpOption::LINGER_MAX.0 / LINGER_STEP.0 < u16::MAX as u64);

/// A slot of a flow group. What a request and its acknowledgement touch lies together, [`Conn::HOT`] bytes from the front; the end of the
/// engine's block and what follows it are for trouble and age.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Conn {
    pub(crate) ends: Ends,
    /// The application's name for it. A free slot keeps its place in the list of these here: see [`Conn::next_free`].
    pub(crate) cookie: Cookie,
    pub(crate) generation: u32,
    /// Its place in the batch, while busy.
    pub(crate) place: u16,
    pub(crate) phase: Phase,
    pub(crate) owner: Owner,
    /// What the application has to be told.
    pub(crate) pending: Pending,
    /// Whether the connection is in the queue of those that may have something to transmit.
    pub(crate) dirty: bool,
    /// Whether all that the peer will ever send has been received.
    pub(crate) peer_fin: bool,
    pub(crate) dead: Option<Dead>,
    /// Whether its group has it in the queue of those that only wait for their end.
    pub(crate) ending: bool,
    /// Whether the application has more to send than the window admitted.
    pub(crate) wants: bool,
    /// What a close does about data that is not acknowledged: see [`Conn::linger`].
    pub(crate) linger: u16,
    /// Admitted, not acknowledged.
    pub(crate) tx: MbufQueue,
    /// The armed timer, and the instant it was armed for: it may fire early, never late.
    pub(crate) timer: Option<(TimerId, Nanos)>,
    /// The application's deadline, or [`Nanos::ZERO`]: see [`Conn::app_deadline`].
    pub(crate) app_deadline: Nanos,
    /// Bytes at the end of `tx` that a promised window admitted and the engine has not: it gets them as its window opens.
    pub(crate) owed: u32,
    /// What is left of the window that the application was last told of.
    pub(crate) promised: u32,
    /// Bytes acknowledged since the application was last told.
    pub(crate) sent: u32,
    /// Received in order, not consumed.
    pub(crate) rx: MbufQueue,
    /// The engine; `None` when the slot is free or the connection has ended but the application has not been told.
    pub(crate) tcb: Option<Tcb>,
    /// Received out of order, by sequence number (in the buffer's tag).
    pub(crate) out_of_order: MbufQueue,
}

const _: () = assert!(size_of::<Conn>() == 6 * 64 && Conn::HOT <= 5 * 64);

impl Conn {
    /// The first bytes, which are all that a quiet connection touches.
    pub(crate) const HOT: usize = std::mem::offset_of!(Conn, tcb) + Tcb::HOT;

    /// When something is due: the engine's deadline or the application's.
    pub(crate) fn deadline(&self) -> Nanos {
        let engine = self.tcb.as_ref().map_or(Nanos::MAX, Tcb::deadline);
        engine.min(self.app_deadline().unwrap_or(Nanos::MAX))
    }

    /// When the application wants to be told of the time.
    #[inline]
    pub(crate) fn app_deadline(&self) -> Option<Nanos> {
        (self.app_deadline != Nanos::ZERO).then_some(self.app_deadline)
    }

    /// Sets or clears the application's deadline. None is kept as zero, which says it in half the space.
    #[inline]
    pub(crate) fn set_app_deadline(&mut self, at: Option<Nanos>) {
        self.app_deadline = at.map_or(Nanos::ZERO, |at| at.max(Nanos(1)));
    }

    /// A free slot, and which is the next.
    pub(crate) fn free(&mut self, generation: u32, next: u32) {
        let cookie = Cookie(u64::from(next));
        *self = Conn { generation, dirty: self.dirty, cookie, ..Conn::default() };
    }

    /// The free slot after this one.
    pub(crate) fn next_free(&self) -> u32 {
        self.cookie.0 as u32
    }

    /// How long a close may take: `None`, as long as it takes.
    pub(crate) fn linger(&self) -> Option<Nanos> {
        self.linger.checked_sub(1).map(|steps| Nanos(u64::from(steps) * LINGER_STEP.0))
    }

    /// Sets how long a close may take.
    pub(crate) fn set_linger(&mut self, after: Option<Nanos>) {
        self.linger = after.map_or(0, |after| after.0.div_ceil(LINGER_STEP.0) as u16 + 1);
    }

    /// Bytes that a sendv would be admitted now: whole segments while others are in flight, for the odd end of a window would
    /// leave as a small segment (RFC 9293 section 3.8.6.2.1); whatever the window holds when nothing is.
    pub(crate) fn window(&self) -> u32 {
        let Some(tcb) = &self.tcb else { return 0 };
        let (open, mss) = (tcb.send_window().saturating_sub(self.owed), u32::from(tcb.mss()).max(1));
        match open < mss {
            true if self.tx.is_empty() => open,
            true => 0,
            false => open - open % mss,
        }
    }

    /// Whether the application, which waits for the window, may come again. If not, the engine hears that more would have been sent.
    pub(crate) fn may_send_again(&mut self, now: Nanos) -> bool {
        if !self.wants {
            return false;
        }
        let burst = self.tcb.as_ref().map_or(1, Tcb::burst);
        self.wants = self.window() < burst;
        if let Some(tcb) = self.tcb.as_mut().filter(|_| self.wants) {
            tcb.send_later(now);
        }
        !self.wants
    }

    /// Notes news for the application. True: the connection has become ready by it, and the caller puts it into the queue.
    #[inline]
    #[must_use]
    pub(crate) fn tell(&mut self, what: Pending) -> bool {
        self.pending.insert(what);
        self.has_news() && self.phase.step(Step::News)
    }

    /// Notes that there may be something to transmit, or another deadline. True: the caller puts it into the queue.
    #[inline]
    #[must_use]
    pub(crate) fn soil(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Whether there is anything that the application may be told now.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        let told = match self.owner {
            Owner::Nobody | Owner::Gone => Pending::NONE,
            // A connection that ended before it was accepted is shown nothing but its end.
            Owner::Knocking => Pending::KNOCK | Pending::DEAD,
            Owner::Connecting => Pending::CONNECTED | Pending::DEAD,
            Owner::App => Pending::ALL,
        };
        self.pending.intersects(told)
    }
}
