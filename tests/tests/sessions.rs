//! Sessions by hand at `kv`: `nc` in order, half commands, garbage, floods; clients that are silent, and clients that
//! do not read. Whatever one of them does, the others are served.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use tests::{App, Rig, Serve, Text, finish, need, on_stacks, wait_for};

/// A well-behaved client that works until it is told to stop, and counts its requests.
fn regular(mut text: Text, name: &str, stop: &AtomicBool, served: &AtomicU64) {
    let mut round = 0_u64;
    while !stop.load(Relaxed) {
        let (key, value) = (format!("{name}-{}", round % 16), format!("value {round}"));
        text.set(&key, value.as_bytes());
        assert_eq!(text.get(&key).as_deref(), Some(value.as_bytes()));
        served.fetch_add(2, Relaxed);
        round += 1;
    }
}

/// Runs `nuisance` while two regular clients work; both have to be served before, during and after it.
fn while_others_are_served(rig: &Rig, nuisance: impl FnOnce(&dyn Fn())) {
    let (stop, served) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    thread::scope(|scope| {
        for (i, served) in served.iter().enumerate() {
            let (text, stop) = (rig.text(), &stop);
            scope.spawn(move || {
                let _stops = StopOnPanic(stop);
                regular(text, &format!("regular-{i}"), stop, served);
            });
        }
        // Both have got something more out of the server.
        let progress = || {
            for (i, served) in served.iter().enumerate() {
                let before = served.load(Relaxed);
                wait_for(&format!("service of client {i}"), || {
                    assert!(!stop.load(Relaxed), "a regular client failed");
                    (served.load(Relaxed) > before + 20).then_some(())
                });
            }
        };
        let stops = StopOnPanic(&stop);
        progress();
        nuisance(&progress);
        progress();
        stop.store(true, Relaxed);
        drop(stops);
    });
}

/// Lets the other threads of a scope end when one panics.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}

fn kv(stack: tests::Stack) -> Serve {
    Serve::new(App::Kv, stack).threads(2)
}

/// Bytes that are different each time and the same each run.
fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

