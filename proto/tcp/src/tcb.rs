use std::fmt;
use std::ops::BitOr;

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Segment, Timestamps};

use crate::congestion::{Control, SSTHRESH_START};
use crate::record::Record;
use crate::recovery::Phase;
use crate::{Config, State, ecn};

/// Smaller announcements are read as this: they would only make us send headers.
pub(crate) const MIN_MSS: u16 = 64;
/// What the timestamps option takes of every segment (RFC 7323 appendix A).
pub(crate) const TIMESTAMPS_LEN: u16 = 12;

/// The transmission control block (RFC 9293 section 3.3.1): all that the engine knows of one connection.
///
/// ```text
///   send:      snd.una          snd.nxt          snd.end        una + wnd
///     ---acked---|---in flight----|---admitted-----|              |        FIN, once closed, is at snd.end
///                ^ head of the caller's send queue
///   receive:                    rcv.nxt                        rcv.edge
///     ---consumed---|---unread----|---held runs and gaps---------|         rcv.edge: what the peer was promised
/// ```
///
/// Three cache lines and a half; in-order data, plain ACKs and their answers touch the first [`Tcb::HOT`] bytes. What a connection needs in
/// trouble lies in a record beside it ([`crate::Records`]).
#[derive(Clone)]
#[repr(C)]
pub struct Tcb {
    // What every segment touches.
    pub(crate) snd_una: Seq,
    pub(crate) snd_nxt: Seq,
    /// The end of what the user was admitted.
    pub(crate) snd_end: Seq,
    /// SND.WND in bytes.
    pub(crate) snd_wnd: u32,
    pub(crate) cwnd: u32,
    pub(crate) rcv_nxt: Seq,
    /// The largest RCV.NXT + RCV.WND ever advertised.
    pub(crate) rcv_edge: Seq,
    /// Last.ACK.sent of RFC 7323.
    pub(crate) last_ack_sent: Seq,
    pub(crate) ts_recent: u32,
    pub(crate) ts_offset: u32,
    /// In-order bytes that the application has not consumed.
    pub(crate) unread: u32,
    pub(crate) bits: Bits,
    /// Retransmission; or persist, reordering or a tail loss probe ([`Bits::PERSIST`], [`Bits::REO`], [`Bits::PTO`]).
    pub(crate) rtx_at: Nanos,
    /// Delayed ACK.
    pub(crate) ack_at: Nanos,
    // What most segments touch.
    /// When the timed segment was sent, and the end of it.
    pub(crate) rtt_at: Nanos,
    /// When something was last sent.
    pub(crate) last_snd: Nanos,
    /// When an acceptable segment last arrived.
    pub(crate) last_rcv: Nanos,
    pub(crate) state: State,
    pub(crate) phase: Phase,
    pub(crate) dupacks: u8,
    /// Retransmissions (or probes) since the peer last answered.
    pub(crate) retries: u8,
    pub(crate) rtt_seq: Seq,
    pub(crate) snd_wl1: Seq,
    pub(crate) snd_wl2: Seq,
    /// MAX.SND.WND of RFC 5961 and RFC 9293 section 3.8.6.2.1.
    pub(crate) snd_wnd_max: u32,
    /// SRTT in eighths of a microsecond, 0 before the first sample; RTTVAR in quarters.
    pub(crate) srtt8: u32,
    pub(crate) rttvar4: u32,
    pub(crate) rto_us: u32,
    /// Payload bytes per segment: SMSS.
    pub(crate) smss: u16,
    /// The largest segment seen: an estimate of the peer's SMSS.
    pub(crate) rcv_mss: u16,
    pub(crate) snd_shift: u8,
    pub(crate) rcv_shift: u8,
    pub(crate) backoff: u8,
    /// Duplicate ACKs to be sent.
    pub(crate) dups_due: u8,
    /// Keep-alive, FIN-WAIT-2 or TIME-WAIT, by the state.
    pub(crate) long_at: Nanos,
    pub(crate) rcv_buf: u32,
    pub(crate) ssthresh: u32,
    /// The least round trip seen, in microseconds (RACK.min_RTT).
    pub(crate) min_rtt_us: u32,
    /// How long data may stay unacknowledged, in stamps; 0: as long as the retries take (RFC 5482).
    pub(crate) user_timeout: u32,
    /// RecoveryPoint of RFC 6675.
    pub(crate) recover: Seq,
    /// The initial window in segments.
    pub(crate) iw: u8,
    /// RACK.reo_wnd_mult and RACK.reo_wnd_persist.
    pub(crate) reo_mult: u8,
    pub(crate) reo_persist: u8,
    /// Keep-alive probes since the peer last answered.
    pub(crate) probes: u8,
    // What trouble and age touch.
    /// Present while something is amiss ([`Bits::RECORD`]).
    pub(crate) record: Option<Box<Record>>,
    /// HighRxt of RFC 6675: what lies before has been sent again.
    pub(crate) rxt: Seq,
    /// When a challenge ACK was last sent, in stamps.
    pub(crate) challenged: u32,
    /// Where the peer's FIN is, if it arrived out of order ([`Bits::FIN_HELD`]).
    pub(crate) rcv_fin: Seq,
    /// Bytes acknowledged towards the next step of congestion avoidance.
    pub(crate) credit: u32,
    pub(crate) control: Control,
    /// TLP.end_seq, while [`Bits::PROBED`]; otherwise, while [`Bits::PACED`], the end of what may leave at once.
    pub(crate) tlp_end: Seq,
    /// RCV.NXT before the mark changed ([`Bits::ACK_OLD`]).
    pub(crate) before_mark: Seq,
    /// Up to here marks are of the window that was reduced already.
    pub(crate) ecn_end: Seq,
    /// When the first of the present timeouts counted from, in stamps.
    pub(crate) stalled: u32,
}

