//! What is measured, and the rows that come of it.

use std::sync::atomic::AtomicU64;

use anyhow::Result;
use nic::Faults;
use serde_json::{Value, json};
use units::Nanos;

use super::course::{self, Course};
use super::own::{self, Seat};
use super::{Direction, Moved, Part, Setting, Who, sockets};
use crate::kinds::alternate;
use crate::kinds::side::{Folder, meet};
use crate::net::Link;
use crate::stack::{Serving, Stack};
use crate::stats::{Spread, paired};
use crate::{Contender, Interrupted, Lab};

/// Links of the direct wires: others belong to other benches.
const FIRST_LINK: u8 = 50;

/// One way of one wire.
const LATENCY: Nanos = Nanos::from_millis(5);

/// A link with faults, both ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bad {
    /// What it is called on the command line.
    pub(super) key: &'static str,
    /// What it is called in the rows.
    pub(super) name: &'static str,
    pub(super) faults: Faults,
}

/// All that are measured.
pub(super) fn impairments() -> Vec<Bad> {
    let none = Faults::default();
    let late = Faults { late: 0.02, delay: Nanos::from_millis(2), ..none };
    let bad = |key, name, faults| Bad { key, name, faults };
    let all =
        Faults { loss: 0.01, duplicate: 0.01, corrupt: 0.005, latency: LATENCY, jitter: Nanos::from_millis(1), ..late };
    vec![
        bad("none", "none", none),
        bad("loss", "1 % loss", Faults { loss: 0.01, ..none }),
        bad("reordering", "2 % reordering", Faults { behind: 3, delay: Nanos::from_millis(1), ..late }),
        bad("duplication", "1 % duplication", Faults { duplicate: 0.01, ..none }),
        bad("corruption", "0.5 % corruption", Faults { corrupt: 0.005, ..none }),
        bad("far-loss", "1 % loss, 10 ms", Faults { loss: 0.01, latency: LATENCY, ..none }),
        bad("all", "all, 5 ms each way and jitter", all),
    ]
}

/// One thing that is measured, and what each round found.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) wire: &'static str,
    pub(super) impairment: &'static str,
    pub(super) direction: Direction,
    pub(super) who: Who,
    pub(super) moved: Vec<Option<Moved>>,
    /// Transfers that failed or were damaged.
    pub(super) errors: u64,
    /// Why the last of them failed.
    pub(super) note: String,
}

impl Row {
    fn new(wire: &'static str, impairment: &'static str, direction: Direction, who: Who) -> Row {
        Row { wire, impairment, direction, who, moved: Vec::new(), errors: 0, note: String::new() }
    }

    /// What a round has come to. An interruption is nobody's failure.
    fn add(&mut self, done: Result<Moved>) -> Result<()> {
        match done {
            Ok(moved) if moved.intact => self.moved.push(Some(moved)),
            Ok(moved) => self.failed(format!("{} bytes arrived damaged", moved.bytes)),
            Err(e) if e.is::<Interrupted>() => return Err(e),
            Err(e) => self.failed(format!("{e:#}")),
        }
        Ok(())
    }

    fn failed(&mut self, why: String) {
        self.moved.push(None);
        self.errors += 1;
        self.note = why;
    }

    /// Gigabits a second, by round.
    fn rounds(&self) -> Vec<Option<f64>> {
        self.moved.iter().map(|m| m.map(|m| m.gbps())).collect()
    }

    /// The median and the range.
    pub(super) fn gbps(&self) -> Option<Spread> {
        Spread::of(self.rounds().into_iter().flatten())
    }

    /// This row over another, round by round.
    pub(super) fn over(&self, other: &Row) -> Option<Spread> {
        paired(&self.rounds(), &other.rounds())
    }

    /// For programs; `linux`: the row that it is compared with.
    pub(super) fn object(&self, congestion: &str, linux: Option<&Row>) -> Value {
        let gbps = self.gbps();
        let ratio = linux.and_then(|linux| self.over(linux));
        json!({
            "wire": self.wire,
            "impairment": self.impairment,
            "direction": self.direction.name(),
            "stack": self.who.name(),
            "congestion": congestion,
            "gbps": gbps.map(|s| s.median),
            "gbps_low": gbps.map(|s| s.low),
            "gbps_high": gbps.map(|s| s.high),
            "over_linux": ratio.map(|s| s.median),
            "over_linux_low": ratio.map(|s| s.low),
            "over_linux_high": ratio.map(|s| s.high),
            "bytes": self.moved.iter().flatten().map(|m| m.bytes).sum::<u64>(),
            "intact": (!self.moved.is_empty()).then_some(self.errors == 0),
            "note": self.note,
        })
    }
}

/// The row of Linux that a row of Zygix is compared with: on the same link, or, of a TAP, over veth.
pub(super) fn counterpart<'a>(rows: &'a [Row], row: &Row) -> Option<&'a Row> {
    let wire = if row.wire == "tap" { "veth" } else { row.wire };
    let same = |r: &&Row| {
        r.who == Who::Linux && r.wire == wire && r.impairment == row.impairment && r.direction == row.direction
    };
    rows.iter().find(same).filter(|_| row.who == Who::Zygix)
}

/// The most that a part takes.
pub(super) fn takes(setting: &Setting, part: Part) -> Nanos {
    let transfers = if part == Part::Wires { 6 } else { setting.impairments.len() * 4 };
    Nanos(each(setting).0 * transfers as u64 * u64::from(setting.rounds))
}

/// A transfer, with what is buffered when its time is over, and the checking.
fn each(setting: &Setting) -> Nanos {
    setting.bounds.span + Nanos::from_millis(800)
}

