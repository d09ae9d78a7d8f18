//! The whole stack on a cable, in virtual time: one elastic thread with a service, and one peer who owns some client ports.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane::ElasticThread;
use netstack::{PoolSizes, Shared, StackConfig};
use nic::{Cable, Queue};
use units::{CoreId, FlowGroupId, Nanos};
use wire::checksum::Sum;
use wire::tcp::{CHECKSUM_OFFSET, Flags, Header, Options};
use wire::{Mac, Seq, arp, ethernet, ipv4, ipv6, udp};
use zygix::{Runtime, Service, ServiceApp};

/// The stack's address.
pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The peer's.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 2);
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The peer's client ports, from here on.
pub(crate) const CLIENT: u16 = 40_000;
/// How many.
pub(crate) const CLIENTS: u16 = 4;

const POOLS: PoolSizes = PoolSizes { rx: 256, spill: 2, tx: 256, small: 64 };
const MTU: u16 = 1500;
/// More turns than this at one instant: the stack does not come to rest.
const TURNS_AT_ONCE: u32 = 2_000;
/// Frames that wait for the stack at most: what it had no buffers for goes nowhere on a real wire either.
const WAITING_MAX: usize = 1_000;

/// What the peer knows of one of its connections: as much as a TCP needs to keep it going.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    /// The number of its next byte.
    pub(crate) seq: u32,
    /// The number it expects next.
    pub(crate) ack: u32,
    /// What has come in order.
    pub(crate) received: Vec<u8>,
    /// The stack has sent a reset.
    pub(crate) reset: bool,
    /// The stack has sent its FIN.
    pub(crate) finished: bool,
}

/// A stack with `S` on it.
pub(crate) struct Rig<S: Service> {
    thread: ElasticThread<Cable>,
    app: ServiceApp<S>,
    pub(crate) now: Nanos,
    deadline: Nanos,
    /// The server's port.
    port: u16,
    pub(crate) flows: [Flow; CLIENTS as usize],
    /// Frames that the stack has sent.
    pub(crate) frames: u64,
}

impl<S: Service> Rig<S> {
    /// Serves `service` on TCP and UDP ports from `port` on, `ports` of them.
    pub(crate) fn new(service: S, port: u16, ports: u16) -> Rig<S> {
        let ports: Vec<u16> = (port..port + ports).collect();
        let config = StackConfig {
            max_conns: 256,
            backlog: 8,
            tcp_ports: ports.clone(),
            udp_ports: ports,
            pools: POOLS,
            ..StackConfig::new(OUR_MAC, OURS, 24).with_address(OURS_V6, 64)
        };
        let cable = Cable::new(MTU, OUR_MAC.0);
        let shared = Shared::new(config, 1, [7; 48], |_| FlowGroupId(0), |_| {}).expect("memory for a small stack");
        let shared = Arc::new(shared);
        let thread = ElasticThread::new(CoreId(0), shared.clone(), cable).expect("memory for a small stack");
        let app = Runtime::new(Arc::new(service), shared).app(CoreId(0));
        let now = Nanos::from_secs(1000);
        let mut rig = Rig { thread, app, now, deadline: now, port, flows: Default::default(), frames: 0 };
        rig.thread.start(now, &mut rig.app);
        for (n, flow) in (1..).zip(&mut rig.flows) {
            flow.seq = 0x7fff_fff0u32.wrapping_mul(n);
        }
        rig
    }

    /// A frame for the stack, and all that follows from it now.
    pub(crate) fn frame(&mut self, bytes: Vec<u8>) {
        self.cable(|cable| {
            if cable.to_stack.len() < WAITING_MAX {
                cable.to_stack.push_back(bytes);
            }
        });
        self.turn();
    }

    /// An IPv4 packet of the peer.
    pub(crate) fn packet(&mut self, protocol: u8, payload: &[u8]) {
        let mut frame = vec![0; ethernet::HEADER + ipv4::HEADER + payload.len()];
        ethernet::Header { dst: OUR_MAC, src: PEER_MAC, ethertype: ethernet::IPV4 }.emit(&mut frame);
        let packet = &mut frame[ethernet::HEADER..];
        let len = ipv4::Header::new(PEER, OURS, protocol, payload.len() as u16).emit(packet);
        packet[len..].copy_from_slice(payload);
        self.frame(frame);
    }

    /// An IPv6 packet of the peer.
    pub(crate) fn packet_v6(&mut self, next: u8, payload: &[u8]) {
        let mut frame = vec![0; ethernet::HEADER + ipv6::HEADER + payload.len()];
        ethernet::Header { dst: OUR_MAC, src: PEER_MAC, ethertype: ethernet::IPV6 }.emit(&mut frame);
        let packet = &mut frame[ethernet::HEADER..];
        let len = ipv6::Header::new(PEER_V6.into(), OURS_V6.into(), next, payload.len() as u16).emit(packet);
        packet[len..].copy_from_slice(payload);
        self.frame(frame);
    }

