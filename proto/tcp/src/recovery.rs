//! Loss recovery: when something is believed lost, what is sent again, and when that turns out to have been needless.
//!
//! ```text
//!             RACK (with SACK), 3rd duplicate ACK (without)      snd.una >= recover, or undo
//!   Open  ------------------------------------------> Recovery ----------------> Open
//!     |                                                   |
//!     +------------------- timeout ------> Loss <---------+      Loss --- snd.una >= recover, or undo ---> Open
//! ```
//!
//! With SACK, pieces say what is in the network (RFC 6675, RFC 8985) and proportional rate reduction spreads what is sent
//! (RFC 9937). Without, RFC 6582 inflates cwnd. A timeout is looked at twice (F-RTO, RFC 5682).

use units::Nanos;
use wire::Seq;
use wire::tcp::{Segment, Timestamps};

use crate::Config;
use crate::congestion::CWND_MAX;
use crate::record::{Frto, Prr, Undo};
use crate::sack::{DUP_THRESH, Told};
use crate::tcb::{Bits, Tcb};

/// How the sender reads acknowledgements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing is believed lost.
    Open,
    /// Fast recovery: what is lost is sent again at a reduced pace.
    Recovery,
    /// A timeout (RFC 5681 section 3.1).
    Loss,
}

/// A stretch to be sent again, at most one segment of it at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rexmit {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
}

impl Tcb {
    // --- without SACK, or without a record ------------------------------------------------------------------------

    /// An ACK advanced snd.una by `acked`; `flight` was outstanding before.
    #[inline]
    pub(crate) fn on_new_ack(&mut self, now: Nanos, acked: u32, flight: u32, ts: Option<Timestamps>) {
        if self.phase == Phase::Open {
            self.dupacks = 0;
            self.grow(now, acked, flight, ts);
        } else if !self.selective() {
            self.on_new_ack_repairing(now, acked, flight);
        }
    }

    #[cold]
    fn on_new_ack_repairing(&mut self, now: Nanos, acked: u32, flight: u32) {
        let smss = u32::from(self.smss);
        if self.phase == Phase::Loss && self.frto_step(acked, false) {
            return;
        }
        let done = self.snd_una.ge(self.recover);
        match self.phase {
            Phase::Open => {}
            // RFC 5681 section 3.1: slow start up to ssthresh after a timeout.
            Phase::Loss => self.grow(now, acked, flight, None),
            // RFC 6582 section 3.2 step 3, full acknowledgements, option 1.
            Phase::Recovery if done => {
                self.cwnd = self.ssthresh.min(self.flight().max(smss).saturating_add(smss));
            }
            Phase::Recovery => {
                // RFC 6582 section 3.2 step 3, partial acknowledgements: the next hole begins at snd.una.
                if self.rxt.le(self.snd_una) {
                    self.set(Bits::HEAD_LOST);
                }
                let back = if acked >= smss { smss } else { 0 };
                self.cwnd = self.cwnd.saturating_sub(acked).saturating_add(back).max(smss);
            }
        }
        if done {
            self.leave_repair();
        }
    }

    /// A duplicate ACK (RFC 5681 section 2), where there are no blocks to go by.
    #[cold]
    pub(crate) fn on_duplicate_ack(&mut self) {
        self.dupacks = self.dupacks.saturating_add(1);
        match self.phase {
            // RFC 6582 section 3.2 step 2: not when the duplicates may come from what a recovery sent again.
            Phase::Open if self.dupacks == DUP_THRESH && !self.has(Bits::AT_RECOVER) => {
                self.enter_recovery();
                self.cwnd = self.ssthresh + u32::from(DUP_THRESH) * u32::from(self.smss);
                self.set(Bits::HEAD_LOST);
            }
            // RFC 5681 section 3.2 step 4: a segment has left the network.
            Phase::Recovery => self.cwnd = self.cwnd.saturating_add(u32::from(self.smss)).min(CWND_MAX),
            Phase::Loss => {
                let _ = self.frto_step(0, false);
            }
            Phase::Open => {}
        }
    }

    // --- with SACK --------------------------------------------------------------------------------------------------

