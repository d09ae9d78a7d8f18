//! From a configuration to a program at its place and bound sockets, or to a sentence why not.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sync::TryLock;
use sys::bpf::{Array, Attachment, Program, SocketMap, XdpMode, program_name};
use sys::{SysError, ethtool, link};
use tap::FlowHash;
use units::FLOW_GROUPS;
use wire::ethernet;

use crate::filter::{self, Ours, To};
use crate::queue::SLOTS;
use crate::ring::Chunks;
use crate::socket::{Binding, Socket};
use crate::supply::{Rings, Supply};
use crate::{MAX_PORTS, Mode, XdpConfig, XdpError};

/// Queues at most.
const MAX_QUEUES: u16 = 64;
/// The largest frame: what the network layer's buffers hold.
const MAX_FRAME: u32 = 2048;
/// How long an interface may run a program of ours whose process is just ending.
const PATIENCE: Duration = Duration::from_millis(500);

/// Everything that can be known before anything is touched: the interface, what is ours, and whether one receive queue is to do for several threads.
pub(crate) fn check(config: &XdpConfig) -> Result<(link::Info, Ours, bool), XdpError> {
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
    let (kernels, ports) = (link::addresses(name)?, config.ports.clone());
    let (shared, alone): (Vec<_>, Vec<_>) = config.addresses.iter().partition(|a| kernels.contains(a));
    if let (Some(&address), true) = (shared.first(), ports.is_empty()) {
        return Err(XdpError::Taken { name: name.clone(), address });
    }
    if ports.len() > MAX_PORTS {
        return Err(XdpError::Ports(ports.len()));
    }
    let has = ethtool::queues(name).ok();
    let crowded = queues > 1 && has.is_some_and(|has| has.rx == 1);
    if let Some(has) = has.filter(|_| !crowded)
        && (has.rx != u32::from(queues) || has.tx < u32::from(queues))
    {
        let channels = if info.kind == "veth" { "rx N tx N" } else { "combined N" };
        let (name, has, tx) = (name.clone(), has.rx, has.tx);
        return Err(XdpError::QueueCount { name, wanted: queues, has, tx, channels });
    }
    Ok((info, Ours { alone, shared, ports }, crowded))
}

/// Sorts a refusal that has nothing to do with the interface.
pub(crate) fn system(e: SysError) -> XdpError {
    match e.errno() {
        Some(libc::EPERM | libc::EACCES) => XdpError::Privilege(e),
        Some(libc::EAFNOSUPPORT | libc::ENOPROTOOPT | libc::ENOSYS) => XdpError::Kernel(e),
        _ => XdpError::Sys(e),
    }
}

/// The program, for a socket on each queue, or by this flow-group function for all sockets on one; then with the table that it reads, or why there is none.
pub(crate) fn program(
    config: &XdpConfig,
    ours: &Ours,
    sockets: &SocketMap,
    on_one: Option<&FlowHash>,
) -> Result<(Program, Table), XdpError> {
    let load = |to| filter::load(ours, sockets, to);
    let Some(hash) = on_one else { return Ok((load(To::Queue).map_err(system)?, None)) };
    if config.software_steering {
        return Ok((load(To::First).map_err(system)?, Some(Err("asked for".to_owned()))));
    }
    let table = Array::new(FLOW_GROUPS as u32).map_err(system)?;
    match load(To::Group(hash, &table)) {
        Ok(program) => Ok((program, Some(Ok(table)))),
        Err(e) if e.errno() == Some(libc::EINVAL) => {
            let why = "all frames come by one queue, and before Linux 5.18 no program there can tell their flow groups";
            Ok((load(To::First).map_err(system)?, Some(Err(why.to_owned()))))
        }
        Err(e) => Err(system(e)),
    }
}

/// What a program that is for all sockets on one queue reads: see [`program`].
pub(crate) type Table = Option<Result<Array, String>>;

/// A program at its place.
pub(crate) struct Attached {
    pub(crate) mode: Mode,
    /// Why it is not a better mode.
    pub(crate) fallback: Option<String>,
    pub(crate) attachment: Attachment,
    pub(crate) table: Table,
}

