//! What this machine takes for the operations that a simulated world charges: a [`world::Costs`], measured.
//!
//! | figure | how |
//! |---|---|
//! | `rx_ns`, `tx_ns`, `turn_ns`, `call_ns` | turns with 1 to 32 requests, and the line through them: see below |
//! | `poll_ns` | half of a turn in ZygOS mode on two cores that finds nothing, the clock read for each |
//! | `steal_ns`, `lend_ns` | the same calls by two threads on two cores, and by one thread: the difference |
//! | `interrupt_send_ns` | the time of the sender's call |
//! | `interrupt_ns` | how much longer than usual it takes from one reading of the clock to the next, in a thread that is interrupted meanwhile |
//!
//! The network. An elastic thread in IX mode is driven by hand, on the open-loop NIC at arm's length (`ready.rs`: its requests are made, and replies are judged, between the
//! timed parts), with an application that answers and computes nothing. The three parts of a turn are timed apart:
//!
//! ```text
//!   begin    intercept ─► turn_ns     slope ─► rx_ns    frames received, TCP, the batch drawn
//!   run      intercept ─► call_ns     slope ─► tx_ns    the library's share of a request: it is made into a reply there
//!   resume   intercept ─► turn_ns     slope ─► tx_ns    the reply transmitted, syscalls and timers
//! ```
//!
//! Each part has one of the three readings of the clock in it that a turn takes. So a turn with n requests takes turn + call + n (rx + tx), as a world
//! charges it. The split is as clean as the three calls are: what `begin` leaves in the caches `resume` finds there.
//!
//! Noise. Every figure is a median of many short pieces, so what disturbs less than half of them does not count; pieces that take far too long are
//! left out. With a single core `steal_ns`, `lend_ns` and the interrupt's figures are assumed, which the table says.
//!
//! | file | what |
//! |---|---|
//! | `ready.rs` | a NIC whose frames lie ready |
//! | `rig.rs` | servers on it, driven by hand |
//! | `turns.rs` | turns with requests, and without |
//! | `pair.rs` | work for another core |
//! | `interrupts.rs` | interrupts |
//!
//! Absent on purpose: a NIC's own cost (the open-loop NIC has none, and a copy of each frame stands for that of the emulated wire), memory that no
//! cache holds, and the application.

mod interrupts;
mod pair;
mod ready;
mod rig;
mod turns;

use std::fmt::Write as _;
use std::thread;

use anyhow::{Result, anyhow};
use report::Machine;
use serde::Serialize;
use sys::clock;
use units::Nanos;
use world::Costs;

use crate::progress::Progress;
use crate::stats::{Spread, median};
use crate::{Interrupted, cores};

/// Where there is one core only: what the thesis's machine and virtual machines have.
const ASSUMED: Costs = Costs {
    name: String::new(),
    rx_ns: 0,
    tx_ns: 0,
    turn_ns: 0,
    call_ns: 0,
    poll_ns: 0,
    steal_ns: 200,
    lend_ns: 200,
    interrupt_send_ns: 2000,
    interrupt_ns: 5000,
};

/// A figure with what it was made of.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// The name of the field of [`Costs`].
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// The median and the quartiles, in nanoseconds; `None`: the figure is assumed.
    pub ns: Option<Spread>,
}

/// What a machine takes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Calibration {
    /// For the simulator.
    pub costs: Costs,
    /// What they are made of, in the same order.
    pub figures: Vec<Figure>,
}

/// How long to go on with something.
pub(crate) struct Meter {
    until: Nanos,
}

impl Meter {
    fn of(length: Nanos) -> Meter {
        Meter { until: clock::now() + length }
    }

    /// Whether the time is over.
    fn is_over(&self) -> bool {
        clock::now() >= self.until
    }

    /// Whether to go on after `done` pieces: at least one is needed.
    fn goes_on(&self, done: usize) -> bool {
        done == 0 || !self.is_over() && !sys::stop::requested()
    }
}

/// Measures for about `length` in all; needs no privilege. Nothing else should run meanwhile.
///
/// # Errors
/// Memory or cores are not to be had; [`Interrupted`].
pub fn run(length: Nanos) -> Result<Calibration> {
    // A thread of its own: it is pinned, and whoever called is not.
    thread::scope(|scope| scope.spawn(|| measure(length)).join())
        .map_err(|_| anyhow!("the measuring thread panicked"))?
}

fn measure(length: Nanos) -> Result<Calibration> {
    let allowed = sys::thread::allowed_cores()?;
    let pair = cores::choose(&allowed);
    sys::thread::pin(pair.0)?;
    let progress = Progress::new("bench");
    progress.plan(length);
    let mut done = Nanos::ZERO;
    let mut part = |what: &str, percent: u64| {
        progress.part(&format!("calibrate: {what}"));
        let share = Nanos(length.0 / 100 * percent);
        done += share;
        (Meter::of(share), done)
    };
    let go_on = |done| {
        progress.to(done);
        if sys::stop::requested() { Err(anyhow::Error::from(Interrupted)) } else { Ok(()) }
    };

    let (meter, to) = part("turns with requests", 40);
    let turns = turns::measure(&meter)?;
    go_on(to)?;
    let (meter, to) = part("turns that find nothing", 10);
    let polls = turns::empty(&meter)?.iter().map(|ns| ns / 2.0).collect();
    go_on(to)?;
    let (mut moved, mut interrupted) = (pair::Pair::default(), interrupts::Interrupts::default());
    if pair.0 != pair.1 {
        let (meter, to) = part("work for another core", 35);
        moved = pair::measure(pair, &meter)?;
        go_on(to)?;
        let (meter, to) = part("interrupts", 15);
        interrupted = interrupts::measure(pair, &meter)?;
        go_on(to)?;
    }
    progress.clear();
    Ok(conclude(turns, polls, moved, interrupted))
}

