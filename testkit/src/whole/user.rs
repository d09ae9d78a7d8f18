use std::net::SocketAddr;

use abi::{Cookie, Handle};
use dataplane::{App, BatchView};
use mem::MbufQueue;
use netstack::Pending;

use crate::packet::Family;
use crate::subject::{REMOTE_PORT, stream, stream_byte};

/// The script's user as an application of the dataplane. What it is to do is written down by the subject, and done
/// when its connection comes by in a batch.
#[derive(Default)]
pub(super) struct User {
    family: Family,
    /// The connection, while it is open.
    pub(super) handle: Option<Handle>,
    pub(super) connected: bool,
    pub(super) readable: u32,
    pub(super) eof: bool,
    pub(super) dead: Option<abi::Dead>,
    pub(super) to_do: ToDo,
    /// Bytes of `to_do.send` that the stack has taken.
    pub(super) admitted: u32,
    /// What went wrong inside of a batch.
    pub(super) error: Option<String>,
    /// Written and not taken by the stack.
    unsent: MbufQueue,
    written: u64,
    read: u64,
}

/// What the user is to do.
#[derive(Default)]
pub(super) struct ToDo {
    pub(super) connect: bool,
    pub(super) send: u32,
    pub(super) recv: u32,
    pub(super) end: Option<End>,
}

/// How the user ends the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Shutdown,
    Close,
    Abort,
}

impl User {
    /// A user without a connection.
    pub(super) fn new(family: Family) -> User {
        User { family, ..User::default() }
    }

    fn entry(&mut self, batch: &mut BatchView<'_>, i: usize) {
        let entry = batch.entry(i);
        let (handle, pending, dead) = (entry.handle, entry.pending, entry.dead);
        if pending.contains(Pending::KNOCK) {
            *self = User { handle: Some(handle), ..User::new(self.family) };
            if let Err(code) = batch.accept(i, Cookie(1)) {
                self.error = Some(format!("accept: {code:?}"));
            }
            return;
        }
        self.readable = entry.rx.bytes();
        self.eof |= entry.fin;
        if pending.contains(Pending::CONNECTED) && dead.is_none() {
            self.connected = true;
            self.handle = Some(handle);
        }
        if dead.is_some() {
            self.dead = dead;
            self.handle = None;
            return;
        }
        if self.handle == Some(handle) {
            self.act(batch, i, handle);
        }
    }

    fn act(&mut self, batch: &mut BatchView<'_>, i: usize, handle: Handle) {
        let recv = std::mem::take(&mut self.to_do.recv);
        if recv > 0 {
            self.recv(batch, i, recv);
        }
        self.send(batch, i);
        if !self.unsent.is_empty() {
            return;
        }
        let ended = match self.to_do.end.take() {
            None => Ok(()),
            Some(End::Shutdown) => batch.shutdown(handle),
            Some(End::Close) => batch.close(handle),
            Some(End::Abort) => batch.abort(handle),
        };
        if let Err(code) = ended {
            self.error = Some(format!("ending the connection: {code:?}"));
        }
    }

    fn recv(&mut self, batch: &mut BatchView<'_>, i: usize, n: u32) {
        let mut bytes = vec![0; n as usize];
        let copied = batch.entry(i).rx.copy_to(0, &mut bytes);
        if copied < bytes.len() {
            self.error = Some(format!("{copied} bytes wait"));
            return;
        }
        if let Some(wrong) = (0..n).find(|&k| bytes[k as usize] != stream_byte(self.read + u64::from(k))) {
            self.error = Some(format!("a wrong byte at position {} of the stream", self.read + u64::from(wrong)));
        }
        if let Err(code) = batch.recv_done(i, n) {
            self.error = Some(format!("recv_done: {code:?}"));
        }
        self.read += u64::from(n);
        self.readable -= n;
    }

    fn send(&mut self, batch: &mut BatchView<'_>, i: usize) {
        let mut left = std::mem::take(&mut self.to_do.send) as usize;
        while left > 0 {
            let Some(mut buffer) = batch.arena().alloc() else {
                self.error = Some("no transmit buffer is free".into());
                return;
            };
            buffer.reset(0);
            let n = left.min(buffer.tailroom());
            buffer.extend(&stream(self.written, n));
            self.unsent.push_back(buffer);
            self.written += n as u64;
            left -= n;
        }
        if self.unsent.is_empty() {
            return;
        }
        match batch.sendv(i, &mut self.unsent, false) {
            Ok(taken) => self.admitted += taken,
            Err(code) => self.error = Some(format!("sendv: {code:?}")),
        }
    }
}

impl App for User {
    fn start(&mut self, batch: &mut BatchView<'_>) {
        if std::mem::take(&mut self.to_do.connect) {
            let peer = SocketAddr::new(self.family.ends().1.into(), REMOTE_PORT);
            if let Err(code) = batch.connect(Cookie(1), peer) {
                self.error = Some(format!("connect: {code:?}"));
            }
        }
    }

    fn run(&mut self, batch: &mut BatchView<'_>) {
        for i in 0..batch.len() {
            self.entry(batch, i);
        }
    }
}
