//! Frames in: Ethernet and IP, and who they are for. Each frame is delivered, answered, forwarded to its owner, or counted as dropped.

use mem::MbufQueue;
use nic::{Queue, RxFrame};
use units::{FlowGroupId, Nanos};
use wire::{Addr, Malformed, arp, ethernet, ipv4, ipv6};

use crate::DropReason;
use crate::addresses::{Ends, LocalId};
use crate::ahead::Flow;
use crate::fragments::Part;
use crate::icmp::Complaint;
use crate::stack::Stack;

/// Ports are the first four bytes of both TCP and UDP.
const PORTS: usize = 4;

impl From<Malformed> for DropReason {
    fn from(why: Malformed) -> DropReason {
        match why {
            Malformed::Checksum => DropReason::Checksum,
            Malformed::Address => DropReason::BadSource,
            _ => DropReason::Malformed,
        }
    }
}

/// An IP packet of ours, headers checked, with the frame trimmed to it.
pub(crate) struct Packet {
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    /// Which of our addresses `dst` is; for a packet to a group, the one from which to answer.
    pub(crate) local: LocalId,
    /// The transport protocol.
    pub(crate) protocol: u8,
    /// IPv6's hop limit; of no use to IPv4.
    pub(crate) hops: u8,
    /// It went to more than us: nobody is told of what is wrong with it (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
    pub(crate) to_group: bool,
    /// What the header says of congestion (RFC 3168 section 5).
    pub(crate) ecn: u8,
    /// Its flow, if that is known already.
    pub(crate) flow: Option<Flow>,
    /// Where the transport header begins.
    pub(crate) at: usize,
}

impl<Q: Queue> Stack<Q> {
    /// Takes a frame in; `flow` is its flow, if somebody has looked already.
    #[inline]
    pub(crate) fn frame_arrives(&mut self, frame: RxFrame, flow: Option<Flow>, now: Nanos) {
        if let Err(why) = self.demultiplex(frame, flow, now) {
            self.metrics.drop_frame(why);
        }
    }

    #[inline]
    fn demultiplex(&mut self, mut frame: RxFrame, flow: Option<Flow>, now: Nanos) -> Result<(), DropReason> {
        let eth = ethernet::Header::parse(&frame.head)?;
        let to_us = eth.dst == self.shared.config.mac;
        if !to_us && !eth.dst.is_broadcast() && !self.shared.addresses.hears_mac(eth.dst) {
            return Err(DropReason::NotOurMac);
        }
        match eth.ethertype {
            // RFC 1122 section 3.3.6: what is for one host does not come in a frame for many. We have no IPv4 groups.
            ethernet::IPV4 if to_us => {
                let ip = self.check_v4(&mut frame)?;
                let local = self.shared.addresses.find_v4(ip.dst.to_bits()).ok_or(DropReason::NotOurAddress)?;
                if ip.is_fragment() {
                    return self.fragment_arrives(frame, Part::of_v4(&ip), now);
                }
                let packet = Packet {
                    src: ip.src.into(),
                    dst: ip.dst.into(),
                    local,
                    protocol: ip.protocol,
                    hops: ip.ttl,
                    to_group: false,
                    ecn: ip.ecn,
                    flow,
                    at: ethernet::HEADER + usize::from(ip.header_len),
                };
                self.packet_arrives(frame, &packet, now)
            }
            ethernet::IPV6 if self.shared.addresses.v6() => self.v6_arrives(frame, to_us, flow, now),
            ethernet::ARP => self.arp_arrives(&frame, now),
            ethernet::IPV4 => Err(DropReason::LinkGroup),
            _ => Err(DropReason::EtherType),
        }
    }

    /// A packet by its transport protocol.
    #[inline(always)]
    fn packet_arrives(&mut self, mut frame: RxFrame, packet: &Packet, now: Nanos) -> Result<(), DropReason> {
        match packet.protocol {
            ipv4::TCP | ipv4::UDP => {
                let ports = frame.head.get(packet.at..packet.at + PORTS).ok_or(DropReason::Malformed)?;
                let port = |i: usize| u16::from_be_bytes([ports[i], ports[i + 1]]);
                let (remote_port, local_port) = (port(0), port(2));
                let ends = Ends { remote: packet.src, remote_port, local_port, local: packet.local };
                debug_assert!(packet.flow.is_none_or(|flow| flow.hash == self.shared.flow_key.hash(&ends)));
                let known = packet.flow.map(|flow| flow.group).or(frame.group);
                let group = known.unwrap_or_else(|| self.group_of(&ends));
                let word = self.shared.owner_word(group);
                if word != self.core.0 {
                    frame.group = Some(group);
                    if !self.admits(group, word) {
                        return self.set_aside(frame, group, word);
                    }
                }
                self.metrics.frame_of(group);
                if packet.protocol == ipv4::TCP {
                    self.tcp_arrives(frame, packet, &ends, group, now)
                } else {
                    self.udp_arrives(frame, packet, &ends, now)
                }
            }
            _ => self.other_protocol(frame, packet, now),
        }
    }

    #[cold]
    fn other_protocol(&mut self, frame: RxFrame, packet: &Packet, now: Nanos) -> Result<(), DropReason> {
        let v4 = packet.src.is_v4();
        match packet.protocol {
            ipv4::ICMP if v4 => self.icmp_arrives(frame, packet, now),
            ipv6::ICMP if !v4 => self.icmpv6_arrives(frame, packet, now),
            _ => {
                self.complain(&frame, packet, Complaint::Protocol, now);
                Err(DropReason::Protocol)
            }
        }
    }

