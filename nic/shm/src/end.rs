use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use nic::{Caps, Nic, Steering};
use sys::SysError;
use sys::wait::EventFd;
use units::{FLOW_GROUPS, FlowGroupId};
use wire::Tuple;

use crate::handshake::{self, Listener};
use crate::memory::{Geometry, Memory, Side};
use crate::queue::{Link, flow_group};
use crate::{Config, LARGE_RING, ShmQueue};

/// One end of an emulated wire.
#[derive(Debug)]
pub struct ShmNic {
    link: Arc<Link>,
    side: Side,
    caps: Caps,
    taken: bool,
}

/// A wire within this process: what one NIC transmits, the other receives.
///
/// Errors: a number of the configurations is out of range; no memory or descriptors are left.
pub fn pair(left: &Config, right: &Config) -> io::Result<(ShmNic, ShmNic)> {
    let link = Arc::new(Link::create(left, right)?);
    let agreed = Agreed::of(left, right, left.ring);
    let nic = |side, config| ShmNic::new(Arc::clone(&link), side, config, agreed, "shm:pair");
    Ok((nic(0, left), nic(1, right)))
}

impl Link {
    /// Memory and doorbells for two sides.
    pub(crate) fn create(left: &Config, right: &Config) -> io::Result<Link> {
        left.check()?;
        right.check()?;
        let geometry = Geometry { queues: [left.queues, right.queues], ring: left.ring };
        let bells = |n: u16| (0..n).map(|_| EventFd::new()).collect::<Result<Vec<_>, SysError>>();
        let bells = [bells(left.queues)?, bells(right.queues)?];
        Ok(Link { memory: Arc::new(Memory::create(geometry)?), bells })
    }
}

/// What both sides have said yes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Agreed {
    pub(crate) trusted: bool,
    pub(crate) large: bool,
}

impl Agreed {
    /// Of two sides' wishes, on rings of `ring` slots.
    pub(crate) fn of(left: &Config, right: &Config, ring: u32) -> Agreed {
        Agreed { trusted: left.trusted && right.trusted, large: left.large && right.large && ring >= LARGE_RING }
    }
}

impl ShmNic {
    pub(crate) fn new(link: Arc<Link>, side: Side, config: &Config, agreed: Agreed, name: &str) -> ShmNic {
        let Agreed { trusted, large } = agreed;
        let caps = Caps {
            mtu: 1500,
            tx_csum: trusted,
            rx_csum: trusted,
            tso: large,
            large_rx: large,
            gather: true,
            steering: Steering::Hardware,
            reta_size: FLOW_GROUPS as u16,
            mac: config.mac.0,
            name: format!("{name} (emulated wire)"),
        };
        ShmNic { link, side, caps, taken: false }
    }

    /// Waits at `path` for the process at the other end. To wait with a hand on the wheel, use a [`Listener`].
    ///
    /// Errors: as [`Listener::bind`] and [`Listener::accept`].
    pub fn listen(path: &Path, config: &Config) -> io::Result<ShmNic> {
        Listener::bind(path, config)?.accept()
    }

    /// Joins the wire of the process that listens at `path`.
    ///
    /// Errors: nobody listens there; it refuses, or speaks another version.
    pub fn connect(path: &Path, config: &Config) -> io::Result<ShmNic> {
        handshake::connect(path, config)
    }

    /// What the NIC can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    fn queues_here(&self) -> u16 {
        self.link.memory.geometry().queues[self.side]
    }
}

impl Nic for ShmNic {
    type Queue = ShmQueue;

    fn queues(&mut self) -> Vec<ShmQueue> {
        let n = if std::mem::replace(&mut self.taken, true) { 0 } else { self.queues_here() };
        (0..n).map(|index| ShmQueue::new(&self.link, self.side, index, self.caps.clone())).collect()
    }

    fn flow_group(&self, tuple: &Tuple) -> FlowGroupId {
        flow_group(tuple)
    }

    /// One store; frames that the peer has placed already come to the old queue.
    fn set_reta(&self, group: FlowGroupId, queue: u16) -> io::Result<()> {
        if group.index() >= FLOW_GROUPS || queue >= self.queues_here() {
            let text =
                format!("{group:?} to queue {queue}: the wire has {FLOW_GROUPS} groups, {} queues", self.queues_here());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.link.memory.port(self.side).reta[group.index()].store(queue, Relaxed);
        Ok(())
    }

    fn steering(&self) -> Steering {
        Steering::Hardware
    }
}
