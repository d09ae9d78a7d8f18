use std::collections::VecDeque;
use std::os::fd::RawFd;

use mem::{MbufQueue, Pool};

use crate::{Caps, Queue, QueueCounters, RxFrame, RxPools, Steering, TxFrame, TxFull};

/// A queue pair whose other end is in the hand of its owner, for tests, packet scripts and fuzzers: what it is given waits until it is polled,
/// what it sends is kept. It can do nothing but carry frames, and is as large as they are.
#[derive(Debug)]
pub struct Cable {
    /// Frames on their way to the queue's user.
    pub to_stack: VecDeque<Vec<u8>>,
    /// Frames that the user has sent.
    pub from_stack: VecDeque<Vec<u8>>,
    /// Whether there is no room for a frame to send.
    pub full: bool,
    caps: Caps,
    /// Frames before the mark that have not been taken.
    older: usize,
}

impl Cable {
    /// For IP packets of `mtu` bytes, with this Ethernet address and as many flow groups as there can be.
    pub fn new(mtu: u16, mac: [u8; 6]) -> Cable {
        let caps = Caps {
            mtu,
            tx_csum: false,
            rx_csum: false,
            tso: false,
            large_rx: false,
            gather: true,
            steering: Steering::Hardware,
            reta_size: units::FLOW_GROUPS as u16,
            mac,
            name: "cable".into(),
        };
        Cable { to_stack: VecDeque::new(), from_stack: VecDeque::new(), full: false, caps, older: 0 }
    }
}

/// The frame in as many buffers as it takes, as a NIC with large receive leaves it; `None` when there are too few.
fn fill(pool: &mut Pool, frame: &[u8]) -> Option<MbufQueue> {
    let mut pieces = MbufQueue::new();
    let mut at = 0;
    while at < frame.len() {
        let Some(mut piece) = pool.alloc() else {
            pool.free_queue(pieces);
            return None;
        };
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

    /// A frame that there are no buffers for waits, as in the ring of a NIC; an empty one is nothing.
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let before = out.len();
        let end = before + max.min(out.capacity() - before);
        while out.len() < end
            && let Some(frame) = self.to_stack.front()
            && let Some(mut pieces) = fill(&mut pools.mbufs, frame)
        {
            self.to_stack.pop_front();
            self.older = self.older.saturating_sub(1);
            let Some(head) = pieces.pop_front() else { continue };
            out.push(RxFrame { head, rest: pieces, csum_ok: false, group: None });
        }
        out.len() - before
    }

    /// Panics if an offload is asked for that [`Caps`] denies, or a packet is longer than the MTU.
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        assert!(frame.csum.is_none() && frame.gso.is_none(), "nothing is asked that was not promised");
        let longest = wire::ethernet::HEADER + usize::from(self.caps.mtu);
        assert!(frame.len() <= longest.max(wire::ethernet::MIN_FRAME), "a frame is no longer than the MTU allows");
        if self.full {
            return Err(TxFull);
        }
        let mut bytes = frame.head.to_vec();
        frame.payload.iter().for_each(|piece| bytes.extend_from_slice(piece));
        self.from_stack.push_back(bytes);
        Ok(())
    }

    fn flush(&mut self) {}

    fn rx_mark(&mut self) {
        self.older = self.to_stack.len();
    }

    fn rx_passed(&mut self) -> bool {
        self.older == 0
    }

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
