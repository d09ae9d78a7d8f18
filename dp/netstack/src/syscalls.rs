//! Batched syscalls: every argument is an allegation until it has been checked here.

use std::net::SocketAddr;

use abi::{Code, Cookie, Handle, Peer, Syscall, TcpOption, TxRange};
use mem::{Mbuf, MbufQueue};
use nic::Queue;
use shuffle::{Phase, Step};
use tcp::{Arrival, CloseReason, Tcb};
use units::{FLOW_GROUPS, FlowGroupId, Nanos};
use wire::{Addr, Tuple};

use crate::addresses::Ends;
use crate::batch::{Batch, Pending};
use crate::conn::Owner;
use crate::flow_group::ConnId;
use crate::stack::Stack;

/// A remainder of at most this many bytes is moved to a small buffer, so that half a request does not pin a big one.
const SMALL: u32 = 256;

impl<Q: Queue> Stack<Q> {
    /// Carries out the batch's syscalls, then takes its connections back: those with more news become ready again, those
    /// whose end has been told go. [`Batch::returns`] has the outcomes until [`Batch::clear`].
    pub fn complete(&mut self, now: Nanos, batch: &mut Batch) {
        let now = self.not_before(now);
        batch.returns.clear();
        for i in 0..batch.calls.len() {
            let call = batch.calls[i];
            let mut outcome = self.call(now, call, batch);
            self.metrics.syscalls.inc();
            if outcome.is_err() {
                outcome = self.refused_call(i, call, outcome, batch);
            }
            batch.returns.push(outcome.map_or_else(|code| code as i64, i64::from));
        }
        for place in 0..batch.entries.len() {
            self.take_back(place, batch);
        }
    }

    /// Takes one connection of a batch back, whose syscalls have been carried out.
    #[inline]
    pub(crate) fn take_back(&mut self, place: usize, batch: &mut Batch) {
        let Some(entry) = batch.entries.get_mut(place) else { return };
        let id = ConnId::new(entry.handle.group(), entry.handle.slot());
        let mut rest = std::mem::take(&mut entry.rx);
        let (told_dead, promised) = (entry.dead.is_some(), entry.promised);
        if rest.len() == 1 && rest.bytes() <= SMALL {
            self.shrink(&mut rest);
        }
        let Some(conn) = self.groups.conn_mut(id) else { return batch.leave_entry(place, rest) };
        conn.promised = promised;
        if !rest.is_empty() {
            conn.rx.prepend(&mut rest);
        }
        if told_dead {
            conn.owner = Owner::Gone;
        }
        // The usual case, nothing new and nobody gone, is done here.
        if conn.owner == Owner::Gone || conn.has_news() {
            self.settle(id);
        } else {
            let _ = conn.phase.step(Step::Completed);
        }
    }

    /// A syscall that came to nothing: it is refused, unless its connection has gone to another core, where it will follow it.
    #[cold]
    fn refused_call(
        &mut self,
        place: usize,
        call: Syscall,
        outcome: Result<u32, Code>,
        batch: &mut Batch,
    ) -> Result<u32, Code> {
        if outcome == Err(Code::BadHandle) && call.handle().is_some_and(|handle| self.has_moved(handle, batch)) {
            batch.left.calls.push(place as u32);
            return Ok(0);
        }
        self.metrics.syscalls_refused.inc();
        // All others have a connection that will tell of its end.
        if let Syscall::Connect { cookie, .. } = call {
            self.refused.push(cookie);
        }
        outcome
    }

