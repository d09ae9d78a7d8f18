//! The promises of `Service`, held to over loopback sockets.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use units::{CoreId, Nanos};
use zygix::{ConnRef, Cx, Dead, Next, Peer, Received, Reply, Service};

use crate::{Config, Mailbox, Report, serve_ready};

/// A service of small commands, one line each:
///
/// `echo TEXT`, `big N` (N patterned bytes), `close TEXT`, `abort`, `panic`, `half TEXT`, `least N` (then N bytes),
/// `tick` (a line after 3 ms), `park NAME` / `wake NAME` (pause, and resume another connection), `call PORT TEXT`.
#[derive(Default)]
struct Lines {
    parked: Mutex<BTreeMap<String, ConnRef>>,
    log: Mutex<Vec<String>>,
    closed: Mutex<Vec<Dead>>,
    refuse: AtomicBool,
    /// Opened at start.
    first: Mutex<Option<SocketAddr>>,
}

#[derive(Default)]
struct Line {
    /// Bytes of a `big` reply yet to be written, and how many were.
    big: usize,
    wrote: usize,
    /// Bytes that a `least` waits for.
    least: usize,
    /// What a connection that was opened here is to say.
    say: Option<String>,
    set_at: Nanos,
}

fn pattern(i: usize) -> u8 {
    (i * 7 + i / 251) as u8
}

impl Lines {
    fn log(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    fn calls_of_echo(&self) -> usize {
        self.log.lock().unwrap().iter().filter(|l| *l == "echo").count()
    }

    /// Writes as much of a `big` reply as there is room for.
    fn more(&self, conn: &mut Line, tx: &mut Reply<'_>) {
        while conn.big > 0 {
            let n = conn.big.min(1000);
            let from = conn.wrote;
            let fill = |buf: &mut [u8]| {
                buf.iter_mut().enumerate().for_each(|(i, b)| *b = pattern(from + i));
                buf.len()
            };
            if !tx.write_with(n, fill) {
                return;
            }
            conn.big -= n;
            conn.wrote += n;
        }
    }

    fn command(&self, cx: &mut Cx<'_, Self>, conn: &mut Line, line: &str, tx: &mut Reply<'_>) -> Next {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let answer = format!("{rest}\n");
        match verb {
            "echo" => {
                self.log("echo".into());
                tx.write(answer.as_bytes());
            }
            "big" => conn.big = rest.parse().unwrap(),
            "close" => {
                tx.write(answer.as_bytes());
                return Next::Close;
            }
            "abort" => return Next::Abort,
            "panic" => panic!("asked for by a test"),
            "half" => {
                tx.write(answer.as_bytes());
                tx.shutdown();
            }
            "least" => conn.least = rest.parse().unwrap(),
            "tick" => {
                conn.set_at = cx.now();
                cx.set_timer(Nanos::from_millis(3));
            }
            "park" => {
                self.parked.lock().unwrap().insert(rest.into(), cx.me());
                return Next::Pause;
            }
            "wake" => cx.resume(self.parked.lock().unwrap()[rest]),
            "call" => {
                let (port, text) = rest.split_once(' ').unwrap();
                let dst = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
                let say = Some(format!("close {text}\n"));
                cx.connect(dst, Line { say, ..Line::default() });
            }
            _ => panic!("no such command: {line}"),
        }
        Next::Read
    }
}

impl Service for Lines {
    type Conn = Line;
    type Core = u64;
    type Msg = String;

    fn core(&self, _: CoreId) -> u64 {
        0
    }

    fn dial(&self, _: &mut u64) -> Vec<(SocketAddr, Line)> {
        let dial = |dst| (dst, Line { say: Some("close at last\n".into()), ..Line::default() });
        self.first.lock().unwrap().take().map(dial).into_iter().collect()
    }

