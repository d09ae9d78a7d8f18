//! Several stacks of one dataplane, each with a wire of its own, in time that the test moves; an application that echoes; and peers that are honest.
#![allow(dead_code, reason = "each file of tests uses its part")]

use std::sync::Arc;

use abi::{Cookie, Handle, Syscall};
use mem::{MbufQueue, Pool, Room};
use netstack::{Batch, GRACE, Parcel, Pending, Shared, Stack, StackConfig};
use nic::Cable;
use units::{CoreId, FlowGroupId, GroupSet, Nanos};
use wire::tcp::{Flags, Header};
use wire::{arp, ethernet, ipv4, tcp};

use crate::world::{CLOSES, Client, DEAF, ECHO, MAC, OURS, PEER_MAC, SOURCE, Say, Sent, peer};

/// The first port of peers: the group of a flow is what its peer's port is above it.
pub(crate) const PORT: u16 = 1000;

pub(crate) struct Core {
    pub(crate) stack: Stack<Cable>,
    pub(crate) arena: Pool,
    pub(crate) batch: Batch,
    /// The batch is with the application.
    pub(crate) away: bool,
}

pub(crate) struct Cores {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cores: Vec<Core>,
    pub(crate) parcel: Parcel,
    pub(crate) now: Nanos,
    /// Where frames go, by group.
    pub(crate) reta: [usize; 128],
    /// What was sent, with the core that sent it.
    pub(crate) sent: Vec<(usize, Sent)>,
    /// Messages that the application got, in order.
    pub(crate) told: Vec<u64>,
    pub(crate) handles: Vec<(u16, Handle)>,
}

pub(crate) fn group(n: u16) -> FlowGroupId {
    FlowGroupId(n)
}

pub(crate) fn set(groups: &[u16]) -> GroupSet {
    groups.iter().copied().map(FlowGroupId).collect()
}

impl Cores {
    pub(crate) fn new(n: usize) -> Cores {
        let config = StackConfig {
            tcp_ports: vec![ECHO, CLOSES, DEAF, SOURCE],
            max_conns: 512,
            ..StackConfig::new(MAC, OURS, 16)
        };
        let by_port = |t: &wire::Tuple| FlowGroupId(t.remote_port.wrapping_sub(PORT) % 128);
        let shared = Arc::new(Shared::new(config, n, [3; 48], by_port, |_| {}).unwrap());
        let core = |i| Core {
            stack: Stack::new(CoreId(i), shared.clone(), Cable::new(1500, MAC.0)).unwrap(),
            arena: Pool::new(Room::Exchange, 512, 2048).unwrap(),
            batch: Batch::new(64),
            away: false,
        };
        let mut w = Cores {
            cores: (0..n as u16).map(core).collect(),
            shared: shared.clone(),
            parcel: Parcel::new(512, 4096),
            now: Nanos::from_secs(1),
            reta: std::array::from_fn(|g| g % n),
            sent: Vec::new(),
            told: Vec::new(),
            handles: Vec::new(),
        };
        let mut question = [0; ethernet::MIN_FRAME];
        arp::Packet::request(PEER_MAC, peer(0), OURS).emit_frame(&mut question);
        w.cores[0].stack.nic().to_stack.push_back(question.to_vec());
        w.turn(0);
        w.turn(0);
        w
    }

    pub(crate) fn give(&mut self, core: usize, say: &Say) {
        self.cores[core].stack.nic().to_stack.push_back(say.frame());
    }

    /// A frame to where the table says.
    pub(crate) fn steer(&mut self, say: &Say) {
        let core = self.reta[usize::from(say.src_port.wrapping_sub(PORT)) % 128];
        self.give(core, say);
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        self.now += Nanos::from_micros(10);
    }

    /// The first half of a turn: frames, and a batch for the application, unless it has one.
    pub(crate) fn begin(&mut self, core: usize) {
        self.tick();
        let Core { stack, batch, away, .. } = &mut self.cores[core];
        stack.ingest(self.now, 64);
        if !*away {
            stack.dispatch(64, batch);
            *away = true;
        }
    }

