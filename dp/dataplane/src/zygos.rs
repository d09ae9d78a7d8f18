//! A turn in ZygOS mode: work-conserving (thesis chapter 3, and lending, which is ours).
//!
//! ```text
//!   home pass     remote syscalls, frames, messages; a batch is drawn, what else is ready is offered     under the own StackLock
//!   App::run      the batch; the lock is free meanwhile, for whoever lends himself                       nothing held
//!   hand in       its syscalls carried out, transmit; or, if the lock is taken, left for its holder      under the own StackLock
//!
//!   nothing of its own to do:
//!   steal         the oldest offer of a core, chosen at random; run it; give it back
//!   assist        a core is in application code and its network layer has work:  lend | interrupt | wait
//! ```
//!
//! Nobody waits for a StackLock. A home that finds its own taken runs what it had offered, as a thief of its own queue.

use netstack::Work;
use nic::Queue;
use shuffle::{Slip, Take};
use units::Nanos;

use crate::sched::Assist;
use crate::turn::{ElasticThread, Turn};
use crate::view::{App, BatchView};

/// Remote syscalls that a home pass works off.
const RETURNS: usize = 64;
/// Handlers that together take no longer than this share a batch: a crossing each would cost more than they wait for each other.
const QUANTUM: Nanos = Nanos::from_micros(5);
/// The same while no core is idle.
const LONG_QUANTUM: Nanos = Nanos::from_micros(20);
/// Per core, how much is on offer while handlers are short: whoever is idle takes one at a time.
const FEW: usize = 2;
/// With handlers this long a core that enters application code has a sleeping one watch its queue.
const WORTH_WAKING: Nanos = Nanos::from_micros(20);

impl<Q: Queue> ElasticThread<Q> {
    /// One turn in ZygOS mode.
    pub(crate) fn turn_zygos(
        &mut self,
        assist: Assist,
        now: Nanos,
        clock: &impl Fn() -> Nanos,
        app: &mut impl App,
    ) -> Turn {
        let (mut work, drawn, mut deadline) = self.home_pass(now);
        if let Some((slip, batch)) = drawn {
            let n = batch.len();
            work += n;
            let (batch, after) = self.run(batch, clock, app);
            deadline = self.hand_in(slip, batch, after);
        } else if work == 0 {
            work = self.help(assist, now, clock, app);
        }
        self.crew.stations[self.own].is_idle(work == 0);
        Turn { work, deadline }
    }

    /// The first half of a turn: everything that needs the own network layer. Answers the work done, a batch to run, and when to
    /// turn again.
    fn home_pass(&mut self, now: Nanos) -> (usize, Option<(Slip, Work)>, Nanos) {
        let ElasticThread { crew, own, arena, bound, .. } = self;
        let station = &crew.stations[*own];
        station.polls(now);
        let Some(mut stack) = station.stack.try_lock() else {
            self.metrics().lock_taken.inc();
            return match self.crew.stations[self.own].shuffle.take() {
                Take::One(slip, work) => (0, Some((slip, work)), now),
                _ => (0, None, now),
            };
        };
        let returned = stack.complete_returned(now, RETURNS);
        let work = returned + stack.ingest(now, *bound).work;
        let short = self.pace.short();
        // While nobody would take what is offered, more of it stays together.
        let quantum = if short && !crew.anybody_idle(*own) { LONG_QUANTUM } else { QUANTUM };
        let drawn = stack.draw(self.pace.batch(quantum, *bound));
        let most = if short { FEW * crew.stations.len() } else { usize::MAX };
        let offered = if drawn.is_some() { stack.offer(most) } else { 0 };
        // Answers leave before long application code, not after it; and whatever timers and acknowledgments ask for.
        let deadline = if drawn.is_none() || returned > 0 || !short {
            let deadline = stack.egress(now, arena);
            // Timers that fired have made connections ready.
            let deadline = if stack.ready() > 0 { now } else { deadline };
            station.due(deadline);
            deadline
        } else {
            now
        };
        // What is left behind a batch that takes longer than was expected: whoever sees it by then offers it.
        if drawn.is_some() && stack.ready() > 0 {
            station.due(now + QUANTUM);
        }
        station.release(stack, now);
        let alone = drawn.is_some() && self.pace.mean >= WORTH_WAKING;
        if offered > 1 || (offered > 0 || alone) && !crew.is_watched() {
            crew.wake_somebody();
        }
        (work, drawn, deadline)
    }

    /// Runs application code: nothing is locked meanwhile, and others see that we are away.
    fn run(&mut self, mut work: Work, clock: &impl Fn() -> Nanos, app: &mut impl App) -> (Work, Nanos) {
        // The pass before it took its time, and how long handlers take is what batches are made by.
        let begin = clock();
        let station = &self.crew.stations[self.own];
        station.enters(begin);
        let n = work.len();
        app.run(&mut BatchView::new(&mut work, &mut self.arena, begin));
        station.leaves();
        station.forgives();
        let after = clock();
        self.judge(after - begin);
        self.pace.learn(n, after - begin);
        station.is_short(self.pace.short());
        (work, after)
    }

