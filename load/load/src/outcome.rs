use std::fmt;
use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use units::Nanos;

/// Requests that did not get the right reply, by what became of them, and connections that did not live.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Errors {
    /// Answered, and not rightly: a miss, an error line, another's value.
    pub wrong: u64,
    /// Under way on a connection that broke.
    pub lost: u64,
    /// Connections that broke: ended by the server, or out of step with the protocol.
    pub broken: u64,
    /// Without a reply when patience ended, or never sent because those before them had no reply.
    pub unanswered: u64,
    /// Connections that could not be opened.
    pub refused: u64,
}

impl Errors {
    /// Everything that went wrong: requests, and connections.
    pub fn total(&self) -> u64 {
        self.wrong + self.lost + self.broken + self.unanswered + self.refused
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, o: Errors) {
        let Errors { wrong, lost, broken, unanswered, refused } = o;
        self.wrong += wrong;
        self.lost += lost;
        self.broken += broken;
        self.unanswered += unanswered;
        self.refused += refused;
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Errors { wrong, lost, broken, unanswered, refused } = self;
        let kinds = [
            (wrong, "wrong replies"),
            (lost, "requests lost"),
            (broken, "connections broken"),
            (unanswered, "unanswered"),
            (refused, "connections refused"),
        ];
        let said: Vec<String> = kinds.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(if said.is_empty() { "no errors".into() } else { said.join(", ") }.as_str())
    }
}

/// Which end could do no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client was late by itself.
    Client,
    /// The server, or what lies between.
    Server,
}

impl Side {
    /// `client` or `server`.
    pub fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// A step of the time series: the requests *meant* for it (closed loop: sent in it).
#[derive(Clone, Debug)]
pub struct Slice {
    /// Its beginning, from that of the window.
    pub at: Nanos,
    /// How long it is.
    pub length: Nanos,
    /// Requests meant for it.
    pub offered: u64,
    /// Those rightly answered, whenever that was.
    pub completed: u64,
    /// Right replies that came in it, whenever they were asked for.
    pub answered: u64,
    /// The others.
    pub errors: u64,
    /// Median latency.
    pub p50: Nanos,
    /// 99th percentile.
    pub p99: Nanos,
    /// The longest.
    pub max: Nanos,
    /// 99th percentile of the unloaded agent; zero without one.
    pub probe_p99: Nanos,
    /// Latencies, if the window was to keep them.
    pub latency: Option<Histogram<u64>>,
    /// The unloaded agent's, likewise.
    pub probe: Option<Histogram<u64>>,
}

/// What a stretch of load came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Requests handed to the transport, warm-up included.
    pub sent: u64,
    /// Requests meant for the window (closed loop: sent in it).
    pub offered: u64,
    /// Those of them that were rightly answered, whenever that was.
    pub completed: u64,
    /// Right replies that came within the window.
    pub answered_in_window: u64,
    /// Everything that went wrong, before, within or after the window.
    pub errors: Errors,
    /// The length of the window.
    pub window: Nanos,
    /// CPU time of all client threads, warm-up and drain included. On our own stack: its idle polling included.
    pub cpu: Nanos,
    /// Latencies in nanoseconds, to three digits, from the intended send time (closed loop: from sending).
    pub latency: Histogram<u64>,
    /// Open loop: how late requests were handed to the transport that no connection's depth held back, in nanoseconds: the
    /// client's own share of the latency.
    pub lateness: Histogram<u64>,
    /// Open loop: requests that a connection's depth held back, the others; how late they were says nothing about the client.
    pub held: u64,
    /// Latencies of the unloaded agent; empty without one.
    pub probe: Histogram<u64>,
    /// Connections that opened within the window.
    pub opened: u64,
    /// The time series.
    pub slices: Vec<Slice>,
    /// Each right reply by itself, if that was asked for: when its request was meant, and its latency. In no order.
    pub each: Vec<(Nanos, Nanos)>,
    /// Somebody ended the window early.
    pub interrupted: bool,
    /// Whether requests were made by an arrival process.
    pub open_loop: bool,
}

/// Beyond this median lateness it is the client that cannot keep up.
const LATE: u64 = 200_000;

