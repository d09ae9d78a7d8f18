//! One stack that serves, in time that the test moves, and what a test says to it and hears of it as TCP segments over IPv4.
#![allow(dead_code, reason = "each file of tests uses its part")]

use std::collections::HashMap;
use std::sync::Arc;

use abi::{Cookie, Dead, Handle, Syscall};
use mem::{MbufQueue, Pool, Room};
use netstack::{Batch, Pending, Shared, Stack, StackConfig};
use nic::Cable;
use units::{CoreId, FlowGroupId, Nanos};
use wire::checksum::Sum;
use wire::tcp::{Flags, Header, Options, SackBlocks};
use wire::{Ipv4Addr, Mac, Seq, arp, ethernet, ipv4, tcp};

pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(crate) const MAC: Mac = Mac::local(1);
pub(crate) const PEER_MAC: Mac = Mac::local(2);

/// What the application does with a connection, by the port that it came to: it sends back what it gets,
pub(crate) const ECHO: u16 = 7;
/// closes at once,
pub(crate) const CLOSES: u16 = 13;
/// sends without end, and reads nothing,
pub(crate) const SOURCE: u16 = 19;
/// sends what it may at once, and closes,
pub(crate) const FAREWELL: u16 = 20;
/// sends back what makes [`WHOLE`] bytes, and does not touch less,
pub(crate) const WHOLES: u16 = 22;
pub(crate) const WHOLE: usize = 3000;
/// or neither reads nor sends.
pub(crate) const DEAF: u16 = 21;

/// The `n`-th peer: all of them are where [`PEER_MAC`] is.
pub(crate) fn peer(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 1, 1).to_bits() + n)
}

/// A segment that the stack sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) to: Ipv4Addr,
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    /// The frame's length.
    pub(crate) frame: usize,
}

impl Sent {
    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.header.flags.contains(flags)
    }
}

/// A segment for the stack: fields that matter are set, the others are ordinary.
#[derive(Clone)]
pub(crate) struct Say {
    pub(crate) from: Ipv4Addr,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: Flags,
    pub(crate) window: u16,
    pub(crate) options: Options,
    pub(crate) payload: Vec<u8>,
}

impl Say {
    pub(crate) fn new(from: Ipv4Addr, src_port: u16, dst_port: u16, flags: Flags) -> Say {
        Say {
            from,
            src_port,
            dst_port,
            seq: Seq(0),
            ack: Seq(0),
            flags,
            window: 65535,
            options: Options::NONE,
            payload: Vec::new(),
        }
    }

    pub(crate) fn at(self, seq: Seq, ack: Seq) -> Say {
        Say { seq, ack, ..self }
    }

    pub(crate) fn with(self, payload: &[u8]) -> Say {
        Say { payload: payload.to_vec(), ..self }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let Say { from, src_port, dst_port, seq, ack, flags, window, options, ref payload } = *self;
        let header = Header { src_port, dst_port, seq, ack, flags, window, urgent: 0, options, header_len: 0 };
        let mut segment = vec![0; header.wire_len()];
        header.emit(&mut segment);
        segment.extend(payload);
        let sum = Sum::pseudo_v4(from, OURS, ipv4::TCP, segment.len() as u32).with(&segment).finish();
        segment[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![0; ethernet::HEADER + ipv4::HEADER];
        ethernet::Header { dst: MAC, src: PEER_MAC, ethertype: ethernet::IPV4 }.emit(&mut frame);
        ipv4::Header::new(from, OURS, ipv4::TCP, segment.len() as u16).emit(&mut frame[ethernet::HEADER..]);
        frame.extend(segment);
        frame
    }
}

/// A peer's end of a connection: the numbers that an honest one would say next.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) to: u16,
    pub(crate) snd: Seq,
    pub(crate) rcv: Seq,
}

impl Client {
    pub(crate) fn say(&self, flags: Flags) -> Say {
        Say::new(self.ip, self.port, self.to, flags).at(self.snd, self.rcv)
    }

    pub(crate) fn ack(&self, window: u16) -> Say {
        Say { window, ..self.say(Flags::ACK) }
    }

    pub(crate) fn sack(&self, blocks: &[(Seq, Seq)]) -> Say {
        let sacks: SackBlocks = blocks.iter().copied().collect();
        Say { options: Options { sacks, ..Options::NONE }, ..self.say(Flags::ACK) }
    }

    pub(crate) fn is(&self, sent: &Sent) -> bool {
        (sent.to, sent.header.dst_port, sent.header.src_port) == (self.ip, self.port, self.to)
    }

