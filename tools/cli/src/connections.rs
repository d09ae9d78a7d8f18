//! `zygix bench connections`: what very many connections cost (thesis figure 2.6).

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::{ScaleConfig, ScaleRow, scale};
use clap::Args;
use mem::Pages;
use report::{Axis, Column, Document, Figure, Machine, Noise, Point, Series, Style, Table};
use serde_json::{Value, json};

use crate::Usage;

#[derive(Args, Debug)]
pub(crate) struct Connections {
    /// Established connections, a row for each number (k and m are thousands and millions)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1k,10k,100k,250k,1m", value_parser = count)]
    pub(crate) counts: Vec<usize>,

    /// Requests without a reply, all connections together
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) depth: u32,

    /// Pages that connections lie in: 2 MiB where the kernel has them, or 4 KiB
    #[arg(long, value_enum, default_value_t = PageSize::Huge)]
    pub(crate) pages: PageSize,

    /// Seconds per window
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Windows per row: the median is given, with the lowest and the highest
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeats: u32,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// File the result in DIR, and draw all results that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum PageSize {
    Huge,
    Small,
}

fn count(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'm') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(factor));
    number
        .filter(|n| (1_000..=4_000_000).contains(n))
        .ok_or_else(|| "write a number from 1k to 4m, such as 250k".into())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.01..=60.0).contains(s)).ok_or_else(|| "write seconds from 0.01 to 60".into())
}

/// `zygix bench connections`.
pub(crate) fn run(args: &Connections) -> Result<()> {
    sys::stop::install();
    let cores = sys::thread::allowed_cores()?;
    let [server, client, ..] = cores[..] else {
        return Err(Usage("bench connections needs two cores: one for the server, one for its client".into()).into());
    };
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut counts = args.counts.clone();
    counts.sort_unstable();
    counts.dedup();
    let started = lab::utc(sys::clock::wall());
    let config = ScaleConfig {
        counts,
        under_way: args.depth as usize,
        windows: args.repeats as usize,
        window: Duration::from_secs_f64(args.seconds),
        pages: if args.pages == PageSize::Huge { Pages::Huge } else { Pages::Small },
        batch: 64,
        pin: [server, client],
    };
    say(&format!(
        "{:>11} {:>10} {:>8} {:>9} {:>9} {:>7}",
        "connections", "requests/s", "lowest", "highest", "B each", "busy ns"
    ));
    let rows = scale(&config, |row| {
        say(&line(row));
        !sys::stop::requested()
    });
    let rows = rows.map_err(|e| anyhow::anyhow!("{e}"))?;
    let object = object(&rows);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&object)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(dir) = &args.out {
        let path = dir.join("connections.json");
        let text = serde_json::to_string_pretty(&document(args, started, &rows))? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        crate::report::draw(dir, &dir.join("index.html"))?;
    }
    if sys::stop::requested() {
        bail!("interrupted: these are the results so far");
    }
    match rows.last().map_or(0, |row| row.errors) {
        0 => Ok(()),
        n => bail!("{n} errors: replies that were not what was asked for, or connections that ended"),
    }
}

/// A line on standard output. Whoever closed that has seen enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn line(row: &ScaleRow) -> String {
    let bytes = row.bytes_per_connection.map_or("-".into(), |b| format!("{b:.0}"));
    format!(
        "{:>11} {:>10.0} {:>8.0} {:>9.0} {bytes:>9} {:>7.0}",
        row.connections, row.rps, row.rps_low, row.rps_high, row.server_busy_ns
    )
}

fn peak(rows: &[ScaleRow]) -> f64 {
    rows.iter().map(|row| row.rps).fold(0.0, f64::max)
}

fn object(rows: &[ScaleRow]) -> Value {
    let share = |row: &ScaleRow| row.rps / peak(rows).max(1.0);
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut object = serde_json::to_value(row).unwrap_or_default();
            object["share_of_peak"] = json!(share(row));
            object
        })
        .collect();
    json!({
        "rows": rows,
        "wire": "shm, within one process (emulated)",
        "commit": report::commit(),
        "command": crate::bench::command_line(),
    })
}

fn document(args: &Connections, started: String, rows: &[ScaleRow]) -> Document {
    let points = rows.iter().map(|row| Point::spread(row.connections as f64, row.rps, row.rps_low, row.rps_high));
    let figure = Figure {
        id: "throughput".into(),
        title: "64 B requests by the number of connections".into(),
        caption: "Over connections drawn at random. The thesis (figure 2.6) kept 42 % of its peak at 250 000.".into(),
        x: Axis { label: "connections".into(), log: true, ..Axis::default() },
        y: Axis { label: "requests".into(), unit: "1/s".into(), ..Axis::default() },
        series: vec![Series { name: "zygix, one core".into(), style: Style::Line, points: points.collect() }],
    };
    let columns = [
        Column::number("connections", "").decimals(0),
        Column::number("requests", "1/s"),
        Column::number("lowest", "1/s"),
        Column::number("highest", "1/s"),
        Column::number("of the peak", "%").decimals(0),
        Column::number("memory", "B each").decimals(0),
        Column::number("server busy", "ns each").decimals(0),
        Column::number("mean batch", "").decimals(1),
    ];
    let cells = |row: &ScaleRow| {
        let share = 100.0 * row.rps / peak(rows).max(1.0);
        let memory = row.bytes_per_connection;
        [
            json!(row.connections),
            json!(row.rps),
            json!(row.rps_low),
            json!(row.rps_high),
            json!(share),
            json!(memory),
            json!(row.server_busy_ns),
            json!(row.mean_batch),
        ]
        .to_vec()
    };
    Document {
        kind: "connections".into(),
        title: "Very many connections".into(),
        command: crate::bench::command_line(),
        started,
        commit: report::commit(),
        machine: Machine::here(),
        seconds_per_point: args.seconds,
        repeats: args.repeats,
        figures: vec![figure],
        tables: vec![Table {
            id: "rows".into(),
            title: "Throughput and memory".into(),
            caption: "Memory: what each connection beyond the first thousand added to the resident set of the process, in which the client has 16 bytes of each, \
                      touched before."
                .into(),
            columns: columns.to_vec(),
            rows: rows.iter().map(cells).collect(),
        }],
        noise: Noise { verdict: "not looked at: no slices are measured".into(), ..Noise::default() },
        notes: vec![format!(
            "An emulated wire within one process: an echo server on one core, its client on another. {} requests without a reply at any time; replies are \
             acknowledged by the next request on their connection, or after 40 ms.",
            args.depth
        )],
        ..Document::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_or_refused() {
        assert_eq!((count("250k"), count("1m"), count("1000")), (Ok(250_000), Ok(1_000_000), Ok(1_000)));
        for wrong in ["", "0", "999", "5m", "1kk", "k"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
