//! The document that a bench writes and a report reads: schema `zygix-bench-1`.
//!
//! A document is one run of one bench: where it ran, how it was asked for, how noisy the machine was, and what came out, as rows (the stacks
//! comparison), figures and tables. It holds figures to be drawn, not drawings. Reading is lenient: a missing field has its default, an
//! unknown one is passed over, and `null` stands for a number that is missing (NaN). Only `schema` must be there and right.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What [`Document::schema`] says.
pub const SCHEMA: &str = "zygix-bench-1";

/// One run of one bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// The bench: `stacks`, `pingpong`, `sizes`, ...
    #[serde(default)]
    pub kind: String,
    /// A heading for people.
    #[serde(default)]
    pub title: String,
    /// The command line that makes these figures again.
    #[serde(default)]
    pub command: String,
    /// When it began: UTC, ISO 8601.
    #[serde(default)]
    pub started: String,
    /// The commit measured, as `git describe` names it, or `unknown`.
    #[serde(default)]
    pub commit: String,
    /// Where it ran.
    #[serde(default)]
    pub machine: Machine,
    /// The measured time of each point.
    #[serde(default, with = "number")]
    pub seconds_per_point: f64,
    /// How often each point was measured.
    #[serde(default)]
    pub repeats: u32,
    /// One object per measured combination: `stacks` by (application, stack, wire, workload), `sched` by (distribution, service time, mode),
    /// `stall` by (stall, mode). docs/bench.md lists their fields. Other benches have none.
    #[serde(default)]
    pub rows: Vec<Value>,
    /// `sched`, `stall`: the cores, all of them servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// `sched`: what the network costs per request, in microseconds of a core: receive and transmit, TCP and the batch's syscalls included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_us_per_request: Option<f64>,
    /// What is to be drawn.
    #[serde(default)]
    pub figures: Vec<Figure>,
    /// What is to be listed.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// How far the machine disturbed the run.
    #[serde(default)]
    pub noise: Noise,
    /// Sentences that a reader of the figures must know.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Default for Document {
    fn default() -> Document {
        Document {
            schema: SCHEMA.to_string(),
            kind: String::new(),
            title: String::new(),
            command: String::new(),
            started: String::new(),
            commit: String::new(),
            machine: Machine::default(),
            seconds_per_point: 0.0,
            repeats: 0,
            rows: Vec::new(),
            cores: None,
            network_us_per_request: None,
            figures: Vec::new(),
            tables: Vec::new(),
            noise: Noise::default(),
            notes: Vec::new(),
        }
    }
}

/// The machine of a run. [`Machine::here`] asks the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor's model name; empty where the kernel does not tell.
    pub cpu: String,
    /// Logical processors that are online.
    pub cores: u32,
    /// The kernel's release.
    pub kernel: String,
    /// Memory, in units of 2^30 bytes.
    #[serde(with = "number")]
    pub memory_gb: f64,
    /// The hypervisor, `None` on bare metal.
    pub hypervisor: Option<String>,
    /// The frequency governor of the first processor, `None` where there is none (most virtual machines).
    pub governor: Option<String>,
}

/// How far the machine disturbed a run. A slice is a stretch of measured time; one in which a measured thread waited in the run queue for too
/// long is discarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// Slices measured.
    pub slices: u64,
    /// Slices of these that were discarded.
    pub discarded: u64,
    /// Milliseconds that measured threads waited in run queues, in sum.
    #[serde(with = "number")]
    pub waited_ms: f64,
    /// Share of the time that the hypervisor gave to others (0 to 1).
    #[serde(with = "number")]
    pub stolen_share: f64,
    /// The judgement, for people.
    pub verdict: String,
}

/// A diagram: series of points over two axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figure {
    /// A name that is unique within the document; it becomes part of the anchor.
    pub id: String,
    /// The heading.
    pub title: String,
    /// What is to be seen, how it was measured.
    pub caption: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, in the order of the legend.
    pub series: Vec<Series>,
}

/// One axis of a [`Figure`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Axis {
    /// What is counted, without the unit.
    pub label: String,
    /// The unit of the numbers. Some units have prefixes of their own on the ticks: `ns`, `us`, `ms`, `s` (10 us, 1 ms), `B` (64 B, 4 KB); other
    /// numbers become 10k, 1M.
    pub unit: String,
    /// Logarithmic. Values that are not above 0 are then not drawn.
    pub log: bool,
    /// The end of the axis. Points beyond are not drawn, lines to them are cut at the edge; `None`: the largest value.
    pub max: Option<f64>,
    /// A value to be marked by a line across the figure, such as the SLO.
    pub mark: Option<f64>,
}

/// A named sequence of points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub style: Style,
    /// Its points, in the order in which a line joins them.
    pub points: Vec<Point>,
}

/// How a [`Series`] is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Markers joined by a line.
    #[default]
    Line,
    /// Markers alone.
    Points,
    /// A thin line without markers: what theory or a limit allows.
    Bound,
}

/// One value of a [`Series`], and its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where, in the unit of the horizontal axis. NaN (`null` in JSON): not drawn, and the line breaks here.
    #[serde(default = "nan", with = "number")]
    pub x: f64,
    /// The value, in the unit of the vertical axis. NaN as for `x`.
    #[serde(default = "nan", with = "number")]
    pub y: f64,
    /// The lower end of the spread of `y`.
    #[serde(default)]
    pub low: Option<f64>,
    /// The upper end of the spread of `y`.
    #[serde(default)]
    pub high: Option<f64>,
}

impl Point {
    /// A point without spread.
    pub fn new(x: f64, y: f64) -> Point {
        Point { x, y, low: None, high: None }
    }

    /// A point whose value varied between `low` and `high`.
    pub fn spread(x: f64, y: f64, low: f64, high: f64) -> Point {
        Point { x, y, low: Some(low), high: Some(high) }
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// A name that is unique within the document; it becomes part of the anchor.
    pub id: String,
    /// The heading.
    pub title: String,
    /// What the table says, how it was measured.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; a cell is a number, a string, a boolean or `null` (missing).
    pub rows: Vec<Vec<Value>>,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// The unit, shown under the heading; empty for none.
    pub unit: String,
    /// Digits after the point; `None`: three significant digits.
    pub decimals: Option<u8>,
    /// The column holds words, and is aligned so.
    pub text: bool,
}

impl Column {
    /// A column of numbers with three significant digits.
    pub fn number(name: &str, unit: &str) -> Column {
        Column { name: name.to_string(), unit: unit.to_string(), decimals: None, text: false }
    }

    /// A column of words.
    pub fn text(name: &str) -> Column {
        Column { name: name.to_string(), unit: String::new(), decimals: None, text: true }
    }

    /// The same column with `digits` after the point.
    pub fn decimals(self, digits: u8) -> Column {
        Column { decimals: Some(digits), ..self }
    }
}

fn nan() -> f64 {
    f64::NAN
}

/// A float whose missing value is NaN here and `null` in JSON, which has no NaN.
pub(crate) mod number {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}
