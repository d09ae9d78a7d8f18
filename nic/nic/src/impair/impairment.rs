use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use units::Nanos;
use wire::ethernet;

use super::Depths;

/// Frames that may be held back for others to overtake them, each way. More are not.
const LATE_MAX: usize = 256;
/// Frames that may be under way at once, each way. More are lost.
const HELD_MAX: usize = 8192;

/// What happens to frames one way: shares are of 1, sizes in bytes of Ethernet frames without their check sequence.
///
/// The default is a good wire.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// Never arrive.
    pub loss: f64,
    /// Arrive twice.
    pub duplicate: f64,
    /// Arrive late: others overtake them.
    pub late: f64,
    /// By how much at most; evenly spread.
    pub delay: Nanos,
    /// If not 0: late frames go on behind so many later ones instead, or after `delay` if these do not come before.
    pub behind: u32,
    /// Arrive with one bit turned over, anywhere behind the Ethernet header. A duplicate is damaged as its original is.
    pub corrupt: f64,
    /// Every frame's way takes so long.
    pub latency: Nanos,
    /// And up to so much longer, evenly spread. The order is kept.
    pub jitter: Nanos,
    /// Jitter does not keep the order.
    pub unordered: bool,
    /// Bits a second; 0: no limit.
    pub rate: u64,
    /// Bytes that may wait for the rate: what would be more is lost (tail drop).
    pub queue: u32,
    /// If not 0: frames that find more bytes waiting than these, and are ECN-capable, are marked CE (RFC 3168 section 5;
    /// a step, at the instantaneous length, as RFC 8257 section 3.1 wants).
    pub mark: u32,
}

impl Faults {
    /// Whether frames pass unharmed, at once.
    pub fn is_none(&self) -> bool {
        *self == Faults::default()
    }

    /// Whether bytes of frames are looked at or changed: then they must be as on a wire, with every checksum in its place.
    pub fn touches_bytes(&self) -> bool {
        self.corrupt > 0.0 || self.mark > 0
    }

    /// Bytes that are under way on a link of this rate in a round trip: the usual size of its queue.
    pub const fn bandwidth_delay(rate: u64, round_trip: Nanos) -> u32 {
        (rate as u128 * round_trip.0 as u128 / 8_000_000_000) as u32
    }
}

/// What became of the frames so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// Frames judged.
    pub frames: u64,
    /// Lost by `loss`.
    pub lost: u64,
    /// Lost because the queue had no room, or too many were under way.
    pub dropped: u64,
    /// Doubled.
    pub doubled: u64,
    /// Held back for others to overtake.
    pub late: u64,
    /// To be damaged.
    pub damaged: u64,
    /// To be marked, if ECN-capable.
    pub marked: u64,
}

/// How a frame passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// When it comes out.
    pub at: Nanos,
    /// If not 0: behind so many later ones, or at `at`.
    pub behind: u32,
    /// When it comes out a second time.
    pub twin: Option<Nanos>,
    /// The bit to turn over: counted from the first of the frame.
    pub flip: Option<usize>,
    /// Mark it, if it is ECN-capable.
    pub mark: bool,
}

/// Decides what happens to the frames of one direction. Equal seeds, and equal lengths at equal times, meet equal fates.
///
/// It sees lengths and instants only; whoever asks carries out what it says. O(1).
#[derive(Debug)]
pub struct Impairment {
    faults: Faults,
    dice: SmallRng,
    /// The rate-limited part is busy with what it has until then.
    busy: Nanos,
    /// The last frame in order comes out then.
    last: Nanos,
    passed: Passed,
    depths: Depths,
}

impl Impairment {
    /// With these faults, by this seed.
    pub fn new(faults: Faults, seed: u64) -> Impairment {
        Impairment {
            faults,
            dice: SmallRng::seed_from_u64(seed),
            busy: Nanos::ZERO,
            last: Nanos::ZERO,
            passed: Passed::default(),
            depths: Depths::new(if faults.rate > 0 { faults.queue } else { 0 }),
        }
    }

    /// What it does.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What became of the frames so far.
    pub fn passed(&self) -> Passed {
        self.passed
    }

    /// How full the queue was when frames came to it.
    pub fn depths(&self) -> &Depths {
        &self.depths
    }

