//! Datagrams: checked, queued for the application, sent.

use mem::MbufQueue;
use nic::{Queue, RxFrame};
use units::Nanos;
use wire::{Tuple, ethernet, icmp, ipv4, udp};

use crate::DropReason;
use crate::batch::Datagram;
use crate::rx::Packet;
use crate::stack::Stack;

/// The least span between two ICMP errors of a core.
const ICMP_ERROR_EVERY: Nanos = Nanos::from_millis(1);
/// How much of the offending packet an ICMP error shows: with headers no more than 576 bytes (RFC 1812 section 4.3.2.3).
const ICMP_ORIGINAL: usize = 576 - ipv4::HEADER - icmp::HEADER;
/// The largest payload that goes out in one frame.
const MAX_PAYLOAD: usize = 1500 - ipv4::HEADER - udp::HEADER;

impl<Q: Queue> Stack<Q> {
    pub(crate) fn udp_arrives(
        &mut self,
        frame: RxFrame,
        packet: &Packet,
        tuple: Tuple,
        now: Nanos,
    ) -> Result<(), DropReason> {
        if !frame.rest.is_empty() {
            return Err(DropReason::Malformed);
        }
        let mut payload = frame.head;
        let (header, data) = udp::parse(&payload[packet.at..])?;
        if !frame.csum_ok && !header.checksum_ok(packet.ip.src, packet.ip.dst, data) {
            return Err(DropReason::Checksum);
        }
        if !self.shared.serves_udp(tuple.local_port) {
            self.unreachable(&payload, tuple, now);
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

    /// Tells the sender that nobody serves the port (RFC 1122 section 4.1.3.1), at most once per millisecond
    /// (section 3.2.2 asks not to be lavish).
    #[cold]
    fn unreachable(&mut self, frame: &[u8], tuple: Tuple, now: Nanos) {
        if now < self.next_icmp_error {
            return;
        }
        self.next_icmp_error = now + ICMP_ERROR_EVERY;
        let packet = &frame[ethernet::HEADER..];
        let original = &packet[..packet.len().min(ICMP_ORIGINAL)];
        let message = icmp::Message::Unreachable { why: icmp::Unreachable::Port, original };
        let mut answer = [0u8; icmp::HEADER + ICMP_ORIGINAL];
        let len = message.emit(&mut answer);
        self.link.ip(now, &tuple, ipv4::ICMP, &answer[..len]);
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
