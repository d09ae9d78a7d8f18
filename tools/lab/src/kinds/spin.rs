//! Work of known length on the two Linux stacks: the highest load whose p99 stays within ten service times, against what queueing
//! theory allows (thesis figure 3.3, at one and two threads).
//!
//! A partitioned server is n queues, a floating one a single queue: its bound is higher, and it pays for it with locks and wake-ups.
//! What theory does not know is the cost of the network; the shorter the work, the more that is.

use anyhow::{Result, bail};
use load::draw::ServiceTimes;
use load::requests::{Spin, Workload};
use load::search::{Search, SearchConfig, Slo};
use load::{Pace, Place, Window};
use queueing::{Effort, Policy, Question, System, Watch, max_load};
use report::{Axis, Column, Figure, Series, Style, Table};
use serde_json::json;
use sys::clock;
use units::Nanos;

use super::grid::{Extent, START, at, cells, columns, remarks, skip, text, times};
use super::hunt;
use super::side::{Shape, Side, Way};
use super::{Asked, Finding, alternate, finish, went_through};
use crate::account::Accounting;
use crate::measure::{self, Point};
use crate::stack::Stack;
use crate::stats::Spread;
use crate::{Interrupted, Lab};

/// Mean service times in microseconds.
const TIMES: [u32; 5] = [10, 20, 50, 100, 200];

/// The objective: p99 within so many of them.
const SLO: u32 = 10;

const STACKS: [Stack; 2] = [Stack::LinuxPartitioned, Stack::LinuxFloating];

/// Server threads.
const THREADS: [usize; 2] = [1, 2];

/// Many, so that a random one is hardly ever still busy, and threads that own some of them own about as many.
const CONNECTIONS: u32 = 512;

/// A window's share of the point that was asked for. It has at least so many slices, and a slice so many service times: each has a
/// p99 of its own.
const SHARE: f64 = 0.04;
const SLICES: usize = 8;
const WORKS: u64 = 1000;

/// The search comes as close.
const PRECISION: f64 = 0.04;

/// Windows of a search: in the first round, in others.
const TRIES: [u32; 2] = [8, 5];

/// What a window that fails takes in addition.
const BACKLOG: f64 = 0.3;

/// A service-time distribution.
#[derive(Clone, Copy)]
struct Law {
    name: &'static str,
    title: &'static str,
    of: fn(Nanos) -> ServiceTimes,
}

const LAWS: [Law; 3] = [
    Law { name: "det", title: "deterministic", of: ServiceTimes::det },
    Law { name: "exp", title: "exponential", of: ServiceTimes::exp },
    Law { name: "bimodal1", title: "bimodal-1 (90 % at S/2, 10 % at 5.5 S)", of: ServiceTimes::bimodal1 },
];

/// How much of it.
struct Scope {
    extent: Extent,
    laws: &'static [Law],
    times: &'static [u32],
    rounds: u32,
    tries: [u32; 2],
    asked: Asked,
}

impl Scope {
    fn new(asked: &Asked, extent: Extent) -> Scope {
        let (laws, tries) = match extent {
            Extent::Full => (&LAWS[..], TRIES),
            Extent::Tiny => (&LAWS[1..2], [2, 1]),
        };
        let rounds = extent.rounds(asked);
        Scope { extent, laws, times: extent.of(&TIMES), rounds, tries, asked: asked.clone() }
    }

    fn window(&self, mean: Nanos) -> Nanos {
        let length = self.extent.window(&self.asked, SHARE);
        if self.extent == Extent::Tiny { length } else { length.max(times(slice(mean), SLICES)) }
    }

    /// What all searches for one law and one mean take at most.
    fn step(&self, mean: Nanos) -> Nanos {
        let window = self.window(mean);
        let each = Lab::takes(window) + Nanos((window.0 as f64 * BACKLOG) as u64);
        let tries = self.tries[0] + self.tries[1] * (self.rounds - 1);
        times(each, tries as usize * STACKS.len() * THREADS.len())
    }