on_stacks! {
    /// A session as in memcached's protocol.txt, with pipelining, through `nc`.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn nc_in_order(stack) {
        let nc = need!(need::program(&["nc"], "netcat-openbsd"));
        let rig = need!(Rig::start(&kv(stack)));
        let (host, port) = (rig.addr().ip().to_string(), rig.addr().port().to_string());
        let session = "version\r\nset a 5 0 3\r\nabc\r\nget a b\r\nappend a 0 0 1\r\nd\r\ngets a\r\nincr a 1\r\n\
                       set n 0 0 1\r\n9\r\nincr n 2\r\nmg a v f\r\nmn\r\ndelete a\r\nget a\r\nnonsense\r\n\
                       set quiet 0 0 1 noreply\r\nq\r\nget quiet\r\nverbosity 0\r\nflush_all\r\nget quiet\r\nquit\r\n";
        let out = rig.run_with(&nc, &["-w", "60", &host, &port], session.as_bytes()).ok();
        let mut lines: Vec<&str> = out.split("\r\n").collect();
        assert!(lines.remove(0).starts_with("VERSION 1.6"), "{out}");
        let gets = lines.iter().position(|l| l.starts_with("VALUE a 5 4 ")).expect("gets tells a token");
        lines[gets] = "VALUE a 5 4 TOKEN";
        let expected = [
            "STORED", "VALUE a 5 3", "abc", "END", "STORED", "VALUE a 5 4 TOKEN", "abcd", "END",
            "CLIENT_ERROR cannot increment or decrement non-numeric value", "STORED", "11", "VA 4 f5", "abcd", "MN",
            "DELETED", "END", "ERROR", "VALUE quiet 0 1", "q", "END", "OK", "OK", "END", "",
        ];
        assert_eq!(lines, expected);

        // `nc -N` ends its half of the connection after the last byte: what was asked is answered all the same.
        let out = rig.run_with(&nc, &["-N", "-w", "60", &host, &port], b"stats\r\nversion\r\n").ok();
        assert!(out.starts_with("STAT pid ") && out.contains("\r\nEND\r\nVERSION "), "{out}");
        rig.still_serves_kv();
    }

    /// Ten thousand commands sent before the first answer is read.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn pipelining(stack) {
        let rig = need!(Rig::start(&kv(stack)));
        let mut text = rig.text();
        let count = 10_000;
        let commands: String =
            (0..count).map(|i| format!("set p{} 0 0 5\r\n{i:05}\r\nget p{}\r\n", i % 100, i % 100)).collect();
        let mut writer = text.stream().try_clone().expect("a descriptor is free");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(commands.as_bytes()).expect("the server reads"));
            for i in 0..count {
                let answer: Vec<String> = (0..4).map(|_| text.line()).collect();
                assert_eq!(answer, ["STORED", &format!("VALUE p{} 0 5", i % 100), &format!("{i:05}"), "END"]);
            }
        });
        rig.still_serves_kv();
    }

    /// Commands cut anywhere, byte by byte, then the connection ends in every way there is.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn half_commands(stack) {
        let rig = need!(Rig::start(&kv(stack)));
        let whole = b"set half 0 0 10\r\n0123456789\r\nget half\r\n";
        let binary_get: &[u8] = b"\x80\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01\0\0\0\0\0\0\0\0half";
        for session in [whole, binary_get] {
            for cut in 1..session.len() {
                // An orderly end after half a command.
                let mut text = rig.text();
                text.send(&session[..cut]);
                let rest = text.finish();
                assert!(!rest.starts_with(b"ERROR"), "cut at {cut}: {}", rest.escape_ascii());
                // A reset: the last descriptor closes while the answer is unread, or nothing was ever answered.
                let mut stream = rig.connect();
                stream.write_all(&session[..cut]).expect("the server reads");
            }
        }
        // The same bytes one by one are a whole command.
        let mut text = rig.text();
        for byte in whole {
            text.send([*byte]);
        }
        assert_eq!(text.line(), "STORED");
        assert_eq!(text.lines_to("END"), ["VALUE half 0 10", "0123456789"]);
        rig.still_serves_kv();
    }

    /// `nc </dev/zero` and other floods of nonsense: refused in the protocol's own words or cut off, never in the way.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn floods(stack) {
        let nc = need!(need::program(&["nc"], "netcat-openbsd"));
        let rig = need!(Rig::start(&kv(stack)));
        while_others_are_served(&rig, |progress| {
            let target = format!("{} {}", rig.addr().ip(), rig.addr().port());
            let zeros = format!("head -c 200000000 /dev/zero | {} -N -w 60 {target} >/dev/null", nc.display());
            let mut flood = Command::new("sh");
            flood.args(["-c", &zeros]).stdout(Stdio::null()).stderr(Stdio::null());
            let flood = rig.namespace.spawn(&mut flood);
            progress();
            // How it ends for the flooder is the server's choice; that it ends is not.
            finish("nc with zeros", flood);
            progress();
        });

        // A line without end is refused after 2 KB or so, with an error and the end of the connection.
        let mut text = rig.text();
        text.send([b'x'; 4000]);
        let line = text.line();
        assert!(line.starts_with("ERROR") || line.starts_with("CLIENT_ERROR"), "{line:?}");
        rig.still_serves_kv();
    }

    /// Binary headers and random bytes of every kind.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn garbage(stack) {
        let rig = need!(Rig::start(&kv(stack)));
        let mut next = noise(0x5eed);
        while_others_are_served(&rig, |_| {
            for round in 0..300 {
                let mut bytes: Vec<u8> = (0..next() % 3000).map(|_| next() as u8).collect();
                if let (0, [magic, opcode, ..]) = (round % 2, &mut bytes[..]) {
                    (*magic, *opcode) = (0x80, *opcode % 0x30);
                }
                let mut stream = rig.connect();
                // The server may have seen enough before it has seen all.
                let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        // A key and a value that are too long, with the protocol's own errors, and the connection still in step.
        let mut text = rig.text();
        assert!(text.ask(&format!("get {}", "k".repeat(251))).starts_with("CLIENT_ERROR"));
        text.send("set big 0 0 2000000\r\n");
        text.send(vec![b'b'; 2_000_000]);
        text.send("\r\n");
        assert_eq!(text.line(), "SERVER_ERROR object too large for cache");
        assert!(text.ask("set k 0 0 -1").starts_with("CLIENT_ERROR"));
        assert!(text.ask("version").starts_with("VERSION "));
        rig.still_serves_kv();
    }

    /// 10 000 connections that say nothing: others are served, nothing is lost, and memory stays bounded.
    [zygix = Zygix, xdp = Xdp, linux = Linux, floating = Floating]
    fn silent_connections(stack) {
        const SILENT: usize = 10_000;
        let _turn = need!(need::connections(SILENT));
        let rig = need!(Rig::start(&kv(stack).with("-c 12000")));
        rig.still_serves_kv();
        let before = rig.server.resident();
        let mut silent: Vec<TcpStream> = Vec::with_capacity(SILENT);
        while_others_are_served(&rig, |progress| {
            rig.namespace.inside(|| {
                silent.extend((0..SILENT).map(|i| {
                    TcpStream::connect(rig.addr()).unwrap_or_else(|e| panic!("connection {i} is refused: {e}"))
                }));
            });
            progress();
            let open: usize = rig.text().stats()["curr_connections"].parse().expect("a number");
            assert!(open > SILENT, "{open} connections are open");
        });
        let each = rig.server.resident().saturating_sub(before) / SILENT;
        println!("{each} bytes of resident memory per silent connection");
        assert!(each < 8192, "{each} bytes of resident memory per silent connection");

        // They are as alive as any other.
        for i in [0, 1, SILENT / 2, SILENT - 1] {
            let mut text = Text::new(silent[i].try_clone().expect("a descriptor is free"));
            assert!(text.ask("version").starts_with("VERSION "));
        }
        drop(silent);
        wait_for("the end of all connections", || (rig.text().stats()["curr_connections"] == "1").then_some(()));
        rig.still_serves_kv();
    }

    /// More connections than `-c` allows: told so, and the limit holds only while they last.
    [zygix = Zygix, xdp = Xdp, linux = Linux, floating = Floating]
    fn the_connection_limit(stack) {
        let rig = need!(Rig::start(&kv(stack).with("-c 20")));
        let mut open: Vec<Text> = (0..20).map(|_| rig.text()).collect();
        for text in &mut open {
            assert!(text.ask("version").starts_with("VERSION "));
        }
        let told = |mut stream: TcpStream| {
            let mut told = String::new();
            stream.read_to_string(&mut told).map(|_| told).map_err(|e| e.kind())
        };
        for _ in 0..3 {
            assert_eq!(told(rig.connect()).as_deref(), Ok("ERROR Too many open connections\r\n"));
        }
        assert_eq!(open[0].stats()["rejected_connections"], "3");
        // Of very many at once, some may be reset instead; none is let in.
        let crowd: Vec<TcpStream> = (0..200).filter_map(|_| rig.try_connect().ok()).collect();
        for stream in crowd {
            let told = told(stream);
            assert!(matches!(told.as_deref(), Ok("ERROR Too many open connections\r\n") | Err(ErrorKind::ConnectionReset)), "{told:?}");
        }
        assert!(open[0].ask("version").starts_with("VERSION "));
        drop(open);
        wait_for("room for connections", || {
            let mut stream = rig.try_connect().ok()?;
            stream.write_all(b"version\r\n").ok()?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).is_ok_and(|()| &answer == b"VERSION").then_some(())
        });
        rig.is_well();
    }

    /// Clients that ask for much and read nothing: their answers wait in bounded memory, in nobody's way.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn clients_that_never_read(stack) {
        let rig = need!(Rig::start(&kv(stack)));
        let value: Vec<u8> = (0..1_000_000).map(|i| (i % 251) as u8).collect();
        rig.text().set("large", &value);
        let before = rig.server.resident();
        let requests = b"get large\r\n".repeat(1000);
        let mut deaf: Vec<TcpStream> = (0..20).map(|_| rig.connect()).collect();
        while_others_are_served(&rig, |progress| {
            for stream in &mut deaf {
                stream.set_nonblocking(true).expect("a socket can be made so");
                // 1 GB is asked for by each. The requests, too, stop being taken at some point.
                let _ = stream.write(&requests);
            }
            progress();
        });
        let grown = rig.server.resident().saturating_sub(before);
        println!("{grown} bytes more are resident for 20 clients that never read");
        assert!(grown < 64 << 20, "{grown} bytes more for 20 clients that never read");

        // One of them begins to read after all, and gets what it asked for, in order.
        let mut late = deaf.swap_remove(7);
        late.set_nonblocking(false).expect("a socket can be made so");
        let mut answer = vec![0; b"VALUE large 0 1000000\r\n".len() + value.len() + b"\r\nEND\r\n".len()];
        for _ in 0..3 {
            late.read_exact(&mut answer).expect("the answers wait");
            assert!(answer.starts_with(b"VALUE large 0 1000000\r\n") && answer.ends_with(b"\r\nEND\r\n"));
            assert!(answer[23..23 + value.len()] == value, "the value differs");
        }
        drop((deaf, late));
        wait_for("the end of all connections", || (rig.text().stats()["curr_connections"] == "1").then_some(()));
        rig.still_serves_kv();
    }
}
