use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sys::epoll::{Epoll, Events, Interest};
use sys::{SysError, clock};
use units::{Counter, Nanos};

use crate::arrivals::Arrivals;
use crate::link::{Broken, Link, Pending};
use crate::outcome::record;
use crate::protocol::Ask;
use crate::{Outcome, Workload};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// Open loop: requests that may wait for depth, all connections of a client together. Beyond, they count as
/// unanswered at once: the server is hopelessly behind, and memory is not to pay for it.
const WAITING_MAX: usize = 1 << 18;

/// Requests outstanding per connection while the keys are stored.
const PRELOAD_DEPTH: usize = 32;

/// A client that does not spin looks this often whether the slice is over.
const NAP: Nanos = Nanos::from_millis(5);

/// One client thread and its connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server.
    pub addr: SocketAddr,
    /// Connections of this client.
    pub connections: usize,
    /// Requests outstanding per connection, at most.
    pub depth: usize,
    /// What to ask.
    pub workload: Workload,
    /// Where the random numbers begin: equal seeds ask the same. Each client of a run needs its own.
    pub seed: u64,
    /// The core to run on.
    pub core: Option<usize>,
    /// Never sleep: sends on time to the microsecond, and takes a whole core. Without, the kernel's timers decide.
    pub spin: bool,
}

/// When requests are made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Each connection always has `depth` of them outstanding.
    Closed,
    /// By a Poisson process of `rate` a second, all clients of the run together.
    Open {
        /// Requests per second.
        rate: f64,
    },
}

/// A stretch of load: requests are made from the beginning to the end of the window, and measured within it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slice {
    /// When.
    pub pace: Pace,
    /// Load before the window.
    pub warmup: Nanos,
    /// The window.
    pub window: Nanos,
    /// How long replies are waited for after the window; what has none then is an error.
    pub patience: Nanos,
}

/// What a client has done so far, for others to watch while it runs.
#[derive(Default, Debug)]
pub struct Progress {
    /// Right replies since the client was made.
    pub answered: Counter,
}

