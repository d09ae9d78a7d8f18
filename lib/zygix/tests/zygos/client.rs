//! The client: an application on an elastic thread of its own, told what to do by the test.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use abi::{Cookie, Handle, Peer, Syscall};
use dataplane::{App, BatchView};
use mem::MbufQueue;
use netstack::Pending;
use units::{FlowGroupId, Nanos};
use wire::Tuple;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(crate) const PORT: u16 = 7;

enum Do {
    Dial(usize),
    Say(usize, String),
    Close(usize),
    Abort(usize),
    Cast(u16, String),
}

/// One connection.
#[derive(Default)]
pub(crate) struct Link {
    handle: Option<Handle>,
    /// The server's core that it belongs to.
    pub(crate) home: usize,
    pub(crate) got: String,
    /// How it ended, once it has.
    pub(crate) end: Option<String>,
}

pub(crate) struct Client {
    todo: VecDeque<Do>,
    pub(crate) links: Vec<Link>,
    /// Datagrams that came.
    pub(crate) casts: Vec<String>,
    group: Arc<dyn Fn(&Tuple) -> FlowGroupId + Send + Sync>,
    cores: usize,
}

impl Client {
    /// A client of a server whose NIC spreads flows by `group` over `cores`.
    pub(crate) fn new(group: Arc<dyn Fn(&Tuple) -> FlowGroupId + Send + Sync>, cores: usize) -> Client {
        Client { todo: VecDeque::new(), links: Vec::new(), casts: Vec::new(), group, cores }
    }

    pub(crate) fn dial(&mut self) -> usize {
        self.links.push(Link::default());
        self.todo.push_back(Do::Dial(self.links.len() - 1));
        self.links.len() - 1
    }

    pub(crate) fn is_open(&self, link: usize) -> bool {
        self.links[link].handle.is_some()
    }

    pub(crate) fn say(&mut self, link: usize, text: &str) {
        self.todo.push_back(Do::Say(link, text.into()));
    }

    pub(crate) fn close(&mut self, link: usize) {
        self.todo.push_back(Do::Close(link));
    }

    pub(crate) fn abort(&mut self, link: usize) {
        self.todo.push_back(Do::Abort(link));
    }

    /// Sends a datagram from `port`.
    pub(crate) fn cast(&mut self, port: u16, text: &str) {
        self.todo.push_back(Do::Cast(port, text.into()));
    }

    /// The server's core to which a flow from our `port` belongs.
    pub(crate) fn home(&self, port: u16) -> usize {
        let tuple = Tuple { local: SERVER.into(), remote: CLIENT.into(), local_port: PORT, remote_port: port };
        (self.group)(&tuple).index() % self.cores
    }

    fn carry_out(&mut self, view: &mut BatchView<'_>, todo: Do) {
        let server = SocketAddr::from((SERVER, PORT));
        let handle = |link: usize| self.links[link].handle.filter(|_| self.links[link].end.is_none());
        match todo {
            Do::Dial(link) => view.connect(Cookie(link as u64), server).unwrap(),
            Do::Say(link, text) => {
                let Some(handle) = handle(link) else { return };
                let sg = view_text(view, &text);
                view.raw(Syscall::Sendv { handle, sg, waiting: 0 }).unwrap();
            }
            Do::Close(link) => {
                let Some(handle) = handle(link) else { return };
                view.close(handle).unwrap();
                self.links[link].end = Some("closed here".into());
            }
            Do::Abort(link) => {
                let Some(handle) = handle(link) else { return };
                view.abort(handle).unwrap();
                self.links[link].end = Some("aborted here".into());
            }
            Do::Cast(port, text) => {
                let local = SocketAddr::from((CLIENT, port));
                let sg = view_text(view, &text);
                view.raw(Syscall::UdpSend { peer: Peer { remote: server, local }, sg }).unwrap();
            }
        }
    }
}

fn view_text(view: &mut BatchView<'_>, text: &str) -> abi::TxRange {
    let mut buffer = view.arena().alloc().expect("a buffer");
    buffer.reset(0);
    assert_eq!(buffer.extend(text.as_bytes()), text.len());
    view.gather(&mut MbufQueue::from(buffer))
}

impl App for Client {
    fn run(&mut self, view: &mut BatchView<'_>) {
        for i in 0..view.len() {
            let Some(entry) = view.batch().entries().get(i) else { break };
            let (handle, cookie, dead, fin) = (entry.handle, entry.cookie.0 as usize, entry.dead, entry.fin);
            let (unread, opened) = (entry.rx.bytes(), entry.pending.contains(Pending::CONNECTED));
            let bytes: Vec<u8> = entry.rx.iter().flat_map(|m| m.to_vec()).collect();
            let home = self.home(entry.peer().local.port());
            let link = &mut self.links[cookie];
            link.got.push_str(std::str::from_utf8(&bytes).unwrap());
            if opened {
                (link.handle, link.home) = (Some(handle), home);
            }
            if let Some(why) = dead {
                link.end.get_or_insert(why.to_string());
                continue;
            }
            if unread > 0 {
                view.recv_done(i, unread).unwrap();
            }
            if fin && link.end.is_none() {
                link.end = Some("finished".into());
                view.close(handle).unwrap();
            }
        }
        let casts = view.batch().datagrams().iter().map(|d| String::from_utf8_lossy(&d.payload).into_owned());
        self.casts.extend(casts);
        while let Some(todo) = self.todo.pop_front() {
            self.carry_out(view, todo);
        }
    }

    fn wake_at(&self) -> Nanos {
        if self.todo.is_empty() { Nanos::MAX } else { Nanos::ZERO }
    }
}
