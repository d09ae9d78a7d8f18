//! Our place in the network, worked out once: which addresses are ours, who is a neighbour, who can be a peer at all.

use wire::{Addr, Mac, Tuple};

use crate::config::{Network, StackConfig};

/// One of our addresses, by its position, with a bit that says that it is IPv6: what a connection keeps of its own end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct LocalId(pub(crate) u8);

/// The bit of IPv6 in a [`LocalId`].
const V6: u8 = 0x80;

impl LocalId {
    fn new(position: usize, addr: &Addr) -> LocalId {
        LocalId(position as u8 | if addr.is_v4() { 0 } else { V6 })
    }
}

/// Both ends of a flow as a connection keeps them: 24 bytes for either family.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Ends {
    pub(crate) remote: Addr,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    pub(crate) local: LocalId,
}

const _: () = assert!(size_of::<Ends>() == 24);

impl Ends {
    /// Whether the flow is IPv4's.
    #[inline(always)]
    pub(crate) fn is_v4(&self) -> bool {
        self.local.0 & V6 == 0
    }
}

/// One of our IPv4 addresses as most packets ask for it.
#[derive(Clone, Copy, Debug)]
struct OwnV4 {
    ip: u32,
    broadcast: u32,
}

/// One of our addresses and its network, as masks over 128 bits.
#[derive(Clone, Copy, Debug)]
struct Own {
    addr: Addr,
    high: u64,
    low: u64,
    high_mask: u64,
    low_mask: u64,
    /// Nobody's address: the network's broadcast (IPv4).
    broadcast: Addr,
}

impl Own {
    fn new(network: &Network) -> Own {
        let Network { address: addr, prefix } = *network;
        let bits = if addr.is_v4() { 96 + u32::from(prefix.min(32)) } else { u32::from(prefix.min(128)) };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let ((high, low), (high_mask, low_mask)) = (addr.halves(), ((mask >> 64) as u64, mask as u64));
        let host = (!low_mask) as u32;
        let broadcast = match addr.to_v4() {
            Some(ip) if prefix < 31 => (ip | std::net::Ipv4Addr::from_bits(host)).into(),
            _ => std::net::Ipv4Addr::BROADCAST.into(),
        };
        Own { addr, high, low, high_mask, low_mask, broadcast }
    }

    #[inline(always)]
    fn on_link(&self, addr: &Addr) -> bool {
        let (high, low) = addr.halves();
        ((high ^ self.high) & self.high_mask) | ((low ^ self.low) & self.low_mask) == 0
    }
}

/// All of our addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    ours: Box<[Own]>,
    /// The IPv4 ones among them, which come first.
    v4: Box<[OwnV4]>,
    gateway_v4: Option<Addr>,
    gateway_v6: Option<Addr>,
    v6: bool,
}

impl Addresses {
    /// The addresses of a configuration, and a link-local one if there is IPv6 (RFC 4291 section 2.8).
    pub(crate) fn new(config: &StackConfig) -> Addresses {
        let mut all = config.addresses.clone();
        let v6 = all.iter().any(|n| !n.address.is_v4());
        if v6 && !all.iter().any(|n| n.address.is_link_local()) {
            all.push(Network { address: Addr::link_local(config.mac), prefix: 64 });
        }
        // What is usual is looked at first.
        all.sort_by_key(|n| !n.address.is_v4());
        let ours: Box<[Own]> = all.iter().map(Own::new).collect();
        let four = ours.iter().filter(|own| own.addr.is_v4());
        Addresses {
            v4: four.map(|own| OwnV4 { ip: own.addr.low32(), broadcast: own.broadcast.low32() }).collect(),
            ours,
            gateway_v4: config.gateway.map(Addr::from),
            gateway_v6: config.gateway_v6.map(Addr::from),
            v6,
        }
    }

    /// Whether IPv6 is spoken.
    #[inline]
    pub(crate) fn v6(&self) -> bool {
        self.v6
    }

    /// Which of ours this is.
    #[inline]
    pub(crate) fn find(&self, addr: &Addr) -> Option<LocalId> {
        self.ours.iter().position(|own| own.addr == *addr).map(|i| LocalId::new(i, addr))
    }

    /// As [`Addresses::find`], for IPv4.
    #[inline(always)]
    pub(crate) fn find_v4(&self, ip: u32) -> Option<LocalId> {
        self.v4.iter().position(|own| own.ip == ip).map(|i| LocalId(i as u8))
    }

    /// One of our addresses.
    #[inline(always)]
    pub(crate) fn addr(&self, id: LocalId) -> Addr {
        self.ours.get(usize::from(id.0 & !V6)).map_or(Addr::UNSPECIFIED, |own| own.addr)
    }

    #[inline]
    pub(crate) fn tuple(&self, ends: &Ends) -> Tuple {
        let Ends { remote, remote_port, local_port, local } = *ends;
        Tuple { local: self.addr(local), remote, local_port, remote_port }
    }

    /// The ends of a flow; `None` if its local end is not ours.
    pub(crate) fn ends(&self, t: &Tuple) -> Option<Ends> {
        let local = self.find(&t.local)?;
        Some(Ends { remote: t.remote, remote_port: t.remote_port, local_port: t.local_port, local })
    }

    /// Whether `addr` is on one of our networks, or link-local.
    #[inline]
    pub(crate) fn on_link(&self, addr: &Addr) -> bool {
        self.ours.iter().any(|own| own.on_link(addr)) || addr.is_link_local()
    }

