//! `zygix load`: load on a server, measured; a table for people, one JSON object for programs.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `plan.rs` | what it means: what is asked, over what, in which windows; what makes no sense |
//! | `client.rs` | who makes the load: threads here, on sockets or on our own stack; or agents elsewhere |
//! | `measure.rs` | one window, a sweep, a search, a ping-pong |
//! | `progress.rs` | a bar, or a line now and then |
//! | `table.rs`, `json.rs` | what came of it |
//! | `agent.rs` | `zygix load agent` |
//!
//! Exit codes: 0 fine; 1 errors, or no server; 2 usage; 3 saturated, or objective not met; 130 interrupted (the results so
//! far are printed and written).

pub(crate) mod args;

mod agent;
mod client;
mod json;
mod measure;
mod plan;
mod progress;
mod table;

use std::fmt;
use std::io::Write;

use anyhow::Context;
use load::Outcome;
use load::search::Slo;

use args::{Load, What};
use measure::Report;
use plan::{Plan, Task};

/// The run is over and its results are out; this is what there is to say about it, with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) code: u8,
    line: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Verdict {}

/// `zygix load`.
pub(crate) fn run(load: &Load) -> anyhow::Result<()> {
    let plan = match &load.what {
        What::Kv(args) => Plan::kv(args)?,
        What::Echo(args) => Plan::echo(args)?,
        What::Spin(args) => Plan::spin(args)?,
        What::Pingpong(args) => Plan::pingpong(args)?,
        What::Agent(args) => return agent::run(args),
    };
    sys::stop::install();
    let Some(report) = measure::run(&plan)? else {
        return Err(Verdict { code: 130, line: "interrupted before anything was measured".into() }.into());
    };
    let mut out = std::io::stdout().lock();
    // Whoever closed it does not want to know.
    let _ = writeln!(out, "{}", table::table(&plan, &report)).and_then(|()| out.flush());
    if let Some(path) = &plan.json {
        let object = json::object(&plan, &report);
        std::fs::write(path, format!("{object:#}\n")).with_context(|| format!("--json {}", path.display()))?;
    }
    match verdict(&plan, &report) {
        Some((code, line)) => Err(Verdict { code, line }.into()),
        None => Ok(()),
    }
}

/// The exit code and a line, unless all is well. An interruption comes first, then errors, then figures that are not what was asked.
fn verdict(plan: &Plan, report: &Report) -> Option<(u8, String)> {
    let o = &report.main.outcome;
    if sys::stop::requested() || o.interrupted {
        return Some((130, "interrupted: these are the results so far".into()));
    }
    let missing = report.main.agents.iter().filter(|a| !a.ok).count();
    if missing > 0 {
        return Some((1, format!("{missing} agent(s) did not do their part")));
    }
    let saturated = o.saturated();
    // Without replies because it could do no more: that is told by the next code.
    let late = if saturated.is_some() { o.errors.unanswered } else { 0 };
    if o.errors.total() > late || o.errors.broken > 0 {
        return Some((1, o.errors.to_string()));
    }
    if o.completed == 0 && o.answered_in_window == 0 {
        return Some((1, "no request was answered".into()));
    }
    match (&plan.task, &report.found) {
        (_, Some(found)) if found.found.max_rps.is_none() => Some((3, format!("{} is not met at any rate", found.slo))),
        (Task::FindMax { .. } | Task::Sweep { .. }, _) => None,
        _ => match (saturated, &plan.slo) {
            (Some(side), _) => Some((3, format!("saturated: the {} could do no more", side.name()))),
            (None, Some(slo)) if !holds(slo, o) => Some((3, format!("{slo} is not met"))),
            _ => None,
        },
    }
}

/// Whether a window met the objective.
fn holds(slo: &Slo, o: &Outcome) -> bool {
    o.completed > 0 && o.quantile(slo.quantile) <= slo.limit
}
