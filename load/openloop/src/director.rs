use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use draw::{Arrivals, Gaps, MAX_RATE, MIN_RATE, Pattern, Purpose, ServiceTimes, stream};
use load::{Outcome, Recorder};
use requests::{Asker, Workload};
use sys::clock::Clock;
use units::Nanos;

use crate::config::{Config, OpenLoopError, check_workload};
use crate::desk::{Desk, Gone};
use crate::job::{Done, Job, Order, Supply, Thinkers};

/// The time between an order and its beginning, so that all queues begin together.
const LEAD: Nanos = Nanos::from_millis(5);
/// A queue that has not answered so long after it had to is not polled at all.
const GRACE: Nanos = Nanos::from_secs(5);
/// Replies that one queue keeps one by one at most: 256 MB.
const EACH_MAX: usize = 1 << 24;
/// How often a wait looks whether somebody asks for the end.
const LOOK: Nanos = Nanos::from_millis(100);

/// A stretch of load.
#[derive(Clone, PartialEq, Debug)]
pub struct Drive {
    /// Requests per second, all queues together. Each queue has its own arrival process of an equal part.
    pub rate: f64,
    /// How that changes over the warm-up and the window, if it does; `rate` is then only what the queues expect.
    pub pattern: Option<Pattern>,
    /// How the gaps between them are distributed.
    pub gaps: Gaps,
    /// A closed loop instead: one client per connection, who waits for the reply, thinks for so long, and asks again. All begin by thinking. The three
    /// above mean nothing then, and latency counts from when the client asked.
    pub think: Option<ServiceTimes>,
    /// Load before the window.
    pub warmup: Nanos,
    /// The window: more than zero.
    pub window: Nanos,
    /// The steps of the time series; lengthened where there would be more than 300.
    pub slice: Nanos,
    /// How long replies are waited for after the window. What has none then is unanswered, and its connection is replaced.
    pub patience: Nanos,
    /// Keep each slice's histogram, for [`Outcome::typical`] and [`Outcome::without`].
    pub keep: bool,
    /// Keep each reply ([`Outcome::each`]): 16 bytes for each request that may come.
    pub each: bool,
}

impl Drive {
    /// Poisson arrivals for `window` after a warm-up of a tenth of it (at least 50 ms, at most a second), in slices of 100 ms that are kept,
    /// with 1 s of patience.
    pub fn new(rate: f64, window: Nanos) -> Drive {
        let warmup = Nanos(window.0 / 10).clamp(Nanos::from_millis(50), Nanos::from_secs(1));
        Drive {
            rate,
            pattern: None,
            gaps: Gaps::poisson(),
            think: None,
            warmup,
            window,
            slice: Nanos::from_millis(100),
            patience: Nanos::from_secs(1),
            keep: true,
            each: false,
        }
    }

    fn check(&self) -> Result<(), OpenLoopError> {
        let wrong = |text: String| Err(OpenLoopError::Drive(text));
        if !(MIN_RATE..=MAX_RATE).contains(&self.rate) {
            return wrong(format!("{} requests a second; use {MIN_RATE} to {MAX_RATE}", self.rate));
        }
        if self.window == Nanos::ZERO {
            return wrong("a window of no length measures nothing".into());
        }
        if self.warmup.max(self.window).max(self.patience) > Nanos::from_secs(1 << 20) {
            return wrong("a run of more than 12 days; use a shorter one".into());
        }
        Ok(())
    }
}

/// Directs the queues from a thread that sleeps while they work. Clones direct the same ones; their calls take turns.
///
/// Nothing here keeps a dataplane from being stopped: whoever waits for its queues then gets [`OpenLoopError::Gone`].
#[derive(Clone)]
pub struct Director {
    inner: Arc<Inner>,
}

struct Inner {
    desks: Vec<Arc<Desk>>,
    config: Mutex<Config>,
    clock: Clock,
    halt: AtomicBool,
    orders: AtomicU64,
}

