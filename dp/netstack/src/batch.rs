//! What goes to the application and comes back: an owned batch, so that nothing of the stack is borrowed while handlers run.
//!
//! Received buffers *move* into the batch at dispatch and what was not consumed moves back at complete: the application reads
//! them where the NIC put them, and the stack may meanwhile receive more for the same connection.

use abi::{Code, Cookie, Dead, Event, Handle, Peer, RxRef, Syscall, TxRange};
use mem::{Mbuf, MbufQueue};
use std::net::SocketAddr;
use units::Nanos;
use wire::Tuple;

/// The syscalls that one connection's handlers can make in a batch, on average over the batch; more are refused.
const CALLS_PER_ENTRY: usize = 16;
/// Of those, what a connection's handlers need to answer and to end it: a `recv_done` after each of its kinds of event, and one more with
/// `sendv`, `shutdown` and `close`.
const ANSWER: usize = 8;
/// Messages of background threads that one batch carries per connection, on average.
const MESSAGES: usize = 4;

/// A set of things to tell the application about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pending(u8);

impl Pending {
    /// Nothing.
    pub const NONE: Pending = Pending(0);
    /// A peer opened it.
    pub const KNOCK: Pending = Pending(1);
    /// It finished opening.
    pub const CONNECTED: Pending = Pending(1 << 1);
    /// Bytes were received.
    pub const RECV: Pending = Pending(1 << 2);
    /// The peer sends no more.
    pub const FIN: Pending = Pending(1 << 3);
    /// A sendv that was not admitted whole may be repeated.
    pub const SENT: Pending = Pending(1 << 4);
    /// The application's deadline has passed.
    pub const TIMER: Pending = Pending(1 << 5);
    /// Background threads have posted.
    pub const MESSAGE: Pending = Pending(1 << 6);
    /// It has ended.
    pub const DEAD: Pending = Pending(1 << 7);
    /// Everything.
    pub const ALL: Pending = Pending(0xff);

    /// Whether all of `other` are in the set.
    #[inline]
    pub const fn contains(self, other: Pending) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    #[inline]
    pub const fn intersects(self, other: Pending) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds `other`.
    #[inline]
    pub fn insert(&mut self, other: Pending) {
        self.0 |= other.0;
    }

    /// Takes `other` out.
    #[inline]
    pub fn remove(&mut self, other: Pending) {
        self.0 &= !other.0;
    }
}

impl std::ops::BitOr for Pending {
    type Output = Pending;
    fn bitor(self, other: Pending) -> Pending {
        Pending(self.0 | other.0)
    }
}

/// One connection of a batch: the ticket by which it comes back, and what there is to tell.
#[derive(Debug)]
pub struct Entry {
    /// The connection.
    pub handle: Handle,
    /// The application's name of it; meaningless before `accept`.
    pub cookie: Cookie,
    /// What there is to tell.
    pub pending: Pending,
    /// Whether the peer has finished.
    pub fin: bool,
    /// Why it ended, with [`Pending::DEAD`] and with a failed [`Pending::CONNECTED`].
    pub dead: Option<Dead>,
    /// Received bytes, those first that an earlier batch left unconsumed.
    pub rx: MbufQueue,
    /// Bytes that `sendv` will admit: a promise until this batch is completed. The application counts down what it uses.
    pub window: u32,
    /// What is left of the promise, by the stack's own count.
    pub(crate) promised: u32,
    /// Bytes admitted earlier and not acknowledged yet.
    pub unacked: u32,
    /// Bytes acknowledged since the last batch.
    pub sent: u32,
    pub(crate) tuple: Tuple,
}

impl Entry {
    /// Both ends.
    pub fn peer(&self) -> Peer {
        peer_of(&self.tuple)
    }
}

pub(crate) fn peer_of(t: &Tuple) -> Peer {
    Peer {
        remote: SocketAddr::new(t.remote.into(), t.remote_port),
        local: SocketAddr::new(t.local.into(), t.local_port),
    }
}

/// A received datagram.
#[derive(Debug)]
pub struct Datagram {
    /// Both ends.
    pub tuple: Tuple,
    /// Its payload.
    pub payload: Mbuf,
}

