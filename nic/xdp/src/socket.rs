//! The socket itself: options, rings, binding (if_xdp(7), linux/if_xdp.h).
//!
//! # Soundness
//! Options are `#[repr(C)]` integers that live across the call, of the size passed beside them. A socket owns its memory ([`Chunks`]) and
//! drops it after its descriptor: closing waits for the kernel's receive paths, so nothing writes there afterwards. The rings'
//! mappings are made by `ring.rs` from offsets that the kernel gives.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sys::SysError;

use crate::ring::{Chunks, Ring};
use crate::xdp_nic::v6;

/// How long a queue may be busy because its last owner has just gone (5 to 11 ms are usual).
const PATIENCE: Duration = Duration::from_millis(500);
/// The limit of one kick of the transmit ring, where it can be set (Linux 6.17); else 32.
const TX_BUDGET: u32 = 256;
/// Frames of one busy poll at most: what a driver's poll has otherwise.
const BUSY_BUDGET: u32 = 64;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// `struct xdp_umem_reg` as of Linux 5.4.
#[repr(C)]
struct UmemReg {
    addr: u64,
    len: u64,
    chunk_size: u32,
    headroom: u32,
    flags: u32,
    pad: u32,
}

/// What the kernel counted of a socket, since it was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Statistics {
    /// Frames that were larger than a chunk, or found none (see `rx_fill_empty`).
    pub rx_dropped: u64,
    /// Descriptors of ours in the fill ring that made no sense.
    pub rx_invalid: u64,
    /// Descriptors of ours in the transmit ring that made no sense.
    pub tx_invalid: u64,
    /// Frames that found the receive ring full.
    pub rx_ring_full: u64,
    /// Frames that found no chunk in the fill ring.
    pub rx_fill_empty: u64,
    /// Times that the transmit ring was found empty.
    pub tx_ring_empty: u64,
}

/// The descriptor, shared with whoever wants to know how it is.
#[derive(Debug)]
pub(crate) struct Fd(OwnedFd);

/// A bound socket with its rings and its memory.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) rx: Ring<Descriptor>,
    pub(crate) tx: Ring<Descriptor>,
    pub(crate) fd: Arc<Fd>,
    pub(crate) chunks: Arc<Chunks>,
}

/// `struct xdp_desc`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) options: u32,
}

/// How a socket wants to be bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) interface: u32,
    pub(crate) queue: u16,
    /// XDP_COPY, XDP_ZEROCOPY or neither.
    pub(crate) flags: u16,
    /// The bound socket whose queue and memory it shares.
    pub(crate) beside: Option<RawFd>,
}

