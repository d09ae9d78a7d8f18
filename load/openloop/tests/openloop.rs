//! The open-loop NIC under our own stack, and under one that loses, doubles and resets on purpose.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane::{Dataplane, Idle, RunnerConfig};
use mem::{Pool, Room};
use netstack::StackConfig;
use nic::{Caps, Nic, Queue, QueueCounters, RxFrame, RxPools, TxFrame, TxFull};
use openloop::draw::{Gaps, ServiceTimes, Sizes};
use openloop::requests::{Echo, Kv, Spin, Workload};
use openloop::{Config, ConfigError, Director, Drive, OpenLoop, OpenLoopError, OpenLoopQueue};
use units::{FlowGroupId, Nanos};
use wire::tcp::Flags;
use zygix::{Runtime, Service};

/// Where the flags of a TCP header are in a frame.
const FLAGS_AT: usize = 14 + 20 + 13;
const HEADERS: usize = 14 + 20 + 20;
const PATIENCE: Nanos = Nanos::from_secs(10);

/// What is to happen to frames.
#[derive(Default)]
struct Mischief {
    /// The next request is thrown away.
    lose_request: AtomicBool,
    /// The next reply is thrown away.
    lose_reply: AtomicBool,
    /// So many times yet, the last reply comes once more when it has been acknowledged.
    replays: AtomicU64,
    /// The next reply comes as a reset.
    reset: AtomicBool,
    /// Nobody polls.
    freeze: AtomicBool,
    /// Segments to the server without data, handshakes aside.
    acks: AtomicU64,
}

/// A queue between the generator and the stack.
struct Troubled {
    queue: OpenLoopQueue,
    mischief: Arc<Mischief>,
    last_reply: Vec<u8>,
}

fn happens(what: &AtomicBool) -> bool {
    what.load(Relaxed) && what.swap(false, Relaxed)
}

impl Queue for Troubled {
    fn caps(&self) -> &Caps {
        self.queue.caps()
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        if self.mischief.freeze.load(Relaxed) {
            return 0;
        }
        let before = out.len();
        self.queue.rx_burst(pools, max, out);
        let acks = self.mischief.acks.load(Relaxed);
        let mut at = before;
        while at < out.len() {
            let frame = &out[at].head;
            let data = frame.len() > HEADERS && frame[FLAGS_AT] & Flags::PSH.0 != 0;
            if data && happens(&self.mischief.lose_request) {
                out.remove(at);
                continue;
            }
            let ack = frame.len() == HEADERS && frame[FLAGS_AT] == Flags::ACK.0;
            self.mischief.acks.fetch_add(u64::from(ack), Relaxed);
            at += 1;
        }
        let replays = self.mischief.replays.load(Relaxed);
        if replays > 0 && !self.last_reply.is_empty() && self.mischief.acks.load(Relaxed) > acks {
            self.mischief.replays.store(replays - 1, Relaxed);
            let _ = self.queue.tx(&TxFrame { head: &self.last_reply, payload: &[], csum: None, gso: None });
        }
        out.len() - before
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        if frame.len() > HEADERS + 4 && frame.head.len() > FLAGS_AT {
            if happens(&self.mischief.lose_reply) {
                return Ok(());
            }
            if self.mischief.replays.load(Relaxed) > 0 {
                self.last_reply = frame.head.to_vec();
                frame.payload.iter().for_each(|piece| self.last_reply.extend_from_slice(piece));
            }
            if happens(&self.mischief.reset) {
                let mut head = frame.head.to_vec();
                head[FLAGS_AT] = Flags::RST.0 | Flags::ACK.0;
                return self.queue.tx(&TxFrame { head: &head, ..*frame });
            }
        }
        self.queue.tx(frame)
    }

    fn flush(&mut self) {
        self.queue.flush();
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.queue.wait_fd()
    }

    fn before_sleep(&mut self) -> bool {
        self.queue.before_sleep()
    }

    fn after_sleep(&mut self) {
        self.queue.after_sleep();
    }

    fn counters(&self) -> QueueCounters {
        self.queue.counters()
    }
}

/// A server, and the load on it. One at a time: each polls on all of its threads.
struct World {
    director: Director,
    mischief: Arc<Mischief>,
    server: Option<Dataplane>,
    _alone: MutexGuard<'static, ()>,
}

fn world(config: &Config, service: impl Service) -> World {
    world_at(config, config.port, service)
}

