use units::Nanos;
use wire::tcp::Segment;
use wire::{Ipv4Addr, Ipv6Addr};

use crate::script::{Call, Check, Config, Kind};

/// The address of the stack under test.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The address of the peer that the script plays.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The address of the stack under test where it is tested over IPv6.
pub(crate) const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);
/// The peer's.
pub(crate) const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 2);
/// The port of the stack under test, whether it listens or connects.
pub const LOCAL_PORT: u16 = 8080;
/// The peer's port.
pub const REMOTE_PORT: u16 = 45_000;

/// A stack that a script can be run on: one connection, seen from both of its sides. Above it is the user (calls and
/// checks), below it is the wire (segments in, segments out), and time passes only when the interpreter lets it.
///
/// To add a stack, implement this and name it in the test: frames in, frames out, and a clock.
pub trait Subject {
    /// Which of a script's marked lines are meant for it.
    fn kind(&self) -> Kind;

    /// How closely its timing can be held to the script.
    fn pace(&self) -> Pace;

    /// Time since the script began.
    fn now(&self) -> Nanos;

    /// A segment arrives from the peer, with `payload.len()` equal to `seg.len`.
    fn inject(&mut self, seg: &Segment, payload: &[u8]);

    /// The next segment that the stack has sent or sends by `until`, oldest first. Lets time pass no further than the
    /// segment's sending, or than `until` when there is none.
    fn heard(&mut self, until: Nanos) -> Option<Heard>;

    /// Lets time pass; what the stack sends meanwhile is kept for [`Subject::heard`].
    fn wait(&mut self, until: Nanos);

    /// The user calls.
    ///
    /// # Errors
    /// What the stack answered instead of doing it.
    fn call(&mut self, call: Call) -> Result<(), Refusal>;

    /// Whether something holds now.
    ///
    /// # Errors
    /// What holds instead.
    fn check(&mut self, check: Check) -> Result<(), String>;

    /// A breach of the stack's own contract noticed since the last call, if it can be seen from outside of segments
    /// and calls.
    fn breach(&mut self) -> Option<String> {
        None
    }

    /// The connection of the script is over; the next one uses the same addresses and ports.
    fn new_connection(&mut self) {}
}

/// Why a user call did not do what the script wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The stack should have done it, and said this instead.
    Failed(String),
    /// The stack's interface has no such call: the script cannot be run on it.
    NotOffered(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal::Failed(why)
    }
}

/// How a subject's time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Virtual time: what is not delayed happens at once, delays are right to a millisecond.
    Virtual,
    /// Real time on a machine with other things to do: order holds, spans are lower bounds.
    Real,
}

impl Pace {
    /// How early something due after `span` may happen.
    pub fn earliest(self, span: Nanos) -> Nanos {
        match self {
            Pace::Virtual => span - Nanos::from_millis(1),
            Pace::Real => Nanos(span.0 / 10 * 8) - Nanos::from_millis(5),
        }
    }

    /// How late something due after `span` may happen.
    pub fn latest(self, span: Nanos) -> Nanos {
        match self {
            Pace::Virtual if span == Nanos::ZERO => span,
            Pace::Virtual => span + Nanos::from_millis(1),
            Pace::Real => Nanos(span.0 / 10 * 13) + Nanos::from_secs(2),
        }
    }
}

/// A segment that the stack sent.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Nanos,
    /// What.
    pub seg: Segment,
    /// Its bytes, if the subject moves bytes.
    pub payload: Option<Vec<u8>>,
    /// Whether its packet says that it may be marked (RFC 3168 section 5).
    pub ect: bool,
}

/// Builds subjects: one per script.
pub trait Make {
    /// The name of the subject in reports.
    fn name(&self) -> &'static str;

    /// A fresh stack, configured.
    ///
    /// # Errors
    /// Why there can be none; the report shows it.
    fn make(&self, config: &Config) -> Result<Box<dyn Subject>, String>;
}

/// Byte `position` of a direction's stream, counted from the first payload byte. Both directions carry the same.
pub fn stream_byte(position: u64) -> u8 {
    // A prime below 256: byte strings shifted by any segment size differ.
    (position % 251) as u8
}

/// `len` bytes of the stream from `position`.
pub fn stream(position: u64, len: usize) -> Vec<u8> {
    (position..position + len as u64).map(stream_byte).collect()
}
