use std::hint::black_box;

use sys::clock;
use units::Nanos;

/// Rounds of a piece, and how many pieces are timed: some 20 ms in all.
const PIECE: u64 = 20_000;
const PIECES: u32 = 500;

/// Work that takes as long as the hardware makes it: a loop in registers. At a slower clock, or beside a busy thread of the same core, it takes longer, as an application's
/// work would and the clock's time does not.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Work {
    /// So many take a nanosecond.
    rounds: f64,
}

impl Work {
    /// How much the calling thread can do as the hardware is now: of many short pieces the fastest counts, for those that somebody has interrupted are slower. Pin the thread.
    pub fn measured() -> Work {
        let piece = |_| {
            let begun = clock::now();
            black_box(rounds(PIECE));
            clock::now() - begun
        };
        let best = (0..PIECES).map(piece).min().unwrap_or_default();
        Work { rounds: PIECE as f64 / best.0.max(1) as f64 }
    }

    /// Works for so long, as time was when it was measured; returns that time.
    #[inline]
    pub fn spend(&self, time: Nanos) -> Nanos {
        black_box(rounds(self.count(time)));
        time
    }

    fn count(&self, time: Nanos) -> u64 {
        (time.0 as f64 * self.rounds) as u64
    }
}

/// Three chains of a multiplication and an addition each: they keep a multiplier that takes three or four cycles busy for most of them, so that a second thread on the core finds some
/// of it left, but not as much as it would like.
#[inline(never)]
fn rounds(n: u64) -> u64 {
    const BY: u64 = 0x5851_f42d_4c95_7f2d;
    let (mut a, mut b, mut c) = black_box((1u64, 2u64, 3u64));
    for _ in 0..n {
        a = a.wrapping_mul(BY).wrapping_add(1);
        b = b.wrapping_mul(BY).wrapping_add(3);
        c = c.wrapping_mul(BY).wrapping_add(5);
    }
    a ^ b ^ c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_in_the_time_that_it_took_when_it_was_measured() {
        let work = Work { rounds: 1.5 };
        assert_eq!((work.count(Nanos(100)), work.spend(Nanos(100))), (150, Nanos(100)));
        let measured = Work::measured().rounds;
        assert!(measured.is_finite() && measured > 0.0);
        assert_ne!(rounds(1), rounds(2), "each round changes what comes out");
    }
}
