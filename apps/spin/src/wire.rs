//! The format of the spin server's requests and replies. Both sides use this module, so they cannot disagree.
//!
//! ```text
//!            0               4               8                               16
//!  request  | length, >= 16 | id            | nanoseconds to spend          | padding up to length
//!  reply    | 16            | id            | nanoseconds spent             |
//! ```
//!
//! All numbers are little-endian. The length counts the whole message, its own four bytes included. Over UDP a datagram
//! is one request or one reply. The id is the client's business; the reply repeats it.

use units::Nanos;

/// Bytes of a request's header, and of a whole reply.
pub const HEADER: usize = 16;

/// The longest request, in bytes with its header and padding.
pub const REQUEST_MAX: u32 = 64 * 1024;

/// The longest time that a request may ask for.
pub const TIME_MAX: Nanos = Nanos::from_secs(1);

/// A request's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Bytes of the request, header and padding together.
    pub length: u32,
    /// What the reply will repeat.
    pub id: u32,
    /// The time that the server is to spend.
    pub time: Nanos,
}

/// Why 16 bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// A length that no message has: below [`HEADER`] or above [`REQUEST_MAX`]; in a reply, other than [`HEADER`].
    Length(u32),
    /// More than [`TIME_MAX`].
    Time(Nanos),
}

impl Request {
    /// The header's bytes. Padding of `length - 16` bytes of any content follows it.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER] {
        join(self.length, self.id, self.time)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What no server would accept: the length is out of bounds, or the time is.
    #[inline]
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Request, Malformed> {
        let (length, id, time) = split(bytes);
        if length < HEADER as u32 || length > REQUEST_MAX {
            return Err(Malformed::Length(length));
        }
        if time > TIME_MAX {
            return Err(Malformed::Time(time));
        }
        Ok(Request { length, id, time })
    }
}

/// A reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The request's.
    pub id: u32,
    /// The time that was spent: at least what was asked for.
    pub spent: Nanos,
}

impl Reply {
    /// The reply's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER] {
        join(HEADER as u32, self.id, self.spent)
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// A length other than 16: this is no reply of a spin server.
    #[inline]
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Reply, Malformed> {
        let (length, id, spent) = split(bytes);
        if length != HEADER as u32 {
            return Err(Malformed::Length(length));
        }
        Ok(Reply { id, spent })
    }
}

fn join(length: u32, id: u32, time: Nanos) -> [u8; HEADER] {
    (u128::from(length) | u128::from(id) << 32 | u128::from(time.0) << 64).to_le_bytes()
}

fn split(bytes: &[u8; HEADER]) -> (u32, u32, Nanos) {
    let whole = u128::from_le_bytes(*bytes);
    (whole as u32, (whole >> 32) as u32, Nanos((whole >> 64) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_lie_where_the_figure_says() {
        let request = Request { length: 0x0102, id: 0x0304_0506, time: Nanos(0x0708_090a) };
        assert_eq!(request.encode(), [2, 1, 0, 0, 6, 5, 4, 3, 0xa, 9, 8, 7, 0, 0, 0, 0]);
        let reply = Reply { id: 7, spent: Nanos(0x0100_0000_0000_0000) };
        assert_eq!(reply.encode(), [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn bounds_are_kept() {
        let request = |length, time| Request::decode(&Request { length, id: 1, time }.encode());
        assert!(request(16, Nanos::ZERO).is_ok());
        assert!(request(REQUEST_MAX, TIME_MAX).is_ok());
        for length in [0, 15, REQUEST_MAX + 1, u32::MAX] {
            assert_eq!(request(length, Nanos::ZERO), Err(Malformed::Length(length)));
        }
        for time in [TIME_MAX + Nanos(1), Nanos(u64::MAX)] {
            assert_eq!(request(16, time), Err(Malformed::Time(time)));
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_encodes_to_the_same_bytes(bytes: [u8; HEADER], length in 0..=2 * REQUEST_MAX, time in 0..2 * TIME_MAX.0) {
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes);
            }
            let request = Request { length, id: 1, time: Nanos(time) };
            let right = (HEADER as u32..=REQUEST_MAX).contains(&length) && time <= TIME_MAX.0;
            prop_assert_eq!(Request::decode(&request.encode()).is_ok(), right);
            let reply = Reply { id: length, spent: Nanos(time) };
            prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            prop_assert_eq!(Reply::decode(&bytes).is_ok(), bytes[..4] == [16, 0, 0, 0]);
        }
    }
}
