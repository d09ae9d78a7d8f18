//! The chain of extension headers (RFC 8200 section 4), walked in the order in which it stands and within bounds that RFC 8504 section
//! 5.3 lets a host set.
//!
//! ```text
//!   options, routing   | next | len/8 - 1 | ...                       options: | type | len | data | ...  or one byte 0
//!   fragment           | next | reserved  | offset/8, 2 bits, more | identification |
//! ```

use crate::{be16, be32, ipv4};

use super::{DESTINATION, FRAGMENT, HEADER, HOP_BY_HOP, Header, ICMP, NEXT_AT, NONE, ROUTING};

/// Bytes of a fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// Extension headers that a packet may have.
const HEADERS_MAX: usize = 8;
/// Bytes of all extension headers together.
const CHAIN_MAX: usize = 512;
/// Options that an options header may have, padding counted.
const OPTIONS_MAX: usize = 16;

/// A piece of a larger packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Names the packet among those of its source and destination.
    pub id: u32,
    /// Where this piece belongs, in bytes after the unfragmentable part.
    pub offset: u16,
    /// More pieces follow.
    pub more: bool,
    /// What the first piece begins with.
    pub next: u8,
    /// Where the fragment header is, in bytes from the start of the packet; the piece comes after.
    pub at: usize,
    /// Where the Next Header field is that announced the fragment header.
    pub named_at: usize,
}

/// What the extension headers lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// The upper-layer protocol; meaningless with a `fragment`.
    pub protocol: u8,
    /// Where its header is, in bytes from the start of the packet.
    pub at: usize,
    /// The packet is a piece of another. An atomic fragment, which is all of its packet, does not count (RFC 6946).
    pub fragment: Option<Fragment>,
}

/// What an ICMPv6 parameter problem complains of (RFC 4443 section 3.4, RFC 7112 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Problem {
    /// A header field makes no sense.
    Field = 0,
    /// A next header that we do not know, or not there.
    NextHeader = 1,
    /// An option that we do not know.
    Option = 2,
    /// The first fragment does not hold the whole chain of headers.
    Incomplete = 3,
}

/// Why a packet is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Drop it, say nothing: too short, beyond our bounds, or the sender wants no answer.
    Silent,
    /// Nothing is in it (No Next Header).
    Empty,
    /// Drop it and tell the sender.
    Problem {
        /// What is wrong.
        what: Problem,
        /// Where, in bytes from the start of the packet.
        at: usize,
        /// Also if the packet went to a group (RFC 8200 section 4.2, option types 10xxxxxx).
        to_groups: bool,
    },
}

fn problem(what: Problem, at: usize) -> Refusal {
    Refusal::Problem { what, at, to_groups: false }
}

/// Walks the chain of a packet whose first bytes, the fixed header first, are in `packet`.
///
/// # Errors
/// Why the packet is to be dropped, and whether its sender is told. At most 8 headers, 512 bytes and 16 options per header are looked at.
pub fn walk(packet: &[u8], header: &Header) -> Result<Upper, Refusal> {
    if matches!(header.next, ipv4::TCP | ipv4::UDP | ICMP) {
        return Ok(Upper { protocol: header.next, at: HEADER, fragment: None });
    }
    walk_chain(packet, header)
}