impl Outcome {
    pub(crate) fn new(window: Nanos, open_loop: bool) -> Outcome {
        Outcome {
            sent: 0,
            offered: 0,
            completed: 0,
            answered_in_window: 0,
            errors: Errors::default(),
            window,
            cpu: Nanos::ZERO,
            latency: histogram(),
            lateness: histogram(),
            held: 0,
            probe: histogram(),
            opened: 0,
            slices: Vec::new(),
            each: Vec::new(),
            interrupted: false,
            open_loop,
        }
    }

    /// Right replies per second of the window.
    pub fn achieved_rps(&self) -> f64 {
        self.answered_in_window as f64 / self.window.as_secs_f64().max(1e-9)
    }

    /// Requests meant, per second of the window.
    pub fn offered_rps(&self) -> f64 {
        self.offered as f64 / self.window.as_secs_f64().max(1e-9)
    }

    /// The latency that a share `q` (0 to 1) of the requests did not exceed; zero without requests.
    pub fn quantile(&self, q: f64) -> Nanos {
        Nanos(self.latency.value_at_quantile(q))
    }

    /// Median latency.
    pub fn p50(&self) -> Nanos {
        self.quantile(0.5)
    }

    /// 99th percentile.
    pub fn p99(&self) -> Nanos {
        self.quantile(0.99)
    }

    /// 99.9th percentile.
    pub fn p999(&self) -> Nanos {
        self.quantile(0.999)
    }

    /// The `q`-quantile of the median slice: half of the slices of the window were no worse. A disturbance that comes in pieces (a
    /// hypervisor's, say) is in some slices and shifts this little, while it may rule the quantile of all requests together; so would a
    /// server's own, if it is rare. Needs slices that were kept; without, it is the quantile of all requests.
    pub fn typical(&self, q: f64) -> Nanos {
        let kept = self.slices.iter().filter_map(|s| s.latency.as_ref()).filter(|h| !h.is_empty());
        let mut each: Vec<u64> = kept.map(|h| h.value_at_quantile(q)).collect();
        each.sort_unstable();
        each.get(each.len() / 2).map_or_else(|| self.quantile(q), |v| Nanos(*v))
    }

    /// Which side could not keep up with an open loop, if one could not: replies came at less than 98 % of the rate of requests,
    /// or some never came. It is the client if it was late with requests whose connections had room, and most had: full ones are the
    /// server's doing. A closed loop has no rate to keep up with.
    pub fn saturated(&self) -> Option<Side> {
        if !self.open_loop || self.offered == 0 {
            return None;
        }
        let unanswered = self.errors.unanswered as f64 > 0.001 * self.offered as f64;
        // What is under way at both ends of the window is no shortfall: so much jitter in a count is natural.
        let slack = 0.02 * self.offered as f64 + 3.0 * (self.offered as f64).sqrt() + 1.0;
        let short = (self.answered_in_window as f64) < self.offered as f64 - slack;
        if !unanswered && !short {
            return None;
        }
        let late = self.lateness.value_at_quantile(0.5) > LATE && self.lateness.len() > self.held;
        Some(if late { Side::Client } else { Side::Server })
    }

    /// Takes another thread's or machine's outcome of the same window into this one.
    pub fn merge(&mut self, other: &Outcome) {
        self.sent += other.sent;
        self.offered += other.offered;
        self.completed += other.completed;
        self.answered_in_window += other.answered_in_window;
        self.errors += other.errors;
        self.cpu += other.cpu;
        self.opened += other.opened;
        self.held += other.held;
        self.interrupted |= other.interrupted;
        self.window = self.window.min(other.window);
        self.each.extend_from_slice(&other.each);
        for (into, from) in [
            (&mut self.latency, &other.latency),
            (&mut self.lateness, &other.lateness),
            (&mut self.probe, &other.probe),
        ] {
            // Equal bounds and precision: nothing that could be refused.
            let _ = into.add(from);
        }
        for (i, slice) in other.slices.iter().enumerate() {
            match self.slices.get_mut(i) {
                Some(mine) => mine.merge(slice),
                None => self.slices.push(slice.clone()),
            }
        }
    }

