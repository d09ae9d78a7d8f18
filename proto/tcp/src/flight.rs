//! What is in flight, piece by piece: the sender's scoreboard (RFC 6675 section 3), with the times that RACK needs (RFC 8985 section 5.2).
//!
//! ```text
//!   snd.una                                                                   snd.nxt
//!      |  LOST  |  SACKED  |  AGAIN  | SACKED |        sent once       | sent once |
//!               ^ end      ^ end     ^ end    ^                        ^           ^
//! ```
//!
//! A piece is a stretch of sequence numbers with one fate. Where it was sent at more than one instant, the piece knows
//! the first and the last. Pieces are few: when there are too many, neighbours become one. What is forgotten that way is always on the
//! careful side: a later time delays a detection, a forgotten SACKED costs a needless retransmission.

use units::Nanos;
use wire::Seq;

/// How many pieces a flight is cut into at most.
pub(crate) const PIECES: usize = 40;

/// An instant in units of 2^10 ns on a circle of 73 minutes: no piece is in flight for half of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tick(u32);

impl Tick {
    pub(crate) const ZERO: Tick = Tick(0);

    /// The tick of an instant.
    pub(crate) fn of(now: Nanos) -> Tick {
        Tick((now.0 >> 10) as u32)
    }

    /// Long before `self`: where the time of sending is not known.
    fn long_before(self) -> Tick {
        Tick(self.0.wrapping_sub(1 << 30))
    }

    /// Whether `self` comes after `other`.
    pub(crate) fn after(self, other: Tick) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }

    /// The span from `earlier` to `self`; zero if it is no span.
    pub(crate) fn since(self, earlier: Tick) -> Nanos {
        let ticks = self.0.wrapping_sub(earlier.0) as i32;
        Nanos((ticks.max(0) as u64) << 10)
    }

    fn max(self, other: Tick) -> Tick {
        if self.after(other) { self } else { other }
    }

    fn min(self, other: Tick) -> Tick {
        if self.after(other) { other } else { self }
    }
}

/// The fate of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Fate(u8);

impl Fate {
    /// Sent once, in the network.
    pub(crate) const SENT: Fate = Fate(0);
    const SACKED: u8 = 1;
    const LOST: u8 = 2;
    const AGAIN: u8 = 4;

    /// The peer has reported it.
    pub(crate) fn is_sacked(self) -> bool {
        self.0 & Fate::SACKED != 0
    }

    /// Believed lost, and not sent again since.
    pub(crate) fn is_lost(self) -> bool {
        self.0 & Fate::LOST != 0
    }

    /// It was sent more than once.
    pub(crate) fn is_again(self) -> bool {
        self.0 & Fate::AGAIN != 0
    }

    /// Believed to be in the network.
    pub(crate) fn is_out(self) -> bool {
        self.0 & (Fate::SACKED | Fate::LOST) == 0
    }

    fn sacked(self) -> Fate {
        Fate((self.0 | Fate::SACKED) & !Fate::LOST)
    }

    fn lost(self) -> Fate {
        Fate(self.0 | Fate::LOST)
    }

    fn out(self) -> Fate {
        Fate(self.0 & Fate::AGAIN)
    }
}

/// A stretch that ends at `end` and begins where the one before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) end: Seq,
    /// When the first and the last of it were sent (again).
    pub(crate) first: Tick,
    pub(crate) last: Tick,
    pub(crate) fate: Fate,
}

/// All pieces from snd.una to snd.nxt, in order.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pieces: [Piece; PIECES],
    len: u8,
}

impl Flight {
    pub(crate) const EMPTY: Flight =
        Flight { pieces: [Piece { end: Seq(0), first: Tick(0), last: Tick(0), fate: Fate::SENT }; PIECES], len: 0 };

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    fn as_slice(&self) -> &[Piece] {
        self.pieces.get(..usize::from(self.len)).unwrap_or(&self.pieces)
    }

    fn as_mut_slice(&mut self) -> &mut [Piece] {
        let len = usize::from(self.len).min(PIECES);
        &mut self.pieces[..len]
    }

