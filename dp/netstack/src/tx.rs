//! From segments to frames: headers built once in a small array, payload gathered from where it lies.

use std::io::IoSlice;
use std::sync::Arc;

use mem::{Mbuf, MbufQueue};
use nic::{CsumStart, Gso, Queue, RxPools, TxFrame};
use tcp::Emit;
use units::{CoreId, Nanos};
use wire::checksum::Sum;
use wire::tcp::{CHECKSUM_OFFSET, HeaderRef};
use wire::{Addr, Mac, Tuple, arp, ethernet, ipv4, ipv6, ndp};

use crate::DropReason;
use crate::addresses::Ends;
use crate::metrics::Metrics;
use crate::path_mtu::PathMtus;
use crate::shared::Shared;

/// Where the transport header begins in the array that headers are built in: IPv6's lies at its front, IPv4's begins 20 bytes later.
const TRANSPORT_AT: usize = ethernet::HEADER + ipv6::HEADER;
const V4_AT: usize = ipv6::HEADER - ipv4::HEADER;
/// Room for all headers.
const HEAD: usize = TRANSPORT_AT + wire::tcp::MAX_HEADER;
/// Pieces of payload that a frame of one segment, or a super-frame, gathers; one of more pieces is copied together first.
const FEW: usize = 4;
const MANY: usize = 40;
/// The largest payload of a super-frame: a packet with its headers must stay below 64 KiB.
const SUPER: u32 = 0xffff - (HEAD - ethernet::HEADER) as u32;
/// The largest packet without its IP header.
const PACKET: usize = u16::MAX as usize;
/// Frames that may wait for the answer to an ARP or NDP question.
const PARKED: usize = 256;
/// Of the receive buffers, one in so many may hold a frame that waits for room in the NIC: else answers to a flood would take what is
/// received into.
const BACKLOG_SHARE: usize = 8;
/// How often they are looked at if no neighbour answers.
pub(crate) const LOOK_EVERY: Nanos = Nanos::from_millis(2);
/// How long they wait.
const PARK_FOR: Nanos = Nanos::from_secs(3);