    /// What an ACK with or without blocks means, once snd.una has moved by `acked`.
    #[cold]
    pub(crate) fn after_blocks(&mut self, now: Nanos, seg: &Segment, told: &Told, acked: u32, flight: u32) {
        let una = self.snd_una;
        if told.news {
            self.dupacks = self.dupacks.saturating_add(1);
        }
        if told.dsack.is_some() {
            self.widen_reo_wnd();
        }
        if self.phase != Phase::Open
            && acked > 0
            && let Some(record) = self.record.as_deref_mut()
        {
            record.flight.renege();
        }
        if self.is_undone(seg, told, acked) {
            self.undo();
        }
        let counts = acked > 0 || told.news;
        let waiting = counts && self.phase == Phase::Loss && self.frto_step(acked, told.original);
        if self.phase == Phase::Loss && !waiting && acked > 0 {
            self.grow(now, acked, flight, None);
        }
        if self.phase != Phase::Open && una.ge(self.recover) {
            if self.phase == Phase::Recovery {
                self.cwnd = self.ssthresh;
            }
            self.leave_repair();
        }
        if !waiting && self.frto() == Frto::Off {
            self.find_losses(now, told.delivered, acked > 0);
        }
    }

    /// Looks for losses and acts on them; at last proportional rate reduction. `delivered`: what the ACK told of; `advanced`:
    /// whether snd.una moved.
    pub(crate) fn find_losses(&mut self, now: Nanos, delivered: u32, advanced: bool) {
        let in_network = self.pipe();
        let (lost, next) = self.detect_loss(now);
        if lost && self.phase == Phase::Open {
            // RecoverFS. What earlier ACKs of the batch delivered, and nothing was sent for, counts as delivered in this recovery.
            let now_out = in_network.saturating_add(delivered);
            let flight = self.flight_before(now_out).max(now_out);
            self.enter_recovery();
            if let Some(record) = self.record.as_deref_mut() {
                record.prr = Prr { delivered: flight - now_out, out: 0, flight };
            }
        }
        if self.phase == Phase::Recovery {
            self.reduce(delivered, advanced && !lost);
        }
        if next < self.rtx_at {
            self.rtx_at = next;
            self.set(Bits::REO);
            self.clear(Bits::PTO);
        }
    }

    /// RFC 9937 section 5: what may be sent for what was delivered. cwnd is what is in the network and that.
    fn reduce(&mut self, delivered: u32, safe: bool) {
        let (pipe, ssthresh, smss) = (self.pipe(), self.ssthresh, u32::from(self.smss));
        let Some(record) = self.record.as_deref_mut() else { return };
        let prr = &mut record.prr;
        prr.delivered = prr.delivered.saturating_add(delivered);
        let mut count = if pipe > ssthresh {
            let share = (u64::from(prr.delivered) * u64::from(ssthresh)).div_ceil(u64::from(prr.flight.max(1)));
            u32::try_from(share).unwrap_or(u32::MAX).saturating_sub(prr.out)
        } else {
            let by_data = prr.delivered.saturating_sub(prr.out).max(delivered);
            let limit = by_data.saturating_add(if safe { smss } else { 0 });
            limit.min(ssthresh - pipe)
        };
        if prr.out == 0 {
            // "Force a fast retransmit upon entering recovery".
            count = count.max(smss);
        }
        self.cwnd = pipe.saturating_add(count).clamp(smss, CWND_MAX);
    }

    // --- both -------------------------------------------------------------------------------------------------------

    /// RFC 5681 section 3.2 step 2; RFC 6675 section 5 step (4).
    fn enter_recovery(&mut self) {
        self.remember();
        self.ssthresh = self.reduced_for_loss(self.flight());
        self.phase = Phase::Recovery;
        self.recover = self.snd_nxt;
        self.rxt = self.snd_una;
        self.clear(Bits::TIMING);
        self.lost_is_marked();
    }

    /// A loss is a sign of congestion to a peer that counts marks, too (RFC 3168 section 6.1.2).
    fn lost_is_marked(&mut self) {
        if self.has(Bits::ECN) {
            self.ecn_end = self.snd_nxt;
            self.set(Bits::CWR_DUE);
        }
    }

