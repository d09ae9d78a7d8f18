//! CUBIC (RFC 9438) in integers: bytes, and milliseconds since the epoch began.

use units::Nanos;

/// What CUBIC remembers. `epoch_ms` 0: congestion avoidance has not begun since the last loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cubic {
    /// W_max, in bytes: the window at the last loss.
    pub(crate) w_max: u32,
    /// W_est, in bytes: what a Reno with the same decrease would have.
    pub(crate) w_est: u32,
    /// When the epoch began, in milliseconds on a circle of 49 days.
    pub(crate) epoch_ms: u32,
    /// K, in milliseconds: when the window is W_max again.
    pub(crate) k_ms: u32,
}

/// Beyond this many milliseconds from K the function is far above any window.
const FAR_MS: i64 = 1 << 20;

impl Cubic {
    pub(crate) const NEW: Cubic = Cubic { w_max: 0, w_est: 0, epoch_ms: 0, k_ms: 0 };

    /// The window after `acked` bytes in congestion avoidance; `at` is a round trip from now. `prior` is the window before the last
    /// reduction; `credit` counts bytes towards the next step of W_est.
    pub(crate) fn grow(&mut self, at: Nanos, cwnd: u32, smss: u32, acked: u32, prior: u32, credit: &mut u32) -> u32 {
        let ms = (at.millis() as u32).max(1);
        if self.epoch_ms == 0 {
            self.begin(ms, cwnd, smss);
        }
        // Section 4.3: alpha = 3 * (1 - 0.7) / (1 + 0.7) = 9 / 17 until W_est reaches cwnd_prior, 1 from then on. W_max may be less.
        *credit = credit.saturating_add(if self.w_est < prior { acked / 17 * 9 + acked % 17 * 9 / 17 } else { acked });
        if *credit >= cwnd {
            *credit -= cwnd;
            self.w_est = self.w_est.saturating_add(smss);
        }
        // Section 4.2: the target lies between cwnd and 1.5 * cwnd.
        let target = self.at(ms, smss).clamp(u64::from(cwnd), u64::from(cwnd) * 3 / 2);
        let step = ((target - u64::from(cwnd)) * u64::from(acked) + u64::from(cwnd) / 2) / u64::from(cwnd.max(1));
        let concave = cwnd.saturating_add(step as u32);
        concave.max(self.w_est)
    }

    /// Section 4.2: the epoch begins.
    fn begin(&mut self, ms: u32, cwnd: u32, smss: u32) {
        self.epoch_ms = ms;
        self.w_est = cwnd;
        if cwnd >= self.w_max {
            (self.w_max, self.k_ms) = (cwnd, 0);
        } else {
            // K = cbrt((W_max - cwnd) / C) seconds, C = 0.4 segments per cubic second.
            let cube = u64::from(self.w_max - cwnd) * 2_500_000_000 / u64::from(smss.max(1));
            self.k_ms = cbrt(cube) as u32;
        }
    }

    /// W_cubic(t) = C * (t - K)^3 + W_max (section 4.2), in bytes.
    fn at(&self, ms: u32, smss: u32) -> u64 {
        let t = i64::from(ms.wrapping_sub(self.epoch_ms)) - i64::from(self.k_ms);
        let t = t.clamp(-FAR_MS, FAR_MS);
        let grown = i128::from(t * t * t) * 4 * i128::from(smss) / 10_000_000_000;
        u64::try_from(i128::from(self.w_max) + grown).unwrap_or(0)
    }

    /// A loss: the new ssthresh, and W_max for the next epoch (sections 4.6 and 4.7).
    pub(crate) fn loss(&mut self, cwnd: u32, flight: u32, smss: u32) -> u32 {
        self.epoch_ms = 0;
        // Fast convergence: the window is smaller than the last time, so another flow may need room.
        self.w_max = if cwnd < self.w_max { (u64::from(cwnd) * 17 / 20) as u32 } else { cwnd };
        ((u64::from(flight) * 7 / 10) as u32).max(2 * smss)
    }

