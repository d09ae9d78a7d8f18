//! The memory that both sides map.
//!
//! ```text
//!   | Port 0 | Port 1 | rings of side 0: (0,0) (0,1) .. (n-1,m-1) | rings of side 1: (0,0) .. (m-1,n-1) |
//!
//!   Port   RETA and sleep words of a side. Written by that side, read by the other.
//!   ring   | Ends 256 B | descriptors 8 B each | slots 2112 B each |        (frames.rs)
//! ```
//!
//! # Soundness
//! The mapping is as large as the layout says, and its file is sealed against shrinking, so no access faults. The
//! peer may write any byte at any time. Hence references are made to atomics only (any bit pattern is valid), slots
//! are copied through raw pointers, and every number read from here is checked before it is used as an index. Offsets
//! come from this side's own copy of the geometry, which is fixed before the mapping is made. The mapping lives in an
//! `Arc` as long as any ring.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::{io, mem};

use sync::SleepWord;
use sync::ring::Line;
use sys::{SysError, memfd};
use units::FLOW_GROUPS;

use crate::frames;

/// The most queues a side can have.
pub const QUEUES_MAX: usize = 16;

/// A side of the wire: 0 made the memory, 1 joined.
pub(crate) type Side = usize;

/// What a side tells the other's transmitters. Zeroed memory is a port whose flow groups all go to queue 0.
#[repr(C)]
pub(crate) struct Port {
    /// The redirection table: the queue of each flow group.
    pub(crate) reta: [AtomicU16; FLOW_GROUPS],
    /// Which queues want their doorbell rung.
    pub(crate) asleep: [Line<SleepWord>; QUEUES_MAX],
}

/// Numbers that decide the layout, agreed on before there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// Queues of side 0 and of side 1.
    pub(crate) queues: [u16; 2],
    /// Frames per ring, a power of two.
    pub(crate) ring: u32,
}

/// Where the first ring begins: on a page of its own.
const RINGS: usize = mem::size_of::<[Port; 2]>().next_multiple_of(4096);

impl Geometry {
    fn rings_per_side(self) -> usize {
        usize::from(self.queues[0]) * usize::from(self.queues[1])
    }

    /// Bytes of the whole.
    pub(crate) fn bytes(self) -> usize {
        RINGS + 2 * self.rings_per_side() * frames::bytes(self.ring)
    }

    /// Where the ring begins that leads from queue `from` of `side` to queue `to` of the other.
    fn ring_at(self, side: Side, from: u16, to: u16) -> usize {
        let index = usize::from(from) * usize::from(self.queues[1 - side]) + usize::from(to);
        RINGS + (side * self.rings_per_side() + index) * frames::bytes(self.ring)
    }
}

/// The mapping, and the file under it.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    geometry: Geometry,
    fd: OwnedFd,
}

// SAFETY: a mapping belongs to the process; what is in it is shared through atomics and copies (see the top of this
// file).
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes the memory of a wire, with flow groups spread over each side's queues in turn.
    pub(crate) fn create(geometry: Geometry) -> Result<Memory, SysError> {
        let fd = memfd::create_sealed(c"zygix-wire", geometry.bytes() as u64)?;
        let memory = Memory::map(fd, geometry)?;
        for side in [0, 1] {
            for (group, queue) in memory.port(side).reta.iter().enumerate() {
                queue.store(group as u16 % geometry.queues[side], Relaxed);
            }
        }
        Ok(memory)
    }

    /// Maps the memory that the other side made.
    ///
    /// Errors: it is not a sealed file, or smaller than the geometry needs.
    pub(crate) fn join(fd: OwnedFd, geometry: Geometry) -> Result<Memory, SysError> {
        let len = memfd::sealed_len(&fd)?;
        if len < geometry.bytes() as u64 {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "the wire's memory is smaller than agreed");
            return Err(SysError::new("fstat", cause).remedy("both ends must be the same version"));
        }
        Memory::map(fd, geometry)
    }

    fn map(fd: OwnedFd, geometry: Geometry) -> Result<Memory, SysError> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe { libc::mmap(ptr::null_mut(), geometry.bytes(), prot, flags, fd.as_raw_fd(), 0) };
        match NonNull::new(at.cast()) {
            Some(base) if at != libc::MAP_FAILED => Ok(Memory { base, geometry, fd }),
            _ => Err(SysError::last("mmap").remedy("use fewer queues or smaller rings")),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The file, to be sent to the other side.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What `side` tells the other.
    #[inline]
    pub(crate) fn port(&self, side: Side) -> &Port {
        assert!(side < 2);
        // SAFETY: two ports lie at the start of the mapping; atomics are valid whatever the peer writes.
        unsafe { self.base.cast::<Port>().add(side).as_ref() }
    }

    /// The first byte of the ring from queue `from` of `side` to queue `to` of the other, followed by
    /// `frames::bytes(ring)` in all, aligned to 128.
    pub(crate) fn ring(&self, side: Side, from: u16, to: u16) -> NonNull<u8> {
        let Geometry { queues, .. } = self.geometry;
        assert!(side < 2 && from < queues[side] && to < queues[1 - side], "no such ring");
        // SAFETY: the layout puts this ring within the mapping.
        unsafe { self.base.add(self.geometry.ring_at(side, from, to)) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and rings that pointed into it kept it alive until now.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.geometry.bytes()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_tile_the_memory() {
        let geometry = Geometry { queues: [3, 2], ring: 4 };
        let mut all: Vec<usize> = Vec::new();
        for side in [0, 1] {
            for from in 0..geometry.queues[side] {
                all.extend((0..geometry.queues[1 - side]).map(|to| geometry.ring_at(side, from, to)));
            }
        }
        all.sort();
        all.push(geometry.bytes());
        assert_eq!((all.len(), all[0]), (13, RINGS));
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == frames::bytes(4)));
        assert_eq!(frames::bytes(4) % 128, 0);
    }

    #[test]
    fn memory_that_is_too_small_or_could_shrink_is_refused() {
        let geometry = Geometry { queues: [1, 1], ring: 4 };
        let small = memfd::create_sealed(c"test", geometry.bytes() as u64 - 1).unwrap();
        assert!(Memory::join(small, geometry).unwrap_err().to_string().contains("smaller than agreed"));
        let unsealed = std::fs::File::open("/proc/self/status").unwrap();
        assert!(Memory::join(unsealed.into(), geometry).is_err());
    }
}
