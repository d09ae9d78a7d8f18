//! `zygix pareto`: what each configuration carries at the objective, and which of them are worth having (thesis section 2.5.3, figures 2.8 and 2.9); of this machine, measured,
//! or of a modelled one.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the command line; a frontier, and the policy that follows from it |
//! | `sim.rs` | configurations of a modelled machine |
//! | `live.rs` | configurations of this one |
//! | `show.rs` | tables and figures |

mod live;
mod show;
mod sim;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use energy::Point as Best;
use lab::kinds::pareto::Objective;
use machine::{Machine, State};
use policy::{Entry, Table as Policy};
use serde_json::{Map, Value, json};

use crate::Usage;
use crate::energy::write;
use live::Live;
use show::Words;

#[derive(Args, Debug)]
pub(crate) struct Pareto {
    /// In the simulator: a modelled machine, instead of measuring this one
    #[arg(long)]
    pub(crate) sim: bool,

    /// With --sim: e5-2665, generic:N, or a TOML file [default: e5-2665]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) machine: Option<String>,

    /// What the frontier is best at: energy, or background throughput
    #[arg(long, value_name = "NAME", value_parser = ["energy", "consolidate"], default_value = "energy")]
    objective: String,

    /// Loads at which configurations are compared
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) loads: u32,

    /// Write the policy that follows from the frontier to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// File figures in DIR, and draw all results that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    live: Live,
}

impl Pareto {
    fn objective(&self) -> Objective {
        if self.objective == "energy" { Objective::Energy } else { Objective::Consolidate }
    }
}

/// `zygix pareto`.
pub(crate) fn run(args: &Pareto) -> Result<()> {
    match (args.sim, args.live.given(), &args.machine) {
        (true, Some(option), _) => {
            Err(Usage(format!("{option} is about this machine's measurement: leave --sim or {option} out")).into())
        }
        (true, None, name) => sim::run(args, name.as_deref().unwrap_or("e5-2665")),
        (false, _, Some(_)) => {
            Err(Usage("--machine names a model: add --sim; without, this machine is measured".into()).into())
        }
        (false, _, None) => live::run(args),
    }
}

/// A configuration with what it carries, and what that is worth.
struct Static {
    state: State,
    /// Requests per second at the objective.
    carries: f64,
    /// Whether it leaves something for background jobs.
    leaves: bool,
    /// Load and value (watts, or the background's share), ascending in load.
    line: Vec<(f64, f64)>,
}

/// A frontier, and what it was found among.
struct Found<'a> {
    machine: &'a Machine,
    objective: Objective,
    statics: Vec<Static>,
    frontier: Vec<Best>,
    /// The same where nothing but the clock is changed.
    clock_only: Vec<Best>,
}

impl<'a> Found<'a> {
    /// The best at `loads` loads up to `most`, of all configurations and (`true`) of those that use all cores and threads.
    fn new(
        machine: &'a Machine,
        objective: Objective,
        statics: Vec<Static>,
        (most, loads): (f64, u32),
        best: impl Fn(bool, f64) -> Option<Best>,
    ) -> Found<'a> {
        let sweep = |clock_only: bool| -> Vec<Best> {
            (1..=loads).filter_map(|i| best(clock_only, most * f64::from(i) / f64::from(loads))).collect()
        };
        let (frontier, clock_only) = (sweep(false), sweep(true));
        Found { machine, objective, statics, frontier, clock_only }
    }

    /// The configurations of the frontier, each once, by the load at which they are first worth having.
    fn distinct(&self) -> Vec<&Static> {
        let mut found: Vec<&Static> = Vec::new();
        for p in &self.frontier {
            if !found.iter().any(|s| s.state == p.state) {
                found.extend(self.statics.iter().find(|s| s.state == p.state));
            }
        }
        found
    }

    /// The frontier as a policy. Heuristic: a configuration that carries less than 1 % more than the one before is left out, for it would be passed through at once.
    fn table(&self) -> Policy {
        let consolidate = self.objective == Objective::Consolidate;
        let entry = |s: &Static| Entry { state: s.state, background: consolidate && s.leaves, load: s.carries };
        let mut entries: Vec<Entry> = self.distinct().into_iter().map(entry).collect();
        entries.sort_by(|a, b| a.load.total_cmp(&b.load));
        let top = entries.last().map_or(0.0, |e| e.load);
        let mut steps: Vec<Entry> = Vec::new();
        for entry in entries {
            let more = steps.last().is_none_or(|last| entry.load >= last.load * 1.01);
            if more || (entry.load >= top && steps.last().is_some_and(|last| entry.load > last.load)) {
                steps.push(entry);
            }
        }
        Policy { name: "pareto".into(), machine: self.machine.name().to_owned(), steps }
    }

    /// What every result has; `configurations` say more of each.
    fn object(&self, configurations: Vec<Value>) -> Map<String, Value> {
        let point = |p: &Best| json!({"rps": p.rps, "state": p.state.to_string(), "value": p.value});
        let points = |all: &[Best]| Value::from(all.iter().map(point).collect::<Vec<_>>());
        let fields = [
            ("machine", json!(self.machine.name())),
            ("objective", json!(self.objective.name())),
            ("configurations", configurations.into()),
            ("frontier", points(&self.frontier)),
            ("dvfs_only", points(&self.clock_only)),
            ("policy", json!(self.table().to_string())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Writes what is asked for.
    fn file(&self, args: &Pareto, object: Map<String, Value>, words: &Words) -> Result<()> {
        if let Some(path) = args.policy.as_ref().filter(|_| !words.no_policy) {
            let text = self.table().to_string();
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(path) = &args.json {
            write(path, &object.into())?;
        }
        if let Some(dir) = &args.out {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let document = show::document(self, words);
            write(&dir.join(format!("{}.json", document.kind)), &serde_json::to_value(document)?)?;
            crate::report::draw(dir, &dir.join("index.html"))?;
        }
        Ok(())
    }
}
