//! The engine's answers, all of them plain values with names that a trace can print.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use wire::Seq;
use wire::tcp::{Flags, Options, Segment};

/// What a segment, a timeout or a user call led to. The caller acts on every field.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrival {
    /// Which part of the segment's payload the caller must keep.
    pub payload: Payload,
    /// In-order payload bytes by which rcv.nxt moved: those of this segment and the held out-of-order bytes that it
    /// connected.
    ///
    /// With `len` of [`Payload::InOrder`] and `cur = old rcv.nxt + len`, the caller walks its out-of-order pieces in
    /// sequence order while they begin before the new rcv.nxt: a piece that ends at or before `cur` is dropped, any
    /// other is trimmed at the front to `cur` and moved to the receive queue. Held pieces never overlap each other.
    pub advanced: u32,
    /// Payload bytes to free from the head of the send queue: the peer has them.
    pub acked: u32,
    /// What the user may want to hear.
    pub events: Events,
    /// The connection has ceased: the caller sends `reply` if there is one, and removes the control block.
    pub closed: Option<CloseReason>,
    /// A reset or a challenge ACK to be sent now.
    pub reply: Option<Emit>,
    /// Why the segment, or its payload, was not taken. To be counted.
    pub drop: Option<DropReason>,
}

/// The part of an arrived payload that the caller keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Payload {
    /// Nothing: the buffer can go.
    #[default]
    None,
    /// `len` bytes after the first `skip` of the payload belong at the end of the receive queue.
    InOrder {
        /// Bytes at the front that were received before.
        skip: u32,
        /// Bytes to keep.
        len: u32,
    },
    /// `len` bytes after the first `skip` begin at sequence number `seq` and are held until the gap before them closes.
    OutOfOrder {
        /// Bytes at the front that are held already.
        skip: u32,
        /// Bytes to keep.
        len: u32,
        /// The sequence number of the first byte to keep.
        seq: Seq,
    },
}

/// A set of things that the user may want to hear.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Events(pub u8);

impl Events {
    /// Nothing to tell.
    pub const NONE: Events = Events(0);
    /// The handshake of an active or simultaneous open is done.
    pub const CONNECTED: Events = Events(1);
    /// The peer will send no more; all its data has been delivered.
    pub const PEER_FIN: Events = Events(1 << 1);
    /// A sender that was refused may send again.
    pub const WRITABLE: Events = Events(1 << 2);
    /// A SYN that may reuse this tuple met a connection in TIME-WAIT (RFC 9293 section 3.10.7.4, RFC 6191): the caller
    /// removes the control block and gives the segment to the listener.
    pub const TIMEWAIT_REUSE: Events = Events(1 << 3);

    /// Whether all of `other` are in the set.
    #[inline]
    pub const fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Events {
    type Output = Events;
    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    #[inline]
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}

/// Why a connection has ceased.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CloseReason {
    /// Both sides closed and everything was acknowledged.
    Normal,
    /// The peer reset the connection.
    Reset,
    /// The peer refused the connection.
    Refused,
    /// The peer did not answer for too long.
    TimedOut,
    /// The user gave it up, or closed it with data unread or still arriving.
    Aborted,
}

/// Why a segment or its payload was not taken. One counter each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// All of it was received before (RFC 9293 section 3.10.7.4, first step).
    Duplicate,
    /// It begins beyond the window, or the window is closed.
    OutOfWindow,
    /// It acknowledges far older data than the peer can have in flight (RFC 5961 section 5).
    OldAck,
    /// It acknowledges what was never sent.
    FutureAck,
    /// Its timestamp is older than the last one (RFC 7323 section 5).
    Paws,
    /// It lacks the timestamp that was agreed on (RFC 7323 section 3.2).
    NoTimestamp,
    /// A reset that is not exactly at rcv.nxt, or in TIME-WAIT (RFC 5961 section 3, RFC 1337).
    BadRst,
    /// A SYN on a synchronized connection (RFC 5961 section 4).
    BadSyn,
    /// Neither SYN nor RST nor ACK.
    NoAckBit,
    /// Out of order, and the caller or the scoreboard has no room for it.
    OooFull,
    /// Data after the peer's FIN, or after the user closed.
    AfterClose,
    /// A SYN cookie that we did not make, or too long ago.
    BadCookie,
    /// It belongs to no state of this connection.
    NoConnection,
}

impl DropReason {
    /// Every reason, in the order of their numbers: for tables of counters (`reason as usize`).
    pub const ALL: [DropReason; 13] = [
        DropReason::Duplicate,
        DropReason::OutOfWindow,
        DropReason::OldAck,
        DropReason::FutureAck,
        DropReason::Paws,
        DropReason::NoTimestamp,
        DropReason::BadRst,
        DropReason::BadSyn,
        DropReason::NoAckBit,
        DropReason::OooFull,
        DropReason::AfterClose,
        DropReason::BadCookie,
        DropReason::NoConnection,
    ];

    /// A name for counters and traces.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Duplicate => "duplicate",
            DropReason::OutOfWindow => "out_of_window",
            DropReason::OldAck => "old_ack",
            DropReason::FutureAck => "future_ack",
            DropReason::Paws => "paws",
            DropReason::NoTimestamp => "no_timestamp",
            DropReason::BadRst => "bad_rst",
            DropReason::BadSyn => "bad_syn",
            DropReason::NoAckBit => "no_ack_bit",
            DropReason::OooFull => "ooo_full",
            DropReason::AfterClose => "after_close",
            DropReason::BadCookie => "bad_cookie",
            DropReason::NoConnection => "no_connection",
        }
    }
}