    /// Of what was sent, what came to this end.
    pub(crate) fn heard<'a>(&self, sent: &'a [Sent]) -> impl Iterator<Item = &'a Sent> + use<'a> {
        let me = self.clone();
        sent.iter().filter(move |s| me.is(s))
    }
}

pub(crate) struct World {
    pub(crate) stack: Stack<Cable>,
    pub(crate) arena: Pool,
    batch: Batch,
    pub(crate) now: Nanos,
    /// Whether questions for hardware addresses are answered.
    pub(crate) resolves: bool,
    /// Peers' ports whose connections have ended, and how.
    pub(crate) ends: Vec<(u16, Dead)>,
    /// The connections that the application has, by peer's port.
    pub(crate) has: HashMap<u16, Handle>,
}

impl World {
    /// A stack with the test's limits; everything falls into one flow group, which is the worst that a peer can do.
    pub(crate) fn new(limit: impl FnOnce(StackConfig) -> StackConfig) -> World {
        let tcp_ports = vec![ECHO, CLOSES, SOURCE, FAREWELL, DEAF, WHOLES];
        let config = limit(StackConfig { tcp_ports, max_conns: 4096, ..StackConfig::new(MAC, OURS, 16) });
        let shared = Arc::new(Shared::new(config, 1, [3; 48], |_| FlowGroupId(5), |_| {}).unwrap());
        let mut w = World {
            stack: Stack::new(CoreId(0), shared, Cable::new(1500, MAC.0)).unwrap(),
            arena: Pool::new(Room::Exchange, 4096, 2048).unwrap(),
            batch: Batch::new(64),
            now: Nanos::from_secs(1),
            resolves: true,
            ends: Vec::new(),
            has: HashMap::new(),
        };
        // The stack learns the peer's address as it would on a network: it is asked, and asks back.
        let mut question = [0; ethernet::MIN_FRAME];
        arp::Packet::request(PEER_MAC, peer(0), OURS).emit_frame(&mut question);
        w.give(question.to_vec());
        w.turn();
        w
    }

    pub(crate) fn give(&mut self, frame: Vec<u8>) {
        self.stack.nic().to_stack.push_back(frame);
    }

    pub(crate) fn hear(&mut self, say: &Say) {
        self.give(say.frame());
    }

    /// Turns of 10 us until nothing waits for the stack: what it sent.
    pub(crate) fn turn(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        for round in 0.. {
            assert!(round < 100_000, "the stack does not come to rest");
            self.now += Nanos::from_micros(10);
            self.stack.ingest(self.now, 64);
            self.stack.dispatch(64, &mut self.batch);
            self.application();
            self.stack.complete(self.now, &mut self.batch);
            self.batch.clear();
            self.stack.egress(self.now, &mut self.arena);
            let sent: Vec<_> = self.stack.nic().from_stack.drain(..).collect();
            let before = all.len();
            all.extend(sent.iter().filter_map(|frame| self.read(frame)));
            let waits = !self.stack.nic().to_stack.is_empty() || self.stack.ready() > 0;
            if !waits && all.len() == before {
                break;
            }
        }
        all
    }

    /// As one turn, `later`.
    pub(crate) fn after(&mut self, later: Nanos) -> Vec<Sent> {
        self.now += later;
        self.turn()
    }

    /// The stack is given a segment and works.
    pub(crate) fn tell(&mut self, say: &Say) -> Vec<Sent> {
        self.hear(say);
        self.turn()
    }

    fn application(&mut self) {
        for i in 0..self.batch.entries().len() {
            let e = self.batch.entry(i);
            let (handle, pending, peer) = (e.handle, e.pending, e.peer());
            let (remote, local) = (peer.remote.port(), peer.local.port());
            if pending.contains(Pending::DEAD) {
                self.ends.extend(e.dead.map(|why| (remote, why)));
                self.has.remove(&remote);
                continue;
            }
            if pending.contains(Pending::KNOCK) {
                let cookie = Cookie(remote.into());
                self.batch.call(Syscall::Accept { handle, cookie }).unwrap();
                self.batch.accepted(i, cookie);
                self.has.insert(remote, handle);
            }
            match local {
                ECHO => self.echo(i),
                WHOLES if self.batch.entry(i).rx.bytes() as usize >= WHOLE => self.echo(i),
                SOURCE => self.send(i, &vec![b's'; 64 << 10], 1 << 20),
                FAREWELL => self.send(i, &vec![b'f'; 64 << 10], 0),
                _ => {}
            }
            let over = local == ECHO && pending.contains(Pending::FIN);
            if over || matches!(local, CLOSES | FAREWELL) && pending.contains(Pending::KNOCK) {
                self.batch.call(Syscall::Close { handle }).unwrap();
                self.has.remove(&remote);
            }
        }
    }

