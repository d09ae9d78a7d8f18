//! What is simulated: servers, the policy by which they take requests, and what arrives.

use draw::{Gaps, Purpose, ServiceTimes, stream};
use std::fmt;
use std::str::FromStr;

/// The most servers of a [`System`].
pub const MAX_SERVERS: usize = 1024;

/// How servers take requests.
///
/// | text | policy |
/// |---|---|
/// | `central` | one queue before all servers, first come first served: M/G/n |
/// | `partitioned` | a queue for each server, first come first served; requests are dealt at random: n x M/G/1 |
/// | `ps` | all that are present share the servers, one server each at most: M/G/n/PS |
/// | `ps-partitioned` | a server each shared by its own; requests are dealt at random: n x M/G/1/PS |
/// | `steal` | as `partitioned`, but a server without work takes the oldest of another queue that has some, chosen at random; free of cost |
/// | `quantum:Q` or `quantum:Q:C` | one queue; a request that has had Q goes to its end if others wait, and the server loses C by that |
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// M/G/n, first come first served.
    Central,
    /// n x M/G/1, first come first served.
    Partitioned,
    /// M/G/n with processor sharing.
    Sharing,
    /// n x M/G/1 with processor sharing.
    PartitionedSharing,
    /// A queue for each server; idle servers steal.
    Steal,
    /// One queue, round robin.
    Quantum {
        /// How long a request is served at a time, in mean service times.
        slice: f64,
        /// What a server loses when it puts a request back, in mean service times.
        switch: f64,
    },
}

impl Policy {
    /// Whether queues do not help one another, so that each forgets its past by itself.
    pub(crate) fn divided(self) -> bool {
        matches!(self, Policy::Partitioned | Policy::PartitionedSharing)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Central => f.write_str("central"),
            Policy::Partitioned => f.write_str("partitioned"),
            Policy::Sharing => f.write_str("ps"),
            Policy::PartitionedSharing => f.write_str("ps-partitioned"),
            Policy::Steal => f.write_str("steal"),
            Policy::Quantum { slice, switch } if *switch == 0.0 => write!(f, "quantum:{slice}"),
            Policy::Quantum { slice, switch } => write!(f, "quantum:{slice}:{switch}"),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        match text {
            "central" => return Ok(Policy::Central),
            "partitioned" => return Ok(Policy::Partitioned),
            "ps" => return Ok(Policy::Sharing),
            "ps-partitioned" => return Ok(Policy::PartitionedSharing),
            "steal" => return Ok(Policy::Steal),
            _ => {}
        }
        let Some(rest) = text.strip_prefix("quantum:") else {
            return Err("choose from central, partitioned, ps, ps-partitioned, steal, quantum:Q[:COST]".into());
        };
        let (slice, switch) = rest.split_once(':').unwrap_or((rest, "0"));
        // Shorter slices would make more events than anybody waits for.
        let slice = slice.parse().ok().filter(|q| (0.001..=1e6).contains(q));
        let switch = switch.parse().ok().filter(|c| (0.0..=1e3).contains(c));
        match (slice, switch) {
            (Some(slice), Some(switch)) => Ok(Policy::Quantum { slice, switch }),
            _ => {
                Err("write quantum:Q or quantum:Q:COST in mean service times, Q from 0.001, such as quantum:0.1".into())
            }
        }
    }
}

/// A system of servers, and what arrives there. Its unit of time is the mean service time.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// How many servers: moved into 1..=[`MAX_SERVERS`].
    pub servers: usize,
    /// How they take requests.
    pub policy: Policy,
    /// The work of a request, scaled to a mean of 1.
    pub work: ServiceTimes,
    /// How arrivals are spread around their rate.
    pub gaps: Gaps,
}

impl System {
    /// With Poisson arrivals.
    pub fn new(servers: usize, policy: Policy, work: ServiceTimes) -> System {
        System { servers, policy, work, gaps: Gaps::poisson() }
    }

    /// The servers within their bounds.
    pub(crate) fn n(&self) -> usize {
        self.servers.clamp(1, MAX_SERVERS)
    }

    /// How many requests it takes the system to forget its past at a load that is `below` under 1, roughly: the heavy-traffic limit's
    /// relaxation time, 4 v / (1 - load)^2 with v the mean of the gaps' and the work's variances over the squares of their means; as
    /// many times as there are queues that do not help one another.
    pub(crate) fn forgets(&self, below: f64) -> f64 {
        let queues = if self.policy.divided() { self.n() as f64 } else { 1.0 };
        4.0 * self.variability() * queues / below.max(1e-6).powi(2)
    }

    fn variability(&self) -> f64 {
        const DRAWS: u32 = 50_000;
        let mut rng = stream(0, 0, Purpose::Requests);
        let square = |time: f64| time * time;
        let squares: f64 = (0..DRAWS).map(|_| square(self.work.draw_unit(&mut rng) - 1.0)).sum();
        ((squares / f64::from(DRAWS) + self.gaps.cv2()) / 2.0).clamp(0.1, 1e4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_text() {
        for text in ["central", "partitioned", "ps", "ps-partitioned", "steal", "quantum:0.1", "quantum:2:0.05"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_varies_more_is_forgotten_later() {
        let of = |text: &str, policy| System::new(4, policy, text.parse().unwrap()).forgets(0.1);
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.3;
        assert!(close(of("exp:1us", Policy::Central), 400.0) && close(of("det:1us", Policy::Central), 200.0));
        assert!(close(of("bimodal2:1us", Policy::Sharing), 50_000.0));
        assert!(close(of("exp:1us", Policy::Partitioned), 1600.0));
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in
            ["", "fifo", "quantum", "quantum:", "quantum:0", "quantum:-1", "quantum:NaN", "quantum:1:-1", "ps:1"]
        {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }
}
