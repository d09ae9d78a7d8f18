//! A wire for one stack: what it is given waits until it polls, what it sends is kept.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use nic::{Caps, Queue, QueueCounters, RxFrame, RxPools, Steering, TxFrame, TxFull};
use wire::Mac;

/// Frames in both directions, whole.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) to_stack: VecDeque<Vec<u8>>,
    pub(crate) from_stack: VecDeque<Vec<u8>>,
    /// Whether the NIC has no room for a frame to send.
    pub(crate) full: bool,
}

/// The stack's end of it.
pub(crate) struct Plug(Arc<Mutex<Wire>>, Caps);

impl Plug {
    /// The queue of a NIC that can do nothing but carry frames.
    pub(crate) fn new(wire: Arc<Mutex<Wire>>, mac: Mac) -> Plug {
        let caps = Caps {
            mtu: 1500,
            tx_csum: false,
            rx_csum: false,
            tso: false,
            large_rx: false,
            gather: true,
            steering: Steering::Hardware,
            reta_size: 128,
            mac: mac.0,
            name: "test".into(),
        };
        Plug(wire, caps)
    }
}

impl Queue for Plug {
    fn caps(&self) -> &Caps {
        &self.1
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let mut wire = self.0.lock().unwrap();
        let max = max.min(wire.to_stack.len()).min(out.capacity() - out.len());
        for n in 0..max {
            // Without a buffer a frame waits, as it does in the ring of a NIC.
            let Some(mut head) = pools.mbufs.alloc() else { return n };
            let Some(bytes) = wire.to_stack.pop_front() else { return n };
            head.extend(&bytes);
            out.push(RxFrame { head, rest: Default::default(), csum_ok: false, group: None });
        }
        max
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        let mut wire = self.0.lock().unwrap();
        if wire.full {
            return Err(TxFull);
        }
        let mut bytes = frame.head.to_vec();
        frame.payload.iter().for_each(|piece| bytes.extend_from_slice(piece));
        wire.from_stack.push_back(bytes);
        Ok(())
    }

    fn flush(&mut self) {}

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn before_sleep(&mut self) -> bool {
        true
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        QueueCounters::default()
    }
}
