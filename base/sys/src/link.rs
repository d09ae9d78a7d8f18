//! Interfaces of the calling thread's network namespace, without the `ip` program.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::SysError;
use crate::netlink::{Request, attrs};

/// Bytes of an interface's name, with the ending NUL.
const NAME_SIZE: usize = 16;
const VETH_INFO_PEER: u16 = 1;
/// In IFLA_XDP: the program's number.
const XDP_PROG_ID: u16 = 4;
const ADMIN: &str = "needs CAP_NET_ADMIN: run as root, or in a user and network namespace of your own";

/// Where the other end of a new pair goes.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Into this namespace, too.
    Here,
    /// Into the namespace of this descriptor (see [`crate::netns`]).
    Namespace(BorrowedFd<'a>),
    /// Into the namespace of this process or thread.
    Pid(u32),
}

/// What the kernel says of an interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Its number.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its driver's kind ("veth", "tun", …), or empty.
    pub kind: String,
    /// Of a TAP or TUN: its particulars.
    pub tun: Option<TunInfo>,
    /// The number of the XDP program that it runs; 0 for none.
    pub xdp_program: u32,
    /// Of a veth: the number of its other end, in that end's namespace.
    pub peer: u32,
    /// Of a veth: this namespace's name for that of the other end, or none if it is the same.
    pub peer_namespace: Option<i32>,
}

/// What the kernel says of a TAP or TUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TunInfo {
    /// Ethernet frames (TAP), not IP packets (TUN).
    pub tap: bool,
    /// Made for several queues.
    pub multi_queue: bool,
    /// Frames carry a virtio header.
    pub vnet_hdr: bool,
    /// Outlives its descriptors.
    pub persist: bool,
    /// Queues attached now, enabled or not.
    pub queues: u32,
}

/// Checks a name: 1 to 15 bytes, no slash, colon, percent sign or white space.
///
/// # Errors
/// `EINVAL`.
pub fn check_name(name: &str) -> Result<CString, SysError> {
    let sound = !name.is_empty()
        && name.len() < NAME_SIZE
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| matches!(c, '/' | ':' | '%' | '\0') || c.is_whitespace());
    let refused = || {
        SysError::new("if_nametoindex", io::Error::from_raw_os_error(libc::EINVAL))
            .on(format!("{name:?}"))
            .remedy("an interface's name has 1 to 15 characters, no slash, colon, percent sign or space")
    };
    if sound { CString::new(name).map_err(|_| refused()) } else { Err(refused()) }
}

/// The number of an interface.
///
/// # Errors
/// `ENODEV` when there is none of that name in this namespace.
pub fn index(name: &str) -> Result<u32, SysError> {
    let c_name = check_name(name)?;
    // SAFETY: a live C string.
    match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
        0 => Err(SysError::last("if_nametoindex").on(name)),
        n => Ok(n),
    }
}

/// The name of interface `index`.
///
/// # Errors
/// `ENXIO` when there is none in this namespace.
pub fn name(index: u32) -> Result<String, SysError> {
    let mut name = [0u8; NAME_SIZE];
    // SAFETY: a live buffer of IF_NAMESIZE bytes.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) }.is_null() {
        return Err(SysError::last("if_indextoname").on(index.to_string()));
    }
    let end = name.iter().position(|&b| b == 0).unwrap_or(NAME_SIZE);
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Whether there is an interface of that name in this namespace.
pub fn exists(name: &str) -> bool {
    index(name).is_ok()
}

/// What the kernel says of an interface.
///
/// # Errors
/// `ENODEV`.
pub fn info(name: &str) -> Result<Info, SysError> {
    let request = Request::new("RTM_GETLINK", libc::RTM_GETLINK, 0).body(&ifinfo(index(name)?, 0, 0));
    let answers = request.send().map_err(|e| e.on(name))?;
    let body = answers.first().map_or(&[][..], Vec::as_slice);
    let (Some(fixed), Some(rest)) = (body.first_chunk::<16>(), body.get(16..)) else {
        return Err(SysError::new("RTM_GETLINK", io::Error::from_raw_os_error(libc::EPROTO)).on(name));
    };
    let mut info =
        Info { index: ne32(&fixed[4..]), up: ne32(&fixed[8..]) & libc::IFF_UP as u32 != 0, ..Info::default() };
    for (kind, value) in attrs(rest) {
        match kind {
            libc::IFLA_MTU => info.mtu = ne32(value),
            libc::IFLA_ADDRESS => info.mac = value.first_chunk().copied().unwrap_or_default(),
            libc::IFLA_LINKINFO => read_kind(&mut info, value),
            libc::IFLA_XDP => {
                info.xdp_program = attrs(value).find(|(kind, _)| *kind == XDP_PROG_ID).map_or(0, |a| ne32(a.1))
            }
            libc::IFLA_LINK => info.peer = ne32(value),
            libc::IFLA_LINK_NETNSID => info.peer_namespace = Some(ne32(value) as i32),
            _ => {}
        }
    }
    Ok(info)
}

