use std::fmt;

/// The state of a connection (RFC 9293 section 3.3.2). LISTEN and a passive SYN-RECEIVED live in [`crate::listen`].
///
/// ```text
///   SYN-SENT --> SYN-RECEIVED (simultaneous open)
///       |            |
///       +--> ESTABLISHED --- CLOSE --> FIN-WAIT-1 --> FIN-WAIT-2 --> TIME-WAIT --> CLOSED
///                 |                        |--> CLOSING ---------------^
///               FIN --> CLOSE-WAIT --- CLOSE --> LAST-ACK ---------------------> CLOSED
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// No connection: the caller removes the control block.
    Closed,
    /// Our SYN is out.
    SynSent,
    /// Both SYNs are out, neither is acknowledged to us (simultaneous open).
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We have closed; our FIN is not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer has closed; we may still send.
    CloseWait,
    /// Both have closed at once; our FIN is not acknowledged.
    Closing,
    /// The peer closed first, then we; our FIN is not acknowledged.
    LastAck,
    /// All is said; old segments die out.
    TimeWait,
}

impl State {
    /// Every state, for tables and properties.
    pub const ALL: [State; 10] = [
        State::Closed,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
    ];

    /// Whether both SYNs have been acknowledged (RFC 9293's "synchronized states").
    #[inline]
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::SynSent | State::SynReceived)
    }

    /// Whether the user may append data.
    #[inline]
    pub const fn can_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// Whether the peer may still send new data (RFC 9293 section 3.10.7.4, seventh step).
    #[inline]
    pub const fn can_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// The name as RFC 9293 writes it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
