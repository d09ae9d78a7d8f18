//! The interface as a whole: checked, program attached, sockets bound; its redirection table.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nic::{Caps, Nic, Steering};
use sys::bpf::{Attachment, Program, SocketMap, XdpMode, program_name};
use sys::{SysError, ethtool, link};
use tap::FlowHash;
use units::{FLOW_GROUPS, FlowGroupId};
use wire::{Mac, Tuple, ethernet};

use crate::peer::{self, Peer};
use crate::queue::{SLOTS, Seen};
use crate::ring::Chunks;
use crate::socket::{Binding, Groups, Socket, Statistics};
use crate::{Mode, XdpConfig, XdpError, XdpQueue, filter};

/// Queues at most.
const MAX_QUEUES: u16 = 64;
/// What the kernel keeps free before a frame in a chunk (XDP_PACKET_HEADROOM).
const HEADROOM: u32 = 256;
/// The largest frame: what the network layer's buffers hold.
const MAX_FRAME: u32 = 2048;
/// How long an interface may run a program of ours whose process is just ending.
const PATIENCE: Duration = Duration::from_millis(500);

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
    peer: Result<Peer, String>,
    mode: Mode,
    fallback: Option<String>,
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
        let info = check(config)?;
        let sockets = SocketMap::new(queues.into()).map_err(system)?;
        let program = filter::load(&config.addresses, &sockets).map_err(system)?;
        let attached = attach(config, &program, info.index)?;
        let (mode, fallback, attachment) = attached;
        let chunk = if info.mtu + ethernet::HEADER as u32 + HEADROOM <= 2048 { 2048 } else { 4096 };
        let bound = (0..queues).map(|queue| bind(config, mode, info.index, queue, chunk, &sockets));
        let bound = bound.collect::<Result<Vec<Socket>, XdpError>>()?;
        let zero_copy = mode == Mode::Native && bound.iter().all(Socket::is_zero_copy);
        let hash = FlowHash::random();
        let peer = match queues {
            _ if config.software_steering => Err("asked for".to_owned()),
            1 => Err("there is one queue only".to_owned()),
            _ if mode == Mode::Generic && info.kind == "veth" => {
                Err("in generic mode a veth delivers every frame by its first queue".to_owned())
            }
            _ => peer::steer(&info, queues, &hash),
        };
        let caps = Arc::new(caps(&info, name, peer.is_ok() || queues == 1));
        let veth = info.kind == "veth";
        let queues: Vec<XdpQueue> = bound.into_iter().map(|s| XdpQueue::new(s, caps.clone(), veth)).collect();
        let watch = Watch { name: name.clone(), queues: queues.iter().map(XdpQueue::seen).collect() };
        let nic = XdpNic {
            caps,
            queue_count: config.queues,
            queues,
            hash,
            reta: [const { AtomicU16::new(0) }; FLOW_GROUPS],
            peer,
            mode: if zero_copy { Mode::ZeroCopy } else { mode },
            fallback,
            watch,
            _attached: attachment,
            _sockets: sockets,
            _groups: Groups::join(info.index, &config.addresses).map_err(system)?,
        };
        for group in 0..FLOW_GROUPS as u16 {
            nic.direct(FlowGroupId(group), group % config.queues);
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

    /// Why frames do not come by the queue of their flow group.
    pub fn steering_refusal(&self) -> Option<&str> {
        if self.queue_count == 1 { None } else { self.peer.as_ref().err().map(String::as_str) }
    }

    /// To be kept by whoever wants to know how the interface is.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    fn direct(&self, group: FlowGroupId, queue: u16) {
        self.reta[group.index()].store(queue, Relaxed);
        if let Ok(peer) = &self.peer {
            peer.steering.reta.set(group.index(), u64::from(queue));
        }
    }
}

impl Nic for XdpNic {
    type Queue = XdpQueue;

    fn queues(&mut self) -> Vec<XdpQueue> {
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
        if let Some(why) = self.steering_refusal() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} does not steer: {why}", self.caps.name),
            ));
        }
        self.direct(group, queue);
        Ok(())
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

/// Everything that can be known before anything is touched.
fn check(config: &XdpConfig) -> Result<link::Info, XdpError> {
    let (name, queues) = (&config.interface, config.queues);
    if !(1..=MAX_QUEUES).contains(&queues) {
        return Err(XdpError::Queues(queues));
    }
    let missing = |e: SysError| match e.errno() {
        Some(libc::ENODEV | libc::ENXIO) => XdpError::Missing { name: name.clone() },
        _ => XdpError::Sys(e),
    };
    let info = link::info(name).map_err(missing)?;
    if !info.up {
        return Err(XdpError::Down { name: name.clone() });
    }
    let max = MAX_FRAME - ethernet::HEADER as u32;
    if info.mtu > max {
        return Err(XdpError::Mtu { name: name.clone(), mtu: info.mtu, max });
    }
    let kernels = link::addresses(name)?;
    if let Some(&address) = config.addresses.iter().find(|a| kernels.contains(a)) {
        return Err(XdpError::Taken { name: name.clone(), address });
    }
    if let Ok(has) = ethtool::queues(name)
        && (has.rx != u32::from(queues) || has.tx < u32::from(queues))
    {
        let channels = if info.kind == "veth" { "rx N tx N" } else { "combined N" };
        let (name, has, tx) = (name.clone(), has.rx, has.tx);
        return Err(XdpError::QueueCount { name, wanted: queues, has, tx, channels });
    }
    Ok(info)
}

