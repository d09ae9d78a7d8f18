//! Two engines over a wire that loses, repeats, delays and reorders, in virtual time.

use std::collections::BinaryHeap;

use proptest::prelude::*;
use units::Nanos;
use wire::Seq;
use wire::tcp::Segment;

use super::endpoint::{Conn, Endpoint, Packet};
use crate::{CloseReason, Config, Congestion, Ecn, State};

/// A small generator, so that a seed is the whole truth of a run (SplitMix64).
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in `percent` of 100.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the wire does to packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) delay: Nanos,
    pub(super) jitter: Nanos,
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    /// Percent of what may be marked that is.
    pub(super) mark: u64,
}

impl Wire {
    pub(super) const GOOD: Wire = Wire { delay: Nanos(20_000), jitter: Nanos(0), loss: 0, duplicate: 0, mark: 0 };
}

pub(super) struct Pair {
    pub(super) ends: [Endpoint; 2],
    pub(super) now: Nanos,
    pub(super) wire: Wire,
    pub(super) rng: Rng,
    /// (arrival, order, to, packet), earliest first.
    flying: BinaryHeap<Flying>,
    order: u64,
    /// Bytes the application reads per look; 0: all.
    pub(super) slow_reader: usize,
    /// The packet to lose: which of those that carry data.
    pub(super) lose_data: Option<u64>,
    data_packets: u64,
    pub(super) trace: Vec<String>,
}

