use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Namespace, PATIENCE, os, wait_for};

/// How long a server may take to end before it is killed.
const PATIENCE_AT_END: Duration = Duration::from_secs(20);

/// A supervised `zygix serve`: started, ready, and sure to end with its value.
pub struct Server {
    pid: u32,
    process: Mutex<Process>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    ready: String,
}

/// The process, and what it answers on its standard output.
struct Process {
    child: Child,
    answers: mpsc::Receiver<Value>,
}

/// How a server ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it said.
    pub log: String,
}

/// What a server has counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters(pub BTreeMap<String, u64>);

impl Counters {
    /// A counter of each elastic thread, in their order.
    pub fn per_core(&self, name: &str) -> Vec<u64> {
        (0..).map_while(|core| self.0.get(&format!("core{core}.{name}")).copied()).collect()
    }

    /// The sum of a counter over all elastic threads. One that is absent has counted nothing.
    pub fn total(&self, name: &str) -> u64 {
        let of_a_core =
            |full: &str| full.strip_prefix("core").and_then(|f| f.split_once('.')).is_some_and(|(_, n)| n == name);
        self.0.iter().filter(|(full, _)| of_a_core(full)).map(|(_, n)| n).sum()
    }

    /// Frames dropped for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.total(&format!("drop.{reason}"))
    }

    /// All reasons for which frames were dropped, with their numbers.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = BTreeMap::new();
        for (name, n) in &self.0 {
            if let Some((_, reason)) = name.split_once(".drop.") {
                *drops.entry(reason.to_owned()).or_default() += n;
            }
        }
        drops
    }
}

impl Server {
    /// Starts `command` in `namespace` and waits until it accepts connections.
    ///
    /// # Panics
    /// When it ends, or says nothing, instead.
    pub fn start(namespace: &Namespace, command: &mut Command) -> Server {
        Server::attach(namespace.spawn(command))
    }

    /// Takes over a process whose standard streams are pipes, and waits until it accepts connections.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn attach(mut child: Child) -> Server {
        let log = Arc::new(Mutex::new(String::new()));
        let (send, answers) = mpsc::channel();
        let out = child.stdout.take().expect("standard output is a pipe");
        let err = child.stderr.take().expect("standard error is a pipe");
        let ignore = mpsc::channel().0;
        let readers = vec![follow(out, log.clone(), send), follow(err, log.clone(), ignore)];
        let process = Mutex::new(Process { child, answers });
        let pid = lock(&process).child.id();
        let mut server = Server { pid, process, log, readers, ready: String::new() };
        let first = lock(&server.process).answers.recv_timeout(PATIENCE);
        match first {
            Ok(answer) if answer["ready"].is_string() => {
                server.ready = answer["ready"].as_str().unwrap_or_default().to_owned();
                server
            }
            other => panic!("the server is not ready ({other:?}); its log:\n{}", server.log()),
        }
    }

    /// The line by which it said that it is ready.
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it said so far, on both streams.
    pub fn log(&self) -> String {
        lock(&self.log).clone()
    }

    /// Its counters, by name; those of elastic threads as `core0.rx_frames`, `core1.drop.checksum`.
    ///
    /// # Panics
    /// When it does not tell.
    #[track_caller]
    pub fn counters(&self) -> Counters {
        let mut process = lock(&self.process);
        let stdin = process.child.stdin.as_mut().expect("it was not asked to end yet");
        stdin.write_all(b"stats\n").expect("the server is alive");
        let answer = process.answers.recv_timeout(PATIENCE).expect("the server tells its counters");
        let all = answer.as_object().expect("counters are an object");
        Counters(all.iter().filter_map(|(name, n)| Some((name.clone(), n.as_u64()?))).collect())
    }

    /// Memory that is resident now, in bytes.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server is alive");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("every process has a VmRSS");
        let kilobytes: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS is a number");
        kilobytes << 10
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.status().is_none()
    }

    fn status(&self) -> Option<ExitStatus> {
        lock(&self.process).child.try_wait().expect("it is our child")
    }

    /// Ends it by a signal and waits.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(mut self, signal: i32) -> Ended {
        os::signal(self.pid(), signal);
        let status = wait_for("the server's end", || self.status());
        self.readers.drain(..).for_each(|reader| reader.join().expect("readers only read"));
        Ended { status, log: self.log() }
    }
}

impl Drop for Server {
    /// Asks it to end by closing its standard input; kills it if it does not, and fails the test.
    fn drop(&mut self) {
        // A test that panicked while it held the lock still wants its server gone.
        let child = &mut self.process.get_mut().unwrap_or_else(PoisonError::into_inner).child;
        drop(child.stdin.take());
        let start = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE_AT_END {
            std::thread::sleep(Duration::from_millis(10));
        }
        let hangs = matches!(child.try_wait(), Ok(None));
        if hangs {
            let _ = child.kill();
        }
        let _ = child.wait();
        if std::thread::panicking() || hangs {
            eprintln!("--- the server's log\n{}---", self.log());
        }
        assert!(!hangs || std::thread::panicking(), "the server did not end by itself");
    }
}

/// Copies a stream into the log line by line; lines that are JSON objects are answers, and those with counters no news.
fn follow(stream: impl Read + Send + 'static, log: Arc<Mutex<String>>, answers: mpsc::Sender<Value>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            match serde_json::from_str(&line) {
                Ok(answer @ Value::Object(_)) => {
                    if answer["ready"].is_string() {
                        lock(&log).push_str(&format!("{line}\n"));
                    }
                    // Nobody waits any more when the test is over.
                    let _ = answers.send(answer);
                }
                _ => lock(&log).push_str(&format!("{line}\n")),
            }
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
