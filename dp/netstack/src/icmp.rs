//! ICMP of both families: echo answered, errors sent and heard.
//!
//! What is sent goes out at the pace of a token bucket, and never about errors, groups, or fragments but the first (RFC 1122 section
//! 3.2.2, RFC 4443 section 2.4). What is heard is believed only if the packet that it quotes is one of ours (RFC 5927 section 4): of a
//! connection that exists, with a sequence number that is in flight.

use abi::Dead;
use nic::{Queue, RxFrame};
use tcp::State;
use units::Nanos;
use wire::quote::{self, Quote};
use wire::{Addr, Tuple, ethernet, icmp, icmpv6, ipv4, ipv6, ndp};

use crate::DropReason;
use crate::flow_group::{ConnId, Found};
use crate::rx::Packet;
use crate::stack::Stack;

/// How much of the offending packet an IPv4 error shows: with headers no more than 576 bytes (RFC 1812 section 4.3.2.3).
const ORIGINAL_V4: usize = 576 - ipv4::HEADER - icmp::HEADER;

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Complaint {
    /// Nobody serves the port.
    Port,
    /// Nobody speaks the protocol.
    Protocol,
    /// IPv6: a header, at this byte of the packet.
    Header { what: ipv6::Problem, at: u32 },
    /// Its other fragments did not come.
    Reassembly,
}

/// What an ICMP error reports.
#[derive(Clone, Copy, Debug)]
enum Report {
    /// The packet did not get there: nobody listens, or another reason.
    Unreachable { port: bool },
    /// It was too big for a link of this MTU.
    TooBig { mtu: u32 },
    /// Anything else: counted.
    Other,
}

impl<Q: Queue> Stack<Q> {
    /// Tells a packet's sender what is wrong with it, if it is to be told.
    #[cold]
    pub(crate) fn complain(&mut self, frame: &RxFrame, packet: &Packet, what: Complaint, now: Nanos) {
        let all = &self.shared.addresses;
        let original = &frame.head[ethernet::HEADER.min(frame.head.len())..];
        if packet.to_group || !all.is_host(&packet.src) || is_error(original, packet) || !self.icmp_errors.take(now) {
            return;
        }
        let (src, dst) = (all.addr(packet.local), packet.src);
        self.metrics.icmp_errors_out.inc();
        if dst.is_v4() {
            let original = &original[..original.len().min(ORIGINAL_V4)];
            let message = match what {
                Complaint::Port => icmp::Message::Unreachable { why: icmp::Unreachable::Port, original },
                Complaint::Protocol | Complaint::Header { .. } => {
                    icmp::Message::Unreachable { why: icmp::Unreachable::Protocol, original }
                }
                Complaint::Reassembly => icmp::Message::TimeExceeded { code: icmp::REASSEMBLY, original },
            };
            self.link.packet(now, &src, &dst, ipv4::ICMP, message.len(), |out| {
                message.emit(out);
            });
        } else {
            let original = &original[..original.len().min(icmpv6::ORIGINAL_MAX)];
            let message = match what {
                Complaint::Port => icmpv6::Message::Unreachable { code: icmpv6::PORT, original },
                Complaint::Protocol => {
                    let (code, pointer) = (ipv6::Problem::NextHeader as u8, ipv6::NEXT_AT as u32);
                    icmpv6::Message::ParameterProblem { code, pointer, original }
                }
                Complaint::Header { what, at } => {
                    icmpv6::Message::ParameterProblem { code: what as u8, pointer: at, original }
                }
                Complaint::Reassembly => icmpv6::Message::TimeExceeded { code: icmpv6::REASSEMBLY, original },
            };
            self.link.packet(now, &src, &dst, ipv6::ICMP, message.len(), |out| {
                message.emit(&src, &dst, out);
            });
        }
    }

