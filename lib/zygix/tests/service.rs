//! What `Service` promises, shown on the dataplane itself: two elastic threads over the in-process wire, in virtual time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use dataplane::ElasticThread;
use netstack::{PoolSizes, Shared, StackConfig};
use nic::Nic;
use shm::ShmQueue;
use units::{CoreId, Nanos};
use wire::Mac;
use zygix::{ConnRef, Cx, Dead, Mailbox, Next, Peer, Received, Reply, Runtime, SEND_CAP, Service, ServiceApp};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The server: each request is one letter that says what to do.
#[derive(Default)]
struct Server {
    log: Mutex<Vec<String>>,
    paused: Mutex<Vec<ConnRef>>,
    timers: Mutex<Vec<ConnRef>>,
    heard: Mutex<HashMap<ConnRef, String>>,
    /// How many bytes the `big` answer has left, by nothing but one connection at a time.
    big: usize,
}

#[derive(Default)]
struct Conn {
    left: usize,
}

impl Server {
    fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    fn stream(&self, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        while conn.left > 0 {
            let wrote = tx.write(&[b'#'; 4096][..conn.left.min(4096)]);
            conn.left -= wrote;
            if wrote == 0 {
                break;
            }
        }
        Next::Read
    }
}

impl Service for Server {
    type Conn = Conn;
    type Core = ();
    type Msg = &'static str;

    fn core(&self, _: CoreId) {}

    fn accept(&self, _: &mut (), peer: &Peer) -> Option<Conn> {
        (peer.local.port() != 99).then(Conn::default)
    }

    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        self.stream(conn, tx);
        if conn.left > 0 {
            return Next::Read;
        }
        while let Some(&letter) = rx.chunk().first() {
            match letter {
                b'w' if rx.len() < 8 => return Next::AtLeast(8),
                b'w' => {
                    self.note(format!("whole {}", rx.len()));
                    let item = rx.peek(8).unwrap();
                    tx.write(item);
                    rx.consume(7);
                }
                b'p' => panic!("asked to"),
                b'c' => {
                    tx.write(b"bye");
                    return Next::Close;
                }
                b'a' => return Next::Abort,
                b'h' => {
                    tx.write(b"half");
                    tx.shutdown();
                }
                b'L' => cx.set_linger(Some(Nanos::ZERO)),
                b'K' => cx.set_cork(true),
                b'N' => cx.set_nodelay(false),
                b'U' => cx.set_user_timeout(Some(Nanos::from_millis(300))),
                b't' => {
                    self.timers.lock().unwrap().push(cx.me());
                    cx.set_timer(Nanos::from_millis(3));
                }
                b'z' => {
                    self.paused.lock().unwrap().push(cx.me());
                    rx.consume(1);
                    return Next::Pause;
                }
                b'b' => {
                    rx.consume(1);
                    conn.left = self.big;
                    self.stream(conn, tx);
                    if conn.left > 0 {
                        return Next::Read;
                    }
                    continue;
                }
                other => {
                    tx.write(&[other]);
                }
            }
            rx.consume(1);
        }
        if rx.fin() {
            self.note("fin");
            return Next::Close;
        }
        Next::Read
    }

    fn writable(&self, _: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        self.stream(conn, tx)
    }

    fn timer(&self, _: &mut Cx<'_, Self>, _: &mut Conn, tx: &mut Reply<'_>) -> Next {
        tx.write(b"tick");
        Next::Read
    }

    fn message(&self, cx: &mut Cx<'_, Self>, _: &mut Conn, msg: &'static str, tx: &mut Reply<'_>) -> Next {
        if msg == "farewell" {
            tx.write(&FAREWELL);
            return Next::Close;
        }
        if msg == "uncork" {
            cx.set_cork(false);
        }
        self.heard.lock().unwrap().entry(cx.me()).or_default().push_str(msg);
        tx.write(msg.as_bytes());
        if msg == "close" { Next::Close } else { Next::Read }
    }

    fn closed(&self, _: &mut (), _: Conn, why: Dead) {
        self.note(format!("closed: {why}"));
    }
}

/// The client: opens one connection per script, sends it, and keeps what comes back.
struct Client {
    scripts: Vec<(u16, &'static str)>,
    got: Mutex<Vec<String>>,
    /// Whether to read at all.
    reads: bool,
}

impl Client {
    fn note(&self, line: String) {
        self.got.lock().unwrap().push(line);
    }
}

impl Service for Client {
    type Conn = (usize, Vec<u8>);
    type Core = ();
    type Msg = ();

