//! Initial sequence numbers, and the offsets of timestamp clocks: keyed hashes of the connection's names.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use units::Nanos;
use wire::{Seq, Tuple};

/// The secret of initial sequence numbers (RFC 6528 section 3): one per stack, from a random source, for its life.
#[derive(Clone)]
pub struct IsnKey {
    isn: SipHasher24,
    offset: SipHasher24,
}

impl IsnKey {
    /// A key from 16 random bytes of the caller's.
    pub fn new(key: [u8; 16]) -> IsnKey {
        // Two functions of one secret: they must not tell of each other.
        let keyed = |purpose: u8| {
            let mut hasher = SipHasher24::new_with_key(&key);
            hasher.write_u8(purpose);
            hasher
        };
        IsnKey { isn: keyed(1), offset: keyed(2) }
    }

    /// ISN = M + F(tuple, secret), with M the 4 us clock (RFC 6528 section 3; RFC 9293 section 3.4.1, MUST-9): a tuple that is
    /// reused starts above its former life. About 13 ns.
    pub fn isn(&self, now: Nanos, tuple: &Tuple) -> Seq {
        let clock = (now.0 / 4_000) as u32;
        Seq(hash_tuple(self.isn, tuple) as u32) + clock
    }

    /// What to add to the timestamp clock of a connection (RFC 7323 section 5.4 and 7.1). It depends on the tuple alone, so
    /// that timestamps grow from one life of a tuple to the next.
    pub fn ts_offset(&self, tuple: &Tuple) -> u32 {
        hash_tuple(self.offset, tuple) as u32
    }
}

impl std::fmt::Debug for IsnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IsnKey(secret)")
    }
}

/// The hash of a tuple after what `hasher` was given before.
pub(crate) fn hash_tuple(mut hasher: SipHasher24, tuple: &Tuple) -> u64 {
    let Tuple { local, remote, local_port, remote_port } = *tuple;
    if tuple.is_v4() {
        hasher.write_u64(u64::from(local.low32()) << 32 | u64::from(remote.low32()));
    } else {
        for half in [local.halves(), remote.halves()].map(|(high, low)| [high, low]).into_iter().flatten() {
            hasher.write_u64(half);
        }
    }
    hasher.write_u32(u32::from(local_port) << 16 | u32::from(remote_port));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn tuple(remote_port: u16) -> Tuple {
        let (local, remote) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
        Tuple { local: local.into(), remote: remote.into(), local_port: 80, remote_port }
    }

    #[test]
    fn rfc6528_grows_with_the_clock_and_differs_by_tuple_and_key() {
        let key = IsnKey::new([7; 16]);
        let (t0, t1) = (Nanos::from_secs(1), Nanos::from_secs(2));
        assert_eq!(key.isn(t1, &tuple(1)).since(key.isn(t0, &tuple(1))), 250_000, "250 kHz");
        assert_ne!(key.isn(t0, &tuple(1)), key.isn(t0, &tuple(2)));
        assert_ne!(key.isn(t0, &tuple(1)), IsnKey::new([8; 16]).isn(t0, &tuple(1)));
        assert_ne!(key.ts_offset(&tuple(1)), key.ts_offset(&tuple(2)));
        assert_ne!(key.ts_offset(&tuple(1)), key.isn(Nanos::ZERO, &tuple(1)).0, "one must not tell the other");
    }
}