const _: () = assert!(size_of::<Tcb>() <= 232);
const _: () = assert!(std::mem::offset_of!(Tcb, rtt_at) == 64);
const _: () = assert!(Tcb::HOT <= 160);

/// Facts about a connection that are either so or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bits(pub(crate) u32);

impl Bits {
    /// Timestamps are in use (Snd.TS.OK).
    pub(crate) const TS: Bits = Bits(1);
    /// SACK is in use.
    pub(crate) const SACK: Bits = Bits(1 << 1);
    /// The user has closed: a FIN follows the data.
    pub(crate) const FIN: Bits = Bits(1 << 2);
    /// The user has closed for receiving too.
    pub(crate) const GONE: Bits = Bits(1 << 3);
    /// The user was refused and wants to hear when it may send.
    pub(crate) const WANT: Bits = Bits(1 << 4);
    /// An ACK is due now.
    pub(crate) const ACK_NOW: Bits = Bits(1 << 5);
    /// A zero-window or keep-alive probe is due now.
    pub(crate) const PROBE: Bits = Bits(1 << 6);
    /// A segment is being timed.
    pub(crate) const TIMING: Bits = Bits(1 << 7);
    /// The peer's FIN arrived out of order.
    pub(crate) const FIN_HELD: Bits = Bits(1 << 8);
    /// The override of the sender's SWS avoidance.
    pub(crate) const FORCE: Bits = Bits(1 << 9);
    /// There is a record.
    pub(crate) const RECORD: Bits = Bits(1 << 10);
    /// `rtx_at` is the persist timer.
    pub(crate) const PERSIST: Bits = Bits(1 << 11);
    /// The segment at snd.una is to be sent again at once.
    pub(crate) const HEAD_LOST: Bits = Bits(1 << 12);
    /// The SYN (or SYN-ACK) is to be sent.
    pub(crate) const SYN_DUE: Bits = Bits(1 << 13);
    /// snd.una is where the last repair ended.
    pub(crate) const AT_RECOVER: Bits = Bits(1 << 14);
    /// The congestion window held the sender back.
    pub(crate) const LIMITED: Bits = Bits(1 << 15);
    /// `rtx_at` is the reordering timer.
    pub(crate) const REO: Bits = Bits(1 << 16);
    /// `rtx_at` is the time of a tail loss probe.
    pub(crate) const PTO: Bits = Bits(1 << 17);
    /// A tail loss probe has been sent, its outcome is open.
    pub(crate) const PROBED: Bits = Bits(1 << 18);
    /// It sent something again.
    pub(crate) const PROBED_AGAIN: Bits = Bits(1 << 19);
    /// A tail loss probe is to be sent now.
    pub(crate) const TAIL_DUE: Bits = Bits(1 << 20);
    /// Segments have overtaken one another (RACK.reordering_seen).
    pub(crate) const REORDERED: Bits = Bits(1 << 21);
    /// ECN is in use.
    pub(crate) const ECN: Bits = Bits(1 << 22);
    /// ACKs say ECE.
    pub(crate) const ECE_DUE: Bits = Bits(1 << 23);
    /// The next new data says CWR.
    pub(crate) const CWR_DUE: Bits = Bits(1 << 24);
    /// An ACK of what came before the mark changed is due (RFC 8257 section 3.2).
    pub(crate) const ACK_OLD: Bits = Bits(1 << 25);
    /// Small segments wait for ACKs (RFC 896, RFC 9293 section 3.7.4).
    pub(crate) const NAGLE: Bits = Bits(1 << 26);
    /// Small segments wait for more data.
    pub(crate) const CORK: Bits = Bits(1 << 27);
    /// Windows leave over their round trip.
    pub(crate) const PACED: Bits = Bits(1 << 28);
    /// New data waits for the next stride.
    pub(crate) const RESTS: Bits = Bits(1 << 29);
    /// The window offered is a small one, for buffers are short.
    pub(crate) const SPARING: Bits = Bits(1 << 30);
}

