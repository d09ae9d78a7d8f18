use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use load::{Outcome, Spec, Window};

use crate::line::Lines;
use crate::message::{ANSWER_MAX, Answer, Order, VERSION, Vitals};
use crate::{FleetError, SILENCE};

/// How long a machine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a coordinator looks whether it was asked to end.
const LOOK: Duration = Duration::from_millis(50);

/// Agents that make the load together.
pub struct Crew {
    members: Vec<Member>,
    live: Arc<CrewLive>,
}

/// What became of one agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentReport {
    /// The agent.
    pub addr: SocketAddr,
    /// It has done its part of this window.
    pub ok: bool,
    /// If not, why.
    pub error: Option<String>,
}

/// What a window came to, on all machines.
#[derive(Clone, Debug)]
pub struct CrewOutcome {
    /// The sum over those that have done their part. What others sent before they were lost is not in it.
    pub outcome: Outcome,
    /// All agents, in the order in which they were named.
    pub agents: Vec<AgentReport>,
}

/// What the agents have done, for others to watch: about a second behind.
#[derive(Debug)]
pub struct CrewLive(Vec<MemberLive>);

#[derive(Default, Debug)]
struct MemberLive {
    sent: AtomicU64,
    answered: AtomicU64,
    errors: AtomicU64,
    stored: AtomicU64,
    connected: AtomicU64,
}

impl CrewLive {
    fn sum(&self, of: fn(&MemberLive) -> &AtomicU64) -> u64 {
        self.0.iter().map(|m| of(m).load(Relaxed)).fold(0, u64::saturating_add)
    }

    /// Requests handed to the transport.
    pub fn sent(&self) -> u64 {
        self.sum(|m| &m.sent)
    }

    /// Right replies.
    pub fn answered(&self) -> u64 {
        self.sum(|m| &m.answered)
    }

    /// Everything that went wrong.
    pub fn errors(&self) -> u64 {
        self.sum(|m| &m.errors)
    }

    /// Records stored before the load.
    pub fn stored(&self) -> u64 {
        self.sum(|m| &m.stored)
    }

    /// Connections that have opened.
    pub fn connected(&self) -> u64 {
        self.sum(|m| &m.connected)
    }
}

impl MemberLive {
    fn set(&self, v: &Vitals) {
        let Vitals { sent, answered, errors, stored, connected } = *v;
        for (to, n) in [
            (&self.sent, sent),
            (&self.answered, answered),
            (&self.errors, errors),
            (&self.stored, stored),
            (&self.connected, connected),
        ] {
            to.store(n, Relaxed);
        }
    }
}

/// An agent as the coordinator sees it.
struct Member {
    addr: SocketAddr,
    /// None once it is lost, or has failed.
    lines: Option<Lines>,
    error: Option<String>,
}

/// A coordinator's thread of talk with one agent.
struct Talk<'a> {
    lines: &'a mut Lines,
    live: &'a MemberLive,
    /// When it was told to stop, if it was.
    stopped: Option<Instant>,
}

impl Crew {
    /// Connects to the agents, compares versions, and has each open its share of `spec`'s connections. Agents work in parallel.
    ///
    /// # Errors
    /// The first that cannot be had: a run that lacks a machine from the start would not be what was asked for.
    pub fn join(agents: &[SocketAddr], spec: &Spec) -> Result<Crew, FleetError> {
        Crew::of_version(agents, spec, VERSION)
    }

    pub(crate) fn of_version(agents: &[SocketAddr], spec: &Spec, version: &'static str) -> Result<Crew, FleetError> {
        let of = agents.len() as u32;
        if of == 0 || spec.connections < of {
            let n = spec.connections;
            return Err(FleetError::Share(format!(
                "{n} connection(s) cannot be shared by {of} agents: at least one each"
            )));
        }
        let live = Arc::new(CrewLive(agents.iter().map(|_| MemberLive::default()).collect()));
        let mut members: Vec<Member> = agents.iter().map(|&addr| Member { addr, lines: None, error: None }).collect();
        let joined: Vec<Result<(), FleetError>> = std::thread::scope(|s| {
            let joining: Vec<_> = members
                .iter_mut()
                .enumerate()
                .map(|(i, member)| {
                    let mut share = spec.share(i as u32, of);
                    share.threads = share.threads.min(share.connections);
                    let live = &live.0[i];
                    s.spawn(move || member.join(share, live, version))
                })
                .collect();
            joining.into_iter().map(|j| j.join().unwrap_or_else(|_| Err(panicked()))).collect()
        });
        joined.into_iter().collect::<Result<(), _>>()?;
        Ok(Crew { members, live })
    }

    /// What the agents have done so far.
    pub fn live(&self) -> Arc<CrewLive> {
        self.live.clone()
    }

