use abi::Command;
use actuate::{Speed, Topology};
use attach::AttachError;
use machine::{Clock, Machine};
use policy::{Decision, Loop};
use serde::{Deserialize, Serialize};
use units::Nanos;

use crate::config::{PlaneConfig, Policy};
use crate::host::Host;
use crate::journal::{Journal, Kind};
use crate::plan;
use crate::plane::{Attach, Plane};
use crate::sensing::Senses;
use crate::view::PlaneView;

/// One that is not there is looked for as often.
const LOOK_AGAIN: Nanos = Nanos::from_secs(1);
/// After an attempt to attach, so many times what it took: others wait for it, too.
const LOOK_LATER: u64 = 20;
/// And this at most.
const LOOK_SELDOM: Nanos = Nanos::from_secs(60);
/// After it was found, before the first decision: what was before says little of what is.
const SETTLE: Nanos = Nanos::from_secs(1);
/// After a command that was refused, before the next one.
const AFTER_REFUSAL: Nanos = Nanos::from_secs(1);
/// After flow groups were moved, or could not be, before others are.
const AFTER_MOVES: Nanos = Nanos::from_secs(1);
/// Below so many frames per second, there is nothing to even out.
const LOAD_LEAST: f64 = 1000.0;

/// One dataplane: what it reports, what is decided, and what is done about it.
pub(crate) struct Governor {
    config: PlaneConfig,
    attached: Option<Attached>,
    senses: Senses,
    /// Not before then is it looked for again.
    next_look: Nanos,
    /// Not before then is it made what was decided again.
    not_before: Nanos,
    /// Not before then are its cores evened out again.
    balance_from: Nanos,
    /// Why it is not attached to, as it was told last; empty: it is not there.
    told: Option<String>,
    reason: String,
    violations: u64,
    seconds: u64,
    missing: bool,
    non_responsive: u64,
    /// There were such calls in the last second, and it was told when that began.
    unresponsive: bool,
    silent: bool,
    /// How it was found before it was lost, or by a control plane that was killed; if it is still the same process.
    left: Option<Found>,
}

struct Attached {
    plane: Box<dyn Plane>,
    /// It did not answer: it is told nothing more over this link. Its page can be read still.
    broken: bool,
    control: Loop,
    /// The cpus that it may use.
    topology: Topology,
    machine: Machine,
    /// The cpu of each elastic thread.
    places: Vec<Option<usize>>,
    /// Not before then is anything decided, on the clock of snapshots.
    decide_from: Nanos,
    found: Found,
}

impl Attached {
    /// Threads as they were found; or why not, a line each.
    fn put_back(&mut self) -> Vec<String> {
        let snapshot = match self.plane.snapshot() {
            Ok(snapshot) => snapshot,
            Err(e) => return vec![format!("its threads stay as they are: {e}")],
        };
        let mut commands = Vec::new();
        for (i, (core, (parked, cpu))) in snapshot.cores.iter().zip(&self.found.threads).enumerate() {
            let number = i as u16;
            commands.extend((core.cpu != *cpu).then_some(Command::Pin { core: number, cpu: *cpu }));
            commands.extend((core.parked && !parked).then_some(Command::Unpark { core: number, more: 0 }));
        }
        if commands.is_empty() {
            return Vec::new();
        }
        if self.broken || !snapshot.is_fresh() {
            return vec!["it does not answer: its threads stay as they are".to_owned()];
        }
        let mut wrong = Vec::new();
        for command in commands {
            let Err(e) = told(self.plane.as_mut(), &command) else { continue };
            wrong.push(format!("{}: {e}", serde_json::to_string(&command).unwrap_or_default()));
            if !matches!(e, AttachError::Refused(_)) {
                break;
            }
        }
        wrong
    }
}

/// Gives a command. What is so already is as good as done.
fn told(plane: &mut dyn Plane, command: &Command) -> Result<(), AttachError> {
    match plane.command(command) {
        Err(AttachError::Refused(refusal)) if refusal.code == "parked" || refusal.code == "not-parked" => Ok(()),
        other => other.map(drop),
    }
}

