//! Flow groups that go to another core and come from one: a transfer of ownership.
//!
//! ```text
//!   the old core                                   the new core
//!   hand_over   everything out; owner word ──────► frames of its own ring:  early, until the old ring is past its end of now
//!               frames that still come: forwarded ► frames that are forwarded: at once, or in limbo until the group is here
//!                         parcel ────────────────► take_over   limbo, in order
//!   rounds of the ring are counted (sync::Epoch) ► early frames go on
//!                                                  20 ms later: settled, and the old core forwards what may still come
//! ```
//!
//! What moves: the group with its connections and half-open entries, their armed timers, those that are ready, messages that wait, pieces of
//! datagrams. Nothing is copied but the list of these. What stays: received and sent buffers are their pools', wherever they are freed; datagrams
//! that wait for the application, which promise no order; batches with its connections, which come home to the core that made them and then follow the
//! connections (`trips.rs`).
//!
//! Frames of groups that do not move pay nothing: an owner word that says "settling" differs from the core's number, as a foreign one does.

use std::collections::VecDeque;

use abi::Handle;
use nic::{Queue, RxFrame};
use sync::{Count, Mark};
use units::{CoreId, FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};

use crate::DropReason;
use crate::early::Early;
use crate::flow_group::{ConnId, FlowGroup};
use crate::fragments::meeting_place;
use crate::shared::{MAIL, SETTLING, Shared};
use crate::stack::Stack;
use crate::timers::HALF;
use crate::trips::Trip;

/// For so long after a group has come, frames of it may still come by its last core's ring: a NIC picks a ring first and fills it later.
pub const GRACE: Nanos = Nanos::from_millis(20);
/// For so long beyond the grace order is kept while the last core has not looked at its ring at all: it is off its processor, inside the dataplane, where
/// nobody can look for it. TCP could not deliver what came early any sooner; but frames that are not there would be waited for in vain.
pub const ORDER: Nanos = Nanos::from_millis(100);
/// Of the receive buffers, one in so many may hold early frames. When more wait, their order gives way.
const EARLY_SHARE: usize = 4;
/// Early frames beyond the receive buffers: those that other cores forwarded.
const EARLY_MORE: usize = 4096;

/// Why a core does not hand groups over now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// It does not own all of them.
    NotHere,
    /// One of them has come to it a moment ago.
    Settling,
    /// The NIC takes no frames, and some wait.
    Transmit,
}

/// Groups on their way from one core to another. Made once, with room for all that can ever be in it, and used again and again.
pub struct Parcel {
    from: CoreId,
    groups: Vec<(FlowGroupId, Box<FlowGroup>)>,
    timers: Vec<u64>,
    ready: VecDeque<ConnId>,
    mail: VecDeque<(Handle, u64)>,
    pieces: Vec<RxFrame>,
    cookies_until: Nanos,
    now: Nanos,
}

