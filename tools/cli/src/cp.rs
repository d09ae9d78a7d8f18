//! `zygix cp`: the control plane (crate `ixcp`).

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use ixcp::{Config, Daemon, EXAMPLE, Options};

use crate::Usage;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  zygix cp --example > cp.toml              a configuration that explains itself
  sudo zygix cp --config cp.toml --dry-run  what would be decided, and why; nothing is changed
  sudo zygix cp --config cp.toml            until SIGINT or SIGTERM; then all that was changed is as it was
  zygix top                                 watch it; or http://127.0.0.1:9797/

The smallest configuration, for `zygix serve kv -t 4`:

  slo_us = 500
  policy = \"energy\"
  [[dataplane]]
  name = \"kv\"

Dataplanes serve on, as they were last set, when it ends or is killed; the next start takes them over, and takes back what a killed one has left.
One runs per host (or per user without privilege). docs/control-plane.md has the reference.")]
pub(crate) struct Cp {
    /// The configuration
    #[arg(long, value_name = "FILE", required_unless_present = "example")]
    pub(crate) config: Option<PathBuf>,

    /// Print decisions and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Say nothing on standard output but the first line
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,

    /// Print a configuration that explains itself
    #[arg(long)]
    pub(crate) example: bool,
}

pub(crate) fn run(cp: &Cp) -> Result<()> {
    if cp.example {
        // Whoever closed standard output has seen enough.
        let _ = std::io::stdout().write_all(EXAMPLE.as_bytes());
        return Ok(());
    }
    let Some(path) = &cp.config else { return Err(Usage("--config FILE names the configuration".into()).into()) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let from = path.parent().unwrap_or(Path::new(""));
    let config = Config::parse(&text, from).map_err(|e| Usage(format!("{}: {e}", path.display())))?;
    sys::stop::install();
    let options = Options { dry_run: cp.dry_run, aloud: !cp.quiet, ..Options::default() };
    let mut daemon = Daemon::start(config, options).map_err(|e| anyhow!(e))?;
    let page = daemon.address().map_or("no web page".into(), |at| format!("http://{at}/"));
    let what = if cp.dry_run { "deciding, and changing nothing" } else { "in control" };
    say(&format!("{what}; {page}; Ctrl-C ends it"));
    daemon.run(sys::stop::requested);
    let report = daemon.finish();
    if report.lost_lines > 0 {
        say(&format!("{} lines of the journal could not be written", report.lost_lines));
    }
    match report.left.first() {
        None => Ok(()),
        Some(first) => Err(anyhow!("{} change(s) could not be taken back; the first: {first}", report.left.len())),
    }
}

/// A line on standard output; whoever closed it does not want to know.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
