use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number (RFC 9293 section 3.4): a point on a circle of 2^32.
///
/// There is deliberately no `Ord`: "less" means something only between numbers less than half the circle apart, and it
/// is not transitive, so no sorted container may rely on it.
///
/// ```text
///        a.lt(b)  when  b lies in the half circle ahead of a
///
///            a ------------> b . . . . . (a + 2^31)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Whether `self` comes before `b`.
    #[inline]
    pub const fn lt(self, b: Seq) -> bool {
        (self.0.wrapping_sub(b.0) as i32) < 0
    }

    /// Whether `self` is `b` or comes before it.
    #[inline]
    pub const fn le(self, b: Seq) -> bool {
        (self.0.wrapping_sub(b.0) as i32) <= 0
    }

    /// Whether `self` comes after `b`.
    #[inline]
    pub const fn gt(self, b: Seq) -> bool {
        (self.0.wrapping_sub(b.0) as i32) > 0
    }

    /// Whether `self` is `b` or comes after it.
    #[inline]
    pub const fn ge(self, b: Seq) -> bool {
        (self.0.wrapping_sub(b.0) as i32) >= 0
    }

    /// How far `self` is ahead of `b` (modulo 2^32; huge when it is behind).
    #[inline]
    pub const fn since(self, b: Seq) -> u32 {
        self.0.wrapping_sub(b.0)
    }

    /// Whether `self` lies in the `len` numbers that begin at `start`.
    #[inline]
    pub const fn within(self, start: Seq, len: u32) -> bool {
        self.since(start) < len
    }

    /// The later of the two.
    #[inline]
    #[must_use]
    pub const fn max(self, b: Seq) -> Seq {
        if self.lt(b) { b } else { self }
    }

    /// The earlier of the two.
    #[inline]
    #[must_use]
    pub const fn min(self, b: Seq) -> Seq {
        if b.lt(self) { b } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn add(self, n: u32) -> Seq {
        Seq(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for Seq {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn sub(self, n: u32) -> Seq {
        Seq(self.0.wrapping_sub(n))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_wraps() {
        let a = Seq(u32::MAX - 1);
        let b = a + 5;
        assert_eq!(b, Seq(3));
        assert!(a.lt(b) && a.le(b) && b.gt(a) && b.ge(a) && a.le(a) && a.ge(a) && !a.lt(a));
        assert_eq!((b.since(a), a.max(b), a.min(b)), (5, b, a));
        assert!(b.within(a, 6) && !b.within(a, 5) && !a.within(b, 5));
    }

    proptest! {
        #[test]
        fn a_step_forward_is_after(a: u32, n in 1u32..0x8000_0000) {
            let (a, b) = (Seq(a), Seq(a) + n);
            prop_assert_eq!(b.since(a), n);
            prop_assert_eq!(b - n, a);
            if n < 0x8000_0000 - 1 {
                prop_assert!(a.lt(b) && b.gt(a) && !b.le(a) && !a.ge(b));
                prop_assert_eq!(a.max(b), b);
                prop_assert_eq!(b.min(a), a);
            }
        }
    }
}
