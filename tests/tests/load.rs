//! `zygix load` as its users run it: against memcached and our own applications, on every transport, and against servers that
//! misbehave.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tests::{App, Namespace, Ran, Rig, Serve, Server, finish, need, on_stacks, piped, run, wait_for, zygix_path};

/// A file of a test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(suffix: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zxt-load-{}-{}.{suffix}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        Scratch(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `zygix load` with these arguments, and where its result goes.
fn command(arguments: &str) -> (Command, Scratch) {
    let json = Scratch::new("json");
    let mut command = Command::new(zygix_path());
    command.arg("load").args(arguments.split_whitespace()).arg("--json").arg(&json.0);
    piped(&mut command);
    (command, json)
}

fn result(json: &Scratch) -> Value {
    let text = std::fs::read_to_string(&json.0).expect("the load wrote its result");
    serde_json::from_str(&text).expect("the result is JSON")
}

/// Runs a load to its end.
fn load(namespace: &Namespace, arguments: &str) -> (Ran, Value) {
    let (mut command, json) = command(arguments);
    let ran = run(namespace, &mut command, b"");
    (ran, result(&json))
}

/// Runs a load that must go well.
#[track_caller]
fn good(namespace: &Namespace, arguments: &str) -> Value {
    let (ran, result) = load(namespace, arguments);
    // Beside other tests even a small load may be more than the machine can bear. Then that is what it has to say, and what had no reply in time is no fault.
    if ran.status.code() == Some(3) && result["saturated"] == true {
        let kinds = &result["errors_by_kind"];
        assert_eq!((&kinds["broken"], &kinds["lost"], &kinds["wrong"]), (&0.into(), &0.into(), &0.into()), "{result}");
    } else {
        ran.ok();
        assert_eq!(&result["errors"], &Value::from(0), "{result}");
    }
    assert_eq!(&result["interrupted"], &Value::from(false), "{result}");
    assert!(number(&result, "completed") > 0.0, "{result}");
    assert!(number(&result, "p50_us") <= number(&result, "p99_us"), "{result}");
    result
}

