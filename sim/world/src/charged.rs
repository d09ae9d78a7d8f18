use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use sys::clock::Clock;
use units::Nanos;

use crate::costs::Costs;

/// A queue whose frames take time: it moves the clock by what each costs, before its reply is stamped.
pub(crate) struct Charged<Q> {
    inner: Q,
    clock: Clock,
    rx: Nanos,
    tx: Nanos,
    /// The bit of this queue, in the word that says where frames have passed.
    bit: u64,
    touched: Arc<AtomicU64>,
}

impl<Q: Queue> Charged<Q> {
    pub(crate) fn new(inner: Q, at: usize, clock: &Clock, costs: &Costs, touched: &Arc<AtomicU64>) -> Charged<Q> {
        let (rx, tx) = (Nanos(costs.rx_ns), Nanos(costs.tx_ns));
        Charged { inner, clock: clock.clone(), rx, tx, bit: 1 << at, touched: touched.clone() }
    }

    fn charge(&self, time: Nanos) {
        self.clock.spend(time);
        self.touched.fetch_or(self.bit, Relaxed);
    }
}

impl<Q: Queue> Queue for Charged<Q> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let n = self.inner.rx_burst(pools, max, out);
        if n > 0 {
            self.charge(Nanos(self.rx.0 * n as u64));
        }
        n
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        self.charge(self.tx);
        self.inner.tx(frame)
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn tx_mark(&mut self) {
        self.inner.tx_mark();
    }

    fn tx_passed(&mut self) -> bool {
        self.inner.tx_passed()
    }

    fn rx_waiting(&mut self) -> usize {
        self.inner.rx_waiting()
    }

    fn rx_mark(&mut self) {
        self.inner.rx_mark();
    }

    fn rx_passed(&mut self) -> bool {
        self.inner.rx_passed()
    }

    fn rx_hint(&self) -> RxHint {
        self.inner.rx_hint()
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn before_sleep(&mut self) -> bool {
        false
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        self.inner.counters()
    }
}
