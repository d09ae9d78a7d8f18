//! stub
use units::Nanos;
use wire::Seq;
use wire::tcp::Segment;

use crate::{Arrival, Config, Emit, State};

/// The purposes of a connection's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Timer {
    /// The oldest data (or SYN, FIN) in flight was not acknowledged in time (RFC 6298).
    Retransmit,
    /// The peer's window has been closed for long enough to ask (RFC 9293 section 3.8.6.1).
    Persist,
    /// An acknowledgement has waited long enough for data to ride on.
    DelayedAck,
    /// The peer has been silent for long (RFC 9293 section 3.8.4).
    KeepAlive,
    /// The peer has kept its half open for long.
    FinWait2,
    /// 2 MSL are over.
    TimeWait,
}

/// The transmission control block (RFC 9293 section 3.3.1): all that the engine knows of one connection.
#[derive(Clone, Debug)]
pub struct Tcb {
    state: State,
}

#[allow(unused_variables, missing_docs)]
impl Tcb {
    /// OPEN, active: a connection in SYN-SENT whose first [`Tcb::poll_transmit`] yields the SYN.
    pub fn connect(now: Nanos, cfg: &Config, isn: Seq) -> Tcb {
        Tcb { state: State::SynSent }
    }
    /// As [`Tcb::connect`] with the offset of the timestamp clock, from [`crate::IsnKey::ts_offset`].
    pub fn connect_with_ts_offset(now: Nanos, cfg: &Config, isn: Seq, ts_offset: u32) -> Tcb {
        Tcb { state: State::SynSent }
    }
    /// SEGMENT ARRIVES. `keep_ooo`: the caller has a buffer for out-of-order payload.
    pub fn segment_arrives(&mut self, now: Nanos, cfg: &Config, seg: &Segment, keep_ooo: bool) -> Arrival {
        Arrival::default()
    }
    /// The next segment to send; call until `None`.
    pub fn poll_transmit(&mut self, now: Nanos, cfg: &Config, max_payload: u32) -> Option<Emit> {
        None
    }
    pub fn send_window(&self) -> u32 {
        0
    }
    /// Admits up to `n` bytes that the caller appends to its send queue; returns how many.
    pub fn send(&mut self, now: Nanos, n: u32) -> u32 {
        0
    }
    pub fn consumed(&mut self, n: u32) {}
    /// Half-close: a FIN after the queued data; receiving goes on.
    pub fn shutdown(&mut self, now: Nanos, cfg: &Config) -> Arrival {
        Arrival::default()
    }
    /// Close both ways: as shutdown, and data that still arrives is answered by a reset. With delivered bytes not
    /// yet `consumed`: resets at once (RFC 9293 section 3.6.1 SHLD-3), `closed` is set and `reply` is the RST.
    pub fn close(&mut self, now: Nanos, cfg: &Config) -> Arrival {
        Arrival::default()
    }
    /// ABORT: RST (if the state needs one); the block is CLOSED after.
    pub fn abort(&mut self) -> Option<Emit> {
        None
    }
    pub fn deadline(&self) -> Nanos {
        Nanos::MAX
    }
    pub fn timeout(&mut self, now: Nanos, cfg: &Config) -> Arrival {
        Arrival::default()
    }
    pub fn state(&self) -> State {
        self.state
    }
    pub fn snd_una(&self) -> Seq {
        Seq(0)
    }
    pub fn snd_nxt(&self) -> Seq {
        Seq(0)
    }
    pub fn rcv_nxt(&self) -> Seq {
        Seq(0)
    }
    /// Payload bytes in the send queue: sent and not acknowledged, and admitted but not sent.
    pub fn unacked(&self) -> u32 {
        0
    }
    /// Payload bytes admitted but never sent.
    pub fn unsent(&self) -> u32 {
        0
    }
    /// In-order bytes delivered and not yet consumed.
    pub fn unread(&self) -> u32 {
        0
    }
    /// Payload bytes per segment (options already taken off).
    pub fn mss(&self) -> u16 {
        0
    }
    pub fn srtt(&self) -> Option<Nanos> {
        None
    }
    pub fn rto(&self) -> Nanos {
        Nanos::ZERO
    }
    pub fn cwnd(&self) -> u32 {
        0
    }
    pub fn snd_wnd(&self) -> u32 {
        0
    }
    /// The right edge of the window that the peer was told: never moves back.
    pub fn rcv_edge(&self) -> Seq {
        Seq(0)
    }
    /// Armed timers, for dumps.
    pub fn timers(&self) -> impl Iterator<Item = (Timer, Nanos)> + '_ {
        std::iter::empty()
    }
    /// What must hold between any two calls; for tests.
    pub fn invariants(&self) -> Result<(), &'static str> {
        Ok(())
    }
}
