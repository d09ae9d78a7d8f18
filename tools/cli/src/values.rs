use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// A number of bytes: `4096`, `512k`, `1m`, `2g`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size(pub(crate) usize);

/// As [`Size`], but a plain number counts megabytes: memcached's `-m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Megabytes(pub(crate) usize);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        size(text, 0).map(Size)
    }
}

impl FromStr for Megabytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Megabytes, String> {
        size(text, 20).map(Megabytes)
    }
}

fn size(text: &str, plain: u32) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, plain),
    };
    let number: usize =
        digits.parse().map_err(|_| "write a number, with k, m or g if you like: 512k, 64m".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err("it must be more than 0".into()),
        Some(size) => Ok(size),
        None => Err("that is more than there can be".into()),
    }
}

/// An address with the length of its network's prefix: `198.18.0.2/24`, `2001:2::2/64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Network {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Network, String> {
        let wanted = || "write address/prefix: 198.18.0.2/24 or 2001:2::2/64".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(wanted)?;
        let network =
            Network { address: address.parse().map_err(|_| wanted())?, prefix: prefix.parse().map_err(|_| wanted())? };
        let longest = network.width() - 2;
        if !(1..=longest).contains(&network.prefix) {
            return Err(format!("the prefix is 1 to {longest} bits long"));
        }
        let host = network.bits() & !network.mask();
        let last = network.address.is_ipv4() && host == !network.mask() & u128::from(u32::MAX);
        if host == 0 || last {
            return Err(format!("{} is the network's own or its broadcast address: take another", network.address));
        }
        let odd = |ip: Ipv6Addr| ip.is_multicast() || ip.is_loopback() || ip.to_ipv4_mapped().is_some();
        if matches!(network.address, IpAddr::V6(ip) if odd(ip)) {
            return Err(format!("{} is no host's address", network.address));
        }
        Ok(network)
    }
}

impl Network {
    /// Bits of an address.
    fn width(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn bits(self) -> u128 {
        match self.address {
            IpAddr::V4(ip) => ip.to_bits().into(),
            IpAddr::V6(ip) => ip.to_bits(),
        }
    }

    fn mask(self) -> u128 {
        u128::MAX << (self.width() - self.prefix)
    }

    /// The network's first address that is not `self`'s: what the other end of the link gets unless told otherwise.
    pub(crate) fn neighbour(self) -> Network {
        let first = (self.bits() & self.mask()) + 1;
        self.at(if first == self.bits() { first + 1 } else { first })
    }

    /// The address after this one.
    pub(crate) fn above(self) -> Network {
        self.at(self.bits().wrapping_add(1))
    }

    fn at(self, bits: u128) -> Network {
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        };
        Network { address, ..self }
    }

    /// Whether `other` is an address of the same network, and not the same address.
    pub(crate) fn neighbours(self, other: Network) -> bool {
        self.prefix == other.prefix
            && self.address != other.address
            && self.address.is_ipv4() == other.address.is_ipv4()
            && (self.bits() ^ other.bits()) & self.mask() == 0
    }
}

/// Where Linux's end of the link gets its address from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HostAddress {
    /// Set this one.
    Set(Network),
    /// Leave the interface as it is.
    Leave,
}

impl FromStr for HostAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<HostAddress, String> {
        if text == "none" { Ok(HostAddress::Leave) } else { text.parse().map(HostAddress::Set) }
    }
}

/// Cores: `1`, `0,2`, `1-3,6`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Cores(pub(crate) Vec<usize>);

impl FromStr for Cores {
    type Err = String;
    fn from_str(text: &str) -> Result<Cores, String> {
        let wanted = |_| "write cores as 0,2 or 1-3".to_owned();
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().map_err(wanted)?, last.parse().map_err(wanted)?);
            if first > last || last >= 4096 {
                return Err(format!("{part} is no range of cores"));
            }
            cores.extend(first..=last);
        }
        let mut sorted = cores.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == cores.len() { Ok(Cores(cores)) } else { Err("a core is named twice".into()) }
    }
}

