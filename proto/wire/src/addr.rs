use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of either family in 16 bytes: IPv6 as it is, IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
///
/// ```text
///   IPv4   0                          | 0xffff | a.b.c.d
///   IPv6   high 64 bits               | low 64 bits
/// ```
///
/// An IPv6 packet that carries such a mapped address would pass for IPv4: receivers refuse it ([`Addr::from_wire_v6`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Addr {
    high: u64,
    low: u64,
}

const MAPPED: u64 = 0xffff << 32;

impl Addr {
    /// Nobody's address: IPv6's `::`.
    pub const UNSPECIFIED: Addr = Addr { high: 0, low: 0 };
    /// All nodes on the link (RFC 4291 section 2.7.1).
    pub const ALL_NODES: Addr = Addr { high: 0xff02 << 48, low: 1 };

    /// An IPv4 address.
    #[inline]
    pub const fn v4(ip: Ipv4Addr) -> Addr {
        Addr { high: 0, low: MAPPED | ip.to_bits() as u64 }
    }

    /// An IPv6 address; a mapped one becomes IPv4.
    #[inline]
    pub const fn v6(ip: Ipv6Addr) -> Addr {
        let bits = ip.to_bits();
        Addr { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// The 16 bytes of an IPv6 header's field. `None` for an IPv4-mapped address, which has no business on the wire.
    #[inline]
    pub fn from_wire_v6(bytes: &[u8; 16]) -> Option<Addr> {
        let addr = Addr::of_bytes(bytes);
        (!addr.is_v4()).then_some(addr)
    }

    #[inline]
    const fn of_bytes(bytes: &[u8; 16]) -> Addr {
        let bits = u128::from_be_bytes(*bytes);
        Addr { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// Whether it is IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }

    /// The IPv4 address, if it is one.
    #[inline]
    pub const fn to_v4(self) -> Option<Ipv4Addr> {
        if self.is_v4() { Some(Ipv4Addr::from_bits(self.low as u32)) } else { None }
    }

    /// The lower 32 bits: all of an IPv4 address.
    #[inline]
    pub const fn low32(&self) -> u32 {
        self.low as u32
    }

    /// The address of these halves: what [`Addr::halves`] told.
    #[inline]
    pub const fn from_halves(high: u64, low: u64) -> Addr {
        Addr { high, low }
    }

    /// The lower 32 bits as an IPv4 address, for whoever knows that it is one.
    #[inline]
    pub const fn low_v4(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.low as u32)
    }

    /// The upper and the lower half, most significant bits first.
    #[inline]
    pub const fn halves(&self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// The bytes in network order, IPv4 mapped.
    #[inline]
    pub const fn octets(&self) -> [u8; 16] {
        self.bits().to_be_bytes()
    }

    const fn bits(&self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// Whether it names a group: 224.0.0.0/4 or ff00::/8.
    #[inline]
    pub const fn is_multicast(&self) -> bool {
        if self.is_v4() { (self.low as u32) >> 28 == 14 } else { self.high >> 56 == 0xff }
    }

    /// Whether it names nobody: `::` or 0.0.0.0.
    #[inline]
    pub const fn is_unspecified(&self) -> bool {
        self.high == 0 && (self.low == 0 || self.low == MAPPED)
    }

    /// Whether it is valid on its link only: fe80::/10 (RFC 4291 section 2.5.6).
    #[inline]
    pub const fn is_link_local(&self) -> bool {
        self.high >> 54 == 0xfe80 >> 6
    }

    /// Whether both are of one family and begin with the same `prefix` bits (of 32 or of 128).
    #[inline]
    pub const fn same_network(&self, other: &Addr, prefix: u8) -> bool {
        let v4 = self.is_v4();
        if v4 != other.is_v4() {
            return false;
        }
        let bits = if v4 { 96 + prefix as u32 } else { prefix as u32 };
        let differ = self.bits() ^ other.bits();
        match 128u32.checked_sub(bits) {
            Some(host) if host < 128 => differ >> host == 0,
            Some(_) => true,
            None => differ == 0,
        }
    }

    /// The group in which the owner of this address is asked for (RFC 4291 section 2.7.1): ff02::1:ff and its last 24 bits.
    #[inline]
    pub const fn solicited_node(&self) -> Addr {
        Addr { high: 0xff02 << 48, low: 0x1_ff00_0000 | self.low & 0xff_ffff }
    }

    /// The link-local address of a station: fe80::/64 and its modified EUI-64 (RFC 4291 section 2.5.1, RFC 2464 section 5).
    pub const fn link_local(mac: crate::Mac) -> Addr {
        let [a, b, c, d, e, f] = mac.0;
        Addr { high: 0xfe80 << 48, low: u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]) }
    }
}

impl From<Ipv4Addr> for Addr {
    #[inline]
    fn from(ip: Ipv4Addr) -> Addr {
        Addr::v4(ip)
    }
}

impl From<Ipv6Addr> for Addr {
    #[inline]
    fn from(ip: Ipv6Addr) -> Addr {
        Addr::v6(ip)
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Addr {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    #[inline]
    fn from(addr: Addr) -> IpAddr {
        match addr.to_v4() {
            Some(ip) => IpAddr::V4(ip),
            None => IpAddr::V6(Ipv6Addr::from_bits(addr.bits())),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;
    use proptest::prelude::*;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn kinds_of_addresses() {
        assert!(addr("198.18.0.1").is_v4() && !addr("2001:2::1").is_v4());
        assert!(addr("::ffff:198.18.0.1") == addr("198.18.0.1"), "a mapped address is IPv4");
        assert!(addr("224.0.0.1").is_multicast() && addr("ff02::1").is_multicast() && !addr("fe80::1").is_multicast());
        assert!(addr("fe80::1").is_link_local() && addr("febf::1").is_link_local() && !addr("fec0::1").is_link_local());
        assert!(addr("::").is_unspecified() && addr("0.0.0.0").is_unspecified() && !addr("::1").is_unspecified());
        assert_eq!(Addr::ALL_NODES, addr("ff02::1"));
        assert_eq!(Addr::from_wire_v6(&addr("10.0.0.1").octets()), None);
    }

    #[test]
    fn networks() {
        assert!(addr("198.18.0.1").same_network(&addr("198.18.0.77"), 24));
        assert!(!addr("198.18.0.1").same_network(&addr("198.18.1.1"), 24));
        assert!(addr("2001:2::1").same_network(&addr("2001:2::ffff:1"), 64));
        assert!(!addr("2001:2::1").same_network(&addr("2001:2:0:1::1"), 64));
        assert!(
            addr("2001:2::1").same_network(&addr("fe80::"), 0) && !addr("2001:2::1").same_network(&addr("1.2.3.4"), 0)
        );
        assert!(addr("::1").same_network(&addr("::1"), 128) && !addr("::1").same_network(&addr("::2"), 128));
    }

    #[test]
    fn addresses_derived_from_others() {
        // The example of RFC 4291 section 2.7.1, and of RFC 2464 section 5.
        assert_eq!(addr("4037::01:800:200e:8c6c").solicited_node(), addr("ff02::1:ff0e:8c6c"));
        assert_eq!(Addr::link_local(Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde])), addr("fe80::3656:78ff:fe9a:bcde"));
        assert_eq!(Mac::of_group(&addr("ff02::1:ff0e:8c6c")), Mac([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
    }

    proptest! {
        #[test]
        fn conversions_lose_nothing(four: u32, six: u128) {
            let (four, six) = (Ipv4Addr::from_bits(four), Ipv6Addr::from_bits(six));
            prop_assert_eq!(IpAddr::from(Addr::from(four)), IpAddr::V4(four));
            prop_assert_eq!(Addr::v4(four).to_v4(), Some(four));
            prop_assert_eq!(IpAddr::from(Addr::from(six)), IpAddr::V6(six).to_canonical());
            prop_assert_eq!(Addr::v6(six).octets(), six.octets());
        }
    }
}
