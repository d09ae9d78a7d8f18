use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::client::Watch;

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);
/// How often there is a line where there is no bar.
const LINE: Duration = Duration::from_secs(5);

/// Something that takes its time, shown on standard error while this value lives: as a bar on a terminal, else as a line every few
/// seconds.
pub(crate) struct Progress {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How far it is.
pub(crate) enum Measure {
    /// It will end after this.
    Time(Duration),
    /// It will end when so many records are stored.
    Records(u64),
    /// Nobody knows.
    Unknown,
}

impl Progress {
    /// Shows `what` until the value is dropped.
    pub(crate) fn show(what: impl Into<String>, measure: Measure, watch: Option<Watch>) -> Progress {
        let done = Arc::new(AtomicBool::new(false));
        let told = done.clone();
        let show = Show { what: what.into(), measure, watch, since: Instant::now() };
        let body = move || if std::io::stderr().is_terminal() { show.bar(&told) } else { show.lines(&told) };
        // Without a thread there is no progress to be seen, and nothing else is amiss.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(body).ok();
        Progress { done, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Show {
    what: String,
    measure: Measure,
    watch: Option<Watch>,
    since: Instant,
}

impl Show {
    fn bar(&self, done: &AtomicBool) {
        let (bar, template) = match self.measure {
            Measure::Time(span) => (ProgressBar::new(span.as_millis() as u64), "{prefix} [{bar:30}] {msg}"),
            Measure::Records(n) => (ProgressBar::new(n), "{prefix} [{bar:30}] {pos}/{len}"),
            Measure::Unknown => (ProgressBar::new_spinner(), "{prefix} {spinner}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style.progress_chars("=> ")).with_prefix(self.what.clone());
        let mut rate = Rate::new(self.watch.as_ref());
        while !done.load(Relaxed) {
            match (&self.measure, &self.watch) {
                (Measure::Time(span), _) => bar.set_position(self.since.elapsed().min(*span).as_millis() as u64),
                (Measure::Records(_), Some(watch)) => bar.set_position(watch.stored()),
                _ => {}
            }
            if let Some(watch) = &self.watch {
                bar.set_message(rate.line(watch));
            }
            bar.tick();
            std::thread::park_timeout(TICK);
        }
        bar.finish_and_clear();
    }

    fn lines(&self, done: &AtomicBool) {
        let (mut rate, mut said) = (Rate::new(self.watch.as_ref()), Instant::now());
        while !done.load(Relaxed) {
            std::thread::park_timeout(TICK);
            if said.elapsed() < LINE {
                continue;
            }
            said = Instant::now();
            let far = match (&self.measure, &self.watch) {
                (Measure::Time(span), Some(watch)) => {
                    let of = span.as_secs_f64();
                    format!("{:.0} of {of:.0} s, {}", self.since.elapsed().as_secs_f64().min(of), rate.line(watch))
                }
                (Measure::Records(n), Some(watch)) => format!("{} of {n}", watch.stored()),
                _ => format!("{:.0} s", self.since.elapsed().as_secs_f64()),
            };
            note(&format!("{}: {far}", self.what));
        }
    }
}

/// A line on standard error; whoever closed it does not want to know.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "load: {line}");
}

/// Answers per second of late.
struct Rate {
    at: Instant,
    answered: u64,
    errors: u64,
    shown: f64,
}

impl Rate {
    fn new(watch: Option<&Watch>) -> Rate {
        let (answered, errors) = watch.map_or((0, 0), |w| (w.answered(), w.errors()));
        Rate { at: Instant::now(), answered, errors, shown: 0.0 }
    }

    fn line(&mut self, watch: &Watch) -> String {
        let span = self.at.elapsed().as_secs_f64();
        // Agents tell once a second: over less than that there is no rate.
        if span >= 1.0 {
            let answered = watch.answered();
            self.shown = answered.saturating_sub(self.answered) as f64 / span;
            (self.at, self.answered) = (Instant::now(), answered);
        }
        format!("{:.0} requests/s, {} errors", self.shown, watch.errors().saturating_sub(self.errors))
    }
}
