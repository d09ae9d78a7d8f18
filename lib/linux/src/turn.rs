use std::io::{self, Read};

use abi::Handle;
use mem::MbufQueue;
use sys::socket;
use units::Nanos;
use zygix::{Dead, Next, Op, SEND_MARK, Service};

use crate::conn::{Conn, RECV_CAP};
use crate::handler::{Answer, Call, Env, Panicked};

/// How long a connection that is being closed waits for its peer to take the last bytes.
const CLOSE_PATIENCE: Nanos = Nanos::from_secs(10);

/// What a connection is given a turn for.
pub(crate) enum Event<M> {
    /// Accepted just now.
    Opened,
    /// Its socket can be written to, or the outcome of connecting is known.
    Writable,
    /// Its socket can be read; `broken`: it is in error, or both directions have ended.
    Readable { broken: bool },
    /// The deadline that the timers knew has passed. It may have been replaced meanwhile.
    Timer,
    /// Somebody resumed it.
    Resume,
    /// Somebody posted a message to it.
    Message(M),
    /// It is owed a call without an event ([`Conn::again`]).
    Again,
}

/// What a turn makes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It waits for what [`Conn::interest`] says.
    Stays,
    /// It pauses, both sides have finished, and there is nothing to report: a level-triggered epoll would go on about it.
    Mute,
    /// It is over: an ordinary close.
    Ends(Dead),
    /// It is over: a reset.
    Aborts(Dead),
}

/// One event of one connection: at most one `recv`, one handler call, one `send`.
///
/// The same for connections that a thread owns and for those that it has locked; what is left to the caller is where
/// connections, deadlines and epoll instances are.
pub(crate) struct Turn<'a, S: Service> {
    pub(crate) env: &'a mut Env<S>,
    pub(crate) who: Handle,
    pub(crate) conn: &'a mut Conn<S::Conn>,
}

