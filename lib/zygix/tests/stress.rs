//! Numbered requests through the whole dataplane, two cores that steal and assist: each answered once and in order.
//!
//! In the ordinary suite 300 000 in each mode; `ZYGIX_STRESS=long` makes it 10^7, with progress:
//! `ZYGIX_STRESS=long cargo test -p zygix --release --test stress -- --nocapture`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use abi::Cookie;
use dataplane::{App, Assist, BatchView, Dataplane, ElasticThread, RunnerConfig, Sched};
use mem::MbufQueue;
use netstack::{Pending, Shared, StackConfig};
use nic::Nic;
use units::CoreId;
use wire::Mac;
use zygix::{Cx, Next, Peer, Received, Reply, Runtime, Service};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CONNS: usize = 48;
/// Requests that a connection has under way.
const DEPTH: u32 = 12;
/// Nothing for this long is a failure.
const STUCK: Duration = Duration::from_secs(30);

/// Answers each number with itself, and looks whether it is the one that comes next.
#[derive(Default)]
struct Counting {
    wrong: AtomicU64,
}

impl Service for Counting {
    type Conn = u32;
    type Core = u32;
    type Msg = ();

    fn core(&self, id: CoreId) -> u32 {
        id.0.into()
    }

    fn accept(&self, _: &mut u32, _: &Peer) -> Option<u32> {
        Some(0)
    }

    fn recv(&self, _: &mut Cx<'_, Counting>, next: &mut u32, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        while tx.reserve(4)
            && let Some(bytes) = rx.peek(4)
        {
            let wrong = bytes != next.to_be_bytes();
            self.wrong.fetch_add(wrong.into(), Relaxed);
            tx.write(bytes);
            rx.consume(4);
            *next += 1;
            // Long ones now and then, so that others have to help.
            let long = next.wrapping_mul(0x9e37_79b9) >> 23 == 0;
            (0..if long { 20_000 } else { 0 }).for_each(|_| std::hint::spin_loop());
        }
        if rx.fin() { Next::Close } else { Next::Read }
    }
}

#[derive(Default)]
struct Line {
    sent: u32,
    got: u32,
    /// Bytes of a number whose end has not come yet.
    part: Vec<u8>,
    backlog: MbufQueue,
}

/// Sends numbers on each connection and checks what comes back.
struct Asking {
    lines: Vec<Line>,
    /// How many on each.
    each: u32,
    answered: u64,
}

impl Asking {
    fn serve(&mut self, view: &mut BatchView<'_>, i: usize) {
        let entry = view.entry(i);
        let (cookie, unread) = (entry.cookie.0 as usize, entry.rx.bytes());
        assert!(entry.dead.is_none() && !entry.fin, "connection {cookie} ended");
        let opened = entry.pending.contains(Pending::CONNECTED);
        let line = &mut self.lines[cookie];
        entry.rx.iter().for_each(|m| line.part.extend_from_slice(m));
        let whole = line.part.len() / 4 * 4;
        for number in line.part[..whole].chunks(4) {
            assert_eq!(number, line.got.to_be_bytes(), "connection {cookie}, after {} of {}", line.got, line.sent);
            line.got += 1;
            self.answered += 1;
        }
        line.part.drain(..whole);
        if unread > 0 {
            view.recv_done(i, unread).unwrap();
        }
        let target = self.each.min(line.got + DEPTH);
        if opened || line.sent < target || !line.backlog.is_empty() {
            let mut buffer = view.arena().alloc().expect("a buffer");
            buffer.reset(0);
            while line.sent < target {
                buffer.extend(&line.sent.to_be_bytes());
                line.sent += 1;
            }
            line.backlog.append(&mut MbufQueue::from(buffer));
            view.sendv(i, &mut line.backlog, false).unwrap();
        }
    }
}

impl App for Asking {
    fn start(&mut self, view: &mut BatchView<'_>) {
        for n in 0..self.lines.len() {
            view.connect(Cookie(n as u64), SocketAddr::from((SERVER, 7))).unwrap();
        }
    }

    fn run(&mut self, view: &mut BatchView<'_>) {
        (0..view.len()).for_each(|i| self.serve(view, i));
    }
}

fn stress(assist: Assist, requests: u64) {
    let end = |mac, queues| shm::Config { mac: Mac::local(mac), queues, ..shm::Config::default() };
    let (mut a, mut b) = shm::pair(&end(1, 2), &end(2, 1)).unwrap();
    let config =
        |mac, ip| StackConfig { max_conns: 256, tcp_ports: vec![7], ..StackConfig::new(Mac::local(mac), ip, 24) };
    let service = Arc::new(Counting::default());
    let runner = RunnerConfig { sched: Sched::Zygos(assist), ..RunnerConfig::default() };
    let (queues, mut runtime) = (a.queues(), None);
    let server = Dataplane::start(
        config(1, SERVER),
        queues,
        move |t| a.flow_group(t),
        &runner,
        |core, shared| runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core),
    )
    .unwrap();

    let queue = b.queues().pop().unwrap();
    let shared = Shared::new(config(2, CLIENT), 1, [2; 48], move |t| b.flow_group(t), |_| {}).unwrap();
    let mut client = ElasticThread::new(CoreId(0), Arc::new(shared), queue).unwrap();
    let each = (requests / CONNS as u64) as u32;
    let mut app = Asking { lines: (0..CONNS).map(|_| Line::default()).collect(), each, answered: 0 };
    client.start(sys::clock::now(), &mut app);
    let all = u64::from(each) * CONNS as u64;
    let begun = Instant::now();
    let (mut last, mut next) = ((0, begun), 1_000_000);
    while app.answered < all {
        client.turn(sys::clock::now(), sys::clock::now, &mut app);
        if app.answered > last.0 {
            last = (app.answered, Instant::now());
        }
        assert!(last.1.elapsed() < STUCK, "{assist}: {} of {all} answered, and no more come", app.answered);
        if app.answered >= next {
            println!("{assist}: {next} requests, {:.1} s", begun.elapsed().as_secs_f64());
            next += 1_000_000;
        }
    }
    assert_eq!(service.wrong.load(Relaxed), 0, "the server saw them in order");
    let total = |of: fn(&netstack::Metrics) -> u64| server.shared().total(of);
    println!(
        "{assist}: {all} requests, each answered once and in order; {} stolen, {} lends, {} interrupts; {:.1} s",
        total(|m| m.steals.get()),
        total(|m| m.lends.get()),
        total(|m| m.interrupts.get()),
        begun.elapsed().as_secs_f64()
    );
    server.stop();
}

#[test]
fn every_request_is_answered_once_and_in_order() {
    let long = std::env::var("ZYGIX_STRESS").is_ok_and(|how| how == "long");
    for assist in [Assist::None, Assist::Ipi, Assist::Lend] {
        stress(assist, if long { 10_000_000 } else { 300_000 });
    }
}
