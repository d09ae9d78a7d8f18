use std::time::Duration;

use fleet::AgentReport;
use load::draw::{Sizes, format_rate};
use load::requests::{self, Workload};
use load::search::{Found, Point, Search, SearchConfig, Slo};
use load::{LoadError, Outcome, Pace, Side, Window};
use units::Nanos;

use super::args::Sweep;
use super::client::Client;
use super::plan::{Plan, Task, at_rate};
use super::progress::{Measure, Progress, note};

/// The closed-loop window that tells where a search begins.
const GUESS: Nanos = Nanos::from_secs(1);

/// What was measured.
pub(crate) struct Report {
    /// The window that counts: the only one, the maximum's, the last of a sweep.
    pub(crate) main: Measured,
    /// All windows at a rate, in the order in which they were measured; empty for a single one.
    pub(crate) points: Vec<Measured>,
    pub(crate) found: Option<FoundMax>,
    pub(crate) pingpong: Option<Vec<Ping>>,
}

/// A window.
#[derive(Clone)]
pub(crate) struct Measured {
    /// The steady rate asked for, if that is what was asked for.
    pub(crate) rate: Option<f64>,
    pub(crate) outcome: Outcome,
    pub(crate) agents: Vec<AgentReport>,
}

/// The end of a search.
pub(crate) struct FoundMax {
    pub(crate) slo: Slo,
    pub(crate) found: Found,
    /// The lowest rate that failed did so because the client could do no more.
    pub(crate) by_client: bool,
    /// Nothing failed: the rates ended.
    pub(crate) open_ended: bool,
}

/// A size of a ping-pong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ping {
    pub(crate) size: u32,
    /// To and fro, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The message's bits over the time of one way, in millions a second.
    pub(crate) mbit_per_s: f64,
}

/// Does what the plan says. `None`: interrupted before there was anything to tell.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Option<Report>> {
    match measure(plan) {
        Err(_) if sys::stop::requested() => Ok(None),
        Err(e) if matches!(e.downcast_ref(), Some(LoadError::Stopped)) => Ok(None),
        other => other,
    }
}