    /// What was lost is repaired.
    fn leave_repair(&mut self) {
        self.phase = Phase::Open;
        self.dupacks = 0;
        self.clear(Bits::HEAD_LOST);
        self.cwnd = self.cwnd.max(u32::from(self.smss));
        self.narrow_reo_wnd();
        if self.snd_una == self.recover {
            self.set(Bits::AT_RECOVER);
        }
        if let Some(record) = self.record.as_deref_mut() {
            record.frto = Frto::Off;
        }
    }

    /// The retransmission timer expired (RFC 5681 section 3.1, RFC 6582 section 4, RFC 8985 section 6.3).
    pub(crate) fn enter_loss(&mut self, now: Nanos, cfg: &Config) {
        let fresh = self.phase == Phase::Open && self.retries == 0;
        if fresh {
            self.remember();
        }
        // RFC 5681 section 3.1: ssthresh is held while the same data times out again.
        if self.retries == 0 {
            self.ssthresh = self.reduced_for_loss(self.flight());
        }
        self.cwnd = u32::from(self.smss);
        self.credit = 0;
        self.dupacks = 0;
        self.phase = Phase::Loss;
        self.recover = self.snd_nxt;
        self.rxt = self.snd_una;
        self.clear(Bits::HEAD_LOST | Bits::TIMING | Bits::AT_RECOVER | Bits::PROBED | Bits::REO | Bits::PTO);
        self.lost_is_marked();
        let end = self.snd_una + u32::from(self.smss).min(self.flight());
        let una = self.snd_una;
        if let Some(record) = self.record.as_deref_mut() {
            // RFC 5682 section 2: not for a timeout in a recovery, or of what has timed out already.
            record.frto = if cfg.frto && fresh { Frto::First } else { Frto::Off };
            if record.flight.renege() {
                // RFC 2018 section 8: the receiver has dropped what it reported.
                record.frto = Frto::Off;
            }
            if record.frto == Frto::First {
                record.flight.lose_head(una, end);
                return;
            }
        }
        self.lose_on_timeout(now);
    }

    // --- needless repairs -------------------------------------------------------------------------------------------

    /// Remembers what a repair is about to change.
    fn remember(&mut self) {
        let (cwnd, ssthresh, control, una) = (self.cwnd, self.ssthresh, self.control, self.snd_una);
        if let Some(record) = self.record.as_deref_mut() {
            record.undo =
                Some(Undo { cwnd, ssthresh, control, from: una, to: una, unreported: 0, doubtful: 0, again_at: None });
        }
    }

    /// Whether an ACK shows that nothing was lost. With SACK, all that was sent again must have been needless: each of it is acknowledged by
    /// an ACK of an earlier transmission (RFC 3522, by the timestamp that it echoes), or each of it is reported as a duplicate (RFC 3708). One
    /// that was only late says nothing of the others. Without SACK, an ACK that advances is of the first segment sent again.
    pub(crate) fn is_undone(&mut self, seg: &Segment, told: &Told, acked: u32) -> bool {
        let echo = seg.opts.timestamps.filter(|_| self.has(Bits::TS)).map(|ts| ts.ecr);
        let (repairing, selective, smss) = (self.phase != Phase::Open, self.selective(), u32::from(self.smss));
        let Some(undo) = self.record.as_deref_mut().and_then(|r| r.undo.as_mut()) else { return false };
        let Some(again_at) = undo.again_at else { return false };
        if !selective {
            return repairing && acked > 0 && echo.is_some_and(|ecr| (ecr.wrapping_sub(again_at) as i32) < 0);
        }
        if told.needless > 0 {
            undo.doubtful = undo.doubtful.saturating_sub(told.needless);
            if undo.doubtful == 0 {
                return true;
            }
        }
        // What the network has doubled is a duplicate, too: only what was sent again counts.
        let again = |left: Seq, right: Seq| left.ge(undo.from) && right.le(undo.to);
        if let Some((left, right)) = told.dsack.filter(|(left, right)| again(*left, *right)) {
            let segments = right.since(left).div_ceil(smss.max(1));
            undo.unreported = undo.unreported.saturating_sub(u16::try_from(segments).unwrap_or(u16::MAX));
            return undo.unreported == 0;
        }
        false
    }

