use abi::{CorePage, LatencyHistogram, PageHeader};
use serde::Serialize;
use units::Nanos;

/// What a core's block says.
pub type CoreSnapshot = CorePage;

/// What a metrics page says. Each core's part is of one moment, and all are of the same hundredth of a second.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Snapshot {
    /// When it was taken, on the monotonic clock.
    #[serde(rename = "at_ns", serialize_with = "as_ns")]
    pub at: Nanos,
    /// What is said of the whole.
    pub header: PageHeader,
    /// Core by core.
    pub cores: Vec<CoreSnapshot>,
    /// Frames that have come for each flow group since the start.
    pub group_load: Vec<u64>,
}

impl Snapshot {
    /// Whether the dataplane wrote lately. If not, it has ended, is stopped, or does not get a processor.
    pub fn is_fresh(&self) -> bool {
        self.at - self.header.heartbeat <= abi::PAGE_STALE
    }

    /// How long ago it wrote.
    pub fn age(&self) -> Nanos {
        self.at - self.header.heartbeat
    }

    /// The latencies of all cores together, since the start.
    pub fn latency(&self) -> LatencyHistogram {
        let mut all = LatencyHistogram::default();
        self.cores.iter().for_each(|c| all.add(&c.latency));
        all
    }

    /// Cores that are not parked.
    pub fn active(&self) -> usize {
        self.cores.iter().filter(|c| !c.parked).count()
    }
}

fn as_ns<S: serde::Serializer>(at: &Nanos, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(at.0)
}
