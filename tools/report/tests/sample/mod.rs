//! Documents with all that a page must show. The numbers are made up.

use report::{Axis, Column, Document, Figure, Machine, Noise, Point, SCHEMA, Series, Style, Table};
use serde_json::{Value, json};

fn axis(label: &str, unit: &str, log: bool) -> Axis {
    Axis { label: label.to_string(), unit: unit.to_string(), log, max: None, mark: None }
}

fn series(name: &str, style: Style, points: Vec<Point>) -> Series {
    Series { name: name.to_string(), style, points }
}

fn figure(id: &str, title: &str, caption: &str, (x, y): (Axis, Axis), series: Vec<Series>) -> Figure {
    Figure { id: id.to_string(), title: title.to_string(), caption: caption.to_string(), x, y, series }
}

/// A measured value that varied by 6 %.
fn around(x: f64, y: f64) -> Point {
    Point::spread(x, y, y * 0.95, y * 1.07)
}

/// Latency at `rate` of something that can do `capacity`.
fn queue(base: f64, capacity: f64, rate: f64) -> f64 {
    base / (1.0 - (rate / capacity).min(0.99)).powf(1.4)
}

fn curves() -> Figure {
    let stacks =
        [("zygix, tap", 24.0, 310e3), ("linux-partitioned, veth", 45.0, 150e3), ("linux-floating, veth", 52.0, 110e3)];
    let line = |(name, base, capacity): (&str, f64, f64)| {
        let points = (1..=12).map(|i| {
            let rate = capacity * f64::from(i) / 12.0;
            around(rate, queue(base, capacity, rate))
        });
        series(name, Style::Line, points.collect())
    };
    let mut y = axis("p99 latency", "us", true);
    (y.mark, y.max) = (Some(500.0), Some(2000.0));
    figure(
        "usr-curve",
        "USR: p99 by throughput",
        "Each point is the median of 3 windows; whiskers span all of them. The dashed line is the SLO.",
        (axis("Throughput", "requests/s", false), y),
        stacks.into_iter().map(line).collect(),
    )
}

fn pingpong() -> Figure {
    let sizes = || (6..=20).map(|e| 2f64.powi(e));
    let line = |name: &str, base: f64, per: f64| {
        series(name, Style::Line, sizes().map(|s| around(s, base + s * per)).collect())
    };
    figure(
        "pingpong",
        "Ping-pong: one-way latency",
        "After figure 2.4 of the thesis: one message at a time.",
        (axis("Message size", "B", true), axis("One-way latency", "us", true)),
        vec![
            line("zygix, tap", 6.1, 0.0011),
            line("zygix, shm (emulated)", 0.7, 0.0004),
            line("linux-partitioned, veth", 11.9, 0.0008),
        ],
    )
}

fn batch() -> Figure {
    let bounds = [1.0, 2.0, 8.0, 16.0, 64.0];
    let points = |base: f64| bounds.iter().map(|&b: &f64| around(b, base * (1.0 + 0.3 * b.log2() / 6.0))).collect();
    figure(
        "batch",
        "Throughput by batch bound",
        "After figure 2.13.",
        (axis("Batch bound B", "", true), axis("Throughput", "requests/s", false)),
        vec![
            series("zygix, tap", Style::Line, points(240e3)),
            series("zygix, shm (emulated)", Style::Line, points(410e3)),
        ],
    )
}

fn spin() -> Figure {
    let times = [10.0, 20.0, 50.0, 100.0, 200.0];
    let measured = |top: f64| times.iter().map(|&s| around(s, top * s / (s + 14.0))).collect();
    let bound = |level: f64| times.iter().map(|&s| Point::new(s, level)).collect();
    let mut y = axis("Load at p99 <= 10 S", "%", false);
    y.max = Some(100.0);
    figure(
        "spin",
        "Spin, exponential: most load by service time",
        "After figure 3.3 at n = 2. Thin dashes are the models without any cost.",
        (axis("Service time S", "us", true), y),
        vec![
            series("linux-floating, veth", Style::Line, measured(75.0)),
            series("linux-partitioned, veth", Style::Line, measured(55.0)),
            series("zygix, tap", Style::Points, measured(54.0)),
            series("M/G/2, one queue", Style::Bound, bound(75.8)),
            series("2 x M/G/1", Style::Bound, bound(53.95)),
        ],
    )
}

