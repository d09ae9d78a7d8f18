use load::{Outcome, Pace, Side};
use serde_json::{Map, Value, json};
use units::Nanos;

use super::measure::{FoundMax, Measured, Report};
use super::plan::Plan;

/// The object's name and version: docs/schema/zygix-load-1.schema.json.
const SCHEMA: &str = "zygix-load-1";

/// The percentiles that are written out, as shares.
const QUANTILES: [f64; 17] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0];

/// The whole run, for programs.
pub(crate) fn object(plan: &Plan, report: &Report) -> Value {
    let spec = &plan.spec;
    let (pace, gaps, pattern) = match &plan.window.pace {
        Pace::Open { gaps, pattern } => ("open", Some(gaps.to_string()), Some(pattern.to_string())),
        Pace::Closed if report.main.rate.is_some() => ("open", Some(plan.gaps.to_string()), None),
        Pace::Closed => ("closed", None, None),
    };
    let mut all = figures(&report.main);
    all.append(&mut fields(json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": report::commit(),
        "command": command(),
        "started": utc(plan.started),
        "app": plan.app,
        "workload": workload(plan),
        "target": spec.target.to_string(),
        "transport": plan.wire.name(),
        "pace": pace,
        "gaps": gaps,
        "pattern": pattern,
        "connections": spec.connections,
        "depth": spec.depth,
        "threads": spec.threads,
        "churn": spec.churn,
        "seed": spec.seed,
        "warmup_seconds": plan.window.warmup.as_secs_f64(),
        "series": series(&report.main.outcome),
        "agents": report.main.agents.iter().map(|a| json!({
            "address": a.addr.to_string(), "ok": a.ok, "error": a.error,
        })).collect::<Vec<_>>(),
        "points": report.points.iter().map(|p| Value::Object(figures(p))).collect::<Vec<_>>(),
        "find_max": report.found.as_ref().map(find_max),
        "pingpong": report.pingpong.as_ref().map(|pings| pings.iter().map(|p| json!({
            "size": p.size, "p50_us": round(p.p50_us), "p99_us": round(p.p99_us), "mbit_per_s": round(p.mbit_per_s),
        })).collect::<Vec<_>>()),
        "machine": serde_json::to_value(report::Machine::here()).unwrap_or_default(),
    })));
    Value::Object(all)
}

/// What a window came to: the same for the whole run and for each of its points.
fn figures(measured: &Measured) -> Map<String, Value> {
    let o = &measured.outcome;
    let side = o.saturated().map(Side::name);
    let seconds = o.window.as_secs_f64();
    let e = &o.errors;
    fields(json!({
        "rate": measured.rate,
        "seconds": seconds,
        "sent": o.sent,
        "offered": o.offered,
        "completed": o.completed,
        "errors": e.total(),
        "errors_by_kind": {
            "wrong": e.wrong, "lost": e.lost, "broken": e.broken, "unanswered": e.unanswered, "refused": e.refused,
        },
        "offered_rps": round(o.offered_rps()),
        "achieved_rps": round(o.achieved_rps()),
        "mean_us": (!o.latency.is_empty()).then(|| round(o.latency.mean() / 1e3)),
        "p50_us": quantile(&o.latency, 0.5),
        "p90_us": quantile(&o.latency, 0.9),
        "p99_us": quantile(&o.latency, 0.99),
        "p999_us": quantile(&o.latency, 0.999),
        "max_us": quantile(&o.latency, 1.0),
        "saturated": side.is_some(),
        "saturated_side": side,
        "interrupted": o.interrupted,
        "lateness_p50_us": us(o.lateness.value_at_quantile(0.5)),
        "lateness_p99_us": us(o.lateness.value_at_quantile(0.99)),
        "client_us_per_request": round(o.cpu.0 as f64 / 1e3 / o.sent.max(1) as f64),
        "connections_per_s": if seconds > 0.0 { round(o.opened as f64 / seconds) } else { 0.0 },
        "probe": (!o.probe.is_empty()).then(|| json!({
            "requests": o.probe.len(),
            "p50_us": quantile(&o.probe, 0.5),
            "p99_us": quantile(&o.probe, 0.99),
            "p999_us": quantile(&o.probe, 0.999),
        })),
        "percentiles": QUANTILES.iter().filter_map(|&q| Some(json!([q, quantile(&o.latency, q)?]))).collect::<Vec<_>>(),
    }))
}

fn series(o: &Outcome) -> Value {
    let steps = o.slices.iter().map(|s| {
        json!({
            "at_s": s.at.as_secs_f64(),
            "length_s": s.length.as_secs_f64(),
            "offered": s.offered,
            "completed": s.completed,
            "answered": s.answered,
            "errors": s.errors,
            "p50_us": us(s.p50.0),
            "p99_us": us(s.p99.0),
            "max_us": us(s.max.0),
        })
    });
    steps.collect()
}

fn find_max(f: &FoundMax) -> Value {
    json!({
        "slo": f.slo.to_string(),
        "max_rps": f.found.max_rps.map(round),
        "low": round(f.found.low),
        "high": round(f.found.high),
        "tries": f.found.tries,
        "confident": f.found.confident,
        "limited_by_client": f.by_client,
        "open_ended": f.open_ended,
    })
}

/// The numbers of the workload, without its name: that is the application's.
fn workload(plan: &Plan) -> Value {
    match serde_json::to_value(&plan.spec.workload) {
        Ok(Value::Object(named)) => named.into_iter().next().map(|(_, v)| v).unwrap_or_default(),
        _ => Value::Null,
    }
}

/// The command line, as it would be written again.
fn command() -> String {
    let words = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned());
    std::iter::once("zygix".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// An instant since 1970 as `2026-11-22T12:00:00Z`.
fn utc(wall: Nanos) -> String {
    let seconds = wall.0 / 1_000_000_000;
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Nothing where nothing was answered: 0 would be the best of all latencies.
fn quantile(h: &load::Histogram<u64>, q: f64) -> Option<f64> {
    (!h.is_empty()).then(|| us(h.value_at_quantile(q)))
}

fn us(ns: u64) -> f64 {
    round(ns as f64 / 1e3)
}

/// Three decimals: a nanosecond, a thousandth of a request. What is no number becomes 0.
fn round(x: f64) -> f64 {
    if x.is_finite() { (x * 1e3).round() / 1e3 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_dates() {
        let at = |seconds: u64| utc(Nanos::from_secs(seconds));
        assert_eq!((at(0), at(951_782_400)), ("1970-01-01T00:00:00Z".into(), "2000-02-29T00:00:00Z".into()));
        assert_eq!(
            (at(1_735_689_599), at(1_795_348_799)),
            ("2024-12-31T23:59:59Z".into(), "2026-11-22T11:59:59Z".into())
        );
    }
}
