use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use abi::Handle;
use mem::MbufQueue;
use sys::epoll::{Epoll, Events, Interest};
use sys::socket;
use units::Nanos;
use zygix::{Dead, Next, Op, Peer, SEND_MARK, Service};

use crate::conn::{Conn, RECV_CAP};
use crate::handler::{Answer, Call, Env, Panicked};
use crate::inbox::{Mail, Mailbox};
use crate::slab::Slab;
use crate::timers::Timers;

/// The largest UDP payload over IPv4.
pub(crate) const DATAGRAM: usize = 65_507;

/// How long a connection that is being closed waits for its peer to take the last bytes.
const CLOSE_PATIENCE: Nanos = Nanos::from_secs(10);

// Tokens of what is not a connection. A handle of a thread has its group (below 128) in the top byte.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
const UDP: u64 = u64::MAX - 2;

/// One thread: its listener, its connections, its loop.
pub(crate) struct Thread<S: Service> {
    pub(crate) index: usize,
    pub(crate) env: Env<S>,
    pub(crate) conns: Slab<Conn<S::Conn>>,
    pub(crate) timers: Timers,
    pub(crate) epoll: Epoll,
    pub(crate) listener: TcpListener,
    pub(crate) udp: Option<UdpSocket>,
    /// The address that connections are accepted on.
    pub(crate) local: SocketAddr,
    pub(crate) mailbox: Mailbox<S::Msg>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Connections that are owed a call without an event.
    pub(crate) again: Vec<Handle>,
    /// A descriptor to give up when there are no others, so that a waiting connection can be accepted and reset.
    pub(crate) spare: Option<File>,
    pub(crate) batch: usize,
}