    /// A segment of connection `flow` to the server's port plus `to`, with its checksum.
    pub(crate) fn segment(&mut self, flow: u16, to: u16, seg: &Sent, payload: &[u8]) {
        let header = Header {
            src_port: CLIENT + flow,
            dst_port: self.port + to,
            seq: Seq(seg.seq),
            ack: Seq(seg.ack),
            flags: seg.flags,
            window: seg.window,
            urgent: 0,
            options: seg.options,
            header_len: 0,
        };
        let mut tcp = vec![0; header.wire_len() + payload.len()];
        let len = header.emit(&mut tcp);
        tcp[len..].copy_from_slice(payload);
        let sum = Sum::pseudo_v4(PEER, OURS, ipv4::TCP, tcp.len() as u32).with(&tcp).finish();
        tcp[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
        self.packet(ipv4::TCP, &tcp);
    }

    /// A datagram to the server's port plus `to`.
    pub(crate) fn datagram(&mut self, from: u16, to: u16, payload: &[u8]) {
        let header = udp::Header {
            src_port: from,
            dst_port: self.port + to,
            len: (udp::HEADER + payload.len()) as u16,
            checksum: 0,
        };
        let header = header.with_checksum(PEER, OURS, payload);
        let mut datagram = vec![0; udp::HEADER + payload.len()];
        header.emit(&mut datagram);
        datagram[udp::HEADER..].copy_from_slice(payload);
        self.packet(ipv4::UDP, &datagram);
    }

    /// Time passes, with all that is due meanwhile.
    pub(crate) fn wait(&mut self, span: Nanos) {
        let until = self.now + span;
        self.turn();
        let mut steps = 0;
        while self.deadline <= until {
            self.now = self.now.max(self.deadline);
            self.turn();
            steps += 1;
            assert!(steps < 1_000_000, "timers without end");
        }
        self.now = until;
        self.turn();
    }

    /// Resets what the peer knows of, lets time end the rest, and looks whether all buffers are where they belong.
    pub(crate) fn end(&mut self, servers: u16) {
        for flow in 0..CLIENTS {
            for to in 0..servers {
                let Flow { ack, .. } = self.flows[usize::from(flow)];
                let seq = self.flows[usize::from(flow)].seq;
                let seg = Sent { seq, ack, flags: Flags::RST | Flags::ACK, ..Sent::default() };
                self.segment(flow, to, &seg, &[]);
            }
        }
        self.wait(Nanos::from_secs(120));
        let (connections, rx) = {
            let stack = self.thread.stack().expect("nobody else locks the stack");
            (stack.connections(), stack.rx_available())
        };
        if connections == 0 {
            assert_eq!(rx, POOLS.rx as usize, "receive buffers that nobody holds are free");
            assert_eq!(self.thread.tx_available(), POOLS.tx as usize, "transmit buffers that nobody holds are free");
        }
    }

    fn cable<T>(&mut self, f: impl FnOnce(&mut Cable) -> T) -> T {
        f(self.thread.stack().expect("nobody else locks the stack").nic())
    }

    /// Turns until there is nothing to do at this instant.
    fn turn(&mut self) {
        for _ in 0..TURNS_AT_ONCE {
            let now = self.now;
            let turn = self.thread.turn(now, || now, &mut self.app);
            self.deadline = turn.deadline;
            for frame in self.cable(|cable| std::mem::take(&mut cable.from_stack)) {
                self.frames += 1;
                self.heard(&frame);
            }
            if turn.work == 0 && turn.deadline > now && self.cable(Queue::before_sleep) {
                return;
            }
        }
        panic!("{TURNS_AT_ONCE} turns, and there is still something to do");
    }

    /// The peer takes a frame: answers who asks for its address, follows its connections.
    fn heard(&mut self, frame: &[u8]) {
        let (ethernet, packet) = ethernet::parse(frame).expect("the stack's frames are sound");
        if ethernet.ethertype == ethernet::ARP {
            let question = arp::parse(packet).expect("the stack's frames are sound");
            if question.operation == arp::Operation::Request && question.target_ip == PEER {
                let mut answer = vec![0; ethernet::HEADER + arp::PACKET];
                question.reply(PEER_MAC).emit_frame(&mut answer);
                self.cable(|cable| cable.to_stack.push_back(answer));
            }
            return;
        }
        if ethernet.ethertype == ethernet::IPV6 {
            let ip = ipv6::Header::parse(packet, packet.len()).expect("the stack's packets are sound");
            ipv6::walk(packet, &ip).expect("and their headers");
            return;
        }
        let (ip, rest) = ipv4::parse(packet).expect("the stack's packets are sound");
        if ip.protocol != ipv4::TCP || ip.dst != PEER || ip.is_fragment() {
            return;
        }
        let pieces = std::iter::once(rest);
        assert!(wire::tcp::checksum_ok(ip.src, ip.dst, pieces), "the stack's checksums are right");
        let tcp = Header::parse(rest).expect("the stack's segments are sound");
        let Some(flow) = tcp.dst_port.checked_sub(CLIENT).and_then(|n| self.flows.get_mut(usize::from(n))) else {
            return;
        };
        let payload = &rest[usize::from(tcp.header_len)..];
        if tcp.flags.contains(Flags::RST) {
            flow.reset = true;
            return;
        }
        if tcp.flags.contains(Flags::SYN) {
            flow.ack = tcp.seq.0.wrapping_add(1);
            return;
        }
        let old = flow.ack.wrapping_sub(tcp.seq.0) as usize;
        if old <= payload.len() {
            flow.received.extend_from_slice(&payload[old..]);
            flow.ack = tcp.seq.0.wrapping_add(payload.len() as u32);
            if tcp.flags.contains(Flags::FIN) {
                flow.ack = flow.ack.wrapping_add(1);
                flow.finished = true;
            }
        }
    }
}

/// A segment of the peer, but for ports and payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: Flags,
    pub(crate) window: u16,
    pub(crate) options: Options,
}

impl Default for Sent {
    fn default() -> Sent {
        Sent { seq: 0, ack: 0, flags: Flags::ACK, window: 65_000, options: Options::NONE }
    }
}
