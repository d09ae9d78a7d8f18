use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use abi::Handle;
use sys::epoll::{Events, Ready};
use zygix::{Dead, Op, Service};

use crate::conn::Conn;
use crate::datagram;
use crate::door::{ACCEPTS, Door, Knock};
use crate::handler::Env;
use crate::inbox::Mail;
use crate::pool::{ALARM, BELL, END, Floater, GROUP, LISTENER, Pool, UDP};
use crate::turn::{Event, Fate, Turn, bury};

// News of a connection, see `Slot`.
const OPENED: u32 = 1 << 0;
const WRITABLE: u32 = 1 << 1;
const READABLE: u32 = 1 << 2;
const BROKEN: u32 = 1 << 3;
const ENDED: u32 = 1 << 4;
const DUE: u32 = 1 << 5;
const MAIL: u32 = 1 << 6;
/// Nothing has happened, but epoll does not know it yet.
const NEW: u32 = 1 << 7;
/// The server ends.
const LAST: u32 = 1 << 8;

/// Times that one event has its socket read. The second time finds the peer's end, or nothing where events do not tell of
/// it; a connection that has more yet goes to the end of the queue.
const READS: usize = 2;

type Shared<S> = Floater<<S as Service>::Conn, <S as Service>::Msg>;

/// One thread of the floating mode: all of them wait for all connections.
pub(crate) struct Floating<S: Service> {
    pub(crate) index: usize,
    pub(crate) env: Env<S>,
    pub(crate) door: Door,
    pub(crate) pool: Arc<Pool<S::Conn, S::Msg>>,
    pub(crate) batch: usize,
}

