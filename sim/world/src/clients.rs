//! Who asks: the clients of a world, and, if there are any, others beside them that are loaded apart from these. Both are at the same queues.

use std::os::fd::RawFd;
use std::sync::Arc;

use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use openloop::{Director, OpenLoopQueue};
use units::Nanos;
use wire::{Ipv4Addr, ethernet};

/// Where the others are.
pub(crate) const OTHERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 4);

/// From the Ethernet header on: the destination of an IPv4 packet, the one that an ARP packet asks for.
const IP_DST: usize = 16;
const ARP_TARGET: usize = 24;

/// A queue at which two loads arrive. What neither has asked for goes to the first.
pub(crate) struct Both {
    first: OpenLoopQueue,
    others: Option<OpenLoopQueue>,
    /// Whose turn it is to be asked first.
    turn: bool,
}

impl Both {
    pub(crate) fn new(first: OpenLoopQueue, others: Option<OpenLoopQueue>) -> Both {
        Both { first, others, turn: false }
    }
}

/// Whether a frame is for the others.
fn is_for_others(frame: &TxFrame<'_>) -> bool {
    let at = match ethernet::Header::parse(frame.head) {
        Ok(ethernet::Header { ethertype: ethernet::IPV4, .. }) => IP_DST,
        Ok(ethernet::Header { ethertype: ethernet::ARP, .. }) => ARP_TARGET,
        _ => return false,
    };
    let at = ethernet::HEADER + at;
    frame.head.get(at..at + 4) == Some(&OTHERS.to_bits().to_be_bytes()[..])
}

impl Queue for Both {
    fn caps(&self) -> &Caps {
        self.first.caps()
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let Some(others) = &mut self.others else { return self.first.rx_burst(pools, max, out) };
        self.turn = !self.turn;
        let (a, b) = if self.turn { (&mut self.first, others) } else { (others, &mut self.first) };
        let n = a.rx_burst(pools, max, out);
        n + b.rx_burst(pools, max - n, out)
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        match &mut self.others {
            Some(others) if is_for_others(frame) => others.tx(frame),
            _ => self.first.tx(frame),
        }
    }

    fn flush(&mut self) {}

    fn rx_waiting(&mut self) -> usize {
        self.first.rx_waiting() + self.others.as_mut().map_or(0, Queue::rx_waiting)
    }

    fn rx_mark(&mut self) {
        self.first.rx_mark();
        if let Some(others) = &mut self.others {
            others.rx_mark();
        }
    }

    fn rx_passed(&mut self) -> bool {
        self.first.rx_passed() && self.others.as_mut().is_none_or(Queue::rx_passed)
    }

    fn rx_hint(&self) -> RxHint {
        let first = self.first.rx_hint();
        let Some(others) = self.others.as_ref().map(Queue::rx_hint) else { return first };
        Arc::new(move || first() || others())
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn before_sleep(&mut self) -> bool {
        false
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        let mut sum = self.first.counters();
        if let Some(others) = &self.others {
            sum += others.counters();
        }
        sum
    }
}

/// Directs both loads.
#[derive(Clone)]
pub(crate) struct Directors {
    pub(crate) first: Director,
    pub(crate) others: Option<Director>,
}

impl Directors {
    pub(crate) fn orders(&self) -> u64 {
        self.first.orders() + self.others.as_ref().map_or(0, Director::orders)
    }

    pub(crate) fn due(&self, queue: usize) -> Nanos {
        self.first.due(queue).min(self.others.as_ref().map_or(Nanos::MAX, |others| others.due(queue)))
    }
}
