//! One TCP engine: segments near the numbers that it expects, calls of its user, time. What must hold, holds after each.

use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use tcp::{Config, Congestion, Ecn, HalfOpen, HalfOutcome, KeepAlive, Payload, Records, State, SynCookies, Tcb};
use units::Nanos;
use wire::tcp::{Flags, Options, SackBlocks, Segment, Timestamps};
use wire::{Seq, Tuple};

/// What is done in one run at most.
const STEPS: usize = 300;
/// Segments out in one go: a large window, a byte at a time, is cut off there.
const BURST: u32 = 3_000;

/// The bytes say what happens.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let Ok(mut world) = World::begin(&mut bytes) else { return };
    for _ in 0..STEPS {
        if bytes.is_empty() || world.step(&mut bytes).is_err() {
            return;
        }
        world.check();
    }
}

struct World {
    cfg: Config,
    now: Nanos,
    tcb: Tcb,
    records: Records,
    edge: Option<Seq>,
    /// Bytes in the send queue, as its owner counts them.
    queue: u64,
}

impl World {
    fn begin(bytes: &mut Unstructured<'_>) -> Result<World> {
        let keepalive = KeepAlive { idle: Nanos(0), interval: Nanos(0), probes: 3 };
        let cfg = Config {
            sack: bytes.arbitrary()?,
            timestamps: bytes.arbitrary()?,
            wscale: bytes.arbitrary::<Option<u8>>()?.map(|w| w % 20),
            mss: bytes.int_in_range(0..=2000)?,
            rcv_wnd: bytes.int_in_range(1..=1 << 20)?,
            keepalive: bytes.arbitrary::<bool>()?.then_some(keepalive),
            congestion: [Congestion::Cubic, Congestion::NewReno, Congestion::Dctcp][bytes.int_in_range(0..=2usize)?],
            ecn: [Ecn::Off, Ecn::Accept, Ecn::On][bytes.int_in_range(0..=2usize)?],
            nagle: bytes.arbitrary()?,
            ..Config::default()
        };
        // None at all, one, enough.
        let records = bytes.int_in_range(0..=2usize)?;
        let now = Nanos::from_secs(100);
        let (start, isn, opts): (u8, u32, _) = (bytes.arbitrary()?, bytes.arbitrary()?, options(bytes)?);
        let tcb = match start % 3 {
            0 => Tcb::connect(now, &cfg, Seq(isn)),
            n => accepted(now, &cfg, isn, opts, n == 1),
        };
        Ok(World { cfg, now, tcb, records: Records::new(records), edge: None, queue: 0 })
    }

    /// A number near one that the engine knows, most of the time.
    fn near(&self, bytes: &mut Unstructured<'_>) -> Result<Seq> {
        let by = i32::from(bytes.arbitrary::<i16>()?) as u32;
        Ok(match bytes.arbitrary::<u8>()? % 10 {
            0..=3 => self.tcb.rcv_nxt() + by,
            4 => self.tcb.rcv_edge() + by,
            5 | 6 => self.tcb.snd_una() + by,
            7 | 8 => self.tcb.snd_nxt() + by,
            _ => Seq(bytes.arbitrary()?),
        })
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.arbitrary::<u8>()? % 16 {
            0..=6 => self.segment(bytes)?,
            7 => self.now = Nanos((self.now.0 + u64::from(bytes.arbitrary::<u32>()?)).min(1 << 62)),
            8 | 9 => self.deadline(),
            10 | 11 => {
                let n = bytes.arbitrary::<u32>()? >> (bytes.arbitrary::<u8>()? % 32);
                let admitted = self.tcb.send(self.now, n);
                assert!(admitted <= n);
                self.queue += u64::from(admitted);
            }
            12 => self.tcb.consumed(bytes.arbitrary::<u32>()?.min(self.tcb.unread())),
            13 => self.user(bytes.arbitrary()?),
            _ => self.poll(bytes.arbitrary::<u32>()? >> (bytes.arbitrary::<u8>()? % 32)),
        }
        Ok(())
    }

    fn user(&mut self, what: u8) {
        match what % 8 {
            0 => _ = self.tcb.abort(),
            1..=3 => _ = self.tcb.close(self.now, &self.cfg),
            _ => _ = self.tcb.shutdown(self.now, &self.cfg),
        }
    }

    /// The next deadline comes.
    fn deadline(&mut self) {
        let deadline = self.tcb.deadline();
        if deadline < Nanos(1 << 62) {
            self.now = self.now.max(deadline);
            let _ = self.tcb.timeout(self.now, &self.cfg, &mut self.records);
            assert!(self.tcb.deadline() > self.now, "a deadline stands still");
        }
    }

    fn poll(&mut self, max: u32) {
        for calls in 0.. {
            let Some(emit) = self.tcb.poll_transmit(self.now, &self.cfg, max) else { return };
            assert!(emit.len <= max.max(1));
            assert!(u64::from(emit.offset) + u64::from(emit.len) <= self.queue, "{emit}");
            if calls > BURST {
                assert!(max < 64, "poll_transmit never ends");
                return;
            }
        }
    }

