//! What it costs more to do another core's work: two threads do it in turns, each on a core of its own; then one thread does the same alone.
//!
//! ```text
//!   steal    home    begin: draws a connection, offers another                  run, resume
//!            thief                                        begin, run, resume
//!
//!   lend     home    begin, run: in application code                            resume
//!            thief             begin: a network pass for the home, run, resume
//! ```
//!
//! The calls are the same in both cases, so that the difference is what the lines cost that travel between the cores. What the calls cost anywhere
//! is in the other figures.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use dataplane::{Assist, Sched, Step};
use sys::clock::{self, Clock};
use units::Nanos;

use super::Meter;
use super::rig::{Core, GAP, Rig};
use crate::stats::median;

/// Rounds of a block, and those at its beginning that do not count.
const ROUNDS: usize = 400;
const COLD: usize = 40;
/// Rounds after which a block ends whatever it has.
const TRIES: usize = 4 * ROUNDS;
/// How long application code takes by the standing clock: longer than a batch of several is made for.
const IN_APP: Nanos = Nanos::from_micros(10);
/// A part that takes longer was interrupted.
const TOO_LONG: Nanos = Nanos::from_micros(100);

/// What was measured, block by block, in nanoseconds.
#[derive(Default)]
pub(super) struct Pair {
    pub(super) steal: Vec<f64>,
    pub(super) lend: Vec<f64>,
}

/// How work gets to the other core.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Steal,
    Lend,
}

/// Measures on these two cores until the meter says that it is enough. The calling thread stays on the first.
///
/// # Errors
/// Memory is not to be had; a core is not ours; [`Interrupted`](crate::Interrupted).
pub(super) fn measure(cores: (usize, usize), meter: &Meter) -> Result<Pair> {
    let mut rig = Rig::new(2, Sched::Zygos(Assist::Lend))?;
    let mut all = Pair::default();
    while meter.goes_on(all.lend.len()) {
        let mut block = |how, apart| one_block(&mut rig, how, apart);
        let steal = block(How::Steal, Some(cores.1))? - block(How::Steal, None)?;
        let lend = block(How::Lend, Some(cores.1))? - block(How::Lend, None)? - steal;
        all.steal.extend(Some(steal).filter(|s| s.is_finite()));
        all.lend.extend(Some(lend).filter(|l| l.is_finite()));
        if all.lend.is_empty() && !meter.goes_on(1) {
            anyhow::bail!("two threads do not get their cores: nothing else should run on this machine meanwhile");
        }
    }
    Ok(all)
}

/// What a round takes in both hands together, in nanoseconds, with the thief on a core of its own or on this one. Not a number if no round went through.
fn one_block(rig: &mut Rig, how: How, apart: Option<usize>) -> Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let desk = Desk::default();
    rig.rounds((2 * (ROUNDS + TRIES)) as u64, |cores, clock| {
        let (home, thief) = cores.split_at_mut(1);
        let thief = Mutex::new(&mut thief[0]);
        thread::scope(|scope| {
            let mut bench = Bench { home: &mut home[0], thief: &thief, clock, desk: apart.map(|_| &desk) };
            let helper = apart.map(|core| {
                let (thief, desk) = (&thief, &desk);
                desk.state.store(IDLE, Relaxed);
                scope.spawn(move || sys::thread::pin(core).map(|()| desk.serve(thief)).inspect_err(|_| desk.quit()))
            });
            let mut tries = 0;
            while rounds.len() < ROUNDS + COLD && tries < TRIES && !sys::stop::requested() {
                rounds.extend(bench.round(how));
                tries += 1;
                if desk.state.load(Relaxed) == QUIT {
                    break;
                }
            }
            desk.quit();
            drop(helper);
        });
        false
    })?;
    let counted = rounds.get(COLD.min(rounds.len())..).unwrap_or_default();
    Ok(if counted.len() < ROUNDS / 4 { f64::NAN } else { median(counted.iter().copied()) })
}

const IDLE: u32 = 0;
const GO: u32 = 1;
const DONE: u32 = 2;
const QUIT: u32 = 3;
/// What took so long was not what was meant.
const VOID: u64 = u64::MAX;

