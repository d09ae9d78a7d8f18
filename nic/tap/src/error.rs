use sys::SysError;

/// Why a TAP cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The number of queues is not 1 to 256.
    #[error("a TAP has 1 to 256 queues, not {0}; ask for as many as elastic threads")]
    Queues(u16),
    /// The MTU is out of range.
    #[error("a TAP's MTU is 68 to 65521, not {0}")]
    Mtu(u16),
    /// An interface of that name is something else.
    #[error("interface {name} exists and is not a TAP but a {kind}; choose another name")]
    OtherKind {
        /// Its name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// A TAP of that name was made with other flags.
    #[error("TAP {name} exists with other flags ({differs}); delete it (ip link del {name}) or choose another name")]
    OtherFlags {
        /// Its name.
        name: String,
        /// Which flags.
        differs: String,
    },
    /// Another process uses the TAP.
    #[error("TAP {name} is busy: {queues} of its queues are open elsewhere; end that process or choose another name")]
    Busy {
        /// Its name.
        name: String,
        /// Queues attached.
        queues: u32,
    },
}