impl<S: Service> Turn<'_, S> {
    /// What handlers asked for, other than deadlines, is left in [`Env::ops`].
    pub(crate) fn run(mut self, event: Event<S::Msg>) -> Fate {
        let mut fate = match event {
            Event::Opened => self.call(Call::Opened),
            Event::Writable => self.writable(),
            Event::Readable { broken } => self.readable(broken),
            Event::Timer => self.timer(),
            Event::Resume => self.resume(),
            Event::Message(msg) => self.call(Call::Message(msg)),
            Event::Again => self.again(),
        };
        if fate == Fate::Stays {
            fate = self.settle();
        }
        self.take_deadlines();
        fate
    }

    fn connected(&mut self) -> Fate {
        let conn = &mut *self.conn;
        match conn.stream.take_error() {
            Ok(None) => {
                conn.connecting = false;
                if let Ok(local) = conn.stream.local_addr() {
                    conn.peer.local = local;
                }
                self.call(Call::Connected)
            }
            Ok(Some(e)) | Err(e) => Fate::Ends(dead_of(&e)),
        }
    }

    fn readable(&mut self, broken: bool) -> Fate {
        let conn = &mut *self.conn;
        if !conn.reads() {
            return if broken { self.broken() } else { Fate::Stays };
        }
        let Some(mut fresh) = self.env.rx_pool.alloc() else { return Fate::Stays };
        let room = fresh.tailroom().min(RECV_CAP - conn.rx.len());
        match (&conn.stream).read(&mut fresh.spare_mut()[..room]) {
            Ok(n) => {
                conn.fin = n == 0;
                // A short read has emptied the socket; but a peer's end that was there already may lie behind it.
                conn.unread = n == room || n > 0 && conn.ended;
                fresh.grow(n);
                self.env.counters.bytes_in.add(n as u64);
            }
            Err(e) => {
                self.env.rx_pool.free(fresh);
                return match e.kind() {
                    io::ErrorKind::Interrupted => Fate::Stays,
                    io::ErrorKind::WouldBlock => {
                        conn.unread = false;
                        Fate::Stays
                    }
                    _ => Fate::Ends(dead_of(&e)),
                };
            }
        }
        if conn.rx.len() + fresh.len() < conn.want && !conn.fin {
            conn.rx.extend_from_slice(&fresh);
            self.env.rx_pool.free(fresh);
            return Fate::Stays;
        }
        let queue = self.env.queue(&conn.rx, Some(fresh));
        self.recv(queue)
    }

    /// An error or a hang-up on a socket that is not being read.
    #[cold]
    fn broken(&mut self) -> Fate {
        match self.conn.stream.take_error() {
            Ok(Some(e)) | Err(e) => Fate::Ends(dead_of(&e)),
            Ok(None) if self.conn.paused => Fate::Mute,
            Ok(None) => Fate::Stays,
        }
    }

    fn writable(&mut self) -> Fate {
        let conn = &mut *self.conn;
        if conn.connecting {
            return self.connected();
        }
        if conn.unsent() == 0 {
            return Fate::Stays;
        }
        match conn.send(&mut MbufQueue::new(), &mut self.env.tx_pool) {
            Ok(n) => self.env.counters.bytes_out.add(n as u64),
            Err(e) => return Fate::Ends(dead_of(&e)),
        }
        if conn.unsent() <= SEND_MARK && (conn.over || conn.lacked) { self.room_again() } else { Fate::Stays }
    }

    fn timer(&mut self) -> Fate {
        let conn = &mut *self.conn;
        // The timers have dropped it. A deadline that is not due is told to them again after the turn.
        conn.filed = None;
        if conn.deadline.is_none_or(|at| at > self.env.now) {
            return Fate::Stays;
        }
        conn.deadline = None;
        if conn.closing { Fate::Aborts(Dead::Local) } else { self.call(Call::Timer) }
    }

    fn resume(&mut self) -> Fate {
        let conn = &mut *self.conn;
        if !std::mem::take(&mut conn.paused) || conn.closing {
            return Fate::Stays;
        }
        if conn.fin || conn.rx.len() >= conn.want { self.recv_kept() } else { Fate::Stays }
    }

    fn again(&mut self) -> Fate {
        self.conn.again = false;
        self.room_again()
    }

    /// The handler lacked room or had written more than the mark, and there is room now.
    fn room_again(&mut self) -> Fate {
        let conn = &mut *self.conn;
        let lacked = std::mem::take(&mut conn.lacked);
        conn.over = false;
        if conn.paused || conn.closing {
            Fate::Stays
        } else if conn.rx.is_empty() {
            self.call(Call::Writable)
        } else if lacked || conn.fin || conn.rx.len() >= conn.want {
            self.recv_kept()
        } else {
            Fate::Stays
        }
    }

    // ---- handlers ----

    fn recv_kept(&mut self) -> Fate {
        let queue = self.env.queue(&self.conn.rx, None);
        self.recv(queue)
    }

    fn recv(&mut self, queue: MbufQueue) -> Fate {
        let answer = self.env.recv(self.who, self.conn, &queue);
        if let Ok(answer) = &answer {
            self.conn.keep(&queue, answer.consumed);
        }
        self.env.rx_pool.free_queue(queue);
        self.carry_out(answer)
    }

    fn call(&mut self, call: Call<S::Msg>) -> Fate {
        if self.conn.closing {
            return Fate::Stays;
        }
        let answer = self.env.call(self.who, self.conn, call);
        self.carry_out(answer)
    }

    /// Does what a handler answered.
    fn carry_out(&mut self, answer: Result<Answer, Panicked>) -> Fate {
        if !self.env.ops.is_empty() {
            self.take_options();
        }
        match answer {
            Err(Panicked) => Fate::Aborts(Dead::Panicked),
            Ok(answer) if answer.next == Next::Abort => Fate::Aborts(Dead::Local),
            Ok(answer) => self.reply(answer),
        }
    }

    fn reply(&mut self, mut answer: Answer) -> Fate {
        let conn = &mut *self.conn;
        conn.follow(answer.next);
        conn.shutdown |= answer.shutdown;
        let progress = answer.consumed > 0 || answer.out.bytes() > 0;
        match conn.send(&mut answer.out, &mut self.env.tx_pool) {
            Ok(n) => self.env.counters.bytes_out.add(n as u64),
            Err(e) => return Fate::Ends(dead_of(&e)),
        }
        conn.over = conn.unsent() > SEND_MARK;
        // A handler that lacked room though it had all there is, and did nothing, would only do so again.
        conn.lacked = answer.starved && (progress || conn.unsent() > 0);
        conn.again |= conn.lacked && !conn.over && !conn.paused && !conn.closing;
        Fate::Stays
    }

    // ---- after every event ----

    /// Whether the connection is over now.
    fn settle(&mut self) -> Fate {
        let conn = &mut *self.conn;
        // One of zero discards only what TCP was given.
        let linger = conn.linger.filter(|most| *most > Nanos::ZERO);
        let latest = self.env.now + linger.unwrap_or(CLOSE_PATIENCE).min(CLOSE_PATIENCE);
        if conn.closing {
            if conn.unsent() == 0 {
                self.drain();
                return Fate::Ends(Dead::Local);
            }
            if conn.deadline.is_none_or(|at| at > latest) {
                conn.deadline = Some(latest);
            }
        } else if conn.finished() {
            return Fate::Ends(Dead::Finished);
        }
        Fate::Stays
    }

    /// Before an ordinary close, what the peer sent and nobody will read is taken out: closing over it would send a
    /// reset, which can destroy the reply on its way.
    fn drain(&mut self) {
        if !self.conn.fin
            && let Some(mut waste) = self.env.rx_pool.alloc()
        {
            let _ = (&self.conn.stream).read(waste.spare_mut());
            self.env.rx_pool.free(waste);
        }
    }

    /// Sets what the handler asked for of its socket: before what it wrote is sent.
    fn take_options(&mut self) {
        let conn = &mut *self.conn;
        self.env.ops.retain(|op| {
            let Op::Option(option) = op else { return true };
            conn.set_option(*option);
            false
        });
    }

    /// Takes the deadlines out of what the handler asked for; a connection that is being closed keeps its own.
    fn take_deadlines(&mut self) {
        let conn = &mut *self.conn;
        self.env.ops.retain(|op| {
            let Op::Timer(at) = op else { return true };
            if !conn.closing || conn.deadline.is_none() {
                conn.deadline = Some(*at);
            }
            false
        });
    }
}

/// The end of a connection that has left its place: its socket first, then its state goes back to the application.
pub(crate) fn bury<S: Service>(env: &mut Env<S>, conn: Conn<S::Conn>, fate: Fate) {
    env.counters.closed.inc();
    let why = match fate {
        Fate::Ends(why) => {
            let linger = conn.linger.filter(|_| why == Dead::Local);
            Conn::<S::Conn>::close(conn.stream, linger);
            why
        }
        Fate::Aborts(why) => {
            socket::abort(conn.stream);
            why
        }
        Fate::Stays | Fate::Mute => Dead::Local,
    };
    env.closed(conn.state, why);
}

/// Whether descriptors or memory ran out.
pub(crate) fn out_of_descriptors(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// The reason of a `closed` for an error that a socket reported.
pub(crate) fn dead_of(e: &io::Error) -> Dead {
    match e.raw_os_error() {
        Some(libc::ECONNREFUSED) => Dead::Refused,
        Some(libc::ETIMEDOUT) => Dead::TimedOut,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Dead::Unreachable,
        _ if out_of_descriptors(e) || e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Dead::NoResources,
        _ => Dead::Reset,
    }
}