/// From an attempt to attach that took so long to the next.
fn pause(took: Nanos) -> Nanos {
    Nanos(took.0.saturating_mul(LOOK_LATER)).clamp(LOOK_AGAIN, LOOK_SELDOM)
}

/// What was found when a dataplane was attached to: to be restored at the end, also by the next control plane if this one is killed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Its name.
    name: String,
    /// Its process.
    pid: u32,
    /// By thread: parked, and pinned where.
    threads: Vec<(bool, Option<u32>)>,
}

/// What a dataplane uses of the machine.
pub(crate) struct Uses {
    /// All of its cpus.
    pub(crate) cpus: Vec<usize>,
    /// Those that are in use; the others may be given away if `background`.
    pub(crate) in_use: Vec<usize>,
    pub(crate) background: bool,
    pub(crate) speed: Speed,
    pub(crate) cores: usize,
    pub(crate) threads: usize,
    pub(crate) clock: Clock,
    /// Mean load of its active cores.
    pub(crate) load: f64,
}

impl Governor {
    pub(crate) fn new(config: PlaneConfig) -> Governor {
        Governor {
            config,
            attached: None,
            senses: Senses::default(),
            next_look: Nanos::ZERO,
            not_before: Nanos::ZERO,
            balance_from: Nanos::ZERO,
            told: None,
            reason: String::new(),
            violations: 0,
            seconds: 0,
            missing: false,
            non_responsive: 0,
            unresponsive: false,
            silent: false,
            left: None,
        }
    }

    /// A killed control plane has found this.
    pub(crate) fn remember(&mut self, found: &[Found]) {
        self.left = found.iter().find(|f| f.name == self.config.name).cloned();
    }

    /// What was found of it, for the next control plane.
    pub(crate) fn found(&self) -> Option<&Found> {
        self.attached.as_ref().map(|a| &a.found).or(self.left.as_ref())
    }

    /// Looks: attaches if there is something to attach to, takes a snapshot, notices an end.
    pub(crate) fn look(&mut self, now: Nanos, host: &Host, attach: &mut Attach, journal: &mut Journal) {
        if self.attached.is_none() {
            return self.search(now, host, attach, journal);
        }
        self.observe(now, journal);
        // Who does not even write its page would not answer.
        if self.attached.as_ref().is_some_and(|a| a.broken) && !self.silent {
            self.link_again(now, attach, journal);
        }
    }

    fn search(&mut self, now: Nanos, host: &Host, attach: &mut Attach, journal: &mut Journal) {
        let plane = match self.attempt(now, attach) {
            None => return,
            Some(Err(e)) => return self.missed(&e, journal),
            Some(Ok(plane)) => plane,
        };
        match self.take(plane, host) {
            Ok(text) => {
                self.told = None;
                journal.add(&self.config.name, Kind::Attached, &self.step(), text);
            }
            Err(text) => self.tell_gone(text.clone(), text, journal),
        }
    }

    /// Attaches, if it is time for that. Who does not answer costs everybody's time, and is tried the more seldom.
    fn attempt(&mut self, now: Nanos, attach: &mut Attach) -> Option<Result<Box<dyn Plane>, AttachError>> {
        if now < self.next_look {
            return None;
        }
        let begun = sys::clock::now();
        let plane = attach(&self.config.name);
        let took = sys::clock::now() - begun;
        self.next_look = now + took + pause(took);
        Some(plane)
    }

    fn missed(&mut self, e: &AttachError, journal: &mut Journal) {
        let absent = matches!(e, AttachError::NoSuch { .. } | AttachError::NoneRuns | AttachError::Stale { .. });
        if absent {
            self.left = None;
        }
        let text = e.to_string();
        self.tell_gone(if absent { String::new() } else { text.clone() }, text, journal);
    }