    /// The outcome without some slices of a window that kept them: their requests and their time are left out. Errors and CPU
    /// time, which are not known by slice, stay.
    pub fn without(&self, slices: &[usize]) -> Outcome {
        let left = || self.slices.iter().enumerate().filter(|(i, _)| !slices.contains(i)).map(|(_, s)| s);
        let sum = |of: fn(&Slice) -> u64| left().map(of).sum();
        let mut rest = Outcome {
            offered: sum(|s| s.offered),
            completed: sum(|s| s.completed),
            answered_in_window: sum(|s| s.answered),
            window: Nanos(sum(|s| s.length.0)),
            slices: left().cloned().collect(),
            lateness: self.lateness.clone(),
            ..Outcome { latency: histogram(), probe: histogram(), ..self.clone() }
        };
        for slice in left() {
            let _ = slice.latency.as_ref().map(|h| rest.latency.add(h));
            let _ = slice.probe.as_ref().map(|h| rest.probe.add(h));
        }
        rest
    }

    /// For another machine: everything but the slices' histograms.
    pub fn to_wire(&self) -> Value {
        let e = &self.errors;
        json!({
            "sent": self.sent, "offered": self.offered, "completed": self.completed,
            "answered_in_window": self.answered_in_window, "window": self.window.0, "cpu": self.cpu.0,
            "opened": self.opened, "held": self.held, "interrupted": self.interrupted, "open_loop": self.open_loop,
            "errors": [e.wrong, e.lost, e.broken, e.unanswered, e.refused],
            "latency": counts(&self.latency), "lateness": counts(&self.lateness), "probe": counts(&self.probe),
            "slices": self.slices.iter().map(|s| json!([
                s.at.0, s.length.0, s.offered, s.completed, s.answered, s.errors, s.p50.0, s.p99.0, s.max.0, s.probe_p99.0
            ])).collect::<Vec<_>>(),
        })
    }

    /// From another machine. `None` if it is not what [`Outcome::to_wire`] makes.
    pub fn from_wire(v: &Value) -> Option<Outcome> {
        let number = |key: &str| v[key].as_u64();
        let list = |v: &Value, n: usize| -> Option<Vec<u64>> {
            v.as_array().filter(|a| a.len() == n)?.iter().map(Value::as_u64).collect()
        };
        let e = list(&v["errors"], 5)?;
        let slices = v["slices"].as_array().filter(|a| a.len() <= crate::slices::MAX + 1)?.iter().map(|s| {
            let s = list(s, 10)?;
            Some(Slice {
                at: Nanos(s[0]),
                length: Nanos(s[1]),
                offered: s[2],
                completed: s[3],
                answered: s[4],
                errors: s[5],
                p50: Nanos(s[6]),
                p99: Nanos(s[7]),
                max: Nanos(s[8]),
                probe_p99: Nanos(s[9]),
                latency: None,
                probe: None,
            })
        });
        Some(Outcome {
            sent: number("sent")?,
            offered: number("offered")?,
            completed: number("completed")?,
            answered_in_window: number("answered_in_window")?,
            errors: Errors { wrong: e[0], lost: e[1], broken: e[2], unanswered: e[3], refused: e[4] },
            window: Nanos(number("window")?),
            cpu: Nanos(number("cpu")?),
            latency: from_counts(&v["latency"])?,
            lateness: from_counts(&v["lateness"])?,
            probe: from_counts(&v["probe"])?,
            opened: number("opened")?,
            held: number("held")?,
            slices: slices.collect::<Option<_>>()?,
            each: Vec::new(),
            interrupted: v["interrupted"].as_bool()?,
            open_loop: v["open_loop"].as_bool()?,
        })
    }
}

impl Slice {
    /// The same slice of another thread. Of percentiles that have no histograms the worse one is kept.
    fn merge(&mut self, o: &Slice) {
        self.offered += o.offered;
        self.completed += o.completed;
        self.answered += o.answered;
        self.errors += o.errors;
        self.p50 = self.p50.max(o.p50);
        self.p99 = self.p99.max(o.p99);
        self.max = self.max.max(o.max);
        self.probe_p99 = self.probe_p99.max(o.probe_p99);
        if let (Some(mine), Some(other)) = (&mut self.latency, &o.latency) {
            let _ = mine.add(other);
            self.p50 = Nanos(mine.value_at_quantile(0.5));
            self.p99 = Nanos(mine.value_at_quantile(0.99));
        }
        if let (Some(mine), Some(other)) = (&mut self.probe, &o.probe) {
            let _ = mine.add(other);
        }
    }
}

/// The bounds of all histograms here: 1 ns to 64 s, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 64_000_000_000, 3).expect("valid bounds")
}

