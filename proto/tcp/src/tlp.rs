//! Tail loss probes (RFC 8985 section 7): where the end of a flight is lost, nothing that arrives later would tell. A probe makes
//! the peer tell, earlier than the retransmission timeout would.

use units::Nanos;
use wire::Seq;
use wire::tcp::Segment;

use crate::recovery::Rexmit;
use crate::sack::Told;
use crate::tcb::{Bits, Tcb};
use crate::{Config, Phase};

impl Tcb {
    /// The deadline of what is in flight: the probe's, if one may be sent, else the retransmission timeout (section 7.2,
    /// RFC 6298 section 5).
    #[inline]
    pub(crate) fn arm_flight(&mut self, now: Nanos, cfg: &Config) {
        self.clear(Bits::REO | Bits::PTO);
        let rto = self.rto_now(cfg);
        self.rtx_at = now + rto;
        if self.has(Bits::SACK) && cfg.tlp && self.phase == Phase::Open {
            self.arm_probe(now, cfg, rto);
        }
    }

    /// TLP_calc_PTO: two round trips, and what the peer may delay the ACK of a single segment.
    #[inline]
    fn arm_probe(&mut self, now: Nanos, cfg: &Config, rto: Nanos) {
        let delay = if self.flight() <= u32::from(self.smss) { cfg.peer_ack_delay } else { Nanos::ZERO };
        let pto = Nanos(u64::from(self.srtt8) * 250) + delay;
        if pto < rto && self.srtt8 != 0 && !self.has(Bits::PROBED) && !(self.has(Bits::RECORD) && self.has_reports()) {
            self.rtx_at = now + pto;
            self.set(Bits::PTO);
        }
    }

    /// Section 7.2: no probe while blocks report something.
    #[cold]
    fn has_reports(&self) -> bool {
        self.record.as_deref().is_some_and(|r| r.flight.sacked_runs() > 0)
    }

    /// TLP_send_probe (section 7.3): new data if there is any that the peer takes, else the last segment again.
    #[cold]
    pub(crate) fn probe_timeout(&mut self, now: Nanos, cfg: &Config) {
        self.clear(Bits::PTO);
        self.rtx_at = now + self.rto_now(cfg);
        if !self.state.is_synchronized()
            || self.phase != Phase::Open
            || self.flight() == 0
            || self.has(Bits::PROBED)
            || self.has_reports()
        {
            return;
        }
        self.set(Bits::PROBED | Bits::TAIL_DUE);
        self.clear(Bits::PROBED_AGAIN);
        if self.unsent() == 0 || self.snd_wnd <= self.flight() {
            self.set(Bits::PROBED_AGAIN);
        }
        self.tlp_end = self.snd_nxt;
    }

    /// The stretch of a due probe that sends something again.
    pub(crate) fn tail(&self) -> Rexmit {
        // Segments are cut at multiples of SMSS, unless the user's bytes came in small.
        let (data, smss) = (self.snd_nxt.since(self.snd_una) - u32::from(self.fin_sent()), u32::from(self.smss));
        let last = if data % smss == 0 { data.min(smss) } else { data % smss };
        Rexmit { from: self.snd_una + (data - last), to: self.snd_nxt }
    }

    /// TLP_process_ack (section 7.4.2). snd.una has moved by `acked`.
    #[cold]
    pub(crate) fn after_probe(&mut self, seg: &Segment, told: &Told, acked: u32) {
        if seg.ack.lt(self.tlp_end) {
            return;
        }
        let again = self.has(Bits::PROBED_AGAIN);
        let twice = |end: Seq| told.dsack.is_some_and(|(_, right)| right == end);
        let duplicate = acked == 0 && seg.seg_len() == 0 && seg.opts.sacks.is_empty();
        if !again || twice(self.tlp_end) || (duplicate && seg.ack == self.tlp_end) {
            self.clear(Bits::PROBED | Bits::PROBED_AGAIN);
        } else if seg.ack.gt(self.tlp_end) {
            // The probe repaired a loss: congestion control hears of it.
            self.clear(Bits::PROBED | Bits::PROBED_AGAIN);
            if self.phase == Phase::Open {
                self.ssthresh = self.reduced_for_loss(self.flight());
                self.cwnd = self.cwnd.min(self.ssthresh);
            }
        }
    }
}
