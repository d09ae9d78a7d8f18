use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use load::{Live, Load, LoadError, Outcome, Place, Spec, Window};
use sys::clock;

use crate::message::Vitals;

/// How often a window under way is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// Something that takes its time.
pub(crate) enum Job {
    Connect(Box<Spec>),
    Preload,
    Run(Box<Window>),
}

/// What came of it.
pub(crate) type Result = std::result::Result<Option<Box<Outcome>>, String>;

/// The thread that has the load.
pub(crate) struct Worker {
    jobs: Option<Sender<Job>>,
    results: Receiver<Result>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The session wants the present job to end early.
    halt: AtomicBool,
    /// Once there is a load.
    live: Mutex<Option<Arc<Live>>>,
}

impl Worker {
    pub(crate) fn start(place: Place) -> std::io::Result<Worker> {
        let (jobs, todo) = channel();
        let (done, results) = channel();
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("agent-worker".into()).spawn(move || {
            let mut load = None;
            // Ends when the session has ended.
            for job in todo {
                let result = work(job, &mut load, &place, &theirs);
                if done.send(result.map_err(|e| e.to_string())).is_err() {
                    break;
                }
            }
        })?;
        Ok(Worker { jobs: Some(jobs), results, shared, thread: Some(thread) })
    }

    /// Begins a job; the one before must be done.
    pub(crate) fn begin(&self, job: Job) {
        self.shared.halt.store(false, Relaxed);
        if let Some(jobs) = &self.jobs {
            // A thread that is gone shows as a result that never comes.
            let _ = jobs.send(job);
        }
    }

    /// Ends the job early, if it is a window: with what there is.
    pub(crate) fn halt(&self) {
        self.shared.halt.store(true, Relaxed);
    }

    /// What came of the job, waiting a moment for it. `None`: not yet.
    pub(crate) fn result(&self, patience: Duration) -> Option<Result> {
        match self.results.recv_timeout(patience) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err("the agent's worker has ended unexpectedly".into())),
        }
    }

    pub(crate) fn vitals(&self) -> Vitals {
        let live = self.shared.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.as_ref().map_or(Vitals::default(), |live| Vitals {
            sent: live.sent.get(),
            answered: live.answered.get(),
            errors: live.errors.get(),
            stored: live.stored.get(),
            connected: live.connected.get(),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.halt();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(
    job: Job,
    load: &mut Option<Load>,
    place: &Place,
    shared: &Shared,
) -> std::result::Result<Option<Box<Outcome>>, LoadError> {
    let none = || LoadError::Spec("a `spec` comes first".into());
    match job {
        Job::Connect(spec) => {
            // The connections of a spec before this one end first: descriptors are scarce.
            *load = None;
            let new = Load::linux(&spec, place)?;
            *shared.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(new.live());
            *load = Some(new);
            Ok(None)
        }
        Job::Preload => load.as_mut().ok_or_else(none)?.preload().map(|()| None),
        Job::Run(window) => {
            let running = load.as_mut().ok_or_else(none)?.start(&window);
            // Past the end of the window, patience limits the wait.
            while clock::now() < running.closes() && !sys::stop::requested() {
                if shared.halt.load(Relaxed) {
                    running.halt();
                    break;
                }
                std::thread::sleep(LOOK);
            }
            running.join().map(|outcome| Some(Box::new(outcome)))
        }
    }
}
