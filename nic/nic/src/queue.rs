use std::io;
use std::ops::AddAssign;
use std::os::fd::RawFd;
use std::sync::Arc;

use units::FlowGroupId;
use wire::Tuple;

use crate::{Caps, RxFrame, RxPools, Steering, TxFrame, TxFull};

/// A NIC: queue pairs, and the table that spreads flow groups over them.
pub trait Nic {
    /// One receive and one transmit ring.
    type Queue: Queue;

    /// Takes the queues, in the order that [`set_reta`](Self::set_reta) numbers them. A second call yields none.
    fn queues(&mut self) -> Vec<Self::Queue>;

    /// The flow group of frames that arrive on flow `tuple`.
    fn flow_group(&self, tuple: &Tuple) -> FlowGroupId;

    /// Directs the frames of `group` to `queue` from about now on; frames that are under way still reach the old one.
    ///
    /// Errors: there is no such group or queue, or the NIC refuses.
    fn set_reta(&self, group: FlowGroupId, queue: u16) -> io::Result<()>;

    /// Who brings frames to the right queue.
    fn steering(&self) -> Steering;
}

/// Answers, to any core and without touching the queue, whether a poll would probably find frames. A hint: it may be wrong either way for a
/// moment, and costs no more than a few tens of nanoseconds (TAP: a system call).
pub type RxHint = Arc<dyn Fn() -> bool + Send + Sync>;

/// A queue pair. One thread at a time uses it, and its calls never block.
pub trait Queue: Send {
    /// What the NIC can do.
    fn caps(&self) -> &Caps;

    /// Takes at most `max` frames from the receive ring into buffers of `pools` and pushes them on `out`; answers how
    /// many.
    ///
    /// It stays within the capacity of `out` and so allocates nothing. Frames for which no buffer is left stay in the
    /// ring if the backend can leave them there, and are dropped and counted (`rx_nombuf`) otherwise.
    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize;

    /// Places a frame in the transmit ring; its bytes may change as soon as this returns. The peer is told by
    /// [`flush`](Self::flush).
    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull>;

    /// Whether a super-frame of any size would find room now. Asked before one is made, for it is not kept until there is.
    fn has_room(&mut self) -> bool {
        true
    }

    /// Rings the doorbell for all frames placed since the last time: once per turn.
    fn flush(&mut self);

    /// Notes how far the transmit ring has been filled, for [`tx_passed`](Self::tx_passed). By default nothing is noted: frames leave in the order in
    /// which they are placed, whichever queue they are placed in.
    fn tx_mark(&mut self) {}

    /// Whether every frame placed before the last [`tx_mark`](Self::tx_mark) has left the ring, so that no frame that another queue sends from now on can
    /// get to the peer before it.
    fn tx_passed(&mut self) -> bool {
        true
    }

    /// How other cores learn that frames wait here. By default: they have to look.
    fn rx_hint(&self) -> RxHint {
        Arc::new(|| true)
    }

    /// Frames that wait in the receive ring, if the NIC can tell; 0 if not. Asked after a burst that was as large as it may be.
    fn rx_waiting(&mut self) -> usize {
        0
    }

    /// Notes where the receive ring ends now, for [`rx_passed`](Self::rx_passed): after an acquiring look at whatever the NIC or the peer writes. By default
    /// nothing is noted: the NIC cannot tell.
    fn rx_mark(&mut self) {}

    /// Whether every frame that was in the receive ring at the last [`rx_mark`](Self::rx_mark) has been taken from it, whatever has come since. By default
    /// never: only a burst that brought less than it might tells that there is nothing older.
    fn rx_passed(&mut self) -> bool {
        false
    }

    /// A descriptor that becomes readable when frames arrive after [`before_sleep`](Self::before_sleep); none if
    /// the queue can only be polled.
    fn wait_fd(&self) -> Option<RawFd>;

    /// Arms the doorbell. False: frames wait already, nothing is armed, and there is no sleep. True: sleep may
    /// follow, and then [`after_sleep`](Self::after_sleep).
    fn before_sleep(&mut self) -> bool;

    /// Disarms the doorbell.
    fn after_sleep(&mut self);

    /// What went through so far.
    fn counters(&self) -> QueueCounters;
}

/// What went through a queue since it was made, as a snapshot.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct QueueCounters {
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames placed in the transmit ring.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Times that a frame found no buffer: the pools are too small.
    pub rx_nombuf: u64,
    /// Frames dropped because they were larger than any buffer, or cut off.
    pub rx_truncated: u64,
    /// Indices or lengths from the peer that could not be: it is broken or hostile, and was ignored.
    pub rx_invalid: u64,
    /// Frames that the transmit ring had no room for (each attempt counts).
    pub tx_full: u64,
    /// Frames that the NIC or the kernel refused for good.
    pub tx_errors: u64,
    /// System calls made to receive, empty polls included.
    pub rx_syscalls: u64,
    /// System calls made to transmit, doorbells included.
    pub tx_syscalls: u64,
}

impl AddAssign for QueueCounters {
    fn add_assign(&mut self, other: QueueCounters) {
        let QueueCounters {
            rx_frames,
            rx_bytes,
            tx_frames,
            tx_bytes,
            rx_nombuf,
            rx_truncated,
            rx_invalid,
            tx_full,
            tx_errors,
            rx_syscalls,
            tx_syscalls,
        } = other;
        self.rx_frames += rx_frames;
        self.rx_bytes += rx_bytes;
        self.tx_frames += tx_frames;
        self.tx_bytes += tx_bytes;
        self.rx_nombuf += rx_nombuf;
        self.rx_truncated += rx_truncated;
        self.rx_invalid += rx_invalid;
        self.tx_full += tx_full;
        self.tx_errors += tx_errors;
        self.rx_syscalls += rx_syscalls;
        self.tx_syscalls += tx_syscalls;
    }
}
