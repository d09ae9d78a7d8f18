//! A turn in ZygOS mode: work-conserving (thesis chapter 3, and lending, which is ours).
//!
//! ```text
//!   home pass     remote syscalls, frames, messages; a batch is drawn, what else is ready is offered     under the own StackLock
//!   run           the batch; the lock is free meanwhile, for whoever lends himself                       nothing held
//!   hand in       its syscalls carried out, transmit; or, if the lock is taken, left for its holder      under the own StackLock
//!
//!   nothing of its own to do:
//!   steal         the oldest offer of a core, chosen at random; run it; give it back
//!   assist        a core is in application code and its network layer has work:  lend | interrupt | wait
//! ```
//!
//! Nobody waits for a StackLock. A home that finds its own taken runs what it had offered, as a thief of its own queue.

use netstack::{NARROW_MAX, Work};
use nic::Queue;
use shuffle::{Slip, Take};
use units::Nanos;

use crate::sched::{Assist, Sched};
use crate::station::Station;
use crate::turn::{Call, ElasticThread, Origin, Step, Turn};

/// Remote syscalls that a home pass works off.
const RETURNS: usize = 64;
/// Handlers that together take no longer than this share a batch: a crossing each would cost more than they wait for each other.
const QUANTUM: Nanos = Nanos::from_micros(5);
/// The same while no core is idle.
const LONG_QUANTUM: Nanos = Nanos::from_micros(20);
/// Per core, how many slips are on offer while handlers are short: whoever is idle takes one at a time.
const FEW: usize = 2;
/// With handlers this long a core that enters application code has a sleeping one watch its queue.
const WORTH_WAKING: Nanos = Nanos::from_micros(20);

impl<Q: Queue> ElasticThread<Q> {
    /// The turn in ZygOS mode, up to application code.
    pub(crate) fn begin_zygos(&mut self, assist: Assist, now: Nanos) -> Step {
        let (mut work, drawn, deadline) = self.home_pass(now);
        let mut found = drawn.map(|(slip, batch)| (Origin::Home(slip), batch));
        if found.is_none() && work == 0 && !self.crew.stations[self.own].is_parked() {
            (work, found) = self.help(assist, now);
        }
        let station = &self.crew.stations[self.own];
        let Some((origin, batch)) = found else {
            station.is_idle(work == 0 && !station.is_parked());
            return Step::End(Turn { work, deadline });
        };
        station.is_idle(false);
        let turn = Turn { work: work + batch.len(), deadline };
        Step::Run(Call { work: batch, origin, turn })
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
        let offered = if drawn.is_some() { stack.offer(most, self.pace.each()) } else { 0 };
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

    /// What handlers took, for the size of the next batch.
    fn learn(&mut self, n: usize, took: Nanos) {
        self.pace.learn(n, took);
        let station = &self.crew.stations[self.own];
        station.sizes(self.pace.each());
        station.forgives();
    }

    /// The second half: the batch's syscalls, and everything out. If somebody else is at our network layer, he sees to them. Returns when to
    /// turn again.
    pub(crate) fn hand_in(&mut self, slip: Slip, work: Work, now: Nanos, took: Nanos) -> Nanos {
        self.learn(work.len(), took);
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

    /// Nothing of our own to do: works for others. Returns how much was done, and what is to be run for them.
    fn help(&mut self, assist: Assist, now: Nanos) -> (usize, Option<(Origin, Work)>) {
        let first = self.dice.roll(self.crew.stations.len());
        let (before, after) = self.crew.stations.split_at(first);
        // All others, once around from there.
        let others = || (first..).zip(after).chain((0..).zip(before)).filter(|(at, _)| *at != self.own);
        let loot = others().filter(|(_, s)| s.shuffle.offered() > 0).find_map(|(victim, _)| self.steal(victim));
        if loot.is_some() {
            return (0, loot);
        }
        let needy = |(_, s): &(usize, &Station<Q>)| s.needs_help(assist, now);
        match assist {
            Assist::None => None,
            Assist::Ipi => {
                others().filter(needy).for_each(|(victim, _)| self.interrupt(victim));
                None
            }
            Assist::Lend => others().filter(needy).find_map(|(victim, s)| Some((victim, s.pass(now, true)?))),
        }
        .map_or((0, None), |(victim, offered)| {
            self.metrics().lends.inc();
            if offered > 1 {
                self.crew.wake_somebody();
            }
            (1, self.steal(victim))
        })
    }

    /// Takes what `victim` offers first, if anything.
    fn steal(&self, victim: usize) -> Option<(Origin, Work)> {
        let Take::One(slip, work) = self.crew.stations[victim].shuffle.take() else { return None };
        self.metrics().steals.inc();
        Some((Origin::Stolen { victim, slip }, work))
    }

    /// Gives stolen work back to its home, which has to see to its syscalls.
    pub(crate) fn bring_back(&mut self, victim: usize, slip: Slip, mut work: Work, now: Nanos, took: Nanos) {
        self.learn(work.len(), took);
        self.metrics().stolen_conns.add(work.len() as u64);
        self.metrics().helping_ns.add(took.0);
        work.run_elsewhere(took);
        let lends = self.sched() == Sched::Zygos(Assist::Lend);
        let station = &self.crew.stations[victim];
        station.give_back(slip, work, now, lends);
        match self.sched() {
            Sched::Zygos(Assist::Ipi) if station.in_app().is_some() => self.interrupt(victim),
            _ if !lends => self.shared().wake(station.core()),
            _ => {}
        }
    }

    /// Makes a core that is in application code see to its network layer. One that is not will see for itself.
    fn interrupt(&self, victim: usize) {
        let station = &self.crew.stations[victim];
        if station.in_app().is_some() && station.interrupt() {
            self.metrics().interrupts_sent.inc();
        }
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

    /// Connections that share what a thief takes.
    fn each(&self) -> usize {
        self.batch(QUANTUM, NARROW_MAX)
    }

    /// Whether several do.
    fn short(&self) -> bool {
        self.each() > 1
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
