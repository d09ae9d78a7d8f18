//! The other end of the stack's NIC: frames that the script sends and hears, and an ARP that answers for its peer.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use mem::{MbufQueue, Pool};
use nic::{Caps, Queue, QueueCounters, RxFrame, RxPools, Steering, TxFrame, TxFull};
use units::FLOW_GROUPS;
use wire::{Mac, arp, ethernet};

use crate::subject::REMOTE;

/// The stack's address.
pub(super) const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The peer's.
const PEERS: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A queue pair without a NIC: what it is given waits until the subject takes it.
pub(super) struct Cable {
    caps: Caps,
    to_stack: VecDeque<Vec<u8>>,
    packets: VecDeque<Vec<u8>>,
}

impl Cable {
    pub(super) fn new(mtu: u16) -> Cable {
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
        Cable { caps, to_stack: VecDeque::new(), packets: VecDeque::new() }
    }

    /// An IPv4 packet for the stack.
    pub(super) fn send(&mut self, packet: &[u8]) {
        let mut frame = vec![0; ethernet::HEADER];
        ethernet::Header { dst: OURS, src: PEERS, ethertype: ethernet::IPV4 }.emit(&mut frame);
        frame.extend_from_slice(packet);
        self.to_stack.push_back(frame);
    }

    /// The next IPv4 packet of the stack.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    fn answer(&mut self, packet: &[u8]) {
        let Ok(question) = arp::parse(packet) else { return };
        if question.operation == arp::Operation::Request && question.target_ip == REMOTE {
            let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
            question.reply(PEERS).emit_frame(&mut frame);
            self.to_stack.push_back(frame);
        }
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
