//! What is going to happen, in order: a heap. (A knockout tree with a place per core and kind was tried, and took a tenth more instructions.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use units::Nanos;

/// What is on the agenda.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum What {
    /// What the core does is over. Void if its ticket is another by now.
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
}

/// All of them by number; one twice, for eight are told apart by three bits.
const ALL: [What; 8] = [
    What::Over,
    What::Due,
    What::Needs,
    What::Interrupt,
    What::HandlerOver,
    What::Stall,
    What::LookRound,
    What::LookRound,
];
/// When (64 bits), the how-manieth (48), at which core (8), what (8): in this order and in one number, for events are compared more than anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Event(u128);

impl Event {
    fn new(at: Nanos, nth: u64, core: usize, what: What) -> Event {
        Event(u128::from(at.0) << 64 | u128::from(nth) << 16 | (core as u128 & 0xff) << 8 | what as u128)
    }

    pub(crate) fn at(self) -> Nanos {
        Nanos((self.0 >> 64) as u64)
    }

    /// Its number among all events, from one on.
    pub(crate) fn nth(self) -> u64 {
        self.0 as u64 >> 16
    }

    pub(crate) fn core(self) -> usize {
        usize::from((self.0 >> 8) as u8)
    }

    pub(crate) fn what(self) -> What {
        ALL[usize::from(self.0 as u8 & 7)]
    }
}

/// What is to come.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Event>>,
    /// Events so far: their order where instants are equal.
    events: u64,
}

impl Agenda {
    /// Puts an event on the agenda, and answers its number.
    pub(crate) fn push(&mut self, at: Nanos, core: usize, what: What) -> u64 {
        self.events += 1;
        self.heap.push(Reverse(Event::new(at, self.events, core, what)));
        self.events
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|Reverse(event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_as_they_were_put_there_and_unharmed() {
        let mut agenda = Agenda::default();
        for (at, core, what) in [(7, 63, What::Stall), (5, 2, What::Over), (7, 0, What::LookRound), (5, 1, What::Due)] {
            agenda.push(Nanos(at), core, what);
        }
        let all: Vec<_> =
            std::iter::from_fn(|| agenda.pop()).map(|e| (e.at().0, e.nth(), e.core(), e.what())).collect();
        let expected =
            [(5, 2, 2, What::Over), (5, 4, 1, What::Due), (7, 1, 63, What::Stall), (7, 3, 0, What::LookRound)];
        assert_eq!(all, expected);
    }
}
