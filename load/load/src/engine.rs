use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use draw::{Arrivals, Purpose, Rng, stream};
use rand::Rng as _;
use rand_distr::Exp1;
use requests::Asker;
use units::Nanos;

use crate::desk::{Desk, Live};
use crate::job::{Job, Order, Supply};
use crate::link::{Link, Pending, Phase};
use crate::outcome::{Outcome, record};
use crate::spec::{Hangup, LoadError, Pace, Spec, Window};

/// What carries the requests. The engine calls it with a connection's number; what comes of it reaches the engine by
/// [`Engine::opened`], [`Engine::received`], [`Engine::writable`] and [`Engine::closed`], never from within a call.
pub(crate) trait Wire {
    /// Begins to open connection `link`.
    fn open(&mut self, link: usize) -> io::Result<()>;
    /// Sends as much of `bytes` as there is room for; `None` if the connection is broken. If less than all, `writable` will be called.
    fn send(&mut self, link: usize, bytes: &[u8]) -> Option<usize>;
    /// Ends connection `link`; nothing more is heard of it.
    fn close(&mut self, link: usize, how: Hangup);
}

/// Work of one kind in one turn, so that replies never wait long behind new requests.
const BURST: usize = 256;

/// Open loop: requests that may wait for depth, all connections of a thread together. Beyond, they count as unanswered at
/// once: the server is hopelessly behind, and memory is not to pay for it.
const WAITING_MAX: usize = 1 << 18;

/// Connections being opened at once: below the backlog of any server.
const OPENING_MAX: usize = 128;

/// No connection has opened for so long: there is nobody.
const CONNECT: Nanos = Nanos::from_secs(5);

/// A connection that failed is tried again after this.
const RETRY: Nanos = Nanos::from_millis(100);

/// The mean pause between two requests of the unloaded agent: it must not be a load itself.
const PROBE_GAP: f64 = 1e6;

/// A running window looks this often whether it is over.
const LOOK: Nanos = Nanos::from_millis(5);

/// One thread's load, without a socket and without a clock.
pub(crate) struct Engine {
    desk: Arc<Desk>,
    live: Arc<Live>,
    /// Orders seen so far.
    seen: u64,
    spec: Spec,
    index: u32,
    /// This thread's part of an open loop's rate.
    share: f64,
    asker: Asker,
    probing: Asker,
    picks: Rng,
    links: Vec<Link>,
    /// The first so many links carry the load; the others are the agent's.
    mains: usize,
    probe: Probe,
    dirty: Vec<usize>,
    scratch: Vec<u8>,
    /// Links to be opened at once, and those to be tried again.
    to_open: VecDeque<usize>,
    to_retry: VecDeque<(Nanos, usize)>,
    opening: usize,
    /// When a connection opened last.
    opened_at: Nanos,
    stage: Stage,
    /// Requests without a reply, waiting ones included.
    underway: usize,
    waiting: usize,
}

/// The unloaded agent (thesis section 2.5.3): one request at a time, over its connections in turn.
#[derive(Debug)]
struct Probe {
    rng: Rng,
    next: Nanos,
    cursor: usize,
    underway: bool,
}

enum Stage {
    /// Opening the connections, for the first time.
    Opening,
    Idle,
    Working(Box<Job>),
    Ended,
}

impl Engine {
    /// The `index`-th of the threads of `spec`, with its part of the connections.
    pub(crate) fn new(spec: &Spec, index: u32, desk: Arc<Desk>, live: Arc<Live>) -> Engine {
        let own = spec.share(index, spec.threads);
        let random = |purpose| stream(spec.seed, index, purpose);
        let mains = own.connections as usize;
        let links = mains + own.probe as usize;
        Engine {
            desk,
            live,
            seen: 0,
            index,
            share: f64::from(own.connections) / f64::from(spec.connections.max(1)),
            asker: Asker::new(&own.workload, random(Purpose::Requests)),
            probing: Asker::new(&own.workload, random(Purpose::Probe)),
            picks: random(Purpose::Connections),
            links: (0..links).map(|_| Link::new()).collect(),
            mains,
            probe: Probe { rng: random(Purpose::Probe), next: Nanos::MAX, cursor: 0, underway: false },
            // Each link stands in it at most once.
            dirty: Vec::with_capacity(links),
            scratch: Vec::with_capacity(64 * 1024),
            to_open: (0..links).collect(),
            to_retry: VecDeque::new(),
            opening: 0,
            opened_at: Nanos::ZERO,
            stage: Stage::Opening,
            underway: 0,
            waiting: 0,
            spec: Spec { seed: spec.seed, ..own },
        }
    }

