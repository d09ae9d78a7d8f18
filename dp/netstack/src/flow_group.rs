//! A flow group: the unit of ownership and of migration. It owns its connections and half-open entries.

use std::collections::VecDeque;

use abi::{Code, Handle};
use mem::{Chunk, Depot};
use units::{FLOW_GROUPS, FlowGroupId};
use wheel::TimerId;

use crate::addresses::Ends;
use crate::conn::{Conn, Owner};
use crate::flow_table::{FlowKey, FlowTable};
use crate::half_open::HalfTable;

/// Slots per chunk of the depot.
const CHUNK: usize = mem::CHUNK;
/// Marks slots of half-open entries in the flow table.
const HALF: u32 = 1 << 30;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// What a connection takes in its stack, in bytes, without buffers, table entry and timer.
pub const CONN_BYTES: usize = size_of::<Conn>();

/// A connection of a core: flow group and slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConnId(u32);

impl ConnId {
    #[inline]
    pub(crate) fn new(group: FlowGroupId, slot: u32) -> ConnId {
        ConnId(u32::from(group.0) << 24 | slot & 0xff_ffff)
    }

    #[inline]
    pub(crate) fn group(self) -> FlowGroupId {
        FlowGroupId((self.0 >> 24) as u16)
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.0 & 0xff_ffff
    }
}

/// The flow groups that a core owns, in a table of all.
pub(crate) struct Groups(pub(crate) Box<[Option<Box<FlowGroup>>; FLOW_GROUPS]>);

impl Groups {
    #[inline]
    pub(crate) fn get(&self, group: FlowGroupId) -> Option<&FlowGroup> {
        self.0[group.index() % FLOW_GROUPS].as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, group: FlowGroupId) -> Option<&mut FlowGroup> {
        self.0[group.index() % FLOW_GROUPS].as_deref_mut()
    }

    #[inline]
    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.get_mut(id.group())?.conn_mut(id.slot())
    }

    /// The connection that a handle alleges, if it is here and alive.
    #[inline]
    pub(crate) fn named(&mut self, handle: Handle) -> Result<(ConnId, &mut Conn), Code> {
        let id = ConnId::new(handle.group(), handle.slot());
        let conn = self.conn_mut(id).ok_or(Code::BadHandle)?;
        let alive = conn.generation == handle.generation() && !matches!(conn.owner, Owner::Nobody | Owner::Gone);
        if alive && handle.group().index() < FLOW_GROUPS { Ok((id, conn)) } else { Err(Code::BadHandle) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &FlowGroup> {
        self.0.iter().filter_map(Option::as_deref)
    }
}

/// What the flow table knows of a tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Conn(u32),
    Half(u32),
}

pub(crate) struct FlowGroup {
    key: FlowKey,
    table: FlowTable,
    pub(crate) halves: HalfTable,
    chunks: Vec<Chunk<Conn>>,
    depot: Depot<Conn>,
    /// Connections in TIME-WAIT and FIN-WAIT-2 that nobody has any more, oldest first, with their generations. Those that have ended since
    /// leave when they are at the front, or when the queue is full.
    ending: VecDeque<(u32, u32)>,
    free: u32,
    live: usize,
    limit: usize,
    /// Connections that have not ended.
    pub(crate) open: u64,
}

impl FlowGroup {
    /// A group of at most `limit` connections and `backlog` half-open entries, which `table` has room for.
    pub(crate) fn new(key: FlowKey, table: FlowTable, depot: Depot<Conn>, limit: usize, backlog: usize) -> FlowGroup {
        FlowGroup {
            key,
            table,
            halves: HalfTable::new(backlog),
            chunks: Vec::with_capacity(limit.div_ceil(CHUNK)),
            depot,
            // Untouched parts cost address space only.
            ending: VecDeque::with_capacity(2 * limit + CHUNK),
            free: NIL,
            live: 0,
            limit,
            open: 0,
        }
    }

    #[inline]
    pub(crate) fn hash(&self, e: &Ends) -> u64 {
        self.key.hash(e)
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, e: &Ends) -> Option<Found> {
        let slot = self.table.find(hash, |s| match s & HALF {
            0 => self.conn(s).is_some_and(|c| c.ends == *e),
            _ => self.halves.get(s & !HALF).is_some_and(|h| h.ends == *e),
        })?;
        Some(if slot & HALF == 0 { Found::Conn(slot) } else { Found::Half(slot & !HALF) })
    }

