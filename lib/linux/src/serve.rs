use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use mem::MemError;
use sys::epoll::Epoll;
use sys::wait::EventFd;
use sys::{SysError, clock, limit, socket, stop};
use units::{CoreId, FLOW_GROUPS, FlowGroupId};
use zygix::Service;

use crate::door::Door;
use crate::floating::Floating;
use crate::handler::Env;
use crate::inbox::{Inbox, Mailbox};
use crate::partitioned::Partition;
use crate::pool::Pool;
use crate::slab::Slab;
use crate::timers::Timers;
use crate::{Config, Counters, Mode, Report, Sharing, ThreadReport};

/// How often the waiting main thread looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Why a service could not be run, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration asks for none or too many threads.
    #[error("{0} threads: choose 1 to {FLOW_GROUPS}")]
    Threads(usize),
    /// The address is not to be had.
    #[error("cannot listen on {addr}: {cause}{}", remedy(cause))]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The kernel refused something else.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Epoll refused.
    #[error("epoll")]
    Epoll(#[from] io::Error),
    /// No memory for buffers.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// A thread panicked outside of a handler: a mistake of ours.
    #[error("a server thread panicked: please report what was printed above")]
    Panicked,
}

fn remedy(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::AddrInUse => "; another server has that port: stop it, or choose another with -p",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root: choose another with -p",
        io::ErrorKind::AddrNotAvailable => "; no interface has that address: choose another with -l",
        _ => "",
    }
}

/// What is known once all threads listen.
pub struct Running<M> {
    /// The address that is served, with the port that was chosen.
    pub addr: SocketAddr,
    /// The counters of each thread.
    pub counters: Arc<[Arc<Counters>]>,
    /// The way for background threads to reach connections.
    pub mailbox: Mailbox<M>,
}

/// Runs `service` on Linux sockets until [`sys::stop`] asks for the end.
///
/// # Errors
/// The address is taken, descriptors or memory ran out at start; nothing that a peer could cause.
pub fn serve<S: Service>(service: Arc<S>, config: &Config) -> Result<Report, Error> {
    serve_ready(service, config, &stop::requested, |_| {})
}

/// As [`serve`], until `stop` says so (asked every 50 ms); `ready` is told once connections are accepted.
///
/// # Errors
/// As [`serve`].
pub fn serve_ready<S: Service>(
    service: Arc<S>,
    config: &Config,
    stop: &dyn Fn() -> bool,
    ready: impl FnOnce(Running<S::Msg>),
) -> Result<Report, Error> {
    if config.threads == 0 || config.threads > FLOW_GROUPS {
        return Err(Error::Threads(config.threads));
    }
    if config.tuned {
        sys::memory::no_huge_pages()?;
        sys::memory::lock_all()?;
    }
    // With fewer descriptors there are fewer connections, no worse.
    let _ = limit::raise_open_files();
    let ground = Ground::new(service, config)?;
    let (crew, pool) = match config.mode {
        Mode::Partitioned => (ground.partitions(config)?, None),
        Mode::Floating(sharing) => {
            let pool = ground.pool(config, sharing)?;
            (ground.floating(config, &pool), Some(pool))
        }
    };
    let report = ground.run(crew, &config.cores, stop, ready)?;
    debug_assert_eq!(pool.map_or(0, |pool| pool.len()), 0);
    Ok(report)
}

/// What a thread is started with: it sets up what its core will use, and hands over its loop.
type Hand<'a> = Box<dyn FnOnce() -> Result<Loop<'a>, Error> + Send + 'a>;

/// A thread's loop, to its end.
type Loop<'a> = Box<dyn FnOnce() -> io::Result<()> + 'a>;

/// The pool of a service's connections.
type PoolOf<S> = Arc<Pool<<S as Service>::Conn, <S as Service>::Msg>>;

/// What the threads of either mode share.
struct Ground<S: Service> {
    service: Arc<S>,
    listeners: Vec<Arc<TcpListener>>,
    /// The address that is served.
    local: SocketAddr,
    counters: Arc<[Arc<Counters>]>,
    mailbox: Mailbox<S::Msg>,
    quit: Arc<AtomicBool>,
    /// Rung at the end, and never taken.
    end: EventFd,
}

impl<S: Service> Ground<S> {
    fn new(service: Arc<S>, config: &Config) -> Result<Ground<S>, Error> {
        let each = match config.mode {
            Mode::Partitioned => config.threads,
            Mode::Floating(_) => 1,
        };
        let listeners = listen(config, each)?;
        let local = listeners[0].local_addr()?;
        let inboxes = (0..each).map(|_| Inbox::new()).collect::<Result<Vec<_>, _>>()?;
        Ok(Ground {
            service,
            listeners: listeners.into_iter().map(Arc::new).collect(),
            local,
            counters: (0..config.threads).map(|_| Arc::default()).collect(),
            mailbox: Mailbox(inboxes.into()),
            quit: Arc::new(AtomicBool::new(false)),
            end: EventFd::new()?,
        })
    }

    fn datagrams(&self, config: &Config) -> Result<Option<UdpSocket>, Error> {
        let failed = |cause| Error::Listen { addr: self.local, cause };
        config.datagrams.then(|| socket::datagrams(self.local).map_err(failed)).transpose()
    }

