//! Flow groups change cores: the steps of a move, and whose they are.
//!
//! ```text
//!   idle ──► asked ──► given ──────────► passed ──────► taken ──────────► done ──► idle
//!    controller   old core   old or new      new core      new core          controller
//!                 hand over  the NIC has     take over     the old ring was
//!                 steer      sent the rest                 is past its end
//! ```
//!
//! One move at a time. Each step is taken by the elastic thread whose it is, at the begin of a turn, under the lock of the stack that it touches; a step
//! that cannot be taken yet is tried again with the next turn. If a thread is in application code and does not come, the controller takes the step in its
//! stead, for the lock is free then: no handler delays a move, however long it takes.
//!
//! The stage is published with release and read with acquire; what a step needs of the last one lies in `cargo`, which one thread has at a time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use netstack::{Busy, GRACE, Parcel, Shared};
use nic::Queue;
use sync::{Mark, TryLock};
use units::{CoreId, GroupSet, Nanos};

use crate::control::Steer;
use crate::station::Crew;

/// After so long the new core goes on although frames of the old one are still in the NIC's ring: a peer may never take them.
const TX_PATIENCE: Nanos = Nanos::from_millis(1);
/// For so long a core that is not known to be away is given time to look at its ring itself.
const PATIENCE: Nanos = Nanos::from_micros(50);
/// After so long frames that wait for a core's ring have that looked at by whoever has them: a core that is there gets round to it by itself in less, and
/// two at one ring are in each other's way.
const SLOW: Nanos = Nanos::from_micros(200);
/// Frames that are looked at for another core at once.
const LOOK: usize = 64;

/// Where a move is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    Idle,
    Asked,
    /// Somebody is at it: it can no longer be called off.
    Giving,
    Given,
    Passed,
    Taken,
    Done,
}

const STAGES: [Stage; 7] =
    [Stage::Idle, Stage::Asked, Stage::Giving, Stage::Given, Stage::Passed, Stage::Taken, Stage::Done];

/// The one move of a dataplane.
pub(crate) struct Mover {
    stage: AtomicU8,
    from: AtomicU32,
    to: AtomicU32,
    groups: [AtomicU64; 2],
    /// When each stage began.
    times: [AtomicU64; STAGES.len()],
    /// Why the old core has not handed over when it was asked last; 0: it has not been.
    busy: AtomicU8,
    cargo: TryLock<Cargo>,
    steer: OnceLock<Steer>,
}

struct Cargo {
    parcel: Parcel,
    /// Of the rounds of the old core's ring, when the table had been set.
    mark: Option<Mark>,
    /// When that was seen to have passed.
    passed: Option<Nanos>,
    refused: GroupSet,
}

impl Mover {
    pub(crate) fn new(shared: &Shared) -> Mover {
        let c = shared.config();
        Mover {
            stage: AtomicU8::new(Stage::Idle as u8),
            from: AtomicU32::new(0),
            to: AtomicU32::new(0),
            groups: [const { AtomicU64::new(0) }; 2],
            times: [const { AtomicU64::new(0) }; STAGES.len()],
            busy: AtomicU8::new(0),
            cargo: TryLock::new(Cargo {
                parcel: Parcel::new(c.max_conns, c.backlog),
                mark: None,
                passed: None,
                refused: GroupSet::NONE,
            }),
            steer: OnceLock::new(),
        }
    }

    pub(crate) fn steer_by(&self, steer: Steer) {
        let _ = self.steer.set(steer);
    }

    pub(crate) fn stage(&self) -> Stage {
        STAGES[usize::from(self.stage.load(Acquire)) % STAGES.len()]
    }

    /// When a stage of the last move began.
    pub(crate) fn time(&self, stage: Stage) -> Nanos {
        Nanos(self.times[stage as usize].load(Relaxed))
    }

    fn enter(&self, stage: Stage, now: Nanos) {
        self.note(stage, now);
        self.stage.store(stage as u8, Release);
    }

    /// Who takes a step may have looked at the clock before the last one was taken.
    fn note(&self, stage: Stage, now: Nanos) {
        let last = match stage {
            Stage::Given | Stage::Giving => Stage::Asked,
            Stage::Passed => Stage::Given,
            Stage::Taken => Stage::Passed,
            Stage::Done => Stage::Taken,
            Stage::Idle | Stage::Asked => stage,
        };
        let now = if last == stage { now } else { now.max(self.time(last)) };
        self.times[stage as usize].store(now.0, Relaxed);
    }

