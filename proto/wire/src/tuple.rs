use std::fmt;
use std::net::Ipv4Addr;

use crate::{be16, be32, ethernet, ipv4};

/// The four names of a flow, as one of its ends sees them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// This end's address.
    pub local: Ipv4Addr,
    /// The other end's address.
    pub remote: Ipv4Addr,
    /// This end's port.
    pub local_port: u16,
    /// The other end's port.
    pub remote_port: u16,
}

/// Nobody's flow: all zeros.
impl Default for Tuple {
    fn default() -> Tuple {
        let nobody = Ipv4Addr::UNSPECIFIED;
        Tuple { local: nobody, remote: nobody, local_port: 0, remote_port: 0 }
    }
}

impl Tuple {
    /// The same flow as the other end sees it.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Tuple {
        Tuple { local: self.remote, remote: self.local, local_port: self.remote_port, remote_port: self.local_port }
    }

    /// The 12 bytes that RSS hashes for a frame *arriving* on this flow: source and destination address, source and
    /// destination port, in network order.
    #[inline]
    pub const fn rss_input(&self) -> [u8; 12] {
        let [a, b, c, d] = self.remote.octets();
        let [e, f, g, h] = self.local.octets();
        let [i, j] = self.remote_port.to_be_bytes();
        let [k, l] = self.local_port.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// The flow of an Ethernet frame, as its receiver sees it: the names that a NIC's RSS would read.
    ///
    /// `None` when the frame is not TCP or UDP over IPv4, is a fragment (its ports are elsewhere), or is too short.
    /// Checks nothing else; about 3 ns.
    #[inline]
    pub fn of_frame(frame: &[u8]) -> Option<Tuple> {
        let head: &[u8; ethernet::HEADER + ipv4::HEADER] = frame.first_chunk()?;
        if be16(head, 12) != ethernet::IPV4 || head[14] >> 4 != 4 {
            return None;
        }
        let fragment = be16(head, 20) & (ipv4::MF | ipv4::OFFSET_MASK) != 0;
        if fragment || !matches!(head[23], ipv4::TCP | ipv4::UDP) {
            return None;
        }
        let ports: &[u8; 4] = frame.get(ethernet::HEADER + usize::from(head[14] & 15) * 4..)?.first_chunk()?;
        Some(Tuple {
            local: Ipv4Addr::from_bits(be32(head, 30)),
            remote: Ipv4Addr::from_bits(be32(head, 26)),
            local_port: be16(ports, 2),
            remote_port: be16(ports, 0),
        })
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}<-{}:{}", self.local, self.local_port, self.remote, self.remote_port)
    }
}