    fn start(&self) -> Nanos {
        times(START, STACKS.len() * THREADS.len())
    }
}

/// The most that the bench takes.
pub fn takes(asked: &Asked, extent: Extent) -> Nanos {
    let scope = Scope::new(asked, extent);
    let steps = scope.times.iter().map(|s| scope.step(micros(*s)));
    scope.start() + times(steps.fold(Nanos::ZERO, |sum, t| sum + t), scope.laws.len())
}

/// One of the servers.
struct Server {
    side: Side,
    stack: Stack,
    threads: usize,
    /// The client has no core of its own.
    shared: bool,
}

/// The highest load of a server under one law and one mean, in per cent of n/S, by round; `None` when not even the lowest
/// held the objective.
struct Found {
    law: usize,
    mean: u32,
    server: usize,
    rounds: Vec<Option<f64>>,
    confident: bool,
}

/// Runs the bench.
///
/// # Errors
/// A server's and the load's, before anything was found: afterwards the server is left out with a note.
pub fn run(lab: &mut Lab, asked: &Asked, extent: Extent) -> Result<Finding> {
    let scope = Scope::new(asked, extent);
    let mut servers = servers(lab)?;
    let mut found = Vec::new();
    lab.progress.plan(takes(asked, extent));
    let measured = search_all(lab, &scope, &mut servers, &mut found);
    lab.progress.clear();
    let through = went_through(measured)?;
    let mut document = finish(lab, "spin", "Work of known length, against theory", asked, &[], through)?;
    document.notes.extend(notes(&scope, &servers));
    let unsure = found.iter().filter(|f| !f.confident).count();
    if unsure > 0 {
        document.notes.push(format!("{unsure} of {} maxima are not sure: a search ran out of windows.", found.len()));
    }
    let bounds = Bounds::new(&scope);
    document.figures = figures(&scope, &servers, &found, &bounds);
    let table = table(&scope, &servers, &found, &bounds);
    let text = text(&table);
    document.tables = vec![table];
    let sides: Vec<Side> = servers.into_iter().map(|s| s.side).collect();
    let (notes, errors) = remarks(&sides);
    document.notes.extend(notes);
    Ok(Finding { document, text, errors, interrupted: !through })
}

fn micros(us: u32) -> Nanos {
    Nanos::from_micros(u64::from(us))
}

/// The servers, and where each and its client run: a core for every thread, one for the client if there is one left.
fn servers(lab: &Lab) -> Result<Vec<Server>> {
    let Accounting { load_core, server_core, .. } = lab.accounting;
    let mut cores = vec![server_core];
    cores.extend(sys::thread::allowed_cores()?.into_iter().filter(|c| *c != server_core && *c != load_core));
    let spare = cores.len();
    if load_core != server_core {
        cores.push(load_core);
    }
    let mut servers = Vec::new();
    for threads in THREADS {
        for stack in STACKS {
            let own: Vec<usize> = (0..threads).map(|i| cores[i % cores.len()]).collect();
            let shared = threads > spare || lab.accounting.shared();
            let place = Place { cores: vec![load_core], spin: !shared };
            let side = Side::new(Way::Sockets(stack), "spin", servers.len()).on(&own, &place);
            let side = side.named(&format!("{}, n = {threads}", stack.name()));
            servers.push(Server { side, stack, threads, shared });
        }
    }
    Ok(servers)
}

