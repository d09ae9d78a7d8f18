//! Frames for the server, built in its own buffers.

use mem::MbufQueue;
use nic::{QueueCounters, RxFrame, RxPools};
use wire::tcp::{Flags, Options};
use wire::{Ipv4Addr, Mac, Seq, arp, ethernet, ipv4, tcp};

use crate::config::Host;
use crate::conn::{Conn, MSS};

/// The window that the server sees: never scaled, always open.
const WINDOW: u16 = u16::MAX;

/// Both ends' addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) server: Host,
    pub(crate) port: u16,
    pub(crate) client: Mac,
    pub(crate) first: Ipv4Addr,
    pub(crate) addresses: u16,
}

impl Net {
    /// Which of the client's addresses `ip` is.
    #[inline]
    pub(crate) fn address(&self, ip: Ipv4Addr) -> Option<usize> {
        let at = ip.to_bits().wrapping_sub(self.first.to_bits());
        (at < u32::from(self.addresses)).then_some(at as usize)
    }
}

/// One burst on its way to the server.
pub(crate) struct Burst<'a> {
    pub(crate) pools: &'a mut RxPools,
    pub(crate) frames: &'a mut Vec<RxFrame>,
    pub(crate) counters: &'a mut QueueCounters,
    /// Frames that it may still take; 0 once buffers have run out.
    pub(crate) room: usize,
}

impl Burst<'_> {
    /// Adds a frame that `write` fills into the room it is given, and says how long it is. False: there is no room.
    #[inline]
    fn add(&mut self, group: Option<units::FlowGroupId>, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.room == 0 {
            return false;
        }
        let Some(mut head) = self.pools.mbufs.alloc() else {
            self.counters.rx_nombuf += 1;
            self.room = 0;
            return false;
        };
        let Some(len) = write(head.spare_mut()) else {
            // Buffers without room for a segment: nothing will ever fit.
            self.counters.rx_truncated += 1;
            self.pools.mbufs.free(head);
            self.room = 0;
            return false;
        };
        head.grow(len);
        self.room -= 1;
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += len as u64;
        self.frames.push(RxFrame { head, rest: MbufQueue::new(), csum_ok: true, group });
        true
    }

    /// A segment of connection `c`. Its checksum is left out: the frame says that it need not be verified.
    #[inline]
    pub(crate) fn segment(&mut self, net: &Net, c: &Conn, seq: Seq, flags: Flags, payload: &[u8]) -> bool {
        let syn = flags.contains(Flags::SYN);
        let header = tcp::Header {
            src_port: c.port,
            dst_port: net.port,
            seq,
            ack: if flags.contains(Flags::ACK) { c.rcv_nxt } else { Seq(0) },
            flags,
            window: WINDOW,
            urgent: 0,
            options: if syn { Options { mss: Some(MSS), ..Options::NONE } } else { Options::NONE },
            header_len: 0,
        };
        self.add(Some(c.group), |room| {
            let tcp_len = header.wire_len() + payload.len();
            let at = ethernet::HEADER + ipv4::HEADER;
            let room = room.get_mut(..at + tcp_len)?;
            ethernet::Header { dst: net.server.mac, src: net.client, ethertype: ethernet::IPV4 }.emit(room);
            ipv4::Header::new(c.ip, net.server.ip, ipv4::TCP, tcp_len as u16).emit(&mut room[ethernet::HEADER..]);
            let header_len = header.emit(&mut room[at..]);
            room[at + header_len..].copy_from_slice(payload);
            Some(at + tcp_len)
        })
    }

    /// An ARP packet.
    #[cold]
    pub(crate) fn arp(&mut self, packet: &arp::Packet) -> bool {
        self.add(None, |room| {
            let room = room.get_mut(..ethernet::MIN_FRAME)?;
            room.fill(0);
            packet.emit_frame(room);
            Some(ethernet::MIN_FRAME)
        })
    }
}