fn measure(plan: &Plan) -> anyhow::Result<Option<Report>> {
    let mut bench = Bench::open(plan)?;
    match &plan.task {
        Task::Once => {
            let main = bench.window(&plan.window, None, "load".into())?;
            Ok(Some(Report { main, points: Vec::new(), found: None, pingpong: None }))
        }
        Task::Sweep { rates, max } => bench.sweep(rates, *max),
        Task::FindMax { slo, precision, max } => bench.find_max(*slo, *precision, *max),
        Task::Pingpong(sizes) => bench.pingpong(sizes),
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    client: Client,
}

impl Bench<'_> {
    fn open(plan: &Plan) -> anyhow::Result<Bench<'_>> {
        let n = plan.spec.connections + plan.spec.probe;
        let connecting = Progress::show(format!("opening {n} connection(s)"), Measure::Unknown, None);
        let mut client = Client::open(plan)?;
        drop(connecting);
        if let Workload::Kv(kv) = &plan.spec.workload
            && plan.preload
        {
            let records = Measure::Records(kv.records.into());
            let _storing = Progress::show("storing records", records, Some(client.watch()));
            client.preload()?;
        }
        Ok(Bench { plan, client })
    }

    fn window(&mut self, window: &Window, rate: Option<f64>, what: String) -> anyhow::Result<Measured> {
        let span = Duration::from_nanos((window.warmup + window.window).0);
        let _progress = Progress::show(what, Measure::Time(span), Some(self.client.watch()));
        let (outcome, agents) = self.client.run(window)?;
        Ok(Measured { rate, outcome, agents })
    }

    fn at(&mut self, rate: f64, what: String) -> anyhow::Result<Measured> {
        self.window(&at_rate(&self.plan.window, &self.plan.gaps, rate), Some(rate), what)
    }

    /// What a closed loop reaches.
    fn guess(&mut self) -> anyhow::Result<Measured> {
        let window = Window { pace: Pace::Closed, ..self.plan.window.clone() };
        let window = Window { window: window.window.min(GUESS), ..window };
        self.window(&window, None, "closed loop, for a guess".into())
    }

    fn sweep(&mut self, rates: &Sweep, max: Option<f64>) -> anyhow::Result<Option<Report>> {
        let rates = match (rates, max) {
            (Sweep::Rates(rates), _) => rates.clone(),
            (Sweep::Points(n), Some(max)) => spread(*n, max),
            (Sweep::Points(n), None) => spread(*n, self.guess()?.outcome.achieved_rps().max(1.0)),
        };
        let mut points: Vec<Measured> = Vec::new();
        for (i, &rate) in rates.iter().enumerate() {
            if sys::stop::requested() {
                break;
            }
            let what = format!("{} of {}: {}/s", i + 1, rates.len(), short(rate));
            points.push(self.at(rate, what)?);
        }
        let main = points.last().cloned();
        Ok(main.map(|main| Report { main, points, found: None, pingpong: None }))
    }

    fn find_max(&mut self, slo: Slo, precision: f64, max: Option<f64>) -> anyhow::Result<Option<Report>> {
        let guess = self.guess()?;
        let reached = guess.outcome.achieved_rps();
        if guess.outcome.completed == 0 {
            // Nobody there to be searched.
            return Ok(Some(Report { main: guess, points: Vec::new(), found: None, pingpong: None }));
        }
        let high = max.unwrap_or(load::draw::MAX_RATE);
        // Replies so late that they cannot matter need not be waited for.
        let patience =
            self.plan.window.patience.min(Nanos(slo.limit.0.saturating_mul(10)).max(Nanos::from_millis(200)));
        let window = Window { patience, ..self.plan.window.clone() };
        let low = (reached / 100.0).max(1.0).min(high);
        let config = SearchConfig { start: Some(reached * 0.7), precision, ..SearchConfig::new(slo, low, high) };
        let mut search = Search::new(config);
        let mut points: Vec<Measured> = Vec::new();
        while let Some(rate) = search.next() {
            if sys::stop::requested() {
                break;
            }
            let what = format!("try {}: {}/s", points.len() + 1, short(rate));
            let window = at_rate(&window, &self.plan.gaps, rate);
            let measured = self.window(&window, Some(rate), what)?;
            search.tell(rate, judge(&slo, &measured));
            note_try(&slo, &measured);
            points.push(measured);
        }
        let found = search.result();
        let at = |rate: f64| points.iter().rev().find(|p| p.rate == Some(rate));
        let failed = at(found.high).filter(|_| found.max_rps != Some(found.high));
        let by_client = failed.is_some_and(|p| p.outcome.saturated() == Some(Side::Client));
        let open_ended = found.max_rps == Some(found.high);
        let counts = found.max_rps.and_then(at).or(failed).or(points.last()).cloned();
        let main = counts.unwrap_or(guess);
        Ok(Some(Report { main, points, found: Some(FoundMax { slo, found, by_client, open_ended }), pingpong: None }))
    }

    fn pingpong(&mut self, sizes: &[u32]) -> anyhow::Result<Option<Report>> {
        let (mut pings, mut main) = (Vec::new(), None::<Measured>);
        for &size in sizes {
            if sys::stop::requested() {
                break;
            }
            self.client.ask(Workload::Echo(requests::Echo { size: Sizes::fixed(size) }))?;
            let measured = self.window(&self.plan.window, None, format!("{size} B"))?;
            pings.push(ping(size, &measured.outcome));
            match &mut main {
                // The first size's figures stand for all; errors are everybody's.
                Some(main) => {
                    main.outcome.errors += measured.outcome.errors;
                    main.outcome.interrupted |= measured.outcome.interrupted;
                }
                None => main = Some(measured),
            }
        }
        Ok(main.map(|main| Report { main, points: Vec::new(), found: None, pingpong: Some(pings) }))
    }
}

