//! The four ways to schedule, on every core of this machine: the highest load whose p99 stays within ten service times, against the
//! model; how much is stolen; what the network costs; and that tiny tasks do not pay for it (thesis figures 3.8, 3.9, 3.13).
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the plan, the measuring |
//! | `model.rs` | predictions and bounds |
//! | `show.rs` | rows, tables and figures |
//! | `tiny.rs` | a store's requests |
//! | `stall.rs` | `bench stall` |

mod model;
mod show;
pub mod stall;
mod tiny;

use anyhow::Result;
use dataplane::Sched;
use load::draw::ServiceTimes;
use load::requests::{Spin, Workload};
use load::search::{Search, SearchConfig, Slo};
use sys::clock;
use units::Nanos;

use self::model::{Law, MODES, predicted};
use super::grid::{Extent, text, times};
use super::hunt;
use super::rig::{App, Counts, Rig, Shot, Stall};
use super::{Asked, Finding, alternate, finish, went_through};
use crate::stats::{Spread, median};
use crate::{Interrupted, Lab};

/// Mean service times in microseconds: large enough that the gaps of a virtual machine do not decide.
const TIMES: [u32; 2] = [50, 100];
/// The objective: p99 within so many of them.
const SLO: u32 = 10;
/// Loads at which p99 is told.
const TOLD: [f64; 2] = [0.5, 0.75];
/// Loads of the figure of steals, with this law and time.
const SWEEP: [f64; 8] = [0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const SWEPT: (Law, u32) = (Law::Exp, 50);
/// The search comes as close.
const PRECISION: f64 = 0.025;
/// Windows of a search: in the first round, in others.
const TRIES: [u32; 2] = [12, 6];
/// A window has so many service times per core at least.
const WORKS: u64 = 8000;
/// What starting a server for a window takes, and what a window that fails takes in addition.
const START: Nanos = Nanos::from_millis(350);
/// Loads of 1 us requests at which the network's cost is taken: with few frames at a time, and with some.
const COST_AT: [f64; 3] = [0.05, 0.2, 0.45];

/// What may be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// What the network costs per request.
    Network,
    /// The highest load at the objective.
    Maxima,
    /// p99 at fixed loads.
    Tails,
    /// Steals, lends and interrupts by load.
    Steals,
    /// A store's tiny tasks.
    Tiny,
}

impl Part {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Part; 5] = [Part::Network, Part::Maxima, Part::Tails, Part::Steals, Part::Tiny];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        ["network", "maxima", "tails", "steals", "tiny"][self as usize]
    }
}

/// How much of it.
struct Scope {
    parts: Vec<Part>,
    extent: Extent,
    times: &'static [u32],
    laws: &'static [Law],
    rounds: u32,
    tries: [u32; 2],
    asked: Asked,
    cores: Vec<usize>,
}

impl Scope {
    fn new(asked: &Asked, extent: Extent, parts: &[Part]) -> Result<Scope> {
        let tiny = extent == Extent::Tiny;
        Ok(Scope {
            parts: parts.to_vec(),
            extent,
            times: if tiny { &TIMES[..1] } else { &TIMES },
            laws: if tiny { &Law::ALL[1..2] } else { &Law::ALL },
            rounds: extent.rounds(asked),
            tries: if tiny { [1, 1] } else { TRIES },
            asked: asked.clone(),
            cores: sys::thread::allowed_cores()?,
        })
    }

    fn window(&self, us: u32) -> Nanos {
        match self.extent {
            Extent::Tiny => Nanos::from_millis(50),
            Extent::Full => self.asked.point.max(Nanos::from_micros(u64::from(us) * WORKS)),
        }
    }

    /// What one window takes.
    fn takes(&self, us: u32) -> Nanos {
        Lab::takes(self.window(us)) + START
    }

    /// What a search on all ways takes at most.
    fn search(&self, us: u32, round: u32) -> Nanos {
        times(self.takes(us), MODES.len() * self.tries[usize::from(round > 0)] as usize)
    }

    /// `span`, if the part is asked for.
    fn if_asked(&self, part: Part, span: Nanos) -> Nanos {
        if self.parts.contains(&part) { span } else { Nanos::ZERO }
    }

    /// What maxima and tails of one law and service time take at most.
    fn cell(&self, us: u32, round: u32) -> Nanos {
        let told = times(self.takes(us), MODES.len() * TOLD.len());
        self.if_asked(Part::Maxima, self.search(us, round)) + self.if_asked(Part::Tails, told)
    }

    fn sweep(&self) -> Nanos {
        self.if_asked(Part::Steals, times(self.takes(SWEPT.1), self.extent.of(&SWEEP).len() * MODES.len()))
    }

    fn network(&self) -> Nanos {
        self.if_asked(Part::Network, times(self.takes(1), COST_AT.len()))
    }

    fn tiny(&self, round: u32) -> Nanos {
        self.if_asked(Part::Tiny, tiny::takes(self, round))
    }