    /// The second half: the batch's syscalls, and everything out. If somebody else is at our network layer, he sees to them.
    fn hand_in(&mut self, slip: Slip, work: Work, now: Nanos) -> Nanos {
        let ElasticThread { crew, own, arena, .. } = self;
        let station = &crew.stations[*own];
        let Some(mut stack) = station.stack.try_lock() else {
            station.give_back(slip, work, now, true);
            self.metrics().lock_taken.inc();
            return now;
        };
        stack.finish(now, slip, work);
        let deadline = stack.egress(now, arena);
        let deadline = if stack.ready() > 0 { now } else { deadline };
        station.due(deadline);
        station.release(stack, now);
        deadline
    }

    /// Nothing of our own to do: works for others. Returns how much.
    fn help(&mut self, assist: Assist, now: Nanos, clock: &impl Fn() -> Nanos, app: &mut impl App) -> usize {
        let n = self.crew.stations.len();
        if n == 1 {
            return 0;
        }
        let first = self.dice.roll(n);
        let own = self.own;
        let victims = (first..n).chain(0..first).filter(move |v| *v != own);
        for victim in victims.clone() {
            if self.steal(victim, assist, clock, app) {
                return 1;
            }
        }
        for victim in victims {
            let station = &self.crew.stations[victim];
            if !station.needs_help(now) {
                continue;
            }
            match assist {
                Assist::None => {}
                Assist::Ipi => {
                    // One that is not in application code will see for itself.
                    if station.in_app().is_some() && station.interrupt() {
                        self.metrics().interrupts_sent.inc();
                    }
                }
                Assist::Lend => {
                    if let Some(offered) = station.pass(now, true) {
                        self.metrics().lends.inc();
                        if offered > 1 {
                            self.crew.wake_somebody();
                        }
                        return 1 + usize::from(self.steal(victim, assist, clock, app));
                    }
                }
            }
        }
        0
    }

    /// Runs what `victim` offers first, if anything, and gives it back.
    fn steal(&mut self, victim: usize, assist: Assist, clock: &impl Fn() -> Nanos, app: &mut impl App) -> bool {
        let Take::One(slip, work) = self.crew.stations[victim].shuffle.take() else { return false };
        self.metrics().steals.inc();
        let (work, after) = self.run(work, clock, app);
        let station = &self.crew.stations[victim];
        station.give_back(slip, work, after, assist == Assist::Lend);
        if assist == Assist::Ipi && station.in_app().is_some() {
            if station.interrupt() {
                self.metrics().interrupts_sent.inc();
            }
        } else if assist != Assist::Lend {
            self.shared().wake(station.core());
        }
        true
    }
}

/// How long handlers take here, as a moving average; and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    mean: Nanos,
}

impl Pace {
    /// Nothing is known: handlers are taken to be long, one at a time.
    pub(crate) const fn unknown() -> Pace {
        Pace { mean: QUANTUM }
    }

    fn learn(&mut self, connections: usize, took: Nanos) {
        let each = took.0 / connections.max(1) as u64;
        self.mean = Nanos((7 * self.mean.0 + each) / 8);
    }

    /// Connections that may share a batch which is to take no longer than `quantum`.
    fn batch(&self, quantum: Nanos, bound: usize) -> usize {
        (quantum.0 / self.mean.0.max(1)).clamp(1, bound as u64) as usize
    }

    /// Whether several may.
    fn short(&self) -> bool {
        2 * self.mean.0 <= QUANTUM.0
    }
}

/// Whom to steal from first: any spread will do, so a shift register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u32);

impl Dice {
    pub(crate) const fn new(seed: u32) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_handlers_share_a_batch_and_long_ones_do_not() {
        let mut pace = Pace::unknown();
        assert_eq!((pace.batch(QUANTUM, 64), pace.short()), (1, false));
        (0..100).for_each(|_| pace.learn(10, Nanos::from_micros(5)));
        assert!(pace.batch(QUANTUM, 64) >= 8 && pace.batch(QUANTUM, 4) == 4 && pace.short(), "{pace:?}");
        (0..100).for_each(|_| pace.learn(1, Nanos::from_micros(50)));
        assert_eq!((pace.batch(QUANTUM, 64), pace.short()), (1, false));
        pace.learn(0, Nanos::ZERO);
    }

    #[test]
    fn every_core_is_somebodys_first_victim() {
        let mut dice = Dice::new(7);
        let mut seen = [0; 16];
        (0..1000).for_each(|_| seen[dice.roll(16)] += 1);
        assert!(seen.iter().all(|n| *n > 20), "{seen:?}");
    }
}
