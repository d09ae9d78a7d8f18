use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use sys::ethtool::{self, Queues};
use sys::link::{self, Place};

use crate::{CLIENT, Namespace, TAP};

/// The end of a veth that a server of ours uses by AF_XDP.
pub const XDP: &str = "zx1";
/// Another address there, the kernel's, if it was made by [`Veth::between`].
pub const KERNEL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);

/// A veth: Linux and the clients at its end [`TAP`], AF_XDP at its end [`XDP`].
pub struct Veth;

impl Veth {
    /// Both ends in `namespace`, so that the clients' end looks as that of a TAP does. With so many queues for us.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn within(namespace: &Namespace, queues: u16) -> Result<(), String> {
        namespace
            .inside(|| {
                link::add_veth(TAP, XDP, Place::Here)?;
                our_end(queues)?;
                clients_end(queues)
            })
            .map_err(|e| e.to_string())
    }

    /// The clients' end in `near`, ours in `far`, where the kernel has the address [`KERNEL`] on the same interface.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn between(near: &Namespace, far: &Namespace, queues: u16) -> Result<(), String> {
        let there = far.inside(sys::netns::current).map_err(|e| e.to_string())?;
        near.inside(|| link::add_veth(TAP, XDP, Place::Namespace(there.as_fd()))).map_err(|e| e.to_string())?;
        far.inside(|| our_end(queues).and_then(|()| link::add_address(XDP, KERNEL, 24))).map_err(|e| e.to_string())?;
        near.inside(|| clients_end(queues)).map_err(|e| e.to_string())
    }
}

fn our_end(queues: u16) -> Result<(), sys::SysError> {
    if queues > 1 {
        ethtool::set_queues(XDP, Queues { rx: queues.into(), tx: queues.into() })?;
    }
    link::up(XDP)
}

fn clients_end(queues: u16) -> Result<(), sys::SysError> {
    if queues > 1 {
        ethtool::set_queues(TAP, Queues { rx: queues.into(), tx: queues.into() })?;
    }
    link::add_address(TAP, CLIENT, 24)?;
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        link::add_address(TAP, IpAddr::from(CLIENT_V6), 64)?;
    }
    link::up(TAP)
}
