//! What the generator costs, measured without a server: a queue against a loop that answers every spin request at once.

use std::io::IoSlice;

use draw::ServiceTimes;
use mem::{Pool, Room};
use nic::{Nic, Queue, RxFrame, RxPools, TxFrame};
use requests::{Spin, Workload};
use sys::clock;
use units::Nanos;
use wire::tcp::{Flags, Header, Options};
use wire::{Seq, arp, ethernet, ipv4};

use crate::{Config, Drive, OpenLoop, OpenLoopError};

/// Frames of a burst at most.
const BURST: usize = 64;
const TCP_AT: usize = ethernet::HEADER + ipv4::HEADER;

/// What a request and its reply cost the core that polls the queue.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    /// To make a request, in nanoseconds: its frame in a buffer of the server included.
    pub made: f64,
    /// To take its reply.
    pub taken: f64,
    /// Of that the buffer, which a server's NIC would have to fill as well.
    pub buffer: f64,
    /// Requests that were measured.
    pub requests: usize,
    /// Connections that broke: none should.
    pub broken: u64,
}

impl Cost {
    /// What is the generator's own, in nanoseconds.
    pub fn own(&self) -> f64 {
        self.made + self.taken - self.buffer
    }
}

/// Measures what a request and its reply cost over so many connections for `span`, when `burst` of them are made at a time: the fewer, the more of
/// what is done once per burst falls to each.
///
/// # Errors
/// Memory is not to be had; too many connections.
pub fn cost(connections: u32, burst: usize, span: Nanos) -> Result<Cost, OpenLoopError> {
    let burst = burst.clamp(1, BURST);
    let config =
        Config { connections, ..Config::new(1, Workload::Spin(Spin::new(ServiceTimes::exp(Nanos::from_micros(10))))) };
    let (mut nic, director) = OpenLoop::new(&config)?;
    let Some(mut queue) = nic.queues().pop() else { return Ok(Cost::default()) };
    let pool = |n| Pool::new(Room::Received, n, 2048).map_err(|e| OpenLoopError::Drive(e.to_string()));
    let mut pools = RxPools { mbufs: pool(256)?, spills: pool(1)? };
    let bench = std::thread::spawn(move || {
        // Far more than can be made: each burst is full.
        director.run(&Drive {
            keep: false,
            warmup: Nanos::from_millis(10),
            patience: Nanos(1),
            ..Drive::new(20e6, span)
        })
    });
    let mut frames: Vec<RxFrame> = Vec::with_capacity(BURST);
    let mut answers: Vec<Answer> = Vec::with_capacity(BURST);
    let mut firsts = vec![Seq(0); 1 << 16];
    let (mut requests, mut made, mut taken) = (0, Nanos::ZERO, Nanos::ZERO);
    while !bench.is_finished() {
        let before = clock::now();
        let n = queue.rx_burst(&mut pools, burst, &mut frames);
        let between = clock::now();
        answers.extend(frames.iter().filter_map(|f| answer(&f.head, config.server.mac, &mut firsts)));
        let full = n == burst && answers.iter().all(|a| a.body_len > 0);
        frames.drain(..).for_each(|f| pools.mbufs.free(f.head));
        let begin = clock::now();
        for a in &answers {
            let payload = [IoSlice::new(&a.body[..a.body_len])];
            let frame = TxFrame { head: &a.head[..a.head_len], payload: &payload, csum: None, gso: None };
            let _ = queue.tx(&frame);
        }
        let end = clock::now();
        if full && answers.len() == burst {
            requests += burst;
            made += between - before;
            taken += end - begin;
        }
        answers.clear();
    }
    let broken = bench.join().ok().and_then(Result::ok).map_or(1, |o| o.errors.broken);
    // Each of the two spans has a reading of the clock in it that is not the generator's.
    let reading = clock_cost() / burst as f64;
    let per = |span: Nanos| span.0 as f64 / requests.max(1) as f64 - reading;
    Ok(Cost { made: per(made), taken: per(taken), buffer: mbufs(&mut pools), requests, broken })
}

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

/// What the buffers cost that a server's NIC would have to fill anyway.
fn mbufs(pools: &mut RxPools) -> f64 {
    const ROUNDS: usize = 2_000;
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

/// What reading the clock costs, in nanoseconds.
fn clock_cost() -> f64 {
    const READINGS: u32 = 10_000;
    let begin = clock::now();
    for _ in 0..READINGS {
        std::hint::black_box(clock::now());
    }
    (clock::now() - begin).0 as f64 / f64::from(READINGS)
}
