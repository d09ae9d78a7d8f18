//! What paths are known to carry less than our link (RFC 1191, RFC 8201): a few entries per core, forgotten after ten minutes.

use units::Nanos;
use wire::{Addr, ipv6};

const ENTRIES: usize = 256;
/// An address may live in any of so many neighbouring entries.
const WAYS: usize = 4;
/// How long a report is believed (RFC 1191 section 6.3, RFC 8201 section 5.3).
const LIFETIME: Nanos = Nanos::from_secs(600);
/// No report makes us send less than this over IPv4.
///
/// Deviation: RFC 1191 section 3 allows down to 68; a forged report would have us send headers only. Linux draws the line here as well.
const LEAST_V4: u16 = 552;
/// What links carry, for reports of routers that do not name their MTU (RFC 1191 section 7).
const PLATEAUS: [u16; 8] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, LEAST_V4];

#[derive(Clone, Copy, Default)]
struct Entry {
    remote: Addr,
    mtu: u16,
    until: Nanos,
}

/// The MTUs of paths that carry less than the link.
pub(crate) struct PathMtus {
    entries: Box<[Entry]>,
    /// Nothing is known from this instant on: most of the time there is nothing to look up.
    until: Nanos,
}

impl PathMtus {
    pub(crate) fn new() -> PathMtus {
        PathMtus { entries: vec![Entry::default(); ENTRIES].into_boxed_slice(), until: Nanos::ZERO }
    }

    /// The largest packet that the path is known to carry.
    #[inline]
    pub(crate) fn mtu(&self, remote: &Addr, now: Nanos) -> Option<u16> {
        if now >= self.until { None } else { self.find(remote, now) }
    }

    #[cold]
    fn find(&self, remote: &Addr, now: Nanos) -> Option<u16> {
        self.ways(remote).map(|i| self.entries[i]).find(|e| e.remote == *remote && now < e.until).map(|e| e.mtu)
    }

    /// Notes that a packet of `total` bytes was too big, by a router that says what would not have been (0: it does not say). Returns
    /// the MTU that counts from now on; `None` if the report is nonsense: the packet would have fitted, or fits every link.
    pub(crate) fn report(&mut self, remote: &Addr, mtu: u32, total: u32, now: Nanos) -> Option<u16> {
        let least = if remote.is_v4() { LEAST_V4 } else { ipv6::MIN_MTU };
        let told = match u16::try_from(mtu).unwrap_or(u16::MAX) {
            0 if remote.is_v4() => PLATEAUS.into_iter().find(|&p| u32::from(p) < total).unwrap_or(LEAST_V4),
            told => told,
        };
        // RFC 8201 section 4: never below 1280; a packet that is no larger than the MTU was not too big.
        let mtu = told.max(least);
        if total <= u32::from(mtu) || self.mtu(remote, now).is_some_and(|known| known <= mtu) {
            return None;
        }
        let place = self.ways(remote).min_by_key(|&i| match self.entries[i] {
            e if e.remote == *remote => Nanos::ZERO,
            e => e.until.max(Nanos(1)),
        })?;
        let until = now + LIFETIME;
        self.entries[place] = Entry { remote: *remote, mtu, until };
        self.until = self.until.max(until);
        Some(mtu)
    }

    fn ways(&self, remote: &Addr) -> impl Iterator<Item = usize> + use<> {
        let (high, low) = remote.halves();
        let first = ((high ^ low) ^ (high ^ low) >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..WAYS).map(move |way| (first as usize + way) % ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const NOW: Nanos = Nanos::from_secs(5);

    fn four(n: u32) -> Addr {
        Addr::v4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn a_report_counts_for_ten_minutes() {
        let mut paths = PathMtus::new();
        assert_eq!(paths.report(&four(1), 1400, 1500, NOW), Some(1400));
        assert_eq!(paths.mtu(&four(1), NOW), Some(1400));
        assert_eq!(paths.mtu(&four(2), NOW), None);
        assert_eq!(paths.mtu(&four(1), NOW + LIFETIME), None);
    }

    #[test]
    fn nonsense_is_not_believed() {
        let six = Addr::v6(Ipv6Addr::from_bits(0x2001 << 112));
        let mut paths = PathMtus::new();
        assert_eq!(paths.report(&four(1), 1500, 1400, NOW), None, "it would have fitted");
        assert_eq!(paths.report(&six, 1000, 1280, NOW), None, "every IPv6 link carries 1280");
        assert_eq!(paths.report(&six, 68, 1500, NOW), Some(1280));
        assert_eq!(paths.report(&four(1), 68, 1500, NOW), Some(552));
        assert_eq!(paths.report(&four(1), 1400, 1500, NOW), None, "no report raises an MTU");
    }

    #[test]
    fn old_routers_name_no_mtu() {
        let mut paths = PathMtus::new();
        let steps: Vec<_> = [1500, 1492, 1006, 552].map(|total| paths.report(&four(1), 0, total, NOW)).into();
        assert_eq!(steps, [Some(1492), Some(1006), Some(552), None]);
    }

    #[test]
    fn many_paths_push_out_the_oldest_and_no_more() {
        let mut paths = PathMtus::new();
        for n in 0..10_000 {
            let now = NOW + Nanos::from_millis(n.into());
            assert_eq!(paths.report(&four(n), 1400, 1500, now), Some(1400));
            assert_eq!(paths.mtu(&four(n), now), Some(1400));
        }
    }
}