    fn echo(&mut self, i: usize) {
        let e = self.batch.entry(i);
        let (handle, got) = (e.handle, e.rx.bytes());
        let n = got.min(e.window).min(2048 * self.arena.available() as u32);
        if got == 0 {
            return;
        }
        let mut bytes = vec![0; n as usize];
        e.rx.copy_to(0, &mut bytes);
        self.send(i, &bytes, got - n);
        self.batch.call(Syscall::RecvDone { handle, bytes: n }).unwrap();
    }

    /// Sends what the window admits, in buffers of the arena; `waiting` bytes are said to wait.
    fn send(&mut self, i: usize, bytes: &[u8], waiting: u32) {
        let (handle, window) = (self.batch.entry(i).handle, self.batch.entry(i).window);
        let mut queue = MbufQueue::new();
        for piece in bytes[..bytes.len().min(window as usize)].chunks(2048) {
            let Some(mut mbuf) = self.arena.alloc() else { break };
            mbuf.reset(0);
            mbuf.extend(piece);
            queue.push_back(mbuf);
        }
        let (sg, n) = self.batch.gather(&mut queue, window);
        self.batch.call(Syscall::Sendv { handle, sg, waiting }).unwrap();
        self.batch.used_window(i, n);
        self.arena.free_queue(queue);
    }

    fn read(&mut self, frame: &[u8]) -> Option<Sent> {
        let (eth, rest) = ethernet::parse(frame).ok()?;
        if eth.ethertype == ethernet::ARP {
            let question = arp::parse(rest).ok()?;
            if self.resolves && question.operation == arp::Operation::Request {
                let mut answer = [0; ethernet::MIN_FRAME];
                question.reply(PEER_MAC).emit_frame(&mut answer);
                self.give(answer.to_vec());
            }
            return None;
        }
        let (ip, segment) = ipv4::parse(rest).ok()?;
        assert!(tcp::checksum_ok(ip.src, ip.dst, std::iter::once(segment)), "a bad checksum was sent");
        let header = Header::parse(segment).ok()?;
        let payload = segment[usize::from(header.header_len)..].to_vec();
        Some(Sent { to: ip.dst, header, payload, frame: frame.len() })
    }

    /// A handshake: the connection, and what was sent when it was done.
    pub(crate) fn open(&mut self, ip: Ipv4Addr, port: u16, to: u16, options: Options) -> Option<(Client, Vec<Sent>)> {
        self.open_with(Say { options, ..Say::new(ip, port, to, Flags::SYN) })
    }

    /// A handshake that begins with `syn`, and ends with an ACK that has the same window.
    pub(crate) fn open_with(&mut self, syn: Say) -> Option<(Client, Vec<Sent>)> {
        let isn = Seq(1000);
        let mut client = Client { ip: syn.from, port: syn.src_port, to: syn.dst_port, snd: isn + 1, rcv: Seq(0) };
        let window = syn.window;
        let sent = self.tell(&syn.at(isn, Seq(0)));
        client.rcv = client.heard(&sent).find(|s| s.has(Flags::SYN | Flags::ACK))?.header.seq + 1;
        let sent = self.tell(&client.ack(window));
        let refused = client.heard(&sent).any(|s| s.has(Flags::RST));
        (!refused).then_some((client, sent))
    }

    /// Says `text` on an echo connection, and acknowledges the answer, which must be the same at once. What else was sent.
    #[track_caller]
    pub(crate) fn echoes(&mut self, client: &mut Client, text: &[u8]) -> Vec<Sent> {
        let sent = self.tell(&client.say(Flags::ACK | Flags::PSH).with(text));
        client.snd += text.len() as u32;
        let (mine, others): (Vec<_>, Vec<_>) = sent.into_iter().partition(|s| client.is(s));
        let back: Vec<u8> = mine.iter().flat_map(|s| s.payload.clone()).collect();
        assert!(back == text, "{} bytes came back for {}", back.len(), text.len());
        client.rcv += text.len() as u32;
        let quiet = self.tell(&client.ack(65535));
        others.into_iter().chain(quiet.into_iter().filter(|s| !client.is(s))).collect()
    }
}

pub(crate) fn mss(mss: u16) -> Options {
    Options { mss: Some(mss), ..Options::NONE }
}