    /// The second half: the application answers, and everything goes out.
    pub(crate) fn end(&mut self, core: usize) {
        self.tick();
        let now = self.now;
        if std::mem::take(&mut self.cores[core].away) {
            self.application(core);
            let Core { stack, batch, .. } = &mut self.cores[core];
            stack.complete(now, batch);
            if batch.has_left() {
                stack.send_after(batch);
            }
            batch.clear();
        }
        self.egress(core);
    }

    pub(crate) fn egress(&mut self, core: usize) {
        let now = self.now;
        let Core { stack, arena, .. } = &mut self.cores[core];
        stack.egress(now, arena);
        let frames: Vec<_> = stack.nic().from_stack.drain(..).collect();
        for frame in frames {
            let read = self.read(core, &frame);
            self.sent.extend(read.map(|sent| (core, sent)));
        }
    }

    pub(crate) fn turn(&mut self, core: usize) {
        self.begin(core);
        self.end(core);
    }

    /// All cores turn a few times.
    pub(crate) fn rest(&mut self) -> Vec<(usize, Sent)> {
        for _ in 0..8 {
            (0..self.cores.len()).for_each(|core| self.turn(core));
        }
        std::mem::take(&mut self.sent)
    }

    /// Long enough for groups to settle.
    pub(crate) fn settle(&mut self) -> Vec<(usize, Sent)> {
        self.rest();
        self.now += GRACE;
        self.rest()
    }

    pub(crate) fn hand_over(&mut self, groups: GroupSet, from: usize, to: usize) -> Result<(), netstack::Busy> {
        self.cores[from].stack.hand_over(self.now, groups, CoreId(to as u16), &mut self.parcel)
    }

    pub(crate) fn take_over(&mut self, to: usize) {
        self.cores[to].stack.take_over(self.now, &mut self.parcel);
    }

    /// A whole move; frames go to the new core from here on.
    pub(crate) fn go(&mut self, groups: GroupSet, from: usize, to: usize) {
        self.hand_over(groups, from, to).unwrap();
        groups.iter().for_each(|g| self.reta[g.index()] = to);
        self.take_over(to);
    }

    /// The application's answer: it echoes, or does what the port says; on what it is told, see [`Cores::told`].
    pub(crate) fn application(&mut self, core: usize) {
        let Core { batch, arena, .. } = &mut self.cores[core];
        for i in 0..batch.entries().len() {
            let e = batch.entry(i);
            let (handle, pending, peer) = (e.handle, e.pending, e.peer());
            if pending.contains(Pending::DEAD) {
                continue;
            }
            self.told.extend(batch.messages(handle));
            if pending.contains(Pending::KNOCK) {
                batch.call(Syscall::Accept { handle, cookie: Cookie(peer.remote.port().into()) }).unwrap();
                self.handles.push((peer.remote.port(), handle));
            }
            let (got, window) = (e_bytes(batch, i), batch.entry(i).window);
            match peer.local.port() {
                ECHO if got > 0 => {
                    let mut bytes = vec![0; got.min(window) as usize];
                    batch.entry(i).rx.copy_to(0, &mut bytes);
                    send(batch, arena, i, &bytes);
                    batch.call(Syscall::RecvDone { handle, bytes: bytes.len() as u32 }).unwrap();
                }
                SOURCE if pending.contains(Pending::KNOCK) => send(batch, arena, i, &[b's'; 1000]),
                _ => {}
            }
            let ended = pending.contains(Pending::FIN);
            if ended || peer.local.port() == CLOSES && pending.contains(Pending::KNOCK) {
                batch.call(Syscall::Close { handle }).unwrap();
            }
        }
    }