impl Socket {
    /// A socket whose frames live in `chunks`, with rings of `slots`, not yet bound; and the memory's fill and completion ring of `supply`.
    pub(crate) fn new(
        chunks: Arc<Chunks>,
        slots: u32,
        supply: u32,
    ) -> Result<(Socket, Ring<u64>, Ring<u64>), SysError> {
        let fd = Fd::new()?;
        let (addr, len) = chunks.place();
        let umem = UmemReg { addr, len, chunk_size: chunks.size(), headroom: 0, flags: 0, pad: 0 };
        fd.set(libc::XDP_UMEM_REG, &umem, "setsockopt(XDP_UMEM_REG)").map_err(|e| {
            e.remedy_for(libc::ENOBUFS, "too little locked memory is allowed: run as root, or raise it (ulimit -l)")
        })?;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING] {
            fd.set(ring, &supply, "setsockopt(XDP_UMEM_*_RING)")?;
        }
        let offsets = fd.offsets()?;
        let map = |at, offsets| Ring::map(fd.as_raw_fd(), at, offsets, supply);
        let fill = map(libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t, &offsets.fr)?;
        let done = map(libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t, &offsets.cr)?;
        Ok((Socket::with(fd, chunks, slots)?, fill, done))
    }

    /// A socket that will be bound to the queue of another one, and shares its memory and what comes with that.
    pub(crate) fn beside(other: &Socket, slots: u32) -> Result<Socket, SysError> {
        Socket::with(Fd::new()?, other.chunks.clone(), slots)
    }

    fn with(fd: Fd, chunks: Arc<Chunks>, slots: u32) -> Result<Socket, SysError> {
        for ring in [libc::XDP_RX_RING, libc::XDP_TX_RING] {
            fd.set(ring, &slots, "setsockopt(XDP_*_RING)")?;
        }
        // Older kernels have no such option; then a kick sends 32 frames.
        let _ = fd.set(XDP_MAX_TX_SKB_BUDGET, &TX_BUDGET, "setsockopt(XDP_MAX_TX_SKB_BUDGET)");
        let (offsets, raw) = (fd.offsets()?, fd.as_raw_fd());
        let rx = Ring::map(raw, libc::XDP_PGOFF_RX_RING, &offsets.rx, slots)?;
        let tx = Ring::map(raw, libc::XDP_PGOFF_TX_RING, &offsets.tx, slots)?;
        Ok(Socket { rx, tx, fd: Arc::new(fd), chunks })
    }

    /// Binds it to a queue. One that was another's a moment ago is waited for.
    pub(crate) fn bind(&self, to: Binding) -> Result<(), SysError> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            // Who shares a queue has it as the first one has.
            sxdp_flags: if to.beside.is_some() { libc::XDP_SHARED_UMEM } else { to.flags | libc::XDP_USE_NEED_WAKEUP },
            sxdp_ifindex: to.interface,
            sxdp_queue_id: to.queue.into(),
            sxdp_shared_umem_fd: to.beside.map_or(0, |fd| fd as u32),
        };
        let started = Instant::now();
        loop {
            let (at, len) = ((&raw const address).cast(), size_of_val(&address) as u32);
            // SAFETY: a live address of the length passed.
            if unsafe { libc::bind(self.fd.as_raw_fd(), at, len) } == 0 {
                return Ok(());
            }
            let e = SysError::last("bind(AF_XDP)");
            if e.errno() != Some(libc::EBUSY) || started.elapsed() > PATIENCE {
                return Err(e);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Has receive calls run the driver's receive path themselves (SO_PREFER_BUSY_POLL of Linux 5.11), for `micros` and a batch at most.
    pub(crate) fn busy_poll(&self, micros: u32) -> Result<(), SysError> {
        let set = |option, value: u32, call| self.fd.set_at(libc::SOL_SOCKET, option, &value, call);
        set(libc::SO_PREFER_BUSY_POLL, 1, "setsockopt(SO_PREFER_BUSY_POLL)")?;
        set(libc::SO_BUSY_POLL, micros, "setsockopt(SO_BUSY_POLL)")?;
        set(libc::SO_BUSY_POLL_BUDGET, BUSY_BUDGET, "setsockopt(SO_BUSY_POLL_BUDGET)")
    }

    /// Whether the driver places frames in our memory itself.
    pub(crate) fn is_zero_copy(&self) -> bool {
        let mut options = 0u32;
        self.fd.get(libc::XDP_OPTIONS, &mut options, "getsockopt(XDP_OPTIONS)").is_ok()
            && options & libc::XDP_OPTIONS_ZEROCOPY != 0
    }
}

impl Fd {
    fn new() -> Result<Fd, SysError> {
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(SysError::last("socket(AF_XDP)"));
        }
        // SAFETY: the kernel has just made it for us.
        Ok(Fd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Where the rings' parts lie in their mappings.
    fn offsets(&self) -> Result<libc::xdp_mmap_offsets, SysError> {
        // SAFETY: a struct of integers, for which zero is valid.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        self.get(libc::XDP_MMAP_OFFSETS, &mut offsets, "getsockopt(XDP_MMAP_OFFSETS)")?;
        Ok(offsets)
    }

    fn set<T>(&self, option: libc::c_int, value: &T, call: &'static str) -> Result<(), SysError> {
        self.set_at(libc::SOL_XDP, option, value, call)
    }

    fn set_at<T>(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        value: &T,
        call: &'static str,
    ) -> Result<(), SysError> {
        let (at, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
        // SAFETY: a live value of the length passed.
        let ret = unsafe { libc::setsockopt(self.as_raw_fd(), level, option, at, len) };
        if ret < 0 { Err(SysError::last(call)) } else { Ok(()) }
    }

    fn get<T>(&self, option: libc::c_int, value: &mut T, call: &'static str) -> Result<(), SysError> {
        self.get_at(libc::SOL_XDP, option, value, call)
    }

    /// `T` is made of integers.
    fn get_at<T>(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        value: &mut T,
        call: &'static str,
    ) -> Result<(), SysError> {
        let mut len = size_of::<T>() as u32;
        // SAFETY: a live value of the length passed, of integers, for which any bits are valid.
        let ret =
            unsafe { libc::getsockopt(self.as_raw_fd(), level, option, std::ptr::from_mut(value).cast(), &mut len) };
        if ret < 0 { Err(SysError::last(call)) } else { Ok(()) }
    }

    /// What the kernel counted. A system call.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        // A socket that does not answer has nothing to tell.
        let _ = self.get(libc::XDP_STATISTICS, &mut statistics, "getsockopt(XDP_STATISTICS)");
        statistics
    }

    /// An error that came by itself, such as ENETDOWN when the interface went. It is told once.
    pub(crate) fn trouble(&self) -> Option<i32> {
        let mut error: libc::c_int = 0;
        self.get_at(libc::SOL_SOCKET, libc::SO_ERROR, &mut error, "getsockopt(SO_ERROR)").ok()?;
        (error != 0).then_some(error)
    }

    /// Has the kernel look at the transmit ring. Errors: the number.
    #[inline]
    pub(crate) fn kick_tx(&self) -> Result<(), i32> {
        // SAFETY: an empty message without an address.
        let ret =
            unsafe { libc::sendto(self.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if ret < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(()) }
    }

    /// Has the kernel look at the fill ring; with busy polling, at what has come.
    pub(crate) fn kick_rx(&self) {
        // SAFETY: an empty buffer.
        unsafe { libc::recv(self.as_raw_fd(), std::ptr::null_mut(), 0, libc::MSG_DONTWAIT) };
    }
}

/// Memberships of the Ethernet groups in which our IPv6 addresses are asked for (RFC 2464 section 7): a NIC that filters lets them through.
#[derive(Debug)]
pub(crate) struct Groups(#[expect(dead_code, reason = "the memberships go with the descriptor")] Option<OwnedFd>);

impl Groups {
    pub(crate) fn join(interface: u32, addresses: &[IpAddr]) -> Result<Groups, SysError> {
        let mut macs = v6(addresses).map(|a| wire::Mac::of_group(&wire::Addr::from(a).solicited_node())).peekable();
        if macs.peek().is_none() {
            return Ok(Groups(None));
        }
        // Protocol 0: it receives nothing.
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(SysError::last("socket(AF_PACKET)"));
        }
        // SAFETY: the kernel has just made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        for mac in macs {
            let mut request = libc::packet_mreq {
                mr_ifindex: interface as i32,
                mr_type: libc::PACKET_MR_MULTICAST as u16,
                mr_alen: 6,
                mr_address: [0; 8],
            };
            request.mr_address[..6].copy_from_slice(&mac.0);
            let (at, len) = ((&raw const request).cast(), size_of_val(&request) as u32);
            // SAFETY: a live value of the length passed.
            let ret =
                unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, at, len) };
            if ret < 0 {
                return Err(SysError::last("setsockopt(PACKET_ADD_MEMBERSHIP)"));
            }
        }
        Ok(Groups(Some(fd)))
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
