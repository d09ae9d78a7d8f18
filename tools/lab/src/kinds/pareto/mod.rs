//! What each configuration of this machine carries at the objective, and what it draws or leaves to others meanwhile (thesis section 2.5.3).
//!
//! ```text
//!   Host ── a configuration ──► clock; cpus ──► Rig: the dataplane on the open-loop NIC, work that takes as long as the hardware makes it
//!                                   └─ free ──► Job: counts            search: the highest load that keeps to the objective
//!                                                                      samples: at shares of it, watts and the job's work
//!   Explored ──► best: the frontier
//! ```
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the plan, the measuring |
//! | `choose.rs` | which configurations are measured |
//! | `host.rs` | [`Host`]: a configuration set, and taken back |
//! | `job.rs` | the background job |
//! | `frontier.rs` | [`best`]: what is worth having |
//!
//! Absent on purpose: tables for the control plane and pictures (`cli`), configurations of a modelled machine (crate `energy`).

mod choose;
mod frontier;
mod host;
mod job;

use anyhow::{Context, Result};
use dataplane::Sched;
use load::draw::ServiceTimes;
use load::requests::{Spin, Workload};
use load::search::{Found, SearchConfig, Slo};
use machine::State;
use spin::Work;
use sys::clock;
use units::Nanos;

pub use self::frontier::{Configuration, Objective, Sample, best};
pub use self::host::Host;
use self::job::Job;
use super::grid::times;
use super::rig::{App, Rig, Shot};
use super::{hunt, went_through};
use crate::measure::until;
use crate::noise::{Noise, Steal};
use crate::progress::Progress;
use crate::{Interrupted, Lab};

/// Shares of its maximum at which a configuration is looked at.
pub const SHARES: [f64; 3] = [0.1, 0.5, 0.9];
/// Cpus at most: more can have no queue.
pub const CPUS_MAX: usize = openloop::QUEUES_MAX as usize;
/// The search comes as close.
const PRECISION: f64 = 0.025;
/// Windows of a search.
const TRIES: u32 = 16;
/// Where the first search begins, and where all end at the least and the most: shares of what the model says of the hardware threads.
const START_AT: f64 = 0.7;
const LOWEST: f64 = 0.03;
const HIGHEST: f64 = 2.0;
/// Windows of a sample at most: those that noise has spoilt are taken again.
const SAMPLES: u32 = 4;
/// What starting a server for a window takes.
const START: Nanos = Nanos::from_millis(350);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the frontier is best at.
    pub objective: Objective,
    /// How long a request takes on a hardware thread that is alone on its core, at the nominal clock.
    pub time: ServiceTimes,
    /// p99 within this.
    pub slo: Nanos,
    /// Which core runs what.
    pub sched: Sched,
    /// The length of a window.
    pub point: Nanos,
    /// Configurations at most.
    pub most: usize,
}

impl Wanted {
    /// The background job runs beside it.
    fn has_job(&self) -> bool {
        self.objective == Objective::Consolidate
    }