    /// Has the table's place for this hash fetched.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        self.table.prefetch(hash);
    }

    /// The connection that is probably meant by this hash.
    #[inline]
    pub(crate) fn meant(&self, hash: u64) -> Option<&Conn> {
        self.conn(self.table.first(hash)?)
    }

    #[inline]
    pub(crate) fn conn(&self, slot: u32) -> Option<&Conn> {
        Some(&self.chunks.get(slot as usize / CHUNK)?[slot as usize % CHUNK])
    }

    #[inline]
    pub(crate) fn conn_mut(&mut self, slot: u32) -> Option<&mut Conn> {
        Some(&mut self.chunks.get_mut(slot as usize / CHUNK)?[slot as usize % CHUNK])
    }

    /// A fresh slot for a flow, entered in the table; `None` when the group or the depot is exhausted.
    pub(crate) fn insert_conn(&mut self, hash: u64, ends: Ends) -> Option<u32> {
        if self.live >= self.limit {
            return None;
        }
        if self.free == NIL {
            self.grow()?;
        }
        let slot = self.free;
        if !self.table.insert(hash, slot) {
            return None;
        }
        let conn = self.conn_mut(slot)?;
        let next = conn.next_free();
        // The queue of dirty connections may still name the slot.
        let Conn { generation, dirty, .. } = *conn;
        *conn = Conn { ends, generation, dirty, ..Conn::default() };
        self.free = next;
        self.live += 1;
        Some(slot)
    }

    /// Notes, once, that a connection which nobody has any more only waits: for the peer's FIN, or for 2 MSL to pass.
    pub(crate) fn note_ending(&mut self, slot: u32) {
        let Some(conn) = self.conn_mut(slot).filter(|c| !c.ending) else { return };
        conn.ending = true;
        let generation = conn.generation;
        while self.ending.front().is_some_and(|&entry| !self.is_ending(entry)) {
            self.ending.pop_front();
        }
        if self.ending.len() >= 2 * self.limit + CHUNK {
            // More than half of them have ended, so that they pay for the pass.
            let mut all = std::mem::take(&mut self.ending);
            all.retain(|&entry| self.is_ending(entry));
            self.ending = all;
        }
        self.ending.push_back((slot, generation));
    }

    /// The connection that has only waited for its end for longest: when room is needed, it goes early (as Linux does it beyond
    /// tcp_max_tw_buckets). A keyed, clocked ISN and timestamps protect its successor. A peer that still sends is told by a
    /// reset, as it would be if we had kept it.
    pub(crate) fn oldest_ending(&mut self) -> Option<u32> {
        while let Some(entry) = self.ending.pop_front() {
            if self.is_ending(entry) {
                return Some(entry.0);
            }
        }
        None
    }

    fn is_ending(&self, (slot, generation): (u32, u32)) -> bool {
        self.conn(slot).is_some_and(|c| c.generation == generation && c.ending && c.tcb.is_some())
    }

    /// Takes the tuple out of the table, so that it may be used again; the slot stays until [`FlowGroup::free_conn`].
    pub(crate) fn unlist_conn(&mut self, slot: u32) {
        if let Some(ends) = self.conn(slot).map(|c| c.ends) {
            self.unlist(slot, self.hash(&ends));
        }
    }

    /// Gives an unlisted slot back. Its generation moves on, so handles of it go stale.
    pub(crate) fn free_conn(&mut self, slot: u32) {
        let free = self.free;
        if let Some(conn) = self.conn_mut(slot) {
            conn.free(conn.generation.wrapping_add(1), free);
            self.free = slot;
            self.live -= 1;
        }
    }

    /// Adds a half-open entry; `None` when the backlog is full.
    pub(crate) fn insert_half(&mut self, hash: u64, ends: Ends, half: tcp::HalfOpen) -> Option<u32> {
        if !self.halves.has_room() {
            return None;
        }
        let slot = self.halves.insert(ends, hash, half)?;
        if self.table.insert(hash, slot | HALF) {
            return Some(slot);
        }
        self.halves.remove(slot);
        None
    }

    /// Removes a half-open entry; the caller cancels its timer.
    #[must_use]
    pub(crate) fn remove_half(&mut self, slot: u32) -> Option<TimerId> {
        let hash = self.halves.get(slot)?.hash;
        self.unlist(slot | HALF, hash);
        self.halves.remove(slot)?.timer
    }

    /// Slots that have ever been in use: every connection is below.
    pub(crate) fn slots(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Bytes reserved by the tables; connections are counted by chunk.
    pub(crate) fn bytes(&self) -> usize {
        let queue = self.ending.capacity() * size_of::<(u32, u32)>();
        self.table.bytes() + self.halves.bytes() + self.chunks.len() * CHUNK * CONN_BYTES + queue
    }

    fn unlist(&mut self, id: u32, hash: u64) {
        let FlowGroup { table, chunks, halves, key, .. } = self;
        table.remove(hash, id, |s| match s & HALF {
            0 => chunks.get(s as usize / CHUNK).map_or(0, |c| key.hash(&c[s as usize % CHUNK].ends)),
            _ => halves.get(s & !HALF).map_or(0, |h| h.hash),
        });
    }

    /// One more chunk from the depot, its slots on the free list in order.
    #[cold]
    fn grow(&mut self) -> Option<()> {
        let mut chunk = self.depot.take()?;
        let first = self.slots();
        for (i, conn) in chunk.iter_mut().enumerate() {
            conn.free(conn.generation, if i + 1 < CHUNK { first + i as u32 + 1 } else { NIL });
        }
        self.chunks.push(chunk);
        self.free = first;
        Some(())
    }
}