    /// The fate of a frame of `len` bytes that comes at `now` while `held` frames are under way; `None`: it is lost. `now`
    /// does not go backwards.
    pub fn judge(&mut self, now: Nanos, len: usize, held: usize) -> Option<Passage> {
        self.passed.frames += 1;
        let Faults { loss, duplicate, late, corrupt, behind, .. } = self.faults;
        let roll: f64 = self.dice.random();
        if roll < loss {
            self.passed.lost += 1;
            return None;
        }
        let twice = roll < loss + duplicate;
        let is_late = !twice && roll < loss + duplicate + late && held < LATE_MAX;
        let flip = (corrupt > 0.0 && self.dice.random::<f64>() < corrupt).then(|| self.bit(len));
        if held >= HELD_MAX {
            self.passed.dropped += 1;
            return None;
        }
        let Some((sent, mark)) = self.send(now, len) else {
            self.passed.dropped += 1;
            return None;
        };
        let at = self.arrival(sent, is_late);
        let twin = if twice { self.send(now, len).map(|(sent, _)| self.arrival(sent, false)) } else { None };
        self.passed.doubled += u64::from(twin.is_some());
        self.passed.late += u64::from(is_late);
        self.passed.damaged += u64::from(flip.is_some());
        self.passed.marked += u64::from(mark);
        Some(Passage { at, behind: if is_late { behind } else { 0 }, twin, flip, mark })
    }

    /// Bytes that wait for the rate at `now`.
    pub fn waiting(&self, now: Nanos) -> u64 {
        let ahead = self.busy.0.saturating_sub(now.0);
        (u128::from(ahead) * u128::from(self.faults.rate) / 8_000_000_000) as u64
    }

    /// Through the queue: when the last bit has left, and whether CE is to be set. `None`: there is no room.
    fn send(&mut self, now: Nanos, len: usize) -> Option<(Nanos, bool)> {
        let Faults { rate, queue, mark, .. } = self.faults;
        if rate == 0 {
            return Some((now, false));
        }
        let waiting = self.waiting(now);
        self.depths.add(waiting);
        // An idle link takes any frame.
        if waiting > 0 && waiting + len as u64 > u64::from(queue) {
            return None;
        }
        let takes = Nanos((len as u128 * 8_000_000_000 / u128::from(rate)) as u64);
        self.busy = self.busy.max(now) + takes;
        Some((self.busy, mark > 0 && waiting > u64::from(mark)))
    }

    /// When what was sent arrives.
    fn arrival(&mut self, sent: Nanos, late: bool) -> Nanos {
        let Faults { latency, jitter, unordered, delay, behind, .. } = self.faults;
        let mut at = sent + latency;
        if jitter > Nanos::ZERO {
            at += Nanos(self.dice.random_range(0..=jitter.0));
        }
        if late && behind > 0 {
            return at + delay;
        }
        if late {
            return at + Nanos(self.dice.random_range(0..=delay.0));
        }
        if !unordered {
            at = at.max(self.last);
            self.last = at;
        }
        at
    }

