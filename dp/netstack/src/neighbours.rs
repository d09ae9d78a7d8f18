//! Neighbours' addresses, resolved for all cores by ARP and NDP: reads that write nothing shared, updates only as answers to our own
//! questions.
//!
//! Each slot is a sequence lock: a reader copies and looks whether the sequence number stood still. Writers are rare
//! and exclude each other by a lock that readers never see. What peers say unasked is never believed: a reply
//! is taken only while our question for that address is open, and an entry that has grown old is asked for again while it is
//! still in use (RFC 826; RFC 5227's concern about spoofing; thesis section 2.3.2 asked for coherence-free reads). RFC 4861's
//! states are in it in short: incomplete (no address yet), reachable (fresh), probe (asked again, of the address that is known), gone.
//!
//! Deviation: RFC 4861 section 7.2.3 lets a solicitation's sender enter the cache, and section 7.2.5 an unsolicited advertisement change
//! it: neither does here.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use units::Nanos;
use wire::{Addr, Mac};

/// Slots of the table; an address may live in any of [`WAYS`] neighbouring ones.
const SLOTS: usize = 512;
const WAYS: usize = 8;
/// A verified answer is good for this long before it is asked for again.
const FRESH: Nanos = Nanos::from_secs(60);
/// An entry that nobody verifies any more is forgotten this long after it was last verified.
const LIFETIME: Nanos = Nanos::from_secs(75);
/// The least span between two questions for one address (RFC 1122 section 2.3.2.1).
const ASK_EVERY: Nanos = Nanos::from_secs(1);
/// How long a question stays open for an answer.
const OPEN: Nanos = Nanos::from_secs(3);

#[derive(Default)]
struct Slot {
    /// Odd while being written.
    sequence: AtomicU32,
    /// The two halves of the address.
    high: AtomicU64,
    low: AtomicU64,
    /// The hardware address in the low 48 bits; 0 = none yet.
    mac: AtomicU64,
    /// When the address was last verified, in ns.
    verified: AtomicU64,
    /// When it was last asked for, in ns; 0 = no question open.
    asked: AtomicU64,
}

#[derive(Clone, Copy)]
struct Entry {
    ip: Addr,
    mac: u64,
    verified: Nanos,
    asked: Nanos,
}

/// What a sender learns of its next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resolution {
    /// The hardware address, if it is known.
    pub(crate) mac: Option<Mac>,
    /// Whether it is time to ask for it (again).
    pub(crate) ask: bool,
}

pub(crate) struct Neighbours {
    slots: Box<[Slot]>,
    writer: Mutex<()>,
    /// Answers taken so far.
    answers: AtomicU32,
}

impl Neighbours {
    pub(crate) fn new() -> Neighbours {
        Neighbours {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            writer: Mutex::new(()),
            answers: AtomicU32::new(0),
        }
    }

    /// What is known of `ip`. Reads only: no core's cache line is taken from another.
    #[inline]
    pub(crate) fn lookup(&self, ip: Addr, now: Nanos) -> Resolution {
        for slot in self.ways(ip) {
            let Some(e) = slot.read() else { continue };
            if e.ip != ip {
                continue;
            }
            let known = e.mac != 0 && now - e.verified < LIFETIME;
            let wanted = !known || now - e.verified >= FRESH;
            let ask = wanted && (e.asked == Nanos::ZERO || now - e.asked >= ASK_EVERY);
            return Resolution { mac: known.then(|| unpack(e.mac)), ask };
        }
        Resolution { mac: None, ask: true }
    }

    /// Opens a question for `ip`; true if the caller should send it now (somebody else may have, a moment ago).
    pub(crate) fn ask(&self, ip: Addr, now: Nanos) -> bool {
        let _writer = self.writer.lock().unwrap_or_else(|e| e.into_inner());
        let now = now.max(Nanos(1));
        if let Some(slot) = self.ways(ip).find(|s| s.read().is_some_and(|e| e.ip == ip)) {
            let Some(e) = slot.read() else { return false };
            if e.asked != Nanos::ZERO && now - e.asked < ASK_EVERY {
                return false;
            }
            slot.write(Entry { asked: now, ..e });
            return true;
        }
        // A new address takes the way of one that is not known (any more), or of the one that was verified longest ago: whoever invents
        // addresses competes with himself for as long as possible.
        let value = |s: &&Slot| {
            s.read().map_or((false, Nanos::ZERO), |e| {
                let known = e.mac != 0 && now - e.verified < LIFETIME;
                (known, e.asked.max(e.verified))
            })
        };
        let oldest = self.ways(ip).min_by_key(value);
        if let Some(slot) = oldest {
            slot.write(Entry { ip, mac: 0, verified: Nanos::ZERO, asked: now });
        }
        true
    }

    /// Takes an answer without an address, as NDP allows it to one who has it: what is known holds on. False if nobody had asked.
    pub(crate) fn confirm(&self, ip: Addr, now: Nanos) -> bool {
        self.lookup(ip, now).mac.is_some_and(|mac| self.answer(ip, mac, now))
    }

    /// Takes an answer; false if nobody had asked.
    pub(crate) fn answer(&self, ip: Addr, mac: Mac, now: Nanos) -> bool {
        if mac.is_multicast() || mac == Mac::ZERO {
            return false;
        }
        let _writer = self.writer.lock().unwrap_or_else(|e| e.into_inner());
        let Some(slot) = self.ways(ip).find(|s| s.read().is_some_and(|e| e.ip == ip)) else { return false };
        match slot.read() {
            Some(e) if e.asked != Nanos::ZERO && now - e.asked <= OPEN => {
                slot.write(Entry { ip, mac: pack(mac), verified: now, asked: Nanos::ZERO });
                self.answers.fetch_add(1, Ordering::Release);
                true
            }
            _ => false,
        }
    }

