//! Worlds drawn from seeds, and what must hold in each.

use dataplane::{Assist, Sched};
use draw::{Rng, ServiceTimes};
use nic::Faults;
use rand::{Rng as _, SeedableRng};
use units::Nanos;

use crate::WorldError;
use crate::control::Moves;
use crate::costs::Costs;
use crate::engine::Stalls;
use crate::measure::{Row, Setup, with};
use crate::trace::Trace;

/// Requests of one seed.
const REQUESTS: std::ops::RangeInclusive<u64> = 200..=1500;
/// Where nothing disturbs and there is time to spare, no request takes longer than this and the longest services: a core that has work and does not see it
/// looks round after 10 ms.
const PROMPT: Nanos = Nanos::from_millis(5);
/// How long connections may take to end.
const PATIENCE: Nanos = Nanos::from_secs(10);

/// The world of a seed: 1 to 8 cores, any way to schedule, any distribution, few connections or many, a good wire or a bad one.
pub fn setup(seed: u64) -> (Setup, f64, u64) {
    let mut dice = Rng::seed_from_u64(seed);
    let one = |dice: &mut Rng, of: &[u64]| of[dice.random_range(0..of.len())];
    let cores = dice.random_range(1..=8);
    let sched = match dice.random_range(0..8) {
        0 => Sched::Ix,
        1 | 2 => Sched::Zygos(Assist::None),
        3 | 4 => Sched::Zygos(Assist::Ipi),
        _ => Sched::Zygos(Assist::Lend),
    };
    let mean = Nanos(one(&mut dice, &[300, 1_000, 5_000, 10_000, 25_000]));
    let times = match dice.random_range(0..4) {
        0 => ServiceTimes::det(mean),
        1 => ServiceTimes::exp(mean),
        2 => ServiceTimes::bimodal1(mean),
        _ => ServiceTimes::bimodal2(mean),
    };
    let scale = one(&mut dice, &[0, 1, 1, 1, 4]);
    let thesis = Costs::thesis();
    let costs = Costs {
        name: format!("thesis x {scale}"),
        rx_ns: thesis.rx_ns * scale / 2,
        tx_ns: thesis.tx_ns * scale / 2,
        turn_ns: one(&mut dice, &[0, 100, 500]),
        call_ns: one(&mut dice, &[0, 100]),
        poll_ns: one(&mut dice, &[10, 100, 1000]),
        interrupt_ns: one(&mut dice, &[500, 5_000]),
        ..thesis
    };
    // As a share of what is left beside the network's work.
    let room = mean.0 as f64 / (mean.0 + costs.rx_ns + costs.tx_ns + costs.turn_ns + costs.call_ns) as f64;
    let load = (dice.random_range(0.05..0.7) * room).max(0.001);
    let setup = Setup {
        costs,
        connections: one(&mut dice, &[1, 3, 16, 64, 200]) as u32,
        batch: one(&mut dice, &[1, 4, 64]) as usize,
        stalls: dice.random_bool(0.25).then(|| Stalls {
            every: Nanos::from_millis(one(&mut dice, &[1, 10])),
            last: Nanos::from_micros(one(&mut dice, &[20, 200, 1000])),
        }),
        faults: match dice.random_range(0..4) {
            0 => Faults {
                loss: dice.random_range(0.0..0.03),
                duplicate: dice.random_range(0.0..0.03),
                late: dice.random_range(0.0..0.05),
                delay: Nanos(one(&mut dice, &[1_000, 50_000, 2_000_000])),
                ..Faults::default()
            },
            _ => Faults::default(),
        },
        seed,
        ..Setup::new(cores, sched, times)
    };
    let requests = dice.random_range(REQUESTS);
    // Drawn last: what else a seed is has nothing to do with it.
    let moves = (cores > 1 && dice.random_bool(0.4)).then(|| Moves {
        rate: one(&mut dice, &[20, 200, 2_000]) as f64,
        park: one(&mut dice, &[0, 1, 5]) as f64 / 10.0,
    });
    (Setup { moves, ..setup }, load, requests)
}

/// Runs the world of `seed` and checks it: each request has been answered rightly, once and in its connection's order; none waited for a core that had forgotten it; no core was idle
/// while work that had come home to it waited; every move of flow groups came to its end, and on a wire without faults no segment was dropped, doubled, or met out of order for it;
/// when all connections have ended, every core has all of its buffers and slips again; no assertion of the product's failed.
///
/// # Errors
/// [`WorldError::Broken`] says what does not hold; others, that somebody asked for the end.
pub fn check(seed: u64, trace: Option<Trace>) -> Result<Row, WorldError> {
    // A world is made in here and ends in here: nothing that a panic leaves half done is seen again.
    let row = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, trace)));
    row.unwrap_or_else(|panic| {
        let (setup, load, requests) = setup(seed);
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let what = format!("a panic: {} ({})", text.unwrap_or("without words"), tell(&setup, load, requests));
        Err(WorldError::Broken { seed, what })
    })
}

