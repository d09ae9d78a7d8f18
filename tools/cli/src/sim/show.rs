use std::fmt::Write;

use queueing::{Answer, Policy, Row, closed, reference};
use report::{Axis, Column, Document, Figure, Machine, Noise, Point, Series, Style, Table};
use serde_json::{Map, Value, json};

use super::queueing::{Cell, Finding};

/// The objective's share of requests.
const QUANTILE: f64 = 0.99;
/// The objective of the table of reference.
const TABLE_SLO: f64 = 10.0;

/// The result for programs: the one cell with all its fields, or a list of them.
pub(super) fn object(finding: &Finding<'_>) -> Value {
    let args = finding.args;
    let mut object = match (&finding.cells[..], args.n.len() * args.dist.0.len() * args.policy.len()) {
        ([one], 1) => fields(one, finding),
        ([], 1) => Map::new(),
        (cells, _) => {
            let cells: Vec<Value> = cells.iter().map(|cell| Value::Object(fields(cell, finding))).collect();
            Map::from_iter([("cells".to_owned(), json!(cells))])
        }
    };
    for (key, value) in [
        ("slo", json!(args.slo)),
        ("quantile", json!(QUANTILE)),
        ("gaps", json!(args.gaps)),
        ("seed", json!(args.seed)),
        ("threads", json!(finding.threads)),
        ("interrupted", json!(finding.interrupted)),
        ("commit", json!(report::commit())),
        ("command", json!(crate::bench::command_line())),
    ] {
        object.insert(key.into(), value);
    }
    Value::Object(object)
}

fn fields(cell: &Cell, finding: &Finding<'_>) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("policy", json!(cell.system.policy.to_string()));
    put("n", json!(cell.system.servers));
    put("dist", json!(cell.dist));
    if let Some(answer) = &cell.answer {
        put("max_load", json!(answer.max_load));
        // JSON has no infinity: null is an interval that is not known.
        put("ci95", json!(answer.ci95));
        put("precise", json!(answer.precise));
        put("seeds", json!(answer.replications));
        put("requests_per_seed", json!(answer.requests));
        let slo = finding.args.slo;
        put("exact", json!(reference::exact(&cell.system, slo, QUANTILE)));
    }
    if !cell.rows.is_empty() {
        put("rows", json!(cell.rows.iter().map(row).collect::<Vec<_>>()));
    }
    put("requests", json!(cell.simulated));
    put("seconds", json!(cell.seconds));
    put("requests_per_s", json!(cell.rate(finding.threads)));
    fields
}

fn row(row: &Row) -> Value {
    json!({
        "load": row.load, "p50": row.p50, "p99": row.p99, "p99_ci95": row.p99_ci95, "p999": row.p999,
        "mean": row.mean, "mean_ci95": row.mean_ci95, "max": row.max,
        "slowdown_mean": row.slowdown_mean, "slowdown_p99": row.slowdown_p99,
        "requests": row.requests, "seeds": row.replications,
    })
}

/// What is known of a cell's highest load without this simulation, and from where.
fn known(cell: &Cell, slo: f64) -> Option<(f64, &'static str)> {
    let exact = reference::exact(&cell.system, slo, QUANTILE).map(|load| (load, "exact"));
    let table = || (slo == TABLE_SLO).then(|| reference::table(&cell.system)).flatten().map(|load| (load, "table"));
    exact.or_else(table)
}

/// For people.
pub(super) fn text(finding: &Finding<'_>) -> String {
    let mut text = String::new();
    let tables = tables(finding);
    for (nth, table) in tables.iter().enumerate() {
        let _ = write!(text, "{}{}", if nth == 0 { "" } else { "\n" }, lab::kinds::text(table));
    }
    let (simulated, seconds) =
        finding.cells.iter().fold((0, 0.0), |(n, s), cell| (n + cell.simulated, s + cell.seconds));
    let rate = simulated as f64 / f64::max(seconds, 1e-9) / finding.threads as f64 / 1e6;
    let _ = writeln!(
        text,
        "\n{:.0} million requests in {seconds:.1} s on {} thread(s): {rate:.1} million a second each",
        simulated as f64 / 1e6,
        finding.threads
    );
    text
}