    /// Connections of this thread, the agent's included.
    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// This thread's part of the run.
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the thread is to end.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Whether time matters: a window is running.
    pub(crate) fn working(&self) -> bool {
        matches!(self.stage, Stage::Working(_))
    }

    /// The instant at which to turn again if nothing is heard before, at most `nap` from `now`: after that a thread without an order
    /// looks for one.
    pub(crate) fn wake_at(&self, now: Nanos, nap: Nanos) -> Nanos {
        if !self.dirty.is_empty() || (self.opening < OPENING_MAX && !self.to_open.is_empty()) {
            return now;
        }
        let retry = self.to_retry.front().map_or(Nanos::MAX, |(at, _)| *at);
        let at = match &self.stage {
            Stage::Working(job) if now < job.start => job.start,
            Stage::Working(job) if job.fresh < self.mains && job.arrivals.is_none() => now,
            Stage::Working(job) => {
                let probe = if self.probe.underway || now >= job.closes { Nanos::MAX } else { self.probe.next };
                job.next_arrival().min(probe).min(now + LOOK)
            }
            _ => now + nap,
        };
        at.min(retry)
    }

    /// Makes the requests that are due, sends what is to be sent, ends what is over. To be called whenever something was heard, and
    /// by [`Engine::wake_at`]. Bounded: about [`BURST`] requests.
    pub(crate) fn turn(&mut self, now: Nanos, wire: &mut impl Wire) {
        self.open_some(now, wire);
        match &self.stage {
            Stage::Opening => self.check_opening(now),
            Stage::Idle => self.look_for_order(now, wire),
            Stage::Working(_) => {
                self.make_due(now);
                self.fill(now);
                self.probe(now);
                self.flush(now, wire);
                self.end_if_over(now, wire);
            }
            Stage::Ended => {}
        }
    }

    // ---- orders ----

    fn look_for_order(&mut self, now: Nanos, wire: &mut impl Wire) {
        match self.desk.take(&mut self.seen) {
            None => {}
            Some(Order::Preload { from, to }) => {
                self.stage = Stage::Working(Box::new(Job::preload(from, to, now)));
            }
            Some(Order::Run { window, start }) => self.begin(&window, start),
            Some(Order::Ask(workload)) => {
                self.asker = Asker::new(&workload, stream(self.spec.seed, self.index, Purpose::Requests));
                self.probing = Asker::new(&workload, stream(self.spec.seed, self.index, Purpose::Probe));
                self.spec.workload = workload;
                self.desk.done(Ok(Outcome::new(Nanos::ZERO, false)));
            }
            Some(Order::End) => {
                for link in 0..self.links.len() {
                    if self.links[link].phase != Phase::Closed {
                        wire.close(link, Hangup::Rst);
                    }
                }
                self.stage = Stage::Ended;
            }
        }
    }

    fn begin(&mut self, window: &Window, start: Nanos) {
        let arrivals = match &window.pace {
            Pace::Closed => None,
            Pace::Open { gaps, pattern } => {
                let rng = stream(self.spec.seed ^ start.0, self.index, Purpose::Arrivals);
                Some(Arrivals::new(gaps, pattern, self.share, start, window.warmup + window.window, rng))
            }
        };
        let probe = self.links.len() > self.mains;
        let rate = self.share * window.pace.mean_rate(window.warmup + window.window);
        let job = Job::run(window, start, self.spec.depth as usize, probe, arrivals.map(|a| (a, rate)));
        self.probe.next = if probe { start } else { Nanos::MAX };
        self.stage = Stage::Working(Box::new(job));
    }

