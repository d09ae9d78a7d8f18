use std::fmt;
use std::net::SocketAddr;

use units::{Counter, Nanos};

/// What is chosen at start-up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes any free one; [`Running`](crate::Running) tells which.
    pub addr: SocketAddr,
    /// Threads, each with its own listener: 1 to 128.
    pub threads: usize,
    /// Cores: thread `i` is pinned to the `i % len`-th. Empty: not pinned.
    pub cores: Vec<usize>,
    /// Connections that may wait to be accepted, per thread; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// Events fetched per `epoll_wait`. More saves system calls under load; fewer shortens the wait of the last in a
    /// batch (the thesis tunes memcached to 1). Default 64, the dataplane's own bound.
    pub batch: usize,
    /// Also serve datagrams, on a UDP socket of the same address.
    pub datagrams: bool,
}

impl Config {
    /// One unpinned thread on `addr`, backlog 4096, batch 64, no datagrams.
    pub fn new(addr: SocketAddr) -> Config {
        Config { addr, threads: 1, cores: Vec::new(), backlog: 4096, batch: 64, datagrams: false }
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
