//! Which rows, and how the seconds are spent.

use std::collections::BTreeSet;

use load::Pace;
use load::draw::{Gaps, Pattern};
use load::requests::Workload;
use units::Nanos;

use crate::kinds::{self, Asked};
use crate::{Lab, stack::Stack};

/// A workload of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Work {
    /// 64 B echo, one connection, one request at a time.
    Echo1x1,
    /// 64 B echo, 100 connections, one request at a time on each.
    Echo100x1,
    /// 64 B echo, 100 connections, up to four requests outstanding on each.
    Echo100x4,
    /// Facebook's USR on a store, connections as the last.
    Usr,
    /// Facebook's ETC, likewise, with its bursty arrivals.
    Etc,
}

impl Work {
    /// All of them, in the order of the table.
    pub const ALL: [Work; 5] = [Work::Echo1x1, Work::Echo100x1, Work::Echo100x4, Work::Usr, Work::Etc];

    /// What it is called in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Work::Echo1x1 => "echo-1x1",
            Work::Echo100x1 => "echo-100x1",
            Work::Echo100x4 => "echo-100x4",
            Work::Usr => "usr",
            Work::Etc => "etc",
        }
    }

    /// The application that serves it.
    pub const fn app(self) -> &'static str {
        match self {
            Work::Usr | Work::Etc => "kv",
            _ => "echo",
        }
    }

    /// Connections, and requests outstanding on each.
    pub const fn shape(self) -> (u32, u32) {
        match self {
            Work::Echo1x1 => (1, 1),
            Work::Echo100x1 => (100, 1),
            _ => (100, 4),
        }
    }

    /// The stacks that can serve it.
    pub fn stacks(self) -> impl Iterator<Item = Stack> {
        Stack::ALL.into_iter().filter(move |s| self.app() == "kv" || *s != Stack::Memcached)
    }

    /// What is asked.
    pub fn workload(self, records: u32) -> Workload {
        match self {
            Work::Usr => kinds::usr(records),
            Work::Etc => kinds::etc(records),
            _ => kinds::echo(64),
        }
    }

    /// An open loop at `rate` requests a second: Poisson, but for ETC, whose gaps are part of its definition.
    pub fn pace(self, rate: f64) -> Pace {
        let gaps = if self == Work::Etc { etc_gaps() } else { Gaps::poisson() };
        Pace::Open { gaps, pattern: Pattern::constant(rate) }
    }
}

/// ETC's inter-arrival times: a generalized Pareto distribution, here scaled to the rate (Atikoglu et al. 2012, section 5.3).
fn etc_gaps() -> Gaps {
    Gaps::gpareto(0.154_971).expect("a shape below 1 has a mean")
}

/// The rows of the comparison: which stacks serve which workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows(pub Vec<(Work, Vec<Stack>)>);

impl Rows {
    /// Those that `filter` asks for, all of them without one. A filter is a list of alternatives such as
    /// `usr,echo-1x1+zygix`: a row is meant by an alternative when it has all of its words, each of which is an application, a
    /// stack, a wire or a workload.
    ///
    /// # Errors
    /// A sentence: a word that no row has, or no row left.
    pub fn filtered(filter: Option<&str>) -> Result<Rows, String> {
        let words = |work: Work, stack: Stack| [work.app(), stack.name(), stack.wire(), work.name()];
        let all = || Work::ALL.into_iter().flat_map(|w| w.stacks().map(move |s| (w, s)));
        let known: BTreeSet<&str> = all().flat_map(|(w, s)| words(w, s)).collect();
        let alternatives: Vec<Vec<&str>> = match filter {
            None => vec![Vec::new()],
            Some(filter) => filter.split(',').map(|a| a.split('+').map(str::trim).collect()).collect(),
        };
        if let Some(word) = alternatives.iter().flatten().find(|w| !known.contains(*w)) {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(format!("no row has `{word}`: the words are {}", known.join(", ")));
        }
        let meant = |work, stack| alternatives.iter().any(|a| a.iter().all(|w| words(work, stack).contains(w)));
        let of = |work: Work| (work, work.stacks().filter(|s| meant(work, *s)).collect::<Vec<_>>());
        let rows: Vec<_> = Work::ALL.into_iter().map(of).filter(|(_, stacks)| !stacks.is_empty()).collect();
        if rows.is_empty() { Err("no row has all of these words".into()) } else { Ok(Rows(rows)) }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, stacks)| stacks.len()).sum()
    }

    /// Never: [`Rows::filtered`] says so instead.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How the seconds of one workload are spent, for each of its stacks.
