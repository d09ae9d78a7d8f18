//! Ethernet frames made byte by byte, so that they can be wrong in any way. Deliberately not built on the product's own
//! wire formats: a mistake made there must not be made here, too.
//!
//! [`Frame`]s are right when they are made; a test damages bytes, then calls [`Frame::sealed`] if the checksums shall
//! be right all the same.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::os::Packets;
use crate::{CLIENT, Namespace, PATIENCE, PORT, SERVER, TAP};

/// Where the IPv4 header begins.
pub const IP: usize = 14;
/// Where the transport header begins, without IP options.
pub const L4: usize = 34;

/// TCP's flags, as they stand in the header's 14th byte.
#[allow(missing_docs, reason = "the names are RFC 9293's")]
pub mod flags {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const URG: u8 = 32;
}

/// Linux's end of the TAP, seen from below: whatever is sent here reaches the server as if from the wire.
pub struct Wire {
    packets: Packets,
    /// Linux's Ethernet address.
    pub client: [u8; 6],
    /// The server's.
    pub server: [u8; 6],
}

impl Wire {
    /// Opens it. Linux must have resolved the server's address already: connect first.
    ///
    /// # Panics
    /// When Linux has not.
    pub fn open(namespace: &Namespace) -> Wire {
        namespace.inside(|| {
            let client = sys::link::info(TAP).expect("the TAP is there").mac;
            let table = std::fs::read_to_string("/proc/thread-self/net/arp").expect("Linux keeps an ARP table");
            let line = table.lines().find(|l| l.starts_with(&format!("{SERVER} ")));
            let server = line.and_then(|l| mac(l.split_whitespace().nth(3)?));
            let server = server.unwrap_or_else(|| panic!("{SERVER} is not resolved:\n{table}"));
            Wire { packets: Packets::open(TAP).expect("root may"), client, server }
        })
    }

    /// Sends a frame to the server.
    ///
    /// # Panics
    /// When the TAP does not take it.
    #[track_caller]
    pub fn send(&self, frame: &Frame) {
        self.packets.send(&frame.0).expect("the TAP takes it");
    }

