//! One turn of an elastic thread: a bounded amount of work, run to completion.
//!
//! ```text
//!   begin    ingest     commands, at most B frames, protocols          under the StackLock
//!            dispatch   at most B ready connections into the batch     under the StackLock
//!   run                 the application, through the gate              nothing held, nothing borrowed
//!   resume   complete   its syscalls, checked                          under the StackLock
//!            egress     timers, transmit, doorbell                     under the StackLock
//! ```
//!
//! [`ElasticThread::turn`] is the three in a row. Who models time calls them one by one, and lets it pass in between.
//!
//! Adaptive bounded batching (thesis section 2.3.2): B is a bound, never a goal. Nothing waits to fill a batch: a turn takes what is
//! there, so batches grow only while the core falls behind. A reply never waits behind the next receive batch.

use std::sync::Arc;

use mem::{Backing, MemError, Pool, Room};
use netstack::{Batch, Metrics, Shared, Stack, Work};
use nic::Queue;
use shuffle::Slip;
use sync::StackGuard;
use units::{CoreId, Nanos};

use crate::sched::Sched;
use crate::station::Crew;
use crate::view::{App, BatchView};
use crate::zygos::{Dice, Pace};

/// Bytes of a transmit buffer.
const TX_BUFFER: u32 = 2048;

/// User code that takes longer than this is non-responsive (thesis section 2.3.3).
const NON_RESPONSIVE: Nanos = Nanos::from_millis(10);

/// The batch bound at start: 16 times as many connections may be opened.
const START: usize = 4096;

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Frames, messages, connections, datagrams: 0 means that the turn found nothing to do.
    pub work: usize,
    /// The thread must turn again by then.
    pub deadline: Nanos,
}

/// How a turn goes on.
#[derive(Debug)]
pub enum Step {
    /// With application code: [`ElasticThread::run`], then [`ElasticThread::resume`].
    Run(Call),
    /// Not at all.
    End(Turn),
}

/// Work for the application, taken out of the dataplane: no core holds anything for its sake, however long it takes.
#[derive(Debug)]
pub struct Call {
    pub(crate) work: Work,
    pub(crate) origin: Origin,
    /// What the turn has come to so far.
    pub(crate) turn: Turn,
}

/// Where a call's work came from, and goes back to.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The own network layer, in IX mode.
    Ix,
    /// The same; the application has run, and somebody else had the network layer then.
    Again,
    /// The own network layer.
    Home(Slip),
    /// Another core's.
    Stolen { victim: usize, slip: Slip },
}

impl Call {
    /// Connections and datagrams in it.
    pub fn len(&self) -> usize {
        self.work.len()
    }

    /// Whether there is none: the application is run by the clock.
    pub fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    /// Which core's it is, if it was stolen.
    pub fn stolen_from(&self) -> Option<usize> {
        if let Origin::Stolen { victim, .. } = self.origin { Some(victim) } else { None }
    }
}

/// An elastic thread: its stack behind the lock, and the state of the executing thread beside it.
pub struct ElasticThread<Q: Queue> {
    shared: Arc<Shared>,
    /// All cores, the own one among them: their stacks, each behind its lock.
    pub(crate) crew: Arc<Crew<Q>>,
    pub(crate) own: usize,
    sched: Sched,
    /// Transmit buffers for whatever application code this thread runs.
    pub(crate) arena: Pool,
    /// In IX mode; with the application while that runs.
    batch: Option<Work>,
    /// What the application has done in IX mode while somebody else had the network layer.
    undone: Option<Work>,
    pub(crate) bound: usize,
    pub(crate) pace: Pace,
    pub(crate) dice: Dice,
    /// What the last turn gave to the application, and since when it had been ready.
    served: (usize, Nanos),
}