    fn check_opening(&mut self, now: Nanos) {
        if self.opened_at == Nanos::ZERO {
            self.opened_at = now;
        }
        if self.opening == 0 && self.to_open.is_empty() && self.to_retry.is_empty() {
            self.stage = Stage::Idle;
            self.desk.done(Ok(Outcome::new(Nanos::ZERO, false)));
        } else if now > self.opened_at + CONNECT {
            self.fail(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"));
        } else if self.desk.halted() {
            self.stage = Stage::Ended;
            self.desk.done(Err(LoadError::Stopped));
        }
    }

    /// The connections cannot be opened: the thread ends.
    fn fail(&mut self, cause: io::Error) {
        let opened = self.links.iter().filter(|l| l.phase == Phase::Open).count();
        let remedy = match cause.raw_os_error() {
            Some(e) if e == libc::EMFILE => "raise the limit of open files: ulimit -n",
            Some(e) if e == libc::EADDRNOTAVAIL => {
                "no local ports are left: widen net.ipv4.ip_local_port_range, or connect from more local addresses"
            }
            _ => "",
        };
        let error = match remedy {
            "" => LoadError::Connect { addr: self.spec.target, cause },
            remedy => LoadError::Scarce { opened, wanted: self.links.len(), cause, remedy },
        };
        self.stage = Stage::Ended;
        self.desk.done(Err(error));
    }

    // ---- connections ----

    fn open_some(&mut self, now: Nanos, wire: &mut impl Wire) {
        while self.to_retry.front().is_some_and(|(at, _)| *at <= now) {
            self.to_open.extend(self.to_retry.pop_front().map(|(_, link)| link));
        }
        while self.opening < OPENING_MAX
            && let Some(link) = self.to_open.pop_front()
        {
            match wire.open(link) {
                Ok(()) => {
                    self.links[link].phase = Phase::Opening;
                    self.opening += 1;
                }
                Err(e) => self.not_opened(link, e, now),
            }
        }
    }

    #[cold]
    fn not_opened(&mut self, link: usize, cause: io::Error, now: Nanos) {
        match &mut self.stage {
            Stage::Opening => return self.fail(cause),
            Stage::Working(job) => job.errors.refused += 1,
            _ => {}
        }
        self.live.errors.add(1);
        self.links[link].phase = Phase::Closed;
        self.to_retry.push_back((now + RETRY, link));
    }

    /// Connection `link` is open.
    pub(crate) fn opened(&mut self, link: usize, now: Nanos) {
        self.opening -= 1;
        self.opened_at = now;
        self.live.connected.add(1);
        self.links[link].phase = Phase::Open;
        if let Stage::Working(job) = &mut self.stage {
            job.opened += u64::from(now >= job.opens && now < job.closes);
        }
        // A probe that waited for this connection goes with it.
        self.refill(link, now);
    }

    /// Connection `link` has ended, or did not open.
    pub(crate) fn closed(&mut self, link: usize, cause: io::Error, now: Nanos) {
        match self.links[link].phase {
            Phase::Closed => {}
            Phase::Opening => {
                self.opening -= 1;
                self.not_opened(link, cause, now);
            }
            Phase::Open => self.broke(link),
        }
    }

    /// An open connection is of no use any more: what was under way on it is lost, another takes its place.
    #[cold]
    fn broke(&mut self, link: usize) {
        let lost = self.links[link].forget();
        self.links[link].phase = Phase::Closed;
        self.to_open.push_back(link);
        self.underway -= lost;
        if link >= self.mains {
            self.probe.underway = false;
        }
        // Between windows a server may end what is idle.
        if let Stage::Working(job) = &mut self.stage {
            job.errors.broken += 1;
            job.errors.lost += lost as u64;
            self.live.errors.add(lost as u64);
        }
    }

    /// There is room again for what connection `link` has to send.
    pub(crate) fn writable(&mut self, link: usize) {
        if self.links[link].has_output() {
            soil(&mut self.dirty, &mut self.links[link], link);
        }
    }

    // ---- replies ----

    /// Bytes have come on connection `link`. The engine has no use for it any more if this returns false: close it with a reset.
    #[must_use]
    pub(crate) fn received(&mut self, link: usize, bytes: &[u8], now: Nanos) -> bool {
        let is_probe = link >= self.mains;
        let asker = if is_probe { &self.probing } else { &self.asker };
        let Engine { links, stage, live, probe, underway, .. } = self;
        let (mut replies, mut right) = (0, 0);
        let taken = links[link].receive(asker, bytes, |request, ok| {
            replies += 1;
            right += usize::from(ok);
            if let Stage::Working(job) = stage {
                job_done(job, request, ok, is_probe, now);
            }
        });
        *underway -= replies;
        live.answered.add(right as u64);
        live.errors.add((replies - right) as u64);
        if replies > 0 && is_probe {
            probe.underway = false;
            probe.next = now + Nanos((PROBE_GAP * probe.rng.sample::<f64, _>(Exp1)) as u64);
        }
        if taken.is_err() {
            self.broke(link);
            return false;
        }
        if let Stage::Working(job) = &mut self.stage
            && job.is_preload()
            && right > 0
        {
            self.live.stored.add(right as u64);
            job.progress(now);
        }
        if replies > 0 {
            self.refill(link, now);
        }
        true
    }

    /// Gives connection `link` the requests that it has room for, or its end if it has had its share.
    fn refill(&mut self, link: usize, now: Nanos) {
        let Stage::Working(job) = &mut self.stage else { return };
        if now < job.start {
            return;
        }
        let l = &mut self.links[link];
        let life = if job.is_preload() { u32::MAX } else { self.spec.churn.map_or(u32::MAX, |c| c.requests) };
        let depth = if link >= self.mains { 1 } else { job.depth };
        while l.pending.len() < depth && l.asked < life {
            if let Some(request) = l.waiting.pop_front() {
                self.waiting -= 1;
                l.ask(request);
                continue;
            }
            if job.arrivals.is_some() || link >= self.mains || !job.supplies(now) {
                break;
            }
            let ask = match &mut job.supply {
                Supply::Mix => self.asker.next(),
                Supply::Records { next, .. } => {
                    *next += 1;
                    self.asker.preload(*next - 1)
                }
            };
            if let Some(cell) = job.slices.at(now).filter(|_| now < job.closes) {
                cell.offered += 1;
            }
            self.underway += 1;
            l.ask(Pending { ask, since: now });
        }
        if l.has_output() || (l.asked >= life && l.pending.is_empty()) {
            soil(&mut self.dirty, l, link);
        }
    }

    // ---- requests ----

    /// Closed loop: the first requests of connections that have had none.
    fn fill(&mut self, now: Nanos) {
        let Stage::Working(job) = &mut self.stage else { return };
        if job.arrivals.is_some() || now < job.start || job.fresh >= self.mains {
            return;
        }
        let from = job.fresh;
        job.fresh = (from + BURST).min(self.mains);
        for link in from..job.fresh.min(self.mains) {
            if self.links[link].phase == Phase::Open {
                self.refill(link, now);
            }
            if !self.working() {
                return;
            }
        }
    }

    /// Open loop: makes what is due by `now`. What was meant for the window is made even when the window has passed meanwhile:
    /// a client that was held up must not forget what it owed.
    fn make_due(&mut self, now: Nanos) {
        let Engine { stage: Stage::Working(job), links, dirty, picks, asker, mains, spec, .. } = self else { return };
        let Some(arrivals) = &mut job.arrivals else { return };
        let life = spec.churn.map_or(u32::MAX, |c| c.requests);
        for _ in 0..BURST {
            let since = arrivals.peek();
            if since > now || since >= job.closes {
                break;
            }
            arrivals.next();
            let request = Pending { ask: asker.next(), since };
            if let Some(cell) = job.slices.at(since) {
                cell.offered += 1;
            }
            let link = picks.random_range(0..*mains);
            let l = &mut links[link];
            if l.phase == Phase::Open && l.pending.len() < job.depth && l.waiting.is_empty() && l.asked < life {
                record(&mut job.lateness, now - since);
                l.ask(request);
                soil(dirty, l, link);
                self.underway += 1;
                continue;
            }
            job.held += 1;
            if self.waiting < WAITING_MAX {
                l.waiting.push_back(request);
                self.waiting += 1;
                self.underway += 1;
            } else {
                job.errors.unanswered += 1;
                if let Some(cell) = job.slices.at(since) {
                    cell.errors += 1;
                }
            }
        }
    }

    /// The unloaded agent's next request, if it is time.
    fn probe(&mut self, now: Nanos) {
        let Stage::Working(job) = &mut self.stage else { return };
        if self.probe.underway || now < self.probe.next || now >= job.closes {
            return;
        }
        let agents = self.links.len() - self.mains;
        self.probe.cursor = (self.probe.cursor + 1) % agents.max(1);
        let link = self.mains + self.probe.cursor;
        let Some(l) = self.links.get_mut(link).filter(|l| l.phase == Phase::Open) else { return };
        l.ask(Pending { ask: self.probing.next(), since: self.probe.next });
        soil(&mut self.dirty, l, link);
        self.probe.underway = true;
        self.underway += 1;
    }

    /// Sends what there is to send, and ends connections that have had their share.
    fn flush(&mut self, now: Nanos, wire: &mut impl Wire) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for link in dirty.drain(..) {
            self.links[link].dirty = false;
            if self.links[link].phase == Phase::Open {
                self.send(link, now, wire);
            }
        }
        // What became dirty meanwhile is kept beside the emptied list's memory.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    fn send(&mut self, link: usize, now: Nanos, wire: &mut impl Wire) {
        let asker = if link >= self.mains { &self.probing } else { &self.asker };
        let l = &mut self.links[link];
        let wrote = l.write(asker, &mut self.scratch, |bytes| wire.send(link, bytes));
        let Some(wrote) = wrote else {
            wire.close(link, Hangup::Rst);
            return self.broke(link);
        };
        self.live.sent.add(wrote as u64);
        let Stage::Working(job) = &mut self.stage else { return };
        job.sent += wrote as u64;
        let churn = self.spec.churn.filter(|_| !job.is_preload() && link < self.mains);
        let l = &mut self.links[link];
        if let Some(churn) = churn.filter(|c| l.asked >= c.requests && l.pending.is_empty()) {
            wire.close(link, churn.how);
            l.forget();
            l.phase = Phase::Closed;
            if now < job.give_up {
                self.to_open.push_back(link);
            }
        }
    }

