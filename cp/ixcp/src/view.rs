use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::journal::Event;

/// Seconds that are kept.
const KEPT: usize = 600;

/// What the control plane knows now: what the page, the metrics and `zygix top` show.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct View {
    /// When: milliseconds since 1970.
    pub at_ms: u64,
    /// The control plane's process; 0: there is none, this is a dataplane alone.
    pub pid: u32,
    /// It decides and does not act.
    pub dry_run: bool,
    /// The machine.
    pub host: HostView,
    /// The dataplanes.
    pub dataplanes: Vec<PlaneView>,
    /// The background jobs.
    pub background: Vec<JobView>,
    /// The last events, oldest first.
    pub events: Vec<Event>,
}

/// The machine.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HostView {
    /// Its cpus, in words.
    pub topology: String,
    /// Power of all packages in watts.
    pub power_w: Option<f64>,
    /// Where that is from: `rapl`, or `model NAME`.
    pub power_from: String,
    /// The clock of the dataplanes' cpus in MHz, where it can be read.
    pub clock_mhz: Option<f64>,
    /// The share of all cpus' time that background jobs had in the last second.
    pub background_share: f64,
    /// What this machine lacks, a line each.
    pub lacks: Vec<String>,
}

/// A dataplane.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PlaneView {
    /// Its name.
    pub name: String,
    /// What it serves.
    pub about: String,
    /// `serving`, `silent` (it does not write its page) or `gone`.
    pub state: String,
    /// The policy; empty without a control plane.
    pub policy: String,
    /// The configuration, in words.
    pub step: String,
    /// Its place on the ladder, from 0.
    pub position: usize,
    /// Steps of the ladder.
    pub steps: usize,
    /// The objective for p99; 0: none is known.
    pub slo_us: f64,
    /// The delay in queues at which resources are added.
    pub limit_us: f64,
    /// The worst delay in queues now.
    pub delay_us: f64,
    /// p99 of the last second, from receive to transmit; `None`: nothing was served.
    pub p99_us: Option<f64>,
    /// Requests per second, in the last second.
    pub rate: f64,
    /// Elastic threads that serve.
    pub active: usize,
    /// Seconds whose p99 missed the objective, since the control plane's start.
    pub violations: u64,
    /// Seconds in which something was served, likewise.
    pub seconds: u64,
    /// Why the last decision was as it was.
    pub reason: String,
    /// Its elastic threads.
    pub cores: Vec<CoreView>,
}

/// An elastic thread. Rates are per second, of the last second.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CoreView {
    /// Its number.
    pub core: usize,
    /// Where it is pinned.
    pub cpu: Option<u32>,
    /// It owns nothing, and sleeps.
    pub parked: bool,
    /// Flow groups that it owns.
    pub groups: usize,
    /// Connections that it has.
    pub connections: u64,
    /// Requests.
    pub rate: f64,
    /// The share of its time in which it works.
    pub load: f64,
    /// Frames that wait.
    pub queue: f64,
    /// Connections of a batch.
    pub batch: f64,
    /// What who comes last waits.
    pub delay_us: f64,
    /// Pieces of work taken from others.
    pub steals: f64,
    /// Network passes done for others.
    pub lends: f64,
    /// Frames dropped, since its start.
    pub drops: u64,
    /// Segments sent again, since its start.
    pub retransmits: u64,
    /// Application calls of more than 10 ms, since its start.
    pub non_responsive: u64,
    /// It is in such a call.
    pub in_app_long: bool,
}

/// A background job.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// The cpus that it has; empty: it is frozen.
    pub cpus: Vec<usize>,
    /// It has ended.
    pub gone: bool,
    /// The share of all cpus' time that it had in the last second.
    pub share: f64,
}

/// A second, for curves.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When: milliseconds since 1970.
    pub at_ms: u64,
    /// Watts.
    pub power_w: Option<f64>,
    /// The background's share of all cpus.
    pub background: f64,
    /// By dataplane: requests per second, p99 in us, worst delay in us, elastic threads that serve.
    pub planes: Vec<(f64, Option<f64>, f64, usize)>,
}

/// The last ten minutes, a [`Sample`] for each second.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// Names of the dataplanes, in the order of [`Sample::planes`].
    pub names: Vec<String>,
    /// Their objectives in us.
    pub slo_us: Vec<f64>,
    /// Oldest first.
    pub samples: VecDeque<Sample>,
}

impl History {
    /// The second that has passed.
    pub(crate) fn add(&mut self, view: &View) {
        let of = |p: &PlaneView| (p.rate, p.p99_us, p.delay_us, p.active);
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at_ms: view.at_ms,
            power_w: view.host.power_w,
            background: view.host.background_share,
            planes: view.dataplanes.iter().map(of).collect(),
        });
    }
}

impl CoreView {
    /// In a word: what it does.
    pub fn state(&self) -> &'static str {
        match (self.parked, self.in_app_long) {
            (true, _) => "parked",
            (false, true) => "NON-RESPONSIVE",
            (false, false) => "serves",
        }
    }
}
