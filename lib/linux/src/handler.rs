use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use abi::Handle;
use mem::{Mbuf, MbufQueue, MemError, Pool, Room};
use units::{CoreId, Nanos};
use zygix::{ConnRef, Cx, Dead, Next, Op, Peer, Received, Reply, SEND_CAP, Service};

use crate::Counters;
use crate::conn::{Conn, RECV_CAP};

/// Bytes per receive buffer: what one `recv` may fetch.
const RX_BYTES: usize = 64 * 1024;

/// Bytes per transmit buffer: the `write_with` limit that the trait promises.
const TX_BYTES: usize = 2048;

/// Transmit buffers of a thread: one call's replies ([`SEND_CAP`]) and what the application keeps of its own.
const TX_COUNT: u32 = (4 * SEND_CAP / TX_BYTES) as u32;

/// Which handler to call.
pub(crate) enum Call<M> {
    Opened,
    Connected,
    Writable,
    Timer,
    Message(M),
}

/// What a handler left behind.
pub(crate) struct Answer {
    pub(crate) next: Next,
    pub(crate) out: MbufQueue,
    pub(crate) consumed: usize,
    pub(crate) starved: bool,
    pub(crate) shutdown: bool,
}

/// A handler panicked: its connection is to be reset.
pub(crate) struct Panicked;

/// All that a handler needs beside its connection: the thread's core state and buffers.
pub(crate) struct Env<S: Service> {
    service: Arc<S>,
    core: S::Core,
    pub(crate) now: Nanos,
    pub(crate) rx_pool: Pool,
    pub(crate) tx_pool: Pool,
    scratch: Vec<u8>,
    /// What the last handler asked for beside its reply.
    pub(crate) ops: Vec<Op<S::Conn>>,
    pub(crate) counters: Arc<Counters>,
}

impl<S: Service> Env<S> {
    pub(crate) fn new(service: Arc<S>, id: CoreId, counters: Arc<Counters>) -> Result<Env<S>, MemError> {
        // A call sees kept bytes and one fresh buffer.
        let rx_count = RECV_CAP / RX_BYTES + 2;
        Ok(Env {
            core: service.core(id),
            service,
            now: Nanos::ZERO,
            rx_pool: Pool::new(Room::Received, rx_count as u32, RX_BYTES as u32)?,
            tx_pool: Pool::new(Room::Exchange, TX_COUNT, TX_BYTES as u32)?,
            scratch: vec![0; 64 * 1024],
            ops: Vec::new(),
            counters,
        })
    }

    /// `kept` and then `fresh` as buffers.
    pub(crate) fn queue(&mut self, mut kept: &[u8], fresh: Option<Mbuf>) -> MbufQueue {
        let mut queue = MbufQueue::new();
        while !kept.is_empty() {
            // Cannot fail: buffers live for a call, and the pool holds one call's most.
            let Some(mut mbuf) = self.rx_pool.alloc() else { break };
            kept = &kept[mbuf.extend(kept)..];
            queue.push_back(mbuf);
        }
        if let Some(fresh) = fresh {
            queue.push_back(fresh);
        }
        queue
    }

    /// The connections to open at start.
    pub(crate) fn dial(&mut self) -> Vec<(SocketAddr, S::Conn)> {
        let (service, core) = (&self.service, &mut self.core);
        catch_unwind(AssertUnwindSafe(|| service.dial(core))).unwrap_or_else(|_| {
            self.counters.panics.inc();
            Vec::new()
        })
    }

    pub(crate) fn accept(&mut self, peer: &Peer) -> Option<S::Conn> {
        let (service, core) = (&self.service, &mut self.core);
        let accepted = catch_unwind(AssertUnwindSafe(|| service.accept(core, peer)));
        accepted.unwrap_or_else(|_| {
            self.counters.panics.inc();
            None
        })
    }

    /// Calls `recv` with the bytes of `queue`.
    pub(crate) fn recv(&mut self, me: Handle, conn: &mut Conn<S::Conn>, queue: &MbufQueue) -> Result<Answer, Panicked> {
        self.counters.calls.inc();
        let mut out = MbufQueue::new();
        let mut tx = Reply::new(&mut out, &mut self.tx_pool, SEND_CAP.saturating_sub(conn.unsent()));
        let mut rx = Received::new(queue, conn.fin, &mut self.scratch);
        let mut cx = Cx::new(&mut self.core, self.now, ConnRef::new(me), &mut self.ops);
        let (service, state) = (&self.service, &mut conn.state);
        let next = catch_unwind(AssertUnwindSafe(|| service.recv(&mut cx, state, &mut rx, &mut tx)));
        let (consumed, starved, shutdown) = (rx.consumed(), tx.starved(), tx.is_shutdown());
        match next {
            Ok(next) => Ok(Answer { next, out, consumed, starved, shutdown }),
            Err(_) => Err(self.panicked()),
        }
    }

    /// Calls a handler that takes no bytes.
    pub(crate) fn call(
        &mut self,
        me: Handle,
        conn: &mut Conn<S::Conn>,
        call: Call<S::Msg>,
    ) -> Result<Answer, Panicked> {
        self.counters.calls.inc();
        let mut out = MbufQueue::new();
        let mut tx = Reply::new(&mut out, &mut self.tx_pool, SEND_CAP.saturating_sub(conn.unsent()));
        let mut cx = Cx::new(&mut self.core, self.now, ConnRef::new(me), &mut self.ops);
        let (service, state) = (&self.service, &mut conn.state);
        let next = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Opened => service.opened(&mut cx, state, &mut tx),
            Call::Connected => service.connected(&mut cx, state, &mut tx),
            Call::Writable => service.writable(&mut cx, state, &mut tx),
            Call::Timer => service.timer(&mut cx, state, &mut tx),
            Call::Message(msg) => service.message(&mut cx, state, msg, &mut tx),
        }));
        let (starved, shutdown) = (tx.starved(), tx.is_shutdown());
        match next {
            Ok(next) => Ok(Answer { next, out, consumed: 0, starved, shutdown }),
            Err(_) => Err(self.panicked()),
        }
    }

    pub(crate) fn closed(&mut self, state: S::Conn, why: Dead) {
        let (service, core) = (&self.service, &mut self.core);
        if catch_unwind(AssertUnwindSafe(|| service.closed(core, state, why))).is_err() {
            self.counters.panics.inc();
        }
    }

    /// Hands over a datagram; returns the one to answer with.
    pub(crate) fn datagram(&mut self, peer: &Peer, data: &[u8]) -> MbufQueue {
        self.counters.datagrams.inc();
        let mut out = MbufQueue::new();
        let mut tx = Reply::new(&mut out, &mut self.tx_pool, crate::datagram::DATAGRAM);
        let (service, core) = (&self.service, &mut self.core);
        if catch_unwind(AssertUnwindSafe(|| service.datagram(core, peer, data, &mut tx))).is_err() {
            self.panicked();
            return MbufQueue::new();
        }
        out
    }

    pub(crate) fn batch_end(&mut self) {
        let (service, core) = (&self.service, &mut self.core);
        if catch_unwind(AssertUnwindSafe(|| service.batch_end(core))).is_err() {
            self.counters.panics.inc();
        }
    }

    #[cold]
    fn panicked(&mut self) -> Panicked {
        self.counters.panics.inc();
        // What it had asked for on behalf of others stands; its own deadline and options go with the connection.
        self.ops.retain(|op| !matches!(op, Op::Timer(_) | Op::Option(_)));
        Panicked
    }
}