fn search_all(lab: &mut Lab, scope: &Scope, servers: &mut [Server], found: &mut Vec<Found>) -> Result<()> {
    lab.progress.part("spin: starting servers");
    for server in &mut *servers {
        let idle = ServiceTimes::det(Nanos::from_micros(1));
        match server.side.ready(lab, &shape(&idle)) {
            Ok(_) => {}
            Err(e) if e.is::<Interrupted>() => return Err(e),
            Err(e) => skip(lab, &mut server.side, &format!("{e:#}")),
        }
    }
    if servers.iter().all(|s| s.side.skipped.is_some()) {
        let reasons: Vec<&str> = servers.iter().filter_map(|s| s.side.skipped.as_deref()).collect();
        bail!("nothing could be measured: {}", reasons.join("; "));
    }
    let mut done = scope.start();
    for (law, l) in scope.laws.iter().enumerate() {
        for mean in scope.times {
            lab.progress.part(&format!("spin: {}, S = {mean} us", l.name));
            let span = scope.step(micros(*mean));
            let deadline = clock::now() + span;
            let first = found.len();
            found.extend((0..servers.len()).map(|server| Found {
                law,
                mean: *mean,
                server,
                rounds: vec![],
                confident: true,
            }));
            for round in 0..scope.rounds {
                search_once(lab, scope, servers, &mut found[first..], round, deadline)?;
            }
            done += span;
            lab.progress.to(done);
        }
    }
    Ok(())
}

/// One search on each server, window by window in turn.
fn search_once(
    lab: &mut Lab,
    scope: &Scope,
    servers: &mut [Server],
    found: &mut [Found],
    round: u32,
    deadline: Nanos,
) -> Result<()> {
    let Some(mean) = found.first().map(|f| micros(f.mean)) else { return Ok(()) };
    let law = (scope.laws[found[0].law].of)(mean);
    let slo = Slo { quantile: 0.99, limit: times(mean, SLO as usize) };
    let full = |s: &Server| s.threads as f64 / mean.as_secs_f64();
    let tries = scope.tries[usize::from(round > 0)];
    let mut searches: Vec<Search> =
        servers.iter().zip(&*found).map(|(s, f)| hunt::by_slices(&bracket(slo, full(s), f, tries))).collect();
    let mut over = vec![false; servers.len()];
    while over.contains(&false) {
        for i in alternate(servers.len(), round) {
            let server = &mut servers[i];
            let late = clock::now() > deadline || server.side.skipped.is_some();
            let Some(rate) = searches[i].next().filter(|_| !late) else {
                over[i] = true;
                continue;
            };
            lab.progress.say(&format!("spin: {} at {rate:.0} requests/s", server.side.name));
            match window(lab, server, &law, rate, scope.window(mean)) {
                Ok(point) => {
                    server.side.errors += point.outcome.errors.wrong;
                    searches[i].tell(rate, hunt::vote(&point.outcome, point.void(), &slo));
                }
                Err(e) if e.is::<Interrupted>() => return Err(e),
                Err(e) => skip(lab, &mut server.side, &format!("{e:#}")),
            }
        }
    }
    for ((server, search), found) in servers.iter().zip(&searches).zip(found) {
        let result = search.result();
        if result.tries > 0 {
            found.rounds.push(result.max_rps.map(|rps| 100.0 * rps / full(server)));
            found.confident &= result.confident;
        }
    }
    Ok(())
}

/// Where to search: around the last round's maximum, if there was one; never above what the threads can do.
fn bracket(slo: Slo, full: f64, found: &Found, tries: u32) -> SearchConfig {
    let last = found.rounds.iter().rev().find_map(|r| *r).map(|percent| full * percent / 100.0);
    SearchConfig {
        start: Some(last.unwrap_or(full * 0.4)),
        precision: PRECISION,
        tries,
        ..SearchConfig::new(slo, full * 0.02, full)
    }
}

fn shape(law: &ServiceTimes) -> Shape {
    Shape::new(Workload::Spin(Spin::new(law.clone())), CONNECTIONS, 1)
}

/// The length of a slice.
fn slice(mean: Nanos) -> Nanos {
    Nanos(mean.0 * WORKS).max(Nanos::from_millis(25))
}

