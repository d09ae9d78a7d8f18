use std::io;
use std::net::{IpAddr, SocketAddr};

use draw::{Gaps, Pattern};
use requests::Workload;
use serde::{Deserialize, Serialize};
use sys::SysError;
use units::Nanos;

/// What stays the same for a client's life. Travels to other machines as JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// What to ask.
    pub workload: Workload,
    /// The server.
    pub target: SocketAddr,
    /// Local addresses to connect from, in turn; each has some 64 000 ports. Empty: the kernel's choice. Linux sockets only.
    #[serde(default)]
    pub local: Vec<IpAddr>,
    /// Connections, all threads together: at least 1.
    pub connections: u32,
    /// Requests outstanding per connection, at most: at least 1.
    pub depth: u32,
    /// Whether connections end after some requests, to be opened again.
    pub churn: Option<Churn>,
    /// Connections of the unloaded latency agent, beside the others: it asks one request at a time, over each of them in turn.
    /// 0: none.
    pub probe: u32,
    /// Threads: at least 1.
    pub threads: u32,
    /// Where the random numbers begin: equal seeds ask the same.
    pub seed: u64,
}

impl Spec {
    /// 64 B echo on one connection, one request at a time: a beginning to change.
    pub fn new(workload: Workload, target: SocketAddr) -> Spec {
        Spec { workload, target, local: vec![], connections: 1, depth: 1, churn: None, probe: 0, threads: 1, seed: 1 }
    }

    /// The `index`-th of `of` parts: of threads, or of machines. Connections are divided; the agent goes with the first part.
    pub fn share(&self, index: u32, of: u32) -> Spec {
        let of = of.max(1);
        Spec {
            connections: part(self.connections, index, of),
            probe: if index == 0 { self.probe } else { 0 },
            // Far apart, so that no thread of any part begins where another's does.
            seed: self.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..self.clone()
        }
    }

    /// What makes no sense, in a sentence.
    ///
    /// # Errors
    /// No connections, no depth, no threads, more threads than connections.
    pub fn check(&self) -> Result<(), LoadError> {
        self.workload.check().map_err(LoadError::Spec)?;
        let wrong = |what: &str| Err(LoadError::Spec(what.into()));
        match self {
            Spec { connections: 0, .. } => wrong("no connections: at least 1 is needed"),
            Spec { depth: 0, .. } => wrong("a pipeline depth of 0 sends nothing: at least 1 is needed"),
            Spec { threads: 0, .. } => wrong("no threads: at least 1 is needed"),
            Spec { threads, connections, .. } if threads > connections => {
                Err(LoadError::Spec(format!("{threads} threads have only {connections} connections to share")))
            }
            Spec { churn: Some(Churn { requests: 0, .. }), .. } => wrong("connections that end after 0 requests"),
            _ => Ok(()),
        }
    }
}

/// The `index`-th of `of` parts of `n`, as equal as can be.
fn part(n: u32, index: u32, of: u32) -> u32 {
    n / of + u32::from(index < n % of)
}

/// Connections that end: after so many requests, in such a way; another takes the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Churn {
    /// Requests per connection.
    pub requests: u32,
    /// How it ends.
    pub how: Hangup,
}

/// How a connection is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hangup {
    /// An orderly close; the client's port stays in TIME-WAIT.
    Fin,
    /// A reset, which keeps no port occupied (thesis section 2.5.2).
    Rst,
}

/// When requests are made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// Each connection always has `depth` of them outstanding.
    Closed,
    /// By an arrival process that heeds no reply.
    Open {
        /// How the gaps between requests are distributed.
        gaps: Gaps,
        /// The rate, all connections together, over the time of warm-up and window.
        pattern: Pattern,
    },
}

impl Pace {
    /// A Poisson process of `rate` requests a second.
    pub fn poisson(rate: f64) -> Pace {
        Pace::Open { gaps: Gaps::poisson(), pattern: Pattern::constant(rate) }
    }