    /// Tells why it is not attached to, unless that is no news.
    fn tell_gone(&mut self, why: String, text: String, journal: &mut Journal) {
        if self.told.as_ref() != Some(&why) {
            journal.add(&self.config.name, Kind::Gone, "", text);
        }
        self.told = Some(why);
    }

    fn observe(&mut self, now: Nanos, journal: &mut Journal) {
        let Some(attached) = &mut self.attached else { return };
        if attached.plane.has_ended() {
            self.lose("it has ended", now, journal);
            (self.left, self.told) = (None, Some(String::new()));
            return;
        }
        match attached.plane.snapshot() {
            Ok(snapshot) if snapshot.is_fresh() => {
                self.silent = false;
                self.senses.see(snapshot);
            }
            Ok(_) => {
                if !std::mem::replace(&mut self.silent, true) {
                    let text = "it does not write its page: stopped, or without a processor; it is left alone";
                    journal.add(&self.config.name, Kind::Trouble, "", text);
                }
            }
            Err(e) => self.lose(&e.to_string(), now, journal),
        }
    }

    fn lose(&mut self, why: &str, now: Nanos, journal: &mut Journal) {
        journal.add(&self.config.name, Kind::Gone, "", format!("{why}; waiting for it to come back"));
        self.left = self.attached.take().map(|a| a.found);
        self.told = Some(why.to_owned());
        self.silent = false;
        self.senses.forget();
        self.next_look = now + LOOK_AGAIN;
    }

    /// A new link to the same process: all that was decided stands.
    fn link_again(&mut self, now: Nanos, attach: &mut Attach, journal: &mut Journal) {
        let mut plane = match self.attempt(now, attach) {
            None => return,
            Some(Err(e)) => return self.missed(&e, journal),
            Some(Ok(plane)) => plane,
        };
        let Some(attached) = &mut self.attached else { return };
        if plane.snapshot().is_ok_and(|s| s.header.pid != attached.found.pid) {
            return self.lose("another process has its name", now, journal);
        }
        (attached.plane, attached.broken, self.told) = (plane, false, None);
        journal.add(&self.config.name, Kind::Attached, "", "it answers again");
    }

    /// A command was not carried out. What was refused may be tried again; who did not answer is attached to anew.
    fn failed(&mut self, what: &str, e: &AttachError, now: Nanos, journal: &mut Journal) {
        let lost = !matches!(e, AttachError::Refused(_));
        if let Some(attached) = self.attached.as_mut().filter(|_| lost) {
            attached.broken = true;
            self.next_look = now + LOOK_AGAIN;
            self.told = Some(e.to_string());
        }
        let then = if lost { "; it is attached to anew" } else { "" };
        journal.add(&self.config.name, Kind::Trouble, "", format!("{what}: {e}{then}"));
    }

    /// A dataplane was found: what it is, where its threads are, and the ladder for that.
    fn take(&mut self, mut plane: Box<dyn Plane>, host: &Host) -> Result<String, String> {
        let snapshot = plane.snapshot().map_err(|e| e.to_string())?;
        let pinned: Vec<Option<usize>> = snapshot.cores.iter().map(|c| c.cpu.map(|cpu| cpu as usize)).collect();
        let threads: Vec<_> = snapshot.cores.iter().map(|c| (c.parked, c.cpu)).collect();
        let now = Found { name: self.config.name.clone(), pid: snapshot.header.pid, threads };
        let same = |left: &Found| (&left.name, left.pid, left.threads.len()) == (&now.name, now.pid, now.threads.len());
        let found = self.left.clone().filter(same).unwrap_or(now);
        let places = plan::places(self.config.cpus.as_deref(), &pinned, host.topology());
        let cpus: Vec<usize> = places.iter().flatten().copied().collect();
        let topology = host.topology().only(&cpus).map_err(|e| e.to_string())?;
        let machine = host.machine(&topology);
        let ladder = plan::ladder(&self.config.policy, &machine).map_err(|e| e.to_string())?;
        let text = self.found_so(&plane.about(), places.len(), &cpus, host.name());
        let control = Loop::new(self.config.rules.clone(), ladder);
        self.left = None;
        self.senses.forget();
        self.balance_from = Nanos::ZERO;
        self.non_responsive = snapshot.cores.iter().map(|c| c.non_responsive).sum();
        let decide_from = snapshot.at + SETTLE;
        self.senses.see(snapshot);
        let broken = false;
        self.attached = Some(Attached { plane, broken, control, topology, machine, places, decide_from, found });
        Ok(text)
    }

