//! The user calls of RFC 9293 section 3.10: SEND, RECEIVE (its half: what was consumed), CLOSE, ABORT. OPEN is
//! [`Tcb::connect`] and [`crate::listen`]; STATUS are the getters.

use units::Nanos;
use wire::Seq;
use wire::tcp::Flags;

use crate::tcb::{Bits, Tcb, stamps};
use crate::{Arrival, CloseReason, Config, Emit, State};

impl Tcb {
    /// Bytes that [`Tcb::send`] could admit now: what both windows leave beyond what is sent or admitted already. 0 in
    /// states that cannot send.
    #[inline]
    pub fn send_window(&self) -> u32 {
        if !self.state.can_send() || self.has(Bits::FIN) {
            return 0;
        }
        self.room().saturating_sub(self.snd_end.since(self.snd_nxt))
    }

    /// SEND (RFC 9293 section 3.10.2): admits up to `n` bytes, which the caller appends to its send queue; returns how
    /// many.
    ///
    /// Never more than the windows admit (IX's `sendv`), so that what waits is the application's and not ours. When fewer
    /// than `n` are admitted, the engine remembers that the user wants more: it probes a closed window, and tells
    /// `WRITABLE` when one more `send` is worth while. About 5 ns.
    #[inline]
    pub fn send(&mut self, now: Nanos, n: u32) -> u32 {
        if n == 0 || !self.state.can_send() || self.has(Bits::FIN) {
            return self.send_refused(n);
        }
        if self.snd_una == self.snd_end && now - self.last_snd > self.rto() {
            self.restart_after_idle();
        }
        let window = self.send_window();
        if n <= window {
            self.snd_end += n;
            self.clear(Bits::WANT | Bits::LIMITED);
            return n;
        }
        self.send_limited(now, window)
    }

    /// Admits the last `n` bytes before [`Tcb::shutdown`] or [`Tcb::close`], whatever the windows hold: the FIN comes after all that was sent before it (RFC 9293
    /// section 3.10.4). They leave as the windows open.
    pub fn send_last(&mut self, n: u32) {
        if self.state.can_send() && !self.has(Bits::FIN) {
            self.snd_end += n;
        }
    }

    /// Sets how long data may stay unacknowledged before the connection is given up (RFC 9293 section 3.9.1, RFC 5482 section 3);
    /// `None`: as long as the retries take. In steps of a millisecond.
    pub fn set_user_timeout(&mut self, after: Option<Nanos>) {
        self.user_timeout = after.map_or(0, stamps);
    }

    /// Whether a segment that is not full waits until all data in flight is acknowledged (Nagle's algorithm, RFC 9293 section 3.7.4).
    pub fn set_nagle(&mut self, on: bool) {
        if on { self.set(Bits::NAGLE) } else { self.clear(Bits::NAGLE) }
    }

    /// Whether no more than four segments are offered to the peer beyond what the user has not read, because memory is short. What was
    /// promised stays so (RFC 9293 section 3.8.6: the window does not shrink); a connection whose user reads goes on, a few segments per
    /// round trip, and without the losses and timeouts of a peer that is refused.
    #[inline]
    pub fn set_sparing(&mut self, on: bool) {
        if self.has(Bits::SPARING) != on {
            if on { self.set(Bits::SPARING) } else { self.clear(Bits::SPARING) }
        }
    }

    /// Whether a segment that is not full waits for more data: until this is taken back, or the connection is closed, or for a
    /// retransmission timeout with nothing in flight.
    pub fn set_cork(&mut self, on: bool) {
        if on { self.set(Bits::CORK) } else { self.clear(Bits::CORK) }
    }

    /// SYN-SENT, SYN-RECEIVED (RFC 9293 section 3.10.2 would queue the data): the user hears `WRITABLE` in ESTABLISHED.
    #[cold]
    fn send_refused(&mut self, n: u32) -> u32 {
        if n > 0 && matches!(self.state, State::SynSent | State::SynReceived) {
            self.set(Bits::WANT);
        }
        0
    }

    /// More was asked for than there is room: sender's SWS avoidance (RFC 9293 section 3.8.6.2.1) decides how much of it.
    #[cold]
    fn send_limited(&mut self, now: Nanos, window: u32) -> u32 {
        self.set(Bits::WANT);
        self.note_limit();
        let smss = u32::from(self.smss);
        let grant = if window >= smss {
            window - window % smss
        } else if self.has(Bits::FORCE) || self.worth_sending(window) {
            window
        } else {
            0
        };
        self.snd_end += grant;
        if self.snd_una == self.snd_end {
            self.arm_persist(now + self.rto());
        }
        grant
    }

    /// The user has more to send than [`Tcb::send_window`] says, or than is worth a segment of it, and waits. As a [`Tcb::send`] that is refused: the engine
    /// watches a closed window, and knows that it is the congestion window that holds the sender back, if it is.
    pub fn send_later(&mut self, now: Nanos) {
        if !self.state.can_send() || self.has(Bits::FIN) {
            return;
        }
        if self.send_window() == 0 {
            let refused = self.send_limited(now, 0);
            debug_assert_eq!(refused, 0, "a shut window admits nothing");
        } else {
            self.note_limit();
        }
    }

