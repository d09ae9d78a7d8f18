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
const GET_HASHED: u32 = 0x29;
const SET_TABLE: u32 = 0x39;
const GET_RSS: u32 = 0x46;
/// Words of `struct ethtool_rxfh` before its table, and in these its sizes and the hash function.
const RSS_HEAD: usize = 6;
const TABLE_SIZE: usize = 2;
const KEY_SIZE: usize = 3;
const FUNCTION: usize = 4;
/// ETH_RSS_HASH_TOP, without a transformation of its input (the byte after it).
const TOEPLITZ: [u8; 2] = [1, 0];
/// More entries or bytes of a key than any NIC has.
const MAX_RSS: u32 = 1 << 16;

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

/// How a NIC spreads received flows over its queues.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rss {
    /// The queue of each value of the hash, modulo the table's length.
    pub table: Vec<u32>,
    /// The hash's key.
    pub key: Vec<u8>,
    /// Whether the hash is that of Toeplitz, of the packet as it is.
    pub toeplitz: bool,
}

/// A kind of flow, as [`hashes_ports`] asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Flow {
    /// TCP over IPv4.
    TcpV4 = 1,
    /// TCP over IPv6.
    TcpV6 = 5,
}

/// The beginning of `struct ethtool_rxnfc`, all of it for this question.
#[repr(C)]
struct Hashed {
    command: u32,
    flow: u32,
    fields: u64,
}

fn ask<T>(name: &str, call: &'static str, request: &mut T) -> Result<(), SysError> {
    // SAFETY: a live request, of integers, that is as long as its command says.
    unsafe { ask_at(name, call, std::ptr::from_mut(request).cast()) }
}

/// As [`ask`], for requests whose length stands in them.
///
/// # Safety
/// `request` is a live value as long as its command and its own sizes say.
unsafe fn ask_at(name: &str, call: &'static str, request: *mut libc::c_char) -> Result<(), SysError> {
    let c_name = link::check_name(name)?;
    // SAFETY: takes integers only.
    let socket = owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }, "socket")?;
    // SAFETY: a struct of integers and a pointer, for which zero is valid.
    let mut frame: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in frame.ifr_name.iter_mut().zip(c_name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    frame.ifr_ifru.ifru_data = request;
    // SAFETY: a live ifreq whose data is the caller's.
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

/// How a NIC spreads flows.
///
/// # Errors
/// `EOPNOTSUPP` where there is nothing of the kind, as on a veth; `ENODEV`.
pub fn rss(name: &str) -> Result<Rss, SysError> {
    const CALL: &str = "ioctl(ETHTOOL_GRSSH)";
    let mut request = vec![0u32; RSS_HEAD];
    request[0] = GET_RSS;
    // SAFETY: sizes of zero: the head is all there is, and the kernel fills the sizes in.
    unsafe { ask_at(name, CALL, request.as_mut_ptr().cast())? };
    let (size, key) = (request[TABLE_SIZE].min(MAX_RSS), request[KEY_SIZE].min(MAX_RSS));
    if size == 0 {
        return Err(SysError::new(CALL, std::io::Error::from_raw_os_error(libc::EOPNOTSUPP)).on(name));
    }
    let mut request = vec![0u32; RSS_HEAD + size as usize + (key as usize).div_ceil(4)];
    (request[0], request[TABLE_SIZE], request[KEY_SIZE]) = (GET_RSS, size, key);
    // SAFETY: the words after the head hold a table and a key of the sizes in it.
    unsafe { ask_at(name, CALL, request.as_mut_ptr().cast())? };
    let (table, rest) = request[RSS_HEAD..].split_at(size as usize);
    let key = rest.iter().flat_map(|word| word.to_ne_bytes()).take(key as usize).collect();
    let [function, transformation, ..] = request[FUNCTION].to_ne_bytes();
    Ok(Rss { table: table.to_vec(), key, toeplitz: [function, transformation] == TOEPLITZ })
}

/// Replaces the table of [`rss`], which has this length.
///
/// # Errors
/// `EOPNOTSUPP` where the driver takes none; `EINVAL` for another length, or queues that there are not; `EPERM`.
pub fn set_rss_table(name: &str, table: &[u32]) -> Result<(), SysError> {
    let mut request = vec![SET_TABLE, table.len() as u32];
    request.extend(table);
    // SAFETY: command, number of entries, and so many entries.
    unsafe { ask_at(name, "ioctl(ETHTOOL_SRXFHINDIR)", request.as_mut_ptr().cast()) }
}

/// Whether the hash of such flows is that of both addresses and both ports, and nothing else.
///
/// # Errors
/// `EOPNOTSUPP` where the driver does not say.
pub fn hashes_ports(name: &str, flow: Flow) -> Result<bool, SysError> {
    // RXH_IP_SRC, RXH_IP_DST, RXH_L4_B_0_1, RXH_L4_B_2_3
    const FOUR: u64 = 0xf << 4;
    let mut request = Hashed { command: GET_HASHED, flow: flow as u32, fields: 0 };
    ask(name, "ioctl(ETHTOOL_GRXFH)", &mut request)?;
    Ok(request.fields == FOUR)
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
            // A veth has no table.
            let refusals =
                [rss("a0").err(), set_rss_table("a0", &[0; 128]).err(), hashes_ports("a0", Flow::TcpV4).err()];
            for refusal in refusals {
                assert_eq!(refusal.and_then(|e| e.errno()), Some(libc::EOPNOTSUPP));
            }
            assert_eq!(queues("none0").unwrap_err().errno(), Some(libc::ENODEV));
        })
        .join()
        .unwrap();
    }
}
