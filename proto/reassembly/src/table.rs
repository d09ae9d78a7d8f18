use units::Nanos;
use wire::Addr;

/// Pieces that a datagram may have: 64 KiB in pieces of 1 KiB. Whoever cuts finer than any link needs is refused.
pub const PIECES: usize = 64;

/// What the pieces of one datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Who sent it.
    pub src: Addr,
    /// To whom.
    pub dst: Addr,
    /// Its identification.
    pub id: u32,
    /// IPv4: the protocol (RFC 791 section 3.2). IPv6: 0, for there it does not count.
    pub protocol: u8,
}

/// Where a piece belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Its first byte's place in the datagram's payload; a multiple of 8.
    pub offset: u16,
    /// Its bytes.
    pub len: u16,
    /// More follow it; else the datagram ends here.
    pub more: bool,
}

impl Piece {
    fn end(&self) -> u32 {
        u32::from(self.offset) + u32::from(self.len)
    }
}

/// What the table holds at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Datagrams.
    pub datagrams: usize,
    /// Datagrams of one source.
    pub per_source: usize,
    /// Pieces of all datagrams: buffers that are pinned.
    pub pieces: usize,
    /// How long an IPv4 datagram may take (RFC 791: at least 15 s; RFC 1122 section 3.3.2).
    pub lifetime_v4: Nanos,
    /// How long an IPv6 datagram may take (RFC 8200 section 4.5: 60 s).
    pub lifetime_v6: Nanos,
}

impl Default for Limits {
    fn default() -> Limits {
        let (lifetime_v4, lifetime_v6) = (Nanos::from_secs(30), Nanos::from_secs(60));
        Limits { datagrams: 64, per_source: 8, pieces: 1024, lifetime_v4, lifetime_v6 }
    }
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Pieces overlap (RFC 5722).
    Overlap,
    /// Two pieces disagree on where the datagram ends, or one lies beyond its end.
    Contradiction,
    /// A piece without bytes, or not a multiple of 8 bytes long and not the last, or beyond 64 KiB.
    Shape,
    /// More pieces than [`PIECES`].
    TooMany,
}

/// What became of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It waits for the others. What had to make room for it is gone: so many pieces.
    Kept {
        /// Pieces that were dropped.
        evicted: usize,
    },
    /// It was there already.
    Duplicate,
    /// It was the last missing one: [`Table::take`] hands out all.
    Whole(Whole),
    /// Its datagram was dropped with all its pieces.
    Refused {
        /// Why.
        why: Refused,
        /// How many pieces that were, this one counted.
        pieces: usize,
    },
}

/// A datagram that is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Whole {
    /// Bytes of the payload.
    pub len: u32,
    slot: usize,
}

/// A piece that is held.
struct Held<T> {
    piece: Piece,
    bytes: T,
}

struct Datagram<T> {
    key: Key,
    deadline: Nanos,
    /// When it was begun, as a count of datagrams.
    age: u64,
    /// Where it ends, once the last piece has come.
    end: Option<u32>,
    /// Bytes that have come.
    bytes: u32,
    /// Ascending by offset. Its capacity, [`PIECES`], stays with the slot.
    held: Vec<Held<T>>,
}

/// Datagrams that are being put together.
pub struct Table<T> {
    limits: Limits,
    slots: Vec<Option<Datagram<T>>>,
    /// The piece lists of slots that are free.
    spare: Vec<Vec<Held<T>>>,
    pieces: usize,
    begun: u64,
    next_deadline: Nanos,
}

impl<T> Table<T> {
    /// An empty table, all its memory reserved.
    pub fn new(limits: Limits) -> Table<T> {
        Table {
            limits,
            slots: (0..limits.datagrams).map(|_| None).collect(),
            spare: (0..limits.datagrams).map(|_| Vec::with_capacity(PIECES)).collect(),
            pieces: 0,
            begun: 0,
            next_deadline: Nanos::MAX,
        }
    }