    /// What a configuration takes at most.
    fn takes(&self) -> Nanos {
        times(Lab::takes(self.point) + START, TRIES as usize + SHARES.len())
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// In the order in which they were measured: each after all that have no less of anything.
    pub configurations: Vec<Configuration>,
    /// Why some were not measured, a sentence each.
    pub left_out: Vec<String>,
    /// Where watts are from: `rapl`, or `model NAME` (also if counters went on the way: see [`Host::lacks`]).
    pub source: String,
    /// Windows of load.
    pub windows: u32,
    /// Requests that were answered wrongly.
    pub errors: u64,
    /// How far the machine disturbed it.
    pub noise: report::Noise,
    /// It was ended early.
    pub interrupted: bool,
}

/// Measures configurations of this machine, from the largest down. SIGINT ends it; what there is by then is the result.
///
/// # Errors
/// The server does not start; not even the nominal clock can be set any more; memory or threads are not to be had.
pub fn explore(host: &mut Host, wanted: &Wanted) -> Result<Explored> {
    let chosen = choose::chosen(host.machine(), host.sets_clocks(), wanted.objective, wanted.most);
    let explored = Explored { left_out: chosen.left_out, ..Explored::default() };
    let steal = Steal::start()?;
    let mut rounds = Rounds {
        progress: Progress::new("pareto"),
        work: nominal(host)?,
        host,
        wanted,
        alone: 0.0,
        noise: Noise::default(),
        explored,
    };
    let through = rounds.all(&chosen.states);
    rounds.progress.clear();
    let through = went_through(through)?;
    let noise = rounds.noise;
    let noise = report::Noise {
        slices: noise.slices,
        discarded: noise.discarded,
        waited_ms: 0.0,
        stolen_share: steal.share()?,
        verdict: noise.verdict(&[]),
    };
    Ok(Explored { noise, interrupted: !through, source: rounds.host.source(), ..rounds.explored })
}

/// Work by the speed of the first cpu at the nominal clock.
fn nominal(host: &mut Host) -> Result<Work> {
    let step = host.machine().clocks_mhz().count() - 1;
    let state = State { cores: 1, threads: 1, clock: machine::Clock::Step(step) };
    host.set(&state)?;
    let cpu = host.cpus(&state).first().copied().context("there is no cpu")?;
    let measured = std::thread::spawn(move || sys::thread::pin(cpu).map(|()| Work::measured()));
    Ok(measured.join().map_err(|_| anyhow::anyhow!("the speed of cpu {cpu} was not to be measured"))??)
}

/// The measuring.
struct Rounds<'a> {
    host: &'a mut Host,
    wanted: &'a Wanted,
    progress: Progress,
    work: Work,
    /// What the job does alone on all cpus, in seconds of work a second.
    alone: f64,
    noise: Noise,
    explored: Explored,
}

