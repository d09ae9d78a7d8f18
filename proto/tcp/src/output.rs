//! What is sent next. One question, [`Tcb::poll_transmit`], asked until it says `None`; the order of its answers is
//! the order of urgency:
//!
//! 1. the SYN of an open;
//! 2. duplicate ACKs, pure so that the peer counts them (RFC 5681 section 2) and that SACK blocks find room;
//! 3. what is believed lost (RFC 6675, RFC 6582, RFC 6298);
//! 4. new data and the FIN;
//! 5. an ACK that found nothing to ride on;
//! 6. a probe of a closed window or a silent peer.

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Options, SackBlocks, Timestamps};

use crate::recovery::{Phase, Rexmit};
use crate::tcb::{Bits, Tcb};
use crate::{Config, Emit, State, ecn};

impl Tcb {
    /// The next segment to send, or `None` when there is nothing (more) to send now.
    ///
    /// `max_payload` above [`Tcb::mss`] allows super-segments, which are a multiple of [`Emit::mss`] unless they are the last of
    /// the queue. Each call does a bounded amount of work; the windows bound the number of calls that answer `Some`.
    #[inline(never)]
    pub fn poll_transmit(&mut self, now: Nanos, cfg: &Config, max_payload: u32) -> Option<Emit> {
        const DUE: u32 = Bits::ACK_NOW.0
            | Bits::PROBE.0
            | Bits::SYN_DUE.0
            | Bits::HEAD_LOST.0
            | Bits::FIN.0
            | Bits::WANT.0
            | Bits::TAIL_DUE.0
            | Bits::ACK_OLD.0
            | Bits::CWR_DUE.0
            | Bits::PACED.0
            | Bits::NAGLE.0
            | Bits::CORK.0;
        if self.phase == Phase::Open && self.bits.0 & DUE == 0 && self.dups_due == 0 {
            if self.snd_nxt == self.snd_end || !self.state.is_synchronized() {
                return None;
            }
            // The common case: admitted data that fits the windows and one call.
            let queued = self.snd_end.since(self.snd_nxt);
            if queued <= max_payload && queued <= self.room() {
                return Some(self.emit_new(now, cfg, queued, max_payload, false));
            }
        }
        self.poll_transmit_slow(now, cfg, max_payload)
    }

    #[inline(never)]
    fn poll_transmit_slow(&mut self, now: Nanos, cfg: &Config, max_payload: u32) -> Option<Emit> {
        match self.state {
            State::Closed => return None,
            State::SynSent | State::SynReceived if self.has(Bits::SYN_DUE) => {
                return Some(self.emit_syn(now, cfg));
            }
            State::SynSent => return None,
            State::SynReceived => return self.has(Bits::ACK_NOW).then(|| self.emit_ack(now)),
            _ => {}
        }
        if self.has(Bits::ACK_OLD) {
            return Some(self.emit_ack_before_mark(now));
        }
        if self.dups_due > 0 || (self.has(Bits::ACK_NOW) && self.has_blocks()) {
            self.dups_due = self.dups_due.saturating_sub(1);
            return Some(self.emit_ack(now));
        }
        if self.has(Bits::TAIL_DUE)
            && let Some(emit) = self.emit_tail(now, cfg, max_payload)
        {
            return Some(emit);
        }
        if let Some(rexmit) = self.next_rexmit(max_payload)
            && let Some(emit) = self.emit_rexmit(now, cfg, rexmit, max_payload)
        {
            return Some(emit);
        }
        if let Some(emit) = self.next_new(now, cfg, max_payload) {
            return Some(emit);
        }
        if self.has(Bits::ACK_NOW) {
            return Some(self.emit_ack(now));
        }
        if self.has(Bits::PROBE) {
            return Some(self.emit_probe(now));
        }
        self.persist_if_stuck(now, cfg);
        None
    }

