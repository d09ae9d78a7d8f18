//! Frames in: Ethernet and IPv4, and who they are for. Each frame is delivered, answered, forwarded to its owner, or counted as dropped.

use mem::MbufQueue;
use nic::{Queue, RxFrame};
use units::Nanos;
use wire::{Malformed, Tuple, arp, ethernet, icmp, ipv4};

use crate::DropReason;
use crate::stack::Stack;

/// Ports are the first four bytes of both TCP and UDP.
const PORTS: usize = 4;

impl From<Malformed> for DropReason {
    fn from(why: Malformed) -> DropReason {
        match why {
            Malformed::Checksum => DropReason::Checksum,
            _ => DropReason::Malformed,
        }
    }
}

/// An IPv4 packet of ours, headers checked, with the frame trimmed to it.
pub(crate) struct Packet {
    pub(crate) ip: ipv4::Header,
    /// Where the transport header begins.
    pub(crate) at: usize,
}

impl<Q: Queue> Stack<Q> {
    /// Takes a frame in.
    #[inline]
    pub(crate) fn frame_arrives(&mut self, frame: RxFrame, now: Nanos) {
        if let Err(why) = self.demultiplex(frame, now) {
            self.metrics.drop_frame(why);
        }
    }

    #[inline]
    fn demultiplex(&mut self, mut frame: RxFrame, now: Nanos) -> Result<(), DropReason> {
        let eth = ethernet::Header::parse(&frame.head)?;
        if eth.dst != self.shared.config.mac && !eth.dst.is_broadcast() {
            return Err(DropReason::NotOurMac);
        }
        match eth.ethertype {
            ethernet::IPV4 => {}
            ethernet::ARP => return self.arp_arrives(&frame, now),
            _ => return Err(DropReason::EtherType),
        }
        let packet = self.check_ip(&mut frame)?;
        match packet.ip.protocol {
            ipv4::TCP | ipv4::UDP => {
                let ports = frame.head.get(packet.at..packet.at + PORTS).ok_or(DropReason::Malformed)?;
                let port = |i: usize| u16::from_be_bytes([ports[i], ports[i + 1]]);
                let (ip, remote_port, local_port) = (&packet.ip, port(0), port(2));
                let tuple = Tuple { local: ip.dst, remote: ip.src, local_port, remote_port };
                let group = frame.group.unwrap_or_else(|| self.shared.flow_group(&tuple));
                let owner = self.shared.owner(group);
                if owner != self.core {
                    frame.group = Some(group);
                    self.metrics.rx_forwarded_out.inc();
                    return self.shared.forward(owner, frame).map_err(|_| DropReason::InboxFull);
                }
                if packet.ip.protocol == ipv4::TCP {
                    self.tcp_arrives(frame, &packet, tuple, group, now)
                } else {
                    self.udp_arrives(frame, &packet, tuple, now)
                }
            }
            ipv4::ICMP => self.icmp_arrives(frame, &packet, now),
            _ => Err(DropReason::Protocol),
        }
    }

    /// The checks of RFC 1122 section 3.2.1; trims link padding off.
    #[inline(always)]
    fn check_ip(&mut self, frame: &mut RxFrame) -> Result<Packet, DropReason> {
        let bytes = frame.head.len() + frame.rest.bytes() as usize;
        let ip = ipv4::Header::parse(&frame.head[ethernet::HEADER..], bytes - ethernet::HEADER)?;
        let config = &self.shared.config;
        if ip.dst != config.ip {
            return Err(DropReason::NotOurAddress);
        }
        if !self.shared.network.is_host(ip.src) {
            return Err(DropReason::BadSource);
        }
        if ip.is_fragment() {
            return Err(DropReason::Fragment);
        }
        let end = ethernet::HEADER + usize::from(ip.total_len);
        if end < bytes {
            // Padding lies behind the packet, and only short packets are padded.
            if end > frame.head.len() {
                return Err(DropReason::Malformed);
            }
            frame.rest = MbufQueue::new();
            frame.head.truncate(end);
        }
        Ok(Packet { at: ethernet::HEADER + usize::from(ip.header_len), ip })
    }

    fn arp_arrives(&mut self, frame: &RxFrame, now: Nanos) -> Result<(), DropReason> {
        let packet = arp::parse(frame.head.get(ethernet::HEADER..).ok_or(DropReason::Malformed)?)?;
        let (ours, mac) = (self.shared.config.ip, self.shared.config.mac);
        let from = packet.sender_ip;
        match packet.operation {
            arp::Operation::Request if packet.target_ip == ours => {
                self.metrics.arp_replies.inc();
                self.link.arp(&packet.reply(mac));
                // Who asks for us will want an answer from us. What the question says of its sender is not believed: we ask back.
                let known = self.shared.arp.lookup(from, now).mac.is_some();
                if !known && self.shared.network.is_host(from) && self.shared.network.on_link(from) {
                    self.link.ask(from, now);
                }
                Ok(())
            }
            arp::Operation::Reply
                if packet.target_ip == ours && self.shared.arp.answer(from, packet.sender_mac, now) =>
            {
                Ok(())
            }
            _ => Err(DropReason::ArpUnsolicited),
        }
    }

    fn icmp_arrives(&mut self, frame: RxFrame, packet: &Packet, now: Nanos) -> Result<(), DropReason> {
        if !frame.rest.is_empty() {
            return Err(DropReason::Icmp);
        }
        let bytes = &frame.head[packet.at..];
        let icmp::Message::EchoRequest { ident, seq, data } = icmp::parse(bytes)? else { return Err(DropReason::Icmp) };
        let answer = icmp::Message::EchoReply { ident, seq, data };
        let mut buffer = self.link.pools.mbufs.alloc().ok_or(DropReason::NoMbuf)?;
        buffer.reset(0);
        if answer.len() > buffer.tailroom() {
            return Err(DropReason::Icmp);
        }
        buffer.grow(answer.len());
        answer.emit(&mut buffer);
        let tuple = Tuple { local: packet.ip.dst, remote: packet.ip.src, local_port: 0, remote_port: 0 };
        self.link.ip(now, &tuple, ipv4::ICMP, &buffer);
        self.metrics.icmp_echo.inc();
        Ok(())
    }
}