/// The addresses that the kernel has on an interface.
///
/// # Errors
/// `ENODEV`.
pub fn addresses(name: &str) -> Result<Vec<IpAddr>, SysError> {
    let interface = index(name)?;
    let request = Request::new("RTM_GETADDR", libc::RTM_GETADDR, libc::NLM_F_DUMP).body(&[0; 8]);
    let answers = request.send().map_err(|e| e.on(name))?;
    let here = answers.iter().filter(|body| body.get(4..).is_some_and(|rest| ne32(rest) == interface));
    Ok(here.filter_map(|body| read_address(body)).collect())
}

/// The address in an answer: `struct ifaddrmsg`, then its attributes.
fn read_address(body: &[u8]) -> Option<IpAddr> {
    let find = |wanted| attrs(body.get(8..)?).find(|(kind, _)| *kind == wanted).map(|a| a.1);
    let bytes = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?;
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        16 => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        _ => None,
    }
}

/// This namespace's name for another one, as in [`Info::peer_namespace`]; none if it has no name for it.
///
/// # Errors
/// As the kernel refuses.
pub fn namespace_id(other: BorrowedFd<'_>) -> Result<Option<i32>, SysError> {
    const RTM_GETNSID: u16 = 90;
    const NETNSA_NSID: u16 = 1;
    const NETNSA_FD: u16 = 3;
    let request = Request::new("RTM_GETNSID", RTM_GETNSID, 0).body(&[0; 4]); // struct rtgenmsg, padded
    let answers = request.attr(NETNSA_FD, &other.as_raw_fd().to_ne_bytes()).send()?;
    let found = answers.first().and_then(|body| attrs(body.get(4..)?).find(|(kind, _)| *kind == NETNSA_NSID));
    Ok(found.map(|(_, value)| ne32(value) as i32).filter(|id| *id >= 0))
}

fn read_kind(info: &mut Info, linkinfo: &[u8]) {
    for (kind, value) in attrs(linkinfo) {
        match kind {
            libc::IFLA_INFO_KIND => info.kind = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            libc::IFLA_INFO_DATA if info.kind == "tun" => info.tun = Some(read_tun(value)),
            _ => {}
        }
    }
}

/// IFLA_TUN_* of linux/if_link.h.
fn read_tun(data: &[u8]) -> TunInfo {
    let mut tun = TunInfo::default();
    for (kind, value) in attrs(data) {
        let flag = value.first() == Some(&1);
        match kind {
            3 => tun.tap = value.first() == Some(&(libc::IFF_TAP as u8)),
            5 => tun.vnet_hdr = flag,
            6 => tun.persist = flag,
            7 => tun.multi_queue = flag,
            8 | 9 => tun.queues += ne32(value),
            _ => {}
        }
    }
    tun
}

fn ne32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
}

/// `struct ifinfomsg`.
fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..].copy_from_slice(&change.to_ne_bytes());
    body
}

fn change(name: &str, call: &'static str, flags: u32, mask: u32, attr: Option<(u16, &[u8])>) -> Result<(), SysError> {
    let mut request = Request::new(call, libc::RTM_NEWLINK, 0).body(&ifinfo(index(name)?, flags, mask));
    if let Some((kind, value)) = attr {
        request = request.attr(kind, value);
    }
    done(request, name)
}

fn done(request: Request, name: &str) -> Result<(), SysError> {
    request.send().map(drop).map_err(|e| {
        let what = if e.on.is_empty() { name.to_owned() } else { format!("{name} ({})", e.on) };
        e.on(what).remedy_for(libc::EPERM, ADMIN)
    })
}

/// Switches an interface on.
///
/// # Errors
/// `EPERM`, `ENODEV`; as all below.
pub fn up(name: &str) -> Result<(), SysError> {
    change(name, "RTM_NEWLINK (up)", libc::IFF_UP as u32, libc::IFF_UP as u32, None)
}