/// Where the two threads hand over to each other.
#[derive(Default)]
struct Desk {
    state: AtomicU32,
    /// The instant, by the standing clock.
    now: AtomicU64,
    /// What the thief's part took.
    took: AtomicU64,
}

impl Desk {
    /// The thief's thread.
    fn serve(&self, thief: &Mutex<&mut Core>) {
        loop {
            // No pause in the loop: a hypervisor may take it for an invitation to run somebody else.
            match self.state.load(Acquire) {
                QUIT => return,
                GO => {
                    let now = Nanos(self.now.load(Relaxed));
                    let took = steal(&mut thief.lock().unwrap_or_else(PoisonError::into_inner), now);
                    self.took.store(took.map_or(VOID, |t| t.0), Relaxed);
                    // Unless somebody has said that it is over.
                    let _ = self.state.compare_exchange(GO, DONE, Release, Relaxed);
                }
                _ => {}
            }
        }
    }

    /// Has it do its part.
    fn go(&self, now: Nanos) -> Option<Nanos> {
        self.now.store(now.0, Relaxed);
        if self.state.swap(GO, Release) == QUIT {
            self.quit();
        }
        loop {
            match self.state.load(Acquire) {
                DONE => return Some(Nanos(self.took.load(Relaxed))).filter(|t| t.0 != VOID),
                QUIT => return None,
                _ => {}
            }
        }
    }

    fn quit(&self) {
        self.state.store(QUIT, Release);
    }
}

/// The thief's part: a turn in which it finds one connection of the home's.
fn steal(core: &mut Core, now: Nanos) -> Option<Nanos> {
    let Core { thread, app } = core;
    let before = clock::now();
    let Step::Run(mut call) = thread.begin(now, Nanos::MAX) else { return None };
    let meant = call.stolen_from() == Some(0) && call.len() == 1;
    thread.run(&mut call, now, app);
    thread.resume(call, now + IN_APP, app);
    let took = clock::now() - before;
    (meant && took < TOO_LONG).then_some(took)
}

/// The home's side.
struct Bench<'a, 'b> {
    home: &'a mut Core,
    thief: &'a Mutex<&'b mut Core>,
    clock: &'a Clock,
    /// If the thief is on a core of its own.
    desk: Option<&'a Desk>,
}

impl Bench<'_, '_> {
    /// A round, in nanoseconds of both; `None` if it did not go as it was meant to.
    fn round(&mut self, how: How) -> Option<f64> {
        let requests = if how == How::Steal { 2 } else { 1 };
        self.clock.spend(IN_APP + Nanos(requests as u64 * GAP.0));
        let now = self.clock.now();
        let mut ready = self.home.exchange(requests)?.1 == requests;
        let Core { thread, app } = &mut *self.home;
        let t0 = clock::now();
        let step = thread.begin(now, Nanos::MAX);
        let mut t1 = clock::now();
        let Step::Run(mut call) = step else { return None };
        ready &= call.stolen_from().is_none() && call.len() == 1;
        if how == How::Lend {
            thread.run(&mut call, now, app);
            t1 = clock::now();
            // While it is away, something comes.
            ready &= thread.stack().is_some_and(|mut stack| stack.nic().exchange(1).1 == 1);
        }
        let theirs = self.thief_works(now + IN_APP);
        let Core { thread, app } = &mut *self.home;
        let t2 = clock::now();
        if how == How::Steal {
            thread.run(&mut call, now, app);
        }
        thread.resume(call, now + IN_APP, app);
        let t3 = clock::now();
        self.clock.spend(IN_APP);
        let ours = [t1 - t0, t3 - t2];
        let whole = ready && ours.iter().all(|part| *part < TOO_LONG);
        theirs.filter(|_| whole).map(|theirs| (theirs + ours[0] + ours[1]).0 as f64)
    }

    fn thief_works(&self, now: Nanos) -> Option<Nanos> {
        match self.desk {
            Some(desk) => desk.go(now),
            None => steal(&mut self.thief.lock().unwrap_or_else(PoisonError::into_inner), now),
        }
    }
}
