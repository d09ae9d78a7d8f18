//! Handshakes in numbers, given to one stack as frames: floods, cookies, churn. The peer keeps nothing but what it was told last.

use std::sync::Arc;

use abi::{Cookie, Handle, Syscall};
use mem::{Pool, Room};
use netstack::{Batch, DropReason, Pending, Shared, Stack, StackConfig};
use nic::Cable;
use units::{CoreId, FlowGroupId, Nanos};
use wire::tcp::{Flags, Header, Options};
use wire::{Ipv4Addr, Mac, Seq, Tuple, arp, ethernet, ipv4, tcp};

const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const MAC: Mac = Mac::local(1);
const PEER_MAC: Mac = Mac::local(2);
const PORT: u16 = 7;

struct World {
    stack: Stack<Cable>,
    arena: Pool,
    batch: Batch,
    /// Whether the application accepts, and the connection that knocked last.
    accepts: bool,
    knocked: Option<Handle>,
    now: Nanos,
}

impl World {
    fn new(max_conns: usize, backlog: usize) -> World {
        let config = StackConfig { max_conns, backlog, tcp_ports: vec![PORT], ..StackConfig::new(MAC, OURS, 16) };
        // Everything in one group of flows: the worst that a peer can do.
        let shared = Arc::new(Shared::new(config, 1, [3; 48], |_| FlowGroupId(5), |_| {}).unwrap());
        let mut w = World {
            stack: Stack::new(CoreId(0), shared, Cable::new(1500, MAC.0)).unwrap(),
            arena: Pool::new(Room::Exchange, 64, 2048).unwrap(),
            batch: Batch::new(64),
            accepts: false,
            knocked: None,
            now: Nanos::from_secs(1),
        };
        // The stack learns the peer's address as it would on a network: it is asked, and asks back.
        let mut question = [0; ethernet::MIN_FRAME];
        arp::Packet::request(PEER_MAC, peer(0), OURS).emit_frame(&mut question);
        w.give(question.to_vec());
        w.turn();
        w
    }

    fn give(&mut self, frame: Vec<u8>) {
        self.stack.nic().to_stack.push_back(frame);
    }

    /// One turn; the application accepts at most, and leaves the rest. ARP is answered, TCP segments are returned.
    fn turn(&mut self) -> Vec<(Tuple, Header)> {
        self.now += Nanos::from_micros(100);
        self.stack.ingest(self.now, 64);
        self.stack.dispatch(64, &mut self.batch);
        let knock =
            self.batch.entries().iter().find(|e| self.accepts && e.pending.contains(Pending::KNOCK)).map(|e| e.handle);
        if let Some(handle) = knock {
            self.batch.call(Syscall::Accept { handle, cookie: Cookie(1) }).unwrap();
            self.knocked = knock;
        }
        self.stack.complete(self.now, &mut self.batch);
        self.batch.clear();
        self.stack.egress(self.now, &mut self.arena);
        let sent: Vec<_> = self.stack.nic().from_stack.drain(..).collect();
        sent.iter().filter_map(|frame| self.read(frame)).collect()
    }

    fn read(&mut self, frame: &[u8]) -> Option<(Tuple, Header)> {
        let (eth, rest) = ethernet::parse(frame).ok()?;
        if eth.ethertype == ethernet::ARP {
            let question = arp::parse(rest).ok()?;
            if question.operation == arp::Operation::Request {
                let mut answer = [0; ethernet::MIN_FRAME];
                question.reply(PEER_MAC).emit_frame(&mut answer);
                self.give(answer.to_vec());
            }
            return None;
        }
        let (ip, segment) = ipv4::parse(rest).ok()?;
        assert!(tcp::checksum_ok(ip.src, ip.dst, std::iter::once(segment)), "a bad checksum was sent");
        let h = Header::parse(segment).ok()?;
        Some((
            Tuple { local: ip.dst.into(), remote: ip.src.into(), local_port: h.dst_port, remote_port: h.src_port },
            h,
        ))
    }

    fn segment(&mut self, from: Ipv4Addr, port: u16, seq: Seq, ack: Seq, flags: Flags) {
        let options = Options { mss: flags.contains(Flags::SYN).then_some(1460), ..Options::NONE };
        let header = Header {
            src_port: port,
            dst_port: PORT,
            seq,
            ack,
            flags,
            window: 65535,
            urgent: 0,
            options,
            header_len: 0,
        };
        let mut frame = vec![0; 128];
        ethernet::Header { dst: MAC, src: PEER_MAC, ethertype: ethernet::IPV4 }.emit(&mut frame);
        let at = ethernet::HEADER + ipv4::HEADER;
        let len = header.emit(&mut frame[at..]);
        ipv4::Header::new(from, OURS, ipv4::TCP, len as u16).emit(&mut frame[ethernet::HEADER..]);
        let sum = wire::checksum::Sum::pseudo_v4(from, OURS, ipv4::TCP, len as u32).with(&frame[at..at + len]).finish();
        frame[at + tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
        frame.truncate(at + len);
        self.give(frame);
    }

    /// A whole handshake, then a reset by the peer: true if the connection was open in between.
    fn open_and_reset(&mut self, from: Ipv4Addr, port: u16) -> bool {
        self.segment(from, port, Seq(100), Seq(0), Flags::SYN);
        let Some((_, syn_ack)) = self.turn().into_iter().find(|(t, _)| t.local_port == port && t.local == from.into())
        else {
            return false;
        };
        self.segment(from, port, Seq(101), syn_ack.seq + 1, Flags::ACK);
        self.turn();
        let open = self.stack.connections() > 0;
        self.segment(from, port, Seq(101), syn_ack.seq + 1, Flags::RST | Flags::ACK);
        self.turn();
        open
    }
}

fn peer(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 1, 1).to_bits() + n)
}

