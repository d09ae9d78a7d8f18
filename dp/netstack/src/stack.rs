//! The network layer of one core as a value: what it owns, and the order in which one pass works.

use std::collections::VecDeque;
use std::sync::Arc;

use abi::{Cookie, Handle};
use mem::{MbufQueue, MemError, Pool, Room};
use nic::{Queue, RxFrame, RxPools};
use shuffle::{Phase, Step};
use units::{CoreId, FLOW_GROUPS, FlowGroupId, Nanos};
use wheel::Wheel;

use crate::ahead::{Flow, WINDOW};
use crate::batch::{Batch, Datagram, Entry, Pending};
use crate::bucket::Bucket;
use crate::conn::{Conn, Owner};
use crate::flood::ANSWERS;
use crate::flow_group::{ConnId, FlowGroup, Groups};
use crate::flow_table::FlowTable;
use crate::fragments::Fragments;
use crate::metrics::Metrics;
use crate::moves::Moves;
use crate::shared::{MAIL, Shared};
use crate::slips::Slips;
use crate::timers::TIMERS;
use crate::tx::Link;

/// Datagrams that wait for the application at one core.
const DATAGRAMS: usize = 512;
/// Room for data in a receive buffer, and in the big and the small ones.
const MBUF: u32 = 2048;
const SPILL: u32 = 64 * 1024 + 64;
/// Large buffers without large receive: for datagrams that came in fragments.
const FEW_SPILLS: u32 = 4;
const SMALL: u32 = 256;

/// What a pass did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Frames received or taken over, messages, timers: anything that was work.
    pub work: usize,
}

/// How long connections wait in the ready queue: of all that are in it one is watched, the last at some time.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Wait {
    /// How many are before it, itself included; 0: none is watched.
    ahead: usize,
    since: Nanos,
    /// What the last one waited; nothing, if the queue has been empty since.
    last: Nanos,
}

impl Wait {
    /// All that waited have gone elsewhere, or may have: whoever is watched may be among them.
    pub(crate) fn gone(&mut self) {
        *self = Wait::default();
    }

    /// So many were taken, and so many are left.
    #[inline]
    fn taken(&mut self, n: usize, left: usize, now: Nanos) {
        if left == 0 {
            *self = Wait::default();
        } else if self.ahead > n {
            // Groups that have gone have taken theirs along.
            self.ahead = (self.ahead - n).min(left);
        } else {
            let last = if self.ahead > 0 { now - self.since } else { self.last };
            *self = Wait { ahead: left, since: now, last };
        }
    }
}

