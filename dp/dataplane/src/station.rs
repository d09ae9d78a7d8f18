//! What the elastic threads of a dataplane have in common in ZygOS mode: each one's network layer behind its lock, and the words by
//! which the others see what it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

use mem::MemError;
use netstack::{Shared, Stack, Work};
use nic::{Queue, RxHint};
use shuffle::Shuffle;
use sync::{StackGuard, StackLock};
use units::{CoreId, Nanos};

use crate::mover::Mover;
use crate::sched::Assist;

/// Frames that others forwarded and remote syscalls that one lend, or one interrupt, works off at most.
const LEND: usize = 16;
/// A home that was in its network layer within this span needs no help: it will see its frames sooner than we could.
const FRESH: Nanos = Nanos::from_micros(5);
/// Nor does one whose batch of short handlers began within this one: a full batch takes less.
const BATCH: Nanos = Nanos::from_micros(50);
/// How often a sleeping core looks round: what comes to a core that was not expected to be in application code for long wakes nobody.
const LOOK_ROUND: Nanos = Nanos::from_millis(10);
/// How often a core that lets go of a lock goes back for what was left for it meanwhile.
const AGAIN: usize = 4;

/// Interrupts a core, wherever it is. False: that failed.
pub type Line = Box<dyn Fn() -> bool + Send + Sync>;

/// One core as the others see it.
pub(crate) struct Station<Q> {
    core: CoreId,
    pub(crate) stack: StackLock<Stack<Q>>,
    pub(crate) shuffle: Arc<Shuffle<Work>>,
    shared: Arc<Shared>,
    hint: RxHint,
    /// When the application code began that it runs now; 0 while it runs none.
    in_app: AtomicU64,
    /// When it last polled.
    polled: AtomicU64,
    /// How many connections go on a slip of its. More than one: its handlers are short, and it will be back sooner than it is worth to help.
    each: AtomicU32,
    /// When its network layer has to run again.
    deadline: AtomicU64,
    /// How it is interrupted, once it runs.
    line: std::sync::OnceLock<Line>,
    /// An interrupt is under way to it.
    interrupted: AtomicBool,
    /// It found nothing to do last time it looked.
    idle: AtomicBool,
    /// It sleeps, or is about to.
    asleep: AtomicBool,
    /// It is to own no flow group, and to help nobody.
    parked: AtomicBool,
}

/// All cores of a dataplane, as they see each other. Public for those who model time ([`Crew::hold`] and what follows it).
pub struct Crew<Q> {
    pub(crate) stations: Box<[Station<Q>]>,
    /// How many sleep, or are about to.
    asleep: AtomicU32,
    /// The core that stays awake for those that are in application code, plus one; 0: none does.
    watcher: AtomicU32,
    pub(crate) mover: Arc<Mover>,
}

