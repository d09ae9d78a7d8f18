use std::path::Path;

use serde::{Deserialize, Serialize};
use units::Nanos;

use crate::WorldError;

/// What operations take on the machine that is modelled, in nanoseconds each. Application code takes what the workload says.
///
/// As a file: one JSON object with these names, all of them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Where the figures are from.
    pub name: String,
    /// A frame received, protocols included.
    pub rx_ns: u64,
    /// A frame transmitted, protocols included.
    pub tx_ns: u64,
    /// A turn that finds something, whatever it finds.
    pub turn_ns: u64,
    /// Going into application code and back, for a batch.
    pub call_ns: u64,
    /// From the instant at which there is something until an idle core sees it.
    pub poll_ns: u64,
    /// More for a stolen connection, whose lines are in another core's cache.
    pub steal_ns: u64,
    /// The same for a pass through another core's network layer.
    pub lend_ns: u64,
    /// Interrupting a core: what the sender loses.
    pub interrupt_send_ns: u64,
    /// And what the interrupted core loses, besides what it then does.
    pub interrupt_ns: u64,
}

impl Costs {
    /// The machine of the thesis (chapter 3: E5-2665, 10 GbE, interrupts by the hardware). The network's cost per request is fitted to one figure: ZygOS reaches 75 %
    /// of the bound at 10 us, exponential. The interrupt's costs are what the thesis's section 3.4.5 leads to expect.
    pub fn thesis() -> Costs {
        Costs {
            name: "thesis".into(),
            rx_ns: 1250,
            tx_ns: 1250,
            turn_ns: 0,
            call_ns: 0,
            poll_ns: 100,
            steal_ns: 200,
            lend_ns: 200,
            interrupt_send_ns: 500,
            interrupt_ns: 500,
        }
    }

    /// Reads a file, as `zygix bench calibrate` writes it.
    ///
    /// # Errors
    /// It cannot be read, or does not say these things, or no sensible ones.
    pub fn read(path: &Path) -> Result<Costs, WorldError> {
        let wrong = |e: String| WorldError::Costs(path.display().to_string(), e);
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let costs: Costs = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let all =
            [costs.rx_ns, costs.tx_ns, costs.turn_ns, costs.call_ns, costs.poll_ns, costs.steal_ns, costs.lend_ns];
        let more = [costs.interrupt_send_ns, costs.interrupt_ns];
        match all.iter().chain(&more).find(|ns| **ns > 1_000_000) {
            Some(ns) => Err(wrong(format!("{ns} ns for one operation; the most is a millisecond"))),
            None => Ok(costs),
        }
    }

    /// How long an idle core takes to see something: never nothing, or time would stand still between two that see the same.
    pub(crate) fn poll(&self) -> Nanos {
        Nanos(self.poll_ns.max(10))
    }
}
