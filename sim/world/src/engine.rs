//! The cores of a world, and what happens to them when.
//!
//! An elastic thread's `begin` and `resume` take no time of their own: what they charge to the clock passes afterwards, while the network layers that they were in are
//! held. So others find them taken for as long as they would be on a machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dataplane::{App, Assist, Call, Crew, ElasticThread, Hold, Sched, Step};
use netstack::Metrics;
use nic::Faulty;
use rand::{Rng as _, SeedableRng};
use sys::clock::Clock;
use units::Nanos;
use zygix::ServiceApp;

use crate::agenda::{Agenda, What};
use crate::charged::Charged;
use crate::clients::{Both, Directors};
use crate::control::Control;
use crate::costs::Costs;
use crate::measure::Setup;
use crate::replay::Configuration;
use crate::trace::Trace;

pub(crate) type Queue = Charged<Faulty<Both>>;
pub(crate) type Thread = ElasticThread<Queue>;

/// How often a core looks round that has nothing to do, whatever it was told.
const LOOK_ROUND: Nanos = Nanos::from_millis(10);
/// How soon a core looks again that found its network layer taken.
const AGAIN: Nanos = Nanos(200);
/// And how soon one that takes part in a move of flow groups: on a machine it would poll on.
const SPIN: Nanos = Nanos::from_micros(1);

/// Events at one instant after which time is pushed on.
const STILL: u64 = 100_000;

/// What the product says to the world: bits, one for each core. (What runs it, runs on one thread.)
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// Frames have passed through its queue.
    pub(crate) touched: Arc<AtomicU64>,
    /// It is to wake.
    pub(crate) woken: Arc<AtomicU64>,
    /// An interrupt is under way to it.
    pub(crate) interrupted: Arc<AtomicU64>,
}

/// A set of cores.
#[derive(Clone, Copy, Default)]
struct Bits(u64);

impl Bits {
    fn set(&mut self, core: usize) {
        self.0 |= 1 << core;
    }

    fn clear(&mut self, core: usize) {
        self.0 &= !(1 << core);
    }

    fn has(self, core: usize) -> bool {
        self.0 & 1 << core != 0
    }

    fn ones(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let bit = self.0.trailing_zeros() as usize;
            self.0 &= self.0.wrapping_sub(1);
            (bit < 64).then_some(bit)
        })
    }
}

/// The cores that a word names, which names none after.
fn bits(word: &AtomicU64) -> impl Iterator<Item = usize> + use<> {
    Bits(if word.load(Relaxed) == 0 { 0 } else { word.swap(0, Relaxed) }).ones()
}

/// What a core is about.
enum Doing {
    /// Nothing: it polls, and sees what comes when it comes.
    Idle,
    /// It begins a turn.
    Turn,
    /// Network work, held until its time is over; this comes after.
    Network(Step),
    /// Application code.
    App(Call),
}

struct Core<'a> {
    thread: Thread,
    app: ServiceApp<spin::Service>,
    doing: Doing,
    /// When what it does is over.
    until: Nanos,
    /// The network layers that it is in: its own, a victim's.
    holds: Vec<(usize, Hold<'a, Queue>)>,
    lends: u64,
}

/// Cores that the hypervisor takes away.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stalls {
    /// The mean time between two of one core; they come at random.
    pub every: Nanos,
    /// How long each lasts.
    pub last: Nanos,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) threads: Vec<Thread>,
    pub(crate) apps: Vec<ServiceApp<spin::Service>>,
    pub(crate) director: Directors,
    pub(crate) late: Vec<Arc<AtomicU64>>,
    pub(crate) clock: Clock,
    pub(crate) signals: Signals,
}

