use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use mem::MemError;
use sys::epoll::Epoll;
use sys::{SysError, clock, limit, socket, stop};
use units::{CoreId, FLOW_GROUPS, FlowGroupId};
use zygix::Service;

use crate::handler::Env;
use crate::inbox::{Inbox, Mailbox};
use crate::slab::Slab;
use crate::thread::Thread;
use crate::timers::Timers;
use crate::{Config, Counters, Report, ThreadReport};

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
    // With fewer descriptors there are fewer connections, no worse.
    let _ = limit::raise_open_files();
    let listeners = listen(config)?;
    let local = listeners[0].local_addr()?;
    let counters: Arc<[Arc<Counters>]> = listeners.iter().map(|_| Arc::default()).collect();
    let inboxes = listeners.iter().map(|_| Inbox::new()).collect::<Result<Vec<_>, _>>()?;
    let mailbox = Mailbox(inboxes.into());
    let quit = Arc::new(AtomicBool::new(false));

    thread::scope(|scope| {
        let mut threads = Vec::new();
        let (set_up, all_set_up) = mpsc::channel();
        for (index, listener) in listeners.into_iter().enumerate() {
            let start = Start {
                service: service.clone(),
                counters: counters[index].clone(),
                mailbox: mailbox.clone(),
                quit: quit.clone(),
                listener,
                local,
                index,
            };
            let set_up = set_up.clone();
            let name = format!("linux-{index}");
            let spawned = thread::Builder::new().name(name).spawn_scoped(scope, move || start.run(config, set_up));
            match spawned {
                Ok(handle) => threads.push(handle),
                Err(e) => {
                    halt(&quit, &mailbox);
                    return Err(Error::Sys(SysError::new("pthread_create", e)));
                }
            }
        }
        drop(set_up);
        // A thread that fails to set up hangs up instead; its error comes with the join below.
        if all_set_up.iter().count() < threads.len() {
            halt(&quit, &mailbox);
        } else {
            ready(Running { addr: local, counters: counters.clone(), mailbox: mailbox.clone() });
        }
        while !stop() && !threads.iter().any(|t| t.is_finished()) {
            thread::park_timeout(LOOK);
        }
        halt(&quit, &mailbox);
        let reports = threads.into_iter().map(|t| t.join().unwrap_or(Err(Error::Panicked)));
        Ok(Report { threads: reports.collect::<Result<_, _>>()? })
    })
}

fn halt<M>(quit: &AtomicBool, mailbox: &Mailbox<M>) {
    quit.store(true, Relaxed);
    mailbox.0.iter().for_each(|inbox| inbox.bell.ring());
}

/// One listener per thread, all on the same port.
fn listen(config: &Config) -> Result<Vec<TcpListener>, Error> {
    let failed = |cause| Error::Listen { addr: config.addr, cause };
    // REUSEPORT would let us join another server's port and take a share of its connections.
    socket::probe(config.addr).map_err(failed)?;
    let first = socket::listen(config.addr, config.backlog).map_err(failed)?;
    let addr = first.local_addr().map_err(failed)?;
    let mut all = vec![first];
    for _ in 1..config.threads {
        all.push(socket::listen(addr, config.backlog).map_err(failed)?);
    }
    Ok(all)
}

/// What a thread is started with.
struct Start<S: Service> {
    service: Arc<S>,
    counters: Arc<Counters>,
    mailbox: Mailbox<S::Msg>,
    quit: Arc<AtomicBool>,
    listener: TcpListener,
    local: SocketAddr,
    index: usize,
}

impl<S: Service> Start<S> {
    fn run(self, config: &Config, set_up: mpsc::Sender<()>) -> Result<ThreadReport, Error> {
        let counters = self.counters.clone();
        let mut thread = self.set_up(config)?;
        // The starter counts these; it is gone only if it panicked.
        let _ = set_up.send(());
        drop(set_up);
        thread.run()?;
        debug_assert_eq!(thread.conns.len(), 0);
        Ok(ThreadReport::new(clock::thread_cpu(), &counters))
    }

    /// Everything that can fail at start, and memory touched by the core that will use it.
    fn set_up(self, config: &Config) -> Result<Thread<S>, Error> {
        if !config.cores.is_empty() {
            sys::thread::pin(config.cores[self.index % config.cores.len()])?;
        }
        let udp = match config.datagrams {
            true => Some(socket::datagrams(self.local).map_err(|cause| Error::Listen { addr: self.local, cause })?),
            false => None,
        };
        let id = self.index as u16;
        Ok(Thread {
            index: self.index,
            env: Env::new(self.service, CoreId(id), self.counters)?,
            conns: Slab::new(FlowGroupId(id)),
            timers: Timers::default(),
            epoll: Epoll::new()?,
            listener: self.listener,
            udp,
            local: self.local,
            mailbox: self.mailbox,
            stop: self.quit,
            again: Vec::new(),
            spare: File::open("/dev/null").ok(),
            batch: config.batch.max(1),
        })
    }
}
