//! The whole stack as a [`Subject`]: one elastic thread with a cable for a NIC and the script's user for an application,
//! in virtual time.
//!
//! Frames pass Ethernet, ARP, IP, checksums, the flow table and the timing wheel, bytes pass mbufs, calls pass the
//! batched syscalls. What scripts cannot see through that interface is not asked: states beyond "there is a connection",
//! calls on a connection that has no handle yet.

mod cable;
mod user;

use std::collections::VecDeque;
use std::sync::Arc;

use dataplane::ElasticThread;
use netstack::{PoolSizes, Shared, StackConfig};
use nic::{Cable, Queue};
use units::{CoreId, FlowGroupId, Nanos};
use wire::tcp::{Flags, Options, Segment};
use wire::{Addr, Seq};

use crate::engine::engine_config;
use crate::packet::{self, Family};
use crate::script::{Call, Check, Config, Dead, Kind, State};
use crate::subject::{Heard, LOCAL_PORT, Make, Pace, REMOTE_PORT, Refusal, Subject};
use cable::OURS;
use user::{End, User};

/// The instant at which scripts begin.
const BEGINNING: Nanos = Nanos::from_secs(1000);
/// More turns than this at one instant: the stack does not come to rest.
const TURNS_AT_ONCE: u32 = 1_000;
/// Half-open connections that fill a flow group's backlog, so that cookies are made.
const BACKLOG: u16 = 8;

/// Makes whole stacks that speak IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

/// Makes whole stacks that speak IPv6. Scripts name the segment size that is left for TCP, so they are the same.
#[derive(Clone, Copy, Debug)]
pub struct WholeV6;

impl Make for Whole {
    fn name(&self) -> &'static str {
        "whole stack"
    }

    fn make(&self, config: &Config) -> Result<Box<dyn Subject>, String> {
        Ok(Bench::make(config, Family::V4))
    }
}

impl Make for WholeV6 {
    fn name(&self) -> &'static str {
        "whole stack, IPv6"
    }

    fn make(&self, config: &Config) -> Result<Box<dyn Subject>, String> {
        Ok(Bench::make(config, Family::V6))
    }
}

impl Bench {
    fn make(config: &Config, family: Family) -> Box<dyn Subject> {
        Box::new(Bench {
            config: config.clone(),
            family,
            thread: None,
            user: User::new(family),
            now: BEGINNING,
            deadline: Nanos::MAX,
            port: LOCAL_PORT,
            sent: VecDeque::new(),
            breach: None,
        })
    }
}

/// The elastic thread and the two around it.
struct Bench {
    config: Config,
    family: Family,
    /// Made when the script has said whether it listens.
    thread: Option<ElasticThread<Cable>>,
    user: User,
    now: Nanos,
    deadline: Nanos,
    /// The stack's port: the listener's, or what the stack chose.
    port: u16,
    sent: VecDeque<Heard>,
    breach: Option<String>,
}

impl Bench {
    fn thread(&mut self) -> &mut ElasticThread<Cable> {
        self.thread.get_or_insert_with(|| elastic_thread(&self.config, self.family, &[]))
    }

    /// The stack's cable, and the address at its other end.
    fn with_cable<T>(&mut self, f: impl FnOnce(&mut Cable, &Addr) -> T) -> T {
        let (_, remote) = self.family.ends();
        let mut stack = self.thread().stack().expect("nobody else locks the stack");
        f(stack.nic(), &remote)
    }

    /// Turns until there is nothing to do at this instant.
    fn turn(&mut self) {
        for _ in 0..TURNS_AT_ONCE {
            let now = self.now;
            self.thread();
            let Bench { thread: Some(thread), user, .. } = self else { return };
            let turn = thread.turn(now, || now, user);
            self.deadline = turn.deadline;
            self.listen_to_cable();
            if turn.work == 0 && turn.deadline > now && self.with_cable(|cable, _| cable.before_sleep()) {
                return;
            }
        }
        self.breach.get_or_insert(format!("{TURNS_AT_ONCE} turns, and there is still something to do"));
    }

    fn listen_to_cable(&mut self) {
        while let Some(bytes) = self.with_cable(cable::take) {
            if let Some((port, heard)) = packet::parse(self.family, &bytes, self.now - BEGINNING) {
                self.port = port;
                self.sent.push_back(heard);
            }
        }
    }

    fn pass_time(&mut self, until: Nanos, stop_when_sent: bool) {
        let until = BEGINNING + until;
        self.turn();
        while (!stop_when_sent || self.sent.is_empty()) && self.deadline <= until {
            self.now = self.now.max(self.deadline);
            self.turn();
        }
        if !stop_when_sent || self.sent.is_empty() {
            self.now = self.now.max(until);
            self.turn();
        }
    }

    /// Fills the backlog with SYNs from other ports: from then on the stack answers by cookies.
    fn fill_backlog(&mut self) {
        let syn =
            Segment { seq: Seq(1), ack: Seq(0), flags: Flags::SYN, wnd: 1, len: 0, opts: Options::NONE, ce: false };
        for n in 1..=BACKLOG {
            let packet = packet::emit(self.family, &syn, &[], REMOTE_PORT + n, LOCAL_PORT);
            self.with_cable(|cable, peer| cable::send(cable, peer, &packet));
        }
        self.turn();
    }

