//! From segments to frames: headers built once in a small array, payload gathered from where it lies.

use std::io::IoSlice;
use std::sync::Arc;

use mem::{Mbuf, MbufQueue};
use nic::{CsumStart, Gso, Queue, RxPools, TxFrame};
use tcp::Emit;
use units::{CoreId, Nanos};
use wire::checksum::Sum;
use wire::tcp::CHECKSUM_OFFSET;
use wire::{Ipv4Addr, Mac, Tuple, arp, ethernet, ipv4};

use crate::DropReason;
use crate::metrics::Metrics;
use crate::shared::Shared;

/// The headers before TCP's.
const TCP_AT: usize = ethernet::HEADER + ipv4::HEADER;
/// Room for all headers.
const HEAD: usize = TCP_AT + wire::tcp::MAX_HEADER;
/// Pieces of payload that a frame of one segment, or a super-frame, gathers; one of more pieces is copied together first.
const FEW: usize = 4;
const MANY: usize = 40;
/// The largest payload of a super-frame: an IPv4 packet with its headers must stay below 64 KiB.
const SUPER: u32 = 0xffff - (HEAD - ethernet::HEADER) as u32;
/// Frames that may wait for the answer to an ARP question.
const PARKED: usize = 256;
/// How long they wait.
const PARK_FOR: Nanos = Nanos::from_secs(3);

/// A frame that waits for its next hop's hardware address (RFC 1122 section 2.3.2.2: at least the last one is kept).
struct Parked {
    hop: Ipv4Addr,
    since: Nanos,
    frame: Mbuf,
}

/// The way out of one core: its queue, and the frames that wait.
pub(crate) struct Link<Q> {
    pub(crate) nic: Q,
    pub(crate) pools: RxPools,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    /// Frames that the NIC had no room for, in order.
    backlog: MbufQueue,
    parked: Vec<Parked>,
    /// The last next hop found, and when.
    resolved: (Ipv4Addr, Nanos, Mac),
    /// Where payloads of too many pieces are copied together.
    joined: Box<[u8]>,
    ident: u16,
    tso: bool,
    tx_csum: bool,
}

impl<Q: Queue> Link<Q> {
    pub(crate) fn new(nic: Q, pools: RxPools, core: CoreId, shared: Arc<Shared>) -> Link<Q> {
        let (tso, tx_csum) = (nic.caps().tso, nic.caps().tx_csum);
        Link {
            nic,
            pools,
            metrics: shared.metrics(core).clone(),
            shared,
            backlog: MbufQueue::new(),
            parked: Vec::with_capacity(PARKED),
            resolved: (Ipv4Addr::UNSPECIFIED, Nanos::MAX, Mac::ZERO),
            joined: vec![0; SUPER as usize].into_boxed_slice(),
            ident: 0,
            tso,
            tx_csum,
        }
    }

    /// The largest payload that one call of [`Link::tcp`] takes.
    pub(crate) fn max_payload(&self, mss: u16) -> u32 {
        if self.tso { SUPER } else { u32::from(mss) }
    }

    /// Whether frames wait for room: then nothing else should be sent before them.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether frames wait for an address.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Sends a TCP segment: headers from `e`, payload from `queue` at `e.offset`.
    #[inline]
    pub(crate) fn tcp(&mut self, now: Nanos, t: &Tuple, e: &Emit, queue: &MbufQueue) {
        if e.len <= u32::from(e.mss) {
            self.tcp_frame::<FEW>(now, t, e, queue)
        } else {
            self.tcp_frame::<MANY>(now, t, e, queue)
        }
    }

