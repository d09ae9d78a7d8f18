/// Bytes of a key: the length that prevails in Facebook's USR trace.
pub(crate) const KEY_LEN: usize = 19;

/// Bytes of a value, as in USR.
pub(crate) const VALUE_LEN: usize = 2;

/// What is asked of the server: modelled on Facebook's USR (19 B keys, 2 B values, 99.8 % GET), keys drawn uniformly.
///
/// A key's value follows from the key and is what every SET of it writes, so that each GET has exactly one right
/// answer whatever else is under way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Workload {
    /// Different keys; all of them are stored before the measurement.
    pub keys: u32,
    /// Share of GETs, 0 to 1; the rest are SETs.
    pub gets: f64,
}

impl Workload {
    /// USR with 100 000 keys.
    pub const USR: Workload = Workload { keys: 100_000, gets: 0.998 };

    /// The `index`-th key.
    pub(crate) fn key(index: u32) -> [u8; KEY_LEN] {
        let mut key = *b"usr-000000000000000";
        let mut rest = index;
        for digit in key.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key
    }

    /// The value of the `index`-th key: two letters.
    pub(crate) fn value(index: u32) -> [u8; VALUE_LEN] {
        let mixed = index.wrapping_mul(0x9e37_79b1) >> 16;
        [b'a' + (mixed % 26) as u8, b'a' + (mixed / 26 % 26) as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_values_are_spread() {
        assert_eq!(&Workload::key(0), b"usr-000000000000000");
        assert_eq!(&Workload::key(u32::MAX), b"usr-000004294967295");
        let values: std::collections::HashSet<_> = (0..10_000).map(Workload::value).collect();
        assert!(values.len() > 600, "{} of 676 values in use", values.len());
    }
}
