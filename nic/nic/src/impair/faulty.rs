use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sys::clock::Clock;
use units::Nanos;

use super::{Faults, Impairment, Line, Passage, Passed, bytes};
use crate::{Caps, CsumStart, Gso, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};

/// A queue behind a bad wire, for tests and for the simulator: the same faults both ways, each way by dice of its own.
///
/// Frames are what the queue hands over: a super-frame is lost or doubled as one, so that a share of loss is one of up to
/// 64 KB. Where bytes are touched ([`Faults::touches_bytes`]), the stack is told that the queue neither cuts super-frames nor
/// fills in checksums, so that nobody mends what was damaged; and a received frame whose checksum was only promised
/// gets it, and is said to be unchecked, before a bit of its first buffer is turned over.
///
/// It allocates for frames that it holds back. A rate or a latency wants a receive pool that has room for what is under way.
pub struct Faulty<Q> {
    inner: Q,
    caps: Caps,
    clock: Clock,
    burst: Vec<RxFrame>,
    rx: Way<RxFrame>,
    tx: Way<Kept>,
    /// When the first frame that is held back goes on, in nanoseconds.
    due: Arc<AtomicU64>,
    /// Its faults are none.
    harmless: bool,
    /// The wire has been mended.
    mended: Arc<AtomicBool>,
}

/// One direction.
struct Way<F> {
    impairment: Impairment,
    line: Line<F>,
}

/// A frame to transmit that had to be copied.
#[derive(Clone)]
struct Kept {
    head: Vec<u8>,
    payload: Vec<u8>,
    csum: Option<CsumStart>,
    gso: Option<Gso>,
}

impl<F> Way<F> {
    fn new(faults: Faults, seed: u64) -> Way<F> {
        Way { impairment: Impairment::new(faults, seed), line: Line::new() }
    }

    fn hold(&mut self, passage: &Passage, frame: F) {
        match passage.behind {
            0 => self.line.push(passage.at, frame),
            later => self.line.push_behind(later, passage.at, frame),
        }
    }
}

impl<Q: Queue> Faulty<Q> {
    /// `queue` behind a wire with these `faults`, by this `clock`.
    pub fn new(queue: Q, faults: Faults, clock: Clock, seed: u64) -> Faulty<Q> {
        let mut caps = queue.caps().clone();
        if faults.touches_bytes() {
            (caps.tx_csum, caps.tso) = (false, false);
        }
        Faulty {
            inner: queue,
            caps,
            clock,
            burst: Vec::new(),
            rx: Way::new(faults, seed),
            // Any other stream of dice.
            tx: Way::new(faults, seed.rotate_left(32) ^ 0x5bd1_e995),
            due: Arc::new(AtomicU64::new(u64::MAX)),
            harmless: faults.is_none(),
            mended: Arc::default(),
        }
    }

    /// A switch that ends all faults. Frames that are held back still come late.
    pub fn mended(&self) -> Arc<AtomicBool> {
        self.mended.clone()
    }

    /// When the first frame that is held back goes on, in nanoseconds of the clock; `u64::MAX`: none is.
    pub fn due(&self) -> Arc<AtomicU64> {
        self.due.clone()
    }

    /// What became of received frames, and of transmitted ones.
    pub fn passed(&self) -> (Passed, Passed) {
        (self.rx.impairment.passed(), self.tx.impairment.passed())
    }

    /// Whether there is nothing to do but to pass frames on.
    fn is_clear(&self) -> bool {
        (self.harmless || self.is_mended()) && self.rx.line.is_empty() && self.tx.line.is_empty()
    }

    fn faults(&self) -> &Faults {
        self.rx.impairment.faults()
    }

    fn is_mended(&self) -> bool {
        self.mended.load(Ordering::Relaxed)
    }

    fn tell_due(&self) {
        let first = self.rx.line.due().into_iter().chain(self.tx.line.due()).min();
        self.due.store(first.map_or(u64::MAX, |at| at.0), Ordering::Relaxed);
    }