    fn accept(&self, _: &mut u64, peer: &Peer) -> Option<Line> {
        assert!(peer.local.port() != 0 && peer.remote.port() != 0);
        (!self.refuse.load(SeqCst)).then(Line::default)
    }

    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Line, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        self.more(conn, tx);
        while conn.big == 0 {
            if conn.least > 0 {
                self.log(format!("least {} of {}", rx.len(), conn.least));
                if rx.len() < conn.least && !rx.fin() {
                    return Next::AtLeast(conn.least);
                }
                let sum: u64 = rx.peek(conn.least).unwrap_or(&[]).iter().map(|&b| u64::from(b)).sum();
                rx.consume(conn.least);
                conn.least = 0;
                tx.write(format!("{sum}\n").as_bytes());
            }
            let head = rx.peek(rx.len().min(65536)).unwrap_or(&[]);
            let Some(end) = head.iter().position(|&b| b == b'\n') else { break };
            let line = std::str::from_utf8(&head[..end]).unwrap().to_owned();
            rx.consume(end + 1);
            let next = if conn.say.is_some() {
                self.log(format!("answer {line}"));
                Next::Read
            } else {
                self.command(cx, conn, &line, tx)
            };
            self.more(conn, tx);
            if next != Next::Read {
                return next;
            }
        }
        if rx.fin() && conn.big == 0 { Next::Close } else { Next::Read }
    }

    fn connected(&self, _: &mut Cx<'_, Self>, conn: &mut Line, tx: &mut Reply<'_>) -> Next {
        tx.write(conn.say.as_ref().unwrap().as_bytes());
        Next::Read
    }

    fn writable(&self, _: &mut Cx<'_, Self>, conn: &mut Line, tx: &mut Reply<'_>) -> Next {
        self.more(conn, tx);
        Next::Read
    }

    fn timer(&self, cx: &mut Cx<'_, Self>, conn: &mut Line, tx: &mut Reply<'_>) -> Next {
        tx.write(if cx.now() >= conn.set_at + Nanos::from_millis(3) { b"tick\n" } else { b"soon\n" });
        Next::Read
    }

    fn message(&self, _: &mut Cx<'_, Self>, _: &mut Line, msg: String, tx: &mut Reply<'_>) -> Next {
        tx.write(msg.as_bytes());
        if msg.starts_with("last") { Next::Close } else { Next::Read }
    }

    fn closed(&self, core: &mut u64, conn: Line, why: Dead) {
        *core += 1;
        if let Some(said) = conn.say {
            self.log(format!("{said:?} {why:?}"));
        }
        self.closed.lock().unwrap().push(why);
    }

    fn datagram(&self, _: &mut u64, _: &Peer, data: &[u8], tx: &mut Reply<'_>) {
        if data == b"panic" {
            panic!("asked for by a test");
        }
        tx.write(data);
        tx.write(b"!");
    }
}