impl Rounds<'_> {
    fn all(&mut self, states: &[State]) -> Result<()> {
        self.progress.plan(times(self.wanted.takes(), states.len()));
        if self.wanted.has_job() {
            self.progress.part("the background job alone");
            self.alone = self.job_alone()?;
        }
        for (i, state) in states.iter().enumerate() {
            self.progress.part(&format!("{state} ({} of {})", i + 1, states.len()));
            if let Some(found) = self.one(state)? {
                self.explored.configurations.push(found);
            }
            self.progress.to(times(self.wanted.takes(), i + 1));
        }
        self.again(states.len())
    }

    /// A second time those of which the machine was too busy to tell anything: perhaps it is not any more.
    fn again(&mut self, done: usize) -> Result<()> {
        let all = &self.explored.configurations;
        let unknown: Vec<usize> = (0..all.len()).filter(|i| all[*i].is_unknown()).collect();
        self.progress.plan(times(self.wanted.takes(), done + unknown.len()));
        for (n, i) in unknown.into_iter().enumerate() {
            let state = self.explored.configurations[i].state;
            self.progress.part(&format!("{state}, again"));
            if let Some(found) = self.one(&state)? {
                self.explored.configurations[i] = found;
            }
            self.progress.to(times(self.wanted.takes(), done + n + 1));
        }
        Ok(())
    }

    /// On all cpus, at the nominal clock that has been set.
    fn job_alone(&mut self) -> Result<f64> {
        let job = Job::start(&self.host.all(), self.work)?;
        let (begun, before) = (clock::now(), job.done());
        until(begun + self.wanted.point);
        let elapsed = clock::now() - begun;
        if sys::stop::requested() {
            return Err(Interrupted.into());
        }
        Ok((job.done() - before).as_secs_f64() / elapsed.as_secs_f64())
    }

    /// One configuration: its maximum, and what it draws or leaves at shares of that. The job runs all the time, for neighbours share caches and power. `None`, and a
    /// sentence, where its clock is refused.
    fn one(&mut self, state: &State) -> Result<Option<Configuration>> {
        if let Err(e) = self.host.set(state) {
            self.explored.left_out.push(format!("{state}: {e}"));
            return Ok(None);
        }
        let free = if self.wanted.has_job() { self.host.free(state) } else { Vec::new() };
        let job = Job::start(&free, self.work)?;
        let known = |sure: bool| -> Vec<(State, f64)> {
            let of = self.explored.configurations.iter().filter(|c| c.confident || !sure);
            of.filter_map(|c| Some((c.state, c.rps?))).collect()
        };
        let bound = choose::bound(state, &known(true));
        let guess = choose::guess(self.host.machine(), state, &known(false));
        let found = self.search(state, bound, guess, &job)?;
        let mut samples = Vec::new();
        if let Some(most) = found.max_rps {
            for share in SHARES {
                samples.push(self.sample(state, share * most, &free, &job)?);
            }
        }
        Ok(Some(Configuration { state: *state, rps: found.max_rps, confident: found.confident, bound, samples }))
    }

    /// What its hardware threads can do in a second, by the model.
    fn full(&self, state: &State) -> f64 {
        self.host.machine().capacity(state) * 1e9 / self.wanted.time.mean().0.max(1) as f64
    }

    fn search(&mut self, state: &State, bound: Option<f64>, guess: Option<f64>, job: &Job) -> Result<Found> {
        let full = self.full(state);
        let slo = Slo { quantile: 0.99, limit: self.wanted.slo };
        let high = bound.unwrap_or(HIGHEST * full);
        let config = SearchConfig {
            start: Some(guess.unwrap_or(START_AT * full)),
            precision: PRECISION,
            tries: TRIES,
            ..SearchConfig::new(slo, (LOWEST * full).min(high), high)
        };
        let mut search = hunt::by_slices(&config);
        while let Some(rate) = search.next() {
            let watched = self.shot(state, rate, job)?;
            search.tell(rate, watched.shot.vote(&slo));
        }
        Ok(search.result())
    }

    /// One window. The server is started for it: what an overload has left in it is gone.
    fn shot(&mut self, state: &State, rate: f64, job: &Job) -> Result<Watched> {
        let Wanted { sched, time, point, .. } = self.wanted;
        let workload = Workload::Spin(Spin::new(time.clone()));
        self.progress.say(&format!("{state} at {rate:.0} requests/s"));
        let rig = Rig::start(*sched, &self.host.cpus(state), &App::Work(self.work, time.mean()), &workload)?;
        let (load, host, mut edges) = (rate / self.full(state), &mut *self.host, Vec::new());
        let shot = rig.watched(rate, load, *point, || {
            edges.push(Edge { at: clock::now(), done: job.done(), watts: host.counted_w() });
        })?;
        self.noise.add(&shot.noise);
        self.explored.windows += 1;
        self.explored.errors += shot.outcome.errors.wrong + shot.outcome.errors.broken;
        Ok(Watched { shot, edges })
    }

    /// Power, and the job's work, at a load.
    fn sample(&mut self, state: &State, rps: f64, free: &[usize], job: &Job) -> Result<Sample> {
        let mut watched = self.shot(state, rps, job)?;
        for _ in 1..SAMPLES {
            if !watched.shot.void() {
                break;
            }
            watched = self.shot(state, rps, job)?;
        }
        let Watched { shot, edges } = watched;
        let threads = self.host.cpus(state).len();
        let busy = (shot.counts.busy.as_secs_f64() / (self.wanted.point.as_secs_f64() * threads as f64)).min(1.0);
        let background = match &edges[..] {
            [opens, closes] if self.alone > 0.0 => {
                let rate = (closes.done - opens.done).as_secs_f64() / (closes.at - opens.at).as_secs_f64();
                Some(rate / self.alone)
            }
            _ => None,
        };
        let counted = edges.last().and_then(|closes| closes.watts);
        let watts = counted.unwrap_or_else(|| self.host.modelled_w(state, busy, free));
        Ok(Sample { rps, p99_us: shot.p99().0 as f64 / 1e3, busy, watts, background, noisy: shot.void() })
    }
}

/// A window, and what was read as it opened and as it closed.
struct Watched {
    shot: Shot,
    edges: Vec<Edge>,
}

struct Edge {
    at: Nanos,
    /// By the job, so far.
    done: Nanos,
    /// Since the edge before, if they are counted.
    watts: Option<f64>,
}
