//! The comparison of stacks: the rows of a `stacks` document as a table, by workload, with ratios to the Linux rows.
//!
//! A row is an object with `app`, `stack`, `wire`, `workload` and the measures below, each a number, `null` or missing, each with an optional
//! spread in `<measure>_low` and `<measure>_high`; with `saturated_side` (`client`: the maximum is a lower bound) and a `note`.
//!
//! | measure | meaning |
//! |---|---|
//! | `rps_at_slo` | most requests per second that kept the SLO |
//! | `unloaded_p50_us`, `unloaded_p99_us` | latency of one request at a time |
//! | `server_us_per_request` | server-core time per request: the sum of the next two |
//! | `server_thread_us`, `kernel_rx_us` | CPU time of the server's threads; of the kernel's receive path outside them |
//!
//! The Linux rows are those whose stack begins with `linux`, and memcached.

use maud::{Markup, html};
use serde_json::Value;

use crate::number::{DASH, grouped, short, significant};

const RATE: &str = "rps_at_slo";
const P50: &str = "unloaded_p50_us";
const P99: &str = "unloaded_p99_us";
const SERVER: &str = "server_us_per_request";
const THREAD: &str = "server_thread_us";
const KERNEL: &str = "kernel_rx_us";
/// The measures that are compared.
const COMPARED: [&str; 4] = [RATE, P50, P99, SERVER];

/// One row, by name.
#[derive(Clone, Copy)]
struct Row<'a>(&'a Value);

impl<'a> Row<'a> {
    fn text(self, name: &str) -> &'a str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64).filter(|v| v.is_finite())
    }

    fn is_linux(self) -> bool {
        let stack = self.text("stack");
        stack.starts_with("linux") || stack == "memcached"
    }

    /// The client, not the server, set the limit.
    fn client_bound(self, measure: &str) -> bool {
        measure == RATE && self.text("saturated_side") == "client"
    }
}

/// Rows of one application and workload, in the document's order.
struct Group<'a> {
    app: &'a str,
    workload: &'a str,
    rows: Vec<Row<'a>>,
}

impl<'a> Group<'a> {
    /// The Linux row that does best in `measure`.
    fn best_linux(&self, measure: &str) -> Option<Row<'a>> {
        let with = self.rows.iter().copied().filter(|row| row.is_linux() && row.number(measure).is_some());
        let order =
            |a: &Row, b: &Row| a.number(measure).partial_cmp(&b.number(measure)).unwrap_or(std::cmp::Ordering::Equal);
        if measure == RATE { with.max_by(order) } else { with.min_by(order) }
    }

    fn largest(&self, measure: &str) -> f64 {
        self.rows.iter().filter_map(|row| row.number(measure)).fold(0.0, f64::max)
    }

    fn title(&self) -> String {
        if self.workload.starts_with(self.app) {
            self.workload.to_string()
        } else {
            format!("{} {}", self.app, self.workload)
        }
    }
}

fn groups(rows: &[Value]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows.iter().filter(|row| row.is_object()).map(Row) {
        let (app, workload) = (row.text("app"), row.text("workload"));
        match groups.iter_mut().find(|g| g.app == app && g.workload == workload) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { app, workload, rows: vec![row] }),
        }
    }
    groups
}

/// What a workload's name means.
fn meaning(workload: &str) -> Option<String> {
    match workload {
        "usr" => Some("small keys and values, 99.8 % GET".to_string()),
        "etc" => Some("keys to 70 B, values to 1 KB, 75 % GET".to_string()),
        _ => {
            let (connections, depth) = workload.strip_prefix("echo-")?.split_once('x')?;
            let (connections, depth): (u32, u32) = (connections.parse().ok()?, depth.parse().ok()?);
            let plural = |n: u32, noun: &str| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") };
            Some(format!("{}, {} in flight on each", plural(connections, "connection"), plural(depth, "request")))
        }
    }
}

/// `row` against `base` in `measure`, in words that say the direction: `2.3x more`, `3.1x less`. `None` if there is nothing to compare, or
/// both were limited by the client, so that the ratio says nothing about servers.
fn ratio(row: Row<'_>, base: Row<'_>, measure: &str) -> Option<String> {
    let (value, base_value) = (row.number(measure)?, base.number(measure)?);
    if value <= 0.0 || base_value <= 0.0 {
        return None;
    }
    let bound = match (row.client_bound(measure), base.client_bound(measure)) {
        (true, true) => return None,
        (true, false) => "\u{2265} ",
        (false, true) => "\u{2264} ",
        (false, false) => "",
    };
    let (factor, word) = if value >= base_value { (value / base_value, "more") } else { (base_value / value, "less") };
    if factor < 1.005 {
        return Some(format!("{bound}the same"));
    }
    // A bound on the quotient is the opposite bound on its inverse.
    let bound = match (bound, word) {
        ("", _) | (_, "more") => bound,
        ("\u{2265} ", _) => "\u{2264} ",
        _ => "\u{2265} ",
    };
    Some(format!(
        "{bound}{}x {word}",
        significant(factor, if factor < 10.0 { 2 + usize::from(factor < 2.0) } else { 2 })
    ))
}

