use units::Nanos;

/// What every IPv4 host can take: RFC 9293 section 3.7.1.
const DEFAULT_MSS: u16 = 536;

/// The parameters of an engine; one value serves all connections of a stack and every call is given it.
///
/// A connection must see the same `rcv_wnd`, `mss`, `wscale`, `sack` and `timestamps` for all its life; the
/// rest may change between calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The maximum segment size that we announce and the most that we send, in bytes without any option (RFC 9293
    /// section 3.7.1): MTU - 40.
    pub mss: u16,
    /// What a peer can take that names no MSS; `None`: 536 (RFC 9293 section 3.7.1, MUST-15). Over IPv6 it is 1220.
    pub default_mss: Option<u16>,
    /// The receive buffer, in bytes: the window that is open when the application has consumed everything. At most
    /// 65535 << `wscale`.
    pub rcv_wnd: u32,
    /// The smallest retransmission timeout.
    ///
    /// Deviation: RFC 6298 section 2.4 says 1 s. That is 10^4 round trips of a data centre; the default is
    /// 50 ms, above the 40 ms by which Linux peers delay acknowledgements.
    pub rto_min: Nanos,
    /// The retransmission timeout before the first sample (RFC 6298 section 2.1).
    pub rto_initial: Nanos,
    /// The largest retransmission and persist timeout (RFC 6298 section 2.5: at least 60 s).
    pub rto_max: Nanos,
    /// How long an acknowledgement may wait for data to ride on (RFC 9293 section 3.8.6.3: less than 0.5 s).
    pub delayed_ack: Nanos,
    /// The maximum segment lifetime; TIME-WAIT lasts twice this.
    ///
    /// Deviation: RFC 9293 section 3.4.1 says 2 minutes; the default is 500 ms, since segments of a data-centre network
    /// do not live longer, and since timestamps and clocked ISNs protect a reused tuple.
    pub msl: Nanos,
    /// Keep-alive, off by default (RFC 9293 section 3.8.4).
    pub keepalive: Option<KeepAlive>,
    /// How often a SYN or SYN-ACK is sent again before the attempt is given up. By default 7 times: after 183 s (RFC 9293 section 3.8.3,
    /// MUST-23: at least 3 minutes).
    pub syn_retries: u8,
    /// How often data or a FIN is sent again, with no acknowledgement of anything in between, before the connection
    /// is given up (R2 of RFC 9293 section 3.8.3).
    pub data_retries: u8,
    /// How long FIN-WAIT-2 may last once the user has closed for receiving too.
    pub fin_wait2: Nanos,
    /// The initial congestion window, in segments, 1 to 255 (RFC 6928).
    pub initial_window: u16,
    /// The least span between two challenge ACKs of one connection (RFC 5961 section 7).
    pub challenge_spacing: Nanos,
    /// Which congestion control connections begin with.
    pub congestion: Congestion,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: Ecn,
    /// How long data may stay unacknowledged before the connection is given up, whatever the retries (RFC 9293 section 3.9.1, RFC 5482).
    /// The peer's user timeout option is not read.
    pub user_timeout: Option<Nanos>,
    /// Send probes where the end of a flight may be lost (RFC 8985 section 7).
    pub tlp: bool,
    /// How long the peer may delay the acknowledgement of a single segment (TLP.max_ack_delay).
    pub peer_ack_delay: Nanos,
    /// Find out whether a timeout was needless (RFC 5682).
    pub frto: bool,
    /// Report what came twice (RFC 2883).
    pub dsack: bool,
    /// Windows leave over their round trip, where that is 2 ms or more (after RFC 9002 section 7.7).
    pub pacing: bool,
    /// Connections begin with Nagle's algorithm (RFC 9293 section 3.7.4).
    pub nagle: bool,
    /// Offer and accept selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// Offer and accept timestamps (RFC 7323).
    pub timestamps: bool,
    /// Our window scale (RFC 7323), at most 14, and less if `rcv_wnd` is small; `None` neither offers nor accepts the
    /// option.
    pub wscale: Option<u8>,
}

/// How the congestion window grows and shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Congestion {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    NewReno,
    /// RFC 8257: for networks whose switches mark early, and with ECN.
    Dctcp,
}

impl Congestion {
    /// Every one, with its name.
    pub const ALL: [(Congestion, &'static str); 3] =
        [(Congestion::Cubic, "cubic"), (Congestion::NewReno, "newreno"), (Congestion::Dctcp, "dctcp")];
}

/// Whether ECN is offered and accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Ecn {
    /// Neither.
    Off,
    /// Accepted where a peer offers it.
    #[default]
    Accept,
    /// Offered, too.
    On,
}

impl Ecn {
    /// Every one, with its name.
    pub const ALL: [(Ecn, &'static str); 3] = [(Ecn::Off, "off"), (Ecn::Accept, "accept"), (Ecn::On, "on")];
}

/// When and how often an idle peer is asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Nanos,
    /// The span between probes.
    pub interval: Nanos,
    /// Unanswered probes after which the connection is given up.
    pub probes: u8,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mss: 1460,
            default_mss: None,
            rcv_wnd: 256 << 10,
            rto_min: Nanos::from_millis(50),
            rto_initial: Nanos::from_secs(1),
            rto_max: Nanos::from_secs(60),
            delayed_ack: Nanos::from_millis(1),
            msl: Nanos::from_millis(500),
            keepalive: None,
            syn_retries: 7,
            data_retries: 15,
            fin_wait2: Nanos::from_secs(60),
            initial_window: 10,
            challenge_spacing: Nanos::from_millis(5),
            congestion: Congestion::Cubic,
            ecn: Ecn::Accept,
            user_timeout: None,
            tlp: true,
            peer_ack_delay: Nanos::from_millis(40),
            frto: true,
            dsack: true,
            nagle: false,
            pacing: false,
            sack: true,
            timestamps: true,
            wscale: Some(3),
        }
    }
}

impl Config {
    /// What a peer can take that names no MSS.
    pub(crate) fn default_mss(&self) -> u16 {
        self.default_mss.unwrap_or(DEFAULT_MSS)
    }

    /// The shift that goes into our SYN: within RFC 7323 section 2.3's limit of 14, and such that the window has at least
    /// 256 steps; a window coarser than the buffer would read as closed.
    pub(crate) fn shift(&self) -> Option<u8> {
        let steps = (self.rcv_wnd >> 8).max(1);
        self.wscale.map(|s| s.min(14).min(steps.ilog2() as u8))
    }
}
