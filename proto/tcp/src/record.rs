//! What a connection needs while something is amiss, kept beside the control block: most connections are idle or well,
//! and a record is four times the size of a block.
//!
//! A connection takes a record when data arrives out of order or twice, when the peer reports that it did, and at a retransmission
//! timeout. It gives it back when nothing is held or in flight any more, or after a few round trips without incident. When
//! all records are out, a connection does without: out-of-order data is dropped and comes again, and loss is found by duplicate
//! ACKs (RFC 6582) and timeouts.

use units::Nanos;
use wire::Seq;

use crate::congestion::Control;
use crate::flight::Flight;
use crate::rack::Rack;
use crate::sack::{HELD_MAX, Ranges};
use crate::tcb::{Bits, Tcb};
use crate::{Phase, State};

/// Quiet round trips after which a record goes back although the connection is busy.
const CALM_ROUNDS: u8 = 8;

/// The records of one stack: a fixed number, all made at the start.
#[derive(Debug)]
pub struct Records {
    #[allow(clippy::vec_box, reason = "a record changes hands as it is: neither allocated nor copied")]
    spare: Vec<Box<Record>>,
    limit: usize,
    /// Came back beyond the limit: others miss them.
    surplus: Vec<Spare>,
}

/// A record on its way from a stack that has too many to one that has too few.
#[derive(Debug)]
pub struct Spare(Box<Record>);

impl Records {
    /// `n` records, about 1 KiB each.
    pub fn new(n: usize) -> Records {
        Records { spare: (0..n).map(|_| Box::new(Record::NEW)).collect(), limit: n, surplus: Vec::with_capacity(n) }
    }

    /// How many are not in use.
    pub fn available(&self) -> usize {
        self.spare.len()
    }

    /// Whether more than half are not in use.
    fn are_plenty(&self) -> bool {
        self.spare.len() > self.limit / 2
    }

    fn take(&mut self) -> Option<Box<Record>> {
        self.spare.pop()
    }

    fn put(&mut self, mut record: Box<Record>) {
        *record = Record::NEW;
        // More can come back than were here at first when connections change their stack.
        if self.spare.len() < self.limit {
            self.spare.push(record);
        } else if self.surplus.len() < self.limit {
            self.surplus.push(Spare(record));
        }
    }

    /// A record that came back beyond this stack's number, for another stack.
    pub fn give(&mut self) -> Option<Spare> {
        self.surplus.pop()
    }

    /// Whether fewer than half are here, so that others' surplus is welcome.
    pub fn are_few(&self) -> bool {
        self.spare.len() < self.limit / 2
    }

    /// Takes another stack's surplus in.
    pub fn accept(&mut self, spare: Spare) {
        self.put(spare.0);
    }
}

/// The state of a connection's trouble.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What we hold of the peer's beyond rcv.nxt.
    pub(crate) held: Ranges<HELD_MAX>,
    /// What came twice, to be reported once (RFC 2883).
    pub(crate) twice: Option<(Seq, Seq)>,
    /// What is in flight. Noted only if SACK is in use.
    pub(crate) flight: Flight,
    pub(crate) rack: Rack,
    pub(crate) prr: Prr,
    pub(crate) undo: Option<Undo>,
    pub(crate) frto: Frto,
    /// Until snd.una gets here, a DSACK does not widen the reordering window again (RFC 8985 section 6.2 step 4).
    pub(crate) dsack_round: Option<Seq>,
    calm_until: Seq,
    calm_rounds: u8,
}

/// Proportional rate reduction (RFC 9937 section 5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prr {
    pub(crate) delivered: u32,
    pub(crate) out: u32,
    pub(crate) flight: u32,
}

/// What is restored when a repair turns out to have been needless (RFC 4015).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: u32,
    pub(crate) control: Control,
    /// All that was sent again lies between these.
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    /// Segments sent again that the peer has not reported as duplicates, and those that no ACK has shown to be needless.
    pub(crate) unreported: u16,
    pub(crate) doubtful: u16,
    /// Whether anything was sent again, and our timestamp then.
    pub(crate) again_at: Option<u32>,
}

/// Forward RTO recovery (RFC 5682).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frto {
    /// Not in use.
    Off,
    /// Step 1: the first segment was sent again; its ACK is awaited.
    First,
    /// Step 2: new data was sent, from here on; the next ACK decides.
    Second(Seq),
}

impl Record {
    const NEW: Record = Record {
        held: Ranges::EMPTY,
        twice: None,
        flight: Flight::EMPTY,
        rack: Rack::NEW,
        prr: Prr { delivered: 0, out: 0, flight: 0 },
        undo: None,
        frto: Frto::Off,
        dsack_round: None,
        calm_until: Seq(0),
        calm_rounds: 0,
    };
}

impl Tcb {
    /// Takes a record if there is none yet; whether there is one now.
    #[cold]
    pub(crate) fn take_record(&mut self, records: &mut Records) -> bool {
        if self.record.is_none()
            && let Some(mut record) = records.take()
        {
            if self.has(Bits::SACK) {
                let timed = self.has(Bits::TIMING).then_some((self.rtt_seq, self.rtt_at));
                record.flight.begin(self.snd_una, timed, self.snd_nxt, self.last_snd);
            }
            record.rack.fack = self.snd_una;
            record.calm_until = self.snd_nxt;
            // If a recovery is under way: as if it began now.
            record.prr.flight = self.flight();
            self.record = Some(record);
            self.set(Bits::RECORD);
        }
        self.record.is_some()
    }

    /// Gives the record back if it is of no more use.
    #[cold]
    pub(crate) fn release_record(&mut self, records: &mut Records) {
        let (una, nxt) = (self.snd_una, self.snd_nxt);
        let over = matches!(self.state, State::Closed | State::TimeWait);
        let Some(record) = self.record.as_deref_mut() else { return };
        let receiving = record.held.is_empty() && record.twice.is_none();
        let quiet = receiving && self.phase == Phase::Open;
        if !over && !quiet {
            return;
        }
        if !record.flight.is_calm() {
            (record.calm_until, record.calm_rounds) = (nxt, 0);
        } else if una.ge(record.calm_until) {
            record.calm_until = nxt;
            record.calm_rounds = record.calm_rounds.saturating_add(1);
        }
        // A repair that has just ended may still turn out to have been needless. That is worth a record only while there are many.
        let doubtful = record.undo.is_some() && record.calm_rounds < 2 && records.are_plenty();
        if over || record.calm_rounds >= CALM_ROUNDS || (una == nxt && !doubtful) {
            self.retire(records);
        }
    }

    /// Gives the record back: to be called before a block is dropped.
    pub fn retire(&mut self, records: &mut Records) {
        if let Some(record) = self.record.take() {
            self.clear(Bits::RECORD);
            records.put(record);
        }
    }

    /// Notes that new data up to snd.nxt leaves now.
    #[cold]
    pub(crate) fn note_sent(&mut self, now: Nanos, n: u32) {
        let (una, nxt, sack) = (self.snd_una, self.snd_nxt, self.has(Bits::SACK));
        if let Some(record) = self.record.as_deref_mut() {
            if sack {
                record.flight.sent(una, nxt, now);
            }
            record.prr.out = record.prr.out.saturating_add(n);
        }
    }

    /// Whether out-of-order data is held.
    pub(crate) fn holds(&self) -> bool {
        self.record.as_deref().is_some_and(|r| !r.held.is_empty())
    }
}