    fn core(&self, _: CoreId) {}

    fn accept(&self, _: &mut (), _: &Peer) -> Option<Self::Conn> {
        None
    }

    fn dial(&self, _: &mut ()) -> Vec<(SocketAddr, Self::Conn)> {
        let scripts = self.scripts.iter().enumerate();
        scripts.map(|(i, (port, _))| (SocketAddr::from((SERVER, *port)), (i, Vec::new()))).collect()
    }

    fn connected(&self, _: &mut Cx<'_, Self>, conn: &mut Self::Conn, tx: &mut Reply<'_>) -> Next {
        let script = self.scripts[conn.0].1;
        tx.write(script.trim_end_matches('$').as_bytes());
        if script.ends_with('$') {
            tx.shutdown();
        }
        if self.reads { Next::Read } else { Next::Pause }
    }

    fn recv(&self, _: &mut Cx<'_, Self>, conn: &mut Self::Conn, rx: &mut Received<'_>, _: &mut Reply<'_>) -> Next {
        while !rx.is_empty() {
            let chunk = rx.chunk();
            conn.1.extend_from_slice(chunk);
            rx.consume(chunk.len());
        }
        if rx.fin() { Next::Close } else { Next::Read }
    }

    fn closed(&self, _: &mut (), conn: Self::Conn, why: Dead) {
        let text = match conn.1.len() {
            0..50 => String::from_utf8_lossy(&conn.1).into_owned(),
            n => format!("{n} bytes"),
        };
        self.note(format!("{}: {text:?}, {why}", self.scripts[conn.0].1));
    }
}

struct Half<S: Service> {
    service: Arc<S>,
    thread: ElasticThread<ShmQueue>,
    app: ServiceApp<S>,
    mailbox: Mailbox<S::Msg>,
}

fn half<S: Service>(service: S, mac: u32, ip: Ipv4Addr, mut nic: shm::ShmNic, pools: PoolSizes) -> Half<S> {
    let config =
        StackConfig { pools, max_conns: 256, tcp_ports: vec![7, 99], ..StackConfig::new(Mac::local(mac), ip, 24) };
    let queue = nic.queues().pop().unwrap();
    let shared = Arc::new(Shared::new(config, 1, [mac as u8; 48], move |t| nic.flow_group(t), |_| {}).unwrap());
    let service = Arc::new(service);
    let runtime = Runtime::new(service.clone(), shared.clone());
    Half {
        service,
        app: runtime.app(CoreId(0)),
        mailbox: runtime.mailbox(),
        thread: ElasticThread::new(CoreId(0), shared, queue).unwrap(),
    }
}

struct World {
    server: Half<Server>,
    client: Half<Client>,
    now: Nanos,
}

/// More than a connection may send at once that has been idle (RFC 6928: ten segments), and less than its window before.
static FAREWELL: [u8; 40_000] = [b'!'; 40_000];

const POOLS: PoolSizes = PoolSizes { rx: 512, spill: 1, tx: 512, small: 64 };

impl World {
    fn new(server: Server, scripts: &[(u16, &'static str)], reads: bool) -> World {
        let end = |mac| shm::Config { mac: Mac::local(mac), ..shm::Config::default() };
        let (a, b) = shm::pair(&end(1), &end(2)).unwrap();
        let client = Client { scripts: scripts.to_vec(), got: Mutex::default(), reads };
        let mut w = World {
            server: half(server, 1, SERVER, a, POOLS),
            client: half(client, 2, CLIENT, b, POOLS),
            now: Nanos::from_secs(1),
        };
        w.client.thread.start(w.now, &mut w.client.app);
        w
    }

    fn run(&mut self, span: Nanos) {
        let end = self.now + span;
        while self.now < end {
            self.now += Nanos::from_micros(20);
            let now = self.now;
            self.server.thread.turn(now, || now, &mut self.server.app);
            self.client.thread.turn(now, || now, &mut self.client.app);
        }
    }

    fn got(&self) -> Vec<String> {
        let mut got = self.client.service.got.lock().unwrap().clone();
        got.sort();
        got
    }

    fn log(&self) -> Vec<String> {
        self.server.service.log.lock().unwrap().clone()
    }

    fn connections(&self) -> (usize, usize) {
        let count = |t: &ElasticThread<ShmQueue>| t.stack().unwrap().connections();
        (count(&self.server.thread), count(&self.client.thread))
    }
}

#[test]
fn each_answer_of_a_handler_has_its_effect() {
    let mut w =
        World::new(Server::default(), &[(7, "xyc"), (7, "xa"), (7, "xh$"), (7, "xy$"), (99, "x"), (98, "x")], true);
    w.run(Nanos::from_millis(100));
    let got = w.got();
    assert_eq!(
        got,
        [
            "x: \"\", connection refused", // nobody listens on 98
            "x: \"\", reset by peer",      // 99 rejects the knock
            "xa: \"\", reset by peer",     // an abort discards what was written
            "xh$: \"xhalf\", closed here",
            "xy$: \"xy\", closed here",
            "xyc: \"xybye\", closed here",
        ]
    );
}

/// What a paused connection with these options has received, some microseconds after each of the messages was posted.
fn received_after(script: &'static str, said: &[(&'static str, u64)]) -> Vec<u64> {
    let mut w = World::new(Server::default(), &[(7, script)], true);
    w.run(Nanos::from_millis(20));
    let who = w.server.service.paused.lock().unwrap()[0];
    let after = |&(msg, micros): &(&'static str, u64)| {
        if !msg.is_empty() {
            w.server.mailbox.post(who, msg).unwrap();
        }
        w.run(Nanos::from_micros(micros));
        w.client.thread.shared().metrics(CoreId(0)).tcp_bytes_in.get()
    };
    said.iter().map(after).collect()
}

#[test]
fn small_segments_wait_where_the_application_wants_it() {
    let said = [("one", 100), ("two", 100), ("", 5000)];
    assert_eq!(received_after("z", &said), [3, 6, 6], "each goes at once");
    assert_eq!(received_after("Nz", &said), [3, 3, 6], "Nagle: the second waits until the first is acknowledged");
    let said = [("one", 5000), ("two", 5000), ("uncork", 5000)];
    assert_eq!(received_after("Kz", &said), [0, 0, 12], "all wait for the last");
}

#[test]
fn a_peer_that_stays_silent_is_given_up_when_the_user_says() {
    for (script, expected) in [("z", None), ("Uz", Some("closed: timed out"))] {
        let mut w = World::new(Server::default(), &[(7, script)], true);
        w.run(Nanos::from_millis(20));
        let who = w.server.service.paused.lock().unwrap()[0];
        w.server.mailbox.post(who, "lost").unwrap();
        for _ in 0..1000 {
            w.now += Nanos::from_millis(1);
            let now = w.now;
            w.server.thread.turn(now, || now, &mut w.server.app);
        }
        assert_eq!(w.log().last().map(String::as_str), expected, "{script}");
    }
}

#[test]
fn a_close_that_does_not_linger_resets() {
    let mut w = World::new(Server::default(), &[(7, "Lc"), (7, "c")], true);
    w.run(Nanos::from_millis(50));
    let got = w.got();
    assert!(got[0].starts_with("Lc: ") && got[0].ends_with("reset by peer"), "{got:?}");
    assert_eq!(got[1], "c: \"bye\", closed here");
}

#[test]
fn a_panic_costs_its_own_connection_only() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut w = World::new(Server::default(), &[(7, "xp"), (7, "yc"), (7, "zp"), (7, "vc")], true);
    w.run(Nanos::from_millis(50));
    std::panic::set_hook(hook);
    let got = w.got();
    assert!(
        got.contains(&"vc: \"vbye\", closed here".into()) && got.contains(&"yc: \"ybye\", closed here".into()),
        "{got:?}"
    );
    assert!(got.contains(&"xp: \"\", reset by peer".into()), "{got:?}");
    assert!(w.log().contains(&"closed: handler panicked".into()));
}

