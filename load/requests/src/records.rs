use draw::Sizes;

use crate::body::{Body, letters, mix, stretch};
use crate::lengths::Lengths;
use crate::workload::{KEY_MAX, VALUE_MAX};

/// Decimal digits of the longest index.
const DIGITS: usize = 10;

/// The records of a key-value load: index to key and value.
///
/// ```text
///   key    | letters, a stretch of the pattern | index, up to 10 digits |
///   value  | head, of this record | pattern |
/// ```
///
/// The lengths are the distributions' quantiles at bits of the index's hash: key bits 0 to 13, value bits 14 to 27.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    keys: Lengths,
    values: Lengths,
}

/// A key: letters, then digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    letters: &'static [u8],
    digits: [u8; DIGITS],
    /// The first digit that belongs to the key.
    first: usize,
}

impl Key {
    /// Its bytes, in two parts.
    #[inline]
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [self.letters, &self.digits[self.first..]]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.letters.len() + DIGITS - self.first
    }
}

impl Records {
    pub(crate) fn new(key: &Sizes, value: &Sizes) -> Records {
        Records { keys: Lengths::new(key, 1, KEY_MAX), values: Lengths::new(value, 0, VALUE_MAX) }
    }

    /// The key of record `index`. No two records have the same: its last digits, ten or as many as it has room for,
    /// are the index.
    #[inline]
    pub(crate) fn key(&self, index: u32) -> Key {
        let hash = mix(u64::from(index));
        let needed = index.checked_ilog10().unwrap_or(0) as usize + 1;
        let len = self.keys.of(hash).max(needed);
        let width = len.min(DIGITS);
        Key { letters: &stretch(hash >> 40)[..len - width], digits: digits(index), first: DIGITS - width }
    }

    /// The value of record `index`.
    #[inline]
    pub(crate) fn value(&self, index: u32) -> Body {
        let hash = mix(u64::from(index));
        Body { head: letters(mix(hash)), start: hash >> 28, len: self.values.of(hash >> 14) }
    }
}

/// The number in ten digits.
#[inline]
pub(crate) fn digits(number: u32) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn records(key: &str, value: &str) -> Records {
        Records::new(&key.parse().unwrap(), &value.parse().unwrap())
    }

    #[test]
    fn keys_differ_and_end_with_their_number() {
        for sizes in ["19", "1", "4", "uniform:1-12", "etc-key"] {
            let records = records(sizes, "2");
            let keys: HashSet<Vec<u8>> = (0..30_000).map(|index| records.key(index).parts().concat()).collect();
            assert_eq!(keys.len(), 30_000, "{sizes}");
            for index in [0, 7, 12_345_678, u32::MAX] {
                let key = String::from_utf8(records.key(index).parts().concat()).unwrap();
                assert_eq!(key.len(), records.key(index).len());
                assert!(key.ends_with(&index.to_string()), "{key}");
            }
        }
        assert_eq!(records("3", "2").key(7).parts().concat(), b"007");
        assert_eq!(records("3", "2").key(12_345).parts().concat(), b"12345", "lengthened");
    }

    #[test]
    fn values_are_spread() {
        let records = records("19", "2");
        let values: HashSet<_> = (0..20_000).map(|index| records.value(index).head[..2].to_vec()).collect();
        assert!(values.len() > 3800, "{} of 4096 values in use", values.len());
    }

    #[test]
    fn a_key_and_its_value_do_not_lengthen_together() {
        let records = records("uniform:20-40", "uniform:1-100");
        let n = 20_000;
        let (key, value) = (|i| records.key(i).len() as f64 - 30.0, |i| records.value(i).len as f64 - 50.5);
        let sum = |f: &dyn Fn(u32) -> f64| (0..n).map(f).sum::<f64>();
        let correlation =
            sum(&|i| key(i) * value(i)) / (sum(&|i| key(i) * key(i)) * sum(&|i| value(i) * value(i))).sqrt();
        assert!(correlation.abs() < 0.03, "{correlation}");
    }
}
