//! Where a connection is between its network layer and the application: the one table.
//!
//! ```text
//!              idle ──── news ───► ready ─── batched ──► busy ──── completed ───► idle
//!                                    ▲                     │
//!                                    └── completed, news ──┘      news while busy only accumulates
//! ```
//!
//! *Ready*: once in its home's ready queue. *Busy*: in exactly one batch, be it that the batch is offered to all cores, that one of
//! them runs it, or that it is on its way home. So its handlers run one at a time and in order, whoever runs them, without a lock of
//! the application's (thesis section 3.4.2).

/// Where a connection is with respect to the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Nothing to tell.
    #[default]
    Idle,
    /// In the ready queue of its home, exactly once.
    Ready,
    /// In exactly one batch, until its events are consumed and its syscalls carried out at home.
    Busy,
}

/// What happens to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is something to tell.
    News,
    /// Its events moved into a batch.
    Batched,
    /// Its batch came home and has been carried out; nothing has come meanwhile.
    Completed,
    /// The same, but there is more to tell.
    CompletedWithNews,
}

impl Phase {
    /// The phase after `step`; `None` where it cannot happen.
    #[inline]
    pub const fn after(self, step: Step) -> Option<Phase> {
        match (self, step) {
            (Phase::Idle, Step::News) => Some(Phase::Ready),
            (Phase::Ready, Step::News) => Some(Phase::Ready),
            (Phase::Busy, Step::News) => Some(Phase::Busy),
            (Phase::Ready, Step::Batched) => Some(Phase::Busy),
            (Phase::Busy, Step::Completed) => Some(Phase::Idle),
            (Phase::Busy, Step::CompletedWithNews) => Some(Phase::Ready),
            (Phase::Idle | Phase::Busy, Step::Batched) => None,
            (Phase::Idle | Phase::Ready, Step::Completed | Step::CompletedWithNews) => None,
        }
    }

    /// Moves on. True: the connection has just become ready, and the caller puts it into the ready queue, once. A step that cannot
    /// happen changes nothing.
    #[inline]
    #[must_use = "a connection that became ready must be queued"]
    pub fn step(&mut self, step: Step) -> bool {
        let before = *self;
        let after = self.after(step);
        debug_assert!(after.is_some(), "{before:?} and {step:?}");
        *self = after.unwrap_or(before);
        *self == Phase::Ready && before != Phase::Ready
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const STEPS: [Step; 4] = [Step::News, Step::Batched, Step::Completed, Step::CompletedWithNews];

    /// Printed, for readers of the test's output; compared, for those who change it.
    #[test]
    fn the_table_is_what_the_picture_says() {
        let mut table = String::from("         News   Batched  Completed  CompletedWithNews\n");
        for phase in [Phase::Idle, Phase::Ready, Phase::Busy] {
            let cell = |step| phase.after(step).map_or("-".into(), |p| format!("{p:?}"));
            let [news, batched, completed, more] = STEPS.map(cell);
            table += format!("{:<8} {news:<6} {batched:<8} {completed:<10} {more}", format!("{phase:?}")).trim_end();
            table += "\n";
        }
        println!("{table}");
        let expected = "         News   Batched  Completed  CompletedWithNews\n\
                        Idle     Ready  -        -          -\n\
                        Ready    Ready  Busy     -          -\n\
                        Busy     Busy   -        Idle       Ready\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn ready_is_announced_exactly_when_it_begins() {
        let mut phase = Phase::Idle;
        let told = [
            Step::News,
            Step::News,
            Step::Batched,
            Step::News,
            Step::CompletedWithNews,
            Step::Batched,
            Step::Completed,
        ]
        .map(|s| phase.step(s));
        assert_eq!(told, [true, false, false, false, true, false, false]);
        assert_eq!(phase, Phase::Idle);
    }
}
