//! What `zygix load --json` wrote (schema `zygix-load-1`), turned into tables and figures.
//!
//! The object stays JSON: it is another program's document, of which a report takes what it finds.

use serde::Deserialize;
use serde_json::Value;

use crate::doc::{Axis, Column, Document, Figure, Machine, Point, Series, Style, Table};
use crate::number::{short, trimmed};

/// What the object's `schema` says.
pub const LOAD_SCHEMA: &str = "zygix-load-1";

/// An object of `zygix load --json`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadObject(pub Value);

impl LoadObject {
    /// The object as a document: a summary, latency by percentile, the time series, curves, ping-pong. `name` is what its series are called.
    pub fn document(&self, name: &str) -> Document {
        let text = |key: &str| self.text(key).to_string();
        let mut figures: Vec<Figure> = curves(&[(name.to_string(), self)]);
        figures.extend(self.percentiles(name));
        figures.extend(self.time_series());
        figures.extend(self.pingpong(name));
        let tables =
            [Some(self.summary()), self.points_table(), Some(self.settings()), self.agents()].into_iter().flatten();
        Document {
            kind: "load".to_string(),
            title: format!("Load {name}: {} on {}", self.what(), self.text("target")),
            command: text("command"),
            started: text("started"),
            commit: self.built_from(),
            machine: self.0.get("machine").and_then(|m| Machine::deserialize(m).ok()).unwrap_or_default(),
            seconds_per_point: self.number("seconds").unwrap_or(f64::NAN),
            repeats: 1,
            figures,
            tables: tables.collect(),
            notes: self.notes(),
            ..Document::default()
        }
    }

    fn built_from(&self) -> String {
        match (self.text("commit"), self.text("version")) {
            ("", "") => String::new(),
            ("", version) => format!("version {version}"),
            (commit, _) => commit.to_string(),
        }
    }

