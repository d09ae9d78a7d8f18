use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use load::Place;
use units::Nanos;

use crate::line::{LineError, Lines};
use crate::message::{Answer, ORDER_MAX, Order, VERSION, clean};
use crate::worker::{Job, Worker};
use crate::{FleetError, SILENCE};

/// How often an agent with nothing to do looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// How often a coordinator hears that the agent is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Waits for coordinators, and makes load for them.
pub struct Agent {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Agent {
    /// Listens on `addr`; with port 0 on one that is free.
    ///
    /// # Errors
    /// The address is not ours, or taken.
    pub fn bind(addr: SocketAddr) -> Result<Agent, FleetError> {
        let listen = || {
            let listener = TcpListener::bind(addr)?;
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            Ok(Agent { listener, addr })
        };
        listen().map_err(|cause| FleetError::Listen { addr, cause })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves coordinators, one at a time, until `stop` says so (asked every 50 ms). `place` is where the load's threads run; `note` hears
    /// a line for people now and then.
    ///
    /// # Errors
    /// The listener broke. What coordinators do wrong ends their sessions only.
    pub fn serve(&self, stop: &dyn Fn() -> bool, place: &Place, note: &dyn Fn(&str)) -> Result<(), FleetError> {
        let broken = |cause| FleetError::Listen { addr: self.addr, cause };
        while !stop() {
            // A failure to wait shows as a loop that accepts nothing; accept says why.
            let _ = sys::wait::readable(&[self.listener.as_raw_fd()], Nanos::from(LOOK));
            let Some((stream, peer)) = self.accept().map_err(broken)? else { continue };
            note(&format!("{peer}: a coordinator"));
            let session = Session::open(stream, place).map(|mut s| s.run(self, stop, note));
            match session {
                Ok(Ok(())) => note(&format!("{peer}: done")),
                Ok(Err(e)) => note(&format!("{peer}: {}", clean(&e))),
                Err(e) => note(&format!("{peer}: {e}")),
            }
        }
        Ok(())
    }

    fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        match self.listener.accept() {
            Ok(new) => Ok(Some(new)),
            // Of this connection, or of the moment: the next one may do.
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Tells whoever else comes that there is a coordinator already.
    fn turn_away(&self) {
        if let Ok(Some((stream, _))) = self.accept()
            && let Ok(mut lines) = Lines::new(stream, 0)
        {
            // Instead of a greeting: nothing has been said to us yet, so that the end of the connection loses no word.
            let _ = lines.send(&Answer::Error("busy with another coordinator".into()).line());
        }
    }
}

/// One coordinator.
struct Session {
    lines: Lines,
    worker: Worker,
}

impl Session {
    fn open(stream: TcpStream, place: &Place) -> io::Result<Session> {
        Ok(Session { lines: Lines::new(stream, ORDER_MAX)?, worker: Worker::start(place.clone())? })
    }

    fn run(&mut self, agent: &Agent, stop: &dyn Fn() -> bool, note: &dyn Fn(&str)) -> Result<(), String> {
        self.say(&Answer::Greeting(VERSION.into()))?;
        let greeted = Instant::now();
        let mut known = false;
        while !stop() {
            agent.turn_away();
            let order = match self.lines.receive(LOOK) {
                Ok(Some(line)) => line.parse::<Order>(),
                Ok(None) if !known && greeted.elapsed() > SILENCE => Err("no `hello` came".into()),
                Ok(None) => continue,
                Err(LineError::Closed) => return Ok(()),
                Err(e) => Err(e.to_string()),
            };
            match order {
                Ok(Order::Hello(version)) if version == VERSION => known = true,
                Ok(Order::Hello(version)) => return self.refuse(format!("this is version {VERSION}, not {version}")),
                Ok(Order::Bye) => return Ok(()),
                Ok(_) if !known => return self.refuse("`hello` comes first".into()),
                Ok(Order::Spec(spec)) => {
                    let (n, depth, target) = (spec.connections, spec.depth, spec.target);
                    note(&format!("{n} connection(s), depth {depth}, to {target}: {}", spec.workload.name()));
                    self.work(Job::Connect(spec), agent, stop)?;
                }
                Ok(Order::Preload) => self.work(Job::Preload, agent, stop)?,
                Ok(Order::Run(window)) => self.work(Job::Run(window), agent, stop)?,
                // What it was to stop is done already.
                Ok(Order::Stop) => {}
                Err(what) => return self.refuse(what),
            }
        }
        self.refuse("the agent was told to end".into())
    }

    /// Has the worker do something, and goes on talking meanwhile.
    fn work(&mut self, job: Job, agent: &Agent, stop: &dyn Fn() -> bool) -> Result<(), String> {
        self.worker.begin(job);
        let mut beat = Instant::now();
        loop {
            if let Some(result) = self.worker.result(LOOK) {
                return match result {
                    Ok(None) => self.say(&Answer::Ok),
                    Ok(Some(outcome)) => self.say(&Answer::Done(outcome)),
                    Err(what) => self.say(&Answer::Error(what)),
                };
            }
            if stop() {
                self.worker.halt();
            }
            agent.turn_away();
            match self.lines.receive(Duration::from_millis(1)).map(|line| line.map(|l| l.parse::<Order>())) {
                Ok(None) => {}
                Ok(Some(Ok(Order::Stop))) => self.worker.halt(),
                Ok(Some(Ok(Order::Bye))) | Err(LineError::Closed) => return Err("gone in the middle".into()),
                Ok(Some(Ok(_))) => return self.refuse("one thing at a time".into()),
                Ok(Some(Err(what))) => return self.refuse(what),
                Err(e) => return Err(e.to_string()),
            }
            if beat.elapsed() >= HEARTBEAT {
                beat = Instant::now();
                self.say(&Answer::Alive(self.worker.vitals()))?;
            }
        }
    }

    fn say(&mut self, answer: &Answer) -> Result<(), String> {
        self.lines.send(&answer.line()).map_err(|e| e.to_string())
    }

    /// Says why, and ends the session.
    fn refuse(&mut self, what: String) -> Result<(), String> {
        self.say(&Answer::Error(what.clone()))?;
        Err(what)
    }
}