impl<Q: Queue> Crew<Q> {
    /// A core for each queue, numbered from `first` on, with all the memory that their network layers will ever use.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub(crate) fn new(first: CoreId, shared: &Arc<Shared>, queues: Vec<Q>) -> Result<Crew<Q>, MemError> {
        let station = |(i, queue): (u16, Q)| {
            let (core, hint) = (CoreId(first.0 + i), queue.rx_hint());
            let stack = Stack::new(core, shared.clone(), queue)?;
            Ok(Station {
                core,
                shuffle: stack.shuffle().clone(),
                stack: StackLock::new(stack),
                shared: shared.clone(),
                hint,
                in_app: AtomicU64::new(0),
                polled: AtomicU64::new(0),
                each: AtomicU32::new(1),
                deadline: AtomicU64::new(u64::MAX),
                line: std::sync::OnceLock::new(),
                interrupted: AtomicBool::new(false),
                idle: AtomicBool::new(false),
                asleep: AtomicBool::new(false),
                parked: AtomicBool::new(false),
            })
        };
        Ok(Crew {
            stations: (0..).zip(queues).map(station).collect::<Result<_, MemError>>()?,
            asleep: AtomicU32::new(0),
            watcher: AtomicU32::new(0),
            mover: Arc::new(Mover::new(shared)),
        })
    }

    /// There is work that the caller will not do itself: one of those that sleep is woken for it.
    pub(crate) fn wake_somebody(&self) {
        // Pairs with the fence in `lie_down`: either the sleeper sees the work, or we see the sleeper.
        fence(SeqCst);
        if self.asleep.load(Relaxed) == 0 {
            return;
        }
        if let Some(sleeper) = self.stations.iter().find(|s| s.asleep.load(Relaxed)) {
            sleeper.shared.wake(sleeper.core);
        }
    }

    /// Whether a core other than `own` found nothing to do when it last looked: it would take what is offered.
    pub(crate) fn anybody_idle(&self, own: usize) -> bool {
        self.stations.iter().enumerate().any(|(i, s)| i != own && s.idle.load(Relaxed))
    }

    /// Whether some core is awake and idle for the sake of those in application code.
    pub(crate) fn is_watched(&self) -> bool {
        let watcher = self.watcher.load(Relaxed);
        let awake = |s: &Station<Q>| s.in_app.load(Relaxed) == 0 && !s.asleep.load(Relaxed);
        watcher != 0 && self.stations.get(watcher as usize - 1).is_some_and(awake)
    }

    /// A core is about to sleep: from here on those that make work know. After it, look at every source once more.
    pub(crate) fn lie_down(&self, own: usize) {
        self.stations[own].asleep.store(true, Relaxed);
        self.asleep.fetch_add(1, SeqCst);
        fence(SeqCst);
    }

    /// Until when `own` may sleep if nobody wakes it. Asked after it has lain down, under its lock: timers may have been armed in its network layer
    /// since its last turn. Where cores lend themselves, who arms another's timers sees to it that somebody is awake when they are due.
    pub(crate) fn sleep_until(&self, own: usize, assist: Assist, now: Nanos) -> Nanos {
        let due = |s: &Station<Q>| Nanos(s.deadline.load(Relaxed));
        let timers = match assist {
            Assist::Lend => self.stations.iter().map(due).min().unwrap_or(Nanos::MAX),
            Assist::None | Assist::Ipi => due(&self.stations[own]),
        };
        let alone = assist == Assist::None || self.stations.len() == 1;
        if alone { timers } else { timers.min(now + LOOK_ROUND) }
    }

    /// It is awake again.
    pub(crate) fn get_up(&self, own: usize) {
        self.stations[own].asleep.store(false, Relaxed);
        self.asleep.fetch_sub(1, SeqCst);
    }

    /// Whether `core`, which has nothing to do, may sleep: not while another is in application code, for frames that come to that
    /// one then would find nobody. One core that watches is enough for all.
    pub(crate) fn may_sleep(&self, own: usize) -> bool {
        let me = own as u32 + 1;
        if self.stations.iter().all(|s| s.in_app.load(Relaxed) == 0) {
            let _ = self.watcher.compare_exchange(me, 0, Relaxed, Relaxed);
            return true;
        }
        let watched = self.watcher.load(Relaxed) != me && self.is_watched();
        if !watched {
            self.watcher.store(me, Relaxed);
        }
        watched
    }

    /// Whether anything is there that any core could do, or that came home to `own`. Asked by a core that is about to sleep, when it has let
    /// go of its network layer: until then others found that taken, and left to it what they gave back.
    pub(crate) fn has_work(&self, own: usize) -> bool {
        fence(SeqCst);
        self.stations[own].shuffle.has_returns() || self.stations.iter().any(|s| s.shuffle.offered() > 0)
    }
}

/// A network layer that somebody has.
pub type Hold<'a, Q> = StackGuard<'a, Stack<Q>>;

/// For those who model time. A call of an elastic thread takes none there; what it would have taken is let pass afterwards, while its network layer is held.
impl<Q: Queue> Crew<Q> {
    /// Takes the network layer of a core, if nobody has it.
    pub fn hold(&self, core: usize) -> Option<Hold<'_, Q>> {
        self.stations.get(core)?.stack.try_lock()
    }

    /// Lets go of the network layer of `core`, and carries out what was left for it meanwhile.
    pub fn let_go(&self, core: usize, hold: Hold<'_, Q>, now: Nanos) {
        if let Some(station) = self.stations.get(core) {
            station.release(hold, now);
        }
    }

    /// From when on another core could do something for `core`, as things are. [`Nanos::MAX`]: not before something happens to it.
    pub fn needs(&self, core: usize, assist: Assist, now: Nanos) -> Nanos {
        let Some(s) = self.stations.get(core) else { return Nanos::MAX };
        let reached = match assist {
            Assist::None => false,
            Assist::Ipi => s.in_app().is_some() && !s.interrupted.load(Relaxed),
            Assist::Lend => true,
        };
        if s.shuffle.offered() > 0 {
            now
        } else if !reached || s.stack.is_held() {
            Nanos::MAX
        } else {
            s.away_from().max(if s.has_something(assist) { now } else { Nanos(s.deadline.load(Relaxed)) })
        }
    }

    /// Whether a move is under way for which `core` turns again and again: it has a step to take, or its ring is looked at for it, or frames wait at it.
    pub fn is_concerned(&self, core: usize) -> bool {
        let Some(station) = self.stations.get(core) else { return false };
        station.shared.is_moving()
            && (self.mover.involves(core)
                || station.stack.try_lock().is_some_and(|s| s.waits_for(Nanos::ZERO).is_some()))
    }

    /// Whether work has come home to `core` and nobody is at its network layer, who would see it. If `core` is idle then, and has not been told, it is
    /// forgotten.
    pub fn returns_wait(&self, core: usize) -> bool {
        self.stations.get(core).is_some_and(|s| s.shuffle.has_returns() && !s.stack.is_held())
    }

    /// Has `core` interrupted by `line` from here on, where cores interrupt each other. Once.
    pub fn listen(&self, core: usize, line: Line) {
        if let Some(station) = self.stations.get(core) {
            let _ = station.line.set(line);
        }
    }

    /// The interrupt has come to `core`, which may be anywhere.
    pub fn interrupted(&self, core: usize, now: Nanos) {
        if let Some(station) = self.stations.get(core) {
            station.on_interrupt(now);
        }
    }
}