/// A server on a loopback port, stopped by `stop`.
struct Server {
    addr: SocketAddr,
    service: Arc<Lines>,
    mailbox: Mailbox<String>,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Server {
    fn start(threads: usize, datagrams: bool) -> Server {
        Server::of(Lines::default(), threads, datagrams)
    }

    fn of(service: Lines, threads: usize, datagrams: bool) -> Server {
        let service = Arc::new(service);
        let quit = Arc::new(AtomicBool::new(false));
        let (tx, rx) = channel();
        let (s, q) = (service.clone(), quit.clone());
        let thread = std::thread::spawn(move || {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let config = Config { threads, datagrams, batch: 4, ..Config::new(any) };
            serve_ready(s, &config, &|| q.load(SeqCst), |running| {
                tx.send((running.addr, running.mailbox)).unwrap();
            })
            .unwrap()
        });
        let (addr, mailbox) = rx.recv().unwrap();
        Server { addr, mailbox, service, quit, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn stop(mut self) -> Report {
        self.halt()
    }

    fn halt(&mut self) -> Report {
        self.quit.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits until `n` connections have been closed, and returns why.
    fn closed(&self, n: usize) -> Vec<Dead> {
        loop {
            let closed = self.service.closed.lock().unwrap().clone();
            if closed.len() >= n {
                return closed;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.halt();
        }
    }
}

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

fn line(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn commands_arrive_whole_however_they_are_cut() {
    let server = Server::start(1, false);
    let mut c = server.connect();
    say(&mut c, "echo one\necho two\nec");
    assert_eq!((line(&mut c), line(&mut c)), ("one".into(), "two".into()));
    say(&mut c, "ho three\n");
    assert_eq!(line(&mut c), "three");
    c.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&mut c), "");
    assert_eq!(server.closed(1), [Dead::Local]);
    let report = server.stop().total();
    assert_eq!((report.accepted, report.closed, report.bytes_out), (1, 1, 14));
    assert!(report.cpu > Nanos::ZERO);
}

#[test]
fn a_panic_resets_its_own_connection_only() {
    let server = Server::start(1, false);
    let (mut bad, mut good) = (server.connect(), server.connect());
    say(&mut good, "echo before\n");
    assert_eq!(line(&mut good), "before");
    say(&mut bad, "echo lost\npanic\n");
    assert_eq!(bad.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    say(&mut good, "echo after\n");
    assert_eq!(line(&mut good), "after");
    assert_eq!(server.closed(1), [Dead::Panicked]);
    assert_eq!(server.stop().total().panics, 1);
}

#[test]
fn a_reply_larger_than_all_buffers_arrives_whole() {
    const N: usize = 24 << 20;
    let server = Server::start(1, false);
    let mut c = server.connect();
    say(&mut c, &format!("big {N}\necho done\n"));
    let (mut got, mut buf) = (0, vec![0; 100_000]);
    while got < N {
        let n = c.read(&mut buf).unwrap();
        assert!(n > 0);
        let n = n.min(N - got);
        assert!(buf[..n].iter().enumerate().all(|(i, &b)| b == pattern(got + i)), "near byte {got}");
        got += n;
        // The tail of the last read belongs to `done`, which the next loop checks by its count alone.
    }
    c.shutdown(Shutdown::Write).unwrap();
    server.closed(1);
    assert_eq!(server.stop().total().bytes_out, N as u64 + 5);
}

#[test]
fn a_peer_that_never_reads_is_left_unread_and_holds_up_nobody() {
    let server = Server::start(1, false);
    let (mut hog, mut good) = (server.connect(), server.connect());
    hog.set_nonblocking(true).unwrap();
    let request = format!("echo {}\n", "x".repeat(1000)).repeat(64);
    let mut sent = 0;
    let mut refused = 0;
    // Both kernels' buffers and the server's own fill up, then nothing more is taken.
    while refused < 50 {
        match hog.write(&request.as_bytes()[sent % request.len()..]) {
            Ok(n) => (sent, refused) = (sent + n, 0),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                say(&mut good, "echo alive\n");
                assert_eq!(line(&mut good), "alive");
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => panic!("{e}"),
        }
    }
    let lines = sent / 1006;
    hog.set_nonblocking(false).unwrap();
    let mut got = vec![0; lines * 1001];
    hog.read_exact(&mut got).unwrap();
    assert!(got.chunks(1001).all(|l| l[..1000].iter().all(|&b| b == b'x') && l[1000] == b'\n'));
}

#[test]
fn close_sends_first_abort_does_not() {
    let server = Server::start(1, false);
    let mut c = server.connect();
    say(&mut c, "close bye\necho never\n");
    assert_eq!(all(&mut c), "bye\n");
    let mut c = server.connect();
    say(&mut c, "echo lost\nabort\n");
    assert_eq!(c.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.closed(2), [Dead::Local, Dead::Local]);
}

#[test]
fn after_a_half_close_receiving_goes_on() {
    let server = Server::start(1, false);
    let mut c = server.connect();
    say(&mut c, "half last\n");
    assert_eq!(all(&mut c), "last\n");
    say(&mut c, "least 3\nabc");
    c.shutdown(Shutdown::Write).unwrap();
    server.closed(1);
    let log = server.service.log.lock().unwrap().clone();
    assert!(log.contains(&"least 3 of 3".to_owned()), "{log:?}");
}

#[test]
fn at_least_saves_calls_and_counts_from_the_first_unconsumed_byte() {
    let server = Server::start(1, false);
    let mut c = server.connect();
    say(&mut c, "least 60000\n");
    for _ in 0..60 {
        say(&mut c, &"a".repeat(1000));
    }
    assert_eq!(line(&mut c), (60_000 * u64::from(b'a')).to_string());
    let log = server.service.log.lock().unwrap().clone();
    assert_eq!(log.last().unwrap(), "least 60000 of 60000");
    assert!(log.len() <= 2, "called too early: {log:?}");
}

#[test]
fn a_timer_fires_once_and_not_early() {
    let server = Server::start(1, false);
    let mut c = server.connect();
    say(&mut c, "tick\n");
    assert_eq!(line(&mut c), "tick");
    say(&mut c, "tick\ntick\nclose end\n");
    assert_eq!(all(&mut c), "end\n");
}

#[test]
fn a_paused_connection_is_resumed_from_any_thread() {
    let server = Server::start(2, false);
    for i in 0..16 {
        let (mut sleeper, mut waker) = (server.connect(), server.connect());
        say(&mut sleeper, &format!("park {i}\necho awake {i}\n"));
        while !server.service.parked.lock().unwrap().contains_key(&i.to_string()) {
            std::thread::yield_now();
        }
        say(&mut waker, &format!("wake {i}\necho done\n"));
        assert_eq!(line(&mut waker), "done");
        assert_eq!(line(&mut sleeper), format!("awake {i}"));
    }
}

#[test]
fn messages_reach_a_connection_even_while_it_pauses() {
    let server = Server::start(2, false);
    let mut c = server.connect();
    say(&mut c, "park me\necho awake\n");
    let me = loop {
        match server.service.parked.lock().unwrap().get("me") {
            Some(me) => break *me,
            None => std::thread::yield_now(),
        }
    };
    server.mailbox.post(me, "one\n".into());
    assert_eq!(line(&mut c), "one");
    assert_eq!(server.service.calls_of_echo(), 0, "a message is no resume");
    server.mailbox.resume(me);
    assert_eq!(line(&mut c), "awake");
    server.mailbox.post(me, "last\n".into());
    assert_eq!(all(&mut c), "last\n");
    server.mailbox.post(me, "too late\n".into());
}

#[test]
fn a_handler_opens_connections_that_succeed_or_fail() {
    let (caller, callee) = (Server::start(1, false), Server::start(1, false));
    let mut c = caller.connect();
    say(&mut c, &format!("call {} hello\necho sent\n", callee.addr.port()));
    assert_eq!(line(&mut c), "sent");
    caller.closed(1);
    // A port that was free a moment ago.
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    say(&mut c, &format!("call {nobody} hello\n"));
    assert_eq!(caller.closed(2)[1], Dead::Refused);
    let log = caller.service.log.lock().unwrap().clone();
    assert_eq!(log[1], "answer hello");
    assert!(log[3].ends_with("Refused"), "{log:?}");
}

#[test]
fn connections_dialled_at_start_are_opened_once() {
    let callee = Server::start(1, false);
    let caller = Server::of(Lines { first: Mutex::new(Some(callee.addr)), ..Lines::default() }, 2, false);
    assert_eq!(caller.closed(1), [Dead::Local]);
    let log = caller.service.log.lock().unwrap().clone();
    assert_eq!(log[0], "answer at last");
    drop(caller);
    assert_eq!(callee.stop().total().accepted, 1);
}

#[test]
fn a_refused_connection_is_reset() {
    let server = Server::start(1, false);
    server.service.refuse.store(true, SeqCst);
    let mut c = server.connect();
    assert_eq!(c.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let report = server.stop().total();
    assert_eq!((report.accepted, report.rejected, report.closed), (0, 1, 0));
}

#[test]
fn datagrams_are_answered_one_by_one() {
    let server = Server::start(1, true);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    udp.connect(server.addr).unwrap();
    let mut buf = [0; 64];
    for text in ["panic", "one", "two"] {
        udp.send(text.as_bytes()).unwrap();
    }
    for text in [b"one!", b"two!"] {
        let n = udp.recv(&mut buf).unwrap();
        assert_eq!(&buf[..n], text);
    }
}

#[test]
fn at_the_end_every_connection_comes_back() {
    let server = Server::start(2, false);
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for c in &mut streams {
        say(c, "echo x\n");
        assert_eq!(line(c), "x");
    }
    let service = server.service.clone();
    let report = server.stop();
    assert_eq!((report.threads.len(), report.total().closed), (2, 20));
    assert_eq!(service.closed.lock().unwrap().len(), 20);
}

#[test]
fn a_taken_port_is_told_apart() {
    let server = Server::start(1, false);
    let config = Config::new(server.addr);
    let error = crate::serve(Arc::new(Lines::default()), &config).unwrap_err().to_string();
    assert!(error.contains("another server has that port"), "{error}");
    assert!(crate::serve(Arc::new(Lines::default()), &Config { threads: 0, ..config }).is_err());
}
