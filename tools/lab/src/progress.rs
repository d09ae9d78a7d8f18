//! What is going on, and how long it will take: a bar on a terminal, else a line for each step.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use units::Nanos;

/// On standard error, so that standard output is the result's.
///
/// Work is counted in the time that was planned for it, at most. What ends sooner is skipped over ([`Progress::to`]), so the
/// time left is an upper bound.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    total: Cell<Nanos>,
    done: Cell<Nanos>,
    /// When that was done.
    at: Cell<Instant>,
}

impl Progress {
    /// Of what is called `name`.
    pub fn new(name: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // The template is ours: it parses, and a bar without style is still a bar.
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        let (total, done, at) = (Cell::default(), Cell::default(), Cell::new(Instant::now()));
        Progress { bar, name: name.to_owned(), total, done, at }
    }

    /// How much there is to do.
    pub fn plan(&self, total: Nanos) {
        self.total.set(total);
        if let Some(bar) = &self.bar {
            bar.set_length(total.millis());
        }
    }

    /// What is going on now: shown on a terminal only.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position((self.total.get() - self.left()).millis());
            bar.set_message(format!("{what}{}", self.in_words()));
        }
    }

    /// A new part has begun: a line of its own where there is no terminal.
    pub fn part(&self, what: &str) {
        match &self.bar {
            Some(_) => self.say(what),
            None => self.line(&format!("{what}{}", self.in_words())),
        }
    }

    /// Something that must not be missed, before the bar or between the lines.
    pub fn warn(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.line(what)),
            None => self.line(what),
        }
    }

    /// All of the plan up to here is done.
    pub fn to(&self, done: Nanos) {
        self.done.set(done.min(self.total.get()));
        self.at.set(Instant::now());
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// What is left of the plan by the clock.
    fn left(&self) -> Nanos {
        self.total.get() - self.done.get() - Nanos::from(self.at.get().elapsed())
    }

    /// `, at most 12:30 left`; nothing without a plan.
    fn in_words(&self) -> String {
        let planned = self.total.get() != Nanos::ZERO;
        if planned { format!(", at most {} left", minutes(self.left().duration())) } else { String::new() }
    }

    fn line(&self, what: &str) {
        // Whoever closed it does not want to know.
        let _ = writeln!(std::io::stderr().lock(), "{}: {what}", self.name);
    }
}

/// `12:30`.
fn minutes(span: Duration) -> String {
    let seconds = span.as_secs_f64().ceil() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_what_of_the_plan_is_not_done() {
        let progress = Progress::new("test");
        assert_eq!(progress.in_words(), "");
        progress.plan(Nanos::from_secs(100_000));
        progress.to(Nanos::from_secs(99_000));
        let left = progress.left();
        assert!(left <= Nanos::from_secs(1000) && left > Nanos::from_secs(1), "{left:?}");
        progress.to(Nanos::from_secs(500_000));
        assert_eq!(progress.in_words(), ", at most 0:00 left");
        assert_eq!(minutes(Duration::from_millis(74_500)), "1:15");
    }
}
