//! The load over real transports, against servers that answer rightly, wrongly, and not at all.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use dataplane::{Assist, Dataplane, Idle, RunnerConfig, Sched};
use load::requests::{Echo, Kv, Spin, Workload};
use load::{Churn, Hangup, Load, LoadError, Outcome, Pace, Place, Spec, Window, ZygixNet};
use netstack::StackConfig;
use nic::Nic;
use units::Nanos;
use zygix::Runtime;

/// What a test server does with the `n`-th bytes it reads on a connection; `None` hangs up.
type Answer = fn(n: u64, bytes: &[u8]) -> Option<Vec<u8>>;

/// Serves until the process ends; one thread a connection.
fn server(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                for n in 0.. {
                    let Ok(len @ 1..) = stream.read(&mut buffer) else { return };
                    match answer(n, &buffer[..len]) {
                        Some(reply) if stream.write_all(&reply).is_ok() => {}
                        _ => return,
                    }
                }
            });
        }
    });
    addr
}

fn echo(_: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

fn messages(size: &str) -> Workload {
    Workload::Echo(Echo { size: size.parse().unwrap() })
}

fn spec(target: SocketAddr, connections: u32, depth: u32) -> Spec {
    Spec { connections, depth, seed: 7, ..Spec::new(messages("64"), target) }
}

fn window(pace: Pace) -> Window {
    Window { patience: Nanos::from_millis(200), ..Window::new(pace, Nanos::from_millis(150)) }
}

fn load(spec: &Spec, pace: Pace) -> Outcome {
    Load::linux(spec, &Place::default()).unwrap().run(&window(pace)).unwrap()
}

/// What must hold wherever the load comes from.
fn well_behaved(load: &mut Load, depth: u64) {
    let closed = load.run(&window(Pace::Closed)).unwrap();
    let open = load.run(&window(Pace::poisson(2000.0))).unwrap();
    for o in [&closed, &open] {
        assert_eq!(o.errors.total(), 0, "{}", o.errors);
        assert!(o.completed > 0 && o.completed == o.offered && o.latency.len() == o.completed);
        assert!(o.p50() > Nanos::ZERO && o.p50() <= o.p99() && o.cpu > Nanos::ZERO);
        assert!(o.sent >= o.completed);
    }
    // 300 are meant for the window, standard deviation 17.
    assert!((200..400).contains(&open.offered), "{}", open.offered);
    assert!(closed.answered_in_window + depth >= closed.completed);
    assert_eq!(load.live().connected.get(), u64::from(load.spec().connections + load.spec().probe));
    // Larger than any segment and any buffer, over the same connections.
    load.ask(messages("uniform:1-100000")).unwrap();
    let o = load.run(&window(Pace::Closed)).unwrap();
    assert_eq!(o.errors.total(), 0, "{}", o.errors);
    assert!(o.completed > 0);
}

#[test]
fn sockets_carry_the_load() {
    for (threads, probe) in [(1, 0), (2, 4)] {
        let spec = Spec { threads, probe, ..spec(server(echo), 6, 3) };
        let mut load = Load::linux(&spec, &Place { cores: vec![], spin: threads == 2 }).unwrap();
        well_behaved(&mut load, 18);
        assert_eq!(load.tids().len(), threads as usize);
        if probe > 0 {
            let o = load.run(&window(Pace::poisson(100.0))).unwrap();
            assert!(o.probe.len() > 5 && o.slices[0].probe_p99 > Nanos::ZERO);
        }
    }
}

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CLIENT: ZygixNet =
    ZygixNet { mac: wire::Mac([2, 0, 0, 0, 0, 2]), ip: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2)), prefix: 24 };

/// A dataplane that echoes, and the other end of its wire.
fn dataplane(sched: Sched) -> (Dataplane, shm::ShmNic) {
    let config = |n| shm::Config { mac: wire::Mac([2, 0, 0, 0, 0, n]), ..shm::Config::default() };
    let cores = if sched == Sched::Ix { 1 } else { 3 };
    let (mut near, far) = shm::pair(&shm::Config { queues: cores, ..config(1) }, &config(2)).unwrap();
    let stack = StackConfig { tcp_ports: vec![7], ..StackConfig::new(config(1).mac, SERVER, 24) };
    let service = Arc::new(::echo::Echo::default());
    let runner = RunnerConfig { idle: Idle::default(), sched, ..RunnerConfig::default() };
    let queues = near.queues();
    let mut runtime = None;
    let dataplane = Dataplane::start(
        stack,
        queues,
        move |t| near.flow_group(t),
        &runner,
        |core, shared| runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core),
    );
    (dataplane.unwrap(), far)
}

#[test]
fn our_own_stack_carries_the_load() {
    for sched in SCHEDS {
        let (dataplane, nic) = dataplane(sched);
        let spec = Spec { probe: 2, ..spec((SERVER, 7).into(), 6, 3) };
        let mut load = Load::zygix(&spec, &Place::default(), nic, CLIENT).unwrap();
        well_behaved(&mut load, 18);
        drop(load);
        dataplane.stop();
    }
}

const SCHEDS: [Sched; 4] =
    [Sched::Ix, Sched::Zygos(Assist::None), Sched::Zygos(Assist::Ipi), Sched::Zygos(Assist::Lend)];

