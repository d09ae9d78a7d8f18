//! Two Zygix processes, each with its own stack, over the shm wire.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tests::{Namespace, Server, finish, need, on_stacks, wait_for, zygix_path};

/// A wire's socket, under a name of its own.
struct Socket(PathBuf);

impl Socket {
    fn new() -> Socket {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zxt-{}-{}.wire", std::process::id(), COUNT.fetch_add(1, Relaxed));
        Socket(std::env::temp_dir().join(name))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs `zygix load echo` against an echo on the other end; both in a namespace without any network.
fn load(threads: u16, arguments: &[&str]) -> Result<(serde_json::Value, tests::Counters), String> {
    need::network()?;
    let (namespace, socket) = (Namespace::new(), Socket::new());
    let nic = format!("shm:{}", socket.0.display());
    let json = socket.0.with_extension("json");
    let mut serve = Command::new(zygix_path());
    serve.args(["serve", "echo", "--nic", &nic, "-t", &threads.to_string(), "--supervised"]);
    tests::piped(&mut serve);
    let server = namespace.spawn(&mut serve);
    wait_for("the wire's socket", || socket.0.exists().then_some(()));
    let mut load = Command::new(zygix_path());
    load.args(["load", "echo", "198.18.0.2", "--nic", &nic, "-t", &threads.to_string(), "--json"]).arg(&json);
    tests::piped(load.args(arguments));
    let load = namespace.spawn(&mut load);
    // The server is ready once somebody is at the other end.
    let server = Server::attach(server);
    assert!(server.ready_line().contains("emulated"), "{}", server.ready_line());
    finish("zygix load", load).ok();
    let result = std::fs::read_to_string(&json).expect("the load wrote its result");
    let _ = std::fs::remove_file(&json);
    let counters = server.counters();
    Ok((serde_json::from_str(&result).expect("the result is JSON"), counters))
}

on_stacks! {
    /// One connection, one message at a time.
    [zygix = Zygix]
    fn one_message_at_a_time(_stack) {
        let (result, counters) = need!(load(1, &["--conns", "1", "--seconds", "0.5"]));
        let messages = result["completed"].as_u64().expect("a number");
        assert!(messages > 10 && result["errors"] == 0, "{result}");
        assert_eq!(result["transport"], "shm", "{result}");
        assert_eq!(counters.total("tcp_accepts"), 1);
        assert!(counters.total("tcp_bytes_in") >= messages * 64);
    }

    /// Many connections, several messages under way on each; the wire itself spreads them over both cores.
    [zygix = Zygix]
    fn many_connections(_stack) {
        let arguments = ["--conns", "100", "--depth", "4", "--size", "700", "--seconds", "1"];
        let (result, counters) = need!(load(2, &arguments));
        assert!(result["completed"].as_u64() > Some(1000) && result["errors"] == 0, "{result}");
        let accepts = counters.per_core("tcp_accepts");
        assert!(accepts.iter().sum::<u64>() == 100 && accepts.iter().all(|n| *n >= 8), "{accepts:?}");
        assert_eq!(counters.total("rx_forwarded_out"), 0, "each frame came to its owner's queue");
    }

    /// Nobody at the other end is said, and the wait for somebody can be ended.
    [zygix = Zygix]
    fn an_absent_peer(_stack) {
        need!(need::network());
        let (namespace, socket) = (Namespace::new(), Socket::new());
        let nic = format!("shm:{}", socket.0.display());
        let ran = tests::run(&namespace, Command::new(zygix_path()).args(["load", "echo", "198.18.0.2", "--nic", &nic]), b"");
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert!(ran.err.lines().count() == 1 && ran.err.contains(&nic[4..]), "{ran:?}");

        let mut serve = Command::new(zygix_path());
        serve.args(["serve", "echo", "--nic", &nic]);
        let waiting = namespace.spawn(tests::piped(&mut serve));
        wait_for("the wire's socket", || socket.0.exists().then_some(()));
        tests::os::signal(waiting.id(), 2);
        let ran = finish("zygix serve", waiting);
        assert!(ran.status.success() && ran.err.contains("waiting"), "{ran:?}");
        assert!(!socket.0.exists(), "the socket is left behind");
    }
}