    pub(crate) fn icmp_arrives(&mut self, frame: RxFrame, packet: &Packet, now: Nanos) -> Result<(), DropReason> {
        if !frame.rest.is_empty() {
            return Err(DropReason::Icmp);
        }
        let (report, original) = match icmp::parse(&frame.head[packet.at..])? {
            // RFC 1122 section 3.2.2.6 lets us pass over questions to a group.
            icmp::Message::EchoRequest { ident, seq, data } if !packet.to_group => {
                let answer = icmp::Message::EchoReply { ident, seq, data };
                self.metrics.icmp_echo.inc();
                let (src, dst) = (packet.dst, packet.src);
                self.link.packet(now, &src, &dst, ipv4::ICMP, answer.len(), |out| {
                    answer.emit(out);
                });
                return Ok(());
            }
            icmp::Message::Unreachable { why: icmp::Unreachable::FragmentationNeeded { mtu }, original } => {
                (Report::TooBig { mtu: mtu.into() }, original)
            }
            icmp::Message::Unreachable { why, original } => {
                let port = matches!(why, icmp::Unreachable::Port | icmp::Unreachable::Protocol);
                (Report::Unreachable { port }, original)
            }
            icmp::Message::TimeExceeded { original, .. } => (Report::Other, original),
            _ => return Err(DropReason::Icmp),
        };
        let quote = quote::parse(original);
        self.error_arrives(frame, quote, report, now)
    }

    pub(crate) fn icmpv6_arrives(&mut self, frame: RxFrame, packet: &Packet, now: Nanos) -> Result<(), DropReason> {
        if !frame.rest.is_empty() {
            return Err(DropReason::Icmp);
        }
        let bytes = &frame.head[packet.at..];
        let (report, original) = match icmpv6::parse(&packet.src, &packet.dst, bytes)? {
            icmpv6::Message::Other { kind, .. } if ndp::is_kind(kind) => {
                return self.ndp_arrives(&frame, packet, now);
            }
            // Deviation: RFC 4443 section 4.2 would have us answer questions to a group (SHOULD): that makes floods.
            icmpv6::Message::EchoRequest { ident, seq, data } if !packet.to_group => {
                let answer = icmpv6::Message::EchoReply { ident, seq, data };
                self.metrics.icmp_echo.inc();
                let (src, dst) = (packet.dst, packet.src);
                self.link.packet(now, &src, &dst, ipv6::ICMP, answer.len(), |out| {
                    answer.emit(&src, &dst, out);
                });
                return Ok(());
            }
            icmpv6::Message::Unreachable { code, original } => {
                (Report::Unreachable { port: code == icmpv6::PORT }, original)
            }
            icmpv6::Message::PacketTooBig { mtu, original } => (Report::TooBig { mtu }, original),
            icmpv6::Message::TimeExceeded { original, .. } => (Report::Other, original),
            icmpv6::Message::ParameterProblem { original, .. } => (Report::Other, original),
            _ => return Err(DropReason::Icmp),
        };
        let quote = quote::parse(original);
        self.error_arrives(frame, quote, report, now)
    }

