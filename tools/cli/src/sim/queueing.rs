use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use queueing::{Answer, Effort, Question, Row, System, Watch, max_load, measure};

use super::args::Queueing;
use super::show;

/// One combination of servers, distribution and policy.
pub(super) struct Cell {
    pub(super) system: System,
    /// The distribution's name.
    pub(super) dist: String,
    pub(super) answer: Option<Answer>,
    /// What stays at loads that were asked for, or at those of a curve.
    pub(super) rows: Vec<Row>,
    /// Requests simulated for it, warm-up included.
    pub(super) simulated: u64,
    pub(super) seconds: f64,
}

impl Cell {
    /// For people.
    pub(super) fn name(&self) -> String {
        format!("{}, n = {}, {}", self.system.policy, self.system.servers, self.dist)
    }

    /// Requests a second of each thread.
    pub(super) fn rate(&self, threads: usize) -> f64 {
        self.simulated as f64 / self.seconds.max(1e-9) / threads as f64
    }
}

/// What came out, and how it was asked for.
pub(super) struct Finding<'a> {
    pub(super) args: &'a Queueing,
    pub(super) threads: usize,
    /// UTC, ISO 8601.
    pub(super) started: String,
    pub(super) cells: Vec<Cell>,
    pub(super) interrupted: bool,
}

/// `zygix sim queueing`.
pub(super) fn run(args: &Queueing) -> Result<()> {
    sys::stop::install();
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let threads = args.threads.map_or_else(|| sys::thread::allowed_cores().map_or(1, |c| c.len()), usize::from).max(1);
    let mut finding =
        Finding { args, threads, started: lab::utc(sys::clock::wall()), cells: cells(args), interrupted: false };
    let count = finding.cells.len();
    let bar = bar();
    for (nth, cell) in finding.cells.iter_mut().enumerate() {
        let what = format!("{} of {count}: {}", nth + 1, cell.name());
        simulate(args, threads, cell, bar.as_ref(), &what);
        if sys::stop::requested() {
            break;
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    finding.interrupted = sys::stop::requested();
    finding.cells.retain(|cell| cell.answer.is_some() || !cell.rows.is_empty());
    tell(&finding)
}

/// All combinations, nothing simulated.
fn cells(args: &Queueing) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &n in &args.n {
        for dist in &args.dist.0 {
            for &policy in &args.policy {
                let system = System::new(usize::from(n), policy, dist.times.clone());
                let system = System { gaps: args.gaps.clone(), ..system };
                let (dist, rows) = (dist.name.clone(), Vec::new());
                cells.push(Cell { system, dist, answer: None, rows, simulated: 0, seconds: 0.0 });
            }
        }
    }
    cells
}

fn simulate(args: &Queueing, threads: usize, cell: &mut Cell, bar: Option<&ProgressBar>, what: &str) {
    let began = Instant::now();
    let late = || args.max_seconds.is_some_and(|most| began.elapsed().as_secs_f64() > most);
    let watch = Watch::new(|| sys::stop::requested() || late());
    let effort = Effort { seed: args.seed, requests: args.requests, threads };
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if let Some(bar) = bar {
            scope.spawn(|| follow(bar, what, &watch, &finished));
        }
        if args.load.is_empty() || args.out.is_some() {
            let question = Question {
                precision: args.precision / 100.0,
                max_requests: args.max_requests,
                effort,
                ..Question::p99(cell.system.clone(), args.slo)
            };
            cell.answer = max_load(&question, &watch);
        }
        let loads = if args.load.is_empty() { curve(cell.answer.as_ref()) } else { args.load.clone() };
        if !args.load.is_empty() || args.out.is_some() {
            cell.rows = measure(&cell.system, &loads, &effort, &watch).unwrap_or_default();
        }
        finished.store(true, Relaxed);
    });
    cell.simulated = watch.simulated();
    cell.seconds = began.elapsed().as_secs_f64();
}

/// The loads of a curve: up to the highest that meets the objective, and somewhat beyond.
fn curve(answer: Option<&Answer>) -> Vec<f64> {
    let highest = answer.map_or(0.5, |answer| answer.max_load).clamp(0.01, 0.99);
    let up_to = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0].map(|part| part * highest);
    let beyond = [0.1, 0.2, 0.4].map(|part| highest + part * (0.998 - highest));
    up_to.into_iter().chain(beyond).collect()
}

/// A bar on standard error, if that is a terminal.
pub(super) fn bar() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        // The template is ours: it parses, and a bar without style is still a bar.
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style.progress_chars("=> ")).with_prefix("sim")
    })
}

/// Moves the bar until a cell is finished.
fn follow(bar: &ProgressBar, what: &str, watch: &Watch<'_>, finished: &AtomicBool) {
    bar.set_message(what.to_owned());
    while !finished.load(Relaxed) {
        let planned = watch.planned().max(1) as f64;
        bar.set_position((1000.0 * watch.simulated() as f64 / planned).min(1000.0) as u64);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Files, prints, and says what is not as it was asked for.
fn tell(finding: &Finding<'_>) -> Result<()> {
    let args = finding.args;
    let write = |path: &Path, text: String| {
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.json {
        write(path, serde_json::to_string_pretty(&show::object(finding))?)?;
    }
    if let Some(dir) = &args.out {
        write(&dir.join("queueing.json"), serde_json::to_string_pretty(&show::document(finding))?)?;
        crate::report::draw(dir, &dir.join("index.html"))?;
    }
    if !finding.cells.is_empty() {
        // Whoever closed standard output has seen enough.
        let _ = write!(std::io::stdout().lock(), "{}", show::text(finding));
    }
    for note in show::notes(finding) {
        let _ = writeln!(std::io::stderr().lock(), "sim: {note}");
    }
    if finding.interrupted {
        bail!("interrupted: these are the results so far");
    }
    if finding.cells.is_empty() {
        bail!("nothing was simulated in {} s: give more with --max-seconds", args.max_seconds.unwrap_or_default());
    }
    Ok(())
}