/// Sentences about what is not as it was asked for.
pub(super) fn notes(finding: &Finding<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for cell in &finding.cells {
        match &cell.answer {
            Some(answer) if answer.max_load == 1.0 => notes.push(format!(
                "{}: the objective is met at full load in runs of {} requests; longer ones (--requests) may tell",
                cell.name(),
                answer.requests
            )),
            Some(answer) if !answer.precise => notes.push(imprecise(cell, answer, finding.args.precision)),
            _ => {}
        }
        if cell.rows.first().is_some_and(|row| row.replications < 10) {
            notes.push(format!("{}: ended early, so that intervals are wider", cell.name()));
        }
    }
    notes
}

fn imprecise(cell: &Cell, answer: &Answer, asked: f64) -> String {
    let found = if answer.ci95.is_finite() {
        format!("known to {:.3} points only", 100.0 * answer.ci95)
    } else {
        "known roughly only".into()
    };
    format!(
        "{}: {found}, not to {asked}, after {:.0} million requests; allow more with --max-requests or --max-seconds",
        cell.name(),
        answer.simulated as f64 / 1e6
    )
}

fn tables(finding: &Finding<'_>) -> Vec<Table> {
    let maxima = finding.cells.iter().any(|cell| cell.answer.is_some()).then(|| maxima(finding));
    let asked = !finding.args.load.is_empty() && finding.cells.iter().any(|cell| !cell.rows.is_empty());
    maxima.into_iter().chain(asked.then(|| stays(finding))).collect()
}

fn head() -> [Column; 3] {
    [Column::text("policy"), Column::number("n", "").decimals(0), Column::text("work")]
}

fn heads(cell: &Cell) -> [Value; 3] {
    [json!(cell.system.policy.to_string()), json!(cell.system.servers), json!(cell.dist)]
}

fn maxima(finding: &Finding<'_>) -> Table {
    let slo = finding.args.slo;
    let columns = [
        Column::number("highest load", "%").decimals(2),
        Column::number("+-", "points").decimals(2),
        Column::number("known", "%").decimals(2),
        Column::text("from"),
        Column::number("off", "points").decimals(2),
        Column::number("runs", "").decimals(0),
    ];
    let row = |cell: &Cell| {
        let answer = cell.answer.as_ref()?;
        let known = known(cell, slo);
        let last = [
            json!(100.0 * answer.max_load),
            json!(100.0 * answer.ci95),
            json!(known.map(|(load, _)| 100.0 * load)),
            json!(known.map_or("", |(_, from)| from)),
            json!(known.map(|(load, _)| 100.0 * (answer.max_load - load))),
            json!(answer.replications),
        ];
        Some(heads(cell).into_iter().chain(last).collect())
    };
    Table {
        id: "maxima".into(),
        title: format!("Highest load with p99 <= {slo} S"),
        caption: "In per cent of what the servers can do, with its 95 % confidence interval. Exact: from a formula. Table: what others have \
                  simulated, to a tenth of a point."
            .into(),
        columns: head().into_iter().chain(columns).collect(),
        rows: finding.cells.iter().filter_map(row).collect(),
    }
}

fn stays(finding: &Finding<'_>) -> Table {
    let columns = ["p50", "p99", "+-", "p99.9", "mean", "longest"].map(|name| Column::number(name, "S").decimals(2));
    let slowdowns = ["slowdown", "its p99"].map(|name| Column::number(name, "").decimals(2));
    let mut rows = Vec::new();
    for cell in &finding.cells {
        for row in &cell.rows {
            let times = [row.p50, row.p99, row.p99_ci95, row.p999, row.mean, row.max];
            let figures = times.into_iter().chain([row.slowdown_mean, row.slowdown_p99]);
            let load = json!(100.0 * row.load);
            rows.push(heads(cell).into_iter().chain([load]).chain(figures.map(|n| json!(n))).collect());
        }
    }
    let load = Column::number("load", "%").decimals(2);
    Table {
        id: "stays".into(),
        title: "How long requests stay".into(),
        caption: "In mean service times S; the interval is that of p99 (95 %). Slowdown: stay over own work, its mean and 99th percentile."
            .into(),
        columns: head().into_iter().chain([load]).chain(columns).chain(slowdowns).collect(),
        rows,
    }
}