    /// An error about a packet that, so it says, was ours.
    #[cold]
    fn error_arrives(
        &mut self,
        frame: RxFrame,
        quote: Option<Quote>,
        report: Report,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let quote = quote.ok_or(DropReason::Icmp)?;
        let ends = self.shared.addresses.ends(&quote.tuple).ok_or(DropReason::IcmpForged)?;
        let group = self.shared.flow_group(&quote.tuple);
        let word = self.shared.owner_word(group);
        if word != self.core.0 && !self.admits(group, word) {
            return self.set_aside(RxFrame { group: None, ..frame }, group, word);
        }
        if quote.protocol == ipv4::UDP {
            return self.udp_error(&quote, report, now);
        }
        let g = self.groups.get(group).ok_or(DropReason::IcmpForged)?;
        let Some(Found::Conn(slot)) = g.find(g.hash(&ends), &ends) else { return Err(DropReason::IcmpForged) };
        let id = ConnId::new(group, slot);
        let tcb = g.conn(slot).and_then(|c| c.tcb.as_ref()).ok_or(DropReason::IcmpForged)?;
        // RFC 5927 section 4.1: an attacker who does not see the connection has to guess what is in flight.
        let flight = tcb.snd_nxt().since(tcb.snd_una());
        if !quote.seq.is_some_and(|seq| seq.within(tcb.snd_una(), flight)) {
            return Err(DropReason::IcmpForged);
        }
        self.metrics.icmp_errors_in.inc();
        match report {
            // RFC 1122 section 4.2.3.9: an open that gets no further may fail. RFC 5927 section 5.2: an established connection does not.
            Report::Unreachable { port } if tcb.state() == State::SynSent => {
                self.conn_died(id, if port { Dead::Refused } else { Dead::Unreachable });
            }
            Report::TooBig { mtu } => self.path_is_narrow(id, &quote.tuple.remote, mtu, quote.total, now),
            Report::Unreachable { .. } | Report::Other => {}
        }
        Ok(())
    }

    /// UDP has no state that could be told: what its datagrams meet is counted, and the path's MTU heeded.
    fn udp_error(&mut self, quote: &Quote, report: Report, now: Nanos) -> Result<(), DropReason> {
        let Tuple { remote, local_port, .. } = quote.tuple;
        if !self.shared.serves_udp(local_port) || !self.shared.addresses.is_host(&remote) {
            return Err(DropReason::IcmpForged);
        }
        self.metrics.icmp_errors_in.inc();
        if let Report::TooBig { mtu } = report
            && self.link.paths.report(&remote, mtu, quote.total, now).is_some()
        {
            self.metrics.path_mtu_lowered.inc();
        }
        Ok(())
    }

    /// RFC 1191 section 6.4, RFC 8201 section 5.4: smaller segments from now on, and what was too big is sent again at once.
    fn path_is_narrow(&mut self, id: ConnId, remote: &Addr, mtu: u32, total: u32, now: Nanos) {
        if let Some(mtu) = self.link.paths.report(remote, mtu, total, now) {
            self.metrics.path_mtu_lowered.inc();
            self.heed_path(id, mtu, now);
        } else if let Some(known) = self.link.paths.mtu(remote, now) {
            // Another connection's report came first.
            self.heed_path(id, known, now);
        }
    }

    /// Fits a new connection's segments to what is known of its path.
    pub(crate) fn recall_path(&mut self, id: ConnId, now: Nanos) {
        let remote = self.groups.conn_mut(id).map(|c| c.ends.remote);
        if let Some(mtu) = remote.and_then(|remote| self.link.paths.mtu(&remote, now)) {
            self.heed_path(id, mtu, now);
        }
    }

    /// Fits a connection's segments to a path that carries packets of `mtu` bytes.
    pub(crate) fn heed_path(&mut self, id: ConnId, mtu: u16, now: Nanos) {
        let Stack { groups, shared, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return };
        let cfg = shared.tcp(&conn.ends);
        let headers = if conn.ends.remote.is_v4() { ipv4::HEADER } else { ipv6::HEADER } + wire::tcp::HEADER;
        if let Some(tcb) = conn.tcb.as_mut()
            && tcb.path_narrowed(now, cfg, mtu.saturating_sub(headers as u16))
        {
            self.mark_dirty(id);
        }
    }
}

/// Whether the packet is an ICMP error itself, or might be: then nothing is said about it (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
fn is_error(original: &[u8], packet: &Packet) -> bool {
    let kind = original.get(packet.at - ethernet::HEADER).copied();
    match packet.protocol {
        ipv4::ICMP if packet.src.is_v4() => !matches!(kind, Some(0 | 8)),
        ipv6::ICMP => kind.is_none_or(|kind| kind < 128),
        // Behind extension headers that make no sense may be anything. Errors have none, so no two hosts answer each other for ever.
        _ => false,
    }
}