    /// Has the records stored: by the first agent, since every agent asks for the same ones.
    ///
    /// # Errors
    /// It could not store them.
    pub fn preload(&mut self) -> Result<(), FleetError> {
        let done = self.each(|_, talk| talk.ask(&Order::Preload), |i| i == 0);
        match done.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err(what)) => Err(FleetError::Agent { addr: self.members[0].addr, what }),
            None => Err(self.none_left()),
        }
    }

    /// A window on all agents that are left; the rate of an open loop is shared by them. If the process is asked to stop
    /// ([`sys::stop`]), they end it early, with what there is.
    ///
    /// # Errors
    /// No agent is left.
    pub fn run(&mut self, window: &Window) -> Result<CrewOutcome, FleetError> {
        let left = self.members.iter().filter(|m| m.lines.is_some()).count() as u32;
        let order = Order::Run(Box::new(window.share(left)));
        let outcomes = self.each(|_, talk| talk.ask(&order), |_| true);
        let mut sum: Option<Outcome> = None;
        for outcome in outcomes.into_iter().flatten().flatten() {
            match &mut sum {
                Some(sum) => sum.merge(&outcome),
                None => sum = Some(*outcome),
            }
        }
        let agents = self.members.iter().map(Member::report).collect();
        sum.map(|outcome| CrewOutcome { outcome, agents }).ok_or_else(|| self.none_left())
    }

    /// Does something with each agent that is left and `wanted`, in parallel. One that fails is lost.
    fn each<T: Send>(
        &mut self,
        task: impl Fn(usize, &mut Talk<'_>) -> Result<T, String> + Sync,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<Result<T, String>> {
        let (live, task) = (&self.live, &task);
        std::thread::scope(|s| {
            let talks = self.members.iter_mut().enumerate().filter(|(i, m)| m.lines.is_some() && wanted(*i));
            let talks: Vec<_> = talks
                .map(|(i, member)| {
                    s.spawn(move || {
                        let lines = member.lines.as_mut().ok_or("lost")?;
                        let done = task(i, &mut Talk { lines, live: &live.0[i], stopped: None });
                        done.inspect_err(|what| member.lose(what))
                    })
                })
                .collect();
            talks.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(panicked().to_string()))).collect()
        })
    }

    fn none_left(&self) -> FleetError {
        let why = self.members.iter().map(|m| format!("{}: {}", m.addr, m.error.as_deref().unwrap_or("no outcome")));
        FleetError::NoneLeft(why.collect::<Vec<_>>().join("; "))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for lines in self.members.iter_mut().filter_map(|m| m.lines.as_mut()) {
            let _ = lines.send(&Order::Bye.line());
        }
    }
}

fn panicked() -> FleetError {
    FleetError::NoneLeft("a thread of the coordinator has panicked".into())
}

impl Member {
    fn join(&mut self, share: Spec, live: &MemberLive, ours: &'static str) -> Result<(), FleetError> {
        let addr = self.addr;
        let connect = || Lines::new(TcpStream::connect_timeout(&addr, CONNECT)?, ANSWER_MAX);
        let mut lines = connect().map_err(|cause| FleetError::Unreachable { addr, cause })?;
        let mut talk = Talk { lines: &mut lines, live, stopped: None };
        let trouble = |what| FleetError::Agent { addr, what };
        match talk.answer().map_err(trouble)? {
            Answer::Greeting(theirs) if theirs == ours => {}
            Answer::Greeting(theirs) => return Err(FleetError::Version { addr, theirs, ours }),
            Answer::Error(what) => return Err(trouble(what)),
            _ => return Err(trouble("it does not greet as an agent does".into())),
        }
        talk.say(&Order::Hello(ours.into())).map_err(trouble)?;
        talk.ask(&Order::Spec(Box::new(share))).map_err(trouble)?;
        self.lines = Some(lines);
        Ok(())
    }

    fn lose(&mut self, why: &str) {
        self.lines = None;
        self.error = Some(why.into());
    }

    fn report(&self) -> AgentReport {
        AgentReport { addr: self.addr, ok: self.error.is_none(), error: self.error.clone() }
    }
}

impl Talk<'_> {
    fn say(&mut self, order: &Order) -> Result<(), String> {
        self.lines.send(&order.line()).map_err(|e| e.to_string())
    }

    /// Has the agent do something, and waits until it is done. What it says meanwhile shows in the live counts.
    fn ask(&mut self, order: &Order) -> Result<Option<Box<Outcome>>, String> {
        self.say(order)?;
        loop {
            match self.answer()? {
                Answer::Alive(vitals) => self.live.set(&vitals),
                Answer::Ok => return Ok(None),
                Answer::Done(outcome) => return Ok(Some(outcome)),
                Answer::Error(what) => return Err(what),
                Answer::Greeting(_) => return Err("it greets in the middle of the work".into()),
            }
        }
    }

    /// The agent's next line. Passes on the wish of the process to stop.
    fn answer(&mut self) -> Result<Answer, String> {
        let since = Instant::now();
        loop {
            match self.lines.receive(LOOK) {
                Ok(Some(line)) => return line.parse(),
                Ok(None) if since.elapsed() > SILENCE => {
                    return Err(format!("it has said nothing for {} s", SILENCE.as_secs()));
                }
                Ok(None) => {}
                Err(e) => return Err(e.to_string()),
            }
            match self.stopped {
                None if sys::stop::requested() => {
                    self.stopped = Some(Instant::now());
                    self.say(&Order::Stop)?;
                }
                Some(at) if at.elapsed() > SILENCE => return Err("interrupted".into()),
                _ => {}
            }
        }
    }
}