    /// Asks for a move. By the controller, while idle.
    pub(crate) fn ask(&self, groups: GroupSet, from: CoreId, to: CoreId, now: Nanos) {
        self.from.store(from.0.into(), Relaxed);
        self.to.store(to.0.into(), Relaxed);
        groups.to_words().iter().zip(&self.groups).for_each(|(word, place)| place.store(*word, Relaxed));
        self.busy.store(0, Relaxed);
        self.enter(Stage::Asked, now);
    }

    /// Calls a move off that has not begun; why the old core has not begun it. `None`: it has begun.
    pub(crate) fn call_off(&self) -> Option<Option<Busy>> {
        let (asked, idle) = (Stage::Asked as u8, Stage::Idle as u8);
        self.stage.compare_exchange(asked, idle, Acquire, Relaxed).ok()?;
        Some(match self.busy.load(Relaxed) {
            1 => Some(Busy::NotHere),
            2 => Some(Busy::Settling),
            3 => Some(Busy::Transmit),
            _ => None,
        })
    }

    /// A move that is done is over; the groups that the NIC has refused to steer.
    pub(crate) fn finish(&self) -> GroupSet {
        let refused = self.cargo.try_lock().map_or(GroupSet::NONE, |cargo| cargo.refused);
        self.stage.store(Stage::Idle as u8, Release);
        refused
    }

    /// Whether this very move is at this stage: whoever has waited for a lock may have missed its end, and the begin of another.
    fn is_at(&self, stage: Stage, from: usize, to: usize) -> bool {
        self.stage() == stage && self.parties() == (from, to)
    }

    fn parties(&self) -> (usize, usize) {
        (self.from.load(Relaxed) as usize, self.to.load(Relaxed) as usize)
    }

    /// Whether a core takes part in a move that is under way.
    pub(crate) fn involves(&self, core: usize) -> bool {
        let (from, to) = self.parties();
        !matches!(self.stage(), Stage::Idle | Stage::Done) && (core == from || core == to)
    }

    /// Whether a core is to do something for the move, and is not to sleep.
    pub(crate) fn concerns(&self, core: usize) -> bool {
        let (from, to) = self.parties();
        match self.stage() {
            Stage::Asked | Stage::Giving => core == from,
            Stage::Given => core == from || core == to,
            Stage::Passed | Stage::Taken => core == to,
            Stage::Idle | Stage::Done => false,
        }
    }
}

impl<Q: Queue> Crew<Q> {
    /// Takes the steps of a move that are `own`'s, or anybody's for nobody's sake; and helps those along for whose rings frames wait here.
    #[cold]
    pub(crate) fn moves(&self, own: Option<usize>, now: Nanos) {
        let (from, to) = self.mover.parties();
        let (gives, takes) = (own.is_none_or(|own| own == from), own.is_none_or(|own| own == to));
        if gives && self.mover.stage() == Stage::Asked {
            self.give(from, to, now);
        }
        if (gives || takes) && self.mover.stage() == Stage::Given {
            self.passes(from, to, now);
        }
        if takes && self.mover.stage() == Stage::Passed {
            self.take(from, to, now);
        }
        if takes && self.mover.stage() == Stage::Taken {
            self.round_off(from, to, now);
        }
        let Some(own) = own else { return };
        let Some(stack) = self.stations.get(own).and_then(|s| s.stack.try_lock()) else { return };
        let (waits, long) = (stack.waits_for(Nanos::ZERO), stack.waits_for(SLOW));
        drop(stack);
        // Frames wait here. A core that sleeps is looked for at once; others after a while: whether one is away, or off its processor between two turns, cannot be
        // told from here.
        let sleeps = |core: &CoreId| self.stations.get(core.index()).is_some_and(|s| s.is_asleep() || s.is_parked());
        if let Some(core) = long.or(waits.filter(sleeps)) {
            self.help_empty(core.index(), now, true);
        }
    }

