//! Pinned threads around the turn, and what they do when there is nothing to do.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mem::{Backing, MemError};
use netstack::{Metrics, Shared, StackConfig};
use nic::Queue;
use sync::SleepWord;
use sys::SysError;
use sys::interrupt::Receiver;
use sys::wait::EventFd;
use units::{CoreId, FlowGroupId, Nanos};
use wire::Tuple;

use crate::control::{Controller, Steer};
use crate::sched::{Assist, Sched};
use crate::turn::ElasticThread;
use crate::view::App;

/// What an elastic thread does that finds nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Polls on: the least latency, a whole core.
    Spin,
    /// Polls for this long, then sleeps on its NIC queue, its bell and the next timer.
    Adaptive(Nanos),
}

impl Default for Idle {
    fn default() -> Idle {
        Idle::Adaptive(Nanos::from_micros(50))
    }
}

/// How the threads run.
#[derive(Clone, Debug, Default)]
pub struct RunnerConfig {
    /// The hardware thread of each elastic thread; those beyond the list float.
    pub pin: Vec<usize>,
    /// The idle policy.
    pub idle: Idle,
    /// Which core runs what.
    pub sched: Sched,
}

/// Why a dataplane did not start.
#[derive(Debug)]
pub enum RunError {
    /// Memory.
    Mem(MemError),
    /// The operating system.
    Sys(SysError),
    /// Threads or random numbers.
    Io(std::io::Error),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Mem(e) => e.fmt(f),
            RunError::Sys(e) => e.fmt(f),
            RunError::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl From<MemError> for RunError {
    fn from(e: MemError) -> RunError {
        RunError::Mem(e)
    }
}

impl From<SysError> for RunError {
    fn from(e: SysError) -> RunError {
        RunError::Sys(e)
    }
}

impl From<std::io::Error> for RunError {
    fn from(e: std::io::Error) -> RunError {
        RunError::Io(e)
    }
}

/// How long application code may take to return when the dataplane ends, and how often it is looked at.
const PATIENCE: Nanos = Nanos::from_secs(1);
const LOOK: std::time::Duration = std::time::Duration::from_micros(200);
/// How often a parked core looks at a queue that cannot wake it.
const LOOK_ROUND: Nanos = Nanos::from_millis(10);

/// Where a core is woken: the word says whether it sleeps, the bell ends its sleep.
struct Bed {
    word: SleepWord,
    bell: EventFd,
}

impl Bed {
    fn wake(&self) {
        if self.word.wake_needed() {
            self.bell.ring();
        }
    }
}

/// A running dataplane: its elastic threads.
pub struct Dataplane {
    shared: Arc<Shared>,
    beds: Arc<[Bed]>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    tids: Vec<u32>,
    backing: Option<Backing>,
    controller: Option<Controller>,
}

impl Dataplane {
    /// Starts one elastic thread for each queue.
    ///
    /// `flow_group` is the NIC's function from flows to groups. `app` makes what each thread runs; with stealing, each runs connections of all, so what
    /// they know of connections must be common to them.
    ///
    /// # Errors
    /// Memory, descriptors or threads cannot be had, or a thread cannot be pinned.
    pub fn start<Q, A>(
        config: StackConfig,
        queues: Vec<Q>,
        flow_group: impl Fn(&Tuple) -> FlowGroupId + Send + Sync + 'static,
        runner: &RunnerConfig,
        mut app: impl FnMut(CoreId, &Arc<Shared>) -> A,
    ) -> Result<Dataplane, RunError>
    where
        Q: Queue + 'static,
        A: App + 'static,
    {
        let bed = |_| Ok(Bed { word: SleepWord::new(), bell: EventFd::new()? });
        let beds: Arc<[Bed]> = queues.iter().map(bed).collect::<Result<Vec<_>, SysError>>()?.into();
        let wakers = beds.clone();
        let wake = move |core: CoreId| wakers[core.index()].wake();
        let shared = Arc::new(Shared::new(config, queues.len(), secret()?, flow_group, wake)?);
        let mut dataplane = Dataplane {
            shared,
            beds,
            stop: Arc::default(),
            threads: Vec::new(),
            tids: Vec::new(),
            backing: None,
            controller: None,
        };
        let fds: Arc<[RawFd]> = queues.iter().filter_map(Queue::wait_fd).collect();
        for thread in ElasticThread::crew(&dataplane.shared, queues, runner.sched)? {
            dataplane
                .controller
                .get_or_insert_with(|| Controller::new(&dataplane.shared, thread.crew_mates(), sys::clock::now));
            dataplane.backing = Some(thread.backing());
            let app = app(thread.core(), &dataplane.shared);
            dataplane.spawn(thread, app, runner, fds.clone())?;
        }
        Ok(dataplane)
    }