    fn env(&self, index: usize) -> Result<Env<S>, MemError> {
        Env::new(self.service.clone(), CoreId(index as u16), self.counters[index].clone())
    }

    /// Partitioned: to each thread its sockets, and a loop of its own.
    fn partitions<'a>(&'a self, config: &'a Config) -> Result<Vec<Hand<'a>>, Error> {
        let hand = |index: usize| -> Result<Hand<'a>, Error> {
            let listener = self.listeners[index].clone();
            let udp = self.datagrams(config)?;
            Ok(Box::new(move || {
                let mut partition = Partition {
                    index,
                    env: self.env(index)?,
                    conns: Slab::new(FlowGroupId(index as u16)),
                    timers: Timers::default(),
                    epoll: Epoll::new()?,
                    door: Door::new(listener.clone(), self.local),
                    listener,
                    udp,
                    mailbox: self.mailbox.clone(),
                    stop: self.quit.clone(),
                    again: Vec::new(),
                    batch: config.batch.max(1),
                };
                Ok(Box::new(move || {
                    partition.run()?;
                    debug_assert_eq!(partition.conns.len(), 0);
                    Ok(())
                }))
            }))
        };
        (0..config.threads).map(hand).collect()
    }

    fn pool(&self, config: &Config, sharing: Sharing) -> Result<PoolOf<S>, Error> {
        let sockets = (self.listeners[0].clone(), self.datagrams(config)?);
        let end = (self.quit.clone(), &self.end);
        Ok(Arc::new(Pool::new(config.threads, sharing, sockets, self.mailbox.clone(), end)?))
    }

    /// Floating: to each thread the same pool.
    fn floating<'a>(&'a self, config: &'a Config, pool: &PoolOf<S>) -> Vec<Hand<'a>> {
        let hand = |index: usize| -> Hand<'a> {
            let pool = pool.clone();
            Box::new(move || {
                let door = Door::new(pool.listener.clone(), self.local);
                let mut floating = Floating { index, env: self.env(index)?, door, pool, batch: config.batch.max(1) };
                Ok(Box::new(move || floating.run()))
            })
        };
        (0..config.threads).map(hand).collect()
    }

    /// Starts the threads, waits until `stop` says so, ends them.
    fn run(
        &self,
        crew: Vec<Hand<'_>>,
        cores: &[usize],
        stop: &dyn Fn() -> bool,
        ready: impl FnOnce(Running<S::Msg>),
    ) -> Result<Report, Error> {
        thread::scope(|scope| {
            let mut threads = Vec::new();
            let (set_up, all_set_up) = mpsc::channel();
            for (index, hand) in crew.into_iter().enumerate() {
                let (set_up, counters) = (set_up.clone(), self.counters[index].clone());
                let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
                let name = format!("linux-{index}");
                let body = move || work(hand, core, &counters, set_up);
                match thread::Builder::new().name(name).spawn_scoped(scope, body) {
                    Ok(handle) => threads.push(handle),
                    Err(e) => {
                        self.halt();
                        return Err(Error::Sys(SysError::new("pthread_create", e)));
                    }
                }
            }
            drop(set_up);
            // A thread that fails to set up hangs up instead; its error comes with the join below.
            if all_set_up.iter().count() < threads.len() {
                self.halt();
            } else {
                let (counters, mailbox) = (self.counters.clone(), self.mailbox.clone());
                ready(Running { addr: self.local, counters, mailbox });
            }
            while !stop() && !threads.iter().any(|t| t.is_finished()) {
                thread::park_timeout(LOOK);
            }
            self.halt();
            let reports = threads.into_iter().map(|t| t.join().unwrap_or(Err(Error::Panicked)));
            Ok(Report { threads: reports.collect::<Result<_, _>>()? })
        })
    }

    fn halt(&self) {
        self.quit.store(true, SeqCst);
        self.end.ring();
        self.mailbox.0.iter().for_each(|inbox| inbox.bell.ring());
    }
}

/// One thread: everything that can fail at start, with memory touched by the core that will use it, and then its loop.
fn work(
    hand: Hand<'_>,
    core: Option<usize>,
    counters: &Counters,
    set_up: mpsc::Sender<()>,
) -> Result<ThreadReport, Error> {
    if let Some(core) = core {
        sys::thread::pin(core)?;
    }
    let run = hand()?;
    // The starter counts these; it is gone only if it panicked.
    let _ = set_up.send(());
    drop(set_up);
    run()?;
    Ok(ThreadReport::new(clock::thread_cpu(), counters))
}

/// So many listeners, all on the same port.
fn listen(config: &Config, each: usize) -> Result<Vec<TcpListener>, Error> {
    let failed = |cause| Error::Listen { addr: config.addr, cause };
    // REUSEPORT would let us join another server's port and take a share of its connections.
    socket::probe(config.addr).map_err(failed)?;
    let first = socket::listen(config.addr, config.backlog).map_err(failed)?;
    let addr = first.local_addr().map_err(failed)?;
    let mut all = vec![first];
    for _ in 1..each {
        all.push(socket::listen(addr, config.backlog).map_err(failed)?);
    }
    if let Some(name) = &config.congestion {
        // What they accept inherits it.
        all.iter().try_for_each(|listener| socket::set_congestion(listener, name)).map_err(failed)?;
    }
    Ok(all)
}