/// Switches an interface off.
///
/// # Errors
/// As [`up`].
pub fn down(name: &str) -> Result<(), SysError> {
    change(name, "RTM_NEWLINK (down)", 0, libc::IFF_UP as u32, None)
}

/// Sets the largest packet in bytes.
///
/// # Errors
/// As [`up`]; `EINVAL` or `ERANGE` when the driver cannot.
pub fn set_mtu(name: &str, mtu: u32) -> Result<(), SysError> {
    change(name, "RTM_NEWLINK (mtu)", 0, 0, Some((libc::IFLA_MTU, &mtu.to_ne_bytes())))
}

/// Sets the Ethernet address.
///
/// # Errors
/// As [`up`]; `EADDRNOTAVAIL` for multicast addresses, `EBUSY` when the driver wants the interface down for this.
pub fn set_mac(name: &str, mac: [u8; 6]) -> Result<(), SysError> {
    change(name, "RTM_NEWLINK (address)", 0, 0, Some((libc::IFLA_ADDRESS, &mac)))
}

/// Sets how many packets wait for transmission at most (on a TAP: per queue, for us to read).
///
/// # Errors
/// As [`up`].
pub fn set_queue_len(name: &str, packets: u32) -> Result<(), SysError> {
    change(name, "RTM_NEWLINK (txqueuelen)", 0, 0, Some((libc::IFLA_TXQLEN, &packets.to_ne_bytes())))
}

/// Moves an interface into another network namespace.
///
/// # Errors
/// As [`up`].
pub fn move_to(name: &str, place: Place<'_>) -> Result<(), SysError> {
    let (kind, value) = match place {
        Place::Here => return Ok(()),
        Place::Namespace(fd) => (libc::IFLA_NET_NS_FD, fd.as_raw_fd().to_ne_bytes()),
        Place::Pid(pid) => (libc::IFLA_NET_NS_PID, pid.to_ne_bytes()),
    };
    change(name, "RTM_NEWLINK (netns)", 0, 0, Some((kind, &value)))
}

/// Removes an interface (and the other end of a pair).
///
/// # Errors
/// As [`up`]; `EOPNOTSUPP` for hardware.
pub fn delete(name: &str) -> Result<(), SysError> {
    done(Request::new("RTM_DELLINK", libc::RTM_DELLINK, 0).body(&ifinfo(index(name)?, 0, 0)), name)
}

/// An address as netlink wants it: family and bytes.
fn family(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(ip) => (libc::AF_INET as u8, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6 as u8, ip.octets().to_vec()),
    }
}

/// Gives an interface an address, its neighbours being all addresses with the same first `prefix` bits. An IPv6 address can be used at
/// once: nobody is asked whether it is taken (`nodad`).
///
/// # Errors
/// As [`up`]; `EEXIST` when it has it, `EACCES` or `EPERM` when IPv6 is off in this namespace.
pub fn add_address(name: &str, address: impl Into<IpAddr>, prefix: u8) -> Result<(), SysError> {
    let (family, bytes) = family(address.into());
    let [a, b, c, d] = index(name)?.to_ne_bytes();
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let nodad = if bytes.len() == 16 { libc::IFA_F_NODAD as u8 } else { 0 };
    let request = Request::new("RTM_NEWADDR", libc::RTM_NEWADDR, flags)
        .body(&[family, prefix, nodad, 0, a, b, c, d]) // struct ifaddrmsg
        .attr(libc::IFA_LOCAL, &bytes)
        .attr(libc::IFA_ADDRESS, &bytes);
    done(request, name)
}

/// Makes the Ethernet address of a neighbour known for good, so that nobody asks by ARP or NDP; replaces what was known.
///
/// # Errors
/// As [`up`].
pub fn add_neighbour(name: &str, address: impl Into<IpAddr>, mac: [u8; 6]) -> Result<(), SysError> {
    const NUD_PERMANENT: u8 = 0x80;
    let (family, bytes) = family(address.into());
    let [a, b, c, d] = index(name)?.to_ne_bytes();
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let [s0, s1] = u16::from(NUD_PERMANENT).to_ne_bytes();
    let request = Request::new("RTM_NEWNEIGH", libc::RTM_NEWNEIGH, flags)
        .body(&[family, 0, 0, 0, a, b, c, d, s0, s1, 0, 0]) // struct ndmsg
        .attr(libc::NDA_DST, &bytes)
        .attr(libc::NDA_LLADDR, &mac);
    done(request, name)
}

