//! Agents and coordinators over loopback, and those who are neither.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use fleet::{Agent, Crew, FleetError, VERSION};
use load::requests::{Echo, Workload};
use load::{Pace, Place, Spec, Window};
use units::Nanos;

/// Somewhere to send load to. Its threads end with their connections.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

/// An agent in a thread; it ends with this value.
struct Running {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    notes: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

fn agent() -> Running {
    let agent = Agent::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (addr, stop, notes) = (agent.addr(), Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
    let (told, heard) = (stop.clone(), notes.clone());
    let thread = std::thread::spawn(move || {
        let note = |line: &str| heard.lock().unwrap().push(line.to_owned());
        agent.serve(&|| told.load(Relaxed), &Place::default(), &note).unwrap();
    });
    Running { addr, stop, notes, thread: Some(thread) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the agent panicked");
    }
}

fn spec(target: SocketAddr, connections: u32) -> Spec {
    let echo = Workload::Echo(Echo { size: "64".parse().unwrap() });
    Spec { connections, ..Spec::new(echo, target) }
}

fn window(rate: f64, millis: u64) -> Window {
    let window = Window::new(Pace::poisson(rate), Nanos::from_millis(millis));
    Window { slice: Nanos::from_millis(100), ..window }
}

/// Somebody on the agent's port who speaks as the test likes.
struct Raw {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Raw {
    fn connect(addr: SocketAddr) -> Raw {
        let stream = TcpStream::connect(addr).unwrap();
        Raw { lines: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn greeted(addr: SocketAddr) -> Raw {
        let mut raw = Raw::connect(addr);
        let mut greeting = raw.line();
        // The session before may not have been put away yet.
        for _ in 0..500 {
            if !greeting.contains("busy") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            raw = Raw::connect(addr);
            greeting = raw.line();
        }
        assert_eq!(greeting, format!("zygix-agent {VERSION}"));
        raw.say(&format!("hello {VERSION}"));
        raw
    }

    fn say(&mut self, line: &str) {
        // It may have hung up already: what it said before counts.
        let _ = self.stream.write_all(format!("{line}\n").as_bytes());
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.lines.read_line(&mut line);
        line.trim_end().to_owned()
    }

    /// The next line that is no sign of life.
    fn answer(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.starts_with("alive") {
                return line;
            }
        }
    }
}

#[test]
fn two_agents_outcomes_are_one() {
    let (one, two) = (agent(), agent());
    let spec = Spec { probe: 1, ..spec(echo_server(), 5) };
    let mut crew = Crew::join(&[one.addr, two.addr], &spec).unwrap();
    crew.preload().unwrap();
    let done = crew.run(&window(4000.0, 1500)).unwrap();
    assert!(done.agents.iter().all(|a| a.ok && a.error.is_none()), "{:?}", done.agents);
    let all = &done.outcome;
    // 6000 meant, by two Poisson processes of half the rate each: 10 standard deviations either way.
    assert!((5200..6800).contains(&all.offered), "{}", all.offered);
    assert_eq!((all.errors.total(), all.completed, all.latency.len()), (0, all.offered, all.offered));
    assert!(!all.probe.is_empty() && all.probe.len() < all.latency.len());
    assert_eq!(all.slices.iter().map(|s| s.offered).sum::<u64>(), all.offered);
    assert!(crew.live().connected() <= 6 && crew.live().answered() <= all.sent);
    // The same connections serve another window.
    let more = crew.run(&Window::new(Pace::Closed, Nanos::from_millis(200))).unwrap();
    assert!(more.outcome.completed > 0 && !more.outcome.open_loop);
    drop(crew);
    // And the agents serve another coordinator.
    let mut again = Crew::join(&[one.addr], &spec).unwrap();
    assert!(again.run(&window(1000.0, 100)).unwrap().outcome.completed > 0);
}

/// An agent that speaks `lines` in answer to the coordinator's, one each, and then dies.
fn mortal(lines: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut theirs = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        for line in lines {
            stream.write_all(format!("{}\n", line.replace("VERSION", VERSION)).as_bytes()).unwrap();
            let _ = theirs.read_line(&mut String::new());
        }
    });
    addr
}

#[test]
fn an_agent_that_dies_is_reported_and_the_others_go_on() {
    let living = agent();
    // Greets, is told the version; is told the spec; is told to run, says that it is alive, and is no more.
    let dying = mortal(&["zygix-agent VERSION", "ok", "alive 1 1 0 0 1"]);
    let mut crew = Crew::join(&[dying, living.addr], &spec(echo_server(), 4)).unwrap();
    let done = crew.run(&window(2000.0, 500)).unwrap();
    assert!(done.outcome.completed > 0 && done.outcome.errors.total() == 0);
    assert_eq!((done.agents[0].addr, done.agents[0].ok), (dying, false));
    assert_eq!(done.agents[0].error.as_deref(), Some("the connection ended"));
    assert_eq!((done.agents[1].addr, done.agents[1].ok), (living.addr, true));
    // What is left takes the whole rate from then on, and the loss stays on record.
    let rest = crew.run(&window(2000.0, 1000)).unwrap();
    assert!((1500..2500).contains(&rest.outcome.offered), "{}", rest.outcome.offered);
    assert!(!rest.agents[0].ok && rest.agents[1].ok);
}

#[test]
fn a_run_without_agents_is_no_run() {
    let dying = mortal(&["zygix-agent VERSION", "ok", "alive 1 1 0 0 1"]);
    let mut crew = Crew::join(&[dying], &spec(echo_server(), 4)).unwrap();
    let said = crew.run(&window(2000.0, 500)).unwrap_err();
    assert!(matches!(said, FleetError::NoneLeft(_)) && said.to_string().contains("the connection ended"), "{said}");
    assert!(matches!(crew.run(&window(2000.0, 500)), Err(FleetError::NoneLeft(_))));
}

#[test]
fn other_versions_are_refused_by_both_sides() {
    let old = mortal(&["zygix-agent 0.0.1+1"]);
    let said = Crew::join(&[old], &spec(echo_server(), 1)).err().unwrap();
    assert!(matches!(&said, FleetError::Version { theirs, .. } if theirs == "0.0.1+1"), "{said}");
    assert!(said.to_string().contains("run the same version"));

    let agent = agent();
    let mut raw = Raw::connect(agent.addr);
    raw.line();
    raw.say("hello 0.0.1+1");
    assert_eq!(raw.line(), format!("error this is version {VERSION}, not 0.0.1+1"));
    assert_eq!(raw.line(), "");
}

#[test]
fn what_cannot_be_had_is_said_at_the_start() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let agent = agent();
    let said = Crew::join(&[agent.addr, nobody], &spec(echo_server(), 4)).err().unwrap().to_string();
    assert!(said.contains(&nobody.to_string()) && said.contains("zygix load agent --listen"), "{said}");
    let said = Crew::join(&[agent.addr], &spec(nobody, 4)).err().unwrap().to_string();
    assert!(said.contains("cannot connect to"), "{said}");
    let said = Crew::join(&[agent.addr, agent.addr], &spec(nobody, 1)).err().unwrap().to_string();
    assert!(said.contains("cannot be shared by 2 agents"), "{said}");
}

#[test]
fn one_coordinator_at_a_time() {
    let agent = agent();
    let _first = Raw::greeted(agent.addr);
    let said = Crew::join(&[agent.addr], &spec(echo_server(), 1)).err().unwrap().to_string();
    assert!(said.contains("busy with another coordinator"), "{said}");
}

#[test]
fn hostile_lines_end_their_session_only() {
    let agent = agent();
    for hostile in ["GET / HTTP/1.1", "spec {}", "run [[[", "preload", "\u{1b}[2J", "hello", "spec \u{0}"] {
        let mut raw = Raw::connect(agent.addr);
        assert_eq!(raw.line(), format!("zygix-agent {VERSION}"), "before {hostile:?}");
        raw.say(hostile);
        let said = raw.line();
        assert!(said.starts_with("error ") && !said.contains('\u{1b}'), "{hostile:?}: {said}");
    }
    // Not text, then an end without a line's end.
    let mut raw = Raw::greeted(agent.addr);
    raw.stream.write_all(b"\xff\xfe\n").unwrap();
    assert!(raw.line().contains("not text"));
    Raw::greeted(agent.addr).stream.write_all(b"spe").unwrap();
    // A line without an end: the agent hangs up at its limit.
    let mut raw = Raw::greeted(agent.addr);
    let piece = vec![b'x'; 64 << 10];
    while raw.stream.write_all(&piece).is_ok() {}
    // Orders in the wrong order are errors, not ends.
    let mut raw = Raw::greeted(agent.addr);
    raw.say("preload");
    assert_eq!(raw.answer(), "error a `spec` comes first");
    raw.say("stop");
    raw.say("bye");
    assert_eq!(raw.answer(), "");
    let target = echo_server();
    assert!(Crew::join(&[agent.addr], &spec(target, 1)).unwrap().run(&window(1000.0, 100)).is_ok());
    assert!(agent.notes.lock().unwrap().iter().all(|note| !note.chars().any(char::is_control)));
}

#[test]
fn a_window_ends_early_with_its_coordinator_or_by_its_wish() {
    let agent = agent();
    let spec = serde_json::to_string(&spec(echo_server(), 2)).unwrap();
    let hour = serde_json::to_string(&window(1000.0, 3_600_000)).unwrap();
    let mut raw = Raw::greeted(agent.addr);
    raw.say(&format!("spec {spec}"));
    assert_eq!(raw.answer(), "ok");
    raw.say(&format!("run {hour}"));
    assert!(raw.line().starts_with("alive "), "a sign of life every second");
    raw.say("stop");
    let done = raw.answer();
    assert!(done.starts_with("done {") && done.contains("\"interrupted\":true"), "{done:.100}");
    // Another hour, and a coordinator that is gone: the next one is not kept waiting.
    raw.say(&format!("run {hour}"));
    assert!(raw.line().starts_with("alive "));
    drop(raw);
    let mut next = Raw::connect(agent.addr);
    while next.line() != format!("zygix-agent {VERSION}") || {
        next.say(&format!("hello {VERSION}"));
        next.say("stop");
        next.say("preload");
        !next.answer().contains("`spec` comes first")
    } {
        next = Raw::connect(agent.addr);
    }
}