#[cold]
fn walk_chain(packet: &[u8], header: &Header) -> Result<Upper, Refusal> {
    let end = (HEADER + usize::from(header.payload_len)).min(packet.len());
    let packet = &packet[..end];
    let (mut next, mut at, mut named_at, mut atomic) = (header.next, HEADER, NEXT_AT, false);
    for _ in 0..=HEADERS_MAX {
        match next {
            // Section 4.3: "restricted to appear immediately after the IPv6 header only".
            HOP_BY_HOP if at != HEADER => return Err(problem(Problem::NextHeader, named_at)),
            HOP_BY_HOP | DESTINATION => {
                let whole = extension(packet, at)?;
                options(whole, at)?;
            }
            ROUTING => {
                let whole = extension(packet, at)?;
                // Section 4.4 and RFC 5095: a type that we do not know, 0 among them, is passed over if no segments are left.
                if whole.get(3) != Some(&0) {
                    return Err(problem(Problem::Field, at + 2));
                }
            }
            FRAGMENT => {
                let fragment = fragment(packet, at, named_at)?;
                if fragment.more || fragment.offset > 0 {
                    first_holds_the_chain(packet, &fragment)?;
                    return Ok(Upper { protocol: fragment.next, at, fragment: Some(fragment) });
                }
                if std::mem::replace(&mut atomic, true) {
                    return Err(Refusal::Silent);
                }
                (next, named_at, at) = (fragment.next, at, at + FRAGMENT_HEADER);
                continue;
            }
            NONE => return Err(Refusal::Empty),
            ipv4::TCP | ipv4::UDP | ICMP => return Ok(Upper { protocol: next, at, fragment: None }),
            _ => return Err(problem(Problem::NextHeader, named_at)),
        }
        (next, named_at, at) = (packet[at], at, at + extension(packet, at)?.len());
    }
    Err(Refusal::Silent)
}

/// The whole extension header at `at`.
fn extension(packet: &[u8], at: usize) -> Result<&[u8], Refusal> {
    let len = packet.get(at + 1).map(|len| (usize::from(*len) + 1) * 8).ok_or(Refusal::Silent)?;
    if at + len > HEADER + CHAIN_MAX {
        return Err(Refusal::Silent);
    }
    packet.get(at..at + len).ok_or(Refusal::Silent)
}

/// Section 4.2: the options of a header, none of which we act upon; what is to be done about an unknown one says its type.
fn options(header: &[u8], header_at: usize) -> Result<(), Refusal> {
    let mut at = 2;
    for _ in 0..OPTIONS_MAX {
        match *header.get(at..).unwrap_or(&[]) {
            [] => return Ok(()),
            [0, ..] => at += 1,
            [kind, len, ..] => {
                let skip = kind == 1 || kind >> 6 == 0;
                let refuse = |to_groups| Refusal::Problem { what: Problem::Option, at: header_at + at, to_groups };
                match kind >> 6 {
                    _ if skip => {}
                    1 => return Err(Refusal::Silent),
                    2 => return Err(refuse(true)),
                    _ => return Err(refuse(false)),
                }
                at += 2 + usize::from(len);
                if at > header.len() {
                    return Err(Refusal::Silent);
                }
            }
            [_] => return Err(Refusal::Silent),
        }
    }
    if at == header.len() { Ok(()) } else { Err(Refusal::Silent) }
}

fn fragment(packet: &[u8], at: usize, named_at: usize) -> Result<Fragment, Refusal> {
    let bytes: &[u8; FRAGMENT_HEADER] = packet.get(at..).and_then(|b| b.first_chunk()).ok_or(Refusal::Silent)?;
    let word = be16(bytes, 2);
    let (offset, more) = (word & 0xfff8, word & 1 != 0);
    let len = packet.len() - at - FRAGMENT_HEADER;
    // Section 4.5: all but the last are a multiple of 8 bytes long; the whole fits a payload length.
    if more && !len.is_multiple_of(8) {
        return Err(problem(Problem::Field, 4));
    }
    if at + FRAGMENT_HEADER - HEADER + usize::from(offset) + len > usize::from(u16::MAX) + FRAGMENT_HEADER {
        return Err(problem(Problem::Field, at + 2));
    }
    Ok(Fragment { id: be32(bytes, 4), offset, more, next: bytes[0], at, named_at })
}