fn window(lab: &mut Lab, server: &mut Server, law: &ServiceTimes, rate: f64, length: Nanos) -> Result<Point> {
    let (load, contender) = server.side.ready(lab, &shape(law))?;
    // Threads that share a core wait for each other all the time, which is no noise.
    let load_core = if server.shared { lab.accounting.server_core } else { lab.accounting.load_core };
    let accounting = Accounting { load_core, ..lab.accounting };
    let window = Lab::window(Pace::poisson(rate), length);
    let slice = slice(law.mean()).max(window.slice).min(length);
    let point = measure::point(load, &mut contender.server, &accounting, &Window { slice, ..window })?;
    lab.noise.add(&point.noise);
    Ok(point)
}

/// What theory allows, in per cent: by law and number of threads, one queue and a queue each.
struct Bounds(Vec<Vec<[f64; 2]>>);

impl Bounds {
    fn new(scope: &Scope) -> Bounds {
        // To a fifth of a point, as they are shown.
        let (requests, precision) = if scope.extent == Extent::Tiny { (10_000, 0.02) } else { (100_000, 0.002) };
        let effort = Effort { requests: Some(requests), ..Effort::default() };
        let bound = |law: &Law, policy: Policy, n: usize| {
            let system = System::new(n, policy, (law.of)(Nanos::from_millis(1)));
            let question = Question { precision, effort, ..Question::p99(system, f64::from(SLO)) };
            // Nobody ends it, so there is an answer.
            max_load(&question, &Watch::none()).map_or(f64::NAN, |answer| 100.0 * answer.max_load)
        };
        let of = |law: &Law| {
            let each = |n: &usize| {
                let central = bound(law, Policy::Central, *n);
                [central, if *n == 1 { central } else { bound(law, Policy::Partitioned, *n) }]
            };
            THREADS.iter().map(each).collect()
        };
        Bounds(scope.laws.iter().map(of).collect())
    }

    /// Of one server.
    fn of(&self, law: usize, server: &Server) -> f64 {
        let [central, partitioned] = self.pair(law, server.threads);
        if server.stack == Stack::LinuxFloating { central } else { partitioned }
    }

    fn pair(&self, law: usize, threads: usize) -> [f64; 2] {
        THREADS.iter().position(|n| *n == threads).map_or([0.0; 2], |n| self.0[law][n])
    }
}

fn notes(scope: &Scope, servers: &[Server]) -> Vec<String> {
    let shortest = scope.window(micros(scope.times[0]));
    let mut notes = vec![
        format!(
            "The highest load with p99 <= {SLO} S, in per cent of n/S: open loop, Poisson, {CONNECTIONS} connections, one request at \
             a time on each, windows of {:.2} s or more, searched to {:.0} %. {} round(s).",
            shortest.as_secs_f64(),
            PRECISION * 100.0,
            scope.rounds
        ),
        "The bounds are simulated: requests cost nothing but their work there. A floating server is one queue (centralized FCFS), a \
         partitioned one a queue for each thread; its connections are divided by a hash, not quite evenly."
            .into(),
    ];
    if servers.iter().any(|s| s.shared) {
        notes.push(
            "With n = 2 there is no core left for the client: it shares one with a server thread and sleeps between requests, so \
             that its work and its delays are part of the result, and no slice is called noisy."
                .into(),
        );
    }
    notes
}

fn figures(scope: &Scope, servers: &[Server], found: &[Found], bounds: &Bounds) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (law, l) in scope.laws.iter().enumerate() {
        for n in THREADS {
            let mut series = Vec::new();
            for (i, server) in servers.iter().enumerate().filter(|(_, s)| s.threads == n) {
                let of = found.iter().filter(|f| f.law == law && f.server == i);
                let points = of.filter_map(|f| Some(at(f64::from(f.mean), spread(f)?))).collect();
                series.push(Series { name: server.stack.name().into(), style: Style::Line, points });
            }
            let bound = |name: &str, y: f64| {
                let points = scope.times.iter().map(|s| report::Point::new(f64::from(*s), y)).collect();
                Series { name: name.into(), style: Style::Bound, points }
            };
            let [central, partitioned] = bounds.pair(law, n);
            series.push(bound("theory: one queue", central));
            if n > 1 {
                series.push(bound("theory: a queue each", partitioned));
            }
            let shared = servers.iter().any(|s| s.threads == n && s.shared);
            let aside = if shared { " The client shares a core with a server thread." } else { "" };
            figures.push(Figure {
                id: format!("{}-{n}", l.name),
                title: format!("Highest load with p99 <= {SLO} S, n = {n}: {}", l.title),
                caption: format!("In per cent of n/S, by the mean service time S, {n} server thread(s).{aside}"),
                x: Axis { label: "service time S".into(), unit: "us".into(), log: true, ..Axis::default() },
                y: Axis { label: "highest load".into(), unit: "%".into(), max: Some(100.0), ..Axis::default() },
                series,
            });
        }
    }
    figures
}

