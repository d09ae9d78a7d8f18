//! What is going to happen, in order.
//!
//! ```text
//!   core 0   | over | due | needs | interrupt | handler over | stall | round | control |   -> first
//!   core 1   | ...                                                                     |   -> first     the least of these is next
//! ```
//!
//! A place per core and kind: what is put there takes the place of what was. Events are far more often put on the agenda than they come, since most are moved, and there
//! are few cores: to look through what each has first takes a fraction of the instructions of a heap that keeps events which no longer count. (A knockout tree over all places
//! was tried, and took more than the heap.)

use units::Nanos;

/// What is on the agenda.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum What {
    /// What the core does is over.
    Over,
    /// A frame is due at its queue.
    Due,
    /// Others could do something for it, if they have not already.
    Needs,
    /// An interrupt has come.
    Interrupt,
    /// What an interrupt's handler did has taken its time.
    HandlerOver,
    /// It is taken away for a while.
    Stall,
    /// Everybody looks round.
    LookRound,
    /// The controller looks, or asks for something.
    Control,
}

/// All of them by number.
const ALL: [What; PLACES] = [
    What::Over,
    What::Due,
    What::Needs,
    What::Interrupt,
    What::HandlerOver,
    What::Stall,
    What::LookRound,
    What::Control,
];
/// Places of a core: a line of the cache.
const PLACES: usize = 8;
/// Nothing is there.
const NEVER: u64 = u64::MAX;
/// A place's number: when (44 bits: nanoseconds of nearly five hours), the how-manieth event (14), at which core (6). In this order, since events are compared more than anything.
const CORE_BITS: u32 = 6;
const NTH_BITS: u32 = 14;
const LAST: u64 = (1 << (64 - NTH_BITS - CORE_BITS)) - 1;

/// What is to come.
#[derive(Debug)]
pub(crate) struct Agenda {
    places: Vec<[u64; PLACES]>,
    /// The least of each core's.
    first: Vec<u64>,
    /// Events so far: their order where instants are equal. (It begins again after 16384 of them, with the order that this gives.)
    events: u64,
}

impl Agenda {
    /// An empty one for so many cores, at most 64.
    pub(crate) fn new(cores: usize) -> Agenda {
        Agenda { places: vec![[NEVER; PLACES]; cores], first: vec![NEVER; cores], events: 0 }
    }

    /// An event is to come then, instead of the one of its kind that was to. [`Nanos::MAX`]: none is.
    pub(crate) fn set(&mut self, at: Nanos, core: usize, what: What) {
        self.events += 1;
        let nth = self.events & ((1 << NTH_BITS) - 1);
        let order = at.0.min(LAST) << (NTH_BITS + CORE_BITS) | nth << CORE_BITS | core as u64;
        self.put(core, what, if at == Nanos::MAX { NEVER } else { order });
    }

    /// The same if the one that is to come is later.
    pub(crate) fn sooner(&mut self, at: Nanos, core: usize, what: What) {
        if at < self.at(core, what) {
            self.set(at, core, what);
        }
    }

    /// The same if the one that is to come is earlier, or there is none.
    pub(crate) fn later(&mut self, at: Nanos, core: usize, what: What) {
        let until = self.at(core, what);
        if until == Nanos::MAX || until < at {
            self.set(at, core, what);
        }
    }

    /// When an event is to come. [`Nanos::MAX`]: it is not.
    pub(crate) fn at(&self, core: usize, what: What) -> Nanos {
        match self.places[core][what as usize] {
            NEVER => Nanos::MAX,
            order => when(order),
        }
    }

    /// Takes the next event: when, at which core, what.
    pub(crate) fn pop(&mut self) -> Option<(Nanos, usize, What)> {
        let next = self.first.iter().fold(NEVER, |least, first| least.min(*first));
        let core = (next & ((1 << CORE_BITS) - 1)) as usize;
        let places = self.places.get(core)?;
        let what = *ALL.iter().find(|what| places[**what as usize] == next).filter(|_| next != NEVER)?;
        self.put(core, what, NEVER);
        Some((when(next), core, what))
    }

    fn put(&mut self, core: usize, what: What, order: u64) {
        let (places, first) = (&mut self.places[core], &mut self.first[core]);
        let before = std::mem::replace(&mut places[what as usize], order);
        if order <= *first {
            *first = order;
        } else if before == *first {
            *first = places.iter().fold(NEVER, |least, place| least.min(*place));
        }
    }
}

fn when(order: u64) -> Nanos {
    Nanos(order >> (NTH_BITS + CORE_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(agenda: &mut Agenda) -> Vec<(u64, usize, What)> {
        std::iter::from_fn(|| agenda.pop()).map(|(at, core, what)| (at.0, core, what)).collect()
    }

    #[test]
    fn events_come_by_time_then_as_they_were_put_there() {
        let mut agenda = Agenda::new(64);
        for (at, core, what) in [(7, 63, What::Stall), (5, 2, What::Over), (7, 0, What::LookRound), (5, 1, What::Due)] {
            agenda.set(Nanos(at), core, what);
        }
        let expected = [(5, 2, What::Over), (5, 1, What::Due), (7, 63, What::Stall), (7, 0, What::LookRound)];
        assert_eq!(all(&mut agenda), expected);
    }

    #[test]
    fn an_event_takes_the_place_of_its_like() {
        let mut agenda = Agenda::new(2);
        agenda.set(Nanos(5), 1, What::Over);
        agenda.set(Nanos(9), 1, What::Over);
        agenda.set(Nanos(3), 0, What::Over);
        agenda.set(Nanos::MAX, 0, What::Over);
        agenda.sooner(Nanos(8), 0, What::Due);
        agenda.sooner(Nanos(10), 0, What::Due);
        agenda.later(Nanos(8), 1, What::HandlerOver);
        agenda.later(Nanos(7), 1, What::HandlerOver);
        assert_eq!(agenda.at(1, What::Over), Nanos(9));
        assert_eq!(agenda.at(0, What::Over), Nanos::MAX);
        assert_eq!(all(&mut agenda), [(8, 0, What::Due), (8, 1, What::HandlerOver), (9, 1, What::Over)]);
    }
}
