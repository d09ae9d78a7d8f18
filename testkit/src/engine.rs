//! The engine (`proto/tcp`) as a [`Subject`]: virtual time, and around it the least that a caller must be.
//!
//! It keeps the send queue as a count and the receive queues as ranges, and holds the engine to its contract: offsets
//! into the send queue name the right bytes, `advanced` is what the held ranges add up to, `unread` agrees, time moves
//! on at every deadline. The user above it is a plain one: what a window does not admit it offers again at WRITABLE,
//! and CLOSE waits until all was admitted, as it would behind a socket's send buffer.

use std::collections::VecDeque;

use tcp::{
    Arrival, CloseReason, Emit, Events, HalfOpen, HalfOutcome, KeepAlive, Payload, Records, SynCookies, Tcb,
    reset_reply,
};
use units::Nanos;
use wire::tcp::{Flags, MAX_OPTIONS, Options, Segment};
use wire::{Seq, Tuple};

use crate::script::{Call, Check, Config, Dead, Kind, State};
use crate::subject::{self, Heard, Make, Pace, Refusal, Subject, stream};

/// More deadlines than this at one instant: the engine does not move on.
const DEADLINES_AT_ONCE: u32 = 1_000;

/// Makes engines that send what their window admits in segments of at most this many payload bytes.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    /// One segment at a time.
    Segments,
    /// Super-segments, cut here as a NIC would (TSO).
    SuperSegments,
}

impl Make for Engine {
    fn name(&self) -> &'static str {
        match self {
            Engine::Segments => "engine",
            Engine::SuperSegments => "engine (super-segments)",
        }
    }

    fn make(&self, config: &Config) -> Result<Box<dyn Subject>, String> {
        let max_payload = match self {
            Engine::Segments => 0,
            Engine::SuperSegments => 65_000,
        };
        Ok(Box::new(Bench::new(config, max_payload)))
    }
}

/// The engine and its caller.
struct Bench {
    config: tcp::Config,
    isn: Seq,
    cookies: Option<SynCookies>,
    max_payload: u32,
    now: Nanos,
    listening: bool,
    half: Option<HalfOpen>,
    tcb: Option<Tcb>,
    records: Records,
    user: User,
    queues: Queues,
    sent: VecDeque<Heard>,
    breach: Option<String>,
}

/// What the user wants and what it was told.
#[derive(Default)]
struct User {
    /// Bytes to send that no window has admitted yet.
    wanted: u32,
    /// Refused by a window: waits for WRITABLE.
    refused: bool,
    /// CLOSE or SHUTDOWN once nothing is wanted any more.
    ending: Option<Call>,
    connected: bool,
    eof: bool,
    dead: Option<Dead>,
}

/// The caller's queues, without their bytes.
#[derive(Default)]
struct Queues {
    /// Bytes in the send queue.
    unacked: u32,
    /// Bytes that have left it.
    acked: u64,
    /// Bytes that the user has not read.
    unread: u32,
    /// Ranges beyond rcv.nxt.
    held: Vec<(Seq, Seq)>,
}

impl Bench {
    fn new(config: &Config, max_payload: u32) -> Bench {
        Bench {
            config: engine_config(config),
            isn: Seq(config.isn),
            cookies: config.cookies.then(|| SynCookies::new(*b"a key for cookie")),
            max_payload,
            // Not zero: an instant that code may take for "never".
            now: Nanos::from_secs(1000),
            listening: false,
            half: None,
            tcb: None,
            records: Records::new(4),
            user: User::default(),
            queues: Queues::default(),
            sent: VecDeque::new(),
            breach: None,
        }
    }

    fn broken(&mut self, what: String) {
        self.breach.get_or_insert(what);
    }

    fn deadline(&self) -> Nanos {
        let tcb = self.tcb.as_ref().map_or(Nanos::MAX, Tcb::deadline);
        tcb.min(self.half.as_ref().map_or(Nanos::MAX, HalfOpen::deadline))
    }

