//! What was found, as a document.

use report::{Axis, Column, Document, Figure, Point, Series, Table};
use serde_json::{Value, json};

use super::rows::{Row, counterpart};
use super::share::{Depth, Share, median_of};
use super::{Setting, Who};
use crate::kinds::grid::cells;
use crate::kinds::{Finding, text};
use crate::stats::Spread;

/// Everything that was measured so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) rows: Vec<Row>,
    pub(super) shares: Vec<Share>,
    pub(super) depths: Vec<Depth>,
    pub(super) notes: Vec<String>,
    /// Transfers that failed, those of rows not counted.
    pub(super) errors: u64,
}

impl Found {
    pub(super) fn into_finding(self, mut document: Document, setting: &Setting, through: bool) -> Finding {
        let errors = self.errors + self.rows.iter().map(|r| r.errors).sum::<u64>();
        // Clients here are ordinary threads that sleep: nobody has looked for slices to leave out.
        document.noise.verdict = "not looked at: the ranges over the rounds tell".into();
        document.rows = self.objects(setting);
        document.tables =
            [self.wires(), self.impaired(), self.sharing(), self.queues()].into_iter().flatten().collect();
        document.figures = self.shares.iter().filter(|s| !s.course.is_empty()).map(figure).collect();
        for row in self.rows.iter().filter(|r| r.errors > 0) {
            document.notes.push(format!(
                "{} over {} ({}), {}: {} of {} transfers failed; the last: {}.",
                row.who.name(),
                row.wire,
                row.impairment,
                row.direction.name(),
                row.errors,
                row.moved.len(),
                row.note
            ));
        }
        document.notes.extend(self.notes);
        document.notes.push(format!(
            "One connection of at most {} bytes and {:.1} s; every byte is checked. Goodput is application bytes over the time from the \
             first to the last, upwards to the server's answer. Up: the server receives; down: it sends. Sizes of faults are \
             shares of frames each way. On the link neither side's frames are super-frames, and link and client share cores: it is \
             slower than the wires, for both.",
            setting.bounds.bytes,
            setting.bounds.span.as_secs_f64()
        ));
        let text = document.tables.iter().map(text).collect::<Vec<_>>().join("\n");
        Finding { document, text, errors, interrupted: !through }
    }

    fn objects(&self, setting: &Setting) -> Vec<Value> {
        let name = setting.congestion.linux();
        let rows = self.rows.iter().map(|row| row.object(name, counterpart(&self.rows, row)));
        let shares = self.shares.iter().map(|share| share.object(name));
        rows.chain(shares).chain(self.depths.iter().map(Depth::object)).collect()
    }

    fn wires(&self) -> Option<Table> {
        let rows = self.rows.iter().filter(|r| r.wire != "link").map(|row| {
            let ratio = counterpart(&self.rows, row).and_then(|linux| row.over(linux));
            let head = [json!(row.who.name()), json!(row.wire), json!(row.direction.name())];
            head.into_iter().chain(cells(row.gbps())).chain([json!(ratio.map(|s| s.median))]).collect()
        });
        table(
            "wires",
            "Goodput by wire",
            "Zygix over shm has Zygix at both ends, else the client is Linux.",
            rows,
            || {
                vec![
                    Column::text("server"),
                    Column::text("wire"),
                    Column::text("direction"),
                    Column::number("goodput", "Gbit/s"),
                    Column::text("range"),
                    Column::number("over Linux", ""),
                ]
            },
        )
    }

