use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::{Namespace, PATIENCE, os, wait_for};

/// A supervised `zygix serve`: started, ready, and sure to end with its value.
pub struct Server {
    child: Child,
    answers: mpsc::Receiver<Value>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    ready: String,
}

/// How a server ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it said.
    pub log: String,
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
        let mut server = Server { child, answers, log, readers, ready: String::new() };
        match server.answers.recv_timeout(PATIENCE) {
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
        self.child.id()
    }

    /// What it said so far, on both streams.
    pub fn log(&self) -> String {
        lock(&self.log).clone()
    }

    /// Its counters.
    ///
    /// # Panics
    /// When it does not tell.
    #[track_caller]
    pub fn counters(&mut self) -> BTreeMap<String, u64> {
        let stdin = self.child.stdin.as_mut().expect("it was not asked to end yet");
        stdin.write_all(b"stats\n").expect("the server is alive");
        let answer = self.answers.recv_timeout(PATIENCE).expect("the server tells its counters");
        let all = answer.as_object().expect("counters are an object");
        all.iter().filter_map(|(name, n)| Some((name.clone(), n.as_u64()?))).collect()
    }

    /// Memory that is resident now, in bytes.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server is alive");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("every process has a VmRSS");
        let kilobytes: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS is a number");
        kilobytes << 10
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Ends it by a signal and waits.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(mut self, signal: i32) -> Ended {
        os::signal(self.pid(), signal);
        let status = wait_for("the server's end", || self.child.try_wait().expect("it is our child"));
        self.readers.drain(..).for_each(|reader| reader.join().expect("readers only read"));
        Ended { status, log: self.log() }
    }
}

impl Drop for Server {
    /// Asks it to end by closing its standard input; kills it if it does not.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            eprintln!("the server did not end by itself");
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}---", self.log());
        }
    }
}

/// Copies a stream into the log line by line; lines that are JSON objects are answers.
fn follow(stream: impl Read + Send + 'static, log: Arc<Mutex<String>>, answers: mpsc::Sender<Value>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            lock(&log).push_str(&format!("{line}\n"));
            if let Ok(answer @ Value::Object(_)) = serde_json::from_str(&line) {
                // Nobody waits any more when the test is over.
                let _ = answers.send(answer);
            }
        }
    })
}

fn lock(log: &Mutex<String>) -> MutexGuard<'_, String> {
    log.lock().expect("whoever holds the log does not panic")
}