    fn total(&self) -> Nanos {
        let cells = |round| self.times.iter().fold(Nanos::ZERO, |sum, us| sum + self.cell(*us, round));
        let round = |round| times(cells(round), self.laws.len()) + self.sweep() + self.tiny(round);
        (0..self.rounds).fold(self.network(), |sum, r| sum + round(r))
    }
}

/// What was measured of one way with one law and service time.
pub(super) struct Cell {
    law: Law,
    us: u32,
    mode: usize,
    /// The highest load, by round; `None` when not even the lowest held the objective.
    max: Vec<Option<f64>>,
    confident: bool,
    /// p99 in service times at each of [`TOLD`], by round.
    told: [Vec<f64>; 2],
    /// Of those windows: what was counted per request at the second.
    counts: Vec<Counts>,
    /// Every window: load, p99 in service times.
    tried: Vec<hunt::Tried>,
}

/// A point of the sweep.
pub(super) struct Swept {
    mode: usize,
    load: f64,
    /// Steals, lends and interrupts per request, by round.
    steals: Vec<f64>,
    lends: Vec<f64>,
    interrupts: Vec<f64>,
}

/// All that was measured.
#[derive(Default)]
pub(super) struct Measured {
    cells: Vec<Cell>,
    swept: Vec<Swept>,
    /// The store, by wire and way.
    tiny: Vec<tiny::Cell>,
    /// The network's cost per request, by requests per second.
    network: Vec<(f64, Spread)>,
    errors: u64,
}

/// The most that the bench takes.
///
/// # Errors
/// The kernel does not tell which cores there are.
pub fn takes(asked: &Asked, extent: Extent) -> Result<Nanos> {
    Ok(Scope::new(asked, extent, &Part::ALL)?.total())
}

/// Runs these parts of the bench.
///
/// # Errors
/// The server does not start.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent, parts: &[Part]) -> Result<Finding> {
    let scope = Scope::new(asked, extent, parts)?;
    let mut measured = Measured::default();
    lab.progress.plan(scope.total());
    let through = went_through(measure(lab, &scope, &mut measured));
    lab.progress.clear();
    let through = through?;
    let mut document = finish(lab, "sched", "Ways to schedule, on all cores", asked, &[], through)?;
    show::fill(&mut document, &scope, &measured);
    let text = document.tables.iter().map(text).collect::<Vec<_>>().join("\n");
    Ok(Finding { document, text, errors: measured.errors, interrupted: !through })
}

fn measure(lab: &mut Lab, scope: &Scope, all: &mut Measured) -> Result<()> {
    let asked = |part| scope.parts.contains(&part);
    let mut done = Nanos::ZERO;
    if asked(Part::Network) {
        network(lab, scope, all)?;
        done += scope.network();
    }
    for round in 0..scope.rounds {
        let of = format!("round {} of {}", round + 1, scope.rounds);
        for (&us, &law) in scope.times.iter().flat_map(|us| scope.laws.iter().map(move |law| (us, law))) {
            lab.progress.part(&format!("sched: {}, S = {us} us, {of}", law.name()));
            if asked(Part::Maxima) {
                search(lab, scope, all, (law, us), round)?;
            }
            if asked(Part::Tails) {
                tell(lab, scope, all, (law, us), round)?;
            }
            done += scope.cell(us, round);
            lab.progress.to(done);
        }
        if asked(Part::Steals) {
            lab.progress.part(&format!("sched: steals by load, {of}"));
            sweep(lab, scope, all, round)?;
            done += scope.sweep();
            lab.progress.to(done);
        }
        if asked(Part::Tiny) {
            lab.progress.part(&format!("sched: a store, {of}"));
            tiny::measure(lab, scope, all, round)?;
            done += scope.tiny(round);
            lab.progress.to(done);
        }
    }
    Ok(())
}

fn work(law: Law, us: u32) -> Workload {
    let mean = Nanos::from_micros(u64::from(us));
    let of = [ServiceTimes::det, ServiceTimes::exp, ServiceTimes::bimodal1][law as usize];
    Workload::Spin(Spin::new(of(mean)))
}

/// One window of one way at a share of what the cores can do. The server is started for it: another one that idles beside
/// it would take its core.
fn shot(lab: &mut Lab, scope: &Scope, sched: Sched, (law, us): (Law, u32), load: f64) -> Result<Shot> {
    let mean = Nanos::from_micros(u64::from(us));
    let rig = Rig::start(sched, &scope.cores, &App::Spin(Stall::NEVER, mean), &work(law, us))?;
    let rate = load * scope.cores.len() as f64 * 1e6 / f64::from(us);
    lab.progress.say(&format!("sched: {sched}, {} of {us} us at {load:.2}", law.name()));
    let shot = rig.window(rate, load, scope.window(us))?;
    lab.noise.add(&shot.noise);
    Ok(shot)
}

fn cell(all: &mut Measured, (law, us): (Law, u32), mode: usize) -> &mut Cell {
    let at = all.cells.iter().position(|c| (c.law, c.us, c.mode) == (law, us, mode));
    let at = at.unwrap_or_else(|| {
        let told = [vec![], vec![]];
        all.cells.push(Cell { law, us, mode, max: vec![], confident: true, told, counts: vec![], tried: vec![] });
        all.cells.len() - 1
    });
    &mut all.cells[at]
}

