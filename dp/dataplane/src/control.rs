//! The controller: asks for flow groups to be moved, parks and unparks cores, and keeps what each move took. It runs on a thread of its caller, which
//! waits; the elastic threads do the work (`mover.rs`).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use netstack::{Busy, Metrics, Shared};
use nic::Queue;
use units::{CoreId, FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};

use crate::mover::{Mover, Stage};
use crate::station::Crew;

/// Moves whose times are kept.
const LOG: usize = 1024;
/// A core that does not take its step for so long is in application code, or off its processor: the step is taken in its stead, if the lock is free.
const STUCK: Nanos = Nanos::from_micros(100);
/// A move that cannot begin is called off after this.
const LIMIT: Nanos = Nanos::from_millis(200);
/// How often the caller looks.
const LOOK: Duration = Duration::from_micros(20);

/// The NIC's `set_reta`: directs the frames of a group to a queue.
pub type Steer = Box<dyn Fn(FlowGroupId, u16) -> io::Result<()> + Send + Sync>;

/// What a move took (thesis table 2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// The core that had the groups.
    pub from: CoreId,
    /// The core that has them now.
    pub to: CoreId,
    /// Those moved.
    pub groups: GroupSet,
    /// From the request until the groups were put together and the NIC's table was set.
    pub prepare: Nanos,
    /// From there until the NIC had sent what the old core had given it.
    pub wait: Nanos,
    /// From there until the new core had them.
    pub rpc: Nanos,
    /// From there until all frames had gone on that had been deferred, and the old core's ring was known to hold none.
    pub deferred: Nanos,
    /// All of it.
    pub total: Nanos,
    /// Frames that were deferred.
    pub packets: u64,
    /// Groups that the NIC does not steer: their frames are forwarded by whichever core gets them.
    pub forwarded: GroupSet,
}

/// A core as the controller sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreState {
    /// Which.
    pub core: CoreId,
    /// It owns nothing, and sleeps.
    pub parked: bool,
    /// The flow groups that it owns.
    pub groups: GroupSet,
}

/// Why nothing was moved, or not all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// There is no such core.
    NoSuchCore(CoreId),
    /// The set has no group.
    NoGroups,
    /// The group is at that core already.
    SameCore(FlowGroupId),
    /// The core is parked.
    Parked(CoreId),
    /// The core is not parked.
    NotParked(CoreId),
    /// It is the last core that is not parked.
    LastCore,
    /// Somebody else is moving groups.
    InProgress,
    /// The old core has not begun in time; why, if it said so. Nothing has happened.
    TimedOut(Option<Busy>),
    /// The dataplane has ended.
    Stopped,
}

impl std::fmt::Display for MoveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MoveError::NoSuchCore(core) => write!(f, "there is no core {}", core.0),
            MoveError::NoGroups => write!(f, "no flow group was named; there are {FLOW_GROUPS}, from 0 on"),
            MoveError::SameCore(group) => write!(f, "flow group {} is at that core already", group.0),
            MoveError::Parked(core) => write!(f, "core {} is parked: unpark it first", core.0),
            MoveError::NotParked(core) => write!(f, "core {} is not parked", core.0),
            MoveError::LastCore => {
                write!(f, "it is the last core that serves: another one has to, before it can be parked")
            }
            MoveError::InProgress => write!(f, "flow groups are being moved; try again when that is done"),
            MoveError::TimedOut(None) => write!(f, "the core has not begun in {} ms", LIMIT.millis()),
            MoveError::TimedOut(Some(Busy::NotHere)) => write!(f, "the core does not have all of the flow groups"),
            MoveError::TimedOut(Some(Busy::Settling)) => write!(f, "a flow group was moved a moment ago; try again"),
            MoveError::TimedOut(Some(Busy::Transmit)) => {
                write!(f, "the NIC takes no frames: those of the old core wait")
            }
            MoveError::Stopped => write!(f, "the dataplane has ended"),
        }
    }
}

impl std::error::Error for MoveError {}

/// What a controller is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// These groups are to go to that core ([`Controller::move_groups`]).
    Move(GroupSet, CoreId),
    /// [`Controller::park`].
    Park(CoreId),
    /// [`Controller::unpark`]: the core, and how many more are to come.
    Unpark(CoreId, usize),
}

