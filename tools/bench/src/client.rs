//! The echo client: written on the raw ABI, to cost little and to show how it is used.

use std::net::SocketAddr;
use std::sync::Arc;

use abi::Cookie;
use dataplane::{App, BatchView};
use mem::MbufQueue;
use netstack::Pending;
use units::Counter;

/// What a client has seen. Written by its elastic thread, read by anybody.
#[derive(Default, Debug)]
pub struct Tally {
    /// Connections opened.
    pub connected: Counter,
    /// Messages that came back.
    pub messages: Counter,
    /// Connections that failed or ended, and bytes that were not what was sent.
    pub errors: Counter,
}

/// Sends messages of `size` bytes on each of its connections, `depth` of them at a time, and waits for them to come back.
pub struct Client {
    target: SocketAddr,
    conns: usize,
    depth: u32,
    message: Vec<u8>,
    /// Bytes of the present message that have come back, by connection.
    partial: Vec<u32>,
    tally: Arc<Tally>,
}

impl Client {
    /// A client that opens `conns` connections to `target` at start.
    pub fn new(target: SocketAddr, conns: usize, size: usize, depth: u32, tally: Arc<Tally>) -> Client {
        Client { target, conns, depth, message: vec![b'z'; size.max(1)], partial: vec![0; conns], tally }
    }

    fn send(&self, view: &mut BatchView<'_>, i: usize, n: u32) {
        let mut out = MbufQueue::new();
        for _ in 0..n {
            let Some(mut mbuf) = view.arena().alloc() else { return self.tally.errors.inc() };
            mbuf.reset(0);
            mbuf.extend(&self.message);
            out.push_back(mbuf);
        }
        if view.sendv(i, &mut out, false).is_err() || !out.is_empty() {
            self.tally.errors.inc();
        }
    }
}

impl App for Client {
    fn start(&mut self, view: &mut BatchView<'_>) {
        for i in 0..self.conns {
            if view.connect(Cookie(i as u64), self.target).is_err() {
                self.tally.errors.inc();
            }
        }
    }

    fn run(&mut self, view: &mut BatchView<'_>) {
        for i in 0..view.len() {
            let e = view.entry(i);
            let (cookie, pending, dead) = (e.cookie.0 as usize, e.pending, e.dead.is_some());
            let (bytes, first) = (e.rx.bytes(), e.rx.front().is_none_or(|m| m.first() == self.message.first()));
            if dead || !first {
                self.tally.errors.inc();
                continue;
            }
            if pending.contains(Pending::CONNECTED) {
                self.tally.connected.inc();
                self.send(view, i, self.depth);
            }
            if bytes == 0 {
                continue;
            }
            let size = self.message.len() as u32;
            let have = self.partial[cookie] + bytes;
            self.partial[cookie] = have % size;
            let whole = have / size;
            if view.recv_done(i, bytes).is_err() {
                self.tally.errors.inc();
            }
            self.tally.messages.add(u64::from(whole));
            if whole > 0 {
                self.send(view, i, whole);
            }
        }
    }
}