/// Sends packets for addresses with the same first `prefix` bits as `to` by way of `gateway`, an address of the same family.
///
/// # Errors
/// As [`up`]; `ENETUNREACH` when the gateway is not a neighbour's address.
pub fn add_route(to: impl Into<IpAddr>, prefix: u8, gateway: impl Into<IpAddr>) -> Result<(), SysError> {
    let to = to.into();
    let ((family, bytes), (_, gateway)) = (family(to), family(gateway.into()));
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let (table, by, scope, unicast) =
        (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
    let request = Request::new("RTM_NEWROUTE", libc::RTM_NEWROUTE, flags)
        .body(&[family, prefix, 0, 0, table, by, scope, unicast, 0, 0, 0, 0]) // struct rtmsg
        .attr(libc::RTA_DST, &bytes)
        .attr(libc::RTA_GATEWAY, &gateway);
    done(request, &format!("{to}/{prefix}"))
}

/// Makes a veth pair: `name` here, `peer` in its place. Both are down.
///
/// # Errors
/// As [`up`]; `EEXIST` when a name is taken.
pub fn add_veth(name: &str, peer: &str, place: Place<'_>) -> Result<(), SysError> {
    let (c_name, c_peer) = (check_name(name)?, check_name(peer)?);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let request = Request::new("RTM_NEWLINK (veth)", libc::RTM_NEWLINK, flags)
        .body(&ifinfo(0, 0, 0))
        .attr(libc::IFLA_IFNAME, c_name.as_bytes_with_nul())
        .nest(libc::IFLA_LINKINFO, |r| {
            r.attr(libc::IFLA_INFO_KIND, b"veth").nest(libc::IFLA_INFO_DATA, |r| {
                r.nest(VETH_INFO_PEER, |r| {
                    let r = r.body(&ifinfo(0, 0, 0)).attr(libc::IFLA_IFNAME, c_peer.as_bytes_with_nul());
                    match place {
                        Place::Here => r,
                        Place::Namespace(fd) => r.attr(libc::IFLA_NET_NS_FD, &fd.as_raw_fd().to_ne_bytes()),
                        Place::Pid(pid) => r.attr(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes()),
                    }
                })
            })
        });
    done(request, name)
}

/// Makes a bridge device (a switch in the kernel, without spanning tree). It is down.
///
/// # Errors
/// As [`up`]; `EEXIST` when the name is taken, `EOPNOTSUPP` when the kernel has no bridges.
pub fn add_bridge(name: &str) -> Result<(), SysError> {
    let c_name = check_name(name)?;
    let request = Request::new("RTM_NEWLINK (bridge)", libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .body(&ifinfo(0, 0, 0))
        .attr(libc::IFLA_IFNAME, c_name.as_bytes_with_nul())
        .nest(libc::IFLA_LINKINFO, |r| r.attr(libc::IFLA_INFO_KIND, b"bridge"));
    done(request, name).map_err(|e| e.remedy_for(libc::EOPNOTSUPP, "load the bridge module (modprobe bridge)"))
}

/// Makes an interface a port of a bridge device.
///
/// # Errors
/// As [`up`]; `EOPNOTSUPP` when `bridge` is none.
pub fn add_port(name: &str, bridge: &str) -> Result<(), SysError> {
    change(name, "RTM_NEWLINK (master)", 0, 0, Some((libc::IFLA_MASTER, &index(bridge)?.to_ne_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    #[test]
    fn unsound_names_are_refused() {
        for bad in ["", "sixteen-letters!", "a b", "a/b", "a:b", "tap%d", ".."] {
            assert_eq!(index(bad).unwrap_err().errno(), Some(libc::EINVAL), "{bad:?}");
        }
        assert_eq!(index("no-such-one").unwrap_err().errno(), Some(libc::ENODEV));
    }

    #[test]
    fn a_pair_is_made_configured_and_carries_datagrams() {
        std::thread::spawn(|| {
            match netns::unshare_net() {
                Err(e) if e.is_permission() => {
                    return crate::skipped("a_pair_is_made_configured", &e);
                }
                done => done.unwrap(),
            }
            let (address, other) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
            let far = std::thread::spawn(|| {
                netns::unshare_net().unwrap();
                netns::current().unwrap()
            });
            let far = far.join().unwrap();
            use std::os::fd::AsFd;
            add_veth("a0", "b0", Place::Namespace(far.as_fd())).unwrap();
            assert_eq!(add_veth("a0", "b1", Place::Here).unwrap_err().errno(), Some(libc::EEXIST));
            set_mac("a0", [2, 0, 0, 0, 0, 1]).unwrap();
            set_mtu("a0", 1400).unwrap();
            set_queue_len("a0", 500).unwrap();
            add_address("a0", address, 24).unwrap();
            up("a0").unwrap();
            let seen = info("a0").unwrap();
            assert_eq!((seen.mtu, seen.mac, &*seen.kind, seen.up), (1400, [2, 0, 0, 0, 0, 1], "veth", true));
            add_neighbour("a0", other, [2, 0, 0, 0, 0, 2]).unwrap();
            add_route(Ipv4Addr::new(198, 19, 0, 0), 16, other).unwrap();
            if std::path::Path::new("/proc/sys/net/ipv6").exists() {
                let six = |n: u128| Ipv6Addr::from_bits(0x2001_0002 << 96 | n);
                add_address("a0", six(1), 64).unwrap();
                add_neighbour("a0", six(2), [2, 0, 0, 0, 0, 2]).unwrap();
                add_route(six(1 << 64), 64, six(2)).unwrap();
                assert!(UdpSocket::bind((six(1), 0)).is_ok(), "it can be used at once");
            }
            let sender = UdpSocket::bind((address, 0)).unwrap();
            let receiver = std::thread::spawn(move || {
                netns::enter(&far).unwrap();
                set_mac("b0", [2, 0, 0, 0, 0, 2]).unwrap();
                add_address("b0", other, 24).unwrap();
                up("b0").unwrap();
                let socket = UdpSocket::bind((other, 7)).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
                socket
            });
            let receiver = receiver.join().unwrap();
            let mut buffer = [0; 16];
            // The kernel lets a pair carry frames a moment after both ends are up; what is sent before is lost.
            let mut received = None;
            for _ in 0..400 {
                sender.send_to(b"ping", (other, 7)).unwrap();
                received = receiver.recv_from(&mut buffer).ok();
                if received.is_some() {
                    break;
                }
            }
            let (n, from) = received.expect("a datagram gets through");
            assert_eq!((&buffer[..n], from), (&b"ping"[..], sender.local_addr().unwrap()));
            down("a0").unwrap();
            delete("a0").unwrap();
            assert!(!exists("a0"));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        std::thread::spawn(|| {
            if netns::unshare_net().is_ok() {
                let e = set_mtu("lo", 1).and_then(|()| set_mac("lo", [1; 6])).unwrap_err();
                assert!(e.to_string().contains("lo"), "{e}");
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn ports_of_a_bridge_are_neighbours() {
        std::thread::spawn(|| {
            match netns::unshare_net() {
                Err(e) if e.is_permission() => return crate::skipped("ports_of_a_bridge_are_neighbours", &e),
                done => done.unwrap(),
            }
            match add_bridge("sw0") {
                Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => {
                    return crate::skipped("ports_of_a_bridge_are_neighbours", &e);
                }
                made => made.unwrap(),
            }
            assert_eq!(add_bridge("sw0").unwrap_err().errno(), Some(libc::EEXIST));
            assert_eq!(info("sw0").unwrap().kind, "bridge");
            use std::os::fd::AsFd;
            // Two hosts, each in a namespace of its own, and nothing but the bridge between them.
            let hosts = [("p0", "h0", 1), ("p1", "h1", 2)].map(|(port, host, n)| {
                let far = std::thread::spawn(|| {
                    netns::unshare_net().unwrap();
                    netns::current().unwrap()
                });
                let far = far.join().unwrap();
                add_veth(port, host, Place::Namespace(far.as_fd())).unwrap();
                add_port(port, "sw0").unwrap();
                up(port).unwrap();
                let inside = std::thread::spawn(move || {
                    netns::enter(&far).unwrap();
                    add_address(host, Ipv4Addr::new(198, 18, 0, n), 24).unwrap();
                    up(host).unwrap();
                    UdpSocket::bind((Ipv4Addr::new(198, 18, 0, n), 9)).unwrap()
                });
                inside.join().unwrap()
            });
            up("sw0").unwrap();
            hosts[0].send_to(b"hello", "198.18.0.2:9").unwrap();
            let mut got = [0; 9];
            hosts[1].set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            assert_eq!(hosts[1].recv(&mut got).unwrap(), 5);
            assert_eq!(add_port("p0", "lo").unwrap_err().errno(), Some(libc::EOPNOTSUPP));
        })
        .join()
        .unwrap();
    }
}
