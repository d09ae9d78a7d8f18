//! Arbitrary segments and user calls in any order: nothing panics, the invariants hold, promises are kept.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use units::Nanos;
use wire::tcp::{Flags, Options, SackBlocks, Segment, Timestamps};
use wire::{Seq, Tuple};

use crate::{Config, HalfOpen, HalfOutcome, KeepAlive, Payload, Records, State, SynCookies, Tcb};

/// A number relative to something that the engine knows, so that it is often right or nearly so.
#[derive(Clone, Copy, Debug)]
enum Near {
    RcvNxt(i32),
    RcvEdge(i32),
    Una(i32),
    Nxt(i32),
    Any(u32),
}

fn near() -> impl Strategy<Value = Near> {
    let close = || prop_oneof![Just(0), Just(1), Just(-1), -3000i32..3000, -100_000i32..100_000];
    prop_oneof![
        3 => close().prop_map(Near::RcvNxt),
        1 => close().prop_map(Near::RcvEdge),
        2 => close().prop_map(Near::Una),
        3 => close().prop_map(Near::Nxt),
        1 => any::<u32>().prop_map(Near::Any),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Segment {
        seq: Near,
        ack: Near,
        flags: u8,
        wnd: u16,
        len: u32,
        ts: Option<(i32, u32)>,
        sacks: Vec<(Near, Near)>,
        keep: bool,
    },
    Wait(u64),
    ToDeadline,
    Send(u32),
    Consume(u32),
    Shutdown,
    Close,
    Abort,
    Poll(u32),
}

fn flags() -> impl Strategy<Value = u8> {
    let ack = Flags::ACK.0;
    prop_oneof![
        6 => Just(ack),
        2 => Just(ack | Flags::FIN.0),
        2 => Just(ack | Flags::SYN.0),
        1 => Just(Flags::SYN.0),
        1 => Just(Flags::RST.0),
        1 => any::<u8>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![Just(0u32), Just(1), 1u32..3000, 0u32..200_000, any::<u32>()];
    let ts = proptest::option::weighted(0.7, (prop_oneof![Just(0i32), Just(1), -5i32..5, any::<i32>()], any::<u32>()));
    let sacks = prop_oneof![4 => Just(Vec::new()), 1 => proptest::collection::vec((near(), near()), 1..4)];
    let segment = (near(), near(), flags(), any::<u16>(), len, ts, sacks, any::<bool>()).prop_map(
        |(seq, ack, flags, wnd, len, ts, sacks, keep)| Op::Segment { seq, ack, flags, wnd, len, ts, sacks, keep },
    );
    prop_oneof![
        10 => segment,
        2 => prop_oneof![0u64..5_000_000, 0u64..3_000_000_000, Just(u64::MAX / 4)].prop_map(Op::Wait),
        4 => Just(Op::ToDeadline),
        4 => prop_oneof![0u32..5000, any::<u32>()].prop_map(Op::Send),
        3 => any::<u32>().prop_map(Op::Consume),
        1 => Just(Op::Shutdown),
        1 => Just(Op::Close),
        1 => prop_oneof![9 => Just(Op::Poll(1)), 1 => Just(Op::Abort)],
        6 => prop_oneof![Just(0u32), Just(1), 1u32..3000, Just(1 << 16), any::<u32>()].prop_map(Op::Poll),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), proptest::option::of(0u8..20), 0u16..2000, 1u32..(1 << 20), any::<bool>()).prop_map(
        |(sack, timestamps, wscale, mss, rcv_wnd, keep)| Config {
            sack,
            timestamps,
            wscale,
            mss,
            rcv_wnd,
            keepalive: keep.then_some(KeepAlive { idle: Nanos(0), interval: Nanos(0), probes: 3 }),
            congestion: crate::Congestion::ALL[usize::from(mss) % 3].0,
            ecn: crate::Ecn::ALL[usize::from(mss / 3) % 3].0,
            user_timeout: (mss % 7 == 0).then_some(Nanos::from_secs(1)),
            nagle: mss % 5 == 0,
            ..Config::default()
        },
    )
}

struct World {
    cfg: Config,
    now: Nanos,
    tcb: Tcb,
    edge: Option<Seq>,
    queue: u64,
    records: Records,
}

impl World {
    fn resolve(&self, near: Near) -> Seq {
        let t = &self.tcb;
        match near {
            Near::RcvNxt(d) => t.rcv_nxt() + d as u32,
            Near::RcvEdge(d) => t.rcv_edge() + d as u32,
            Near::Una(d) => t.snd_una() + d as u32,
            Near::Nxt(d) => t.snd_nxt() + d as u32,
            Near::Any(x) => Seq(x),
        }
    }

    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        let (now, cfg) = (self.now, self.cfg.clone());
        match op {
            Op::Segment { seq, ack, flags, wnd, len, ts, sacks, keep } => {
                let sacks: SackBlocks = sacks.iter().map(|(l, r)| (self.resolve(*l), self.resolve(*r))).collect();
                let timestamps = ts.map(|(v, ecr)| Timestamps { val: self.tcb.ts_recent.wrapping_add(v as u32), ecr });
                let syn = flags & Flags::SYN.0 != 0;
                let opts = Options {
                    timestamps,
                    sacks,
                    sack_permitted: syn,
                    wscale: syn.then_some((wnd % 20) as u8),
                    mss: syn.then_some(wnd),
                };
                let seg = Segment {
                    seq: self.resolve(seq),
                    ack: self.resolve(ack),
                    flags: Flags(flags),
                    wnd,
                    len,
                    opts,
                    ce: wnd % 5 == 0,
                };
                let before = self.tcb.rcv_nxt();
                let was_closed = self.tcb.state() == State::Closed;
                let was_open = self.tcb.state() != State::SynSent;
                let out = self.tcb.segment_arrives(now, &cfg, &seg, keep, &mut self.records);
                self.queue = self.queue.checked_sub(u64::from(out.acked)).expect("acked more than was queued");
                match out.payload {
                    Payload::None => prop_assert_eq!(out.advanced, 0),
                    Payload::InOrder { skip, len } => {
                        prop_assert!(len > 0 && u64::from(skip) + u64::from(len) <= u64::from(seg.len));
                        prop_assert!(out.advanced >= len);
                        if was_open {
                            let fin = u32::from(out.events.contains(crate::Events::PEER_FIN));
                            prop_assert_eq!(self.tcb.rcv_nxt().since(before), out.advanced + fin);
                        }
                    }
                    Payload::OutOfOrder { skip, len, seq } => {
                        prop_assert!(keep && len > 0 && u64::from(skip) + u64::from(len) <= u64::from(seg.len));
                        prop_assert_eq!(seg.seq + skip, seq);
                        prop_assert!(seq.gt(before) && (seq + len).le(self.tcb.rcv_edge()));
                    }
                }
                prop_assert_eq!(out.closed.is_some(), !was_closed && self.tcb.state() == State::Closed);
            }
            Op::Wait(ns) => self.now = Nanos(self.now.0.saturating_add(ns).min(1 << 62)),
            Op::ToDeadline => {
                let deadline = self.tcb.deadline();
                if deadline < Nanos(1 << 62) {
                    self.now = self.now.max(deadline);
                    let _ = self.tcb.timeout(self.now, &cfg, &mut self.records);
                    prop_assert!(self.tcb.deadline() > self.now, "a deadline stands still");
                }
            }
            Op::Send(n) => {
                let admitted = self.tcb.send(now, n);
                prop_assert!(admitted <= n);
                self.queue += u64::from(admitted);
            }
            Op::Consume(n) => self.tcb.consumed(n.min(self.tcb.unread())),
            Op::Shutdown => {
                let _ = self.tcb.shutdown(now, &cfg);
            }
            Op::Close => {
                let _ = self.tcb.close(now, &cfg);
            }
            Op::Abort => {
                let _ = self.tcb.abort();
            }
            Op::Poll(max) => {
                let mut calls = 0;
                while let Some(emit) = self.tcb.poll_transmit(now, &cfg, max) {
                    prop_assert!(emit.len <= max.max(1));
                    prop_assert!(u64::from(emit.offset) + u64::from(emit.len) <= self.queue, "{}", emit);
                    calls += 1;
                    if calls > 2000 {
                        // One byte at a time through a large window.
                        prop_assert!(max < 64, "poll_transmit never ends");
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        if let Err(name) = self.tcb.invariants() {
            return Err(TestCaseError::fail(format!("{name}: {}", self.tcb)));
        }
        let synchronized = self.tcb.state().is_synchronized();
        if synchronized {
            prop_assert!(self.edge.is_none_or(|e| e.le(self.tcb.rcv_edge())), "the edge moved back");
            self.edge = Some(self.tcb.rcv_edge());
            prop_assert_eq!(u64::from(self.tcb.unacked()), self.queue);
        }
        Ok(())
    }
}

fn tuple() -> Tuple {
    let (local, remote) = (Ipv4Addr::new(198, 18, 0, 1).into(), Ipv4Addr::new(198, 18, 0, 2).into());
    Tuple { local, remote, local_port: 1, remote_port: 2 }
}

fn syn_options() -> impl Strategy<Value = Options> {
    let ts = proptest::option::of((any::<u32>(), any::<u32>()).prop_map(|(val, ecr)| Timestamps { val, ecr }));
    (proptest::option::of(any::<u16>()), proptest::option::of(0u8..20), any::<bool>(), ts).prop_map(
        |(mss, wscale, sack_permitted, timestamps)| Options {
            mss,
            wscale,
            sack_permitted,
            timestamps,
            sacks: SackBlocks::EMPTY,
        },
    )
}

/// A connection that a well-behaved client opened, by way of an entry or of a cookie.
fn accepted(now: Nanos, cfg: &Config, isn: u32, opts: Options, cookie: bool) -> Tcb {
    let syn = Segment { seq: Seq(isn), ack: Seq(0), flags: Flags::SYN, wnd: 5000, len: 0, opts, ce: false };
    let ack = |syn_ack: &crate::Emit| Segment {
        seq: Seq(isn) + 1,
        ack: syn_ack.seq + 1,
        flags: Flags::ACK,
        wnd: 5000,
        len: 0,
        opts: Options {
            timestamps: syn_ack.opts.timestamps.map(|ts| Timestamps { val: ts.ecr, ecr: ts.val }),
            ..Options::NONE
        },
        ce: false,
    };
    if cookie {
        let cookies = SynCookies::new([3; 16]);
        let emit = cookies.make(now, cfg, &tuple(), &syn);
        return cookies.check(now, cfg, &tuple(), &ack(&emit)).expect("our own cookie");
    }
    let (mut half, emit) = HalfOpen::syn_arrives(now, cfg, Seq(isn ^ 0x5555), &syn);
    match half.segment_arrives(now, cfg, &ack(&emit)) {
        HalfOutcome::Established(tcb) => tcb,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(super::cases(1500))]
    #[test]
    fn no_sequence_of_segments_and_calls_breaks_it(
        cfg in config(), start in 0u8..3, isn: u32, opts in syn_options(),
        ops in proptest::collection::vec(op(), 1..80)
    ) {
        let now = Nanos::from_secs(100);
        let tcb = match start {
            0 => Tcb::connect(now, &cfg, Seq(isn)),
            _ => accepted(now, &cfg, isn, opts, start == 1),
        };
        let mut world = World { cfg, now, tcb, edge: None, queue: 0, records: Records::new(usize::from(isn % 3 != 0)) };
        for op in ops {
            let shown = format!("{op:?}");
            world.apply(op)?;
            world.check().map_err(|e| TestCaseError::fail(format!("after {shown}: {e}")))?;
        }
    }

    #[test]
    fn half_open_entries_take_anything(
        cfg in config(), isn: u32, opts in syn_options(),
        segs in proptest::collection::vec((-2i32..3, -2i32..3, flags(), any::<u16>(), syn_options()), 1..20)
    ) {
        let now = Nanos::from_secs(100);
        let syn = Segment { seq: Seq(isn), ack: Seq(0), flags: Flags::SYN, wnd: 5000, len: 0, opts, ce: false };
        let (mut half, emit) = HalfOpen::syn_arrives(now, &cfg, Seq(!isn), &syn);
        for (seq, ack, flags, wnd, opts) in segs {
            let seg = Segment {
                seq: Seq(isn) + 1 + seq as u32, ack: emit.seq + 1 + ack as u32, flags: Flags(flags), wnd, len: 0, opts,
                ce: false,
            };
            match half.segment_arrives(now, &cfg, &seg) {
                HalfOutcome::Established(tcb) => {
                    prop_assert_eq!(ack, 0);
                    prop_assert_eq!(tcb.invariants(), Ok(()));
                    break;
                }
                HalfOutcome::Reset => break,
                HalfOutcome::Drop(_) | HalfOutcome::Reply(_) => {}
            }
        }
    }
}
