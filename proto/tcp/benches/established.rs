//! The cost of a segment in ESTABLISHED, timestamps on, and of the hashes of a handshake: `cargo bench -p tcp`.
//!
//! Each figure is the median of 31 rounds. `rpc` is what a server does per request: the request arrives (and acknowledges the last
//! reply), the application consumes it, sends 64 bytes, which are transmitted. `receive` is in-order data and the poll after
//! it; `ack` is a plain ACK of a segment, the poll, and the sending of the next.

use std::hint::black_box;
use std::time::Instant;

use tcp::{Config, HalfOpen, HalfOutcome, IsnKey, Records, SynCookies, Tcb};
use units::Nanos;
use wire::tcp::{Flags, Options, Segment, Timestamps};
use wire::{Ipv4Addr, Seq, Tuple};

const ROUNDS: usize = 31;

fn established(cfg: &Config) -> (Tcb, Segment) {
    let now = Nanos::from_secs(10);
    let ts = |val, ecr| Options { timestamps: Some(Timestamps { val, ecr }), ..Options::NONE };
    let opts = Options { mss: Some(1460), wscale: Some(7), sack_permitted: true, ..ts(1, 0) };
    let syn = Segment { seq: Seq(99), ack: Seq(0), flags: Flags::SYN, wnd: 65535, len: 0, opts, ce: false };
    let (mut half, _) = HalfOpen::syn_arrives(now, cfg, Seq(999), &syn);
    let ack = Segment { seq: Seq(100), ack: Seq(1000), flags: Flags::ACK, opts: ts(1, 10_000), ..syn };
    match half.segment_arrives(now, cfg, &ack) {
        HalfOutcome::Established(tcb) => (tcb, ack),
        other => panic!("{other:?}"),
    }
}

/// Nanoseconds per call of `step(i)`, the median of the rounds.
fn measure(name: &str, n: u32, mut step: impl FnMut(Nanos)) {
    let mut now = Nanos::from_secs(11);
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..n {
                now += Nanos(1000);
                step(now);
            }
            start.elapsed().as_nanos() as f64 / f64::from(n)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:10} {:6.1} ns  (fastest {:.1})", rounds[ROUNDS / 2], rounds[0]);
}

fn main() {
    // `cargo test` runs this with no `--bench`: small, so that it never rots.
    let n = if std::env::args().any(|a| a == "--bench") { 200_000 } else { 100 };
    let cfg = Config::default();
    let mut records = Records::new(1);

    let (mut tcb, mut seg) = established(&cfg);
    measure("rpc", n, |now| {
        seg.len = 64;
        let out = tcb.segment_arrives(now, &cfg, black_box(&seg), true, &mut records);
        assert_eq!(black_box(&out).advanced, 64);
        tcb.consumed(64);
        assert_eq!(tcb.send(now, 64), 64);
        while let Some(emit) = tcb.poll_transmit(now, &cfg, 1 << 16) {
            black_box(&emit);
        }
        seg.seq += 64;
        seg.ack = tcb.snd_nxt();
    });

    let (mut tcb, mut seg) = established(&cfg);
    measure("receive", n, |now| {
        seg.len = 1448;
        let out = tcb.segment_arrives(now, &cfg, black_box(&seg), true, &mut records);
        assert_eq!(black_box(&out).advanced, 1448);
        tcb.consumed(1448);
        while let Some(emit) = tcb.poll_transmit(now, &cfg, 1 << 16) {
            black_box(&emit);
        }
        seg.seq += 1448;
    });

    let (mut tcb, mut seg) = established(&cfg);
    seg.len = 0;
    let now = Nanos::from_secs(11);
    tcb.send(now, 5000);
    while tcb.poll_transmit(now, &cfg, 1 << 16).is_some() {}
    measure("ack", n, |now| {
        seg.ack += 1000;
        let out = tcb.segment_arrives(now, &cfg, black_box(&seg), true, &mut records);
        assert_eq!(black_box(&out).acked, 1000);
        assert_eq!(tcb.send(now, 1000), 1000);
        while let Some(emit) = tcb.poll_transmit(now, &cfg, 1 << 16) {
            black_box(&emit);
        }
    });

    let (local, remote) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
    let tuple = Tuple { local: local.into(), remote: remote.into(), local_port: 80, remote_port: 1234 };
    let key = IsnKey::new([1; 16]);
    measure("isn", n, |now| {
        black_box(key.isn(now, black_box(&tuple)));
    });
    let cookies = SynCookies::new([1; 16]);
    let syn = Segment { flags: Flags::SYN, ..seg };
    let made = cookies.make(now, &cfg, &tuple, &syn);
    measure("cookie", n, |now| {
        black_box(cookies.make(now, &cfg, black_box(&tuple), &syn));
    });
    let ack = Segment { seq: syn.seq + 1, ack: made.seq + 1, flags: Flags::ACK, ..seg };
    measure("check", n, |_| {
        assert!(cookies.check(now, &cfg, black_box(&tuple), black_box(&ack)).is_some());
    });
}
