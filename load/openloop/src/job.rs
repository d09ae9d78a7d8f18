use std::cmp::Reverse;
use std::collections::BinaryHeap;

use draw::{Arrivals, Rng, ServiceTimes};
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
    /// By clients that think.
    Thinking(Thinkers),
    /// A SET of each record, once.
    Records { next: u32, end: u32 },
}

/// A closed loop: one client per connection, who asks, waits for the reply, thinks, and asks again.
pub(crate) struct Thinkers {
    /// Who asks when, soonest first.
    next: BinaryHeap<Reverse<(Nanos, u32)>>,
    think: ServiceTimes,
    rng: Rng,
    /// Nobody asks from here on.
    until: Nanos,
}

impl Thinkers {
    /// As many as `clients`, who begin to think at `start`.
    pub(crate) fn new(clients: u32, think: ServiceTimes, start: Nanos, until: Nanos, rng: Rng) -> Thinkers {
        let mut thinkers = Thinkers { next: BinaryHeap::with_capacity(clients as usize), think, rng, until };
        (0..clients).for_each(|id| thinkers.thinks(id, start));
        thinkers
    }

    /// Client `id` begins to think.
    #[inline]
    pub(crate) fn thinks(&mut self, id: u32, now: Nanos) {
        let at = now + self.think.draw(&mut self.rng);
        if at < self.until {
            self.next.push(Reverse((at, id)));
        }
    }

    /// The next request that is due by now: when it was, and whose it is.
    #[inline]
    pub(crate) fn ask(&mut self, now: Nanos) -> Option<(Nanos, u32)> {
        if self.due() > now {
            return None;
        }
        self.next.pop().map(|Reverse(next)| next)
    }

    #[inline]
    fn due(&self) -> Nanos {
        self.next.peek().map_or(Nanos::MAX, |Reverse((at, _))| *at)
    }
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
            Supply::Thinking(thinkers) => thinkers.due(),
            Supply::Records { next, end } if next < end => Nanos::ZERO,
            Supply::Records { .. } => Nanos::MAX,
        }
    }

    /// Whether no more than a few requests are to be under way.
    #[inline]
    pub(crate) fn is_shallow(&self) -> bool {
        matches!(self.supply, Supply::Records { .. })
    }

    /// Ends it now, early.
    pub(crate) fn cut(&mut self, now: Nanos) {
        self.recorder.cut(now);
        self.give_up = now;
    }
}