    fn what(&self) -> String {
        let app = self.text("app");
        if app.is_empty() { "unknown".to_string() } else { app.to_string() }
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> Option<f64> {
        number(&self.0, key)
    }

    fn list(&self, key: &str) -> &[Value] {
        self.0.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn is(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The limit of the SLO in microseconds, if the object is of a search.
    fn slo_us(&self) -> Option<f64> {
        let (_, limit) = self.0.get("find_max")?.get("slo")?.as_str()?.split_once('=')?;
        let at = limit.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(limit.len());
        let factor = match &limit[at..] {
            "ns" => 1e-3,
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            _ => return None,
        };
        limit[..at].parse::<f64>().ok().map(|v| v * factor)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.is("saturated") {
            let side = match self.text("saturated_side") {
                "" => "client or the server",
                side => side,
            };
            notes.push(format!("Saturated: the {side} could not keep up with the rate asked for."));
        }
        if self.is("interrupted") {
            notes.push("Interrupted: the figures are of the time until then.".to_string());
        }
        let died = self.list("agents").iter().filter(|a| a.get("ok").and_then(Value::as_bool) == Some(false)).count();
        if died > 0 {
            notes.push(format!("{died} of the agents failed; their load is missing."));
        }
        if let Some(found) = self.0.get("find_max").filter(|f| f.is_object()) {
            let slo = found.get("slo").and_then(Value::as_str).unwrap_or("the SLO");
            let sure = if found.get("confident").and_then(Value::as_bool) == Some(false) {
                ", without confidence"
            } else {
                ""
            };
            notes.push(match number(found, "max_rps") {
                Some(max) => format!("Most load that kept {slo}: {} requests/s{sure}.", short(max)),
                None => format!("No load kept {slo}{sure}."),
            });
        }
        notes
    }

    fn summary(&self) -> Table {
        let mut rows: Vec<Vec<Value>> = Vec::new();
        let measured = [
            ("seconds", "measured time", "s"),
            ("sent", "sent", ""),
            ("completed", "completed", ""),
            ("errors", "errors", ""),
            ("offered_rps", "offered", "requests/s"),
            ("achieved_rps", "achieved", "requests/s"),
            ("mean_us", "mean latency", "us"),
            ("p50_us", "p50", "us"),
            ("p90_us", "p90", "us"),
            ("p99_us", "p99", "us"),
            ("p999_us", "p99.9", "us"),
            ("max_us", "largest latency", "us"),
            ("lateness_p50_us", "sent late by, p50", "us"),
            ("lateness_p99_us", "sent late by, p99", "us"),
            ("client_us_per_request", "client's CPU time per request", "us"),
            ("connections_per_s", "connections opened", "1/s"),
        ];
        for (key, name, unit) in measured {
            if let Some(value) = self.0.get(key).filter(|v| v.is_number()) {
                rows.push(vec![name.into(), value.clone(), unit.into()]);
            }
        }
        for (kind, value) in self.0.get("errors_by_kind").and_then(Value::as_object).into_iter().flatten() {
            if value.as_u64() != Some(0) {
                rows.push(vec![format!("errors: {kind}").into(), value.clone(), "".into()]);
            }
        }
        if let Some(probe) = self.0.get("probe").filter(|p| p.is_object()) {
            for (key, name) in
                [("p50_us", "unloaded p50, beside the load"), ("p99_us", "unloaded p99, beside the load")]
            {
                rows.push(vec![name.into(), probe.get(key).cloned().unwrap_or(Value::Null), "us".into()]);
            }
        }
        let columns = vec![Column::text("Quantity"), Column::number("Value", ""), Column::text("Unit")];
        Table { id: "summary".to_string(), title: "Summary".to_string(), caption: String::new(), columns, rows }
    }

    /// What was asked for.
    fn settings(&self) -> Table {
        let plain = [
            "app",
            "target",
            "transport",
            "pace",
            "gaps",
            "pattern",
            "connections",
            "depth",
            "threads",
            "seed",
            "warmup_seconds",
        ];
        let mut rows: Vec<Vec<Value>> = Vec::new();
        for key in plain {
            if let Some(value) = self.0.get(key).filter(|v| v.is_string() || v.is_number()) {
                // A seed is a name, not an amount.
                let value = if key == "seed" { value.to_string().into() } else { value.clone() };
                rows.push(vec![key.replace('_', " ").into(), value]);
            }
        }
        for (key, value) in self.0.get("workload").and_then(Value::as_object).into_iter().flatten() {
            rows.push(vec![format!("workload: {key}").into(), value.clone()]);
        }
        let columns = vec![Column::text("Setting"), Column::number("Value", "")];
        Table { id: "settings".to_string(), title: "Settings".to_string(), caption: String::new(), columns, rows }
    }

    fn points_table(&self) -> Option<Table> {
        let keys = ["offered_rps", "achieved_rps", "p50_us", "p99_us", "p999_us", "errors", "saturated_side"];
        let cell = |point: &Value, key: &str| point.get(key).cloned().unwrap_or(Value::Null);
        let rows: Vec<Vec<Value>> =
            self.list("points").iter().map(|p| keys.iter().map(|key| cell(p, key)).collect()).collect();
        let columns = vec![
            Column::number("Offered", "requests/s"),
            Column::number("Achieved", "requests/s"),
            Column::number("p50", "us"),
            Column::number("p99", "us"),
            Column::number("p99.9", "us"),
            Column::number("Errors", ""),
            Column::text("Saturated side"),
        ];
        let caption = "In the order in which they were measured. A dash under saturated side: neither was.".to_string();
        (!rows.is_empty()).then(|| Table {
            id: "points".to_string(),
            title: "Points".to_string(),
            caption,
            columns,
            rows,
        })
    }

    fn agents(&self) -> Option<Table> {
        let cell = |agent: &Value, key: &str| agent.get(key).cloned().unwrap_or(Value::Null);
        let rows: Vec<Vec<Value>> = self
            .list("agents")
            .iter()
            .map(|a| ["address", "ok", "error"].iter().map(|key| cell(a, key)).collect())
            .collect();
        let columns = vec![Column::text("Address"), Column::text("Well"), Column::text("Error")];
        let table = |rows| Table {
            id: "agents".to_string(),
            title: "Agents".to_string(),
            caption: String::new(),
            columns,
            rows,
        };
        (!rows.is_empty()).then(|| table(rows))
    }

    fn percentiles(&self, name: &str) -> Option<Figure> {
        let pairs: Vec<(f64, f64)> = self
            .list("percentiles")
            .iter()
            .filter_map(|pair| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64()?)))
            .collect();
        // Shares or percents: a share is at most 1.
        let whole = if pairs.iter().any(|(q, _)| *q > 1.0) { 100.0 } else { 1.0 };
        // The last one, of the maximum, is infinitely far to the right.
        let points: Vec<Point> =
            pairs.iter().filter(|(q, _)| *q < whole).map(|&(q, us)| Point::new(whole / (whole - q), us)).collect();
        let series = vec![Series { name: name.to_string(), style: Style::Line, points }];
        (!pairs.is_empty()).then(|| Figure {
            id: "percentiles".to_string(),
            title: "Latency by percentile".to_string(),
            caption: "This share of the requests was answered within this time, counted from when each was due."
                .to_string(),
            x: Axis {
                label: "Percentile".to_string(),
                unit: "percentile".to_string(),
                log: true,
                max: None,
                mark: None,
            },
            y: latency("Latency", self.slo_us()),
            series,
        })
    }

    fn time_series(&self) -> Vec<Figure> {
        let slices = self.list("series");
        if slices.is_empty() {
            return Vec::new();
        }
        let at: Vec<f64> = slices.iter().map(|s| number(s, "at_s").unwrap_or(f64::NAN)).collect();
        let line = |name: &str, value: &dyn Fn(usize) -> Option<f64>| {
            let points = (0..slices.len()).map(|i| Point::new(at[i], value(i).unwrap_or(f64::NAN))).collect();
            Series { name: name.to_string(), style: Style::Line, points }
        };
        let length = |i: usize| {
            let step = if i + 1 < at.len() {
                at[i + 1] - at[i]
            } else if i > 0 {
                at[i] - at[i - 1]
            } else {
                self.number("seconds").unwrap_or(1.0)
            };
            // The last slice ends with the window.
            let rest = self.number("seconds").map_or(step, |end| end - at[i]);
            if rest > 0.0 { step.min(rest) } else { step }
        };
        let rate = |key: &'static str| move |i: usize| Some(number(&slices[i], key)? / length(i));
        let of = |key: &'static str| move |i: usize| number(&slices[i], key);
        let time = Axis { label: "Time".to_string(), unit: "s".to_string(), ..Axis::default() };
        let rates = vec![
            line("offered", &rate("offered")),
            line("completed", &rate("completed")),
            line("errors", &rate("errors")),
        ];
        let latencies = vec![line("p50", &of("p50_us")), line("p99", &of("p99_us")), line("max", &of("max_us"))];
        vec![
            Figure {
                id: "rate".to_string(),
                title: "Rate over time".to_string(),
                caption: "Requests that were due, requests answered rightly, and errors, each second of the window."
                    .to_string(),
                x: time.clone(),
                y: Axis { label: "Rate".to_string(), unit: "requests/s".to_string(), ..Axis::default() },
                series: rates,
            },
            Figure {
                id: "latency".to_string(),
                title: "Latency over time".to_string(),
                caption: "Of the requests that were due in each slice of the window.".to_string(),
                x: time,
                y: latency("Latency", self.slo_us()),
                series: latencies,
            },
        ]
    }

    fn pingpong(&self, name: &str) -> Vec<Figure> {
        let sizes = self.list("pingpong");
        let points = |key: &str| -> Vec<Point> {
            sizes
                .iter()
                .map(|s| Point::new(number(s, "size").unwrap_or(f64::NAN), number(s, key).unwrap_or(f64::NAN)))
                .collect()
        };
        let size = Axis { label: "Message size".to_string(), unit: "B".to_string(), log: true, ..Axis::default() };
        let series = |key: &str| Series { name: name.to_string(), style: Style::Line, points: points(key) };
        let named = |label: &str, key: &str| Series { name: label.to_string(), ..series(key) };
        if sizes.is_empty() {
            return Vec::new();
        }
        let half = half_bandwidth(&points("mbit_per_s"))
            .map(|size| format!(" Half of the largest bandwidth is reached at about {} B.", trimmed(size, 3)));
        vec![
            Figure {
                id: "pingpong-latency".to_string(),
                title: "Ping-pong: round trip by message size".to_string(),
                caption: "One message at a time, echoed whole.".to_string(),
                x: size.clone(),
                y: latency("Round trip", None),
                series: vec![named("p50", "p50_us"), named("p99", "p99_us")],
            },
            Figure {
                id: "pingpong-bandwidth".to_string(),
                title: "Ping-pong: bandwidth by message size".to_string(),
                caption: format!("The same messages.{}", half.unwrap_or_default()),
                x: size,
                y: Axis { label: "Bandwidth".to_string(), unit: "Mbit/s".to_string(), ..Axis::default() },
                series: vec![series("mbit_per_s")],
            },
        ]
    }
}

/// The size at which half of the largest value is first reached, linear between the sizes measured.
fn half_bandwidth(points: &[Point]) -> Option<f64> {
    let half = points.iter().map(|p| p.y).filter(|y| y.is_finite()).max_by(f64::total_cmp)? / 2.0;
    let first = points.iter().position(|p| p.y >= half)?;
    let Some(before) = first.checked_sub(1).map(|i| points[i]) else { return Some(points[first].x) };
    let after = points[first];
    Some(before.x + (after.x - before.x) * (half - before.y) / (after.y - before.y)).filter(|size| size.is_finite())
}

/// Latency against throughput, p99 and p50, of all the objects that have points.
pub(crate) fn curves(objects: &[(String, &LoadObject)]) -> Vec<Figure> {
    let with: Vec<&(String, &LoadObject)> = objects.iter().filter(|(_, o)| !o.list("points").is_empty()).collect();
    // Lines of different SLOs in one figure would mislead.
    let limits: Vec<Option<f64>> = with.iter().map(|(_, o)| o.slo_us()).collect();
    let mark = limits.first().copied().flatten().filter(|_| limits.windows(2).all(|pair| pair[0] == pair[1]));
    let curve = |key: &str| -> Vec<Series> {
        let points = |o: &LoadObject| {
            let mut points: Vec<Point> = o
                .list("points")
                .iter()
                .map(|p| Point::new(number(p, "achieved_rps").unwrap_or(f64::NAN), number(p, key).unwrap_or(f64::NAN)))
                .collect();
            // A search does not go upwards.
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            points
        };
        with.iter().map(|(name, o)| Series { name: name.clone(), style: Style::Line, points: points(o) }).collect()
    };
    let figure = |id: &str, title: &str, key: &str, mark: Option<f64>| Figure {
        id: id.to_string(),
        title: title.to_string(),
        caption: "Each point is a rate asked for, drawn at the rate achieved.".to_string(),
        x: Axis { label: "Achieved".to_string(), unit: "requests/s".to_string(), ..Axis::default() },
        y: latency("Latency", mark),
        series: curve(key),
    };
    if with.is_empty() {
        return Vec::new();
    }
    vec![
        figure("curve-p99", "p99 latency by throughput", "p99_us", mark),
        figure("curve-p50", "p50 latency by throughput", "p50_us", None),
    ]
}

/// One row for each object, to compare them.
pub(crate) fn overview(objects: &[(String, &LoadObject)]) -> Table {
    let row = |(name, o): &(String, &LoadObject)| {
        let cell = |key: &str| o.0.get(key).cloned().unwrap_or(Value::Null);
        let mut row = vec![Value::from(name.as_str())];
        row.extend(
            ["app", "target", "transport", "offered_rps", "achieved_rps", "p50_us", "p99_us", "p999_us", "errors"]
                .map(cell),
        );
        row.push(cell("saturated_side"));
        row
    };
    let columns = vec![
        Column::text("Run"),
        Column::text("Application"),
        Column::text("Target"),
        Column::text("Transport"),
        Column::number("Offered", "requests/s"),
        Column::number("Achieved", "requests/s"),
        Column::number("p50", "us"),
        Column::number("p99", "us"),
        Column::number("p99.9", "us"),
        Column::number("Errors", ""),
        Column::text("Saturated side"),
    ];
    let caption = "One row for each file. A dash under saturated side: neither was.".to_string();
    Table {
        id: "runs".to_string(),
        title: "Loads side by side".to_string(),
        caption,
        columns,
        rows: objects.iter().map(row).collect(),
    }
}

fn latency(label: &str, mark: Option<f64>) -> Axis {
    Axis { label: label.to_string(), unit: "us".to_string(), log: true, max: None, mark }
}

fn number(object: &Value, key: &str) -> Option<f64> {
    object.get(key).and_then(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn half_bandwidth_is_between_the_sizes() {
        let points = [(64.0, 10.0), (1024.0, 40.0), (2048.0, 60.0), (8192.0, 100.0)].map(|(x, y)| Point::new(x, y));
        assert_eq!(half_bandwidth(&points), Some(1536.0));
        assert_eq!(half_bandwidth(&points[3..]), Some(8192.0));
        assert_eq!(half_bandwidth(&[]), None);
    }

    #[test]
    fn limits_of_slos_are_read() {
        let limit = |slo: &str| LoadObject(json!({"find_max": {"slo": slo}})).slo_us();
        assert_eq!(limit("p99=500us"), Some(500.0));
        assert_eq!(limit("p99.9=1.5ms"), Some(1500.0));
        assert_eq!(limit("p99=500"), None);
        assert_eq!(limit("nonsense"), None);
    }

    #[test]
    fn percentiles_may_be_shares_or_percents() {
        let x = |pairs: Value| {
            let figure = LoadObject(json!({"percentiles": pairs})).percentiles("a").unwrap();
            figure.series[0].points.iter().map(|p| p.x.round()).collect::<Vec<_>>()
        };
        assert_eq!(x(json!([[0.0, 1], [0.5, 2], [0.99, 5], [1.0, 9]])), [1.0, 2.0, 100.0]);
        assert_eq!(x(json!([[0.0, 1], [50, 2], [99, 5], [100, 9]])), [1.0, 2.0, 100.0]);
    }

    #[test]
    fn rates_are_per_second_of_each_slice() {
        let slice = |at: f64, n: u64| json!({"at_s": at, "offered": n, "completed": n, "errors": 0, "p50_us": 1, "p99_us": 2, "max_us": 3});
        let object = LoadObject(json!({"seconds": 1.25, "series": [slice(0.0, 50), slice(0.5, 50), slice(1.0, 50)]}));
        let rates: Vec<f64> = object.time_series()[0].series[0].points.iter().map(|p| p.y).collect();
        assert_eq!(rates, [100.0, 100.0, 200.0]);
    }

    #[test]
    fn an_empty_object_is_a_document() {
        let document = LoadObject(json!({"schema": LOAD_SCHEMA})).document("empty");
        assert!(document.figures.is_empty());
        assert!(document.tables.iter().all(|table| table.rows.is_empty()));
    }
}