    /// Takes a repair back (RFC 4015; RFC 9438 section 4.9).
    pub(crate) fn undo(&mut self) {
        let Some(record) = self.record.as_deref_mut() else { return };
        let Some(undo) = record.undo.take() else { return };
        record.flight.find();
        // During F-RTO the window was what the two new segments took.
        let trying = std::mem::replace(&mut record.frto, Frto::Off) != Frto::Off;
        self.cwnd = if trying { undo.cwnd } else { self.cwnd.max(undo.cwnd) };
        self.ssthresh = self.ssthresh.max(undo.ssthresh);
        self.control = undo.control;
        self.rxt = self.snd_una;
        self.phase = Phase::Open;
        self.dupacks = 0;
        self.clear(Bits::HEAD_LOST | Bits::AT_RECOVER);
    }

    /// F-RTO (RFC 5682 section 2.1, with SACK 3.1). `original`: something was delivered that the timeout did not send again. `true`: no
    /// verdict yet, or a good one; else what follows a timeout goes on.
    fn frto_step(&mut self, acked: u32, original: bool) -> bool {
        let Some(frto) = self.record.as_deref().map(|r| r.frto) else { return false };
        // What the user has and no window admitted yet is new data, too.
        let news = (self.unsent() > 0 || self.has(Bits::WANT)) && self.snd_wnd > self.flight();
        let partial = acked > 0 && self.snd_una.lt(self.recover);
        let next = match frto {
            Frto::Off => return false,
            // Step 2 b: "transmit up to two new (previously unsent) segments".
            Frto::First if partial && news => Frto::Second(self.snd_nxt),
            // Step 3 b: an ACK of what was not sent again. The timeout was spurious.
            Frto::Second(_) if acked > 0 || original => {
                self.undo();
                return true;
            }
            // Step 2 a, 3 a: a duplicate ACK, or nothing to find out with.
            _ => Frto::Off,
        };
        if let Some(record) = self.record.as_deref_mut() {
            record.frto = next;
        }
        let smss = u32::from(self.smss);
        if next == Frto::Off {
            let recover = self.recover;
            if let Some(record) = self.record.as_deref_mut() {
                record.flight.lose(|piece| !piece.fate.is_again() && piece.end.le(recover));
            }
            self.cwnd = self.cwnd.min(3 * smss);
            return false;
        }
        self.cwnd = self.pipe().saturating_add(2 * smss).min(CWND_MAX);
        true
    }

    fn frto(&self) -> Frto {
        self.record.as_deref().map_or(Frto::Off, |r| r.frto)
    }

    /// Notes that a segment was sent again.
    pub(crate) fn note_resent(&mut self, now: Nanos, from: Seq, to: Seq) {
        let (una, clock, sack) = (self.snd_una, self.ts_now(now), self.has(Bits::SACK));
        let Some(record) = self.record.as_deref_mut() else { return };
        if sack {
            record.flight.resent(una, from, to, now);
        }
        record.prr.out = record.prr.out.saturating_add(to.since(from));
        if let Some(undo) = record.undo.as_mut() {
            let first = undo.again_at.is_none();
            undo.again_at.get_or_insert(clock);
            (undo.from, undo.to) = if first { (from, to) } else { (undo.from.min(from), undo.to.max(to)) };
            undo.unreported = undo.unreported.saturating_add(1);
            undo.doubtful = undo.doubtful.saturating_add(1);
        }
    }

    // --- what may be sent -------------------------------------------------------------------------------------------

