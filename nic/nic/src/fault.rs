//! A queue whose wire loses, doubles, delays and thereby reorders frames, as a seed decides.
//!
//! For tests, and for the simulator: equal seeds and equal frames at equal times meet equal faults. It allocates for frames that it holds back.

use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sys::clock::Clock;
use units::Nanos;

use crate::{Caps, CsumStart, Gso, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};

/// Frames that may be held back at once, each way. More are not.
const HELD_MAX: usize = 256;

/// What happens to frames, in both directions: shares of 1.
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
}

/// A queue behind a bad wire.
pub struct Faulty<Q> {
    inner: Q,
    faults: Faults,
    clock: Clock,
    dice: SmallRng,
    burst: Vec<RxFrame>,
    rx: Vec<(Nanos, RxFrame)>,
    tx: Vec<(Nanos, Kept)>,
    /// When the first frame that is held back goes on, in nanoseconds.
    due: Arc<AtomicU64>,
    /// The wire has been mended.
    mended: Arc<AtomicBool>,
}

/// A frame to transmit that had to be copied.
struct Kept {
    head: Vec<u8>,
    payload: Vec<u8>,
    csum: Option<CsumStart>,
    gso: Option<Gso>,
}

/// A frame's fate.
enum Fate {
    Lost,
    Passes,
    Twice,
    Late(Nanos),
}

impl<Q: Queue> Faulty<Q> {
    /// `queue` behind a wire with these `faults`, by this `clock`.
    pub fn new(queue: Q, faults: Faults, clock: Clock, seed: u64) -> Faulty<Q> {
        let dice = SmallRng::seed_from_u64(seed);
        let due = Arc::new(AtomicU64::new(u64::MAX));
        Faulty {
            inner: queue,
            faults,
            clock,
            dice,
            burst: Vec::new(),
            rx: Vec::new(),
            tx: Vec::new(),
            due,
            mended: Arc::default(),
        }
    }

    /// A switch that ends all faults. Frames that are held back still come late.
    pub fn mended(&self) -> Arc<AtomicBool> {
        self.mended.clone()
    }

    /// Whether there is nothing to do but to pass frames on.
    fn is_clear(&self) -> bool {
        (self.faults == Faults::default() || self.mended.load(Ordering::Relaxed))
            && self.rx.is_empty()
            && self.tx.is_empty()
    }

    /// When the first frame that is held back goes on, in nanoseconds of the clock; `u64::MAX`: none is.
    pub fn due(&self) -> Arc<AtomicU64> {
        self.due.clone()
    }

    fn fate(&mut self, now: Nanos, held: usize) -> Fate {
        if self.mended.load(Ordering::Relaxed) {
            return Fate::Passes;
        }
        let Faults { loss, duplicate, late, delay } = self.faults;
        let roll: f64 = self.dice.random();
        if roll < loss {
            Fate::Lost
        } else if roll < loss + duplicate {
            Fate::Twice
        } else if roll < loss + duplicate + late && held < HELD_MAX {
            Fate::Late(now + Nanos(self.dice.random_range(0..=delay.0)))
        } else {
            Fate::Passes
        }
    }

    fn tell_due(&self) {
        let first = self.rx.iter().map(|(at, _)| *at).chain(self.tx.iter().map(|(at, _)| *at)).min();
        self.due.store(first.map_or(u64::MAX, |at| at.0), Ordering::Relaxed);
    }

    /// Transmits what has been held back for long enough.
    fn catch_up(&mut self, now: Nanos) {
        while let Some(i) = self.tx.iter().position(|(at, _)| *at <= now) {
            let (_, frame) = self.tx.remove(i);
            // A full ring loses it: that is a fault, too.
            let _ = frame.with(|frame| self.inner.tx(frame));
        }
    }
}

impl Kept {
    fn copy(frame: &TxFrame<'_>) -> Kept {
        let payload = frame.payload.iter().flat_map(|piece| piece.iter().copied()).collect();
        Kept { head: frame.head.to_vec(), payload, csum: frame.csum, gso: frame.gso }
    }