/// The network layer of one core. Reached only through its guard; everything that a pass touches is here.
pub struct Stack<Q> {
    pub(crate) core: CoreId,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: Link<Q>,
    pub(crate) small: Pool,
    /// The flow groups owned by this core; the others are elsewhere.
    pub(crate) groups: Groups,
    pub(crate) wheel: Wheel,
    /// No timer is due before: asking the wheel costs more than most turns have to spend on it.
    pub(crate) timers_due: Nanos,
    /// Tokens of timers that fired, while they are worked through.
    pub(crate) due: Vec<u64>,
    /// Connections with news for the application, each once.
    pub(crate) ready: VecDeque<ConnId>,
    /// Connections that may have something to transmit, each once.
    pub(crate) dirty: VecDeque<ConnId>,
    pub(crate) burst: Vec<RxFrame>,
    /// The flows of some frames of the burst, while it is worked through.
    flows: Vec<Option<Flow>>,
    pub(crate) datagrams: VecDeque<Datagram>,
    /// How long the ready queue lasts: one connection in it is watched until it is dispatched.
    pub(crate) wait: Wait,
    /// Where there are connections and datagrams, and room for one: which it was last.
    datagrams_first: bool,
    pub(crate) mail: VecDeque<(Handle, u64)>,
    /// Connections that could not be opened, to be told to the application.
    pub(crate) refused: Vec<Cookie>,
    pub(crate) slips: Slips,
    /// Groups come or have gone: the pass looks at `moves`.
    pub(crate) moving: bool,
    pub(crate) moves: Box<Moves>,
    /// What connections take in trouble.
    pub(crate) records: tcp::Records,
    mail_swap: Vec<(Handle, u64)>,
    /// Transmit buffers whose bytes were acknowledged, to go home with the next pass.
    pub(crate) freed: MbufQueue,
    pub(crate) next_port: u16,
    pub(crate) fragments: Fragments,
    /// Paces ICMP errors.
    pub(crate) icmp_errors: Bucket,
    /// Paces resets to strays.
    pub(crate) resets: Bucket,
    /// Until when an ACK to a listening port may carry a cookie of ours.
    pub(crate) cookies_until: Nanos,
    /// Until when SYNs are expected to want one.
    pub(crate) flood_until: Nanos,
    /// The latest instant that anybody brought along.
    pub(crate) now: Nanos,
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
            spills: Pool::new(
                Room::Received,
                if nic.caps().large_rx { c.pools.spill.max(2) } else { c.pools.spill.clamp(1, FEW_SPILLS) },
                SPILL,
            )?,
        };
        let small = Pool::new(Room::Received, c.pools.small, SMALL)?;
        // Twice the mean and some: flows are spread by a keyed hash, but never quite evenly.
        let limit = (2 * c.max_conns / FLOW_GROUPS + 64).min(c.max_conns);
        let backlog = (c.backlog / FLOW_GROUPS).max(8);
        let own = |g: usize| shared.owner(FlowGroupId(g as u16)) == core;
        let owned = (0..FLOW_GROUPS).filter(|g| own(*g)).count();
        let mut tables = FlowTable::tables(owned, limit + backlog, c.pages)?.into_iter();
        let mut group = |table| Box::new(FlowGroup::new(shared.flow_key, table, shared.depot.clone(), limit, backlog));
        let slips = Slips::new(c.batch.max(1));
        let _ = shared.inbox(core).shuffle.set(slips.shuffle.clone());
        Ok(Stack {
            core,
            groups: Groups(Box::new(std::array::from_fn(|g| own(g).then(|| tables.next().map(&mut group))?))),
            wheel: Wheel::with_capacity(c.max_conns + FLOW_GROUPS * backlog),
            timers_due: Nanos::MAX,
            due: Vec::with_capacity(256),
            // A connection is in each at most once, so they never grow. Untouched parts cost address space only.
            ready: VecDeque::with_capacity(shared.depot.capacity()),
            dirty: VecDeque::with_capacity(shared.depot.capacity()),
            burst: Vec::with_capacity(c.batch.max(1)),
            flows: Vec::with_capacity(WINDOW),
            datagrams: VecDeque::with_capacity(DATAGRAMS),
            wait: Wait::default(),
            datagrams_first: true,
            mail: VecDeque::with_capacity(MAIL),
            refused: Vec::new(),
            moving: false,
            moves: Box::new(Moves::new(c.pools.rx as usize, &shared)),
            slips,
            records: tcp::Records::new(c.records),
            mail_swap: Vec::with_capacity(MAIL),
            freed: MbufQueue::new(),
            next_port: (shared.isn.ts_offset(&wire::Tuple::default()) >> 7) as u16,
            fragments: Fragments::new(c.pools.rx as usize),
            icmp_errors: Bucket::of_icmp_errors(),
            resets: Bucket::of_resets(),
            cookies_until: Nanos::ZERO,
            flood_until: Nanos::ZERO,
            now: Nanos::ZERO,
            small,
            metrics: shared.metrics(core).clone(),
            link: Link::new(nic, pools, core, shared.clone()),
            shared,
        })
    }

    /// `now`, unless somebody was here who looked at the clock later and came earlier: time never goes backwards in here.
    #[inline]
    pub(crate) fn not_before(&mut self, now: Nanos) -> Nanos {
        self.now = self.now.max(now);
        self.now
    }

    /// The core's counters.
    #[inline]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The NIC queue, to be waited on and asked for its counters.
    pub fn nic(&mut self) -> &mut Q {
        &mut self.link.nic
    }

    /// One bounded pass over what came in: at most `budget` frames from the own queue, as many that others forwarded,
    /// and the messages posted so far. Connections with news enter the ready list.
    pub fn ingest(&mut self, now: Nanos, budget: usize) -> Progress {
        Progress { work: self.receive(now, budget) + self.take_mail() }
    }

    /// The frames of [`Stack::ingest`] alone.
    pub fn receive(&mut self, now: Nanos, budget: usize) -> usize {
        let now = self.not_before(now);
        if self.moving {
            return self.receive_moving(now, budget);
        }
        self.poll_ring(now, budget) + self.poll_inbox(now, budget)
    }

    /// Whether what is here is to be served before more is taken off the ring: frames that found no room later would have cost their time for nothing. They wait there,
    /// or are dropped by the NIC.
    #[inline]
    pub(crate) fn holds_back(&self) -> bool {
        self.link.pools.is_low() && !self.ready.is_empty()
    }

    /// At most `budget` frames of the own queue.
    #[inline(always)]
    pub(crate) fn poll_ring(&mut self, now: Nanos, budget: usize) -> usize {
        if self.holds_back() {
            return 0;
        }
        let mut burst = std::mem::take(&mut self.burst);
        let budget = budget.min(burst.capacity());
        let received = self.link.nic.rx_burst(&mut self.link.pools, budget, &mut burst);
        if received > 0 {
            self.metrics.rx_frames.add(received as u64);
            self.metrics.rx_polls.inc();
        }
        if received == burst.capacity() {
            self.ring_is_full();
        }
        let mut flows = std::mem::take(&mut self.flows);
        let mut frames = burst.drain(..);
        let mut answers = (now < self.flood_until && !self.moving).then_some(ANSWERS);
        while !frames.as_slice().is_empty() {
            self.look_ahead(frames.as_slice(), &mut flows);
            for (turn, frame) in frames.by_ref().take(WINDOW).enumerate() {
                let flow = flows.get(turn).copied().flatten();
                match &mut answers {
                    Some(answers) => self.flooded(frame, flow, now, answers),
                    None => self.frame_arrives(frame, flow, now),
                }
            }
        }
        drop(frames);
        (self.burst, self.flows) = (burst, flows);
        received
    }

    /// A poll took all that it may: how much is behind it says how far the core is.
    #[cold]
    fn ring_is_full(&mut self) {
        self.metrics.ring_full.inc();
        self.metrics.rx_behind.add(self.link.nic.rx_waiting() as u64);
    }

    /// At most `budget` frames that others forwarded.
    #[inline(always)]
    pub(crate) fn poll_inbox(&mut self, now: Nanos, budget: usize) -> usize {
        let mut work = 0;
        for _ in 0..budget {
            let Some(frame) = self.shared.inbox(self.core).frames.pop() else { break };
            self.metrics.rx_forwarded_in.inc();
            self.frame_arrives(frame, None, now);
            work += 1;
        }
        work
    }

    /// The messages of [`Stack::ingest`] alone: not to be called where application code of this thread is interrupted, for that may hold the inbox.
    pub fn take_mail(&mut self) -> usize {
        use std::sync::atomic::Ordering;
        let inbox = self.shared.inbox(self.core);
        if !inbox.mail_waits.load(Ordering::Relaxed) {
            return 0;
        }
        inbox.mail_waits.store(false, Ordering::Release);
        let mut mail = std::mem::take(&mut self.mail_swap);
        std::mem::swap(&mut mail, &mut *inbox.mail.lock().unwrap_or_else(|e| e.into_inner()));
        let mut n = mail.len();
        for (to, token) in mail.drain(..) {
            self.deliver(to, token);
        }
        self.mail_swap = mail;
        self.moving |= !self.shared.inbox(self.core).moved.is_empty();
        while let Some(trip) = self.shared.inbox(self.core).trips.pop() {
            self.trip_arrives(trip);
            n += 1;
        }
        n
    }

    /// Keeps a message for a connection that is here; sends it on where it has moved to.
    pub(crate) fn deliver(&mut self, to: Handle, token: u64) {
        match self.groups.named(to) {
            Ok((id, _)) => {
                self.mail.push_back((to, token));
                self.tell(id, Pending::MESSAGE);
            }
            // A connection that has ended swallows its messages.
            Err(_) => self.deliver_elsewhere(to, token),
        }
    }

    /// Moves at most `max` ready connections, and datagrams, into the batch; marks the connections busy.
    pub fn dispatch(&mut self, max: usize, batch: &mut Batch) -> usize {
        let before = batch.len();
        if before == 0 {
            batch.since = self.now - self.wait.last;
        }
        // A batch that is to have less than it holds is for long handlers, and one of one is to be stolen: its connections and datagrams count
        // alike, so that none waits behind more than its share. Where both wait, they take turns at being first.
        let bound = batch.datagrams.capacity();
        let shared = max < bound || bound == 1;
        let connections = if shared && !self.datagrams.is_empty() {
            self.datagrams_first = !self.datagrams_first;
            if self.datagrams_first { max / 2 } else { max }
        } else {
            max
        };
        let mut taken = 0;
        for _ in 0..connections.min(batch.entries.capacity() - batch.entries.len()) {
            let Some(id) = self.ready.pop_front() else { break };
            taken += 1;
            let place = batch.entries.len() as u16;
            let Some(conn) = self.groups.conn_mut(id) else { continue };
            let _ = conn.phase.step(Step::Batched);
            if conn.owner == Owner::Gone {
                self.settle(id);
                continue;
            }
            conn.place = place;
            // A knock hides everything but itself until it is answered.
            let knocking = conn.owner == Owner::Knocking;
            let window = conn.window();
            let entry = Entry {
                handle: Handle::new(id.group(), id.slot(), conn.generation),
                cookie: conn.cookie,
                pending: conn.pending,
                fin: conn.peer_fin,
                dead: conn.dead,
                rx: if knocking { MbufQueue::new() } else { std::mem::take(&mut conn.rx) },
                window,
                promised: window,
                unacked: conn.tx.bytes(),
                sent: std::mem::take(&mut conn.sent),
                tuple: self.shared.addresses.tuple(&conn.ends),
            };
            conn.pending.remove(if knocking { Pending::KNOCK | Pending::DEAD } else { Pending::ALL });
            if conn.owner == Owner::Connecting && conn.dead.is_none() {
                conn.owner = Owner::App;
            }
            batch.entries.push(entry);
        }
        self.wait.taken(taken, self.ready.len(), self.now);
        if !self.mail.is_empty() && batch.entries.iter().any(|e| e.pending.contains(Pending::MESSAGE)) {
            self.deliver_mail(batch);
        }
        let room = if shared { max - (batch.len() - before) } else { bound };
        for _ in 0..room.min(bound - batch.datagrams.len()) {
            let Some(d) = self.datagrams.pop_front() else { break };
            batch.datagrams.push(d);
        }
        batch.refused.append(&mut self.refused);
        batch.len() - before
    }

    /// Moves the messages of the batch's connections into it; those of others, and those that find no room, wait in order.
    #[cold]
    fn deliver_mail(&mut self, batch: &mut Batch) {
        for _ in 0..self.mail.len() {
            let Some((to, token)) = self.mail.pop_front() else { break };
            // A connection that has ended swallows its messages.
            let Ok((_, conn)) = self.groups.named(to) else { continue };
            let here =
                conn.phase == Phase::Busy && batch.entries.get(usize::from(conn.place)).is_some_and(|e| e.handle == to);
            if here && batch.messages.len() < batch.messages.capacity() {
                batch.messages.push((to, token));
            } else {
                // Told again after this batch, if it is in it; else it is ready already.
                conn.pending.insert(Pending::MESSAGE);
                self.mail.push_back((to, token));
            }
        }
    }

    /// Connections and datagrams that wait for the application.
    #[inline]
    pub fn ready(&self) -> usize {
        self.ready.len() + self.datagrams.len() + self.refused.len()
    }

    /// Transmits what connections have to say, works off due timers, rings the doorbell. `arena` gets back the transmit buffers
    /// whose bytes were acknowledged. Answers when the stack must be called again at the latest.
    pub fn egress(&mut self, now: Nanos, arena: &mut Pool) -> Nanos {
        self.run_timers(now, TIMERS);
        let deadline = self.transmit(now);
        self.free_into(arena);
        deadline
    }

    /// Sends home the transmit buffers whose bytes were acknowledged: those of `arena` at once.
    pub fn free_into(&mut self, arena: &mut Pool) {
        if !self.freed.is_empty() {
            arena.free_queue(std::mem::take(&mut self.freed));
        }
    }

    /// Sends home the transmit buffers whose bytes were acknowledged, where no arena is at hand: a home that is away for long must not keep
    /// them from those who answer in its stead.
    pub fn free_all(&mut self) {
        if !self.freed.is_empty() {
            self.freed = MbufQueue::new();
        }
    }

    /// Transmits and rings the doorbell, without timers. Answers when the stack must be called again at the latest.
    pub fn transmit(&mut self, now: Nanos) -> Nanos {
        let now = self.not_before(now);
        if self.link.is_blocked() {
            self.link.flush(now);
        }
        while !self.link.is_blocked() {
            let Some(id) = self.dirty.pop_front() else { break };
            self.output(id, now);
        }
        self.link.flush(now);
        if self.link.is_blocked() {
            return now;
        }
        // Frames that wait for an address are looked at now and then.
        let parked = if self.link.has_parked() { now + crate::tx::LOOK_EVERY } else { Nanos::MAX };
        self.timers_due.min(parked)
    }

    /// All that a connection has to transmit now; then its timer.
    fn output(&mut self, id: ConnId, now: Nanos) {
        let Stack { groups, link, shared, metrics, dirty, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return };
        conn.dirty = false;
        let Some(tcb) = conn.tcb.as_mut() else { return };
        let (max, cfg) = (link.max_payload(tcb.mss()), shared.tcp(&conn.ends));
        if conn.owed > 0 {
            conn.owed -= tcb.send(now, conn.owed);
        }
        // By reference: a copy would wait for what was just written.
        while let Some(emit) = &tcb.poll_transmit(now, cfg, max) {
            if emit.rexmit {
                metrics.tcp_retransmits.inc();
            }
            link.tcp(now, &conn.ends, emit, &conn.tx);
            if emit.len > u32::from(emit.mss) && link.is_blocked() {
                // The rest when there is room again.
                if conn.soil() {
                    dirty.push_front(id);
                }
                break;
            }
        }
        self.arm(id);
    }

    /// Notes news for the application; the connection becomes ready unless it is or is busy.
    pub(crate) fn tell(&mut self, id: ConnId, what: Pending) {
        if self.groups.conn_mut(id).is_some_and(|c| c.tell(what)) {
            self.ready.push_back(id);
        }
    }

    /// Notes that a connection may have something to transmit, or another deadline.
    pub(crate) fn mark_dirty(&mut self, id: ConnId) {
        if self.groups.conn_mut(id).is_some_and(Conn::soil) {
            self.dirty.push_back(id);
        }
    }

    // --- sizes, for metrics and tests ----------------------------------------------------------------------------

    /// Connections in use, those included that TCP is still ending.
    pub fn connections(&self) -> usize {
        self.groups.iter().map(|g| g.live()).sum()
    }

    /// Receive buffers that are free in the own pool right now.
    pub fn rx_available(&self) -> usize {
        self.link.pools.mbufs.available()
    }

    /// Bytes of tables and connections.
    pub fn table_bytes(&self) -> usize {
        self.groups.iter().map(|g| g.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_in_the_ready_queue_is_that_of_one_that_is_watched() {
        let mut wait = Wait::default();
        // Ten a microsecond are taken of a queue of a hundred: each waits for ten.
        for us in 0..50 {
            wait.taken(10, 100, Nanos::from_micros(us));
            assert!(us < 11 || wait.last == Nanos::from_micros(10), "{us}: {wait:?}");
        }
        wait.taken(100, 0, Nanos::from_micros(51));
        assert_eq!(wait.last, Nanos::ZERO);
        // What goes to another core with its group was not served after all this time.
        wait.taken(10, 100, Nanos::from_micros(60));
        wait.gone();
        wait.taken(10, 100, Nanos::from_secs(60));
        assert_eq!(wait.last, Nanos::ZERO);
    }
}
