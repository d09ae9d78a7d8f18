use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use abi::Handle;
use sys::epoll::{Epoll, Events, Interest};
use zygix::{Dead, Op, Service};

use crate::conn::Conn;
use crate::datagram;
use crate::door::{ACCEPTS, Door, Knock};
use crate::handler::Env;
use crate::inbox::{Mail, Mailbox};
use crate::slab::Slab;
use crate::timers::Timers;
use crate::turn::{Event, Fate, Turn, bury};

// Tokens of what is not a connection. A handle of a thread has its group (below 128) in the top byte.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
const UDP: u64 = u64::MAX - 2;

/// One thread: its listener, its connections, its loop.
pub(crate) struct Partition<S: Service> {
    pub(crate) index: usize,
    pub(crate) env: Env<S>,
    pub(crate) conns: Slab<Conn<S::Conn>>,
    pub(crate) timers: Timers,
    pub(crate) epoll: Epoll,
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) door: Door,
    pub(crate) udp: Option<UdpSocket>,
    pub(crate) mailbox: Mailbox<S::Msg>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Connections that are owed a call without an event.
    pub(crate) again: Vec<Handle>,
    pub(crate) batch: usize,
}

impl<S: Service> Partition<S> {
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
                            self.turn(who, Event::Writable);
                        }
                        if ready.readable() {
                            self.turn(who, Event::Readable { broken: ready.broken() });
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
        for _ in 0..ACCEPTS {
            match self.door.accept(&mut self.env) {
                Knock::In(conn) => {
                    if let Some(who) = self.admit(conn) {
                        self.turn(who, Event::Opened);
                    }
                }
                Knock::Away => {}
                Knock::Nobody => return,
            }
        }
    }

    fn admit(&mut self, conn: Conn<S::Conn>) -> Option<Handle> {
        let refused = match self.conns.insert(conn) {
            Ok(who) => return Some(who),
            Err(conn) => conn,
        };
        bury(&mut self.env, refused, Fate::Aborts(Dead::NoResources));
        None
    }

    fn connect(&mut self, dst: SocketAddr, state: S::Conn) {
        let conn = self.door.connect(&mut self.env, dst, state);
        if let Some(who) = conn.and_then(|conn| self.admit(conn)) {
            self.rest(who, false, Fate::Stays);
        }
    }

    // ---- events ----

    fn run_timers(&mut self) -> usize {
        let mut ran = 0;
        while let Some(who) = self.timers.expired(self.env.now) {
            ran += 1;
            self.turn(who, Event::Timer);
        }
        ran
    }

    fn open_inbox(&mut self) {
        for mail in self.mailbox.0[self.index].take() {
            match mail {
                Mail::Resume(who) => self.turn(who, Event::Resume),
                Mail::Message(who, msg) => self.turn(who, Event::Message(msg)),
            }
        }
    }

    fn run_again(&mut self) -> usize {
        let due = std::mem::take(&mut self.again);
        for &who in &due {
            self.turn(who, Event::Again);
        }
        due.len()
    }

    fn datagrams(&mut self) {
        if let Some(udp) = &self.udp {
            datagram::serve(udp, self.door.local, &mut self.env, self.batch);
        }
    }

    // ---- turns ----

    fn turn(&mut self, who: Handle, event: Event<S::Msg>) {
        let Some(conn) = self.conns.get_mut(who) else { return };
        let again = conn.again && !matches!(event, Event::Again);
        let fate = Turn { env: &mut self.env, who, conn }.run(event);
        self.rest(who, again, fate);
        if !self.env.ops.is_empty() {
            self.run_ops();
        }
    }

    /// After a turn: tells timers and epoll what the connection waits for now, or ends it. `again`: it is among those
    /// that are owed a call already.
    fn rest(&mut self, who: Handle, again: bool, fate: Fate) {
        if let Fate::Ends(_) | Fate::Aborts(_) = fate {
            return self.end(who, fate);
        }
        let Some(conn) = self.conns.get_mut(who) else { return };
        self.timers.follow(who, conn);
        if conn.again && !again {
            self.again.push(who);
        }
        if watch(&self.epoll, who, conn, fate).is_err() {
            // Only scarcity gets here: no memory, or max_user_watches.
            self.end(who, Fate::Aborts(Dead::NoResources));
        }
    }

    fn run_ops(&mut self) {
        for op in std::mem::take(&mut self.env.ops) {
            match op {
                Op::Connect(dst, state) => self.connect(dst, state),
                Op::Resume(other) => self.mailbox.resume(other),
                // Its turn has seen to it.
                Op::Timer(_) | Op::Option(_) => {}
            }
        }
    }

    // ---- ending ----

    fn end(&mut self, who: Handle, fate: Fate) {
        let Some(conn) = self.conns.remove(who) else { return };
        self.timers.replace(who, conn.filed, None);
        bury(&mut self.env, conn, fate);
    }

    fn close_all(&mut self) {
        for who in self.conns.keys() {
            self.end(who, Fate::Ends(Dead::Local));
        }
        self.env.batch_end();
    }
}

/// Has the epoll instance watch for what the connection waits for.
fn watch<C>(epoll: &Epoll, who: Handle, conn: &mut Conn<C>, fate: Fate) -> io::Result<()> {
    if fate == Fate::Mute {
        conn.watched = None;
        let _ = epoll.remove(&conn.stream);
        return Ok(());
    }
    let what = conn.interest();
    let was = conn.watched.replace(what);
    match was {
        Some(was) if was == what => Ok(()),
        Some(_) => epoll.modify(&conn.stream, who.to_bits(), what),
        None => epoll.add(&conn.stream, who.to_bits(), what),
    }
}