    fn with<R>(&self, then: impl FnOnce(&TxFrame<'_>) -> R) -> R {
        let payload = [IoSlice::new(&self.payload)];
        then(&TxFrame { head: &self.head, payload: &payload, csum: self.csum, gso: self.gso })
    }
}

/// The same frame in a buffer of its own; `None` if there is none, or it is a super-frame.
fn double(frame: &RxFrame, pools: &mut RxPools) -> Option<RxFrame> {
    if !frame.rest.is_empty() {
        return None;
    }
    let mut head = pools.mbufs.alloc()?;
    head.reset(0);
    if head.extend(&frame.head) < frame.head.len() {
        pools.mbufs.free(head);
        return None;
    }
    Some(RxFrame { head, rest: Default::default(), csum_ok: frame.csum_ok, group: frame.group })
}

fn lose(frame: RxFrame, pools: &mut RxPools) {
    pools.mbufs.free(frame.head);
    pools.spills.free_queue(frame.rest);
}

impl<Q: Queue> Queue for Faulty<Q> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        if self.is_clear() {
            return self.inner.rx_burst(pools, max, out);
        }
        let now = self.clock.now();
        let before = out.len();
        let max = max.min(out.capacity() - before);
        while out.len() - before < max
            && let Some(i) = self.rx.iter().position(|(at, _)| *at <= now)
        {
            out.push(self.rx.remove(i).1);
        }
        let mut burst = std::mem::take(&mut self.burst);
        let room = max - (out.len() - before);
        burst.reserve(room);
        if room > 0 {
            self.inner.rx_burst(pools, room, &mut burst);
        }
        for frame in burst.drain(..) {
            match self.fate(now, self.rx.len()) {
                Fate::Lost => lose(frame, pools),
                Fate::Passes => out.push(frame),
                Fate::Late(at) => self.rx.push((at, frame)),
                Fate::Twice => {
                    let twin = double(&frame, pools);
                    out.push(frame);
                    self.rx.extend(twin.map(|twin| (now, twin)));
                }
            }
        }
        self.burst = burst;
        self.catch_up(now);
        self.tell_due();
        out.len() - before
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        if self.is_clear() {
            return self.inner.tx(frame);
        }
        let now = self.clock.now();
        match self.fate(now, self.tx.len()) {
            Fate::Lost => Ok(()),
            Fate::Passes => self.inner.tx(frame),
            Fate::Twice => {
                self.inner.tx(frame)?;
                let _ = self.inner.tx(frame);
                Ok(())
            }
            Fate::Late(at) => {
                self.tx.push((at, Kept::copy(frame)));
                self.tell_due();
                Ok(())
            }
        }
    }

    fn flush(&mut self) {
        if !self.tx.is_empty() {
            self.catch_up(self.clock.now());
            self.tell_due();
        }
        self.inner.flush();
    }

    fn rx_hint(&self) -> RxHint {
        let (inner, due, clock) = (self.inner.rx_hint(), self.due.clone(), self.clock.clone());
        Arc::new(move || due.load(Ordering::Relaxed) <= clock.now().0 || inner())
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.inner.wait_fd()
    }

    fn before_sleep(&mut self) -> bool {
        self.rx.is_empty() && self.tx.is_empty() && self.inner.before_sleep()
    }

    fn after_sleep(&mut self) {
        self.inner.after_sleep();
    }

    fn counters(&self) -> QueueCounters {
        self.inner.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caps;
    use mem::{Pool, Room};

    /// Gives out numbered frames, and counts what is transmitted.
    struct Wire {
        next: u8,
        until: u8,
        sent: Vec<u8>,
        caps: Caps,
    }

    impl Queue for Wire {
        fn caps(&self) -> &Caps {
            &self.caps
        }

        fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
            let n = max.min(usize::from(self.until - self.next));
            for _ in 0..n {
                let mut head = pools.mbufs.alloc().unwrap();
                head.reset(0);
                head.extend(&[self.next; 60]);
                self.next += 1;
                out.push(RxFrame { head, rest: Default::default(), csum_ok: true, group: None });
            }
            n
        }

        fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
            assert_eq!(frame.len(), 60);
            self.sent.push(frame.head[0]);
            Ok(())
        }

        fn flush(&mut self) {}

        fn wait_fd(&self) -> Option<RawFd> {
            None
        }

        fn before_sleep(&mut self) -> bool {
            true
        }

        fn after_sleep(&mut self) {}

        fn counters(&self) -> QueueCounters {
            QueueCounters::default()
        }
    }

    const FRAMES: u8 = 200;

    /// What comes out of `FRAMES` frames each way, received and transmitted, and the buffers that are left of 512.
    fn pass(faults: Faults, seed: u64) -> (Vec<u8>, Vec<u8>, usize) {
        let caps = Caps {
            mtu: 1500,
            tx_csum: false,
            rx_csum: false,
            tso: false,
            large_rx: false,
            gather: true,
            steering: crate::Steering::Hardware,
            reta_size: 128,
            mac: [0; 6],
            name: "test".into(),
        };
        let clock = Clock::standing(Nanos(0));
        let wire = Wire { next: 0, until: FRAMES, sent: Vec::new(), caps };
        let mut queue = Faulty::new(wire, faults, clock.clone(), seed);
        let pool = |n| Pool::new(Room::Received, n, 2048).unwrap();
        let mut pools = RxPools { mbufs: pool(512), spills: pool(1) };
        let mut received = Vec::new();
        let mut out = Vec::with_capacity(16);
        for turn in 0..2000u64 {
            clock.set(Nanos(turn * 1000));
            queue.rx_burst(&mut pools, 16, &mut out);
            for frame in out.drain(..) {
                received.push(frame.head[0]);
                pools.mbufs.free(frame.head);
            }
            if let Ok(n @ 0..FRAMES) = u8::try_from(turn) {
                let (head, payload) = ([n; 40], [n; 20]);
                let payload = [IoSlice::new(&payload)];
                queue.tx(&TxFrame { head: &head, payload: &payload, csum: None, gso: None }).unwrap();
            }
            queue.flush();
        }
        assert!(queue.before_sleep(), "nothing is held back any more");
        (received, queue.inner.sent, pools.mbufs.available())
    }

    #[test]
    fn a_good_wire_changes_nothing() {
        let all: Vec<u8> = (0..FRAMES).collect();
        assert_eq!(pass(Faults::default(), 1), (all.clone(), all, 512));
    }

    #[test]
    fn faults_are_what_they_are_called_and_lose_no_buffer() {
        let only = |faults| pass(faults, 3);
        let (rx, tx, left) = only(Faults { loss: 0.2, ..Faults::default() });
        for way in [rx, tx] {
            assert!(way.is_sorted() && (130..185).contains(&way.len()), "{way:?}");
        }
        assert_eq!(left, 512);
        let (rx, tx, left) = only(Faults { duplicate: 0.2, ..Faults::default() });
        for mut way in [rx, tx] {
            assert!((215..270).contains(&way.len()));
            way.sort_unstable();
            way.dedup();
            assert_eq!(way.len(), usize::from(FRAMES));
        }
        assert_eq!(left, 512);
        let (rx, tx, left) = only(Faults { late: 0.2, delay: Nanos::from_micros(50), ..Faults::default() });
        for mut way in [rx, tx] {
            assert!(!way.is_sorted(), "others overtake");
            way.sort_unstable();
            assert!(way.iter().copied().eq(0..FRAMES), "none is lost");
        }
        assert_eq!(left, 512);
    }

    #[test]
    fn equal_seeds_are_equal_faults() {
        let faults = Faults { loss: 0.1, duplicate: 0.1, late: 0.1, delay: Nanos::from_micros(20) };
        assert_eq!(pass(faults, 7), pass(faults, 7));
        assert_ne!(pass(faults, 7), pass(faults, 8));
    }
}
