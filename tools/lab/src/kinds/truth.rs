//! The load generator against answers that are known beforehand.
//!
//! 1. An M/M/1 queue that exists: exponential work on one thread, Poisson arrivals. Its sojourn times have a closed form. The server
//!    is Zygix at the other end of an shm wire, so that next to nothing but the work takes time, with a batch bound of one: replies
//!    of a larger batch would leave together.
//! 2. A server that stands still for 100 ms, once a second: its process is stopped. Requests were meant to be sent all the while, so
//!    a tenth of them are late, evenly by 0 to 100 ms. A closed loop, which waits with the server, hardly notices.

use std::thread;

use anyhow::Result;
use load::requests::{Spin, Workload};
use load::{Histogram, Pace, histogram};
use queueing::closed;
use report::{Axis, Column, Figure, Series, Style, Table};
use serde_json::json;
use sys::clock;
use sys::process::Frozen;
use units::Nanos;

use super::grid::{Extent, START, columns, remarks, text, times};
use super::side::{Shape, Side, Way};
use super::{Asked, Finding, alternate, echo, finish, went_through};
use crate::measure::{self, Point};
use crate::stack::Stack;
use crate::stats::Spread;
use crate::{Interrupted, Lab};

/// Loads of the queue: shares of what the server can do.
const LOADS: [f64; 2] = [0.3, 0.7];

/// So many that a random one is hardly ever still busy (2.3 requests are there in the mean at load 0.7): order is kept on a
/// connection, and a request that must wait for another's reply comes out of its turn. Not more: a connection that has not been
/// used for long costs cache misses, which are work that theory does not know.
const CONNECTIONS: u32 = 200;

/// What the table shows of the distribution, and the figure.
const SHOWN: [f64; 2] = [0.5, 0.99];
const DRAWN: [f64; 12] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999];

/// A quantile with fewer requests beyond it is not drawn.
const BEYOND: f64 = 20.0;

/// A measured quantile is right when it is as close to its closed form as this.
const TOLERANCE: f64 = 5.0;

/// The period of the freezes; a tenth of it is frozen.
const PERIOD: Nanos = Nanos::from_secs(1);

/// Requests per second to the server that freezes: few, so that what has piled up is worked off in no time.
const FREEZE_RATE: f64 = 2000.0;

/// What the queue is like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Queue {
    /// The mean service time. From 100 us on, the network is next to nothing beside it.
    pub service: Nanos,
    /// Requests at each load, all rounds together.
    pub requests: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { service: Nanos::from_micros(100), requests: 400_000 }
    }
}

impl Queue {
    fn of(self, extent: Extent) -> Queue {
        if extent == Extent::Tiny { Queue { requests: 300, ..self } } else { self }
    }

    /// Requests per second at this load.
    fn rate(&self, load: f64) -> f64 {
        load / self.service.as_secs_f64()
    }

    /// The window of one round: a little longer, for the slices that are discarded.
    fn window(&self, load: f64, rounds: u32) -> Nanos {
        let seconds = 1.02 * self.requests as f64 / f64::from(rounds) / self.rate(load);
        Nanos((seconds * 1e9) as u64).max(Nanos::from_millis(50))
    }

    /// The closed form, in microseconds.
    fn quantile(&self, load: f64, q: f64) -> f64 {
        closed::mm1_quantile(self.rate(load), self.rate(1.0), q) * 1e6
    }

    fn takes(&self, rounds: u32) -> Nanos {
        let round = LOADS.iter().fold(Nanos::ZERO, |sum, l| sum + Lab::takes(self.window(*l, rounds)));
        START + times(round, rounds as usize)
    }
}

/// How the server freezes.
#[derive(Clone, Copy)]
struct Freezing {
    period: Nanos,
    times: u64,
}

impl Freezing {
    fn new(asked: &Asked, extent: Extent) -> Freezing {
        let window = if extent == Extent::Tiny { Nanos::from_millis(200) } else { asked.point };
        let period = PERIOD.min(Nanos(window.0 / 2));
        Freezing { period, times: window.0 / period.0.max(1) }
    }

    fn length(&self) -> Nanos {
        Nanos(self.period.0 / 10)
    }

    fn window(&self) -> Nanos {
        Nanos(self.period.0 * self.times)
    }

    /// The quantile in microseconds when freezes last `frozen`: requests meant for one are late by what is left of it.
    fn quantile(&self, frozen: Nanos, q: f64) -> f64 {
        (frozen.0 as f64 - (1.0 - q) * self.period.0 as f64).max(0.0) / 1e3
    }

