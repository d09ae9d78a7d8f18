/// What a NIC can do, fixed at start. The stack uses what is there and does the rest itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caps {
    /// Largest IP packet of a frame, in bytes.
    pub mtu: u16,
    /// The NIC completes transport checksums ([`CsumStart`](crate::CsumStart)).
    pub tx_csum: bool,
    /// The NIC says which received checksums need no check ([`RxFrame::csum_ok`](crate::RxFrame::csum_ok)).
    pub rx_csum: bool,
    /// The NIC cuts super-frames into segments ([`Gso`](crate::Gso)).
    pub tso: bool,
    /// Received frames may be larger than the MTU: several segments of one flow, joined.
    pub large_rx: bool,
    /// Payload in several pieces costs no copy beyond those that the NIC makes anyway.
    pub gather: bool,
    /// Who brings frames to the right core.
    pub steering: Steering,
    /// Entries of the redirection table.
    pub reta_size: u16,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// How results and start-up lines call it, such as `tap:zx0` or `shm:/run/wire (emulated wire)`.
    pub name: String,
}

/// Who brings a frame to the core that owns its flow group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steering {
    /// The NIC: the redirection table decides, and stragglers after a change are rare.
    Hardware,
    /// Nobody: frames come to any queue and the network layer forwards them.
    Software,
}
