//! What a user sees of `zygix serve`: its lines, its exit codes, its signals, its recordings. Each thing that can be
//! wrong at the start is one line that says what, and what to do.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::{App, Namespace, PORT, Ran, Rig, SERVER, Serve, TAP, Text, finish, need, on_stacks, os, run, zygix_path};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn zygix_in(namespace: &Namespace, line: &str) -> Ran {
    run(namespace, Command::new(zygix_path()).args(line.split_whitespace()), b"")
}

/// It failed with `code` and one line on standard error that has all of `words`; it never said that it was ready.
#[track_caller]
fn complains(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.status.code(), Some(code), "{ran:?}");
    assert_eq!(ran.out, "", "{ran:?}");
    let lines: Vec<&str> = ran.err.lines().collect();
    let [line] = lines[..] else { panic!("not one line: {ran:?}") };
    assert!(line.starts_with("zygix: "), "{line}");
    for word in words {
        assert!(line.to_lowercase().contains(word), "{word:?} is missing in: {line}");
    }
    assert!(line.matches("(os error").count() <= 1, "the cause is said twice: {line}");
}

/// An end of a pipe whose other end says what a user would see, line by line.
fn started(namespace: &Namespace, arguments: &[String]) -> (std::process::Child, BufReader<impl Read + use<>>) {
    let mut command = Command::new(zygix_path());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = namespace.spawn(&mut command);
    let out = BufReader::new(child.stdout.take().expect("it is a pipe"));
    (child, out)
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("zxt-{}-{name}", std::process::id()))
}