    /// Pieces held.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// Datagrams begun and not done.
    pub fn datagrams(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// When [`Table::expire`] has something to do at the earliest; [`Nanos::MAX`] if never.
    pub fn deadline(&self) -> Nanos {
        self.next_deadline
    }

    /// Takes a piece in.
    pub fn insert(&mut self, now: Nanos, key: Key, piece: Piece, bytes: T) -> Outcome {
        let known = self.slots.iter().position(|d| d.as_ref().is_some_and(|d| d.key == key));
        let sound = piece.len > 0
            && piece.offset.is_multiple_of(8)
            && (!piece.more || piece.len.is_multiple_of(8))
            && piece.end() <= u32::from(u16::MAX);
        if !sound {
            return self.refuse(known, Refused::Shape);
        }
        let (slot, mut evicted) = match known {
            Some(slot) => (slot, 0),
            None => self.begin(now, key),
        };
        let Some(d) = self.slots[slot].as_mut() else { return self.refuse(None, Refused::TooMany) };
        let at = d.held.partition_point(|h| h.piece.offset < piece.offset);
        if d.held.get(at).is_some_and(|h| h.piece == piece) {
            return Outcome::Duplicate;
        }
        if let Err(why) = d.admits(at, &piece) {
            return self.refuse(Some(slot), why);
        }
        d.bytes += u32::from(piece.len);
        if !piece.more {
            d.end = Some(piece.end());
        }
        d.held.insert(at, Held { piece, bytes });
        self.pieces += 1;
        if d.end == Some(d.bytes) {
            return Outcome::Whole(Whole { len: d.bytes, slot });
        }
        while self.pieces > self.limits.pieces {
            let Some(oldest) = self.oldest(|d| d.key != key) else { break };
            evicted += self.forget(oldest);
        }
        Outcome::Kept { evicted }
    }

    /// Takes a datagram out that is whole: `piece` is called for each of its pieces, in order.
    pub fn take(&mut self, whole: Whole, mut piece: impl FnMut(Piece, T)) {
        let Some(mut d) = self.slots.get_mut(whole.slot).and_then(Option::take) else { return };
        self.pieces -= d.held.len();
        d.held.drain(..).for_each(|h| piece(h.piece, h.bytes));
        self.spare.push(d.held);
        self.watch();
    }

    /// Takes the datagrams out that `wanted` picks, whole or not: `piece` is called for each of their pieces.
    pub fn take_out(&mut self, wanted: impl Fn(&Key) -> bool, mut piece: impl FnMut(T)) {
        for mut d in self.slots.iter_mut().filter_map(|slot| slot.take_if(|d| wanted(&d.key))) {
            self.pieces -= d.held.len();
            d.held.drain(..).for_each(|h| piece(h.bytes));
            self.spare.push(d.held);
        }
        self.watch();
    }

    /// Drops the datagrams whose time is over, `most` of them; `late` is told the first piece of each, if that had come. Returns how many
    /// pieces went.
    pub fn expire(&mut self, now: Nanos, most: usize, mut late: impl FnMut(Key, Option<T>)) -> usize {
        if now < self.next_deadline {
            return 0;
        }
        let before = self.pieces;
        for mut d in self.slots.iter_mut().filter_map(|slot| slot.take_if(|d| d.deadline <= now)).take(most) {
            self.pieces -= d.held.len();
            let first = d.held.drain(..).next().filter(|h| h.piece.offset == 0);
            late(d.key, first.map(|h| h.bytes));
            self.spare.push(d.held);
        }
        self.watch();
        before - self.pieces
    }

    /// A slot for a new datagram, and how many pieces had to go for it.
    fn begin(&mut self, now: Nanos, key: Key) -> (usize, usize) {
        let of_source = self.slots.iter().flatten().filter(|d| d.key.src == key.src).count();
        let mut evicted = 0;
        if of_source >= self.limits.per_source.max(1)
            && let Some(own) = self.oldest(|d| d.key.src == key.src)
        {
            evicted += self.forget(own);
        }
        let mut free = self.slots.iter().position(Option::is_none);
        if free.is_none() {
            free = self.oldest(|_| true);
            evicted += free.map_or(0, |slot| self.forget(slot));
        }
        let lifetime = if key.src.is_v4() { self.limits.lifetime_v4 } else { self.limits.lifetime_v6 };
        let (slot, deadline) = (free.unwrap_or(0), now + lifetime);
        self.begun += 1;
        if let (Some(place), Some(held)) = (self.slots.get_mut(slot), self.spare.pop()) {
            *place = Some(Datagram { key, deadline, age: self.begun, end: None, bytes: 0, held });
            self.next_deadline = self.next_deadline.min(deadline);
        }
        (slot, evicted)
    }

    fn oldest(&self, among: impl Fn(&Datagram<T>) -> bool) -> Option<usize> {
        let taken = self.slots.iter().enumerate().filter_map(|(i, d)| Some((i, d.as_ref()?)));
        taken.filter(|(_, d)| among(d)).min_by_key(|(_, d)| d.age).map(|(i, _)| i)
    }

    fn refuse(&mut self, slot: Option<usize>, why: Refused) -> Outcome {
        Outcome::Refused { why, pieces: 1 + slot.map_or(0, |slot| self.forget(slot)) }
    }

    /// Drops a datagram; answers how many pieces it had.
    fn forget(&mut self, slot: usize) -> usize {
        let Some(mut d) = self.slots[slot].take() else { return 0 };
        let n = d.held.len();
        self.pieces -= n;
        d.held.clear();
        self.spare.push(d.held);
        self.watch();
        n
    }

    fn watch(&mut self) {
        self.next_deadline = self.slots.iter().flatten().map(|d| d.deadline).min().unwrap_or(Nanos::MAX);
    }
}

impl<T> Datagram<T> {
    /// Whether `piece`, which belongs at `at` in the list, fits between the others.
    fn admits(&self, at: usize, piece: &Piece) -> Result<(), Refused> {
        if self.held.len() >= PIECES {
            return Err(Refused::TooMany);
        }
        let before = at.checked_sub(1).and_then(|at| self.held.get(at));
        let after = self.held.get(at);
        let overlaps = before.is_some_and(|h| h.piece.end() > u32::from(piece.offset))
            || after.is_some_and(|h| piece.end() > u32::from(h.piece.offset));
        if overlaps {
            return Err(Refused::Overlap);
        }
        let last = self.held.last().map_or(0, |h| h.piece.end());
        let ends = match self.end {
            // It would lie behind the last one, or be another last one.
            Some(end) => piece.end() <= end && piece.more,
            None => piece.more || piece.end() >= last,
        };
        if ends { Ok(()) } else { Err(Refused::Contradiction) }
    }
}