    /// Requests per second in the mean over a run of `span`; 0 in a closed loop.
    pub fn mean_rate(&self, span: Nanos) -> f64 {
        match self {
            Pace::Closed => 0.0,
            Pace::Open { pattern, .. } => pattern.mean(span),
        }
    }
}

/// A stretch of load: requests are made from the beginning of the warm-up to the end of the window, and measured within it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// When.
    pub pace: Pace,
    /// Load before the window.
    #[serde(with = "nanos")]
    pub warmup: Nanos,
    /// The window.
    #[serde(with = "nanos")]
    pub window: Nanos,
    /// How long replies are waited for after the window; what has none then is an error.
    #[serde(with = "nanos")]
    pub patience: Nanos,
    /// The steps of the time series. They are lengthened where there would be more than 300.
    #[serde(with = "nanos")]
    pub slice: Nanos,
    /// Keep each slice's histograms, so that some can be left out afterwards ([`Outcome::without`](crate::Outcome::without)).
    pub keep: bool,
}

impl Window {
    /// A window of `window` after a warm-up of a tenth of it (at least 50 ms, at most a second), in slices of a second, with 2 s of patience.
    pub fn new(pace: Pace, window: Nanos) -> Window {
        let warmup = Nanos(window.0 / 10).clamp(Nanos::from_millis(50), Nanos::from_secs(1));
        Window { pace, warmup, window, patience: Nanos::from_secs(2), slice: Nanos::from_secs(1), keep: false }
    }

    /// The part of one of `of` machines that share the rate.
    pub fn share(&self, of: u32) -> Window {
        let pace = match &self.pace {
            Pace::Closed => Pace::Closed,
            Pace::Open { gaps, pattern } => {
                Pace::Open { gaps: gaps.clone(), pattern: pattern.scaled(1.0 / f64::from(of.max(1))) }
            }
        };
        Window { pace, ..self.clone() }
    }
}

/// Where the client's threads run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Place {
    /// Cores: thread `i` is pinned to the `i % len`-th. Empty: not pinned.
    pub cores: Vec<usize>,
    /// Never sleep: sends on time to the microsecond, and takes whole cores. Without, the kernel's timers decide.
    pub spin: bool,
}

/// The addresses of a client that brings its own stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZygixNet {
    /// Hardware address.
    pub mac: wire::Mac,
    /// IPv4 address.
    pub ip: IpAddr,
    /// The length of the network's prefix.
    pub prefix: u8,
}

/// Why there is no load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The run makes no sense.
    #[error("{0}")]
    Spec(String),
    /// A connection could not be opened.
    #[error("cannot connect to {addr}: {cause}; is the server running there?")]
    Connect {
        /// The server.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// Descriptors or ports ran out.
    #[error("{opened} of {wanted} connections opened, then: {cause}; {remedy}")]
    Scarce {
        /// How many there were.
        opened: usize,
        /// How many there should have been.
        wanted: usize,
        /// Why.
        cause: io::Error,
        /// What helps.
        remedy: &'static str,
    },
    /// The records could not be stored.
    #[error("the server at {addr} does not store records: {what}")]
    Preload {
        /// The server.
        addr: SocketAddr,
        /// What went wrong.
        what: String,
    },
    /// Somebody asked for the end.
    #[error("interrupted")]
    Stopped,
    /// The kernel refused something else.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Epoll or a thread was refused.
    #[error("the load cannot run: {0}")]
    Io(#[from] io::Error),
    /// Our own stack did not start.
    #[error("our own stack did not start: {0}")]
    Stack(String),
    /// A client thread has panicked; its last words are on standard error.
    #[error("a client thread has ended unexpectedly; its last words are above")]
    Dead,
}

/// Nanoseconds as a number.
mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};
    use units::Nanos;

    pub(super) fn serialize<S: Serializer>(n: &Nanos, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(n.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Nanos, D::Error> {
        u64::deserialize(from).map(Nanos)
    }
}