on_stacks! {
    /// Command lines that make no sense.
    [linux = Linux]
    fn nonsense_is_refused_with_code_2(_stack) {
        need!(need::network());
        let namespace = Namespace::new();
        for (line, word) in [
            ("serve kv -t 0", "1..=128"),
            ("serve kv -t 1000", "1000"),
            ("serve kv -p 70000", "70000"),
            ("serve kv -m lots", "lots"),
            ("serve kv --nic wifi:0", "wifi"),
            ("serve kv --nic tap:a-name-that-is-too-long", "15"),
            ("serve kv --addr 198.18.0.2", "198.18.0.2/24"),
            ("serve kv --addr 198.18.0.0/24", "198.18.0.0"),
            ("serve kv --stack bsd", "linux-partitioned"),
            ("serve kv --no-such-option", "--no-such-option"),
            ("serve tea", "tea"),
            ("brew", "brew"),
        ] {
            let ran = zygix_in(&namespace, line);
            assert_eq!((ran.status.code(), &*ran.out), (Some(2), ""), "{line}: {ran:?}");
            // The command line parser says its error first, then perhaps a hint.
            assert!(ran.err.starts_with("error: ") && ran.err.contains(word), "{line}: {}", ran.err);
        }
        for (line, word) in [
            ("serve kv -l ::1", "no host"),
            ("serve kv --pin 4000", "4000"),
            ("serve kv -m 8g -I 2g", "-i"),
            ("serve kv --nic shm:/tmp/wire --netns blue", "--netns"),
            ("serve kv --stack linux-partitioned --netns blue", "--netns"),
            ("serve kv --stack linux-partitioned --epoll exclusive", "linux-floating"),
            ("serve spin --tuned", "linux"),
            ("serve kv --addr 198.18.0.2/24 -l 198.18.0.3", "--addr"),
        ] {
            complains(&zygix_in(&namespace, line), 2, &[word]);
        }
    }

    /// The port is taken, or the address not ours.
    [linux = Linux]
    fn a_port_in_use_is_named(_stack) {
        need!(need::network());
        let namespace = Namespace::new();
        let _holder = namespace.inside(|| TcpListener::bind(("127.0.0.1", PORT)).expect("nobody is here yet"));
        let line = format!("serve kv --stack linux-partitioned -l 127.0.0.1 -p {PORT}");
        complains(&zygix_in(&namespace, &line), 1, &["127.0.0.1:11211", "-p"]);
        let line = format!("serve kv --stack linux-partitioned -l 192.0.2.1 -p {PORT}");
        complains(&zygix_in(&namespace, &line), 1, &["192.0.2.1", "-l"]);
    }

    /// The TAP is in use, or no TAP.
    [zygix = Zygix]
    fn a_busy_tap_is_named(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Kv, stack)));
        // Another Zygix wants the same TAP, in the same namespace.
        for threads in ["1", "2"] {
            complains(&zygix_in(&rig.namespace, &format!("serve kv --nic tap:{TAP} -t {threads}")), 1, &[TAP, "name"]);
        }
        complains(&zygix_in(&rig.namespace, "serve kv --nic tap:lo"), 1, &["lo", "not a tap"]);
        rig.still_serves_kv();
    }

    /// No privilege, or no device.
    [zygix = Zygix]
    fn a_missing_device_or_privilege_is_named(_stack) {
        need!(need::network());
        let setpriv = need!(need::program(&["setpriv"], "util-linux"));
        let unshare = need!(need::program(&["unshare"], "util-linux"));
        let namespace = Namespace::new();

        let copy = file("binary");
        std::fs::copy(zygix_path(), &copy).expect("the temporary directory can be written");
        let mut nobody = Command::new(&setpriv);
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["serve", "kv"]);
        let ran = run(&namespace, &mut nobody, b"");
        let mut nobody = Command::new(&setpriv);
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        let low_port = run(&namespace, nobody.args(["serve", "kv", "--stack", "linux-partitioned", "-p", "80"]), b"");
        let _ = std::fs::remove_file(&copy);
        complains(&ran, 1, &["permi", "run as"]);
        complains(&low_port, 1, &["80", "-p"]);

        // A container without the device.
        let mut bare = Command::new(unshare);
        let script = "mount -t tmpfs none /dev/net && exec \"$@\"";
        bare.args(["--mount", "sh", "-c", script, "sh"]).arg(zygix_path()).args(["serve", "kv"]);
        complains(&run(&namespace, &mut bare, b""), 1, &["/dev/net/tun", "modprobe tun"]);
    }

    /// Paths that lead nowhere.
    [zygix = Zygix]
    fn places_that_do_not_exist_are_named(_stack) {
        need!(need::network());
        let namespace = Namespace::new();
        complains(&zygix_in(&namespace, "serve kv --nic shm:/nonexistent/wire"), 1, &["/nonexistent/wire"]);
        complains(&zygix_in(&namespace, "serve kv --pcap /nonexistent/frames"), 1, &["/nonexistent/frames"]);
    }

    /// `--netns` makes a namespace that is not there yet.
    [zygix = Zygix]
    fn a_namespace_that_zygix_made_goes_with_it(_stack) {
        need!(need::network());
        let outer = Namespace::new();
        let inner = format!("{}-inner", outer.name());
        let path = PathBuf::from("/run/netns").join(&inner);
        let arguments: Vec<String> = ["serve", "kv", "--netns", &inner].map(str::to_owned).into();
        let (child, mut out) = started(&outer, &arguments);
        let mut line = String::new();
        out.read_line(&mut line).expect("it says that it is ready");
        assert!(path.exists(), "{line}");
        os::signal(child.id(), SIGTERM);
        assert!(finish("zygix", child).status.success());
        assert!(!path.exists());
    }

    /// One line when it is ready, one when it is done; SIGINT and SIGTERM end it in order.
    [zygix = Zygix, linux = Linux, floating = Floating]
    fn signals_end_it_in_order(stack) {
        need!(need::network());
        for signal in [SIGINT, SIGTERM] {
            let namespace = Namespace::new();
            if !stack.is_ours() {
                namespace.inside(|| sys::link::add_address("lo", SERVER, 32)).expect("root may");
            }
            let (child, mut out) = started(&namespace, &Serve::new(App::Kv, stack).arguments());
            let mut ready = String::new();
            out.read_line(&mut ready).expect("it says that it is ready");
            assert!(ready.contains("198.18.0.2:11211") && ready.contains("Ctrl-C"), "{ready}");
            let stream = namespace.inside(|| std::net::TcpStream::connect((SERVER, PORT)).expect("it is ready"));
            let mut text = Text::new(stream);
            assert!(text.ask("version").starts_with("VERSION "));
            os::signal(child.id(), signal);
            let mut rest = String::new();
            out.read_to_string(&mut rest).expect("it is text");
            let ran = finish("zygix", child);
            assert_eq!((ran.status.code(), &*ran.err), (Some(0), ""));
            assert!(rest.starts_with("served: 1 connections") && rest.lines().count() == 1, "{rest}");
            // The open connection is not left hanging.
            let mut end = Vec::new();
            match text.stream().read_to_end(&mut end) {
                Ok(_) => assert!(end.is_empty()),
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
    }

    /// Batches of one and of many, more threads than cores, pinned and spinning: a client cannot tell.
    [zygix = Zygix]
    fn options_change_nothing_for_clients(stack) {
        for options in [
            "--batch 1",
            "--batch 1024 -t 2",
            "--idle spin",
            "--idle adaptive",
            "-t 4",
            "-t 7 --steering software --batch 2",
            "-t 2 --pin 0",
            "-m 8 -I 200k -c 40",
        ] {
            let rig = need!(Rig::start(&Serve::new(App::Kv, stack).with(options)));
            let mut clients: Vec<Text> = (0..32).map(|_| rig.text()).collect();
            for (i, text) in clients.iter_mut().enumerate() {
                let value: Vec<u8> = (0..150_000).map(|at| (at * (i + 3)) as u8).collect();
                text.set("key", &value);
                assert!(text.get("key") == Some(value), "with {options}");
            }
            let asleep = rig.server.counters().total("sleep_ns");
            assert_eq!(asleep == 0, options == "--idle spin", "{asleep} ns asleep with {options}");
            drop(clients);
            rig.still_serves_kv();
        }
    }

    /// `--pcap` records each frame of each queue, both ways, in files that any tool reads.
    [zygix = Zygix]
    fn recordings_are_whole(stack) {
        let path = file("frames");
        let serve = Serve::new(App::Kv, stack).threads(2).with(&format!("--pcap {}", path.display()));
        let rig = need!(Rig::start(&serve));
        let mut clients: Vec<Text> = (0..32).map(|_| rig.text()).collect();
        for text in &mut clients {
            text.set("key", &vec![b'v'; 100_000]);
            assert_eq!(text.get("key").map(|v| v.len()), Some(100_000));
        }
        drop(clients);
        let counters = rig.server.counters();
        let Rig { server, namespace, .. } = rig;
        assert!(server.end(SIGTERM).status.success());
        drop(namespace);
        for (core, path) in [path.clone(), path.with_extension("1")].into_iter().enumerate() {
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let _ = std::fs::remove_file(&path);
            let (received, sent) = count(&bytes);
            assert!(received > 10 && sent > 10, "core {core}: {received} and {sent} frames");
            // More may have come after the counters were read: the ends of the connections.
            let least = counters.per_core("rx_frames")[core] + counters.per_core("tx_frames")[core];
            assert!(received + sent >= least, "core {core}: {received} and {sent} of {least} frames");
        }
    }
}

/// Frames to and from the server in a pcap file: classic format, nanoseconds, Ethernet, this machine's byte order.
fn count(bytes: &[u8]) -> (u64, u64) {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1), "the magic and the link type");
    let (mut at, mut received, mut sent, mut time) = (24, 0, 0, 0);
    while at < bytes.len() {
        let (now, captured, whole) = ((word(at), word(at + 4)), word(at + 8) as usize, word(at + 12) as usize);
        assert!(now.1 < 1_000_000_000 && captured <= whole, "a record's head at {at}");
        let stamp = u64::from(now.0) * 1_000_000_000 + u64::from(now.1);
        assert!(stamp >= time, "time goes backwards at {at}");
        time = stamp;
        let frame = &bytes[at + 16..at + 16 + captured];
        assert!(frame.len() >= 14);
        let is_ipv4 = frame[12..14] == [8, 0];
        match is_ipv4 && frame[26..30] == SERVER.octets() {
            true => sent += 1,
            false => received += 1,
        }
        at += 16 + captured;
    }
    assert_eq!(at, bytes.len(), "the last record is whole");
    (received, sent)
}
