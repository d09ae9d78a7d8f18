//! Selective acknowledgement: what the peer holds of ours (the scoreboard of RFC 6675), and what we hold of the peer's
//! (the blocks of RFC 2018).
//!
//! ```text
//!   sender:     snd.una           rxt                 recover        snd.nxt
//!                  |---hole---|####|---hole---|####|##|----- in flight ----|
//!                              sacked          sacked
//!   receiver:   rcv.nxt
//!                  |----gap---|####|---gap----|####|                 held, most recent first
//! ```
//!
//! Both are short arrays inside the control block. What finds no room is forgotten, which is always allowed: a
//! forgotten block of the sender's costs a needless retransmission, one of the receiver's a needed one.

use wire::Seq;
use wire::tcp::{SackBlocks, Segment};

use crate::congestion::Phase;
use crate::tcb::{Bits, Tcb};

/// How many discontiguous runs the sender's scoreboard keeps.
pub(crate) const SACKED_MAX: usize = 6;
/// How many discontiguous runs the receiver holds.
pub(crate) const HELD_MAX: usize = 5;
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

    /// The sum of the lengths.
    pub(crate) fn bytes(&self) -> u32 {
        self.as_slice().iter().fold(0, |sum, (l, r)| sum.wrapping_add(r.since(*l)))
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

    // The scoreboard: in the order of sequence numbers.

    /// Adds a range to the ascending list, merging what it touches; returns how many bytes are new. Without room the
    /// range farthest ahead is forgotten. Bounded by `N`.
    pub(crate) fn merge(&mut self, left: Seq, right: Seq) -> u32 {
        let (mut l, mut r, mut known) = (left, right, 0u32);
        let at = self.as_slice().iter().position(|x| x.1.ge(left)).unwrap_or(usize::from(self.len));
        while let Some(&(a, b)) = self.as_slice().get(at).filter(|x| x.0.le(right)) {
            (l, r, known) = (l.min(a), r.max(b), known.wrapping_add(b.since(a)));
            self.remove(at);
        }
        if usize::from(self.len) == N {
            if at == N {
                return 0;
            }
            self.len -= 1;
        }
        self.insert_at(at, (l, r));
        r.since(l).wrapping_sub(known)
    }

    /// Forgets what `una` has reached. A run that would cover `una` is one the peer has reneged on: forgotten, too.
    pub(crate) fn trim_below(&mut self, una: Seq) {
        while self.as_slice().first().is_some_and(|first| first.0.le(una)) {
            self.remove(0);
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

impl Tcb {
    /// RFC 6675 section 5 "Update ()": takes the blocks of an acceptable ACK; whether they told anything new.
    pub(crate) fn update_scoreboard(&mut self, seg: &Segment) -> bool {
        let mut new = 0u32;
        for (left, right) in seg.opts.sacks.iter() {
            // RFC 2018 section 4; a block at or below SEG.ACK is a DSACK (RFC 2883), which tells nothing here.
            let sane = left.lt(right) && left.gt(seg.ack) && left.ge(self.snd_una) && right.le(self.snd_nxt);
            if sane && right.since(left) <= self.snd_nxt.since(self.snd_una) {
                new = new.saturating_add(self.sacked.merge(left, right));
            }
        }
        new > 0
    }

    /// The blocks to report: the run of the most recent arrival first (RFC 2018 section 4).
    pub(crate) fn sack_blocks(&self) -> SackBlocks {
        if self.has(Bits::SACK) { self.held.as_slice().iter().copied().collect() } else { SackBlocks::EMPTY }
    }

    /// RFC 6675 section 4 "IsLost ()" for any octet of the hole below the `k`-th run: whether enough was received above.
    pub(crate) fn is_lost_below(&self, k: usize) -> bool {
        let above = self.sacked.as_slice().get(k..).unwrap_or(&[]);
        let bytes = above.iter().fold(0u32, |sum, (l, r)| sum.saturating_add(r.since(*l)));
        above.len() >= usize::from(DUP_THRESH) || bytes > u32::from(DUP_THRESH - 1) * u32::from(self.smss)
    }

    /// RFC 6675 section 4 "SetPipe ()": bytes believed to be in the network. Bounded by the scoreboard's size.
    pub(crate) fn pipe(&self) -> u32 {
        let flight = self.flight();
        if self.phase == Phase::Open {
            return if self.sacked.is_empty() { flight } else { flight.saturating_sub(self.sacked.bytes()) };
        }
        if self.phase == Phase::Recovery && !self.has(Bits::SACK) {
            // RFC 6582 inflates cwnd instead.
            return flight;
        }
        // After a timeout, all that was out at the time counts as lost.
        let lost_to = if self.phase == Phase::Loss { self.recover } else { self.snd_una };
        let (mut pipe, mut from) = (0u32, self.snd_una);
        for (k, to, next) in self.holes() {
            let in_flight_from = from.max(lost_to);
            if !self.is_lost_below(k) && in_flight_from.lt(to) {
                pipe = pipe.saturating_add(to.since(in_flight_from));
            }
            let again_to = self.rxt.min(to);
            if from.lt(again_to) {
                pipe = pipe.saturating_add(again_to.since(from));
            }
            from = next;
        }
        pipe
    }

    /// (k, the end of the hole below the k-th run, the end of the k-th run); at last the hole up to snd.nxt.
    fn holes(&self) -> impl Iterator<Item = (usize, Seq, Seq)> + '_ {
        let last = (self.snd_nxt, self.snd_nxt);
        self.sacked.as_slice().iter().copied().chain([last]).enumerate().map(|(k, (l, r))| (k, l, r))
    }

    /// The first hole with anything at or after `from`: (index of the run above it, its part at or after `from`).
    pub(crate) fn hole_at_or_after(&self, from: Seq) -> Option<(usize, Seq, Seq)> {
        let mut start = self.snd_una.max(from);
        for (k, to, next) in self.holes() {
            if start.lt(to) {
                return Some((k, start, to));
            }
            start = start.max(next);
        }
        None
    }
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
        fn merge_is_set_union(base: u32, blocks in proptest::collection::vec((0u32..60, 1u32..12), 1..20)) {
            let mut r = Ranges::<64>::EMPTY;
            let mut model = BTreeSet::new();
            for (l, n) in blocks {
                let before = model.len();
                model.extend(l..l + n);
                prop_assert_eq!(r.merge(Seq(base) + l, Seq(base) + l + n) as usize, model.len() - before);
                prop_assert!(disjoint(&r, base));
                prop_assert_eq!(&set(&r, base), &model);
                prop_assert!(r.as_slice().windows(2).all(|w| w[0].1.lt(w[1].0)), "ascending");
            }
            r.trim_below(Seq(base) + 30);
            prop_assert!(set(&r, base).iter().all(|x| *x > 30 && model.contains(x)));
            prop_assert!(!model.contains(&30) || set(&r, base).first() != Some(&31));
        }

        #[test]
        fn a_full_scoreboard_only_forgets(base: u32, blocks in proptest::collection::vec((0u32..200, 1u32..5), 1..60)) {
            let mut r = Ranges::<3>::EMPTY;
            let mut model = BTreeSet::new();
            for (l, n) in blocks {
                model.extend(l..l + n);
                r.merge(Seq(base) + l, Seq(base) + l + n);
                prop_assert!(disjoint(&r, base) && set(&r, base).is_subset(&model));
            }
        }

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
