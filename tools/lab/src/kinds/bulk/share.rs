//! How flows share a slow link, and how short DCTCP keeps its queue.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, anyhow};
use bridge::{Bridge, Seen};
use nic::{Faults, Nic};
use serde_json::{Value, json};
use shm::ShmNic;
use sys::clock;
use units::Nanos;
use wire::Mac;

use super::course::{self, Course};
use super::own::{self, Seat};
use super::paper::Found;
use super::{Able, Bounds, Direction, Moved, Setting, Who, sockets};
use crate::kinds::side::{Folder, meet};
use crate::net::Link;
use crate::stack::{Serving, Stack};
use crate::stats::Spread;
use crate::{Interrupted, Lab};

/// The slow link: bits a second.
const RATE: u64 = 100_000_000;
/// Its latency, one way.
const LATENCY: Nanos = Nanos::from_millis(5);
/// Of a span, what is left out at its beginning: slow start.
const WARM_UP: f64 = 0.2;
/// Between two looks at how far each flow is.
const LOOK: Nanos = Nanos::from_millis(250);
/// A span is so many of the points that were asked for: sharing takes its time.
const POINTS: u64 = 3;

/// DCTCP's link: a round trip of 2 ms, 25 000 B under way; CE from 15 000 B on (RFC 8257 wants more than a seventh of what is under way, and
/// room for a burst), and room for 100 000 B.
const NEAR: Nanos = Nanos::from_millis(1);
const MARK: u32 = 15_000;
const ROOM: u32 = 100_000;

/// Two flows on one link.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) flows: [Who; 2],
    /// Of the first, by round, 0 to 1.
    pub(super) first: Vec<f64>,
    /// Both together, in Mbit/s, by round.
    pub(super) mbps: Vec<f64>,
    /// The queue's length as frames found it, in bytes, by round: median and p99.
    pub(super) queue: Vec<[u64; 2]>,
    /// Of the last round: seconds, and Mbit/s of each since the last look.
    pub(super) course: Vec<(f64, [f64; 2])>,
}

impl Share {
    pub(super) fn object(&self, congestion: &str) -> Value {
        let (first, mbps) = (Spread::of(self.first.iter().copied()), Spread::of(self.mbps.iter().copied()));
        let [p50, p99] = median_of(&self.queue);
        json!({
            "wire": "slow link", "flows": self.flows.map(Who::name), "congestion": congestion,
            "first_share": first.map(|s| s.median), "first_share_low": first.map(|s| s.low), "first_share_high": first.map(|s| s.high),
            "mbps": mbps.map(|s| s.median), "queue_p50_bytes": p50, "queue_p99_bytes": p99,
        })
    }
}

/// One flow on a link that marks, or does not.
#[derive(Clone, Debug)]
pub(super) struct Depth {
    pub(super) congestion: &'static str,
    pub(super) mbps: Vec<f64>,
    pub(super) queue: Vec<[u64; 2]>,
    pub(super) marked: u64,
    pub(super) dropped: u64,
}

impl Depth {
    pub(super) fn object(&self) -> Value {
        let mbps = Spread::of(self.mbps.iter().copied());
        let [p50, p99] = median_of(&self.queue);
        json!({
            "wire": "marking link", "stack": "zygix", "congestion": self.congestion, "mbps": mbps.map(|s| s.median),
            "queue_p50_bytes": p50, "queue_p99_bytes": p99, "marked": self.marked, "dropped": self.dropped,
        })
    }
}

/// Medians over rounds of a p50 and a p99.
pub(super) fn median_of(rounds: &[[u64; 2]]) -> [f64; 2] {
    [0, 1].map(|i| crate::stats::median(rounds.iter().map(|r| r[i] as f64)))
}

/// The most that either part takes.
pub(super) fn takes(setting: &Setting) -> Nanos {
    Nanos((span(setting) + Nanos::from_secs(1)).0 * 2 * u64::from(setting.rounds))
}

fn span(setting: &Setting) -> Nanos {
    Nanos(setting.bounds.span.0 * POINTS)
}

