//! The promises of `Service`, held to over loopback sockets.

mod promises;
mod races;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use units::{CoreId, Nanos};
use zygix::{ConnRef, Cx, Dead, Next, Peer, Received, Reply, Service};

use crate::{Config, Mailbox, Mode, Report, Sharing, serve_ready};

/// Makes of each function of a [`Mode`] a test for each of the named modes: `name::partitioned`, `name::floating` ...
macro_rules! in_modes {
    ($modes:tt $($(#[$attribute:meta])* fn $name:ident($arg:ident) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "not every test uses what its file imports")]
            use super::*;
            fn on($arg: $crate::Mode) $body
            $crate::tests::in_modes! { @ $modes }
        }
    )+};
    (@ [$($label:ident),+]) => {$(
        #[test]
        fn $label() {
            on($crate::tests::mode(stringify!($label)));
        }
    )+};
}
pub(crate) use in_modes;

fn mode(name: &str) -> Mode {
    match name {
        "partitioned" => Mode::Partitioned,
        "floating" => Mode::Floating(Sharing::Shared),
        "exclusive" => Mode::Floating(Sharing::Exclusive),
        _ => panic!("no mode is called {name}"),
    }
}

/// A service of small commands, one line each:
///
/// `echo TEXT`, `big N` (N patterned bytes), `close TEXT`, `abort`, `panic`, `half TEXT`, `least N` (then N bytes),
/// `linger MS`, `cork on`, `nodelay off`, `patience MS` (options of the connection), `tick` (a line after 3 ms), `park NAME` / `wake NAME` (pause, and resume another connection), `call PORT TEXT`.
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
            "linger" => cx.set_linger(Some(Nanos::from_millis(rest.parse().unwrap()))),
            "cork" => cx.set_cork(rest == "on"),
            "nodelay" => cx.set_nodelay(rest == "on"),
            "patience" => cx.set_user_timeout(Some(Nanos::from_millis(rest.parse().unwrap()))),
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
            // An echo is no longer than its line. Where there is no room for it now, the line is shown again.
            if !tx.reserve(end + 1) {
                return Next::Read;
            }
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

/// A server on a loopback port, which ends with its value.
struct Server<S: Service = Lines> {
    addr: SocketAddr,
    service: Arc<S>,
    mailbox: Mailbox<S::Msg>,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Server {
    fn start(mode: Mode, threads: usize, datagrams: bool) -> Server {
        Server::of(mode, Lines::default(), threads, datagrams)
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

impl<S: Service> Server<S> {
    fn of(mode: Mode, service: S, threads: usize, datagrams: bool) -> Server<S> {
        let service = Arc::new(service);
        let quit = Arc::new(AtomicBool::new(false));
        let (tx, rx) = channel();
        let (s, q) = (service.clone(), quit.clone());
        let thread = std::thread::spawn(move || {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let config = match mode {
                Mode::Partitioned => Config { batch: 4, ..Config::new(any) },
                Mode::Floating(sharing) => Config::floating(any, sharing),
            };
            let config = Config { threads, datagrams, ..config };
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
}

impl<S: Service> Drop for Server<S> {
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
