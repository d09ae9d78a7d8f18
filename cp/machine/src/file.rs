//! A machine as a TOML text.
//!
//! ```toml
//! name = "two-cores"
//! packages = 1
//! cores = 2              # of a package
//! threads = 2            # hardware threads of a core: 1 or 2
//! second_thread = 1.3    # what two busy threads of a core do together, in units of one that is alone: 1 to 2
//! nominal_mhz = 2400     # the clock of speed 1
//!
//! [power]
//! idle_w = 10.0          # of a package whose cores sleep
//! awake_w = 0.35         # of a core that is awake
//! second_thread = 1.05   # how much more a core draws with two threads busy: 1 to 2
//! polling = 0.8          # a thread that polls and finds nothing, in units of one that works: 0 to 1
//!
//! [turbo]                # may be left out
//! mhz = [3000, 2800]     # with one core of a package awake, with two ...
//! core_w = [9.5, 8.0]    # dynamic watts of a core
//! warm_w = 4.0           # what a warm package draws more; may be left out
//!
//! [[clock]]              # one for each step, ascending
//! mhz = 1200
//! core_w = 1.7           # dynamic watts of a core that works at this clock
//! ```

use serde::Deserialize;
use toml::Spanned;

use crate::model::{Machine, Power};

/// Cores at most, all packages together: more than any machine has.
const CORES_MAX: u32 = 4096;
/// Steps of the clock at most.
const CLOCKS_MAX: usize = 256;

/// Why a text is no machine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// Something in it makes no sense.
    #[error("line {line}: {what}")]
    At {
        /// Where, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// There is no machine of that name.
    #[error("no built-in machine `{0}`; choose e5-2665, or generic:N for one with N cores (1 to 4096)")]
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    packages: Spanned<u32>,
    cores: Spanned<u32>,
    threads: Spanned<u32>,
    second_thread: Spanned<f64>,
    nominal_mhz: Spanned<f64>,
    power: PowerTable,
    turbo: Option<TurboTable>,
    clock: Spanned<Vec<ClockTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerTable {
    idle_w: Spanned<f64>,
    awake_w: Spanned<f64>,
    second_thread: Spanned<f64>,
    polling: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurboTable {
    mhz: Spanned<Vec<Spanned<f64>>>,
    core_w: Spanned<Vec<Spanned<f64>>>,
    warm_w: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockTable {
    mhz: Spanned<f64>,
    core_w: Spanned<f64>,
}

/// A text, and what is said about its places.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn error(&self, byte: usize, what: String) -> MachineError {
        let before = self.0.as_bytes().iter().take(byte);
        MachineError::At { line: 1 + before.filter(|b| **b == b'\n').count(), what }
    }

    fn wrong<T>(&self, of: &Spanned<T>, what: String) -> MachineError {
        self.error(of.span().start, what)
    }

    /// A number of a range.
    fn number(&self, name: &str, value: &Spanned<f64>, low: f64, high: f64) -> Result<f64, MachineError> {
        let v = *value.get_ref();
        if (low..=high).contains(&v) {
            Ok(v)
        } else {
            Err(self.wrong(value, format!("{name} = {v}: use {low} to {high}")))
        }
    }

    fn count(&self, name: &str, value: &Spanned<u32>, most: u32) -> Result<usize, MachineError> {
        let v = *value.get_ref();
        match (1..=most).contains(&v) {
            true => Ok(v as usize),
            false => Err(self.wrong(value, format!("{name} = {v}: use 1 to {most}"))),
        }
    }

    fn mhz(&self, value: &Spanned<f64>) -> Result<f64, MachineError> {
        self.number("mhz", value, 1.0, 100_000.0)
    }

    fn watts(&self, name: &str, value: &Spanned<f64>) -> Result<f64, MachineError> {
        self.number(name, value, 0.0, 10_000.0)
    }

    /// The steps of the clock, each faster than the one before and at no less power.
    fn clocks(&self, tables: &Spanned<Vec<ClockTable>>) -> Result<Vec<(f64, f64)>, MachineError> {
        let (n, mut clocks) = (tables.get_ref().len(), Vec::<(f64, f64)>::new());
        if !(1..=CLOCKS_MAX).contains(&n) {
            return Err(self.wrong(tables, format!("{n} steps of the clock: write 1 to {CLOCKS_MAX} tables [[clock]]")));
        }
        for table in tables.get_ref() {
            let next = (self.mhz(&table.mhz)?, self.watts("core_w", &table.core_w)?);
            if let Some(last) = clocks.last() {
                if next.0 <= last.0 {
                    let what = format!("mhz = {} after {}: write the clocks in ascending order", next.0, last.0);
                    return Err(self.wrong(&table.mhz, what));
                }
                if next.1 < last.1 {
                    let what = format!("core_w = {} is less than the {} of a slower clock", next.1, last.1);
                    return Err(self.wrong(&table.core_w, what));
                }
            }
            clocks.push(next);
        }
        Ok(clocks)
    }

    /// Turbo mode by cores awake: never slower than the fastest step, and never faster with more cores.
    fn turbo(&self, table: &TurboTable, cores: usize, fastest: f64) -> Result<Vec<(f64, f64)>, MachineError> {
        for (name, list) in [("mhz", &table.mhz), ("core_w", &table.core_w)] {
            let n = list.get_ref().len();
            if n != cores {
                let what =
                    format!("{n} values of turbo.{name} for {cores} cores: write one for each number of cores awake");
                return Err(self.wrong(list, what));
            }
        }
        let mut turbo = Vec::<(f64, f64)>::new();
        for (at, watts) in table.mhz.get_ref().iter().zip(table.core_w.get_ref()) {
            let mhz = self.number("mhz", at, fastest, turbo.last().map_or(100_000.0, |last| last.0))?;
            turbo.push((mhz, self.watts("core_w", watts)?));
        }
        Ok(turbo)
    }
}

impl Machine {
    /// The machine that such a text describes (see the top of `file.rs`).
    ///
    /// # Errors
    /// The line that makes no sense, and why.
    pub fn parse(toml: &str) -> Result<Machine, MachineError> {
        let text = Text(toml);
        let file: File = toml::from_str(toml).map_err(|e| {
            let what = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
            text.error(e.span().map_or(0, |span| span.start), what)
        })?;
        let cores = text.count("cores", &file.cores, CORES_MAX)?;
        let packages = text.count("packages", &file.packages, CORES_MAX / cores as u32)?;
        let clocks = text.clocks(&file.clock)?;
        let fastest = clocks[clocks.len() - 1].0;
        let turbo = file.turbo.as_ref().map(|table| text.turbo(table, cores, fastest)).transpose()?;
        let warm_w = file.turbo.as_ref().and_then(|table| table.warm_w.as_ref());
        let power = Power {
            idle_w: text.watts("idle_w", &file.power.idle_w)?,
            awake_w: text.watts("awake_w", &file.power.awake_w)?,
            second_thread: text.number("second_thread", &file.power.second_thread, 1.0, 2.0)?,
            polling: text.number("polling", &file.power.polling, 0.0, 1.0)?,
            warm_w: warm_w.map_or(Ok(0.0), |w| text.watts("warm_w", w))?,
        };
        Ok(Machine {
            name: file.name,
            packages,
            cores,
            threads: text.count("threads", &file.threads, 2)?,
            second_thread: text.number("second_thread", &file.second_thread, 1.0, 2.0)?,
            nominal_mhz: text.mhz(&file.nominal_mhz)?,
            clocks,
            turbo: turbo.unwrap_or_default(),
            power,
        })
    }
}