impl<S: Service> Thread<S> {
    /// Serves until told to stop. Each turn is bounded by `batch` events, each of them by one `recv` or 64 accepts.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::new(self.batch);
        self.epoll.add(&self.listener, LISTENER, Interest::READ)?;
        self.epoll.add(&self.mailbox.0[self.index].bell, BELL, Interest::READ)?;
        if let Some(udp) = &self.udp {
            self.epoll.add(udp, UDP, Interest::READ)?;
        }
        self.env.now = sys::clock::now();
        for (dst, state) in self.env.dial() {
            self.connect(dst, state);
        }
        while !self.stop.load(Relaxed) {
            self.epoll.wait(&mut events, self.timeout())?;
            self.env.now = sys::clock::now();
            let mut ran = !events.is_empty();
            self.env.counters.batches.add(u64::from(ran));
            for i in 0..events.len() {
                let Some(ready) = events.get(i) else { break };
                match ready.token {
                    LISTENER => self.accept_waiting(),
                    BELL => self.open_inbox(),
                    UDP => self.datagrams(),
                    token => {
                        let who = Handle::from_bits(token);
                        if ready.writable() {
                            self.writable(who);
                        }
                        if ready.readable() {
                            self.readable(who, ready.broken());
                        }
                    }
                }
            }
            ran |= self.run_timers() + self.run_again() > 0;
            if ran {
                self.env.batch_end();
            }
        }
        self.close_all();
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next().map(|at| (at - sys::clock::now()).duration())
    }

    // ---- opening ----

    fn accept_waiting(&mut self) {
        for _ in 0..64 {
            match socket::accept(&self.listener) {
                Ok((stream, remote)) => {
                    let local = if self.local.ip().is_unspecified() {
                        stream.local_addr().unwrap_or(self.local)
                    } else {
                        self.local
                    };
                    let peer = Peer { remote, local };
                    match self.env.accept(&peer) {
                        Some(state) => {
                            self.env.counters.accepted.inc();
                            if let Some(who) = self.admit(Conn::new(stream, peer, state, false)) {
                                self.call(who, Call::Opened);
                            }
                        }
                        None => {
                            self.env.counters.rejected.inc();
                            socket::abort(stream);
                        }
                    }
                }
                Err(e) if out_of_descriptors(&e) => {
                    if !self.refuse_one() {
                        return;
                    }
                }
                // A connection that was reset while it waited is no reason to stop.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return,
            }
        }
    }

    /// Out of descriptors: resets one waiting connection by means of the spare descriptor, so that the listener
    /// does not stay ready for ever.
    #[cold]
    fn refuse_one(&mut self) -> bool {
        if self.spare.take().is_none() {
            return false;
        }
        let refused = socket::accept(&self.listener);
        let any = refused.is_ok();
        if let Ok((stream, _)) = refused {
            self.env.counters.rejected.inc();
            socket::abort(stream);
        }
        self.spare = File::open("/dev/null").ok();
        any
    }

    fn admit(&mut self, conn: Conn<S::Conn>) -> Option<Handle> {
        match self.conns.insert(conn) {
            Ok(who) => {
                self.watch(who);
                Some(who)
            }
            Err(conn) => {
                socket::abort(conn.stream);
                self.env.counters.closed.inc();
                self.env.closed(conn.state, Dead::NoResources);
                None
            }
        }
    }

    fn connect(&mut self, dst: SocketAddr, state: S::Conn) {
        self.env.counters.connects.inc();
        match socket::connect(dst) {
            Ok(stream) => {
                let local = stream.local_addr().unwrap_or(self.local);
                self.admit(Conn::new(stream, Peer { remote: dst, local }, state, true));
            }
            Err(e) => {
                self.env.counters.closed.inc();
                self.env.closed(state, dead_of(&e));
            }
        }
    }

    fn connected(&mut self, who: Handle) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        match conn.stream.take_error() {
            Ok(None) => {
                conn.connecting = false;
                if let Ok(local) = conn.stream.local_addr() {
                    conn.peer.local = local;
                }
                self.call(who, Call::Connected);
            }
            Ok(Some(e)) | Err(e) => self.end(who, dead_of(&e)),
        }
    }

    // ---- events ----

    fn readable(&mut self, who: Handle, broken: bool) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        if !conn.reads() {
            if broken {
                self.broken(who);
            }
            return;
        }
        let Some(mut fresh) = self.env.rx_pool.alloc() else { return };
        let room = fresh.tailroom().min(RECV_CAP - conn.rx.len());
        match (&conn.stream).read(&mut fresh.spare_mut()[..room]) {
            Ok(0) => conn.fin = true,
            Ok(n) => {
                fresh.grow(n);
                self.env.counters.bytes_in.add(n as u64);
            }
            Err(e) => {
                self.env.rx_pool.free(fresh);
                if e.kind() != io::ErrorKind::WouldBlock && e.kind() != io::ErrorKind::Interrupted {
                    self.end(who, dead_of(&e));
                }
                return;
            }
        }
        if conn.rx.len() + fresh.len() < conn.want && !conn.fin {
            conn.rx.extend_from_slice(&fresh);
            self.env.rx_pool.free(fresh);
            return;
        }
        let queue = self.env.queue(&conn.rx, Some(fresh));
        self.recv(who, queue);
    }

    /// An error or a hang-up on a socket that is not being read.
    #[cold]
    fn broken(&mut self, who: Handle) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        match conn.stream.take_error() {
            Ok(Some(e)) | Err(e) => self.end(who, dead_of(&e)),
            // Both sides have finished and the handler pauses: nothing to report, and epoll would go on reporting it.
            Ok(None) if conn.paused => {
                if self.epoll.remove(&conn.stream).is_ok() {
                    conn.watched = None;
                }
            }
            Ok(None) => {}
        }
    }

    fn writable(&mut self, who: Handle) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        if conn.connecting {
            return self.connected(who);
        }
        if conn.unsent() == 0 {
            return;
        }
        match conn.send(&mut MbufQueue::new(), &mut self.env.tx_pool) {
            Ok(n) => self.env.counters.bytes_out.add(n as u64),
            Err(e) => return self.end(who, dead_of(&e)),
        }
        if conn.unsent() <= SEND_MARK && (conn.over || conn.lacked) {
            return self.room_again(who);
        }
        self.settle(who);
    }

    fn run_timers(&mut self) -> usize {
        let mut ran = 0;
        while let Some(who) = self.timers.expired(self.env.now) {
            ran += 1;
            let Some(conn) = self.conns.get_mut(who) else { continue };
            conn.deadline = None;
            if conn.closing {
                self.abort(who, Dead::Local);
            } else {
                self.call(who, Call::Timer);
            }
        }
        ran
    }

    fn open_inbox(&mut self) {
        for mail in self.mailbox.0[self.index].take() {
            match mail {
                Mail::Resume(who) => self.resume(who),
                Mail::Message(who, msg) => self.call(who, Call::Message(msg)),
            }
        }
    }

    fn resume(&mut self, who: Handle) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        if !std::mem::take(&mut conn.paused) || conn.closing {
            return;
        }
        if conn.fin || conn.rx.len() >= conn.want {
            let queue = self.env.queue(&conn.rx, None);
            self.recv(who, queue);
        } else {
            self.settle(who);
        }
    }

    fn run_again(&mut self) -> usize {
        let due = std::mem::take(&mut self.again);
        for &who in &due {
            let Some(conn) = self.conns.get_mut(who) else { continue };
            conn.again = false;
            self.room_again(who);
        }
        due.len()
    }

    /// The handler lacked room or had written more than the mark, and there is room now.
    fn room_again(&mut self, who: Handle) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        let lacked = std::mem::take(&mut conn.lacked);
        conn.over = false;
        if conn.paused || conn.closing {
            return self.settle(who);
        }
        if conn.rx.is_empty() {
            self.call(who, Call::Writable);
        } else if lacked || conn.fin || conn.rx.len() >= conn.want {
            let queue = self.env.queue(&conn.rx, None);
            self.recv(who, queue);
        } else {
            self.settle(who);
        }
    }

    // ---- handlers ----

    fn recv(&mut self, who: Handle, queue: MbufQueue) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        let answer = self.env.recv(who, conn, &queue);
        if let Ok(answer) = &answer {
            conn.keep(&queue, answer.consumed);
        }
        self.env.rx_pool.free_queue(queue);
        self.carry_out(who, answer);
    }

    fn call(&mut self, who: Handle, call: Call<S::Msg>) {
        let Some(conn) = self.conns.get_mut(who).filter(|c| !c.closing) else { return };
        let answer = self.env.call(who, conn, call);
        self.carry_out(who, answer);
    }

    /// Does what a handler answered.
    fn carry_out(&mut self, who: Handle, answer: Result<Answer, Panicked>) {
        match answer {
            Err(Panicked) => self.abort(who, Dead::Panicked),
            Ok(answer) if answer.next == Next::Abort => self.abort(who, Dead::Local),
            Ok(answer) => self.reply(who, answer),
        }
        self.run_ops(who);
    }

    fn reply(&mut self, who: Handle, mut answer: Answer) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        conn.follow(answer.next);
        conn.shutdown |= answer.shutdown;
        let progress = answer.consumed > 0 || answer.out.bytes() > 0;
        match conn.send(&mut answer.out, &mut self.env.tx_pool) {
            Ok(n) => self.env.counters.bytes_out.add(n as u64),
            Err(e) => return self.end(who, dead_of(&e)),
        }
        conn.over = conn.unsent() > SEND_MARK;
        // A handler that lacked room though it had all there is, and did nothing, would only do so again.
        conn.lacked = answer.starved && (progress || conn.unsent() > 0);
        if conn.lacked && !conn.over && !conn.paused && !conn.closing && !conn.again {
            conn.again = true;
            self.again.push(who);
        }
        self.settle(who);
    }

    fn run_ops(&mut self, who: Handle) {
        if self.env.ops.is_empty() {
            return;
        }
        for op in std::mem::take(&mut self.env.ops) {
            match op {
                Op::Timer(at) => self.set_deadline(who, Some(at)),
                Op::Connect(dst, state) => self.connect(dst, state),
                Op::Resume(other) => self.mailbox.resume(other),
            }
        }
    }

    fn set_deadline(&mut self, who: Handle, at: Option<Nanos>) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        if conn.closing && conn.deadline.is_some() && at.is_some() {
            return;
        }
        self.timers.replace(who, conn.deadline, at);
        conn.deadline = at;
    }

    // ---- after every event ----

    /// Ends the connection if it is over, else tells epoll what it waits for now.
    fn settle(&mut self, who: Handle) {
        let now = self.env.now;
        let Some(conn) = self.conns.get_mut(who) else { return };
        if conn.closing {
            if conn.unsent() == 0 {
                return self.close(who);
            }
            if conn.deadline.is_none_or(|at| at > now + CLOSE_PATIENCE) {
                self.timers.replace(who, conn.deadline, Some(now + CLOSE_PATIENCE));
                conn.deadline = Some(now + CLOSE_PATIENCE);
            }
        } else if conn.finished() {
            return self.end(who, Dead::Finished);
        }
        self.watch(who);
    }

    fn watch(&mut self, who: Handle) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        let what = conn.interest();
        let done = match conn.watched {
            Some(now) if now == what => return,
            Some(_) => self.epoll.modify(&conn.stream, who.to_bits(), what),
            None => self.epoll.add(&conn.stream, who.to_bits(), what),
        };
        conn.watched = Some(what);
        if done.is_err() {
            // Only scarcity gets here: no memory, or max_user_watches.
            self.abort(who, Dead::NoResources);
        }
    }

    // ---- ending ----

    /// An ordinary close. What the peer sent and nobody will read is taken out first: closing over it would send a
    /// reset, which can destroy the reply on its way.
    fn close(&mut self, who: Handle) {
        if let Some(conn) = self.conns.get_mut(who)
            && !conn.fin
            && let Some(mut waste) = self.env.rx_pool.alloc()
        {
            let _ = (&conn.stream).read(waste.spare_mut());
            self.env.rx_pool.free(waste);
        }
        self.end(who, Dead::Local);
    }

    fn end(&mut self, who: Handle, why: Dead) {
        let Some(conn) = self.forget(who) else { return };
        drop(conn.stream);
        self.env.closed(conn.state, why);
    }

    fn abort(&mut self, who: Handle, why: Dead) {
        let Some(conn) = self.forget(who) else { return };
        socket::abort(conn.stream);
        self.env.closed(conn.state, why);
    }

    fn forget(&mut self, who: Handle) -> Option<Conn<S::Conn>> {
        let conn = self.conns.remove(who)?;
        self.timers.replace(who, conn.deadline, None);
        self.env.counters.closed.inc();
        Some(conn)
    }

    fn close_all(&mut self) {
        for who in self.conns.keys() {
            self.end(who, Dead::Local);
        }
        self.env.batch_end();
    }

    // ---- datagrams ----

    fn datagrams(&mut self) {
        let Some(udp) = &self.udp else { return };
        for _ in 0..self.batch {
            let Some(mut fresh) = self.env.rx_pool.alloc() else { return };
            let Ok((n, remote)) = udp.recv_from(fresh.spare_mut()) else {
                self.env.rx_pool.free(fresh);
                return;
            };
            fresh.grow(n);
            let mut out = self.env.datagram(&Peer { remote, local: self.local }, &fresh);
            let n = out.bytes() as usize;
            if n > 0 {
                // The request is answered: its buffer carries the reply.
                fresh.reset(0);
                fresh.grow(n);
                out.copy_to(0, &mut fresh);
                // A full socket loses the answer, as datagrams may be lost anywhere.
                let _ = udp.send_to(&fresh, remote);
            }
            self.env.tx_pool.free_queue(std::mem::take(&mut out));
            self.env.rx_pool.free(fresh);
        }
    }
}

fn out_of_descriptors(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// The reason of a `closed` for an error that a socket reported.
fn dead_of(e: &io::Error) -> Dead {
    match e.raw_os_error() {
        Some(libc::ECONNREFUSED) => Dead::Refused,
        Some(libc::ETIMEDOUT) => Dead::TimedOut,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Dead::Unreachable,
        _ if out_of_descriptors(e) || e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Dead::NoResources,
        _ => Dead::Reset,
    }
}