    /// Runs deadlines up to `until`, or up to the first that makes the stack send.
    fn pass_time(&mut self, until: Nanos, stop_when_sent: bool) {
        let mut at_once = 0;
        while !stop_when_sent || self.sent.is_empty() {
            let due = self.deadline();
            if due > until {
                self.now = self.now.max(until);
                return;
            }
            at_once = if due > self.now { 0 } else { at_once + 1 };
            if at_once > DEADLINES_AT_ONCE {
                self.broken(format!("its deadline stays at {due:?} whatever timeouts it is given"));
                self.now = self.now.max(until);
                return;
            }
            self.now = self.now.max(due);
            self.fire();
        }
    }

    fn fire(&mut self) {
        if let Some(half) = self.half.as_mut().filter(|h| h.deadline() <= self.now) {
            match half.timeout(self.now, &self.config) {
                Some(emit) => self.put(emit),
                None => self.half = None,
            }
        }
        if let Some(tcb) = self.tcb.as_mut().filter(|t| t.deadline() <= self.now) {
            let arrival = tcb.timeout(self.now, &self.config, &mut self.records);
            self.act(arrival);
        }
        self.pump();
    }

    fn drop_block(&mut self) {
        if let Some(mut tcb) = self.tcb.take() {
            tcb.retire(&mut self.records);
        }
    }

    /// What LISTEN, SYN-RECEIVED and CLOSED do with a segment (RFC 9293 section 3.10.7.1 and 3.10.7.2).
    fn segment_to_no_connection(&mut self, seg: &Segment) {
        if let Some(half) = self.half.as_mut() {
            match half.segment_arrives(self.now, &self.config, seg) {
                HalfOutcome::Established(tcb) => {
                    self.half = None;
                    self.establish(tcb, seg);
                }
                HalfOutcome::Drop(_) => {}
                HalfOutcome::Reply(emit) => self.put(emit),
                HalfOutcome::Reset => self.half = None,
            }
            return;
        }
        let bits = seg.flags;
        if !self.listening || bits.contains(Flags::RST) {
            if let Some(reset) = reset_reply(seg) {
                self.put(reset);
            }
        } else if bits.contains(Flags::ACK) {
            let checked = self.cookies.as_ref().and_then(|c| c.check(self.now, &self.config, &tuple(), seg));
            match checked {
                Some(tcb) => self.establish(tcb, seg),
                None => reset_reply(seg).into_iter().for_each(|reset| self.put(reset)),
            }
        } else if bits.contains(Flags::SYN) {
            self.syn_arrives(seg);
        }
    }

    fn syn_arrives(&mut self, seg: &Segment) {
        if let Some(cookies) = &self.cookies {
            let emit = cookies.make(self.now, &self.config, &tuple(), seg);
            return self.put(emit);
        }
        let (half, emit) = HalfOpen::syn_arrives(self.now, &self.config, self.isn, seg);
        self.half = Some(half);
        self.put(emit);
    }

    fn establish(&mut self, tcb: Tcb, seg: &Segment) {
        self.tcb = Some(tcb);
        self.user = User::default();
        self.queues = Queues::default();
        self.segment_to_connection(seg);
    }

    fn segment_to_connection(&mut self, seg: &Segment) {
        let Some(tcb) = self.tcb.as_mut() else { return };
        let syn = seg.flags.contains(Flags::SYN);
        // The peer's SYN sets rcv.nxt; its payload, if any, begins there.
        let before = if syn { seg.seq + 1 } else { tcb.rcv_nxt() };
        let arrival = tcb.segment_arrives(self.now, &self.config, seg, true, &mut self.records);
        let (after, state) = (tcb.rcv_nxt(), tcb.state());
        if state != tcp::State::Closed {
            self.receive(&Segment { seq: seg.seq + u32::from(syn), ..*seg }, before, after, &arrival);
        }
        self.act(arrival);
        if arrival.events.contains(Events::TIMEWAIT_REUSE) {
            self.drop_block();
            self.user = User::default();
            self.segment_to_no_connection(seg);
        }
    }