/// Why there is no load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A connection could not be opened.
    #[error("cannot connect to {addr}: {cause}; is the server running there?")]
    Connect {
        /// The server.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The keys could not be stored.
    #[error("the server at {addr} does not store keys: {what}")]
    Preload {
        /// The server.
        addr: SocketAddr,
        /// What went wrong.
        what: String,
    },
    /// The kernel refused something else.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Epoll refused.
    #[error("epoll")]
    Epoll(#[from] io::Error),
}

/// One thread's share of the load. Connections stay open from slice to slice.
pub struct Client {
    config: Config,
    epoll: Epoll,
    events: Events,
    links: Vec<Option<Link>>,
    /// Links that were replaced and have not been asked anything yet.
    fresh: Vec<usize>,
    rng: StdRng,
    progress: Arc<Progress>,
}

impl Client {
    /// Opens all connections.
    ///
    /// # Errors
    /// The server does not answer; descriptors ran out.
    pub fn connect(config: Config) -> Result<Client, LoadError> {
        let mut client = Client {
            epoll: Epoll::new()?,
            events: Events::new(256),
            links: Vec::with_capacity(config.connections),
            fresh: Vec::new(),
            rng: StdRng::seed_from_u64(config.seed),
            progress: Arc::default(),
            config,
        };
        for index in 0..client.config.connections {
            let link = client.open(index as u64)?;
            client.links.push(Some(link));
        }
        Ok(client)
    }

    /// What the client has done so far, to be watched while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn open(&self, token: u64) -> Result<Link, LoadError> {
        let addr = self.config.addr;
        let open = || {
            let stream = TcpStream::connect_timeout(&addr, CONNECT)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let stream = open().map_err(|cause| LoadError::Connect { addr, cause })?;
        self.epoll.add(&stream, token, Interest::READ)?;
        Ok(Link::new(stream, self.config.depth.max(PRELOAD_DEPTH)))
    }

    /// Stores the keys `[from, to)` and waits until the server has said so for each.
    ///
    /// # Errors
    /// One was refused, or an answer took over ten seconds.
    pub fn preload(&mut self, from: u32, to: u32) -> Result<(), LoadError> {
        let patience = Nanos::from_secs(10);
        let slice = Slice { pace: Pace::Closed, warmup: Nanos::ZERO, window: patience, patience };
        let mut job = Job::new(&slice, clock::now(), 1, PRELOAD_DEPTH);
        job.supply = Supply::Each { next: from, end: to };
        self.work(&mut job)?;
        let what = match (job.outcome.requests, job.outcome.errors) {
            (done, e) if e.total() > 0 => format!("{done} of {} stored, {e}", to - from),
            (done, _) if done < u64::from(to - from) => format!("{done} of {} stored after 10 s", to - from),
            _ => return Ok(()),
        };
        Err(LoadError::Preload { addr: self.config.addr, what })
    }

    /// Runs this client's share (one of `of`) of a slice that began at `start`.
    fn run(&mut self, slice: &Slice, start: Nanos, of: usize) -> Result<Outcome, LoadError> {
        if let Some(core) = self.config.core {
            sys::thread::pin(core)?;
        }
        let before = clock::thread_cpu();
        let mut job = Job::new(slice, start, of, self.config.depth);
        job.supply = Supply::Mix(self.config.workload);
        self.fresh.clear();
        self.work(&mut job)?;
        job.outcome.cpu = clock::thread_cpu() - before;
        Ok(job.outcome)
    }

    fn work(&mut self, job: &mut Job) -> Result<(), LoadError> {
        if job.arrivals.is_none() {
            (0..self.links.len()).for_each(|i| self.refill(i, job));
        }
        loop {
            let now = clock::now();
            self.make_due(now, job);
            for index in std::mem::take(&mut self.fresh) {
                self.refill(index, job);
            }
            let busy = self.links.iter().flatten().any(|l| !l.pending.is_empty() || !l.waiting.is_empty());
            let idle_is_end = job.supply.exhausted() || (now >= job.end && job.next_arrival() >= job.end);
            if (idle_is_end && !busy) || now >= job.give_up || self.links.iter().all(Option::is_none) {
                break;
            }
            let timeout = self.timeout(now, job);
            self.epoll.wait(&mut self.events, Some(timeout))?;
            for i in 0..self.events.len() {
                let Some(ready) = self.events.get(i) else { break };
                self.serve(ready.token as usize, job);
            }
        }
        self.give_up(job);
        Ok(())
    }

    fn timeout(&self, now: Nanos, job: &Job) -> Duration {
        if self.config.spin {
            return Duration::ZERO;
        }
        (job.next_arrival() - now).min(NAP).duration()
    }

    /// Open loop: queues what is due by `now`, and sends it. What was meant for the window is made even when the window
    /// has passed meanwhile: a client that was held up must not forget what it owed.
    fn make_due(&mut self, now: Nanos, job: &mut Job) {
        let Some(arrivals) = &mut job.arrivals else { return };
        let by = now.min(job.end - Nanos(1));
        let mut dirty = [0usize; 64];
        let mut count = 0;
        while count < dirty.len()
            && let Some(since) = arrivals.due(by, &mut self.rng)
        {
            let Some(ask) = job.supply.next(&mut self.rng) else { return };
            let index = self.rng.random_range(0..self.links.len());
            let Some(link) = &mut self.links[index] else {
                job.outcome.errors.lost += 1;
                continue;
            };
            let request = Pending { ask, since };
            if link.pending.len() < job.depth {
                record(&mut job.outcome.lateness, now - since);
                link.ask(request);
                if !link.dirty {
                    link.dirty = true;
                    dirty[count] = index;
                    count += 1;
                }
            } else if job.waiting < WAITING_MAX {
                job.waiting += 1;
                link.waiting.push_back(request);
            } else {
                job.outcome.errors.unanswered += 1;
            }
        }
        for &index in &dirty[..count] {
            self.send(index, job);
        }
    }

    /// A connection is ready: takes replies, makes the requests that may follow them.
    fn serve(&mut self, index: usize, job: &mut Job) {
        let Some(Some(link)) = self.links.get_mut(index) else { return };
        let progress = &self.progress;
        let now = clock::now();
        let taken = link.receive(|request, right| job.done(request, right, now, progress));
        match taken {
            Ok(()) => self.refill(index, job),
            Err(Broken) => self.replace(index, job),
        }
    }

    /// Asks as much as the depth allows, and sends.
    fn refill(&mut self, index: usize, job: &mut Job) {
        let Some(link) = &mut self.links[index] else { return };
        let now = clock::now();
        while link.pending.len() < job.depth {
            if let Some(request) = link.waiting.pop_front() {
                job.waiting -= 1;
                record(&mut job.outcome.lateness, now - request.since);
                link.ask(request);
            } else if job.arrivals.is_none()
                && now < job.end
                && let Some(ask) = job.supply.next(&mut self.rng)
            {
                link.ask(Pending { ask, since: now });
            } else {
                break;
            }
        }
        self.send(index, job);
    }

    fn send(&mut self, index: usize, job: &mut Job) {
        let Some(link) = &mut self.links[index] else { return };
        link.dirty = false;
        if link.send().is_err() {
            return self.replace(index, job);
        }
        if link.unsent() != link.watches_room {
            link.watches_room = link.unsent();
            let what = Interest::READ.and(Interest::WRITE.when(link.watches_room));
            if self.epoll.modify(&link.stream, index as u64, what).is_err() {
                self.replace(index, job);
            }
        }
    }

    /// Gives up a connection with all of its requests, and opens another in its place.
    #[cold]
    fn replace(&mut self, index: usize, job: &mut Job) {
        if let Some(link) = self.links[index].take() {
            job.outcome.errors.broken += 1;
            job.outcome.errors.lost += (link.pending.len() + link.waiting.len()) as u64;
            job.waiting -= link.waiting.len();
        }
        self.links[index] = self.open(index as u64).ok();
        self.fresh.push(index);
    }

    /// At the end: what has no reply yet gets none, on connections that are replaced so that no later slice sees it.
    #[cold]
    fn give_up(&mut self, job: &mut Job) {
        for index in 0..self.links.len() {
            let left = self.links[index].as_ref().map_or(0, |l| l.pending.len() + l.waiting.len());
            if left > 0 || self.links[index].is_none() {
                job.outcome.errors.unanswered += left as u64;
                self.links[index] = None;
                self.links[index] = self.open(index as u64).ok();
            }
        }
    }
}

/// Where requests come from.
enum Supply {
    /// At random, for ever.
    Mix(Workload),
    /// A SET of each key, once.
    Each { next: u32, end: u32 },
}

impl Supply {
    fn next(&mut self, rng: &mut StdRng) -> Option<Ask> {
        match self {
            Supply::Mix(workload) => {
                let key = rng.random_range(0..workload.keys);
                Some(if rng.random_bool(workload.gets) { Ask::Get(key) } else { Ask::Set(key) })
            }
            Supply::Each { next, end } => {
                let key = *next;
                (key < *end).then(|| {
                    *next += 1;
                    Ask::Set(key)
                })
            }
        }
    }

    fn exhausted(&self) -> bool {
        matches!(self, Supply::Each { next, end } if next >= end)
    }
}

/// One slice on one client.
struct Job {
    supply: Supply,
    depth: usize,
    arrivals: Option<Arrivals>,
    /// The window.
    from: Nanos,
    end: Nanos,
    give_up: Nanos,
    waiting: usize,
    outcome: Outcome,
}

impl Job {
    fn new(slice: &Slice, start: Nanos, of: usize, depth: usize) -> Job {
        let from = start + slice.warmup;
        let end = from + slice.window;
        Job {
            supply: Supply::Each { next: 0, end: 0 },
            depth: depth.max(1),
            arrivals: match slice.pace {
                Pace::Closed => None,
                Pace::Open { rate } => Some(Arrivals::new(start, rate / of as f64)),
            },
            from,
            end,
            give_up: end + slice.patience,
            waiting: 0,
            outcome: Outcome::new(slice.window),
        }
    }

    /// When the open loop makes its next request; never in a closed one.
    fn next_arrival(&self) -> Nanos {
        self.arrivals.as_ref().map_or(Nanos::MAX, Arrivals::next)
    }

    fn done(&mut self, request: Pending, right: bool, now: Nanos, progress: &Progress) {
        if !right {
            self.outcome.errors.wrong += 1;
            return;
        }
        progress.answered.inc();
        let within = self.from <= now && now < self.end;
        self.outcome.requests += u64::from(within);
        let measured = match self.arrivals {
            None => within,
            Some(_) => self.from <= request.since && request.since < self.end,
        };
        if measured {
            record(&mut self.outcome.latency, now - request.since);
        }
    }
}

/// Runs a slice on all `clients` at once, each in a thread of its own; returns when the last is done.
///
/// # Errors
/// The first of the clients' errors.
pub fn run(clients: &mut [Client], slice: &Slice) -> Result<Outcome, LoadError> {
    let of = clients.len();
    let start = clock::now();
    let outcomes: Vec<Result<Outcome, LoadError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients.iter_mut().map(|c| scope.spawn(move || c.run(slice, start, of))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut all = Outcome::new(slice.window);
    for outcome in outcomes {
        all.merge(&outcome?);
    }
    Ok(all)
}
