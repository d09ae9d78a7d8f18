//! Neighbour discovery (RFC 4861), as far as a host without router discovery speaks it.
//!
//! ```text
//!   0      1      2      4           8             24
//!   | 135  | 0    | csum | 0         | target      | options     solicitation
//!   | 136  | 0    | csum | R S O  0  | target      | options     advertisement
//!   option: | type | length / 8 | ...     1 source, 2 target link-layer address
//! ```

use crate::checksum::Sum;
use crate::{Addr, Mac, Malformed, ipv6};

/// The hop limit that no router lets through: who sends it is on the link (section 3.1).
pub const HOP_LIMIT: u8 = 255;
/// Bytes of a solicitation or advertisement with one address option.
pub const MESSAGE: usize = 32;

/// Type of a redirect: the last one of neighbour discovery.
const REDIRECT: u8 = 137;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A message of neighbour discovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// "Who has the target address?"
    Solicitation {
        /// The address asked for.
        target: Addr,
        /// The asker's Ethernet address.
        mac: Option<Mac>,
    },
    /// "I have."
    Advertisement {
        /// The address in question.
        target: Addr,
        /// Its Ethernet address.
        mac: Option<Mac>,
        /// The sender forwards packets.
        router: bool,
        /// It answers a question.
        solicited: bool,
        /// What is known otherwise is to be forgotten.
        replace: bool,
    },
    /// Routers, speak up.
    RouterSolicitation,
    /// A router speaks of itself and its networks.
    RouterAdvertisement,
    /// A router knows a better way.
    Redirect,
}

/// Whether an ICMPv6 type is neighbour discovery's.
pub const fn is_kind(kind: u8) -> bool {
    kind >= ROUTER_SOLICITATION && kind <= REDIRECT
}

/// Reads a message, given whole with its ICMPv6 header, whose checksum has been verified. The caller has checked the hop limit.
///
/// # Errors
/// [`Malformed::Truncated`], [`Malformed::Version`] for other types and codes, [`Malformed::Address`] for a target that is a group,
/// [`Malformed::Option`] for one without length or beyond the message (sections 6.1, 7.1, 8.1).
pub fn parse(message: &[u8]) -> Result<Message, Malformed> {
    let kind = *message.first().ok_or(Malformed::Truncated)?;
    if message.get(1) != Some(&0) {
        return Err(Malformed::Version);
    }
    match kind {
        SOLICITATION | ADVERTISEMENT => {}
        ROUTER_SOLICITATION => return mac_option(message, 8, 0).map(|_| Message::RouterSolicitation),
        ROUTER_ADVERTISEMENT => return mac_option(message, 16, 0).map(|_| Message::RouterAdvertisement),
        REDIRECT => return mac_option(message, 40, 0).map(|_| Message::Redirect),
        _ => return Err(Malformed::Version),
    }
    let target = message.get(8..).and_then(|rest| rest.first_chunk()).ok_or(Malformed::Truncated)?;
    let target = Addr::from_wire_v6(target).filter(|t| !t.is_multicast()).ok_or(Malformed::Address)?;
    if kind == SOLICITATION {
        return Ok(Message::Solicitation { target, mac: mac_option(message, 24, SOURCE_MAC)? });
    }
    let flag = |bit: u8| message[4] & bit != 0;
    Ok(Message::Advertisement {
        target,
        mac: mac_option(message, 24, TARGET_MAC)?,
        router: flag(ROUTER),
        solicited: flag(SOLICITED),
        replace: flag(OVERRIDE),
    })
}

/// The Ethernet address in the option `wanted`, if it is among those that begin at `at`. All of them are checked.
fn mac_option(message: &[u8], at: usize, wanted: u8) -> Result<Option<Mac>, Malformed> {
    let mut rest = message.get(at..).ok_or(Malformed::Truncated)?;
    let mut mac = None;
    while !rest.is_empty() {
        let len = rest.get(1).map(|len| usize::from(*len) * 8).filter(|len| *len > 0).ok_or(Malformed::Option)?;
        let option = rest.get(..len).ok_or(Malformed::Option)?;
        if option[0] == wanted && wanted != 0 && len == 8 {
            mac = option[2..].first_chunk().map(|m| Mac(*m));
        }
        rest = &rest[len..];
    }
    Ok(mac)
}

impl Message {
    /// Writes a solicitation or advertisement, sent between these addresses, with its ICMPv6 header and checksum to the front of `out`, and
    /// returns its length (24 or 32). The other messages are never sent: nothing is written. Panics if `out` is shorter.
    pub fn emit(&self, src: &Addr, dst: &Addr, out: &mut [u8]) -> usize {
        let (kind, flags, target, option, mac) = match *self {
            Message::Solicitation { target, mac } => (SOLICITATION, 0, target, SOURCE_MAC, mac),
            Message::Advertisement { target, mac, router, solicited, replace } => {
                let flag = |on: bool, bit: u8| if on { bit } else { 0 };
                let flags = flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(replace, OVERRIDE);
                (ADVERTISEMENT, flags, target, TARGET_MAC, mac)
            }
            _ => return 0,
        };
        let out = &mut out[..if mac.is_some() { MESSAGE } else { MESSAGE - 8 }];
        out.fill(0);
        (out[0], out[4]) = (kind, flags);
        out[8..24].copy_from_slice(&target.octets());
        if let Some(mac) = mac {
            out[24..26].copy_from_slice(&[option, 1]);
            out[26..32].copy_from_slice(&mac.0);
        }
        let sum = Sum::pseudo_v6(src, dst, ipv6::ICMP, out.len() as u32).with(out).finish();
        out[2..4].copy_from_slice(&sum.to_be_bytes());
        out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icmpv6;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    proptest! {
        #[test]
        fn emit_then_parse(ask: bool, target: u128, mac: Option<[u8; 6]>, flags: [bool; 3]) {
            let (src, dst) = (Addr::link_local(Mac([2; 6])), Addr::ALL_NODES);
            let (target, mac) = (Addr::from(Ipv6Addr::from_bits(target >> 8 | 0x20 << 120)), mac.map(Mac));
            let [router, solicited, replace] = flags;
            let message = match ask {
                true => Message::Solicitation { target, mac },
                false => Message::Advertisement { target, mac, router, solicited, replace },
            };
            let mut bytes = [0xee; MESSAGE];
            let len = message.emit(&src, &dst, &mut bytes);
            prop_assert_eq!(parse(&bytes[..len]), Ok(message));
            let other = icmpv6::Message::Other { kind: bytes[0], code: 0 };
            prop_assert_eq!(icmpv6::parse(&src, &dst, &bytes[..len]), Ok(other));
            prop_assert!(parse(&bytes[..len - 1]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(kind in 130u8..140, mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            bytes.first_mut().into_iter().for_each(|b| *b = kind);
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn invalid_messages_are_refused() {
        let target = Addr::link_local(Mac([2; 6]));
        let mut bytes = [0; MESSAGE];
        Message::Solicitation { target, mac: Some(Mac([2; 6])) }.emit(&target, &target, &mut bytes);
        assert!(parse(&bytes).is_ok());
        let with = |at: usize, value: u8| {
            let mut bytes = bytes;
            bytes[at] = value;
            parse(&bytes)
        };
        assert_eq!(with(25, 0), Err(Malformed::Option), "an option without length");
        assert_eq!(with(25, 2), Err(Malformed::Option), "an option beyond the message");
        assert_eq!(with(1, 1), Err(Malformed::Version), "a code");
        assert_eq!(with(8, 0xff), Err(Malformed::Address), "a group as target");
    }
}
