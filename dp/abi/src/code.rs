use std::fmt;

/// What a batched syscall came to. Negative numbers at the boundary; a byte count is not negative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// No connection could be reserved.
    NoMem = -1,
    /// No packet buffer was free.
    NoBufs = -2,
    /// An argument is out of range.
    Invalid = -3,
    /// Not now; an event condition will say when.
    Again = -4,
    /// A buffer reference lies outside of what the application was given.
    Fault = -5,
    /// No such syscall.
    NoSys = -6,
    /// The syscall exists, this dataplane does not offer it.
    NotSupported = -7,
    /// The handle names no connection (any more).
    BadHandle = -8,
    /// The connection no longer sends or receives.
    Closed = -9,
    /// The peer refused.
    ConnRefused = -10,
}

/// Why a connection ended: the reason of a `dead` event condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Dead {
    /// Both sides had closed and everything was acknowledged.
    Finished = 0,
    /// The peer sent RST.
    Reset = 1,
    /// The peer stopped acknowledging (RFC 9293 section 3.8.3, R2), or keep-alive probes went unanswered.
    TimedOut = 2,
    /// The peer answered the active open with RST.
    Refused = 3,
    /// The application closed or aborted it.
    Local = 4,
    /// The dataplane ran out of connections, ports or buffers.
    NoResources = 5,
    /// The active open did not get to the peer: an ICMP error said so.
    Unreachable = 6,
    /// The application's handler panicked.
    Panicked = 7,
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dead::Finished => "finished",
            Dead::Reset => "reset by peer",
            Dead::TimedOut => "timed out",
            Dead::Refused => "connection refused",
            Dead::Local => "closed here",
            Dead::NoResources => "out of resources",
            Dead::Unreachable => "unreachable",
            Dead::Panicked => "handler panicked",
        })
    }
}