#[test]
fn our_own_stack_opens_and_ends_connections() {
    for (how, sched) in [Hangup::Rst, Hangup::Fin].into_iter().flat_map(|how| SCHEDS.map(|sched| (how, sched))) {
        let (dataplane, nic) = dataplane(sched);
        let churn = Some(Churn { requests: 5, how });
        let spec = Spec { churn, ..spec((SERVER, 7).into(), 4, 2) };
        let o = Load::zygix(&spec, &Place::default(), nic, CLIENT).unwrap().run(&window(Pace::Closed)).unwrap();
        assert_eq!(o.errors.total(), 0, "{}", o.errors);
        assert!(o.opened > 4 && o.completed >= o.opened * 3, "{} opened, {} done", o.opened, o.completed);
        dataplane.stop();
    }
}

#[test]
fn nobody_on_the_wire_is_said_so() {
    let config = |n| shm::Config { mac: wire::Mac([2, 0, 0, 0, 0, n]), ..shm::Config::default() };
    let (_near, far) = shm::pair(&config(1), &config(2)).unwrap();
    let error = Load::zygix(&spec((SERVER, 7).into(), 1, 1), &Place::default(), far, CLIENT).err().unwrap();
    assert!(error.to_string().contains("cannot connect to 198.18.0.1:7"), "{error}");
}

#[test]
fn sockets_end_after_their_requests() {
    let churn = Some(Churn { requests: 2, how: Hangup::Rst });
    let o = load(&Spec { churn, ..spec(server(echo), 3, 1) }, Pace::Closed);
    assert_eq!(o.errors.total(), 0, "{}", o.errors);
    assert!(o.opened > 3 && o.completed >= o.opened, "{} opened, {} done", o.opened, o.completed);
}

#[test]
fn garbage_and_hang_ups_cost_the_connection_which_is_replaced() {
    for answer in [
        |n, b: &[u8]| if n % 8 == 5 { Some([b, b].concat()) } else { echo(n, b) },
        |n, b: &[u8]| if n % 8 == 5 { None } else { echo(n, b) },
    ] {
        let mut load = Load::linux(&spec(server(answer), 3, 1), &Place::default()).unwrap();
        let mut sum = load.run(&window(Pace::Closed)).unwrap();
        // More breaks than there are connections: those that took a broken one's place were used.
        for _ in 0..100 {
            if sum.errors.broken <= 3 {
                sum.merge(&load.run(&window(Pace::Closed)).unwrap());
            }
        }
        assert!(sum.errors.broken > 3 && sum.errors.wrong == 0, "{}", sum.errors);
    }
}

#[test]
fn a_silent_server_leaves_every_request_unanswered() {
    let closed = load(&spec(server(|_, _| Some(Vec::new())), 3, 2), Pace::Closed);
    assert_eq!((closed.errors.unanswered, closed.errors.total(), closed.completed), (6, 6, 0));
    let open = load(&spec(server(|_, _| Some(Vec::new())), 3, 2), Pace::poisson(2000.0));
    // Six were sent; those that waited count too.
    assert!(open.errors.unanswered >= open.offered && open.latency.is_empty(), "{}", open.errors);
    assert_eq!(open.saturated(), Some(load::Side::Server));
}

#[test]
fn another_protocol_is_no_right_answer() {
    for workload in [Workload::Kv(Kv::usr()), Workload::Spin(Spin::new("det:1us".parse().unwrap()))] {
        let answer: Answer = |_, _| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
        let o = load(&Spec { workload, ..spec(server(answer), 2, 1) }, Pace::Closed);
        assert!(o.errors.broken > 0 && o.completed == 0, "{}", o.errors);
    }
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_seen() {
    // It dies with all of its connections after the first requests.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut streams: Vec<TcpStream> = (0..3).map(|_| listener.accept().unwrap().0).collect();
        drop(listener);
        let mut buffer = [0; 4096];
        for stream in &mut streams {
            let n = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..n]).unwrap();
        }
    });
    let o = load(&spec(addr, 3, 1), Pace::Closed);
    server.join().unwrap();
    assert!(o.errors.refused > 0 && o.errors.broken + o.errors.refused >= 3, "{}", o.errors);
}

#[test]
fn nobody_and_nonsense_are_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Load::linux(&spec(nobody, 1, 1), &Place::default()).err().unwrap();
    assert!(matches!(error, LoadError::Connect { .. }), "{error}");
    for (connections, depth, threads, complaint) in
        [(0, 1, 1, "no connections"), (1, 0, 1, "depth of 0"), (1, 1, 0, "no threads"), (1, 1, 2, "only 1 connections")]
    {
        let spec = Spec { threads, ..spec(nobody, connections, depth) };
        let error = Load::linux(&spec, &Place::default()).err().unwrap().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn records_are_stored_before_they_are_asked_for() {
    // A memcached of few words: it stores nothing and knows what to say.
    fn stored(_: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let sets = bytes.windows(4).filter(|w| w == b"set ").count();
        Some(b"STORED\r\n".repeat(sets))
    }
    let kv = Kv { records: 500, ..Kv::usr() };
    let spec = Spec { workload: Workload::Kv(kv), threads: 2, ..spec(server(stored), 4, 1) };
    let mut load = Load::linux(&spec, &Place::default()).unwrap();
    load.preload().unwrap();
    assert_eq!(load.live().stored.get(), 500);
    let full = server(|n, b| if n == 3 { Some(b"SERVER_ERROR out of memory\r\n".to_vec()) } else { stored(n, b) });
    let error =
        Load::linux(&Spec { target: full, depth: 1, ..spec }, &Place::default()).unwrap().preload().unwrap_err();
    assert!(error.to_string().contains("does not store records"), "{error}");
}