/// RFC 7112 section 5: the first fragment holds all headers, the upper layer's included; so nobody hides ports in the second. A further
/// fragment header has no place in it.
fn first_holds_the_chain(packet: &[u8], fragment: &Fragment) -> Result<(), Refusal> {
    if fragment.offset > 0 {
        return Ok(());
    }
    let incomplete = Err(problem(Problem::Incomplete, 0));
    let (mut next, mut at) = (fragment.next, fragment.at + FRAGMENT_HEADER);
    for _ in 0..=HEADERS_MAX {
        let upper = match next {
            HOP_BY_HOP | FRAGMENT => return Err(Refusal::Silent),
            ROUTING | DESTINATION => match extension(packet, at) {
                Ok(header) => {
                    (next, at) = (header[0], at + header.len());
                    continue;
                }
                Err(_) => return incomplete,
            },
            ipv4::TCP => crate::tcp::HEADER,
            ipv4::UDP | ICMP => 8,
            _ => 0,
        };
        return if packet.len() >= at + upper { Ok(()) } else { incomplete };
    }
    Err(Refusal::Silent)
}

/// Writes a fragment header to the front of `out` and returns its length (8). Panics if `out` is shorter.
pub fn emit_fragment(out: &mut [u8], next: u8, offset: u16, more: bool, id: u32) -> usize {
    let out: &mut [u8; FRAGMENT_HEADER] = out.first_chunk_mut().expect("room for a fragment header");
    out[..2].copy_from_slice(&[next, 0]);
    out[2..4].copy_from_slice(&(offset & 0xfff8 | u16::from(more)).to_be_bytes());
    out[4..].copy_from_slice(&id.to_be_bytes());
    FRAGMENT_HEADER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Addr;
    use proptest::prelude::*;

    /// A packet whose fixed header announces `next` and is followed by `rest`.
    fn packet(next: u8, rest: &[&[u8]]) -> (Vec<u8>, Header) {
        let rest = rest.concat();
        let header = Header::new(Addr::ALL_NODES, Addr::ALL_NODES, next, rest.len() as u16);
        let mut bytes = vec![0; HEADER];
        header.emit(&mut bytes);
        bytes.extend(rest);
        (bytes, header)
    }

    fn walked(next: u8, rest: &[&[u8]]) -> Result<Upper, Refusal> {
        let (bytes, header) = packet(next, rest);
        walk(&bytes, &header)
    }

    const UDP: [u8; 8] = [0, 7, 0, 7, 0, 8, 0, 0];
    const fn pad(next: u8) -> [u8; 8] {
        [next, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn a_chain_leads_to_the_upper_layer() {
        let upper = walked(HOP_BY_HOP, &[&pad(DESTINATION), &pad(ROUTING), &[17, 0, 0, 0, 0, 0, 0, 0], &UDP]).unwrap();
        assert_eq!(upper, Upper { protocol: 17, at: 64, fragment: None });
        assert_eq!(walked(17, &[&UDP]).unwrap().at, 40);
        assert_eq!(walked(DESTINATION, &[&pad(NONE)]), Err(Refusal::Empty));
    }

    #[test]
    fn unknown_options_are_treated_as_their_type_says() {
        let option = |kind: u8| walked(DESTINATION, &[&[17, 0, kind, 4, 0, 0, 0, 0], &UDP]);
        assert!(option(0x05).is_ok());
        assert_eq!(option(0x45), Err(Refusal::Silent));
        let told = |to_groups| Err(Refusal::Problem { what: Problem::Option, at: 42, to_groups });
        assert_eq!((option(0x85), option(0xc2)), (told(true), told(false)));
        assert_eq!(walked(DESTINATION, &[&[17, 0, 5, 5, 0, 0, 0, 0], &UDP]), Err(Refusal::Silent), "runs over");
    }

    #[test]
    fn source_routes_with_segments_left_are_refused() {
        for kind in [0, 2, 77] {
            let left = walked(ROUTING, &[&[17, 0, kind, 1, 0, 0, 0, 0], &UDP]);
            assert_eq!(left, Err(problem(Problem::Field, 42)), "type {kind}");
            assert!(walked(ROUTING, &[&[17, 0, kind, 0, 0, 0, 0, 0], &UDP]).is_ok());
        }
    }

    #[test]
    fn what_is_out_of_place_or_unknown_is_reported() {
        assert_eq!(walked(DESTINATION, &[&pad(HOP_BY_HOP), &pad(17), &UDP]), Err(problem(Problem::NextHeader, 40)));
        assert_eq!(walked(99, &[&UDP]), Err(problem(Problem::NextHeader, NEXT_AT)));
    }

    #[test]
    fn chains_beyond_the_bounds_are_dropped() {
        let long: Vec<[u8; 8]> = (0..20).map(|_| pad(DESTINATION)).collect();
        let rest: Vec<&[u8]> = long.iter().map(|h| &h[..]).collect();
        assert_eq!(walked(DESTINATION, &rest), Err(Refusal::Silent));
        let mut fat = vec![0u8; 1024];
        (fat[0], fat[1], fat[2], fat[3]) = (17, 127, 1, 255);
        assert_eq!(walked(DESTINATION, &[&fat, &UDP]), Err(Refusal::Silent));
        let mut many = [0u8; 32];
        (many[0], many[1]) = (17, 3);
        assert_eq!(walked(DESTINATION, &[&many, &UDP]), Err(Refusal::Silent), "30 padding options");
    }

    #[test]
    fn fragments_are_recognised_and_atomic_ones_are_whole() {
        let mut piece = [0u8; 8];
        emit_fragment(&mut piece, 17, 0, false, 7);
        let atomic = walked(FRAGMENT, &[&piece, &UDP]).unwrap();
        assert_eq!(atomic, Upper { protocol: 17, at: 48, fragment: None });
        emit_fragment(&mut piece, 17, 1448, true, 0xdead_beef);
        let upper = walked(DESTINATION, &[&pad(FRAGMENT), &piece, &UDP]).unwrap();
        let expected = Fragment { id: 0xdead_beef, offset: 1448, more: true, next: 17, at: 48, named_at: 40 };
        assert_eq!(upper.fragment, Some(expected));
        assert_eq!(walked(FRAGMENT, &[&piece, &UDP[..7]]), Err(problem(Problem::Field, 4)), "not a multiple of 8");
        emit_fragment(&mut piece, 17, 0xfff8, false, 7);
        assert_eq!(walked(FRAGMENT, &[&piece, &UDP]), Err(problem(Problem::Field, 42)), "beyond 64 KiB");
    }

    #[test]
    fn the_first_fragment_holds_all_headers() {
        let mut piece = [0u8; 8];
        emit_fragment(&mut piece, DESTINATION, 0, true, 7);
        assert!(walked(FRAGMENT, &[&piece, &pad(17), &UDP]).is_ok());
        assert_eq!(walked(FRAGMENT, &[&piece, &pad(17)]), Err(problem(Problem::Incomplete, 0)));
        assert_eq!(walked(FRAGMENT, &[&piece, &pad(6), &UDP]), Err(problem(Problem::Incomplete, 0)));
        assert_eq!(
            walked(FRAGMENT, &[&piece, &pad(FRAGMENT), &piece]),
            Err(Refusal::Silent),
            "a fragment in a fragment"
        );
    }

    proptest! {
        #[test]
        fn any_chain_gets_an_answer_within_the_packet(
            next in prop_oneof![Just(0u8), Just(43), Just(44), Just(60), any::<u8>()],
            heads in proptest::collection::vec((prop_oneof![Just(0u8), Just(43), Just(44), Just(60), Just(17)], 0u8..3), 0..12),
            mut rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut at = 0;
            for (next, len) in heads {
                if at + 2 < rest.len() {
                    (rest[at], rest[at + 1]) = (next, len);
                }
                at += 8 * (usize::from(len) + 1);
            }
            let (bytes, header) = packet(next, &[&rest]);
            if let Ok(upper) = walk(&bytes, &header) {
                prop_assert!(upper.at <= bytes.len());
                prop_assert!(upper.fragment.is_none_or(|f| f.at + FRAGMENT_HEADER <= bytes.len()));
            }
            let _ = walk(&bytes[..bytes.len() / 2], &header);
        }
    }
}
