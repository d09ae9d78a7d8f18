use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use sys::process::ProcessClock;
use units::Nanos;

/// How long a server may take to start, to answer, to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server of ours in a process of its own, run by its standard input and output (see `control.rs`).
///
/// It is ended by closing its input, which also happens if we die; if that does not help, by its process id.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    clock: ProcessClock,
    /// What it said when it was ready.
    pub(crate) ready: String,
}

/// What a server process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU time of all of its threads.
    pub(crate) cpu: Nanos,
    /// The part of it that was polling without finding anything.
    pub(crate) idle: Nanos,
}

impl Server {
    /// Starts `zygix serve kv` with `args` and waits until it accepts connections.
    pub(crate) fn start(name: &'static str, args: &[String]) -> Result<Server> {
        let program = std::env::current_exe().context("cannot find our own program")?;
        let mut child = Command::new(program)
            .args(["serve", "kv", "--supervised"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: we end it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {name} server"))?;
        let clock = ProcessClock::of(child.id())?;
        let (tx, lines) = channel();
        if let Some(out) = child.stdout.take() {
            read_lines(out, move |line| _ = tx.send(line));
        }
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(err) = child.stderr.take() {
            let complaints = complaints.clone();
            read_lines(err, move |line| {
                let mut kept = complaints.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(line);
                if kept.len() > 20 {
                    kept.pop_front();
                }
            });
        }
        let stdin = child.stdin.take();
        let mut server = Server { name, child, stdin, lines, complaints, clock, ready: String::new() };
        let ready = server.answer()?;
        server.ready = ready["ready"].as_str().unwrap_or_default().to_owned();
        Ok(server)
    }

    /// CPU time so far, and how much of it was idle polling.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        let asked = self.stdin.as_mut().is_some_and(|stdin| stdin.write_all(b"stats\n").is_ok());
        if !asked {
            return Err(self.failed());
        }
        let stats = self.answer()?;
        // As close to its own reading of the idle time as it gets.
        let cpu = self.clock.read()?;
        let idle = stats["idle_ns"].as_u64().with_context(|| format!("the {} server answers nonsense", self.name))?;
        Ok(Usage { cpu, idle: Nanos(idle) })
    }

    /// The next line it says.
    fn answer(&mut self) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            if sys::stop::requested() {
                bail!("interrupted");
            }
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    return serde_json::from_str(&line).map_err(|_| anyhow!("the {} server says {line:?}", self.name));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => return Err(self.failed()),
            }
        }
    }

    /// Why it does not answer: its own last complaint, if there is one.
    #[cold]
    fn failed(&mut self) -> anyhow::Error {
        // It may still be on its way out.
        let ended = wait(&mut self.child, Duration::from_secs(1));
        let kept = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.back().map(|l| l.trim_start_matches("zygix: "));
        match (last, ended) {
            // It gave a reason; what ends by a signal has said other things before, if any.
            (Some(said), Some(status)) if status.code().is_some() => anyhow!("the {} server: {said}", self.name),
            (_, Some(status)) => anyhow!("the {} server ended ({status})", self.name),
            (_, None) => anyhow!("the {} server does not answer", self.name),
        }
    }

    /// Ends it, and fails if it had ended before or does not end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Err(self.failed());
        }
        drop(self.stdin.take());
        match wait(&mut self.child, PATIENCE) {
            Some(status) if status.success() => Ok(()),
            _ => Err(self.failed()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if wait(&mut self.child, Duration::from_secs(3)).is_none() {
            // By its process id; it may end by itself at this very moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

fn read_lines(from: impl Read + Send + 'static, mut to: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).for_each(&mut to));
}