    /// Bytes believed to be in the network (RFC 6675 section 4 "SetPipe ()"). Bounded by the pieces.
    pub(crate) fn pipe(&self) -> u32 {
        if self.has(Bits::SACK)
            && let Some(record) = self.record.as_deref()
        {
            return record.flight.pipe(self.snd_una);
        }
        match self.phase {
            // RFC 6582 inflates cwnd instead.
            Phase::Open | Phase::Recovery => self.flight(),
            Phase::Loss if self.frto() != Frto::Off => self.flight(),
            // After a timeout, all that was out at the time counts as lost.
            Phase::Loss => {
                let beyond = if self.snd_nxt.gt(self.recover) { self.snd_nxt.since(self.recover) } else { 0 };
                beyond.saturating_add(self.rxt.since(self.snd_una).min(self.flight()))
            }
        }
    }

    /// Bytes beyond snd.nxt that both windows admit now.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        let flight = self.flight();
        let by_peer = self.snd_wnd.saturating_sub(flight);
        if self.phase == Phase::Open && self.dupacks == 0 && !self.has(Bits::RECORD) {
            return by_peer.min(self.cwnd.saturating_sub(flight));
        }
        by_peer.min(self.cwnd_room())
    }

    /// What cwnd admits beyond what is in the network.
    pub(crate) fn cwnd_room(&self) -> u32 {
        let (mut cwnd, smss) = (self.cwnd, u32::from(self.smss));
        if let (Phase::Loss, Frto::Second(from)) = (self.phase, self.frto()) {
            return (2 * smss).saturating_sub(self.snd_nxt.since(from));
        }
        let selective = self.selective();
        // What is lost goes first.
        if self.phase == Phase::Loss && !selective && self.rxt.lt(self.recover) {
            return cwnd.saturating_sub(self.flight());
        }
        if let Some(record) = self.record.as_deref().filter(|_| selective) {
            return cwnd.saturating_sub(record.flight.sum(self.snd_una, |fate| !fate.is_sacked()));
        }
        if self.phase == Phase::Open {
            // RFC 3042, limited transmit: one segment for each of the first two duplicates.
            cwnd = cwnd.saturating_add(u32::from(self.dupacks.min(2)) * smss);
        }
        cwnd.saturating_sub(self.pipe())
    }

    /// The next stretch to send again, if there is one and the window allows. A segment is at most `max_payload` long.
    pub(crate) fn next_rexmit(&self, max_payload: u32) -> Option<Rexmit> {
        if self.phase == Phase::Open {
            return None;
        }
        if self.selective() {
            return self.next_lost(max_payload);
        }
        if self.has(Bits::HEAD_LOST) {
            // RFC 5681 section 3.2 step 3: sent whatever the window.
            return Some(Rexmit { from: self.snd_una, to: self.snd_nxt });
        }
        let head_only = self.frto() != Frto::Off;
        if self.phase != Phase::Loss || (head_only && self.rxt != self.snd_una) || self.frto_waits() {
            return None;
        }
        let (from, to) = (self.rxt, self.recover);
        let segment = u32::from(self.smss).min(max_payload);
        let pipe = if head_only { 0 } else { self.pipe() };
        let fits = pipe == 0 || pipe.saturating_add(segment) <= self.cwnd;
        (from.lt(to) && fits && self.may_resend(from)).then_some(Rexmit { from, to })
    }

    /// Whether new data is being tried instead of what may be lost (RFC 5682 section 2.1 step 2 b).
    fn frto_waits(&self) -> bool {
        matches!(self.frto(), Frto::Second(_))
    }

    fn next_lost(&self, max_payload: u32) -> Option<Rexmit> {
        let record = self.record.as_deref()?;
        let (from, to) = record.flight.first_lost(self.snd_una)?;
        let segment = u32::from(self.smss).min(max_payload).min(to.since(from));
        let pipe = record.flight.pipe(self.snd_una);
        let head = record.frto == Frto::First && from == self.snd_una;
        let fits = pipe == 0 || head || pipe.saturating_add(segment) <= self.cwnd;
        (fits && self.may_resend(from)).then_some(Rexmit { from, to })
    }

    /// RFC 9293 section 3.8.6: the window may have shrunk; its first segment serves as the probe.
    fn may_resend(&self, from: Seq) -> bool {
        self.phase != Phase::Loss || from == self.snd_una || from.since(self.snd_una) < self.snd_wnd
    }
}