/// The result for the report.
pub(super) fn document(finding: &Finding<'_>) -> Document {
    let mut notes = vec![
        "Simulated in virtual time: requests cost nothing but their work, and this machine has no part in the figures."
            .to_owned(),
    ];
    if finding.interrupted {
        notes.insert(0, "Interrupted: these are the results so far.".into());
    }
    notes.extend(self::notes(finding));
    Document {
        kind: "queueing".into(),
        title: "Queueing models".into(),
        command: crate::bench::command_line(),
        started: finding.started.clone(),
        commit: report::commit(),
        machine: Machine::here(),
        figures: figures(finding),
        tables: tables(finding),
        noise: Noise { verdict: "simulated: no noise".into(), ..Noise::default() },
        notes,
        ..Document::default()
    }
}

/// A figure for each distribution and number of servers, a curve for each policy (thesis figure 3.2).
fn figures(finding: &Finding<'_>) -> Vec<Figure> {
    let slo = finding.args.slo;
    let mut figures: Vec<Figure> = Vec::new();
    for cell in finding.cells.iter().filter(|cell| !cell.rows.is_empty()) {
        let n = cell.system.servers;
        let title = format!("p99 by load: {}, n = {n}", titled(&cell.dist));
        let at = figures.iter().position(|figure| figure.title == title).unwrap_or(figures.len());
        if at == figures.len() {
            figures.push(Figure {
                // Paths are no names; numbers are unique.
                id: format!("p99-{at}"),
                title,
                caption: "In mean service times. The objective is marked (thesis figure 3.2, without its costs)."
                    .into(),
                x: Axis { label: "load".into(), unit: "%".into(), max: Some(100.0), ..Axis::default() },
                y: Axis {
                    label: "p99".into(),
                    unit: "S".into(),
                    max: Some(2.0 * slo),
                    mark: Some(slo),
                    ..Axis::default()
                },
                series: Vec::new(),
            });
        }
        let point = |row: &Row| {
            let ends = row.p99_ci95.is_finite().then_some((row.p99 - row.p99_ci95, row.p99 + row.p99_ci95));
            let x = 100.0 * row.load;
            ends.map_or(Point::new(x, row.p99), |(low, high)| Point::spread(x, row.p99, low, high))
        };
        let points = cell.rows.iter().map(point).collect();
        figures[at].series.push(Series { name: cell.system.policy.to_string(), style: Style::Line, points });
        if let Some(bound) = exact_curve(cell) {
            figures[at].series.push(bound);
        }
    }
    figures
}

fn titled(dist: &str) -> String {
    match dist {
        "det" => "deterministic".into(),
        "exp" => "exponential".into(),
        "b1" => "bimodal-1 (90 % at S/2, 10 % at 5.5 S)".into(),
        "b2" => "bimodal-2 (99.9 % at S/2, 0.1 % at 500.5 S)".into(),
        other => other.into(),
    }
}

/// M/M/n, where it is the model.
fn exact_curve(cell: &Cell) -> Option<Series> {
    let central = cell.dist == "exp" && cell.system.policy == Policy::Central;
    if !central || cell.system.gaps != load::draw::Gaps::poisson() {
        return None;
    }
    let n = cell.system.servers;
    let at = |row: &Row| Point::new(100.0 * row.load, closed::mmn_quantile(n, row.load * n as f64, 1.0, QUANTILE));
    let points = cell.rows.iter().map(at).collect();
    Some(Series { name: "central, exact (M/M/n)".into(), style: Style::Bound, points })
}