/// The highest load of each way, window by window in turn.
fn search(lab: &mut Lab, scope: &Scope, all: &mut Measured, what: (Law, u32), round: u32) -> Result<()> {
    let (law, us) = what;
    let slo = Slo { quantile: 0.99, limit: Nanos::from_micros(u64::from(us * SLO)) };
    let full = scope.cores.len() as f64 * 1e6 / f64::from(us);
    let tries = scope.tries[usize::from(round > 0)];
    let mut searches: Vec<Search> = (0..MODES.len())
        .map(|mode| {
            let last = cell(all, what, mode).max.iter().rev().find_map(|m| *m);
            let start = last.or(predicted(scope.cores.len(), us, mode, law)).unwrap_or(0.5);
            let config = SearchConfig::new(slo, full * 0.03, full * 1.05);
            hunt::by_slices(&SearchConfig { start: Some(full * start), precision: PRECISION, tries, ..config })
        })
        .collect();
    let deadline = clock::now() + scope.search(us, round) + START;
    let mut going = true;
    while going {
        going = false;
        for mode in alternate(MODES.len(), round) {
            let Some(rate) = searches[mode].next().filter(|_| clock::now() < deadline) else { continue };
            going = true;
            let shot = shot(lab, scope, MODES[mode], what, rate / full)?;
            searches[mode].tell(rate, shot.vote(&slo));
            all.errors += shot.outcome.errors.wrong + shot.outcome.errors.broken;
            let tried = hunt::Tried {
                latency_us: shot.p99().0 as f64 / 1e3,
                ..hunt::Tried::new(rate, &shot.outcome, shot.void(), &slo)
            };
            cell(all, what, mode).tried.push(tried);
        }
    }
    for (mode, search) in searches.iter().enumerate() {
        let found = search.result();
        let cell = cell(all, what, mode);
        cell.max.push(found.max_rps.map(|rps| rps / full));
        cell.confident &= found.confident;
    }
    Ok(())
}

/// p99 at fixed loads.
fn tell(lab: &mut Lab, scope: &Scope, all: &mut Measured, what: (Law, u32), round: u32) -> Result<()> {
    for (i, load) in TOLD.into_iter().enumerate() {
        for mode in alternate(MODES.len(), round) {
            let shot = shot(lab, scope, MODES[mode], what, load)?;
            all.errors += shot.outcome.errors.wrong + shot.outcome.errors.broken;
            let cell = cell(all, what, mode);
            if !shot.void() {
                cell.told[i].push(shot.p99().0 as f64 / 1e3 / f64::from(what.1));
            }
            if i == 1 {
                cell.counts.push(shot.counts);
            }
        }
    }
    Ok(())
}

/// How much is stolen, lent and interrupted, by load.
fn sweep(lab: &mut Lab, scope: &Scope, all: &mut Measured, round: u32) -> Result<()> {
    for load in scope.extent.of(&SWEEP) {
        for mode in alternate(MODES.len(), round) {
            let shot = shot(lab, scope, MODES[mode], SWEPT, *load)?;
            let at = all.swept.iter().position(|s| s.mode == mode && s.load == *load).unwrap_or_else(|| {
                all.swept.push(Swept { mode, load: *load, steals: vec![], lends: vec![], interrupts: vec![] });
                all.swept.len() - 1
            });
            let swept = &mut all.swept[at];
            swept.steals.push(shot.per_request(shot.counts.steals));
            swept.lends.push(shot.per_request(shot.counts.lends));
            swept.interrupts.push(shot.per_request(shot.counts.interrupts));
        }
    }
    Ok(())
}

/// What the network costs per request: the time of turns that found something to do, less the application's, less the generator's.
fn network(lab: &mut Lab, scope: &Scope, all: &mut Measured) -> Result<()> {
    lab.progress.part("sched: cost of the network");
    let rig = Rig::start(Sched::Ix, &scope.cores, &App::Timed, &work(Law::Det, 1))?;
    for load in COST_AT {
        let rate = load * scope.cores.len() as f64 * 1e6;
        let (mut each, burst) = rig.network_us(rate, scope.window(1))?;
        let generator = openloop::cost(64, burst.round() as usize, Nanos::from_millis(50))?.own() / 1e3;
        each.iter_mut().for_each(|us| *us -= generator);
        each.sort_by(f64::total_cmp);
        // Quartiles, not the range: a piece in which the machine stood still says nothing about the network.
        let at = |q: f64| each.get((each.len() as f64 * q) as usize).copied();
        if let (Some(low), Some(high)) = (at(0.25), at(0.75)) {
            all.network.push((rate, Spread { median: median(each.iter().copied()), low, high }));
        }
    }
    if scope.extent == Extent::Full && rig.counter(0, |m| m.rx_forwarded_in.get()) > 0 {
        lab.notes
            .push("Frames came to queues that do not own their flows: the network's cost includes forwarding.".into());
    }
    if sys::stop::requested() {
        return Err(Interrupted.into());
    }
    Ok(())
}
