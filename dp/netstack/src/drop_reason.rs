//! Why a frame was dropped: every frame that is not delivered counts exactly one of these.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// Why a received frame was dropped. Shown by its label in metrics.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)+];

            /// The name in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$name => $label,)+ }
            }
        }
    };
}

reasons! {
    /// Too short for its headers, or a header contradicts itself.
    Malformed = "malformed",
    /// Destination MAC is neither ours nor broadcast.
    NotOurMac = "not_our_mac",
    /// A packet for one host in a frame for many (RFC 1122 section 3.3.6).
    LinkGroup = "link_group",
    /// An EtherType that we do not speak.
    EtherType = "ethertype",
    /// An IPv4 header's checksum, or a transport checksum, is wrong.
    Checksum = "checksum",
    /// Destination address is not ours.
    NotOurAddress = "not_our_address",
    /// Source address is one that no host may use: ours, broadcast, multicast, zero (RFC 1122 section 3.2.1.3); over IPv6 an IPv4-mapped one.
    BadSource = "bad_source",
    /// A fragment: there already, or of a datagram that was refused (RFC 5722) or had to make room.
    Fragment = "fragment",
    /// A fragment whose others did not come in time.
    ReassemblyTime = "reassembly_time",
    /// IPv6 extension headers that we do not accept.
    ExtensionHeaders = "extension_headers",
    /// An IP protocol that we do not speak: the sender is told.
    Protocol = "protocol",
    /// An ICMP message that asks nothing of us.
    Icmp = "icmp",
    /// An ICMP error about a packet that was none of ours.
    IcmpForged = "icmp_forged",
    /// Neighbour discovery: not from this link, not asked for, or not for us.
    Ndp = "ndp",
    /// An ARP packet that we did not ask for and that does not ask for us.
    ArpUnsolicited = "arp_unsolicited",
    /// No listener and no connection: answered with RST where the RFC says so.
    NoPort = "no_port",
    /// A datagram to a port that nobody serves.
    UdpNoPort = "udp_no_port",
    /// The application does not keep up with datagrams.
    UdpFull = "udp_full",
    /// No packet buffer left, or so few that connections holding unread bytes must wait.
    NoMbuf = "no_mbuf",
    /// No connection left: the limit, or the flow group, is full.
    NoConn = "no_conn",
    /// The owner's inbox of forwarded frames was full.
    InboxFull = "inbox_full",
    /// The answer's next hop is not resolved yet.
    NoRoute = "no_route",
    /// A SYN among more than are answered of a burst while SYNs come that want cookies.
    Flood = "flood",
    /// TCP: outside of the window (RFC 9293 section 3.10.7.4, first check).
    TcpWindow = "tcp_window",
    /// TCP: an old duplicate by its timestamp (PAWS, RFC 7323 section 5).
    TcpPaws = "tcp_paws",
    /// TCP: an acknowledgment outside of what was sent (RFC 5961 section 5).
    TcpAck = "tcp_ack",
    /// TCP: RST or SYN that failed RFC 5961's checks.
    TcpBlind = "tcp_blind",
    /// TCP: out-of-order data beyond what is kept.
    TcpOutOfOrder = "tcp_out_of_order",
    /// TCP: a cookie or a handshake that does not fit.
    TcpHandshake = "tcp_handshake",
    /// TCP: anything else the engine had no use for.
    TcpOther = "tcp_other",
}
