//! ICMPv6 (RFC 4443): echo, and the errors that a host must understand or send. Neighbour discovery is in [`crate::ndp`].
//!
//! ```text
//!   0      1      2        4              8
//!   | type | code | csum   | rest by type | data (echo), or as much of the offending packet as fits 1280 bytes
//! ```

use crate::checksum::Sum;
use crate::{Addr, Malformed, be16, be32, ipv6};

/// Bytes of the header.
pub const HEADER: usize = 8;
/// How much of the offending packet an error may show (section 2.4 c): the error fits the smallest MTU.
pub const ORIGINAL_MAX: usize = ipv6::MIN_MTU as usize - ipv6::HEADER - HEADER;

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// Code of [`Message::Unreachable`]: nobody listens on that port.
pub const PORT: u8 = 4;
/// Code of [`Message::TimeExceeded`]: the fragments did not all come in time.
pub const REASSEMBLY: u8 = 1;

/// An ICMPv6 message.
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
        /// Why: [`PORT`], or another of section 3.1.
        code: u8,
        /// The beginning of that packet.
        original: &'a [u8],
    },
    /// A packet did not fit the next link.
    PacketTooBig {
        /// What does.
        mtu: u32,
        /// The beginning of that packet.
        original: &'a [u8],
    },
    /// A packet's hops ran out, or its fragments did not all come.
    TimeExceeded {
        /// Which: 0, or [`REASSEMBLY`].
        code: u8,
        /// The beginning of that packet, or of its first fragment.
        original: &'a [u8],
    },
    /// A packet was not understood.
    ParameterProblem {
        /// An [`ipv6::Problem`] as a number.
        code: u8,
        /// Where, in bytes from the packet's start.
        pointer: u32,
        /// The beginning of that packet.
        original: &'a [u8],
    },
    /// Another type, neighbour discovery's among them: for [`crate::ndp::parse`].
    Other {
        /// Its type; below 128 it is an error message (section 2.1).
        kind: u8,
        /// Its code.
        code: u8,
    },
}

/// Reads a message that travelled between these addresses, and verifies its checksum.
///
/// # Errors
/// [`Malformed::Truncated`] below 8 bytes, [`Malformed::Checksum`].
pub fn parse<'a>(src: &Addr, dst: &Addr, bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
    let (head, data) = bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Truncated)?;
    if !Sum::pseudo_v6(src, dst, ipv6::ICMP, bytes.len() as u32).with(bytes).is_valid() {
        return Err(Malformed::Checksum);
    }
    let (ident, seq, word) = (be16(head, 4), be16(head, 6), be32(head, 4));
    Ok(match (head[0], head[1]) {
        (ECHO_REQUEST, 0) => Message::EchoRequest { ident, seq, data },
        (ECHO_REPLY, 0) => Message::EchoReply { ident, seq, data },
        (UNREACHABLE, code) => Message::Unreachable { code, original: data },
        (PACKET_TOO_BIG, _) => Message::PacketTooBig { mtu: word, original: data },
        (TIME_EXCEEDED, code) => Message::TimeExceeded { code, original: data },
        (PARAMETER_PROBLEM, code) => Message::ParameterProblem { code, pointer: word, original: data },
        (kind, code) => Message::Other { kind, code },
    })
}

impl Message<'_> {
    /// Bytes that [`Message::emit`] writes.
    pub const fn len(&self) -> usize {
        HEADER
            + match self {
                Message::EchoRequest { data, .. } | Message::EchoReply { data, .. } => data.len(),
                Message::Unreachable { original, .. }
                | Message::PacketTooBig { original, .. }
                | Message::TimeExceeded { original, .. }
                | Message::ParameterProblem { original, .. } => original.len(),
                Message::Other { .. } => 0,
            }
    }

    /// Never: a message has a header. (Beside [`Message::len`] by custom.)
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the message with its checksum for these addresses to the front of `out` and returns its length. Panics if `out` is shorter.
    pub fn emit(&self, src: &Addr, dst: &Addr, out: &mut [u8]) -> usize {
        let pair = |ident: u16, seq: u16| u32::from(ident) << 16 | u32::from(seq);
        let (kind, code, word, data): (u8, u8, u32, &[u8]) = match *self {
            Message::EchoRequest { ident, seq, data } => (ECHO_REQUEST, 0, pair(ident, seq), data),
            Message::EchoReply { ident, seq, data } => (ECHO_REPLY, 0, pair(ident, seq), data),
            Message::Unreachable { code, original } => (UNREACHABLE, code, 0, original),
            Message::PacketTooBig { mtu, original } => (PACKET_TOO_BIG, 0, mtu, original),
            Message::TimeExceeded { code, original } => (TIME_EXCEEDED, code, 0, original),
            Message::ParameterProblem { code, pointer, original } => (PARAMETER_PROBLEM, code, pointer, original),
            Message::Other { kind, code } => (kind, code, 0, &[]),
        };
        let out = &mut out[..HEADER + data.len()];
        out[..4].copy_from_slice(&[kind, code, 0, 0]);
        out[4..8].copy_from_slice(&word.to_be_bytes());
        out[8..].copy_from_slice(data);
        let sum = Sum::pseudo_v6(src, dst, ipv6::ICMP, out.len() as u32).with(out).finish();
        out[2..4].copy_from_slice(&sum.to_be_bytes());
        out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENDS: [Addr; 2] = [Addr::ALL_NODES, Addr::link_local(crate::Mac([2, 0, 0, 0, 0, 1]))];

    proptest! {
        #[test]
        fn emit_then_parse(kind in 0usize..7, code: u8, ident: u16, seq: u16, word: u32, data in proptest::collection::vec(any::<u8>(), 0..99)) {
            let (data, original) = (&data[..], &data[..]);
            let message = match kind {
                0 => Message::EchoRequest { ident, seq, data },
                1 => Message::EchoReply { ident, seq, data },
                2 => Message::Unreachable { code, original },
                3 => Message::PacketTooBig { mtu: word, original },
                4 => Message::TimeExceeded { code, original },
                5 => Message::ParameterProblem { code, pointer: word, original },
                _ => Message::Other { kind: 200, code },
            };
            let [a, b] = ENDS;
            let mut bytes = vec![0xee; message.len()];
            prop_assert_eq!(message.emit(&a, &b, &mut bytes), bytes.len());
            prop_assert_eq!(parse(&a, &b, &bytes), Ok(message));
            prop_assert_eq!(parse(&a, &a, &bytes), Err(Malformed::Checksum));
            prop_assert_eq!(parse(&a, &b, &bytes[..7]), Err(Malformed::Truncated));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&ENDS[0], &ENDS[1], &bytes);
        }
    }
}