impl BitOr for Bits {
    type Output = Bits;
    fn bitor(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

/// The purposes of a connection's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Timer {
    /// The oldest data (or SYN, FIN) in flight was not acknowledged in time (RFC 6298).
    Retransmit,
    /// What was sent before something that has arrived has had time to arrive (RFC 8985 section 6).
    Reordering,
    /// No ACK came for what was sent last (RFC 8985 section 7).
    Probe,
    /// The peer's window has been closed for long enough to ask (RFC 9293 section 3.8.6.1).
    Persist,
    /// An acknowledgement has waited long enough for data to ride on.
    DelayedAck,
    /// The peer has been silent for long (RFC 9293 section 3.8.4).
    KeepAlive,
    /// The peer has kept its half open for long.
    FinWait2,
    /// The next stride of a window that leaves over its round trip.
    Pace,
    /// 2 MSL are over.
    TimeWait,
}

/// What both ends agreed on in their SYNs, and where they start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) iss: Seq,
    pub(crate) irs: Seq,
    pub(crate) mss: Option<u16>,
    /// The peer's shift, if both offered one.
    pub(crate) wscale: Option<u8>,
    pub(crate) sack: bool,
    /// TS.Recent, if both offered timestamps.
    pub(crate) ts_recent: Option<u32>,
    pub(crate) ts_offset: u32,
    /// Both speak ECN (RFC 3168).
    pub(crate) ecn: bool,
}

impl Handshake {
    /// What a SYN leads to under our configuration.
    pub(crate) fn of_syn(cfg: &Config, iss: Seq, ts_offset: u32, seg: &Segment) -> Handshake {
        Handshake {
            iss,
            irs: seg.seq,
            mss: seg.opts.mss,
            wscale: cfg.shift().and(seg.opts.wscale),
            sack: cfg.sack && seg.opts.sack_permitted,
            ts_recent: seg.opts.timestamps.filter(|_| cfg.timestamps).map(|ts| ts.val),
            ts_offset,
            ecn: if seg.flags.contains(Flags::ACK) { ecn::accepted(cfg, seg) } else { ecn::accepts(cfg, seg) },
        }
    }
}

impl Tcb {
    /// The first bytes of a block, which are all that a quiet connection touches: what a caller with many of them fetches ahead.
    pub const HOT: usize = std::mem::offset_of!(Tcb, record);

    /// OPEN, active (RFC 9293 section 3.10.1): a connection in SYN-SENT whose first [`Tcb::poll_transmit`] yields the
    /// SYN with sequence number `isn`.
    pub fn connect(now: Nanos, cfg: &Config, isn: Seq) -> Tcb {
        Tcb::connect_with_ts_offset(now, cfg, isn, 0)
    }