impl Datagram {
    /// Both ends, as applications see them.
    pub fn peer(&self) -> Peer {
        peer_of(&self.tuple)
    }
}

/// Connections with news for the application, then the syscalls that it answered with.
///
/// Made once per elastic thread and used again and again; its arrays never grow beyond what is reserved at start.
#[derive(Debug)]
pub struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) datagrams: Vec<Datagram>,
    pub(crate) messages: Vec<(Handle, u64)>,
    pub(crate) refused: Vec<Cookie>,
    pub(crate) calls: Vec<Syscall>,
    pub(crate) returns: Vec<i64>,
    pub(crate) sg: Vec<Option<Mbuf>>,
    pub(crate) left: Left,
    pub(crate) since: Nanos,
    pub(crate) took: Nanos,
}

/// What could not be carried out where a batch came home, for its connections belong to another core now: by their places.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) calls: Vec<u32>,
    pub(crate) entries: Vec<u16>,
    /// It has been carried out elsewhere: nothing is to be done any more.
    pub(crate) travelled: bool,
}

impl Left {
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.entries.is_empty()
    }
}

impl Batch {
    /// A batch for at most `bound` connections and as many datagrams.
    pub fn new(bound: usize) -> Batch {
        Batch {
            entries: Vec::with_capacity(bound),
            datagrams: Vec::with_capacity(bound),
            messages: Vec::with_capacity(bound * MESSAGES),
            refused: Vec::new(),
            calls: Vec::with_capacity(bound * CALLS_PER_ENTRY),
            returns: Vec::with_capacity(bound * CALLS_PER_ENTRY),
            sg: Vec::with_capacity(bound * CALLS_PER_ENTRY),
            left: Left {
                calls: Vec::with_capacity(bound * CALLS_PER_ENTRY),
                entries: Vec::with_capacity(bound),
                travelled: false,
            },
            since: Nanos::ZERO,
            took: Nanos::ZERO,
        }
    }

    /// When the first of it became ready: about the instant of the poll that received its request.
    #[inline]
    pub fn since(&self) -> Nanos {
        self.since
    }

    /// Another core than its home has run it, and took so long.
    #[inline]
    pub fn run_elsewhere(&mut self, took: Nanos) {
        self.took = took.max(Nanos(1));
    }

    /// Connections with news.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One connection with news.
    #[inline]
    pub fn entry(&self, i: usize) -> &Entry {
        &self.entries[i]
    }