    fn takes(&self) -> Nanos {
        START + times(Lab::takes(self.window()), 2)
    }
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, extent: Extent, queue: Queue) -> Nanos {
    queue.of(extent).takes(extent.rounds(asked)) + Freezing::new(asked, extent).takes()
}

/// What was measured.
#[derive(Default)]
struct Measured {
    loads: Vec<Sojourns>,
    /// Freezes: in an open loop, in a closed one.
    frozen: Vec<Freeze>,
}

/// The queue at one load.
struct Sojourns {
    load: f64,
    all: Histogram<u64>,
    /// [`SHOWN`] of each round, in microseconds.
    rounds: Vec<[f64; 2]>,
    void: u32,
}

struct Freeze {
    pace: &'static str,
    latency: Histogram<u64>,
    /// How long the freezes really were, in the mean.
    length: Nanos,
    /// The longest latency of each slice: (seconds, microseconds).
    series: Vec<(f64, f64)>,
}

/// Runs the bench.
///
/// # Errors
/// A server's and the load's.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent, queue: Queue) -> Result<Finding> {
    lab.progress.plan(takes(asked, extent, queue));
    let (queue, freezing) = (queue.of(extent), Freezing::new(asked, extent));
    let mut m = Measured::default();
    let mut sides = [
        Side::new(Way::Shm, "spin", 0).named("M/M/1").with(&["--batch", "1"]),
        Side::new(Way::Sockets(Stack::LinuxPartitioned), "echo", 1).named("a server that freezes"),
    ];
    let rounds = extent.rounds(asked);
    let measured = measure_queue(lab, &mut sides[0], queue, rounds, &mut m).and_then(|()| {
        lab.progress.to(queue.takes(rounds));
        measure_freezes(lab, &mut sides[1], freezing, &mut m)
    });
    sides.iter_mut().for_each(Side::end);
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "truth", "Against known truth", asked, &[], through)?;
    let (notes, errors) = remarks(&sides);
    document.notes.extend(notes);
    document.notes.extend(remark(&m, queue));
    document.figures = figures(&m, queue);
    document.tables = tables(&m, queue, freezing);
    let text = document.tables.iter().map(text).collect::<Vec<_>>().join("\n");
    Ok(Finding { document, text, errors, interrupted: !through })
}

fn measure_queue(lab: &mut Lab, side: &mut Side, queue: Queue, rounds: u32, m: &mut Measured) -> Result<()> {
    let work = load::draw::ServiceTimes::exp(queue.service);
    let shape = Shape::new(Workload::Spin(Spin::new(work)), CONNECTIONS, 1);
    m.loads.extend(LOADS.map(|load| Sojourns { load, all: histogram(), rounds: Vec::new(), void: 0 }));
    let mut done = START;
    for round in 0..rounds {
        lab.progress.part(&format!("truth: M/M/1, round {} of {rounds}", round + 1));
        for i in alternate(LOADS.len(), round) {
            let load = LOADS[i];
            lab.progress.say(&format!("truth: M/M/1 at load {load}"));
            let length = queue.window(load, rounds);
            let point = side.measure(lab, &shape, Pace::poisson(queue.rate(load)), length)?;
            side.errors += point.outcome.errors.total();
            m.loads[i].take(&point);
            done += Lab::takes(length);
            lab.progress.to(done);
        }
    }
    side.rest();
    Ok(())
}

impl Sojourns {
    fn take(&mut self, point: &Point) {
        let outcome = &point.outcome;
        // Equal bounds and precision: nothing that could be refused.
        let _ = self.all.add(&outcome.latency);
        self.rounds.push(SHOWN.map(|q| outcome.quantile(q).0 as f64 / 1e3));
        self.void += u32::from(point.void());
    }

    fn quantile(&self, q: f64) -> f64 {
        self.all.value_at_quantile(q) as f64 / 1e3
    }

    /// How far a quantile is from its closed form, in per cent of that.
    fn deviation(&self, queue: Queue, q: f64) -> f64 {
        100.0 * (self.quantile(q) / queue.quantile(self.load, q) - 1.0)
    }
}

