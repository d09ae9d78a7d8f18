//! The engine against servers whose truth is known, in virtual time: no clock, no noise, so that any deviation is the engine's own.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use draw::{Gaps, Pattern, ServiceTimes};
use requests::{Spin, Workload};
use units::Nanos;

use crate::desk::{Desk, Live};
use crate::engine::{Engine, Wire};
use crate::job::Order;
use crate::spec::{Churn, Hangup, Pace, Spec, Window};
use crate::{Outcome, Side};

/// What a server does with the request that came at `at`: when its reply is ready, given when the last one was.
type Rule = Box<dyn FnMut(Nanos, Nanos, Nanos) -> Option<Nanos>>;

/// A server of one thread, first come first served, and the clock of its world. Requests are spin's: they carry their service times.
struct World {
    now: Nanos,
    free_at: Nanos,
    rule: Rule,
    /// What happens to the engine, and when.
    agenda: BTreeMap<(Nanos, u64), Event>,
    count: u64,
    opened: u64,
    closed: Vec<Hangup>,
}

enum Event {
    Opened(usize),
    Reply(usize, Vec<u8>),
}

impl World {
    fn new(rule: impl FnMut(Nanos, Nanos, Nanos) -> Option<Nanos> + 'static) -> World {
        let (now, free_at) = (Nanos::from_secs(1), Nanos::ZERO);
        World { now, free_at, rule: Box::new(rule), agenda: BTreeMap::new(), count: 0, opened: 0, closed: Vec::new() }
    }

    fn plan(&mut self, at: Nanos, event: Event) {
        self.count += 1;
        self.agenda.insert((at, self.count), event);
    }
}