impl Director {
    pub(crate) fn new(config: &Config, desks: Vec<Arc<Desk>>) -> Director {
        Director {
            inner: Arc::new(Inner {
                desks,
                config: Mutex::new(config.clone()),
                clock: config.clock.clone(),
                halt: AtomicBool::new(false),
                orders: AtomicU64::new(0),
            }),
        }
    }

    /// The same, for a world in which time is modelled: instead of sleeping, its calls call `pump`, which has to move that world on by a step. What is
    /// ordered is seen by a queue when it is polled next ([`nic::Queue::rx_hint`] says so).
    pub fn by_hand<'a>(&'a self, pump: &'a mut dyn FnMut()) -> Hand<'a> {
        Hand { inner: &self.inner, pump: Some(pump) }
    }

    fn hand(&self) -> Hand<'_> {
        Hand { inner: &self.inner, pump: None }
    }

    /// As [`Hand::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(&self, patience: Nanos) -> Result<(), OpenLoopError> {
        self.hand().connect(patience)
    }

    /// Connections that are open, as of the last call that opened or ended some.
    pub fn connected(&self) -> u32 {
        self.inner.connected()
    }

    /// How many orders were given so far: whoever moves a world looks at all queues when it has changed.
    pub fn orders(&self) -> u64 {
        self.inner.orders.load(Ordering::Relaxed)
    }

    /// When the next frame of a queue is due, as of its last burst or order; [`Nanos::MAX`]: not before something is transmitted.
    pub fn due(&self, queue: usize) -> Nanos {
        match self.inner.desks.get(queue) {
            Some(desk) if !desk.is_shared() => desk.due(),
            Some(_) => self.inner.desks.iter().map(|desk| desk.due_for(queue)).min().unwrap_or(Nanos::MAX),
            None => Nanos::MAX,
        }
    }

    /// As [`Hand::preload`].
    ///
    /// # Errors
    /// As there.
    pub fn preload(&self, patience: Nanos) -> Result<(), OpenLoopError> {
        self.hand().preload(patience)
    }

    /// As [`Hand::ask`].
    ///
    /// # Errors
    /// As there.
    pub fn ask(&self, workload: &Workload) -> Result<(), OpenLoopError> {
        self.hand().ask(workload)
    }

    /// As [`Hand::run`].
    ///
    /// # Errors
    /// As there.
    pub fn run(&self, drive: &Drive) -> Result<Outcome, OpenLoopError> {
        self.hand().run(drive)
    }

    /// As [`Hand::run_watched`].
    ///
    /// # Errors
    /// As there.
    pub fn run_watched(&self, drive: &Drive, meanwhile: impl FnOnce(Nanos)) -> Result<Outcome, OpenLoopError> {
        self.hand().run_watched(drive, meanwhile)
    }

    /// As [`Hand::hang_up`].
    ///
    /// # Errors
    /// As there.
    pub fn hang_up(&self, patience: Nanos) -> Result<(), OpenLoopError> {
        self.hand().hang_up(patience)
    }

    /// Ends early what another thread is waiting for.
    pub fn halt(&self) {
        self.inner.halt.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    fn connected(&self) -> u32 {
        self.desks.iter().map(|d| d.open.load(Ordering::Relaxed)).sum()
    }
}

/// A [`Director`] at work.
pub struct Hand<'a> {
    inner: &'a Inner,
    /// What is done instead of sleeping.
    pump: Option<&'a mut dyn FnMut()>,
}

impl<'a> Hand<'a> {
    fn now(&self) -> Nanos {
        self.inner.clock.now()
    }

