//! TCP segments in: find the connection, let the engine decide, move the bytes as it says.

use abi::Dead;
use mem::{MbufQueue, Pool};
use nic::{Queue, RxFrame};
use shuffle::Phase;
use tcp::{Arrival, CloseReason, Events, HalfOpen, HalfOutcome, Payload, State, Tcb};
use units::{FlowGroupId, Nanos};
use wire::Seq;
use wire::tcp::{Flags, Segment};

use crate::DropReason;
use crate::addresses::Ends;
use crate::batch::Pending;
use crate::conn::{Conn, Owner};
use crate::flow_group::{ConnId, Found};
use crate::metrics::Metrics;
use crate::rx::Packet;
use crate::stack::Stack;

/// How long cookies are looked for in ACKs after the last one was made: as long as they are valid, three slots of 64 s.
pub(crate) const COOKIE_LIFE: Nanos = Nanos::from_secs(192);
/// Buffers that one connection may hold out of order: a window of 256 KiB in segments of 1 KiB. A peer that sends single bytes would pin a
/// buffer with each, and have us walk past all of them to file the next.
const HELD_MAX: usize = 256;
/// When buffers are short, a connection that holds some may hold one in so many of those that are free.
const SHARE: usize = 64;
/// One that holds none may have a request of so many.
const SMALL: usize = 4;
/// So many are nobody's to hold: without any, not even the acknowledgements would be received that free others.
const LAST: usize = 16;

impl From<tcp::DropReason> for DropReason {
    fn from(why: tcp::DropReason) -> DropReason {
        use tcp::DropReason as D;
        match why {
            D::Duplicate | D::OutOfWindow => DropReason::TcpWindow,
            D::Paws | D::NoTimestamp => DropReason::TcpPaws,
            D::OldAck | D::FutureAck | D::NoAckBit => DropReason::TcpAck,
            D::BadRst | D::BadSyn => DropReason::TcpBlind,
            D::OooFull => DropReason::TcpOutOfOrder,
            D::BadCookie => DropReason::TcpHandshake,
            D::AfterClose | D::NoConnection => DropReason::TcpOther,
        }
    }
}

fn dead(why: CloseReason) -> Dead {
    match why {
        CloseReason::Normal => Dead::Finished,
        CloseReason::Reset => Dead::Reset,
        CloseReason::Refused => Dead::Refused,
        CloseReason::TimedOut => Dead::TimedOut,
        CloseReason::Aborted => Dead::Local,
    }
}

impl<Q: Queue> Stack<Q> {
    #[inline]
    pub(crate) fn tcp_arrives(
        &mut self,
        mut frame: RxFrame,
        packet: &Packet,
        ends: &Ends,
        group: FlowGroupId,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let mut seg = Segment::EMPTY;
        let header_len = seg.read(&frame.head[packet.at..])?;
        if !frame.csum_ok {
            let pieces = std::iter::once(&frame.head[packet.at..]).chain(frame.rest.iter().map(|m| &m[..]));
            let (src, dst) = (packet.src, packet.dst);
            // Told apart here, IPv4 needs no look at the addresses.
            let intact = match ends.is_v4() {
                true => wire::tcp::checksum_ok(src.low_v4(), dst.low_v4(), pieces),
                false => wire::tcp::checksum_ok(src, dst, pieces),
            };
            if !intact {
                return Err(DropReason::Checksum);
            }
        }
        frame.head.trim_front(packet.at + header_len);
        let mut payload = std::mem::take(&mut frame.rest);
        payload.push_front(frame.head);
        (seg.len, seg.ce) = (payload.bytes(), packet.ecn == wire::ipv4::CE);

        let Some(g) = self.groups.get_mut(group) else { return Err(DropReason::NoConn) };
        let hash = packet.flow.map_or_else(|| g.hash(ends), |flow| flow.hash);
        match g.find(hash, ends) {
            Some(Found::Conn(slot)) => self.conn_segment(ConnId::new(group, slot), &seg, payload, ends, hash, now),
            Some(Found::Half(slot)) => self.half_segment(group, slot, &seg, payload, now),
            None => self.stray_segment(group, hash, ends, &seg, payload, now),
        }
    }

    // --- a known connection --------------------------------------------------------------------------------------