/// Whether `row` does better than `base`.
fn better(row: Row<'_>, base: Row<'_>, measure: &str) -> bool {
    match (row.number(measure), base.number(measure)) {
        (Some(value), Some(base)) => {
            if measure == RATE {
                value > base
            } else {
                value < base
            }
        }
        _ => false,
    }
}

/// The table, and each stack against each Linux row.
pub(crate) fn section(rows: &[Value], anchor: &str) -> Markup {
    let groups = groups(rows);
    let unreadable = rows.iter().filter(|row| !row.is_object()).count();
    html! {
        div.wide {
            table.stacks id=(anchor) {
                (head())
                @for group in &groups {
                    tbody {
                        tr.group { th colspan="12" scope="colgroup" {
                            span { (group.title()) @if let Some(meaning) = meaning(group.workload) { small { ": " (meaning) } } }
                        } }
                        @for &row in &group.rows { (line(group, row)) }
                    }
                }
            }
        }
        p.foot {
            "\u{201c}Against best Linux\u{201d}: this row's number against the best of the workload's Linux rows (linux-partitioned, linux-floating, "
            "memcached), column by column. More is better for requests/s, less for everything else; bold is better than Linux. Small numbers are "
            "the spread of repeated measurements. Server time is the CPU time of the server's threads and of the kernel's receive path outside "
            "them; its bar shows both, in this order. \u{2265}: the client was the limit, so the server's maximum is at least this. "
            (DASH) ": not measured; for requests/s also: no rate kept the SLO."
        }
        @if unreadable > 0 { p.foot { "Left out, since they are not objects: " (unreadable) " of " (rows.len()) " rows." } }
        (pairs(&groups))
    }
}

fn head() -> Markup {
    let against = html! { "against" br; "best Linux" };
    html! {
        thead {
            tr {
                th rowspan="2" scope="col" { "Stack" }
                th rowspan="2" scope="col" { "Wire" }
                th colspan="2" scope="colgroup" { "Requests/s at the SLO" }
                th colspan="2" scope="colgroup" { "Unloaded p50" }
                th colspan="2" scope="colgroup" { "Unloaded p99" }
                th colspan="4" scope="colgroup" { "Server time per request" }
            }
            tr {
                th.num scope="col" { "maximum" } th scope="col" { (against) }
                th.num scope="col" { "us" } th scope="col" { (against) }
                th.num scope="col" { "us" } th scope="col" { (against) }
                th.num scope="col" { "us" } th.num scope="col" { "threads" br; "us" } th.num scope="col" { "kernel" br; "receive us" }
                th scope="col" { (against) }
            }
        }
    }
}

fn line(group: &Group<'_>, row: Row<'_>) -> Markup {
    html! {
        tr.own[!row.is_linux()] {
            th scope="row" { (row.text("stack")) @if let Some(remark) = remark(row) { small.remark { (remark) } } }
            td { (row.text("wire")) }
            td.num { (value(row, RATE)) (bar(&[row.number(RATE)], group.largest(RATE))) } (against(group, row, RATE))
            td.num { (value(row, P50)) } (against(group, row, P50))
            td.num { (value(row, P99)) } (against(group, row, P99))
            td.num { (value(row, SERVER)) (bar(&summands(row), group.largest(SERVER))) }
            td.num { (value(row, THREAD)) }
            td.num { (value(row, KERNEL)) }
            (against(group, row, SERVER))
        }
    }
}

/// The two parts of the server's time, or their sum if the parts are unknown.
fn summands(row: Row<'_>) -> [Option<f64>; 2] {
    match (row.number(THREAD), row.number(KERNEL)) {
        (None, None) => [row.number(SERVER), None],
        parts => [parts.0, parts.1],
    }
}

