//! What is harder with several threads: order, exclusion, handlers that take long, ends that cross other events.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use units::{CoreId, Nanos};
use zygix::{ConnRef, Cx, Dead, Next, Peer, Received, Reply, Service};

use super::{Server, all, in_modes, line, say};

/// A service of small commands, one line each; a number in front numbers a connection's commands:
///
/// `N echo`, `meet NAME` (waits inside of the handler until somebody says `come NAME`), `come NAME`, `tick` (a line after
/// 1 ms), `me NAME` (to be found by messages), `pause`, `abort`, `close`.
#[derive(Default)]
struct Crowd {
    come: Mutex<BTreeSet<String>>,
    came: Condvar,
    known: Mutex<std::collections::BTreeMap<String, ConnRef>>,
    /// Handlers that have begun to wait.
    waiting: AtomicU64,
    /// Connections whose state came back.
    closed: AtomicU64,
    /// As many as there are states of connections, and one.
    alive: Arc<()>,
}

struct Person {
    /// Commands so far.
    count: u64,
    /// A handler is at it.
    inside: Arc<AtomicBool>,
    _alive: Arc<()>,
}

impl Crowd {
    fn come(&self, name: &str) {
        self.come.lock().unwrap().insert(name.to_owned());
        self.came.notify_all();
    }

    fn wait_for(&self, name: &str) {
        self.waiting.fetch_add(1, SeqCst);
        let mut come = self.come.lock().unwrap();
        while !come.contains(name) {
            come = self.came.wait(come).unwrap();
        }
    }

    fn until_waiting(&self, n: u64) {
        while self.waiting.load(SeqCst) < n {
            thread::yield_now();
        }
    }

    fn find(&self, name: &str) -> ConnRef {
        loop {
            if let Some(&who) = self.known.lock().unwrap().get(name) {
                return who;
            }
            thread::yield_now();
        }
    }

    fn command(&self, cx: &mut Cx<'_, Self>, conn: &mut Person, line: &str, tx: &mut Reply<'_>) -> Next {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "meet" => self.wait_for(rest),
            "come" => self.come(rest),
            "me" => drop(self.known.lock().unwrap().insert(rest.to_owned(), cx.me())),
            "pause" => return Next::Pause,
            "abort" => return Next::Abort,
            "close" => return Next::Close,
            "tick" => {
                cx.set_timer(Nanos::from_millis(1));
                return Next::Read;
            }
            number => {
                assert_eq!(number.parse(), Ok(conn.count), "out of order");
                conn.count += 1;
                // Others get a chance to interfere.
                for _ in 0..conn.count % 4 {
                    thread::yield_now();
                }
            }
        }
        tx.write(line.as_bytes());
        tx.write(b"\n");
        Next::Read
    }
}

impl Service for Crowd {
    type Conn = Person;
    type Core = CoreId;
    type Msg = String;

    fn core(&self, id: CoreId) -> CoreId {
        id
    }

    fn accept(&self, _: &mut CoreId, _: &Peer) -> Option<Person> {
        Some(Person { count: 0, inside: Arc::default(), _alive: self.alive.clone() })
    }

    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Person, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        let inside = conn.inside.clone();
        assert!(!inside.swap(true, SeqCst), "two handlers at once");
        let mut next = Next::Read;
        let head = rx.peek(rx.len().min(65536)).unwrap_or(&[]);
        let mut at = 0;
        while let Some(end) = head[at..].iter().position(|&b| b == b'\n') {
            let line = std::str::from_utf8(&head[at..at + end]).unwrap();
            at += end + 1;
            next = self.command(cx, conn, line, tx);
            if next != Next::Read {
                break;
            }
        }
        rx.consume(at);
        assert!(inside.swap(false, SeqCst), "two handlers at once");
        if next == Next::Read && rx.fin() { Next::Close } else { next }
    }

    fn timer(&self, _: &mut Cx<'_, Self>, conn: &mut Person, tx: &mut Reply<'_>) -> Next {
        assert!(!conn.inside.load(SeqCst), "two handlers at once");
        tx.write(b"tick\n");
        Next::Read
    }

    fn message(&self, _: &mut Cx<'_, Self>, conn: &mut Person, msg: String, tx: &mut Reply<'_>) -> Next {
        assert!(!conn.inside.load(SeqCst), "two handlers at once");
        tx.write(msg.as_bytes());
        Next::Read
    }

    fn closed(&self, _: &mut CoreId, _: Person, _: Dead) {
        self.closed.fetch_add(1, SeqCst);
    }

    fn datagram(&self, _: &mut CoreId, _: &Peer, data: &[u8], tx: &mut Reply<'_>) {
        tx.write(data);
    }
}

