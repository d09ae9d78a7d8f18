use draw::Arrivals;
use load::Recorder;
use requests::Asker;
use units::Nanos;

/// What a queue is told to do. Whatever needs memory is made by whoever gives the order, and comes back with the answer.
pub(crate) enum Order {
    /// Open all connections, now and whenever one has ended.
    Connect,
    /// End all connections.
    HangUp,
    /// Ask with this one from now on.
    Ask(Box<Asker>),
    /// Carry out this.
    Work(Box<Job>),
}

/// What became of an order.
pub(crate) enum Done {
    /// It is as it should be.
    Settled,
    /// The asker before.
    Asked(#[expect(dead_code, reason = "only to be dropped elsewhere than on the data path")] Box<Asker>),
    /// The work is done.
    Worked(Box<Job>),
}

/// Where requests come from.
pub(crate) enum Supply {
    /// By the arrival process.
    Open { arrivals: Arrivals, rate: f64 },
    /// A SET of each record, once.
    Records { next: u32, end: u32 },
}

/// Requests of one queue to be made, and the account of them.
pub(crate) struct Job {
    pub(crate) supply: Supply,
    pub(crate) recorder: Recorder,
    /// When what has no reply will never have one.
    pub(crate) give_up: Nanos,
}

impl Job {
    /// When the next request is due.
    #[inline]
    pub(crate) fn due(&self) -> Nanos {
        match &self.supply {
            Supply::Open { arrivals, .. } => arrivals.peek(),
            Supply::Records { next, end } if next < end => Nanos::ZERO,
            Supply::Records { .. } => Nanos::MAX,
        }
    }

    /// Whether requests heed no reply.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.supply, Supply::Open { .. })
    }

    /// Ends it now, early.
    pub(crate) fn cut(&mut self, now: Nanos) {
        self.recorder.cut(now);
        self.give_up = now;
    }
}