    /// Transmits what has been held back for long enough.
    fn catch_up(&mut self, now: Nanos) {
        while let Some(frame) = self.tx.line.pop(now) {
            // A full ring loses it: that is a fault, too.
            let _ = frame.with(|frame| self.inner.tx(frame));
        }
    }

    fn receive(&mut self, mut frame: RxFrame, now: Nanos, pools: &mut RxPools) {
        if self.is_mended() {
            return self.rx.line.push(now, frame);
        }
        let len = frame.head.len() + frame.rest.bytes() as usize;
        let Some(passage) = self.rx.impairment.judge(now, len, self.rx.line.len()) else {
            return lose(frame, pools);
        };
        if passage.mark {
            bytes::mark_ce(&mut frame.head);
        }
        if let Some(bit) = passage.flip {
            damage(&mut frame, bit);
        }
        let twin = passage.twin.and_then(|at| Some((at, double(&frame, pools)?)));
        self.rx.hold(&passage, frame);
        if let Some((at, twin)) = twin {
            self.rx.line.push(at, twin);
        }
    }

    /// Whether a frame can go on as it lies, without a copy.
    fn passes_as_is(&self, passage: &Passage, now: Nanos) -> bool {
        let Passage { at, behind, twin, flip, mark } = *passage;
        // Where frames wait for later ones, each has to be seen by the line.
        let counted = behind > 0 || self.faults().behind > 0;
        at <= now && !counted && twin.is_none_or(|at| at <= now) && flip.is_none() && !mark
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

    /// Turns a bit over. A promised checksum is filled in before; what is still to be cut would get new ones, and is left alone.
    fn damage(&mut self, bit: usize) {
        if self.gso.is_some() {
            return;
        }
        if self.csum.take().is_some() {
            bytes::complete_checksum(&mut self.head, std::iter::once(&self.payload[..]));
        }
        let in_head = self.head.len() * 8;
        match bit.checked_sub(in_head) {
            None => bytes::flip_bit(&mut self.head, bit),
            Some(bit) => bytes::flip_bit(&mut self.payload, bit),
        }
    }
}

/// Turns a bit over, of what lies in the first buffer. The frame is as from a wire then: with its checksum, unchecked.
fn damage(frame: &mut RxFrame, bit: usize) {
    if frame.csum_ok {
        bytes::complete_checksum(&mut frame.head, frame.rest.iter().map(|piece| &**piece));
        frame.csum_ok = false;
    }
    let (from, to) = (wire::ethernet::HEADER * 8, frame.head.len() * 8);
    let bit = if bit < to || from >= to { bit } else { from + bit % (to - from) };
    bytes::flip_bit(&mut frame.head, bit);
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
        &self.caps
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        if self.is_clear() {
            return self.inner.rx_burst(pools, max, out);
        }
        let now = self.clock.now();
        let before = out.len();
        let max = max.min(out.capacity() - before);
        let mut burst = std::mem::take(&mut self.burst);
        burst.reserve(max);
        if max > 0 {
            self.inner.rx_burst(pools, max, &mut burst);
        }
        for frame in burst.drain(..) {
            self.receive(frame, now, pools);
        }
        self.burst = burst;
        while out.len() - before < max
            && let Some(frame) = self.rx.line.pop(now)
        {
            out.push(frame);
        }
        self.catch_up(now);
        self.tell_due();
        out.len() - before
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        if self.is_clear() {
            return self.inner.tx(frame);
        }
        let now = self.clock.now();
        self.catch_up(now);
        if self.is_mended() {
            return self.inner.tx(frame);
        }
        let Some(passage) = self.tx.impairment.judge(now, frame.len(), self.tx.line.len()) else { return Ok(()) };
        if self.passes_as_is(&passage, now) {
            self.inner.tx(frame)?;
            if passage.twin.is_some() {
                let _ = self.inner.tx(frame);
            }
            return Ok(());
        }
        let mut kept = Kept::copy(frame);
        if passage.mark {
            bytes::mark_ce(&mut kept.head);
        }
        if let Some(bit) = passage.flip {
            kept.damage(bit);
        }
        let twin = passage.twin.map(|at| (at, kept.clone()));
        self.tx.hold(&passage, kept);
        if let Some((at, twin)) = twin {
            self.tx.line.push(at, twin);
        }
        self.catch_up(now);
        self.tell_due();
        Ok(())
    }