impl<Q: Queue> ElasticThread<Q> {
    /// The elastic thread of `core` alone, with all the memory it will ever use. It runs in IX mode.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(core: CoreId, shared: Arc<Shared>, nic: Q) -> Result<ElasticThread<Q>, MemError> {
        let crew = Arc::new(Crew::new(core, &shared, vec![nic])?);
        ElasticThread::of(&crew, 0, Sched::Ix, &shared)
    }

    /// The elastic threads of a dataplane, one for each queue, which know of each other.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn crew(shared: &Arc<Shared>, queues: Vec<Q>, sched: Sched) -> Result<Vec<ElasticThread<Q>>, MemError> {
        let crew = Arc::new(Crew::new(CoreId(0), shared, queues)?);
        (0..crew.stations.len()).map(|own| ElasticThread::of(&crew, own, sched, shared)).collect()
    }

    fn of(crew: &Arc<Crew<Q>>, own: usize, sched: Sched, shared: &Arc<Shared>) -> Result<ElasticThread<Q>, MemError> {
        let bound = shared.config().batch.max(1);
        Ok(ElasticThread {
            crew: crew.clone(),
            own,
            sched,
            arena: Pool::new(Room::Exchange, shared.config().pools.tx, TX_BUFFER)?,
            batch: Some(Box::new(Batch::new(bound))),
            undone: None,
            bound,
            pace: Pace::unknown(),
            dice: Dice::new(own as u32 + 1),
            served: (0, Nanos::ZERO),
            shared: shared.clone(),
        })
    }

    /// Which core this is.
    pub fn core(&self) -> CoreId {
        self.crew.stations[self.own].core()
    }

    /// Its counters.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.shared.metrics(self.core())
    }

    /// How its core is scheduled.
    pub fn sched(&self) -> Sched {
        self.sched
    }

    /// All cores.
    pub fn crew_mates(&self) -> &Arc<Crew<Q>> {
        &self.crew
    }

    /// What all cores share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The stack, if nobody else has it.
    pub fn stack(&self) -> Option<StackGuard<'_, Stack<Q>>> {
        self.crew.stations[self.own].stack.try_lock()
    }

    /// What kind of pages the buffers of this thread lie in.
    pub fn backing(&self) -> Backing {
        self.arena.backing()
    }

    /// Transmit buffers that are free.
    pub fn tx_available(&self) -> usize {
        self.arena.available()
    }

    /// Lets the application open connections before the first turn.
    pub fn start(&mut self, now: Nanos, app: &mut impl App) {
        // A batch of its own: an application may open more connections now than it ever answers in a turn.
        let mut batch = Batch::new(START);
        app.start(&mut BatchView::new(&mut batch, &mut self.arena, now));
        while !self.complete(now, &mut batch, app) {
            std::hint::spin_loop();
        }
        self.egress(now);
    }

    /// One turn. `clock` is read again before and after the application runs.
    pub fn turn(&mut self, now: Nanos, clock: impl Fn() -> Nanos, app: &mut impl App) -> Turn {
        match self.begin(now, app.wake_at()) {
            Step::End(turn) => turn,
            Step::Run(mut call) => {
                self.run(&mut call, clock(), app);
                self.resume(call, clock(), app)
            }
        }
    }

    /// The turn up to application code. `wake_at` is the application's ([`App::wake_at`]).
    pub fn begin(&mut self, now: Nanos, wake_at: Nanos) -> Step {
        if self.shared.is_moving() {
            self.crew.moves(Some(self.own), now);
        }
        match self.sched {
            // Alone there is nobody to offer to.
            Sched::Zygos(assist) if self.crew.stations.len() > 1 => self.begin_zygos(assist, now),
            _ => self.begin_ix(now, wake_at),
        }
    }

    /// Runs the application on `call`. Nothing is locked meanwhile, and others see that we are away, until [`ElasticThread::resume`].
    pub fn run(&mut self, call: &mut Call, now: Nanos, app: &mut impl App) {
        if matches!(call.origin, Origin::Again) {
            return;
        }
        self.crew.stations[self.own].enters(now);
        app.run(&mut BatchView::new(&mut call.work, &mut self.arena, now));
    }

    /// The turn from there on: `now` is when the application returned.
    pub fn resume(&mut self, call: Call, now: Nanos, app: &mut impl App) -> Turn {
        let station = &self.crew.stations[self.own];
        let took = now - station.in_app().unwrap_or(now);
        station.leaves(now);
        if took > NON_RESPONSIVE {
            self.metrics().non_responsive.inc();
        }
        let Call { mut work, origin, turn } = call;
        self.served = (work.len(), work.since());
        let deadline = match origin {
            Origin::Ix | Origin::Again => {
                if !self.complete(now, &mut work, app) {
                    return self.again(work, Turn { deadline: now, ..turn });
                }
                self.batch = Some(work);
                self.egress(now).min(app.wake_at())
            }
            Origin::Home(slip) => self.hand_in(slip, work, now, took),
            Origin::Stolen { victim, slip } => {
                self.bring_back(victim, slip, work, now, took);
                turn.deadline
            }
        };
        Turn { deadline, ..turn }
    }

    /// Somebody looks at the own ring for a move of flow groups, or was taken off its processor there. That is not waited for: it may be long, and a turn
    /// does more than this.
    #[cold]
    fn again(&mut self, work: Work, turn: Turn) -> Turn {
        self.metrics().lock_taken.inc();
        // Nothing has left yet.
        self.served.0 = 0;
        self.undone = Some(work);
        turn
    }

    /// The last turn has ended, at `now`, and what it had to say has left: counts what its requests took.
    #[inline]
    pub fn answered(&mut self, now: Nanos) {
        let (n, since) = std::mem::take(&mut self.served);
        if n > 0 {
            self.metrics().took(now - since, n as u64);
        }
    }

    /// In IX mode everything that became ready goes through the application in one batch.
    fn begin_ix(&mut self, now: Nanos, wake_at: Nanos) -> Step {
        if let Some(work) = self.undone.take() {
            // It is answered now.
            let turn = Turn { work: work.len(), deadline: now };
            return Step::Run(Call { work, origin: Origin::Again, turn });
        }
        let mut work = self.stack().map_or(0, |mut s| s.ingest(now, self.bound).work);
        let dispatched = self.dispatch();
        if (dispatched > 0 || wake_at <= now)
            && let Some(batch) = self.batch.take()
        {
            work += dispatched;
            return Step::Run(Call { work: batch, origin: Origin::Ix, turn: Turn { work, deadline: now } });
        }
        Step::End(Turn { work, deadline: self.egress(now).min(wake_at) })
    }

    /// Moves ready connections into the batch, up to its bound. Returns how many, datagrams included.
    fn dispatch(&mut self) -> usize {
        let Some(mut stack) = self.crew.stations[self.own].stack.try_lock() else { return 0 };
        if stack.ready() == 0 {
            return 0;
        }
        let Some(batch) = &mut self.batch else { return 0 };
        let n = stack.dispatch(self.bound, batch);
        stack.metrics().batches.inc();
        stack.metrics().batch_conns.add(n as u64);
        n
    }

    /// Carries out a batch's syscalls and takes its connections back. False: somebody else has the network layer.
    fn complete(&mut self, now: Nanos, batch: &mut Batch, app: &mut impl App) -> bool {
        let Some(mut stack) = self.crew.stations[self.own].stack.try_lock() else { return false };
        stack.complete(now, batch);
        if batch.has_left() {
            app.returned(batch);
            stack.send_after(batch);
            return true;
        }
        drop(stack);
        app.returned(batch);
        batch.clear();
        true
    }

    /// Transmits. Returns the instant by which the thread must turn again; `now` itself when more is ready already.
    fn egress(&mut self, now: Nanos) -> Nanos {
        let Some(mut stack) = self.crew.stations[self.own].stack.try_lock() else { return now };
        let deadline = stack.egress(now, &mut self.arena);
        if stack.ready() > 0 { now } else { deadline }
    }
}
