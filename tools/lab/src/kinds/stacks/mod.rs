//! The same applications on all stacks: maximum load at an SLO, unloaded latency, server time per request.
//!
//! For each workload the servers of all its stacks run at once, each asleep while another is measured, and every step of
//! the measurement visits all of them before the next step: what the machine does in a minute happens to all of them.
//! Server time is taken at the same open-loop load on all stacks, since a loaded server batches, and costs less per
//! request the more it does.
//!
//! | file | what |
//! |---|---|
//! | `plan.rs` | which rows; how the seconds are spent |
//! | `contest.rs` | the stacks of one workload, measured |
//! | `row.rs` | what was measured of one row |
//! | `show.rs` | rows, figures, tables |

mod contest;
mod plan;
mod row;
mod show;

use anyhow::{Result, bail};
use load::search::Slo;
use units::Nanos;

use super::{Asked, Finding, finish, went_through};
use crate::Lab;
use contest::Contest;
pub use plan::{Plan, Rows, Work};
use row::Row;

/// The objective, as in the thesis.
pub const SLO: Slo = Slo { quantile: 0.99, limit: Nanos::from_micros(500) };

/// Runs the comparison.
///
/// # Errors
/// Nothing could be measured: no server of a workload starts. A single stack that does not start is a row with a reason,
/// and a server that fails later ends its workload, with a note.
pub fn run(lab: &mut Lab, asked: &Asked, rows: &Rows) -> Result<Finding> {
    let plan = Plan::new(asked);
    lab.progress.plan(plan.total(rows));
    let mut done: Vec<Row> = Vec::new();
    let measured = all(lab, plan, rows, &mut done);
    lab.progress.clear();
    let through = went_through(measured)?;
    if through && done.iter().all(|row| row.rounds.is_empty()) {
        let reasons: Vec<&str> = done.iter().filter_map(|row| row.skipped.as_deref()).collect();
        bail!("nothing could be measured: {}", reasons.join("; "));
    }
    let questions = show::questions(&done);
    let mut document = finish(lab, "stacks", "Stacks side by side", asked, &questions, through)?;
    document.notes.extend(show::notes(&done, &plan));
    document.rows = done.iter().map(show::json).collect();
    document.figures = show::figures(&done);
    document.tables = show::tables(&done);
    let text = show::text(&done);
    let errors = done.iter().map(|row| row.errors).sum();
    Ok(Finding { document, text, errors, interrupted: !through })
}

fn all(lab: &mut Lab, plan: Plan, rows: &Rows, done: &mut Vec<Row>) -> Result<()> {
    let mut planned = Nanos::ZERO;
    for (work, stacks) in &rows.0 {
        let span = plan.workload(*work, stacks.len());
        let mut contest = Contest::new(lab, plan, *work, stacks, span);
        let measured = contest.run();
        done.extend(contest.rows());
        measured?;
        planned += span;
        lab.progress.to(planned);
    }
    Ok(())
}
