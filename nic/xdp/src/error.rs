use std::net::IpAddr;

use sys::SysError;

/// Why an interface cannot be used by AF_XDP, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// A system call failed in a way that has no kind of its own below.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Memory for frames cannot be had.
    #[error(transparent)]
    Memory(#[from] mem::MemError),
    /// A number of queues that makes no sense.
    #[error("an interface has 1 to 64 queues for us, not {0}; ask for as many as elastic threads")]
    Queues(u16),
    /// More ports than the program is to compare.
    #[error("{0} ports are too many for a filter, {max} at most", max = crate::MAX_PORTS)]
    Ports(usize),
    /// No such interface.
    #[error(
        "there is no interface {name} in this network namespace; `ip link` lists them, --netns NAME enters another one"
    )]
    Missing {
        /// The name.
        name: String,
    },
    /// The interface is switched off.
    #[error("interface {name} is down: ip link set {name} up")]
    Down {
        /// Its name.
        name: String,
    },
    /// A frame of this MTU does not fit a buffer of ours.
    #[error("interface {name} has an MTU of {mtu}; AF_XDP frames hold {max} at most: ip link set {name} mtu {max}")]
    Mtu {
        /// Its name.
        name: String,
        /// Its MTU.
        mtu: u32,
        /// The largest that fits.
        max: u32,
    },
    /// The kernel's own stack has one of our addresses there.
    #[error(
        "the kernel has {address} on {name} itself, and would lose it to us; take another address (--addr), name the ports that are to be ours (--nic xdp:{name},ports), or: ip addr del {address} dev {name}"
    )]
    Taken {
        /// Its name.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// Somebody's XDP program is there.
    #[error(
        "interface {name} runs another XDP program ({program}, id {id}); end its owner, or: ip link set {name} xdp off"
    )]
    InUse {
        /// The interface.
        name: String,
        /// The program's name.
        program: String,
        /// The program's number.
        id: u32,
    },
    /// Somebody has an AF_XDP socket on a queue.
    #[error("queue {queue} of {name} belongs to another AF_XDP socket; end its owner")]
    QueueInUse {
        /// The interface.
        name: String,
        /// The queue.
        queue: u16,
    },
    /// There are more or fewer receive queues than we were told to use, or fewer transmit queues.
    #[error(
        "interface {name} has {has} receive queue(s) and {tx} transmit queue(s), and {wanted} elastic thread(s) want one of each; use -t {has}, or: ethtool -L {name} {}",
        .channels.replace('N', &.wanted.to_string())
    )]
    QueueCount {
        /// The interface.
        name: String,
        /// Threads.
        wanted: u16,
        /// Receive queues.
        has: u32,
        /// Transmit queues.
        tx: u32,
        /// How `ethtool -L` calls them.
        channels: &'static str,
    },
    /// A privilege is missing.
    #[error("{0}; AF_XDP needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF in the first user namespace: run as root")]
    Privilege(SysError),
    /// The kernel is not able to.
    #[error("{0}; AF_XDP as used here needs Linux 5.9 or later, built with CONFIG_XDP_SOCKETS")]
    Kernel(SysError),
    /// The driver runs no XDP program in the mode asked for.
    #[error(
        "interface {name} takes no XDP program: {tried}; `--nic xdp:{name}` tries all modes, and MTU and offloads may be in the way"
    )]
    NoMode {
        /// The interface.
        name: String,
        /// Each mode, and the refusal.
        tried: String,
    },
}