    fn read(&mut self, core: usize, frame: &[u8]) -> Option<Sent> {
        let (eth, rest) = ethernet::parse(frame).ok()?;
        if eth.ethertype == ethernet::ARP {
            let question = arp::parse(rest).ok()?;
            if question.operation == arp::Operation::Request {
                let mut answer = [0; ethernet::MIN_FRAME];
                question.reply(PEER_MAC).emit_frame(&mut answer);
                self.cores[core].stack.nic().to_stack.push_back(answer.to_vec());
            }
            return None;
        }
        let (ip, segment) = ipv4::parse(rest).ok()?;
        assert!(tcp::checksum_ok(ip.src, ip.dst, std::iter::once(segment)), "a bad checksum was sent");
        let header = Header::parse(segment).ok()?;
        let payload = segment[usize::from(header.header_len)..].to_vec();
        Some(Sent { to: ip.dst, header, payload, frame: frame.len() })
    }

    /// A connection of flow group `n` to port `to`.
    pub(crate) fn open(&mut self, n: u16, to: u16) -> Client {
        let mut client = self.syn(n, to);
        let ack = client.ack(65535);
        self.steer(&ack);
        let sent = self.rest();
        client.rcv += heard(&client, &sent).map(|(_, s)| s.payload.len() as u32).sum::<u32>();
        client
    }

    /// The first half of a handshake.
    pub(crate) fn syn(&mut self, n: u16, to: u16) -> Client {
        let isn = wire::Seq(77);
        let mut client = Client { ip: peer(0), port: PORT + n, to, snd: isn + 1, rcv: wire::Seq(0) };
        let syn = Say { ack: wire::Seq(0), ..client.say(Flags::SYN) }.at(isn, wire::Seq(0));
        self.steer(&syn);
        let sent = self.rest();
        let answer = heard(&client, &sent).find(|(_, s)| s.has(Flags::SYN | Flags::ACK)).expect("the SYN is answered");
        client.rcv = answer.1.header.seq + 1;
        client
    }

    /// Says `text` and acknowledges what comes back: which core sent it, and what.
    pub(crate) fn echoes(&mut self, client: &mut Client, text: &[u8]) -> (usize, Vec<u8>) {
        let say = client.say(Flags::ACK | Flags::PSH).with(text);
        client.snd += text.len() as u32;
        self.steer(&say);
        let sent = self.rest();
        let answer: Vec<_> = heard(client, &sent).filter(|(_, s)| !s.payload.is_empty()).collect();
        let bytes: Vec<u8> = answer.iter().flat_map(|(_, s)| s.payload.clone()).collect();
        client.rcv += bytes.len() as u32;
        let ack = client.ack(65535);
        self.steer(&ack);
        self.rest();
        (answer.first().map_or(usize::MAX, |(core, _)| *core), bytes)
    }

    pub(crate) fn connections(&self) -> Vec<usize> {
        self.cores.iter().map(|c| c.stack.connections()).collect()
    }

    pub(crate) fn handle(&self, n: u16) -> Handle {
        self.handles.iter().rev().find(|(port, _)| *port == PORT + n).expect("it was accepted").1
    }
}

fn e_bytes(batch: &Batch, i: usize) -> u32 {
    batch.entry(i).rx.bytes()
}

fn send(batch: &mut Batch, arena: &mut Pool, i: usize, bytes: &[u8]) {
    let (handle, window) = (batch.entry(i).handle, batch.entry(i).window);
    let mut queue = MbufQueue::new();
    for piece in bytes.chunks(2048) {
        let mut mbuf = arena.alloc().expect("there are transmit buffers");
        mbuf.reset(0);
        mbuf.extend(piece);
        queue.push_back(mbuf);
    }
    let (sg, n) = batch.gather(&mut queue, window);
    batch.call(Syscall::Sendv { handle, sg, waiting: 0 }).unwrap();
    batch.used_window(i, n);
}

/// What came to one end.
pub(crate) fn heard<'a>(
    client: &Client,
    sent: &'a [(usize, Sent)],
) -> impl Iterator<Item = &'a (usize, Sent)> + use<'a> {
    let me = client.clone();
    sent.iter().filter(move |(_, s)| me.is(s))
}