    /// New data and the FIN, as far as the windows and SWS avoidance let them go.
    fn next_new(&mut self, now: Nanos, cfg: &Config, max_payload: u32) -> Option<Emit> {
        let queued = self.unsent();
        let room = self.room();
        // CWR stands on one segment only; NICs that cut would repeat it.
        let max_payload = if self.has(Bits::CWR_DUE) { max_payload.min(u32::from(self.smss)) } else { max_payload };
        let mss = u32::from(self.smss).min(max_payload.max(1));
        let mut n = queued.min(room).min(max_payload.max(1));
        if self.has(Bits::PACED) && n > 0 {
            n = self.paced(now, n);
            if n == 0 {
                return None;
            }
        }
        if n == queued && n > 0 && self.waits_for_more() {
            // RFC 9293 section 3.7.4 (Nagle): what does not fill a segment waits.
            n -= n % u32::from(self.smss);
        } else if n < queued {
            if n > mss {
                n -= n % mss;
            } else if n < mss && !self.has(Bits::FORCE) && !self.worth_sending(n) {
                // RFC 9293 section 3.8.6.2.1: wait for a larger window; the persist timer overrides.
                n = 0;
            }
        }
        // Deviation: the FIN heeds the peer's window (RFC 9293 section 3.8.6) but not the congestion window.
        let fin =
            self.has(Bits::FIN) && !self.fin_sent() && n == queued && self.flight().saturating_add(n) < self.snd_wnd;
        (n > 0 || fin).then(|| self.emit_new(now, cfg, n, max_payload, fin))
    }

    /// Sends `n` bytes from snd.nxt on.
    #[inline(always)]
    fn emit_new(&mut self, now: Nanos, cfg: &Config, n: u32, max_payload: u32, fin: bool) -> Emit {
        let seq = self.snd_nxt;
        self.snd_nxt = seq + n + u32::from(fin);
        self.time_segment(now, self.snd_nxt);
        if self.rtx_at == Nanos::MAX || self.has(Bits::PERSIST | Bits::PTO) {
            self.arm_retransmit(now, cfg);
        }
        self.last_snd = now;
        self.clear(Bits::FORCE);
        if self.has(Bits::RECORD) {
            self.note_sent(now, n);
        }
        // RFC 9293 section 3.9.1: PSH on the last of what the user gave.
        let mut flags = if seq + n == self.snd_end { Flags::ACK | Flags::PSH } else { Flags::ACK };
        if fin {
            flags |= Flags::FIN;
        }
        if n == 0 {
            flags = flags.without(Flags::PSH);
        }
        if self.has(Bits::ECN) {
            flags |= self.ecn_flags(n > 0);
        }
        let mut emit = self.emit_segment(now, seq, flags, SackBlocks::EMPTY);
        emit.ect = n > 0 && self.has(Bits::ECN);
        emit.offset = seq.since(self.snd_una);
        emit.len = n;
        emit.mss = self.smss.min(u16::try_from(max_payload.max(1)).unwrap_or(u16::MAX));
        emit
    }

    /// Sends the front of a lost stretch again, one segment at most.
    #[cold]
    fn emit_rexmit(&mut self, now: Nanos, cfg: &Config, rexmit: Rexmit, max_payload: u32) -> Option<Emit> {
        let Rexmit { from, to } = rexmit;
        let data_to = to.min(self.snd_end);
        let data = if from.lt(data_to) { data_to.since(from) } else { 0 };
        let n = data.min(u32::from(self.smss)).min(max_payload.max(1));
        let fin = self.fin_sent() && from + n == self.snd_end && to.gt(self.snd_end);
        if n == 0 && !fin {
            return None;
        }
        let end = from + n + u32::from(fin);
        self.rxt = self.rxt.max(end);
        self.note_resent(now, from, end);
        if from == self.snd_una {
            self.clear(Bits::HEAD_LOST);
        }
        self.time_again(now, end);
        if self.rtx_at == Nanos::MAX {
            self.arm_retransmit(now, cfg);
        }
        self.last_snd = now;
        let mut flags = Flags::ACK;
        if self.has(Bits::ECN) {
            flags |= self.ecn_flags(false);
        }
        if from + n == self.snd_end && n > 0 {
            flags |= Flags::PSH;
        }
        if fin {
            flags |= Flags::FIN;
        }
        let mut emit = self.emit_segment(now, from, flags, SackBlocks::EMPTY);
        emit.offset = from.since(self.snd_una);
        emit.len = n;
        emit.mss = self.smss.min(u16::try_from(max_payload.max(1)).unwrap_or(u16::MAX));
        emit.rexmit = true;
        Some(emit)
    }