    // ---- the end of a window ----

    fn end_if_over(&mut self, now: Nanos, wire: &mut impl Wire) {
        let Stage::Working(job) = &mut self.stage else { return };
        if self.desk.halted() && !job.interrupted {
            job.cut(now);
        }
        let owed = job.next_arrival() < job.closes;
        let over = now >= job.start && !job.supplies(now) && !owed && self.underway == 0 && self.dirty.is_empty();
        if !over && now < job.give_up {
            return;
        }
        self.give_up(wire);
        let Stage::Working(mut job) = std::mem::replace(&mut self.stage, Stage::Idle) else { return };
        if job.interrupted || job.is_preload() {
            return self.report(*job);
        }
        job.owe();
        self.report(*job);
    }

    fn report(&mut self, job: Job) {
        let stored = match job.supply {
            Supply::Records { next, end } => Some((next, end, job.answered)),
            Supply::Mix => None,
        };
        if let Some((next, end, answered)) = stored
            && !job.interrupted
            && (next < end || job.errors.total() > 0)
        {
            let what = match job.errors.total() {
                0 => format!("{answered} stored, then no answer for 10 s"),
                _ => format!("{answered} of {} stored, {}", end.max(1), job.errors),
            };
            return self.desk.done(Err(LoadError::Preload { addr: self.spec.target, what }));
        }
        if stored.is_some() && job.interrupted {
            return self.desk.done(Err(LoadError::Stopped));
        }
        self.desk.done(Ok(job.finish()));
    }