fn measure_freezes(lab: &mut Lab, side: &mut Side, freezing: Freezing, m: &mut Measured) -> Result<()> {
    for (name, pace, connections) in
        [("open loop", Pace::poisson(FREEZE_RATE), 100), ("closed loop, one connection", Pace::Closed, 1)]
    {
        lab.progress.part(&format!("truth: a server that freezes, {name}"));
        let shape = Shape::new(echo(64), connections, 1);
        let (load, server) = side.ready(lab, &shape)?;
        let window = Lab::window(pace, freezing.window());
        let pid = server.server.pid();
        let mut frozen = Ok(Nanos::ZERO);
        // Nothing is discarded here: a freeze is no noise of the machine's.
        let (outcome, _) = measure::costed(load, &mut server.server, &lab.accounting, &window, |opens| {
            frozen = freeze(pid, freezing, opens);
        })?;
        side.errors += outcome.errors.total();
        let series = outcome.slices.iter().map(|s| (s.at.as_secs_f64(), s.max.0 as f64 / 1e3)).collect();
        let length = Nanos(frozen?.0 / freezing.times.max(1));
        m.frozen.push(Freeze { pace: name, latency: outcome.latency, length, series });
    }
    Ok(())
}

/// Stops the process again and again, in the middle of each period from `opens` on; how long it was stopped in all.
fn freeze(pid: u32, freezing: Freezing, opens: Nanos) -> Result<Nanos> {
    let mut all = Nanos::ZERO;
    for i in 0..freezing.times {
        let begin = opens + Nanos(freezing.period.0 * i + freezing.period.0 * 2 / 5);
        until(begin)?;
        let from = clock::now();
        let frozen = Frozen::new(pid)?;
        let slept = until(begin + freezing.length());
        drop(frozen);
        all += clock::now() - from;
        slept?;
    }
    Ok(all)
}

fn until(at: Nanos) -> Result<()> {
    while clock::now() < at {
        if sys::stop::requested() {
            return Err(Interrupted.into());
        }
        thread::sleep((at - clock::now()).min(Nanos::from_millis(50)).duration());
    }
    Ok(())
}

fn remark(m: &Measured, queue: Queue) -> Vec<String> {
    let mut notes = vec![format!(
        "M/M/1: `serve spin --batch 1` polls at the other end of an shm wire, {CONNECTIONS} connections of our own client, \
         exponential work of {} us in the mean; all rounds together.",
        queue.service.0 as f64 / 1e3
    )];
    let measured: Vec<&Sojourns> = m.loads.iter().filter(|s| !s.all.is_empty()).collect();
    let off = |s: &Sojourns| SHOWN.iter().map(|q| s.deviation(queue, *q).abs()).fold(0.0, f64::max);
    if let Some(worst) = measured.iter().map(|s| off(s)).max_by(f64::total_cmp) {
        let verdict = if worst <= TOLERANCE { "within" } else { "NOT within" };
        notes.push(format!("p50 and p99 are {verdict} {TOLERANCE} % of the closed form: {worst:.1} % off at most."));
    }
    if measured.iter().any(|s| s.void > 0) {
        notes.push("Some windows of the queue were too noisy: nothing of them was left out.".into());
    }
    notes
}

fn figures(m: &Measured, queue: Queue) -> Vec<Figure> {
    let mut sojourns = Vec::new();
    for s in m.loads.iter().filter(|s| !s.all.is_empty()) {
        let drawn = || DRAWN.iter().filter(|q| (1.0 - **q) * s.all.len() as f64 >= BEYOND);
        let points = drawn().map(|q| report::Point::new(1.0 - q, s.quantile(*q))).collect();
        sojourns.push(Series { name: format!("measured, load {}", s.load), style: Style::Points, points });
        let points = drawn().map(|q| report::Point::new(1.0 - q, queue.quantile(s.load, *q))).collect();
        sojourns.push(Series { name: format!("closed form, load {}", s.load), style: Style::Bound, points });
    }
    let freeze = |f: &Freeze| {
        let points = f.series.iter().map(|(at, max)| report::Point::new(*at, *max)).collect();
        Series { name: f.pace.into(), style: Style::Points, points }
    };
    let figures = [
        Figure {
            id: "mm1".into(),
            title: "M/M/1: measured sojourn times and the closed form".into(),
            caption: "How long the slowest share of the requests took, from the intended send time.".into(),
            x: Axis { label: "share of requests that took longer".into(), log: true, ..Axis::default() },
            y: Axis { label: "latency".into(), unit: "us".into(), log: true, ..Axis::default() },
            series: sojourns,
        },
        Figure {
            id: "freeze".into(),
            title: "A server that freezes".into(),
            caption: "The longest latency of each slice, by the time at which the requests were meant.".into(),
            x: Axis { label: "time".into(), unit: "s".into(), ..Axis::default() },
            y: Axis { label: "longest latency".into(), unit: "us".into(), log: true, ..Axis::default() },
            series: m.frozen.iter().map(freeze).collect(),
        },
    ];
    figures.into_iter().filter(|f| !f.series.is_empty()).collect()
}