    #[inline]
    fn conn_segment(
        &mut self,
        id: ConnId,
        seg: &Segment,
        mut payload: MbufQueue,
        ends: &Ends,
        hash: u64,
        now: Nanos,
    ) -> Result<(), DropReason> {
        self.metrics.tcp_segments_in.inc();
        // When buffers run out, those connections wait that hold more than a share of what is left: the peer sends again. So hoarders leave
        // room for a request of several segments, and a part of one does not shut its sender out. Of a super-frame as much is taken as may
        // be, so that its sender hears of progress; and all are offered small windows, so that readers go on without being refused.
        let free = self.link.pools.mbufs.available();
        let short = self.link.pools.is_short();
        let Stack { groups, shared, records, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return Err(DropReason::NoConn) };
        let part;
        let seg = match short && seg.len > 0 {
            true => {
                part = first_part(seg, &mut payload, may_hold(conn, free)).ok_or(DropReason::NoMbuf)?;
                &part
            }
            false => seg,
        };
        let Some(tcb) = conn.tcb.as_mut() else { return Err(DropReason::TcpOther) };
        tcb.set_sparing(short);
        let from = tcb.rcv_nxt();
        let keep_ooo = !short && (seg.seq == from || conn.out_of_order.len() < HELD_MAX);
        let arrival = tcb.segment_arrives(now, shared.tcp(ends), seg, keep_ooo, records);
        if arrival.events.contains(Events::TIMEWAIT_REUSE) {
            // RFC 9293 section 3.10.7.4: the old connection is gone, the SYN is a new one's.
            self.conn_ended(id, CloseReason::Normal);
            return self.stray_segment(id.group(), hash, ends, seg, payload, now);
        }
        self.apply(id, &arrival, from, payload, now);
        arrival.drop.map_or(Ok(()), |why| Err(why.into()))
    }

    /// Does what the engine decided; `from` is what rcv.nxt was before.
    pub(crate) fn apply(&mut self, id: ConnId, arrival: &Arrival, from: Seq, payload: MbufQueue, now: Nanos) {
        let Stack { groups, link, metrics, freed, ready, dirty, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return };
        let mut news = Pending::NONE;
        if arrival.acked > 0 {
            release(&mut conn.tx, arrival.acked, freed);
            conn.sent = conn.sent.saturating_add(arrival.acked);
        }
        keep(conn, arrival, from, payload, &mut link.pools.mbufs, metrics);
        if arrival.advanced > 0 {
            metrics.tcp_bytes_in.add(u64::from(arrival.advanced));
            news.insert(Pending::RECV);
        }
        if arrival.events.contains(Events::CONNECTED) {
            news.insert(Pending::CONNECTED);
        }
        if arrival.events.contains(Events::PEER_FIN) {
            conn.peer_fin = true;
            news.insert(Pending::FIN);
        }
        if conn.may_send_again(now) {
            news.insert(Pending::SENT);
        }
        if let Some(reply) = &arrival.reply {
            if reply.flags.contains(Flags::RST) {
                metrics.tcp_resets_out.inc();
            }
            link.tcp(now, &conn.ends, reply, &MbufQueue::new());
        }
        if news != Pending::NONE && conn.tell(news) {
            ready.push_back(id);
        }
        if conn.soil() {
            dirty.push_back(id);
        }
        let ending = |t: &Tcb| matches!(t.state(), State::TimeWait | State::FinWait2);
        let waits = conn.owner == Owner::Gone && conn.tcb.as_ref().is_some_and(ending);
        if let Some(why) = arrival.closed {
            self.conn_ended(id, why);
        } else if waits && let Some(g) = groups.get_mut(id.group()) {
            g.note_ending(id.slot());
        }
        if arrival.events.contains(Events::CONNECTED) {
            self.recall_path(id, now);
        }
    }

    pub(crate) fn engine_timeout(&mut self, id: ConnId, now: Nanos) {
        let Stack { groups, shared, records, .. } = self;
        let Some(conn) = groups.conn_mut(id) else { return };
        let Some(tcb) = conn.tcb.as_mut() else { return };
        let from = tcb.rcv_nxt();
        if tcb.timers().any(|(timer, at)| at <= now && matches!(timer, tcp::Timer::Retransmit | tcp::Timer::Probe)) {
            self.metrics.tcp_timeouts.inc();
        }
        let arrival = tcb.timeout(now, shared.tcp(&conn.ends), records);
        if let Some(mtu) = tcb.black_hole().then(|| narrower(conn)).flatten() {
            self.metrics.path_mtu_lowered.inc();
            self.heed_path(id, mtu, now);
        }
        self.apply(id, &arrival, from, MbufQueue::new(), now);
    }