/// Records `span`; what exceeds the bounds counts as the bound.
#[inline]
pub(crate) fn record<C: hdrhistogram::Counter>(into: &mut Histogram<C>, span: Nanos) {
    into.saturating_record(span.0.max(1));
}

fn counts(h: &Histogram<u64>) -> Value {
    h.iter_recorded().map(|v| json!([v.value_iterated_to(), v.count_at_value()])).collect()
}

fn from_counts(v: &Value) -> Option<Histogram<u64>> {
    let mut h = histogram();
    for pair in v.as_array()? {
        let (value, count) = (pair[0].as_u64()?, pair[1].as_u64()?);
        h.record_n(value, count).ok()?;
    }
    Some(h)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(at: u64, latencies: &[u64]) -> Slice {
        let mut h = histogram();
        latencies.iter().for_each(|&l| h.record(l).unwrap());
        Slice {
            at: Nanos(at),
            length: Nanos(10),
            offered: latencies.len() as u64,
            completed: latencies.len() as u64,
            answered: latencies.len() as u64,
            errors: 0,
            p50: Nanos(h.value_at_quantile(0.5)),
            p99: Nanos(h.value_at_quantile(0.99)),
            max: Nanos(h.max()),
            probe_p99: Nanos::ZERO,
            latency: Some(h),
            probe: None,
        }
    }

    fn outcome(slices: Vec<Slice>) -> Outcome {
        let mut o = Outcome::new(Nanos(10 * slices.len() as u64), true);
        for s in &slices {
            o.latency.add(s.latency.as_ref().unwrap()).unwrap();
            o.offered += s.offered;
            o.completed += s.completed;
            o.answered_in_window += s.answered;
        }
        Outcome { slices, ..o }
    }

    #[test]
    fn a_noisy_slice_can_be_left_out() {
        let all = outcome(vec![slice(0, &[5, 6]), slice(10, &[900, 5]), slice(20, &[7])]);
        let rest = all.without(&[1]);
        assert_eq!((rest.offered, rest.completed, rest.window), (3, 3, Nanos(20)));
        assert_eq!((rest.latency.max(), all.latency.max()), (7, 900));
        assert_eq!(rest.slices.len(), 2);
        assert_eq!((all.typical(0.99), all.quantile(0.99)), (Nanos(7), Nanos(900)));
    }

    #[test]
    fn threads_add_up_slice_by_slice() {
        let mut a = outcome(vec![slice(0, &[5, 6]), slice(10, &[50])]);
        a.merge(&outcome(vec![slice(0, &[100]), slice(10, &[3])]));
        assert_eq!((a.offered, a.latency.len(), a.window), (5, 5, Nanos(20)));
        assert_eq!((a.slices[0].max, a.slices[0].p50, a.slices[0].offered), (Nanos(100), Nanos(6), 3));
    }

    #[test]
    fn an_outcome_travels() {
        let mut there = outcome(vec![slice(0, &[5, 1_000_003]), slice(10, &[64_000_000_000])]);
        there.errors = Errors { wrong: 1, lost: 2, broken: 3, unanswered: 4, refused: 5 };
        let here = Outcome::from_wire(&serde_json::from_str(&there.to_wire().to_string()).unwrap()).unwrap();
        assert_eq!((here.errors, here.latency, here.slices.len()), (there.errors, there.latency, 2));
        assert_eq!((here.window, here.slices[1].p99), (there.window, there.slices[1].p99));
        for broken in [json!({}), json!([1]), json!({"errors": [1, 2, 3, 4, 5]}), json!(null)] {
            assert!(Outcome::from_wire(&broken).is_none());
        }
    }

    #[test]
    fn who_is_saturated_is_told_by_who_is_late() {
        let mut o = outcome(vec![slice(0, &vec![5; 10_000])]);
        assert_eq!(o.saturated(), None);
        o.answered_in_window = 9_000;
        assert_eq!(o.saturated(), Some(Side::Server));
        (0..10).for_each(|_| record(&mut o.lateness, Nanos::from_millis(3)));
        assert_eq!(o.saturated(), Some(Side::Client));
        o.held = 11;
        assert_eq!(o.saturated(), Some(Side::Server), "most waited for their connections");
        o.open_loop = false;
        assert_eq!(o.saturated(), None);
    }
}
