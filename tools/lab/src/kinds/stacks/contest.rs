use anyhow::Result;
use load::Pace;
use load::search::SearchConfig;
use sys::clock;
use units::Nanos;

use super::plan::CURVE;
use super::row::{Equal, Latency, Round, Row};
use super::{Plan, SLO, Work};
use crate::kinds::alternate;
use crate::kinds::hunt::{Hunt, Hunted, Runner, Tried, hunt};
use crate::measure::{self, Point};
use crate::net::Link;
use crate::stack::{Serving, Stack};
use crate::{Interrupted, Lab};

/// The share of the lowest stack's maximum at which the cost of all is compared: loaded, not saturated.
const EQUAL_SHARE: f64 = 0.5;

/// How close the search is to come.
pub(super) const PRECISION: f64 = 0.05;

/// All stacks of one workload, their servers running at once.
pub(super) struct Contest<'a> {
    lab: &'a mut Lab,
    plan: Plan,
    work: Work,
    /// When the search has to be content with what it has.
    deadline: Nanos,
    sides: Vec<Side>,
    skipped: Vec<Row>,
    stacks: Vec<Stack>,
}

/// One of them.
struct Side {
    row: Row,
    runner: Runner,
}

impl<'a> Contest<'a> {
    /// Nothing is started yet. `span` is what the plan allows.
    pub(super) fn new(lab: &'a mut Lab, plan: Plan, work: Work, stacks: &[Stack], span: Nanos) -> Contest<'a> {
        let deadline = clock::now() + span;
        Contest { lab, plan, work, deadline, sides: Vec::new(), skipped: Vec::new(), stacks: stacks.to_vec() }
    }

    /// What was measured, in the order of the stacks, also when it ended early. Ends the servers.
    pub(super) fn rows(self) -> Vec<Row> {
        let of = |side: Side| Row { noise: side.runner.noise, ..side.row };
        let mut rows: Vec<Row> = self.sides.into_iter().map(of).chain(self.skipped).collect();
        rows.sort_by_key(|row| self.stacks.iter().position(|s| *s == row.stack));
        rows
    }

    /// Measures. A server or a load that fails on the way ends this workload, with the reason in its rows; that is no error.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(super) fn run(&mut self) -> Result<()> {
        match self.measure() {
            Err(e) if !e.is::<Interrupted>() => {
                let why = format!("{e:#}");
                self.lab.progress.warn(&format!("{}: ended early: {why}", self.work.name()));
                for side in &mut self.sides {
                    side.row.skipped = Some(format!("ended early: {why}"));
                    side.row.errors += 1;
                }
                Ok(())
            }
            done => done,
        }
    }

    fn measure(&mut self) -> Result<()> {
        self.lab.progress.part(&format!("{}: starting servers", self.work.name()));
        for stack in self.stacks.clone() {
            match self.start(stack) {
                Ok(side) => self.sides.push(side),
                Err(e) if e.is::<Interrupted>() => return Err(e),
                Err(e) => self.skip(stack, &format!("{e:#}")),
            }
        }
        if self.sides.is_empty() {
            return Ok(());
        }
        self.calibrate()?;
        for round in 0..self.plan.rounds {
            let what = format!("{}: round {} of {}", self.work.name(), round + 1, self.plan.rounds);
            self.lab.progress.part(&what);
            let order = alternate(self.sides.len(), round);
            self.sides.iter_mut().for_each(|s| s.row.rounds.push(Round::default()));
            self.unloaded(&order)?;
            self.search(round, &order)?;
            if round == 0 {
                self.curve(&order)?;
                self.choose_equal_rate();
            }
            self.equal(&order)?;
        }
        Ok(())
    }

    /// A row that there will not be, said aloud.
    fn skip(&mut self, stack: Stack, why: &str) {
        let line = format!("SKIPPED {} on {}: {why}", self.work.name(), stack.name());
        self.lab.progress.warn(&line);
        self.skipped.push(Row { skipped: Some(why.to_owned()), ..Row::new(self.work, stack) });
    }

    fn start(&mut self, stack: Stack) -> Result<Side> {
        let (app, core) = (self.work.app(), self.lab.accounting.server_core);
        // A link of its own for each stack; the same one in every workload.
        let link = Link(Stack::ALL.iter().position(|s| *s == stack).map_or(0, |i| i as u8));
        let server = self.lab.serve(&Serving { stack, app, link, cores: vec![core], more: Vec::new() })?;
        let (connections, depth) = self.work.shape();
        self.lab.progress.say(&format!("{}: storing records on {}", self.work.name(), stack.name()));
        let workload = self.work.workload(self.plan.records);
        let mut load = self.lab.connect(&server, &workload, connections, depth)?;
        load.preload().map_err(measure::refusal)?;
        Ok(Side { row: Row::new(self.work, stack), runner: Runner::new(server, load) })
    }