/// The server listens on `port`, which need not be the one that the load asks for.
fn world_at(config: &Config, port: u16, service: impl Service) -> World {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut nic, director) = OpenLoop::new(config).unwrap();
    let mischief = Arc::new(Mischief::default());
    let troubled = |queue| Troubled { queue, mischief: mischief.clone(), last_reply: Vec::new() };
    let queues: Vec<Troubled> = nic.queues().into_iter().map(troubled).collect();
    assert!(nic.queues().is_empty(), "they are taken once");
    let stack = StackConfig { tcp_ports: vec![port], ..StackConfig::new(config.server.mac, config.server.ip, 24) };
    let runner = RunnerConfig { idle: Idle::Spin, ..RunnerConfig::default() };
    let service = Arc::new(service);
    let server = Dataplane::start(
        stack,
        queues,
        move |t| nic.flow_group(t),
        &runner,
        move |core, shared| Runtime::new(service.clone(), shared.clone()).app(core),
    );
    World { director, mischief, server: Some(server.unwrap()), _alone: alone }
}

impl World {
    fn metric(&self, name: &str) -> u64 {
        let shared = self.server.as_ref().unwrap().shared();
        let of = |core| shared.metrics(units::CoreId(core as u16)).named().find(|(n, _)| *n == name).unwrap().1;
        (0..shared.cores()).map(of).sum()
    }
}

fn spin(time: &str) -> Workload {
    Workload::Spin(Spin::new(time.parse::<ServiceTimes>().unwrap()))
}

fn config(queues: u16, connections: u32, workload: Workload) -> Config {
    Config { connections, ..Config::new(queues, workload) }
}

/// 200 ms of load, with time to be late in.
fn drive(rate: f64) -> Drive {
    Drive { patience: PATIENCE, ..Drive::new(rate, Nanos::from_millis(200)) }
}

