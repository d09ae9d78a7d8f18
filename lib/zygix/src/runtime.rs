//! A [`Service`] on the dataplane: event conditions become calls of handlers, what they answer becomes batched syscalls.
//!
//! All writes of a connection in a batch leave in one `sendv`. What the window does not admit stays in the record's
//! backlog and is offered again when a `sent` comes (as libix does, thesis section 2.3.2).

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use abi::{Cookie, Dead, Handle};
use dataplane::{App, BatchView};
use mem::{MbufQueue, Pool};
use netstack::{Pending, Shared};
use units::{CoreId, Nanos};

use crate::mailbox::{Mailbox, Messages, RESUME};
use crate::records::{Record, Records};
use crate::{ConnRef, Cx, Next, Op, Received, Reply, SEND_CAP, SEND_MARK, Service};

/// What a call can join of an item that straddles buffers, and the most that `peek` shows.
const SCRATCH: usize = 64 * 1024;
/// A connection's share of the free transmit buffers, as a shift: each may hold an eighth of what is free, so that peers
/// that never read leave room for the others.
const SHARE_SHIFT: u32 = 3;
/// How long a handler that found no transmit buffer waits before it is called again.
const STARVED_PAUSE: Nanos = Nanos::from_millis(1);

/// What all threads of a service share.
struct Common<S: Service> {
    service: Arc<S>,
    records: Records<S::Conn>,
    messages: Arc<Messages<S::Msg>>,
    shared: Arc<Shared>,
}

/// A service bound to a dataplane: makes what each elastic thread runs.
pub struct Runtime<S: Service>(Arc<Common<S>>);

impl<S: Service> Runtime<S> {
    /// Binds `service` to the dataplane of `shared`. One for all cores: a connection of one core is run by others, and found in these books.
    pub fn new(service: Arc<S>, shared: Arc<Shared>) -> Runtime<S> {
        let limit = shared.config().max_conns;
        let messages = Arc::new(Messages::new());
        Runtime(Arc::new(Common { service, records: Records::new(limit, shared.config().pages), messages, shared }))
    }

    /// The way for background threads to reach the service's connections.
    pub fn mailbox(&self) -> Mailbox<S::Msg> {
        Mailbox::new(self.0.shared.clone(), self.0.messages.clone())
    }

    /// What the elastic thread of `core` runs. Once for each core, of the same runtime.
    pub fn app(&self, core: CoreId) -> ServiceApp<S> {
        ServiceApp {
            core: self.0.service.core(core),
            common: self.0.clone(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            ops: Vec::with_capacity(16),
            consumed: 0,
        }
    }
}

/// A service as one elastic thread runs it.
pub struct ServiceApp<S: Service> {
    common: Arc<Common<S>>,
    core: S::Core,
    scratch: Box<[u8]>,
    /// What the running handler asks for.
    ops: Vec<Op<S::Conn>>,
    /// Bytes that the handlers of the present connection have consumed.
    consumed: u32,
}

/// How a connection ends here.
enum End {
    /// It has ended already.
    Dead(Dead),
    /// By a reset.
    Abort(Dead),
    /// By a close: everything has been sent.
    Close,
}

/// Which handler to call.
enum Call<M> {
    Opened,
    Recv,
    Connected,
    Writable,
    Timer,
    Message(M),
}

impl<S: Service> App for ServiceApp<S> {
    fn start(&mut self, view: &mut BatchView<'_>) {
        let common = self.common.clone();
        for (dst, conn) in common.service.dial(&mut self.core) {
            self.dial(&common, view, dst, conn);
        }
    }