    /// The right to direct.
    fn turn(&self) -> MutexGuard<'a, Config> {
        let config = self.inner.config.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.halt.store(false, Ordering::Relaxed);
        config
    }

    /// Opens all connections that are not open, and keeps them open.
    ///
    /// # Errors
    /// Not all were open after `patience`; the dataplane has ended; somebody asked for the end.
    pub fn connect(&mut self, patience: Nanos) -> Result<(), OpenLoopError> {
        let config = self.turn();
        self.connect_all(&config, patience)
    }

    fn connect_all(&mut self, config: &Config, patience: Nanos) -> Result<(), OpenLoopError> {
        match self.all(|_| Order::Connect, self.now() + patience) {
            Ok(_) => Ok(()),
            Err(OpenLoopError::Silent(queue)) => {
                let refused: u64 = self.inner.desks.iter().map(|d| d.refused.load(Ordering::Relaxed)).sum();
                let (open, wanted) = (self.inner.connected(), config.per_queue() * u32::from(config.queues));
                if open == wanted {
                    return Err(OpenLoopError::Silent(queue));
                }
                Err(OpenLoopError::Connect { open, wanted, refused, after: patience, port: config.port })
            }
            Err(e) => Err(e),
        }
    }

    /// Stores all records of the workload, in a closed loop, and waits until the server has said so for each; nothing to do for workloads
    /// without.
    ///
    /// # Errors
    /// One was refused; not all were stored within `patience`; as [`Hand::connect`].
    pub fn preload(&mut self, patience: Nanos) -> Result<(), OpenLoopError> {
        let config = self.turn();
        let records = match &config.workload {
            Workload::Kv(kv) => kv.records,
            Workload::Echo(_) | Workload::Spin(_) => return Ok(()),
        };
        let give_up = self.now() + patience;
        self.connect_all(&config, patience)?;
        let of = self.inner.desks.len() as u64;
        let edge = |i: usize| (u64::from(records) * i as u64 / of) as u32;
        let job = |i| {
            let window = Nanos(1);
            let supply = Supply::Records { next: edge(i), end: edge(i + 1) };
            Order::Work(Box::new(Job { supply, recorder: Recorder::new(window, window, false), give_up }))
        };
        for done in self.all(job, give_up + GRACE)? {
            let Done::Worked(job) = done else { continue };
            let (Supply::Records { next, end }, errors) = (&job.supply, job.recorder.errors()) else { continue };
            if errors.total() > 0 {
                return Err(OpenLoopError::Preload(errors.to_string()));
            }
            if next < end {
                return Err(OpenLoopError::Preload(format!("no time for {} of them in {patience:?}", end - next)));
            }
        }
        Ok(())
    }

    /// Asks something else from the next run on, over the same connections. Takes a few milliseconds.
    ///
    /// # Errors
    /// The workload makes no sense; as [`Hand::connect`].
    pub fn ask(&mut self, workload: &Workload) -> Result<(), OpenLoopError> {
        check_workload(workload)?;
        let mut config = self.turn();
        let asker = |i| Order::Ask(Box::new(Asker::new(workload, stream(config.seed, i as u32, Purpose::Requests))));
        self.all(asker, self.now() + GRACE)?;
        config.workload = workload.clone();
        Ok(())
    }

    /// Loads the server for one stretch and waits for its end, connections opened first where some are closed. An early end
    /// ([`Director::halt`], or the wish of the process to stop) is told by the outcome.
    ///
    /// # Errors
    /// The stretch makes no sense; as [`Hand::connect`].
    pub fn run(&mut self, drive: &Drive) -> Result<Outcome, OpenLoopError> {
        self.run_watched(drive, |_| ())
    }

    /// The same; `meanwhile` is called when the queues have their orders, with the instant at which the window opens, to watch the server. What
    /// it takes beyond the stretch is waited for.
    ///
    /// # Errors
    /// As [`Hand::run`].
    pub fn run_watched(&mut self, drive: &Drive, meanwhile: impl FnOnce(Nanos)) -> Result<Outcome, OpenLoopError> {
        drive.check()?;
        let config = self.turn();
        self.connect_all(&config, drive.patience.max(GRACE))?;
        // Memory first: writing it takes longer than the lead.
        let mut recorders: Vec<Recorder> =
            self.inner.desks.iter().map(|_| Recorder::new(drive.window, drive.slice, drive.keep)).collect();
        if drive.each {
            let expected = drive.rate * drive.window.as_secs_f64() / recorders.len() as f64;
            let most = (expected + 6.0 * expected.sqrt() + 64.0).min(EACH_MAX as f64) as usize;
            recorders.iter_mut().for_each(|r| r.keep_each(most));
        }
        let start = self.now() + LEAD;
        let (share, span) = (1.0 / recorders.len() as f64, drive.warmup + drive.window);
        let pattern = drive.pattern.clone().unwrap_or_else(|| Pattern::constant(drive.rate));
        let give_up = start + span + drive.patience;
        let job = |i: usize| {
            let rng = stream(config.seed ^ start.0, i as u32, Purpose::Arrivals);
            let mut recorder = recorders.swap_remove(0);
            recorder.open_at(start + drive.warmup);
            let supply = match &drive.think {
                Some(think) => {
                    Supply::Thinking(Thinkers::new(config.per_queue(), think.clone(), start, start + span, rng))
                }
                None => {
                    let arrivals = Arrivals::new(&drive.gaps, &pattern, share, start, span, rng);
                    Supply::Open { arrivals, rate: drive.rate * share }
                }
            };
            Order::Work(Box::new(Job { supply, recorder, give_up }))
        };
        let mut sum: Option<Outcome> = None;
        for done in self.all_while(job, give_up + GRACE, || meanwhile(start + drive.warmup))? {
            let Done::Worked(job) = done else { continue };
            let Job { supply, mut recorder, .. } = *job;
            if let Supply::Open { mut arrivals, rate } = supply {
                recorder.owe(&mut arrivals, rate);
            }
            let outcome = recorder.finish();
            match &mut sum {
                Some(sum) => sum.merge(&outcome),
                None => sum = Some(outcome),
            }
        }
        let mut sum = sum.ok_or(OpenLoopError::Stopped)?;
        sum.open_loop = drive.think.is_none();
        Ok(sum)
    }

    /// Ends all connections with a reset and opens none any more.
    ///
    /// # Errors
    /// As [`Hand::connect`].
    pub fn hang_up(&mut self, patience: Nanos) -> Result<(), OpenLoopError> {
        let _turn = self.turn();
        self.all(|_| Order::HangUp, self.now() + patience).map(drop)
    }

    /// Gives each queue its order and waits for all answers, until `until`.
    fn all(&mut self, order: impl FnMut(usize) -> Order, until: Nanos) -> Result<Vec<Done>, OpenLoopError> {
        self.all_while(order, until, || ())
    }

    /// The same; `meanwhile` is called between the two.
    fn all_while(
        &mut self,
        mut order: impl FnMut(usize) -> Order,
        until: Nanos,
        meanwhile: impl FnOnce(),
    ) -> Result<Vec<Done>, OpenLoopError> {
        let orders: Vec<Order> = (0..self.inner.desks.len()).map(&mut order).collect();
        let work = matches!(orders.first(), Some(Order::Work(_)));
        let desks = &self.inner.desks;
        let numbers: Vec<u64> = desks.iter().zip(orders).map(|(desk, order)| desk.put(order)).collect();
        self.inner.orders.fetch_add(1, Ordering::Relaxed);
        meanwhile();
        let mut done = Vec::with_capacity(desks.len());
        let mut halted = false;
        for (i, (desk, number)) in desks.iter().zip(numbers).enumerate() {
            loop {
                let now = self.now();
                let patience = if self.pump.is_some() { Nanos::ZERO } else { LOOK.min(until - now) };
                match desk.wait(number, patience) {
                    Some(Ok(answer)) => break done.push(answer),
                    Some(Err(Gone)) => return Err(OpenLoopError::Gone(i)),
                    None if now >= until => return Err(OpenLoopError::Silent(i)),
                    None => self.pump.as_mut().map_or((), |pump| pump()),
                }
                if !halted && (sys::stop::requested() || self.inner.halt.load(Ordering::Relaxed)) {
                    if !work {
                        return Err(OpenLoopError::Stopped);
                    }
                    halted = true;
                    desks.iter().for_each(|desk| desk.halt());
                }
            }
        }
        Ok(done)
    }
}