impl<Q: Queue> Station<Q> {
    /// Which core this is.
    pub(crate) fn core(&self) -> CoreId {
        self.core
    }

    /// The home is in its loop, about to look at its network layer.
    #[inline]
    pub(crate) fn polls(&self, now: Nanos) {
        self.polled.store(now.0, Relaxed);
    }

    /// Whether it found something to do. Written when that changes only.
    #[inline]
    pub(crate) fn is_idle(&self, idle: bool) {
        if self.idle.load(Relaxed) != idle {
            self.idle.store(idle, Relaxed);
        }
    }

    /// How many connections go on a slip.
    #[inline]
    pub(crate) fn sizes(&self, each: usize) {
        if self.each.load(Relaxed) != each as u32 {
            self.each.store(each as u32, Relaxed);
        }
    }

    /// The network layer has to run again by then.
    #[inline]
    pub(crate) fn due(&self, deadline: Nanos) {
        self.deadline.store(deadline.0, Relaxed);
    }

    /// The home's thread runs application code from here on, its own core's or another's.
    #[inline]
    pub(crate) fn enters(&self, now: Nanos) {
        self.in_app.store(now.0.max(1), Relaxed);
        self.shared.metrics(self.core).app_since_ns.set(now.0.max(1));
        // The interrupt handler runs on this very thread: order is the compiler's business alone.
        std::sync::atomic::compiler_fence(SeqCst);
    }

    /// It is back. An interrupt that comes from here on finds it in the dataplane.
    #[inline]
    pub(crate) fn leaves(&self, now: Nanos) {
        self.polls(now);
        std::sync::atomic::compiler_fence(SeqCst);
        self.in_app.store(0, Relaxed);
        self.shared.metrics(self.core).app_since_ns.set(0);
    }

