//! The interface as a whole: checked, program attached, sockets bound; its redirection table.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use nic::{Caps, Nic, Steering};
use sys::bpf::{Array, Attachment, SocketMap};
use sys::{SysError, link};
use tap::FlowHash;
use units::{FLOW_GROUPS, FlowGroupId};
use wire::rss::Toeplitz;
use wire::{Mac, Tuple, ethernet};

use crate::copies::Copies;
use crate::peer::{self, Peer};
use crate::queue::Seen;
use crate::rss::{Interface, Rss, RssError};
use crate::setup::{self, Attached, Ground, system};
use crate::socket::{Groups, Statistics};
use crate::{Mode, XdpConfig, XdpError, XdpQueue};

/// What the kernel keeps free before a frame in a chunk (XDP_PACKET_HEADROOM).
const HEADROOM: u32 = 256;

/// Who brings frames to the socket of their flow group.
#[derive(Debug)]
enum Steers {
    /// A program at a veth's other end.
    Peer(Peer),
    /// The program that takes them, by this table: all sockets are on one queue.
    Program(Array),
    /// The NIC, by its own table and hash.
    Hardware(Rss<Interface>, Box<Toeplitz>),
    /// Nobody, and why.
    Nobody(String),
}

/// An interface of Linux, shared with the kernel: frames for our addresses are ours, the rest is the kernel's.
///
/// Nothing is left of it when it is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct XdpNic {
    caps: Arc<Caps>,
    queues: Vec<XdpQueue>,
    queue_count: u16,
    hash: FlowHash,
    reta: [AtomicU16; FLOW_GROUPS],
    steers: Steers,
    mode: Mode,
    fallback: Option<String>,
    busy_poll: Option<Result<(), SysError>>,
    shared: Vec<IpAddr>,
    watch: Watch,
    _attached: Attachment,
    _sockets: SocketMap,
    _groups: Groups,
}

impl XdpNic {
    /// Takes our addresses' frames from an interface of the calling thread's network namespace: the best mode that works, a socket on each
    /// receive queue, steering where it can be had. Flow groups go to the queues in turn.
    ///
    /// # Errors
    /// See [`XdpError`]. That there is no steering is no error: see [`XdpNic::steering_refusal`].
    pub fn open(config: &XdpConfig) -> Result<XdpNic, XdpError> {
        let (name, queues) = (&config.interface, config.queues);
        let (info, ours, crowded) = setup::check(config)?;
        let sockets = SocketMap::new(queues.into()).map_err(system)?;
        let hash = FlowHash::random();
        let on_one = |mode| crowded || queues > 1 && mode == Mode::Generic && info.kind == "veth";
        let load = |mode| setup::program(config, &ours, &sockets, on_one(mode).then_some(&hash));
        let Attached { mode, fallback, attachment, table } = setup::attach(config, info.index, load)?;
        let chunk = if info.mtu + ethernet::HEADER as u32 + HEADROOM <= 2048 { 2048 } else { 4096 };
        let ground = Ground { config, mode, interface: info.index, chunk, sockets: &sockets };
        let bound = if on_one(mode) {
            ground.bind(0, 0..queues)?
        } else {
            let each = (0..queues).map(|queue| ground.bind(queue, queue..queue + 1)).collect::<Result<Vec<_>, _>>()?;
            each.into_iter().flatten().collect()
        };
        let zero_copy = mode == Mode::Native && bound.iter().all(|(socket, _)| socket.is_zero_copy());
        let steers = match table {
            _ if queues == 1 => Steers::Nobody("there is one queue only".to_owned()),
            Some(table) => table.map_or_else(Steers::Nobody, Steers::Program),
            None if config.software_steering => Steers::Nobody("asked for".to_owned()),
            None if info.kind == "veth" => peer::steer(&info, queues, &hash).map_or_else(Steers::Nobody, Steers::Peer),
            None => match Rss::take_over(Interface(name.clone()), queues) {
                Ok((table, toeplitz)) => Steers::Hardware(table, toeplitz),
                Err(e) => Steers::Nobody(e.to_string()),
            },
        };
        let caps = Arc::new(caps(&info, name, queues == 1 || !matches!(steers, Steers::Nobody(_))));
        let veth = info.kind == "veth";
        let queue = |(socket, supply)| XdpQueue::new(socket, supply, caps.clone(), veth);
        let mut queues: Vec<XdpQueue> = bound.into_iter().map(queue).collect();
        if let Some(first) = queues.first_mut()
            && !ours.shared.is_empty()
        {
            Copies::of(info.index).and_then(|copies| first.pass_on(copies)).map_err(system)?;
        }
        let busy = |micros| queues.iter_mut().try_for_each(|queue: &mut XdpQueue| queue.busy_poll(micros));
        let busy_poll = config.busy_poll.map(busy);
        let watch = Watch { name: name.clone(), queues: queues.iter().map(XdpQueue::seen).collect() };
        let nic = XdpNic {
            caps,
            queue_count: config.queues,
            queues,
            hash,
            reta: [const { AtomicU16::new(0) }; FLOW_GROUPS],
            steers,
            mode: if zero_copy { Mode::ZeroCopy } else { mode },
            fallback,
            busy_poll,
            shared: ours.shared,
            watch,
            _attached: attachment,
            _sockets: sockets,
            _groups: Groups::join(info.index, &config.addresses).map_err(system)?,
        };
        for group in 0..FLOW_GROUPS as u16 {
            // A NIC's own table has just been written so.
            nic.direct(FlowGroupId(group), group % config.queues).map_err(|e| {
                XdpError::Sys(match e {
                    RssError::Refused(e) => e,
                    e => SysError::new("set_reta", e.into()),
                })
            })?;
        }
        Ok(nic)
    }

