//! Numbers and short lines, written without the formatting machinery.

/// The decimal digits of the largest `u64`.
pub(crate) const U64_DIGITS: usize = 20;

/// Writes `n` in decimal to the front of `out`, which must have room for it ([`U64_DIGITS`] always suffice); returns the digits.
#[inline]
pub(crate) fn write_u64(out: &mut [u8], n: u64) -> usize {
    if n < 10 {
        out[0] = b'0' + n as u8;
        return 1;
    }
    write_long(out, n)
}

fn write_long(out: &mut [u8], mut n: u64) -> usize {
    let mut digits = [0; U64_DIGITS];
    let mut at = U64_DIGITS;
    while n > 0 {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    let len = U64_DIGITS - at;
    out[..len].copy_from_slice(&digits[at..]);
    len
}

/// Appends to a buffer whose size the caller has chosen large enough for everything it appends.
pub(crate) struct Cursor<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    #[inline]
    pub(crate) fn new(out: &'b mut [u8]) -> Cursor<'b> {
        Cursor { out, at: 0 }
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Cursor<'b> {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    #[inline]
    pub(crate) fn number(&mut self, n: u64) -> &mut Cursor<'b> {
        self.at += write_u64(&mut self.out[self.at..], n);
        self
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.at
    }

    /// What was appended.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out[..self.at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_agree_with_the_library() {
        for n in [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
            let mut buf = [0; 32];
            let mut line = Cursor::new(&mut buf);
            line.put(b"=").number(n).put(b";");
            assert_eq!(line.bytes(), format!("={n};").as_bytes());
        }
    }
}
