//! The requests against servers that were not made for them: Debian's memcached over a Unix socket, and our applications
//! in this process.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use draw::{Purpose, Sizes, stream};
use mem::{MbufQueue, Pool, Room};
use requests::{Ask, Asker, Echo, Kv, Protocol, Spin, Verdict, Workload};
use units::{CoreId, FlowGroupId, Nanos};
use zygix::{ConnRef, Cx, Next, Peer, Received, Reply, SEND_CAP, SEND_MARK, Service};

/// Requests in flight.
const DEPTH: usize = 16;

/// A connection to a server.
trait Wire {
    /// Sends requests; they are all sent when it returns.
    fn send(&mut self, bytes: &[u8]);
    /// Appends some bytes of replies, at least one.
    fn receive(&mut self, to: &mut Vec<u8>);
}

/// Asks all of them, [`DEPTH`] at a time, and returns the verdicts.
fn verdicts(asker: &Asker, asks: &[Ask], wire: &mut impl Wire) -> Vec<Verdict> {
    let (mut request, mut reply, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
    for batch in asks.chunks(DEPTH) {
        request.clear();
        batch.iter().for_each(|ask| asker.write(*ask, &mut request));
        wire.send(&request);
        for ask in batch {
            let verdict = loop {
                match asker.judge(*ask, &reply) {
                    Verdict::Incomplete(want) => {
                        while reply.len() < want {
                            wire.receive(&mut reply);
                        }
                    }
                    Verdict::Garbage => panic!("{ask:?}: {}", reply.escape_ascii()),
                    verdict => break verdict,
                }
            };
            let (Verdict::Right(n) | Verdict::Wrong(n)) = verdict else { unreachable!() };
            reply.drain(..n);
            verdicts.push(verdict);
        }
    }
    assert!(reply.is_empty(), "more than was asked for: {}", reply.escape_ascii());
    verdicts
}

fn asker(workload: Workload) -> Asker {
    Asker::new(&workload, stream(3, 0, Purpose::Requests))
}

fn asks(asker: &mut Asker, n: usize) -> Vec<Ask> {
    (0..n).map(|_| asker.next()).collect()
}

fn all_right(asker: &Asker, asks: &[Ask], wire: &mut impl Wire) {
    for (verdict, ask) in verdicts(asker, asks, wire).into_iter().zip(asks) {
        assert!(matches!(verdict, Verdict::Right(_)), "{ask:?}: {verdict:?}");
    }
}

/// Stores half of the records, and meets misses and hits; then all, and meets hits only.
fn key_value(kv: Kv, wire: &mut impl Wire) {
    let records = 2000;
    let mut asker = asker(Workload::Kv(Kv { records, ..kv }));
    let all: Vec<Ask> = (0..records).map(|index| asker.preload(index)).collect();
    all_right(&asker, &all[..1000], wire);
    let mixed = asks(&mut asker, 1000);
    let wrong = verdicts(&asker, &mixed, wire).into_iter().filter(|v| matches!(v, Verdict::Wrong(_))).count();
    assert!((200..800).contains(&wrong), "{wrong} misses of 1000, and half of the records are there");
    all_right(&asker, &all, wire);
    let hits = asks(&mut asker, 5000);
    all_right(&asker, &hits, wire);
}

/// The key-value loads, in both protocols.
fn key_value_loads() -> impl Iterator<Item = Kv> {
    let long = Kv { value: "uniform:1-100000".parse().expect("sizes"), key: Sizes::fixed(250), ..Kv::usr() };
    [Protocol::Ascii, Protocol::Binary]
        .into_iter()
        .flat_map(move |protocol| [Kv::usr(), Kv::etc(), long.clone()].map(|kv| Kv { protocol, ..kv }))
}

/// A memcached of our own, gone when this is dropped.
struct Memcached {
    child: Child,
    socket: PathBuf,
}

impl Memcached {
    /// `None`: there is none on this machine.
    fn start(name: &str) -> Option<Memcached> {
        let socket = std::env::temp_dir().join(format!("zygix-requests-{}-{name}.sock", std::process::id()));
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-m", "1024", "-t", "1", "-s"]).arg(&socket);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        Some(Memcached { child, socket })
    }

    fn connect(&mut self) -> UnixStream {
        let start = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
                return stream;
            }
            assert!(self.child.try_wait().expect("our child").is_none(), "memcached has ended");
            assert!(start.elapsed() < Duration::from_secs(20), "memcached does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Wire for UnixStream {
    fn send(&mut self, bytes: &[u8]) {
        // Replies of a batch fit the socket's buffer or memcached waits with them, so nobody waits for the other: a
        // thread of its own sends.
        let mut writer = self.try_clone().expect("a second handle");
        let bytes = bytes.to_vec();
        std::thread::spawn(move || writer.write_all(&bytes));
    }

    fn receive(&mut self, to: &mut Vec<u8>) {
        let mut piece = [0; 16_384];
        let n = self.read(&mut piece).expect("memcached answers");
        assert!(n > 0, "memcached has closed");
        to.extend_from_slice(&piece[..n]);
    }
}

#[test]
fn memcached_answers_rightly() {
    for (kv, n) in key_value_loads().zip(0..) {
        let Some(mut memcached) = Memcached::start(&n.to_string()) else {
            return println!("SKIPPED memcached_answers_rightly: no memcached here (Debian's package memcached)");
        };
        key_value(kv, &mut memcached.connect());
    }
}

#[test]
fn memcached_is_neither_an_echo_nor_a_spin_server() {
    let Some(mut memcached) = Memcached::start("echo") else {
        return println!("SKIPPED memcached_is_neither_an_echo_nor_a_spin_server: no memcached here");
    };
    // It learns a connection's protocol from the first byte, so echo's and spin's requests are commands to it.
    for workload in [Workload::Echo(Echo::default()), Workload::Spin(Spin::new("det:1us".parse().expect("a time")))] {
        let mut asker = asker(workload);
        let ask = asker.next();
        let mut request = Vec::new();
        asker.write(ask, &mut request);
        request.extend_from_slice(b"\r\n");
        let mut wire = memcached.connect();
        wire.send(&request);
        let mut reply = Vec::new();
        wire.receive(&mut reply);
        assert_eq!(asker.judge(ask, &reply), Verdict::Garbage, "{}", reply.escape_ascii());
    }
}

/// A service of ours and one connection to it, driven as a backend does.
struct Here<S: Service> {
    service: S,
    core: S::Core,
    conn: S::Conn,
    received: MbufQueue,
    pools: [Pool; 2],
    waiting: Vec<u8>,
    answered: Vec<u8>,
}

impl<S: Service> Here<S> {
    fn new(service: S) -> Here<S> {
        let mut core = service.core(CoreId(0));
        let [remote, local] = [2, 1].map(|host| SocketAddr::from(([198, 18, 0, host], 4000)));
        let conn = service.accept(&mut core, &Peer { remote, local }).expect("accepted");
        let pools = [Room::Received, Room::Exchange].map(|room| Pool::new(room, 256, 2048).expect("a pool"));
        Here { service, core, conn, received: MbufQueue::new(), pools, waiting: Vec::new(), answered: Vec::new() }
    }

    /// Lets a little arrive, and calls the handler; returns whether anything came of it.
    fn step(&mut self) -> bool {
        let n = self.waiting.len().min(5000);
        for part in self.waiting.drain(..n).as_slice().chunks(1000) {
            let mut mbuf = self.pools[0].alloc().expect("a buffer");
            mbuf.extend(part);
            self.received.push_back(mbuf);
        }
        let (mut out, mut ops, mut scratch) = (MbufQueue::new(), Vec::new(), vec![0; 65_536]);
        let mut cx: Cx<'_, S> =
            Cx::new(&mut self.core, Nanos(1), ConnRef::new(abi::Handle::new(FlowGroupId(0), 0, 0)), &mut ops);
        let mut tx = Reply::new(&mut out, &mut self.pools[1], SEND_CAP - SEND_MARK);
        let mut rx = Received::new(&self.received, false, &mut scratch);
        let next = if rx.is_empty() {
            self.service.writable(&mut cx, &mut self.conn, &mut tx)
        } else {
            self.service.recv(&mut cx, &mut self.conn, &mut rx, &mut tx)
        };
        let used = rx.consumed();
        assert!(matches!(next, Next::Read | Next::AtLeast(_)), "{next:?}");
        self.received.consume(used as u32, Some(&mut self.pools[0]));
        out.iter().for_each(|part| self.answered.extend_from_slice(part));
        n + used > 0 || !out.is_empty()
    }
}

impl<S: Service> Wire for Here<S> {
    fn send(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    fn receive(&mut self, to: &mut Vec<u8>) {
        while self.answered.is_empty() {
            assert!(self.step(), "nothing moves");
        }
        to.append(&mut self.answered);
    }
}

#[test]
fn our_kv_answers_rightly() {
    for load in key_value_loads() {
        let config = kv::Config { memory_limit: 1 << 30, ..kv::Config::default() };
        key_value(load, &mut Here::new(kv::Kv::new(config)));
    }
}

#[test]
fn our_echo_answers_rightly() {
    for size in ["64", "1", "uniform:1-5000", "100000"] {
        let mut asker = asker(Workload::Echo(Echo { size: size.parse().expect("a size") }));
        let asks = asks(&mut asker, 300);
        all_right(&asker, &asks, &mut Here::new(echo::Echo::default()));
    }
}

#[test]
fn our_spin_server_answers_rightly() {
    for size in [16, 17, 1000, 65_536] {
        let mut asker = asker(Workload::Spin(Spin { time: "exp:1us".parse().expect("a time"), size }));
        let asks = asks(&mut asker, 300);
        all_right(&asker, &asks, &mut Here::new(spin::Service::default()));
    }
}
