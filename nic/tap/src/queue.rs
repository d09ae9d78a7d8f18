//! One queue pair: one descriptor, one frame per system call.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use mem::{Mbuf, MbufQueue, Pool};
use nic::{Caps, Queue, QueueCounters, RxFrame, RxHint, RxPools, TxFrame, TxFull};
use units::Nanos;
use wire::{ethernet, ipv6};

use crate::vnet;

/// The largest frame that the kernel hands over: an IPv6 packet of 64 KB behind its headers.
const MAX_FRAME: usize = ethernet::HEADER + ipv6::HEADER + 65535;
/// A remainder of at least this size keeps its spill buffer; a smaller one is copied into mbufs.
const KEEP_SPILL: usize = 8192;
/// Pieces per writev without a copy; pieces beyond are gathered in a buffer of our own.
const MAX_PIECES: usize = 64;
/// A frame with few pieces, the usual one, sets up a short list.
const FEW_PIECES: usize = 6;

/// A queue pair of a TAP.
#[derive(Debug)]
pub struct TapQueue {
    fd: Arc<OwnedFd>,
    caps: Arc<Caps>,
    vnet: bool,
    /// Where the rest of a super-frame goes when the pool has no spill buffer.
    spare: Box<[u8]>,
    /// Where the last pieces of a frame with very many are gathered.
    gather: Box<[u8]>,
    counters: QueueCounters,
}

/// What became of one read.
enum Received {
    Frame(RxFrame),
    /// A frame was taken from the kernel and dropped (and counted).
    Dropped,
    /// The ring is empty, or buffers are.
    Nothing,
}

impl TapQueue {
    pub(crate) fn new(fd: OwnedFd, caps: Arc<Caps>, vnet: bool) -> TapQueue {
        let buffer = || vec![0; MAX_FRAME].into_boxed_slice();
        TapQueue { fd: Arc::new(fd), caps, vnet, spare: buffer(), gather: buffer(), counters: QueueCounters::default() }
    }

    /// Reads one frame: its beginning into a fresh mbuf, the rest into `spill` (or the spare buffer).
    fn receive(&mut self, pools: &mut RxPools, spill: &mut Option<Mbuf>) -> Received {
        let Some(mut head) = pools.mbufs.alloc() else {
            self.counters.rx_nombuf += 1;
            return Received::Nothing;
        };
        let mut header = [0; vnet::SIZE];
        let header_len = if self.vnet { vnet::SIZE } else { 0 };
        let in_head = head.tailroom();
        let tail = spill.as_mut().map_or(&mut *self.spare, |spill| spill.spare_mut());
        let mut into =
            [IoSliceMut::new(&mut header[..header_len]), IoSliceMut::new(head.spare_mut()), IoSliceMut::new(tail)];
        self.counters.rx_syscalls += 1;
        let len = match sys::io::readv(&*self.fd, &mut into) {
            Ok(len) => len.saturating_sub(header_len),
            Err(e) => {
                if e.kind() != ErrorKind::WouldBlock {
                    self.counters.rx_invalid += 1; // the device is gone or down: polled until the owner notices
                }
                pools.mbufs.free(head);
                return Received::Nothing;
            }
        };
        let csum_ok = if self.vnet { vnet::csum_ok(&header, len) } else { Some(false) };
        let Some(csum_ok) = csum_ok.filter(|_| len >= ethernet::HEADER) else {
            self.counters.rx_invalid += 1;
            pools.mbufs.free(head);
            return Received::Dropped;
        };
        head.set_len(len.min(in_head));
        let rest = if len > in_head {
            let Some(rest) = self.rest(pools, spill, len - in_head) else {
                self.counters.rx_nombuf += 1;
                pools.mbufs.free(head);
                return Received::Dropped;
            };
            rest
        } else {
            MbufQueue::new()
        };
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += len as u64;
        Received::Frame(RxFrame { head, rest, csum_ok, group: None })
    }

    /// The `len` bytes in the spill (or spare) buffer, as mbufs: the buffer itself when it is worth it and another can
    /// take its place, else copies. `None` when no buffer is left.
    #[inline(never)]
    fn rest(&self, pools: &mut RxPools, spill: &mut Option<Mbuf>, len: usize) -> Option<MbufQueue> {
        if len >= KEEP_SPILL
            && let Some(full) = spill
            && let Some(fresh) = pools.spills.alloc()
        {
            full.set_len(len);
            return Some(MbufQueue::from(std::mem::replace(full, fresh)));
        }
        let bytes = match spill {
            Some(spill) => &spill.spare_mut()[..len],
            None => &self.spare[..len],
        };
        copy_to_mbufs(bytes, &mut pools.mbufs)
    }

