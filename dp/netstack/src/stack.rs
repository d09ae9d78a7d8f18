//! The network layer of one core as a value: what it owns, and the order in which one pass works.

use std::collections::VecDeque;
use std::sync::Arc;

use abi::Handle;
use mem::{MbufQueue, MemError, Pool, Room};
use nic::{Queue, RxFrame, RxPools};
use units::{CoreId, FLOW_GROUPS, FlowGroupId, Nanos};
use wheel::Wheel;

use crate::batch::{Batch, Datagram, Entry, Pending};
use crate::conn::{Conn, Owner, Phase};
use crate::flow_group::{FlowGroup, NIL};
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::tx::Link;

/// Datagrams that wait for the application at one core.
const DATAGRAMS: usize = 512;
/// Room for data in a receive buffer, and in the big and the small ones.
const MBUF: u32 = 2048;
const SPILL: u32 = 64 * 1024;
const SMALL: u32 = 256;

/// A connection of this core: flow group and slot, packed to fit a list link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConnId(u32);

impl ConnId {
    pub(crate) fn new(group: FlowGroupId, slot: u32) -> ConnId {
        ConnId(u32::from(group.0) << 24 | slot)
    }

    pub(crate) fn group(self) -> usize {
        (self.0 >> 24) as usize
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 & 0xff_ffff
    }
}

/// A list of connections whose links are in the connections.
struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: List = List { head: NIL, tail: NIL };
}

/// What a pass did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Frames received or taken over, messages, timers: anything that was work.
    pub work: usize,
}

/// The network layer of one core. Reached only through its guard; everything that a pass touches is here.
pub struct Stack<Q> {
    pub(crate) core: CoreId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: Link<Q>,
    pub(crate) small: Pool,
    /// The flow groups owned by this core; the others are elsewhere.
    pub(crate) groups: Vec<Option<Box<FlowGroup>>>,
    pub(crate) wheel: Wheel,
    /// Tokens of timers that fired, while they are worked through.
    pub(crate) due: Vec<u64>,
    ready: List,
    ready_len: usize,
    dirty: List,
    burst: Vec<RxFrame>,
    pub(crate) datagrams: VecDeque<Datagram>,
    pub(crate) mail: VecDeque<(Handle, u64)>,
    mail_swap: Vec<(Handle, u64)>,
    /// Transmit buffers whose bytes were acknowledged, to go home with the next pass.
    pub(crate) freed: MbufQueue,
    pub(crate) next_port: u16,
    /// Until when an ACK to a listening port may carry a cookie of ours.
    pub(crate) cookies_until: Nanos,
}