#[test]
fn every_request_gets_its_reply() {
    let w = world(&config(1, 64, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    assert_eq!(w.director.connected(), 64);
    let o = w.director.run(&drive(2000.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed, o.interrupted), (0, o.offered, false), "{}", o.errors);
    assert!((250..600).contains(&o.offered) && o.sent > o.offered, "{} offered, {} sent", o.offered, o.sent);
    assert!(o.latency.min() >= 1000, "each takes a microsecond of service");
    assert!(o.lateness.is_empty() && o.held == 0 && o.open_loop);
    assert_eq!(o.slices.len(), 2);
    assert!(o.typical(0.99) > Nanos::ZERO);
    assert_eq!(w.metric("tcp_retransmits"), 0, "what the server sends is acknowledged in time");
}

#[test]
fn frames_come_to_the_queue_that_owns_them() {
    let w = world(&config(2, 256, spin("exp:5us")), spin::Service::default());
    let o = w.director.run(&drive(4000.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
    assert_eq!((w.metric("rx_forwarded_in"), w.metric("tcp_accepts")), (0, 256));
    // Another workload, over the same connections.
    w.director.ask(&spin("det:20us")).unwrap();
    let o = w.director.run(&Drive { gaps: Gaps::fixed(), ..drive(1000.0) }).unwrap();
    assert_eq!((o.errors.total(), o.completed, w.metric("tcp_accepts")), (0, o.offered, 256));
    assert!(o.latency.min() >= 20_000);
}

#[test]
fn records_are_stored_before_they_are_asked_for() {
    let kv = Kv { records: 1000, ..Kv::usr() };
    let w = world(&config(2, 64, Workload::Kv(kv)), kv::Kv::new(kv::Config::default()));
    w.director.connect(PATIENCE).unwrap();
    w.director.preload(PATIENCE).unwrap();
    let o = w.director.run(&drive(5000.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
}

#[test]
fn what_was_not_stored_is_a_wrong_reply() {
    let kv = Kv { records: 1000, ..Kv::usr() };
    let w = world(&config(1, 16, Workload::Kv(kv)), kv::Kv::new(kv::Config::default()));
    let o = w.director.run(&drive(2000.0)).unwrap();
    assert!(o.errors.wrong > 0 && o.errors.wrong + o.completed >= o.offered, "{}", o.errors);
    assert_eq!(o.errors.total(), o.errors.wrong);
}

#[test]
fn messages_of_several_segments_go_both_ways() {
    let echo = Workload::Echo(Echo { size: Sizes::fixed(4000) });
    let w = world(&config(1, 32, echo), echo::Echo::new(echo::Mode::Echo));
    let o = w.director.run(&drive(3000.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
    // More than the server's window of 64 KiB without scaling.
    w.director.ask(&Workload::Echo(Echo { size: Sizes::fixed(150_000) })).unwrap();
    let o = w.director.run(&drive(100.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
    assert!(o.offered > 5);
}

#[test]
fn time_in_which_nobody_polls_is_latency() {
    let w = world(&config(1, 16, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    let mischief = w.mischief.clone();
    let freezer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        mischief.freeze.store(true, Relaxed);
        std::thread::sleep(Duration::from_millis(50));
        mischief.freeze.store(false, Relaxed);
    });
    let o = w.director.run(&drive(2000.0)).unwrap();
    freezer.join().unwrap();
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
    // 100 requests or so were meant for the pause, and the first of them waited for nearly all of it.
    assert!(o.latency.max() > 40_000_000, "{} ns", o.latency.max());
    let late = o.latency.iter_recorded().filter(|v| v.value_iterated_to() > 5_000_000).map(|v| v.count_at_value());
    assert!(late.sum::<u64>() > 50);
}

#[test]
fn a_lost_request_is_sent_again_and_a_lost_reply_is_waited_for() {
    let w = world(&config(1, 8, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    w.mischief.lose_request.store(true, Relaxed);
    let o = w.director.run(&Drive { warmup: Nanos::ZERO, ..drive(1000.0) }).unwrap();
    assert!(!w.mischief.lose_request.load(Relaxed), "one was lost");
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
    assert_eq!(o.sent, o.offered, "sending again is not sending another");
    // What follows on that connection waits, too.
    assert!(o.latency.max() > 150_000_000, "{} ns", o.latency.max());
    w.mischief.lose_reply.store(true, Relaxed);
    let o = w.director.run(&drive(1000.0)).unwrap();
    assert!(!w.mischief.lose_reply.load(Relaxed), "one was lost");
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
}

#[test]
fn a_reply_that_comes_again_counts_once_and_is_acknowledged_each_time() {
    let w = world(&config(1, 1, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    w.mischief.replays.store(100, Relaxed);
    // So few requests that acknowledgements ride on none.
    let o = w.director.run(&Drive { gaps: Gaps::fixed(), ..drive(20.0) }).unwrap();
    assert_eq!(w.mischief.replays.load(Relaxed), 0);
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
    assert!(w.mischief.acks.load(Relaxed) > 100);
}

#[test]
fn a_reset_costs_what_was_under_way_and_another_connection_takes_the_place() {
    let w = world(&config(1, 4, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    w.mischief.reset.store(true, Relaxed);
    let o = w.director.run(&drive(1000.0)).unwrap();
    assert_eq!(o.errors.broken, 1, "{}", o.errors);
    assert!(o.errors.lost >= 1 && o.errors.total() == 1 + o.errors.lost, "{}", o.errors);
    assert!(o.completed + o.errors.lost >= o.offered);
    let o = w.director.run(&drive(1000.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed, w.director.connected()), (0, o.offered, 4), "{}", o.errors);
}

#[test]
fn what_a_server_cannot_do_is_unanswered_and_the_next_run_starts_afresh() {
    let w = world(&config(1, 16, spin("det:1ms")), spin::Service::default());
    let o = w.director.run(&Drive { patience: Nanos::from_millis(50), ..drive(5000.0) }).unwrap();
    assert!(o.errors.unanswered > 100, "{}", o.errors);
    assert_eq!(o.saturated(), Some(load::Side::Server));
    assert!(o.completed + o.errors.unanswered >= o.offered);
    let o = w.director.run(&drive(50.0)).unwrap();
    assert_eq!((o.errors.total(), o.completed), (0, o.offered), "{}", o.errors);
}

#[test]
fn a_run_ends_early_when_it_is_told_to() {
    let w = world(&config(2, 16, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    let director = w.director.clone();
    let run = std::thread::spawn(move || director.run(&Drive::new(1000.0, Nanos::from_secs(3600))));
    std::thread::sleep(Duration::from_millis(300));
    w.director.halt();
    let o = run.join().unwrap().unwrap();
    assert!(o.interrupted && o.errors.unanswered == 0 && o.window < Nanos::from_secs(3600));
}

#[test]
fn whoever_waits_for_a_server_that_has_ended_is_told() {
    let mut w = world(&config(2, 16, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    let director = w.director.clone();
    let run = std::thread::spawn(move || director.run(&Drive::new(1000.0, Nanos::from_secs(3600))));
    std::thread::sleep(Duration::from_millis(100));
    w.server.take().unwrap().stop();
    assert!(matches!(run.join().unwrap(), Err(OpenLoopError::Gone(_))));
    assert!(matches!(w.director.connect(PATIENCE), Err(OpenLoopError::Gone(_))));
}

#[test]
fn hanging_up_ends_all_connections() {
    let w = world(&config(1, 16, spin("det:1us")), spin::Service::default());
    w.director.connect(PATIENCE).unwrap();
    w.director.hang_up(PATIENCE).unwrap();
    assert_eq!(w.director.connected(), 0);
    // The resets are taken in by the turn that follows.
    let begun = std::time::Instant::now();
    while w.metric("tcp_closed") < 16 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert_eq!(w.metric("tcp_closed"), 16);
}

#[test]
fn nobody_listening_is_said_so() {
    let w = world_at(&config(1, 4, spin("det:1us")), 8, spin::Service::default());
    let said = w.director.connect(Nanos::from_millis(300)).unwrap_err().to_string();
    assert!(said.contains("0 of 4 connections open") && said.contains("port 7"), "{said}");
    assert!(!said.contains(" 0 refused"), "{said}");
}

#[test]
fn other_cores_learn_when_frames_are_due() {
    let (mut nic, director) = OpenLoop::new(&config(1, 4, spin("det:1us"))).unwrap();
    let mut queue = nic.queues().remove(0);
    let hint = queue.rx_hint();
    let pool = |n| mem::Pool::new(mem::Room::Received, n, 2048).unwrap();
    let mut pools = RxPools { mbufs: pool(64), spills: pool(1) };
    let mut out = Vec::with_capacity(64);
    assert!(!hint(), "nothing is due before anything was ordered");
    let order = std::thread::spawn(move || director.connect(PATIENCE));
    let begun = std::time::Instant::now();
    while !hint() && begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(queue.rx_burst(&mut pools, 0, &mut out), 0, "never more than asked for");
    }
    assert!(hint(), "SYNs are due");
    // Who gives the order may be about to.
    while queue.rx_burst(&mut pools, 3, &mut out) == 0 && begun.elapsed() < Duration::from_secs(10) {}
    assert_eq!(out.len(), 3);
    assert!(hint(), "one is left");
    assert_eq!(queue.rx_burst(&mut pools, 64, &mut out), 1);
    assert!(!hint());
    assert!(out.iter().all(|f| f.csum_ok && f.head[FLAGS_AT] == Flags::SYN.0 && f.group.is_some()));
    drop(queue);
    assert!(matches!(order.join().unwrap(), Err(OpenLoopError::Gone(0))));
}

#[test]
fn without_a_server_nothing_hangs() {
    let (mut nic, director) = OpenLoop::new(&config(1, 4, spin("det:1us"))).unwrap();
    let queues = nic.queues();
    assert!(matches!(director.connect(Nanos::from_millis(20)), Err(OpenLoopError::Connect { open: 0, wanted: 4, .. })));
    drop(queues);
    assert!(matches!(director.run(&drive(10.0)), Err(OpenLoopError::Gone(0))));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(director.run(&drive(rate)), Err(OpenLoopError::Drive(_))));
    }
}

#[test]
fn frames_come_where_the_table_sends_them() {
    let (mut nic, director) = OpenLoop::new(&config(2, 64, spin("det:1us"))).unwrap();
    let mut queues = nic.queues();
    let mut pools = RxPools {
        mbufs: Pool::new(Room::Received, 512, 2048).unwrap(),
        spills: Pool::new(Room::Received, 1, 2048).unwrap(),
    };
    assert!(nic.set_reta(FlowGroupId(128), 0).is_err() && nic.set_reta(FlowGroupId(0), 2).is_err());
    // All to queue 1: queue 0 may never be polled again.
    (0..128).for_each(|g| nic.set_reta(FlowGroupId(g), 1).unwrap());
    let order = std::thread::spawn(move || director.connect(Nanos::from_millis(500)));
    let mut out = Vec::with_capacity(256);
    let begun = std::time::Instant::now();
    while out.len() < 64 && begun.elapsed().as_secs() < 10 {
        queues[1].rx_burst(&mut pools, 64, &mut out);
    }
    assert_eq!(out.len(), 64, "a SYN of each connection");
    assert!(!queues[0].rx_hint()(), "nothing is due at queue 0");
    // Back: what is made now comes to queue 0.
    (0..128).for_each(|g| nic.set_reta(FlowGroupId(g), g % 2).unwrap());
    out.clear();
    while out.is_empty() && begun.elapsed().as_secs() < 10 {
        queues[0].rx_burst(&mut pools, 64, &mut out);
    }
    assert!(out.iter().all(|f| f.group.unwrap().0 % 2 == 0) && !out.is_empty());
    drop(queues);
    assert!(order.join().unwrap().is_err(), "nobody answers");
}

/// The SYNs of 64 connections, 32 in each of two lanes: what each queue gets once `even` groups have gone from queue 0 to 1, which was polled first.
fn dealt(even: impl Fn(u16) -> bool, ordered_before: bool) -> [Vec<u16>; 2] {
    let (mut nic, director) = OpenLoop::new(&config(2, 64, spin("det:1us"))).unwrap();
    let mut queues = nic.queues();
    let mut pools = RxPools {
        mbufs: Pool::new(Room::Received, 512, 2048).unwrap(),
        spills: Pool::new(Room::Received, 1, 2048).unwrap(),
    };
    let set = || (0..128).step_by(2).filter(|g| even(*g)).for_each(|g| nic.set_reta(FlowGroupId(g), 1).unwrap());
    if !ordered_before {
        set();
    }
    let order = std::thread::spawn(move || director.connect(Nanos::from_millis(500)));
    let begun = std::time::Instant::now();
    while !(queues[0].rx_hint()() && queues[1].rx_hint()()) && begun.elapsed().as_secs() < 10 {
        std::thread::yield_now();
    }
    if ordered_before {
        set();
    }
    let got = [1, 0].map(|queue| {
        let mut out = Vec::with_capacity(256);
        while queues[queue].rx_burst(&mut pools, 64, &mut out) > 0 {}
        out.iter().map(|f| f.group.unwrap().0).collect::<Vec<_>>()
    });
    drop(queues);
    assert!(order.join().unwrap().is_err(), "nobody answers");
    let [one, zero] = got;
    [zero, one]
}

/// A core that is away delays no connection whose group has gone elsewhere, wherever it was dealt to.
#[test]
fn frames_of_a_group_wait_for_its_own_queue_alone() {
    let [zero, one] = dealt(|g| g < 64, false);
    assert!(zero.iter().all(|g| g % 2 == 0 && *g >= 64) && !zero.is_empty(), "{zero:?}");
    assert!(one.iter().all(|g| g % 2 == 1 || *g < 64) && one.iter().any(|g| g % 2 == 0), "{one:?}");
    assert_eq!(zero.len() + one.len(), 64, "queue 1 has all of its own before queue 0 was polled at all");
}

#[test]
fn what_was_due_when_the_table_was_set_lies_in_the_old_ring() {
    let [zero, one] = dealt(|_| true, true);
    assert!(zero.iter().all(|g| g % 2 == 0) && one.iter().all(|g| g % 2 == 1), "{zero:?} {one:?}");
    assert_eq!((zero.len(), one.len()), (32, 32));
}

#[test]
fn impossible_configurations_are_refused_in_a_sentence() {
    let good = config(2, 64, spin("det:1us"));
    let say = |config: Config| OpenLoop::new(&config).map(drop).unwrap_err();
    assert_eq!(say(Config { queues: 0, ..good.clone() }), ConfigError::Queues(0));
    assert_eq!(say(Config { connections: 0, ..good.clone() }), ConfigError::NoConnections);
    assert_eq!(say(Config { port: 0, ..good.clone() }), ConfigError::Port);
    assert_eq!(say(Config { addresses: 0, ..good.clone() }), ConfigError::Addresses(0));
    assert!(matches!(say(Config { connections: 60_000, ..good.clone() }), ConfigError::Ports { ports: 55_536, .. }));
    // Enough ports, but not for each of many queues.
    let crowded = say(Config { queues: 64, connections: 55_530, ..good.clone() });
    assert!(matches!(crowded, ConfigError::Flows { .. }), "{crowded}");
    let overlap = say(Config { client: good.server, ..good.clone() });
    assert!(matches!(overlap, ConfigError::Overlap { .. }), "{overlap}");
    let huge = Workload::Echo(Echo { size: Sizes::fixed(1 << 21) });
    assert_eq!(say(Config { workload: huge, ..good.clone() }), ConfigError::Message(1 << 21));
    let none = Workload::Kv(Kv { records: 0, ..Kv::usr() });
    assert!(matches!(say(Config { workload: none, ..good.clone() }), ConfigError::Workload(_)));
    // Two addresses hold more.
    assert!(OpenLoop::new(&Config { connections: 60_000, addresses: 2, ..good }).is_ok());
}