    /// As [`Tcb::connect`], with the offset of the timestamp clock ([`crate::IsnKey::ts_offset`]) that keeps our uptime to
    /// ourselves (RFC 7323 section 7.1).
    pub fn connect_with_ts_offset(now: Nanos, cfg: &Config, isn: Seq, ts_offset: u32) -> Tcb {
        Tcb {
            snd_una: isn,
            snd_nxt: isn,
            snd_end: isn + 1,
            snd_wnd: 0,
            cwnd: u32::from(cfg.default_mss()),
            rcv_nxt: Seq(0),
            rcv_edge: Seq(0),
            last_ack_sent: Seq(0),
            ts_recent: 0,
            ts_offset,
            unread: 0,
            bits: Bits::SYN_DUE
                | if cfg.nagle { Bits::NAGLE } else { Bits(0) }
                | if cfg.pacing { Bits::PACED } else { Bits(0) },
            rtx_at: Nanos::MAX,
            ack_at: Nanos::MAX,
            rtt_at: now,
            last_snd: now,
            last_rcv: now,
            state: State::SynSent,
            phase: Phase::Open,
            dupacks: 0,
            retries: 0,
            rtt_seq: isn,
            snd_wl1: Seq(0),
            snd_wl2: Seq(0),
            snd_wnd_max: 0,
            srtt8: 0,
            rttvar4: 0,
            rto_us: u32::try_from(cfg.rto_initial.micros()).unwrap_or(u32::MAX),
            smss: cfg.default_mss(),
            rcv_mss: cfg.default_mss().min(cfg.mss),
            snd_shift: 0,
            rcv_shift: 0,
            backoff: 0,
            iw: cfg.iw(),
            record: None,
            long_at: Nanos::MAX,
            rxt: isn,
            recover: isn,
            rcv_buf: cfg.rcv_wnd,
            challenged: stamp(now).wrapping_sub(1 << 31),
            rcv_fin: Seq(0),
            ssthresh: SSTHRESH_START,
            credit: 0,
            control: Control::new(cfg.congestion),
            min_rtt_us: 0,
            tlp_end: isn,
            before_mark: Seq(0),
            ecn_end: isn,
            user_timeout: cfg.user_timeout.map_or(0, stamps),
            stalled: 0,
            reo_mult: 1,
            reo_persist: 0,
            probes: 0,
            dups_due: 0,
        }
    }

    /// A connection whose handshake `seg` completes, on the passive side.
    pub(crate) fn accepted(now: Nanos, cfg: &Config, shake: &Handshake, seg: &Segment) -> Tcb {
        let mut tcb = Tcb::connect_with_ts_offset(now, cfg, shake.iss, shake.ts_offset);
        tcb.clear(Bits::SYN_DUE);
        tcb.agree(cfg, shake);
        tcb.snd_una = shake.iss + 1;
        tcb.snd_nxt = tcb.snd_una;
        tcb.rxt = tcb.snd_una;
        tcb.ecn_end = tcb.snd_una;
        tcb.snd_wl1 = seg.seq;
        tcb.snd_wl2 = seg.ack;
        tcb.snd_wnd = u32::from(seg.wnd) << tcb.snd_shift;
        tcb.snd_wnd_max = tcb.snd_wnd;
        tcb.last_ack_sent = tcb.rcv_nxt;
        tcb.enter_established(now, cfg);
        tcb
    }

    /// Takes over what the SYNs said.
    pub(crate) fn agree(&mut self, cfg: &Config, shake: &Handshake) {
        let Handshake { iss: _, irs, mss, wscale, sack, ts_recent, ts_offset, ecn } = *shake;
        self.ts_offset = ts_offset;
        if let Some(shift) = wscale {
            // RFC 7323 section 2.3: "a shift count ... greater than 14 ... use 14".
            self.snd_shift = shift.min(14);
            self.rcv_shift = cfg.shift().unwrap_or(0);
        }
        if sack {
            self.set(Bits::SACK);
        }
        if ecn {
            self.set(Bits::ECN);
        }
        if let Some(val) = ts_recent {
            self.set(Bits::TS);
            self.ts_recent = val;
        }
        // RFC 9293 section 3.7.1, MUST-16: the smaller of both, less the options of every segment (RFC 6691).
        let mss = mss.unwrap_or_else(|| cfg.default_mss()).min(cfg.mss).max(MIN_MSS);
        self.smss = if ts_recent.is_some() { mss - TIMESTAMPS_LEN } else { mss };
        self.cwnd = self.initial_cwnd();
        self.rcv_nxt = irs + 1;
        // What the window field of our SYN could promise.
        self.rcv_edge = self.rcv_nxt + self.rcv_buf.min(u32::from(u16::MAX));
    }

