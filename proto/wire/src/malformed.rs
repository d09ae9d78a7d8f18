use std::fmt;

/// Why bytes are not the header they claim to be. A closed list, so that each reason can be counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Malformed {
    /// Fewer bytes than the header, or than its own length field promises.
    Truncated,
    /// A version or a hardware or protocol type other than the one this parser reads.
    Version,
    /// A length field that contradicts itself (a header shorter than its fixed part, a total shorter than the header).
    Length,
    /// The checksum does not match.
    Checksum,
    /// An option that runs past its header, or a TCP option whose length is below 2 (RFC 9293 section 3.1).
    Option,
    /// An address that has no place there: IPv4-mapped in an IPv6 header, a group where one host is meant.
    Address,
}

impl Malformed {
    /// How many reasons there are: the size of a table of counters.
    pub const COUNT: usize = 6;

    /// The position of this reason's counter in a table.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name for counters and traces.
    pub const fn name(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::Version => "version",
            Malformed::Length => "length",
            Malformed::Checksum => "checksum",
            Malformed::Option => "option",
            Malformed::Address => "address",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed header: {}", self.name())
    }
}

impl std::error::Error for Malformed {}