struct Flying {
    at: Nanos,
    order: u64,
    to: usize,
    packet: Packet,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Flying) -> bool {
        self.order == other.order
    }
}
impl Eq for Flying {}
impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Flying) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flying {
    fn cmp(&self, other: &Flying) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl Pair {
    pub(super) fn new(a: Endpoint, b: Endpoint, wire: Wire, seed: u64) -> Pair {
        Pair {
            ends: [a, b],
            now: Nanos::from_secs(1000),
            wire,
            rng: Rng(seed),
            flying: BinaryHeap::new(),
            order: 0,
            slow_reader: 0,
            lose_data: None,
            data_packets: 0,
            trace: Vec::new(),
        }
    }

    pub(super) fn client_and_server(client: Config, server: Config, wire: Wire, seed: u64) -> Pair {
        let mut rng = Rng(seed);
        let now = Nanos::from_secs(1000);
        let a = Endpoint::connect(now, client, Seq(rng.next() as u32));
        let b = Endpoint::listen(server, Seq(rng.next() as u32));
        Pair::new(a, b, wire, rng.next())
    }

    fn is_picked(&mut self, packet: &Packet) -> bool {
        self.data_packets += u64::from(packet.seg.len > 0);
        packet.seg.len > 0 && self.lose_data == Some(self.data_packets)
    }

    fn carry(&mut self, from: usize) {
        for mut packet in std::mem::take(&mut self.ends[from].outbox) {
            packet.seg.ce = packet.ect && self.rng.chance(self.wire.mark);
            let number = self.order;
            let Segment { seq, ack, flags, wnd, len, opts, ce: _ } = packet.seg;
            let sacks = opts.sacks.as_slice();
            let line = format!("{flags:?} {seq:?}({len}) ack {ack:?} win {wnd} {:?} {sacks:?}", opts.timestamps);
            self.trace.push(format!("{:?} {from} #{number} {line}", self.now));
            let copies = if self.rng.chance(self.wire.loss) || self.is_picked(&packet) {
                0
            } else if self.rng.chance(self.wire.duplicate) {
                2
            } else {
                1
            };
            self.order += 1;
            for _ in 0..copies {
                let at = self.now + self.wire.delay + Nanos(self.rng.below(self.wire.jitter.0 + 1));
                self.flying.push(Flying { at, order: self.order, to: 1 - from, packet: packet.clone() });
                self.order += u64::from(copies > 1);
            }
        }
    }

    fn settle(&mut self) {
        for end in 0..2 {
            let n = if self.slow_reader == 0 { usize::MAX } else { self.slow_reader };
            self.ends[end].consume(n);
            self.ends[end].run(self.now);
            self.carry(end);
        }
    }

    /// One step of virtual time: the next arrival or deadline. `false`: nothing will ever happen again, or not before `until`.
    pub(super) fn step(&mut self, until: Nanos) -> bool {
        self.settle();
        let arrival = self.flying.peek().map_or(Nanos::MAX, |f| f.at);
        let deadline = self.ends[0].deadline().min(self.ends[1].deadline());
        let reader = self.slow_reader > 0 && self.ends.iter().any(|e| !e.receive_queue.is_empty());
        let reads_at = if reader { self.now + Nanos::from_millis(1) } else { Nanos::MAX };
        let next = arrival.min(deadline).min(reads_at);
        if next > until || next == Nanos::MAX {
            return false;
        }
        self.now = self.now.max(next);
        for end in 0..2 {
            if self.ends[end].deadline() <= self.now {
                self.ends[end].timeout(self.now);
            }
        }
        while self.flying.peek().is_some_and(|f| f.at <= self.now) {
            let Flying { to, packet, .. } = self.flying.pop().unwrap();
            let arrival = self.ends[to].packet_arrives(self.now, &packet);
            let state = self.ends[to].state();
            self.trace.push(format!("{:?} -> {to} {state} {arrival}", self.now));
        }
        true
    }

    pub(super) fn run_until(&mut self, until: Nanos, done: impl Fn(&Pair) -> bool) -> bool {
        while !done(self) {
            if !self.step(until) {
                return done(self);
            }
        }
        true
    }

    pub(super) fn done(&self) -> bool {
        self.ends.iter().all(|e| e.closed.is_some())
    }

    /// Transfers both ways and closes; the virtual time that it took.
    pub(super) fn transfer(&mut self, bytes: [usize; 2], bound: Nanos) -> Nanos {
        let data = bytes.map(|n| (0..n).map(|_| self.rng.next() as u8).collect::<Vec<u8>>());
        for (end, data) in self.ends.iter_mut().zip(&data) {
            end.to_send.extend(data);
        }
        let start = self.now;
        let finished = self.run_until(start + bound, Pair::done);
        let tail = self.trace.len().saturating_sub(60);
        let what = |p: &Pair| {
            let end = |e: &Endpoint| match &e.conn {
                Conn::Open(tcb) => format!("{tcb}"),
                _ => format!("{} {:?}", e.state(), e.closed),
            };
            format!("{}\na: {}\nb: {}", p.trace[tail..].join("\n"), end(&p.ends[0]), end(&p.ends[1]))
        };
        assert!(finished, "stalled\n{}", what(self));
        for end in 0..2 {
            self.ends[end].consume(usize::MAX);
            assert!(self.ends[end].received == data[1 - end], "bytes differ\n{}", what(self));
            assert!(self.ends[end].peer_fin);
            assert_eq!(self.ends[end].closed, Some(CloseReason::Normal));
            assert_eq!(self.ends[end].state(), State::Closed);
            assert_eq!(self.ends[end].records.available(), self.ends[end].records_made, "a record is lost");
        }
        self.now - start
    }
}

#[test]
fn a_good_wire_carries_everything_without_a_retransmission() {
    let mut pair = Pair::client_and_server(Config::default(), Config::default(), Wire::GOOD, 1);
    pair.transfer([300_000, 500_000], Nanos::from_secs(5));
    assert_eq!(pair.ends[0].rexmits + pair.ends[1].rexmits, 0);
}

#[test]
fn simultaneous_open_connects_both() {
    let now = Nanos::from_secs(1000);
    let a = Endpoint::connect(now, Config::default(), Seq(100));
    let b = Endpoint::connect(now, Config::default(), Seq(u32::MAX - 5));
    let mut pair = Pair::new(a, b, Wire::GOOD, 1);
    pair.transfer([10_000, 20_000], Nanos::from_secs(5));
    assert_eq!(pair.ends[0].rexmits, 1, "only the SYN, as a SYN-ACK");
}

fn config(rng: &mut Rng) -> Config {
    let mss = [1460, 536, 100, 8960][rng.below(4) as usize];
    Config {
        mss,
        rcv_wnd: [256 << 10, 64 << 10, 8 << 10, 2000][rng.below(4) as usize],
        sack: rng.chance(70),
        congestion: Congestion::ALL[rng.below(3) as usize].0,
        ecn: Ecn::ALL[rng.below(3) as usize].0,
        tlp: rng.chance(70),
        frto: rng.chance(70),
        dsack: rng.chance(70),
        nagle: rng.chance(20),
        pacing: rng.chance(30),
        timestamps: rng.chance(60),
        wscale: [Some(3), Some(0), Some(14), None][rng.below(4) as usize],
        initial_window: 1 + rng.below(10) as u16,
        rto_initial: Nanos::from_millis(200),
        rto_min: Nanos::from_millis(5),
        rto_max: Nanos::from_secs(2),
        syn_retries: 30,
        data_retries: 60,
        // Longer than a FIN needs to get through, or its sender ends by a reset.
        msl: Nanos::from_secs(100),
        ..Config::default()
    }
}

/// A whole run from one number.
fn run_seed(seed: u64) {
    let mut rng = Rng(seed);
    let (a, b) = (config(&mut rng), config(&mut rng));
    let wire = Wire {
        delay: Nanos(10_000 + rng.below(6_000_000)),
        jitter: Nanos([0, 50_000, 3_000_000][rng.below(3) as usize]),
        loss: [0, 1, 5, 20][rng.below(4) as usize],
        duplicate: [0, 5][rng.below(2) as usize],
        mark: [0, 10, 100][rng.below(3) as usize],
    };
    let mut pair = Pair::client_and_server(a, b, wire, rng.next());
    if rng.chance(10) {
        let cfg = config(&mut rng);
        pair.ends[1] = Endpoint::connect(pair.now, cfg, Seq(rng.next() as u32));
    }
    for end in &mut pair.ends {
        // A congestion window of tiny segments that all overtake each other leaves more gaps than are held: then a
        // few segments pass per timeout, as with a receiver that holds none. Right, but slow.
        let orderly = wire.jitter == Nanos::ZERO;
        end.max_payload = [1 << 16, 1460, 60_000, if orderly { 50 } else { 536 }][rng.below(4) as usize];
        end.keep_ooo = rng.chance(90) || !orderly;
        if rng.chance(20) && orderly {
            end.set_records(0);
        }
    }
    if rng.chance(25) {
        pair.slow_reader = 1 + rng.below(3000) as usize;
    }
    let size = |rng: &mut Rng| {
        let most = [10, 5_000, 60_000][rng.below(3) as usize];
        rng.below(most) as usize
    };
    let bytes = [size(&mut rng), size(&mut rng)];
    // TIME-WAIT is 200 s of it, the slowest reader needs 60.
    pair.transfer(bytes, Nanos::from_secs(300 + 100 * wire.loss));
}

proptest! {
    #![proptest_config(super::cases(400))]
    #[test]
    fn any_wire_carries_everything_exactly(seed: u64) {
        run_seed(seed);
    }
}

/// Bits per second of 4 MB one way.
fn goodput(cfg: &Config, wire: Wire, seed: u64) -> u64 {
    const BYTES: usize = 4_000_000;
    let mut pair = Pair::client_and_server(cfg.clone(), cfg.clone(), wire, seed);
    pair.ends[1].close_when_done = false;
    pair.ends[0].to_send.extend(std::iter::repeat_n(7, BYTES));
    let start = pair.now;
    assert!(pair.run_until(start + Nanos::from_secs(600), |p| p.ends[1].received.len() == BYTES), "stalled");
    BYTES as u64 * 8 * 1_000_000 / (pair.now - start).micros()
}

/// 1 % of the packets is lost, a round trip takes 10 ms. A Reno that never waits for a timeout gets 1.22 segments * sqrt(1 / p) per round
/// trip (Mathis et al.), 14.1 Mb/s here, and CUBIC no less (RFC 9438 section 4.3); a recovery takes a round trip of every twelve or so. All
/// data and all ACKs of a round trip arrive at one instant here, in a batch.
#[test]
fn goodput_does_not_collapse_under_loss() {
    let wire = Wire { delay: Nanos::from_millis(5), loss: 1, ..Wire::GOOD };
    for (congestion, name) in Congestion::ALL {
        let cfg = Config { congestion, ..Config::default() };
        let runs = (1..=20).map(|seed| goodput(&cfg, wire, seed)).collect::<Vec<_>>();
        let mean = runs.iter().sum::<u64>() / 20;
        println!("{name}: {:.1} Mb/s under 1 % loss at 10 ms", mean as f64 / 1e6);
        assert!(mean > 12_000_000, "{name}: {runs:?}");
    }
}

/// Reordering alone: RACK finds out and hardly sends anything again.
#[test]
fn goodput_does_not_collapse_under_reordering() {
    let wire = Wire { delay: Nanos::from_millis(5), jitter: Nanos::from_millis(1), ..Wire::GOOD };
    let cfg = Config::default();
    let rate = goodput(&cfg, wire, 1);
    println!("{:.1} Mb/s with jitter of 1 ms at 10 ms", rate as f64 / 1e6);
    assert!(rate > 30_000_000, "{rate}");
}

/// Half of all data is marked and nothing is lost: nothing is sent again.
#[test]
fn marks_are_no_losses() {
    for (congestion, name) in Congestion::ALL {
        let cfg = Config { congestion, ecn: Ecn::On, ..Config::default() };
        let wire = Wire { mark: 50, ..Wire::GOOD };
        let mut pair = Pair::client_and_server(cfg.clone(), cfg, wire, 1);
        pair.transfer([200_000, 300_000], Nanos::from_secs(60));
        assert_eq!(pair.ends[0].rexmits + pair.ends[1].rexmits, 0, "{name}");
    }
}
