//! Rows, figures and tables of what was measured.

use std::fmt::Write;

use report::{Axis, Column, Figure, Series, Style, Table};
use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::row::{Round, Row, figure};
use super::{SLO, Work};
use crate::kinds::hunt::curve;
use crate::noise::Question;
use crate::stack::{Stack, memcached_version};
use crate::stats::{Spread, paired};

/// What ratios refer to.
const REFERENCE: Stack = Stack::LinuxPartitioned;

/// The curve's latency axis ends at so many times the objective.
const AXIS: f64 = 4.0;

type Of = fn(&Round) -> Option<f64>;

/// The object of a row: exactly these fields, `null` for what is missing.
pub(super) fn json(row: &Row) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| _ = object.insert(key.to_owned(), value);
    put("app", json!(row.work.app()));
    put("stack", json!(row.stack.name()));
    put("wire", json!(row.stack.wire()));
    put("workload", json!(row.work.name()));
    let figures = [
        ("rps_at_slo", row.spread(figure::rps)),
        ("unloaded_p50_us", row.latency(figure::unloaded, |l| l.p50)),
        ("unloaded_p99_us", row.latency(figure::unloaded, |l| l.p99)),
        ("server_us_per_request", row.spread(figure::server_us)),
        ("server_thread_us", row.spread(figure::thread_us)),
        ("kernel_rx_us", row.spread(figure::kernel_us)),
    ];
    for (key, spread) in figures {
        put(key, json!(spread.map(|s| s.median)));
        put(&format!("{key}_low"), json!(spread.map(|s| s.low)));
        put(&format!("{key}_high"), json!(spread.map(|s| s.high)));
    }
    put("saturated_side", json!(row.saturated_side().map(|side| side.name())));
    put("skipped", json!(row.skipped.as_ref().filter(|_| row.rounds.is_empty())));
    put("note", json!(note(row)));
    Value::Object(object)
}

