//! Datagrams: checked, queued for the application, sent.

use mem::MbufQueue;
use nic::{Queue, RxFrame};
use units::Nanos;
use wire::{Tuple, ipv4, udp};

use crate::DropReason;
use crate::batch::Datagram;
use crate::rx::Packet;
use crate::stack::Stack;

/// The largest payload that goes out in one frame.
const MAX_PAYLOAD: usize = 1500 - ipv4::HEADER - udp::HEADER;

impl<Q: Queue> Stack<Q> {
    pub(crate) fn udp_arrives(&mut self, frame: RxFrame, packet: &Packet, tuple: Tuple) -> Result<(), DropReason> {
        if !frame.rest.is_empty() {
            return Err(DropReason::Malformed);
        }
        let mut payload = frame.head;
        let (header, data) = udp::parse(&payload[packet.at..])?;
        if !frame.csum_ok && !header.checksum_ok(packet.ip.src, packet.ip.dst, data) {
            return Err(DropReason::Checksum);
        }
        if !self.shared.serves_udp(tuple.local_port) {
            return Err(DropReason::UdpNoPort);
        }
        if self.datagrams.len() == self.datagrams.capacity() {
            return Err(DropReason::UdpFull);
        }
        let len = data.len();
        payload.trim_front(packet.at + udp::HEADER);
        payload.truncate(len);
        self.datagrams.push_back(Datagram { tuple, payload });
        self.metrics.udp_in.inc();
        Ok(())
    }

    /// Sends `payload` as one datagram; false when it does not fit one.
    pub(crate) fn udp_send(&mut self, now: Nanos, tuple: &Tuple, payload: &MbufQueue) -> bool {
        let len = payload.bytes() as usize;
        if len > MAX_PAYLOAD {
            return false;
        }
        let mut packet = [0u8; udp::HEADER + MAX_PAYLOAD];
        payload.copy_to(0, &mut packet[udp::HEADER..udp::HEADER + len]);
        let header = udp::Header {
            src_port: tuple.local_port,
            dst_port: tuple.remote_port,
            len: (udp::HEADER + len) as u16,
            checksum: 0,
        };
        header.with_checksum(tuple.local, tuple.remote, &packet[udp::HEADER..udp::HEADER + len]).emit(&mut packet);
        self.link.ip(now, tuple, ipv4::UDP, &packet[..udp::HEADER + len]);
        self.metrics.udp_out.inc();
        true
    }
}
