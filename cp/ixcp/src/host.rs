use std::path::PathBuf;

use actuate::{ActuateError, Clocks, Hierarchies, Job, Knobs, Rapl, Speed, Topology, Tree, show_cpus};
use machine::{Clock, Machine, State};
use units::Nanos;

use crate::config::{Config, JobConfig};
use crate::plan;
use crate::view::JobView;

/// After clocks were refused, before they are asked for again.
const AFTER_REFUSAL: Nanos = Nanos::from_secs(1);

/// The machine: what it has, and who has what of it.
pub(crate) struct Host {
    knobs: Knobs,
    topology: Topology,
    clocks: Option<Clocks>,
    rapl: Option<Rapl>,
    model: Machine,
    jobs: Vec<Background>,
    lacks: Vec<String>,
    dry_run: bool,
    /// What was asked of clocks last: it is not asked again, unless it was refused, and not before then.
    asked: Vec<(Vec<usize>, Speed)>,
    ask_again: Option<Nanos>,
}

struct Background {
    config: JobConfig,
    job: Job,
    /// CPU time at the last reading, and the share that it meant.
    used_ns: u64,
    share: f64,
}

/// What a model of power needs to know.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Busy {
    /// Cores in use, by dataplanes and background jobs.
    pub(crate) cores: usize,
    /// Hardware threads of each.
    pub(crate) threads: usize,
    /// The clock.
    pub(crate) clock: Clock,
    /// The share of their time in which they work.
    pub(crate) utilization: f64,
}

impl Host {
    /// Looks at the machine. What it lacks becomes lines, and the rest goes on.
    ///
    /// # Errors
    /// Not even its cpus can be read, or one that the configuration names is not there.
    pub(crate) fn open(
        config: &Config,
        tree: Tree,
        record: Option<PathBuf>,
        dry_run: bool,
    ) -> Result<Host, ActuateError> {
        let mut lacks = Vec::new();
        let mut topology = Topology::read(&tree)?;
        if !config.siblings {
            topology = topology.flat();
        }
        for plane in &config.dataplanes {
            topology.only(plane.cpus.as_deref().unwrap_or_default())?;
        }
        for job in &config.background {
            topology.only(job.cpus.as_deref().unwrap_or_default())?;
        }
        let all: Vec<usize> = topology.cpus().iter().map(|c| c.cpu).collect();
        let mut told = |what: &str, e: ActuateError| lacks.push(format!("{what}: {e}"));
        let clocks = match config.clocks {
            true => Clocks::open(&tree, &all).map_err(|e| told("clocks stay as they are", e)).ok(),
            false => None,
        };
        let rapl = Rapl::open(&tree, sys::clock::now());
        let rapl = rapl.map_err(|e| told("power is that of a model", e)).ok();
        let steps = clocks.as_ref().map(Clocks::steps_mhz).unwrap_or_default();
        let own = plan::machine(&topology, &steps, clocks.as_ref().is_some_and(Clocks::has_turbo));
        // The text of our own machine is ours; should it ever be wrong, there is the thesis's.
        let own = own.or_else(|_| Machine::builtin("e5-2665"));
        let model = config.model.clone().or_else(|| own.ok());
        let Some(model) = model else { return Err(ActuateError::Missing("a model of this machine".into())) };
        let knobs = Knobs::new(tree, record);
        Ok(Host {
            knobs,
            topology,
            clocks,
            rapl,
            model,
            jobs: Vec::new(),
            lacks,
            dry_run,
            asked: Vec::new(),
            ask_again: None,
        })
    }

    /// Starts the background jobs, or takes them over; they are frozen until they are given cpus. One that cannot be is a line, and the others go on.
    pub(crate) fn start_jobs(&mut self, jobs: &[JobConfig]) {
        if self.dry_run {
            return;
        }
        let found = Hierarchies::find(self.knobs.tree());
        for config in jobs {
            let taken = Job::take(&mut self.knobs, &found, &config.name, &config.source, &mut self.lacks);
            match taken {
                Ok(mut job) => {
                    if let Err(e) = job.give(&mut self.knobs, &[]) {
                        self.lacks.push(format!("background job {}: {e}", config.name));
                    }
                    let used_ns = job.cpu_ns(&self.knobs);
                    self.jobs.push(Background { config: config.clone(), job, used_ns, share: 0.0 });
                }
                Err(e) => self.lacks.push(format!("background job {}: {e}", config.name)),
            }
        }
    }