/// What a reader of the row must know.
fn note(row: &Row) -> Option<String> {
    if row.rounds.is_empty() {
        return None;
    }
    let mut notes: Vec<String> = row.skipped.iter().cloned().collect();
    if row.errors > 0 {
        notes.push(format!("{} errors where none should be", row.errors));
    }
    if row.noise.share() > crate::noise::VOID_SHARE {
        notes.push(format!("too noisy: {:.0} % of slices", row.noise.share() * 100.0));
    } else if row.unsure() {
        notes.push("not sure: some windows were too noisy, or a search ran out of them".into());
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Whether what everybody wants to know can be answered: is Zygix another than Linux, in capacity and in cost?
pub(super) fn questions(rows: &[Row]) -> Vec<Question> {
    let mut questions = Vec::new();
    for row in rows.iter().filter(|row| row.stack == Stack::Zygix) {
        for (what, of) in [("requests/s at the SLO", figure::rps as Of), ("server time", figure::server_us)] {
            let name = format!("zygix against {}, {what} ({})", REFERENCE.name(), row.work.name());
            questions.extend(ratio(rows, row, of).map(|ratio| Question { what: name, ratio }));
        }
    }
    questions
}

/// The row's paired ratios to the reference of its workload.
fn ratio(rows: &[Row], row: &Row, of: Of) -> Option<Spread> {
    let reference = rows.iter().find(|r| r.work == row.work && r.stack == REFERENCE)?;
    paired(&row.by_round(of), &reference.by_round(of))
}

/// Sentences on how this was measured.
pub(super) fn notes(rows: &[Row], plan: &Plan) -> Vec<String> {
    let mut notes = vec![
        format!(
            "All stacks of a workload run at once and are measured in alternation, {} round(s); figures are medians, with the \
             lowest and the highest; ratios are within a round.",
            plan.rounds
        ),
        format!(
            "One server core, one client core: ordinary Linux sockets, spinning, every reply checked. Latency counts from the \
             intended send time; {SLO} is searched in windows of {:.1} s, to {:.0} %.",
            plan.step.as_secs_f64(),
            super::contest::PRECISION * 100.0
        ),
        format!(
            "p99, searched or shown, is that of the median slice of {} ms: half of the slices were no worse. What a hypervisor takes \
             comes in pieces, and on a busy host rules the p99 of all requests together on any stack.",
            crate::measure::slice_of(plan.step).millis()
        ),
        "Server time is CPU time of the server's threads less idle polling, plus softirq time on the client's core, where the \
         kernel does a veth server's receive work; at the same open-loop load on all stacks of a workload."
            .into(),
    ];
    if rows.iter().any(|row| row.stack == Stack::Memcached && !row.rounds.is_empty()) {
        notes.push(format!("{}, one worker.", memcached_version().unwrap_or_else(|| "memcached".into())));
    }
    for row in rows {
        if let Some(why) = &row.skipped {
            notes.push(format!("{} on {}: {why}", row.work.name(), row.stack.name()));
        }
    }
    notes
}

fn works(rows: &[Row]) -> impl Iterator<Item = (Work, Vec<&Row>)> {
    Work::ALL.into_iter().filter_map(|work| {
        let of: Vec<&Row> = rows.iter().filter(|r| r.work == work && !r.rounds.is_empty()).collect();
        (!of.is_empty()).then_some((work, of))
    })
}

/// Latency against throughput, a figure per workload.
pub(super) fn figures(rows: &[Row]) -> Vec<Figure> {
    let limit = SLO.limit.0 as f64 / 1e3;
    let of = |(work, rows): (Work, Vec<&Row>)| {
        let series = |row: &&Row| Series {
            name: format!("{} ({})", row.stack.name(), row.stack.wire()),
            style: Style::Line,
            points: curve(&row.tried, limit * AXIS),
        };
        let (connections, depth) = work.shape();
        Figure {
            id: format!("curve-{}", work.name()),
            title: format!("{}: latency against throughput", work.name()),
            caption: format!(
                "p99 from the intended send time, open loop, {connections} connection(s), depth {depth}. Windows of the search \
                 for the highest rate within the objective (the line); whiskers where several fell on one rate."
            ),
            x: Axis { label: "requests answered".into(), unit: "1/s".into(), ..Axis::default() },
            y: Axis {
                label: "p99 latency".into(),
                unit: "us".into(),
                log: true,
                max: Some(limit * AXIS),
                mark: Some(limit),
            },
            series: rows.iter().map(series).collect(),
        }
    };
    works(rows).map(of).collect()
}

/// Ratios; then what lies behind the rows.
pub(super) fn tables(rows: &[Row]) -> Vec<Table> {
    [ratios(rows), details(rows)].into_iter().filter(|t| !t.rows.is_empty()).collect()
}

fn ratios(rows: &[Row]) -> Table {
    let figures: [(&str, Of); 4] = [
        ("requests/s at the SLO", figure::rps),
        ("unloaded p50", figure::p50),
        ("unloaded p99", figure::p99),
        ("server time", figure::server_us),
    ];
    let mut columns = vec![Column::text("workload"), Column::text("stack")];
    for (name, _) in figures {
        columns.push(Column::number(name, "ratio").decimals(2));
        columns.push(Column::text("range"));
    }
    let compared = rows.iter().filter(|row| row.stack != REFERENCE && !row.rounds.is_empty());
    let line = |row: &Row| {
        let mut cells = vec![json!(row.work.name()), json!(row.stack.name())];
        for (_, of) in figures {
            let spread = ratio(rows, row, of);
            cells.push(json!(spread.map(|s| s.median)));
            cells.push(json!(spread.map(|s| format!("{:.2} to {:.2}", s.low, s.high))));
        }
        cells
    };
    Table {
        id: "ratios".into(),
        title: format!("Paired ratios to {}", REFERENCE.name()),
        caption: "Each stack over the reference in the same round; the median of the rounds, and their range.".into(),
        columns,
        rows: compared.map(line).filter(|cells| cells[2..].iter().any(|c| !c.is_null())).collect(),
    }
}

fn details(rows: &[Row]) -> Table {
    let columns = vec![
        Column::text("workload"),
        Column::text("stack"),
        Column::number("closed loop", "1/s").decimals(0),
        Column::number("equal load", "1/s").decimals(0),
        Column::number("p50 there", "us").decimals(1),
        Column::number("p99 there", "us").decimals(1),
        Column::number("server threads", "us").decimals(2),
        Column::number("kernel receive", "us").decimals(2),
        Column::number("its standard error", "us").decimals(2),
        Column::number("idle polling", "us").decimals(2),
        Column::number("client", "us").decimals(2),
        Column::number("windows", "").decimals(0),
        Column::number("slices discarded", "%").decimals(1),
        Column::number("errors", "").decimals(0),
    ];
    let line = |row: &Row| {
        let cost = row.cost();
        let median = |spread: Option<Spread>| json!(spread.map(|s| s.median));
        vec![
            json!(row.work.name()),
            json!(row.stack.name()),
            json!(row.closed_rps),
            json!(row.equal_rate),
            median(row.latency(figure::equal, |l| l.p50)),
            median(row.latency(figure::equal, |l| l.p99)),
            json!(cost.map(|c| c.per_request(c.threads))),
            json!(cost.map(|c| c.per_request(c.kernel))),
            json!(cost.map(|c| c.kernel_error())),
            json!(cost.map(|c| c.per_request(c.idle))),
            median(row.spread(figure::client_us)),
            json!(row.tried.len()),
            json!(row.noise.share() * 100.0),
            json!(row.errors),
        ]
    };
    Table {
        id: "details".into(),
        title: "At equal load, and what it took".into(),
        caption:
            "The cost of a request at the same open-loop rate on all stacks of a workload, all rounds together. Idle \
                  polling is not counted as server time. A client that spins uses its whole core."
                .into(),
        columns,
        rows: rows.iter().filter(|row| !row.rounds.is_empty()).map(line).collect(),
    }
}

/// For people, on a terminal.
pub(super) fn text(rows: &[Row]) -> String {
    let mut t = String::new();
    let mut line = |cells: [String; 8]| {
        let [work, stack, rps, p50, p99, server, parts, ratio] = cells;
        let text = format!("{work:<11}{stack:<19}{rps:>10}{p50:>9}{p99:>9}{server:>9}{parts:>15}{ratio:>9}");
        let _ = writeln!(t, "{}", text.trim_end());
    };
    let heading = ["workload", "stack", "req/s", "p50 us", "p99 us", "server", "thread+kernel", "x linux"];
    line(heading.map(str::to_owned));
    for row in rows {
        let name = [row.work.name().to_owned(), row.stack.name().to_owned()];
        if let Some(why) = row.skipped.as_ref().filter(|_| row.rounds.is_empty()) {
            let [work, stack] = name;
            line([work, stack, format!("skipped: {why}"), "".into(), "".into(), "".into(), "".into(), "".into()]);
            continue;
        }
        let number = |spread: Option<Spread>, decimals: usize| {
            spread.map_or_else(|| "-".to_owned(), |s| format!("{:.*}", decimals, s.median))
        };
        let parts = [number(row.spread(figure::thread_us), 2), number(row.spread(figure::kernel_us), 2)].join("+");
        let [work, stack] = name;
        line([
            work,
            stack,
            number(row.spread(figure::rps), 0),
            number(row.latency(figure::unloaded, |l| l.p50), 1),
            number(row.latency(figure::unloaded, |l| l.p99), 1),
            number(row.spread(figure::server_us), 2),
            parts,
            number(ratio(rows, row, figure::server_us), 2),
        ]);
    }
    let _ = write!(
        t,
        "\nreq/s: the most at {SLO} (of the median slice). p50, p99: unloaded. server: us per request at equal load, and against {}.",
        REFERENCE.name()
    );
    t
}

#[cfg(test)]
mod tests {
    use units::Nanos;

    use super::super::row::{Equal, Latency};
    use super::*;
    use crate::account::Cost;
    use crate::kinds::hunt::tests::tried;

    fn round(max_rps: Option<f64>, p50: f64, threads_us: u64) -> Round {
        let us = |us: u64| Nanos::from_micros(us * 1000);
        let cost = Cost { requests: 1000, wall: us(20), threads: us(threads_us), idle: us(1), kernel: us(2) };
        let latency = Latency { p50, p99: p50 * 2.0, void: false };
        let equal = Some(Equal { cost, latency, client_us: 7.0 });
        Round { unloaded: Some(latency), max_rps, confident: true, equal }
    }

    fn rows() -> Vec<Row> {
        let rounds = |max: [f64; 3], threads: [u64; 3]| {
            (0..3).map(|i| round(Some(max[i]), 10.0 + i as f64, threads[i])).collect::<Vec<_>>()
        };
        let linux = Row {
            rounds: rounds([1e5, 1.1e5, 0.9e5], [8, 9, 10]),
            tried: vec![tried(2e5, 9e4), tried(1.2e5, 700.0), tried(5e4, 40.0), tried(5.1e4, 60.0), tried(3e5, 1e6)],
            ..Row::new(Work::Usr, Stack::LinuxPartitioned)
        };
        let zygix = Row { rounds: rounds([2e5, 2.2e5, 1.9e5], [3, 4, 2]), ..Row::new(Work::Usr, Stack::Zygix) };
        let absent = Row { skipped: Some("not installed".into()), ..Row::new(Work::Usr, Stack::Memcached) };
        vec![absent, linux, zygix]
    }

    #[test]
    fn rows_have_the_documented_fields() {
        let rows = rows();
        let linux = json(&rows[1]);
        assert_eq!(linux["rps_at_slo"], 1e5);
        assert_eq!((&linux["rps_at_slo_low"], &linux["rps_at_slo_high"]), (&json!(0.9e5), &json!(1.1e5)));
        assert_eq!((&linux["unloaded_p50_us"], &linux["unloaded_p99_us"]), (&json!(11.0), &json!(22.0)));
        assert_eq!((&linux["server_us_per_request"], &linux["server_thread_us"]), (&json!(11.0), &json!(9.0)));
        assert_eq!((&linux["kernel_rx_us"], &linux["saturated_side"]), (&json!(2.0), &json!("server")));
        let absent = json(&rows[0]);
        assert_eq!((&absent["skipped"], &absent["rps_at_slo"]), (&json!("not installed"), &Value::Null));
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&linux), keys(&absent), "the same fields in every row");
    }

    #[test]
    fn ratios_are_paired_and_questions_follow_from_them() {
        let rows = rows();
        let table = ratios(&rows);
        assert_eq!(table.rows.len(), 1, "the reference and what was skipped have none");
        assert_eq!(table.rows[0][2], 2.0);
        assert_eq!(table.rows[0][3], "2.00 to 2.11");
        assert!(questions(&rows).iter().all(Question::answered));
        assert!(table.rows.iter().chain(&details(&rows).rows).all(|r| !r.is_empty()));
    }

    #[test]
    fn a_figure_is_a_workload() {
        let figures = figures(&rows());
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].y.mark, Some(500.0));
        assert_eq!(figures[0].series.iter().map(|s| s.points.len()).collect::<Vec<_>>(), [3, 0]);
    }

    #[test]
    fn the_table_for_people_has_every_row() {
        let text = text(&rows());
        for part in ["memcached", "skipped: not installed", "linux-partitioned", "100000", "zygix", "0.50"] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }
}
