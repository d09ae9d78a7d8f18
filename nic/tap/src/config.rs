use std::net::IpAddr;

use wire::Mac;

/// What to open. [`TapConfig::new`] fills in the usual.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapConfig {
    /// The interface's name in Linux, 1 to 15 characters.
    pub name: String,
    /// Queue pairs: one per elastic thread, 1 to 256.
    pub queues: u16,
    /// Use the virtio header: partial checksums, super-frames. Off, frames are plain and every checksum is real.
    pub vnet: bool,
    /// Leave the steering to the network layer, even where bpf(2) is allowed.
    pub software_steering: bool,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Frames that wait in the kernel for each queue at most.
    pub queue_len: u32,
    /// Linux's addresses on the link and their prefixes, as far as they are to be set.
    pub host_addrs: Vec<(IpAddr, u8)>,
    /// Linux's Ethernet address on the link; drawn by the kernel if `None`.
    pub host_mac: Option<Mac>,
    /// Our Ethernet address; drawn if `None`.
    pub mac: Option<Mac>,
}

impl TapConfig {
    /// A device with the virtio header, an MTU of 1500, steering if allowed, and no address.
    pub fn new(name: impl Into<String>, queues: u16) -> TapConfig {
        TapConfig {
            name: name.into(),
            queues,
            vnet: true,
            software_steering: false,
            mtu: 1500,
            queue_len: 4096,
            host_addrs: Vec::new(),
            host_mac: None,
            mac: None,
        }
    }
}