    /// A tail loss probe (RFC 8985 section 7.3): a segment of new data whatever cwnd, or the last segment again.
    #[cold]
    fn emit_tail(&mut self, now: Nanos, cfg: &Config, max_payload: u32) -> Option<Emit> {
        self.clear(Bits::TAIL_DUE);
        if self.flight() == 0 {
            // Acknowledged in the same moment.
            self.clear(Bits::PROBED | Bits::PROBED_AGAIN);
            return None;
        }
        let deadline = now + self.rto_now(cfg);
        let room = self.snd_wnd.saturating_sub(self.flight());
        let n = self.unsent().min(room).min(u32::from(self.smss)).min(max_payload.max(1));
        let emit = if n > 0 && !self.has(Bits::PROBED_AGAIN) {
            let fin = self.has(Bits::FIN) && !self.fin_sent() && n == self.unsent() && n < room;
            Some(self.emit_new(now, cfg, n, max_payload, fin))
        } else {
            self.set(Bits::PROBED_AGAIN);
            // Which of the two an ACK will be of cannot be told.
            self.clear(Bits::TIMING);
            self.emit_rexmit(now, cfg, self.tail(), max_payload)
        };
        self.tlp_end = self.snd_nxt;
        self.rtx_at = deadline;
        self.clear(Bits::PTO | Bits::REO);
        emit
    }

    /// Whether a segment that is not full is held back.
    fn waits_for_more(&self) -> bool {
        let ends = self.has(Bits::FIN) || self.has(Bits::FORCE);
        !ends && (self.has(Bits::CORK) || (self.has(Bits::NAGLE) && self.flight() > 0))
    }

    /// Whether an ACK has something to report.
    fn has_blocks(&self) -> bool {
        self.record.as_deref().is_some_and(|r| !r.held.is_empty() || r.twice.is_some())
    }

    /// The SYN of an active open, the SYN-ACK of a simultaneous one.
    #[cold]
    fn emit_syn(&mut self, now: Nanos, cfg: &Config) -> Emit {
        self.clear(Bits::SYN_DUE | Bits::ACK_NOW);
        let first = self.snd_nxt == self.snd_una;
        self.snd_nxt = self.snd_una + 1;
        if first {
            self.time_segment(now, self.snd_nxt);
        } else {
            self.clear(Bits::TIMING);
            // Whether there are timestamps is not known before the answer.
            self.time_segment(now, self.snd_nxt);
        }
        self.arm_retransmit(now, cfg);
        self.last_snd = now;
        let answer = self.state == State::SynReceived;
        let opts = Options {
            mss: Some(cfg.mss),
            // An option is answered only if it was offered (RFC 7323 section 2.5, RFC 2018 section 2).
            wscale: cfg.shift().filter(|_| !answer || self.rcv_shift != 0 || self.snd_shift != 0),
            sack_permitted: cfg.sack && (!answer || self.has(Bits::SACK)),
            timestamps: (cfg.timestamps && (!answer || self.has(Bits::TS)))
                .then(|| Timestamps { val: self.ts_now(now), ecr: self.ts_recent }),
            sacks: SackBlocks::EMPTY,
        };
        if answer {
            self.last_ack_sent = self.rcv_nxt;
        }
        Emit {
            seq: self.snd_una,
            ack: if answer { self.rcv_nxt } else { Seq(0) },
            flags: match answer {
                true if self.has(Bits::ECN) => Flags::SYN | Flags::ACK | Flags::ECE,
                true => Flags::SYN | Flags::ACK,
                // RFC 3168 section 6.1.1.1: a SYN that was lost may have been dropped for its flags.
                false if first => Flags::SYN | ecn::offer(cfg),
                false => Flags::SYN,
            },
            // RFC 7323 section 2.2: the window of a SYN is never scaled.
            wnd: syn_window(cfg),
            opts,
            offset: 0,
            len: 0,
            mss: cfg.mss,
            rexmit: !first,
            ect: false,
        }
    }

