use std::fmt;
use std::net::IpAddr;

/// How frames come from the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The driver runs the program and places frames in our memory itself.
    ZeroCopy,
    /// The driver runs the program, the kernel copies frames.
    Native,
    /// The kernel's receive path runs the program, and copies: with any driver.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Native => "native",
            Mode::Generic => "generic",
        })
    }
}

/// Ports at most in [`XdpConfig::ports`]: each is a comparison per frame.
pub const MAX_PORTS: usize = 64;

/// What to use. [`XdpConfig::new`] fills in the usual.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpConfig {
    /// The interface, 1 to 15 characters.
    pub interface: String,
    /// Queue pairs: one per elastic thread, and as many as the interface has receive queues.
    pub queues: u16,
    /// Our addresses: what is taken from the interface. Everything else stays the kernel's.
    pub addresses: Vec<IpAddr>,
    /// If any, at most [`MAX_PORTS`]: of TCP and UDP only packets to these ports are ours, and the kernel may have the same addresses.
    pub ports: Vec<u16>,
    /// The mode, instead of the best that works.
    pub mode: Option<Mode>,
    /// Have an empty poll run the driver's receive path on the polling core, for so many microseconds at most, where the kernel lets us.
    pub busy_poll: Option<u32>,
    /// Leave the steering to the network layer.
    pub software_steering: bool,
}

impl XdpConfig {
    /// The best mode, steering where it can be had.
    pub fn new(interface: impl Into<String>, queues: u16, addresses: Vec<IpAddr>) -> XdpConfig {
        XdpConfig {
            interface: interface.into(),
            queues,
            addresses,
            ports: Vec::new(),
            mode: None,
            busy_poll: None,
            software_steering: false,
        }
    }
}
