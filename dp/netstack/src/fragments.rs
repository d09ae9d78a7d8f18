//! Fragments in: put together by one core, then taken in as the frame that they were cut from.
//!
//! ```text
//!   any core: fragment ──► the core of (source, destination, id) ──► table (proto/reassembly) ──► whole frame in one buffer
//!                                                                                                   │ as if it had just arrived
//!   owner of the flow ◄── the owner word, now that there are ports ◄────────────────────────────────┘
//! ```
//!
//! A fragment pins the buffer that it came in, so the table's bound on pieces is a bound on buffers: an eighth of the receive pool at
//! most.

use mem::{Mbuf, Pool};
use nic::{Queue, RxFrame};
use reassembly::{Key, Limits, Outcome, Piece, Table};
use units::Nanos;
use wire::{Tuple, ethernet, ipv4, ipv6};

use crate::DropReason;
use crate::icmp::Complaint;
use crate::rx::Packet;
use crate::stack::Stack;

/// Pieces that a core holds at most, if its pool is large.
const PIECES_MAX: usize = 1024;

/// A fragment's place, and where its bytes are in the frame.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    key: Key,
    offset: u16,
    more: bool,
    /// Where the piece begins, in bytes from the start of the frame.
    at: u16,
    /// Where the packet that the pieces make says what it carries (IPv6: the Next Header field before the fragment header).
    named_at: u16,
    next: u8,
}

impl Part {
    pub(crate) fn of_v4(ip: &ipv4::Header) -> Part {
        let key = Key { src: ip.src.into(), dst: ip.dst.into(), id: ip.id.into(), protocol: ip.protocol };
        let at = ethernet::HEADER as u16 + u16::from(ip.header_len);
        Part { key, offset: ip.frag_offset, more: ip.mf, at, named_at: 0, next: ip.protocol }
    }

    pub(crate) fn of_v6(ip: &ipv6::Header, fragment: &ipv6::Fragment) -> Part {
        let ipv6::Fragment { id, offset, more, next, at, named_at } = *fragment;
        let in_frame = |at: usize| (ethernet::HEADER + at) as u16;
        let (at, named_at) = (in_frame(at + ipv6::FRAGMENT_HEADER), in_frame(named_at));
        Part { key: Key { src: ip.src, dst: ip.dst, id, protocol: 0 }, offset, more, at, named_at, next }
    }
}

/// A piece that waits: its frame as it came.
pub(crate) struct Waiting {
    pub(crate) frame: Mbuf,
    part: Part,
}

/// The fragments of one core.
pub(crate) struct Fragments {
    pub(crate) table: Table<Waiting>,
}

impl Fragments {
    /// A table for a pool of `buffers`.
    pub(crate) fn new(buffers: usize) -> Fragments {
        let limits = Limits { pieces: (buffers / 8).clamp(8, PIECES_MAX), ..Limits::default() };
        Fragments { table: Table::new(limits) }
    }
}

impl<Q: Queue> Stack<Q> {
    #[cold]
    pub(crate) fn fragment_arrives(&mut self, frame: RxFrame, part: Part, now: Nanos) -> Result<(), DropReason> {
        // A piece in several buffers would need a larger MTU than a buffer holds.
        if !frame.rest.is_empty() {
            return Err(DropReason::Fragment);
        }
        let Part { key, offset, more, at, .. } = part;
        let group = self.shared.flow_group(&meeting_place(&key));
        if self.shared.owner(group) != self.core {
            return self.pass_on(RxFrame { group: None, ..frame }, group);
        }
        let len = frame.head.len().saturating_sub(usize::from(at)) as u16;
        let waiting = Waiting { frame: frame.head, part };
        match self.fragments.table.insert(now, key, Piece { offset, len, more }, waiting) {
            Outcome::Kept { evicted } => {
                self.metrics.drop_frames(DropReason::Fragment, evicted as u64);
                self.timers_due = self.timers_due.min(self.fragments.table.deadline());
                Ok(())
            }
            Outcome::Duplicate => Err(DropReason::Fragment),
            Outcome::Refused { pieces, .. } => {
                self.metrics.drop_frames(DropReason::Fragment, pieces as u64);
                Ok(())
            }
            Outcome::Whole(whole) => {
                let pools = &mut self.link.pools;
                let mut joined = Joined { frame: None, end: 0, ce: false, fits: true };
                self.fragments.table.take(whole, |piece, waiting| {
                    joined.add(&mut pools.mbufs, &mut pools.spills, whole.len, piece, &waiting);
                });
                let frame = joined.finish().ok_or(DropReason::NoMbuf)?;
                self.metrics.reassembled.inc();
                self.frame_arrives(frame, None, now);
                Ok(())
            }
        }
    }