/// Names the figures.
fn conclude(turns: turns::Turns, polls: Vec<f64>, pair: pair::Pair, interrupts: interrupts::Interrupts) -> Calibration {
    let mut figures = Vec::new();
    let mut figure = |name, what, values: Vec<f64>, assumed: u64| {
        let ns = quartiles(values);
        figures.push(Figure { name, what, ns });
        // What is lost in the noise is not free.
        ns.map_or(assumed, |ns| (ns.median.round() as u64).max(1))
    };
    let here = Machine::here();
    let costs = Costs {
        name: format!("{}, Linux {}", if here.cpu.is_empty() { "unknown CPU" } else { &here.cpu }, here.kernel),
        rx_ns: figure("rx_ns", "a request received", turns.rx, 0),
        tx_ns: figure("tx_ns", "a reply made and transmitted", turns.tx, 0),
        turn_ns: figure("turn_ns", "a turn, whatever it finds", turns.turn, 0),
        call_ns: figure("call_ns", "into application code and back", turns.call, 0),
        poll_ns: figure("poll_ns", "until an idle core sees something", polls, 0),
        steal_ns: figure("steal_ns", "more for a stolen connection", pair.steal, ASSUMED.steal_ns),
        lend_ns: figure("lend_ns", "more for a network pass of another core's", pair.lend, ASSUMED.lend_ns),
        interrupt_send_ns: figure(
            "interrupt_send_ns",
            "an interrupt, for its sender",
            interrupts.send,
            ASSUMED.interrupt_send_ns,
        ),
        interrupt_ns: figure("interrupt_ns", "an interrupt, for who gets it", interrupts.lost, ASSUMED.interrupt_ns),
    };
    Calibration { costs, figures }
}

/// The median with the quartiles; `None` of none.
fn quartiles(mut values: Vec<f64>) -> Option<Spread> {
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values.get((values.len() as f64 * q) as usize).copied();
    Some(Spread { median: median(values.iter().copied()), low: at(0.25)?, high: at(0.75)? })
}

impl Calibration {
    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.costs.name);
        for Figure { name, what, ns } in &self.figures {
            let _ = match ns {
                Some(ns) => writeln!(text, "{name:18} {:7.0} ns  ({:.0} to {:.0})  {what}", ns.median, ns.low, ns.high),
                None => writeln!(text, "{name:18} {:>7}     (assumed: one core)  {what}", "-"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_here_is_what_a_world_reads() {
        let found = run(Nanos::from_millis(200)).unwrap();
        let path = std::env::temp_dir().join(format!("zygix-costs-{}.json", std::process::id()));
        std::fs::write(&path, serde_json::to_string_pretty(&found.costs).unwrap()).unwrap();
        let read = Costs::read(&path);
        std::fs::remove_file(&path).unwrap();
        // Reading refuses what takes longer than a millisecond.
        assert_eq!(read.unwrap(), found.costs);
        assert_eq!(found.figures.len(), 9);
        let several = sys::thread::allowed_cores().unwrap().len() > 1;
        for Figure { name, ns, .. } in &found.figures {
            let Some(ns) = ns else {
                assert!(!several && ASSUMED_NAMES.contains(name), "{name} was not measured");
                continue;
            };
            assert!(ns.low <= ns.median && ns.median <= ns.high, "{name}: {ns:?}");
        }
        let lines: Vec<String> = found.table().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 10, "{lines:#?}");
        let c = &found.costs;
        for ns in [
            c.rx_ns,
            c.tx_ns,
            c.turn_ns,
            c.call_ns,
            c.poll_ns,
            c.steal_ns,
            c.lend_ns,
            c.interrupt_send_ns,
            c.interrupt_ns,
        ] {
            assert!(ns > 0, "{c:?}");
        }
    }

    const ASSUMED_NAMES: [&str; 4] = ["steal_ns", "lend_ns", "interrupt_send_ns", "interrupt_ns"];

    #[test]
    fn where_there_is_one_core_the_rest_is_assumed() {
        let turns = turns::Turns { rx: vec![100.0], tx: vec![150.4], turn: vec![90.0, 70.0, 80.0], call: vec![-3.0] };
        let found = conclude(turns, vec![40.0], pair::Pair::default(), interrupts::Interrupts::default());
        let c = &found.costs;
        assert_eq!((c.rx_ns, c.tx_ns, c.turn_ns, c.call_ns, c.poll_ns), (100, 150, 80, 1, 40));
        assert_eq!((c.steal_ns, c.lend_ns, c.interrupt_send_ns, c.interrupt_ns), (200, 200, 2000, 5000));
        assert_eq!(found.table().matches("assumed").count(), 4);
        let turn = found.figures.iter().find(|f| f.name == "turn_ns").and_then(|f| f.ns).unwrap();
        assert_eq!((turn.low, turn.median, turn.high), (70.0, 80.0, 90.0));
    }
}