fn run(seed: u64, trace: Option<Trace>) -> Result<Row, WorldError> {
    let (setup, load, requests) = setup(seed);
    let broken = |what: String| WorldError::Broken { seed, what: format!("{what} ({})", tell(&setup, load, requests)) };
    let stopped = |e: &WorldError| matches!(e, WorldError::OpenLoop(openloop::OpenLoopError::Stopped));
    let result = with(&setup, trace, |world| {
        let cores = 0..world.engine.cores();
        world.engine.vigilant = true;
        let row = world.load(load, requests)?;
        if let Some((core, at)) = world.engine.forgotten {
            return Err(broken(format!(
                "at {} ns core {core} was idle, and nobody had told it of work that came home",
                at.0
            )));
        }
        if row.errors > 0 {
            return Err(broken(format!(
                "{} of {} requests have no right answer",
                row.errors,
                row.requests + row.errors
            )));
        }
        let calm = setup.faults == Faults::default() && setup.stalls.is_none();
        // Its own service, and one of its kind before it. Groups that move, and cores that are parked, may leave one core with everything.
        let moved = if setup.moves.is_some() { alone(&setup, requests) } else { Nanos::ZERO };
        let longest = PROMPT + Nanos(2 * longest(&setup.times).0) + moved;
        if calm && row.max > longest {
            return Err(broken(format!("a request took {:?}, which nothing explains", row.max)));
        }
        if !world.settle(PATIENCE)? {
            return Err(broken("a move of flow groups does not come to its end".into()));
        }
        let disturbed = (row.reordered, row.duplicated, row.dropped);
        if setup.faults == Faults::default() && disturbed != (0, 0, 0) {
            let (reordered, duplicated, dropped) = disturbed;
            let reasons = world.drops();
            return Err(broken(format!(
                "{} moves, and on a good wire {reordered} segments out of order, {duplicated} doubled, {dropped} dropped{reasons}",
                row.moves
            )));
        }
        world.mend(true);
        world.hand(|hand| hand.hang_up(PATIENCE))?;
        world.rest(Nanos::from_secs(2))?;
        for core in cores {
            let left = world.engine.left(core);
            if left != world.whole() {
                let [conns, slips, rx, tx] = left;
                let [_, _, all_rx, all_tx] = world.whole();
                return Err(broken(format!(
                    "core {core} is left with {conns} connections, {slips} slips that are not home, {rx} of {all_rx} receive and {tx} of {all_tx} transmit buffers"
                )));
            }
        }
        Ok(row)
    });
    match result {
        Err(e @ WorldError::OpenLoop(_)) if !stopped(&e) => Err(broken(e.to_string())),
        result => result,
    }
}

/// As long as a service gets among so many; of the heaviest tail, four of them, for in one run of 10 000 three have met in one queue. Where that is longer than
/// looking round takes, a core that had forgotten something may pass for a busy one.
fn longest(times: &ServiceTimes) -> Nanos {
    let means = match times.name() {
        "det" => 1,
        "bimodal1" => 6,
        "exp" => 20,
        _ => 4 * 501,
    };
    Nanos(means * times.mean().0)
}

/// For how long one core has work if everything comes to it, and each request interrupts it.
fn alone(setup: &Setup, requests: u64) -> Nanos {
    let costs = &setup.costs;
    let each = costs.rx_ns + costs.tx_ns + 2 * costs.turn_ns + costs.call_ns + costs.poll_ns + costs.interrupt_ns;
    Nanos(requests * (setup.times.mean().0 + each))
}

/// A world in a line.
fn tell(setup: &Setup, load: f64, requests: u64) -> String {
    format!(
        "{} cores, {}, {}, {} connections, batches of {}, load {load:.3}, {requests} requests, {}{}{}{}",
        setup.cores,
        setup.sched,
        setup.times,
        setup.connections,
        setup.batch,
        setup.costs.name,
        if setup.stalls.is_some() { ", stalls" } else { "" },
        setup.moves.map_or(String::new(), |m| format!(", moves {m:?}")),
        if setup.faults == Faults::default() { "" } else { ", a bad wire" },
    )
}
