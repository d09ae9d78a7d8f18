use std::fmt;
use std::ops::AddAssign;

use hdrhistogram::Histogram;
use units::Nanos;

/// What went wrong, request by request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Errors {
    /// Replies that were not the right one.
    pub wrong: u64,
    /// Requests without a reply when the patience at the end ran out.
    pub unanswered: u64,
    /// Requests lost with their connection: it was closed or reset, or sent garbage.
    pub lost: u64,
    /// Connections that were closed, reset or sent garbage.
    pub broken: u64,
}

impl Errors {
    /// Failed requests and broken connections together.
    pub fn total(&self) -> u64 {
        self.wrong + self.unanswered + self.lost + self.broken
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Errors) {
        self.wrong += other.wrong;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.broken += other.broken;
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Errors { wrong, unanswered, lost, broken } = self;
        write!(f, "{wrong} wrong replies, {unanswered} unanswered, {lost} lost, {broken} broken connections")
    }
}

/// What a slice of load came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Right replies that came within the window.
    pub requests: u64,
    /// Everything that went wrong, before, within or after the window.
    pub errors: Errors,
    /// The length of the window.
    pub window: Nanos,
    /// CPU time of all client threads, warm-up and drain included.
    pub cpu: Nanos,
    /// Latencies in nanoseconds, to three digits. Closed loop: of the replies of the window, from sending. Open loop:
    /// of the requests *meant* for the window, from that instant on.
    pub latency: Histogram<u64>,
    /// Open loop: how late requests were handed to the kernel, in nanoseconds: the client's own share of the latency.
    pub lateness: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn new(window: Nanos) -> Outcome {
        Outcome {
            requests: 0,
            errors: Errors::default(),
            window,
            cpu: Nanos::ZERO,
            latency: histogram(),
            lateness: histogram(),
        }
    }

    /// Requests answered per second of the window.
    pub fn rps(&self) -> f64 {
        self.requests as f64 / self.window.as_secs_f64().max(1e-9)
    }

    /// The latency that a share `q` (0 to 1) of the requests did not exceed; zero without requests.
    pub fn quantile(&self, q: f64) -> Nanos {
        Nanos(self.latency.value_at_quantile(q))
    }

    /// Median latency.
    pub fn p50(&self) -> Nanos {
        self.quantile(0.5)
    }

    /// 99th percentile.
    pub fn p99(&self) -> Nanos {
        self.quantile(0.99)
    }

    /// 99.9th percentile.
    pub fn p999(&self) -> Nanos {
        self.quantile(0.999)
    }

    /// Takes another thread's outcome of the same slice, or another slice of the same kind, into this one.
    pub fn merge(&mut self, other: &Outcome) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.cpu += other.cpu;
        // Equal bounds and precision: nothing that could be refused.
        let _ = self.latency.add(&other.latency);
        let _ = self.lateness.add(&other.lateness);
    }
}

/// 1 ns to 64 s, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 64_000_000_000, 3).expect("valid bounds")
}

/// Records `span`; what exceeds the bounds counts as the bound.
pub(crate) fn record(into: &mut Histogram<u64>, span: Nanos) {
    into.saturating_record(span.0.max(1));
}