    /// Any bit behind the Ethernet header.
    fn bit(&mut self, len: usize) -> usize {
        let (from, to) = (ethernet::HEADER * 8, len * 8);
        if from < to { self.dice.random_range(from..to) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MTU: usize = 1514;

    /// The fates of `n` frames of 1514 B, `gap` apart.
    fn fates(faults: Faults, n: u64, gap: Nanos, seed: u64) -> Vec<Option<Passage>> {
        let mut impairment = Impairment::new(faults, seed);
        (0..n).map(|i| impairment.judge(Nanos(i * gap.0), MTU, 0)).collect()
    }

    fn ats(fates: &[Option<Passage>]) -> Vec<u64> {
        fates.iter().flatten().map(|p| p.at.0).collect()
    }

    #[test]
    fn shares_are_kept() {
        let faults = Faults { loss: 0.1, duplicate: 0.05, late: 0.2, corrupt: 0.02, ..Faults::default() };
        let mut impairment = Impairment::new(faults, 4);
        for i in 0..100_000 {
            impairment.judge(Nanos(i * 1000), MTU, 0);
        }
        let Passed { frames, lost, dropped, doubled, late, damaged, marked } = impairment.passed();
        assert_eq!((frames, dropped, marked), (100_000, 0, 0));
        for (n, wanted) in [(lost, 10_000), (doubled, 5000), (late, 20_000), (damaged, 1800)] {
            assert!(n.abs_diff(wanted) < wanted / 10, "{n} instead of {wanted}");
        }
    }

    #[test]
    fn latency_and_jitter_keep_the_order_unless_asked() {
        let faults = Faults { latency: Nanos::from_millis(5), jitter: Nanos::from_millis(2), ..Faults::default() };
        let kept = ats(&fates(faults, 1000, Nanos::from_micros(10), 1));
        assert!(kept.is_sorted());
        let not_kept = ats(&fates(Faults { unordered: true, ..faults }, 1000, Nanos::from_micros(10), 1));
        assert!(!not_kept.is_sorted());
        for (i, at) in kept.iter().chain(&not_kept).enumerate() {
            let sent = i as u64 % 1000 * 10_000;
            assert!((sent + 5_000_000..=sent + 7_000_000 + 10_000_000).contains(at), "frame {i} at {at}");
        }
    }

    #[test]
    fn a_rate_spaces_frames_and_its_queue_drops_the_tail() {
        // 100 Mbit/s: 121.12 us for 1514 B. Ten frames fit into the queue.
        let faults = Faults { rate: 100_000_000, queue: 10 * MTU as u32, ..Faults::default() };
        let at_once = fates(faults, 100, Nanos::ZERO, 1);
        assert_eq!(ats(&at_once), (1..=10).map(|i| i * 121_120).collect::<Vec<_>>());
        assert!(at_once[10..].iter().all(Option::is_none), "the tail");
        let in_time = fates(faults, 100, Nanos(121_120), 1);
        assert!(in_time.iter().enumerate().all(|(i, p)| p.is_some_and(|p| p.at == Nanos((i as u64 + 1) * 121_120))));
    }

    #[test]
    fn marks_begin_above_the_threshold() {
        let faults = Faults { rate: 100_000_000, queue: 100 * MTU as u32, mark: 5 * MTU as u32, ..Faults::default() };
        let marks: Vec<bool> = fates(faults, 10, Nanos::ZERO, 1).iter().flatten().map(|p| p.mark).collect();
        assert_eq!(marks, [false, false, false, false, false, false, true, true, true, true]);
        assert!(fates(faults, 1000, Nanos(121_120), 1).iter().flatten().all(|p| !p.mark), "no queue, no mark");
    }

    #[test]
    fn an_idle_link_takes_a_frame_larger_than_its_queue() {
        let faults = Faults { rate: 1_000_000, queue: 100, ..Faults::default() };
        let first_and_next = fates(faults, 2, Nanos::ZERO, 1);
        assert!(first_and_next[0].is_some() && first_and_next[1].is_none());
    }

    #[test]
    fn queues_are_as_deep_as_they_are_told_to_be() {
        let faults = Faults { rate: 100_000_000, queue: 100 * MTU as u32, ..Faults::default() };
        let mut impairment = Impairment::new(faults, 1);
        for i in 0..1000 {
            // Two frames at a time, each pair when the last one has left: half of them find one frame waiting.
            for _ in 0..2 {
                impairment.judge(Nanos(i * 2 * 121_120), MTU, 0);
            }
        }
        let depths = impairment.depths();
        assert!(depths.quantile(0.49) < 300, "{}", depths.quantile(0.49));
        assert!(depths.quantile(0.9).abs_diff(MTU as u64) < 300, "{}", depths.quantile(0.9));
    }

    #[test]
    fn too_many_under_way_are_lost() {
        let mut impairment = Impairment::new(Faults { latency: Nanos::from_secs(9), ..Faults::default() }, 1);
        assert!(impairment.judge(Nanos(1), MTU, HELD_MAX - 1).is_some());
        assert!(impairment.judge(Nanos(1), MTU, HELD_MAX).is_none());
        assert_eq!(impairment.passed().dropped, 1);
    }

    proptest! {
        #[test]
        fn nothing_comes_out_before_it_went_in(
            loss in 0.0..0.5, late in 0.0..0.5, rate in prop_oneof![Just(0), 1_000_000u64..10_000_000_000],
            queue in 0u32..1_000_000, jitter in 0u64..10_000_000, lens in prop::collection::vec((1usize..70_000, 0u64..1_000_000), 1..100),
        ) {
            let delay = Nanos::from_millis(1);
            let faults = Faults {
                loss, duplicate: 0.2, late, delay, corrupt: 0.5, jitter: Nanos(jitter), rate, queue, mark: 1, ..Faults::default()
            };
            let (mut impairment, mut same) = (Impairment::new(faults, 9), Impairment::new(faults, 9));
            let mut now = Nanos::ZERO;
            for (len, gap) in lens {
                now += Nanos(gap);
                let fate = impairment.judge(now, len, 0);
                prop_assert_eq!(fate, same.judge(now, len, 0), "equal seeds are equal fates");
                if let Some(p) = fate {
                    prop_assert!(p.at >= now && p.twin.is_none_or(|at| at >= now));
                    prop_assert!(p.flip.is_none_or(|bit| bit / 8 < len));
                    prop_assert!(rate == 0 || impairment.waiting(now) <= u64::from(queue).max(70_000));
                }
            }
        }
    }
}