    /// Keeps the payload that the engine says to keep, and checks that it adds up.
    fn receive(&mut self, seg: &Segment, before: Seq, after: Seq, arrival: &Arrival) {
        let mut cur = before;
        match arrival.payload {
            Payload::None => {}
            Payload::InOrder { skip, len } => {
                if seg.seq + skip != before || skip + len > seg.len {
                    self.broken(format!("in-order {skip}+{len} of {seg:?} does not begin at rcv.nxt {before:?}"));
                }
                cur += len;
            }
            Payload::OutOfOrder { skip, len, seq } => {
                if seg.seq + skip != seq || skip + len > seg.len {
                    self.broken(format!("out-of-order {skip}+{len} of {seg:?} does not begin at {seq:?}"));
                }
                let piece = (seq, seq + len);
                if self.queues.held.iter().any(|&(l, r)| l.lt(piece.1) && piece.0.lt(r)) {
                    self.broken(format!("held range {piece:?} overlaps one of {:?}", self.queues.held));
                }
                self.queues.held.push(piece);
            }
        }
        if arrival.advanced == 0 {
            return;
        }
        self.queues.held.sort_by_key(|&(left, _)| left.since(before));
        let held = std::mem::take(&mut self.queues.held);
        for (left, right) in held {
            if left.le(cur) {
                cur = cur.max(right);
            } else {
                self.queues.held.push((left, right));
            }
        }
        if cur != before + arrival.advanced {
            self.broken(format!("advanced is {}, the bytes at hand make {}", arrival.advanced, cur.since(before)));
        }
        if after != cur && after != cur + 1 {
            self.broken(format!("rcv.nxt is {after:?}, delivered up to {cur:?}"));
        }
        self.queues.unread += arrival.advanced;
    }

    /// Acts on all but the payload.
    fn act(&mut self, arrival: Arrival) {
        let Arrival { payload: _, advanced: _, acked, events, closed, reply, drop: _ } = arrival;
        if acked > self.queues.unacked {
            self.broken(format!("acked {acked} of {} bytes in the send queue", self.queues.unacked));
        }
        self.queues.unacked = self.queues.unacked.saturating_sub(acked);
        self.queues.acked += u64::from(acked);
        self.user.connected |= events.contains(Events::CONNECTED);
        self.user.eof |= events.contains(Events::PEER_FIN);
        self.user.refused &= !events.contains(Events::WRITABLE);
        if let Some(emit) = reply {
            self.put(emit);
        }
        if let Some(reason) = closed {
            self.drop_block();
            self.queues = Queues::default();
            self.user.dead = Some(match reason {
                CloseReason::Normal => Dead::Finished,
                CloseReason::Reset => Dead::Reset,
                CloseReason::Refused => Dead::Refused,
                CloseReason::TimedOut => Dead::TimedOut,
                CloseReason::Aborted => Dead::Aborted,
            });
        }
    }

    /// Lets the user offer and the engine transmit until neither has anything left to do.
    fn pump(&mut self) {
        let Some(tcb) = self.tcb.as_mut() else { return };
        if self.user.wanted > 0 && !self.user.refused {
            let admitted = tcb.send(self.now, self.user.wanted);
            self.user.wanted -= admitted;
            self.user.refused = self.user.wanted > 0;
            self.queues.unacked += admitted;
        }
        if self.user.wanted == 0
            && let Some(ending) = self.user.ending.take()
        {
            let arrival = match ending {
                Call::Shutdown => tcb.shutdown(self.now, &self.config),
                _ => tcb.close(self.now, &self.config),
            };
            self.act(arrival);
        }
        let mut rounds = 0;
        while let Some(tcb) = self.tcb.as_mut() {
            let max_payload = self.max_payload.max(u32::from(tcb.mss()));
            let Some(emit) = tcb.poll_transmit(self.now, &self.config, max_payload) else { break };
            self.put(emit);
            rounds += 1;
            if rounds > DEADLINES_AT_ONCE {
                return self.broken("poll_transmit does not come to an end".into());
            }
        }
        self.agree();
    }