    fn run(&mut self, view: &mut BatchView<'_>) {
        let common = self.common.clone();
        if common.shared.is_scattered() {
            for i in 0..view.len() {
                common.records.prefetch(view.entry(i).cookie);
            }
        }
        for i in 0..view.len() {
            self.serve(&common, view, i);
        }
        // They have no connection that could report it.
        for i in 0..view.batch().refused().len() {
            let cookie = view.batch().refused()[i];
            self.give_back(&common, cookie, Dead::NoResources);
        }
        self.datagrams(&common, view);
        // A panic here belongs to no connection; it has been printed.
        let _ = catch_unwind(AssertUnwindSafe(|| common.service.batch_end(&mut self.core)));
    }
}

impl<S: Service> ServiceApp<S> {
    /// All that one connection of the batch has to be told, and what it answers with.
    fn serve(&mut self, common: &Common<S>, view: &mut BatchView<'_>, i: usize) {
        self.consumed = 0;
        let (pending, cookie) = (view.entry(i).pending, view.entry(i).cookie);
        if pending.contains(Pending::KNOCK) {
            return self.knock(common, view, i);
        }
        let Some(mut record) = common.records.get(cookie) else { return };
        let told = self.tell(common, view, i, &mut record);
        drop(record);
        self.finish(common, view, i, told);
    }

    fn tell(
        &mut self,
        common: &Common<S>,
        view: &mut BatchView<'_>,
        i: usize,
        record: &mut Record<S::Conn>,
    ) -> Result<(), End> {
        let (pending, dead) = (view.entry(i).pending, view.entry(i).dead);
        if let Some(why) = dead {
            // What came before a regular end is still shown; what came before another is lost with the connection.
            if why == Dead::Finished {
                let _ = self.receive(common, view, i, record);
            }
            return Err(End::Dead(why));
        }
        if pending.contains(Pending::CONNECTED) {
            self.call(common, view, i, record, Call::Connected)?;
        }
        // The deadline was the application's, or ours for a handler that found no buffer.
        if pending.contains(Pending::TIMER) && !std::mem::take(&mut record.retry) {
            self.call(common, view, i, record, Call::Timer)?;
        }
        if pending.contains(Pending::MESSAGE) {
            self.mail(common, view, i, record)?;
        }
        self.receive(common, view, i, record)?;
        self.send(view, i, record)
    }

    /// Ends a connection if it is to end: the application gets its state back, the record is free.
    fn finish(&mut self, common: &Common<S>, view: &mut BatchView<'_>, i: usize, told: Result<(), End>) {
        let Err(end) = told else { return };
        let (handle, cookie) = (view.entry(i).handle, view.entry(i).cookie);
        let why = match end {
            End::Dead(why) => why,
            End::Abort(why) => {
                self.ops.clear();
                let _ = view.abort(handle);
                why
            }
            End::Close => {
                // Unread bytes would turn the close into a reset, and the peer might lose our last words.
                let unread = view.entry(i).rx.bytes() - self.consumed;
                let _ = view.recv_done(i, unread);
                let _ = view.close(handle);
                Dead::Local
            }
        };
        self.give_back(common, cookie, why);
    }

    fn knock(&mut self, common: &Common<S>, view: &mut BatchView<'_>, i: usize) {
        let entry = view.entry(i);
        let (handle, peer) = (entry.handle, entry.peer());
        if entry.dead.is_some() {
            return;
        }
        let accepted = catch_unwind(AssertUnwindSafe(|| common.service.accept(&mut self.core, &peer))).ok().flatten();
        match accepted.map(|conn| common.records.open(conn)) {
            Some(Ok(cookie)) if view.accept(i, cookie).is_ok() => {
                let Some(mut record) = common.records.get(cookie) else { return };
                let told = self.call(common, view, i, &mut record, Call::Opened);
                let told = told.and_then(|()| self.send(view, i, &mut record));
                drop(record);
                return self.finish(common, view, i, told);
            }
            Some(Ok(cookie)) => self.give_back(common, cookie, Dead::NoResources),
            Some(Err(conn)) => common.service.closed(&mut self.core, conn, Dead::NoResources),
            None => {}
        }
        let _ = view.abort(handle);
    }

