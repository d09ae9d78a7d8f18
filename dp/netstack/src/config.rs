use wire::{Ipv4Addr, Mac};

/// How many buffers each core reserves at start.
#[derive(Clone, Copy, Debug)]
pub struct PoolSizes {
    /// Receive buffers of 2 KiB.
    pub rx: u32,
    /// Receive buffers of 64 KiB, for the super-frames of NICs with large receive.
    pub spill: u32,
    /// Transmit buffers of 2 KiB, out of which applications fill their replies.
    pub tx: u32,
    /// Buffers of 256 B, into which small half-received requests are moved so that they pin no receive buffer.
    pub small: u32,
}

impl Default for PoolSizes {
    fn default() -> PoolSizes {
        PoolSizes { rx: 8192, spill: 48, tx: 8192, small: 16384 }
    }
}

/// What a stack is told at start. One value serves all cores of a dataplane.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Our hardware address.
    pub mac: Mac,
    /// Our address.
    pub ip: Ipv4Addr,
    /// The length of our network's prefix.
    pub prefix: u8,
    /// The next hop to addresses outside of the prefix; without it they are unreachable.
    pub gateway: Option<Ipv4Addr>,
    /// The TCP engine's parameters.
    pub tcp: tcp::Config,
    /// Connections at most, half-open ones not counted, over all cores.
    pub max_conns: usize,
    /// Half-open entries at most, over all cores; SYN cookies beyond.
    pub backlog: usize,
    /// TCP ports that are listened on, on every elastic thread.
    pub tcp_ports: Vec<u16>,
    /// UDP ports that are served.
    pub udp_ports: Vec<u16>,
    /// Buffers per core.
    pub pools: PoolSizes,
    /// Connections per core that may have out-of-order data or a loss under repair at a time, with full means ([`tcp::Records`]).
    pub records: usize,
    /// Connections and datagrams that one batch may carry, and frames that one pass receives: B.
    pub batch: usize,
}

impl StackConfig {
    /// A configuration with the defaults of everything but the addresses.
    pub fn new(mac: Mac, ip: Ipv4Addr, prefix: u8) -> StackConfig {
        StackConfig {
            mac,
            ip,
            prefix,
            gateway: None,
            tcp: tcp::Config::default(),
            max_conns: 16 * 1024,
            backlog: 4096,
            tcp_ports: Vec::new(),
            udp_ports: Vec::new(),
            pools: PoolSizes::default(),
            records: 1024,
            batch: 64,
        }
    }

    /// The addresses as the data path wants them.
    pub(crate) fn network(&self) -> Network {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        let broadcast = if self.prefix < 31 { self.ip.to_bits() | !mask } else { u32::MAX };
        Network { ip: self.ip.to_bits(), mask, broadcast }
    }
}

/// Our place in the network, worked out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    ip: u32,
    mask: u32,
    broadcast: u32,
}

impl Network {
    /// Whether `ip` is on our network.
    #[inline]
    pub(crate) fn on_link(&self, ip: Ipv4Addr) -> bool {
        (ip.to_bits() ^ self.ip) & self.mask == 0
    }

    /// Whether `ip` can be a peer (RFC 1122 section 3.2.1.3): no host sends from, and nobody sends to, ourselves, a
    /// broadcast address, 0.0.0.0/8, 127.0.0.0/8, multicast and what lies above.
    #[inline]
    pub(crate) fn is_host(&self, ip: Ipv4Addr) -> bool {
        let (n, first) = (ip.to_bits(), ip.to_bits() >> 24);
        n != self.ip && n != self.broadcast && (1..224).contains(&first) && first != 127
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_addresses_that_nobody_may_use() {
        let c = StackConfig::new(Mac::ZERO, Ipv4Addr::new(198, 18, 0, 2), 24).network();
        for bad in
            [[198, 18, 0, 2], [198, 18, 0, 255], [255, 255, 255, 255], [224, 0, 0, 1], [0, 0, 0, 1], [127, 0, 0, 1]]
        {
            assert!(!c.is_host(bad.into()), "{bad:?}");
        }
        assert!(c.is_host([198, 18, 0, 1].into()) && c.is_host([10, 0, 0, 255].into()));
        assert!(c.on_link([198, 18, 0, 77].into()) && !c.on_link([198, 18, 1, 2].into()));
    }
}
