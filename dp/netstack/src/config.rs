use mem::Pages;
use wire::{Addr, Ipv4Addr, Ipv6Addr, Mac};

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

/// An address of ours, and how many bits of it are its network's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The address.
    pub address: Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
}

/// What a stack is told at start. One value serves all cores of a dataplane.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Our hardware address.
    pub mac: Mac,
    /// Our addresses, of either family: 254 at most. Where one is IPv6, there is a link-local one as well.
    pub addresses: Vec<Network>,
    /// The next hop to IPv4 addresses outside of our networks; without it they are unreachable.
    pub gateway: Option<Ipv4Addr>,
    /// The next hop to IPv6 addresses outside of our networks.
    ///
    /// Deviation: it is configured; router advertisements are not heeded (RFC 4861 section 6.3.4), for whoever is on the link could
    /// send them (RFC 6104).
    pub gateway_v6: Option<Ipv6Addr>,
    /// The TCP engine's parameters. Its segment size is IPv4's; IPv6's is 20 less, for its header is longer.
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
    /// Which pages connections, and the tables that find them, lie in.
    pub pages: Pages,
    /// Connections and datagrams that one batch may carry, and frames that one pass receives: B.
    pub batch: usize,
}

impl StackConfig {
    /// A configuration with the defaults of everything but the addresses.
    pub fn new(mac: Mac, ip: impl Into<Addr>, prefix: u8) -> StackConfig {
        StackConfig {
            mac,
            addresses: vec![Network { address: ip.into(), prefix }],
            gateway: None,
            gateway_v6: None,
            tcp: tcp::Config::default(),
            max_conns: 16 * 1024,
            backlog: 4096,
            tcp_ports: Vec::new(),
            udp_ports: Vec::new(),
            pools: PoolSizes::default(),
            records: 1024,
            pages: Pages::default(),
            batch: 64,
        }
    }

    /// One more address.
    #[must_use]
    pub fn with_address(mut self, ip: impl Into<Addr>, prefix: u8) -> StackConfig {
        self.addresses.push(Network { address: ip.into(), prefix });
        self
    }
}