    /// Whether `addr` can be a peer (RFC 1122 section 3.2.1.3; RFC 4291 sections 2.5.2, 2.5.3, 2.7): no host sends from, and nobody sends
    /// to, ourselves, a broadcast address, 0.0.0.0/8, 127.0.0.0/8, multicast and what lies above; `::`, `::1`, the IPv4-compatible
    /// addresses, multicast.
    pub(crate) fn is_host(&self, addr: &Addr) -> bool {
        if addr.is_v4() {
            return self.is_host_v4(addr.low32());
        }
        let (high, low) = addr.halves();
        let shape = self.v6 && !addr.is_multicast() && (high != 0 || low >> 32 != 0);
        shape && !self.ours.iter().any(|own| own.addr == *addr)
    }

    /// As [`Addresses::is_host`], for IPv4.
    #[inline(always)]
    pub(crate) fn is_host_v4(&self, ip: u32) -> bool {
        let first = ip >> 24;
        (1..224).contains(&first) && first != 127 && !self.v4.iter().any(|own| own.ip == ip || own.broadcast == ip)
    }

    /// Where packets for `addr` go next. Without a gateway for what is not on the link, `addr` itself is asked for, in vain.
    #[inline]
    pub(crate) fn next_hop(&self, addr: &Addr) -> Addr {
        if self.on_link(addr) {
            return *addr;
        }
        if addr.is_v4() { self.gateway_v4 } else { self.gateway_v6 }.unwrap_or(*addr)
    }

    /// The address from which to speak to `addr` (RFC 6724 section 5, rules 2 and 8 in short): of its network, else of its scope, else none.
    pub(crate) fn source_for(&self, addr: &Addr) -> Option<LocalId> {
        let suits = |own: &Own| {
            let family = own.addr.is_v4() == addr.is_v4();
            let scope = own.addr.is_link_local() == (addr.is_link_local() || addr.is_multicast());
            (family, own.on_link(addr), scope)
        };
        let best = self.ours.iter().enumerate().max_by_key(|(i, own)| (suits(own), usize::MAX - i))?;
        suits(best.1).0.then_some(LocalId::new(best.0, addr))
    }

    /// Whether we belong to the group: all nodes, or those asked for one of our addresses (RFC 4291 section 2.8).
    pub(crate) fn hears(&self, group: &Addr) -> bool {
        let asked_for = |own: &Own| !own.addr.is_v4() && own.addr.solicited_node() == *group;
        self.v6 && (*group == Addr::ALL_NODES || self.ours.iter().any(asked_for))
    }

    /// Whether frames to this group address are for us.
    pub(crate) fn hears_mac(&self, mac: Mac) -> bool {
        let asked_for = |own: &Own| !own.addr.is_v4() && Mac::of_group(&own.addr.solicited_node()) == mac;
        self.v6 && (mac == Mac::of_group(&Addr::ALL_NODES) || self.ours.iter().any(asked_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn both() -> Addresses {
        let mut config =
            StackConfig::new(Mac([2, 0, 0, 0, 0, 1]), addr("2001:2::2"), 64).with_address(addr("198.18.0.2"), 24);
        config.gateway_v6 = Some("fe80::1".parse().unwrap());
        Addresses::new(&config)
    }

    #[test]
    fn hosts_are_told_from_addresses_that_nobody_may_use() {
        let a = both();
        for bad in ["198.18.0.2", "198.18.0.255", "255.255.255.255", "224.0.0.1", "0.0.0.1", "127.0.0.1"] {
            assert!(!a.is_host(&addr(bad)), "{bad}");
        }
        for bad in ["::", "::1", "::198.18.0.1", "ff02::1", "2001:2::2", "fe80::ff:fe00:1"] {
            assert!(!a.is_host(&addr(bad)), "{bad}");
        }
        for good in ["198.18.0.1", "10.0.0.255", "2001:2::1", "fe80::1", "64:ff9b::c612:1"] {
            assert!(a.is_host(&addr(good)), "{good}");
        }
        let v4 = Addresses::new(&StackConfig::new(Mac::ZERO, addr("198.18.0.2"), 24));
        assert!(!v4.is_host(&addr("2001:2::1")) && !v4.hears(&Addr::ALL_NODES), "no IPv6 without an address");
    }

    #[test]
    fn neighbours_are_told_from_the_rest() {
        let a = both();
        for near in ["198.18.0.77", "2001:2::77", "fe80::77"] {
            assert_eq!(a.next_hop(&addr(near)), addr(near));
        }
        assert_eq!(a.next_hop(&addr("2001:2:0:1::1")), addr("fe80::1"));
        assert_eq!(a.next_hop(&addr("198.18.1.1")), addr("198.18.1.1"), "no gateway");
    }

    #[test]
    fn the_source_is_of_the_peers_network() {
        let a = both();
        let source = |to| a.source_for(&addr(to)).map(|id| a.addr(id));
        assert_eq!(source("198.19.0.1"), Some(addr("198.18.0.2")));
        assert_eq!(source("2001:2::1"), Some(addr("2001:2::2")));
        assert_eq!(source("2001:db8::1"), Some(addr("2001:2::2")));
        assert_eq!(source("fe80::9"), Some(addr("fe80::ff:fe00:1")));
        let v4 = Addresses::new(&StackConfig::new(Mac::ZERO, addr("198.18.0.2"), 24));
        assert_eq!(v4.source_for(&addr("2001:2::1")), None);
    }

    #[test]
    fn groups() {
        let a = both();
        for ours in ["ff02::1", "ff02::1:ff00:2", "ff02::1:ff00:1"] {
            assert!(a.hears(&addr(ours)) && a.hears_mac(Mac::of_group(&addr(ours))), "{ours}");
        }
        assert!(!a.hears(&addr("ff02::2")) && !a.hears_mac(Mac([0x33, 0x33, 0xff, 0, 0, 3])));
    }
}