    fn impaired(&self) -> Option<Table> {
        let ours = self.rows.iter().filter(|r| r.wire == "link" && r.who == Who::Zygix);
        let rows = ours.map(|row| {
            let linux = counterpart(&self.rows, row);
            let ratio = linux.and_then(|linux| row.over(linux));
            let head = [json!(row.impairment), json!(row.direction.name())];
            let both = cells(row.gbps()).into_iter().chain(cells(linux.and_then(Row::gbps)));
            head.into_iter().chain(both).chain(cells(ratio)).collect()
        });
        let caption = "The same link and the same dice for both; the other end is Linux.";
        table("impaired", "Goodput over a link with faults", caption, rows, || {
            let stack = |name: &str| [Column::number(name, "Gbit/s"), Column::text("range")];
            let head = [Column::text("faults"), Column::text("direction")];
            let ratio = [Column::number("Zygix over Linux", ""), Column::text("range")];
            head.into_iter().chain(stack("Zygix")).chain(stack("Linux")).chain(ratio).collect()
        })
    }

    fn sharing(&self) -> Option<Table> {
        let rows = self.shares.iter().map(|share| {
            let [p50, p99] = median_of(&share.queue);
            let first = Spread::of(share.first.iter().map(|s| s * 100.0));
            let head = [json!(share.flows.map(Who::name).join(" and "))];
            let mbps = Spread::of(share.mbps.iter().copied()).map(|s| s.median);
            head.into_iter().chain(cells(first)).chain([json!(mbps), json!(p50), json!(p99)]).collect()
        });
        let caption =
            "100 Mbit/s, a round trip of 10 ms, a queue of what is under way (125 000 B), which drops its tail.";
        table("fairness", "Two flows on one slow link", caption, rows, || {
            let share = [Column::number("the first one's share", "%"), Column::text("range")];
            let rest = ["both", "queue p50", "queue p99"].into_iter().zip(["Mbit/s", "B", "B"]);
            let rest = rest.map(|(name, unit)| Column::number(name, unit));
            [Column::text("flows")].into_iter().chain(share).chain(rest).collect()
        })
    }

    fn queues(&self) -> Option<Table> {
        let rows = self.depths.iter().map(|d| {
            let [p50, p99] = median_of(&d.queue);
            let mbps = Spread::of(d.mbps.iter().copied());
            let tail = [json!(p50), json!(p99), json!(d.marked), json!(d.dropped)];
            [json!(d.congestion)].into_iter().chain(cells(mbps)).chain(tail).collect()
        });
        let caption =
            "Zygix to Zygix, 100 Mbit/s, a round trip of 2 ms, room for 100 000 B; with DCTCP, CE from 15 000 B on.";
        table("marking", "The queue of a link that marks", caption, rows, || {
            let rest = ["queue p50", "queue p99"].map(|name| Column::number(name, "B").decimals(0));
            let counts = ["marked", "dropped"].map(|name| Column::number(name, "").decimals(0));
            let head = [Column::text("congestion control"), Column::number("goodput", "Mbit/s"), Column::text("range")];
            head.into_iter().chain(rest).chain(counts).collect()
        })
    }
}

/// A table, if there is anything to tell.
fn table(
    id: &str,
    title: &str,
    caption: &str,
    rows: impl Iterator<Item = Vec<Value>>,
    columns: impl FnOnce() -> Vec<Column>,
) -> Option<Table> {
    let rows: Vec<_> = rows.collect();
    let some = !rows.is_empty();
    some.then(|| Table { id: id.into(), title: title.into(), caption: caption.into(), columns: columns(), rows })
}

/// Both flows over time, in the last round.
fn figure(share: &Share) -> Figure {
    let names = share.flows.map(Who::name);
    let line = |i: usize| Series {
        name: if names[0] == names[1] { format!("{}, flow {}", names[i], i + 1) } else { names[i].to_owned() },
        points: share.course.iter().map(|(at, mbps)| Point::new(*at, mbps[i])).collect(),
        ..Series::default()
    };
    Figure {
        id: format!("fairness-{}", names.join("-")),
        title: format!("{} and {} on one slow link", names[0], names[1]),
        caption: "Goodput of each flow over time, in the last round.".into(),
        x: Axis { label: "time".into(), unit: "s".into(), ..Axis::default() },
        y: Axis { label: "goodput".into(), unit: "Mbit/s".into(), ..Axis::default() },
        series: vec![line(0), line(1)],
    }
}
