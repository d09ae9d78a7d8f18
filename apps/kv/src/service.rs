use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mem::MbufQueue;
use units::CoreId;
use zygix::{Cx, Dead, Next, Peer, Received, Reply, Service};

use crate::clock::{Clock, Secs};
use crate::conn::Conn;
use crate::stats::{Counters, Stat, Totals, counters_of};
use crate::store::Store;
use crate::{Config, ascii};

/// The key-value store as a service.
#[derive(Debug)]
pub struct Kv {
    config: Config,
    store: Store,
    clock: Clock,
    cores: Mutex<Vec<(u16, Arc<Counters>)>>,
    open: AtomicU32,
    opened: AtomicU64,
    rejected: AtomicU64,
    verbosity: AtomicU32,
    /// What `stats reset` subtracts.
    baseline: Mutex<Totals>,
}

impl Kv {
    /// An empty store.
    pub fn new(config: Config) -> Kv {
        Kv {
            store: Store::new(&config),
            clock: Clock::new(config.start_wall),
            cores: Mutex::default(),
            open: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            verbosity: AtomicU32::new(config.verbosity),
            baseline: Mutex::default(),
            config,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    #[inline]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn connections(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Connections opened and refused since the start.
    pub(crate) fn opened(&self) -> (u64, u64) {
        (self.opened.load(Relaxed), self.rejected.load(Relaxed))
    }

    pub(crate) fn verbosity(&self) -> u32 {
        self.verbosity.load(Relaxed)
    }

    pub(crate) fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level, Relaxed);
    }

    pub(crate) fn counters(&self) -> Vec<Arc<Counters>> {
        lock(&self.cores).iter().map(|(_, counters)| Arc::clone(counters)).collect()
    }

    pub(crate) fn baseline(&self) -> MutexGuard<'_, Totals> {
        lock(&self.baseline)
    }

    fn turn<'t, 'a>(&'t self, cx: &'t mut Cx<'_, Kv>, tx: &'t mut Reply<'a>) -> Turn<'t, 'a> {
        let now = self.clock.secs(cx.now());
        Turn { kv: self, core: cx.core, now, tx }
    }
}

/// Plain values: a panic of another holder cannot have left them half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State of one elastic thread.
#[derive(Debug)]
pub struct Core {
    counters: Arc<Counters>,
    /// Where a line or header that straddles buffers is put together.
    scratch: Box<[u8]>,
}

/// Enough for the longest line that is looked at as a whole.
const SCRATCH: usize = ascii::LINE_MAX;

/// Every command but a fetch finds this much room for its answer before it begins. It exceeds the longest answer
/// without a value: 250 bytes of key in base64, opaque, and a number for each meta flag.
const ROOM: usize = 1024;

/// One call of a handler: everything that a command needs beside its bytes.
pub(crate) struct Turn<'t, 'a> {
    pub(crate) kv: &'t Kv,
    core: &'t mut Core,
    pub(crate) now: Secs,
    pub(crate) tx: &'t mut Reply<'a>,
}

impl Turn<'_, '_> {
    #[inline]
    pub(crate) fn store(&self) -> &Store {
        &self.kv.store
    }

    #[inline]
    pub(crate) fn count(&self, stat: Stat) {
        self.core.counters.add(stat, 1);
    }

    #[inline]
    pub(crate) fn count_bytes(&self, stat: Stat, bytes: usize) {
        self.core.counters.add(stat, bytes as u64);
    }

    /// Whether the answer of a command would find room.
    pub(crate) fn room(&mut self) -> bool {
        self.tx.reserve(ROOM)
    }

    /// Writes; the caller has made sure that there is room.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let wrote = self.tx.write(bytes);
        debug_assert_eq!(wrote, bytes.len(), "written without room");
        self.count_bytes(Stat::BytesWritten, wrote);
    }

    /// The expiration that a client's time means.
    pub(crate) fn expires(&self, time: i64) -> Secs {
        self.kv.clock.expires(self.now, time)
    }

    /// Lends the scratch space; [`keep_scratch`](Turn::keep_scratch) takes it back.
    pub(crate) fn scratch(&mut self) -> Box<[u8]> {
        let scratch = std::mem::take(&mut self.core.scratch);
        // A handler that panicked has kept it.
        if scratch.is_empty() { vec![0; SCRATCH].into_boxed_slice() } else { scratch }
    }

    pub(crate) fn keep_scratch(&mut self, scratch: Box<[u8]>) {
        self.core.scratch = scratch;
    }
}

impl Service for Kv {
    type Conn = Conn;
    type Core = Core;
    type Msg = ();

    fn core(&self, id: CoreId) -> Core {
        Core { counters: counters_of(&mut lock(&self.cores), id.0), scratch: vec![0; SCRATCH].into() }
    }

    fn accept(&self, _core: &mut Core, _peer: &Peer) -> Option<Conn> {
        let open = self.open.load(Relaxed);
        let max = self.config.max_conns;
        if open < max {
            self.open.fetch_add(1, Relaxed);
            self.opened.fetch_add(1, Relaxed);
            return Some(Conn::new());
        }
        self.rejected.fetch_add(1, Relaxed);
        // Some are taken only to be told why they cannot be served; of more we know nothing.
        if open < max.saturating_add(max / 8 + 16) {
            self.open.fetch_add(1, Relaxed);
            return Some(Conn::refused());
        }
        None
    }

    /// Whoever is not served is told so at once, as memcached does.
    fn opened(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        if conn.is_refused() { self.writable(cx, conn, tx) } else { Next::Read }
    }

    fn recv(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        let mut turn = self.turn(cx, tx);
        let next = conn.run(&mut turn, rx);
        turn.count_bytes(Stat::BytesRead, rx.consumed());
        next
    }

    fn writable(&self, cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        let nothing = MbufQueue::new();
        conn.run(&mut self.turn(cx, tx), &mut Received::new(&nothing, conn.finished(), &mut []))
    }

    fn closed(&self, _core: &mut Core, conn: Conn, _why: Dead) {
        self.open.fetch_sub(1, Relaxed);
        drop(conn);
    }
}
