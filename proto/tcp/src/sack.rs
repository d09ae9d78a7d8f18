//! Selective acknowledgement: what we hold of the peer's (the blocks of RFC 2018 and 2883), and how its blocks are read.
//! What the peer holds of ours is in [`crate::flight`].
//!
//! ```text
//!   rcv.nxt
//!      |----gap---|####|---gap----|####|                 held, most recent first
//! ```
//!
//! What finds no room is forgotten, which is always allowed: it is sent again.

use units::Nanos;
use wire::Seq;
use wire::tcp::{SackBlocks, Segment};

use crate::flight::Tick;
use crate::tcb::{Bits, Tcb};

/// How many discontiguous runs the receiver holds.
pub(crate) const HELD_MAX: usize = 12;
/// Duplicate acknowledgements that mean loss (RFC 5681 section 3.2, RFC 6675 section 2).
pub(crate) const DUP_THRESH: u8 = 3;

/// Disjoint ranges `[left, right)`, none of them empty or touching another, all within half the circle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges<const N: usize> {
    ranges: [(Seq, Seq); N],
    len: u8,
}

impl<const N: usize> Ranges<N> {
    pub(crate) const EMPTY: Ranges<N> = Ranges { ranges: [(Seq(0), Seq(0)); N], len: 0 };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[(Seq, Seq)] {
        self.ranges.get(..usize::from(self.len)).unwrap_or(&self.ranges)
    }

    fn remove(&mut self, at: usize) {
        let len = usize::from(self.len);
        if at < len {
            self.ranges.copy_within(at + 1..len, at);
            self.len -= 1;
        }
    }

    fn insert_at(&mut self, at: usize, range: (Seq, Seq)) {
        let len = usize::from(self.len);
        if at <= len && len < N {
            self.ranges.copy_within(at..len, at + 1);
            self.ranges[at] = range;
            self.len += 1;
        }
    }

    // The held data: in the order of arrival, most recent first (RFC 2018 section 4).

    /// Adds the run `[left, right)`, which overlaps no other, to the front, merging what it touches. `false`: no room.
    pub(crate) fn hold(&mut self, left: Seq, right: Seq) -> bool {
        let (mut l, mut r) = (left, right);
        let mut at = 0;
        while let Some(&(a, b)) = self.as_slice().get(at) {
            if a.le(r) && b.ge(l) {
                (l, r) = (l.min(a), r.max(b));
                self.remove(at);
            } else {
                at += 1;
            }
        }
        if usize::from(self.len) == N {
            return false;
        }
        self.insert_at(0, (l, r));
        true
    }

    /// The part of `[left, right)` that may be held without overlapping what is held: the front of the first gap in it.
    pub(crate) fn gap_within(&self, left: Seq, right: Seq) -> (Seq, Seq) {
        let (mut l, mut r) = (left, right);
        // A pass per range at most moves the left edge over adjacent runs; runs never touch, so one is enough.
        for &(a, b) in self.as_slice() {
            if a.le(l) && b.gt(l) {
                l = b;
            }
        }
        for &(a, _) in self.as_slice() {
            if a.gt(l) && a.lt(r) {
                r = a;
            }
        }
        if l.lt(r) { (l, r) } else { (r, r) }
    }

    /// The end of the run that covers or touches `nxt`, which leaves the list; `None` when there is a gap.
    pub(crate) fn connect(&mut self, nxt: Seq) -> Option<Seq> {
        let at = self.as_slice().iter().position(|(l, _)| l.le(nxt))?;
        let right = self.as_slice().get(at)?.1;
        self.remove(at);
        Some(right)
    }
}

/// What the blocks and the acknowledgment of one segment told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Bytes that are known to have arrived only now (DeliveredData of RFC 9937).
    pub(crate) delivered: u32,
    /// A block reported something new.
    pub(crate) news: bool,
    /// Something arrived that was sent once only, before `recover`.
    pub(crate) original: bool,
    /// Segments that were sent again, and that this is no ACK of: an earlier transmission has arrived (RFC 3522).
    pub(crate) needless: u16,
    /// What the peer has received twice (RFC 2883).
    pub(crate) dsack: Option<(Seq, Seq)>,
}

impl Tcb {
    /// Whether recovery goes by blocks: SACK is in use, and there is a record to note them in.
    #[inline]
    pub(crate) fn selective(&self) -> bool {
        self.has(Bits::SACK) && self.record.is_some()
    }