impl<S: Service> Floating<S> {
    /// Serves until told to stop. Each turn is bounded by `batch` events.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::new(self.batch);
        self.env.now = sys::clock::now();
        for (dst, state) in self.env.dial() {
            self.connect(dst, state);
        }
        self.run_ops();
        loop {
            self.pool.wait(self.index, &mut events)?;
            if self.pool.stop.load(SeqCst) {
                break;
            }
            if events.is_empty() {
                continue;
            }
            self.env.now = sys::clock::now();
            self.env.counters.batches.inc();
            for i in 0..events.len() {
                let Some(ready) = events.get(i) else { break };
                self.event(ready);
                self.run_ops();
            }
            self.env.batch_end();
        }
        self.close_all();
        Ok(())
    }

    fn event(&mut self, ready: Ready) {
        match ready.token {
            LISTENER => self.accept_waiting(),
            BELL => self.open_inbox(),
            ALARM => self.run_timer(),
            UDP => self.datagrams(),
            END => {}
            token => {
                let ended = ready.ended() || !self.pool.tells_ends();
                let told = [
                    (ready.writable(), WRITABLE),
                    (ready.readable(), READABLE),
                    (ready.broken(), BROKEN),
                    (ended, ENDED),
                ];
                let news = told.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
                self.announce(Handle::from_bits(token), news);
            }
        }
    }

    // ---- opening ----

    fn accept_waiting(&mut self) {
        for _ in 0..ACCEPTS {
            match self.door.accept(&mut self.env) {
                Knock::In(conn) => self.admit(conn, OPENED),
                Knock::Away => {}
                Knock::Nobody => return,
            }
        }
    }

    fn admit(&mut self, conn: Conn<S::Conn>, news: u32) {
        let floater = Arc::new(Floater::new(conn));
        if let Some(who) = self.pool.insert(&floater) {
            floater.conn.announce(news);
            self.work(who, &floater);
        } else if let Some(conn) = Arc::into_inner(floater).and_then(|f| f.conn.into_inner()) {
            bury(&mut self.env, conn, Fate::Aborts(Dead::NoResources));
        }
    }

    fn connect(&mut self, dst: SocketAddr, state: S::Conn) {
        if let Some(conn) = self.door.connect(&mut self.env, dst, state) {
            self.admit(conn, NEW);
        }
    }

    /// What handlers asked for: after their connections have been let go, so that no thread holds two.
    fn run_ops(&mut self) {
        while !self.env.ops.is_empty() {
            for op in std::mem::take(&mut self.env.ops) {
                match op {
                    Op::Connect(dst, state) => self.connect(dst, state),
                    Op::Resume(other) => self.pool.mailbox.resume(other),
                    // Its turn has seen to it.
                    Op::Timer(_) | Op::Option(_) => {}
                }
            }
        }
    }

    // ---- events that are not a socket's ----

    /// One piece of mail; further ones wake others, so that none waits for this one's handler.
    fn open_inbox(&mut self) {
        let pool = &self.pool;
        let sorted = pool.mailbox.0[GROUP.index()].next(|mail| {
            let (Mail::Resume(who) | Mail::Message(who, _)) = mail;
            let floater = pool.get(who)?;
            floater.mail().push_back(mail);
            Some((who, floater))
        });
        if let Some((who, floater)) = sorted.flatten() {
            floater.conn.announce(MAIL);
            self.work(who, &floater);
        }
    }

    /// One deadline; further ones wake others.
    fn run_timer(&mut self) {
        if let Some(who) = self.pool.alarm.next(self.env.now) {
            self.announce(who, DUE);
        }
    }

    fn datagrams(&mut self) {
        if let Some(udp) = &self.pool.udp {
            datagram::serve(udp, self.door.local, &mut self.env, self.batch);
        }
    }

    // ---- a connection's turns ----

    fn announce(&mut self, who: Handle, news: u32) {
        if let Some(floater) = self.pool.get(who) {
            floater.conn.announce(news);
            self.work(who, &floater);
        }
    }

    /// Sees to the news of a connection, unless another thread works on it, which then does.
    fn work(&mut self, who: Handle, floater: &Shared<S>) {
        let mut first = true;
        while let Some((mut guard, news)) = floater.conn.claim() {
            // Of an instant later than what another thread may have announced during the handler.
            if !std::mem::take(&mut first) {
                self.env.now = sys::clock::now();
            }
            self.turns(who, floater, &mut guard, news);
        }
    }

    fn turns(&mut self, who: Handle, floater: &Shared<S>, place: &mut Option<Conn<S::Conn>>, news: u32) {
        if news & LAST != 0 {
            return self.end(who, place, Fate::Ends(Dead::Local));
        }
        if news & OPENED != 0 {
            self.turn(who, place, Event::Opened);
        }
        if news & WRITABLE != 0 {
            self.turn(who, place, Event::Writable);
        }
        if news & DUE != 0 {
            self.turn(who, place, Event::Timer);
        }
        if news & MAIL != 0 {
            let mail = std::mem::take(&mut *floater.mail());
            for mail in mail {
                match mail {
                    Mail::Resume(_) => self.turn(who, place, Event::Resume),
                    Mail::Message(_, msg) => self.turn(who, place, Event::Message(msg)),
                }
            }
        }
        if place.as_ref().is_some_and(|conn| conn.again) {
            self.turn(who, place, Event::Again);
        }
        if let Some(conn) = place {
            conn.unread |= news & READABLE != 0;
            conn.ended |= news & ENDED != 0;
        }
        for _ in 0..READS {
            if place.as_ref().is_some_and(|conn| conn.unread && conn.reads()) {
                self.turn(who, place, Event::Readable { broken: false });
            }
        }
        if news & BROKEN != 0 && place.as_ref().is_some_and(|conn| !conn.reads()) {
            self.turn(who, place, Event::Readable { broken: true });
        }
        self.rest(who, place);
    }

    fn turn(&mut self, who: Handle, place: &mut Option<Conn<S::Conn>>, event: Event<S::Msg>) {
        let Some(conn) = place else { return };
        let fate = Turn { env: &mut self.env, who, conn }.run(event);
        if let Fate::Ends(_) | Fate::Aborts(_) = fate {
            self.end(who, place, fate);
        }
    }

    /// After its turns: tells timers and epoll what the connection waits for now.
    fn rest(&mut self, who: Handle, place: &mut Option<Conn<S::Conn>>) {
        let Some(conn) = place else { return };
        self.pool.alarm.follow(who, conn);
        let renew = conn.again || conn.unread && conn.reads();
        if self.pool.watch(who, conn, renew).is_err() {
            // Only scarcity gets here: no memory, or max_user_watches.
            self.end(who, place, Fate::Aborts(Dead::NoResources));
        }
    }

    // ---- ending ----

    fn end(&mut self, who: Handle, place: &mut Option<Conn<S::Conn>>, fate: Fate) {
        let Some(conn) = place.take() else { return };
        self.pool.remove(who);
        self.pool.alarm.forget(who, conn.filed);
        bury(&mut self.env, conn, fate);
    }

    /// Every thread ends what is there when it leaves: the last one to leave, what others opened meanwhile. A connection
    /// that another thread works on is ended by that one.
    fn close_all(&mut self) {
        for who in self.pool.keys() {
            self.announce(who, LAST);
        }
        self.env.batch_end();
    }
}
