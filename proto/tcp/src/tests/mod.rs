//! Engine tests: a pair of engines over a bad wire, arbitrary input, and examples by RFC section.

mod close;
mod endpoint;
mod fuzz;
mod handshake;
mod loss;
mod pacing;
mod pair;
mod path;
mod rfc5961;
mod rfc7323;
mod windows;

use proptest::test_runner::Config as ProptestConfig;
use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Options, SackBlocks, Segment, Timestamps};

use crate::{Config, Congestion, Emit, HalfOpen, HalfOutcome, Records, Tcb};

/// The instant at which the examples begin.
const T0: Nanos = Nanos::from_secs(100);
/// Where the examples' numbers begin: the peer's first byte is 101, ours 1001.
const IRS: Seq = Seq(100);
const ISS: Seq = Seq(1000);
/// SMSS in the examples with plain options.
const MSS: u32 = 1000;
const ACK: Flags = Flags::ACK;

fn ms(n: u64) -> Nanos {
    Nanos::from_millis(n)
}

/// At least `n` cases; PROPTEST_CASES asks for more.
fn cases(n: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(n), ..default }
}

/// A stack's records: for one connection, one is enough.
fn records() -> Records {
    Records::new(1)
}

/// Plain options: no scaling, no timestamps, no SACK, segments of 1000 bytes.
fn plain() -> Config {
    Config {
        mss: 1000,
        sack: false,
        timestamps: false,
        wscale: None,
        rcv_wnd: 60_000,
        congestion: Congestion::NewReno,
        frto: false,
        tlp: false,
        ..Config::default()
    }
}

fn with_sack() -> Config {
    Config { sack: true, ..plain() }
}

/// A segment from the peer, `seq` and `ack` counted from the first byte of each side.
fn seg(seq: u32, ack: u32, flags: Flags, len: u32) -> Segment {
    Segment { seq: IRS + 1 + seq, ack: ISS + 1 + ack, flags, wnd: 60_000, len, opts: Options::NONE, ce: false }
}

fn with_ts(seg: Segment, val: u32, ecr: u32) -> Segment {
    Segment { opts: Options { timestamps: Some(Timestamps { val, ecr }), ..seg.opts }, ..seg }
}

/// Blocks counted from our first byte.
fn sacking(seg: Segment, blocks: &[(u32, u32)]) -> Segment {
    let sacks: SackBlocks = blocks.iter().map(|(l, r)| (ISS + 1 + *l, ISS + 1 + *r)).collect();
    Segment { opts: Options { sacks, ..seg.opts }, ..seg }
}

fn syn_segment(cfg: &Config) -> Segment {
    let opts = Options {
        mss: Some(cfg.mss),
        wscale: cfg.wscale,
        sack_permitted: cfg.sack,
        timestamps: cfg.timestamps.then_some(Timestamps { val: 5000, ecr: 0 }),
        sacks: SackBlocks::EMPTY,
    };
    Segment { seq: IRS, ack: Seq(0), flags: Flags::SYN, wnd: 60_000, len: 0, opts, ce: false }
}

/// A passive connection just after the handshake, whose peer is configured as we are and 10 ms away.
fn established(cfg: &Config) -> Tcb {
    let (mut half, emit) = HalfOpen::syn_arrives(T0 - ms(10), cfg, ISS, &syn_segment(cfg));
    let mut ack = seg(0, 0, ACK, 0);
    if let Some(ts) = emit.opts.timestamps {
        ack = with_ts(ack, 5000, ts.val);
    }
    match half.segment_arrives(T0, cfg, &ack) {
        HalfOutcome::Established(tcb) => tcb,
        other => panic!("{other:?}"),
    }
}

/// Everything that is to be sent now.
fn sent(tcb: &mut Tcb, now: Nanos, cfg: &Config) -> Vec<Emit> {
    let all = std::iter::from_fn(|| tcb.poll_transmit(now, cfg, 1000)).collect();
    assert_eq!(tcb.invariants(), Ok(()), "{tcb}");
    all
}

/// The same, as text with numbers counted from the first bytes: `data 0+1000`, `ack 7`.
fn said(tcb: &mut Tcb, now: Nanos, cfg: &Config) -> Vec<String> {
    sent(tcb, now, cfg).iter().map(say).collect()
}

fn say(e: &Emit) -> String {
    let (seq, ack) = (e.seq.since(ISS + 1) as i32, e.ack.since(IRS + 1) as i32);
    let mut text = if e.flags.contains(Flags::RST) {
        format!("rst {seq}")
    } else if e.flags.contains(Flags::SYN) {
        format!("syn {seq}")
    } else if e.flags.contains(Flags::FIN) {
        format!("fin {seq}+{}", e.len)
    } else if e.len > 0 {
        format!("data {seq}+{}", e.len)
    } else {
        format!("ack {ack} from {seq}")
    };
    for (l, r) in e.opts.sacks.iter() {
        text += &format!(" [{} {})", l.since(IRS + 1), r.since(IRS + 1));
    }
    if e.rexmit { text + " again" } else { text }
}