    /// Whether it is to own nothing and help nobody.
    #[inline]
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Relaxed)
    }

    /// Parks it, or ends that.
    pub(crate) fn set_parked(&self, parked: bool) {
        self.parked.store(parked, Relaxed);
    }

    /// Whether it sleeps, or is about to.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Relaxed)
    }

    /// Looks at its NIC's ring and inbox for it, which is away: everything there goes where it belongs. Nothing if somebody else is at it.
    pub(crate) fn look_for(&self, now: Nanos, budget: usize) {
        let Some(mut stack) = self.stack.try_lock() else { return };
        stack.receive(now, budget);
        self.wrap_up(&mut stack, now);
        let ready = stack.ready() > 0;
        self.release(stack, now);
        if ready {
            self.shared.wake(self.core);
        }
    }

    /// Whether all that was in its ring at `mark` has been taken.
    pub(crate) fn epoch_passed(&self, mark: sync::Mark) -> bool {
        self.shared.epoch(self.core).passed(mark)
    }

    /// Where the count of its ring's rounds is.
    pub(crate) fn epoch_mark(&self) -> sync::Mark {
        self.shared.epoch(self.core).mark()
    }

    /// Its thread is to turn, should it sleep.
    pub(crate) fn wakes(&self) {
        self.shared.wake(self.core);
    }

    /// Since when it has been in application code.
    #[inline]
    pub(crate) fn in_app(&self) -> Option<Nanos> {
        Some(Nanos(self.in_app.load(Relaxed))).filter(|since| since.0 != 0)
    }

    /// Lets go of the network layer, and goes back for what others had to leave behind meanwhile because it was taken: they have tried
    /// after leaving it, so one of the two sees it.
    pub(crate) fn release(&self, guard: StackGuard<'_, Stack<Q>>, now: Nanos) {
        drop(guard);
        self.look_again(now);
    }

    /// The combining rule, for who has let go of the lock and for who has given something back: a fence, then a look at what came home.
    fn look_again(&self, now: Nanos) {
        for _ in 0..AGAIN {
            fence(SeqCst);
            if !self.shuffle.has_returns() || !self.collect(now) {
                return;
            }
        }
    }

    /// Carries out what came home, if nobody has the lock.
    fn collect(&self, now: Nanos) -> bool {
        let Some(mut stack) = self.stack.try_lock() else { return false };
        stack.complete_returned(now, LEND);
        self.wrap_up(&mut stack, now);
        true
    }

    /// Transmits, for a home that is not there, and notes when somebody has to look again: at once if something had to be left.
    fn wrap_up(&self, stack: &mut Stack<Q>, now: Nanos) {
        let deadline = stack.transmit(now);
        stack.free_all();
        self.due(if stack.has_returned() || stack.ready() > 0 { now } else { deadline });
    }

    /// Gives work back to its home. With `collect`, the syscalls on it are carried out here and now unless somebody else is at it, who will
    /// then see them.
    pub(crate) fn give_back(&self, slip: shuffle::Slip, work: Work, now: Nanos, collect: bool) {
        self.shuffle.give_back(slip, work);
        if collect {
            self.look_again(now);
        }
    }

    /// Whether its network layer has something to do that `assist` can see to, and its home is not about to do it. A few loads, and the NIC's hint.
    pub(crate) fn needs_help(&self, assist: Assist, now: Nanos) -> bool {
        self.away_from() <= now
            && !self.stack.is_held()
            && (self.deadline.load(Relaxed) <= now.0 || self.has_something(assist))
    }

    /// From when on its home is taken to be away, unless it does something meanwhile.
    fn away_from(&self) -> Nanos {
        match self.in_app() {
            None => Nanos(self.polled.load(Relaxed)) + FRESH + Nanos(1),
            Some(_) if self.each.load(Relaxed) <= 1 => Nanos::ZERO,
            Some(since) => since + BATCH + Nanos(1),
        }
    }

    /// Whether there is anything for its network layer: what came home, what others sent it, frames. Messages are for who lends; an interrupt handler
    /// leaves them, and is not to be called for them again and again.
    fn has_something(&self, assist: Assist) -> bool {
        let sent = match assist {
            Assist::Lend => self.shared.has_inbox(self.core),
            Assist::Ipi | Assist::None => self.shared.has_frames(self.core),
        };
        self.shuffle.has_returns() || sent || (self.hint)()
    }

    /// One bounded network pass on the home's behalf: remote syscalls, a frame, timers; what became ready is offered. Answers how many slips
    /// are new, `None` if somebody else is at it. Takes no locks but the StackLock, and allocates nothing, so an interrupt handler may.
    pub(crate) fn pass(&self, now: Nanos, mail: bool) -> Option<usize> {
        let mut stack = self.stack.try_lock()?;
        // Of the interrupt handler they are its own.
        if mail {
            stack.metrics().lent.inc();
        }
        stack.complete_returned(now, LEND);
        stack.receive(now, 1);
        if mail {
            stack.take_mail();
        }
        stack.run_timers(now, LEND);
        let offered = stack.offer(usize::MAX, self.each.load(Relaxed) as usize);
        self.wrap_up(&mut stack, now);
        self.release(stack, now);
        Some(offered)
    }

    /// Interrupts it, unless an interrupt is under way already. Says whether one was sent.
    pub(crate) fn interrupt(&self) -> bool {
        let Some(line) = self.line.get() else { return false };
        if self.interrupted.load(Relaxed) || self.interrupted.swap(true, Relaxed) {
            return false;
        }
        line()
    }

    /// The interrupt handler, on the home's own thread: does nothing inside the dataplane (thesis section 3.4.5).
    pub(crate) fn on_interrupt(&self, now: Nanos) {
        self.interrupted.store(false, Relaxed);
        if self.in_app().is_none() {
            return;
        }
        let metrics = self.shared.metrics(self.core);
        metrics.interrupts.inc();
        if self.shuffle.offered() > 0 {
            // There is enough to steal: no more frames now, but what came home leaves.
            self.collect(now);
        } else {
            self.pass(now, false);
        }
    }

    /// A signal may have been lost: the next one is sent again.
    pub(crate) fn forgives(&self) {
        if self.interrupted.load(Relaxed) {
            self.interrupted.store(false, Relaxed);
        }
    }
}