/// A NIC: `tap:NAME`, `xdp:NAME[,OPTION]...` or `shm:PATH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NicUri {
    /// A TAP device of this name.
    Tap(String),
    /// An interface by AF_XDP.
    Xdp(XdpUri),
    /// The shared-memory wire, met at this Unix socket.
    Shm(PathBuf),
}

/// An interface by AF_XDP: `NAME`, and any of `zero-copy`, `native`, `generic`, `ports`, `ports=PORT+PORT...`, `busy-poll`, `busy-poll=MICROS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct XdpUri {
    /// The interface.
    pub(crate) name: String,
    /// The mode, instead of the best that works.
    pub(crate) mode: Option<xdp::Mode>,
    /// The only ports to take; without a number, that which is served.
    pub(crate) ports: Option<Vec<u16>>,
    /// Busy polling, for so many microseconds.
    pub(crate) busy_poll: Option<u32>,
}

/// What `busy-poll` alone asks for, in microseconds.
const BUSY_POLL: u32 = 20;

impl FromStr for XdpUri {
    type Err = String;
    fn from_str(text: &str) -> Result<XdpUri, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        if !(1..=15).contains(&name.len()) || name.contains(['/', ' ']) {
            return Err("an interface's name has 1 to 15 characters, no slash, no blank".into());
        }
        let mut uri = XdpUri { name: name.into(), mode: None, ports: None, busy_poll: None };
        for part in parts {
            let (option, value) = part.split_once('=').map_or((part, None), |(option, value)| (option, Some(value)));
            let mode = match (option, value) {
                ("zero-copy", None) => xdp::Mode::ZeroCopy,
                ("native", None) => xdp::Mode::Native,
                ("generic", None) => xdp::Mode::Generic,
                ("ports", ports) if uri.ports.is_none() => {
                    uri.ports = Some(ports.map_or(Ok(Vec::new()), read_ports)?);
                    continue;
                }
                ("busy-poll", micros) if uri.busy_poll.is_none() => {
                    let micros = micros.map_or(Ok(BUSY_POLL), str::parse).ok().filter(|m| (1..=10_000).contains(m));
                    uri.busy_poll = Some(micros.ok_or(format!("{part}: 1 to 10000 microseconds"))?);
                    continue;
                }
                _ => {
                    return Err(format!(
                        "{part} is none of zero-copy, native, generic, ports, ports=PORT+PORT, busy-poll, busy-poll=MICROS, or the second of its kind"
                    ));
                }
            };
            if uri.mode.replace(mode).is_some() {
                return Err(format!("{part}: one mode is enough"));
            }
        }
        Ok(uri)
    }
}

/// `80`, `11211+8080`.
fn read_ports(text: &str) -> Result<Vec<u16>, String> {
    let port = |part: &str| part.parse().ok().filter(|p| *p != 0).ok_or(format!("{part:?} is no port from 1 to 65535"));
    let ports = text.split('+').map(port).collect::<Result<Vec<u16>, String>>()?;
    if ports.len() > xdp::MAX_PORTS {
        return Err(format!("{} ports are too many, {} at most", ports.len(), xdp::MAX_PORTS));
    }
    Ok(ports)
}