    fn group_of(&self, ends: &Ends) -> FlowGroupId {
        self.shared.flow_group(&self.shared.addresses.tuple(ends))
    }

    /// Hands a frame of a foreign group to its owner.
    #[cold]
    pub(crate) fn pass_on(&mut self, frame: RxFrame, group: FlowGroupId) -> Result<(), DropReason> {
        self.metrics.rx_forwarded_out.inc();
        self.shared.forward(self.shared.owner(group), frame).map_err(|_| DropReason::InboxFull)
    }

    /// The checks of RFC 1122 section 3.2.1; trims link padding off.
    #[inline(always)]
    fn check_v4(&mut self, frame: &mut RxFrame) -> Result<ipv4::Header, DropReason> {
        let bytes = frame.head.len() + frame.rest.bytes() as usize;
        let ip = ipv4::Header::parse(&frame.head[ethernet::HEADER..], bytes - ethernet::HEADER)?;
        if !self.shared.addresses.is_host_v4(ip.src.to_bits()) {
            return Err(DropReason::BadSource);
        }
        trim(frame, bytes, ethernet::HEADER + usize::from(ip.total_len))?;
        Ok(ip)
    }

    /// An IPv6 packet: RFC 8200 sections 3 and 4.
    #[inline(never)]
    fn v6_arrives(
        &mut self,
        mut frame: RxFrame,
        to_us: bool,
        flow: Option<Flow>,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let bytes = frame.head.len() + frame.rest.bytes() as usize;
        let ip = ipv6::Header::parse(&frame.head[ethernet::HEADER..], bytes - ethernet::HEADER)?;
        let all = &self.shared.addresses;
        let group = ip.dst.is_multicast() && all.hears(&ip.dst);
        let local = if group { all.source_for(&ip.src) } else { all.find(&ip.dst) };
        let local = local.ok_or(DropReason::NotOurAddress)?;
        // Nobody may ask for an address before it is its own (RFC 4862 section 5.4).
        let nobody = ip.src == Addr::UNSPECIFIED && ip.next == ipv6::ICMP;
        if !nobody && !all.is_host(&ip.src) {
            return Err(DropReason::BadSource);
        }
        trim(&mut frame, bytes, ethernet::HEADER + ipv6::HEADER + usize::from(ip.payload_len))?;
        let mut packet = Packet {
            src: ip.src,
            dst: ip.dst,
            local,
            protocol: ip.next,
            hops: ip.hop_limit,
            to_group: group || !to_us,
            ecn: ip.ecn,
            flow,
            at: ethernet::HEADER + ipv6::HEADER,
        };
        match ipv6::walk(&frame.head[ethernet::HEADER..], &ip) {
            // As over IPv4, but for neighbour discovery.
            Ok(ipv6::Upper { fragment, protocol, .. })
                if !group && !to_us && (fragment.is_some() || protocol != ipv6::ICMP) =>
            {
                Err(DropReason::LinkGroup)
            }
            Ok(ipv6::Upper { fragment: Some(_), .. }) if group => Err(DropReason::Fragment),
            Ok(ipv6::Upper { fragment: Some(part), .. }) => self.fragment_arrives(frame, Part::of_v6(&ip, &part), now),
            Ok(ipv6::Upper { protocol, at, .. }) => {
                (packet.protocol, packet.at) = (protocol, ethernet::HEADER + at);
                if group && protocol != ipv6::ICMP {
                    return Err(DropReason::NotOurAddress);
                }
                self.packet_arrives(frame, &packet, now)
            }
            Err(ipv6::Refusal::Silent | ipv6::Refusal::Empty) => Err(DropReason::ExtensionHeaders),
            Err(ipv6::Refusal::Problem { what, at, to_groups }) => {
                packet.to_group &= !to_groups;
                self.complain(&frame, &packet, Complaint::Header { what, at: at as u32 }, now);
                Err(DropReason::ExtensionHeaders)
            }
        }
    }

    fn arp_arrives(&mut self, frame: &RxFrame, now: Nanos) -> Result<(), DropReason> {
        let packet = arp::parse(frame.head.get(ethernet::HEADER..).ok_or(DropReason::Malformed)?)?;
        let (all, mac) = (&self.shared.addresses, self.shared.config.mac);
        let (from, ours) = (Addr::from(packet.sender_ip), all.find(&packet.target_ip.into()).is_some());
        match packet.operation {
            arp::Operation::Request if ours => {
                // Who asks for us will want an answer from us. What the question says of its sender is not believed: we ask back.
                let known = self.shared.neighbours.lookup(from, now).mac.is_some();
                let curious = !known && all.is_host(&from) && all.on_link(&from);
                self.metrics.arp_replies.inc();
                self.link.arp(&packet.reply(mac));
                if curious {
                    self.link.ask(from, None, now);
                }
                Ok(())
            }
            arp::Operation::Reply if ours && self.shared.neighbours.answer(from, packet.sender_mac, now) => Ok(()),
            _ => Err(DropReason::ArpUnsolicited),
        }
    }
}

/// Cuts link padding off: the packet ends at `end` of `bytes`.
#[inline(always)]
fn trim(frame: &mut RxFrame, bytes: usize, end: usize) -> Result<(), DropReason> {
    if end < bytes {
        // Padding lies behind the packet, and only short packets are padded.
        if end > frame.head.len() {
            return Err(DropReason::Malformed);
        }
        frame.rest = MbufQueue::new();
        frame.head.truncate(end);
    }
    Ok(())
}