    /// Where each piece begins, and the piece.
    pub(crate) fn iter(&self, una: Seq) -> impl Iterator<Item = (Seq, Piece)> + '_ {
        let mut start = una;
        self.as_slice().iter().map(move |p| (std::mem::replace(&mut start, p.end), *p))
    }

    /// The end of the last piece.
    pub(crate) fn end(&self) -> Option<Seq> {
        self.as_slice().last().map(|p| p.end)
    }

    fn remove(&mut self, at: usize) {
        let len = usize::from(self.len);
        if at < len {
            self.pieces.copy_within(at + 1..len, at);
            self.len -= 1;
        }
    }

    /// What had been sent before anybody took notes: up to `timed` at the latest at `at`, up to `nxt` at the latest at `last`.
    pub(crate) fn begin(&mut self, una: Seq, timed: Option<(Seq, Nanos)>, nxt: Seq, last: Nanos) {
        self.clear();
        let mut start = una;
        if let Some((end, at)) = timed.filter(|(end, _)| end.gt(una) && end.le(nxt)) {
            let at = Tick::of(at);
            self.push(Piece { end, first: at.long_before(), last: at, fate: Fate::SENT });
            start = end;
        }
        if start.lt(nxt) {
            let last = Tick::of(last);
            // Sent after what was timed, if something was.
            let first = timed.map_or(last.long_before(), |(_, at)| Tick::of(at));
            self.push(Piece { end: nxt, first, last, fate: Fate::SENT });
        }
    }

    fn push(&mut self, piece: Piece) {
        if let Some(slot) = self.pieces.get_mut(usize::from(self.len)) {
            *slot = piece;
            self.len += 1;
        }
    }

    /// New data up to `end` was sent.
    pub(crate) fn sent(&mut self, una: Seq, end: Seq, now: Nanos) {
        let at = Tick::of(now);
        if let Some(last) = self.as_mut_slice().last_mut().filter(|p| p.fate == Fate::SENT && p.first == at) {
            (last.end, last.last) = (end, at);
            return;
        }
        self.make_room(una, 1);
        self.push(Piece { end, first: at, last: at, fate: Fate::SENT });
    }

    /// `[from, to)` was sent again.
    pub(crate) fn resent(&mut self, una: Seq, from: Seq, to: Seq, now: Nanos) {
        let at = Tick::of(now);
        for p in self.cut(una, from, to) {
            if !p.fate.is_sacked() {
                (p.first, p.last, p.fate) = (at, at, Fate(Fate::AGAIN));
            }
        }
        self.tidy();
    }

    /// The peer has `[from, to)`: `delivered` is told of each part that was not known.
    pub(crate) fn sack(&mut self, una: Seq, from: Seq, to: Seq, mut delivered: impl FnMut(Seq, Seq, Piece)) {
        let mut start = from;
        for p in self.cut(una, from, to) {
            if !p.fate.is_sacked() {
                delivered(start, p.end, *p);
                p.fate = p.fate.sacked();
            }
            start = p.end;
        }
        self.tidy();
    }

    /// The peer has all before `ack`: `delivered` is told of each part that was not known.
    pub(crate) fn ack(&mut self, una: Seq, ack: Seq, mut delivered: impl FnMut(Seq, Seq, Piece)) {
        let mut start = una;
        let mut gone = 0;
        for p in self.as_slice() {
            if start.ge(ack) {
                break;
            }
            if !p.fate.is_sacked() {
                delivered(start, p.end.min(ack), *p);
            }
            gone += usize::from(p.end.le(ack));
            start = p.end;
        }
        for _ in 0..gone {
            self.remove(0);
        }
    }

    /// Takes for lost what `lost` says so of, among what is out. Whether there was any.
    pub(crate) fn lose(&mut self, mut lost: impl FnMut(&Piece) -> bool) -> bool {
        let mut any = false;
        for p in self.as_mut_slice() {
            if p.fate.is_out() && lost(p) {
                p.fate = p.fate.lost();
                any = true;
            }
        }
        self.tidy();
        any
    }

    /// Takes what is out of `[una, to)` for lost.
    pub(crate) fn lose_head(&mut self, una: Seq, to: Seq) {
        for p in self.cut(una, una, to) {
            if p.fate.is_out() {
                p.fate = p.fate.lost();
            }
        }
        self.tidy();
    }

    /// What was believed lost is in the network after all.
    pub(crate) fn find(&mut self) {
        for p in self.as_mut_slice() {
            if p.fate.is_lost() {
                p.fate = p.fate.out();
            }
        }
        self.tidy();
    }

    /// The receiver has dropped what it reported (RFC 2018 section 8): a block may not begin at snd.una.
    pub(crate) fn renege(&mut self) -> bool {
        if !self.as_slice().first().is_some_and(|p| p.fate.is_sacked()) {
            return false;
        }
        for p in self.as_mut_slice() {
            if p.fate.is_sacked() {
                p.fate = p.fate.out().lost();
            }
        }
        self.tidy();
        true
    }

    /// The first stretch that is lost.
    pub(crate) fn first_lost(&self, una: Seq) -> Option<(Seq, Seq)> {
        self.iter(una).find(|(_, p)| p.fate.is_lost()).map(|(from, p)| (from, p.end))
    }

    /// Bytes believed to be in the network ("pipe").
    pub(crate) fn pipe(&self, una: Seq) -> u32 {
        self.sum(una, Fate::is_out)
    }

    /// The bytes of the pieces of a fate.
    pub(crate) fn sum(&self, una: Seq, of: impl Fn(Fate) -> bool) -> u32 {
        self.iter(una).filter(|(_, p)| of(p.fate)).fold(0, |n, (from, p)| n.wrapping_add(p.end.since(from)))
    }

    /// How many reported stretches there are.
    pub(crate) fn sacked_runs(&self) -> usize {
        self.as_slice().iter().filter(|p| p.fate.is_sacked()).count()
    }

    /// Whether everything was sent once and nothing is reported or lost.
    pub(crate) fn is_calm(&self) -> bool {
        self.as_slice().iter().all(|p| p.fate == Fate::SENT)
    }

    /// The pieces between `from` and `to`, cut so that they begin and end there.
    fn cut(&mut self, una: Seq, from: Seq, to: Seq) -> &mut [Piece] {
        if from.ge(to) {
            return &mut [];
        }
        self.make_room(una, 2);
        let (a, b) = (self.split(una, from), self.split(una, to));
        self.as_mut_slice().get_mut(a..b).unwrap_or(&mut [])
    }

    /// Makes a piece end at `at`; how many pieces end there or before.
    fn split(&mut self, una: Seq, at: Seq) -> usize {
        let i = self.as_slice().iter().position(|p| p.end.gt(at)).unwrap_or(usize::from(self.len));
        let start = if i == 0 { una } else { self.pieces[i - 1].end };
        let len = usize::from(self.len);
        if at.le(start) || i >= len || len >= PIECES {
            return i;
        }
        self.pieces.copy_within(i..len, i + 1);
        self.pieces[i].end = at;
        self.len += 1;
        i + 1
    }

    /// Joins neighbours between which there is no difference any more.
    fn tidy(&mut self) {
        self.join(|a, b| {
            let same_time = a.first == b.first && a.last == b.last;
            a.fate.is_sacked() && b.fate.is_sacked() || a.fate == b.fate && (a.fate.is_lost() || same_time)
        });
    }

    fn join(&mut self, alike: impl Fn(&Piece, &Piece) -> bool) {
        let mut kept = 0;
        for i in 1..usize::from(self.len) {
            let p = self.pieces[i];
            let last = &mut self.pieces[kept];
            if alike(last, &p) {
                last.end = p.end;
                (last.first, last.last) = (last.first.min(p.first), last.last.max(p.last));
                last.fate = Fate(last.fate.0 | p.fate.0);
            } else {
                kept += 1;
                self.pieces[kept] = p;
            }
        }
        self.len = self.len.min(kept as u8 + 1);
    }

    /// Forgets differences until `n` more pieces find room.
    fn make_room(&mut self, una: Seq, n: usize) {
        if usize::from(self.len) + n <= PIECES {
            return;
        }
        self.join(|a, b| a.fate == b.fate);
        while usize::from(self.len) + n > PIECES {
            self.forget(una);
        }
    }

    /// Makes the two shortest neighbours one, taken to be in the network since the later of the two was sent.
    fn forget(&mut self, una: Seq) {
        let (mut start, mut best) = (una, (u32::MAX, 0));
        for (i, pair) in self.as_slice().windows(2).enumerate() {
            let span = pair[1].end.since(start);
            best = best.min((span, i));
            start = pair[0].end;
        }
        let i = best.1;
        let (a, b) = (self.pieces[i], self.pieces[i + 1]);
        let fate = Fate((a.fate.0 | b.fate.0) & Fate::AGAIN);
        let (first, last) = (a.first.min(b.first), a.last.max(b.last));
        self.pieces[i + 1] = Piece { end: b.end, first, last, fate };
        self.remove(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Per byte: sacked, lost, in the network; when it was last sent.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Byte {
        sacked: bool,
        lost: bool,
        at: u64,
    }

    fn bytes(f: &Flight, una: Seq) -> Vec<(Piece, u32)> {
        f.iter(una).map(|(from, p)| (p, p.end.since(from))).collect()
    }

    proptest! {
        /// Against a model that remembers everything: what is reported is never more than the model's, and nothing is
        /// taken to have been sent earlier than it was.
        #[test]
        fn pieces_only_forget(base: u32, ops in proptest::collection::vec((0u8..5, 0u32..300, 1u32..30), 1..200)) {
            let mut f = Flight::EMPTY;
            let (mut una, mut nxt) = (Seq(base), Seq(base));
            let mut model: Vec<Byte> = Vec::new();
            for (i, (op, at, n)) in ops.into_iter().enumerate() {
                let now = Nanos((i as u64 + 1) << 10);
                let flight = nxt.since(una);
                let (l, r) = (at.min(flight), (at + n).min(flight));
                let range = l as usize..r as usize;
                match op {
                    0 => {
                        nxt += n;
                        f.sent(una, nxt, now);
                        model.extend((0..n).map(|_| Byte { sacked: false, lost: false, at: i as u64 + 1 }));
                    }
                    1 => {
                        f.sack(una, una + l, una + r, |_, _, _| {});
                        model[range].iter_mut().for_each(|b| (b.sacked, b.lost) = (true, false));
                    }
                    2 => {
                        f.resent(una, una + l, una + r, now);
                        let again = model[range].iter_mut().filter(|b| !b.sacked);
                        again.for_each(|b| (b.lost, b.at) = (false, i as u64 + 1));
                    }
                    3 if n < 8 => {
                        let to = una + flight.min(n);
                        f.ack(una, to, |_, _, _| {});
                        model.drain(..to.since(una) as usize);
                        una = to;
                    }
                    _ => {
                        f.lose_head(una, una + r);
                        model[..r as usize].iter_mut().filter(|b| !b.sacked).for_each(|b| b.lost = true);
                    }
                }
                prop_assert!(f.len as usize <= PIECES);
                prop_assert_eq!(f.end().unwrap_or(una), nxt);
                let mut at = 0usize;
                for (p, len) in bytes(&f, una) {
                    prop_assert!(len > 0, "an empty piece");
                    for b in &model[at..at + len as usize] {
                        prop_assert!(!p.fate.is_sacked() || b.sacked, "reported too much");
                        prop_assert!(!p.fate.is_lost() || b.lost || b.sacked, "lost too much");
                        prop_assert!(p.fate.is_sacked() || u64::from(p.last.0) >= b.at || b.sacked, "sent too early");
                    }
                    at += len as usize;
                }
            }
        }
    }

    #[test]
    fn times_of_what_was_sent_before_notes_were_taken_are_bounds() {
        let ms = Nanos::from_millis;
        let mut f = Flight::EMPTY;
        f.begin(Seq(0), Some((Seq(1000), ms(5))), Seq(4000), ms(9));
        let pieces: Vec<Piece> = f.iter(Seq(0)).map(|(_, p)| p).collect();
        assert_eq!((pieces[0].end, pieces[0].last), (Seq(1000), Tick::of(ms(5))));
        assert_eq!((pieces[1].first, pieces[1].last), (Tick::of(ms(5)), Tick::of(ms(9))));
        assert!(Tick::of(ms(5)).after(pieces[0].first));
    }
}