///
/// ```text
///   start, preload, calibrate (closed loop)
///   round 1     unloaded    search: at most `tries[0]` windows    curve: 2    at equal load
///   round 2     unloaded    search: at most `tries[1]` windows                at equal load
///   ...
/// ```
///
/// Points that are reported have the length that was asked for (`point`); windows that only vote on a rate are shorter.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds.
    pub rounds: u32,
    /// A window at equal load.
    pub point: Nanos,
    /// A window of unloaded latency: at tens of microseconds a request there are samples enough.
    pub unloaded: Nanos,
    /// A window of the search and of the curve.
    pub step: Nanos,
    /// The closed loop that tells the search where to look.
    pub calibration: Nanos,
    /// How many windows a search may take: in the first round, in others.
    pub tries: [u32; 2],
    /// Records to store.
    pub records: u32,
}

/// The points of the curve that no search visits, as shares of the maximum found.
pub(super) const CURVE: [f64; 2] = [0.25, 0.6];

/// What a server takes to start and connect.
const START: Nanos = Nanos::from_secs(2);

/// What storing a record takes, roughly; the slower stacks of a small machine.
const STORE: Nanos = Nanos::from_micros(10);

/// What a window that fails takes in addition: the server works off what it was not able to do in time.
const BACKLOG: f64 = 0.15;

impl Plan {
    /// From what was asked.
    pub fn new(asked: &Asked) -> Plan {
        let part = |share: f64| Nanos((asked.point.0 as f64 * share) as u64).max(Nanos::from_millis(50));
        Plan {
            rounds: asked.repeats.max(1),
            point: asked.point,
            unloaded: part(0.4),
            step: part(0.4),
            calibration: part(0.25),
            tries: [12, 8],
            records: asked.records,
        }
    }

    /// The windows that the search of this round may take.
    pub fn tries(&self, round: u32) -> u32 {
        self.tries[usize::from(round > 0)]
    }

    /// Windows of the search and the curve of one stack, all rounds together, at most.
    fn steps(&self) -> u32 {
        self.tries[0] + CURVE.len() as u32 + self.tries[1] * (self.rounds - 1)
    }

    /// The most that one workload takes.
    pub fn workload(&self, work: Work, stacks: usize) -> Nanos {
        let records = if work.app() == "kv" { u64::from(self.records) } else { 0 };
        let step = Lab::takes(self.step) + Nanos((self.step.0 as f64 * BACKLOG) as u64);
        let times = |span: Nanos, n: u32| Nanos(span.0 * u64::from(n));
        let stack = START
            + times(STORE, records as u32)
            + Lab::takes(self.calibration)
            + times(step, self.steps())
            + times(Lab::takes(self.unloaded) + Lab::takes(self.point), self.rounds);
        times(stack, stacks as u32)
    }

    /// The most that all rows take.
    pub fn total(&self, rows: &Rows) -> Nanos {
        let each = rows.0.iter().map(|(work, stacks)| self.workload(*work, stacks.len()));
        each.fold(Nanos::ZERO, |sum, t| sum + t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seconds: f64) -> Asked {
        let point = Nanos((seconds * 1e9) as u64);
        Asked { command: String::new(), point, repeats: 3, records: 100_000 }
    }

    #[test]
    fn the_whole_comparison_is_seventeen_rows() {
        let rows = Rows::filtered(None).unwrap();
        assert_eq!((rows.len(), rows.0.len()), (17, 5));
        let memcached = |(_, stacks): &&(Work, Vec<Stack>)| stacks.contains(&Stack::Memcached);
        assert!(rows.0.iter().filter(memcached).all(|(work, _)| work.app() == "kv"));
    }

    #[test]
    fn filters_choose_by_words() {
        let rows = |filter| Rows::filtered(Some(filter));
        assert_eq!(rows("usr+tap").unwrap(), Rows(vec![(Work::Usr, vec![Stack::Zygix])]));
        assert_eq!(rows("memcached").unwrap().len(), 2);
        assert_eq!(rows("echo-1x1, etc+zygix").unwrap().len(), 4);
        assert_eq!(rows("kv").unwrap().len(), 8);
        assert!(rows("tea").unwrap_err().contains("no row has `tea`: the words are echo,"));
        assert!(rows("memcached+echo").unwrap_err().contains("no row has all"));
    }

    #[test]
    fn two_seconds_a_point_are_less_than_a_quarter_of_an_hour() {
        let total = Plan::new(&asked(2.0)).total(&Rows::filtered(None).unwrap());
        assert!(total < Nanos::from_secs(15 * 60), "{total:?}");
        assert!(total > Nanos::from_secs(5 * 60), "{total:?}");
    }

    #[test]
    fn tiny_points_stay_windows() {
        let plan = Plan::new(&asked(0.01));
        assert!(plan.step >= Nanos::from_millis(50));
        assert_eq!((plan.tries(0), plan.tries(1), plan.tries(2)), (12, 8, 8));
    }
}
