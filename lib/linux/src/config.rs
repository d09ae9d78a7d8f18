use std::fmt;
use std::net::SocketAddr;

use units::{Counter, Nanos};

/// Who serves which connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Each thread those that the kernel gave its listener, for life (thesis section 3.3.3, Linux-partitioned): nothing is
    /// shared, and a thread may idle while another has a queue.
    #[default]
    Partitioned,
    /// Every thread all of them (Linux-floating there): whichever is free takes the next event, one at a time works on a
    /// connection.
    Floating(Sharing),
}

/// How the threads of [`Mode::Floating`] learn of events.
///
/// | | `Shared` | `Exclusive` |
/// |---|---|---|
/// | epoll instances | one | one per thread |
/// | opening a connection | one epoll_ctl(2) | one per thread |
/// | an arrival, threads idle | wakes one; whoever comes first takes it | wakes one, by EPOLLEXCLUSIVE, and is that one's alone, though its core may be busy and another thread come sooner |
/// | an arrival, all busy | is queued once: whoever comes first takes it | is queued at every instance: the others look at it in vain |
/// | the peer's end | is told apart (EPOLLRDHUP) | is not, by the rules of EPOLLEXCLUSIVE: a `recv` more per event |
/// | a full socket, or more to read than a turn may | one EPOLL_CTL_MOD | remove and add at each, since MOD is forbidden |
///
/// Waiters at one instance are woken one at a time anyway, so EPOLLEXCLUSIVE has nothing to add there. A single queue of
/// ready sockets is also what the centralized-FCFS bound of the thesis stands for. Hence the default; the other is there
/// to be measured against it, as the thesis did (it saw little gain, or loss: section 3.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sharing {
    /// All wait at one epoll instance.
    #[default]
    Shared,
    /// Each at its own; all of them watch every socket, with EPOLLEXCLUSIVE.
    Exclusive,
}

/// What is chosen at start-up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes any free one; [`Running`](crate::Running) tells which.
    pub addr: SocketAddr,
    /// Who serves which connections.
    pub mode: Mode,
    /// Threads: 1 to 128.
    pub threads: usize,
    /// Cores: thread `i` is pinned to the `i % len`-th. Empty: not pinned. The thesis pins each to a core of its own.
    pub cores: Vec<usize>,
    /// Connections that may wait to be accepted, per listener: partitioned, each thread has its own. The kernel caps it
    /// at net.core.somaxconn.
    pub backlog: u32,
    /// Events fetched per `epoll_wait`. More saves system calls under load; fewer shortens the wait of the last in a
    /// batch (the thesis tunes to 1, section 3.3.3). Default: partitioned 64, the dataplane's own bound. Floating 1: what one
    /// thread has fetched no other can take, though it may be free.
    pub batch: usize,
    /// Lock all memory and do without transparent huge pages, so that neither page faults nor the merging of pages stop
    /// a thread. For the whole process, and for good. Needs the privilege or the limit to lock memory.
    pub tuned: bool,
    /// The congestion control of connections, as Linux names it; if `None`, the system's choice.
    pub congestion: Option<String>,
    /// Also serve datagrams, on a UDP socket of the same address.
    pub datagrams: bool,
}

impl Config {
    /// One unpinned thread on `addr`, partitioned, backlog 4096, batch 64, not tuned, no datagrams.
    pub fn new(addr: SocketAddr) -> Config {
        let mode = Mode::Partitioned;
        Config {
            addr,
            mode,
            threads: 1,
            cores: Vec::new(),
            backlog: 4096,
            batch: 64,
            tuned: false,
            congestion: None,
            datagrams: false,
        }
    }

    /// As [`Config::new`], floating, with a batch of 1.
    pub fn floating(addr: SocketAddr, sharing: Sharing) -> Config {
        Config { mode: Mode::Floating(sharing), batch: 1, ..Config::new(addr) }
    }
}

/// What one thread counts while it runs; readable from anywhere.
#[derive(Default, Debug)]
pub struct Counters {
    /// Connections accepted by the service.
    pub accepted: Counter,
    /// Connections refused: by the service, or because descriptors ran out.
    pub rejected: Counter,
    /// Connections opened from here.
    pub connects: Counter,
    /// Connections that ended.
    pub closed: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Bytes sent.
    pub bytes_out: Counter,
    /// Handler calls.
    pub calls: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Datagrams received.
    pub datagrams: Counter,
    /// Returns from `epoll_wait` with events.
    pub batches: Counter,
}

/// What one thread did, from start to stop.
#[derive(Clone, Copy, Default, Debug)]
pub struct ThreadReport {
    /// Its CPU time (CLOCK_THREAD_CPUTIME_ID): user and kernel, waiting in `epoll_wait` excluded. On kernels that do not
    /// account interrupts apart, receive work that the kernel happened to do in this thread's time is included.
    pub cpu: Nanos,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused.
    pub rejected: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Handler calls.
    pub calls: u64,
    /// Handlers that panicked.
    pub panics: u64,
}

impl ThreadReport {
    pub(crate) fn new(cpu: Nanos, c: &Counters) -> ThreadReport {
        ThreadReport {
            cpu,
            accepted: c.accepted.get(),
            rejected: c.rejected.get(),
            closed: c.closed.get(),
            bytes_in: c.bytes_in.get(),
            bytes_out: c.bytes_out.get(),
            calls: c.calls.get(),
            panics: c.panics.get(),
        }
    }
}

/// What all threads did.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// One entry per thread.
    pub threads: Vec<ThreadReport>,
}

impl Report {
    /// The sum over all threads.
    pub fn total(&self) -> ThreadReport {
        self.threads.iter().fold(ThreadReport::default(), |a, t| ThreadReport {
            cpu: a.cpu + t.cpu,
            accepted: a.accepted + t.accepted,
            rejected: a.rejected + t.rejected,
            closed: a.closed + t.closed,
            bytes_in: a.bytes_in + t.bytes_in,
            bytes_out: a.bytes_out + t.bytes_out,
            calls: a.calls + t.calls,
            panics: a.panics + t.panics,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.total();
        write!(
            f,
            "{} connections ({} refused), {} handler calls, {} bytes in, {} bytes out, {} panics, {:.3} s of CPU time on {} thread(s)",
            t.accepted,
            t.rejected,
            t.calls,
            t.bytes_in,
            t.bytes_out,
            t.panics,
            t.cpu.as_secs_f64(),
            self.threads.len()
        )
    }
}