/// A request that has begun. It is carried out to its end: dropped before, it leaves a move half done.
pub struct Request<'a> {
    /// The right to move.
    log: MutexGuard<'a, VecDeque<Report>>,
    parts: VecDeque<Part>,
    under_way: Option<UnderWay>,
    /// To be parked at the end.
    parks: Option<CoreId>,
    reports: Vec<Report>,
}

/// Groups that go from one core to another, in one move.
#[derive(Clone, Copy)]
struct Part {
    groups: GroupSet,
    from: CoreId,
    to: CoreId,
}

/// The one that is being carried out.
struct UnderWay {
    part: Part,
    begun: Nanos,
    asked: Option<Nanos>,
    /// Where it was seen last, and since when.
    stage: Stage,
    since: Nanos,
    /// Frames that the new core had deferred before.
    before: u64,
}

/// Moves flow groups and parks cores. Clones speak for the same dataplane; one of them at a time is heard.
#[derive(Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    mover: Arc<Mover>,
    crew: Box<dyn Cores>,
    clock: fn() -> Nanos,
    log: Mutex<VecDeque<Report>>,
    stopped: AtomicBool,
}

/// What it needs of the cores, whatever their NIC is.
trait Cores: Send + Sync {
    fn step(&self, now: Nanos);
    fn is_parked(&self, core: usize) -> bool;
    fn set_parked(&self, core: usize, parked: bool);
}

impl<Q: Queue> Cores for Arc<Crew<Q>> {
    fn step(&self, now: Nanos) {
        self.moves(None, now);
    }

    fn is_parked(&self, core: usize) -> bool {
        self.stations.get(core).is_some_and(|s| s.is_parked())
    }

    fn set_parked(&self, core: usize, parked: bool) {
        if let Some(station) = self.stations.get(core) {
            station.set_parked(parked);
            station.wakes();
        }
    }
}