/// Figures that a bench may write by accident, or by measuring nothing.
fn odd() -> Vec<Figure> {
    let odd =
        vec![Point::new(f64::NAN, 1.0), Point::new(1.0, f64::INFINITY), Point::new(-1.0, 3.0), Point::new(10.0, 30.0)];
    let axes = || (axis("Connections", "", true), axis("Rate", "1/s", true));
    let many = (0..9).map(|i| {
        series(&format!("kind {i}"), Style::Line, (1..6).map(|x| Point::new(f64::from(x), f64::from(i + x))).collect())
    });
    vec![
        figure(
            "odd",
            "Odd points",
            "Three of four points cannot be drawn.",
            axes(),
            vec![series("odd one", Style::Line, odd)],
        ),
        figure(
            "empty",
            "No points",
            "Nothing was measured.",
            axes(),
            vec![series("empty one", Style::Line, Vec::new())],
        ),
        figure(
            "many",
            "Many kinds",
            "More than there are colours.",
            (axis("x", "", false), axis("y", "", false)),
            many.collect(),
        ),
    ]
}

fn rows() -> Vec<Value> {
    let stacks = [("zygix", "tap", 1.0f64), ("linux-partitioned", "veth", 2.6), ("linux-floating", "veth", 3.1)];
    let workloads = [
        ("echo", "echo-1x1", 0.1),
        ("echo", "echo-100x1", 1.0),
        ("echo", "echo-100x4", 2.2),
        ("kv", "usr", 1.1),
        ("kv", "etc", 0.8),
    ];
    let mut rows = Vec::new();
    for (app, workload, scale) in workloads {
        for (stack, wire, cost) in stacks {
            let rate = 310e3 * scale / cost;
            let row = json!({
                "app": app, "stack": stack, "wire": wire, "workload": workload, "rps_at_slo": rate, "rps_at_slo_low": rate * 0.97,
                "rps_at_slo_high": rate * 1.02, "unloaded_p50_us": 11.2 * cost.sqrt(), "unloaded_p99_us": 19.4 * cost.sqrt(),
                "server_us_per_request": 1.9 * cost, "server_thread_us": 1.2 * cost, "kernel_rx_us": 0.7 * cost,
            });
            rows.push(row);
        }
        if app == "kv" {
            rows.push(json!({
                "app": "kv", "stack": "memcached", "wire": "veth", "workload": workload, "rps_at_slo": null, "unloaded_p50_us": 21.0,
                "unloaded_p99_us": 38.5, "server_us_per_request": 9.81, "note": "version 1.6.18, one thread",
            }));
        }
    }
    rows[6]["saturated_side"] = json!("client");
    rows
}

/// A document of the stacks bench.
pub(crate) fn bench() -> Document {
    let table = Table {
        id: "churn".to_string(),
        title: "Connections opened and reset".to_string(),
        caption: "One request on each connection.".to_string(),
        columns: vec![
            Column::text("Stack"),
            Column::number("Messages", "per connection"),
            Column::number("Rate", "connections/s"),
            Column::number("Server time", "us").decimals(2),
        ],
        rows: vec![
            vec!["zygix".into(), 1.into(), 51234.5.into(), 9.8765.into()],
            vec!["linux-partitioned".into(), 1024.into(), Value::Null, 31.0.into()],
        ],
    };
    let mut figures = vec![curves(), pingpong(), spin(), batch()];
    figures.extend(odd());
    Document {
        cores: None,
        network_us_per_request: None,
        schema: SCHEMA.to_string(),
        kind: "stacks".to_string(),
        title: "Stacks side by side on two cores".to_string(),
        command: "zygix bench stacks --seconds 2 --json stacks.json".to_string(),
        started: "2026-11-22T10:15:00Z".to_string(),
        commit: "32d329b".to_string(),
        machine: Machine {
            cpu: "Some CPU @ 2.00GHz".to_string(),
            cores: 2,
            kernel: "6.1.0".to_string(),
            memory_gb: 15.6,
            hypervisor: Some("Some Cloud".to_string()),
            governor: None,
        },
        seconds_per_point: 2.0,
        repeats: 3,
        rows: rows(),
        figures,
        tables: vec![table],
        noise: Noise {
            slices: 1480,
            discarded: 37,
            waited_ms: 212.4,
            stolen_share: 0.004,
            verdict: "Quiet enough for ratios of 1.1 and more.".to_string(),
        },
        notes: vec!["The shm wire is emulated: two processes share memory, there is no cable.".to_string()],
    }
}