    /// Compares what both sides of the seam keep count of.
    fn agree(&mut self) {
        let Some(tcb) = self.tcb.as_ref() else { return };
        let (unacked, unread) = (tcb.unacked(), tcb.unread());
        if let Err(what) = tcb.invariants() {
            self.broken(format!("invariant: {what}"));
        } else if unacked != self.queues.unacked {
            self.broken(format!("unacked is {unacked}, the send queue holds {}", self.queues.unacked));
        } else if unread != self.queues.unread {
            self.broken(format!("unread is {unread}, the receive queue holds {}", self.queues.unread));
        }
    }

    /// Sends, cutting super-segments.
    fn put(&mut self, emit: Emit) {
        let Emit { seq, ack, flags, wnd, opts, offset, len, mss, rexmit: _, ect } = emit;
        let opts = on_the_wire(&opts);
        if u64::from(offset) + u64::from(len) > u64::from(self.queues.unacked) && len > 0 {
            self.broken(format!("{emit} goes past the {} bytes of the send queue", self.queues.unacked));
        }
        let mut at = 0;
        loop {
            let piece = (len - at).min(u32::from(mss.max(1)));
            let last = at + piece == len;
            let flags = if last { flags } else { flags.without(Flags::FIN | Flags::PSH) };
            let seg = Segment { seq: seq + at, ack, flags, wnd, len: piece, opts, ce: false };
            let payload = stream(self.queues.acked + u64::from(offset + at), piece as usize);
            self.sent.push_back(Heard { at: self.now, seg, payload: Some(payload), ect });
            at += piece;
            if last {
                return;
            }
        }
    }

    fn state(&self) -> State {
        let Some(tcb) = &self.tcb else {
            return match (&self.half, self.listening) {
                (Some(_), _) => State::SynReceived,
                (None, true) => State::Listen,
                (None, false) => State::Closed,
            };
        };
        match tcb.state() {
            tcp::State::Closed => State::Closed,
            tcp::State::SynSent => State::SynSent,
            tcp::State::SynReceived => State::SynReceived,
            tcp::State::Established => State::Established,
            tcp::State::FinWait1 => State::FinWait1,
            tcp::State::FinWait2 => State::FinWait2,
            tcp::State::CloseWait => State::CloseWait,
            tcp::State::Closing => State::Closing,
            tcp::State::LastAck => State::LastAck,
            tcp::State::TimeWait => State::TimeWait,
        }
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
        self.now - Nanos::from_secs(1000)
    }

    fn inject(&mut self, seg: &Segment, _payload: &[u8]) {
        match self.tcb {
            Some(_) => self.segment_to_connection(seg),
            None => self.segment_to_no_connection(seg),
        }
        self.pump();
    }

    fn heard(&mut self, until: Nanos) -> Option<Heard> {
        self.pass_time(Nanos::from_secs(1000) + until, true);
        let heard = self.sent.pop_front()?;
        Some(Heard { at: heard.at - Nanos::from_secs(1000), ..heard })
    }

    fn wait(&mut self, until: Nanos) {
        self.pass_time(Nanos::from_secs(1000) + until, false);
    }