/// Zygix and Linux's CUBIC on one link with a queue of what is under way; and, to be compared with, Linux and Linux.
pub(super) fn fairness(lab: &mut Lab, setting: &Setting, found: &mut Found) -> Result<()> {
    let course = Course::build(lab, super::Congestion::Cubic, &setting.options)?;
    let queue = Faults::bandwidth_delay(RATE, Nanos(LATENCY.0 * 2));
    let back = Faults { rate: RATE, queue, latency: LATENCY, ..Faults::default() };
    let faults = [Faults { latency: LATENCY, ..Faults::default() }, back];
    let first = found.shares.len();
    for flows in [[Who::Zygix, Who::Linux], [Who::Linux, Who::Linux]] {
        found.shares.push(Share { flows, first: vec![], mbps: vec![], queue: vec![], course: vec![] });
    }
    for round in 0..setting.rounds {
        for i in crate::kinds::alternate(2, round) {
            let share = &mut found.shares[first + i];
            let [a, b] = share.flows.map(Who::name);
            lab.progress.say(&format!("fairness, {a} and {b}"));
            course.set(faults, u64::from(round) + 1);
            match together(lab, share.flows, setting) {
                Ok(looks) => share.add(&looks, &course.seen()),
                Err(e) if e.is::<Interrupted>() => return Err(e),
                Err(e) => {
                    found.errors += 1;
                    found.notes.push(format!("Fairness, {a} and {b}: {e:#}."));
                }
            }
        }
    }
    Ok(())
}

/// When, and how many bytes each flow had moved by then.
type Looks = Vec<(Nanos, [u64; 2])>;

impl Share {
    fn add(&mut self, looks: &Looks, seen: &Seen) {
        let (Some(begin), Some(end)) = (looks.first(), looks.last()) else { return };
        let warm = begin.0 + Nanos(((end.0 - begin.0).0 as f64 * WARM_UP) as u64);
        let from = looks.iter().find(|look| look.0 >= warm).unwrap_or(begin);
        let moved = [0, 1].map(|i| (end.1[i] - from.1[i]) as f64);
        let seconds = (end.0 - from.0).as_secs_f64();
        self.first.push(moved[0] / (moved[0] + moved[1]));
        self.mbps.push((moved[0] + moved[1]) * 8e-6 / seconds);
        self.queue.push([seen.depths[1].quantile(0.5), seen.depths[1].quantile(0.99)]);
        let rate = |pair: &[(Nanos, [u64; 2])]| {
            let seconds = (pair[1].0 - pair[0].0).as_secs_f64();
            let of = |i: usize| (pair[1].1[i] - pair[0].1[i]) as f64 * 8e-6 / seconds;
            ((pair[1].0 - begin.0).as_secs_f64(), [of(0), of(1)])
        };
        self.course = looks.windows(2).map(rate).collect();
    }
}

/// Both flows at once, from the servers to us, watched until time is up.
fn together(lab: &Lab, flows: [Who; 2], setting: &Setting) -> Result<Looks> {
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let bounds = Bounds { bytes: u64::MAX >> 1, span: span(setting) };
    let over = AtomicBool::new(false);
    let core = lab.accounting.load_core;
    std::thread::scope(|scope| {
        let flow = |i: usize| {
            let (counts, over) = (&counts, &over);
            move || {
                let addr = course::place(flows[i], Direction::Down);
                let done = super::rows::on(core, || {
                    // Of Linux, always CUBIC: that is who Zygix shares with.
                    sockets::transfer(addr, Direction::Down, bounds, "cubic", &counts[i])
                });
                over.store(true, Relaxed);
                done
            }
        };
        let running = [scope.spawn(flow(0)), scope.spawn(flow(1))];
        let mut looks = Vec::new();
        while !over.load(Relaxed) {
            looks.push((clock::now(), [0, 1].map(|i| counts[i].load(Relaxed))));
            std::thread::sleep(LOOK.duration());
        }
        for flow in running {
            let moved: Moved = flow.join().map_err(|_| anyhow!("a client has panicked"))??;
            if !moved.intact {
                return Err(anyhow!("{} bytes arrived damaged", moved.bytes));
            }
        }
        Ok(looks)
    })
}

