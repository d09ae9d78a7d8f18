//! The device as a whole: opened in one go, and its redirection table.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use nic::{Caps, Nic};
use sys::{SysError, link};
use units::{FLOW_GROUPS, FlowGroupId};
use wire::{Mac, Tuple};

use crate::steering::{FlowHash, Steering};
use crate::{TapConfig, TapError, TapQueue, device, vnet};

/// Queues of one TAP that Linux allows (MAX_TAP_QUEUES).
const MAX_QUEUES: u16 = 256;

/// A TAP device. It is removed with its last queue.
#[derive(Debug)]
pub struct TapNic {
    caps: Arc<Caps>,
    queues: Vec<TapQueue>,
    queue_count: u16,
    hash: FlowHash,
    /// What [`Nic::set_reta`] said last, for readers; the kernel's copy is in `steering`.
    reta: [AtomicU16; FLOW_GROUPS],
    steering: Result<Steering, Option<SysError>>,
    name: String,
    host_mac: Mac,
}

impl TapNic {
    /// Opens a TAP in the calling thread's network namespace: all queues with identical flags, read back; header size,
    /// offloads, steering and addresses set once; then the link up. Flow groups go to the queues in turn.
    ///
    /// # Errors
    /// A missing device file or privilege, a name that is taken by something else, a TAP that is busy or has other
    /// flags. That bpf(2) is refused is no error: see [`TapNic::steering_refusal`].
    pub fn open(config: &TapConfig) -> Result<TapNic, TapError> {
        let (name, queues, vnet) = (&config.name, config.queues, config.vnet);
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(TapError::Queues(queues));
        }
        if !(68..=65521).contains(&config.mtu) {
            return Err(TapError::Mtu(config.mtu));
        }
        let fds = device::open_queues(name, queues, vnet)?;
        if vnet {
            device::set_vnet(fds[0].as_fd(), vnet::SIZE as i32, name)?;
        }
        let hash = FlowHash::random();
        let steering =
            if config.software_steering { Err(None) } else { load_steering(&hash, fds[0].as_fd(), name).map_err(Some) };
        let host_mac = configure_link(config)?;
        let caps = Arc::new(caps(config, steering.is_ok()));
        let nic = TapNic {
            queues: fds.into_iter().map(|fd| TapQueue::new(fd, Arc::clone(&caps), vnet)).collect(),
            caps,
            queue_count: queues,
            hash,
            reta: [const { AtomicU16::new(0) }; FLOW_GROUPS],
            steering,
            name: name.clone(),
            host_mac,
        };
        for group in 0..FLOW_GROUPS as u16 {
            nic.direct(FlowGroupId(group), group % queues);
        }
        Ok(nic)
    }

    /// What the queues can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The interface's name in Linux.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Linux's Ethernet address on the link.
    pub const fn host_mac(&self) -> Mac {
        self.host_mac
    }

    /// Our Ethernet address.
    pub fn mac(&self) -> Mac {
        Mac(self.caps.mac)
    }

    /// How many queues the device was opened with, taken or not.
    pub const fn queue_count(&self) -> u16 {
        self.queue_count
    }

    /// Why the kernel does not steer, if it was asked to and refused.
    pub fn steering_refusal(&self) -> Option<&SysError> {
        self.steering.as_ref().err().and_then(Option::as_ref)
    }

    /// The queue of a flow group, as last set.
    pub fn reta(&self, group: FlowGroupId) -> u16 {
        self.reta[group.index()].load(Relaxed)
    }

    fn direct(&self, group: FlowGroupId, queue: u16) {
        self.reta[group.index()].store(queue, Relaxed);
        if let Ok(steering) = &self.steering {
            steering.reta.set(group.index(), u64::from(queue));
        }
    }
}

/// Linux's side of the link: sizes, addresses, up. Returns its Ethernet address.
fn configure_link(config: &TapConfig) -> Result<Mac, SysError> {
    let name = &config.name;
    link::set_mtu(name, u32::from(config.mtu))?;
    link::set_queue_len(name, config.queue_len)?;
    if let Some(mac) = config.host_mac {
        link::set_mac(name, mac.0)?;
    }
    for &(address, prefix) in &config.host_addrs {
        link::add_address(name, address, prefix)?;
    }
    link::up(name)?;
    Ok(Mac(link::info(name)?.mac))
}

fn caps(config: &TapConfig, steered: bool) -> Caps {
    let vnet = config.vnet;
    let mac = config.mac.unwrap_or_else(|| Mac::local(sys::random::u64() as u32));
    Caps {
        mtu: config.mtu,
        tx_csum: vnet,
        rx_csum: vnet,
        tso: vnet,
        large_rx: vnet,
        gather: true,
        steering: if steered { nic::Steering::Hardware } else { nic::Steering::Software },
        reta_size: FLOW_GROUPS as u16,
        mac: mac.0,
        name: format!("tap:{}", config.name),
    }
}

/// Steering in the kernel, attached to the device.
fn load_steering(hash: &FlowHash, fd: BorrowedFd<'_>, name: &str) -> Result<Steering, SysError> {
    let steering = Steering::load(hash)?;
    device::set_steering(fd, steering.program.as_fd(), name)?;
    Ok(steering)
}

impl Nic for TapNic {
    type Queue = TapQueue;

    fn queues(&mut self) -> Vec<TapQueue> {
        std::mem::take(&mut self.queues)
    }

    fn flow_group(&self, tuple: &Tuple) -> FlowGroupId {
        self.hash.group(tuple)
    }

    fn set_reta(&self, group: FlowGroupId, queue: u16) -> io::Result<()> {
        if group.index() >= FLOW_GROUPS || queue >= self.queue_count {
            let queues = self.queue_count;
            let what = format!("{group:?} to queue {queue}: there are {FLOW_GROUPS} groups and {queues} queues");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        self.direct(group, queue);
        Ok(())
    }

    fn steering(&self) -> nic::Steering {
        self.caps.steering
    }
}
