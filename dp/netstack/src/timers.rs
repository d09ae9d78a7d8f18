//! Deadlines: one armed timer per connection at most, re-armed lazily. A timer may fire early and is then armed again; it never fires late.

use abi::Handle;
use nic::Queue;
use units::{FlowGroupId, Nanos};

use crate::batch::Pending;
use crate::flow_group::ConnId;
use crate::half_open::Half;
use crate::stack::Stack;

/// Timers worked off in one pass.
pub(crate) const TIMERS: usize = 128;
/// When a deadline is looked at again that waits for frames.
const LATER: Nanos = Nanos::from_millis(1);
/// Marks tokens of half-open entries; handles leave this bit free, for there are only 128 groups.
pub(crate) const HALF: u64 = 1 << 63;

impl<Q: Queue> Stack<Q> {
    /// Sees to it that a timer fires no later than the connection's deadline.
    pub(crate) fn arm(&mut self, id: ConnId) {
        let Stack { groups, wheel, shared, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return };
        let deadline = conn.deadline();
        match conn.timer {
            // Most timers are not needed any more when they fire, and are left alone. Where connections are found in memory, it costs less to
            // disarm one that is done with while its connection is here than to fetch both again.
            Some((timer, _)) if deadline == Nanos::MAX && shared.is_scattered() => {
                wheel.cancel(timer);
                conn.timer = None;
                return;
            }
            Some((_, armed_for)) if armed_for <= deadline => return,
            Some((timer, _)) => {
                wheel.cancel(timer);
                conn.timer = None;
            }
            None if deadline == Nanos::MAX => return,
            None => {}
        }
        let token = Handle::new(id.group(), id.slot(), conn.generation).to_bits();
        conn.timer = wheel.arm(deadline, token).map(|t| (t, deadline));
        self.timers_due = self.timers_due.min(deadline);
    }

    /// Arms a half-open entry's timer.
    pub(crate) fn arm_half(&mut self, group: FlowGroupId, slot: u32) {
        let Stack { groups, wheel, .. } = self;
        if let Some(entry) = groups.get_mut(group).and_then(|g| g.halves.get_mut(slot)) {
            let token = HALF | Handle::new(group, slot, entry.generation).to_bits();
            entry.timer = wheel.arm(entry.half.deadline(), token);
            self.timers_due = self.timers_due.min(entry.half.deadline());
        }
    }

    /// Removes a half-open entry and its timer.
    pub(crate) fn forget_half(&mut self, group: FlowGroupId, slot: u32) {
        let timer = self.groups.get_mut(group).and_then(|g| g.remove_half(slot));
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
    }

    /// Works off at most `most` due timers. Returns how many.
    pub fn run_timers(&mut self, now: Nanos, most: usize) -> usize {
        let now = self.not_before(now);
        if now < self.timers_due {
            return 0;
        }
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, most.min(due.capacity()), &mut |token| due.push(token));
        if self.fragments.table.deadline() <= now {
            self.expire_fragments(now);
        }
        self.timers_due = self.wheel.next_deadline().unwrap_or(Nanos::MAX).min(self.fragments.table.deadline());
        if self.moving {
            self.timers_due = self.timers_due.min(self.moves.next(now));
        }
        let n = due.len();
        self.look_ahead_due(&due);
        for token in due.drain(..) {
            if token & HALF == 0 {
                self.conn_timer(Handle::from_bits(token), now)
            } else {
                self.half_timer(token & !HALF, now)
            }
        }
        self.due = due;
        n
    }

    fn conn_timer(&mut self, handle: Handle, now: Nanos) {
        let id = ConnId::new(handle.group(), handle.slot());
        let Some(conn) = self.groups.conn_mut(id).filter(|c| c.generation == handle.generation()) else { return };
        conn.timer = None;
        let app_due = conn.app_deadline().is_some_and(|d| d <= now);
        if app_due {
            conn.set_app_deadline(None);
        }
        let engine_due = conn.tcb.as_ref().is_some_and(|t| t.deadline() <= now);
        if app_due {
            self.tell(id, Pending::TIMER);
        }
        if engine_due && self.moving && self.awaits_older(id.group(), now) {
            return self.arm_at(id, now + LATER);
        }
        if engine_due {
            self.engine_timeout(id, now);
        }
        // Transmits what the timeout asks for, and arms again.
        self.mark_dirty(id);
    }

    /// Arms a connection's timer, which is not armed, for an instant that is not its deadline.
    #[cold]
    fn arm_at(&mut self, id: ConnId, at: Nanos) {
        let Stack { groups, wheel, timers_due, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return };
        let token = Handle::new(id.group(), id.slot(), conn.generation).to_bits();
        conn.timer = wheel.arm(at, token).map(|timer| (timer, at));
        *timers_due = (*timers_due).min(at);
    }

    fn half_timer(&mut self, bits: u64, now: Nanos) {
        let handle = Handle::from_bits(bits);
        let (group, slot) = (handle.group(), handle.slot());
        let Stack { groups, link, shared, .. } = self;
        let Some(g) = groups.get_mut(group) else { return };
        let Some(entry) = g.halves.get_mut(slot).filter(|h| h.generation == handle.generation()) else { return };
        let Half { ends, half, timer, .. } = entry;
        *timer = None;
        if half.deadline() <= now {
            match half.timeout(now, shared.tcp(ends)) {
                Some(syn_ack) => link.tcp(now, ends, &syn_ack, &mem::MbufQueue::new()),
                None => return self.forget_half(group, slot),
            }
        }
        self.arm_half(group, slot);
    }
}
