use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use anyhow::{Result, bail};
use load::{Client, Config, Errors, Outcome, Pace, Slice, Workload};
use sys::clock;
use units::Nanos;

use super::account::{self, Accounting, Cost, Reading, Softirqs};
use super::child::Server;
use super::net::{LINUX, ZYGIX};
use super::{PORT, Progress};
use crate::args::Demo;

/// The two that are compared, in this order everywhere.
pub(crate) const STACKS: [&str; 2] = ["zygix", "linux"];

/// The share of the slower stack's closed-loop throughput at which both are compared: loaded, not saturated.
const OPEN_SHARE: f64 = 0.4;

/// The most that one client thread offers in an open loop.
const OPEN_MAX: f64 = 400_000.0;

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) closed: Slice,
    /// With the rate filled in by calibration.
    pub(crate) open: Slice,
}

impl Plan {
    /// Splits `total`, warm-ups included.
    pub(crate) fn new(total: Nanos) -> Plan {
        let rounds = (total.0 / 2_000_000_000).clamp(1, 10) as usize;
        // Calibration counts as half a round.
        let per_stack = Nanos(total.0 / (2 * rounds as u64 + 1));
        let part = |percent| Nanos(per_stack.0 / 100 * percent);
        let slice =
            |pace, warmup, window| Slice { pace, warmup: part(warmup), window: part(window), patience: PATIENCE };
        Plan { rounds, closed: slice(Pace::Closed, 5, 30), open: slice(Pace::Open { rate: 1.0 }, 10, 55) }
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
    clients: [Client; 2],
}

impl Bench {
    /// Connects to both servers and stores the keys.
    pub(crate) fn new(plan: Plan, accounting: Accounting, servers: [Server; 2], demo: &Demo) -> Result<Bench> {
        let shared = accounting.load_core == accounting.server_core;
        let client = |address: Ipv4Addr| {
            Client::connect(Config {
                addr: SocketAddr::from((address, PORT)),
                connections: demo.connections.into(),
                depth: demo.depth.into(),
                workload: Workload::USR,
                seed: 1,
                core: Some(accounting.load_core),
                // A client that spins on the servers' core would starve them.
                spin: !shared,
            })
        };
        let mut clients = [client(ZYGIX)?, client(LINUX)?];
        for client in &mut clients {
            client.preload(0, Workload::USR.keys)?;
        }
        Ok(Bench { plan, accounting, servers, clients })
    }

    /// All slices, in turn.
    pub(crate) fn run(&mut self, progress: &Progress) -> Result<Rounds> {
        progress.say("calibrating");
        let (stolen_before, all_before) = account::stolen()?;
        let (first, _) = self.slice(0, self.plan.closed)?;
        let (second, _) = self.slice(1, self.plan.closed)?;
        let slower = first.rps().min(second.rps());
        if slower < 1.0 {
            bail!("no load gets through: {} at zygix, {} at linux", first.errors, second.errors);
        }
        let rate = (slower * OPEN_SHARE).min(OPEN_MAX);
        let open = Slice { pace: Pace::Open { rate }, ..self.plan.open };
        let mut of = [Vec::new(), Vec::new()];
        for round in 0..self.plan.rounds {
            // Whoever went first goes second next time: a machine that slows down or speeds up favours nobody.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut closed = [None, None];
            for stack in order {
                progress.say(&format!("round {} of {}: {}, closed loop", round + 1, self.plan.rounds, STACKS[stack]));
                closed[stack] = Some(self.slice(stack, self.plan.closed)?);
            }
            for stack in order {
                let what = STACKS[stack];
                progress.say(&format!("round {} of {}: {what}, {rate:.0} requests/s", round + 1, self.plan.rounds));
                let (open, open_cost) = self.slice(stack, open)?;
                if let Some((closed, closed_cost)) = closed[stack].take() {
                    of[stack].push(Round { closed, closed_cost, open, open_cost });
                }
            }
        }
        let (stolen, all) = account::stolen()?;
        let stolen = (stolen - stolen_before).as_secs_f64() / (all - all_before).as_secs_f64().max(1e-9);
        Ok(Rounds { rate, of, before: [first.errors, second.errors], stolen })
    }

    /// One slice of load on one server, and what it cost the server within the window.
    ///
    /// Requests are counted by the same readings as the time, so that it does not matter if these come a little late.
    fn slice(&mut self, stack: usize, slice: Slice) -> Result<(Outcome, Cost)> {
        let (client, server) = (&mut self.clients[stack], &mut self.servers[stack]);
        let answered = client.progress();
        let mut reading = || -> Result<Reading> {
            let usage = server.usage()?;
            Ok(Reading { at: clock::now(), requests: answered.answered.get(), usage, softirqs: Softirqs::read()? })
        };
        let until = |at: Nanos| thread::sleep((at - clock::now()).duration());
        let start = clock::now();
        let (outcome, from, to) = thread::scope(|scope| {
            let load = scope.spawn(|| load::run(std::slice::from_mut(client), &slice));
            until(start + slice.warmup);
            let from = reading();
            until(start + slice.warmup + slice.window);
            let to = reading();
            (load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), from, to)
        });
        if sys::stop::requested() {
            bail!("interrupted");
        }
        Ok((outcome?, self.accounting.cost(&from?, &to?)))
    }

    /// Ends both servers; it is a failure if one did not last until now.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.clients);
        let [zygix, linux] = self.servers;
        zygix.stop()?;
        linux.stop()
    }
}

/// The middle value; the mean of the two in the middle if there are two. Zero of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, mid) if n % 2 == 1 => sorted[mid],
        (_, mid) => (sorted[mid - 1] + sorted[mid]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_keeps_to_its_seconds() {
        for seconds in 2..=50 {
            let plan = Plan::new(Nanos::from_secs(seconds));
            let of = |s: &Slice| s.warmup.0 + s.window.0;
            let both = 2 * ((1 + plan.rounds as u64) * of(&plan.closed) + plan.rounds as u64 * of(&plan.open));
            let total = seconds * 1_000_000_000;
            assert!(plan.rounds >= 1 && both <= total && both > total * 8 / 10, "{seconds}: {both}");
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
