use std::io;

use wire::Mac;

use crate::frames::CHAIN;
use crate::memory::QUEUES_MAX;

/// The smallest ring that carries super-frames: two of the largest, nearly.
pub const LARGE_RING: u32 = 64;
const _: () = assert!(LARGE_RING > CHAIN);

/// What one side of a wire asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Queue pairs, one per elastic thread: 1 to [`QUEUES_MAX`].
    pub queues: u16,
    /// Frames that one ring holds: a power of two from 2 to 65536. Of two sides the first (or listening) one's counts.
    pub ring: u32,
    /// Leave transport checksums out, as NICs with offload do: the bytes never leave this machine's memory. In force
    /// if both sides say so; if not, checksums are real.
    pub trusted: bool,
    /// Carry super-frames of up to 64 KB, as NICs with segmentation offload and large receive do. In force if both sides say so and the ring
    /// holds [`LARGE_RING`] frames: a peer that does not want them gets none.
    pub large: bool,
    /// The Ethernet address.
    pub mac: Mac,
}

impl Default for Config {
    fn default() -> Config {
        Config { queues: 1, ring: 512, trusted: false, large: false, mac: Mac::local(0) }
    }
}

impl Config {
    /// Errors: a number is out of its range.
    pub(crate) fn check(&self) -> io::Result<()> {
        let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if !(1..=QUEUES_MAX as u16).contains(&self.queues) {
            return invalid(format!("{} queues on a shm wire; use 1 to {QUEUES_MAX}", self.queues));
        }
        if !self.ring.is_power_of_two() || !(2..=1 << 16).contains(&self.ring) {
            return invalid(format!("a shm ring of {} frames; use a power of two from 2 to 65536", self.ring));
        }
        Ok(())
    }
}