impl Parcel {
    /// An empty one for a dataplane of up to `conns` connections, and as many half-open ones as `backlog` says. Reserves addresses; pages become
    /// resident as they are used.
    pub fn new(conns: usize, backlog: usize) -> Parcel {
        Parcel {
            from: CoreId(0),
            groups: Vec::with_capacity(FLOW_GROUPS),
            timers: Vec::with_capacity(conns + backlog.max(8 * FLOW_GROUPS)),
            ready: VecDeque::with_capacity(conns),
            mail: VecDeque::with_capacity(MAIL),
            pieces: Vec::with_capacity(1024),
            cookies_until: Nanos::ZERO,
            now: Nanos::ZERO,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// A frame that came by the own ring while older ones may still be in that of another core.
struct Waiting {
    frame: RxFrame,
    since: Nanos,
    from: CoreId,
    mark: Mark,
}

/// A round of the own ring: whoever waits for what it held when the round began.
#[derive(Default)]
struct Round {
    under_way: bool,
    /// Forwarded frames that were in the inbox then.
    inbox: usize,
}

/// What a stack knows of groups that come and go. Looked at only while there are any.
pub(crate) struct Moves {
    /// Groups have gone: rounds are counted until then.
    watched: Nanos,
    /// Groups that have come here and are not settled.
    settling: GroupSet,
    until: Box<[Nanos; FLOW_GROUPS]>,
    /// For each of them: the core that it came from, and where that one's count was.
    marks: Box<[Option<(CoreId, Mark)>; FLOW_GROUPS]>,
    early: Early<Waiting>,
    early_most: usize,
    /// Groups whose early frames go on as they are.
    gives_way: GroupSet,
    /// How many rounds each core had made when that was last looked at.
    counts: Box<[Count]>,
    round: Round,
    /// Frames that the last core forwarded before the group was here.
    limbo: VecDeque<RxFrame>,
    /// Frames for which there was no room where their group has gone.
    stragglers: VecDeque<RxFrame>,
    mail: Vec<(Handle, u64)>,
    pub(crate) trips: VecDeque<Trip>,
    /// A frame is on its way in that nothing older can follow.
    passing: bool,
}

impl Moves {
    pub(crate) fn new(buffers: usize, shared: &Shared) -> Moves {
        Moves {
            watched: Nanos::ZERO,
            settling: GroupSet::NONE,
            until: Box::new([Nanos::ZERO; FLOW_GROUPS]),
            marks: Box::new([None; FLOW_GROUPS]),
            early: Early::new(buffers + EARLY_MORE),
            early_most: buffers / EARLY_SHARE,
            gives_way: GroupSet::NONE,
            counts: (0..shared.cores() as u16).map(|core| shared.epoch(CoreId(core)).count()).collect(),
            round: Round::default(),
            limbo: VecDeque::with_capacity(EARLY_MORE),
            stragglers: VecDeque::with_capacity(EARLY_MORE),
            mail: Vec::new(),
            trips: VecDeque::with_capacity(shared.cores()),
            passing: false,
        }
    }

    /// Whether nothing older than an early frame can come any more, as far as the counts were looked at.
    fn has_passed(&self, early: &Waiting) -> bool {
        self.counts.get(early.from.index()).is_none_or(|count| count.is_past(early.mark))
    }

    /// When the pass has to look again.
    pub(crate) fn next(&self, now: Nanos) -> Nanos {
        if self.early.len() > 0 || !self.stragglers.is_empty() {
            return now;
        }
        self.settling.iter().map(|g| self.until[g.index()]).min().unwrap_or(Nanos::MAX)
    }
}

impl<Q: Queue> Stack<Q> {
    /// Puts `groups` into the parcel, for `to`. From here on their frames are forwarded there.
    ///
    /// What this core has transmitted is marked: `to` may not take over before [`Stack::has_transmitted`]. One pass over the armed timers and the ready
    /// connections of this core, whatever the number of groups; connections without either cost nothing.
    ///
    /// # Errors
    /// Nothing has happened then: [`Busy`].
    pub fn hand_over(&mut self, now: Nanos, groups: GroupSet, to: CoreId, parcel: &mut Parcel) -> Result<(), Busy> {
        if groups.iter().any(|g| self.groups.get(g).is_none()) {
            return Err(Busy::NotHere);
        }
        if self.moves.settling.intersects(groups) {
            return Err(Busy::Settling);
        }
        // What they have to say leaves from here, so none of them is in the queue of those that may have something to say.
        self.transmit(now);
        if self.link.is_blocked() {
            return Err(Busy::Transmit);
        }
        self.link.nic.tx_mark();
        let now = self.not_before(now);
        (parcel.from, parcel.now, parcel.cookies_until) = (self.core, now, self.cookies_until);
        for group in groups.iter() {
            if let Some(value) = self.groups.0.get_mut(group.index()).and_then(Option::take) {
                self.metrics.conns_out.add(value.open);
                parcel.groups.push((group, value));
                self.shared.hand_over(group, self.core, to);
            }
        }
        let of = |token: u64| groups.contains(Handle::from_bits(token & !HALF).group());
        self.wheel.take_out(of, |token| parcel.timers.push(token));
        let Stack { ready, wait, mail, fragments, shared, .. } = self;
        ready.retain(|id| {
            let goes = groups.contains(id.group());
            if goes {
                parcel.ready.push_back(*id);
            }
            !goes
        });
        if !parcel.ready.is_empty() {
            wait.gone();
        }
        mail.retain(|(to, token)| {
            let goes = groups.contains(to.group());
            if goes {
                parcel.mail.push_back((*to, *token));
            }
            !goes
        });
        let meets = |key: &reassembly::Key| groups.contains(shared.flow_group(&meeting_place(key)));
        fragments.table.take_out(meets, |piece| {
            parcel.pieces.push(RxFrame { head: piece.frame, rest: Default::default(), csum_ok: false, group: None });
        });
        self.metrics.groups_out.add(groups.len() as u64);
        self.moves.watched = now + GRACE + GRACE + ORDER;
        self.moving = true;
        self.share_records();
        Ok(())
    }

    /// Whether all that was transmitted before the last [`Stack::hand_over`] has left the NIC's ring.
    pub fn has_transmitted(&mut self) -> bool {
        self.link.nic.tx_passed()
    }

    /// Takes the parcel's groups in, then all that has come for them meanwhile, in its order.
    pub fn take_over(&mut self, now: Nanos, parcel: &mut Parcel) {
        let now = self.not_before(now.max(parcel.now));
        for (group, value) in parcel.groups.drain(..) {
            if let Some(place) = self.groups.0.get_mut(group.index()) {
                self.metrics.conns_in.add(value.open);
                *place = Some(value);
                self.moves.settling.insert(group);
                self.moves.until[group.index()] = now + GRACE;
                self.moves.marks[group.index()] = Some((parcel.from, self.shared.epoch(parcel.from).mark()));
                self.metrics.groups_in.inc();
            }
        }
        self.moving = true;
        for token in parcel.timers.drain(..) {
            self.arm_again(token);
        }
        self.timers_due = self.timers_due.min(self.moves.next(now));
        self.cookies_until = self.cookies_until.max(parcel.cookies_until);
        self.ready.extend(parcel.ready.drain(..));
        self.mail.extend(parcel.mail.drain(..));
        for piece in parcel.pieces.drain(..) {
            self.passes(piece, now);
        }
        for _ in 0..self.moves.limbo.len() {
            let Some(frame) = self.moves.limbo.pop_front() else { break };
            self.passes(frame, now);
        }
        for _ in 0..self.moves.trips.len() {
            let Some(trip) = self.moves.trips.pop_front() else { break };
            self.trip_arrives(trip);
        }
        for (to, token) in std::mem::take(&mut self.moves.mail) {
            self.deliver(to, token);
        }
        self.share_records();
    }

    /// Whether `group` is here to be taken in, `word` being its owner word: not if a frame that came by the own ring has to wait.
    #[cold]
    pub(crate) fn admits(&self, group: FlowGroupId, word: u16) -> bool {
        word == self.core.0 | SETTLING && self.moves.passing && self.groups.get(group).is_some()
    }

    /// A frame that is not for now or not for here: keeps it, or forwards it.
    #[cold]
    pub(crate) fn set_aside(&mut self, frame: RxFrame, group: FlowGroupId, word: u16) -> Result<(), DropReason> {
        if word & !SETTLING != self.core.0 {
            let gone = word & SETTLING != 0 && self.shared.came_from(group) == Some(self.core);
            return if gone {
                self.straggles(frame, group, CoreId(word & !SETTLING))
            } else {
                self.pass_on(frame, group)
            };
        }
        self.moving = true;
        self.metrics.deferred.inc();
        let since = self.now;
        let Moves { early, limbo, passing, early_most, gives_way, .. } = &mut *self.moves;
        if *passing {
            if limbo.len() == limbo.capacity() {
                return Err(DropReason::InboxFull);
            }
            limbo.push_back(frame);
            return Ok(());
        }
        if early.len() >= *early_most {
            *gives_way = early.groups();
        }
        let from = self.shared.came_from(group).unwrap_or(self.core);
        let mark = self.shared.epoch(from).mark();
        if early.push(group, Waiting { frame, since, from, mark }) { Ok(()) } else { Err(DropReason::InboxFull) }
    }

    /// A frame of a group that has gone: behind those that found no room there.
    fn straggles(&mut self, mut frame: RxFrame, group: FlowGroupId, to: CoreId) -> Result<(), DropReason> {
        // An ICMP error has none of its own, and is asked for it while it waits.
        frame.group = Some(group);
        self.metrics.rx_forwarded_out.inc();
        let back = match self.moves.stragglers.is_empty() {
            true => self.shared.forward_moved(to, frame).err(),
            false => Some(frame),
        };
        let Some(frame) = back else { return Ok(()) };
        if self.moves.stragglers.len() == self.moves.stragglers.capacity() {
            return Err(DropReason::InboxFull);
        }
        self.moving = true;
        self.moves.stragglers.push_back(frame);
        Ok(())
    }

    /// A frame that nothing older can follow.
    fn passes(&mut self, frame: RxFrame, now: Nanos) {
        self.moves.passing = true;
        self.frame_arrives(frame, None, now);
        self.moves.passing = false;
    }

    /// [`Stack::receive`] while groups come or have gone.
    #[cold]
    pub(crate) fn receive_moving(&mut self, now: Nanos, budget: usize) -> usize {
        let shared = self.shared.clone();
        let inbox = shared.inbox(self.core);
        self.send_stragglers(now);
        // Read before the frames that the last cores forwarded are taken: so these are older than all that has passed by now.
        for (core, count) in (0..).zip(&mut self.moves.counts) {
            *count = shared.epoch(CoreId(core)).count();
        }
        let mut work = 0;
        for _ in 0..inbox.moved.len() {
            let Some(frame) = inbox.moved.pop() else { break };
            self.metrics.rx_forwarded_in.inc();
            self.passes(frame, now);
            work += 1;
        }
        work += self.early_pass(now);
        if !self.moves.round.under_way {
            inbox.epoch.begins();
            self.link.nic.rx_mark();
            self.moves.round = Round { under_way: true, inbox: inbox.frames.len() };
        }
        // A poll that began before the round did, or that found no buffer, has not seen the ring's end.
        let most = budget.min(self.burst.capacity());
        let looks = !self.holds_back();
        let received = self.poll_ring(now, budget);
        let emptied = looks && received < most && self.link.pools.mbufs.available() > 0;
        let forwarded = self.poll_inbox(now, budget);
        work += received + forwarded;
        let round = &mut self.moves.round;
        round.inbox = round.inbox.saturating_sub(forwarded);
        if (emptied || self.link.nic.rx_passed()) && round.inbox == 0 && self.moves.stragglers.is_empty() {
            inbox.epoch.ends();
            round.under_way = false;
        }
        self.settle_groups(now);
        self.timers_due = self.timers_due.min(self.moves.next(now));
        work
    }

    /// Lets early frames go on that nothing older can follow any more, each group's in their order.
    fn early_pass(&mut self, now: Nanos) -> usize {
        let mut n = 0;
        for group in self.moves.early.groups().iter() {
            if self.groups.get(group).is_none() {
                continue;
            }
            let moves = &*self.moves;
            let over = moves.settling.contains(group) && moves.until[group.index()] + ORDER <= now
                || moves.gives_way.contains(group);
            while let Some(first) = self.moves.early.front(group) {
                let passed = self.moves.has_passed(first);
                if !passed && !over {
                    break;
                }
                self.metrics.order_given_up.add(u64::from(!passed));
                let Some(first) = self.moves.early.pop(group) else { break };
                self.passes(first.frame, now);
                n += 1;
            }
            self.moves.gives_way.remove(group);
        }
        n
    }

    fn send_stragglers(&mut self, now: Nanos) {
        while let Some(frame) = self.moves.stragglers.pop_front() {
            let to = frame.group.map_or(self.core, |group| self.shared.owner(group));
            if to == self.core {
                // Its group is back.
                self.passes(frame, now);
                continue;
            }
            if let Err(frame) = self.shared.forward_moved(to, frame) {
                return self.moves.stragglers.push_front(frame);
            }
        }
    }

    /// Groups that have been here for long enough are as all others; when nothing is on its way any more, this is over.
    fn settle_groups(&mut self, now: Nanos) {
        for group in self.moves.settling.iter() {
            let over = self.moves.until[group.index()] + ORDER <= now;
            let passed = self.moves.until[group.index()] <= now && self.old_ring_has_passed(group);
            if (passed || over) && !self.moves.early.groups().contains(group) {
                self.moves.settling.remove(group);
                self.shared.settled(group);
            }
        }
        let Moves { settling, watched, early, limbo, stragglers, trips, .. } = &*self.moves;
        let waits = early.len() + limbo.len() + stragglers.len() + trips.len();
        // What is forwarded from here on sets it again, by way of the doorbell.
        let expected = !self.shared.inbox(self.core).moved.is_empty();
        self.moving = !settling.is_empty() || *watched > now || waits > 0 || expected;
        if !self.moving {
            self.moves.round = Round::default();
        }
    }

    /// Whether the last core of a group has taken all that was in its ring when the group came.
    fn old_ring_has_passed(&self, group: FlowGroupId) -> bool {
        self.moves.marks[group.index()].is_none_or(|(from, mark)| self.shared.epoch(from).passed(mark))
    }

    /// Whether frames that came for a group before now may still wait: in the ring of its last core, which is off its processor, or here behind those. What a
    /// connection's timer takes for missing may be among them, so it waits as well, as RFC 6298 section 5 lets it: its times are the least.
    #[cold]
    pub(crate) fn awaits_older(&self, group: FlowGroupId, now: Nanos) -> bool {
        self.moves.settling.contains(group)
            && self.moves.until[group.index()] + ORDER > now
            && (self.moves.early.groups().contains(group) || !self.old_ring_has_passed(group))
    }

    /// Whether frames, or the end of the grace, have waited for another core to poll its ring, for `least` or longer: it may be away, and then somebody else
    /// should. Which core, if any.
    pub fn waits_for(&self, least: Nanos) -> Option<CoreId> {
        let (moves, begun) = (&*self.moves, self.now - least);
        let waits = |first: &&Waiting| first.since <= begun && !moves.has_passed(first);
        let first = |group| moves.early.front(group).filter(waits).map(|first| first.from);
        let late = |group: &FlowGroupId| moves.until[group.index()] <= begun && !self.old_ring_has_passed(*group);
        moves
            .early
            .groups()
            .iter()
            .find_map(first)
            .or_else(|| moves.marks[moves.settling.iter().find(late)?.index()].map(|(from, _)| from))
    }

    /// Arms the timer of a connection or a half-open entry that has come here.
    fn arm_again(&mut self, token: u64) {
        let handle = Handle::from_bits(token & !HALF);
        if token & HALF != 0 {
            return self.arm_half(handle.group(), handle.slot());
        }
        let Stack { groups, wheel, timers_due, .. } = self;
        let Some(conn) = groups.conn_mut(ConnId::new(handle.group(), handle.slot())) else { return };
        if let Some((_, deadline)) = conn.timer {
            conn.timer = wheel.arm(deadline, token).map(|timer| (timer, deadline));
            *timers_due = (*timers_due).min(deadline);
        }
    }

    /// A message for a connection that is not here: it follows it, or waits for it. One that has ended swallows it.
    #[cold]
    pub(crate) fn deliver_elsewhere(&mut self, to: Handle, token: u64) {
        if to.group().index() >= FLOW_GROUPS || self.groups.get(to.group()).is_some() {
            return;
        }
        if self.shared.owner(to.group()) == self.core {
            self.moves.mail.push((to, token));
        } else {
            self.shared.post_on(to, token);
        }
    }

    /// Connections in trouble take their records along: who gets more back than he had leaves them to those who miss some.
    fn share_records(&mut self) {
        while let Some(spare) = self.records.give() {
            if self.shared.surplus.push(spare).is_err() {
                break;
            }
        }
        while self.records.are_few() {
            let Some(spare) = self.shared.surplus.pop() else { break };
            self.records.accept(spare);
        }
    }

    /// The groups that are here.
    pub fn groups_here(&self) -> GroupSet {
        (0..FLOW_GROUPS as u16).map(FlowGroupId).filter(|g| self.groups.get(*g).is_some()).collect()
    }

    /// Connections of a group, if it is here.
    pub fn connections_of(&self, group: FlowGroupId) -> Option<usize> {
        self.groups.get(group).map(FlowGroup::live)
    }
}
