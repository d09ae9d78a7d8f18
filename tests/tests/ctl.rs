//! `zygix ctl` and what it stands on: flow groups that move and cores that are parked while Linux clients are served; names.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use abi::{Answer, Command as Order};
use attach::Dataplane;
use tests::{App, Namespace, Ran, Rig, Serve, finish, need, on_stacks, os, wait_for, zygix_path};

/// Connections, and threads that they are shared by.
const CONNECTIONS: usize = 32;
const THREADS: usize = 4;
/// Moves, parks and unparks of a test.
const ROUNDS: u16 = 12;
/// Linux sends again after 200 ms at the earliest: a machine that stands still for as long makes it do so.
const STILL: Duration = Duration::from_millis(150);

/// Exchanges numbered messages on all of some connections until it is told to stop.
fn converse(mut all: Vec<TcpStream>, stop: &AtomicBool, done: &AtomicU64, longest_ns: &AtomicU64) {
    let mut number = 0_u64;
    while !stop.load(Relaxed) {
        for (i, stream) in all.iter_mut().enumerate() {
            let message = [number.to_be_bytes(), (i as u64).to_be_bytes()].concat();
            let begun = Instant::now();
            stream.write_all(&message).expect("the server reads");
            let mut back = [0; 16];
            stream.read_exact(&mut back).expect("the server answers");
            assert_eq!(back, message[..], "what comes back is what was sent, in order");
            longest_ns.fetch_max(begun.elapsed().as_nanos() as u64, Relaxed);
            done.fetch_add(1, Relaxed);
        }
        number += 1;
        thread::sleep(Duration::from_millis(1));
    }
}

/// Segments that Linux has sent again on the connections in a namespace, as `ss` says.
fn sent_again(rig: &Rig) -> u64 {
    let text = rig.run("ss", &["-tinH", "state", "established"]).ok();
    assert_eq!(text.matches(" rto:").count(), CONNECTIONS, "not all connections are there:\n{text}");
    let counts = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("retrans:")?.split('/').nth(1)?.parse::<u64>().ok());
    counts.sum()
}

fn ctl(arguments: &str) -> Ran {
    let mut command = Command::new(zygix_path());
    command.arg("ctl").args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish("zygix ctl", command.spawn().expect("the binary is there"))
}