    /// TCP has done with a connection: its tuple is free again; the application is told if it still has it.
    pub(crate) fn conn_ended(&mut self, id: ConnId, why: CloseReason) {
        self.conn_died(id, dead(why));
    }

    /// As [`Stack::conn_ended`], for reasons that TCP does not know.
    pub(crate) fn conn_died(&mut self, id: ConnId, why: Dead) {
        let Stack { groups, wheel, freed, records, .. } = self;
        let Some(g) = groups.get_mut(id.group()) else { return };
        let Some(conn) = g.conn_mut(id.slot()) else { return };
        let Some(tcb) = conn.tcb.as_mut() else { return };
        tcb.retire(records);
        conn.tcb = None;
        conn.set_app_deadline(None);
        freed.append(&mut conn.tx);
        conn.out_of_order = MbufQueue::new();
        if let Some((timer, _)) = conn.timer.take() {
            wheel.cancel(timer);
        }
        if matches!(why, Dead::Reset | Dead::TimedOut | Dead::Local) {
            conn.rx = MbufQueue::new();
            conn.pending.remove(Pending::RECV);
        }
        conn.dead = Some(why);
        let news = if conn.owner == Owner::Connecting { Pending::CONNECTED | Pending::DEAD } else { Pending::DEAD };
        let forgotten = conn.owner == Owner::Gone && conn.phase == Phase::Idle;
        g.unlist_conn(id.slot());
        g.open = g.open.saturating_sub(1);
        if forgotten {
            g.free_conn(id.slot());
        }
        self.metrics.tcp_closed.inc();
        self.tell(id, news);
    }

    // --- a handshake ---------------------------------------------------------------------------------------------

    fn half_segment(
        &mut self,
        group: FlowGroupId,
        slot: u32,
        seg: &Segment,
        payload: MbufQueue,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let Stack { groups, shared, .. } = self;
        let Some(g) = groups.get_mut(group) else { return Err(DropReason::NoConn) };
        let Some(entry) = g.halves.get_mut(slot) else { return Err(DropReason::TcpHandshake) };
        let (ends, hash) = (entry.ends, entry.hash);
        match entry.half.segment_arrives(now, shared.tcp(&ends), seg) {
            HalfOutcome::Established(tcb) => {
                self.forget_half(group, slot);
                self.established(group, hash, &ends, tcb, seg, payload, now)
            }
            // What the peer acknowledges may be a cookie that its first SYN was answered with, when there was no room for an entry.
            HalfOutcome::Reply(reset)
                if reset.flags.contains(Flags::RST)
                    && let Some(tcb) = self.check_cookie(&ends, seg, now) =>
            {
                self.forget_half(group, slot);
                self.established(group, hash, &ends, tcb, seg, payload, now)
            }
            HalfOutcome::Reply(answer) => {
                self.link.tcp(now, &ends, &answer, &MbufQueue::new());
                Ok(())
            }
            HalfOutcome::Drop(why) => Err(why.into()),
            HalfOutcome::Reset => {
                self.forget_half(group, slot);
                Ok(())
            }
        }
    }

    /// A passive open is done: a connection, a knock, and the segment that completed the handshake once more.
    #[allow(clippy::too_many_arguments)]
    fn established(
        &mut self,
        group: FlowGroupId,
        hash: u64,
        ends: &Ends,
        tcb: Tcb,
        seg: &Segment,
        payload: MbufQueue,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let Some(id) = self.new_conn(group, hash, *ends, tcb, Owner::Knocking) else {
            // The peer believes to be connected: it is told.
            self.refuse(ends, seg, now);
            return Err(DropReason::NoConn);
        };
        self.metrics.tcp_accepts.inc();
        self.recall_path(id, now);
        self.tell(id, Pending::KNOCK);
        self.conn_segment(id, seg, payload, ends, hash, now)
    }

    pub(crate) fn new_conn(
        &mut self,
        group: FlowGroupId,
        hash: u64,
        ends: Ends,
        tcb: Tcb,
        owner: Owner,
    ) -> Option<ConnId> {
        let mut slot = self.groups.get_mut(group)?.insert_conn(hash, ends);
        if slot.is_none() {
            let oldest = self.groups.get_mut(group)?.oldest_ending()?;
            self.conn_ended(ConnId::new(group, oldest), CloseReason::Normal);
            slot = self.groups.get_mut(group)?.insert_conn(hash, ends);
        }
        let (slot, g) = (slot?, self.groups.get_mut(group)?);
        g.open += 1;
        let conn = g.conn_mut(slot)?;
        conn.tcb = Some(tcb);
        conn.owner = owner;
        Some(ConnId::new(group, slot))
    }