/// Has the interface run the program that `load` makes for a mode, in the best mode that works. The mode is native where zero-copy may follow.
pub(crate) fn attach(
    config: &XdpConfig,
    interface: u32,
    load: impl Fn(Mode) -> Result<(Program, Table), XdpError>,
) -> Result<Attached, XdpError> {
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
        let (program, table) = load(mode)?;
        match Attachment::xdp(&program, interface, place) {
            Ok(attachment) => {
                let fallback = (!tried.is_empty()).then(|| tried.join("; "));
                return Ok(Attached { mode, fallback, attachment, table });
            }
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

/// Where sockets are bound.
pub(crate) struct Ground<'a> {
    pub(crate) config: &'a XdpConfig,
    pub(crate) mode: Mode,
    pub(crate) interface: u32,
    /// Bytes of a chunk.
    pub(crate) chunk: u32,
    pub(crate) sockets: &'a SocketMap,
}

impl Ground<'_> {
    /// Sockets on `queue`, at these places of the map, where the program finds them. They share memory:
    ///
    /// ```text
    ///   chunk 0 ...  for the fill ring   | of the first for transmission | of the second | ...         SLOTS each, and SLOTS per socket for the fill ring
    /// ```
    pub(crate) fn bind(&self, queue: u16, places: Range<u16>) -> Result<Vec<(Socket, Supply)>, XdpError> {
        let all = SLOTS * u32::from(places.end - places.start);
        let chunks = Arc::new(Chunks::new(2 * all, self.chunk)?);
        let (first, mut fill, done) = Socket::new(chunks, SLOTS, all.next_power_of_two()).map_err(system)?;
        for chunk in 0..u64::from(all) {
            fill.push(chunk * u64::from(self.chunk));
        }
        fill.publish();
        let hungry = fill.onlooker();
        let rings = Arc::new(TryLock::new(Rings { fill, done, spare: Vec::with_capacity(all as usize) }));
        self.bind_one(&first, queue, None)?;
        // A driver that was bound before there were chunks may wait to be told.
        first.fd.kick_rx();
        let mut sockets = vec![first];
        for _ in places.clone().skip(1) {
            let socket = Socket::beside(&sockets[0], SLOTS).map_err(system)?;
            self.bind_one(&socket, queue, Some(sockets[0].fd.as_raw_fd()))?;
            sockets.push(socket);
        }
        let share = |(i, (place, socket)): (usize, (u16, Socket))| {
            self.sockets.set(place.into(), socket.fd.as_fd()).map_err(system)?;
            let first_chunk = u64::from(all) + i as u64 * u64::from(SLOTS);
            let free = (first_chunk..first_chunk + u64::from(SLOTS)).rev().map(|chunk| chunk * u64::from(self.chunk));
            let supply = Supply::new(rings.clone(), hungry.clone(), self.chunk, free.collect(), all as usize);
            Ok((socket, supply))
        };
        places.zip(sockets).enumerate().map(share).collect()
    }

    fn bind_one(&self, socket: &Socket, queue: u16, beside: Option<RawFd>) -> Result<(), XdpError> {
        let flags = match (self.mode, self.config.mode) {
            (_, Some(Mode::ZeroCopy)) => libc::XDP_ZEROCOPY,
            (Mode::Native, None) => 0, // the kernel tries zero-copy first
            _ => libc::XDP_COPY,
        };
        let name = &self.config.interface;
        socket.bind(Binding { interface: self.interface, queue, flags, beside }).map_err(|e| match e.errno() {
            Some(libc::EBUSY) => XdpError::QueueInUse { name: name.clone(), queue },
            Some(libc::ENETDOWN) => XdpError::Down { name: name.clone() },
            Some(libc::EOPNOTSUPP) if self.config.mode.is_some() => {
                XdpError::NoMode { name: name.clone(), tried: format!("{}: {}", Mode::ZeroCopy, e.cause) }
            }
            _ => system(e.on(format!("queue {queue} of {name}"))),
        })
    }
}
