//! Steps with a line of progress and a time each; what was skipped; the summary.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};

/// What the steps so far came to.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) skipped: Vec<String>,
    /// What the user should know, though nothing was skipped by it (yet).
    pub(crate) notes: Vec<String>,
}

impl Tally {
    /// Counts a check that could not be made, and why.
    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        self.skipped.push(why.into());
    }

    /// Counts one check.
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }
}

/// One step: its name, and what it does with the context `C`.
pub(crate) struct Step<C> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut C, &mut Tally) -> Result<()>,
    /// Later steps need what it makes: it is never left out.
    pub(crate) makes: bool,
}

impl<C> Step<C> {
    /// A step that checks something.
    pub(crate) const fn new(name: &'static str, run: fn(&mut C, &mut Tally) -> Result<()>) -> Step<C> {
        Step { name, run, makes: false }
    }

    /// A step that makes something.
    pub(crate) const fn making(name: &'static str, run: fn(&mut C, &mut Tally) -> Result<()>) -> Step<C> {
        Step { name, run, makes: true }
    }
}

/// Runs the steps in order, from the one called `from` on, and ends at the first that fails. Earlier steps run only if they
/// make something.
pub(crate) fn run_all<C>(what: &str, steps: &[Step<C>], from: Option<&str>, context: &mut C) -> Result<()> {
    let first = match from {
        None => 0,
        Some(name) => match steps.iter().position(|s| s.name == name) {
            Some(at) => at,
            None => {
                let names: Vec<&str> = steps.iter().map(|s| s.name).collect();
                bail!("no step is called `{name}`; there are: {}", names.join(", "));
            }
        },
    };
    let begin = Instant::now();
    let mut tally = Tally::default();
    for (i, step) in steps.iter().enumerate().filter(|(i, s)| *i >= first || s.makes) {
        print!("[{:>2}/{}] {:<20} ", i + 1, steps.len(), step.name);
        let _ = std::io::stdout().flush();
        let (start, passed, skipped) = (Instant::now(), tally.passed, tally.skipped.len());
        let outcome = (step.run)(context, &mut tally);
        let took = start.elapsed().as_secs_f64();
        if let Err(why) = outcome {
            println!("FAILED  {took:.1} s\n\n{why:#}\n");
            summary(&tally);
            bail!("{what} failed at step {} of {}: {}", i + 1, steps.len(), step.name);
        }
        println!("ok  {took:>7.1} s{}", counted(tally.passed - passed, tally.skipped.len() - skipped));
        for note in tally.notes.drain(..) {
            println!("        {note}");
        }
    }
    println!();
    summary(&tally);
    if first > 0 {
        println!("checks before step {} were left out", first + 1);
    }
    println!("{what} passed in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn counted(passed: u64, skipped: usize) -> String {
    match (passed, skipped) {
        (0 | 1, 0) => String::new(),
        (p, 0) => format!("  {p} passed"),
        (p, s) => format!("  {p} passed, {s} SKIPPED"),
    }
}

fn summary(tally: &Tally) {
    let Tally { passed, skipped, .. } = tally;
    println!("{passed} passed, {} skipped{}", skipped.len(), if skipped.is_empty() { "" } else { ":" });
    for (why, times) in grouped(skipped) {
        println!("  {times:>4} x {why}");
    }
}

/// Each reason once, in the order of appearance, with how often it was given.
fn grouped(reasons: &[String]) -> Vec<(&str, usize)> {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for reason in reasons {
        match groups.iter_mut().find(|(why, _)| *why == reason.as_str()) {
            Some((_, times)) => *times += 1,
            None => groups.push((reason, 1)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step<Vec<&str>>; 3] = [
        Step::new("one", |c, t| {
            c.push("one");
            t.pass();
            Ok(())
        }),
        Step::new("two", |c, t| {
            c.push("two");
            t.skip("why");
            if c.len() > 1 { bail!("no") } else { Ok(()) }
        }),
        Step::new("three", |c, _| {
            c.push("three");
            Ok(())
        }),
    ];

    #[test]
    fn the_first_failure_ends_it() {
        let mut seen = Vec::new();
        let why = run_all("test", &STEPS, None, &mut seen).unwrap_err();
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(why.to_string(), "test failed at step 2 of 3: two");
    }

    #[test]
    fn equal_reasons_are_one_line() {
        let reasons = ["no root", "no nc", "no root"].map(str::to_owned);
        assert_eq!(grouped(&reasons), [("no root", 2), ("no nc", 1)]);
    }

    #[test]
    fn what_later_steps_need_is_made_anyway() {
        let mut seen = Vec::new();
        let steps: [Step<Vec<&str>>; 3] = [
            Step::making("build", |c, _| {
                c.push("build");
                Ok(())
            }),
            Step::new("check", |_, _| bail!("not to be run")),
            Step::new("use", |c, _| {
                c.push("use");
                Ok(())
            }),
        ];
        run_all("test", &steps, Some("use"), &mut seen).unwrap();
        assert_eq!(seen, ["build", "use"]);
    }

    #[test]
    fn one_may_begin_later() {
        let mut seen = Vec::new();
        run_all("test", &STEPS, Some("two"), &mut seen).unwrap();
        assert_eq!(seen, ["two", "three"]);
        assert!(run_all("test", &STEPS, Some("four"), &mut seen).unwrap_err().to_string().contains("one, two, three"));
    }
}