    /// What the queues can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The interface's Ethernet address, which is ours, too.
    pub fn mac(&self) -> Mac {
        Mac(self.caps.mac)
    }

    /// How frames come.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why it is not a better mode.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Whether empty polls run the driver's receive path, if that was asked for; the kernel may have refused.
    pub fn busy_poll(&self) -> Option<Result<(), &SysError>> {
        self.busy_poll.as_ref().map(|outcome| match outcome {
            Ok(()) => Ok(()),
            Err(e) => Err(e),
        })
    }

    /// Those of our addresses that the kernel has, too.
    pub fn shared_addresses(&self) -> &[IpAddr] {
        &self.shared
    }

    /// Why frames do not come by the queue of their flow group.
    pub fn steering_refusal(&self) -> Option<&str> {
        match &self.steers {
            Steers::Nobody(why) if self.queue_count > 1 => Some(why),
            _ => None,
        }
    }

    /// To be kept by whoever wants to know how the interface is.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    fn direct(&self, group: FlowGroupId, queue: u16) -> Result<(), RssError> {
        match &self.steers {
            Steers::Peer(peer) => peer.steering.reta.set(group.index(), u64::from(queue)),
            Steers::Program(table) => table.set(group.index(), u64::from(queue)),
            Steers::Hardware(table, _) => table.direct(group, queue)?,
            Steers::Nobody(_) => {}
        }
        self.reta[group.index()].store(queue, Relaxed);
        Ok(())
    }
}

impl Nic for XdpNic {
    type Queue = XdpQueue;

    fn queues(&mut self) -> Vec<XdpQueue> {
        std::mem::take(&mut self.queues)
    }

    fn flow_group(&self, tuple: &Tuple) -> FlowGroupId {
        match &self.steers {
            Steers::Hardware(_, toeplitz) => toeplitz.flow_group(tuple),
            _ => self.hash.group(tuple),
        }
    }

    fn set_reta(&self, group: FlowGroupId, queue: u16) -> io::Result<()> {
        if group.index() >= FLOW_GROUPS || queue >= self.queue_count {
            let queues = self.queue_count;
            let what = format!("{group:?} to queue {queue}: there are {FLOW_GROUPS} groups and {queues} queues");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if let Some(why) = self.steering_refusal() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} does not steer: {why}", self.caps.name),
            ));
        }
        Ok(self.direct(group, queue)?)
    }

    fn steering(&self) -> Steering {
        self.caps.steering
    }
}

/// Sees how an interface is while its queues are in use. Its calls are system calls.
#[derive(Clone, Debug)]
pub struct Watch {
    name: String,
    queues: Vec<Arc<Seen>>,
}

impl Watch {
    /// Whether the interface has been removed, or has lost our sockets otherwise. It does not come back.
    pub fn is_gone(&self) -> bool {
        for seen in &self.queues {
            // ENETDOWN comes by itself only when the interface is unregistered; while it is merely down, sending says so.
            if seen.fd.trouble().is_some() {
                seen.gone.store(true, Relaxed);
            }
        }
        self.queues.iter().any(|seen| seen.gone.load(Relaxed))
    }

    /// The interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Frames whose checksum a Linux peer had left undone.
    pub fn partial(&self) -> u64 {
        self.queues.iter().map(|seen| seen.partial.load(Relaxed)).sum()
    }

    /// System calls made to transmit.
    pub fn kicks(&self) -> u64 {
        self.queues.iter().map(|seen| seen.kicks.load(Relaxed)).sum()
    }

    /// What the kernel counted, all queues together.
    pub fn statistics(&self) -> Statistics {
        self.queues.iter().map(|seen| seen.fd.statistics()).fold(Statistics::default(), |a, b| Statistics {
            rx_dropped: a.rx_dropped + b.rx_dropped,
            rx_invalid: a.rx_invalid + b.rx_invalid,
            tx_invalid: a.tx_invalid + b.tx_invalid,
            rx_ring_full: a.rx_ring_full + b.rx_ring_full,
            rx_fill_empty: a.rx_fill_empty + b.rx_fill_empty,
            tx_ring_empty: a.tx_ring_empty + b.tx_ring_empty,
        })
    }
}

fn caps(info: &link::Info, name: &str, steered: bool) -> Caps {
    Caps {
        mtu: info.mtu as u16,
        tx_csum: false,
        rx_csum: false,
        tso: false,
        large_rx: false,
        gather: true,
        steering: if steered { Steering::Hardware } else { Steering::Software },
        reta_size: FLOW_GROUPS as u16,
        mac: info.mac,
        name: format!("xdp:{name}"),
    }
}

/// Our IPv6 addresses among these.
pub(crate) fn v6(addresses: &[IpAddr]) -> impl Iterator<Item = std::net::Ipv6Addr> + '_ {
    addresses.iter().filter_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None })
}