    /// Drops the datagrams whose fragments did not all come in time. The sender is told if the first one came (RFC 792, RFC 4443
    /// section 3.3).
    #[cold]
    pub(crate) fn expire_fragments(&mut self, now: Nanos) {
        // One at a time, for telling needs all of the stack.
        loop {
            let (mut first, mut any) = (None, false);
            let gone = self.fragments.table.expire(now, 1, |_, waiting| {
                (first, any) = (waiting, true);
            });
            self.metrics.drop_frames(DropReason::ReassemblyTime, gone as u64);
            if !any {
                return;
            }
            let Some(Waiting { frame, part }) = first else { continue };
            let Some(local) = self.shared.addresses.find(&part.key.dst) else { continue };
            let packet = Packet {
                src: part.key.src,
                dst: part.key.dst,
                local,
                protocol: part.next,
                hops: 0,
                to_group: false,
                ecn: 0,
                flow: None,
                at: part.at.into(),
            };
            let frame = RxFrame { head: frame, rest: Default::default(), csum_ok: true, group: None };
            self.complain(&frame, &packet, Complaint::Reassembly, now);
        }
    }
}

/// The flow on whose core the pieces of a datagram meet: their ports are in one of them only, so what all have in common has to do.
pub(crate) fn meeting_place(key: &Key) -> Tuple {
    let (id_high, id_low) = ((key.id >> 16) as u16, key.id as u16);
    let local_port = id_high ^ u16::from(key.protocol);
    Tuple { local: key.dst, remote: key.src, local_port, remote_port: id_low }
}

/// A datagram that its pieces are copied into.
struct Joined {
    frame: Option<Mbuf>,
    /// Where the next piece belongs.
    end: usize,
    /// A piece met congestion: so did the datagram (RFC 3168 section 5.3).
    ce: bool,
    fits: bool,
}

impl Joined {
    fn add(&mut self, mbufs: &mut Pool, spills: &mut Pool, len: u32, piece: Piece, waiting: &Waiting) {
        let (at, bytes) = (usize::from(waiting.part.at), &waiting.frame);
        self.ce |= ecn(bytes) == Some(3);
        if piece.offset == 0 {
            // What comes before the first piece is the datagram's header, IPv6's fragment header left out.
            let v6 = !waiting.part.key.src.is_v4();
            let head = if v6 { at - ipv6::FRAGMENT_HEADER } else { at };
            let wanted = head + len as usize;
            let fits = |pool: &mut Pool| pool.alloc().filter(|b| b.capacity() >= wanted);
            let Some(mut frame) = fits(mbufs).or_else(|| fits(spills)) else { return };
            frame.reset(0);
            frame.extend(&bytes[..head]);
            rewrite(&mut frame, &waiting.part, head, wanted);
            self.frame = Some(frame);
        }
        let Some(frame) = self.frame.as_mut() else { return };
        let took = frame.extend(&bytes[at..]);
        self.fits &= took == bytes.len() - at;
        self.end += took;
    }

    /// The frame, as if it had arrived in one piece. Its transport checksum is still to be verified.
    fn finish(self) -> Option<RxFrame> {
        let mut head = self.frame.filter(|_| self.fits)?;
        if self.ce && ecn(&head).is_some_and(|ecn| ecn != 0) {
            mark(&mut head);
        }
        Some(RxFrame { head, rest: Default::default(), csum_ok: false, group: None })
    }
}

/// Makes the first fragment's header the whole datagram's: `frame` has `head` bytes now and will have `total`.
fn rewrite(frame: &mut Mbuf, part: &Part, head: usize, total: usize) {
    let ip = &mut frame[ethernet::HEADER..];
    let total = (total - ethernet::HEADER) as u32;
    if part.key.src.is_v4() {
        // A total beyond 64 KiB is written as 0, which no parser accepts.
        let len = u16::try_from(total).unwrap_or(0);
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        ip[6..8].copy_from_slice(&[0, 0]);
        sum_v4(&mut ip[..head - ethernet::HEADER]);
    } else {
        let len = u16::try_from(total - ipv6::HEADER as u32).unwrap_or(0);
        ip[4..6].copy_from_slice(&len.to_be_bytes());
        ip[usize::from(part.named_at) - ethernet::HEADER] = part.next;
    }
}

fn sum_v4(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let sum = wire::checksum::Sum::new().with(header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The ECN field of a frame's IP header.
fn ecn(frame: &[u8]) -> Option<u8> {
    let ip = frame.get(ethernet::HEADER..ethernet::HEADER + 2)?;
    Some(if ip[0] >> 4 == 4 { ip[1] & 3 } else { ip[1] >> 4 & 3 })
}

/// Sets "congestion experienced".
fn mark(frame: &mut Mbuf) {
    let ip = &mut frame[ethernet::HEADER..];
    if ip[0] >> 4 == 4 {
        ip[1] |= 3;
        let header = usize::from(ip[0] & 15) * 4;
        sum_v4(&mut ip[..header]);
    } else {
        ip[1] |= 0x30;
    }
}
