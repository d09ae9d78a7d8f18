//! What the generator costs per request and reply, without a server: a queue against a loop that answers every spin request at once.
//!
//! ```text
//! cargo run --release -p openloop --example cost -- [connections]
//! ```

use std::io::IoSlice;

use mem::{Pool, Room};
use nic::{Nic, Queue, RxFrame, RxPools, TxFrame};
use openloop::draw::ServiceTimes;
use openloop::requests::{Spin, Workload};
use openloop::{Config, Drive, OpenLoop};
use sys::clock;
use units::Nanos;
use wire::tcp::{Flags, Header, Options};
use wire::{Seq, arp, ethernet, ipv4};

const BURST: usize = 64;
const TCP_AT: usize = ethernet::HEADER + ipv4::HEADER;

/// A reply, to be transmitted when all of its burst have been made.
#[derive(Clone, Copy)]
struct Answer {
    head: [u8; TCP_AT + 24],
    head_len: usize,
    body: [u8; 16],
    body_len: usize,
}

/// The server's part: what it would answer to a frame. `firsts` has the number of each client port's SYN.
fn answer(frame: &[u8], server: wire::Mac, firsts: &mut [Seq]) -> Option<Answer> {
    let mut a = Answer { head: [0; TCP_AT + 24], head_len: 0, body: [0; 16], body_len: 0 };
    let (eth, packet) = ethernet::parse(frame).ok()?;
    if eth.ethertype == ethernet::ARP {
        arp::parse(packet).ok()?;
        return None;
    }
    let (ip, segment) = ipv4::parse(packet).ok()?;
    let tcp = Header::parse(segment).ok()?;
    let payload = &segment[usize::from(tcp.header_len)..];
    let syn = tcp.flags.contains(Flags::SYN);
    if !syn && payload.is_empty() {
        return None;
    }
    let first = &mut firsts[usize::from(tcp.src_port)];
    if syn {
        *first = tcp.seq;
    }
    // Requests and replies both have 16 bytes, so both directions have the same numbers.
    let reply = Header {
        src_port: tcp.dst_port,
        dst_port: tcp.src_port,
        seq: Seq(tcp.seq.since(*first)),
        ack: tcp.seq + payload.len() as u32 + u32::from(syn),
        flags: if syn { Flags::SYN | Flags::ACK } else { Flags::ACK },
        window: u16::MAX,
        urgent: 0,
        options: if syn { Options { mss: Some(1460), ..Options::NONE } } else { Options::NONE },
        header_len: 0,
    };
    if let Some(request) = payload.first_chunk::<16>().and_then(|p| spin::wire::Request::decode(p).ok()) {
        a.body = spin::wire::Reply { id: request.id, spent: request.time }.encode();
        a.body_len = 16;
    }
    ethernet::Header { dst: eth.src, src: server, ethertype: ethernet::IPV4 }.emit(&mut a.head);
    let len = reply.wire_len() + a.body_len;
    ipv4::Header::new(ip.dst, ip.src, ipv4::TCP, len as u16).emit(&mut a.head[ethernet::HEADER..]);
    a.head_len = TCP_AT + reply.emit(&mut a.head[TCP_AT..]);
    Some(a)
}

fn main() {
    let connections = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1024);
    let time: ServiceTimes = "exp:10us".parse().expect("a service time");
    let config = Config { connections, ..Config::new(1, Workload::Spin(Spin::new(time))) };
    let (mut nic, director) = OpenLoop::new(&config).unwrap_or_else(|e| panic!("{e}"));
    let mut queue = nic.queues().remove(0);
    let bench = std::thread::spawn(move || {
        // Far more than can be made: each burst is full.
        director.run(&Drive { keep: false, ..Drive::new(20e6, Nanos::from_secs(2)) }).map(|o| (o.sent, o.errors))
    });
    let mut pools = RxPools {
        mbufs: Pool::new(Room::Received, 256, 2048).expect("memory"),
        spills: Pool::new(Room::Received, 1, 2048).expect("memory"),
    };
    let mut frames: Vec<RxFrame> = Vec::with_capacity(BURST);
    let mut answers: Vec<Answer> = Vec::with_capacity(BURST);
    let mut firsts = vec![Seq(0); 1 << 16];
    let (mut requests, mut made, mut taken) = (0, Nanos::ZERO, Nanos::ZERO);
    while !bench.is_finished() {
        let before = clock::now();
        let n = queue.rx_burst(&mut pools, BURST, &mut frames);
        let between = clock::now();
        answers.extend(frames.iter().filter_map(|f| answer(&f.head, config.server.mac, &mut firsts)));
        let full = n == BURST && answers.iter().all(|a| a.body_len > 0);
        frames.drain(..).for_each(|f| pools.mbufs.free(f.head));
        let begin = clock::now();
        for a in &answers {
            let payload = [IoSlice::new(&a.body[..a.body_len])];
            let frame = TxFrame { head: &a.head[..a.head_len], payload: &payload, csum: None, gso: None };
            let _ = queue.tx(&frame);
        }
        let end = clock::now();
        if full && answers.len() == BURST {
            requests += BURST;
            made += between - before;
            taken += end - begin;
        }
        answers.clear();
    }
    let per = |span: Nanos| span.0 as f64 / requests.max(1) as f64;
    println!("{requests} requests over {connections} connections, in bursts of {BURST}");
    println!("  made (mbuf and copy included)  {:6.1} ns per request", per(made));
    println!("  taken back                     {:6.1} ns per reply", per(taken));
    println!("  together                       {:6.1} ns", per(made + taken));
    println!("  mbuf alone, from pool and back {:6.1} ns", mbufs(&mut pools));
    match bench.join().expect("the bench's thread") {
        // Unanswered are those that there was no time for.
        Ok((sent, errors)) => {
            println!("  {sent} sent, {} wrong replies, {} connections broken", errors.wrong, errors.broken)
        }
        Err(e) => println!("  {e}"),
    }
}

/// What the buffers cost that a server's NIC would have to fill anyway.
fn mbufs(pools: &mut RxPools) -> f64 {
    const ROUNDS: usize = 20_000;
    let mut held = Vec::with_capacity(BURST);
    let begin = clock::now();
    for _ in 0..ROUNDS {
        for _ in 0..BURST {
            if let Some(mut m) = pools.mbufs.alloc() {
                m.grow(70);
                held.push(m);
            }
        }
        held.drain(..).for_each(|m| pools.mbufs.free(m));
    }
    (clock::now() - begin).0 as f64 / (ROUNDS * BURST) as f64
}