    fn rx_waiting(&mut self) -> usize {
        self.inner.rx_waiting()
    }

    fn has_room(&mut self) -> bool {
        self.inner.has_room()
    }

    fn flush(&mut self) {
        if !self.tx.line.is_empty() {
            self.catch_up(self.clock.now());
            self.tell_due();
        }
        self.inner.flush();
    }

    fn tx_mark(&mut self) {
        self.inner.tx_mark();
    }

    fn tx_passed(&mut self) -> bool {
        self.inner.tx_passed()
    }

    fn rx_mark(&mut self) {
        self.inner.rx_mark();
    }

    fn rx_passed(&mut self) -> bool {
        self.inner.rx_passed()
    }

    fn rx_hint(&self) -> RxHint {
        let (inner, due, clock) = (self.inner.rx_hint(), self.due.clone(), self.clock.clone());
        if self.harmless {
            return inner;
        }
        Arc::new(move || due.load(Ordering::Relaxed) <= clock.now().0 || inner())
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.inner.wait_fd()
    }

    fn before_sleep(&mut self) -> bool {
        self.rx.line.is_empty() && self.tx.line.is_empty() && self.inner.before_sleep()
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
    fn late_frames_wait_for_so_many_others() {
        let faults = Faults { late: 0.2, behind: 3, delay: Nanos::from_micros(500), ..Faults::default() };
        let (rx, tx, left) = pass(faults, 3);
        for mut way in [rx, tx] {
            let overtaken = way.windows(2).filter(|w| w[1] < w[0]).count();
            assert!(overtaken > 10, "{way:?}");
            way.sort_unstable();
            assert!(way.iter().copied().eq(0..FRAMES), "none is lost");
        }
        assert_eq!(left, 512);
    }

    #[test]
    fn damage_cannot_hide_behind_a_promised_checksum() {
        use crate::impair::bytes::tests::{frame, is_right};
        let mut pool = Pool::new(Room::Received, 4, 2048).unwrap();
        let mut promised = frame(false, wire::ipv4::TCP, 0, &[5; 200], 0);
        promised[14 + 20 + 16] ^= 0x55;
        for (cut, bit) in [(promised.len(), 1900), (100, 500), (100, 1900)] {
            let mut buffer = |bytes: &[u8]| {
                let mut mbuf = pool.alloc().unwrap();
                mbuf.reset(0);
                mbuf.extend(bytes);
                mbuf
            };
            let head = buffer(&promised[..cut]);
            let rest = if cut < promised.len() { buffer(&promised[cut..]).into() } else { mem::MbufQueue::new() };
            let mut received = RxFrame { head, rest, csum_ok: true, group: None };
            damage(&mut received, bit);
            assert!(!received.csum_ok, "it wants a look");
            let rest: Vec<u8> = received.rest.iter().flat_map(|piece| piece.to_vec()).collect();
            assert!(!is_right(&[&received.head, &rest[..]].concat()), "and does not stand it");
            lose(
                received,
                &mut RxPools {
                    mbufs: Pool::new(Room::Received, 1, 64).unwrap(),
                    spills: Pool::new(Room::Received, 1, 64).unwrap(),
                },
            );
            let csum = Some(CsumStart { start: 34, offset: 16 });
            let mut sent = Kept { head: promised[..60].to_vec(), payload: promised[60..].to_vec(), csum, gso: None };
            sent.damage(bit);
            assert!(sent.csum.is_none() && !is_right(&[sent.head, sent.payload].concat()));
        }
    }

    #[test]
    fn equal_seeds_are_equal_faults() {
        let faults =
            Faults { loss: 0.1, duplicate: 0.1, late: 0.1, delay: Nanos::from_micros(20), ..Faults::default() };
        assert_eq!(pass(faults, 7), pass(faults, 7));
        assert_ne!(pass(faults, 7), pass(faults, 8));
    }
}