/// An object of `zygix load`, with all its parts.
pub(crate) fn load(app: &str, speed: f64) -> Value {
    let slice = |i: u32| {
        let offered = 50_000.0 + 20_000.0 * (f64::from(i) / 5.0).sin();
        let stall = if i == 21 { 40.0 } else { 1.0 };
        json!({"at_s": i, "offered": offered as u64, "completed": (offered - stall) as u64, "errors": u64::from(i == 21),
               "p50_us": 22.5, "p99_us": 61.0 * stall, "max_us": 400.0 * stall})
    };
    let point = |i: u32| {
        let rate = 20e3 * speed * f64::from(i);
        json!({"offered_rps": rate, "achieved_rps": rate * 0.999, "p50_us": queue(20.0, 220e3 * speed, rate), "p99_us": queue(48.0, 220e3 * speed, rate),
               "p999_us": queue(90.0, 220e3 * speed, rate), "errors": 0, "saturated_side": if i > 9 { json!("server") } else { Value::Null }})
    };
    let quantiles = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 1.0];
    let percentiles: Vec<Value> =
        quantiles.iter().map(|&q: &f64| json!([q, 18.0 / (1.0 - q + 1e-6).powf(0.35)])).collect();
    let sizes: Vec<Value> = (6..=18)
        .map(|e| {
            let size = 2f64.powi(e);
            let time = 21.0 + size * 0.002;
            json!({"size": size, "p50_us": time, "p99_us": time * 1.6, "mbit_per_s": size * 8.0 / time})
        })
        .collect();
    json!({
        "schema": "zygix-load-1", "app": app, "workload": {"kind": "usr", "records": 1000000}, "target": "198.18.0.2:11211", "transport": "linux",
        "pace": "open", "gaps": "poisson", "pattern": "50k", "connections": 100, "depth": 4, "threads": 1, "seed": 7, "seconds": 30.0,
        "warmup_seconds": 1.0, "sent": 1500321, "completed": 1500300, "errors": 21,
        "errors_by_kind": {"wrong": 0, "lost": 20, "broken": 1, "unanswered": 0, "refused": 0}, "offered_rps": 50010.7, "achieved_rps": 50010.0,
        "mean_us": 27.31, "p50_us": 22.5, "p90_us": 41.0, "p99_us": 61.4, "p999_us": 180.0, "max_us": 2440.0, "saturated": true,
        "saturated_side": "server", "interrupted": false, "lateness_p50_us": 0.4, "lateness_p99_us": 3.1, "client_us_per_request": 5.5,
        "connections_per_s": 0.0, "probe": {"requests": 30000, "p50_us": 25.0, "p99_us": 70.5, "p999_us": 200.0},
        "series": (0..30).map(slice).collect::<Vec<_>>(), "percentiles": percentiles, "points": (1..=11).map(point).collect::<Vec<_>>(),
        "agents": [{"address": "198.18.0.1:9000", "ok": true, "error": null}, {"address": "198.18.0.3:9000", "ok": false, "error": "broken pipe"}],
        "find_max": {"slo": "p99=500us", "max_rps": 171234.0, "low": 168e3, "high": 175e3, "confident": true, "tries": 11}, "pingpong": sizes,
        "machine": {"cpu": "Some CPU @ 2.00GHz", "cores": 2, "kernel": "6.1.0", "memory_gb": 15.6, "hypervisor": null, "governor": null},
        "version": "0.1.0",
    })
}