    fn tcp_frame<const PIECES: usize>(&mut self, now: Nanos, t: &Tuple, e: &Emit, queue: &MbufQueue) {
        let hop = self.next_hop(t.remote);
        let mac = self.resolve(hop, now);
        let mut head = [0u8; HEAD];
        let tcp_len = wire::tcp::Header {
            src_port: t.local_port,
            dst_port: t.remote_port,
            seq: e.seq,
            ack: e.ack,
            flags: e.flags,
            window: e.wnd,
            urgent: 0,
            options: e.opts,
            header_len: 0,
        }
        .emit(&mut head[TCP_AT..]);
        let len = tcp_len as u32 + e.len;
        self.ip_header(&mut head, t.local, t.remote, ipv4::TCP, len as u16, mac.unwrap_or(Mac::ZERO));
        if e.ect {
            ipv4::set_ect(&mut head[ethernet::HEADER..]);
        }
        let head_len = TCP_AT + tcp_len;

        let mut pieces = [IoSlice::new(&[]); PIECES];
        let n = gather(queue, e.offset, e.len, &mut pieces).unwrap_or_else(|| {
            let joined = &mut self.joined[..e.len as usize];
            queue.copy_to(e.offset, joined);
            pieces[0] = IoSlice::new(joined);
            1
        });
        let payload = &pieces[..n];

        let mut sum = Sum::pseudo_v4(t.local, t.remote, ipv4::TCP, len);
        let field = TCP_AT + CHECKSUM_OFFSET;
        let csum = if self.tx_csum {
            head[field..field + 2].copy_from_slice(&sum.fold().to_be_bytes());
            Some(CsumStart { start: TCP_AT as u16, offset: CHECKSUM_OFFSET as u16 })
        } else {
            sum.add_bytes(&head[TCP_AT..head_len]);
            for piece in payload {
                sum.add_bytes(piece);
            }
            head[field..field + 2].copy_from_slice(&sum.finish().to_be_bytes());
            None
        };
        let gso = (e.len > u32::from(e.mss)).then_some(Gso { mss: e.mss, hdr_len: head_len as u16, v6: false });
        let frame = TxFrame { head: &head[..head_len], payload, csum, gso };
        match mac {
            Some(_) => transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame),
            None => park(&mut self.parked, &mut self.pools, &self.metrics, hop, &frame, now),
        }
    }

    /// Sends a small packet of one piece: what comes after the IP header.
    pub(crate) fn ip(&mut self, now: Nanos, t: &Tuple, protocol: u8, packet: &[u8]) {
        let hop = self.next_hop(t.remote);
        let mac = self.resolve(hop, now);
        let mut head = [0u8; HEAD];
        self.ip_header(&mut head, t.local, t.remote, protocol, packet.len() as u16, mac.unwrap_or(Mac::ZERO));
        let frame = TxFrame { head: &head[..TCP_AT], payload: &[IoSlice::new(packet)], csum: None, gso: None };
        match mac {
            Some(_) => transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame),
            None => park(&mut self.parked, &mut self.pools, &self.metrics, hop, &frame, now),
        }
    }

    /// Sends an ARP packet.
    pub(crate) fn arp(&mut self, packet: &arp::Packet) {
        let mut frame = [0u8; ethernet::MIN_FRAME];
        packet.emit_frame(&mut frame);
        let frame = TxFrame { head: &frame, payload: &[], csum: None, gso: None };
        transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame);
    }

    /// Asks for `ip`'s hardware address if nobody has for a second.
    pub(crate) fn ask(&mut self, ip: Ipv4Addr, now: Nanos) {
        if self.shared.arp.ask(ip, now) {
            let c = self.shared.config();
            let question = arp::Packet::request(c.mac, c.ip, ip);
            self.arp(&question);
        }
    }

    /// Sends what waited for room, then what waited for an address, and rings the doorbell.
    pub(crate) fn flush(&mut self, now: Nanos) {
        while let Some(waiting) = self.backlog.pop_front() {
            let frame = TxFrame { head: &waiting, payload: &[], csum: None, gso: None };
            if self.nic.tx(&frame).is_err() {
                self.backlog.push_front(waiting);
                break;
            }
            self.metrics.tx_frames.inc();
            self.pools.mbufs.free(waiting);
        }
        if !self.parked.is_empty() {
            self.unpark(now);
        }
        self.nic.flush();
    }

    #[cold]
    fn unpark(&mut self, now: Nanos) {
        for i in (0..self.parked.len()).rev() {
            let Parked { hop, since, .. } = self.parked[i];
            if let Some(mac) = self.resolve(hop, now) {
                let mut frame = self.parked.swap_remove(i).frame;
                frame[..6].copy_from_slice(&mac.0);
                let out = TxFrame { head: &frame, payload: &[], csum: None, gso: None };
                transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &out);
                self.pools.mbufs.free(frame);
            } else if now - since > PARK_FOR {
                self.pools.mbufs.free(self.parked.swap_remove(i).frame);
                self.metrics.drop_frame(DropReason::NoRoute);
            }
        }
    }

    fn next_hop(&self, ip: Ipv4Addr) -> Ipv4Addr {
        if self.shared.network.on_link(ip) { ip } else { self.shared.config.gateway.unwrap_or(ip) }
    }

    /// The hop's hardware address. Remembered while `now` stands still: a turn asks the table once.
    #[inline]
    fn resolve(&mut self, hop: Ipv4Addr, now: Nanos) -> Option<Mac> {
        match self.resolved {
            (last, at, mac) if last == hop && at == now => Some(mac),
            _ => self.look_up(hop, now),
        }
    }

    fn look_up(&mut self, hop: Ipv4Addr, now: Nanos) -> Option<Mac> {
        let r = self.shared.arp.lookup(hop, now);
        if let Some(mac) = r.mac {
            self.resolved = (hop, now, mac);
        }
        if r.ask {
            self.ask(hop, now);
        }
        r.mac
    }

    fn ip_header(&mut self, head: &mut [u8; HEAD], src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16, mac: Mac) {
        let ours = self.shared.config().mac;
        ethernet::Header { dst: mac, src: ours, ethertype: ethernet::IPV4 }.emit(&mut head[..]);
        self.ident = self.ident.wrapping_add(1);
        let mut ip = ipv4::Header::new(src, dst, protocol, len);
        ip.id = self.ident;
        ip.emit(&mut head[ethernet::HEADER..]);
    }
}