/// A source of numbers that look random, the same at each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

in_modes! { [partitioned, floating, exclusive]
    /// Requests cut anywhere, many under way, on four threads: the handler sees them in order, and so does the client.
    fn pipelined_requests_are_answered_in_order(mode) {
        const REQUESTS: u64 = 2000;
        let server = Server::of(mode, Crowd::default(), 4, false);
        thread::scope(|scope| {
            for client in 0..8 {
                let mut stream = server.connect();
                let reader = BufReader::new(stream.try_clone().unwrap());
                scope.spawn(move || {
                    let text: String = (0..REQUESTS).map(|i| format!("{i} echo\n")).collect();
                    let (mut rest, mut dice) = (text.as_bytes(), Dice(client));
                    while !rest.is_empty() {
                        let n = (1 + dice.roll(64) as usize).min(rest.len());
                        stream.write_all(&rest[..n]).unwrap();
                        rest = &rest[n..];
                    }
                    stream.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    let mut lines = reader.lines();
                    for i in 0..REQUESTS {
                        assert_eq!(lines.next().unwrap().unwrap(), format!("{i} echo"));
                    }
                    assert!(lines.next().is_none());
                });
            }
        });
        let report = server.stop().total();
        assert_eq!((report.accepted, report.closed, report.panics), (8, 8, 0));
    }

    /// Messages from several threads reach busy connections, each sender's in order.
    fn no_message_is_lost_or_overtaken(mode) {
        const SENDERS: u64 = 3;
        const EACH: u64 = 400;
        let server = Server::of(mode, Crowd::default(), 4, false);
        let mut clients: Vec<_> = (0..6).map(|_| server.connect()).collect();
        let who: Vec<ConnRef> = clients.iter_mut().enumerate().map(|(i, c)| {
            say(c, &format!("me {i}\n"));
            assert_eq!(line(c), format!("me {i}"));
            server.service.find(&i.to_string())
        }).collect();
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (mailbox, who) = (server.mailbox.clone(), &who);
                scope.spawn(move || {
                    for i in 0..EACH {
                        who.iter().for_each(|&to| mailbox.post(to, format!("from {sender} {i}\n")));
                    }
                });
            }
            for mut client in clients {
                scope.spawn(move || {
                    let (mut next, mut echoed) = ([0; SENDERS as usize], 0);
                    let requests: String = (0..50).map(|i| format!("{i} echo\n")).collect();
                    say(&mut client, &requests);
                    let mut lines = BufReader::new(client).lines();
                    for _ in 0..SENDERS * EACH + 50 {
                        let text = lines.next().unwrap().unwrap();
                        let words: Vec<&str> = text.split(' ').collect();
                        match words[..] {
                            ["from", sender, i] => {
                                let next = &mut next[sender.parse::<usize>().unwrap()];
                                assert_eq!(i.parse(), Ok(*next));
                                *next += 1;
                            }
                            _ => {
                                assert_eq!(text, format!("{echoed} echo"));
                                echoed += 1;
                            }
                        }
                    }
                });
            }
        });
    }

    /// Deadlines of many connections, all within a few milliseconds: each is kept, though none is early (see `promises`).
    fn no_deadline_is_lost(mode) {
        let server = Server::of(mode, Crowd::default(), 3, false);
        let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for _ in 0..20 {
            clients.iter_mut().for_each(|c| say(c, "tick\n"));
            clients.iter_mut().for_each(|c| assert_eq!(line(c), "tick"));
        }
    }

    /// A pause and its resume from elsewhere, over and over, with requests that arrive meanwhile.
    fn no_resume_is_lost(mode) {
        let server = Server::of(mode, Crowd::default(), 3, false);
        thread::scope(|scope| {
            for i in 0..6 {
                let (mut client, mailbox, service) = (server.connect(), server.mailbox.clone(), &server.service);
                scope.spawn(move || {
                    let name = i.to_string();
                    say(&mut client, &format!("me {name}\n"));
                    line(&mut client);
                    let me = service.find(&name);
                    for n in 0..300 {
                        say(&mut client, &format!("pause\n{n} echo\n"));
                        // A resume before the pause says nothing: it is repeated until the answer is there.
                        client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                        let mut got = Vec::new();
                        while !got.ends_with(b"\n") {
                            mailbox.resume(me);
                            let mut buf = [0; 64];
                            match client.read(&mut buf) {
                                Ok(n) => got.extend_from_slice(&buf[..n]),
                                Err(e) => assert!(matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{e}"),
                            }
                        }
                        assert_eq!(String::from_utf8(got).unwrap(), format!("{n} echo\n"));
                    }
                });
            }
        });
    }

    /// Ends of every kind, from both sides, in the middle of everything: each connection ends once, and nothing of it stays.
    fn connections_that_come_and_go_leave_nothing(mode) {
        const EACH: u64 = 500;
        let server = Server::of(mode, Crowd::default(), 4, false);
        thread::scope(|scope| {
            for client in 0..4 {
                let server = &server;
                scope.spawn(move || {
                    let mut dice = Dice(client);
                    for _ in 0..EACH {
                        let mut stream = server.connect();
                        let last = ["0 echo\n1 echo\n", "tick\n", "abort\n", "close\n", "pause\n", ""][dice.roll(6) as usize];
                        // It may have gone away already.
                        let _ = stream.write_all(last.as_bytes());
                        match dice.roll(4) {
                            0 => sys::socket::abort(stream),
                            1 => {
                                let _ = stream.shutdown(Shutdown::Write);
                                if last != "pause\n" {
                                    let _ = stream.read_to_end(&mut Vec::new());
                                }
                            }
                            2 if last.contains("echo") => {
                                let _ = stream.read(&mut [0; 1]);
                            }
                            _ => drop(stream),
                        }
                    }
                });
            }
        });
        let service = server.service.clone();
        let report = server.stop().total();
        assert_eq!((report.accepted, report.closed, report.panics), (4 * EACH, 4 * EACH, 0));
        assert_eq!(service.closed.load(SeqCst), 4 * EACH);
        // Ours is the other one.
        assert_eq!(Arc::strong_count(&service.alive), 1);
    }

    /// Thousands of short lives, many at a time.
    fn thousands_of_connections_are_served_in_turn(mode) {
        let server = Server::of(mode, Crowd::default(), 4, false);
        for _ in 0..10 {
            let mut streams: Vec<_> = (0..300).map(|_| server.connect()).collect();
            streams.iter_mut().for_each(|c| say(c, "0 echo\nclose\n"));
            streams.iter_mut().for_each(|c| assert_eq!(all(c), "0 echo\n"));
        }
        let service = server.service.clone();
        let report = server.stop().total();
        assert_eq!((report.accepted, report.closed), (3000, 3000));
        assert_eq!(Arc::strong_count(&service.alive), 1);
    }
}