    /// Makes the stack show the connection to its user, who then does what there is to do.
    fn prod(&mut self, what: &str) -> Result<(), Refusal> {
        let Some(handle) = self.user.handle else {
            return Err(Refusal::NotOffered(format!("{what}: the connection has no handle before it is open")));
        };
        self.thread().shared().post(handle, 0).map_err(|e| e.to_string())?;
        self.turn();
        match self.user.error.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn connections(&mut self) -> usize {
        self.thread().stack().expect("nobody else locks the stack").connections()
    }
}

impl Subject for Bench {
    fn kind(&self) -> Kind {
        Kind::Zygix
    }

    fn pace(&self) -> Pace {
        Pace::Virtual
    }

    fn now(&self) -> Nanos {
        self.now - BEGINNING
    }

    fn inject(&mut self, seg: &Segment, payload: &[u8]) {
        let packet = packet::emit(self.family, seg, payload, REMOTE_PORT, self.port);
        self.with_cable(|cable, peer| cable::send(cable, peer, &packet));
        self.turn();
    }

    fn heard(&mut self, until: Nanos) -> Option<Heard> {
        if self.sent.is_empty() {
            self.pass_time(until, true);
        }
        self.sent.pop_front()
    }

    fn wait(&mut self, until: Nanos) {
        self.pass_time(until, false);
    }

    fn call(&mut self, call: Call) -> Result<(), Refusal> {
        match call {
            Call::Listen => {
                self.thread = Some(elastic_thread(&self.config, self.family, &[LOCAL_PORT]));
                if self.config.cookies {
                    self.fill_backlog();
                }
                Ok(())
            }
            Call::Connect => {
                self.user.to_do.connect = true;
                let now = self.now;
                self.thread();
                if let Bench { thread: Some(thread), user, .. } = self {
                    thread.start(now, user);
                }
                self.turn();
                Ok(())
            }
            // The user accepts every knock.
            Call::Accept if self.user.handle.is_some() || self.user.dead.is_some() => Ok(()),
            Call::Accept => Err(Refusal::Failed("nobody has knocked".into())),
            Call::Send { bytes, admits } => {
                self.user.to_do.send = bytes;
                self.user.admitted = 0;
                self.prod("send")?;
                match admits.filter(|&a| a != self.user.admitted) {
                    None => Ok(()),
                    Some(admits) => Err(format!("{} bytes were admitted, not {admits}", self.user.admitted).into()),
                }
            }
            Call::Recv(n) => {
                self.user.to_do.recv = n;
                self.prod("recv")
            }
            Call::Shutdown => {
                self.user.to_do.end = Some(End::Shutdown);
                self.prod("shutdown")
            }
            Call::Close => {
                self.user.to_do.end = Some(End::Close);
                self.prod("close")
            }
            Call::Abort => {
                self.user.to_do.end = Some(End::Abort);
                self.prod("abort")?;
                self.user.dead = Some(abi::Dead::Local);
                Ok(())
            }
        }
    }

    fn check(&mut self, check: Check) -> Result<(), String> {
        let connections = self.connections();
        let there = format!("{connections} connections");
        let readable = format!("{} bytes wait", self.user.readable);
        let (holds, got) = match check {
            Check::State(State::Listen | State::Closed) => (connections == 0, there),
            // Half-open connections are not counted.
            Check::State(State::SynReceived) => (true, there),
            Check::State(_) => (connections == 1, there),
            Check::Connected => (self.user.connected, "the user was not told".into()),
            Check::Readable(n) => (self.user.readable == n, readable),
            Check::Eof => (self.user.eof && self.user.readable == 0, format!("{readable}, end {}", self.user.eof)),
            // Who has closed is told nothing more.
            Check::Dead(_) if self.user.dead.is_none() && connections == 0 => (true, there),
            Check::Dead(dead) => (self.user.dead.and_then(reason) == Some(dead), format!("{:?}", self.user.dead)),
            Check::Alive => (self.user.dead.is_none() && connections > 0, format!("{:?}", self.user.dead)),
        };
        if holds { Ok(()) } else { Err(got) }
    }

    fn breach(&mut self) -> Option<String> {
        self.breach.take()
    }

    fn new_connection(&mut self) {
        self.user = User::new(self.family);
    }
}

fn reason(dead: abi::Dead) -> Option<Dead> {
    Some(match dead {
        abi::Dead::Finished => Dead::Finished,
        abi::Dead::Reset => Dead::Reset,
        abi::Dead::Refused => Dead::Refused,
        abi::Dead::TimedOut => Dead::TimedOut,
        abi::Dead::Local => Dead::Aborted,
        _ => return None,
    })
}

/// One core with as little memory as scripts need, which listens on `ports`.
fn elastic_thread(config: &Config, family: Family, ports: &[u16]) -> ElasticThread<Cable> {
    let (local, _) = family.ends();
    let mut stack = StackConfig::new(OURS, local, if local.is_v4() { 24 } else { 64 });
    stack.tcp = engine_config(config);
    // The stack takes IPv6's longer header off by itself.
    stack.tcp.mss += (family.header() - Family::V4.header()) as u16;
    stack.max_conns = 64;
    stack.records = 4;
    stack.backlog = usize::from(BACKLOG);
    stack.tcp_ports = ports.to_vec();
    stack.pools = PoolSizes { rx: 256, spill: 2, tx: 256, small: 64 };
    // One flow group: the few SYNs that fill the backlog fill it for every flow.
    let shared = Shared::new(stack, 1, [7; 48], |_| FlowGroupId(0), |_| {}).expect("memory for a small stack");
    let mtu = config.mss + (family.header() + wire::tcp::HEADER) as u16;
    ElasticThread::new(CoreId(0), Arc::new(shared), Cable::new(mtu, OURS.0)).expect("memory for a small stack")
}