on_stacks! {
    /// Nothing is lost, doubled or out of order, and nobody sends anything again, whatever moves meanwhile.
    [zygix = Zygix, software = Software]
    fn groups_move_and_cores_are_parked_under_traffic(stack) {
        let name = format!("zxt-ctl-{}-{}", std::process::id(), stack.name());
        let rig = need!(Rig::start(&Serve::new(App::Echo, stack).threads(2).with(&format!("--name {name}"))));
        need!(need::program(&["ss"], "iproute2"));
        // Without probes only the timeout makes Linux send again, which no move takes as long as.
        rig.namespace.inside(|| std::fs::write("/proc/sys/net/ipv4/tcp_early_retrans", "0")).expect("root may");
        let mut all: Vec<TcpStream> = (0..CONNECTIONS).map(|_| rig.connect()).collect();
        let mut dataplane = Dataplane::attach(&name).expect("it serves under its name");
        let (stop, done, longest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let mut again = 0;
        thread::scope(|scope| {
            let (stop, done, longest) = (&stop, &done, &longest);
            let stops = StopOnDrop(stop);
            let working: Vec<_> = (0..THREADS)
                .map(|_| all.split_off(all.len() - CONNECTIONS / THREADS))
                .map(|share| scope.spawn(move || converse(share, stop, done, longest)))
                .collect();
            let progress = || {
                let before = done.load(Relaxed);
                wait_for("answers", || {
                    assert!(!working.iter().any(|t| t.is_finished()), "a client has ended");
                    (done.load(Relaxed) > before + 2 * CONNECTIONS as u64).then_some(())
                });
            };
            progress();
            for round in 0..ROUNDS {
                let core = round % 2;
                ctl(&format!("--name {name} move {} to {core}", if round % 3 == 0 { "0-127" } else { "0-40,77" })).ok();
                progress();
                command(&mut dataplane, &Order::Park { core: 1 - core });
                progress();
                command(&mut dataplane, &Order::Unpark { core: 1 - core, more: 0 });
                progress();
            }
            wait_for("the page to count each connection where it is", || {
                let cores = dataplane.snapshot().expect("it serves").cores;
                (cores.iter().map(|c| c.connections).sum::<u64>() == CONNECTIONS as u64).then_some(())
            });
            again = sent_again(&rig);
            drop(stops);
        });
        rig.is_well();
        let snapshot = dataplane.snapshot().expect("it serves");
        assert!(snapshot.cores.iter().all(|c| !c.parked && c.groups.0.len() >= 2), "{:?}", snapshot.cores);
        let ready = done.load(Relaxed);
        wait_for("the page to have counted the last of them", || {
            let snapshot = dataplane.snapshot().expect("it serves");
            let frames = snapshot.group_load.iter().sum::<u64>();
            (frames >= ready && snapshot.latency().total() >= ready).then_some(())
        });
        let longest = Duration::from_nanos(longest.load(Relaxed));
        if longest < STILL {
            assert_eq!(again, 0, "Linux sent {again} segments again");
        } else {
            println!("an answer took {longest:?} on this machine; Linux sent {again} segments again, for whatever reason");
        }
    }
}

fn command(dataplane: &mut Dataplane, order: &Order) {
    match dataplane.command(order) {
        // Who has nothing has nothing to give away.
        Ok(Answer::Moved(moves)) => {
            assert!(!moves.is_empty() || matches!(order, Order::Park { .. }), "{order:?} moved nothing")
        }
        other => panic!("{order:?}: {other:?}"),
    }
}

/// Lets the clients end, whatever else does.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A server as a user starts it, with its socket in a directory of the test's; killed at the end.
struct Plain(Child);

impl Plain {
    fn start(namespace: &Namespace, directory: &Path, more: &str) -> Plain {
        let serve = Serve::new(App::Echo, tests::Stack::Zygix);
        let mut command = Command::new(zygix_path());
        command.args(serve.arguments()).args(["--netns", namespace.name()]).args(more.split_whitespace());
        command.env("ZYGIX_DIR", directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Plain(namespace.spawn(&mut command))
    }

    /// Waits for its end, and says what it said.
    fn ended(mut self) -> (bool, String) {
        let status = wait_for("its end", || self.0.try_wait().expect("it is our child"));
        let mut said = String::new();
        if let Some(mut err) = self.0.stderr.take() {
            let _ = err.read_to_string(&mut said);
        }
        (status.success(), said)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that ends with its value.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pid_at(socket: &Path) -> u32 {
    let attached = wait_for("a dataplane at its socket", || Dataplane::attach_at(socket).ok());
    attached.hello().pid
}

#[test]
fn dataplanes_have_names_and_the_dead_leave_theirs() {
    need!(need::network());
    let directory = Directory(std::env::temp_dir().join(format!("zxt-ctl-{}", std::process::id())));
    let (first, second, third) = (Namespace::new(), Namespace::new(), Namespace::new());
    let socket = |name: &str| directory.0.join(format!("{name}.sock"));
    let one = Plain::start(&first, &directory.0, "");
    assert_eq!(pid_at(&socket("echo")), one.0.id());
    let two = Plain::start(&second, &directory.0, "");
    assert_eq!(pid_at(&socket("echo-2")), two.0.id());
    let list = |arguments: &[&str]| {
        let mut command = Command::new(zygix_path());
        command.arg("ctl").args(arguments).env("ZYGIX_DIR", &directory.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish("zygix ctl", command.spawn().expect("the binary is there"))
    };
    let text = list(&["list"]).ok();
    assert_eq!((text.lines().count(), text.matches(" live ").count()), (3, 2), "{text}");
    let which = list(&["cores"]);
    assert!(!which.status.success() && which.err.contains("--name (echo, echo-2)"), "{which:?}");
    let none = list(&["--name", "kv", "cores"]);
    assert!(none.err.contains("no dataplane kv; there are: echo, echo-2"), "{none:?}");
    let (went_well, said) = Plain::start(&third, &directory.0, "--name echo").ended();
    assert!(!went_well && said.contains("a dataplane echo runs already"), "{said}");
    // Killed, it leaves its socket, and who comes takes it.
    drop(one);
    assert!(socket("echo").exists());
    assert!(list(&["list"]).ok().contains(" stale "));
    let heir = Plain::start(&third, &directory.0, "--name echo");
    wait_for("the heir", || (pid_at(&socket("echo")) == heir.0.id()).then_some(()));
    // Asked to end, it takes its socket along; the other's is there.
    os::signal(heir.0.id(), libc::SIGTERM);
    assert!(heir.ended().0);
    assert!(!socket("echo").exists() && socket("echo-2").exists());
    let cores = list(&["cores", "--json", "-"]).ok();
    assert!(cores.contains("\"name\": \"echo-2\"") && cores.contains("\"idle_ewma\""), "{cores}");
}

#[test]
fn what_cannot_be_done_is_said_in_a_line() {
    let name = format!("zxt-ctl-no-{}", std::process::id());
    let serve = Serve::new(App::Echo, tests::Stack::Zygix).threads(2).with(&format!("--name {name}"));
    let rig = need!(Rig::start(&serve));
    for (arguments, code, complaint) in [
        ("move 0-127 to 9", 1, "no core 9"),
        ("move 0-128 to 1", 2, "there are 128"),
        ("move 0-3 onto 1", 2, "move 0-15,40 to 1"),
        ("park 7", 1, "no core 7"),
        ("unpark 0", 1, "not parked"),
        ("pin 0 4000", 1, "choose among the cores"),
        ("pin 0 some", 2, "no hardware thread"),
    ] {
        let ran = ctl(&format!("--name {name} {arguments}"));
        assert_eq!(ran.status.code(), Some(code), "{arguments}: {ran:?}");
        assert!(ran.err.contains(complaint), "{arguments}: {ran:?}");
    }
    ctl(&format!("--name {name} park 1")).ok();
    let again = ctl(&format!("--name {name} move 5 to 1"));
    assert!(again.err.contains("core 1 is parked: unpark it first") && again.err.lines().count() == 1, "{again:?}");
    let last = ctl(&format!("--name {name} park 0"));
    assert!(last.err.contains("the last core"), "{last:?}");
    rig.still_echoes();
    ctl(&format!("--name {name} unpark 1")).ok();
    rig.still_echoes();
}