    /// Changes with every answer: who waits for one looks again then, and not before.
    #[inline]
    pub(crate) fn answers(&self) -> u32 {
        self.answers.load(Ordering::Acquire)
    }

    fn ways(&self, ip: Addr) -> impl Iterator<Item = &Slot> {
        let (high, low) = ip.halves();
        let first = (((high ^ low) as u32 ^ (high >> 32) as u32).wrapping_mul(0x9e37_79b1) >> 16) as usize;
        (0..WAYS).map(move |w| &self.slots[(first + w) % SLOTS])
    }
}

impl Slot {
    /// A consistent copy, or `None` for a free slot (or one that is being written this moment).
    #[inline]
    fn read(&self) -> Option<Entry> {
        for _ in 0..4 {
            let before = self.sequence.load(Ordering::Acquire);
            let e = Entry {
                ip: Addr::from_halves(self.high.load(Ordering::Relaxed), self.low.load(Ordering::Relaxed)),
                mac: self.mac.load(Ordering::Relaxed),
                verified: Nanos(self.verified.load(Ordering::Relaxed)),
                asked: Nanos(self.asked.load(Ordering::Relaxed)),
            };
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return (before > 0).then_some(e);
            }
        }
        None
    }

    /// Under the writer's lock.
    fn write(&self, e: Entry) {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let (high, low) = e.ip.halves();
        self.high.store(high, Ordering::Relaxed);
        self.low.store(low, Ordering::Relaxed);
        self.mac.store(e.mac, Ordering::Relaxed);
        self.verified.store(e.verified.0, Ordering::Relaxed);
        self.asked.store(e.asked.0, Ordering::Relaxed);
        // Never back to 0, which means free.
        self.sequence.store(before.wrapping_add(2).max(2), Ordering::Release);
    }
}

fn pack(mac: Mac) -> u64 {
    mac.0.iter().fold(0, |n, &b| n << 8 | u64::from(b))
}

fn unpack(n: u64) -> Mac {
    Mac([40, 32, 24, 16, 8, 0].map(|s| (n >> s) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Addr = Addr::v4(std::net::Ipv4Addr::new(198, 18, 0, 1));
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const EVIL: Mac = Mac([2, 6, 6, 6, 6, 6]);

    #[test]
    fn only_an_answer_to_our_question_is_believed() {
        let t = Neighbours::new();
        let s = Nanos::from_secs;
        assert!(!t.answer(A, EVIL, s(1)), "unsolicited");
        assert_eq!(t.lookup(A, s(1)), Resolution { mac: None, ask: true });
        assert!(t.ask(A, s(1)) && !t.ask(A, s(1)), "asked once a second");
        assert!(t.answer(A, MAC, s(2)));
        assert!(!t.answer(A, EVIL, s(2)), "the question is closed");
        assert_eq!(t.lookup(A, s(30)), Resolution { mac: Some(MAC), ask: false });
        assert_eq!(t.lookup(A, s(63)), Resolution { mac: Some(MAC), ask: true }, "verified again while in use");
        assert!(t.ask(A, s(63)));
        assert!(!t.answer(A, EVIL, s(67)), "too late");
        assert_eq!(t.lookup(A, s(80)).mac, None, "nobody has verified it");
    }

    #[test]
    fn both_families_live_side_by_side() {
        let t = Neighbours::new();
        let six = Addr::link_local(MAC);
        assert!(t.ask(A, Nanos(1)) && t.ask(six, Nanos(1)));
        assert!(t.answer(six, EVIL, Nanos(2)) && t.answer(A, MAC, Nanos(2)));
        assert_eq!((t.lookup(A, Nanos(3)).mac, t.lookup(six, Nanos(3)).mac), (Some(MAC), Some(EVIL)));
        assert!(!t.confirm(six, Nanos(4)), "not asked");
        let later = Nanos::from_secs(61);
        assert!(t.ask(six, later) && t.confirm(six, later));
        assert_eq!(t.lookup(six, later), Resolution { mac: Some(EVIL), ask: false });
    }

    /// From the first second on: the clock's beginning is no excuse.
    #[test]
    fn invented_addresses_displace_none_that_is_known() {
        for start in [1, 1000] {
            let t = Neighbours::new();
            let now = |n: u32| Nanos::from_secs(start) + Nanos::from_micros(u64::from(n));
            assert!(t.ask(A, now(0)) && t.answer(A, MAC, now(0)));
            for n in 2..60_000u32 {
                t.ask(Addr::v4(std::net::Ipv4Addr::from_bits(0xc612_0000 | n)), now(100 * n));
            }
            assert_eq!(t.lookup(A, now(6_000_000)).mac, Some(MAC));
        }
    }

    #[test]
    fn group_addresses_are_nobodys() {
        let t = Neighbours::new();
        assert!(t.ask(A, Nanos(1)));
        assert!(!t.answer(A, Mac::BROADCAST, Nanos(2)) && !t.answer(A, Mac::ZERO, Nanos(2)));
    }

    #[test]
    fn readers_never_see_half_an_update() {
        let t = Neighbours::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 1..20_000u64 {
                    let now = Nanos::from_secs(2 * i);
                    t.ask(A, now);
                    t.answer(A, Mac([2, i as u8, i as u8, i as u8, i as u8, i as u8]), now);
                }
            });
            for _ in 0..20_000 {
                if let Some(m) = t.lookup(A, Nanos(1)).mac {
                    assert!(m.0[1..].iter().all(|b| *b == m.0[1]), "{m}");
                }
            }
        });
    }
}