impl Wire for World {
    fn open(&mut self, link: usize) -> io::Result<()> {
        self.opened += 1;
        self.plan(self.now, Event::Opened(link));
        Ok(())
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Option<usize> {
        for request in bytes.chunks(spin::wire::HEADER) {
            let request = spin::wire::Request::decode(request.try_into().unwrap()).unwrap();
            if let Some(done) = (self.rule)(self.now, self.free_at, request.time) {
                self.free_at = done;
                let reply = spin::wire::Reply { id: request.id, spent: request.time };
                self.plan(done, Event::Reply(link, reply.encode().to_vec()));
            }
        }
        Some(bytes.len())
    }

    fn close(&mut self, link: usize, how: Hangup) {
        self.closed.push(how);
        self.agenda.retain(|_, e| !matches!(e, Event::Reply(l, _) if *l == link));
    }
}

/// Runs one window of `spec` against the world; `late(now)` is how much later than asked the engine is woken.
fn run(spec: &Spec, window: &Window, world: &mut World, late: impl Fn(Nanos) -> Nanos) -> Outcome {
    let desk = Arc::new(Desk::default());
    let mut engine = Engine::new(spec, 0, desk.clone(), Arc::new(Live::default()));
    while !engine.working() {
        // Connections first; then the order.
        engine.turn(world.now, world);
        happen(&mut engine, world);
        if let Some(opened) = desk.try_result() {
            opened.unwrap();
            desk.put(Order::Run { window: window.clone(), start: world.now + Nanos::from_millis(1) });
        }
    }
    loop {
        engine.turn(world.now, world);
        if let Some(outcome) = desk.try_result() {
            return outcome.unwrap();
        }
        let wake = engine.wake_at(world.now, Nanos::from_millis(5));
        let next = world.agenda.first_key_value().map_or(Nanos::MAX, |((at, _), _)| *at);
        world.now = world.now.max(wake.min(next));
        world.now += late(world.now);
        happen(&mut engine, world);
    }
}

fn happen(engine: &mut Engine, world: &mut World) {
    while let Some(entry) = world.agenda.first_entry().filter(|e| e.key().0 <= world.now) {
        match entry.remove() {
            Event::Opened(link) => engine.opened(link, world.now),
            Event::Reply(link, bytes) => assert!(engine.received(link, &bytes, world.now)),
        }
    }
}

fn spin(time: &str) -> Workload {
    Workload::Spin(Spin::new(time.parse::<ServiceTimes>().unwrap()))
}

fn spec(connections: u32, depth: u32, time: &str) -> Spec {
    Spec { connections, depth, ..Spec::new(spin(time), ([198, 18, 0, 2], 1).into()) }
}

fn open(rate: f64, seconds: u64) -> Window {
    Window::new(Pace::poisson(rate), Nanos::from_secs(seconds))
}

/// First come, first served, each for its own time.
fn fcfs(at: Nanos, free_at: Nanos, time: Nanos) -> Option<Nanos> {
    Some(at.max(free_at) + time)
}

fn on_time(_: Nanos) -> Nanos {
    Nanos::ZERO
}

#[test]
fn an_mm1_server_shows_its_closed_form() {
    for load in [0.3, 0.7] {
        // 100 us of service on average; 420 000 requests at least.
        let rate = load * 1e4;
        let o =
            run(&spec(2000, 4, "exp:100us"), &open(rate, (420_000.0 / rate) as u64), &mut World::new(fcfs), on_time);
        assert_eq!(o.errors.total(), 0);
        assert!(o.completed > 400_000 && o.saturated().is_none());
        for q in [0.5, 0.99] {
            // The sojourn time of M/M/1 is exponential, of rate mu - lambda.
            let truth = -f64::ln(1.0 - q) * 1e5 / (1.0 - load);
            let off = o.quantile(q).0 as f64 / truth - 1.0;
            assert!(off.abs() < 0.05, "p{q} at load {load}: {} ns, {truth} by the book", o.quantile(q).0);
        }
    }
}

#[test]
fn a_freeze_of_100_ms_is_shown_in_full() {
    // In each second the server stands still for 100 ms: a tenth of all requests wait, 50 ms in the mean, up to 100.
    let frozen = |at: Nanos, free_at: Nanos, time: Nanos| {
        let begin = at.max(free_at);
        let phase = Nanos(begin.0 % 1_000_000_000);
        Some(if phase < Nanos::from_millis(100) {
            begin - phase + Nanos::from_millis(100) + time
        } else {
            begin + time
        })
    };
    // With one connection of depth 1 nearly all of them are never sent while it stands still: they count all the same.
    for (connections, depth) in [(1, 1), (100, 4)] {
        let o = run(&spec(connections, depth, "det:10us"), &open(1000.0, 100), &mut World::new(frozen), on_time);
        assert_eq!(o.errors.total(), 0);
        let p95 = o.quantile(0.95).0 as f64 / 1e6;
        assert!((45.0..55.0).contains(&p95), "95th percentile {p95} ms; 50 by the book");
        assert!(o.quantile(1.0) > Nanos::from_millis(97) && o.p50() < Nanos::from_millis(1));
    }
}

#[test]
fn the_clients_own_standstill_is_charged_too_and_told_apart() {
    // The client sleeps through 100 ms in each second.
    let late = |now: Nanos| if now.0 % 1_000_000_000 < 50_000_000 { Nanos::from_millis(100) } else { Nanos::ZERO };
    let o = run(&spec(10, 4, "det:10us"), &open(1000.0, 50), &mut World::new(fcfs), late);
    assert_eq!((o.errors.total(), o.saturated()), (0, None));
    assert!(o.quantile(0.97) > Nanos::from_millis(40), "{} ns", o.quantile(0.97).0);
    assert!(o.lateness.value_at_quantile(0.97) > 40_000_000 && o.lateness.value_at_quantile(0.5) < 1000);
}

#[test]
fn more_than_the_server_can_do_is_its_saturation() {
    let o = run(&spec(10, 1, "det:100us"), &open(20_000.0, 3), &mut World::new(fcfs), on_time);
    assert_eq!(o.saturated(), Some(Side::Server));
    assert!((9_900.0..10_100.0).contains(&o.achieved_rps()) && o.offered_rps() > 19_000.0);
    // Patience is 2 s: half of what 3 s had left over is answered late, the rest never.
    assert!(o.errors.unanswered > 0 && o.completed + o.errors.unanswered >= o.offered);
}

#[test]
fn more_than_the_client_can_do_is_its_own() {
    let late = |_| Nanos::from_micros(200);
    let o = run(&spec(100, 100, "det:1ns"), &open(20e6, 1), &mut World::new(fcfs), late);
    assert_eq!(o.saturated(), Some(Side::Client));
}

#[test]
fn rates_beyond_reason_end_in_time_and_memory() {
    let late = |_| Nanos::from_micros(500);
    let o = run(&spec(1, 1, "det:1ms"), &open(1e9, 1), &mut World::new(fcfs), late);
    assert!(o.saturated().is_some() && o.errors.unanswered > 100_000, "{}, {} offered", o.errors, o.offered);
}

#[test]
fn a_closed_loop_keeps_the_depth_under_way() {
    let window = Window::new(Pace::Closed, Nanos::from_secs(2));
    let o = run(&spec(5, 4, "det:100us"), &window, &mut World::new(fcfs), on_time);
    // 20 under way at a server that takes 100 us for each: 2 ms, 10 000 a second.
    assert_eq!((o.errors.total(), o.p50().micros() / 10), (0, 200));
    assert!((9_990.0..10_010.0).contains(&o.achieved_rps()), "{}", o.achieved_rps());
    assert!(o.lateness.is_empty() && o.saturated().is_none());
}

#[test]
fn connections_end_after_their_requests_as_told() {
    for how in [Hangup::Rst, Hangup::Fin] {
        let churn = Some(Churn { requests: 3, how });
        let mut world = World::new(fcfs);
        let window = Window { warmup: Nanos::ZERO, ..Window::new(Pace::Closed, Nanos::from_secs(1)) };
        let o = run(&Spec { churn, ..spec(4, 2, "det:100us") }, &window, &mut world, on_time);
        assert_eq!(o.errors.total(), 0);
        // 10 000 requests in the second, three a connection.
        assert!((3_300..3_340).contains(&o.opened), "{} opened", o.opened);
        assert!(world.closed.len() as u64 >= o.opened && world.closed.iter().all(|h| *h == how));
    }
}

#[test]
fn the_unloaded_agent_sees_the_queue_that_others_make() {
    // The agent's own thousand requests a second are a load of 0.1 beside the others' 0.7.
    let o = run(&Spec { probe: 8, ..spec(100, 4, "exp:100us") }, &open(6000.0, 60), &mut World::new(fcfs), on_time);
    assert!(o.probe.len() > 30_000, "{} probes", o.probe.len());
    let (probe, load) = (o.probe.value_at_quantile(0.5) as f64, o.p50().0 as f64);
    // A little less than the load's own: it asks again after its reply only, so less often while the queue is long.
    assert!((0.6..1.1).contains(&(probe / load)), "median {probe} ns beside {load} ns");
    // Its requests are no part of the load.
    assert_eq!(o.latency.len(), o.completed);
    let alone = run(&Spec { probe: 1, ..spec(1, 1, "det:100us") }, &open(1.0, 5), &mut World::new(fcfs), on_time);
    assert_eq!(alone.probe.value_at_quantile(0.9) / 1000, 100);
}

#[test]
fn a_pattern_is_followed_over_time() {
    let pattern: Pattern = "step:1000,3000,1".parse().unwrap();
    let pace = Pace::Open { gaps: Gaps::poisson(), pattern };
    let window = Window { warmup: Nanos::ZERO, ..Window::new(pace, Nanos::from_secs(3)) };
    let o = run(&spec(50, 4, "det:1us"), &window, &mut World::new(fcfs), on_time);
    let offered: Vec<u64> = o.slices.iter().map(|s| s.offered).collect();
    assert_eq!(offered.len(), 3);
    for (n, expected) in offered.iter().zip([1000, 2000, 3000]) {
        assert!(n.abs_diff(expected) < 250, "{offered:?}");
    }
    assert_eq!(o.offered, offered.iter().sum::<u64>());
}

#[test]
fn equal_seeds_ask_the_same() {
    let runs: Vec<Outcome> = [1, 1, 2]
        .map(|seed| run(&Spec { seed, ..spec(20, 2, "exp:50us") }, &open(5000.0, 2), &mut World::new(fcfs), on_time))
        .into();
    assert_eq!(runs[0].latency, runs[1].latency);
    assert_ne!(runs[0].latency, runs[2].latency);
}

#[test]
fn what_never_comes_is_unanswered_and_the_next_window_starts_afresh() {
    let mut world = World::new(|_, _, _| None);
    let o = run(&spec(3, 2, "det:1us"), &Window::new(Pace::Closed, Nanos::from_millis(100)), &mut world, on_time);
    assert_eq!((o.errors.unanswered, o.completed), (6, 0));
    assert_eq!(world.closed.len(), 3);
}