    fn spawn<Q, A>(
        &mut self,
        thread: ElasticThread<Q>,
        app: A,
        runner: &RunnerConfig,
        fds: Arc<[RawFd]>,
    ) -> Result<(), RunError>
    where
        Q: Queue + 'static,
        A: App + 'static,
    {
        let core = thread.core();
        let pin = runner.pin.get(core.index()).copied();
        let (beds, stop) = (self.beds.clone(), self.stop.clone());
        let mut elastic = Loop { thread, app, idle: runner.idle, beds, fds, stop };
        let (pinned, outcome) = std::sync::mpsc::sync_channel(1);
        let handle = std::thread::Builder::new().name(format!("elastic-{}", core.0)).spawn(move || {
            let placed = pin.map_or(Ok(()), sys::thread::pin);
            let go = placed.is_ok();
            // The starter waits for this message, so it can only fail to arrive if the starter has panicked.
            let _ = pinned.send(placed.map(|()| sys::thread::id()));
            if go {
                elastic.run();
            }
        })?;
        self.threads.push(handle);
        if let Ok(placed) = outcome.recv() {
            self.tids.push(placed?);
        }
        Ok(())
    }

    /// What all cores share: counters, the mailbox.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Who moves flow groups between its cores, and parks these. `steer` is the NIC's [`set_reta`](nic::Nic::set_reta), called by elastic threads; who
    /// gives none here and has given none before has groups whose frames are forwarded. `None`: it has no cores.
    pub fn controller(&self, steer: Option<Steer>) -> Option<Controller> {
        let controller = self.controller.clone()?;
        steer.into_iter().for_each(|steer| controller.steer_by(steer));
        Some(controller)
    }

    /// The kernel's ids of the elastic threads, by core.
    pub fn tids(&self) -> &[u32] {
        &self.tids
    }

    /// Whether all elastic threads are running. One that ended by itself has panicked, which is our fault: its connections hang.
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|t| !t.is_finished())
    }

    /// What kind of pages the buffers lie in: the last thread's, which got what the others had left.
    pub fn backing(&self) -> Option<Backing> {
        self.backing
    }

    /// Ends all connections with RST, then the threads. Answers which of them are in application code that does not return: after a second these
    /// are left to themselves, and end should it ever return.
    pub fn stop(mut self) -> Vec<CoreId> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Vec<CoreId> {
        // No flow group may be between two cores when they end their connections.
        self.controller.iter().for_each(Controller::stop);
        self.stop.store(true, Ordering::SeqCst);
        for bed in self.beds.iter() {
            bed.bell.ring();
        }
        let patience = sys::clock::now() + PATIENCE;
        let mut stuck = Vec::new();
        for (i, t) in self.threads.drain(..).enumerate() {
            let core = CoreId(i as u16);
            let in_app = || self.shared.metrics(core).app_since_ns.get() != 0;
            while !t.is_finished() && (!in_app() || sys::clock::now() <= patience) {
                std::thread::sleep(LOOK);
            }
            if t.is_finished() {
                // A panic of an elastic thread has been printed already.
                let _ = t.join();
            } else {
                stuck.push(core);
            }
        }
        stuck
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// The loop of one elastic thread.
struct Loop<Q: Queue, A: App> {
    thread: ElasticThread<Q>,
    app: A,
    idle: Idle,
    beds: Arc<[Bed]>,
    /// What becomes readable when a frame comes to any core.
    fds: Arc<[RawFd]>,
    stop: Arc<AtomicBool>,
}

impl<Q: Queue + 'static, A: App> Loop<Q, A> {
    fn run(&mut self) {
        let _interruptible = self.listen();
        let shared = self.thread.shared().clone();
        let metrics = shared.metrics(self.thread.core());
        let mut now = sys::clock::now();
        let mut last_work = now;
        self.thread.start(now, &mut self.app);
        while !self.stop.load(Ordering::Relaxed) {
            let turn = self.thread.turn(now, sys::clock::now, &mut self.app);
            let after = sys::clock::now();
            if turn.work > 0 {
                self.thread.answered(after);
                metrics.busy_ns.add((after - now).0);
                metrics.turns_busy.inc();
                last_work = after;
            } else {
                metrics.idle_ns.add((after - now).0);
            }
            now = after;
            if turn.work > 0 || turn.deadline <= now {
                continue;
            }
            if self.thread.crew.stations[self.thread.own].is_parked() {
                now = self.sleep_parked(turn.deadline, now, metrics);
                continue;
            }
            match self.idle {
                Idle::Adaptive(patience) if now - last_work >= patience && self.may_sleep() => {
                    now = self.sleep(turn.deadline, now, metrics)
                }
                _ => std::hint::spin_loop(),
            }
        }
        if let Some(mut stack) = self.thread.stack() {
            stack.abort_all(sys::clock::now());
        }
    }

    /// Makes this thread one that others can interrupt, where that is how they assist. Without: they wait, which is slower and not wrong.
    fn listen(&self) -> Option<Receiver> {
        if self.thread.sched() != Sched::Zygos(Assist::Ipi) {
            return None;
        }
        let (crew, own) = (self.thread.crew.clone(), self.thread.own);
        let receiver = Receiver::install(Box::new(move || crew.interrupted(own, sys::clock::now()))).ok()?;
        let line = receiver.line();
        self.thread.crew.listen(self.thread.own, Box::new(move || line.raise()));
        Some(receiver)
    }

    fn may_sleep(&self) -> bool {
        self.thread.sched() == Sched::Ix || self.thread.crew.may_sleep(self.thread.own)
    }

    /// Sleeps until a frame, a message, the bell or `deadline`. To sleep: say so, look once more at every source, block.
    fn sleep(&mut self, deadline: Nanos, now: Nanos, metrics: &Metrics) -> Nanos {
        let core = self.thread.core();
        let bed = &self.beds[core.index()];
        let (crew, own) = (&self.thread.crew, self.thread.own);
        let Some(mut stack) = self.thread.stack() else { return now };
        bed.word.prepare();
        crew.lie_down(own);
        let queue = stack.nic();
        let quiet = queue.before_sleep();
        let fd = queue.wait_fd();
        let returned = stack.has_returned();
        let deadline = match self.thread.sched() {
            Sched::Ix => deadline,
            Sched::Zygos(assist) => deadline.min(crew.sleep_until(own, assist, now)),
        };
        drop(stack);
        let stealable = self.thread.sched() != Sched::Ix && crew.has_work(own);
        let asked = crew.mover.concerns(own) || crew.stations[own].is_parked();
        let mut rung = false;
        let nothing = quiet && !returned && !stealable && !asked && !self.thread.shared().has_inbox(core);
        if nothing && !self.stop.load(Ordering::SeqCst) {
            let bell = bed.bell.as_raw_fd();
            // A thief wakes for all queues: their homes may be in application code by then.
            let mut fds = [bell; sys::wait::MAX_FDS];
            match self.thread.sched() {
                Sched::Ix => fds[0] = fd.unwrap_or(bell),
                Sched::Zygos(_) => self.fds.iter().zip(&mut fds[1..]).for_each(|(fd, place)| *place = *fd),
            }
            let watched = if self.thread.sched() == Sched::Ix { 2 } else { (1 + self.fds.len()).min(fds.len()) };
            metrics.sleep_since_ns.set(now.0);
            // Interrupted or not: the loop looks at everything again.
            let ready = sys::wait::readable(&fds[..watched], deadline - now).unwrap_or(0);
            rung = fds[..watched].iter().enumerate().any(|(i, fd)| *fd == bell && ready >> i & 1 == 1);
        }
        crew.get_up(own);
        bed.word.cancel();
        // A bell that rings as late as now ends the next sleep at once, and is taken then.
        if rung {
            bed.bell.take();
        }
        if let Some(mut stack) = self.thread.stack() {
            stack.nic().after_sleep();
        }
        let after = sys::clock::now();
        metrics.sleep_ns.add((after - now).0);
        metrics.sleep_since_ns.set(0);
        after
    }
}

