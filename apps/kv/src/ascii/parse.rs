//! Lines, words and numbers.

use zygix::Received;

/// No line is longer, but those that fetch any number of keys.
pub(crate) const LINE_MAX: usize = 2048;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Finds the first byte that `eight` flags by its high bit, or `one` says yes to.
#[inline]
fn scan(bytes: &[u8], eight: impl Fn(u64) -> u64, one: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let flags = eight(u64::from_le_bytes(*word));
        if flags != 0 {
            return Some(i * 8 + flags.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&byte| one(byte)).map(|i| words.len() * 8 + i)
}

/// The first newline.
#[inline]
pub(crate) fn newline(bytes: &[u8]) -> Option<usize> {
    // The lowest flag is right; those above a match need not be.
    let eight = |word: u64| {
        let x = word ^ (LOW * b'\n' as u64);
        x.wrapping_sub(LOW) & !x & HIGH
    };
    scan(bytes, eight, |byte| byte == b'\n')
}

/// The first byte that is not above a space: where a word of a well-formed line ends.
#[inline]
pub(super) fn word_end(bytes: &[u8]) -> Option<usize> {
    let eight = |word: u64| word.wrapping_sub(LOW * (b' ' as u64 + 1)) & !word & HIGH;
    scan(bytes, eight, |byte| byte <= b' ')
}

/// The next line of a connection.
pub(super) enum Line<'l> {
    /// Here, without its end; it takes so many bytes with it.
    Whole(&'l [u8], usize),
    /// Its end has not come.
    Part,
    /// It has more than [`LINE_MAX`] bytes; here are the first.
    Long(&'l [u8]),
}

/// Shows the next line; one that straddles buffers is put together in `scratch` ([`LINE_MAX`] bytes).
pub(super) fn line<'s, 'a: 's>(rx: &Received<'a>, scratch: &'s mut [u8]) -> Line<'s> {
    let chunk = rx.chunk();
    let mut head = &chunk[..chunk.len().min(LINE_MAX)];
    let mut end = newline(head);
    if end.is_none() && head.len() < LINE_MAX && rx.len() > head.len() {
        let n = rx.copy_to(scratch);
        head = &scratch[..n];
        end = newline(head);
    }
    match end {
        Some(end) => {
            let line = &head[..end];
            Line::Whole(line.strip_suffix(b"\r").unwrap_or(line), end + 1)
        }
        None if head.len() >= LINE_MAX => Line::Long(head),
        None => Line::Part,
    }
}

/// The words of a line, which spaces divide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'l>(&'l [u8]);

impl<'l> Words<'l> {
    pub(super) fn new(line: &'l [u8]) -> Words<'l> {
        Words(line)
    }

    /// What was not looked at yet.
    pub(super) fn rest(&self) -> &'l [u8] {
        self.0
    }
}

impl<'l> Iterator for Words<'l> {
    type Item = &'l [u8];

    fn next(&mut self) -> Option<&'l [u8]> {
        let start = self.0.iter().position(|&byte| byte != b' ')?;
        let from = &self.0[start..];
        let end = from.iter().position(|&byte| byte == b' ').unwrap_or(from.len());
        let (word, rest) = from.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

/// An unsigned decimal number.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |n, byte| match byte {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// An unsigned decimal number of 32 bits.
pub(super) fn number32(word: &[u8]) -> Option<u32> {
    u32::try_from(number(word)?).ok()
}

/// A decimal number with a sign or without.
pub(super) fn signed(word: &[u8]) -> Option<i64> {
    match word.split_first()? {
        (b'-', digits) => i64::try_from(number(digits)?).ok().map(|n| -n),
        (b'+', digits) => i64::try_from(number(digits)?).ok(),
        _ => i64::try_from(number(word)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_taken_whole_or_not_at_all() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"-1", b"1x", b" 1", b"+1"] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(number32(b"4294967296"), None);
        assert_eq!(signed(b"-30"), Some(-30));
        assert_eq!(signed(b"-"), None);
        assert_eq!(signed(b"9223372036854775808"), None);
    }

    #[test]
    fn words_skip_runs_of_spaces() {
        assert_eq!(Words::new(b"  a  bc ").collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
        assert_eq!(Words::new(b"   ").next(), None);
    }

    proptest! {
        #[test]
        fn scans_agree_with_a_byte_by_byte_search(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b' '), 30..36u8], 0..40)) {
            prop_assert_eq!(newline(&bytes), bytes.iter().position(|&b| b == b'\n'));
            prop_assert_eq!(word_end(&bytes), bytes.iter().position(|&b| b <= b' '));
        }
    }
}