#[track_caller]
fn number(of: &Value, key: &str) -> f64 {
    of[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {of}"))
}

#[test]
fn debians_memcached_takes_etc_and_usr_in_both_protocols() {
    need!(need::network());
    let memcached = need!(need::program(&["memcached"], "memcached"));
    let namespace = Namespace::new();
    let mut server = Command::new(memcached);
    server.args(["-u", "root", "-l", "127.0.0.1", "-p", "11211", "-U", "0", "-m", "64"]);
    piped(&mut server);
    let mut server = namespace.spawn(&mut server);
    wait_for("memcached", || namespace.inside(|| std::net::TcpStream::connect("127.0.0.1:11211").ok()));
    for workload in ["usr", "etc", "etc-scripts"] {
        for protocol in ["ascii", "binary"] {
            let what = format!("--workload {workload} --protocol {protocol} --records 5000 --conns 8 --depth 4");
            let closed = good(&namespace, &format!("kv 127.0.0.1:11211 {what} --seconds 0.3"));
            assert_eq!((&closed["app"], &closed["pace"]), (&"kv".into(), &"closed".into()));
            let open = good(&namespace, &format!("kv 127.0.0.1:11211 {what} --seconds 0.5 --rate 2k --no-preload"));
            let offered = number(&open, "offered_rps");
            assert!((1700.0..2300.0).contains(&offered), "{offered} a second offered");
        }
    }
    server.kill().expect("it is our child");
    server.wait().expect("it is our child");
}

on_stacks! {
    /// The key-value store under the thesis's workloads, with the unloaded agent beside.
    [zygix = Zygix, linux = Linux, floating = Floating]
    fn our_kv_takes_etc_and_usr(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Kv, stack)));
        for what in ["--workload usr", "--workload etc --protocol binary --keys zipf:0.99"] {
            let addr = rig.addr();
            let result = good(&rig.namespace, &format!("kv {addr} {what} --records 5000 --conns 20 --depth 4 --rate 3k --probe 2 --seconds 0.5"));
            assert!(number(&result["probe"], "requests") > 10.0, "{result}");
        }
        rig.still_serves_kv();
    }

    /// Connections that end after a few messages, by reset and in order.
    [zygix = Zygix, linux = Linux, floating = Floating]
    fn connections_come_and_go(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack)));
        for how in ["rst", "fin"] {
            let addr = rig.addr();
            let result = good(&rig.namespace, &format!("echo {addr} --conns 4 --churn 3 --hangup {how} --seconds 0.3"));
            assert!(number(&result, "connections_per_s") > 10.0, "{result}");
        }
        rig.still_echoes();
    }

    /// The service time travels with the request, and more than there is time for is the server's saturation.
    [zygix = Zygix, linux = Linux, floating = Floating]
    fn spin_spends_what_it_is_told(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Spin, stack).threads(1)));
        let addr = rig.addr();
        let result = good(&rig.namespace, &format!("spin {addr} --time det:200us --rate 500 --conns 10 --seconds 0.5"));
        assert!(number(&result, "p50_us") >= 200.0, "{result}");
        let (_, over) = load(&rig.namespace, &format!("spin {addr} --time det:1ms --rate 3k --conns 10 --depth 1 --seconds 0.5"));
        assert_eq!((&over["saturated"], &over["saturated_side"]), (&true.into(), &"server".into()), "{over}");
        // One thread cannot spend more than a second in a second.
        assert!(number(&over, "achieved_rps") <= 1100.0, "{over}");
    }

    /// A server that stands still for 100 ms shows that in full: requests that could not be sent meanwhile count from the
    /// instant at which they were meant to be sent.
    [zygix = Zygix, linux = Linux, floating = Floating]
    fn a_frozen_server_is_seen_by_those_who_could_not_ask(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack)));
        let addr = rig.addr();
        let (mut command, json) = command(&format!("echo {addr} --conns 1 --depth 1 --rate 1000 --seconds 2 --warmup 0.2"));
        let load = rig.namespace.spawn(&mut command);
        std::thread::sleep(Duration::from_millis(600));
        for _ in 0..4 {
            tests::os::signal(rig.server.pid(), libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(100));
            tests::os::signal(rig.server.pid(), libc::SIGCONT);
            std::thread::sleep(Duration::from_millis(150));
        }
        // On a machine with much else to do, the growing queue may be called what it is: saturated.
        let ran = finish("zygix load", load);
        assert!(matches!(ran.status.code(), Some(0 | 3)), "{ran:?}");
        let result = result(&json);
        // A fifth of the two seconds: the 90th percentile is 50 ms by the book. Of the hundreds of requests only four were under
        // way: a client that counts from sending would see 0.2 % of them late.
        assert!(number(&result, "p90_us") > 30_000.0 && number(&result, "max_us") > 99_000.0, "{result}");
        rig.still_echoes();
    }

    /// A server that dies in the middle is an error, not a result.
    [zygix = Zygix, linux = Linux, floating = Floating]
    fn a_server_that_dies_is_reported(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack)));
        let (mut command, json) = command(&format!("echo {} --conns 4 --rate 500 --seconds 2", rig.addr()));
        let load = rig.namespace.spawn(&mut command);
        std::thread::sleep(Duration::from_millis(800));
        let Rig { server, .. } = rig;
        server.end(libc::SIGKILL);
        let ran = finish("zygix load", load);
        assert!(!ran.status.success(), "{ran:?}");
        let result = result(&json);
        assert!(number(&result, "errors") > 0.0 && number(&result, "completed") > 0.0, "{result}");
    }

    /// Ctrl-C ends with what was measured until then.
    [zygix = Zygix]
    fn an_interrupted_load_has_its_results(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack)));
        let (mut command, json) = command(&format!("echo {} --conns 4 --rate 500 --seconds 60", rig.addr()));
        let load = rig.namespace.spawn(&mut command);
        std::thread::sleep(Duration::from_millis(1500));
        tests::os::signal(load.id(), libc::SIGINT);
        let ran = finish("zygix load", load);
        let result = result(&json);
        assert_eq!(result["interrupted"], true, "{ran:?}");
        assert!(number(&result, "completed") > 0.0 && number(&result, "seconds") < 50.0, "{result}");
    }
}

/// A wire's two ends: `serve` and `load` in a namespace without any network.
fn over_shm(serve: &str, arguments: &str) -> Result<Value, String> {
    need::network()?;
    let (namespace, socket) = (Namespace::new(), Scratch::new("wire"));
    let nic = format!("shm:{}", socket.0.display());
    let mut server = Command::new(zygix_path());
    server.arg("serve").args(serve.split_whitespace()).args(["--nic", &nic, "--supervised"]);
    piped(&mut server);
    let server = namespace.spawn(&mut server);
    wait_for("the wire's socket", || socket.0.exists().then_some(()));
    let (mut load, json) = command(&format!("{arguments} --nic {nic}"));
    let load = namespace.spawn(&mut load);
    let server = Server::attach(server);
    finish("zygix load", load).ok();
    assert!(server.is_alive());
    Ok(result(&json))
}

on_stacks! {
    /// Our own stack carries the load, over the wire between two processes.
    [zygix = Zygix]
    fn the_load_goes_over_shm(_stack) {
        for (serve, arguments) in [
            ("echo", "echo 198.18.0.2:7007 --conns 10 --depth 4 --seconds 0.3"),
            ("kv", "kv 198.18.0.2:11211 --workload etc --records 2000 --conns 10 --depth 4 --seconds 0.3"),
            ("spin", "spin 198.18.0.2:7008 --time exp:20us --conns 10 --rate 2k --seconds 0.3"),
        ] {
            let result = need!(over_shm(serve, arguments));
            assert_eq!((&result["transport"], &result["errors"]), (&"shm".into(), &0.into()), "{result}");
            assert!(number(&result, "completed") > 0.0, "{result}");
        }
    }
}