    /// A window on one side, over its own connections.
    fn window(&mut self, side: usize, pace: Pace, length: Nanos) -> Result<Point> {
        self.sides[side].runner.window(self.lab, pace, length)
    }

    /// As fast as it goes: where the search begins to look.
    fn calibrate(&mut self) -> Result<()> {
        for side in 0..self.sides.len() {
            let point = self.window(side, Pace::Closed, self.plan.calibration)?;
            let row = &mut self.sides[side].row;
            row.closed_rps = point.outcome.achieved_rps();
            row.errors += point.outcome.errors.total();
        }
        Ok(())
    }

    fn unloaded(&mut self, order: &[usize]) -> Result<()> {
        for &i in order {
            let Side { row, runner } = &mut self.sides[i];
            let point = runner.unloaded(self.lab, self.plan.unloaded)?;
            row.errors += point.outcome.errors.total();
            if let Some(round) = row.rounds.last_mut() {
                round.unloaded = Some(Latency::of(&point));
            }
        }
        Ok(())
    }

    /// The maximum at the objective.
    fn search(&mut self, round: u32, order: &[usize]) -> Result<()> {
        let tries = self.plan.tries(round);
        let configs = self.sides.iter().map(|side| bounds(&side.row, tries)).collect();
        let mut runners: Vec<&mut Runner> = self.sides.iter_mut().map(|side| &mut side.runner).collect();
        let how = Hunt { pace: &|rate| self.work.pace(rate), step: self.plan.step, deadline: self.deadline };
        let hunted = hunt(self.lab, &mut runners, configs, order, &how)?;
        for (Side { row, .. }, Hunted { found, tried }) in self.sides.iter_mut().zip(hunted) {
            // Too high a load excuses requests without an answer, but no wrong one.
            row.errors += tried.iter().map(|t| t.wrong).sum::<u64>();
            row.tried.extend(tried);
            if let Some(round) = row.rounds.last_mut() {
                round.max_rps = found.max_rps;
                round.confident = found.confident;
            }
        }
        Ok(())
    }

    /// Where the search does not look, so that the curve has a left half.
    fn curve(&mut self, order: &[usize]) -> Result<()> {
        for share in CURVE {
            for &i in order {
                let rate = share * self.sides[i].row.capacity();
                let point = self.window(i, self.work.pace(rate), self.plan.step)?;
                self.sides[i].row.tried.push(Tried::of(rate, &point, &SLO));
            }
        }
        Ok(())
    }

    fn choose_equal_rate(&mut self) {
        let lowest = self.sides.iter().map(|s| s.row.capacity()).min_by(f64::total_cmp).unwrap_or(1.0);
        self.sides.iter_mut().for_each(|s| s.row.equal_rate = lowest * EQUAL_SHARE);
    }

    /// At the same load on all sides: what a request costs.
    fn equal(&mut self, order: &[usize]) -> Result<()> {
        for &i in order {
            let (name, rate) = (self.sides[i].row.stack.name(), self.sides[i].row.equal_rate);
            self.lab.progress.say(&format!("{}: {name} at {rate:.0} requests/s, as all", self.work.name()));
            let point = self.window(i, self.work.pace(rate), self.plan.point)?;
            let row = &mut self.sides[i].row;
            row.errors += point.outcome.errors.total();
            row.tried.push(Tried::of(rate, &point, &SLO));
            let equal = Equal { cost: point.cost, latency: Latency::of(&point), client_us: point.client_us() };
            if let Some(round) = row.rounds.last_mut() {
                round.equal = Some(equal);
            }
        }
        Ok(())
    }
}

/// Where to search: around the last round's maximum, or below what a closed loop came to.
fn bounds(row: &Row, tries: u32) -> SearchConfig {
    let closed = row.closed_rps.max(100.0);
    let last = row.rounds.iter().rev().find_map(|r| r.max_rps);
    SearchConfig {
        start: Some(last.unwrap_or(closed * 0.75)),
        precision: PRECISION,
        tries,
        // A closed loop sends in bursts, an open one does not: it may take more than that, if not much.
        ..SearchConfig::new(SLO, closed * 0.02, closed * 2.0)
    }
}

impl Row {
    /// What it can take: the maximum found, or half of what a closed loop came to where none was.
    fn capacity(&self) -> f64 {
        let max = self.rounds.iter().find_map(|r| r.max_rps);
        max.unwrap_or(self.closed_rps * 0.5).max(1.0)
    }
}
