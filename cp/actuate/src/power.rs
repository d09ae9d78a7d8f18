use units::Nanos;

use crate::ActuateError;
use crate::tree::Tree;

const POWERCAP: &str = "sys/class/powercap";
/// A package cannot draw more: readings above are a counter that was reset.
const WATTS_MAX: f64 = 10_000.0;

/// A package's energy counter.
#[derive(Clone, Debug)]
struct Zone {
    energy: String,
    /// The counter starts again from 0 above this, in microjoules.
    range: u64,
    last: u64,
}

/// The power of all packages, from RAPL through powercap.
#[derive(Clone, Debug)]
pub struct Rapl {
    zones: Vec<Zone>,
    at: Nanos,
}

impl Rapl {
    /// The packages' zones: `intel-rapl:N` (AMD's have the same name) that call themselves `package-...`. Subzones (cores, memory) are parts of these, or are not
    /// ours to count.
    ///
    /// # Errors
    /// None there; not readable (energy counters are root's).
    pub fn open(tree: &Tree, now: Nanos) -> Result<Rapl, ActuateError> {
        let mut zones = Vec::new();
        for name in tree.list(POWERCAP).into_iter().filter(|n| n.matches(':').count() == 1) {
            let dir = format!("{POWERCAP}/{name}");
            if !tree.read(&format!("{dir}/name")).is_ok_and(|n| n.starts_with("package")) {
                continue;
            }
            let energy = format!("{dir}/energy_uj");
            let range = tree.number(&format!("{dir}/max_energy_range_uj")).unwrap_or(u64::MAX);
            zones.push(Zone { last: tree.number(&energy)?, energy, range });
        }
        if zones.is_empty() {
            return Err(ActuateError::Missing(format!("{POWERCAP}/intel-rapl:0")));
        }
        Ok(Rapl { zones, at: now })
    }

    /// Average watts since the last reading; `None` when no time has passed or a reading makes no sense. A counter wraps around after minutes at full power
    /// at the earliest: read it more often.
    ///
    /// # Errors
    /// A zone has vanished.
    pub fn watts(&mut self, tree: &Tree, now: Nanos) -> Result<Option<f64>, ActuateError> {
        let mut joules = 0.0;
        for zone in &mut self.zones {
            let read = tree.number(&zone.energy)?;
            let used = match read.checked_sub(zone.last) {
                Some(used) => used,
                // Around once: up to the range, and on from 0.
                None => zone.range.saturating_sub(zone.last).saturating_add(read),
            };
            zone.last = read;
            joules += used as f64 / 1e6;
        }
        let seconds = now.0.saturating_sub(self.at.0) as f64 / 1e9;
        self.at = now;
        let watts = joules / seconds;
        Ok((seconds > 0.0 && watts <= WATTS_MAX).then_some(watts))
    }
}