    /// What was found, in words: so many threads, and the cpus for them; and what of the configuration does not go with it.
    fn found_so(&self, about: &str, threads: usize, cpus: &[usize], machine: &str) -> String {
        let mut text = match threads - cpus.len() {
            0 => format!("{about}; {threads} elastic threads on cpus {}", crate::host::list(cpus)),
            n => format!("{threads} elastic threads, but {} cpus for them: {n} stay parked", cpus.len()),
        };
        if self.config.min_threads > cpus.len() {
            text += &format!("; min_threads = {} is more than can serve", self.config.min_threads);
        }
        if let Policy::Pareto(table) = &self.config.policy
            && table.machine != machine
        {
            text += &format!("; its table was found on {}, not on {machine}", table.machine);
        }
        text
    }

    /// Decides. What changes is told.
    pub(crate) fn decide(&mut self, journal: &mut Journal) {
        let Some(attached) = self.attached.as_mut().filter(|a| !a.broken && !self.silent) else { return };
        let Some(sense) = self.senses.sense().filter(|s| s.at >= attached.decide_from) else { return };
        let decision = attached.control.decide(&sense);
        self.reason = decision.reason().to_string();
        let kind = match decision {
            Decision::Up { .. } => Kind::Up,
            Decision::Down { .. } => Kind::Down,
            Decision::Hold { .. } => return,
        };
        journal.add(&self.config.name, kind, &self.step(), self.reason.clone());
    }

    /// What it uses now, and what it will when [`Governor::act`] is done.
    pub(crate) fn uses(&self) -> Option<Uses> {
        let Attached { control, topology, machine, places, .. } = self.attached.as_ref()?;
        let step = control.step();
        let active = self.active()?;
        let in_use: Vec<usize> = (0..places.len()).filter(|i| active[*i]).filter_map(|i| places[i]).collect();
        let of = |cpu: &usize| topology.get(*cpu).map(|c| (c.core, c.thread));
        let mut cores: Vec<usize> = in_use.iter().filter_map(of).map(|(core, _)| core).collect();
        cores.sort_unstable();
        cores.dedup();
        let busy = self.senses.cores();
        let serving: Vec<f64> = busy.iter().filter(|c| !c.parked).map(|c| c.load).collect();
        Some(Uses {
            cpus: topology.cpus().iter().map(|c| c.cpu).collect(),
            background: step.background,
            speed: plan::speed(machine, &step.state),
            cores: cores.len(),
            threads: in_use.len().div_ceil(cores.len().max(1)),
            clock: step.state.clock,
            load: if serving.is_empty() { 0.0 } else { serving.iter().sum::<f64>() / serving.len() as f64 },
            in_use,
        })
    }

    /// Which elastic threads are to serve.
    fn active(&self) -> Option<Vec<bool>> {
        let Attached { control, topology, places, .. } = self.attached.as_ref()?;
        let (least, most) = (self.config.min_threads, self.config.max_threads);
        let has_place = places.iter().filter(|p| p.is_some()).count().max(1);
        Some(plan::active(topology, places, &control.step().state, least, most.min(has_place)))
    }