    fn give(&self, from: usize, to: usize, now: Nanos) {
        let mover = &*self.mover;
        let Some(station) = self.stations.get(from) else { return };
        let Some(mut stack) = station.stack.try_lock() else { return };
        let Some(mut cargo) = mover.cargo.try_lock() else { return };
        let (asked, giving) = (Stage::Asked as u8, Stage::Giving as u8);
        if mover.stage.compare_exchange(asked, giving, Acquire, Relaxed).is_err() {
            return;
        }
        if mover.parties() != (from, to) {
            return mover.stage.store(asked, Release);
        }
        let groups = GroupSet::from_words([0, 1].map(|i| mover.groups[i].load(Relaxed)));
        if let Err(busy) = stack.hand_over(now, groups, CoreId(to as u16), &mut cargo.parcel) {
            let code = match busy {
                Busy::NotHere => 1,
                Busy::Settling => 2,
                Busy::Transmit => 3,
            };
            mover.busy.store(code, Relaxed);
            mover.stage.store(asked, Release);
            return;
        }
        let steered = |group| mover.steer.get().is_some_and(|steer| steer(group, to as u16).is_ok());
        cargo.refused = groups.iter().filter(|group| !steered(*group)).collect();
        (cargo.mark, cargo.passed) = (Some(station.epoch_mark()), None);
        let passed = stack.has_transmitted();
        drop(cargo);
        mover.enter(Stage::Given, now);
        if passed {
            mover.enter(Stage::Passed, now);
        }
        station.release(stack, now);
        self.wake(to);
    }

    fn passes(&self, from: usize, to: usize, now: Nanos) {
        let Some(_cargo) = self.mover.cargo.try_lock() else { return };
        if !self.mover.is_at(Stage::Given, from, to) {
            return;
        }
        let passed = self.stations.get(from).and_then(|s| Some(s.stack.try_lock()?.has_transmitted()));
        if passed == Some(true) || now - self.mover.time(Stage::Given) > TX_PATIENCE {
            self.mover.enter(Stage::Passed, now);
            self.wake(to);
        }
    }

    fn take(&self, from: usize, to: usize, now: Nanos) {
        let Some(station) = self.stations.get(to) else { return };
        let Some(mut stack) = station.stack.try_lock() else { return };
        let Some(mut cargo) = self.mover.cargo.try_lock() else { return };
        if !self.mover.is_at(Stage::Passed, from, to) {
            return;
        }
        stack.take_over(now, &mut cargo.parcel);
        drop(cargo);
        self.mover.enter(Stage::Taken, now);
        // Its ready connections and timers are looked at now.
        station.due(now);
        station.release(stack, now);
        self.wake(from);
        self.wake(to);
    }

    /// The move is done when all that was in the old ring when the table was set has been taken, and all frames have gone on that waited for that until then; at
    /// the end of the grace, at which none does, for a ring at which nobody can look. What comes later and has to wait, for the NIC may still think of the old
    /// ring, does so as for any group that settles.
    fn round_off(&self, from: usize, to: usize, now: Nanos) {
        let Some(station) = self.stations.get(to) else { return };
        let Some(old) = self.stations.get(from) else { return };
        let Some(mut cargo) = self.mover.cargo.try_lock() else { return };
        let waited = now - self.mover.time(Stage::Taken);
        if cargo.passed.is_none() && cargo.mark.is_none_or(|mark| old.epoch_passed(mark)) {
            cargo.passed = Some(now);
        }
        let passed = cargo.passed;
        drop(cargo);
        if passed.is_none() && waited < GRACE {
            return self.help_empty(from, now, waited > PATIENCE);
        }
        let Some(mut stack) = station.stack.try_lock() else { return };
        // What has passed by now goes on with this.
        stack.receive(now, LOOK);
        let since = passed.unwrap_or(now);
        if stack.waits_for(now - since).is_none() && self.mover.is_at(Stage::Taken, from, to) {
            self.mover.enter(Stage::Done, now);
        }
        station.due(now);
        station.release(stack, now);
    }

    /// Looks at the ring of a core that does not: it is in application code, or sleeps, or is only said to be slow.
    fn help_empty(&self, core: usize, now: Nanos, slow: bool) {
        let Some(station) = self.stations.get(core) else { return };
        if slow || station.in_app().is_some() || station.is_asleep() || station.is_parked() {
            station.look_for(now, LOOK);
        }
    }

    fn wake(&self, core: usize) {
        if let Some(station) = self.stations.get(core) {
            station.wakes();
        }
    }
}
