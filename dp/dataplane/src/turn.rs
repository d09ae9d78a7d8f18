//! One turn of an elastic thread: a bounded amount of work, run to completion.
//!
//! ```text
//!   ingest     commands, at most B frames, protocols          under the StackLock
//!   dispatch   at most B ready connections into the batch     under the StackLock
//!   App::run   the application, through the gate              nothing held, nothing borrowed
//!   complete   its syscalls, checked                          under the StackLock
//!   egress     timers, transmit, doorbell                     under the StackLock
//! ```
//!
//! Adaptive bounded batching (thesis section 2.3.2): B is a bound, never a goal. Nothing waits to fill a batch: a turn takes what is
//! there, so batches grow only while the core falls behind. A reply never waits behind the next receive batch.

use std::sync::Arc;

use mem::{Backing, MemError, Pool, Room};
use netstack::{Batch, Metrics, Shared, Stack};
use nic::Queue;
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

/// An elastic thread: its stack behind the lock, and the state of the executing thread beside it.
pub struct ElasticThread<Q: Queue> {
    shared: Arc<Shared>,
    /// All cores, the own one among them: their stacks, each behind its lock.
    pub(crate) crew: Arc<Crew<Q>>,
    pub(crate) own: usize,
    sched: Sched,
    /// Transmit buffers for whatever application code this thread runs.
    pub(crate) arena: Pool,
    /// In IX mode.
    batch: Batch,
    pub(crate) bound: usize,
    pub(crate) pace: Pace,
    pub(crate) dice: Dice,
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
            batch: Batch::new(bound),
            bound,
            pace: Pace::unknown(),
            dice: Dice::new(own as u32 + 1),
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
        let turns = std::mem::replace(&mut self.batch, Batch::new(START));
        app.start(&mut BatchView::new(&mut self.batch, &mut self.arena, now));
        self.complete(now, app);
        self.batch = turns;
        self.egress(now);
    }

    /// One turn. `clock` is read again after the application has run.
    pub fn turn(&mut self, now: Nanos, clock: impl Fn() -> Nanos, app: &mut impl App) -> Turn {
        match self.sched {
            Sched::Ix => self.turn_ix(now, &clock, app),
            // Alone there is nobody to offer to.
            Sched::Zygos(_) if self.crew.stations.len() == 1 => self.turn_ix(now, &clock, app),
            Sched::Zygos(assist) => self.turn_zygos(assist, now, &clock, app),
        }
    }

    /// In IX mode everything that became ready goes through the application in one batch.
    fn turn_ix(&mut self, now: Nanos, clock: &impl Fn() -> Nanos, app: &mut impl App) -> Turn {
        let mut work = self.ingest(now);
        let mut after = now;
        let dispatched = self.dispatch(self.bound);
        let due = dispatched > 0 || app.wake_at() <= now;
        if due {
            work += dispatched;
            let station = &self.crew.stations[self.own];
            station.enters(now);
            app.run(&mut BatchView::new(&mut self.batch, &mut self.arena, now));
            station.leaves();
            after = clock();
            self.judge(after - now);
            self.complete(after, app);
        }
        let deadline = self.egress(after).min(app.wake_at());
        Turn { work, deadline }
    }

    /// Counts an application call that took too long.
    pub(crate) fn judge(&self, took: Nanos) {
        if took > NON_RESPONSIVE {
            self.metrics().non_responsive.inc();
        }
    }

    /// Takes in what has come: at most B frames, what other cores forwarded, messages. Returns the amount of work.
    pub fn ingest(&mut self, now: Nanos) -> usize {
        self.stack().map_or(0, |mut s| s.ingest(now, self.bound).work)
    }

    /// Moves at most `max` ready connections into the batch. Returns how many, datagrams included.
    pub fn dispatch(&mut self, max: usize) -> usize {
        let Some(mut stack) = self.crew.stations[self.own].stack.try_lock() else { return 0 };
        if stack.ready() == 0 {
            return 0;
        }
        let n = stack.dispatch(max, &mut self.batch);
        stack.metrics().batches.inc();
        stack.metrics().batch_conns.add(n as u64);
        n
    }

    /// Carries out the batch's syscalls and takes its connections back.
    pub fn complete(&mut self, now: Nanos, app: &mut impl App) {
        // At start, and in IX mode, nobody else takes the lock for longer than a pass.
        loop {
            let Some(mut stack) = self.crew.stations[self.own].stack.try_lock() else {
                std::hint::spin_loop();
                continue;
            };
            stack.complete(now, &mut self.batch);
            break;
        }
        app.returned(&self.batch);
        self.batch.clear();
    }

    /// Transmits. Returns the instant by which the thread must turn again; `now` itself when more is ready already.
    pub fn egress(&mut self, now: Nanos) -> Nanos {
        let Some(mut stack) = self.crew.stations[self.own].stack.try_lock() else { return now };
        let deadline = stack.egress(now, &mut self.arena);
        if stack.ready() > 0 { now } else { deadline }
    }
}