impl<Q: Queue> Stack<Q> {
    /// The stack of one core: reserves all of its memory.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(core: CoreId, shared: Arc<Shared>, nic: Q) -> Result<Stack<Q>, MemError> {
        let c = shared.config();
        let pools = RxPools {
            mbufs: Pool::new(Room::Received, c.pools.rx, MBUF)?,
            spills: Pool::new(Room::Received, if nic.caps().large_rx { c.pools.spill.max(2) } else { 1 }, SPILL)?,
        };
        let small = Pool::new(Room::Received, c.pools.small, SMALL)?;
        // Twice the mean and some: flows are spread by a keyed hash, but never quite evenly.
        let limit = (2 * c.max_conns / FLOW_GROUPS + 64).min(c.max_conns);
        let backlog = (c.backlog / FLOW_GROUPS).max(8);
        let own = |g: usize| shared.owner(FlowGroupId(g as u16)) == core;
        let group = |_| Some(Box::new(FlowGroup::new(shared.flow_key, shared.depot.clone(), limit, backlog)));
        Ok(Stack {
            core,
            groups: (0..FLOW_GROUPS).map(|g| own(g).then_some(g).and_then(group)).collect(),
            wheel: Wheel::with_capacity(c.max_conns + FLOW_GROUPS * backlog),
            due: Vec::with_capacity(256),
            ready: List::EMPTY,
            ready_len: 0,
            dirty: List::EMPTY,
            burst: Vec::with_capacity(c.batch.max(1)),
            datagrams: VecDeque::with_capacity(DATAGRAMS),
            mail: VecDeque::with_capacity(256),
            mail_swap: Vec::with_capacity(256),
            freed: MbufQueue::new(),
            next_port: (shared.isn.ts_offset(&wire::Tuple::default()) >> 7) as u16,
            cookies_until: Nanos::ZERO,
            small,
            link: Link::new(nic, pools, core, shared.clone()),
            shared,
        })
    }

    /// The core's counters.
    #[inline]
    pub fn metrics(&self) -> &Metrics {
        self.shared.metrics(self.core)
    }

    /// The NIC queue, to be waited on and asked for its counters.
    pub fn nic(&mut self) -> &mut Q {
        &mut self.link.nic
    }

    /// One bounded pass over what came in: at most `budget` frames from the own queue, as many that others forwarded,
    /// and the messages posted so far. Connections with news enter the ready list.
    pub fn ingest(&mut self, now: Nanos, budget: usize) -> Progress {
        let mut burst = std::mem::take(&mut self.burst);
        let budget = budget.min(burst.capacity());
        let received = self.link.nic.rx_burst(&mut self.link.pools, budget, &mut burst);
        self.metrics().rx_frames.add(received as u64);
        for frame in burst.drain(..) {
            self.frame_arrives(frame, now);
        }
        self.burst = burst;
        let mut work = received;
        for _ in 0..budget {
            let Some(frame) = self.shared.inbox(self.core).frames.pop() else { break };
            self.metrics().rx_forwarded_in.inc();
            self.frame_arrives(frame, now);
            work += 1;
        }
        work += self.take_mail();
        Progress { work }
    }

    fn take_mail(&mut self) -> usize {
        use std::sync::atomic::Ordering;
        let inbox = self.shared.inbox(self.core);
        if !inbox.mail_waits.load(Ordering::Relaxed) {
            return 0;
        }
        inbox.mail_waits.store(false, Ordering::Release);
        let mut mail = std::mem::take(&mut self.mail_swap);
        std::mem::swap(&mut mail, &mut *inbox.mail.lock().unwrap_or_else(|e| e.into_inner()));
        let n = mail.len();
        for (to, token) in mail.drain(..) {
            let Some(id) = self.checked(to) else { continue };
            self.mail.push_back((to, token));
            self.tell(id, Pending::MESSAGE);
        }
        self.mail_swap = mail;
        n
    }

    /// Moves at most `max` ready connections, and datagrams, into the batch; marks the connections busy.
    pub fn dispatch(&mut self, max: usize, batch: &mut Batch) -> usize {
        debug_assert!(batch.entries.is_empty(), "a batch is completed before the next dispatch");
        for _ in 0..max.min(batch.entries.capacity()) {
            let Some(id) = self.pop_ready() else { break };
            let place = batch.entries.len() as u16;
            let Some(conn) = self.conn_mut(id) else { continue };
            if conn.owner == Owner::Gone {
                self.settle(id);
                continue;
            }
            conn.phase = Phase::Busy;
            conn.place = place;
            // A knock hides everything but itself until it is answered.
            let knocking = conn.owner == Owner::Knocking;
            let entry = Entry {
                handle: Handle::new(FlowGroupId(id.group() as u16), id.slot(), conn.generation),
                cookie: conn.cookie,
                pending: conn.pending,
                fin: conn.peer_fin,
                dead: conn.dead,
                rx: if knocking { MbufQueue::new() } else { std::mem::take(&mut conn.rx) },
                window: conn.window(),
                promised: conn.window(),
                unacked: conn.tx.bytes(),
                sent: std::mem::take(&mut conn.sent),
                tuple: conn.tuple,
            };
            conn.pending.remove(if knocking { Pending::KNOCK | Pending::DEAD } else { Pending::ALL });
            if conn.owner == Owner::Connecting && conn.dead.is_none() {
                conn.owner = Owner::App;
            }
            batch.entries.push(entry);
        }
        while !self.mail.is_empty() && batch.messages.len() < batch.messages.capacity() {
            batch.messages.extend(self.mail.pop_front());
        }
        while batch.datagrams.len() < batch.datagrams.capacity() {
            let Some(d) = self.datagrams.pop_front() else { break };
            batch.datagrams.push(d);
        }
        batch.entries.len() + batch.datagrams.len()
    }

    /// Connections and datagrams that wait for the application.
    pub fn ready(&self) -> usize {
        self.ready_len + self.datagrams.len()
    }

    /// Transmits what connections have to say, works off due timers, rings the doorbell. `arena` gets back the transmit buffers
    /// whose bytes were acknowledged. Answers when the stack must be called again at the latest.
    pub fn egress(&mut self, now: Nanos, arena: &mut Pool) -> Nanos {
        self.run_timers(now);
        if self.link.is_blocked() {
            self.link.flush(now);
        }
        while !self.link.is_blocked() {
            let Some(id) = self.pop_dirty() else { break };
            self.output(id, now);
        }
        self.link.flush(now);
        if !self.freed.is_empty() {
            arena.free_queue(std::mem::take(&mut self.freed));
        }
        if self.link.is_blocked() {
            return now;
        }
        // Frames that wait for an address are looked at now and then.
        let parked = if self.link.has_parked() { now + Nanos::from_millis(2) } else { Nanos::MAX };
        self.wheel.next_deadline().unwrap_or(Nanos::MAX).min(parked)
    }

    /// All that a connection has to transmit now; then its timer.
    fn output(&mut self, id: ConnId, now: Nanos) {
        let Stack { groups, link, shared, core, .. } = self;
        let Some(conn) = groups.get_mut(id.group()).and_then(Option::as_mut).and_then(|g| g.conn_mut(id.slot())) else {
            return;
        };
        let Some(tcb) = conn.tcb.as_mut() else { return };
        let max = link.max_payload(tcb.mss());
        if conn.owed > 0 {
            conn.owed -= tcb.send(now, conn.owed);
        }
        while let Some(emit) = tcb.poll_transmit(now, &shared.config.tcp, max) {
            if emit.rexmit {
                shared.metrics(*core).tcp_retransmits.inc();
            }
            link.tcp(now, &conn.tuple, &emit, &conn.tx);
        }
        self.arm(id);
    }

    // --- connections by name -------------------------------------------------------------------------------------

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.groups.get_mut(id.group())?.as_mut()?.conn_mut(id.slot())
    }

    /// The connection that a handle names, if it is this core's and alive.
    pub(crate) fn checked(&mut self, handle: Handle) -> Option<ConnId> {
        let id = ConnId::new(FlowGroupId(handle.group().0 % FLOW_GROUPS as u16), handle.slot());
        let conn = self.conn_mut(id)?;
        let alive = conn.generation == handle.generation() && !matches!(conn.owner, Owner::Nobody | Owner::Gone);
        (alive && handle.group().index() < FLOW_GROUPS).then_some(id)
    }

    // --- the two lists -------------------------------------------------------------------------------------------

    /// Notes news for the application; the connection becomes ready unless it is or is busy.
    pub(crate) fn tell(&mut self, id: ConnId, what: Pending) {
        let Some(conn) = self.conn_mut(id) else { return };
        conn.pending.insert(what);
        if conn.phase == Phase::Idle && conn.has_news() {
            self.push_ready(id);
        }
    }

    pub(crate) fn push_ready(&mut self, id: ConnId) {
        let tail = self.ready.tail;
        let Some(conn) = self.conn_mut(id) else { return };
        conn.phase = Phase::Ready;
        conn.next_ready = NIL;
        match tail {
            NIL => self.ready.head = id.0,
            _ => {
                if let Some(last) = self.conn_mut(ConnId(tail)) {
                    last.next_ready = id.0;
                }
            }
        }
        self.ready.tail = id.0;
        self.ready_len += 1;
    }

    fn pop_ready(&mut self) -> Option<ConnId> {
        let id = ConnId(self.ready.head);
        if id.0 == NIL {
            return None;
        }
        let next = self.conn_mut(id).map_or(NIL, |c| c.next_ready);
        self.ready.head = next;
        if next == NIL {
            self.ready.tail = NIL;
        }
        self.ready_len -= 1;
        Some(id)
    }

    /// Notes that a connection may have something to transmit, or another deadline.
    pub(crate) fn mark_dirty(&mut self, id: ConnId) {
        let tail = self.dirty.tail;
        let Some(conn) = self.conn_mut(id) else { return };
        if conn.dirty {
            return;
        }
        conn.dirty = true;
        conn.next_dirty = NIL;
        match tail {
            NIL => self.dirty.head = id.0,
            _ => {
                if let Some(last) = self.conn_mut(ConnId(tail)) {
                    last.next_dirty = id.0;
                }
            }
        }
        self.dirty.tail = id.0;
    }

    fn pop_dirty(&mut self) -> Option<ConnId> {
        let id = ConnId(self.dirty.head);
        if id.0 == NIL {
            return None;
        }
        let mut next = NIL;
        if let Some(conn) = self.conn_mut(id) {
            next = conn.next_dirty;
            conn.dirty = false;
        }
        self.dirty.head = next;
        if next == NIL {
            self.dirty.tail = NIL;
        }
        Some(id)
    }

    // --- sizes, for metrics and tests ----------------------------------------------------------------------------

    /// Connections in use, those included that TCP is still ending.
    pub fn connections(&self) -> usize {
        self.groups.iter().flatten().map(|g| g.live()).sum()
    }

    /// Receive buffers that are free in the own pool right now.
    pub fn rx_available(&self) -> usize {
        self.link.pools.mbufs.available()
    }

    /// Bytes of tables and connections.
    pub fn table_bytes(&self) -> usize {
        self.groups.iter().flatten().map(|g| g.bytes()).sum()
    }
}