/// Far more handshakes, one after the other, than there are timers, slots or half-open entries at once.
#[test]
fn churn_uses_nothing_up() {
    let mut w = World::new(64, 1024);
    for n in 0..20_000u32 {
        assert!(w.open_and_reset(peer(0), 1024 + (n % 50_000) as u16), "handshake {n} failed");
    }
    assert_eq!((w.stack.connections(), w.stack.rx_available()), (0, 8192));
    // The last one still has its timers: an unanswered SYN-ACK is sent again.
    w.segment(peer(0), 999, Seq(100), Seq(0), Flags::SYN);
    assert_eq!(w.turn().len(), 1);
    let again = (0..40_000).map(|_| w.turn().len()).sum::<usize>();
    assert!(again >= 1, "the SYN-ACK was not sent again in four seconds");
}

#[test]
fn a_flood_of_syns_costs_no_connection_and_keeps_nobody_out() {
    let mut w = World::new(256, 1024);
    for n in 0..5_000u32 {
        w.segment(peer(0), 1024 + n as u16, Seq(n), Seq(0), Flags::SYN);
        if n % 64 == 63 {
            w.turn();
        }
    }
    w.turn();
    let metrics = w.stack.metrics();
    assert!(metrics.syn_cookies_out.get() > 4_000, "{} cookies", metrics.syn_cookies_out.get());
    assert_eq!(w.stack.connections(), 0);
    // The backlog is full of entries that nobody will ever answer: a real client gets in by a cookie.
    assert!(w.open_and_reset(peer(0), 60_000));
    assert_eq!(w.stack.metrics().syn_cookies_in.get(), 1);
}

#[test]
fn an_invented_cookie_opens_nothing() {
    let mut w = World::new(256, 1024);
    for n in 0..2_000u32 {
        w.segment(peer(0), 1024 + n as u16, Seq(n), Seq(0), Flags::SYN);
        if n % 64 == 63 {
            w.turn();
        }
    }
    for n in 0..5_000u32 {
        w.segment(peer(0), 50_000, Seq(1), Seq(n.wrapping_mul(0x9e37_79b9)), Flags::ACK);
        if n % 64 == 63 {
            w.turn();
        }
    }
    w.turn();
    assert_eq!((w.stack.connections(), w.stack.metrics().syn_cookies_in.get()), (0, 0));
}

/// The server closes first, again and again: connections in TIME-WAIT make room for new ones.
#[test]
fn time_wait_keeps_nobody_out() {
    let mut w = World::new(100, 1024);
    w.accepts = true;
    for port in 2_000..3_000u16 {
        w.segment(peer(0), port, Seq(100), Seq(0), Flags::SYN);
        let syn_ack = w.turn().into_iter().next().expect("an answer to the SYN").1;
        let server = syn_ack.seq + 1;
        w.segment(peer(0), port, Seq(101), server, Flags::ACK);
        let answers = w.turn();
        assert!(answers.iter().all(|(_, h)| !h.flags.contains(Flags::RST)), "the connection from {port} was refused");
        let handle = w.knocked.take().expect("a knock");
        w.batch.call(Syscall::Close { handle }).unwrap();
        assert!(w.turn().iter().any(|(_, h)| h.flags.contains(Flags::FIN)), "the server closes");
        w.segment(peer(0), port, Seq(101), server + 1, Flags::ACK | Flags::FIN);
        w.turn();
    }
    assert!(w.stack.connections() >= 60, "the last ones, as many as the group holds, are in TIME-WAIT");
}

#[test]
fn beyond_the_limit_clients_are_refused_and_those_within_live_on() {
    let mut w = World::new(100, 1024);
    let mut refused = 0;
    for port in 2_000..2_300u16 {
        w.segment(peer(0), port, Seq(100), Seq(0), Flags::SYN);
        let syn_ack = w.turn().into_iter().next().expect("an answer to the SYN").1;
        w.segment(peer(0), port, Seq(101), syn_ack.seq + 1, Flags::ACK);
        refused += w.turn().iter().filter(|(_, h)| h.flags.contains(Flags::RST)).count();
    }
    // The limit of a flow group; here all flows fall into one.
    let open = w.stack.connections();
    assert_eq!((open + refused, open <= 100), (300, true), "{open} open, {refused} refused");
    assert_eq!(w.stack.metrics().drops(DropReason::NoConn), refused as u64);
}