    /// Writes the pieces as one frame.
    #[inline]
    fn write<const N: usize>(&mut self, header: &[u8], frame: &TxFrame<'_>) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); N];
        pieces[0] = IoSlice::new(header);
        pieces[1] = IoSlice::new(frame.head);
        let n = frame.payload.len();
        pieces[2..2 + n].copy_from_slice(frame.payload);
        self.counters.tx_syscalls += 1;
        sys::io::writev(&*self.fd, &pieces[..2 + n])
    }

    /// A frame with very many pieces: all payload is gathered first.
    #[cold]
    fn write_gathered(&mut self, header: &[u8], frame: &TxFrame<'_>) -> io::Result<usize> {
        let mut len = 0;
        for piece in frame.payload {
            let to = self.gather.get_mut(len..len + piece.len()).ok_or(ErrorKind::InvalidInput)?;
            to.copy_from_slice(piece);
            len += piece.len();
        }
        let pieces = [IoSlice::new(header), IoSlice::new(frame.head), IoSlice::new(&self.gather[..len])];
        self.counters.tx_syscalls += 1;
        sys::io::writev(&*self.fd, &pieces)
    }

    /// A frame that was not taken: full if it may be tried again, else lost, as on a wire that is cut.
    #[cold]
    fn refused(&mut self, e: &io::Error) -> Result<(), TxFull> {
        let again = matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR));
        if again {
            self.counters.tx_full += 1;
            Err(TxFull)
        } else {
            self.counters.tx_errors += 1;
            Ok(())
        }
    }
}

/// Copies `bytes` into as many mbufs as it takes; `None`, with all freed, if the pool has too few.
fn copy_to_mbufs(mut bytes: &[u8], pool: &mut Pool) -> Option<MbufQueue> {
    let mut queue = MbufQueue::new();
    while !bytes.is_empty() {
        let Some(mut mbuf) = pool.alloc() else {
            pool.free_queue(queue);
            return None;
        };
        let taken = mbuf.extend(bytes);
        bytes = &bytes[taken..];
        queue.push_back(mbuf);
    }
    Some(queue)
}

impl Queue for TapQueue {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) -> usize {
        let max = max.min(out.capacity() - out.len());
        let mut spill = pools.spills.alloc();
        let (mut frames, mut reads) = (0, 0);
        // A dropped frame counts as a read, so that hostile frames cannot keep us here.
        while reads < max {
            reads += 1;
            match self.receive(pools, &mut spill) {
                Received::Frame(frame) => {
                    out.push(frame);
                    frames += 1;
                }
                Received::Dropped => {}
                Received::Nothing => break,
            }
        }
        if let Some(spill) = spill {
            pools.spills.free(spill);
        }
        frames
    }

    fn tx(&mut self, frame: &TxFrame<'_>) -> Result<(), TxFull> {
        let offload = frame.csum.is_some() || frame.gso.is_some();
        assert!(self.vnet || !offload, "a frame asks for an offload that the capabilities deny");
        let header = vnet::emit(frame.csum, frame.gso);
        let header = if self.vnet { &header[..] } else { &[] };
        let pieces = frame.payload.len();
        let written = if pieces <= FEW_PIECES {
            self.write::<{ FEW_PIECES + 2 }>(header, frame)
        } else if pieces <= MAX_PIECES {
            self.write::<{ MAX_PIECES + 2 }>(header, frame)
        } else {
            self.write_gathered(header, frame)
        };
        match written {
            Ok(len) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len.saturating_sub(header.len()) as u64;
                Ok(())
            }
            Err(e) => self.refused(&e),
        }
    }

    fn flush(&mut self) {
        // Each write has entered the kernel already.
    }

    /// Asks the kernel: 0.2 us.
    fn rx_hint(&self) -> RxHint {
        let fd = self.fd.clone();
        Arc::new(move || sys::wait::readable(&[fd.as_raw_fd()], Nanos::ZERO).is_ok_and(|ready| ready != 0))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }

    fn before_sleep(&mut self) -> bool {
        true // readiness is a level: a frame that waits already makes the sleep return at once
    }

    fn after_sleep(&mut self) {}

    fn counters(&self) -> QueueCounters {
        self.counters
    }
}

/// Says, past the test harness's capture, that a test could not run here, and how many could not so far.
#[cfg(test)]
pub(crate) fn skipped(test: &str, why: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    let line = format!("SKIPPED {test} ({count} so far): {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
