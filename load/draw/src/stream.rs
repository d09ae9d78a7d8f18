//! Random streams: one for each thread and purpose, all from one seed, so that a run can be repeated and no two draws share numbers.

use rand::SeedableRng;

/// The generator behind every draw: small and fast, not for secrets.
pub type Rng = rand::rngs::SmallRng;

/// What a stream is for. A thread that draws one more request does not shift its arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// When requests leave.
    Arrivals,
    /// What is asked.
    Requests,
    /// Which connection carries it.
    Connections,
    /// The unloaded latency agent.
    Probe,
}

/// The stream of `thread` for `purpose` in the run with `seed`: equal arguments give equal streams, any other give an independent one.
pub fn stream(seed: u64, thread: u32, purpose: Purpose) -> Rng {
    let purpose = match purpose {
        Purpose::Arrivals => 1,
        Purpose::Requests => 2,
        Purpose::Connections => 3,
        Purpose::Probe => 4,
    };
    Rng::seed_from_u64(mix(mix(mix(seed) ^ u64::from(thread)) ^ purpose))
}

/// A bijection of 64 bits in which every input bit moves about half of the output's (the finalizer of `SplitMix64`, Steele et al. 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;
    use std::collections::HashSet;

    #[test]
    fn equal_arguments_give_equal_streams() {
        let mut a = stream(7, 3, Purpose::Requests);
        let mut b = stream(7, 3, Purpose::Requests);
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
    }

    #[test]
    fn streams_of_other_seeds_threads_and_purposes_share_nothing() {
        let mut seen = HashSet::new();
        let purposes = [Purpose::Arrivals, Purpose::Requests, Purpose::Connections, Purpose::Probe];
        for seed in 0..8 {
            for thread in 0..8 {
                for purpose in purposes {
                    let mut rng = stream(seed, thread, purpose);
                    assert!((0..20).all(|_| seen.insert(rng.next_u64())), "{seed} {thread} {purpose:?}");
                }
            }
        }
    }

    #[test]
    fn neighbouring_streams_are_not_correlated() {
        let n = 10_000;
        let (mut a, mut b) = (stream(1, 0, Purpose::Arrivals), stream(1, 1, Purpose::Arrivals));
        let equal_bits: u32 = (0..n).map(|_| (a.next_u64() ^ b.next_u64()).count_zeros()).sum();
        let share = f64::from(equal_bits) / f64::from(n * 64);
        assert!((share - 0.5).abs() < 0.005, "{share}");
    }
}
