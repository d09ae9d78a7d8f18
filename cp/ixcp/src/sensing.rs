use std::collections::VecDeque;

use abi::LatencyHistogram;
use attach::Snapshot;
use policy::{CoreSense, Sense};
use units::Nanos;

use crate::view::CoreView;

/// The window of rates and latencies that people are shown, and by which violations are counted.
const SECOND: Nanos = Nanos::from_secs(1);
/// Of fewer requests no 99th percentile is told to a policy: it would be that of one unlucky request.
const ENOUGH: u64 = 200;
/// A core is told to be full when polls that took all they may made up so much of the time since the last look. One alone says little: batches are bounded.
const FULL: f64 = 0.5;

/// An average queue below this is what is left of a queue that was: nobody waits.
const EMPTY: f64 = 0.01;

/// What is known of a dataplane from its last snapshots: a second of them.
#[derive(Debug, Default)]
pub struct Senses {
    past: VecDeque<Snapshot>,
}

impl Senses {
    /// One more snapshot. One that is not later than the last is left out; so is one of another process, with all before it.
    pub fn see(&mut self, now: Snapshot) {
        if let Some(last) = self.past.back() {
            if last.header.pid != now.header.pid || last.cores.len() != now.cores.len() {
                self.past.clear();
            } else if last.at >= now.at {
                return;
            }
        }
        self.past.push_back(now);
        // The first may be older than a second, so that a second is spanned.
        while self.past.len() > 2 && self.past[1].at + SECOND <= self.past[self.past.len() - 1].at {
            self.past.pop_front();
        }
    }

    /// Forgets all: the dataplane is gone.
    pub fn forget(&mut self) {
        self.past.clear();
    }

    /// The latest snapshot.
    pub fn last(&self) -> Option<&Snapshot> {
        self.past.back()
    }

    fn ends(&self) -> Option<(&Snapshot, &Snapshot, f64)> {
        let (first, last) = (self.past.front()?, self.past.back()?);
        let seconds = (last.at - first.at).as_secs_f64();
        (seconds > 0.0).then_some((first, last, seconds))
    }

    /// What a policy is told. Its clock is that of the snapshots.
    pub fn sense(&self) -> Option<Sense> {
        let now = self.past.back()?;
        let before = self.past.len().checked_sub(2).map(|i| &self.past[i]);
        let cores = now.cores.iter().enumerate().map(|(i, core)| {
            let before = before.map(|b| (&b.cores[i], (now.at - b.at).0 as f64));
            let full = before.is_some_and(|(was, elapsed)| {
                let polls = core.ring_full.saturating_sub(was.ring_full) as f64;
                polls * core.iteration_ns_ewma > FULL * elapsed && core.depth_ewma[0] > 0.0
            });
            let latency = self.past.front().map(|first| core.latency.since(&first.cores[i].latency));
            let p99 = latency.filter(|l| l.total() >= ENOUGH).and_then(|l| l.quantile(0.99));
            let own = (1.0 - core.idle_ewma[0] - core.helping_ewma).max(0.0);
            let helped = core.helped_ewma.max(0.0);
            CoreSense {
                active: !core.parked,
                queue: core.depth_ewma.map(|q| if q < EMPTY { 0.0 } else { q }),
                queue_full: full,
                batch: core.batch_ewma,
                iteration_ns: core.iteration_ns_ewma,
                idle: core.idle_ewma,
                remote_share: if helped > 0.0 { helped / (own + helped) } else { 0.0 },
                latency_p99_ns: p99.map(|t| t.0 as f64),
            }
        });
        Some(Sense { at: now.at, batch_bound: now.header.bound as usize, cores: cores.collect() })
    }

    /// Requests per second (ready connections and datagrams), and p99 of the last second in nanoseconds.
    pub fn service(&self) -> (f64, Option<f64>) {
        let Some((first, last, seconds)) = self.ends() else { return (0.0, None) };
        let ready = |s: &Snapshot| s.cores.iter().map(|c| c.ready).fold(0u64, u64::wrapping_add);
        let latency: LatencyHistogram = last.latency().since(&first.latency());
        let p99 = latency.quantile(0.99).map(|t| t.0 as f64);
        (ready(last).saturating_sub(ready(first)) as f64 / seconds, p99)
    }

    /// Frames of each flow group in the last second, and their owners; empty before there are two snapshots.
    pub fn groups(&self) -> Vec<policy::Group> {
        let Some((first, last, seconds)) = self.ends() else { return Vec::new() };
        let owner = |group: usize| {
            let id = units::FlowGroupId(group as u16);
            last.cores.iter().position(|c| c.groups.0.contains(id)).map(|core| units::CoreId(core as u16))
        };
        let loads = last.group_load.iter().zip(&first.group_load).enumerate();
        let groups = loads.map(|(group, (now, was))| {
            let load = now.saturating_sub(*was) as f64 / seconds;
            owner(group).map(|owner| policy::Group { load, owner })
        });
        // Between two cores, a group is nobody's: look again later.
        groups.collect::<Option<_>>().unwrap_or_default()
    }

    /// What people are shown of the cores.
    pub fn cores(&self) -> Vec<CoreView> {
        let Some(last) = self.past.back() else { return Vec::new() };
        let first = self.ends().map(|(first, _, seconds)| (first, seconds));
        let view = |(i, core): (usize, &attach::CoreSnapshot)| {
            let rate = |of: &dyn Fn(&attach::CoreSnapshot) -> u64| {
                first.map_or(0.0, |(was, seconds)| of(core).saturating_sub(of(&was.cores[i])) as f64 / seconds)
            };
            CoreView {
                core: i,
                cpu: core.cpu,
                parked: core.parked,
                groups: core.groups.0.len(),
                connections: core.connections,
                rate: rate(&|c| c.ready),
                load: if core.parked { 0.0 } else { (1.0 - core.idle_ewma[1]).clamp(0.0, 1.0) },
                queue: core.depth_ewma[1],
                batch: core.batch_ewma,
                delay_us: core.queueing_ns_ewma / 1000.0,
                steals: rate(&|c| c.steals),
                lends: rate(&|c| c.lends),
                drops: core.drops,
                retransmits: core.retransmits,
                non_responsive: core.non_responsive,
                in_app_long: core.in_app_long,
            }
        };
        last.cores.iter().enumerate().map(view).collect()
    }
}