    /// Takes in what an acceptable ACK says (RFC 6675 section 5 "Update ()"; RFC 8985 section 6.2 steps 1 to 3). snd.una is still where it
    /// was. Bounded by the blocks, of which there are four, and the pieces.
    pub(crate) fn read_blocks(&mut self, now: Nanos, seg: &Segment) -> Told {
        let (una, nxt, recover, smss) = (self.snd_una, self.snd_nxt, self.recover, u32::from(self.smss).max(1));
        let mut told = Told { dsack: dsack(seg), ..Told::default() };
        let echo = seg.opts.timestamps.filter(|_| self.has(Bits::TS)).map(|ts| ts.ecr);
        let (clock, least) = (self.ts_now(now), Nanos::from_micros(u64::from(self.min_rtt_us)));
        let Some(record) = self.record.as_deref_mut() else { return told };
        let (flight, rack) = (&mut record.flight, &mut record.rack);
        let mut reordered = false;
        let mut delivered = |from: Seq, to: Seq, piece: crate::flight::Piece| {
            told.delivered = told.delivered.wrapping_add(to.since(from));
            told.original |= !piece.fate.is_again() && from.lt(recover);
            let age = Tick::of(now).since(piece.last);
            // RFC 8985 section 6.2 step 2: an ACK that may be of an earlier transmission tells nothing of the last.
            let since = |ms: u64| clock.wrapping_sub(u32::try_from(ms).unwrap_or(u32::MAX));
            let before = |at: u32| echo.is_some_and(|ecr| (ecr.wrapping_sub(at) as i32) < 0);
            // Our clock shows whole milliseconds, a piece's age is short of the truth by a tick: what is to be a proof of an earlier
            // transmission must be older than that, too.
            if piece.fate.is_again() && before(since((age + Nanos(2048)).millis() + 1)) {
                let segments = to.since(from).div_ceil(smss);
                told.needless = told.needless.saturating_add(u16::try_from(segments).unwrap_or(u16::MAX));
            }
            let older = before(since(age.millis()));
            if !(piece.fate.is_again() && (older || age < least)) {
                reordered |= rack.delivered(now, from, to, &piece);
            }
        };
        flight.ack(una, seg.ack, &mut delivered);
        let una = una.max(seg.ack);
        // In the order of sequence numbers: that one ACK tells of two blocks is no sign of reordering.
        let mut blocks: [Option<(Seq, Seq)>; 4] = [None; 4];
        blocks.iter_mut().zip(seg.opts.sacks.iter()).for_each(|(slot, block)| *slot = Some(block));
        blocks.sort_unstable_by_key(|b| b.map_or(u32::MAX, |(left, _)| left.since(una)));
        for (left, right) in blocks.into_iter().flatten() {
            // RFC 2018 section 4; a block at or below SEG.ACK is a DSACK.
            let sane = left.lt(right) && left.gt(una) && right.le(nxt) && right.since(left) <= nxt.since(una);
            if sane {
                flight.sack(una, left, right, |from, to, piece| {
                    told.news = true;
                    delivered(from, to, piece);
                });
            }
        }
        if reordered {
            self.set(Bits::REORDERED);
        }
        told
    }

    /// The blocks to report: what came twice, once (RFC 2883 section 4), then the run of the most recent arrival first (RFC 2018
    /// section 4).
    pub(crate) fn take_blocks(&mut self) -> SackBlocks {
        let sack = self.has(Bits::SACK);
        match self.record.as_deref_mut().filter(|_| sack) {
            Some(record) => record.twice.take().into_iter().chain(record.held.as_slice().iter().copied()).collect(),
            None => SackBlocks::EMPTY,
        }
    }

    /// RFC 8985 section 6.2 step 4, RFC 6675 section 4: so much was reported that reordering is not likely.
    pub(crate) fn many_sacked(&self) -> bool {
        let Some(record) = self.record.as_deref() else { return false };
        let bytes = record.flight.sum(self.snd_una, |fate| fate.is_sacked());
        self.dupacks >= DUP_THRESH
            || record.flight.sacked_runs() >= usize::from(DUP_THRESH)
            || bytes > u32::from(DUP_THRESH - 1) * u32::from(self.smss)
    }
}

/// RFC 2883 section 4: the first block reports a duplicate if it lies before SEG.ACK, or within the second block.
fn dsack(seg: &Segment) -> Option<(Seq, Seq)> {
    let &[first, ref rest @ ..] = seg.opts.sacks.as_slice() else { return None };
    let (left, right) = first;
    let below = right.le(seg.ack);
    let within = rest.first().is_some_and(|second| second.0.le(left) && right.le(second.1));
    (left.lt(right) && (below || within)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set<const N: usize>(r: &Ranges<N>, base: u32) -> BTreeSet<u32> {
        r.as_slice().iter().flat_map(|(l, r)| l.since(Seq(base))..r.since(Seq(base))).collect()
    }

    fn disjoint<const N: usize>(r: &Ranges<N>, base: u32) -> bool {
        let mut sorted: Vec<_> = r.as_slice().iter().map(|(l, r)| (l.since(Seq(base)), r.since(Seq(base)))).collect();
        sorted.sort_unstable();
        sorted.iter().all(|(l, r)| l < r) && sorted.windows(2).all(|w| w[0].1 < w[1].0)
    }

    proptest! {
        #[test]
        fn held_runs_never_overlap_and_the_recent_one_leads(
            base: u32, blocks in proptest::collection::vec((1u32..80, 1u32..12), 1..40)
        ) {
            let mut r = Ranges::<4>::EMPTY;
            let mut model = BTreeSet::new();
            for (l, n) in blocks {
                let (a, b) = r.gap_within(Seq(base) + l, Seq(base) + l + n);
                prop_assert!(a.ge(Seq(base) + l) && b.le(Seq(base) + l + n) && a.le(b));
                if a == b {
                    continue;
                }
                let part = a.since(Seq(base))..b.since(Seq(base));
                prop_assert!(part.clone().all(|x| !model.contains(&x)), "held twice");
                if r.hold(a, b) {
                    model.extend(part);
                    let first = r.as_slice()[0];
                    prop_assert!(first.0.le(a) && first.1.ge(b));
                }
                prop_assert!(disjoint(&r, base));
                prop_assert_eq!(&set(&r, base), &model);
            }
        }
    }

    #[test]
    fn connect_takes_what_touches() {
        let mut r = Ranges::<4>::EMPTY;
        assert!(r.hold(Seq(20), Seq(30)) && r.hold(Seq(40), Seq(50)));
        assert_eq!(r.connect(Seq(19)), None);
        assert_eq!(r.connect(Seq(20)), Some(Seq(30)));
        assert_eq!(r.connect(Seq(45)), Some(Seq(50)));
        assert!(r.is_empty());
    }
}
