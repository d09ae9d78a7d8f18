//! The other end of the stack's NIC: frames that the script sends and hears, and ARP and NDP that answer for its peer.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use mem::{MbufQueue, Pool};
use nic::{Caps, Queue, QueueCounters, RxFrame, RxPools, Steering, TxFrame, TxFull};
use units::FLOW_GROUPS;
use wire::{Addr, Mac, arp, ethernet, ipv6, ndp};

/// The stack's address.
pub(super) const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The peer's.
const PEERS: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A queue pair without a NIC: what it is given waits until the subject takes it.
pub(super) struct Cable {
    caps: Caps,
    peer: Addr,
    to_stack: VecDeque<Vec<u8>>,
    packets: VecDeque<Vec<u8>>,
}

impl Cable {
    pub(super) fn new(mtu: u16, peer: Addr) -> Cable {
        let caps = Caps {
            mtu,
            tx_csum: false,
            rx_csum: false,
            tso: false,
            large_rx: false,
            gather: false,
            steering: Steering::Hardware,
            reta_size: FLOW_GROUPS as u16,
            mac: OURS.0,
            name: "script".into(),
        };
        Cable { caps, peer, to_stack: VecDeque::new(), packets: VecDeque::new() }
    }

    /// A packet for the stack.
    pub(super) fn send(&mut self, packet: &[u8]) {
        let mut frame = vec![0; ethernet::HEADER];
        let ethertype = if self.peer.is_v4() { ethernet::IPV4 } else { ethernet::IPV6 };
        ethernet::Header { dst: OURS, src: PEERS, ethertype }.emit(&mut frame);
        frame.extend_from_slice(packet);
        self.to_stack.push_back(frame);
    }

    /// The next packet of the stack.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    fn answer(&mut self, packet: &[u8]) {
        let Ok(question) = arp::parse(packet) else { return };
        if question.operation == arp::Operation::Request && self.peer == question.target_ip.into() {
            let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
            question.reply(PEERS).emit_frame(&mut frame);
            self.to_stack.push_back(frame);
        }
    }
}

impl Cable {
    /// Answers a solicitation of the stack; false if it was none.
    fn advertise(&mut self, packet: &[u8]) -> bool {
        let Ok(ip) = ipv6::Header::parse(packet, packet.len()) else { return false };
        let Ok(ndp::Message::Solicitation { target, .. }) = ndp::parse(&packet[ipv6::HEADER..]) else { return false };
        if ip.next != ipv6::ICMP || target != self.peer {
            return false;
        }
        let answer =
            ndp::Message::Advertisement { target, mac: Some(PEERS), router: false, solicited: true, replace: true };
        let mut bytes = [0; ipv6::HEADER + ndp::MESSAGE];
        let len = answer.emit(&target, &ip.src, &mut bytes[ipv6::HEADER..]) as u16;
        let header = ipv6::Header::new(target, ip.src, ipv6::ICMP, len);
        ipv6::Header { hop_limit: ndp::HOP_LIMIT, ..header }.emit(&mut bytes);
        self.send(&bytes);
        true
    }
}

/// The frame in as many buffers as it takes, as a NIC with large receive leaves it; `None` when there are too few.
fn fill(pool: &mut Pool, frame: &[u8]) -> Option<MbufQueue> {
    let mut pieces = MbufQueue::new();
    let mut at = 0;
    while at < frame.len() {
        let mut piece = pool.alloc()?;
        piece.reset(0);
        at += piece.extend(&frame[at..]);
        pieces.push_back(piece);
    }
    Some(pieces)
}

impl Queue for Cable {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let mut count = 0;
        while count < max && !self.to_stack.is_empty() {
            let frame = self.to_stack.pop_front().expect("not empty");
            let Some(mut pieces) = fill(&mut pools.mbufs, &frame) else { break };
            let Some(head) = pieces.pop_front() else { break };
            out.push(RxFrame { head, rest: pieces, csum_ok: false, group: None });
            count += 1;
        }
        count
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        assert!(frame.csum.is_none() && frame.gso.is_none(), "nothing is asked that was not promised");
        let mut bytes = frame.head.to_vec();
        frame.payload.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let Ok((header, packet)) = ethernet::parse(&bytes) else { return Ok(()) };
        match header.ethertype {
            ethernet::ARP => self.answer(packet),
            ethernet::IPV6 if self.advertise(packet) => {}
            _ => {
                assert!(packet.len() <= usize::from(self.caps.mtu), "a packet is no longer than the MTU");
                self.packets.push_back(packet.to_vec());
            }
        }
        Ok(())
    }

    fn flush(&mut self) {}

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn before_sleep(&mut self) -> bool {
        self.to_stack.is_empty()
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        QueueCounters::default()
    }
}
