//! A ladder that was searched for: the configurations of a frontier, with the load that each carried at the objective. As a text:
//!
//! ```toml
//! name = "pareto"        # what the policy is called
//! machine = "e5-2665"    # where it was found
//!
//! [[step]]               # one for each, ascending in load
//! cores = 1
//! threads = 1
//! clock = 0              # a step of the clock, from 0; -1: turbo
//! background = false     # whether background jobs may run beside it
//! load = 194000.0        # requests per second at the objective
//! ```

use std::fmt;

use machine::{Clock, State};
use serde::Deserialize;
use toml::Spanned;

use crate::ladder::{Ladder, LadderError};

/// A configuration of a frontier.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The configuration.
    pub state: State,
    /// Whether background jobs may run beside it.
    pub background: bool,
    /// What it carries at the objective, in requests per second.
    pub load: f64,
}

/// A frontier: configurations ascending in load.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// What the policy is called.
    pub name: String,
    /// The machine that it is for. Whoever uses it elsewhere is told.
    pub machine: String,
    /// The configurations.
    pub steps: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    machine: String,
    step: Vec<Spanned<Row>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    cores: u32,
    threads: u32,
    clock: i32,
    background: bool,
    load: f64,
}

impl Table {
    /// The table of a text.
    ///
    /// # Errors
    /// The line that makes no sense, and why.
    pub fn parse(text: &str) -> Result<Table, LadderError> {
        let error = |byte: usize, what: String| {
            let line = 1 + text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count();
            LadderError::At { line, what }
        };
        let file: File = toml::from_str(text).map_err(|e| {
            let what = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
            error(e.span().map_or(0, |span| span.start), what)
        })?;
        let mut steps: Vec<Entry> = Vec::new();
        for row in &file.step {
            let wrong = |what: String| error(row.span().start, what);
            let r = row.get_ref();
            if r.cores == 0 || r.cores > 4096 || !(1..=2).contains(&r.threads) {
                return Err(wrong(format!("{} cores x {} threads: use 1 to 4096, and 1 or 2", r.cores, r.threads)));
            }
            let clock = match r.clock {
                -1 => Clock::Turbo,
                step @ 0..=255 => Clock::Step(step as usize),
                other => return Err(wrong(format!("clock = {other}: use a step from 0, or -1 for turbo"))),
            };
            let low = steps.last().map_or(0.0, |last| last.load);
            if !(r.load.is_finite() && r.load > low) {
                return Err(wrong(format!("load = {}: use more than the {low} of the step before", r.load)));
            }
            let state = State { cores: r.cores as usize, threads: r.threads as usize, clock };
            steps.push(Entry { state, background: r.background, load: r.load });
        }
        if steps.is_empty() {
            return Err(LadderError::Empty);
        }
        Ok(Table { name: file.name, machine: file.machine, steps })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = {:?}\nmachine = {:?}", self.name, self.machine)?;
        for Entry { state, background, load } in &self.steps {
            let clock = match state.clock {
                Clock::Step(step) => step as i64,
                Clock::Turbo => -1,
            };
            writeln!(f, "\n[[step]]\ncores = {}\nthreads = {}\nclock = {clock}", state.cores, state.threads)?;
            writeln!(f, "background = {background}\nload = {load:.1}")?;
        }
        Ok(())
    }
}

impl Ladder {
    /// The configurations of a frontier, by what they were found to carry.
    ///
    /// # Errors
    /// There are none, or they do not ascend.
    pub fn pareto(table: &Table) -> Result<Ladder, LadderError> {
        let states: Vec<_> = table.steps.iter().map(|e| (e.state, e.background)).collect();
        let load = |state: &State| table.steps.iter().find(|e| e.state == *state).map_or(0.0, |e| e.load);
        Ladder::new(&table.name, &states, load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let state = |cores, clock| State { cores, threads: 2, clock };
        let entry = |state, load| Entry { state, background: false, load };
        let steps = vec![entry(state(1, Clock::Step(0)), 1000.0), entry(state(3, Clock::Step(4)), 2500.5)];
        let steps = steps.into_iter().chain([Entry { background: true, ..entry(state(4, Clock::Turbo), 4000.0) }]);
        Table { name: "pareto".into(), machine: "some".into(), steps: steps.collect() }
    }

    #[test]
    fn a_table_is_read_as_it_is_written() {
        assert_eq!(Table::parse(&table().to_string()).unwrap(), table());
        let ladder = Ladder::pareto(&table()).unwrap();
        assert_eq!((ladder.steps().len(), ladder.worth(0), ladder.steps()[2].background), (3, 0.25, true));
    }

    #[test]
    fn a_table_that_is_none_is_told_by_its_line() {
        let text = table().to_string();
        let bad = [
            ("cores = 3", "cores = 0", "line 11: 0 cores"),
            ("load = 2500.5", "load = 500.0", "line 11: load = 500: use more than the 1000"),
            ("load = 2500.5", "load = nan", "line 11: load = NaN"),
            ("clock = 4", "clock = -2", "line 11: clock = -2"),
            ("clock = 4", "clok = 4", "clok"),
        ];
        for (from, to, what) in bad {
            let error = Table::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert_eq!(Table::parse("name = \"\"\nmachine = \"\"\nstep = []"), Err(LadderError::Empty));
        assert!(Table::parse("").is_err());
    }
}
