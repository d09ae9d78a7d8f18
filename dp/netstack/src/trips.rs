//! Batches that follow their connections. A batch comes home to the core that made it. If a connection in it has gone to another core meanwhile, the
//! batch goes there with what is left of its syscalls, and from there to the next one, until nothing is left; then its slip goes home.
//!
//! A connection is in one batch at most, and its events wait while it is: so nothing overtakes.

use abi::Handle;
use nic::Queue;
use shuffle::Slip;
use units::{CoreId, FLOW_GROUPS, FlowGroupId};

use crate::batch::Batch;
use crate::flow_group::ConnId;
use crate::slips::{SLIPS, Work};
use crate::stack::Stack;

/// Batches of one core that may be under way to another: all of its slips, and those that are no slips.
pub(crate) const TRIPS: usize = SLIPS + 4;

/// A batch on its way.
pub(crate) struct Trip {
    /// Where its slip belongs. None: to nobody, and it ends with the trip.
    home: Option<(CoreId, Slip)>,
    work: Work,
}

impl Trip {
    pub(crate) fn new(home: CoreId, slip: Slip, work: Work) -> Trip {
        Trip { home: Some((home, slip)), work }
    }
}

impl<Q: Queue> Stack<Q> {
    /// Sends a batch of IX mode after its connections, and leaves an empty one in its place. Allocates: it takes a move while the application runs, for
    /// which a core is not waited for only if it stays away for long.
    #[cold]
    pub fn send_after(&mut self, batch: &mut Batch) {
        let empty = Batch::new(batch.bound());
        let work = Box::new(std::mem::replace(batch, empty));
        self.send_on(Trip { home: None, work });
    }

    /// Whether `handle` names a connection that has gone from here to another core: one of this batch, or of a group that was here last.
    pub(crate) fn has_moved(&self, handle: Handle, batch: &Batch) -> bool {
        let group = handle.group();
        group.index() < FLOW_GROUPS
            && self.groups.get(group).is_none()
            && (self.shared.came_from(group) == Some(self.core) || batch.entries.iter().any(|e| e.handle == handle))
    }

    /// Carries out what can be done here of a batch that came after its connections; sends it on, or home.
    #[cold]
    pub(crate) fn trip_arrives(&mut self, mut trip: Trip) {
        self.complete_left(&mut trip.work);
        if trip.work.has_left() {
            return self.send_on(trip);
        }
        let Some((home, slip)) = trip.home else { return };
        trip.work.left.travelled = true;
        let inbox = self.shared.inbox(home);
        if let Some(shuffle) = inbox.shuffle.get() {
            shuffle.give_back(slip, trip.work);
            self.shared.wake(home);
        }
    }

    /// Sends a batch to the core that owns the first of what is left. If that is this one, the connections are on their way here.
    #[cold]
    pub(crate) fn send_on(&mut self, trip: Trip) {
        let to = trip.work.next_group().map_or(self.core, |group| self.shared.owner(group));
        if to == self.core {
            self.moving = true;
            return self.moves.trips.push_back(trip);
        }
        let inbox = self.shared.inbox(to);
        if let Err(trip) = inbox.trips.push(trip) {
            // There is room for all slips of all cores; only batches that are no slips could be more.
            self.moving = true;
            return self.moves.trips.push_back(trip);
        }
        inbox.mail_waits.store(true, std::sync::atomic::Ordering::Release);
        self.shared.wake(to);
    }

    /// The syscalls and connections that were left elsewhere, as far as they are here.
    fn complete_left(&mut self, batch: &mut Batch) {
        let now = self.now;
        for i in 0..batch.left.entries.len() {
            let place = batch.left.entries[i];
            let handle = batch.entries[usize::from(place)].handle;
            // Its place may have changed since it left: batches are joined.
            if let Some(conn) = self.groups.conn_mut(ConnId::new(handle.group(), handle.slot())) {
                conn.place = place;
            }
        }
        let mut calls = std::mem::take(&mut batch.left.calls);
        calls.retain(|&i| {
            let Some(call) = batch.calls.get(i as usize).copied() else { return false };
            let away = call.handle().is_some_and(|handle| self.groups.get(handle.group()).is_none());
            if !away && self.call(now, call, batch).is_err() {
                self.metrics.syscalls_refused.inc();
            }
            away
        });
        batch.left.calls = calls;
        let mut entries = std::mem::take(&mut batch.left.entries);
        entries.retain(|&place| {
            let group = batch.entries[usize::from(place)].handle.group();
            let away = self.groups.get(group).is_none();
            if !away {
                self.take_back(usize::from(place), batch);
            }
            away
        });
        batch.left.entries = entries;
    }
}

impl Batch {
    /// The most connections that it was made for.
    fn bound(&self) -> usize {
        self.entries.capacity()
    }

    /// The group of the first thing that is left.
    fn next_group(&self) -> Option<FlowGroupId> {
        let call = self.left.calls.first().and_then(|i| self.calls.get(*i as usize)?.handle());
        let entry = || self.left.entries.first().and_then(|i| Some(self.entries.get(usize::from(*i))?.handle));
        call.or_else(entry).map(Handle::group)
    }
}