    /// What has no reply yet gets none, on connections that are replaced so that no later window sees it.
    fn give_up(&mut self, wire: &mut impl Wire) {
        if self.underway == 0 {
            return;
        }
        let Stage::Working(job) = &mut self.stage else { return };
        for (i, l) in self.links.iter_mut().enumerate() {
            for request in l.pending.iter().chain(&l.waiting) {
                if let Some(cell) = job.slices.at(request.since) {
                    cell.errors += 1;
                }
            }
            let waiting = l.waiting.len();
            l.waiting.clear();
            let mut left = waiting;
            if !l.pending.is_empty() {
                left += l.forget();
                wire.close(i, Hangup::Rst);
                l.phase = Phase::Closed;
                self.to_open.push_back(i);
            }
            // The agent's are no part of the load; and what an early end cuts off is nobody's fault.
            if i < self.mains && !job.interrupted {
                job.errors.unanswered += left as u64;
                self.live.errors.add(left as u64);
            }
        }
        self.underway = 0;
        self.waiting = 0;
        self.probe.underway = false;
    }
}

/// Puts a link into the list of those with something to send, once.
#[inline]
fn soil(dirty: &mut Vec<usize>, l: &mut Link, link: usize) {
    if !l.dirty {
        l.dirty = true;
        dirty.push(link);
    }
}

/// A reply has come: where it counts.
#[inline]
fn job_done(job: &mut Job, request: Pending, right: bool, probe: bool, now: Nanos) {
    if !right {
        job.errors.wrong += 1;
        if let Some(cell) = job.slices.at(request.since) {
            cell.errors += 1;
        }
        return;
    }
    if probe {
        if let Some(cell) = job.slices.at(request.since) {
            cell.done(now - request.since, true);
        }
        return;
    }
    job.answered += 1;
    if request.since < job.closes
        && let Some(cell) = job.slices.at(request.since)
    {
        cell.done(now - request.since, false);
    }
    if now < job.closes
        && let Some(cell) = job.slices.at(now)
    {
        cell.answered += 1;
    }
}
