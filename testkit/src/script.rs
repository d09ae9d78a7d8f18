//! What a script says, as values.

use std::fmt;

use tcp::{Congestion, Ecn};
use units::Nanos;
use wire::tcp::Flags;

/// A packet script: what is configured, and what happens, line by line.
#[derive(Clone, Debug)]
pub struct Script {
    /// Folder and file without `.pkt`: `close/simultaneous`.
    pub name: String,
    /// The head comment: what the script shows, and the RFC section that says so.
    pub about: String,
    /// What the Linux referee makes of it.
    pub linux: Linux,
    /// Settings of both stacks.
    pub config: Config,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The `linux:` line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linux {
    /// Linux must pass the script as written.
    Agrees,
    /// Linux cannot be asked; why.
    Unasked(String),
    /// Linux does otherwise, and this is why. Either marked lines say what each does (and it must do that), or
    /// the script must fail on it (else the explanation is out of date).
    Differs(String),
}

/// Settings of the stack under test. Defaults are such that scripts stay short: no options beyond MSS, round numbers,
/// Linux's timers.
#[derive(Clone, Debug)]
pub struct Config {
    /// The MSS that the stack announces; the MTU of its interface is 40 more.
    pub mss: u16,
    /// The receive buffer, in bytes.
    pub window: u32,
    /// The window scale offered, if any.
    pub wscale: Option<u8>,
    /// Whether SACK is offered.
    pub sack: bool,
    /// Whether timestamps are offered.
    pub timestamps: bool,
    /// The congestion control.
    pub congestion: Congestion,
    /// Whether ECN is offered or accepted.
    pub ecn: Ecn,
    /// Whether Linux finds losses by RACK where it has another way; ours has none.
    pub rack: bool,
    /// Whether tail loss probes are sent.
    pub tlp: bool,
    /// Whether timeouts are looked at twice.
    pub frto: bool,
    /// Whether duplicates are reported.
    pub dsack: bool,
    /// Whether small segments wait for ACKs.
    pub nagle: bool,
    /// How long data may stay unacknowledged.
    pub user_timeout: Option<Nanos>,
    /// The initial congestion window, in segments.
    pub initial_window: u16,
    /// The least retransmission timeout.
    pub rto_min: Nanos,
    /// The retransmission timeout before there is a measurement.
    pub rto_initial: Nanos,
    /// How long an acknowledgment may wait.
    pub delayed_ack: Nanos,
    /// What is taken for the MSS of a peer that names none, if not what the RFC says for the family.
    pub default_mss: Option<u16>,
    /// Retransmissions of a SYN or SYN-ACK before giving up.
    pub syn_retries: u8,
    /// Retransmissions of data before giving up (R2).
    pub retries: u8,
    /// The maximum segment lifetime: TIME-WAIT lasts twice as long.
    pub msl: Nanos,
    /// How long a closed connection waits for the peer's FIN.
    pub fin_wait2: Nanos,
    /// Keep-alive: idle time, interval between probes, number of probes.
    pub keepalive: Option<(Nanos, Nanos, u8)>,
    /// The least span between two challenge ACKs.
    pub challenge_spacing: Nanos,
    /// Every SYN is answered by a SYN cookie.
    pub cookies: bool,
    /// Our initial sequence number where the stack lets us choose it.
    pub isn: u32,
    /// The peer's initial sequence number.
    pub peer_isn: u32,
    /// Further sysctls for Linux, below `net.ipv4`.
    pub sysctls: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mss: 1000,
            window: 65_535,
            wscale: None,
            sack: false,
            timestamps: false,
            congestion: Congestion::NewReno,
            ecn: Ecn::Off,
            rack: false,
            tlp: false,
            frto: false,
            dsack: false,
            nagle: false,
            user_timeout: None,
            initial_window: 10,
            rto_min: Nanos::from_millis(200),
            rto_initial: Nanos::from_secs(1),
            delayed_ack: Nanos::from_millis(40),
            default_mss: None,
            syn_retries: 6,
            retries: 15,
            msl: Nanos::from_millis(500),
            fin_wait2: Nanos::from_secs(60),
            keepalive: None,
            challenge_spacing: Nanos::from_millis(500),
            cookies: false,
            isn: 1_000_000,
            peer_isn: 5_000_000,
            sysctls: Vec::new(),
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number in the file, from 1.
    pub line: usize,
    /// The line as written, without indentation and comment.
    pub text: String,
    /// When: after the step before.
    pub delay: Delay,
    /// Only for this kind of stack.
    pub only: Option<Kind>,
    /// What.
    pub action: Action,
}

/// A span after the step before; for expected segments a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// At least this.
    pub min: Nanos,
    /// At most this.
    pub max: Nanos,
}