fn remark(row: Row<'_>) -> Option<String> {
    let side = match row.text("saturated_side") {
        "" | "server" => "",
        "client" => "the client was the limit",
        other => other,
    };
    let parts: Vec<&str> = [side, row.text("note")].into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Rates have three significant digits: the fourth is noise.
fn digits(measure: &str, value: f64) -> String {
    if measure == RATE { grouped(&significant(value, 3)) } else { short(value) }
}

fn value(row: Row<'_>, measure: &str) -> Markup {
    let spread = row.number(&format!("{measure}_low")).zip(row.number(&format!("{measure}_high")));
    html! {
        @match row.number(measure) {
            Some(value) => { @if row.client_bound(measure) { "\u{2265}\u{a0}" } (digits(measure, value)) }
            None => { span.missing { (DASH) } }
        }
        @if let Some((low, high)) = spread {
            small.spread { (digits(measure, low)) (DASH) (digits(measure, high)) }
        }
    }
}

/// A bar of the parts, in proportion to the workload's `largest`.
fn bar(parts: &[Option<f64>], largest: f64) -> Markup {
    let shares: Vec<f64> =
        parts.iter().flatten().map(|v| (v / largest * 100.0).clamp(0.0, 100.0)).filter(|s| s.is_finite()).collect();
    html! {
        @if !shares.is_empty() {
            span.bar { @for share in shares { i style={ "width:" (format!("{share:.1}")) "%" } {} } }
        }
    }
}

fn against(group: &Group<'_>, row: Row<'_>, measure: &str) -> Markup {
    let base = group.best_linux(measure);
    let itself = base.is_some_and(|base| std::ptr::eq(base.0, row.0));
    let text = base.and_then(|base| ratio(row, base, measure));
    html! {
        td.ratio.better[base.is_some_and(|base| better(row, base, measure))] {
            @if itself { "best Linux" } @else if let Some(text) = text { (text) } @else { span.missing { (DASH) } }
        }
    }
}

/// Every stack of our own against every Linux row of the same workload.
fn pairs(groups: &[Group<'_>]) -> Markup {
    let own =
        |group: &Group<'_>| group.rows.iter().any(|row| !row.is_linux()) && group.rows.iter().any(|row| row.is_linux());
    let name = |row: Row<'_>| {
        [row.text("stack"), row.text("wire")].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ")
    };
    html! {
        @if groups.iter().any(own) {
            details {
                summary { "Against each Linux row" }
                div.wide { table {
                    thead { tr {
                        th scope="col" { "Stack" } th scope="col" { "Against" } th scope="col" { "Requests/s at the SLO" }
                        th scope="col" { "Unloaded p50" } th scope="col" { "Unloaded p99" } th scope="col" { "Server time per request" }
                    } }
                    @for group in groups.iter().filter(|group| own(group)) {
                        tbody {
                            tr.group { th colspan="6" scope="colgroup" { span { (group.title()) } } }
                            @for &row in group.rows.iter().filter(|row| !row.is_linux()) {
                                @for &base in group.rows.iter().filter(|row| row.is_linux()) {
                                    tr {
                                        th scope="row" { (name(row)) }
                                        td { (name(base)) }
                                        @for measure in COMPARED {
                                            td.ratio.better[better(row, base, measure)] { (ratio(row, base, measure).unwrap_or_else(|| DASH.to_string())) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(stack: &str, rate: Value, server: f64) -> Value {
        json!({"app": "echo", "stack": stack, "wire": "veth", "workload": "echo-100x4", "rps_at_slo": rate, "server_us_per_request": server})
    }

    #[test]
    fn ratios_are_against_the_best_linux_row_of_the_column() {
        let rows = [
            row("linux-partitioned", json!(100e3), 4.0),
            row("linux-floating", json!(80e3), 3.0),
            row("zygix", json!(250e3), 1.5),
            json!({"app": "kv", "stack": "memcached", "workload": "usr", "rps_at_slo": 1e6}),
            json!("noise"),
        ];
        let groups = groups(&rows);
        assert_eq!(groups.len(), 2);
        let (best_rate, best_server) = (groups[0].best_linux(RATE).unwrap(), groups[0].best_linux(SERVER).unwrap());
        assert_eq!((best_rate.text("stack"), best_server.text("stack")), ("linux-partitioned", "linux-floating"));
        let zygix = Row(&rows[2]);
        assert_eq!(ratio(zygix, best_rate, RATE).unwrap(), "2.5x more");
        assert_eq!(ratio(zygix, best_server, SERVER).unwrap(), "2.0x less");
        assert_eq!(ratio(Row(&rows[1]), best_rate, RATE).unwrap(), "1.25x less");
        assert_eq!(ratio(zygix, best_rate, P50), None);
        assert!(
            better(zygix, best_rate, RATE)
                && better(zygix, best_server, SERVER)
                && !better(Row(&rows[1]), best_rate, RATE)
        );
        let page = section(&rows, "a").into_string();
        assert!(page.contains("100 connections, 4 requests in flight on each"));
        assert!(page.contains("not objects: 1 of 5 rows"));
    }

    #[test]
    fn a_limit_of_the_client_makes_bounds() {
        let mut fast = row("zygix", json!(300e3), 1.0);
        fast["saturated_side"] = json!("client");
        let (slow, none) = (row("linux-floating", json!(100e3), 3.0), row("linux-partitioned", Value::Null, 3.0));
        assert_eq!(ratio(Row(&fast), Row(&slow), RATE).unwrap(), "\u{2265} 3.0x more");
        assert_eq!(ratio(Row(&slow), Row(&fast), RATE).unwrap(), "\u{2265} 3.0x less");
        assert_eq!(ratio(Row(&fast), Row(&fast), RATE), None);
        assert_eq!(ratio(Row(&fast), Row(&none), RATE), None);
        assert_eq!(ratio(Row(&fast), Row(&slow), SERVER).unwrap(), "3.0x less");
        assert_eq!(remark(Row(&fast)).unwrap(), "the client was the limit");
    }
}