fn ping(size: u32, outcome: &Outcome) -> Ping {
    let us = |n: Nanos| n.0 as f64 / 1e3;
    let one_way_us = us(outcome.p50()) / 2.0;
    let mbit_per_s = if one_way_us > 0.0 { f64::from(size) * 8.0 / one_way_us } else { 0.0 };
    Ping { size, p50_us: us(outcome.p50()), p99_us: us(outcome.p99()), mbit_per_s }
}

/// Where half of the best bandwidth is reached: between two sizes, by a straight line.
pub(crate) fn half_bandwidth(pings: &[Ping]) -> Option<f64> {
    let best = pings.iter().map(|p| p.mbit_per_s).fold(0.0, f64::max);
    let at = pings.iter().position(|p| best > 0.0 && p.mbit_per_s >= best / 2.0)?;
    let upper = &pings[at];
    let Some(lower) = at.checked_sub(1).map(|i| &pings[i]) else { return Some(upper.size.into()) };
    let share = (best / 2.0 - lower.mbit_per_s) / (upper.mbit_per_s - lower.mbit_per_s).max(f64::MIN_POSITIVE);
    Some(f64::from(lower.size) + share * (f64::from(upper.size) - f64::from(lower.size)))
}

/// `n` rates up to `max`, evenly.
fn spread(n: u32, max: f64) -> Vec<f64> {
    (1..=n).map(|i| max * f64::from(i) / f64::from(n)).collect()
}

/// A rate for people: four digits are enough.
pub(crate) fn short(rate: f64) -> String {
    let digits = 10f64.powi((rate.max(1.0).log10() as i32 - 3).max(0));
    format_rate((rate / digits).round() * digits)
}

/// What a window means to the search.
fn judge(slo: &Slo, measured: &Measured) -> Point {
    let o = &measured.outcome;
    if o.interrupted {
        return Point::void();
    }
    let wrong = o.errors.total();
    let samples = o.latency.len();
    // In doubles: the sum can pass 2^64 when an agent lies.
    let above = samples.saturating_sub(o.latency.count_between(0, slo.limit.0));
    Point {
        latency: o.quantile(slo.quantile),
        ok_rate: o.achieved_rps() >= 0.95 * o.offered_rps() && wrong as f64 <= 0.001 * o.offered as f64,
        samples,
        above,
        void: false,
    }
}

/// One line for each try: a search takes a while, and how it goes is worth seeing.
fn note_try(slo: &Slo, measured: &Measured) {
    let o = &measured.outcome;
    let at = slo.to_string();
    let (name, _) = at.split_once('=').unwrap_or((&at, ""));
    let saturated = match o.saturated() {
        Some(side) => format!(", saturated: {}", side.name()),
        None => String::new(),
    };
    let errors = if o.errors.total() > 0 { format!(", {}", o.errors) } else { String::new() };
    let us = o.quantile(slo.quantile).0 as f64 / 1e3;
    note(&format!("{}/s: {name} {us:.1} us{saturated}{errors}", short(measured.rate.unwrap_or_default())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: u32, mbit_per_s: f64) -> Ping {
        Ping { size, p50_us: 1.0, p99_us: 1.0, mbit_per_s }
    }

    #[test]
    fn half_the_bandwidth_is_found_between_sizes() {
        let pings = [of(64, 10.0), of(128, 40.0), of(256, 60.0), of(512, 100.0)];
        assert_eq!(half_bandwidth(&pings), Some(192.0));
        assert_eq!(half_bandwidth(&[of(64, 10.0)]), Some(64.0));
        assert_eq!(half_bandwidth(&[of(64, 0.0)]), None);
        assert_eq!(half_bandwidth(&[]), None);
    }

    #[test]
    fn rates_are_spread_up_to_the_maximum_and_shown_shortly() {
        assert_eq!(spread(4, 100.0), [25.0, 50.0, 75.0, 100.0]);
        assert_eq!((short(123_456.0), short(1e6), short(12.4)), ("123.5k".into(), "1m".into(), "12".into()));
    }
}