/// Gives a frame to the NIC, or keeps a copy until there is room.
#[inline]
fn transmit<Q: Queue>(
    nic: &mut Q,
    pools: &mut RxPools,
    backlog: &mut MbufQueue,
    metrics: &Metrics,
    frame: &TxFrame<'_>,
) {
    if backlog.is_empty() && nic.tx(frame).is_ok() {
        metrics.tx_frames.inc();
        return;
    }
    defer(pools, backlog, metrics, frame);
}

/// Keeps a copy of a frame until its next hop is known.
#[cold]
fn park(
    parked: &mut Vec<Parked>,
    pools: &mut RxPools,
    metrics: &Metrics,
    hop: Ipv4Addr,
    frame: &TxFrame<'_>,
    now: Nanos,
) {
    let room = parked.len() < PARKED;
    match room.then(|| copy(pools, frame)).flatten() {
        Some(frame) => parked.push(Parked { hop, since: now, frame }),
        None => metrics.drop_frame(DropReason::NoRoute),
    }
}

#[cold]
fn defer(pools: &mut RxPools, backlog: &mut MbufQueue, metrics: &Metrics, frame: &TxFrame<'_>) {
    match copy(pools, frame) {
        Some(waiting) => {
            backlog.push_back(waiting);
            metrics.tx_deferred.inc();
        }
        None => metrics.tx_lost.inc(),
    }
}

/// The frame in one buffer, its checksum made by hand; `None` if it does not fit (a super-frame: TCP sends it again) or no
/// buffer is free.
fn copy(pools: &mut RxPools, frame: &TxFrame<'_>) -> Option<Mbuf> {
    let mut mbuf = pools.mbufs.alloc()?;
    mbuf.reset(0);
    let mut fits = frame.gso.is_none() && mbuf.extend(frame.head) == frame.head.len();
    for piece in frame.payload {
        fits &= mbuf.extend(piece) == piece.len();
    }
    if !fits {
        pools.mbufs.free(mbuf);
        return None;
    }
    if let Some(CsumStart { start, offset }) = frame.csum {
        let (start, field) = (usize::from(start), usize::from(start + offset));
        let sum = Sum::new().with(&mbuf[start..]).finish();
        mbuf[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    Some(mbuf)
}

/// Finds `len` bytes of `queue` from `offset` on; answers how many pieces that took, `None` if there are too many of them.
#[inline]
fn gather<'a>(queue: &'a MbufQueue, offset: u32, len: u32, pieces: &mut [IoSlice<'a>]) -> Option<usize> {
    let (mut skip, mut left, mut n) = (offset as usize, len as usize, 0);
    for mbuf in queue.iter() {
        if left == 0 {
            break;
        }
        if skip >= mbuf.len() {
            skip -= mbuf.len();
            continue;
        }
        let piece = &mbuf[skip..mbuf.len().min(skip + left)];
        *pieces.get_mut(n)? = IoSlice::new(piece);
        n += 1;
        left -= piece.len();
        skip = 0;
    }
    debug_assert_eq!(left, 0, "the engine asked for bytes that are not in the send queue");
    Some(n)
}
