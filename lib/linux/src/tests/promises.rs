//! What holds in every mode.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use units::Nanos;
use zygix::Dead;

use super::{Lines, Server, all, in_modes, line, pattern, say};
use crate::Config;

in_modes! { [partitioned, floating, exclusive]
    fn commands_arrive_whole_however_they_are_cut(mode) {
        let server = Server::start(mode, 1, false);
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

    fn a_panic_resets_its_own_connection_only(mode) {
        let server = Server::start(mode, 1, false);
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

    fn a_reply_larger_than_all_buffers_arrives_whole(mode) {
        const N: usize = 24 << 20;
        let server = Server::start(mode, 1, false);
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

    fn a_peer_that_never_reads_is_left_unread_and_holds_up_nobody(mode) {
        let server = Server::start(mode, 1, false);
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

    fn close_sends_first_abort_does_not(mode) {
        let server = Server::start(mode, 1, false);
        let mut c = server.connect();
        say(&mut c, "close bye\necho never\n");
        assert_eq!(all(&mut c), "bye\n");
        let mut c = server.connect();
        say(&mut c, "echo lost\nabort\n");
        assert_eq!(c.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.closed(2), [Dead::Local, Dead::Local]);
    }

    fn options_change_when_segments_go_and_not_what_arrives(mode) {
        let server = Server::start(mode, 1, false);
        let mut c = server.connect();
        say(&mut c, "patience 5000\nnodelay off\ncork on\necho one\n");
        say(&mut c, "echo two\n");
        say(&mut c, "cork off\nnodelay on\necho three\n");
        assert_eq!([line(&mut c), line(&mut c), line(&mut c)], ["one", "two", "three"]);
        say(&mut c, "linger 2000\nclose bye\n");
        assert_eq!(all(&mut c), "bye\n");
        assert_eq!(server.closed(1), [Dead::Local]);
    }

    fn a_close_that_does_not_linger_resets(mode) {
        let server = Server::start(mode, 1, false);
        let mut c = server.connect();
        say(&mut c, "linger 0\nclose bye\n");
        assert_eq!(c.read_to_end(&mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.closed(1), [Dead::Local]);
    }

    fn after_a_half_close_receiving_goes_on(mode) {
        let server = Server::start(mode, 1, false);
        let mut c = server.connect();
        say(&mut c, "half last\n");
        assert_eq!(all(&mut c), "last\n");
        say(&mut c, "least 3\nabc");
        c.shutdown(Shutdown::Write).unwrap();
        server.closed(1);
        let log = server.service.log.lock().unwrap().clone();
        assert!(log.contains(&"least 3 of 3".to_owned()), "{log:?}");
    }

    fn at_least_saves_calls_and_counts_from_the_first_unconsumed_byte(mode) {
        let server = Server::start(mode, 1, false);
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

    fn a_timer_fires_once_and_not_early(mode) {
        let server = Server::start(mode, 1, false);
        let mut c = server.connect();
        say(&mut c, "tick\n");
        assert_eq!(line(&mut c), "tick");
        say(&mut c, "tick\ntick\nclose end\n");
        assert_eq!(all(&mut c), "end\n");
    }

    fn a_paused_connection_is_resumed_from_any_thread(mode) {
        let server = Server::start(mode, 2, false);
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

    fn messages_reach_a_connection_even_while_it_pauses(mode) {
        let server = Server::start(mode, 2, false);
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

    fn a_handler_opens_connections_that_succeed_or_fail(mode) {
        let (caller, callee) = (Server::start(mode, 1, false), Server::start(mode, 1, false));
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

    fn connections_dialled_at_start_are_opened_once(mode) {
        let callee = Server::start(mode, 1, false);
        let caller = Server::of(mode, Lines { first: Mutex::new(Some(callee.addr)), ..Lines::default() }, 2, false);
        assert_eq!(caller.closed(1), [Dead::Local]);
        let log = caller.service.log.lock().unwrap().clone();
        assert_eq!(log[0], "answer at last");
        drop(caller);
        assert_eq!(callee.stop().total().accepted, 1);
    }

    fn a_refused_connection_is_reset(mode) {
        let server = Server::start(mode, 1, false);
        server.service.refuse.store(true, SeqCst);
        let mut c = server.connect();
        assert_eq!(c.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let report = server.stop().total();
        assert_eq!((report.accepted, report.rejected, report.closed), (0, 1, 0));
    }

    fn datagrams_are_answered_one_by_one(mode) {
        let server = Server::start(mode, 1, true);
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

    fn at_the_end_every_connection_comes_back(mode) {
        let server = Server::start(mode, 2, false);
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

    fn a_taken_port_is_told_apart(mode) {
        let server = Server::start(mode, 1, false);
        let config = Config::new(server.addr);
        let error = crate::serve(Arc::new(Lines::default()), &config).unwrap_err().to_string();
        assert!(error.contains("another server has that port"), "{error}");
        assert!(crate::serve(Arc::new(Lines::default()), &Config { threads: 0, ..config }).is_err());
    }
}