    /// Waits for a frame, in either direction, that `wanted` makes something of.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn expect<T>(&self, what: &str, mut wanted: impl FnMut(&Frame) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(found) = self.packets.receive().and_then(|f| wanted(&Frame(f))) {
                return found;
            }
        }
        panic!("no frame came that is {what}");
    }

    /// An Ethernet frame from Linux to the server.
    pub fn ethernet(&self, ethertype: u16, payload: &[u8]) -> Frame {
        Frame([&self.server[..], &self.client, &ethertype.to_be_bytes(), payload].concat())
    }

    /// An IPv4 packet from Linux to the server.
    pub fn ipv4(&self, protocol: u8, payload: &[u8]) -> Frame {
        let len = (20 + payload.len()) as u16;
        let mut header = [0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header[8] = 64;
        header[9] = protocol;
        header[12..16].copy_from_slice(&CLIENT.octets());
        header[16..20].copy_from_slice(&SERVER.octets());
        self.ethernet(0x0800, &[&header[..], payload].concat()).sealed()
    }

    /// A TCP segment from `src_port` to the server's port, window 1000. Options are padded with end-of-list.
    pub fn tcp(&self, src_port: u16, flags: u8, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Frame {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut header = [0; 20];
        header[..2].copy_from_slice(&src_port.to_be_bytes());
        header[2..4].copy_from_slice(&PORT.to_be_bytes());
        header[4..8].copy_from_slice(&seq.to_be_bytes());
        header[8..12].copy_from_slice(&ack.to_be_bytes());
        header[12] = (((20 + options.len()) / 4) << 4) as u8;
        header[13] = flags;
        header[14..16].copy_from_slice(&1000_u16.to_be_bytes());
        self.ipv4(6, &[&header[..], &options, payload].concat())
    }

    /// A datagram to this port of the server.
    pub fn udp(&self, port: u16, payload: &[u8]) -> Frame {
        let len = (8 + payload.len()) as u16;
        let header = [[0x30, 0x39], port.to_be_bytes(), len.to_be_bytes(), [0, 0]].concat();
        self.ipv4(17, &[&header, payload].concat())
    }

    /// An ICMP message.
    pub fn icmp(&self, kind: u8, code: u8, payload: &[u8]) -> Frame {
        self.ipv4(1, &[&[kind, code, 0, 0, 0, 7, 0, 1][..], payload].concat())
    }

    /// An ARP packet: `operation` 1 asks, 2 answers; the sender claims that `sender` is at `mac`.
    pub fn arp(&self, operation: u16, mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Frame {
        let mut body = vec![0, 1, 8, 0, 6, 4];
        body.extend_from_slice(&operation.to_be_bytes());
        body.extend_from_slice(&mac);
        body.extend_from_slice(&sender.octets());
        body.extend_from_slice(if operation == 1 { &[0; 6] } else { &self.server });
        body.extend_from_slice(&target.octets());
        self.ethernet(0x0806, &body)
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect();
    bytes.ok()?.try_into().ok().filter(|mac| *mac != [0; 6])
}

/// The bytes of an Ethernet frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    /// With other bytes from `at` on.
    pub fn with(mut self, at: usize, bytes: &[u8]) -> Frame {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Cut to `len` bytes; headers stay as they are.
    pub fn cut(mut self, len: usize) -> Frame {
        self.0.truncate(len);
        self
    }

    /// With bits of one byte flipped.
    pub fn flipped(mut self, at: usize, bits: u8) -> Frame {
        self.0[at] ^= bits;
        self
    }

    /// With right checksums of the IPv4 header and of what it carries, as far as the lengths in the frame let them be found.
    pub fn sealed(mut self) -> Frame {
        let ip_len = usize::from(self.0[IP] & 15) * 4;
        let end = (IP + usize::from(self.u16(IP + 2))).min(self.0.len());
        let l4 = IP + ip_len;
        if l4 > self.0.len() || l4 < IP + 12 {
            return self;
        }
        self.put(IP + 10, 0);
        let header = sum(&self.0[IP..l4]);
        self.put(IP + 10, !fold(header));
        if end < l4 || ip_len < 20 {
            return self;
        }
        let (at, pseudo) = match self.0[IP + 9] {
            1 => (l4 + 2, 0),
            6 => (l4 + 16, self.pseudo_sum(end - l4)),
            17 => (l4 + 6, self.pseudo_sum(end - l4)),
            _ => return self,
        };
        if at + 2 <= end {
            self.put(at, 0);
            let all = pseudo + sum(&self.0[l4..end]);
            self.put(at, !fold(all));
        }
        self
    }

    /// The big-endian word at `at`.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// The big-endian double word at `at`.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at + 2))
    }

    /// Whether this is an IPv4 packet with this protocol from `src`, without IP options.
    pub fn is_ipv4(&self, protocol: u8, src: Ipv4Addr) -> bool {
        self.0.len() >= L4 + 8
            && self.u16(12) == 0x0800
            && self.0[IP] == 0x45
            && self.0[IP + 9] == protocol
            && self.0[IP + 12..IP + 16] == src.octets()
    }

    /// TCP: source port, destination port, flags, sequence number, acknowledgment number; `None` if it is not TCP from `src`.
    pub fn tcp_from(&self, src: Ipv4Addr) -> Option<Segment> {
        (self.is_ipv4(6, src) && self.0.len() >= L4 + 20).then(|| Segment {
            src_port: self.u16(L4),
            dst_port: self.u16(L4 + 2),
            seq: self.u32(L4 + 4),
            ack: self.u32(L4 + 8),
            flags: self.0[L4 + 13],
            payload: usize::from(self.u16(IP + 2)).saturating_sub(20 + usize::from(self.0[L4 + 12] >> 4) * 4),
            // Everybody lays them out like this (RFC 7323 appendix A).
            timestamps: (self.0.len() >= L4 + 32 && self.0[L4 + 20..L4 + 24] == [1, 1, 8, 10])
                .then(|| (self.u32(L4 + 24), self.u32(L4 + 28))),
        })
    }

    fn put(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn pseudo_sum(&self, len: usize) -> u64 {
        sum(&self.0[IP + 12..IP + 20]) + u64::from(self.0[IP + 9]) + len as u64
    }
}

/// What a test looks at in a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are RFC 9293's")]
pub struct Segment {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// Bytes of payload.
    pub payload: usize,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | w.get(1).map_or(0, |b| u64::from(*b))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn sums_are_those_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn addresses_are_read_from_the_arp_table() {
        assert_eq!(mac("02:00:5e:10:00:ff"), Some([2, 0, 0x5e, 0x10, 0, 0xff]));
        assert_eq!(mac("00:00:00:00:00:00"), None);
    }
}
