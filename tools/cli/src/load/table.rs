use std::fmt::Write;

use load::{Hangup, Outcome, Pace, Side};
use units::Nanos;

use super::measure::{FoundMax, Measured, Ping, Report, half_bandwidth, short};
use super::plan::{Plan, Wire, brief};

/// The whole run, for people.
pub(crate) fn table(plan: &Plan, report: &Report) -> String {
    let mut t = String::new();
    let _ = writeln!(t, "{}\n", heading(plan));
    match (&report.pingpong, report.points.is_empty()) {
        (Some(pings), _) => pingpong(&mut t, pings),
        (None, false) => points(&mut t, report),
        (None, true) => summary(&mut t, plan, &report.main),
    }
    if let Some(found) = &report.found {
        let _ = writeln!(t, "\n{}", verdict(found));
    } else if let (Some(slo), None) = (&plan.slo, &report.pingpong) {
        let o = &report.main.outcome;
        let met = if super::holds(slo, o) { "met" } else { "missed" };
        let _ = writeln!(t, "objective {slo}: {met}, at {:.1} us", us(o.quantile(slo.quantile)));
    }
    for agent in report.main.agents.iter().filter(|a| !a.ok) {
        let why = agent.error.as_deref().unwrap_or("lost");
        let _ = writeln!(t, "agent {} is missing: {why}; what it sent is not in these figures", agent.addr);
    }
    if report.main.outcome.interrupted {
        let _ = writeln!(t, "interrupted: the results so far");
    }
    t.truncate(t.trim_end().len());
    t
}

fn heading(plan: &Plan) -> String {
    let spec = &plan.spec;
    let mut parts = vec![format!("{} at {}", plan.app, spec.target), plan.what.clone()];
    if plan.app != "pingpong" {
        parts.push(format!("{} connection(s), depth {}", spec.connections, spec.depth));
    }
    if let Some(churn) = &spec.churn {
        let how = if churn.how == Hangup::Rst { "RST" } else { "FIN" };
        parts.push(format!("{how} after {} request(s)", churn.requests));
    }
    if let Pace::Open { gaps, pattern } = &plan.window.pace {
        parts.push(format!("open loop {}/s, {}", brief(&pattern.to_string()), brief(&gaps.to_string())));
    }
    match &plan.wire {
        Wire::Linux => parts.push("Linux sockets".into()),
        Wire::Agents(agents) => parts.push(format!("{} agent(s)", agents.len())),
        Wire::Tap { name, .. } => parts.push(format!("our own stack, TAP {name}")),
        Wire::Xdp { uri, .. } => parts.push(format!("our own stack, AF_XDP on {}", uri.name)),
        Wire::Shm { .. } => parts.push("our own stack, shm wire (emulated)".into()),
    }
    parts.join("; ")
}

fn summary(t: &mut String, plan: &Plan, measured: &Measured) {
    let o = &measured.outcome;
    let mut row = |name: &str, text: String| {
        let _ = writeln!(t, "{name:<14}{text}");
    };
    let seconds = o.window.as_secs_f64();
    if o.open_loop {
        row(
            "requests/s",
            format!("offered {:.0}, answered {:.0}, over {seconds:.1} s", o.offered_rps(), o.achieved_rps()),
        );
    } else {
        row("requests/s", format!("answered {:.0}, over {seconds:.1} s", o.achieved_rps()));
    }
    row("latency, us", latencies(&o.latency, true));
    if !o.probe.is_empty() {
        row(
            "unloaded, us",
            format!("{} over {} connection(s) of its own", latencies(&o.probe, false), plan.spec.probe),
        );
    }
    if plan.spec.churn.is_some() {
        row("connections/s", format!("{:.0}", o.opened as f64 / seconds.max(1e-9)));
    }
    let cpu = o.cpu.0 as f64 / 1e3 / o.sent.max(1) as f64;
    let late = match o.open_loop {
        true => format!("late by p50 {:.1}, p99 {:.1} us; ", of(&o.lateness, 0.5), of(&o.lateness, 0.99)),
        false => String::new(),
    };
    row("client", format!("{late}{cpu:.2} us of CPU per request"));
    row("errors", if o.errors.total() == 0 { "none".into() } else { format!("{}: {}", o.errors.total(), o.errors) });
    if let Some(line) = saturated(o) {
        row("saturated", line);
    }
}

