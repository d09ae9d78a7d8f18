//! `cargo xtask lint`: what can be said of the sources without running them.

use std::path::Path;

use anyhow::{Result, bail};

use crate::steps::{self, Step};
use crate::workspace::Workspace;
use crate::{layers, shell, tidy};

const STEPS: [Step<Workspace>; 4] = [
    Step::new("tidy", |w, _| tidy::check(w)),
    Step::new("layers", |w, _| layers::check(w)),
    Step::new("format", |w, _| format(w, &w.scratch()?)),
    Step::new("clippy", |w, _| clippy(w, &w.scratch()?)),
];

/// Runs them all.
pub(crate) fn run() -> Result<()> {
    steps::run_all("lint", &STEPS, None, &mut Workspace::load()?)
}

/// Every crate is formatted as rustfmt would.
pub(crate) fn format(workspace: &Workspace, logs: &Path) -> Result<()> {
    let log = logs.join("format.log");
    let Err(why) = shell::run(&mut workspace.cargo(&["fmt", "--all", "--check", "--", "--files-with-diff"]), &log)
    else {
        return Ok(());
    };
    bail!("{why}\nto mend it: cargo fmt --all")
}

/// Clippy and rustc say nothing at all.
pub(crate) fn clippy(workspace: &Workspace, logs: &Path) -> Result<()> {
    let args = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    shell::run(&mut workspace.cargo(&args), &logs.join("clippy.log"))
}