/// A frame that waits for its next hop's hardware address (RFC 1122 section 2.3.2.2: at least the last one is kept).
struct Parked {
    /// Where it goes; its next hop is on the way there.
    dst: Addr,
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
    /// How many neighbours had answered when those were last looked at, and when that was.
    looked: (u32, Nanos),
    /// Where something went last, when, and its next hop's hardware address.
    resolved: (Addr, Nanos, Mac),
    /// Where payloads of too many pieces are copied together, and packets are made that are not TCP's.
    joined: Box<[u8]>,
    /// What paths carry.
    pub(crate) paths: PathMtus,
    core: CoreId,
    /// The identification of IPv4 packets, and of packets that are cut.
    pub(crate) ident: u32,
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
            looked: (0, Nanos::ZERO),
            resolved: (Addr::UNSPECIFIED, Nanos::MAX, Mac::ZERO),
            joined: vec![0; PACKET].into_boxed_slice(),
            paths: PathMtus::new(),
            core,
            ident: 0,
            tso,
            tx_csum,
        }
    }

    /// The largest payload that one call of [`Link::tcp`] takes.
    pub(crate) fn max_payload(&self, mss: u16) -> u32 {
        if self.tso { SUPER } else { u32::from(mss) }
    }

    /// Whether frames wait for room: then nothing else should be sent before them. A NIC of super-frames that has no room for one is blocked,
    /// too: they are not copied, and what is lost here has to be sent again.
    pub(crate) fn is_blocked(&mut self) -> bool {
        !self.backlog.is_empty() || self.tso && !self.nic.has_room()
    }

    /// Whether frames wait for an address.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Sends a TCP segment: headers from `e`, payload from `queue` at `e.offset`.
    #[inline]
    pub(crate) fn tcp(&mut self, now: Nanos, ends: &Ends, e: &Emit, queue: &MbufQueue) {
        if e.len <= u32::from(e.mss) {
            self.tcp_frame::<FEW>(now, ends, e, queue)
        } else {
            self.tcp_frame::<MANY>(now, ends, e, queue)
        }
    }

    fn tcp_frame<const PIECES: usize>(&mut self, now: Nanos, ends: &Ends, e: &Emit, queue: &MbufQueue) {
        let tuple = self.shared.addresses.tuple(ends);
        let Tuple { local, remote, .. } = tuple;
        let mac = self.resolve(&remote, now);
        let mut head = [0u8; HEAD];
        let tcp_len = tcp_header(&tuple, e, &mut head[TRANSPORT_AT..]);
        let len = tcp_len as u32 + e.len;
        let v4 = ends.is_v4();
        let start = self.ip_header(&mut head, v4, &local, &remote, ipv4::TCP, len as u16, mac.unwrap_or(Mac::ZERO));
        if e.ect {
            let packet = &mut head[start + ethernet::HEADER..];
            if v4 { ipv4::set_ect(packet) } else { ipv6::set_ect(packet) }
        }
        let head_len = TRANSPORT_AT + tcp_len;

        let mut pieces = [IoSlice::new(&[]); PIECES];
        let n = gather(queue, e.offset, e.len, &mut pieces).unwrap_or_else(|| {
            let joined = &mut self.joined[..e.len as usize];
            queue.copy_to(e.offset, joined);
            pieces[0] = IoSlice::new(joined);
            1
        });
        let payload = &pieces[..n];

        let mut sum = match v4 {
            true => Sum::pseudo_v4(local.low_v4(), remote.low_v4(), ipv4::TCP, len),
            false => Sum::pseudo_v6(&local, &remote, ipv4::TCP, len),
        };
        let field = TRANSPORT_AT + CHECKSUM_OFFSET;
        let csum = if self.tx_csum {
            head[field..field + 2].copy_from_slice(&sum.fold().to_be_bytes());
            Some(CsumStart { start: (TRANSPORT_AT - start) as u16, offset: CHECKSUM_OFFSET as u16 })
        } else {
            sum.add_bytes(&head[TRANSPORT_AT..head_len]);
            for piece in payload {
                sum.add_bytes(piece);
            }
            head[field..field + 2].copy_from_slice(&sum.finish().to_be_bytes());
            None
        };
        let cut = Gso { mss: e.mss, hdr_len: (head_len - start) as u16, v6: !v4 };
        let gso = (e.len > u32::from(e.mss)).then_some(cut);
        let frame = TxFrame { head: &head[start..head_len], payload, csum, gso };
        match mac {
            Some(_) => transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame),
            None => park(&mut self.parked, &mut self.pools, &self.metrics, remote, &frame, now),
        }
    }

    /// Sends a segment without payload over IPv4, or loses it.
    pub(crate) fn answer(&mut self, tuple: &Tuple, e: &Emit, mac: Mac) {
        let Tuple { local, remote, .. } = *tuple;
        let mut head = [0u8; HEAD];
        let tcp_len = tcp_header(tuple, e, &mut head[TRANSPORT_AT..]);
        let start = self.ip_header(&mut head, true, &local, &remote, ipv4::TCP, tcp_len as u16, mac);
        let segment = &mut head[TRANSPORT_AT..TRANSPORT_AT + tcp_len];
        let sum = Sum::pseudo_v4(local.low_v4(), remote.low_v4(), ipv4::TCP, tcp_len as u32).with(segment);
        segment[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.finish().to_be_bytes());
        self.send_or_lose(&head[start..TRANSPORT_AT + tcp_len]);
    }

    /// Sends a frame. One that the NIC has no room for is lost: it is not worth a buffer, since whoever asked for it asks again.
    #[inline]
    pub(crate) fn send_or_lose(&mut self, frame: &[u8]) {
        let frame = TxFrame { head: frame, payload: &[], csum: None, gso: None };
        match self.backlog.is_empty() && self.nic.tx(&frame).is_ok() {
            true => self.metrics.tx_frames.inc(),
            false => self.metrics.tx_lost.inc(),
        }
    }

    /// Sends a packet that `fill` makes: the `len` bytes after the IP header. It is cut into fragments if the path carries no more
    /// (RFC 791 section 3.2; RFC 8200 section 4.5, for which only the sender may cut). At most 65535 bytes.
    pub(crate) fn packet(
        &mut self,
        now: Nanos,
        src: &Addr,
        dst: &Addr,
        protocol: u8,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let mut joined = std::mem::take(&mut self.joined);
        if let Some(packet) = joined.get_mut(..len) {
            fill(packet);
            let link = self.nic.caps().mtu;
            let mtu = usize::from(self.paths.mtu(dst, now).map_or(link, |path| path.min(link)));
            let v4 = src.is_v4();
            if len + if v4 { ipv4::HEADER } else { ipv6::HEADER } <= mtu {
                self.whole(now, src, dst, protocol, packet);
            } else {
                let room = if v4 { mtu - ipv4::HEADER } else { mtu - ipv6::HEADER - ipv6::FRAGMENT_HEADER };
                self.pieces(now, src, dst, protocol, packet, (room & !7).max(8));
            }
        }
        self.joined = joined;
    }

    fn whole(&mut self, now: Nanos, src: &Addr, dst: &Addr, protocol: u8, packet: &[u8]) {
        let mac = self.resolve(dst, now);
        let mut head = [0u8; HEAD];
        let start =
            self.ip_header(&mut head, src.is_v4(), src, dst, protocol, packet.len() as u16, mac.unwrap_or(Mac::ZERO));
        self.small(now, dst, mac, &head[start..TRANSPORT_AT], packet);
    }

    /// A packet in pieces of `room` bytes.
    #[cold]
    fn pieces(&mut self, now: Nanos, src: &Addr, dst: &Addr, protocol: u8, packet: &[u8], room: usize) {
        let mac = self.resolve(dst, now);
        let ours = self.shared.config().mac;
        let id = self.fragment_id(src, dst);
        let count = packet.len().div_ceil(room);
        for (i, piece) in packet.chunks(room).enumerate() {
            let (offset, more) = ((i * room) as u16, i + 1 < count);
            let mut head = [0u8; TRANSPORT_AT + ipv6::FRAGMENT_HEADER];
            let mut eth = ethernet::Header { dst: mac.unwrap_or(Mac::ZERO), src: ours, ethertype: ethernet::IPV4 };
            let n = if let (Some(src), Some(dst)) = (src.to_v4(), dst.to_v4()) {
                let n = eth.emit(&mut head);
                let ip = ipv4::Header::new(src, dst, protocol, piece.len() as u16);
                let ip = ipv4::Header { id: id as u16, df: false, mf: more, frag_offset: offset, ..ip };
                n + ip.emit(&mut head[n..])
            } else {
                eth.ethertype = ethernet::IPV6;
                let n = eth.emit(&mut head);
                let len = (ipv6::FRAGMENT_HEADER + piece.len()) as u16;
                let n = n + ipv6::Header::new(*src, *dst, ipv6::FRAGMENT, len).emit(&mut head[n..]);
                n + ipv6::emit_fragment(&mut head[n..], protocol, offset, more, id)
            };
            self.metrics.fragments_out.inc();
            self.small(now, dst, mac, &head[..n], piece);
        }
    }

    /// What names the pieces of a packet. Nobody but the receiver can tell the next one (RFC 7739 section 5.2): it starts at a place that
    /// depends on both ends and the core.
    fn fragment_id(&mut self, src: &Addr, dst: &Addr) -> u32 {
        self.ident = self.ident.wrapping_add(1);
        let names = Tuple { local: *src, remote: *dst, local_port: self.core.0, remote_port: 0 };
        self.shared.isn.ts_offset(&names).wrapping_add(self.ident)
    }

    /// A frame of headers and one piece.
    fn small(&mut self, now: Nanos, dst: &Addr, mac: Option<Mac>, head: &[u8], piece: &[u8]) {
        let frame = TxFrame { head, payload: &[IoSlice::new(piece)], csum: None, gso: None };
        match mac {
            Some(_) => transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame),
            None => park(&mut self.parked, &mut self.pools, &self.metrics, *dst, &frame, now),
        }
    }

    /// Sends an ARP packet.
    pub(crate) fn arp(&mut self, packet: &arp::Packet) {
        let mut frame = [0u8; ethernet::MIN_FRAME];
        packet.emit_frame(&mut frame);
        let frame = TxFrame { head: &frame, payload: &[], csum: None, gso: None };
        transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame);
    }

    /// Sends a message of neighbour discovery to a station.
    pub(crate) fn ndp(&mut self, message: &ndp::Message, src: &Addr, dst: &Addr, to: Mac) {
        let mut frame = [0u8; TRANSPORT_AT + ndp::MESSAGE];
        let len = message.emit(src, dst, &mut frame[TRANSPORT_AT..]);
        let eth = ethernet::Header { dst: to, src: self.shared.config().mac, ethertype: ethernet::IPV6 };
        let n = eth.emit(&mut frame);
        let ip = ipv6::Header { hop_limit: ndp::HOP_LIMIT, ..ipv6::Header::new(*src, *dst, ipv6::ICMP, len as u16) };
        ip.emit(&mut frame[n..]);
        let frame = TxFrame { head: &frame[..TRANSPORT_AT + len], payload: &[], csum: None, gso: None };
        transmit(&mut self.nic, &mut self.pools, &mut self.backlog, &self.metrics, &frame);
    }

    /// Asks for `hop`'s hardware address if nobody has for a second: everybody by ARP, its group by NDP, or itself where it is `known`
    /// (RFC 4861 section 7.3.3).
    #[cold]
    pub(crate) fn ask(&mut self, hop: Addr, known: Option<Mac>, now: Nanos) {
        if !self.shared.neighbours.ask(hop, now) {
            return;
        }
        let c = self.shared.config();
        let all = &self.shared.addresses;
        let Some(src) = all.source_for(&hop).map(|id| all.addr(id)) else { return };
        if let (Some(ours), Some(target)) = (src.to_v4(), hop.to_v4()) {
            let question = arp::Packet::request(c.mac, ours, target);
            return self.arp(&question);
        }
        let question = ndp::Message::Solicitation { target: hop, mac: Some(c.mac) };
        let (dst, to) = match known {
            Some(mac) => (hop, mac),
            None => (hop.solicited_node(), Mac::of_group(&hop.solicited_node())),
        };
        self.ndp(&question, &src, &dst, to);
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

    /// Sends what waited for an address that is known now. There may be many that wait in vain: they are looked at when somebody has answered,
    /// and now and then for their time's sake.
    #[cold]
    fn unpark(&mut self, now: Nanos) {
        let answers = self.shared.neighbours.answers();
        if answers == self.looked.0 && now < self.looked.1 + LOOK_EVERY {
            return;
        }
        self.looked = (answers, now);
        for i in (0..self.parked.len()).rev() {
            let Parked { dst, since, .. } = self.parked[i];
            if let Some(mac) = self.resolve(&dst, now) {
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

    /// The hardware address of the next hop to `dst`. Remembered while `now` stands still: a turn asks the table once.
    #[inline(always)]
    pub(crate) fn resolve(&mut self, dst: &Addr, now: Nanos) -> Option<Mac> {
        match &self.resolved {
            (last, at, mac) if last == dst && *at == now => Some(*mac),
            _ => self.look_up(dst, now),
        }
    }

    fn look_up(&mut self, dst: &Addr, now: Nanos) -> Option<Mac> {
        let hop = self.shared.addresses.next_hop(dst);
        let r = self.shared.neighbours.lookup(hop, now);
        if let Some(mac) = r.mac {
            self.resolved = (*dst, now, mac);
        }
        if r.ask {
            self.ask(hop, r.mac, now);
        }
        r.mac
    }

    /// Writes the headers of `len` bytes before them, of IPv4 or IPv6; answers where the frame begins.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn ip_header(
        &mut self,
        head: &mut [u8; HEAD],
        v4: bool,
        src: &Addr,
        dst: &Addr,
        protocol: u8,
        len: u16,
        mac: Mac,
    ) -> usize {
        let ours = self.shared.config().mac;
        if !v4 {
            let n = ethernet::Header { dst: mac, src: ours, ethertype: ethernet::IPV6 }.emit(&mut head[..]);
            ipv6::Header::new(*src, *dst, protocol, len).emit(&mut head[n..]);
            return 0;
        }
        ethernet::Header { dst: mac, src: ours, ethertype: ethernet::IPV4 }.emit(&mut head[V4_AT..]);
        self.ident = self.ident.wrapping_add(1);
        let mut ip = ipv4::Header::new(src.low_v4(), dst.low_v4(), protocol, len);
        ip.id = self.ident as u16;
        ip.emit(&mut head[V4_AT + ethernet::HEADER..]);
        V4_AT
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
fn park(parked: &mut Vec<Parked>, pools: &mut RxPools, metrics: &Metrics, dst: Addr, frame: &TxFrame<'_>, now: Nanos) {
    let room = parked.len() < PARKED;
    match room.then(|| copy(pools, frame)).flatten() {
        Some(frame) => parked.push(Parked { dst, since: now, frame }),
        None => metrics.drop_frame(DropReason::NoRoute),
    }
}

#[cold]
fn defer(pools: &mut RxPools, backlog: &mut MbufQueue, metrics: &Metrics, frame: &TxFrame<'_>) {
    let room = backlog.len() < pools.mbufs.count() / BACKLOG_SHARE;
    match room.then(|| copy(pools, frame)).flatten() {
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

/// Writes the TCP header of a segment on flow `t`, checksum 0; its length.
#[inline]
fn tcp_header(t: &Tuple, e: &Emit, out: &mut [u8]) -> usize {
    let (src_port, dst_port) = (t.local_port, t.remote_port);
    let Emit { seq, ack, flags, wnd: window, ref opts, .. } = *e;
    HeaderRef { src_port, dst_port, seq, ack, flags, window, urgent: 0, options: opts }.emit(out)
}