fn latencies(h: &load::Histogram<u64>, all: bool) -> String {
    if h.is_empty() {
        return "none: no request that was meant for the window was answered".into();
    }
    let mut text = format!("p50 {:.1}  ", of(h, 0.5));
    if all {
        let _ = write!(text, "p90 {:.1}  ", of(h, 0.9));
    }
    let _ = write!(text, "p99 {:.1}  p99.9 {:.1}", of(h, 0.99), of(h, 0.999));
    if all {
        let _ = write!(text, "  max {:.1}  mean {:.1}", h.max() as f64 / 1e3, h.mean() / 1e3);
    }
    text
}

/// Who could do no more, and what that means.
fn saturated(o: &Outcome) -> Option<String> {
    let short = 100.0 * (1.0 - o.achieved_rps() / o.offered_rps().max(f64::MIN_POSITIVE)).max(0.0);
    Some(match o.saturated()? {
        Side::Server if o.errors.refused > 0 => {
            format!("the server: it took no new connections, {short:.1} % of the rate was not answered")
        }
        Side::Server => format!(
            "the server: {short:.1} % of the rate was not answered in time; the latencies are those of a growing queue"
        ),
        Side::Client => format!(
            "the client: it sent late, {short:.1} % of the rate was missed; use more --threads, --spin, more connections, --agents, or --nic"
        ),
    })
}

fn points(t: &mut String, report: &Report) {
    let mut rows: Vec<&Measured> = report.points.iter().collect();
    rows.sort_by(|a, b| a.rate.unwrap_or(0.0).total_cmp(&b.rate.unwrap_or(0.0)));
    let _ = writeln!(
        t,
        "{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}  ",
        "offered/s", "answered/s", "p50 us", "p99 us", "p99.9 us", "max us"
    );
    for point in rows {
        let o = &point.outcome;
        let us = |q| if o.latency.is_empty() { "-".into() } else { format!("{:.1}", of(&o.latency, q)) };
        let mut remarks = Vec::new();
        if let Some(side) = o.saturated() {
            remarks.push(format!("saturated: {}", side.name()));
        }
        if o.errors.total() > 0 {
            remarks.push(o.errors.to_string());
        }
        let line = format!(
            "{:>12.0}{:>12.0}{:>10}{:>10}{:>10}{:>10}  {}",
            o.offered_rps(),
            o.achieved_rps(),
            us(0.5),
            us(0.99),
            us(0.999),
            us(1.0),
            remarks.join("; ")
        );
        let _ = writeln!(t, "{}", line.trim_end());
    }
}

fn verdict(f: &FoundMax) -> String {
    let found = &f.found;
    let sure = if found.confident { "" } else { " (not confident: interrupted, out of tries, or too noisy)" };
    match found.max_rps {
        None => format!("no rate holds {}: {}/s, the lowest tried, does not{sure}", f.slo, short(found.high)),
        Some(max) if f.open_ended => {
            format!("at least {max:.0} requests/s at {}: nothing up to --max-rate fails{sure}", f.slo)
        }
        Some(max) => {
            let who = if f.by_client { ", for which the client is to blame, not the server" } else { "" };
            format!("{max:.0} requests/s at {}; {:.0}/s fails{who}; {} windows{sure}", f.slo, found.high, found.tries)
        }
    }
}

fn pingpong(t: &mut String, pings: &[Ping]) {
    let _ = writeln!(t, "{:>10}{:>14}{:>14}{:>14}{:>12}", "bytes", "to and fro us", "p99 us", "one way us", "Mbit/s");
    for p in pings {
        let _ = writeln!(
            t,
            "{:>10}{:>14.1}{:>14.1}{:>14.1}{:>12.1}",
            p.size,
            p.p50_us,
            p.p99_us,
            p.p50_us / 2.0,
            p.mbit_per_s
        );
    }
    if let Some(size) = half_bandwidth(pings).filter(|_| pings.len() > 1) {
        let best = pings.iter().map(|p| p.mbit_per_s).fold(0.0, f64::max);
        let _ = writeln!(t, "\nhalf of the best bandwidth ({best:.0} Mbit/s) is reached at {size:.0} B");
    }
}

fn of(h: &load::Histogram<u64>, q: f64) -> f64 {
    h.value_at_quantile(q) as f64 / 1e3
}

fn us(n: Nanos) -> f64 {
    n.0 as f64 / 1e3
}
