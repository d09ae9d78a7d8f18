//! Bulk transfer: goodput of one connection, over each wire, and over links with faults beside Linux on the same link; and how
//! flows share a slow link.
//!
//! | file | what |
//! |---|---|
//! | `sockets.rs` | a transfer through Linux sockets, every byte checked |
//! | `own.rs` | one with Zygix at both ends |
//! | `course.rs` | the link with faults and what is behind it |
//! | `rows.rs` | what is measured, and the rows that come of it |
//! | `share.rs` | two flows on one slow link; a queue kept short by DCTCP |
//! | `paper.rs` | the document |

mod course;
mod own;
mod paper;
mod rows;
mod share;
mod sockets;

use std::process::Command;

use anyhow::{Context, Result};
use units::Nanos;

use super::{Asked, Extent, Finding, finish, went_through};
use crate::Lab;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Zygix over shm and TAP, Linux over veth, nothing in between.
    Wires,
    /// Both over a link with faults.
    Impaired,
    /// Two flows, one of each, on a slow link.
    Fairness,
    /// Zygix to Zygix over a slow link that marks.
    Dctcp,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::Wires, Part::Impaired, Part::Fairness, Part::Dctcp];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Wires => "wires",
            Part::Impaired => "impaired",
            Part::Fairness => "fairness",
            Part::Dctcp => "dctcp",
        }
    }
}

/// Congestion control, of both stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Congestion {
    /// RFC 9438.
    Cubic,
    /// RFC 5681, 6582.
    Reno,
}

impl Congestion {
    /// What Linux calls it.
    pub const fn linux(self) -> &'static str {
        match self {
            Congestion::Cubic => "cubic",
            Congestion::Reno => "reno",
        }
    }

    /// What `zygix serve` calls it.
    pub const fn zygix(self) -> &'static str {
        match self {
            Congestion::Cubic => "cubic",
            Congestion::Reno => "newreno",
        }
    }
}

/// What this bench is asked beside [`Asked`].
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// Bytes of a transfer at most.
    pub bytes: u64,
    /// What is measured.
    pub parts: Vec<Part>,
    /// Of the links with faults, these ([`faults`]); none: all.
    pub faults: Vec<&'static str>,
    /// Of both stacks; by default CUBIC if this Zygix can be told to, else what it does on its own.
    pub congestion: Option<Congestion>,
}

impl Default for Wanted {
    /// Everything, a gigabyte at a time.
    fn default() -> Wanted {
        Wanted { bytes: 1 << 30, parts: Part::ALL.to_vec(), faults: Vec::new(), congestion: None }
    }
}

/// A transfer ends with whichever comes first.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    bytes: u64,
    span: Nanos,
}

/// What a transfer has come to.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Moved {
    bytes: u64,
    /// From the connection's first byte to the last one, or, upwards, to the server's answer.
    took: Nanos,
    /// The receiver's digest is that of what was sent.
    intact: bool,
}

impl Moved {
    /// Gigabits a second.
    fn gbps(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.took.0.max(1) as f64
    }
}

/// As the client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// The server receives.
    Up,
    /// The server sends.
    Down,
}

impl Direction {
    const ALL: [Direction; 2] = [Direction::Up, Direction::Down];

    const fn index(self) -> usize {
        self as usize
    }

    const fn name(self) -> &'static str {
        ["up", "down"][self.index()]
    }

    /// The mode of `zygix serve echo` that is its other end.
    const fn mode(self) -> &'static str {
        ["discard", "source"][self.index()]
    }
}

/// Whose server it is. The client is Linux, unless the wire is shm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Zygix,
    Linux,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Who::Zygix => "zygix",
            Who::Linux => "linux",
        }
    }
}

/// What `zygix serve` can be told, by its own words.
#[derive(Clone, Copy, Debug)]
struct Able {
    congestion: bool,
    ecn: bool,
}

impl Able {
    fn ask() -> Result<Able> {
        let program = std::env::current_exe().context("cannot find our own program")?;
        let said = Command::new(program).args(["serve", "echo", "--help"]).output().context("zygix serve --help")?;
        let help = String::from_utf8_lossy(&said.stdout);
        Ok(Able { congestion: help.contains("--congestion"), ecn: help.contains("--ecn") })
    }
}

/// How a run is set up, once what this Zygix can do is known.
#[derive(Clone, Debug)]
struct Setting {
    able: Able,
    congestion: Congestion,
    /// Of every Zygix server.
    options: Vec<String>,
    bounds: Bounds,
    rounds: u32,
    impairments: Vec<rows::Bad>,
}

impl Setting {
    fn new(asked: &Asked, wanted: &Wanted, extent: Extent, able: Able) -> Setting {
        let usual = if able.congestion { Congestion::Cubic } else { Congestion::Reno };
        let congestion = wanted.congestion.unwrap_or(usual);
        let options = if able.congestion { vec!["--congestion".into(), congestion.zygix().into()] } else { Vec::new() };
        let tiny = extent == Extent::Tiny;
        let bounds = if tiny {
            Bounds { bytes: 1 << 20, span: Nanos::from_millis(200) }
        } else {
            Bounds { bytes: wanted.bytes, span: asked.point }
        };
        let wants = |bad: &rows::Bad| wanted.faults.is_empty() || wanted.faults.contains(&bad.key);
        let impairments = rows::impairments().into_iter().filter(wants).collect();
        Setting { able, congestion, options, bounds, rounds: extent.rounds(asked), impairments }
    }
}

/// What the links with faults are called.
pub fn faults() -> Vec<&'static str> {
    rows::impairments().iter().map(|bad| bad.key).collect()
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, wanted: &Wanted, extent: Extent) -> Nanos {
    let able = Able { congestion: true, ecn: true };
    let setting = Setting::new(asked, wanted, extent, able);
    let part = |part: &Part| match part {
        Part::Wires | Part::Impaired => rows::takes(&setting, *part),
        Part::Fairness | Part::Dctcp => share::takes(&setting),
    };
    wanted.parts.iter().fold(Nanos::ZERO, |sum, p| sum + part(p))
}

/// Runs the bench.
///
/// # Errors
/// No namespaces, no bridge device; a server that does not start. A transfer that fails is counted, and told in its row.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent, wanted: &Wanted) -> Result<Finding> {
    let able = Able::ask()?;
    let setting = Setting::new(asked, wanted, extent, able);
    if !able.congestion {
        let name = setting.congestion.linux();
        lab.notes.push(format!(
            "This Zygix cannot be told its congestion control: it does what it does on its own, and Linux uses {name}."
        ));
    }
    lab.progress.plan(takes(asked, wanted, extent));
    let mut found = paper::Found::default();
    let measured = measure(lab, &setting, wanted, &mut found);
    lab.progress.clear();
    let through = went_through(measured)?;
    let document = finish(lab, "bulk", "Bulk transfer", asked, &[], through)?;
    Ok(found.into_finding(document, &setting, through))
}

fn measure(lab: &mut Lab, setting: &Setting, wanted: &Wanted, found: &mut paper::Found) -> Result<()> {
    if wanted.parts.contains(&Part::Wires) {
        rows::wires(lab, setting, &mut found.rows)?;
    }
    if wanted.parts.contains(&Part::Impaired) {
        rows::impaired(lab, setting, &mut found.rows)?;
    }
    if wanted.parts.contains(&Part::Fairness) {
        share::fairness(lab, setting, found)?;
    }
    if wanted.parts.contains(&Part::Dctcp) {
        share::dctcp(lab, setting, found)?;
    }
    Ok(())
}