    /// A segment to no connection (RFC 9293 sections 3.10.7.1 and 3.10.7.2).
    fn stray_segment(
        &mut self,
        group: FlowGroupId,
        hash: u64,
        ends: &Ends,
        seg: &Segment,
        payload: MbufQueue,
        now: Nanos,
    ) -> Result<(), DropReason> {
        if self.shared.listens(ends.local_port) && !seg.flags.contains(Flags::RST) {
            if !seg.flags.contains(Flags::ACK) {
                let only_syn = seg.flags.contains(Flags::SYN) && !seg.flags.contains(Flags::FIN);
                return if only_syn {
                    self.syn_arrives(group, hash, ends, seg, now)
                } else {
                    Err(DropReason::TcpHandshake)
                };
            }
            if let Some(tcb) = self.check_cookie(ends, seg, now) {
                return self.established(group, hash, ends, tcb, seg, payload, now);
            }
        }
        self.refuse(ends, seg, now);
        Err(DropReason::NoPort)
    }

    /// The connection that an ACK completes the handshake of, if what it acknowledges is a cookie of ours.
    fn check_cookie(&self, ends: &Ends, seg: &Segment, now: Nanos) -> Option<Tcb> {
        if now >= self.cookies_until || seg.flags.intersects(Flags::SYN | Flags::RST) {
            return None;
        }
        let tuple = self.shared.addresses.tuple(ends);
        let tcb = self.shared.cookies.check(now, self.shared.tcp(ends), &tuple, seg)?;
        self.metrics.syn_cookies_in.inc();
        Some(tcb)
    }

    fn syn_arrives(
        &mut self,
        group: FlowGroupId,
        hash: u64,
        ends: &Ends,
        seg: &Segment,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let Stack { groups, shared, link, .. } = self;
        let Some(g) = groups.get_mut(group) else { return Err(DropReason::NoConn) };
        let (tuple, cfg) = (shared.addresses.tuple(ends), shared.tcp(ends));
        if !g.halves.has_room() {
            let syn_ack = shared.cookies.make(now, cfg, &tuple, seg);
            link.tcp(now, ends, &syn_ack, &MbufQueue::new());
            self.cookie_made(now);
            return Ok(());
        }
        let (isn, offset) = (shared.isn.isn(now, &tuple), shared.isn.ts_offset(&tuple));
        let (half, syn_ack) = HalfOpen::syn_arrives_with_ts_offset(now, cfg, isn, offset, seg);
        let Some(slot) = g.insert_half(hash, *ends, half) else { return Err(DropReason::NoConn) };
        link.tcp(now, ends, &syn_ack, &MbufQueue::new());
        self.arm_half(group, slot);
        Ok(())
    }

    /// Answers a segment of no connection with a reset, where the RFC says so and the pace allows it.
    #[cold]
    fn refuse(&mut self, ends: &Ends, seg: &Segment, now: Nanos) {
        if let Some(reset) = tcp::reset_reply(seg).filter(|_| self.resets.take(now)) {
            self.metrics.tcp_resets_out.inc();
            self.link.tcp(now, ends, &reset, &MbufQueue::new());
        }
    }
}

/// The MTU to try on a path that may swallow large packets without a word: one that nearly every path carries (RFC 8899 section 5.1.2's
/// BASE_PLPMTU, as IPv6 guarantees it). Who sends smaller packets already does not send smaller ones: the peer is gone, then.
#[cold]
fn narrower(conn: &Conn) -> Option<u16> {
    let ip = if conn.ends.remote.is_v4() { wire::ipv4::HEADER } else { wire::ipv6::HEADER };
    let fits = wire::ipv6::MIN_MTU - (ip + wire::tcp::HEADER) as u16;
    (conn.tcb.as_ref()?.mss() > fits).then_some(wire::ipv6::MIN_MTU)
}

/// How many more receive buffers a connection may pin when only `free` are left. While the application has its buffers it is not known how
/// many come back: then it has no share.
#[cold]
fn may_hold(conn: &Conn, free: usize) -> usize {
    let held = conn.rx.len() + conn.out_of_order.len();
    let first = if held == 0 && free > LAST { SMALL } else { 0 };
    let share = if conn.phase == Phase::Busy { 0 } else { free / SHARE };
    first.max(share.saturating_sub(held))
}