    /// Makes the dataplane what was decided: first who comes, then who goes. What is so already is not touched, so that it can be called at any time; a command that is
    /// refused is tried again after a second.
    pub(crate) fn act(&mut self, now: Nanos, journal: &mut Journal) {
        let (Some(active), Some(snapshot)) = (self.active(), self.senses.last()) else { return };
        if now < self.not_before || self.silent {
            return;
        }
        let Some(attached) = self.attached.as_mut().filter(|a| !a.broken) else { return };
        let mut commands = Vec::new();
        for (i, core) in snapshot.cores.iter().enumerate() {
            let place = attached.places[i].map(|cpu| cpu as u32);
            if active[i] && place.is_some() && core.cpu != place {
                commands.push(Command::Pin { core: i as u16, cpu: place });
            }
        }
        let wrong = |parked: bool| -> Vec<u16> {
            let cores = snapshot.cores.iter().zip(&active).enumerate();
            cores.filter(|(_, (core, on))| core.parked == parked && **on == parked).map(|(i, _)| i as u16).collect()
        };
        let (come, go) = (wrong(true), wrong(false));
        let more = (0..come.len() as u16).rev();
        commands.extend(come.iter().zip(more).map(|(core, more)| Command::Unpark { core: *core, more }));
        if come.is_empty() && go.len() > 1 {
            // Each would give its groups to those that go after it as well.
            let stay: Vec<units::CoreId> =
                (0..).zip(&active).filter(|(_, on)| **on).map(|(i, _)| units::CoreId(i)).collect();
            let moves = policy::balance(&self.senses.groups(), &stay);
            commands.extend(moves.into_iter().map(|(set, to)| Command::Move { groups: abi::GroupList(set), to: to.0 }));
        }
        commands.extend(go.iter().map(|core| Command::Park { core: *core }));
        if !commands.is_empty() {
            // The snapshot does not know of them: by it, nothing is evened out any more.
            self.balance_from = self.balance_from.max(now + Nanos(1));
        }
        for command in commands {
            if let Err(e) = told(attached.plane.as_mut(), &command) {
                if matches!((&command, &e), (Command::Move { .. }, AttachError::Refused(_))) {
                    // Who parks gives away what is left.
                    continue;
                }
                self.not_before = now + AFTER_REFUSAL;
                let what = serde_json::to_string(&command).unwrap_or_default();
                return self.failed(&what, &e, now, journal);
            }
        }
    }

    /// Evens out the load of its cores by moving flow groups: at most once a second.
    pub(crate) fn balance(&mut self, now: Nanos, journal: &mut Journal) {
        if self.silent || now < self.balance_from {
            return;
        }
        let groups = self.senses.groups();
        let Some(snapshot) = self.senses.last() else { return };
        let of = |(i, c): (usize, &attach::CoreSnapshot)| (!c.parked).then_some(units::CoreId(i as u16));
        let active: Vec<units::CoreId> = snapshot.cores.iter().enumerate().filter_map(of).collect();
        // Frames of a second.
        let total = groups.iter().map(|g| g.load).sum::<f64>();
        let evened = (total >= LOAD_LEAST).then(|| policy::even_out(&groups, &active, total)).flatten();
        let attached = self.attached.as_mut().filter(|a| !a.broken);
        let (Some(evened), Some(attached)) = (evened, attached) else { return };
        self.balance_from = now + AFTER_MOVES;
        let count: usize = evened.moves.iter().map(|(set, _)| set.len()).sum();
        let (before, after) = (100.0 * evened.fullest.0, 100.0 * evened.fullest.1);
        for (set, to) in evened.moves {
            let command = Command::Move { groups: abi::GroupList(set), to: to.0 };
            if let Err(e) = attached.plane.command(&command) {
                return self.failed(&format!("moving {count} flow groups"), &e, now, journal);
            }
        }
        let text = format!(
            "{count} flow groups moved: one of {} cores had {before:.0} % of the load, now {after:.0} %",
            active.len()
        );
        journal.add(&self.config.name, Kind::Balance, "", text);
    }