impl<Q: Queue + 'static, A: App> Loop<Q, A> {
    /// Sleeps as a core that owns nothing: until the bell, a frame in its own ring, which it then forwards, or a deadline of its own. It is none of those
    /// that are woken for work.
    #[cold]
    fn sleep_parked(&mut self, deadline: Nanos, now: Nanos, metrics: &Metrics) -> Nanos {
        let core = self.thread.core();
        let bed = &self.beds[core.index()];
        let (crew, own) = (&self.thread.crew, self.thread.own);
        let Some(mut stack) = self.thread.stack() else { return now };
        bed.word.prepare();
        let quiet = stack.nic().before_sleep();
        let fd = stack.nic().wait_fd();
        let waits = if fd.is_some() { !quiet } else { stack.nic().rx_hint()() };
        let busy = waits || stack.has_returned() || stack.ready() > 0;
        drop(stack);
        let asked = crew.mover.concerns(own) || !crew.stations[own].is_parked();
        if !busy && !asked && !self.thread.shared().has_inbox(core) && !self.stop.load(Ordering::SeqCst) {
            let bell = bed.bell.as_raw_fd();
            // A queue that can only be polled is looked at now and then.
            let deadline = if fd.is_some() { deadline } else { deadline.min(now + LOOK_ROUND) };
            metrics.sleep_since_ns.set(now.0);
            let _ = sys::wait::readable(&[bell, fd.unwrap_or(bell)], deadline - now);
        }
        bed.word.cancel();
        bed.bell.take();
        if let Some(mut stack) = self.thread.stack() {
            stack.nic().after_sleep();
        }
        let after = sys::clock::now();
        metrics.sleep_ns.add((after - now).0);
        metrics.sleep_since_ns.set(0);
        after
    }
}

/// Key material that no peer can guess.
fn secret() -> std::io::Result<[u8; 48]> {
    use std::io::Read;
    let mut secret = [0; 48];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}