#[test]
fn an_item_is_shown_when_it_is_whole() {
    let mut w = World::new(Server::default(), &[(7, "w2345678c")], true);
    w.run(Nanos::from_millis(20));
    assert_eq!(w.got(), ["w2345678c: \"w2345678bye\", closed here"]);
}

#[test]
fn background_threads_reach_a_paused_connection() {
    let mut w = World::new(Server::default(), &[(7, "xzyc")], true);
    w.run(Nanos::from_millis(20));
    assert!(w.got().is_empty(), "paused before y");
    let who = w.server.service.paused.lock().unwrap()[0];
    let mailbox = w.server.mailbox.clone();
    std::thread::spawn(move || {
        mailbox.post(who, "hello").unwrap();
        mailbox.resume(who).unwrap();
    })
    .join()
    .unwrap();
    w.run(Nanos::from_millis(20));
    assert_eq!(w.got(), ["xzyc: \"xhelloybye\", closed here"]);
    // The connection has ended: messages to it are swallowed.
    w.run(Nanos::from_secs(2));
    w.server.mailbox.post(who, "nobody").unwrap();
    w.run(Nanos::from_millis(1));
    assert_eq!(w.connections(), (0, 0));
}

/// More messages than one batch carries, to two connections in turn: none is lost, none overtakes another.
#[test]
fn a_flood_of_messages_arrives_whole_and_in_order() {
    let mut w = World::new(Server::default(), &[(7, "tx"), (7, "ty")], true);
    w.run(Nanos::from_millis(20));
    let who = w.server.service.timers.lock().unwrap().clone();
    const LETTERS: [&str; 5] = ["a", "b", "c", "d", "e"];
    for n in 0..1500 {
        w.server.mailbox.post(who[n % 2], LETTERS[n / 2 % 5]).unwrap();
    }
    for conn in who {
        w.server.mailbox.post(conn, "close").unwrap();
    }
    w.run(Nanos::from_millis(100));
    let log = w.log();
    assert_eq!(log.iter().filter(|l| l.starts_with("closed")).count(), 2);
    assert_eq!(w.got(), ["tx: \"760 bytes\", closed here", "ty: \"760 bytes\", closed here"]);
    let orders = w.server.service.heard.lock().unwrap();
    for heard in orders.values() {
        let expected: String = (0..750).map(|n| LETTERS[n % 5]).collect();
        assert_eq!(heard.strip_suffix("close"), Some(&expected[..]));
    }
}

