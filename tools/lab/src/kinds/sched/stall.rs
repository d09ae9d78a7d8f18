//! A core that stands still in application code, now and then: what that does to the others' requests, by way.
//!
//! Twice for each length: *busy*, where the core spins and can be interrupted, and *descheduled*, where interrupts are held back until it is over,
//! as they are on a virtual machine whose hypervisor has taken the core away. The request that is being served waits in any case; there
//! are too few of those to make a p99.

use anyhow::Result;
use report::{Column, Table};
use serde_json::{Value, json};
use units::Nanos;

use super::model::{Law, MODES};
use super::{SLO, show, work};
use crate::Lab;
use crate::kinds::grid::{Extent, cells, columns, text, times};
use crate::kinds::rig::{App, Rig, Stall};
use crate::kinds::{Asked, Finding, alternate, finish, went_through};
use crate::stats::{Spread, paired};

/// Length and period of stalls: a fiftieth of a core's time.
const STALLS: [(Nanos, Nanos); 2] =
    [(Nanos::from_micros(200), Nanos::from_millis(10)), (Nanos::from_millis(1), Nanos::from_millis(50))];
/// The work, and the load.
const WORK: (Law, u32) = (Law::Exp, 50);
const LOAD: f64 = 0.5;

/// One kind of stall on one way.
struct Cell {
    stall: Stall,
    mode: usize,
    /// p99 in service times, by round: of each window with stalls, and of one without just before.
    with: Vec<Option<f64>>,
    without: Vec<Option<f64>>,
}

fn stalls() -> Vec<Stall> {
    let each = |(length, every)| [false, true].map(|descheduled| Stall { every, length, descheduled });
    STALLS.into_iter().flat_map(each).collect()
}

fn window(asked: &Asked, extent: Extent) -> Nanos {
    if extent == Extent::Tiny { Nanos::from_millis(50) } else { asked.point.max(Nanos::from_secs(1)) }
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, extent: Extent) -> Nanos {
    let each = Lab::takes(window(asked, extent)) + super::START;
    times(each, extent.rounds(asked) as usize * (stalls().len() + 1) * MODES.len())
}

/// Runs the bench.
///
/// # Errors
/// The server does not start.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent) -> Result<Finding> {
    let cores = sys::thread::allowed_cores()?;
    let mut all = Vec::new();
    for stall in stalls() {
        all.extend((0..MODES.len()).map(|mode| Cell { stall, mode, with: vec![], without: vec![] }));
    }
    lab.progress.plan(takes(asked, extent));
    let through = went_through(measure(lab, &cores, asked, extent, &mut all));
    lab.progress.clear();
    let through = through?;
    let mut document = finish(lab, "stall", "A core that stands still", asked, &[], through)?;
    document.cores = Some(cores.len() as u32);
    document.rows = all.iter().map(row).collect();
    document.notes.push(format!(
        "{}, S = {} us, load {LOAD}. Core 0 stands still in application code: 200 us every 10 ms, or 1 ms every 50 ms. Where a core was away \
         by itself the requests around that are left out, as in `sched`; the objective there is {SLO} S.",
        WORK.0.title(),
        WORK.1
    ));
    let table = table(&all);
    let text = text(&table);
    document.tables = vec![table];
    Ok(Finding { document, text, errors: 0, interrupted: !through })
}

fn measure(lab: &mut Lab, cores: &[usize], asked: &Asked, extent: Extent, all: &mut [Cell]) -> Result<()> {
    let (length, mut done) = (window(asked, extent), Nanos::ZERO);
    let mut p99 = |lab: &mut Lab, mode: usize, stall: Stall| -> Result<Option<f64>> {
        let rig = Rig::start(
            MODES[mode],
            cores,
            &App::Spin(stall, Nanos::from_micros(u64::from(WORK.1))),
            &work(WORK.0, WORK.1),
        )?;
        let shot = rig.window(LOAD * cores.len() as f64 * 1e6 / f64::from(WORK.1), LOAD, length)?;
        lab.noise.add(&shot.noise);
        done += Lab::takes(length) + super::START;
        lab.progress.to(done);
        Ok((!shot.void()).then(|| shot.p99().0 as f64 / 1e3 / f64::from(WORK.1)))
    };
    for round in 0..extent.rounds(asked) {
        lab.progress.part(&format!("stall: round {} of {}", round + 1, extent.rounds(asked)));
        let mut without = vec![None; MODES.len()];
        for mode in alternate(MODES.len(), round) {
            without[mode] = p99(lab, mode, Stall::NEVER)?;
        }
        for i in alternate(all.len(), round) {
            let cell = &mut all[i];
            let with = p99(lab, cell.mode, cell.stall)?;
            cell.with.push(with);
            cell.without.push(without[cell.mode]);
        }
    }
    Ok(())
}

fn row(c: &Cell) -> Value {
    let (sched, assist) = show::words(MODES[c.mode]);
    let of = |values: &[Option<f64>]| Spread::of(values.iter().copied().flatten()).map(|s| s.median);
    json!({
        "stall_us": c.stall.length.micros(), "every_ms": c.stall.every.millis(), "descheduled": c.stall.descheduled,
        "sched": sched, "assist": assist, "p99_over_s": of(&c.with), "p99_over_s_without": of(&c.without),
        "ratio": paired(&c.with, &c.without).map(|s| s.median),
    })
}

fn table(all: &[Cell]) -> Table {
    let mut columns_ = vec![Column::number("stall", "us"), Column::text("kind"), Column::text("way")];
    columns_.extend(columns("p99", "S"));
    columns_.extend(columns("of that without", ""));
    let rows = all.iter().map(|c| {
        let kind = if c.stall.descheduled { "descheduled" } else { "busy" };
        let mut row = vec![json!(c.stall.length.micros()), json!(kind), json!(MODES[c.mode].to_string())];
        row.extend(cells(Spread::of(c.with.iter().copied().flatten())));
        row.extend(cells(paired(&c.with, &c.without)));
        row
    });
    Table {
        id: "stall".into(),
        title: "p99 with a core that stands still".into(),
        caption: "Busy: it can be interrupted. Descheduled: it cannot.".into(),
        columns: columns_,
        rows: rows.collect(),
    }
}
