//! Memory per idle connection: a server that is told of many connections by a peer that keeps nothing of them.

use std::io::IoSlice;
use std::sync::Arc;

use dataplane::ElasticThread;
use echo::{Echo, Mode};
use mem::{Pool, Room};
use netstack::Shared;
use nic::{Nic, Queue, RxPools, TxFrame};
use serde::Serialize;
use shm::ShmQueue;
use units::{CoreId, Nanos};
use wire::tcp::{Flags, Options};
use wire::{Ipv4Addr, Mac, Seq, arp, ethernet, ipv4, tcp};
use zygix::Runtime;

use crate::rig::{CLIENT, PORT, SERVER, configs, wire};

/// Connections opened before the first reading, so that what is there once for all is not counted.
const BASE: usize = 1_000;
/// Connections per source address.
const PER_ADDRESS: usize = 50_000;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct IdleResult {
    /// Established connections at the end.
    pub connections: usize,
    /// Resident bytes that each connection beyond the first thousand added, everything included.
    pub bytes_per_connection: f64,
    /// Of these, the network layer's own structure.
    pub conn_struct_bytes: usize,
}

/// A peer without memory: it answers each SYN-ACK from what the segment says.
struct Opener {
    queue: ShmQueue,
    pools: RxPools,
    frames: Vec<nic::RxFrame>,
    established: usize,
}

impl Opener {
    fn send(&mut self, from: Ipv4Addr, port: u16, seq: Seq, ack: Seq, flags: Flags) -> bool {
        let mut frame = [0u8; 128];
        let options = Options { mss: flags.contains(Flags::SYN).then_some(1460), ..Options::NONE };
        let header = tcp::Header {
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
        ethernet::Header { dst: Mac::local(1), src: Mac::local(2), ethertype: ethernet::IPV4 }.emit(&mut frame);
        let at = ethernet::HEADER + ipv4::HEADER;
        let len = header.emit(&mut frame[at..]);
        ipv4::Header::new(from, SERVER, ipv4::TCP, len as u16).emit(&mut frame[ethernet::HEADER..]);
        let sum =
            wire::checksum::Sum::pseudo_v4(from, SERVER, ipv4::TCP, len as u32).with(&frame[at..at + len]).finish();
        frame[at + tcp::CHECKSUM_OFFSET..at + tcp::CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
        self.frame(&frame[..at + len])
    }

    fn frame(&mut self, bytes: &[u8]) -> bool {
        self.queue.tx(&TxFrame { head: bytes, payload: &[] as &[IoSlice<'_>], csum: None, gso: None }).is_ok()
    }

    /// Answers what the server sent.
    fn turn(&mut self) {
        let mut frames = std::mem::take(&mut self.frames);
        self.queue.rx_burst(&mut self.pools, frames.capacity(), &mut frames);
        for frame in frames.drain(..) {
            self.answer(&frame.head);
        }
        self.frames = frames;
        self.queue.flush();
    }

    fn answer(&mut self, frame: &[u8]) -> Option<()> {
        let (eth, payload) = ethernet::parse(frame).ok()?;
        if eth.ethertype == ethernet::ARP {
            let question = arp::parse(payload).ok()?;
            let mut reply = [0u8; ethernet::MIN_FRAME];
            question.reply(Mac::local(2)).emit_frame(&mut reply);
            self.frame(&reply);
            return Some(());
        }
        let (ip, segment) = ipv4::parse(payload).ok()?;
        let header = tcp::Header::parse(segment).ok()?;
        if header.flags.contains(Flags::SYN | Flags::ACK) {
            self.send(ip.dst, header.dst_port, header.ack, header.seq + 1, Flags::ACK);
            self.established += 1;
        }
        Some(())
    }
}

/// Opens `count` connections and leaves them idle.
///
/// # Errors
/// Memory or descriptors cannot be had, or the connections cannot be opened.
pub fn idle(count: usize) -> Result<IdleResult, Box<dyn std::error::Error>> {
    let (config, _) = configs(64, count + BASE);
    let (mut server_nic, mut client_nic) = wire()?;
    let server_queue = server_nic.queues().pop().ok_or("the wire has no queue")?;
    let shared = Arc::new(Shared::new(config, 1, [7; 48], move |t| server_nic.flow_group(t), |_| {})?);
    let mut app = Runtime::new(Arc::new(Echo::new(Mode::Echo)), shared.clone()).app(CoreId(0));
    let mut server = ElasticThread::new(CoreId(0), shared.clone(), server_queue)?;
    let mut peer = Opener {
        queue: client_nic.queues().pop().ok_or("the wire has no queue")?,
        pools: RxPools { mbufs: Pool::new(Room::Received, 1024, 2048)?, spills: Pool::new(Room::Received, 1, 2048)? },
        frames: Vec::with_capacity(256),
        established: 0,
    };
    let mut now = Nanos::from_secs(1);
    let (mut next, mut base, mut rounds) = (0, 0, 0);
    let live = |s: &ElasticThread<ShmQueue>| s.stack().map_or(0, |s| s.connections());
    while live(&server) < count {
        // As many as the backlog of half-open entries takes at a time.
        if next < count && next < peer.established + 256 {
            let from = Ipv4Addr::from_bits(CLIENT.to_bits() + (next / PER_ADDRESS) as u32 * 2);
            let sent = peer.send(from, 1024 + (next % PER_ADDRESS) as u16, Seq(next as u32), Seq(0), Flags::SYN);
            next += usize::from(sent);
        }
        if rounds % 32 == 0 {
            now += Nanos::from_micros(50);
            peer.queue.flush();
            server.turn(now, || now, &mut app);
            peer.turn();
        }
        rounds += 1;
        if base == 0 && live(&server) >= BASE {
            base = resident()?;
        }
        if rounds > 200 * count + 100_000 {
            return Err(format!("only {} of {count} connections were opened", live(&server)).into());
        }
    }
    for _ in 0..1000 {
        now += Nanos::from_millis(1);
        server.turn(now, || now, &mut app);
        peer.turn();
    }
    let connections = live(&server);
    let added = resident()?.saturating_sub(base) as f64;
    Ok(IdleResult {
        connections,
        bytes_per_connection: added / (connections - BASE) as f64,
        conn_struct_bytes: netstack::CONN_BYTES,
    })
}

/// Resident bytes of this process.
pub(crate) fn resident() -> std::io::Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    Ok(pages.ok_or_else(|| std::io::Error::other("/proc/self/statm has another format"))? * 4096)
}