/// Whose stack is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours: the engine alone or the whole stack.
    Zygix,
    /// The referee.
    Linux,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Zygix => "zygix",
            Kind::Linux => "linux",
        })
    }
}

/// What a line does.
#[derive(Clone, Debug)]
pub enum Action {
    /// `<`: the peer sends a segment.
    Inject(Pattern),
    /// `>`: the stack sends a segment.
    Expect(Pattern),
    /// The user calls the stack.
    Call(Call),
    /// Something must hold.
    Check(Check),
    /// `quiet`: the stack sends nothing for so long.
    Quiet(Nanos),
    /// `new connection`: from here on numbers count from new initial sequence numbers; the peer's is given.
    NewConnection(u32),
}

/// A user call (RFC 9293 section 3.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Passive OPEN.
    Listen,
    /// Active OPEN.
    Connect,
    /// Takes the connection that a listener opened.
    Accept,
    /// SEND so many bytes. With `admits`, so many must be taken at once.
    Send {
        /// Bytes to send.
        bytes: u32,
        /// Bytes that the stack must take at once, if the script says so.
        admits: Option<u32>,
    },
    /// RECEIVE exactly so many bytes.
    Recv(u32),
    /// Half-close: no more to send, still receiving.
    Shutdown,
    /// CLOSE: no more to send, nobody receives.
    Close,
    /// ABORT.
    Abort,
}

/// Something that a script asserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The connection is in this state (CLOSED: there is none).
    State(State),
    /// The user was told that the active open succeeded.
    Connected,
    /// So many bytes wait for the user.
    Readable(u32),
    /// All was read and the peer will send no more.
    Eof,
    /// The connection ended, for this reason.
    Dead(Dead),
    /// The user was not told of an end.
    Alive,
}

/// The states of RFC 9293 section 3.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the RFC's names")]
pub enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

impl State {
    /// All of them.
    pub const ALL: [State; 11] = [
        State::Listen,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
        State::Closed,
    ];

    /// The RFC's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
            State::Closed => "CLOSED",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Both sides had closed.
    Finished,
    /// The peer reset it.
    Reset,
    /// The peer refused it.
    Refused,
    /// Nothing came back for too long.
    TimedOut,
    /// The user aborted it.
    Aborted,
}

impl Dead {
    /// All of them.
    pub const ALL: [Dead; 5] = [Dead::Finished, Dead::Reset, Dead::Refused, Dead::TimedOut, Dead::Aborted];

    /// The word in scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Dead::Finished => "finished",
            Dead::Reset => "reset",
            Dead::Refused => "refused",
            Dead::TimedOut => "timed-out",
            Dead::Aborted => "aborted",
        }
    }
}

/// A segment as a script writes it. Numbers are relative to the initial sequence number of the side they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Control bits; PSH is compared only if written.
    pub flags: Flags,
    /// First and one past the last payload byte; `None` is `*`.
    pub range: Option<(i64, i64)>,
    /// The range travels in pieces of so many bytes.
    pub by: Option<u32>,
    /// The acknowledgment; `None` when there is none or it is `*`.
    pub ack: Option<i64>,
    /// The window on the wire.
    pub win: Win,
    /// MSS option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub ws: Option<u8>,
    /// SACK-permitted option.
    pub sackok: bool,
    /// Timestamps option: value and echo.
    pub ts: Option<(Stamp, Stamp)>,
    /// SACK blocks.
    pub sacks: Vec<(i64, i64)>,
    /// Injected: the packet was marked.
    pub ce: bool,
    /// Expected: whether the packet says that it may be marked, if that is compared.
    pub ect: Option<bool>,
    /// `...`: options that are not written are not compared.
    pub and_more: bool,
}

/// The window of a [`Pattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Win {
    /// Not compared; injected as 65535.
    Any,
    /// Exactly.
    Is(u16),
    /// That or less.
    AtMost(u16),
    /// That or more.
    AtLeast(u16),
}

/// One number of the timestamps option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Not compared.
    Any,
    /// This number.
    Is(u32),
    /// A name for whatever the stack sends there first; later the same number plus the offset.
    Named(String, i64),
}