/// A segment to send: header values and which bytes of the send queue it carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Emit {
    /// The sequence number of the first byte (or of the SYN).
    pub seq: Seq,
    /// The acknowledgment number; 0 without [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// The window as it goes on the wire, scaled down already.
    pub wnd: u16,
    /// Options.
    pub opts: Options,
    /// The payload starts this many bytes after the head of the send queue (the first unacknowledged byte).
    pub offset: u32,
    /// Payload bytes.
    pub len: u32,
    /// Payload bytes per wire segment: the caller cuts (or lets the NIC cut) at this when `len` is larger. FIN and PSH
    /// belong to the last piece only.
    pub mss: u16,
    /// Some of it was sent before.
    pub rexmit: bool,
    /// The packet says that it may be marked instead of dropped: ECT(0) (RFC 3168 section 5).
    pub ect: bool,
}

impl Emit {
    /// A segment without payload.
    pub(crate) fn control(seq: Seq, ack: Seq, flags: Flags) -> Emit {
        Emit {
            seq,
            ack,
            flags,
            wnd: 0,
            opts: Options::NONE,
            offset: 0,
            len: 0,
            mss: u16::MAX,
            rexmit: false,
            ect: false,
        }
    }

    /// What the peer's engine sees of it: for simulated wires.
    pub fn segment(&self) -> Segment {
        let Emit { seq, ack, flags, wnd, opts, offset: _, len, mss: _, rexmit: _, ect: _ } = *self;
        Segment { seq, ack, flags, wnd, len, opts, ce: false }
    }
}

/// The reset that answers a segment which belongs to no connection (RFC 9293 section 3.10.7.1); none to a reset.
pub fn reset_reply(seg: &Segment) -> Option<Emit> {
    if seg.flags.contains(Flags::RST) {
        None
    } else if seg.flags.contains(Flags::ACK) {
        // "<SEQ=SEG.ACK><CTL=RST>"
        Some(Emit::control(seg.ack, Seq(0), Flags::RST))
    } else {
        // "<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"
        Some(Emit::control(Seq(0), seg.seq + seg.seg_len(), Flags::RST | Flags::ACK))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CloseReason::Normal => "normal",
            CloseReason::Reset => "reset",
            CloseReason::Refused => "refused",
            CloseReason::TimedOut => "timed_out",
            CloseReason::Aborted => "aborted",
        })
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 4] = ["connected", "peer_fin", "writable", "timewait_reuse"];
        let mut sep = "";
        for (bit, name) in NAMES.into_iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{sep}{name}")?;
                sep = "|";
            }
        }
        if sep.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

impl fmt::Display for Emit {
    /// One line in the manner of packet scripts: `SA 1:101(100) ack 7 win 65535 <mss 1460,sackOK> rexmit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(Flags, char); 7] = [
            (Flags::SYN, 'S'),
            (Flags::FIN, 'F'),
            (Flags::RST, 'R'),
            (Flags::PSH, 'P'),
            (Flags::ECE, 'E'),
            (Flags::CWR, 'W'),
            (Flags::ACK, 'A'),
        ];
        for (flag, letter) in LETTERS {
            if self.flags.contains(flag) {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " {:?}:{:?}({})", self.seq, self.seq + self.len, self.len)?;
        if self.flags.contains(Flags::ACK) {
            write!(f, " ack {:?}", self.ack)?;
        }
        write!(f, " win {}", self.wnd)?;
        fmt_options(&self.opts, f)?;
        if self.rexmit { f.write_str(" rexmit") } else { Ok(()) }
    }
}

fn fmt_options(opts: &Options, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if *opts == Options::NONE {
        return Ok(());
    }
    f.write_str(" <")?;
    let mut sep = "";
    if let Some(mss) = opts.mss {
        write!(f, "mss {mss}")?;
        sep = ",";
    }
    if opts.sack_permitted {
        write!(f, "{sep}sackOK")?;
        sep = ",";
    }
    if let Some(ts) = opts.timestamps {
        write!(f, "{sep}TS val {} ecr {}", ts.val, ts.ecr)?;
        sep = ",";
    }
    if let Some(shift) = opts.wscale {
        write!(f, "{sep}wscale {shift}")?;
        sep = ",";
    }
    for (left, right) in opts.sacks.iter() {
        write!(f, "{sep}sack {left:?}:{right:?}")?;
        sep = ",";
    }
    f.write_str(">")
}

impl fmt::Debug for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Arrival {
    /// Only what is not nothing: `in-order 0+100 advanced 100 acked 7 [peer_fin]`; `-` when all is nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arrival { payload, advanced, acked, events, closed, reply, drop } = self;
        if *self == Arrival::default() {
            return f.write_str("-");
        }
        let mut words: Vec<String> = Vec::new();
        match payload {
            Payload::None => {}
            Payload::InOrder { skip, len } => words.push(format!("in-order {skip}+{len}")),
            Payload::OutOfOrder { skip, len, seq } => words.push(format!("out-of-order {skip}+{len} at {seq:?}")),
        }
        if *advanced != 0 {
            words.push(format!("advanced {advanced}"));
        }
        if *acked != 0 {
            words.push(format!("acked {acked}"));
        }
        if !events.is_empty() {
            words.push(format!("[{events}]"));
        }
        words.extend(closed.map(|c| format!("closed {c}")));
        words.extend(drop.map(|d| format!("drop {d}")));
        words.extend(reply.map(|e| format!("reply {{{e}}}")));
        f.write_str(&words.join(" "))
    }
}