in_modes! { [floating, exclusive]
    /// All threads but one are inside of handlers that wait for what only others can bring: the last thread does everything.
    fn a_handler_that_takes_long_holds_up_its_own_connection_only(mode) {
        let server = Server::of(mode, Crowd::default(), 3, true);
        let mut slow: Vec<_> = (0..2).map(|_| server.connect()).collect();
        let mut before: Vec<_> = (0..20).map(|_| server.connect()).collect();
        say(&mut before[0], "me first\n");
        assert_eq!(line(&mut before[0]), "me first");
        for (i, c) in slow.iter_mut().enumerate() {
            say(c, &format!("me {i}\nmeet end\n0 echo\n"));
            server.service.until_waiting(i as u64 + 1);
        }
        // Known ones, of which some deadlines are set by now.
        for c in &mut before {
            say(c, "0 echo\ntick\n");
        }
        for c in &mut before {
            assert_eq!((line(c), line(c)), ("0 echo".into(), "tick".into()));
        }
        // New ones, messages, datagrams.
        let mut after: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for c in &mut after {
            say(c, "0 echo\n");
            assert_eq!(line(c), "0 echo");
        }
        server.mailbox.post(server.service.find("first"), "a message\n".into());
        assert_eq!(line(&mut before[0]), "a message");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        udp.send_to(b"datagram", server.addr).unwrap();
        assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 8);
        // What comes for the slow ones meanwhile waits until they are done, in order.
        for (i, c) in slow.iter_mut().enumerate() {
            server.mailbox.post(server.service.find(&i.to_string()), "a message\n".into());
            say(c, "1 echo\n");
        }
        say(&mut after[0], "come end\n");
        assert_eq!(line(&mut after[0]), "come end");
        for (i, c) in slow.iter_mut().enumerate() {
            assert_eq!((line(c), line(c), line(c)), (format!("me {i}"), "meet end".into(), "0 echo".into()));
            let mut rest = [line(c), line(c)];
            rest.sort();
            assert_eq!(rest, ["1 echo", "a message"]);
        }
    }

    /// The handler of one connection waits for that of another which arrived behind it: with as many threads as
    /// connections, each has one.
    fn as_many_handlers_run_at_once_as_there_are_threads(mode) {
        let server = Server::of(mode, Crowd::default(), 4, false);
        for round in 0..50 {
            let mut streams: Vec<_> = (0..4).map(|_| server.connect()).collect();
            for (i, c) in streams.iter_mut().enumerate() {
                let wait = if i < 3 { format!("meet {round}-{}\n", i + 1) } else { String::new() };
                say(c, &format!("{wait}come {round}-{i}\n"));
            }
            for (i, c) in streams.iter_mut().enumerate().rev() {
                if i < 3 {
                    assert_eq!(line(c), format!("meet {round}-{}", i + 1));
                }
                assert_eq!(line(c), format!("come {round}-{i}"));
            }
        }
    }

    /// The end is asked for while handlers run and others wait for their connections.
    fn the_end_waits_for_handlers_that_run(mode) {
        let server = Server::of(mode, Crowd::default(), 3, false);
        let mut streams: Vec<_> = (0..10).map(|_| server.connect()).collect();
        for c in &mut streams[1..] {
            say(c, "0 echo\n");
            assert_eq!(line(c), "0 echo");
        }
        say(&mut streams[0], "meet end\n");
        server.service.until_waiting(1);
        let service = server.service.clone();
        let late = service.clone();
        server.quit.store(true, SeqCst);
        // Those that nobody works on end without waiting for the one that is worked on.
        let releaser = thread::spawn(move || {
            while late.closed.load(SeqCst) == 0 {
                thread::yield_now();
            }
            late.come("end");
        });
        let report = server.stop().total();
        releaser.join().unwrap();
        assert_eq!((report.closed, service.closed.load(SeqCst)), (10, 10));
        assert_eq!(all(&mut streams.swap_remove(1)), "");
    }
}
