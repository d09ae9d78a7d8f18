//! Pacing: a window leaves over its round trip instead of at once, so that a queue on the way does not have to hold it.
//!
//! ```text
//!   window  ████████████████·······················████        at once: the queue in front of the narrow link holds it all
//!           ███····███····███····███····███····███····         paced: a stride about every millisecond
//! ```
//!
//! No RFC of TCP asks for it; RFC 9002 section 7.7 describes it for QUIC: an initial window may leave at once, and the pace is a quarter above the window's. What is sent again is not
//! paced, for proportional rate reduction sees to that. It is for round trips that are long beside the ticks of the caller's timers; others are left alone.

use units::Nanos;

use crate::tcb::{Bits, Tcb};

/// Round trips from here on are paced, in SRTT's eighths of a microsecond: 2 ms.
const FROM: u32 = 2_000 * 8;
/// Strides come so long one after the other: far more than a tick, far less than a round trip.
const STRIDE: Nanos = Nanos::from_millis(1);

impl Tcb {
    /// How many of `n` bytes of new data may leave now. If fewer, [`Tcb::next_stride`] says when the others may.
    #[cold]
    pub(crate) fn paced(&mut self, now: Nanos, n: u32) -> u32 {
        // A probe of the tail keeps its own place in `tlp_end`, and sends one segment.
        if self.srtt8 < FROM || self.has(Bits::PROBED) {
            self.clear(Bits::RESTS);
            return n;
        }
        if self.next_stride() <= now {
            self.clear(Bits::RESTS);
            self.tlp_end = self.snd_nxt + self.stride();
        }
        let left = if self.tlp_end.gt(self.snd_nxt) { self.tlp_end.since(self.snd_nxt) } else { 0 };
        if n <= left {
            return n;
        }
        if left < u32::from(self.smss) {
            // A part of a segment would only be held back for being one.
            self.set(Bits::RESTS);
            return 0;
        }
        left
    }

    /// When new data may leave again, while [`Bits::RESTS`].
    #[cold]
    pub(crate) fn next_stride(&self) -> Nanos {
        self.last_snd + STRIDE
    }

    /// What leaves at once, in whole segments: what the pace makes of [`STRIDE`]; after silence an initial window (RFC 6928).
    fn stride(&self) -> u32 {
        // Twice the window in a round trip while the window doubles in one.
        let quarters = if self.cwnd < self.ssthresh { 8 } else { 5 };
        let smss = u32::from(self.smss);
        let pace = u64::from(self.cwnd) * quarters * 2 * STRIDE.micros() / u64::from(self.srtt8);
        let least = if self.flight() == 0 { self.initial_cwnd() } else { 2 * smss };
        let stride = u32::try_from(pace).unwrap_or(u32::MAX).clamp(least, self.cwnd.max(least));
        stride.next_multiple_of(smss)
    }
}