    /// Files a connection whose batch is done: ready, idle, or, if nobody has it, gone.
    pub(crate) fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.groups.conn_mut(id) else { return };
        if conn.owner == Owner::Gone {
            let _ = conn.phase.step(Step::Completed);
            if conn.tcb.is_none() {
                if let Some((timer, _)) = conn.timer.take() {
                    self.wheel.cancel(timer);
                }
                if let Some(g) = self.groups.get_mut(id.group()) {
                    g.free_conn(id.slot());
                }
            }
        } else if conn.phase.step(if conn.has_news() { Step::CompletedWithNews } else { Step::Completed }) {
            self.ready.push_back(id);
        }
    }

    pub(crate) fn call(&mut self, now: Nanos, call: Syscall, batch: &mut Batch) -> Result<u32, Code> {
        match call {
            Syscall::Connect { cookie, dst } => self.connect(now, cookie, dst),
            Syscall::Accept { handle, cookie } => {
                let (_, conn) = self.groups.named(handle)?;
                if conn.owner != Owner::Knocking {
                    return Err(Code::Invalid);
                }
                conn.owner = Owner::App;
                conn.cookie = cookie;
                Ok(0)
            }
            Syscall::Sendv { handle, sg, waiting } => self.sendv(now, handle, sg, waiting, batch),
            Syscall::RecvDone { handle, bytes } => self.recv_done(handle, bytes, batch),
            Syscall::Shutdown { handle } => {
                let (id, _) = self.groups.named(handle)?;
                self.end(now, id, |tcb, now, cfg| tcb.shutdown(now, cfg))
            }
            Syscall::Close { handle } => {
                let (id, conn) = self.groups.named(handle)?;
                let linger = conn.linger();
                if conn.owner == Owner::Knocking || linger == Some(Nanos::ZERO) {
                    return self.abort(now, id);
                }
                conn.owner = Owner::Gone;
                if let (Some(tcb), Some(_)) = (conn.tcb.as_mut(), linger) {
                    tcb.set_user_timeout(linger);
                }
                self.end(now, id, |tcb, now, cfg| tcb.close(now, cfg))
            }
            Syscall::Abort { handle } => {
                let (id, _) = self.groups.named(handle)?;
                self.abort(now, id)
            }
            Syscall::SetOption { handle, option } => self.set_option(handle, option),
            Syscall::Timer { handle, deadline } => {
                let (id, conn) = self.groups.named(handle)?;
                conn.set_app_deadline((deadline != Nanos::MAX).then_some(deadline));
                self.arm(id);
                Ok(0)
            }
            Syscall::UdpSend { peer, sg } => self.datagram_out(now, peer, sg, batch),
            Syscall::UdpRecvDone { mbuf } => match batch.datagrams.get(mbuf.0 as usize) {
                // The buffer goes home with the batch.
                Some(_) => Ok(0),
                None => Err(Code::Fault),
            },
        }
    }

    #[cold]
    fn set_option(&mut self, handle: Handle, option: TcpOption) -> Result<u32, Code> {
        let (id, conn) = self.groups.named(handle)?;
        if !option.is_sound() {
            return Err(Code::Invalid);
        }
        let tcb = conn.tcb.as_mut().ok_or(Code::Closed)?;
        match option {
            TcpOption::NoDelay(on) => tcb.set_nagle(!on),
            TcpOption::Cork(on) => tcb.set_cork(on),
            TcpOption::UserTimeout(after) => tcb.set_user_timeout(after),
            TcpOption::Linger(after) => conn.set_linger(after),
        }
        // What waited may go, and other deadlines hold.
        self.mark_dirty(id);
        Ok(0)
    }

    fn connect(&mut self, now: Nanos, cookie: Cookie, dst: SocketAddr) -> Result<u32, Code> {
        let remote = Addr::from(dst.ip());
        let local = self.shared.addresses.source_for(&remote).ok_or(Code::NotSupported)?;
        if dst.port() == 0 || !self.shared.addresses.is_host(&remote) {
            return Err(Code::Invalid);
        }
        let wanted = Ends { remote, remote_port: dst.port(), local_port: 0, local };
        let (ends, group) = self.free_port(wanted).ok_or(Code::NoMem)?;
        let hash = self.shared.flow_key.hash(&ends);
        let tuple = self.shared.addresses.tuple(&ends);
        let (isn, offset) = (self.shared.isn.isn(now, &tuple), self.shared.isn.ts_offset(&tuple));
        let tcb = Tcb::connect_with_ts_offset(now, self.shared.tcp(&ends), isn, offset);
        let id = self.new_conn(group, hash, ends, tcb, Owner::Connecting).ok_or(Code::NoMem)?;
        if let Some(conn) = self.groups.conn_mut(id) {
            conn.cookie = cookie;
        }
        self.metrics.tcp_connects.inc();
        self.mark_dirty(id);
        Ok(0)
    }

    #[inline]
    fn sendv(&mut self, now: Nanos, handle: Handle, sg: TxRange, waiting: u32, batch: &mut Batch) -> Result<u32, Code> {
        let Stack { groups, metrics, dirty, .. } = self;
        let (id, conn) = groups.named(handle)?;
        let busy = conn.phase == Phase::Busy;
        let entry = batch.entries.get_mut(usize::from(conn.place)).filter(|e| busy && e.handle == handle);
        // Outside of its batches an application knows the window that it was told last, which may have shrunk meanwhile.
        if entry.is_none() {
            conn.promised = conn.promised.max(conn.window());
        }
        let promised = entry.map_or(&mut conn.promised, |e| &mut e.promised);
        let Some(tcb) = conn.tcb.as_mut().filter(|t| t.state().can_send()) else { return Err(Code::Closed) };
        let buffers = slots(&mut batch.sg, sg)?;
        let offered = buffers.iter().try_fold(0, |n, m| Some(n + m.as_ref()?.len() as u32)).ok_or(Code::Fault)?;
        if offered > *promised {
            return Err(Code::Invalid);
        }
        *promised -= offered;
        for buffer in buffers {
            buffer.take().into_iter().for_each(|m| conn.tx.push_back(m));
        }
        conn.owed += offered;
        conn.owed -= tcb.send(now, conn.owed);
        conn.wants = waiting > 0;
        if conn.may_send_again(now) {
            conn.pending.insert(Pending::SENT);
        }
        metrics.tcp_bytes_out.add(u64::from(offered));
        if conn.soil() {
            dirty.push_back(id);
        }
        Ok(offered)
    }

    #[inline]
    fn recv_done(&mut self, handle: Handle, bytes: u32, batch: &mut Batch) -> Result<u32, Code> {
        let Stack { groups, link, dirty, .. } = self;
        let (id, conn) = groups.named(handle)?;
        let entry =
            batch.entries.get_mut(usize::from(conn.place)).filter(|e| e.handle == handle).ok_or(Code::BadHandle)?;
        if conn.phase != Phase::Busy || bytes > entry.rx.bytes() {
            return Err(Code::Invalid);
        }
        if let Some(tcb) = conn.tcb.as_mut() {
            tcb.consumed(bytes);
        }
        entry.rx.consume(bytes, Some(&mut link.pools.mbufs));
        if conn.soil() {
            dirty.push_back(id);
        }
        Ok(bytes)
    }

    fn end(
        &mut self,
        now: Nanos,
        id: ConnId,
        how: impl FnOnce(&mut Tcb, Nanos, &tcp::Config) -> Arrival,
    ) -> Result<u32, Code> {
        let Stack { groups, shared, .. } = self;
        let conn = groups.conn_mut(id).ok_or(Code::BadHandle)?;
        let tcb = conn.tcb.as_mut().ok_or(Code::Closed)?;
        // What the engine still lacks of the promised bytes comes before the FIN: its window may have shrunk since the promise.
        tcb.send_last(std::mem::take(&mut conn.owed));
        let from = tcb.rcv_nxt();
        let arrival = how(tcb, now, shared.tcp(&conn.ends));
        self.apply(id, &arrival, from, MbufQueue::new(), now);
        Ok(0)
    }

    fn abort(&mut self, now: Nanos, id: ConnId) -> Result<u32, Code> {
        let Stack { groups, link, metrics, .. } = self;
        let conn = groups.conn_mut(id).ok_or(Code::BadHandle)?;
        conn.owner = Owner::Gone;
        if let Some(reset) = conn.tcb.as_mut().and_then(Tcb::abort) {
            metrics.tcp_resets_out.inc();
            link.tcp(now, &conn.ends, &reset, &MbufQueue::new());
        }
        self.conn_ended(id, CloseReason::Aborted);
        Ok(0)
    }

    fn datagram_out(&mut self, now: Nanos, peer: Peer, sg: TxRange, batch: &mut Batch) -> Result<u32, Code> {
        let mut queue = MbufQueue::new();
        for buffer in slots(&mut batch.sg, sg)? {
            queue.push_back(buffer.take().ok_or(Code::Fault)?);
        }
        let allowed = self.shared.serves_udp(peer.local.port()) && peer.remote.port() != 0;
        let tuple = self.udp_ends(peer).filter(|_| allowed);
        let bytes = queue.bytes();
        let sent = tuple.is_some_and(|tuple| self.udp_send(now, &tuple, &queue));
        self.freed.append(&mut queue);
        if sent { Ok(bytes) } else { Err(Code::Invalid) }
    }

    /// The flow of a datagram to be sent: from the address that it is said to come from, if that is ours, else from the one that suits.
    fn udp_ends(&self, peer: Peer) -> Option<Tuple> {
        let (local, remote) = (Addr::from(peer.local.ip()), Addr::from(peer.remote.ip()));
        let all = &self.shared.addresses;
        let ours = all.find(&local).filter(|_| local.is_v4() == remote.is_v4());
        let local = all.addr(ours.or_else(|| all.source_for(&remote))?);
        let flow = Tuple { local, remote, local_port: peer.local.port(), remote_port: peer.remote.port() };
        all.is_host(&remote).then_some(flow)
    }

    /// Moves a small remainder out of its receive buffer.
    fn shrink(&mut self, rest: &mut MbufQueue) {
        let Some(mut big) = rest.front().filter(|m| m.capacity() > SMALL as usize).and(self.small.alloc()) else {
            return;
        };
        big.reset(0);
        if let Some(m) = rest.front() {
            big.extend(m);
        }
        self.link.pools.mbufs.free_queue(std::mem::replace(rest, MbufQueue::from(big)));
    }

    /// Ends every connection with RST, as a dataplane does that goes down.
    pub fn abort_all(&mut self, now: Nanos) {
        for group in (0..FLOW_GROUPS as u16).map(FlowGroupId) {
            let slots = self.groups.get(group).map_or(0, |g| g.slots());
            for slot in 0..slots {
                let id = ConnId::new(group, slot);
                if self.groups.conn_mut(id).is_some_and(|c| c.tcb.is_some()) {
                    let _ = self.abort(now, id);
                }
            }
        }
        self.link.flush(now);
    }
}

/// The slots of the scatter-gather array that a range alleges.
fn slots(array: &mut [Option<Mbuf>], sg: TxRange) -> Result<&mut [Option<Mbuf>], Code> {
    let (first, count) = (sg.first as usize, sg.count as usize);
    array.get_mut(first..).and_then(|rest| rest.get_mut(..count)).ok_or(Code::Fault)
}