fn spread(found: &Found) -> Option<Spread> {
    Spread::of(found.rounds.iter().flatten().copied())
}

fn table(scope: &Scope, servers: &[Server], found: &[Found], bounds: &Bounds) -> Table {
    let mut rows = Vec::new();
    for f in found.iter().filter(|f| !f.rounds.is_empty()) {
        let (server, bound) = (&servers[f.server], bounds.of(f.law, &servers[f.server]));
        let ends = [json!(scope.laws[f.law].name), json!(f.mean), json!(server.threads), json!(server.stack.name())];
        let share = spread(f).map(|s| 100.0 * s.median / bound);
        let last = [json!(bound), json!(share), json!(if f.confident { "" } else { "not sure" })];
        rows.push(ends.into_iter().chain(cells(spread(f))).chain(last).collect());
    }
    let ends = [
        Column::text("service times"),
        Column::number("S", "us").decimals(0),
        Column::number("threads", "").decimals(0),
        Column::text("stack"),
    ];
    let last =
        [Column::number("bound", "%").decimals(1), Column::number("of the bound", "%").decimals(0), Column::text("")];
    Table {
        id: "loads".into(),
        title: format!("Highest load with p99 <= {SLO} S"),
        caption: "In per cent of n/S. The bound is that of the stack's own discipline.".into(),
        columns: ends.into_iter().chain(columns("highest load", "%")).chain(last).collect(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seconds: f64) -> Asked {
        Asked { command: String::new(), point: Nanos((seconds * 1e9) as u64), repeats: 3, records: 1 }
    }

    #[test]
    fn windows_hold_requests_enough() {
        let scope = Scope::new(&asked(5.0), Extent::Full);
        assert_eq!(scope.window(micros(10)), Nanos::from_millis(200));
        assert_eq!(scope.window(micros(200)), Nanos::from_millis(1600));
        let minutes = takes(&asked(5.0), Extent::Full).as_secs_f64() / 60.0;
        assert!((2.0..20.0).contains(&minutes), "{minutes}");
        assert!(takes(&asked(5.0), Extent::Tiny) < Nanos::from_secs(10));
    }

    #[test]
    fn one_queue_is_bound_higher_than_two() {
        let bounds = Bounds::new(&Scope::new(&asked(1.0), Extent::Tiny));
        let [one, same] = bounds.pair(0, 1);
        let [central, partitioned] = bounds.pair(0, 2);
        assert_eq!(one, same);
        // Exponential, p99 <= 10 S: 53.95 and 75.8 %, here to two points.
        assert!((50.0..58.0).contains(&one) && (72.0..80.0).contains(&central), "{one} {central}");
        assert!(partitioned < central - 10.0, "{partitioned} {central}");
    }

    #[test]
    fn a_later_round_begins_where_the_last_ended() {
        let slo = Slo { quantile: 0.99, limit: micros(100) };
        let mut found = Found { law: 0, mean: 10, server: 0, rounds: vec![], confident: true };
        assert_eq!(bracket(slo, 1e5, &found, 5).start, Some(4e4));
        found.rounds = vec![Some(62.0), None];
        assert_eq!(bracket(slo, 1e5, &found, 5).start, Some(6.2e4));
        assert_eq!(spread(&found).unwrap().median, 62.0);
    }
}
