use std::fmt;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the link.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// Nobody: an ARP request's unknown target.
    pub const ZERO: Mac = Mac([0; 6]);

    /// A locally administered unicast address (IEEE 802: bit 1 of the first byte set, bit 0 clear) that carries `id`.
    pub const fn local(id: u32) -> Mac {
        let [a, b, c, d] = id.to_be_bytes();
        Mac([0x02, 0x5a, a, b, c, d])
    }

    /// Whether a frame to this address is meant for more than one station (the group bit; broadcast has it too).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address of an IPv6 group's frames (RFC 2464 section 7): 33:33 and the group's last four bytes.
    #[inline]
    pub const fn of_group(group: &crate::Addr) -> Mac {
        let [a, b, c, d] = group.low32().to_be_bytes();
        Mac([0x33, 0x33, a, b, c, d])
    }

    /// Whether this is the broadcast address.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Mac::BROADCAST
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string that is not six hexadecimal bytes with colons between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAMac;

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an Ethernet address; write it like 02:00:00:00:00:01")
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(s: &str) -> Result<Mac, NotAMac> {
        let mut mac = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut mac {
            let part = parts.next().ok_or(NotAMac)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() { Err(NotAMac) } else { Ok(Mac(mac)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = Mac([0x02, 0x5a, 0, 0, 0xab, 0x0f]);
        assert_eq!(mac.to_string(), "02:5a:00:00:ab:0f");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in ["", "02", "02:5a:00:00:ab", "02:5a:00:00:ab:0f:11", "02:5a:00:00:ab:+f", "002:5a:0:0:0:0"] {
            assert_eq!(bad.parse::<Mac>(), Err(NotAMac), "{bad}");
        }
        assert!(!Mac::local(7).is_multicast() && Mac::BROADCAST.is_multicast());
    }
}
