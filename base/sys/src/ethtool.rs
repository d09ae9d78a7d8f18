//! What drivers are asked by `ioctl(SIOCETHTOOL)` (linux/ethtool.h), without the `ethtool` program.
//!
//! # Soundness
//! Each request passes a `#[repr(C)]` value of integers that lives across the call and is as long as the kernel takes it to be: its command
//! says so.

use std::os::fd::AsRawFd;

use crate::{SysError, check, link, owned};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;
const SET_TX_CHECKSUMS: u32 = 0x17;
const SET_TSO: u32 = 0x1f;

/// How many queues an interface uses, or may use.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Queues {
    /// For reception.
    pub rx: u32,
    /// For transmission.
    pub tx: u32,
}

/// `struct ethtool_channels`: queues of a kind may be counted alone or as pairs.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    value: u32,
}

fn ask<T>(name: &str, call: &'static str, request: &mut T) -> Result<(), SysError> {
    let c_name = link::check_name(name)?;
    // SAFETY: takes integers only.
    let socket = owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }, "socket")?;
    // SAFETY: a struct of integers and a pointer, for which zero is valid.
    let mut frame: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in frame.ifr_name.iter_mut().zip(c_name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    frame.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: a live ifreq whose data is a live request of the kind that its command names.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &mut frame) };
    check(ret, call).map(drop).map_err(|e| e.on(name))
}

/// The queues that an interface uses now.
///
/// # Errors
/// `EOPNOTSUPP` when the driver does not say; `ENODEV`.
pub fn queues(name: &str) -> Result<Queues, SysError> {
    let mut c = Channels { command: GET_CHANNELS, ..Channels::default() };
    ask(name, "ioctl(ETHTOOL_GCHANNELS)", &mut c)?;
    Ok(Queues { rx: c.rx + c.combined, tx: c.tx + c.combined })
}

/// Has an interface use so many queues (`ethtool -L`), counted each kind alone.
///
/// # Errors
/// `EINVAL` when there are fewer, or when the driver counts pairs; `EPERM`.
pub fn set_queues(name: &str, queues: Queues) -> Result<(), SysError> {
    let mut c = Channels { command: SET_CHANNELS, rx: queues.rx, tx: queues.tx, ..Channels::default() };
    ask(name, "ioctl(ETHTOOL_SCHANNELS)", &mut c)
}

/// Whether the kernel leaves transport checksums of what it sends to this interface (`ethtool -K tx`).
///
/// # Errors
/// `EOPNOTSUPP`, `EPERM`.
pub fn set_tx_checksums(name: &str, on: bool) -> Result<(), SysError> {
    ask(name, "ioctl(ETHTOOL_STXCSUM)", &mut Value { command: SET_TX_CHECKSUMS, value: on.into() })
}

/// Whether the kernel leaves the cutting of TCP super-frames to this interface (`ethtool -K tso`).
///
/// # Errors
/// `EOPNOTSUPP`, `EPERM`.
pub fn set_tso(name: &str, on: bool) -> Result<(), SysError> {
    ask(name, "ioctl(ETHTOOL_STSO)", &mut Value { command: SET_TSO, value: on.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns;

    #[test]
    fn a_pair_says_and_changes_its_queues() {
        std::thread::spawn(|| {
            match netns::unshare_net() {
                Err(e) if e.is_permission() => return crate::skipped("a_pair_says_and_changes_its_queues", &e),
                done => done.unwrap(),
            }
            link::add_veth("a0", "b0", link::Place::Here).unwrap();
            assert_eq!(queues("a0").unwrap(), Queues { rx: 1, tx: 1 });
            set_tso("a0", false).unwrap();
            set_tx_checksums("a0", false).unwrap();
            assert!(set_queues("a0", Queues { rx: 60000, tx: 1 }).is_err());
            if set_queues("b0", Queues { rx: 2, tx: 1 }).is_ok() {
                assert_eq!(queues("b0").unwrap(), Queues { rx: 2, tx: 1 });
            }
            assert_eq!(queues("none0").unwrap_err().errno(), Some(libc::ENODEV));
        })
        .join()
        .unwrap();
    }
}