    /// Once a second: was the objective kept, does application code return?
    pub(crate) fn judge(&mut self, journal: &mut Journal) {
        if self.attached.is_none() || self.silent {
            return;
        }
        let (_, p99) = self.senses.service();
        if let Some(p99) = p99 {
            self.seconds += 1;
            let slo = self.config.rules.slo_ns;
            let missed = p99 > slo;
            self.violations += u64::from(missed);
            if missed && !self.missing {
                let text = format!("p99 of {:.0} us, the objective is {:.0} us", p99 / 1000.0, slo / 1000.0);
                journal.add(&self.config.name, Kind::Violation, "", text);
            }
            self.missing = missed;
        }
        let Some(snapshot) = self.senses.last() else { return };
        let calls: u64 = snapshot.cores.iter().map(|c| c.non_responsive).sum();
        let more = calls.saturating_sub(self.non_responsive);
        if more > 0 && !self.unresponsive {
            let text = format!("{more} call(s) of the application took more than 10 ms");
            journal.add(&self.config.name, Kind::NonResponsive, "", text);
        }
        (self.non_responsive, self.unresponsive) = (calls, more > 0);
    }

    /// Leaves it as it was found: threads that it had serve again, where they were. Answers what stays as it is, a line each; that is remembered for the next control plane.
    pub(crate) fn leave(&mut self) -> Vec<String> {
        let wrong = match self.attached.take() {
            None if self.left.is_none() => Vec::new(),
            None => vec!["it was not reached: its threads stay as they are".to_owned()],
            // Who is gone needs nothing.
            Some(attached) if attached.plane.has_ended() => Vec::new(),
            Some(mut attached) => {
                let wrong = attached.put_back();
                self.left = Some(attached.found).filter(|_| !wrong.is_empty());
                wrong
            }
        };
        wrong.into_iter().map(|text| format!("{}: {text}", self.config.name)).collect()
    }

    /// The configuration, in words.
    fn step(&self) -> String {
        let Some(attached) = &self.attached else { return String::new() };
        let state = attached.control.step().state;
        let count = self.active().map_or(0, |a| a.iter().filter(|on| **on).count());
        let clock = match state.clock {
            Clock::Turbo if attached.machine.has_turbo() => "turbo".to_owned(),
            _ if attached.machine.clocks_mhz().count() < 2 => String::new(),
            _ => format!("{:.0} MHz", attached.machine.mhz(&state)),
        };
        let threads = format!("{count} thread{}", if count == 1 { "" } else { "s" });
        if clock.is_empty() { threads } else { format!("{threads}, {clock}") }
    }

    pub(crate) fn view(&self) -> PlaneView {
        let (rate, p99) = self.senses.service();
        let cores = self.senses.cores();
        let delay = self.senses.sense().map_or(0.0, |s| s.worst_delay().1);
        let policy = match &self.config.policy {
            Policy::Energy => "energy",
            Policy::Consolidate => "consolidate",
            Policy::MinMax => "minmax",
            Policy::Static { .. } => "static",
            Policy::Pareto(_) => "pareto",
        };
        let state = match (&self.attached, self.silent) {
            (None, _) => "gone",
            (_, true) => "silent",
            _ => "serving",
        };
        PlaneView {
            name: self.config.name.clone(),
            about: self.attached.as_ref().map(|a| a.plane.about()).unwrap_or_default(),
            state: state.into(),
            policy: policy.into(),
            step: self.step(),
            position: self.attached.as_ref().map_or(0, |a| a.control.position()),
            steps: self.attached.as_ref().map_or(0, |a| a.control.ladder().steps().len()),
            slo_us: self.config.rules.slo_ns / 1000.0,
            limit_us: self.config.rules.limit_ns() / 1000.0,
            delay_us: delay / 1000.0,
            p99_us: p99.map(|ns| ns / 1000.0),
            rate,
            active: cores.iter().filter(|c| !c.parked).count(),
            violations: self.violations,
            seconds: self.seconds,
            reason: self.reason.clone(),
            cores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_asked_seldom() {
        for (took, wait) in [(0, 1000), (1, 1000), (100, 2000), (2000, 40_000), (10_000, 60_000)] {
            assert_eq!(pause(Nanos::from_millis(took)), Nanos::from_millis(wait), "after {took} ms");
        }
    }
}
