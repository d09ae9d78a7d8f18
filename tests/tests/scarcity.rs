//! Clients that take what there is little of: buffers, memory, connections. Each may hurt itself; the others are served.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use tests::{App, Rig, Serve, Stack, Text, need, on_stacks, wait_for};

/// Opens `count` connections that never block.
fn crowd(rig: &Rig, count: usize) -> Vec<TcpStream> {
    let open = |i| {
        let stream = TcpStream::connect(rig.addr()).unwrap_or_else(|e| panic!("connection {i} is refused: {e}"));
        stream.set_nonblocking(true).expect("a socket can be made so");
        stream
    };
    rig.namespace.inside(|| (0..count).map(open).collect())
}

/// Writes what the kernel takes at once.
fn push(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        match stream.write(&bytes[done..]) {
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => panic!("after {done} bytes: {e}"),
        }
    }
    done
}

fn connections_are_gone(rig: &Rig) {
    wait_for("the end of all connections", || (rig.text().stats()["curr_connections"] == "1").then_some(()));
}

fn kv(stack: Stack) -> Serve {
    Serve::new(App::Kv, stack).threads(2).with("-c 12000")
}

on_stacks! {
    /// Ten thousand clients stop in the middle of a line that is longer than a small buffer.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn half_lines(stack) {
        let _turn = need!(need::connections(10_000));
        let rig = need!(Rig::start(&kv(stack)));
        let crowd = crowd(&rig, 10_000);
        let mut witness = rig.text();
        let line = [b"get ", &[b'k'; 1200][..]].concat();
        for (i, stream) in crowd.iter().enumerate() {
            push(stream, &line);
            if i % 100 == 0 {
                witness.set("witness", b"here");
                assert_eq!(witness.get("witness").as_deref(), Some(&b"here"[..]), "after {i} half lines");
            }
        }
        for _ in 0..100 {
            assert_eq!(witness.get("witness").as_deref(), Some(&b"here"[..]));
        }
        assert!(rig.text().ask("version").starts_with("VERSION"));
        println!("{} MB are resident", rig.server.resident() >> 20);
        // Those that go on get their answer (the key is too long).
        for stream in crowd.iter().step_by(997) {
            push(stream, b"\r\n");
            stream.set_nonblocking(false).expect("a socket can be made so");
            let mut text = Text::new(stream.try_clone().expect("a descriptor is free"));
            assert!(text.line().starts_with("CLIENT_ERROR"));
        }
        drop((crowd, witness));
        connections_are_gone(&rig);
        rig.still_serves_kv();
    }

    /// Two hundred clients promise a large value and send half of it: together more than `-m` allows.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn half_values(stack) {
        let rig = need!(Rig::start(&kv(stack).with("-m 64")));
        let mut witness = rig.text();
        witness.set("witness", b"here");
        let before = rig.server.resident();
        let crowd = crowd(&rig, 200);
        let half = vec![b'v'; 450_000];
        for (i, stream) in crowd.iter().enumerate() {
            push(stream, format!("set half-{i} 0 0 900000\r\n").as_bytes());
            let mut sent = 0;
            // As much as is taken; a server that has no memory for it may let it wait.
            for _ in 0..50 {
                sent += push(stream, &half[sent..]);
                witness.set("witness", b"here");
            }
        }
        let grown = rig.server.resident().saturating_sub(before);
        println!("{} MB more are resident", grown >> 20);
        assert!(grown < 160 << 20, "{grown} bytes more than before, of 64 MB allowed");
        witness.set("other", &[b'o'; 1000]);
        drop((crowd, witness));
        connections_are_gone(&rig);
        // What was promised is forgotten: there is room again.
        let mut witness = rig.text();
        for i in 0..100 {
            witness.set(&format!("whole-{i}"), &vec![b'w'; 900_000]);
        }
        rig.still_serves_kv();
    }

    /// More values than fit: the oldest go, memory stays where it is, or with `-M` the server refuses.
    [zygix = Zygix, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn more_values_than_memory(stack) {
        let rig = need!(Rig::start(&kv(stack).with("-m 16")));
        let mut text = rig.text();
        let before = rig.server.resident();
        for i in 0..20_000 {
            text.set(&format!("key-{i}"), &[b'v'; 4000]);
        }
        let grown = rig.server.resident().saturating_sub(before);
        assert!(grown < 40 << 20, "{grown} bytes more than before, of 16 MB allowed");
        let stats = text.stats();
        assert!(stats["evictions"].parse::<u64>().is_ok_and(|n| n > 10_000), "{stats:?}");
        assert_eq!(text.get("key-19999").map(|v| v.len()), Some(4000));
        rig.still_serves_kv();

        let rig = need!(Rig::start(&kv(stack).with("-m 16 -M")));
        let mut text = rig.text();
        let full = (0..20_000).find(|i| {
            text.send(format!("set key-{i} 0 0 4000\r\n{}\r\n", "v".repeat(4000)));
            let answer = text.line();
            assert!(answer == "STORED" || answer == "SERVER_ERROR out of memory storing object", "{answer}");
            answer != "STORED"
        });
        assert!(full.is_some_and(|i| i > 1000), "{full:?}");
        assert_eq!(text.get("key-0").map(|v| v.len()), Some(4000), "nothing was evicted");
        rig.is_well();
    }

    /// Two hundred clients send to the echo and never read: what they sent waits in their own buffers and windows.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn deaf_talkers(stack) {
        // 200 MB are many times what all of our buffers hold, and far from what Linux has for all of its sockets.
        const EACH: usize = 1 << 20;
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack).threads(2)));
        let crowd = crowd(&rig, 200);
        let mut witness = rig.connect();
        let mut echo = |what: &str| {
            let message = [b'm'; 3000];
            witness.write_all(&message).expect("the server reads");
            let mut back = [0; 3000];
            witness.read_exact(&mut back).unwrap_or_else(|e| panic!("no echo {what}: {e}"));
            assert!(back == message);
        };
        let flood = vec![b'f'; EACH];
        let mut sent = vec![0; crowd.len()];
        let before = rig.server.resident();
        for round in 0..20 {
            for (i, stream) in crowd.iter().enumerate() {
                sent[i] += push(stream, &flood[sent[i]..]);
                if i % 50 == 0 {
                    echo(&format!("in round {round} after client {i}"));
                }
            }
        }
        for _ in 0..200 {
            echo("when all are full");
        }
        rig.still_echoes();
        println!("{} MB were sent", sent.iter().sum::<usize>() >> 20);
        println!("{} MB more are resident", rig.server.resident().saturating_sub(before) >> 20);
        // One of them reads after all: everything is there.
        let i = 123;
        let mut late = &crowd[i];
        late.set_nonblocking(false).expect("a socket can be made so");
        late.set_read_timeout(Some(tests::PATIENCE)).expect("not zero");
        late.shutdown(Shutdown::Write).expect("the connection is open");
        let mut back = Vec::new();
        late.read_to_end(&mut back).expect("all comes back");
        assert_eq!(back.len(), sent[i]);
        assert!(back.iter().all(|b| *b == b'f'));
        drop(crowd);
        rig.still_echoes();
    }

    /// More connections that the server ends, one right after the other, than it may have at once: those that are over
    /// (TIME-WAIT is the server's) do not count against the living for long.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn connections_that_the_server_ends(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Source, stack).threads(2).with("-c 500")));
        rig.namespace.inside(|| {
            for i in 0..5_000 {
                let mut stream = TcpStream::connect(rig.addr()).unwrap_or_else(|e| panic!("connection {i}: {e}"));
                stream.set_read_timeout(Some(tests::PATIENCE)).expect("not zero");
                stream.write_all(b"100\n").expect("the server reads");
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap_or_else(|e| panic!("connection {i}: {e}"));
                assert_eq!(all.len(), 100, "connection {i}");
            }
        });
        rig.is_well();
    }

    /// Clients that vanish by resets in every stage leave nothing behind.
    [zygix = Zygix, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn resets(stack) {
        let rig = need!(Rig::start(&kv(stack)));
        let mut witness = rig.text();
        witness.set("large", &vec![b'l'; 900_000]);
        let before = rig.server.resident();
        for round in 0..300 {
            for stream in crowd(&rig, 10) {
                // The answer is unread when the descriptor closes, so Linux resets.
                push(&stream, b"get large\r\nget large\r\nset half 0 0 1000\r\nhalf");
                if round % 2 == 0 {
                    let _ = (&stream).read(&mut [0; 100]);
                }
            }
            assert!(witness.ask("version").starts_with("VERSION"));
        }
        drop(witness);
        connections_are_gone(&rig);
        let grown = rig.server.resident().saturating_sub(before);
        println!("{grown} bytes more are resident after 3000 resets");
        assert!(grown < 32 << 20, "{grown} bytes more after 3000 resets");
        rig.still_serves_kv();
    }
}