fn tables(m: &Measured, queue: Queue, freezing: Freezing) -> Vec<Table> {
    [mm1(m, queue), freezes(m, freezing)].into_iter().filter(|t| !t.rows.is_empty()).collect()
}

fn mm1(m: &Measured, queue: Queue) -> Table {
    let mut rows = Vec::new();
    for s in m.loads.iter().filter(|s| !s.all.is_empty()) {
        for (i, q) in SHOWN.into_iter().enumerate() {
            let range = Spread::of(s.rounds.iter().map(|r| r[i])).map(|r| format!("{:.0} to {:.0}", r.low, r.high));
            rows.push(vec![
                json!(s.load),
                json!(s.all.len()),
                json!(format!("p{}", q * 100.0)),
                json!(s.quantile(q)),
                json!(range),
                json!(queue.quantile(s.load, q)),
                json!(s.deviation(queue, q)),
            ]);
        }
    }
    let [measured, range] = columns("measured", "us");
    Table {
        id: "mm1".into(),
        title: "M/M/1 against its closed form".into(),
        caption: "All rounds together; the range is that of the rounds by themselves.".into(),
        columns: vec![
            Column::number("load", "").decimals(1),
            Column::number("requests", "").decimals(0),
            Column::text("quantile"),
            measured.decimals(1),
            range,
            Column::number("closed form", "us").decimals(1),
            Column::number("deviation", "%").decimals(1),
        ],
        rows,
    }
}

fn freezes(m: &Measured, freezing: Freezing) -> Table {
    let mut rows = Vec::new();
    for f in &m.frozen {
        for q in [0.5, 0.95, 0.99, 0.999, 1.0] {
            let measured = f.latency.value_at_quantile(q) as f64 / 1e6;
            let open = f.pace == "open loop";
            let expected = (open && q > 0.9).then(|| freezing.quantile(f.length, q) / 1e3);
            let name = if q == 1.0 { "max".into() } else { format!("p{}", q * 100.0) };
            let off = expected.map(|e| 100.0 * (measured / e - 1.0));
            rows.push(vec![json!(f.pace), json!(name), json!(measured), json!(expected), json!(off)]);
        }
    }
    Table {
        id: "freeze".into(),
        title: "A server that freezes".into(),
        caption: format!(
            "Its process is stopped for {} ms of every {}. Requests that were meant meanwhile are late by what is left of it.",
            freezing.length().0 as f64 / 1e6,
            if freezing.period == PERIOD { "second".into() } else { format!("{} ms", freezing.period.millis()) }
        ),
        columns: vec![
            Column::text("pace"),
            Column::text("quantile"),
            Column::number("measured", "ms").decimals(2),
            Column::number("expected", "ms").decimals(2),
            Column::number("deviation", "%").decimals(1),
        ],
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seconds: u64) -> Asked {
        Asked { command: String::new(), point: Nanos::from_secs(seconds), repeats: 3, records: 1 }
    }

    #[test]
    fn the_queue_is_mm1() {
        let queue = Queue::default();
        // mu - lambda is 3000 a second at load 0.7: the mean is 333 us, the median ln 2 of that, p99 ln 100.
        assert!((queue.quantile(0.7, 0.5) - 231.05).abs() < 0.01);
        assert!((queue.quantile(0.7, 0.99) - 1535.06).abs() < 0.01);
        for (load, rounds) in [(0.3, 1), (0.7, 3)] {
            let requests = queue.rate(load) * queue.window(load, rounds).as_secs_f64() * f64::from(rounds);
            assert!((400_000.0..420_000.0).contains(&requests), "{requests}");
        }
    }

    #[test]
    fn a_freeze_is_seen_in_full_by_a_tenth_of_the_requests() {
        let freezing = Freezing::new(&asked(5), Extent::Full);
        assert_eq!((freezing.period, freezing.times, freezing.length()), (PERIOD, 5, Nanos::from_millis(100)));
        let expected = |q| freezing.quantile(freezing.length(), q).round();
        assert_eq!(
            [expected(0.5), expected(0.95), expected(0.99), expected(1.0)],
            [0.0, 50_000.0, 90_000.0, 100_000.0]
        );
        let tiny = Freezing::new(&asked(5), Extent::Tiny);
        assert_eq!((tiny.times, tiny.length()), (2, Nanos::from_millis(10)));
    }
}