/// The beginning of a segment, as much of it as lies in `most` buffers: its sender takes the rest for lost. None, if that is nothing.
#[cold]
fn first_part(seg: &Segment, payload: &mut MbufQueue, most: usize) -> Option<Segment> {
    if payload.len() <= most {
        return Some(*seg);
    }
    let len = payload.iter().take(most).map(|m| m.len() as u32).sum();
    cut(payload, 0, len);
    let flags = seg.flags.without(Flags::FIN.union(Flags::PSH));
    (len > 0).then_some(Segment { len, flags, ..*seg })
}

/// Frees `n` acknowledged bytes from the head of a send queue.
#[inline]
fn release(tx: &mut MbufQueue, mut n: u32, freed: &mut MbufQueue) {
    while n > 0 {
        let Some(mut front) = tx.front_mut() else { return };
        let len = front.data_mut().len() as u32;
        if len > n {
            front.trim_front(n as usize);
            return;
        }
        n -= len;
        freed.append(&mut tx.pop_front().map(MbufQueue::from).unwrap_or_default());
    }
}

/// Keeps of the payload what the engine accepted: at the end of the receive queue, or among the out-of-order pieces. `from` is
/// what rcv.nxt was before.
#[inline]
fn keep(conn: &mut Conn, arrival: &Arrival, from: Seq, mut payload: MbufQueue, pool: &mut Pool, metrics: &Metrics) {
    match arrival.payload {
        Payload::None => pool.free_queue(payload),
        Payload::InOrder { skip, len } => {
            cut(&mut payload, skip, len);
            join(&mut conn.rx, payload);
            if arrival.advanced > len {
                connect_held(conn, from + len, from + arrival.advanced);
            }
        }
        Payload::OutOfOrder { skip, len, seq } => {
            cut(&mut payload, skip, len);
            hold(&mut conn.out_of_order, payload, seq);
            metrics.tcp_out_of_order.inc();
        }
    }
}

/// Leaves the `len` bytes after the first `skip`.
#[inline]
fn cut(payload: &mut MbufQueue, skip: u32, len: u32) {
    if skip == 0 && payload.bytes() == len {
        return;
    }
    payload.consume(skip, None);
    let mut left = len as usize;
    let mut kept = MbufQueue::new();
    while left > 0 {
        let Some(mut m) = payload.pop_front() else { break };
        m.truncate(m.len().min(left));
        left -= m.len();
        kept.push_back(m);
    }
    *payload = kept;
}

/// Appends to the receive queue. A small piece behind unread bytes is copied into the last buffer if it fits, so that many
/// small segments do not pin a buffer each.
#[inline]
fn join(rx: &mut MbufQueue, mut piece: MbufQueue) {
    if piece.len() == 1 {
        let small = piece.front().map_or(0, |m| m.len());
        if let Some(mut last) = rx.back_mut().filter(|l| small <= 512 && l.tailroom() >= small) {
            if let Some(m) = piece.pop_front() {
                last.extend(&m);
            }
            return;
        }
    }
    rx.append(&mut piece);
}

/// Files out-of-order bytes by sequence number. Pieces never overlap: the engine has cut them.
#[cold]
fn hold(held: &mut MbufQueue, mut piece: MbufQueue, seq: Seq) {
    let mut at = seq;
    let mut tagged = MbufQueue::new();
    while let Some(mut m) = piece.pop_front() {
        m.set_tag(at.0);
        at += m.len() as u32;
        tagged.push_back(m);
    }
    if held.back().is_none_or(|last| Seq(last.tag()).lt(seq)) {
        return held.append(&mut tagged);
    }
    let mut sorted = MbufQueue::new();
    while held.front().is_some_and(|m| Seq(m.tag()).lt(seq)) {
        sorted.append(&mut held.pop_front().map(MbufQueue::from).unwrap_or_default());
    }
    sorted.append(&mut tagged);
    sorted.append(held);
    *held = sorted;
}

/// Moves the held pieces that the gap's closing connected behind the in-order bytes, which end at `current`; they reach to `end`.
#[cold]
fn connect_held(conn: &mut Conn, mut current: Seq, end: Seq) {
    while let Some(first) = conn.out_of_order.front() {
        let start = Seq(first.tag());
        if start.ge(end) {
            break;
        }
        let Some(mut piece) = conn.out_of_order.pop_front() else { break };
        let past = piece.len() as u32;
        if (start + past).le(current) {
            continue;
        }
        piece.trim_front(current.since(start) as usize);
        current = start + past;
        conn.rx.push_back(piece);
    }
}
