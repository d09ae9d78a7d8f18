//! A server in a process of its own: ours, run by its standard input and output, or someone else's.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use sys::process::ProcessClock;
use units::Nanos;

use crate::Interrupted;

/// How long a server may take to start, to answer, to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server process. It is ended when it is dropped.
///
/// Ours (`zygix serve APP --supervised`) says when it is ready, tells its counters, and ends with its standard input,
/// which also happens if we die. Someone else's is ready when it accepts a connection, never polls in vain, and is
/// killed by its process id.
pub struct Server {
    name: String,
    child: Child,
    /// Ours only.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    /// Done when nobody can complain any more.
    listener: Option<JoinHandle<()>>,
    clock: ProcessClock,
    /// What it said when it was ready.
    pub ready: String,
}

/// What a server process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time of all of its threads.
    pub cpu: Nanos,
    /// The part of it that was polling without finding anything.
    pub idle: Nanos,
}

impl Server {
    /// Starts `serve APP --supervised` of the running program with `args`, and waits until it accepts connections. `name`
    /// is what it is called in complaints.
    ///
    /// # Errors
    /// Its own last complaint, if it ends instead; [`Interrupted`].
    pub fn ours(name: &str, app: &str, args: &[String]) -> Result<Server> {
        let program = std::env::current_exe().context("cannot find our own program")?;
        let mut command = Command::new(program);
        command.args(["serve", app, "--supervised"]).args(args).stdin(Stdio::piped());
        let mut server = Server::spawn(name, command)?;
        server.stdin = server.child.stdin.take();
        let ready = server.answer()?;
        server.ready = ready["ready"].as_str().unwrap_or_default().to_owned();
        Ok(server)
    }

    /// Starts someone else's server and waits until it accepts connections at `addr`, which must be reachable from the
    /// calling thread's namespace.
    ///
    /// # Errors
    /// As [`Server::ours`].
    pub fn others(name: &str, mut command: Command, addr: SocketAddr) -> Result<Server> {
        command.stdin(Stdio::null());
        let mut server = Server::spawn(name, command)?;
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_err() {
            if sys::stop::requested() {
                return Err(Interrupted.into());
            }
            if Instant::now() > until || server.child.try_wait()?.is_some() {
                return Err(server.failed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        server.ready = format!("{name} at {addr}");
        Ok(server)
    }

    fn spawn(name: &str, mut command: Command) -> Result<Server> {
        // Ctrl-C is for us: we end it.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start the {name} server"))?;
        let clock = ProcessClock::of(child.id())?;
        let (tx, lines) = channel();
        if let Some(out) = child.stdout.take() {
            let _ = read_lines(out, move |line| _ = tx.send(line));
        }
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let listener = child.stderr.take().map(|err| {
            let complaints = complaints.clone();
            read_lines(err, move |line| {
                let mut kept = complaints.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(line);
                if kept.len() > 20 {
                    kept.pop_front();
                }
            })
        });
        Ok(Server {
            name: name.to_owned(),
            child,
            stdin: None,
            lines,
            complaints,
            listener,
            clock,
            ready: String::new(),
        })
    }

    /// What it is called in complaints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU clock of all its threads.
    pub fn clock(&self) -> ProcessClock {
        self.clock
    }

    /// CPU time so far, and how much of it was idle polling.
    ///
    /// # Errors
    /// Why it does not answer; [`Interrupted`].
    pub fn usage(&mut self) -> Result<Usage> {
        let Some(stats) = self.stats()? else {
            if self.child.try_wait()?.is_some() {
                return Err(self.failed());
            }
            return Ok(Usage { cpu: self.clock.read()?, idle: Nanos::ZERO });
        };
        // As close to its own reading of the idle time as it gets.
        let cpu = self.clock.read()?;
        let idle = stats["idle_ns"].as_u64().with_context(|| format!("the {} server answers nonsense", self.name))?;
        Ok(Usage { cpu, idle: Nanos(idle) })
    }

    /// Counters of ours by these names, those of all its cores together; 0 for one that it does not have. None of another's server.
    ///
    /// # Errors
    /// As [`Server::usage`].
    pub fn counters<const N: usize>(&mut self, names: [&str; N]) -> Result<Option<[u64; N]>> {
        let Some(stats) = self.stats()? else { return Ok(None) };
        let of_core = |key: &str, name: &str| key.split_once('.').is_some_and(|(_, n)| n == name);
        let sum = |name: &str| {
            let all = stats.as_object().into_iter().flatten().filter(|(key, _)| *key == name || of_core(key, name));
            all.filter_map(|(_, n)| n.as_u64()).sum()
        };
        Ok(Some(names.map(sum)))
    }

    /// What it tells of itself, if it is ours.
    fn stats(&mut self) -> Result<Option<Value>> {
        let Some(stdin) = self.stdin.as_mut() else { return Ok(None) };
        if stdin.write_all(b"stats\n").is_err() {
            return Err(self.failed());
        }
        self.answer().map(Some)
    }

    /// The next line it says.
    fn answer(&mut self) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            if sys::stop::requested() {
                return Err(Interrupted.into());
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
        if ended.is_some() {
            // Its last words may still be in the pipe, which a child of its own can keep open.
            let until = Instant::now() + Duration::from_secs(1);
            while self.listener.as_ref().is_some_and(|l| !l.is_finished()) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let kept = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.back().map(|l| l.trim_start_matches("zygix: "));
        match (last, ended) {
            // It gave a reason; what ends by a signal has said other things before, if any.
            (Some(said), Some(status)) if status.code().is_some() => anyhow!("the {} server: {said}", self.name),
            (_, Some(status)) => anyhow!("the {} server ended ({status})", self.name),
            (_, None) => anyhow!("the {} server does not answer", self.name),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// It had ended before, or does not end well.
    pub fn stop(mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Err(self.failed());
        }
        let Some(stdin) = self.stdin.take() else { return Ok(()) }; // killed when dropped, now
        drop(stdin);
        match wait(&mut self.child, PATIENCE) {
            Some(status) if status.success() => Ok(()),
            _ => Err(self.failed()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let asked = self.stdin.take().is_some();
        if !asked || wait(&mut self.child, Duration::from_secs(3)).is_none() {
            // By its process id; it may end by itself at this very moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

fn read_lines(from: impl Read + Send + 'static, mut to: impl FnMut(String) + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).for_each(&mut to))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_ends_instead_of_serving_is_told_with_its_own_words() {
        // Nothing will ever accept here: the port is taken, and not listened on by the command.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("sh");
        // What it says arrives after its end is known.
        command.args(["-c", "(sleep 0.2; echo no such luck) >&2 & exit 3"]);
        let Err(e) = Server::others("unlucky", command, addr) else { panic!("it cannot have started") };
        assert_eq!(e.to_string(), "the unlucky server: no such luck");
        let Err(e) = Server::others("absent", Command::new("/no/such/program"), addr) else { panic!("nor this") };
        assert!(e.to_string().contains("cannot start the absent server"), "{e}");
    }

    #[test]
    fn someone_elses_server_has_a_clock_and_is_gone_when_dropped() {
        // The test listens in its stead: what is under test is the process.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        let mut server = Server::others("sleeping", command, listener.local_addr().unwrap()).unwrap();
        let usage = server.usage().unwrap();
        assert!(usage.cpu > Nanos::ZERO && usage.idle == Nanos::ZERO);
        let pid = server.pid();
        server.stop().unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