/// Nothing in between: shm with Zygix at both ends; TAP and veth with a Linux client.
pub(super) fn wires(lab: &mut Lab, setting: &Setting, rows: &mut Vec<Row>) -> Result<()> {
    let first = rows.len();
    rows.extend(Direction::ALL.map(|direction| Row::new("shm", "none", direction, Who::Zygix)));
    let mut servers: Vec<Contender> = Vec::new();
    for direction in Direction::ALL {
        for (who, wire) in [(Who::Zygix, "tap"), (Who::Linux, "veth")] {
            rows.push(Row::new(wire, "none", direction, who));
            servers.push(lab.serve(&serving(lab, setting, direction, who, servers.len()))?);
        }
    }
    for round in 0..setting.rounds {
        for i in alternate(rows.len() - first, round) {
            let row = &mut rows[first + i];
            lab.progress.say(&format!("{} {} {}", row.who.name(), row.wire, row.direction.name()));
            let done = match i.checked_sub(Direction::ALL.len()) {
                None => over_shm(lab, setting, row.direction),
                Some(i) => over_sockets(lab, servers[i].serving.addr(), row.direction, setting),
            };
            row.add(done)?;
        }
    }
    Ok(())
}

fn serving(lab: &Lab, setting: &Setting, direction: Direction, who: Who, index: usize) -> Serving {
    let stack = if who == Who::Zygix { Stack::Zygix } else { Stack::LinuxPartitioned };
    let mut more = vec!["--mode".to_owned(), direction.mode().to_owned()];
    match who {
        Who::Zygix => more.extend(setting.options.iter().cloned()),
        Who::Linux => more.extend(["--linux-congestion", setting.congestion.linux()].map(str::to_owned)),
    }
    let cores = vec![lab.accounting.server_core];
    Serving { stack, app: "echo", link: Link(FIRST_LINK + index as u8), cores, more }
}

/// A transfer from the load's core.
fn over_sockets(lab: &Lab, addr: std::net::SocketAddr, direction: Direction, setting: &Setting) -> Result<Moved> {
    let (core, bounds, congestion) = (lab.accounting.load_core, setting.bounds, setting.congestion.linux());
    on(core, || sockets::transfer(addr, direction, bounds, congestion, &AtomicU64::new(0)))
}

/// Runs `f` in a thread on a core.
pub(super) fn on<R: Send>(core: usize, f: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    std::thread::scope(|scope| {
        let pinned = || {
            sys::thread::pin(core)?;
            f()
        };
        scope.spawn(pinned).join().unwrap_or_else(|_| Err(anyhow::anyhow!("the client has panicked")))
    })
}

/// A transfer between two dataplanes, on a wire that is made for it: its server has one peer in its life.
fn over_shm(lab: &Lab, setting: &Setting, direction: Direction) -> Result<Moved> {
    let serving = serving(lab, setting, direction, Who::Zygix, 9);
    let folder = Folder::new(serving.link)?;
    let path = folder.path().join("wire");
    let spin = !lab.accounting.shared();
    let (server, nic) = meet(&serving, &path, spin, true)?;
    let seat = Seat { core: lab.accounting.load_core, spin, tcp: tcp::Config::default() };
    let moved = own::transfer(nic, serving.link, serving.addr(), direction, setting.bounds, &seat);
    drop(server);
    moved
}

/// Both stacks behind the same link.
pub(super) fn impaired(lab: &mut Lab, setting: &Setting, rows: &mut Vec<Row>) -> Result<()> {
    let course = Course::build(lab, setting.congestion, &setting.options)?;
    let first = rows.len();
    let all = &setting.impairments;
    for Bad { name, .. } in all {
        for direction in Direction::ALL {
            rows.extend([Who::Zygix, Who::Linux].map(|who| Row::new("link", name, direction, who)));
        }
    }
    for round in 0..setting.rounds {
        for i in alternate(rows.len() - first, round) {
            let row = &mut rows[first + i];
            lab.progress.say(&format!("{} {} {}", row.who.name(), row.impairment, row.direction.name()));
            // Both stacks meet the same dice, other ones in each round.
            course.set([all[i / 4].faults; 2], u64::from(round) + 1);
            row.add(over_sockets(lab, course::place(row.who, row.direction), row.direction, setting))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wire: &'static str, who: Who, gbps: &[f64]) -> Row {
        let moved = |g: &f64| Some(Moved { bytes: (g * 1e9 / 8.0) as u64, took: Nanos::from_secs(1), intact: true });
        Row { moved: gbps.iter().map(moved).collect(), ..Row::new(wire, "none", Direction::Up, who) }
    }

    #[test]
    fn a_row_is_compared_with_its_counterpart_round_by_round() {
        let rows = [row("tap", Who::Zygix, &[2.0, 9.0, 3.0]), row("veth", Who::Linux, &[4.0, 9.0, 3.0])];
        let linux = counterpart(&rows, &rows[0]).unwrap();
        assert_eq!(linux.wire, "veth");
        assert!(counterpart(&rows, &rows[1]).is_none());
        let object = rows[0].object("reno", Some(linux));
        assert_eq!((object["gbps"].as_f64(), object["over_linux"].as_f64()), (Some(3.0), Some(1.0)));
        assert_eq!(object["over_linux_low"], 0.5);
    }

    #[test]
    fn what_fails_is_told_and_counted() {
        let mut row = row("link", Who::Zygix, &[]);
        row.add(Ok(Moved { bytes: 7, took: Nanos(1), intact: false })).unwrap();
        row.add(Err(anyhow::anyhow!("reset"))).unwrap();
        assert!(row.add(Err(Interrupted.into())).is_err());
        assert_eq!((row.errors, row.note.as_str(), row.gbps()), (2, "reset", None));
        assert_eq!(row.object("reno", None)["intact"], false);
    }
}