    /// Datagrams, in the order of arrival.
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// Takes the datagrams out, to be kept beyond the batch: their buffers go home when they are dropped.
    pub fn drain_datagrams(&mut self) -> impl Iterator<Item = Datagram> + '_ {
        self.datagrams.drain(..)
    }

    /// What background threads posted to this connection, in order.
    pub fn messages(&self, handle: Handle) -> impl Iterator<Item = u64> + '_ {
        self.messages.iter().filter(move |(h, _)| *h == handle).map(|(_, token)| *token)
    }

    /// The connections that `connect` was asked for and could not open, by their cookies: for want of memory or of ports.
    pub fn refused(&self) -> &[Cookie] {
        &self.refused
    }

    /// How much there is to tell: connections, datagrams, refusals.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len() + self.datagrams.len() + self.refused.len()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event conditions of entry `i`, as the ABI lists them (thesis table 2.2). The received buffers of an entry are
    /// numbered from 0; [`Batch::rx_buffer`] shows them.
    pub fn events(&self, i: usize) -> impl Iterator<Item = Event> + '_ {
        let e = &self.entries[i];
        let has = move |p| e.pending.contains(p);
        let outcome = if e.dead.is_none() { Code::Ok } else { Code::ConnRefused };
        let knock = has(Pending::KNOCK).then(|| Event::Knock { handle: e.handle, peer: e.peer() });
        let connected =
            has(Pending::CONNECTED).then_some(Event::Connected { cookie: e.cookie, handle: e.handle, outcome });
        let sent = (e.sent > 0 || has(Pending::SENT)).then_some(Event::Sent {
            cookie: e.cookie,
            bytes: e.sent,
            window: e.window,
        });
        let bytes = e.rx.iter().enumerate().filter(move |_| has(Pending::RECV));
        let recv =
            bytes.map(move |(n, m)| Event::Recv { cookie: e.cookie, mbuf: RxRef(n as u32), len: m.len() as u32 });
        let fin = has(Pending::FIN).then_some(Event::Recv { cookie: e.cookie, mbuf: RxRef(u32::MAX), len: 0 });
        let timer = has(Pending::TIMER).then_some(Event::Timer { cookie: e.cookie });
        let messages = self.messages(e.handle).map(move |token| Event::Message { cookie: e.cookie, token });
        let dead = e.dead.filter(|_| has(Pending::DEAD)).map(|reason| Event::Dead { cookie: e.cookie, reason });
        let opening = knock.into_iter().chain(connected).chain(sent);
        opening.chain(recv).chain(fin).chain(timer).chain(messages).chain(dead)
    }

    /// The bytes of a received buffer of entry `i`; `None` for an [`RxRef`] that is not the entry's.
    pub fn rx_buffer(&self, i: usize, at: RxRef) -> Option<&[u8]> {
        self.entries.get(i)?.rx.iter().nth(at.0 as usize).map(|m| &m[..])
    }

    /// Adds a syscall; refused when the batch is full of them. Timers and new connections are refused before that: what answers and what ends
    /// a connection finds room whatever else was asked for.
    #[inline]
    pub fn call(&mut self, call: Syscall) -> Result<(), Code> {
        let reserved = match call {
            Syscall::Timer { .. } | Syscall::Connect { .. } => {
                ANSWER * self.entries.len() + self.messages.len() + self.datagrams.len()
            }
            _ => 0,
        };
        if self.calls.len() + reserved >= self.calls.capacity() {
            return Err(Code::NoMem);
        }
        self.calls.push(call);
        Ok(())
    }

    /// Puts buffers into the scatter-gather array, as many as `limit` bytes allow whole, for a `sendv` or `udp_send`.
    /// What does not fit stays in `queue`.
    #[inline]
    pub fn gather(&mut self, queue: &mut MbufQueue, limit: u32) -> (TxRange, u32) {
        let first = self.sg.len() as u32;
        let mut bytes = 0;
        while let Some(front) = queue.front() {
            let len = front.len() as u32;
            if bytes + len > limit || self.sg.len() == self.sg.capacity() {
                break;
            }
            bytes += len;
            self.sg.push(queue.pop_front());
        }
        (TxRange { first, count: self.sg.len() as u32 - first }, bytes)
    }

    /// Whether syscalls or connections are left that belong to another core now ([`Stack::send_after`](crate::Stack::send_after)).
    #[inline]
    pub fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// What each syscall came to, in their order: a [`Code`] or a byte count. Filled in by `complete`. One that is left for another core has come
    /// to nothing yet, which is [`Code::Ok`].
    pub fn returns(&self) -> &[i64] {
        &self.returns
    }

    /// The syscalls of a completed batch and what each came to, in order.
    pub fn outcomes(&self) -> impl Iterator<Item = (Syscall, i64)> + '_ {
        self.calls.iter().copied().zip(self.returns.iter().copied())
    }

    /// The application accepted the connection of entry `i`: the rest of the batch may name it by its cookie.
    pub fn accepted(&mut self, i: usize, cookie: Cookie) {
        if let Some(e) = self.entries.get_mut(i) {
            e.cookie = cookie;
        }
    }

    /// The application used `bytes` of the window that entry `i` was promised.
    #[inline]
    pub fn used_window(&mut self, i: usize, bytes: u32) {
        if let Some(e) = self.entries.get_mut(i) {
            e.window = e.window.saturating_sub(bytes);
        }
    }

    /// Entry `place` belongs to another core now: it keeps its bytes until it gets there.
    #[cold]
    pub(crate) fn leave_entry(&mut self, place: usize, rest: MbufQueue) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.rx = rest;
            self.left.entries.push(place as u16);
        }
    }

    /// Forgets everything of a completed batch; buffers go home.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.datagrams.clear();
        self.messages.clear();
        self.refused.clear();
        self.calls.clear();
        self.sg.clear();
        self.left.travelled = false;
        self.took = Nanos::ZERO;
    }
}