    fn segment(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let flags = match bytes.arbitrary::<u8>()? {
            0..=150 => Flags::ACK,
            151..=180 => Flags::ACK | Flags::FIN,
            181..=200 => Flags::ACK | Flags::SYN,
            _ => Flags(bytes.arbitrary()?),
        };
        let mut opts = options(bytes)?;
        let mut blocks = Vec::new();
        for _ in 0..bytes.int_in_range(0..=3u8)? {
            blocks.push((self.near(bytes)?, self.near(bytes)?));
        }
        opts.sacks = blocks.into_iter().collect();
        let seg = Segment {
            seq: self.near(bytes)?,
            ack: self.near(bytes)?,
            flags,
            wnd: bytes.arbitrary()?,
            // A packet has less than 64 KiB; super-segments are several.
            len: (bytes.arbitrary::<u32>()? >> (bytes.arbitrary::<u8>()? % 32)) % (1 << 20),
            ce: bytes.arbitrary::<u8>()? > 200,
            opts,
        };
        let keep = bytes.arbitrary()?;
        self.arrives(&seg, keep);
        Ok(())
    }

    fn arrives(&mut self, seg: &Segment, keep: bool) {
        let (before, state) = (self.tcb.rcv_nxt(), self.tcb.state());
        let out = self.tcb.segment_arrives(self.now, &self.cfg, seg, keep, &mut self.records);
        self.queue = self.queue.checked_sub(u64::from(out.acked)).expect("no more is acknowledged than was queued");
        match out.payload {
            Payload::None => assert_eq!(out.advanced, 0),
            Payload::InOrder { skip, len } => {
                assert!(len > 0 && u64::from(skip) + u64::from(len) <= u64::from(seg.len));
                assert!(out.advanced >= len);
                if state != State::SynSent {
                    let fin = u32::from(out.events.contains(tcp::Events::PEER_FIN));
                    assert_eq!(self.tcb.rcv_nxt().since(before), out.advanced + fin);
                }
            }
            Payload::OutOfOrder { skip, len, seq } => {
                assert!(keep && len > 0 && u64::from(skip) + u64::from(len) <= u64::from(seg.len));
                assert_eq!(seg.seq + skip, seq);
                assert!(seq.gt(before) && (seq + len).le(self.tcb.rcv_edge()));
            }
        }
        assert_eq!(out.closed.is_some(), state != State::Closed && self.tcb.state() == State::Closed);
    }

    fn check(&mut self) {
        if let Err(name) = self.tcb.invariants() {
            panic!("{name}: {}", self.tcb);
        }
        if self.tcb.state().is_synchronized() {
            assert!(self.edge.is_none_or(|e| e.le(self.tcb.rcv_edge())), "the edge moved back");
            self.edge = Some(self.tcb.rcv_edge());
            assert_eq!(u64::from(self.tcb.unacked()), self.queue);
        }
    }
}

fn options(bytes: &mut Unstructured<'_>) -> Result<Options> {
    if bytes.arbitrary::<u8>()? < 100 {
        return Ok(Options::NONE);
    }
    let ts: Option<(u32, u32)> = bytes.arbitrary()?;
    Ok(Options {
        mss: bytes.arbitrary()?,
        wscale: bytes.arbitrary::<Option<u8>>()?.map(|w| w % 20),
        sack_permitted: bytes.arbitrary()?,
        timestamps: ts.map(|(val, ecr)| Timestamps { val, ecr }),
        sacks: SackBlocks::EMPTY,
    })
}

/// A connection that a well-behaved client opened, by way of an entry or of a cookie.
fn accepted(now: Nanos, cfg: &Config, isn: u32, opts: Options, cookie: bool) -> Tcb {
    let syn = Segment { seq: Seq(isn), ack: Seq(0), flags: Flags::SYN, wnd: 5000, len: 0, ce: false, opts };
    let ack = |syn_ack: &tcp::Emit| Segment {
        seq: Seq(isn) + 1,
        ack: syn_ack.seq + 1,
        flags: Flags::ACK,
        wnd: 5000,
        len: 0,
        ce: false,
        opts: Options {
            timestamps: syn_ack.opts.timestamps.map(|ts| Timestamps { val: ts.ecr, ecr: ts.val }),
            ..Options::NONE
        },
    };
    if cookie {
        let tuple = Tuple {
            local: Ipv4Addr::new(198, 18, 0, 1).into(),
            remote: Ipv4Addr::new(198, 18, 0, 2).into(),
            local_port: 1,
            remote_port: 2,
        };
        let cookies = SynCookies::new([3; 16]);
        let emit = cookies.make(now, cfg, &tuple, &syn);
        return cookies.check(now, cfg, &tuple, &ack(&emit)).expect("our own cookie");
    }
    let (mut half, emit) = HalfOpen::syn_arrives(now, cfg, Seq(isn ^ 0x5555), &syn);
    match half.segment_arrives(now, cfg, &ack(&emit)) {
        HalfOutcome::Established(tcb) => tcb,
        other => panic!("{other:?}"),
    }
}
