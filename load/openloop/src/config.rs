use requests::Workload;
use sys::clock::Clock;
use units::Nanos;
use wire::{Ipv4Addr, Mac};

/// The first port that clients use.
pub(crate) const PORT_MIN: u16 = 10_000;
/// Ports per client address.
pub(crate) const PORTS: u32 = 65_536 - PORT_MIN as u32;
/// Queues at most: more cores than these benches are for.
pub const QUEUES_MAX: u16 = 64;
/// The largest message or value, in bytes. A segment of a large request is cut out of the whole request each time its turn comes.
const MESSAGE_MAX: u32 = 1 << 20;

/// An end of the emulated network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// Hardware address.
    pub mac: Mac,
    /// IPv4 address.
    pub ip: Ipv4Addr,
}

/// What the NIC is to be: fixed for its life, but for the workload ([`Director::ask`](crate::Director::ask)).
#[derive(Clone, Debug)]
pub struct Config {
    /// Queue pairs, one per elastic thread: 1 to 64.
    pub queues: u16,
    /// TCP connections, all queues together; each queue gets the same number (rounded up).
    pub connections: u32,
    /// What is asked.
    pub workload: Workload,
    /// The server's port.
    pub port: u16,
    /// The server. The stack on this NIC must be told the same addresses, with a prefix that holds those of the clients.
    pub server: Host,
    /// The client, and the first of its addresses.
    pub client: Host,
    /// How many addresses the client has, one after the other: each has 55 536 ports.
    pub addresses: u16,
    /// Where the random numbers begin.
    pub seed: u64,
    /// By which requests are due and replies are timed.
    pub clock: Clock,
    /// Once flow groups have moved, requests leave one by one in the order in which they were made, and each lane has its part of a burst's room: nobody waits for
    /// much longer than others in overload. Where time is measured that costs more than it is worth: without, a poll takes lanes one after the other, and of a
    /// connection all that it has.
    pub in_order: bool,
}

impl Config {
    /// 1024 connections to port 7 of 198.18.0.2, from 198.18.0.3.
    pub fn new(queues: u16, workload: Workload) -> Config {
        Config {
            queues,
            connections: 1024,
            workload,
            port: 7,
            server: Host { mac: Mac::local(2), ip: Ipv4Addr::new(198, 18, 0, 2) },
            client: Host { mac: Mac::local(3), ip: Ipv4Addr::new(198, 18, 0, 3) },
            addresses: 1,
            seed: 1,
            clock: Clock::Machine,
            in_order: false,
        }
    }

    /// Connections of each queue.
    pub(crate) fn per_queue(&self) -> u32 {
        self.connections.div_ceil(u32::from(self.queues).max(1))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=QUEUES_MAX).contains(&self.queues) {
            return Err(ConfigError::Queues(self.queues));
        }
        if self.connections == 0 {
            return Err(ConfigError::NoConnections);
        }
        if self.port == 0 {
            return Err(ConfigError::Port);
        }
        check_workload(&self.workload)?;
        let (first, count) = (self.client.ip.to_bits(), u32::from(self.addresses));
        let end = first.checked_add(count).filter(|_| count > 0).ok_or(ConfigError::Addresses(self.addresses))?;
        if (first..end).contains(&self.server.ip.to_bits()) || self.client.mac == self.server.mac {
            return Err(ConfigError::Overlap {
                server: self.server.ip,
                client: self.client.ip,
                addresses: self.addresses,
            });
        }
        let ports = u64::from(count) * u64::from(PORTS);
        if u64::from(self.connections) > ports {
            return Err(ConfigError::Ports { connections: self.connections, ports, addresses: self.addresses });
        }
        Ok(())
    }
}

pub(crate) fn check_workload(workload: &Workload) -> Result<(), ConfigError> {
    workload.check().map_err(ConfigError::Workload)?;
    let largest = match workload {
        Workload::Echo(echo) => echo.size.max(),
        Workload::Kv(kv) => kv.value.max(),
        Workload::Spin(_) => 0,
    };
    if largest > MESSAGE_MAX {
        return Err(ConfigError::Message(largest));
    }
    Ok(())
}

/// Why there is no such NIC.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// None, or too many.
    #[error("{0} queues on an open-loop NIC; use 1 to {QUEUES_MAX}, one per elastic thread")]
    Queues(u16),
    /// Nothing to send on.
    #[error("no connections on an open-loop NIC: at least 1 is needed")]
    NoConnections,
    /// Nobody listens there.
    #[error("port 0 is nobody's; name the port that the server listens on")]
    Port,
    /// Not a range of addresses.
    #[error("{0} client addresses: use at least 1, and no more than follow the first one")]
    Addresses(u16),
    /// Both ends would be the same.
    #[error(
        "the server ({server}) and the client ({addresses} address(es) from {client} on) must differ, hardware addresses too"
    )]
    Overlap {
        /// The server's address.
        server: Ipv4Addr,
        /// The client's first.
        client: Ipv4Addr,
        /// How many it has.
        addresses: u16,
    },
    /// Each connection needs a port of its own.
    #[error(
        "{connections} connections, but only {ports} ports on {addresses} client address(es): fewer connections, or more addresses"
    )]
    Ports {
        /// Those wanted.
        connections: u32,
        /// Those to be had.
        ports: u64,
        /// The client's addresses.
        addresses: u16,
    },
    /// Every flow belongs to the queue that its hash names, and too few belong to one of them.
    #[error(
        "only {found} of {wanted} connections for queue {queue} on {addresses} client address(es): fewer connections, or more addresses"
    )]
    Flows {
        /// The queue.
        queue: u16,
        /// Flows that it owns.
        found: usize,
        /// Those wanted.
        wanted: usize,
        /// The client's addresses.
        addresses: u16,
    },
    /// What is asked makes no sense.
    #[error("{0}")]
    Workload(String),
    /// Too large for a generator without a client machine.
    #[error("messages of {0} B; an open-loop NIC makes at most {MESSAGE_MAX} B")]
    Message(u32),
}

/// Why there is no load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenLoopError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Drive(String),
    /// The workload cannot be asked.
    #[error(transparent)]
    Workload(#[from] ConfigError),
    /// The server did not let all connections in.
    #[error(
        "{open} of {wanted} connections open after {after:?}, {refused} refused; does the server listen on port {port}?"
    )]
    Connect {
        /// Those open.
        open: u32,
        /// Those wanted.
        wanted: u32,
        /// Those answered with RST.
        refused: u64,
        /// How long it was tried.
        after: Nanos,
        /// The server's port.
        port: u16,
    },
    /// The server does not store records.
    #[error("the server does not store records: {0}")]
    Preload(String),
    /// Somebody asked for the end.
    #[error("interrupted")]
    Stopped,
    /// The server does not poll.
    #[error("queue {0} has not been polled in time: is its elastic thread running?")]
    Silent(usize),
    /// The server has ended.
    #[error("queue {0} is gone: its dataplane has been stopped")]
    Gone(usize),
}
