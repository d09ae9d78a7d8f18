//! The load over our own stack: the engine as an application of the dataplane, on the batch's syscalls, so that what a client costs
//! does not hide what a server costs.

use std::io;
use std::net::SocketAddr;

use abi::{Cookie, Handle, Syscall};
use dataplane::{App, BatchView};
use mem::MbufQueue;
use netstack::{Batch, Pending};
use units::Nanos;

use crate::engine::{Engine, Wire};
use crate::spec::Hangup;

/// Connection `link` of the engine, as the stack knows it.
#[derive(Clone, Copy)]
struct Conn {
    /// Valid from `connected` to the end.
    handle: Option<Handle>,
    /// Counts the lives of this place: what the stack tells of an earlier one is not about the present one.
    life: u32,
    /// Bytes that a `sendv` will admit, by the last word of the stack less what was sent since.
    window: u32,
}

/// An elastic thread's part of the load.
pub(crate) struct Native {
    engine: Engine,
    conns: Vec<Conn>,
    target: SocketAddr,
    /// Syscalls that the stack refused in the last batch, by connection.
    refused: Vec<usize>,
    /// When to run without news.
    wake: Nanos,
}

/// How often a thread without an order looks for one.
const NAP: Nanos = Nanos::from_millis(2);

impl Native {
    pub(crate) fn new(engine: Engine, target: SocketAddr) -> Native {
        let none = Conn { handle: None, life: 0, window: 0 };
        let links = engine.links();
        Native { conns: vec![none; links], engine, target, refused: Vec::with_capacity(links), wake: Nanos::ZERO }
    }

    /// The present connection that `cookie` names.
    fn link(&self, cookie: Cookie) -> Option<usize> {
        let link = cookie.0 as u32 as usize;
        let conn = self.conns.get(link)?;
        (conn.life == (cookie.0 >> 32) as u32).then_some(link)
    }

    /// What the stack has to tell of entry `i`.
    fn hear(&mut self, view: &mut BatchView<'_>, i: usize, now: Nanos) {
        let e = view.entry(i);
        let Some(link) = self.link(e.cookie) else {
            // Of a connection that the engine has ended: nobody reads it.
            let (bytes, handle, dead) = (e.rx.bytes(), e.handle, e.dead.is_some());
            if !dead {
                let _ = view.recv_done(i, bytes);
                let _ = view.abort(handle);
            }
            return;
        };
        let (bytes, dead) = (e.rx.bytes(), e.dead);
        self.conns[link].window = e.window;
        if dead.is_none() && e.pending.contains(Pending::CONNECTED) {
            self.conns[link].handle = Some(e.handle);
            self.engine.opened(link, now);
        }
        let mut sane = true;
        for mbuf in e.rx.iter() {
            sane = sane && self.engine.received(link, mbuf, now);
        }
        let (handle, fin) = (e.handle, e.fin);
        if bytes > 0 && dead.is_none() {
            let _ = view.recv_done(i, bytes);
        }
        if let Some(why) = dead {
            self.conns[link].handle = None;
            self.conns[link].life += 1;
            if sane {
                self.engine.closed(link, io::Error::other(format!("{why:?}").to_lowercase()), now);
            }
        } else if !sane || fin {
            self.conns[link].handle = None;
            self.conns[link].life += 1;
            let _ = view.abort(handle);
            if sane {
                self.engine.closed(link, io::ErrorKind::UnexpectedEof.into(), now);
            }
        } else if self.conns[link].window > 0 {
            self.engine.writable(link);
        }
    }
}

impl App for Native {
    fn run(&mut self, view: &mut BatchView<'_>) {
        // Not the batch's own time: a reply has come when it is seen here.
        let now = sys::clock::now();
        for link in std::mem::take(&mut self.refused) {
            self.conns[link].handle = None;
            self.conns[link].life += 1;
            self.engine.closed(link, io::Error::other("the stack refused it"), now);
        }
        for i in 0..view.len() {
            self.hear(view, i, now);
        }
        let Native { engine, conns, target, .. } = self;
        engine.turn(now, &mut Calls { conns, target: *target, view });
        self.wake = self.engine.wake_at(now, NAP);
    }

    fn returned(&mut self, batch: &Batch) {
        if batch.outcomes().all(|(_, ret)| ret >= 0) {
            return;
        }
        for (call, ret) in batch.outcomes() {
            let link = match call {
                Syscall::Connect { cookie, .. } if ret < 0 => self.link(cookie),
                Syscall::Sendv { handle, .. } if ret < 0 => self.conns.iter().position(|c| c.handle == Some(handle)),
                _ => None,
            };
            self.refused.extend(link);
        }
    }

    fn wake_at(&self) -> Nanos {
        if self.refused.is_empty() { self.wake } else { Nanos::ZERO }
    }
}

/// A batch as a transport.
struct Calls<'a, 'b> {
    conns: &'a mut [Conn],
    target: SocketAddr,
    view: &'a mut BatchView<'b>,
}

impl Wire for Calls<'_, '_> {
    fn open(&mut self, link: usize) -> io::Result<()> {
        let conn = &mut self.conns[link];
        conn.life += 1;
        conn.handle = None;
        let cookie = Cookie(u64::from(conn.life) << 32 | link as u64);
        self.view.connect(cookie, self.target).map_err(|code| io::Error::other(format!("{code:?}")))
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Option<usize> {
        let conn = &mut self.conns[link];
        let handle = conn.handle?;
        let mut left = &bytes[..bytes.len().min(conn.window as usize)];
        let mut queue = MbufQueue::new();
        while !left.is_empty()
            && let Some(mut mbuf) = self.view.arena().alloc()
        {
            mbuf.reset(0);
            left = &left[mbuf.extend(left)..];
            queue.push_back(mbuf);
        }
        let filled = queue.bytes() as usize;
        let sg = self.view.gather(&mut queue);
        // What found no place in the batch's array comes again.
        let took = filled - queue.bytes() as usize;
        conn.window -= took as u32;
        let waiting = (bytes.len() - took) as u32;
        self.view.raw(Syscall::Sendv { handle, sg, waiting }).ok()?;
        Some(took)
    }

    fn close(&mut self, link: usize, how: Hangup) {
        let conn = &mut self.conns[link];
        // The cookie of whatever may still be told of it is stale from here on.
        conn.life += 1;
        let Some(handle) = conn.handle.take() else { return };
        let _ = match how {
            Hangup::Fin => self.view.close(handle),
            Hangup::Rst => self.view.abort(handle),
        };
    }
}