pub(crate) struct Engine<'a> {
    crew: &'a Crew<Queue>,
    cores: Vec<Core<'a>>,
    director: Directors,
    /// Orders seen so far.
    orders: u64,
    /// When a frame goes on that the wire has held back, by core.
    late: Vec<Arc<AtomicU64>>,
    clock: Clock,
    costs: Costs,
    signals: Signals,
    agenda: Agenda,
    idle: Vec<usize>,
    /// When the last event was, and how many were at that instant.
    last: Nanos,
    still: u64,
    /// Cores at whose queues something has changed.
    stirred: Bits,
    /// Cores to which something has happened: others may be able to do something for them.
    needy: Bits,
    dice: draw::Rng,
    stalls: Option<Stalls>,
    /// Who moves flow groups.
    pub(crate) control: Option<Control<'a>>,
    /// See [`Configuration::paces`].
    paces: Vec<f64>,
    /// A core that does not come back from its next application code.
    pub(crate) lose: Option<usize>,
    pub(crate) trace: Option<Trace>,
    /// Cores for which there has been something since their last turn began.
    told: Bits,
    /// Look after each event whether a core is idle, and has not been told, while work that came home to it waits. The first that was, and when.
    pub(crate) vigilant: bool,
    pub(crate) forgotten: Option<(usize, Nanos)>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(crew: &'a Crew<Queue>, setup: &Setup, parts: Parts) -> Engine<'a> {
        let Parts { threads, apps, director, late, clock, signals } = parts;
        let now = clock.now();
        let core = |(thread, app)| Core {
            thread,
            app,
            doing: Doing::Idle,
            until: Nanos::MAX,
            holds: Vec::with_capacity(2),
            lends: 0,
        };
        let mut engine = Engine {
            crew,
            agenda: Agenda::new(threads.len()),
            idle: (0..threads.len()).collect(),
            cores: threads.into_iter().zip(apps).map(core).collect(),
            director,
            orders: 0,
            late,
            clock,
            costs: setup.costs.clone(),
            signals,
            last: now,
            still: 0,
            stirred: Bits::default(),
            needy: Bits::default(),
            dice: draw::Rng::seed_from_u64(setup.seed ^ 0x776f_726c_6400),
            stalls: setup.stalls,
            control: None,
            paces: Vec::new(),
            lose: None,
            trace: None,
            told: Bits::default(),
            vigilant: false,
            forgotten: None,
        };
        for i in 0..engine.cores.len() {
            let Core { thread, app, .. } = &mut engine.cores[i];
            thread.start(now, app);
            engine.interruptible(i);
            engine.next_stall(i, now);
        }
        engine.agenda.set(now + LOOK_ROUND, 0, What::LookRound);
        engine
    }

    fn interruptible(&self, core: usize) {
        if self.assist() == Some(Assist::Ipi) {
            let (interrupted, clock) = (self.signals.interrupted.clone(), self.clock.clone());
            let send = Nanos(self.costs.interrupt_send_ns);
            let line = move || {
                interrupted.fetch_or(1 << core, Relaxed);
                clock.set(clock.now() + send);
                true
            };
            self.crew.listen(core, Box::new(line));
        }
    }

    fn assist(&self) -> Option<Assist> {
        match self.cores[0].thread.sched() {
            Sched::Ix => None,
            Sched::Zygos(assist) => Some(assist),
        }
    }

    /// A core's counters.
    pub(crate) fn metrics(&self, core: usize) -> &Metrics {
        let thread = &self.cores[core].thread;
        thread.shared().metrics(thread.core())
    }

    /// What a core has left: connections, slips that are not home, receive buffers, transmit buffers.
    pub(crate) fn left(&self, core: usize) -> [usize; 4] {
        let thread = &self.cores[core].thread;
        let (conns, slips, rx) =
            thread.stack().map_or((usize::MAX, 0, 0), |s| (s.connections(), s.slips_out(), s.rx_available()));
        [conns, slips, rx, thread.tx_available()]
    }

    /// What the clock shows.
    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// How many cores there are.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Looks at all queues.
    fn look(&mut self) {
        (0..self.cores.len()).for_each(|core| self.arm(core));
    }

    // ---- the agenda ----

    /// The core is at this until then.
    fn occupy(&mut self, core: usize, doing: Doing, until: Nanos) {
        let c = &mut self.cores[core];
        c.doing = doing;
        self.until(core, until);
    }

    fn until(&mut self, core: usize, until: Nanos) {
        self.cores[core].until = until;
        self.agenda.set(until, core, What::Over);
    }

    /// Moves the world on by one event.
    pub(crate) fn step(&mut self) {
        // The orders of a director are news that nobody has announced.
        let orders = self.director.orders();
        if orders != std::mem::replace(&mut self.orders, orders) {
            self.look();
        }
        let Some((at, core, what)) = self.agenda.pop() else { return };
        let mut now = at.max(self.clock.now());
        self.still = if now > self.last { 0 } else { self.still + 1 };
        if self.still > STILL {
            // The product goes round in circles. Patience is to run out.
            now += Nanos::from_micros(1);
        }
        self.last = now;
        self.clock.set(now);
        match what {
            What::Over => self.over(core, now),
            What::Due => {
                self.kick(core, now);
                self.stirred.set(core);
            }
            What::Needs => self.needy.set(core),
            What::Interrupt => self.interrupt(core, now),
            What::HandlerOver => self.handled(core, now),
            What::Stall => self.stall(core, now),
            What::Control => self.control(now),
            What::LookRound => {
                self.agenda.set(now + LOOK_ROUND, 0, What::LookRound);
                (0..self.cores.len()).for_each(|core| self.kick(core, now));
                self.look();
            }
        }
        for core in bits(&self.signals.woken) {
            self.kick(core, now);
        }
        for core in std::mem::take(&mut self.stirred).ones() {
            self.needy.set(core);
            self.arm(core);
        }
        self.rouse(now);
        if self.vigilant && self.forgotten.is_none() {
            let forgotten = self.idle.iter().find(|core| !self.told.has(**core) && self.crew.returns_wait(**core));
            self.forgotten = forgotten.map(|core| (*core, now));
        }
        self.clock.set(now);
    }

    // ---- cores ----

    /// There is something for a core that may be idle.
    fn kick(&mut self, core: usize, now: Nanos) {
        self.needy.set(core);
        if let Some(at) = self.idle.iter().position(|i| *i == core) {
            self.idle.swap_remove(at);
            self.occupy(core, Doing::Turn, now + self.costs.poll());
        } else {
            // If its turn has begun already, it may have missed this: it looks once more before it is idle.
            self.told.set(core);
        }
    }

    /// One of the idle cores sees what it could do for others. Those that it leaves something to see that after it.
    fn rouse(&mut self, now: Nanos) {
        let Some(assist) = self.assist().filter(|_| !self.idle.is_empty() && self.needy.0 != 0) else { return };
        let idle = self.idle[self.dice.random_range(0..self.idle.len())];
        for core in self.needy.ones().filter(|core| *core != idle) {
            let at = self.crew.needs(core, assist, now);
            if at <= now {
                return self.kick(idle, now);
            }
            self.needy.clear(core);
            self.agenda.sooner(at, core, What::Needs);
        }
    }

    /// Somebody looks at the queue of a core when a frame is due there. What is due already at a core that is about something is for others to see.
    fn arm(&mut self, core: usize) {
        let late = Nanos(self.late[core].load(Relaxed));
        let (due, now) = (self.director.due(core).min(late), self.clock.now());
        let looks = match self.cores[core].doing {
            Doing::Idle => true,
            Doing::Turn | Doing::App(_) => due > now,
            Doing::Network(_) => false,
        };
        if looks {
            self.agenda.sooner(due.max(now), core, What::Due);
        }
    }

    /// What a core was at is over.
    fn over(&mut self, core: usize, now: Nanos) {
        self.needy.set(core);
        match std::mem::replace(&mut self.cores[core].doing, Doing::Idle) {
            Doing::Idle | Doing::Turn => self.turn(core, now),
            Doing::Network(step) => self.let_go(core, step, now),
            Doing::App(call) => {
                self.note(now, core, "returns", String::new);
                call.stolen_from().into_iter().for_each(|home| self.needy.set(home));
                let Core { thread, app, .. } = &mut self.cores[core];
                let turn = thread.resume(call, now, app);
                self.passed(core, Step::End(turn), now);
            }
        }
    }

    fn turn(&mut self, core: usize, now: Nanos) {
        self.told.clear(core);
        let Core { thread, app, .. } = &mut self.cores[core];
        let step = thread.begin(now, app.wake_at());
        let mut more = Nanos::ZERO;
        match &step {
            Step::Run(call) => {
                more.0 += self.costs.turn_ns;
                if call.stolen_from().is_some() {
                    more.0 += self.costs.steal_ns;
                }
            }
            Step::End(turn) if turn.work > 0 => more.0 += self.costs.turn_ns,
            Step::End(_) => {}
        }
        let lends = self.metrics(core).lends.get();
        if lends != std::mem::replace(&mut self.cores[core].lends, lends) {
            more.0 += self.costs.lend_ns;
            self.note(now, core, "lends", String::new);
        }
        self.clock.set(self.clock.now() + more);
        self.passed(core, step, now);
    }

    /// The product has done network work since `now`, by the clock: it takes until then, and its network layers with it.
    fn passed(&mut self, core: usize, step: Step, now: Nanos) {
        let until = self.clock.now();
        let mut held = false;
        for at in bits(&self.signals.touched) {
            self.stirred.set(at);
            if let Some(hold) = self.crew.hold(at) {
                self.cores[core].holds.push((at, hold));
                held = true;
            }
        }
        self.interrupts(until);
        match held || until > now {
            true => self.occupy(core, Doing::Network(step), until),
            false => self.next(core, step, now),
        }
    }

    /// The time of network work is over: the layers are free, and what was left for them meanwhile is carried out.
    fn let_go(&mut self, core: usize, step: Step, now: Nanos) {
        while let Some((at, hold)) = self.cores[core].holds.pop() {
            self.crew.let_go(at, hold, now);
            self.needy.set(at);
            if at != core {
                self.kick(at, now);
            }
        }
        self.passed(core, step, now);
    }

    fn next(&mut self, core: usize, step: Step, now: Nanos) {
        match step {
            Step::Run(mut call) => {
                self.note(now, core, "runs", || match call.stolen_from() {
                    Some(victim) => format!("{} of core {victim}", call.len()),
                    None => format!("{}", call.len()),
                });
                self.clock.set(self.clock.now() + Nanos(self.costs.call_ns));
                let Core { thread, app, .. } = &mut self.cores[core];
                thread.run(&mut call, now, app);
                let lost = self.lose == Some(core);
                let until = if lost { Nanos::MAX } else { self.clock.now() };
                self.occupy(core, Doing::App(call), until);
                if lost {
                    // No event of its own any more: not even the end of a stall.
                    self.lose = None;
                    self.note(now, core, "is lost", String::new);
                }
                self.arm(core);
            }
            Step::End(turn) if turn.work > 0 => {
                // Its replies have left by now.
                self.cores[core].thread.answered(now);
                self.occupy(core, Doing::Turn, now);
            }
            Step::End(turn) if turn.deadline <= now => self.occupy(core, Doing::Turn, now + AGAIN),
            Step::End(_) if self.control.is_some() && self.crew.is_concerned(core) => {
                self.occupy(core, Doing::Turn, now + SPIN);
            }
            Step::End(turn) => {
                self.cores[core].doing = Doing::Idle;
                self.idle.push(core);
                self.arm(core);
                // A timer may be due before anything comes.
                self.agenda.sooner(turn.deadline, core, What::Due);
                if self.told.has(core) {
                    self.kick(core, now);
                }
            }
        }
    }

    // ---- moves of flow groups ----

    /// Flow groups move from here on.
    pub(crate) fn control_by(&mut self, control: Control<'a>) {
        self.control = Some(control);
        self.agenda.set(self.clock.now(), 0, What::Control);
    }

    /// This is to be so from now on. The change stops all cores for a while.
    pub(crate) fn reconfigure(&mut self, to: &Configuration, stop: Nanos) {
        let now = self.clock.now();
        self.paces.clone_from(&to.paces);
        if stop > Nanos::ZERO {
            (0..self.cores.len()).for_each(|core| self.stop(core, now, stop));
        }
        if let Some(control) = &mut self.control {
            control.rouse(&to.awake);
            self.agenda.set(now, 0, What::Control);
        }
    }

    fn control(&mut self, now: Nanos) {
        let Some(control) = &mut self.control else { return };
        let ((next, said), awake) = (control.looks(now), control.awake());
        if let Some(said) = said {
            self.note(now, 0, "controller", || said);
        }
        // What it has done in a core's stead takes no core's time.
        if let Some(pace) = self.paces.get(awake.saturating_sub(1)) {
            self.clock.set_pace(*pace);
        }
        bits(&self.signals.touched).for_each(|core| self.stirred.set(core));
        self.interrupts(now);
        self.look();
        self.agenda.set(next, 0, What::Control);
    }

    // ---- interrupts and stalls ----

    fn interrupts(&mut self, now: Nanos) {
        for core in bits(&self.signals.interrupted) {
            self.agenda.sooner(now, core, What::Interrupt);
        }
    }

    fn interrupt(&mut self, core: usize, now: Nanos) {
        self.needy.set(core);
        if !matches!(self.cores[core].doing, Doing::App(_)) {
            // It is not in application code any more, and forgets it.
            return self.crew.interrupted(core, now);
        }
        self.note(now, core, "interrupted", String::new);
        self.clock.set(self.clock.now() + Nanos(self.costs.interrupt_ns));
        self.crew.interrupted(core, self.clock.now());
        self.delayed(core, now);
    }

    /// Application code goes on after what the handler did.
    fn delayed(&mut self, core: usize, now: Nanos) {
        let until = self.clock.now();
        let took = until - now;
        for at in bits(&self.signals.touched) {
            self.stirred.set(at);
            if let Some(hold) = self.crew.hold(at) {
                self.cores[core].holds.push((at, hold));
            }
        }
        if !self.cores[core].holds.is_empty() {
            self.agenda.later(until, core, What::HandlerOver);
        }
        self.later(core, took);
    }

    /// What the core is at takes longer.
    fn later(&mut self, core: usize, by: Nanos) {
        let until = self.cores[core].until;
        if until < Nanos::MAX {
            self.until(core, until + by);
        }
    }

    fn handled(&mut self, core: usize, now: Nanos) {
        if matches!(self.cores[core].doing, Doing::App(_)) {
            while let Some((at, hold)) = self.cores[core].holds.pop() {
                self.crew.let_go(at, hold, now);
                self.needy.set(at);
            }
            self.delayed(core, now);
        }
    }

    fn next_stall(&mut self, core: usize, now: Nanos) {
        if let Some(stalls) = self.stalls {
            let gap = -(1.0 - self.dice.random::<f64>()).ln() * stalls.every.0 as f64;
            self.agenda.set(now + Nanos(gap as u64), core, What::Stall);
        }
    }

    fn stall(&mut self, core: usize, now: Nanos) {
        let Some(Stalls { last, .. }) = self.stalls else { return };
        self.note(now, core, "stalls", || format!("{last:?}"));
        self.stop(core, now, last);
        self.next_stall(core, now + last);
    }

    /// Whatever the core was at is over later by this. An idle core begins with nothing before that.
    fn stop(&mut self, core: usize, now: Nanos, span: Nanos) {
        self.needy.set(core);
        if let Some(at) = self.idle.iter().position(|i| *i == core) {
            self.idle.swap_remove(at);
            self.occupy(core, Doing::Turn, now + span);
        } else {
            self.later(core, span);
        }
    }

    fn note(&mut self, now: Nanos, core: usize, what: &str, more: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.line(now, core, what, &more());
        }
    }
}