#[test]
fn the_timer_fires_once() {
    let mut w = World::new(Server::default(), &[(7, "txk")], true);
    w.run(Nanos::from_millis(50));
    let who = *w.server.service.timers.lock().unwrap().first().unwrap();
    w.server.mailbox.post(who, "close").unwrap();
    w.run(Nanos::from_millis(10));
    assert_eq!(w.got(), ["txk: \"xktickclose\", closed here"]);
}

#[test]
fn a_long_answer_streams_through_bounded_buffers() {
    let big = 40 * SEND_CAP;
    let mut w = World::new(Server { big, ..Server::default() }, &[(7, "b"), (7, "b"), (7, "bc")], true);
    w.run(Nanos::from_millis(300));
    assert_eq!(w.got(), [format!("bc: \"{} bytes\", closed here", big + 3)]);
    w.run(Nanos::from_secs(3));
    assert_eq!(w.server.thread.tx_available(), POOLS.tx as usize, "every transmit buffer came home");
    assert_eq!(w.server.thread.stack().unwrap().rx_available(), POOLS.rx as usize);
}

/// The window that a handler is told of is from before its connection's restart after idleness (RFC 5681 section 4.1). What it writes and the engine does not admit
/// then still comes before the FIN of its close (RFC 9293 section 3.10.4).
#[test]
fn a_close_comes_after_all_that_was_written_also_after_idleness() {
    let big = 4 * SEND_CAP;
    let mut w = World::new(Server { big, ..Server::default() }, &[(7, "bt")], true);
    w.run(Nanos::from_secs(3));
    let who = *w.server.service.timers.lock().unwrap().first().unwrap();
    w.server.mailbox.post(who, "farewell").unwrap();
    w.run(Nanos::from_secs(1));
    assert_eq!(w.got(), [format!("bt: \"{} bytes\", closed here", big + "tick".len() + FAREWELL.len())]);
}

#[test]
fn a_peer_that_never_reads_does_not_stall_the_others() {
    let big = 64 * SEND_CAP;
    let mut w = World::new(Server { big, ..Server::default() }, &[(7, "b"), (7, "b"), (7, "b"), (7, "b")], false);
    w.run(Nanos::from_millis(300));
    // The hogs hold what they may; there are still buffers for others.
    assert!(w.server.thread.tx_available() > 0, "hogs took every buffer");
}