    fn mail(
        &mut self,
        common: &Common<S>,
        view: &mut BatchView<'_>,
        i: usize,
        record: &mut Record<S::Conn>,
    ) -> Result<(), End> {
        let handle = view.entry(i).handle;
        for n in 0.. {
            let token = view.batch().messages(handle).nth(n);
            match token {
                None => break,
                Some(RESUME) => {
                    record.paused = false;
                    record.fin_shown = false;
                }
                Some(token) => {
                    if let Some(msg) = common.messages.take(token) {
                        self.call(common, view, i, record, Call::Message(msg))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows received bytes to the handler, if it wants them and there is room for its answer.
    fn receive(
        &mut self,
        common: &Common<S>,
        view: &mut BatchView<'_>,
        i: usize,
        record: &mut Record<S::Conn>,
    ) -> Result<(), End> {
        let entry = view.entry(i);
        let (unread, fin, window) = (entry.rx.bytes() as usize, entry.fin, entry.window as usize);
        let pending = entry.pending;
        let unsent = (record.backlog.bytes() as usize).saturating_sub(window);
        if record.paused || record.closing || unsent > SEND_MARK {
            return Ok(());
        }
        // AtLeast is capped by the receive window: more can never be there at once.
        let at_least = record.at_least.min(common.shared.config().tcp.rcv_wnd as usize / 2);
        let enough = unread > 0 && (unread >= at_least || fin);
        let news = pending.intersects(Pending::RECV | Pending::FIN | Pending::MESSAGE);
        let room = record.starved && pending.intersects(Pending::SENT | Pending::TIMER);
        let eof = fin && !record.fin_shown;
        let drained = pending.contains(Pending::SENT);
        if (news || room || drained) && (enough || eof) {
            self.call(common, view, i, record, Call::Recv)
        } else if room || drained {
            self.call(common, view, i, record, Call::Writable)
        } else {
            Ok(())
        }
    }

    /// Runs one handler; what it wrote goes to the backlog, what it asked for is done.
    fn call(
        &mut self,
        common: &Common<S>,
        view: &mut BatchView<'_>,
        i: usize,
        record: &mut Record<S::Conn>,
        what: Call<S::Msg>,
    ) -> Result<(), End> {
        let now = view.now();
        let (entry, arena) = view.entry_and_arena(i);
        let (handle, fin) = (entry.handle, entry.fin);
        let Some(conn) = record.conn.as_mut().filter(|_| !record.closing) else { return Ok(()) };
        let room = room(arena, record.backlog.bytes(), entry.unacked);
        let ServiceApp { core, scratch, ops, .. } = self;
        let mut rx = Received::new(&entry.rx, fin, scratch);
        // Straight into the backlog: what several handlers write shares buffers.
        let mut tx = Reply::new(&mut record.backlog, arena, room);
        let mut cx = Cx::new(core, now, ConnRef::new(handle), ops);
        let shows_end = fin && matches!(what, Call::Recv);
        let service = &*common.service;
        let next = catch_unwind(AssertUnwindSafe(|| match what {
            Call::Opened => service.opened(&mut cx, conn, &mut tx),
            Call::Recv => service.recv(&mut cx, conn, &mut rx, &mut tx),
            Call::Connected => service.connected(&mut cx, conn, &mut tx),
            Call::Writable => service.writable(&mut cx, conn, &mut tx),
            Call::Timer => service.timer(&mut cx, conn, &mut tx),
            Call::Message(msg) => service.message(&mut cx, conn, msg, &mut tx),
        }));
        let consumed = rx.consumed() as u32;
        record.starved = tx.starved();
        record.shutdown |= tx.is_shutdown();
        record.fin_shown |= shows_end;
        record.at_least = 0;
        match next {
            Ok(Next::Read) => {}
            Ok(Next::AtLeast(n)) => record.at_least = n,
            Ok(Next::Pause) => record.paused = true,
            Ok(Next::Close) => record.closing = true,
            Ok(Next::Abort) => return Err(End::Abort(Dead::Local)),
            Err(_) => return Err(End::Abort(Dead::Panicked)),
        }
        self.consumed += consumed;
        if consumed > 0 {
            let _ = view.recv_done(i, consumed);
        }
        if !self.ops.is_empty() {
            self.carry_out(common, view, handle);
        }
        Ok(())
    }

    /// What the handler asked for beside its reply, in its order.
    #[cold]
    fn carry_out(&mut self, common: &Common<S>, view: &mut BatchView<'_>, handle: Handle) {
        let mut ops = std::mem::take(&mut self.ops);
        for op in ops.drain(..) {
            match op {
                Op::Timer(at) => {
                    let _ = view.timer(handle, at);
                }
                Op::Option(option) => {
                    let _ = view.set_option(handle, option);
                }
                Op::Resume(who) => {
                    let _ = common.shared.post(who.handle(), RESUME);
                }
                Op::Connect(dst, conn) => self.dial(common, view, dst, conn),
            }
        }
        self.ops = ops;
    }

    fn dial(&mut self, common: &Common<S>, view: &mut BatchView<'_>, dst: SocketAddr, conn: S::Conn) {
        match common.records.open(conn) {
            Ok(cookie) => {
                if view.connect(cookie, dst).is_err() {
                    self.give_back(common, cookie, Dead::NoResources);
                }
            }
            Err(conn) => common.service.closed(&mut self.core, conn, Dead::NoResources),
        }
    }

    /// Offers the backlog to the connection's window; closes what was only waiting for that.
    fn send(&mut self, view: &mut BatchView<'_>, i: usize, record: &mut Record<S::Conn>) -> Result<(), End> {
        if record.starved && view.arena().available() == 0 {
            // No acknowledgment of this connection may ever free a buffer: time has to bring one.
            let (handle, now) = (view.entry(i).handle, view.now());
            record.retry = view.timer(handle, now + STARVED_PAUSE).is_ok();
        }
        let more = record.starved && !record.retry;
        if !record.backlog.is_empty() || more {
            let _ = view.sendv(i, &mut record.backlog, more);
        }
        if !record.backlog.is_empty() {
            return Ok(());
        }
        if record.closing {
            return Err(End::Close);
        }
        if std::mem::take(&mut record.shutdown) {
            let handle = view.entry(i).handle;
            let _ = view.shutdown(handle);
        }
        Ok(())
    }

    /// The connection is gone: the application gets its state back, the record is free.
    fn give_back(&mut self, common: &Common<S>, cookie: Cookie, why: Dead) {
        let conn = common.records.get(cookie).and_then(|mut r| r.conn.take());
        if let Some(conn) = conn {
            // A destructor or a handler that panics here has lost only its own state.
            let _ = catch_unwind(AssertUnwindSafe(|| common.service.closed(&mut self.core, conn, why)));
        }
        common.records.close(cookie);
    }

    fn datagrams(&mut self, common: &Common<S>, view: &mut BatchView<'_>) {
        let mut i = 0;
        while let Some((datagram, arena)) = view.datagram_and_arena(i) {
            i += 1;
            let peer = datagram.peer();
            let room = room(arena, 0, 0);
            let mut reply = MbufQueue::new();
            let mut tx = Reply::new(&mut reply, arena, room);
            let done = catch_unwind(AssertUnwindSafe(|| {
                common.service.datagram(&mut self.core, &peer, &datagram.payload, &mut tx);
            }));
            if done.is_ok() && !reply.is_empty() {
                let _ = view.udp_send(peer, &mut reply);
            }
        }
    }
}

/// Bytes that a connection may still write: its cap, and its share of what is free.
fn room(arena: &Pool, backlog: u32, held: u32) -> usize {
    let share = (arena.available() * arena.capacity()) >> SHARE_SHIFT;
    let mine = (backlog + held) as usize;
    (SEND_CAP - (backlog as usize).min(SEND_CAP)).min(share.saturating_sub(mine))
}
