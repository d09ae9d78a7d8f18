//! Bytes on the wire: Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP headers, their checksums, and the RSS hash.
//!
//! ```text
//!   frame:  ethernet [14] | ipv4 [20..60]                | tcp [20..60] | payload
//!                         | ipv6 [40], extension headers | udp [8]
//!                         | arp [28]                     | icmp, icmpv6 [8..]
//! ```
//!
//! Each protocol is a file of three parts: the *fields* (where things lie), *parse* (checks lengths once, after which
//! reading cannot panic, and returns plain values in host order) and *emit* (writes the same values back).
//! Parsers look at hostile bytes: they answer [`Malformed`], never panic, and take a time bounded by the header's length.
//! Emitters write into buffers of our own: one that is too short is our mistake and panics.
//!
//! Files: [`ethernet`], [`arp`], [`ipv4`], [`icmp`], [`ipv6`] (fixed header and chain), [`icmpv6`], [`ndp`], [`udp`], [`tcp`] (headers and
//! options), [`quote`] (what ICMP errors quote), [`checksum`] (RFC 1071), [`rss`] (Toeplitz), and here the small words: [`Seq`], [`Mac`],
//! [`Addr`], [`Tuple`], [`Malformed`].
//!
//! Absent on purpose: clocks, buffers, connections, fragments' reassembly. Whoever calls (the network stack, NIC
//! backends, load generators, test tools) owns the memory.
#![forbid(unsafe_code)]

mod addr;
pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
mod mac;
mod malformed;
pub mod ndp;
pub mod quote;
pub mod rss;
mod seq;
pub mod tcp;
mod tuple;
pub mod udp;

pub use addr::Addr;
pub use mac::Mac;
pub use malformed::Malformed;
pub use seq::Seq;
pub use std::net::{Ipv4Addr, Ipv6Addr};
pub use tuple::Tuple;

/// The two bytes at `at` as a number (network order). `at` must lie inside: callers have checked the length.
#[inline(always)]
fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at` as a number (network order). `at` must lie inside: callers have checked the length.
#[inline(always)]
fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
