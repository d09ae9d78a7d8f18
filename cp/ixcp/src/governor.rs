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
/// After it was found, before the first decision: what was before says little of what is.
const SETTLE: Nanos = Nanos::from_secs(1);
/// After a command that was refused, before the next one.
const AFTER_REFUSAL: Nanos = Nanos::from_secs(1);
/// After flow groups were moved, before others are.
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
    /// Not before then is it given a command again.
    not_before: Nanos,
    /// And not before then are its cores evened out again.
    balance_from: Nanos,
    told_gone: bool,
    reason: String,
    violations: u64,
    seconds: u64,
    missing: bool,
    non_responsive: u64,
    /// There were such calls in the last second, and it was told when that began.
    unresponsive: bool,
    silent: bool,
    /// What a killed control plane has found, if it is still the same process.
    left: Option<Found>,
}

struct Attached {
    plane: Box<dyn Plane>,
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
            told_gone: false,
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
            if now < self.next_look {
                return;
            }
            self.next_look = now + LOOK_AGAIN;
            match attach(&self.config.name).map_err(|e| e.to_string()).and_then(|plane| self.take(plane, host)) {
                Ok(text) => journal.add(&self.config.name, Kind::Attached, &self.step(), text),
                Err(text) if !self.told_gone => journal.add(&self.config.name, Kind::Gone, "", text),
                Err(_) => {}
            }
            self.told_gone = self.attached.is_none();
            return;
        }
        let Some(attached) = &mut self.attached else { return };
        if attached.plane.has_ended() {
            return self.lose("it has ended", now, journal);
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
        self.attached = None;
        self.told_gone = true;
        self.senses.forget();
        self.next_look = now + LOOK_AGAIN;
    }

    /// A dataplane was found: what it is, where its threads are, and the ladder for that.
    fn take(&mut self, mut plane: Box<dyn Plane>, host: &Host) -> Result<String, String> {
        let snapshot = plane.snapshot().map_err(|e| e.to_string())?;
        let pinned: Vec<Option<usize>> = snapshot.cores.iter().map(|c| c.cpu.map(|cpu| cpu as usize)).collect();
        let threads: Vec<_> = snapshot.cores.iter().map(|c| (c.parked, c.cpu)).collect();
        let now = Found { name: self.config.name.clone(), pid: snapshot.header.pid, threads };
        let same = |left: &Found| (&left.name, left.pid, left.threads.len()) == (&now.name, now.pid, now.threads.len());
        let found = self.left.take().filter(same).unwrap_or(now);
        let places = plan::places(self.config.cpus.as_deref(), &pinned, host.topology());
        let cpus: Vec<usize> = places.iter().flatten().copied().collect();
        let topology = host.topology().only(&cpus).map_err(|e| e.to_string())?;
        let machine = host.machine(&topology);
        let ladder = plan::ladder(&self.config.policy, &machine).map_err(|e| e.to_string())?;
        let homeless = places.iter().filter(|p| p.is_none()).count();
        let text = match homeless {
            0 => format!("{}; {} elastic threads on cpus {}", plane.about(), places.len(), crate::host::list(&cpus)),
            n => format!("{} elastic threads, but {} cpus for them: {n} stay parked", places.len(), cpus.len()),
        };
        let control = Loop::new(self.config.rules.clone(), ladder);
        self.senses.forget();
        self.balance_from = Nanos::ZERO;
        self.non_responsive = snapshot.cores.iter().map(|c| c.non_responsive).sum();
        let decide_from = snapshot.at + SETTLE;
        self.senses.see(snapshot);
        self.attached = Some(Attached { plane, control, topology, machine, places, decide_from, found });
        Ok(text)
    }

    /// Decides. What changes is told.
    pub(crate) fn decide(&mut self, journal: &mut Journal) {
        let Some(attached) = self.attached.as_mut().filter(|_| !self.silent) else { return };
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
        let clock = step.state.clock;
        let active = self.active()?;
        let in_use: Vec<usize> = (0..places.len()).filter(|i| active[*i]).filter_map(|i| places[i]).collect();
        let of = |cpu: &usize| topology.get(*cpu).map(|c| (c.core, c.thread));
        let mut cores: Vec<usize> = in_use.iter().filter_map(of).map(|(core, _)| core).collect();
        cores.sort_unstable();
        cores.dedup();
        let speed = match clock {
            Clock::Turbo => Speed::Turbo,
            Clock::Step(_) => Speed::Mhz(machine.mhz(&step.state)),
        };
        let busy = self.senses.cores();
        let serving: Vec<f64> = busy.iter().filter(|c| !c.parked).map(|c| c.load).collect();
        Some(Uses {
            cpus: topology.cpus().iter().map(|c| c.cpu).collect(),
            background: step.background,
            speed,
            cores: cores.len(),
            threads: in_use.len().div_ceil(cores.len().max(1)),
            clock,
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
        let Some(attached) = &mut self.attached else { return };
        let mut commands = Vec::new();
        for (i, core) in snapshot.cores.iter().enumerate() {
            let place = attached.places[i].map(|cpu| cpu as u32);
            if active[i] && place.is_some() && core.cpu != place {
                commands.push(Command::Pin { core: i as u16, cpu: place });
            }
        }
        let wrong = |parked: bool| {
            let cores = snapshot.cores.iter().zip(&active).enumerate();
            cores.filter(move |(_, (core, on))| core.parked == parked && **on == parked).map(|(i, _)| i as u16)
        };
        commands.extend(wrong(true).map(|core| Command::Unpark { core }));
        commands.extend(wrong(false).map(|core| Command::Park { core }));
        for command in commands {
            match attached.plane.command(&command) {
                Ok(_) => {}
                Err(AttachError::Refused(refusal)) if refusal.code == "parked" || refusal.code == "not-parked" => {}
                Err(e) => {
                    self.not_before = now + AFTER_REFUSAL;
                    let what = serde_json::to_string(&command).unwrap_or_default();
                    return journal.add(&self.config.name, Kind::Trouble, "", format!("{what}: {e}"));
                }
            }
        }
    }

    /// Evens out the load of its cores by moving flow groups: at most once a second.
    pub(crate) fn balance(&mut self, now: Nanos, journal: &mut Journal) {
        if self.silent || now < self.not_before.max(self.balance_from) {
            return;
        }
        let groups = self.senses.groups();
        let Some(snapshot) = self.senses.last() else { return };
        let of = |(i, c): (usize, &attach::CoreSnapshot)| (!c.parked).then_some(units::CoreId(i as u16));
        let active: Vec<units::CoreId> = snapshot.cores.iter().enumerate().filter_map(of).collect();
        // Frames of a second.
        let total = groups.iter().map(|g| g.load).sum::<f64>();
        let evened = (total >= LOAD_LEAST).then(|| policy::even_out(&groups, &active, total)).flatten();
        let (Some(evened), Some(attached)) = (evened, self.attached.as_mut()) else { return };
        self.balance_from = now + AFTER_MOVES;
        let count: usize = evened.moves.iter().map(|(set, _)| set.len()).sum();
        let (before, after) = (100.0 * evened.fullest.0, 100.0 * evened.fullest.1);
        for (set, to) in evened.moves {
            let command = Command::Move { groups: abi::GroupList(set), to: to.0 };
            if let Err(e) = attached.plane.command(&command) {
                self.not_before = now + AFTER_REFUSAL;
                return journal.add(&self.config.name, Kind::Trouble, "", format!("moving {count} flow groups: {e}"));
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

    /// Leaves it as it was found: threads that it had serve again, where they were. It need not succeed: a dataplane that is gone needs nothing.
    pub(crate) fn leave(&mut self) -> Vec<String> {
        let Some(mut attached) = self.attached.take().filter(|_| !self.silent) else { return Vec::new() };
        let Ok(snapshot) = attached.plane.snapshot() else { return Vec::new() };
        let mut wrong = Vec::new();
        for (i, (core, (parked, cpu))) in snapshot.cores.iter().zip(&attached.found.threads).enumerate() {
            let number = i as u16;
            let back = (core.cpu != *cpu).then_some(Command::Pin { core: number, cpu: *cpu });
            let unpark = (core.parked && !parked).then_some(Command::Unpark { core: number });
            for command in back.into_iter().chain(unpark) {
                if let Err(e) = attached.plane.command(&command) {
                    wrong.push(format!("{}: core {i}: {e}", self.config.name));
                }
            }
        }
        wrong
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
