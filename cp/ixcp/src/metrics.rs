//! What Prometheus reads: text format 0.0.4. The names are a promise: docs/control-plane.md lists them.

use std::fmt::Write;

use crate::journal::Kind;
use crate::view::{CoreView, PlaneView, View};

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP zygix_{name} {help}\n# TYPE zygix_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let list: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let labels = if list.is_empty() { String::new() } else { format!("{{{}}}", list.join(",")) };
        let _ = writeln!(self.0, "zygix_{name}{labels} {value}");
    }
}

type Of<T> = fn(&T) -> Option<f64>;

/// Of a dataplane: name, type, help, value.
const PLANE: [(&str, &str, &str, Of<PlaneView>); 12] = [
    ("up", "gauge", "1 if the dataplane serves and reports", |p| Some(f64::from(p.state == "serving"))),
    ("requests_per_second", "gauge", "Requests in the last second", |p| Some(p.rate)),
    ("latency_p99_seconds", "gauge", "99th percentile of the last second, receive to transmit", |p| p.p99_us.map(s)),
    ("slo_seconds", "gauge", "The objective for the 99th percentile", |p| Some(s(p.slo_us))),
    ("queueing_delay_seconds", "gauge", "Worst delay in queues: ceil(Q/B) iterations", |p| Some(s(p.delay_us))),
    ("queueing_limit_seconds", "gauge", "Delay in queues at which resources are added", |p| Some(s(p.limit_us))),
    ("slo_violation_seconds_total", "counter", "Seconds that missed the objective", |p| Some(p.violations as f64)),
    ("served_seconds_total", "counter", "Seconds in which something was served", |p| Some(p.seconds as f64)),
    ("active_threads", "gauge", "Elastic threads that serve", |p| Some(p.active as f64)),
    ("threads", "gauge", "Elastic threads", |p| Some(p.cores.len() as f64)),
    ("policy_step", "gauge", "Place on the policy's ladder, from 0", |p| Some(p.position as f64)),
    ("policy_steps", "gauge", "Steps of the policy's ladder", |p| Some(p.steps as f64)),
];

/// Of an elastic thread.
const CORE: [(&str, &str, &str, Of<CoreView>); 15] = [
    ("core_parked", "gauge", "1 if it owns nothing and sleeps", |c| Some(f64::from(c.parked))),
    ("core_cpu", "gauge", "The cpu that it is pinned to", |c| c.cpu.map(f64::from)),
    ("core_flow_groups", "gauge", "Flow groups that it owns", |c| Some(c.groups as f64)),
    ("core_connections", "gauge", "Connections that it has", |c| Some(c.connections as f64)),
    ("core_requests_per_second", "gauge", "Requests in the last second", |c| Some(c.rate)),
    ("core_load_ratio", "gauge", "Share of its time in which it works", |c| Some(c.load)),
    ("core_queue_frames", "gauge", "Frames that wait", |c| Some(c.queue)),
    ("core_batch", "gauge", "Connections of a batch", |c| Some(c.batch)),
    ("core_queueing_delay_seconds", "gauge", "What who comes last waits", |c| Some(s(c.delay_us))),
    ("core_steals_per_second", "gauge", "Pieces of work taken from other cores", |c| Some(c.steals)),
    ("core_lends_per_second", "gauge", "Network passes done for other cores", |c| Some(c.lends)),
    ("core_drops_total", "counter", "Frames dropped", |c| Some(c.drops as f64)),
    ("core_retransmits_total", "counter", "Segments sent again", |c| Some(c.retransmits as f64)),
    ("core_non_responsive_total", "counter", "Application calls of more than 10 ms", |c| Some(c.non_responsive as f64)),
    ("core_non_responsive", "gauge", "1 while it is in such a call", |c| Some(f64::from(c.in_app_long))),
];

/// Microseconds as seconds.
fn s(us: f64) -> f64 {
    us / 1e6
}

/// The page.
pub(crate) fn text(view: &View) -> String {
    let mut out = Text(String::new());
    for (name, kind, help, of) in PLANE {
        out.head(name, kind, help);
        for plane in &view.dataplanes {
            if let Some(value) = of(plane) {
                out.value(name, &[("dataplane", &plane.name)], value);
            }
        }
    }
    for (name, kind, help, of) in CORE {
        out.head(name, kind, help);
        for plane in &view.dataplanes {
            for core in &plane.cores {
                if let Some(value) = of(core) {
                    out.value(name, &[("dataplane", &plane.name), ("core", &core.core.to_string())], value);
                }
            }
        }
    }
    host(&mut out, view);
    out.0
}

fn host(out: &mut Text, view: &View) {
    out.head("power_watts", "gauge", "Power of all packages; source: rapl, or the model that it is from");
    if let Some(watts) = view.host.power_w {
        out.value("power_watts", &[("source", &view.host.power_from)], watts);
    }
    out.head("clock_hertz", "gauge", "Clock of the dataplanes' cpus, where it can be read");
    if let Some(mhz) = view.host.clock_mhz {
        out.value("clock_hertz", &[], mhz * 1e6);
    }
    out.head("background_ratio", "gauge", "Share of all cpus' time that a background job had in the last second");
    for job in &view.background {
        out.value("background_ratio", &[("job", &job.name)], job.share);
    }
    out.head("background_cpus", "gauge", "Cpus that a background job has; 0: it is frozen");
    for job in &view.background {
        out.value("background_cpus", &[("job", &job.name)], job.cpus.len() as f64);
    }
    out.head("events", "gauge", "Events among the last 100, by kind");
    for kind in [Kind::Up, Kind::Down, Kind::Balance, Kind::Violation, Kind::NonResponsive, Kind::Trouble] {
        let count = view.events.iter().filter(|e| e.kind == kind).count();
        out.value("events", &[("kind", kind.word())], count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_a_head_and_every_value_is_a_number() {
        let core = CoreView { core: 1, cpu: Some(3), load: 0.5, ..CoreView::default() };
        let plane = PlaneView {
            name: "k\"v".into(),
            state: "serving".into(),
            slo_us: 500.0,
            p99_us: Some(120.0),
            cores: vec![core],
            ..PlaneView::default()
        };
        let mut view = View { dataplanes: vec![plane], ..View::default() };
        view.host.power_w = Some(41.5);
        view.host.power_from = "rapl".into();
        let page = text(&view);
        for line in [
            "zygix_up{dataplane=\"k\\\"v\"} 1",
            "zygix_latency_p99_seconds{dataplane=\"k\\\"v\"} 0.00012",
            "zygix_slo_seconds{dataplane=\"k\\\"v\"} 0.0005",
            "zygix_core_load_ratio{dataplane=\"k\\\"v\",core=\"1\"} 0.5",
            "zygix_core_cpu{dataplane=\"k\\\"v\",core=\"1\"} 3",
            "zygix_power_watts{source=\"rapl\"} 41.5",
            "# TYPE zygix_slo_violation_seconds_total counter",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
        for line in page.lines().filter(|l| !l.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert!(page.contains(&format!("# HELP {name} ")) && page.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