    /// Nothing was sent for a while.
    pub(crate) fn pause(&mut self) {
        self.epoch_ms = 0;
    }
}

/// The cube root, rounded down: Newton's iteration from above.
fn cbrt(n: u64) -> u64 {
    if n == 0 {
        return 0;
    }
    let mut x = 1u64 << (n.ilog2() / 3 + 1);
    loop {
        let y = (2 * x + n / (x * x)) / 3;
        if y >= x {
            return x;
        }
        x = y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MSS: u32 = 1460;

    proptest! {
        #[test]
        fn cube_root(n: u64) {
            let r = u128::from(cbrt(n));
            prop_assert!(r * r * r <= u128::from(n) && u128::from(n) < (r + 1).pow(3));
        }

        /// Against the formula of section 4.2 in floating point.
        #[test]
        fn the_curve_is_the_rfcs(w_max in 20u32..5000, t_ms in 1u32..40_000) {
            let (w_max, mss) = (w_max * MSS, f64::from(MSS));
            let cwnd = w_max / 10 * 7;
            let mut cubic = Cubic { w_max, ..Cubic::NEW };
            cubic.begin(1000, cwnd, MSS);
            let k = (f64::from(w_max - cwnd) / mss / 0.4).cbrt();
            prop_assert!((k * 1000.0 - f64::from(cubic.k_ms)).abs() <= 1.0, "K {k} {}", cubic.k_ms);
            let expected = (0.4 * (f64::from(t_ms) / 1000.0 - k).powi(3)) * mss + f64::from(w_max);
            let got = cubic.at(1000 + t_ms, MSS) as f64;
            // K is rounded to a millisecond.
            let slope = 1.2 * (f64::from(t_ms) / 1000.0 - k).powi(2) * mss / 1000.0;
            prop_assert!((expected.max(0.0) - got).abs() <= slope + 2.0, "{expected} {got}");
        }
    }

    /// Section 4.6: 0.7; section 4.7: a second loss below W_max gives room.
    #[test]
    fn losses() {
        let mut cubic = Cubic::NEW;
        assert_eq!(cubic.loss(100_000, 100_000, 1000), 70_000);
        assert_eq!(cubic.w_max, 100_000);
        assert_eq!(cubic.loss(80_000, 80_000, 1000), 56_000);
        assert_eq!(cubic.w_max, 68_000, "80000 * (1 + 0.7) / 2");
        assert_eq!(cubic.loss(500, 500, 1000), 2000, "not below two segments");
    }

    /// Section 4.3: with a short round trip the Reno-friendly window leads: 9/17 of a segment per round trip.
    #[test]
    fn reno_friendly_region() {
        let (mut cubic, mut credit) = (Cubic { w_max: 20_000, ..Cubic::NEW }, 0);
        let mut cwnd = 14_000;
        for _ in 0..14 * 17 {
            // All at one instant: time gives nothing.
            cwnd = cubic.grow(Nanos::from_millis(5), cwnd, 1000, 1000, 20_000, &mut credit);
        }
        assert!((20_000..=23_000).contains(&cwnd), "9 segments in 17 round trips or less: {cwnd}");
    }

    /// The window is W_max again after K, and beyond it grows.
    #[test]
    fn concave_then_convex() {
        let (mut cubic, mut credit) = (Cubic { w_max: 1_000_000, ..Cubic::NEW }, 0);
        let mut cwnd = 700_000;
        let mut at = Vec::new();
        for round in 1..120u64 {
            for _ in 0..cwnd / 1000 {
                cwnd = cubic.grow(Nanos::from_millis(1 + round * 200), cwnd, 1000, 1000, 1_000_000, &mut credit);
            }
            at.push(cwnd);
        }
        let k = (cubic.k_ms / 200) as usize;
        assert!((990_000..=1_010_000).contains(&at[k]), "{}", at[k]);
        assert!(at[k / 2] > 950_000, "concave: most of it is made up for early: {}", at[k / 2]);
        assert!(at[k + 30] - at[k] < at[k + 60] - at[k + 30], "convex");
    }
}