impl FromStr for NicUri {
    type Err = String;
    fn from_str(text: &str) -> Result<NicUri, String> {
        match text.split_once(':') {
            Some(("tap", name)) if (1..=15).contains(&name.len()) && !name.contains(['/', ' ']) => {
                Ok(NicUri::Tap(name.into()))
            }
            Some(("tap", _)) => Err("a TAP's name has 1 to 15 characters, no slash, no blank".into()),
            Some(("xdp", rest)) => rest.parse().map(NicUri::Xdp),
            Some(("shm", path)) if !path.is_empty() => Ok(NicUri::Shm(path.into())),
            Some((other, _)) if other != "shm" => {
                Err(format!("there is no NIC of the kind {other}: tap:NAME, xdp:NAME or shm:PATH"))
            }
            _ => Err("write tap:NAME, xdp:NAME or shm:PATH".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }

    #[test]
    fn sizes_have_suffixes_and_limits() {
        assert_eq!(parsed("4096"), Some(Size(4096)));
        assert_eq!((parsed("512k"), parsed("1m")), (Some(Size(512 << 10)), Some(Size(1 << 20))));
        assert_eq!((parsed("64"), parsed("2g")), (Some(Megabytes(64 << 20)), Some(Megabytes(2 << 30))));
        for bad in ["", "k", "-1", "1.5m", "0", "99999999999g", "1t"] {
            assert_eq!(parsed::<Size>(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn networks_know_their_hosts() {
        let n: Network = parsed("198.18.0.2/24").unwrap();
        assert_eq!(n.neighbour(), parsed("198.18.0.1/24").unwrap());
        assert_eq!(n.neighbour().neighbour(), n);
        assert!(n.neighbours(n.neighbour()) && !n.neighbours(n) && !n.neighbours(parsed("198.18.1.1/24").unwrap()));
        for bad in ["198.18.0.2", "198.18.0.0/24", "198.18.0.255/24", "1.2.3.4/31", "1.2.3.4/0", "1.2.3/24", "::1/127"]
        {
            assert_eq!(parsed::<Network>(bad), None, "{bad:?}");
        }
        let six: Network = parsed("2001:2::2/64").unwrap();
        assert_eq!(six.neighbour(), parsed("2001:2::1/64").unwrap());
        assert!(
            six.neighbours(six.neighbour())
                && !six.neighbours(n)
                && !six.neighbours(parsed("2001:2:0:1::1/64").unwrap())
        );
        assert!(parsed::<Network>("2001:2::ffff:ffff:ffff:ffff/64").is_some(), "IPv6 has no broadcast");
        for bad in ["2001:2::/64", "ff02::1/64", "::ffff:1.2.3.4/100", "2001:2::2/0", "::1/64"] {
            assert_eq!(parsed::<Network>(bad), None, "{bad:?}");
        }
        assert_eq!(parsed("none"), Some(HostAddress::Leave));
    }

    #[test]
    fn cores_are_lists_of_ranges() {
        assert_eq!(parsed("1"), Some(Cores(vec![1])));
        assert_eq!(parsed("4,0-2"), Some(Cores(vec![4, 0, 1, 2])));
        for bad in ["", "a", "2-1", "1,1", "0-2,1", "0-99999"] {
            assert_eq!(parsed::<Cores>(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn nics_are_named_by_kind() {
        assert_eq!(parsed("tap:zx0"), Some(NicUri::Tap("zx0".into())));
        assert_eq!(parsed("shm:/run/wire"), Some(NicUri::Shm("/run/wire".into())));
        let xdp = |mode, ports| Some(NicUri::Xdp(XdpUri { name: "eth0".into(), mode, ports, busy_poll: None }));
        assert_eq!(parsed("xdp:eth0"), xdp(None, None));
        assert_eq!(parsed("xdp:eth0,generic"), xdp(Some(xdp::Mode::Generic), None));
        assert_eq!(parsed("xdp:eth0,ports"), xdp(None, Some(vec![])));
        assert_eq!(parsed("xdp:eth0,ports=80+443,native"), xdp(Some(xdp::Mode::Native), Some(vec![80, 443])));
        for bad in [
            "ports=",
            "ports=0",
            "ports=80,443",
            "ports=65536",
            "ports,ports",
            "native,generic",
            "native=1",
            "busy-poll=0",
        ] {
            assert_eq!(parsed::<NicUri>(&format!("xdp:eth0,{bad}")), None, "{bad:?}");
        }
        for bad in ["", "zx0", "tap:", "tap:a/b", "tap:0123456789abcdef", "shm:", "xdp:", "xdp:a b", "xdp:eth0,fast"] {
            assert_eq!(parsed::<NicUri>(bad), None, "{bad:?}");
        }
    }
}
