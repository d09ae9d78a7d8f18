//! DCTCP's estimate of how many bytes were marked (RFC 8257 section 3.3).

use wire::Seq;

/// alpha = 1.
const ONE: u32 = 1 << 16;
/// g = 1/16, as a shift.
const G: u32 = 4;

/// What DCTCP remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dctcp {
    /// DCTCP.Alpha in units of 2^-16.
    alpha: u32,
    /// DCTCP.BytesAcked and DCTCP.BytesMarked.
    acked: u32,
    marked: u32,
    /// DCTCP.WindowEnd. Meaningless before the first ACK.
    end: Seq,
}

impl Dctcp {
    /// Section 3.3 (3) and 4.2: alpha begins at 1, so that the first mark halves.
    pub(crate) const NEW: Dctcp = Dctcp { alpha: ONE, acked: 0, marked: 0, end: Seq(0) };

    /// `acked` bytes up to `una` were acknowledged; `nxt` ends what is in flight.
    pub(crate) fn acked(&mut self, acked: u32, marked: bool, una: Seq, nxt: Seq) {
        if self.acked == 0 {
            self.end = nxt;
        }
        self.acked = self.acked.saturating_add(acked);
        if marked {
            self.marked = self.marked.saturating_add(acked);
        }
        // "If the acknowledged sequence number is less than or equal to DCTCP.WindowEnd, stop processing."
        if una.lt(self.end) || self.acked == 0 {
            return;
        }
        let share = (u64::from(self.marked) << 16) / u64::from(self.acked);
        self.alpha = self.alpha - (self.alpha >> G) + (share >> G) as u32;
        // The shift of a small alpha loses nothing of it; without marks it would never reach zero.
        if self.marked == 0 && self.alpha < 1 << G {
            self.alpha = 0;
        }
        (self.acked, self.marked, self.end) = (0, 0, nxt);
    }

    /// "cwnd = cwnd * (1 - DCTCP.Alpha / 2)".
    pub(crate) fn reduced(&self, cwnd: u32) -> u32 {
        cwnd - ((u64::from(cwnd) * u64::from(self.alpha)) >> 17) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_follows_the_share_of_marks() {
        let mut d = Dctcp::NEW;
        assert_eq!(d.reduced(100_000), 50_000, "before any estimate, as a loss");
        let mut una = 0u32;
        let mut window = |d: &mut Dctcp, marks: u32| {
            for i in 0..10 {
                una += 1000;
                d.acked(1000, i < marks, Seq(una), Seq(una + 10_000));
            }
        };
        for _ in 0..200 {
            window(&mut d, 0);
        }
        assert_eq!(d.reduced(100_000), 100_000, "no marks, no reduction");
        for _ in 0..200 {
            window(&mut d, 2);
        }
        // Windows of ten and of eleven segments: the share lies at 0.2 or a little below.
        assert!((89_500..=91_500).contains(&d.reduced(100_000)), "{}", d.reduced(100_000));
        for _ in 0..200 {
            window(&mut d, 10);
        }
        assert!((50_000..=50_100).contains(&d.reduced(100_000)), "all marked: {}", d.reduced(100_000));
    }
}