impl Controller {
    /// The controller of a crew whose cores are numbered from 0 on, by this clock.
    pub fn new<Q: Queue + 'static>(shared: &Arc<Shared>, crew: &Arc<Crew<Q>>, clock: fn() -> Nanos) -> Controller {
        Controller {
            inner: Arc::new(Inner {
                shared: shared.clone(),
                mover: crew.mover.clone(),
                crew: Box::new(crew.clone()),
                clock,
                log: Mutex::new(VecDeque::with_capacity(LOG)),
                stopped: AtomicBool::new(false),
            }),
        }
    }

    /// The NIC's table is set by `steer` from now on. Once.
    pub fn steer_by(&self, steer: Steer) {
        self.inner.mover.steer_by(steer);
    }

    /// All cores.
    pub fn cores(&self) -> Vec<CoreState> {
        let owners = self.groups();
        let state = |i| {
            let core = CoreId(i as u16);
            let groups =
                (0..).map(FlowGroupId).zip(&owners).filter(|(_, owner)| **owner == core).map(|(g, _)| g).collect();
            CoreState { core, parked: self.inner.crew.is_parked(i), groups }
        };
        (0..self.inner.shared.cores()).map(state).collect()
    }

    /// Whether a core is parked.
    pub fn is_parked(&self, core: CoreId) -> bool {
        self.inner.crew.is_parked(core.index())
    }

    /// The owner of each flow group.
    pub fn groups(&self) -> Vec<CoreId> {
        (0..FLOW_GROUPS as u16).map(|g| self.inner.shared.owner(FlowGroupId(g))).collect()
    }

    /// The moves of late, oldest first. A fixed number: later ones take the place of the oldest.
    pub fn log(&self) -> Vec<Report> {
        self.inner.log.lock().unwrap_or_else(|e| e.into_inner()).iter().copied().collect()
    }

    /// Moves flow groups to a core, from whichever cores have them: a report for each of these. Waits until all that was deferred has gone on.
    ///
    /// # Errors
    /// [`MoveError`]: nothing was moved, but by [`MoveError::TimedOut`] the groups of earlier cores may have been.
    pub fn move_groups(&self, groups: GroupSet, to: CoreId) -> Result<Vec<Report>, MoveError> {
        self.carry_out(Wish::Move(groups, to))
    }

    /// Parks a core: its flow groups go to the other cores, the same number to each; it sleeps until it is unparked, but for frames that come to its
    /// queue all the same, which it forwards.
    ///
    /// # Errors
    /// [`MoveError`]: it is not parked then, though it may have lost groups by [`MoveError::TimedOut`].
    pub fn park(&self, core: CoreId) -> Result<Vec<Report>, MoveError> {
        self.carry_out(Wish::Park(core))
    }

    /// Unparks a core and gives it its share of the flow groups, from those cores that have most. With so many `more` about to be unparked, it gets what is to be
    /// its share then: groups that have come a moment ago could not go on at once.
    ///
    /// # Errors
    /// [`MoveError`]: it is awake all the same, unless it was not parked.
    pub fn unpark(&self, core: CoreId, more: usize) -> Result<Vec<Report>, MoveError> {
        self.carry_out(Wish::Unpark(core, more))
    }

    fn carry_out(&self, wish: Wish) -> Result<Vec<Report>, MoveError> {
        let mut request = self.request(wish)?;
        loop {
            if let Some(end) = self.advance(&mut request, (self.inner.clock)()) {
                return end;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Begins a request, for those who model time; nobody else is heard before it is dropped. [`Controller::advance`] carries it out.
    ///
    /// # Errors
    /// [`MoveError`]: it makes no sense, and nothing has happened.
    pub fn request(&self, wish: Wish) -> Result<Request<'_>, MoveError> {
        let log = self.begin()?;
        let mut parks = None;
        let parts = match wish {
            Wish::Move(groups, to) => {
                self.check(groups, to)?;
                self.parts(groups, to)
            }
            Wish::Park(core) => {
                parks = Some(core);
                self.leaving(core)?
            }
            Wish::Unpark(core, more) => self.coming(core, more)?,
        };
        Ok(Request { log, parts: parts.into(), under_way: None, parks, reports: Vec::new() })
    }

    /// Takes a request a step further, and a step of a move for a core that does not come for it. `None`: it is not over; call again soon.
    pub fn advance(&self, request: &mut Request<'_>, now: Nanos) -> Option<Result<Vec<Report>, MoveError>> {
        if request.under_way.is_none() {
            let Some(part) = request.parts.pop_front() else {
                if let Some(core) = request.parks {
                    self.inner.crew.set_parked(core.index(), true);
                }
                return Some(Ok(std::mem::take(&mut request.reports)));
            };
            self.inner.shared.asks_to_move(true);
            request.under_way =
                Some(UnderWay { part, begun: now, asked: None, stage: Stage::Asked, since: now, before: 0 });
        }
        let end = self.advance_part(request.under_way.as_mut()?, now)?;
        self.inner.shared.asks_to_move(false);
        request.under_way = None;
        match end {
            Ok(report) => {
                if request.log.len() == LOG {
                    request.log.pop_front();
                }
                request.log.push_back(report);
                request.reports.push(report);
                None
            }
            Err(e) => Some(Err(e)),
        }
    }

    /// The moves by which a core's groups leave it.
    fn leaving(&self, core: CoreId) -> Result<Vec<Part>, MoveError> {
        let all = self.cores();
        let state = *all.get(core.index()).ok_or(MoveError::NoSuchCore(core))?;
        if state.parked {
            return Err(MoveError::Parked(core));
        }
        let mut others: Vec<(CoreId, usize)> =
            all.iter().filter(|c| !c.parked && c.core != core).map(|c| (c.core, c.groups.len())).collect();
        if others.is_empty() {
            return Err(MoveError::LastCore);
        }
        let mut shares = vec![GroupSet::NONE; all.len()];
        for group in state.groups.iter() {
            if let Some((to, n)) = others.iter_mut().min_by_key(|(_, n)| *n) {
                shares[to.index()].insert(group);
                *n += 1;
            }
        }
        let part = |(to, groups)| Part { groups, from: core, to: CoreId(to) };
        Ok((0..).zip(shares).filter(|(_, share)| !share.is_empty()).map(part).collect())
    }

    /// Unparks a core; the moves by which it gets its share.
    fn coming(&self, core: CoreId, more: usize) -> Result<Vec<Part>, MoveError> {
        let all = self.cores();
        let state = *all.get(core.index()).ok_or(MoveError::NoSuchCore(core))?;
        if !state.parked {
            return Err(MoveError::NotParked(core));
        }
        self.inner.crew.set_parked(core.index(), false);
        // Those that have come a moment ago would have to be waited for: they are taken last.
        let settled = |group: &FlowGroupId| !self.inner.shared.is_settling(*group);
        let in_order = |groups: GroupSet| {
            let mut groups: Vec<FlowGroupId> = groups.iter().collect();
            groups.sort_by_key(settled);
            groups
        };
        let mut active: Vec<_> = all.iter().filter(|c| !c.parked).map(|c| in_order(c.groups)).collect();
        // No more can come than are parked.
        let most = all.iter().filter(|c| c.parked && c.core != core).count();
        let share = FLOW_GROUPS / (active.len() + 1 + more.min(most));
        let mut groups = GroupSet::NONE;
        while groups.len() < share
            && let Some(group) =
                active.iter_mut().max_by_key(|g| (g.len(), g.last().is_some_and(settled))).and_then(Vec::pop)
        {
            groups.insert(group);
        }
        Ok(self.parts(groups, core))
    }

    /// Waits for a move that is under way, and lets none begin any more.
    pub(crate) fn stop(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        drop(self.inner.log.lock());
    }

    /// The right to move, if nobody has it.
    fn begin(&self) -> Result<MutexGuard<'_, VecDeque<Report>>, MoveError> {
        let log = match self.inner.log.try_lock() {
            Ok(log) => log,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(MoveError::InProgress),
        };
        if self.inner.stopped.load(Ordering::SeqCst) { Err(MoveError::Stopped) } else { Ok(log) }
    }

    fn check(&self, groups: GroupSet, to: CoreId) -> Result<(), MoveError> {
        if to.index() >= self.inner.shared.cores() {
            return Err(MoveError::NoSuchCore(to));
        }
        if groups.is_empty() {
            return Err(MoveError::NoGroups);
        }
        if self.inner.crew.is_parked(to.index()) {
            return Err(MoveError::Parked(to));
        }
        let there = groups.iter().find(|g| self.inner.shared.owner(*g) == to);
        there.map_or(Ok(()), |g| Err(MoveError::SameCore(g)))
    }

    /// Groups by the cores that have them.
    fn parts(&self, groups: GroupSet, to: CoreId) -> Vec<Part> {
        let of = |state: CoreState| Part {
            groups: groups.iter().filter(|g| state.groups.contains(*g)).collect(),
            from: state.core,
            to,
        };
        self.cores().into_iter().map(of).filter(|part| !part.groups.is_empty()).collect()
    }

    fn advance_part(&self, at: &mut UnderWay, now: Nanos) -> Option<Result<Report, MoveError>> {
        let Inner { shared, mover, crew, .. } = &*self.inner;
        let Part { groups, from, to } = at.part;
        let deferred = |of: &Metrics| of.deferred.get();
        let Some(asked) = at.asked else {
            // Who has come a moment ago does not go on before older frames can no longer come.
            if groups.iter().any(|g| shared.is_settling(g)) {
                return (now - at.begun > LIMIT).then_some(Err(MoveError::TimedOut(Some(Busy::Settling))));
            }
            at.before = deferred(shared.metrics(to));
            (at.asked, at.since) = (Some(now), now);
            mover.ask(groups, from, to, now);
            shared.wake(from);
            return None;
        };
        let seen = mover.stage();
        if seen == Stage::Done {
            let [given, passed, taken, done] =
                [Stage::Given, Stage::Passed, Stage::Taken, Stage::Done].map(|stage| mover.time(stage));
            let forwarded = mover.finish();
            return Some(Ok(Report {
                from,
                to,
                groups,
                prepare: given - asked,
                wait: passed - given,
                rpc: taken - passed,
                deferred: done - taken,
                total: done - asked,
                packets: deferred(shared.metrics(to)) - at.before,
                forwarded,
            }));
        }
        if seen != at.stage {
            (at.stage, at.since) = (seen, now);
        } else if now - at.since > STUCK {
            crew.step(now);
        }
        if now - asked > LIMIT
            && let Some(busy) = mover.call_off()
        {
            return Some(Err(MoveError::TimedOut(busy)));
        }
        None
    }
}