/// Zygix to Zygix over a slow link: with DCTCP where it marks, and with what the other parts use.
pub(super) fn dctcp(lab: &mut Lab, setting: &Setting, found: &mut Found) -> Result<()> {
    let Able { congestion, ecn } = setting.able;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // What the other parts use, for comparison: its queue is as long as there is room.
    let usual = setting.options.iter().cloned().chain(words(if ecn { "--ecn off" } else { "" })).collect();
    let mut ways = vec![(setting.congestion.zygix(), usual, 0)];
    if congestion && ecn {
        ways.push(("dctcp", words("--congestion dctcp --ecn on"), MARK));
    } else {
        found.notes.push("DCTCP: not available: this Zygix has no serve --congestion dctcp --ecn on.".into());
    }
    let first = found.depths.len();
    for (congestion, ..) in &ways {
        found.depths.push(Depth { congestion, mbps: vec![], queue: vec![], marked: 0, dropped: 0 });
    }
    for round in 0..setting.rounds {
        for i in crate::kinds::alternate(ways.len(), round) {
            let (name, options, mark) = &ways[i];
            lab.progress.say(&format!("marking link, {name}"));
            match alone(lab, setting, options, *mark, u64::from(round) + 1) {
                Ok((moved, seen)) => {
                    let depth = &mut found.depths[first + i];
                    depth.mbps.push(moved.gbps() * 1e3);
                    depth.queue.push([seen.depths[0].quantile(0.5), seen.depths[0].quantile(0.99)]);
                    depth.marked += seen.passed[0].marked;
                    depth.dropped += seen.passed[0].dropped;
                }
                Err(e) if e.is::<Interrupted>() => return Err(e),
                Err(e) => {
                    found.errors += 1;
                    found.notes.push(format!("Marking link, {name}: {e:#}."));
                }
            }
        }
    }
    Ok(())
}

/// One flow from a server to a client of our own; two shm wires, and between them the link.
fn alone(lab: &Lab, setting: &Setting, options: &[String], mark: u32, seed: u64) -> Result<(Moved, Seen)> {
    let more = ["--mode", "source"].map(str::to_owned).into_iter().chain(options.iter().cloned()).collect();
    let (stack, link) = (Stack::Zygix, Link(70));
    let serving = Serving { stack, app: "echo", link, cores: vec![lab.accounting.server_core], more };
    let folder = Folder::new(link)?;
    let (server, near) = meet(&serving, &folder.path().join("wire"), false, false)?;
    let config = shm::Config { mac: Mac::local(2), ..shm::Config::default() };
    let (far, client) = shm::pair(&shm::Config { mac: Mac::local(3), ..shm::Config::default() }, &config)?;
    let queue = |mut nic: ShmNic| nic.queues().pop().ok_or_else(|| anyhow!("the wire has no queue"));
    let slow = Faults { rate: RATE, queue: ROOM, mark, latency: NEAR, ..Faults::default() };
    let faults = [slow, Faults { latency: NEAR, ..Faults::default() }];
    let bridge = Bridge::new(queue(near)?, queue(far)?, faults, seed)?.start(None)?;
    let seat = Seat { core: lab.accounting.load_core, spin: false, tcp: own::ecn() };
    let bounds = Bounds { bytes: u64::MAX >> 1, span: span(setting) };
    // Its slow start is not what is asked about: what was seen counts from then on.
    let warm = Duration::from_secs_f64(bounds.span.as_secs_f64() * WARM_UP);
    let moved = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(warm);
            bridge.set(faults, seed);
        });
        own::transfer(client, link, serving.addr(), Direction::Down, bounds, &seat)
    })?;
    drop(server);
    if !moved.intact {
        return Err(anyhow!("{} bytes arrived damaged", moved.bytes));
    }
    Ok((moved, bridge.seen()))
}