/// Sorts a refusal that has nothing to do with the interface.
fn system(e: SysError) -> XdpError {
    match e.errno() {
        Some(libc::EPERM | libc::EACCES) => XdpError::Privilege(e),
        Some(libc::EAFNOSUPPORT | libc::ENOPROTOOPT | libc::ENOSYS) => XdpError::Kernel(e),
        _ => XdpError::Sys(e),
    }
}

/// Has the interface run the program, in the best mode that works. The mode is native where zero-copy may follow.
fn attach(
    config: &XdpConfig,
    program: &Program,
    interface: u32,
) -> Result<(Mode, Option<String>, Attachment), XdpError> {
    let name = &config.interface;
    wait_for_our_own(name)?;
    let modes: &[Mode] = match config.mode {
        None => &[Mode::Native, Mode::Generic],
        Some(Mode::Generic) => &[Mode::Generic],
        Some(_) => &[Mode::Native],
    };
    let mut tried = Vec::new();
    for &mode in modes {
        let place = if mode == Mode::Generic { XdpMode::Generic } else { XdpMode::Native };
        match Attachment::xdp(program, interface, place) {
            Ok(attached) => return Ok((mode, (!tried.is_empty()).then(|| tried.join("; ")), attached)),
            Err(e) => match e.errno() {
                Some(libc::EPERM) => return Err(XdpError::Privilege(e)),
                Some(libc::EBUSY | libc::EEXIST) => return Err(in_use(name).unwrap_or(XdpError::Sys(e.on(name)))),
                Some(libc::EINVAL) if mode == Mode::Generic => return Err(XdpError::Kernel(e.on(name))),
                _ => tried.push(format!("{mode}: {}{}", e.cause, hint(&e))),
            },
        }
    }
    Err(XdpError::NoMode { name: name.clone(), tried: tried.join("; ") })
}

/// What usually is in the way of native mode.
fn hint(e: &SysError) -> &'static str {
    match e.errno() {
        Some(libc::ERANGE) => " (an MTU too large for it, on a veth that of the other end: 3500 at most)",
        Some(libc::ENOSPC) => " (the other end of the veth has more transmit queues than this one receive queues)",
        _ => "",
    }
}

/// The program that an interface runs, as an error.
fn in_use(name: &str) -> Option<XdpError> {
    let id = link::info(name).ok()?.xdp_program;
    let program = program_name(id).ok().filter(|n| !n.is_empty()).unwrap_or_else(|| "without a name".to_owned());
    (id != 0).then(|| XdpError::InUse { name: name.to_owned(), program, id })
}

/// A program of ours may be there for a moment after its process was killed; anybody else's is an error at once.
fn wait_for_our_own(name: &str) -> Result<(), XdpError> {
    let started = Instant::now();
    while let Some(e) = in_use(name) {
        let ours = matches!(&e, XdpError::InUse { program, .. } if program == filter::NAME);
        if !ours || started.elapsed() > PATIENCE {
            return Err(e);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A socket on `queue`, where the program finds it.
fn bind(
    config: &XdpConfig,
    mode: Mode,
    interface: u32,
    queue: u16,
    chunk: u32,
    sockets: &SocketMap,
) -> Result<Socket, XdpError> {
    let chunks = Arc::new(Chunks::new(2 * SLOTS, chunk)?);
    let socket = Socket::new(chunks, SLOTS).map_err(system)?;
    let flags = match (mode, config.mode) {
        (_, Some(Mode::ZeroCopy)) => libc::XDP_ZEROCOPY,
        (Mode::Native, None) => 0, // the kernel tries zero-copy first
        _ => libc::XDP_COPY,
    };
    let name = &config.interface;
    socket.bind(Binding { interface, queue, flags }).map_err(|e| match e.errno() {
        Some(libc::EBUSY) => XdpError::QueueInUse { name: name.clone(), queue },
        Some(libc::ENETDOWN) => XdpError::Down { name: name.clone() },
        Some(libc::EOPNOTSUPP) if config.mode.is_some() => {
            XdpError::NoMode { name: name.clone(), tried: format!("{}: {}", Mode::ZeroCopy, e.cause) }
        }
        _ => system(e.on(format!("queue {queue} of {name}"))),
    })?;
    use std::os::fd::AsFd;
    sockets.set(queue.into(), socket.fd.as_fd()).map_err(system)?;
    Ok(socket)
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
