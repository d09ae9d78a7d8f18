//! Datagrams: checked, queued for the application, sent.

use mem::MbufQueue;
use nic::{Queue, RxFrame};
use units::Nanos;
use wire::{Tuple, ipv4, udp};

use crate::DropReason;
use crate::addresses::Ends;
use crate::batch::Datagram;
use crate::icmp::Complaint;
use crate::rx::Packet;
use crate::stack::Stack;

/// The largest payload of a datagram: what IPv4's total length, or IPv6's payload length, leaves.
const MAX_V4: usize = u16::MAX as usize - ipv4::HEADER - udp::HEADER;
const MAX_V6: usize = u16::MAX as usize - udp::HEADER;

impl<Q: Queue> Stack<Q> {
    pub(crate) fn udp_arrives(
        &mut self,
        mut frame: RxFrame,
        packet: &Packet,
        ends: &Ends,
        now: Nanos,
    ) -> Result<(), DropReason> {
        if !frame.rest.is_empty() {
            return Err(DropReason::Malformed);
        }
        let (header, data) = udp::parse(&frame.head[packet.at..])?;
        if !frame.csum_ok && !header.checksum_ok(packet.src, packet.dst, data) {
            return Err(DropReason::Checksum);
        }
        if !self.shared.serves_udp(ends.local_port) {
            self.complain(&frame, packet, Complaint::Port, now);
            return Err(DropReason::UdpNoPort);
        }
        if self.datagrams.len() == self.datagrams.capacity() {
            return Err(DropReason::UdpFull);
        }
        let len = data.len();
        frame.head.trim_front(packet.at + udp::HEADER);
        frame.head.truncate(len);
        let tuple = self.shared.addresses.tuple(ends);
        self.datagrams.push_back(Datagram { tuple, payload: frame.head });
        self.metrics.udp_in.inc();
        Ok(())
    }

    /// Sends `payload` as one datagram, in fragments if the path asks for it; false when it does not fit one.
    pub(crate) fn udp_send(&mut self, now: Nanos, tuple: &Tuple, payload: &MbufQueue) -> bool {
        let bytes = payload.bytes() as usize;
        if bytes > if tuple.is_v4() { MAX_V4 } else { MAX_V6 } {
            return false;
        }
        let Tuple { local, remote, local_port, remote_port } = *tuple;
        let len = udp::HEADER + bytes;
        self.link.packet(now, &local, &remote, ipv4::UDP, len, |out| {
            payload.copy_to(0, &mut out[udp::HEADER..]);
            let header = udp::Header { src_port: local_port, dst_port: remote_port, len: len as u16, checksum: 0 };
            header.with_checksum(local, remote, &out[udp::HEADER..]).emit(out);
        });
        self.metrics.udp_out.inc();
        true
    }
}
