use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use units::Nanos;

/// Seconds as items keep them: counted from two seconds before the first request.
///
/// Instant 1 is therefore always past; it serves as the expiration of what must be expired at once.
pub(crate) type Secs = u32;

/// Never expires.
pub(crate) const NEVER: Secs = 0;
/// Expired since long.
pub(crate) const PAST: Secs = 1;

const FIRST: u64 = 2;
/// Longer spans than this are absolute times (memcached's protocol.txt, "Expiration times").
const MAX_SPAN: i64 = 60 * 60 * 24 * 30;

/// Turns the backend's clock into seconds and ties it to the wall clock.
#[derive(Debug)]
pub(crate) struct Clock {
    start: OnceLock<(Nanos, u64)>,
    wall: Option<u64>,
}

impl Clock {
    pub(crate) fn new(wall: Option<u64>) -> Clock {
        Clock { start: OnceLock::new(), wall }
    }

    /// The second that `now` lies in.
    #[inline]
    pub(crate) fn secs(&self, now: Nanos) -> Secs {
        let (start, _) = self.start.get_or_init(|| (now, self.wall.unwrap_or_else(wall_clock)));
        ((now - *start).0 / 1_000_000_000 + FIRST) as Secs
    }

    /// The wall clock at an instant, in seconds since 1970.
    pub(crate) fn wall(&self, at: Secs) -> u64 {
        let (_, wall) = self.start.get().copied().unwrap_or((Nanos::ZERO, FIRST));
        wall + u64::from(at) - FIRST
    }

    /// Seconds served so far.
    pub(crate) fn uptime(now: Secs) -> u64 {
        u64::from(now) - FIRST
    }

    /// The instant meant by a client's expiration time: 0 never, negative at once, up to 30 days a span, beyond it
    /// a wall clock time.
    pub(crate) fn expires(&self, now: Secs, time: i64) -> Secs {
        match time {
            0 => NEVER,
            ..0 => PAST,
            1..=MAX_SPAN => now.saturating_add(time as Secs),
            _ => {
                let ahead = time as u64 as i128 - i128::from(self.wall(now));
                let at = i128::from(now) + ahead;
                at.clamp(i128::from(PAST), i128::from(Secs::MAX)) as Secs
            }
        }
    }
}

fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration_times_have_four_meanings() {
        let clock = Clock::new(Some(1_700_000_000));
        let base = Nanos::from_secs(77);
        assert_eq!(clock.secs(base), 2);
        let now = clock.secs(base + Nanos::from_secs(10));
        assert_eq!((now, clock.wall(now)), (12, 1_700_000_010));
        assert_eq!(clock.expires(now, 0), NEVER);
        assert_eq!(clock.expires(now, -1), PAST);
        assert_eq!(clock.expires(now, 5), 17);
        assert_eq!(clock.expires(now, MAX_SPAN), 12 + MAX_SPAN as u32);
        assert_eq!(clock.expires(now, MAX_SPAN + 1), PAST);
        assert_eq!(clock.expires(now, 1_700_000_030), 32);
        assert_eq!(clock.expires(now, i64::MAX), u32::MAX);
    }
}
