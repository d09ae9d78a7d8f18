//! Explicit congestion notification (RFC 3168) and DCTCP's more exact echo of it (RFC 8257 section 3.2).
//!
//! | | says |
//! |---|---|
//! | SYN with ECE and CWR | "I can" |
//! | SYN-ACK with ECE alone | "so can I" |
//! | ECT in the IP header of data | this packet may be marked instead of dropped |
//! | ECE on an ACK | a packet of yours was marked |
//! | CWR on data | heard; I send less |
//!
//! Only data that is sent for the first time is ECT (RFC 3168 sections 6.1.4 and 6.1.5).

use wire::tcp::{Flags, Segment};

use crate::congestion::Control;
use crate::tcb::{Bits, Tcb};
use crate::{Config, Ecn};

/// Both flags: the offer.
const OFFER: Flags = Flags::ECE.union(Flags::CWR);

/// What an active SYN says.
pub(crate) fn offer(cfg: &Config) -> Flags {
    if cfg.ecn == Ecn::On { OFFER } else { Flags::NONE }
}

/// Whether a peer's SYN offers ECN and we take it (RFC 3168 section 6.1.1).
pub(crate) fn accepts(cfg: &Config, syn: &Segment) -> bool {
    cfg.ecn != Ecn::Off && syn.flags.contains(OFFER)
}

/// Whether a SYN-ACK takes our offer: "an ECN-setup SYN-ACK" has ECE without CWR.
pub(crate) fn accepted(cfg: &Config, syn_ack: &Segment) -> bool {
    cfg.ecn == Ecn::On && syn_ack.flags.0 & OFFER.0 == Flags::ECE.0
}

impl Tcb {
    /// Whether both sides speak ECN.
    pub fn ecn(&self) -> bool {
        self.has(Bits::ECN)
    }

    /// The receiver's part: a segment with data has arrived in or out of order.
    #[cold]
    pub(crate) fn note_mark(&mut self, seg: &Segment) {
        if let Control::Dctcp(_) = self.control {
            // RFC 8257 section 3.2: when the mark changes, what was received before is acknowledged with the old state.
            if seg.ce != self.has(Bits::ECE_DUE) && seg.len > 0 {
                if self.ack_at != units::Nanos::MAX {
                    (self.before_mark, self.ack_at) = (self.rcv_nxt, units::Nanos::MAX);
                    self.set(Bits::ACK_OLD);
                }
                if seg.ce { self.set(Bits::ECE_DUE) } else { self.clear(Bits::ECE_DUE) }
            }
            return;
        }
        // RFC 3168 section 6.1.3: ECE on every ACK from a mark on until CWR arrives.
        if seg.flags.contains(Flags::CWR) {
            self.clear(Bits::ECE_DUE);
        }
        if seg.ce {
            self.set(Bits::ECE_DUE | Bits::ACK_NOW);
        }
    }

    /// The sender's part: an ACK may say ECE. `cwnd` and `flight` were before it.
    pub(crate) fn note_echo(&mut self, seg: &Segment, acked: u32, cwnd: u32, flight: u32) {
        let marked = seg.flags.contains(Flags::ECE) && !seg.flags.contains(Flags::SYN);
        self.count_marks(acked, marked);
        if marked {
            self.marked(cwnd, flight);
        }
    }

    /// The flags of a segment that is about to leave; `new`: with data that was never sent.
    #[cold]
    pub(crate) fn ecn_flags(&mut self, new: bool) -> Flags {
        let mut flags = if self.has(Bits::ECE_DUE) { Flags::ECE } else { Flags::NONE };
        if new && self.has(Bits::CWR_DUE) {
            self.clear(Bits::CWR_DUE);
            flags |= Flags::CWR;
        }
        flags
    }
}