    /// The state after the handshake.
    pub(crate) fn enter_established(&mut self, now: Nanos, cfg: &Config) {
        self.state = State::Established;
        self.last_rcv = now;
        if let Some(keep) = cfg.keepalive {
            self.long_at = now + keep.idle;
        }
    }

    /// CLOSED: nothing is sent any more.
    pub(crate) fn enter_closed(&mut self) {
        self.state = State::Closed;
        self.phase = Phase::Open;
        self.bits = Bits(self.bits.0 & (Bits::TS | Bits::SACK | Bits::RECORD).0);
        self.dups_due = 0;
        (self.rtx_at, self.ack_at, self.long_at) = (Nanos::MAX, Nanos::MAX, Nanos::MAX);
    }

    #[inline]
    pub(crate) fn has(&self, bits: Bits) -> bool {
        self.bits.0 & bits.0 != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, bits: Bits) {
        self.bits.0 |= bits.0;
    }

    #[inline]
    pub(crate) fn clear(&mut self, bits: Bits) {
        self.bits.0 &= !bits.0;
    }

    /// Sequence numbers sent and not acknowledged (FlightSize of RFC 5681).
    #[inline]
    pub(crate) fn flight(&self) -> u32 {
        self.snd_nxt.since(self.snd_una)
    }

    /// Whether our FIN has been sent.
    #[inline]
    pub(crate) fn fin_sent(&self) -> bool {
        self.snd_nxt.gt(self.snd_end)
    }

    /// Our timestamp clock: milliseconds (RFC 7323 section 5.4), displaced per connection.
    #[inline]
    pub(crate) fn ts_now(&self, now: Nanos) -> u32 {
        ts_clock(now).wrapping_add(self.ts_offset)
    }

    #[inline]
    pub(crate) fn timestamps(&self, now: Nanos) -> Option<Timestamps> {
        self.has(Bits::TS).then(|| Timestamps { val: self.ts_now(now), ecr: self.ts_recent })
    }

    /// The state of the connection.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// SND.UNA: the oldest unacknowledged sequence number, where the caller's send queue begins.
    #[inline]
    pub fn snd_una(&self) -> Seq {
        self.snd_una
    }

    /// SND.NXT: the next sequence number to be sent.
    #[inline]
    pub fn snd_nxt(&self) -> Seq {
        self.snd_nxt
    }

    /// SND.WND in bytes.
    #[inline]
    pub fn snd_wnd(&self) -> u32 {
        self.snd_wnd
    }

    /// The congestion window in bytes.
    #[inline]
    pub fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// The slow-start threshold in bytes.
    #[inline]
    pub fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    /// RCV.NXT: the next sequence number expected.
    #[inline]
    pub fn rcv_nxt(&self) -> Seq {
        self.rcv_nxt
    }

    /// The right edge of the receive window as far as it was ever advertised. Never moves back.
    #[inline]
    pub fn rcv_edge(&self) -> Seq {
        self.rcv_edge
    }

    /// Payload bytes per segment (SMSS): what options take is already off.
    #[inline]
    pub fn mss(&self) -> u16 {
        self.smss
    }

    /// Payload bytes in the send queue: sent and unacknowledged, and admitted but not sent.
    #[inline]
    pub fn unacked(&self) -> u32 {
        if self.state.is_synchronized() && self.snd_una.lt(self.snd_end) { self.snd_end.since(self.snd_una) } else { 0 }
    }

    /// Payload bytes admitted but never sent.
    #[inline]
    pub fn unsent(&self) -> u32 {
        if self.state.is_synchronized() && self.snd_nxt.lt(self.snd_end) { self.snd_end.since(self.snd_nxt) } else { 0 }
    }