    /// "<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>", with what is held out of order.
    pub(crate) fn emit_ack(&mut self, now: Nanos) -> Emit {
        let sacks = self.take_blocks();
        let flags = if self.has(Bits::ECN) { Flags::ACK | self.ecn_flags(false) } else { Flags::ACK };
        self.emit_segment(now, self.snd_nxt, flags, sacks)
    }

    /// RFC 8257 section 3.2: what was received before the mark changed, with the mark that it had.
    #[cold]
    fn emit_ack_before_mark(&mut self, now: Nanos) -> Emit {
        self.clear(Bits::ACK_OLD);
        let before = if self.has(Bits::ECE_DUE) { Flags::ACK } else { Flags::ACK | Flags::ECE };
        let (to, due) = (self.before_mark, self.rcv_nxt.gt(self.before_mark));
        let mut emit = self.emit_segment(now, self.snd_nxt, before, SackBlocks::EMPTY);
        if due {
            emit.ack = to;
            self.last_ack_sent = to;
            self.set(Bits::ACK_NOW);
        }
        emit
    }

    /// A segment that the peer must answer: it lies before its window.
    ///
    /// Deviation: RFC 9293 section 3.8.6.1 suggests a byte of new data, which the user may not have been admitted; we
    /// probe as Linux does and as section 3.8.4 describes for keep-alives.
    #[cold]
    fn emit_probe(&mut self, now: Nanos) -> Emit {
        self.clear(Bits::PROBE);
        self.last_snd = now;
        self.emit_segment(now, self.snd_una - 1, Flags::ACK, SackBlocks::EMPTY)
    }

    /// A segment with ACK, window and timestamps; whatever ACK was due has then been given.
    #[inline(always)]
    fn emit_segment(&mut self, now: Nanos, seq: Seq, flags: Flags, sacks: SackBlocks) -> Emit {
        let wnd = self.advertise();
        self.clear(Bits::ACK_NOW);
        self.ack_at = Nanos::MAX;
        self.last_ack_sent = self.rcv_nxt;
        let opts = Options { timestamps: self.timestamps(now), sacks, ..Options::NONE };
        Emit { seq, ack: self.rcv_nxt, flags, wnd, opts, offset: 0, len: 0, mss: self.smss, rexmit: false, ect: false }
    }

    /// Moves the advertised edge if that is worth it, and says the window as the wire has it.
    ///
    /// Rounding down by the scale may show the edge up to a unit lower than before; `rcv_edge` remembers what was promised, and
    /// that is what arriving data is measured against (RFC 7323 section 2.4).
    #[inline]
    fn advertise(&mut self) -> u16 {
        let left = self.rcv_edge.since(self.rcv_nxt);
        let offer = self.window_to_offer();
        // RFC 9293 section 3.8.6.2.2: not by less than min(RCV.BUFF / 2, SMSS).
        if offer > left && offer - left >= (self.rcv_buf / 2).min(u32::from(self.smss)) {
            self.rcv_edge = self.rcv_nxt + offer;
        }
        u16::try_from(self.rcv_edge.since(self.rcv_nxt) >> self.rcv_shift).unwrap_or(u16::MAX)
    }

    /// The window that the buffer would allow.
    #[inline]
    pub(crate) fn window_to_offer(&self) -> u32 {
        let buf = if self.has(Bits::SPARING) { self.rcv_buf.min(SPARING * u32::from(self.smss)) } else { self.rcv_buf };
        buf.saturating_sub(self.unread).min(u32::from(u16::MAX) << self.rcv_shift)
    }
}

/// Segments offered when memory is short.
const SPARING: u32 = 4;

/// The window field of a SYN.
pub(crate) fn syn_window(cfg: &Config) -> u16 {
    u16::try_from(cfg.rcv_wnd).unwrap_or(u16::MAX)
}