    fn call(&mut self, call: Call) -> Result<(), Refusal> {
        match call {
            Call::Listen => self.listening = true,
            Call::Connect => {
                self.tcb = Some(Tcb::connect(self.now, &self.config, self.isn));
                self.user = User::default();
                self.queues = Queues::default();
            }
            Call::Accept if self.tcb.is_none() => {
                return Err(format!("there is no connection to accept in {}", self.state().name()).into());
            }
            Call::Accept => {}
            Call::Send { bytes, admits } => {
                self.user.wanted += bytes;
                self.pump();
                let admitted = bytes.saturating_sub(self.user.wanted);
                if let Some(admits) = admits.filter(|&a| a != admitted) {
                    return Err(format!("{admitted} bytes were admitted, not {admits}").into());
                }
            }
            Call::Recv(n) if self.queues.unread < n => {
                return Err(format!("{} bytes wait", self.queues.unread).into());
            }
            Call::Recv(n) => {
                self.queues.unread -= n;
                if let Some(tcb) = self.tcb.as_mut() {
                    tcb.consumed(n);
                }
            }
            Call::Shutdown | Call::Close => self.user.ending = Some(call),
            Call::Abort => {
                let emit = self.tcb.as_mut().and_then(Tcb::abort);
                self.drop_block();
                emit.into_iter().for_each(|emit| self.put(emit));
                self.queues = Queues::default();
                self.user.dead = Some(Dead::Aborted);
            }
        }
        self.pump();
        Ok(())
    }

    fn check(&mut self, check: Check) -> Result<(), String> {
        let (holds, got) = match check {
            Check::State(State::Closed) => (self.tcb.is_none() && self.half.is_none(), self.state().name().into()),
            Check::State(state) => (self.state() == state, self.state().name().into()),
            Check::Connected => (self.user.connected, "the user was not told".to_string()),
            Check::Readable(n) => (self.queues.unread == n, format!("{} bytes wait", self.queues.unread)),
            Check::Eof if self.queues.unread > 0 => (false, format!("{} bytes wait", self.queues.unread)),
            Check::Eof => (self.user.eof, "the user was not told".to_string()),
            Check::Dead(_) | Check::Alive => {
                let got = self.user.dead.map_or("alive", Dead::name).to_string();
                (
                    matches!(check, Check::Dead(d) if Some(d) == self.user.dead)
                        || (check == Check::Alive && got == "alive"),
                    got,
                )
            }
        };
        if holds { Ok(()) } else { Err(got) }
    }

    fn breach(&mut self) -> Option<String> {
        self.breach.take()
    }

    fn new_connection(&mut self) {
        self.isn += 0x1000_0000;
    }
}

/// What arrives of options: those that find no room in a header are left out.
fn on_the_wire(opts: &Options) -> Options {
    let mut bytes = [0; MAX_OPTIONS];
    let len = opts.emit(&mut bytes);
    Options::parse(&bytes[..len]).expect("options of our own parse")
}

fn tuple() -> Tuple {
    Tuple {
        local: subject::LOCAL.into(),
        remote: subject::REMOTE.into(),
        local_port: subject::LOCAL_PORT,
        remote_port: subject::REMOTE_PORT,
    }
}

pub(crate) fn engine_config(c: &Config) -> tcp::Config {
    tcp::Config {
        mss: c.mss,
        default_mss: c.default_mss,
        rcv_wnd: c.window,
        rto_min: c.rto_min,
        rto_initial: c.rto_initial,
        delayed_ack: c.delayed_ack,
        msl: c.msl,
        keepalive: c.keepalive.map(|(idle, interval, probes)| KeepAlive { idle, interval, probes }),
        syn_retries: c.syn_retries,
        data_retries: c.retries,
        fin_wait2: c.fin_wait2,
        initial_window: c.initial_window,
        challenge_spacing: c.challenge_spacing,
        congestion: c.congestion,
        ecn: c.ecn,
        tlp: c.tlp,
        frto: c.frto,
        dsack: c.dsack,
        nagle: c.nagle,
        user_timeout: c.user_timeout,
        sack: c.sack,
        timestamps: c.timestamps,
        wscale: c.wscale,
        ..tcp::Config::default()
    }
}