    /// In-order bytes delivered to the caller and not yet consumed by the application.
    #[inline]
    pub fn unread(&self) -> u32 {
        self.unread
    }

    /// The smoothed round-trip time, once there is a sample.
    pub fn srtt(&self) -> Option<Nanos> {
        (self.srtt8 != 0).then(|| Nanos(u64::from(self.srtt8) * 125))
    }

    /// The retransmission timeout without back-off.
    pub fn rto(&self) -> Nanos {
        Nanos::from_micros(u64::from(self.rto_us))
    }

    /// The invariants that hold between any two calls, for tests and watchdogs.
    ///
    /// # Errors
    /// The name of the first one that does not hold.
    pub fn invariants(&self) -> Result<(), &'static str> {
        let check = |ok: bool, name| if ok { Ok(()) } else { Err(name) };
        check(self.snd_una.le(self.snd_nxt), "snd.una <= snd.nxt")?;
        check(self.snd_nxt.le(self.snd_end + 1), "snd.nxt <= snd.end + FIN")?;
        check(!self.fin_sent() || self.has(Bits::FIN) || self.state == State::Closed, "FIN sent only if closed")?;
        check(self.snd_una.le(self.rxt) && self.rxt.le(self.snd_nxt), "snd.una <= rxt <= snd.nxt")?;
        check(self.rcv_nxt.le(self.rcv_edge), "rcv.nxt <= edge")?;
        let offered = self.rcv_edge.since(self.rcv_nxt);
        check(offered <= self.rcv_buf.max(u32::from(u16::MAX)), "window <= buffer")?;
        check(self.cwnd >= u32::from(self.smss) || !self.state.is_synchronized(), "cwnd >= SMSS")?;
        check(self.has(Bits::RECORD) == self.record.is_some(), "the bit says whether there is a record")?;
        if let Some(record) = self.record.as_deref().filter(|_| self.state != State::Closed) {
            let held = record.held.as_slice();
            check(held.iter().all(|(l, r)| l.lt(*r)), "no empty range")?;
            check(held.iter().all(|(l, r)| l.gt(self.rcv_nxt) && r.le(self.rcv_edge)), "held within window")?;
            let end = record.flight.end().unwrap_or(self.snd_una);
            check(!self.has(Bits::SACK) || end == self.snd_nxt || self.flight() == 0, "pieces end at snd.nxt")?;
            check(record.flight.iter(self.snd_una).all(|(from, p)| from.lt(p.end)), "no empty piece")?;
        }
        let closed = self.state == State::Closed;
        check(closed || self.flight() == 0 || self.rtx_at != Nanos::MAX, "flight needs a timer")?;
        check(self.state != State::TimeWait || self.long_at != Nanos::MAX, "TIME-WAIT needs a timer")?;
        check(!closed || self.deadline() == Nanos::MAX, "CLOSED has no timer")
    }
}

/// The timestamp clock before the offset.
#[inline]
pub(crate) fn ts_clock(now: Nanos) -> u32 {
    now.millis() as u32
}

/// A span in stamps, at least one.
pub(crate) fn stamps(span: Nanos) -> u32 {
    u32::try_from(span.0 >> 20).unwrap_or(u32::MAX).max(1)
}

/// A coarse instant: 2^20 ns, about a millisecond, on a circle of 52 days.
#[inline]
pub(crate) fn stamp(now: Nanos) -> u32 {
    (now.0 >> 20) as u32
}

impl fmt::Debug for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Tcb {
    /// One line: `ESTABLISHED snd 1..101..101 wnd 65535 cwnd 14480 open | rcv 7..65542 unread 0 | rto 50.000ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} snd {:?}..{:?}..{:?}", self.state, self.snd_una, self.snd_nxt, self.snd_end)?;
        write!(f, " wnd {} cwnd {} {:?}", self.snd_wnd, self.cwnd, self.phase)?;
        write!(f, " | rcv {:?}..{:?} unread {}", self.rcv_nxt, self.rcv_edge, self.unread)?;
        write!(f, " | rto {:?}", self.rto())?;
        for (timer, at) in self.timers() {
            write!(f, " {timer:?}@{at:?}")?;
        }
        Ok(())
    }
}
