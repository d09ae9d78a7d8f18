use units::{FlowGroupId, Nanos};
use wire::{Ipv4Addr, Seq};

use crate::slab::NIL;

/// Payload bytes of a segment, both ways: an MTU of 1500 without options.
pub(crate) const MSS: u16 = 1460;
/// How much farther a connection's next life begins than the last one ended.
const ISS_STEP: u32 = 1 << 20;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Closed,
    /// A SYN is out.
    Opening,
    Open,
}

/// The client's end of one connection: as little TCP as a server needs to see.
///
/// ```text
///   head ──► request ──► request ──► request ──► tail        those without a reply, in order
///                  una        nxt       max   end
///   ───────────────┼───────────┼─────────┼─────┼──►          the server has all before una; nxt is sent next, up to end;
///                                                            what lies between nxt and max is sent again
/// ```
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) una: Seq,
    pub(crate) nxt: Seq,
    pub(crate) max: Seq,
    pub(crate) end: Seq,
    /// The server's next byte, and the last one that it was told of.
    pub(crate) rcv_nxt: Seq,
    pub(crate) told: Seq,
    /// How many bytes from `una` on the server takes.
    pub(crate) wnd: u32,
    /// The request that `nxt` lies in.
    pub(crate) cursor: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) port: u16,
    pub(crate) mss: u16,
    pub(crate) phase: Phase,
    /// The window has kept a request from being sent.
    pub(crate) shut: bool,
    /// Requests are to be sent that have no place in a list of their own.
    pub(crate) rest: bool,
    /// An acknowledgement is due at once.
    pub(crate) ack_now: bool,
    /// One is owed since `owed_at`.
    pub(crate) owed: bool,
    /// The SYN is due again.
    pub(crate) syn_again: bool,
    /// Whether it stands in the list of the same name; once at most.
    pub(crate) in_ready: bool,
    pub(crate) in_acks: bool,
    pub(crate) in_ticks: bool,
    pub(crate) in_to_open: bool,
    pub(crate) owed_at: Nanos,
    /// Since when nothing has been acknowledged although something is out.
    pub(crate) stuck_since: Nanos,
    /// The beginning of a reply whose end has not come.
    pub(crate) partial: Vec<u8>,
    /// Bytes that `partial` must have before another look is worth it.
    pub(crate) need: usize,
    pub(crate) ip: Ipv4Addr,
    pub(crate) group: FlowGroupId,
    /// A reset with this number is due.
    pub(crate) reset: Option<Seq>,
}

impl Conn {
    /// Closed, and its first life will begin at `iss`.
    pub(crate) fn new(ip: Ipv4Addr, port: u16, group: FlowGroupId, iss: Seq) -> Conn {
        let first = iss + 1;
        Conn {
            una: first,
            nxt: first,
            max: first,
            end: first,
            rcv_nxt: Seq(0),
            told: Seq(0),
            wnd: 0,
            cursor: NIL,
            head: NIL,
            tail: NIL,
            port,
            mss: MSS,
            phase: Phase::Closed,
            shut: false,
            rest: false,
            ack_now: false,
            owed: false,
            syn_again: false,
            in_ready: false,
            in_acks: false,
            in_ticks: false,
            in_to_open: false,
            owed_at: Nanos::ZERO,
            stuck_since: Nanos::ZERO,
            partial: Vec::new(),
            need: 0,
            ip,
            group,
            reset: None,
        }
    }

    /// The number of the SYN, while nothing has been sent but it.
    #[inline]
    pub(crate) fn iss(&self) -> Seq {
        self.una - 1
    }

    /// Ends this life; the next begins beyond all of its numbers. What is in the list stays there, to be numbered anew.
    pub(crate) fn end_life(&mut self) {
        let first = self.max + ISS_STEP;
        (self.una, self.nxt, self.max, self.end) = (first, first, first, first);
        self.phase = Phase::Closed;
        (self.shut, self.rest, self.ack_now, self.owed, self.syn_again) = (false, false, false, false, false);
        self.partial.clear();
        self.need = 0;
        self.cursor = NIL;
    }

    /// How many bytes may be sent at `nxt`, of `left` that the request has: a whole segment or the rest, less only if nothing else is
    /// under way (RFC 9293 section 3.8.6.2.1); 0: wait for the window.
    #[inline]
    pub(crate) fn allowance(&self, left: u32) -> u32 {
        let want = left.min(u32::from(self.mss));
        let out = self.nxt.since(self.una);
        let room = self.wnd.saturating_sub(out);
        if want <= room {
            want
        } else if out == 0 {
            room
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(wnd: u32, out: u32) -> Conn {
        let mut c = Conn::new(Ipv4Addr::new(198, 18, 0, 3), 10_000, FlowGroupId::of_hash(0), Seq(u32::MAX - 100));
        c.wnd = wnd;
        c.nxt += out;
        c
    }

    #[test]
    fn the_window_is_respected_without_silly_segments() {
        assert_eq!(conn(65_535, 0).allowance(100), 100);
        assert_eq!(conn(65_535, 0).allowance(4000), u32::from(MSS));
        assert_eq!(conn(1000, 0).allowance(4000), 1000, "better than nothing while nothing is out");
        assert_eq!(conn(3000, 1600).allowance(4000), 0, "waits for room for a whole segment");
        assert_eq!(conn(3000, 1600).allowance(1400), 1400);
        assert_eq!((conn(0, 0).allowance(1), conn(100, 200).allowance(1)), (0, 0));
    }

    #[test]
    fn another_life_begins_beyond_the_last() {
        let mut c = conn(65_535, 0);
        (c.phase, c.max, c.owed) = (Phase::Open, c.nxt + 5000, true);
        let before = c.max;
        c.end_life();
        assert!(c.iss().gt(before) && c.una == c.end && c.phase == Phase::Closed && !c.owed);
    }
}