    /// What this machine lacks, a line each.
    pub(crate) fn lacks(&self) -> &[String] {
        &self.lacks
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What this machine is called: as the model that the configuration names, if it names one.
    pub(crate) fn name(&self) -> &str {
        self.model.name()
    }

    /// The machine that these cpus are.
    pub(crate) fn machine(&self, topology: &Topology) -> Machine {
        let steps = self.clocks.as_ref().map(Clocks::steps_mhz).unwrap_or_default();
        let turbo = self.clocks.as_ref().is_some_and(Clocks::has_turbo);
        plan::machine(topology, &steps, turbo).unwrap_or_else(|_| self.model.clone())
    }

    /// Sets the clocks of cpus; those that nobody wants are as they were found. What was refused is asked again after a second.
    pub(crate) fn set_clocks(&mut self, now: Nanos, wanted: Vec<(Vec<usize>, Speed)>) -> Result<(), ActuateError> {
        let Some(clocks) = self.clocks.as_ref().filter(|_| !self.dry_run) else { return Ok(()) };
        if self.asked == wanted && self.ask_again.is_none_or(|then| now < then) {
            return Ok(());
        }
        let result = clocks.set_all(&mut self.knobs, &wanted);
        self.ask_again = result.is_err().then(|| now + AFTER_REFUSAL);
        self.asked = wanted;
        result
    }

    /// The clock of these cpus in MHz, where it can be read.
    pub(crate) fn clock_mhz(&self, cpus: &[usize]) -> Option<f64> {
        self.clocks.as_ref()?.now_mhz(self.knobs.tree(), cpus)
    }

    /// Background jobs may run on `free`, and nowhere else. Answers what could not be done.
    pub(crate) fn give(&mut self, free: &[usize]) -> Vec<String> {
        let mut wrong = Vec::new();
        for background in &mut self.jobs {
            let may = |cpu: &&usize| background.config.cpus.as_ref().is_none_or(|only| only.contains(cpu));
            let cpus: Vec<usize> = free.iter().filter(may).copied().collect();
            if let Err(e) = background.job.give(&mut self.knobs, &cpus) {
                wrong.push(format!("background job {}: {e}", background.job.name()));
            }
        }
        wrong
    }

    /// Reads the accounts of background jobs; `elapsed` is the time since they were read last. Jobs that have ended since are named.
    pub(crate) fn account(&mut self, elapsed: Nanos) -> Vec<String> {
        let mut ended = Vec::new();
        let all = (self.topology.cpus().len().max(1) as f64) * elapsed.0.max(1) as f64;
        for background in &mut self.jobs {
            let used = background.job.cpu_ns(&self.knobs);
            background.share = used.saturating_sub(background.used_ns) as f64 / all;
            background.used_ns = used;
            if background.job.look(&self.knobs) {
                ended.push(format!("background job {} has ended", background.job.name()));
            }
        }
        ended
    }

    pub(crate) fn jobs(&self) -> Vec<JobView> {
        let view = |b: &Background| JobView {
            name: b.job.name().to_owned(),
            cpus: b.job.has().unwrap_or_default().to_vec(),
            gone: b.job.is_gone(),
            share: b.share,
        };
        self.jobs.iter().map(view).collect()
    }

    /// Watts since the last call, and where that is from.
    pub(crate) fn power(&mut self, now: Nanos, busy: Busy) -> (Option<f64>, String) {
        if let Some(rapl) = &mut self.rapl {
            match rapl.watts(self.knobs.tree(), now) {
                Ok(watts) => return (watts, "rapl".into()),
                Err(e) => {
                    self.lacks.push(format!("power is that of a model: {e}"));
                    self.rapl = None;
                }
            }
        }
        let state = State { cores: busy.cores, threads: busy.threads, clock: busy.clock };
        (Some(self.model.power_w(&state, busy.utilization)), format!("model {}", self.model.name()))
    }

    /// Takes back all that was changed.
    pub(crate) fn restore(&mut self) -> Vec<ActuateError> {
        self.knobs.restore()
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let clocks = self.clocks.as_ref().map_or("clocks are left alone".into(), Clocks::how);
        let jobs: Vec<&str> = self.jobs.iter().map(|b| b.job.name()).collect();
        let jobs =
            if jobs.is_empty() { "no background jobs".into() } else { format!("background: {}", jobs.join(", ")) };
        format!("{}; {clocks}; {jobs}", self.topology)
    }
}

/// Cpus as people read them; none: `-`.
pub(crate) fn list(cpus: &[usize]) -> String {
    if cpus.is_empty() { "-".into() } else { show_cpus(cpus) }
}
