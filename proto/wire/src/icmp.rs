//! ICMP for IPv4 (RFC 792): echo, and the errors that a host must understand or send.
//!
//! ```text
//!   0      1      2        4              8
//!   | type | code | csum   | rest by type | data (echo), or the offending IP header and 8 bytes of its payload
//! ```

use crate::checksum::Sum;
use crate::{Malformed, be16};

/// Bytes of the header.
pub const HEADER: usize = 8;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

/// Code of [`Message::TimeExceeded`]: the fragments did not all come in time.
pub const REASSEMBLY: u8 = 1;

/// Why a packet could not be delivered: the codes of type 3 that matter to a host; others as they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// Code 0.
    Net,
    /// Code 1.
    Host,
    /// Code 2: nobody speaks that protocol there.
    Protocol,
    /// Code 3: nobody listens on that port.
    Port,
    /// Code 4: too big for the next link, and DF was set (RFC 1191); the next link's MTU in bytes, 0 if not told.
    FragmentationNeeded {
        /// Next-hop MTU.
        mtu: u16,
    },
    /// Any other code.
    Other(u8),
}

/// An ICMP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// "Are you there?"
    EchoRequest {
        /// Names the asker.
        ident: u16,
        /// Names the question.
        seq: u16,
        /// To be returned as it is.
        data: &'a [u8],
    },
    /// "I am."
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        seq: u16,
        /// As in the request.
        data: &'a [u8],
    },
    /// A packet was not delivered.
    Unreachable {
        /// Why.
        why: Unreachable,
        /// The beginning of that packet, from its IP header.
        original: &'a [u8],
    },
    /// A packet's time to live ran out, or its fragments did not all come in time.
    TimeExceeded {
        /// Which: 0, or [`REASSEMBLY`].
        code: u8,
        /// The beginning of that packet, from its IP header.
        original: &'a [u8],
    },
    /// A type that we don't read.
    Other {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

/// Reads a message and verifies its checksum.
///
/// # Errors
/// [`Malformed::Truncated`] below 8 bytes, [`Malformed::Checksum`].
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let (head, data) = bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Truncated)?;
    if !Sum::new().with(bytes).is_valid() {
        return Err(Malformed::Checksum);
    }
    let (ident, seq) = (be16(head, 4), be16(head, 6));
    Ok(match (head[0], head[1]) {
        (ECHO_REQUEST, 0) => Message::EchoRequest { ident, seq, data },
        (ECHO_REPLY, 0) => Message::EchoReply { ident, seq, data },
        (UNREACHABLE, code) => Message::Unreachable { why: Unreachable::of(code, seq), original: data },
        (TIME_EXCEEDED, code) => Message::TimeExceeded { code, original: data },
        (kind, code) => Message::Other { kind, code },
    })
}

impl Unreachable {
    fn of(code: u8, mtu: u16) -> Unreachable {
        match code {
            0 => Unreachable::Net,
            1 => Unreachable::Host,
            2 => Unreachable::Protocol,
            3 => Unreachable::Port,
            4 => Unreachable::FragmentationNeeded { mtu },
            code => Unreachable::Other(code),
        }
    }

    fn code(self) -> u8 {
        match self {
            Unreachable::Net => 0,
            Unreachable::Host => 1,
            Unreachable::Protocol => 2,
            Unreachable::Port => 3,
            Unreachable::FragmentationNeeded { .. } => 4,
            Unreachable::Other(code) => code,
        }
    }
}

impl Message<'_> {
    /// Bytes that [`Message::emit`] writes.
    pub const fn len(&self) -> usize {
        HEADER
            + match self {
                Message::EchoRequest { data, .. } | Message::EchoReply { data, .. } => data.len(),
                Message::Unreachable { original, .. } | Message::TimeExceeded { original, .. } => original.len(),
                Message::Other { .. } => 0,
            }
    }

    /// Never: a message has a header. (Beside [`Message::len`] by custom.)
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the message with its checksum to the front of `out` and returns its length. Panics if `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let (kind, code, rest, data): (u8, u8, [u16; 2], &[u8]) = match *self {
            Message::EchoRequest { ident, seq, data } => (ECHO_REQUEST, 0, [ident, seq], data),
            Message::EchoReply { ident, seq, data } => (ECHO_REPLY, 0, [ident, seq], data),
            Message::Unreachable { why, original } => {
                let mtu = if let Unreachable::FragmentationNeeded { mtu } = why { mtu } else { 0 };
                (UNREACHABLE, why.code(), [0, mtu], original)
            }
            Message::TimeExceeded { code, original } => (TIME_EXCEEDED, code, [0, 0], original),
            Message::Other { kind, code } => (kind, code, [0, 0], &[]),
        };
        let out = &mut out[..HEADER + data.len()];
        out[0] = kind;
        out[1] = code;
        out[2..4].copy_from_slice(&[0, 0]);
        out[4..6].copy_from_slice(&rest[0].to_be_bytes());
        out[6..8].copy_from_slice(&rest[1].to_be_bytes());
        out[8..].copy_from_slice(data);
        let sum = Sum::new().with(out).finish();
        out[2..4].copy_from_slice(&sum.to_be_bytes());
        out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn emit_then_parse(kind in 0usize..5, code: u8, ident: u16, seq: u16, data in proptest::collection::vec(any::<u8>(), 0..99)) {
            let message = match kind {
                0 => Message::EchoRequest { ident, seq, data: &data },
                1 => Message::EchoReply { ident, seq, data: &data },
                2 => Message::Unreachable { why: Unreachable::of(code % 7, seq), original: &data },
                3 => Message::TimeExceeded { code, original: &data },
                _ => Message::Other { kind: 13, code },
            };
            let mut bytes = vec![0xee; message.len()];
            prop_assert_eq!(message.emit(&mut bytes), bytes.len());
            prop_assert_eq!(parse(&bytes), Ok(message));
            bytes[0] ^= 0x10;
            prop_assert_eq!(parse(&bytes), Err(Malformed::Checksum));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..40), fix: bool) {
            if fix && bytes.len() >= HEADER {
                bytes[2..4].copy_from_slice(&[0, 0]);
                let sum = Sum::new().with(&bytes).finish();
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
                prop_assert!(parse(&bytes).is_ok());
            }
            let _ = parse(&bytes);
        }
    }
}