    /// So many bytes of room are worth waiting for by a user that waits already: what the connection sends in a millisecond, at most an eighth of its
    /// window, in whole segments. A byte while something is being repaired, or when no ACK is to come that would make more room.
    ///
    /// Segments that leave together cost little more than one (a NIC or the kernel cuts them). And a sender that fills each gap of a queue
    /// at once leaves hardly any to those who send in such bursts: Linux does, and lost most of a slow link's capacity.
    #[inline]
    pub fn burst(&self) -> u32 {
        if self.phase != crate::Phase::Open || self.flight() == 0 {
            return 1;
        }
        let window = self.cwnd.min(self.snd_wnd_max);
        let srtt_ms8 = u64::from(self.srtt8) / 1000;
        let burst = (window / 8).min(u32::try_from(u64::from(window) * 8 / srtt_ms8.max(1)).unwrap_or(u32::MAX));
        (burst - burst % u32::from(self.smss).max(1)).max(1)
    }

    /// RFC 7661 section 4.1: whether the congestion window is what limits the sender.
    fn note_limit(&mut self) {
        if self.cwnd_room() < self.snd_wnd.saturating_sub(self.flight()) {
            self.set(Bits::LIMITED);
        }
    }

    /// RFC 9293 section 3.8.6.2.1 (1) and (3): a full segment, or half of the largest window that the peer ever offered.
    #[inline]
    pub(crate) fn worth_sending(&self, room: u32) -> bool {
        room > 0 && (room >= u32::from(self.smss) || room >= self.snd_wnd_max / 2)
    }

    /// RECEIVE, the part that concerns us (RFC 9293 section 3.10.3): the application consumed `n` in-order bytes.
    ///
    /// Opens the receive window; arranges an ACK that says so when it is worth one: the window has grown by half of the
    /// buffer, or by two segments when little of it was left. Growth below that rides on the next ACK (RFC 9293 section
    /// 3.8.6.2.2).
    #[inline]
    pub fn consumed(&mut self, n: u32) {
        debug_assert!(n <= self.unread, "consumed more than was delivered");
        self.unread = self.unread.saturating_sub(n);
        let left = self.rcv_edge.since(self.rcv_nxt);
        let grown = self.window_to_offer().saturating_sub(left);
        let scarce = left <= self.rcv_buf / 4 && grown >= 2 * u32::from(self.smss);
        if grown > 0 && (scarce || grown >= self.rcv_buf / 2) && self.state.can_receive() {
            self.set(Bits::ACK_NOW);
        }
    }

    /// CLOSE of the sending half (RFC 9293 section 3.10.4): a FIN follows what was admitted. Receiving goes on.
    pub fn shutdown(&mut self, _now: Nanos, _cfg: &Config) -> Arrival {
        match self.state {
            // "Delete the TCB".
            State::SynSent => {
                self.enter_closed();
                return Arrival { closed: Some(CloseReason::Aborted), ..Arrival::default() };
            }
            // "queue for processing after entering ESTABLISHED state".
            State::SynReceived => self.set(Bits::FIN),
            State::Established => {
                self.set(Bits::FIN);
                self.state = State::FinWait1;
            }
            State::CloseWait => {
                self.set(Bits::FIN);
                self.state = State::LastAck;
            }
            // "error: connection closing", which is harmless here.
            _ => {}
        }
        self.clear(Bits::WANT | Bits::LIMITED);
        Arrival::default()
    }

    /// CLOSE of both halves: as [`Tcb::shutdown`], and nobody reads what may still arrive.
    ///
    /// With delivered bytes not consumed, or when more data arrives later, the peer is told that data was lost: the
    /// connection is reset (RFC 9293 section 3.6.1, SHLD-3; RFC 2525 section 2.17). In the first case `closed` and `reply` are set
    /// at once.
    pub fn close(&mut self, now: Nanos, cfg: &Config) -> Arrival {
        if self.unread > 0 && self.state.is_synchronized() {
            let reply = self.abort();
            return Arrival { closed: Some(CloseReason::Aborted), reply, ..Arrival::default() };
        }
        let out = self.shutdown(now, cfg);
        if self.state != State::Closed {
            self.set(Bits::GONE);
            if self.state == State::FinWait2 {
                self.long_at = now + cfg.fin_wait2;
            }
        }
        out
    }

    /// ABORT (RFC 9293 section 3.10.5): the block is CLOSED after, and the caller sends the reset, if the state needs one,
    /// and removes it.
    pub fn abort(&mut self) -> Option<Emit> {
        let reset = match self.state {
            State::SynReceived | State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait => {
                Some(self.reset_emit())
            }
            // "respond ... "OK" ..., delete the TCB": the peer has closed, or never was.
            State::Closed | State::SynSent | State::Closing | State::LastAck | State::TimeWait => None,
        };
        self.enter_closed();
        reset
    }

    /// "<SEQ=SND.NXT><CTL=RST>", with the ACK that every segment of a synchronized connection carries.
    pub(crate) fn reset_emit(&self) -> Emit {
        let ack = if self.state == State::SynSent { Seq(0) } else { self.rcv_nxt };
        Emit::control(self.snd_nxt, ack, Flags::RST | Flags::ACK)
    }
}
