//! The four deadlines of a connection, and what happens at them (RFC 9293 section 3.10.8).
//!
//! | deadline | purposes |
//! |---|---|
//! | `rtx_at` | retransmission (RFC 6298), before it a probe or the end of the reordering window (RFC 8985); or persist when nothing is in flight (RFC 9293 section 3.8.6.1) |
//! | `ack_at` | delayed ACK (section 3.8.6.3) |
//! | `last_snd` | a millisecond later the next stride of a window that is paced |
//! | `long_at` | keep-alive (section 3.8.4), FIN-WAIT-2, TIME-WAIT: by the state |

use units::Nanos;

use crate::tcb::{Bits, Tcb, Timer, stamp};
use crate::{Arrival, CloseReason, Config, Events, Records, State};

impl Tcb {
    /// When [`Tcb::timeout`] is due, [`Nanos::MAX`] if never. It may move earlier or later by any other call.
    #[inline]
    pub fn deadline(&self) -> Nanos {
        let at = self.rtx_at.min(self.ack_at).min(self.long_at);
        if self.has(Bits::RESTS) { at.min(self.next_stride()) } else { at }
    }

    /// The armed timers, for dumps and tests.
    pub fn timers(&self) -> impl Iterator<Item = (Timer, Nanos)> + '_ {
        let rtx = match self.bits {
            bits if bits.0 & Bits::PERSIST.0 != 0 => Timer::Persist,
            bits if bits.0 & Bits::REO.0 != 0 => Timer::Reordering,
            bits if bits.0 & Bits::PTO.0 != 0 => Timer::Probe,
            _ => Timer::Retransmit,
        };
        let long = match self.state {
            State::TimeWait => Timer::TimeWait,
            State::FinWait2 if self.has(Bits::GONE) => Timer::FinWait2,
            _ => Timer::KeepAlive,
        };
        let pace = if self.has(Bits::RESTS) { self.next_stride() } else { Nanos::MAX };
        [(rtx, self.rtx_at), (Timer::DelayedAck, self.ack_at), (Timer::Pace, pace), (long, self.long_at)]
            .into_iter()
            .filter(|(_, at)| *at != Nanos::MAX)
    }

    /// The clock has reached [`Tcb::deadline`]. Does nothing when called early. [`Tcb::poll_transmit`] comes after.
    pub fn timeout(&mut self, now: Nanos, cfg: &Config, records: &mut Records) -> Arrival {
        let mut out = Arrival::default();
        if self.has(Bits::RESTS) && self.next_stride() <= now {
            self.clear(Bits::RESTS);
        }
        if self.ack_at <= now {
            self.ack_at = Nanos::MAX;
            self.set(Bits::ACK_NOW);
        }
        if self.rtx_at <= now {
            if self.has(Bits::PERSIST) {
                self.persist_timeout(now, cfg, &mut out);
            } else if self.has(Bits::REO) {
                self.reordering_timeout(now, cfg);
            } else if self.has(Bits::PTO) {
                self.take_record(records);
                self.probe_timeout(now, cfg);
            } else {
                if self.state.is_synchronized() {
                    self.take_record(records);
                }
                self.retransmission_timeout(now, cfg, &mut out);
            }
        }
        if self.long_at <= now {
            match self.state {
                // RFC 9293 section 3.10.8: "delete the TCB, enter the CLOSED state".
                State::TimeWait => self.cease(CloseReason::Normal, &mut out),
                // Deviation: RFC 9293 section 3.3.2 lets FIN-WAIT-2 last for ever; a peer that vanished would keep the block.
                State::FinWait2 if self.has(Bits::GONE) => self.cease(CloseReason::TimedOut, &mut out),
                _ => self.keepalive_timeout(now, cfg, &mut out),
            }
        }
        if self.has(Bits::RECORD) {
            self.release_record(records);
        }
        out
    }

    /// The connection is no more.
    pub(crate) fn cease(&mut self, why: CloseReason, out: &mut Arrival) {
        self.enter_closed();
        out.closed = Some(why);
    }

    /// RFC 6298 section 5.1, 5.3: the timer runs while something is in flight.
    #[inline]
    pub(crate) fn arm_retransmit(&mut self, now: Nanos, cfg: &Config) {
        if self.has(Bits::PERSIST) {
            self.leave_persist();
        }
        self.arm_flight(now, cfg);
    }

    /// RFC 6298 section 5.4 to 5.6; RFC 9293 section 3.8.3 (R2).
    fn retransmission_timeout(&mut self, now: Nanos, cfg: &Config, out: &mut Arrival) {
        if self.flight() == 0 {
            self.rtx_at = Nanos::MAX;
            return;
        }
        let opening = matches!(self.state, State::SynSent | State::SynReceived);
        let limit = if opening { cfg.syn_retries } else { cfg.data_retries };
        if self.retries >= limit || self.is_stalled(now, cfg) {
            return self.cease(CloseReason::TimedOut, out);
        }
        if opening {
            self.set(Bits::SYN_DUE);
        } else {
            self.enter_loss(now, cfg);
        }
        self.retries = self.retries.saturating_add(1);
        self.back_off();
        self.rtx_at = self.not_after_user_timeout(now + self.rto_now(cfg));
    }

    /// Whether the user's timeout is over (RFC 9293 section 3.10.8, USER TIMEOUT). Called at each timeout, before it is counted: the
    /// first one began a timeout ago.
    fn is_stalled(&mut self, now: Nanos, cfg: &Config) -> bool {
        if self.retries == 0 {
            self.stalled = stamp(now - self.rto_now(cfg));
        }
        self.user_timeout != 0 && stamp(now).wrapping_sub(self.stalled) >= self.user_timeout
    }

    /// A deadline, or the end of the user's timeout if that is earlier.
    fn not_after_user_timeout(&self, at: Nanos) -> Nanos {
        if self.user_timeout == 0 {
            return at;
        }
        let ahead = u64::from(stamp(at).wrapping_sub(self.stalled)).saturating_sub(u64::from(self.user_timeout));
        Nanos(at.0.saturating_sub(ahead << 20))
    }

    /// Starts the persist timer, if the retransmission timer does not run.
    pub(crate) fn arm_persist(&mut self, at: Nanos) {
        if self.rtx_at == Nanos::MAX {
            self.rtx_at = at;
            self.set(Bits::PERSIST);
        }
    }

    /// Nothing is in flight that would be answered, and the window holds back what there is to send.
    #[inline]
    pub(crate) fn persist_if_stuck(&mut self, now: Nanos, cfg: &Config) {
        let waiting = self.has(Bits::WANT) || self.unsent() > 0 || (self.has(Bits::FIN) && !self.fin_sent());
        if waiting && self.flight() == 0 && self.rtx_at == Nanos::MAX && !self.has(Bits::RESTS) {
            self.arm_persist(now + self.rto_now(cfg));
        }
    }

    /// The window has opened.
    #[cold]
    pub(crate) fn leave_persist(&mut self) {
        self.clear(Bits::PERSIST | Bits::PROBE);
        self.rtx_at = Nanos::MAX;
        self.backoff = 0;
        self.retries = 0;
    }

    /// RFC 9293 section 3.8.6.1: probes at exponentially growing intervals, for as long as they are answered (MUST-37); and
    /// the override of SWS avoidance (section 3.8.6.2.1) when the window is small but open.
    #[cold]
    fn persist_timeout(&mut self, now: Nanos, cfg: &Config, out: &mut Arrival) {
        if self.room() > 0 {
            self.leave_persist();
            self.set(Bits::FORCE);
            if self.has(Bits::WANT) {
                self.clear(Bits::WANT);
                out.events |= Events::WRITABLE;
            }
            return;
        }
        if self.retries >= cfg.data_retries || self.is_stalled(now, cfg) {
            return self.cease(CloseReason::TimedOut, out);
        }
        self.retries = self.retries.saturating_add(1);
        self.set(Bits::PROBE);
        self.back_off();
        self.rtx_at = self.not_after_user_timeout(now + self.rto_now(cfg));
    }

    /// RFC 9293 section 3.8.4. The timer is not moved by every segment: it finds out here how long the silence was.
    #[cold]
    fn keepalive_timeout(&mut self, now: Nanos, cfg: &Config, out: &mut Arrival) {
        let Some(keep) = cfg.keepalive else {
            self.long_at = Nanos::MAX;
            return;
        };
        let heard_at = self.last_rcv + keep.idle;
        if heard_at > now {
            self.probes = 0;
            self.long_at = heard_at;
            return;
        }
        // Unacknowledged data asks by itself.
        if self.flight() == 0 {
            if self.probes >= keep.probes {
                return self.cease(CloseReason::TimedOut, out);
            }
            self.probes = self.probes.saturating_add(1);
            self.set(Bits::PROBE);
        }
        // A span of zero would make the deadline stand still.
        self.long_at = now + keep.interval.max(Nanos::from_millis(1));
    }

    /// TIME-WAIT lasts 2 MSL from now.
    pub(crate) fn enter_time_wait(&mut self, now: Nanos, cfg: &Config) {
        self.state = State::TimeWait;
        self.rtx_at = Nanos::MAX;
        self.clear(Bits::PERSIST | Bits::PROBE | Bits::WANT);
        self.long_at = now + cfg.msl + cfg.msl;
    }
}
