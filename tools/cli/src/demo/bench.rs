use std::net::SocketAddr;

use anyhow::{Result, bail};
use lab::account::{Accounting, Cost};
use lab::measure;
use lab::net::Link;
use lab::noise::Steal;
use lab::server::Server;
use load::requests::{Kv, Workload};
use load::{Errors, Load, Outcome, Pace, Place, Spec, Window};
use units::Nanos;

use super::{LINUX, PORT, Progress, ZYGIX};
use crate::args::Demo;

/// The two that are compared, in this order everywhere.
pub(crate) const STACKS: [&str; 2] = ["zygix", "linux"];

/// The share of the slower stack's closed-loop throughput at which both are compared: loaded, not saturated.
const OPEN_SHARE: f64 = 0.4;

/// The most that one client thread offers in an open loop.
const OPEN_MAX: f64 = 400_000.0;

/// Different keys; all of them are stored before the measurement.
const RECORDS: u32 = 100_000;

/// How long a slice waits for late replies.
const PATIENCE: Nanos = Nanos::from_secs(2);

/// How the seconds are spent.
///
/// ```text
///   calibration   closed A, closed B (not reported)  -> the rate of all open slices
///   round 1       closed A, closed B, open A, open B
///   round 2       closed B, closed A, open B, open A
///   ...
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) closed: Window,
    /// With the rate filled in by calibration.
    pub(crate) open: Window,
}

impl Plan {
    /// Splits `total`, warm-ups included.
    pub(crate) fn new(total: Nanos) -> Plan {
        let rounds = (total.0 / 2_000_000_000).clamp(1, 10) as usize;
        // Calibration counts as half a round.
        let per_stack = Nanos(total.0 / (2 * rounds as u64 + 1));
        let part = |percent| Nanos(per_stack.0 / 100 * percent);
        let slice = |pace, warmup, window| Window {
            warmup: part(warmup),
            patience: PATIENCE,
            ..Window::new(pace, part(window))
        };
        Plan { rounds, closed: slice(Pace::Closed, 5, 30), open: slice(Pace::poisson(1.0), 10, 55) }
    }
}

/// What one stack did in one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// As fast as it goes.
    pub(crate) closed: Outcome,
    pub(crate) closed_cost: Cost,
    /// At the same rate for both.
    pub(crate) open: Outcome,
    pub(crate) open_cost: Cost,
}

/// All rounds of both stacks.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    /// Requests per second of the open slices.
    pub(crate) rate: f64,
    /// By stack, then by round.
    pub(crate) of: [Vec<Round>; 2],
    /// What went wrong outside of the rounds: preload, calibration.
    pub(crate) before: [Errors; 2],
    /// The share of all cores' time that a hypervisor took away meanwhile.
    pub(crate) stolen: f64,
}

/// Two servers and a client for each.
pub(crate) struct Bench {
    plan: Plan,
    accounting: Accounting,
    servers: [Server; 2],
    clients: [Load; 2],
}

impl Bench {
    /// Connects to both servers and stores the keys.
    pub(crate) fn new(plan: Plan, accounting: Accounting, servers: [Server; 2], demo: &Demo) -> Result<Bench> {
        // A client that spins on the servers' core would starve them.
        let place = Place { cores: vec![accounting.load_core], spin: !accounting.shared() };
        let client = |link: Link| {
            let workload = Workload::Kv(Kv { records: RECORDS, ..Kv::usr() });
            let spec = Spec {
                connections: demo.connections.into(),
                depth: demo.depth.into(),
                ..Spec::new(workload, SocketAddr::from((link.server(), PORT)))
            };
            Load::linux(&spec, &place).map_err(measure::refusal)
        };
        let mut clients = [client(ZYGIX)?, client(LINUX)?];
        for client in &mut clients {
            client.preload().map_err(measure::refusal)?;
        }
        Ok(Bench { plan, accounting, servers, clients })
    }

    /// All slices, in turn.
    pub(crate) fn run(&mut self, progress: &Progress) -> Result<Rounds> {
        progress.say("calibrating");
        let steal = Steal::start()?;
        let Plan { rounds, closed: full, open } = self.plan.clone();
        let (first, _) = self.slice(0, &full)?;
        let (second, _) = self.slice(1, &full)?;
        let slower = first.achieved_rps().min(second.achieved_rps());
        if slower < 1.0 {
            bail!("no load gets through: {} at zygix, {} at linux", first.errors, second.errors);
        }
        let rate = (slower * OPEN_SHARE).min(OPEN_MAX);
        let paced = Window { pace: Pace::poisson(rate), ..open };
        let mut of = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            // Whoever went first goes second next time: a machine that slows down or speeds up favours nobody.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut closed = [None, None];
            for stack in order {
                progress.say(&format!("round {} of {rounds}: {}, closed loop", round + 1, STACKS[stack]));
                closed[stack] = Some(self.slice(stack, &full)?);
            }
            for stack in order {
                let what = STACKS[stack];
                progress.say(&format!("round {} of {rounds}: {what}, {rate:.0} requests/s", round + 1));
                let (open, open_cost) = self.slice(stack, &paced)?;
                if let Some((closed, closed_cost)) = closed[stack].take() {
                    of[stack].push(Round { closed, closed_cost, open, open_cost });
                }
            }
        }
        Ok(Rounds { rate, of, before: [first.errors, second.errors], stolen: steal.share()? })
    }

    /// One slice of load on one server, and what it cost the server within the window.
    fn slice(&mut self, stack: usize, window: &Window) -> Result<(Outcome, Cost)> {
        let (client, server) = (&mut self.clients[stack], &mut self.servers[stack]);
        measure::costed(client, server, &self.accounting, window, |_| ())
    }

    /// Ends both servers; it is a failure if one did not last until now.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.clients);
        let [zygix, linux] = self.servers;
        zygix.stop()?;
        linux.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_keeps_to_its_seconds() {
        for seconds in 2..=50 {
            let plan = Plan::new(Nanos::from_secs(seconds));
            let of = |s: &Window| s.warmup.0 + s.window.0;
            let both = 2 * ((1 + plan.rounds as u64) * of(&plan.closed) + plan.rounds as u64 * of(&plan.open));
            let total = seconds * 1_000_000_000;
            assert!(plan.rounds >= 1 && both <= total && both > total * 8 / 10, "{seconds}: {both}");
        }
    }
}
