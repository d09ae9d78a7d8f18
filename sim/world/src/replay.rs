//! A configuration is changed while the load goes on: cores come and go with their flow groups, and the clock becomes faster or slower.

use load::draw::Pattern;
use openloop::Drive;
use units::{CoreId, Nanos};

use crate::WorldError;
use crate::control::Control;
use crate::measure::{Setup, World, with};

/// What is set.
#[derive(Clone, PartialEq, Debug)]
pub struct Configuration {
    /// The cores that serve: the product's own moves give them their flow groups.
    pub awake: Vec<CoreId>,
    /// How many times as long as the setup says frames and application code take, by how many cores are awake, from one: while they come and go, those that share
    /// something with them become slower or faster.
    pub paces: Vec<f64>,
}

/// A stretch of load, in which configurations are changed.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The load of the lead and the window: requests per second.
    pub pattern: Pattern,
    /// How long the load goes on before requests are counted.
    pub lead: Nanos,
    /// For how long they are.
    pub window: Nanos,
    /// What is set when the load begins.
    pub first: Configuration,
    /// What is set then, ascending, since the load began; and for how long that stops all cores.
    pub changes: Vec<(Nanos, Configuration, Nanos)>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Replayed {
    /// Requests of the windows.
    pub requests: u64,
    /// Their median and their 99th percentile, from the intended arrival to the transmitted reply.
    pub p50: Nanos,
    /// See `p50`.
    pub p99: Nanos,
    /// Those without a right reply.
    pub errors: u64,
    /// Moves of flow groups between two cores, all windows together, and those that brought the first configuration about.
    pub moves: usize,
    /// Requests of the controller that were called off.
    pub refused: u64,
    /// The longest time from a change until all cores had come or gone.
    pub took: Nanos,
}

/// How long cores may take to come and go, and requests to be answered.
const PATIENCE: Nanos = Nanos::from_secs(10);

/// Plays it so many times in one world, each time with other arrivals.
///
/// # Errors
/// The world does not come to be; somebody asked for the end.
pub fn replay(setup: &Setup, what: &Replay, times: u32) -> Result<Replayed, WorldError> {
    let mut latency = load::histogram();
    let (mut errors, mut took) = (0, Nanos::ZERO);
    with(setup, None, |world| {
        world.engine.control_by(Control::list(world.controller, Vec::new()));
        for _ in 0..times {
            world.engine.reconfigure(&what.first, Nanos::ZERO);
            settle(world)?;
            let drive = Drive {
                pattern: Some(what.pattern.clone()),
                warmup: what.lead,
                slice: what.window,
                keep: false,
                patience: PATIENCE,
                ..Drive::new(what.pattern.peak(), what.window)
            };
            let (mut next, mut begun) = (what.changes.iter().peekable(), None);
            let outcome = world.run_looking(&drive, |engine, began| {
                let now = engine.now();
                while let Some((_, to, stop)) = next.next_if(|(at, ..)| began <= now && now - began >= *at) {
                    engine.reconfigure(to, *stop);
                    begun = Some(now);
                }
                if let Some(at) = begun.filter(|_| engine.control.as_ref().is_some_and(Control::is_done)) {
                    took = took.max(now - at);
                    begun = None;
                }
            })?;
            settle(world)?;
            errors += outcome.errors.total();
            // Equal bounds and precision.
            let _ = latency.add(&outcome.latency);
        }
        let (moves, refused) = world.engine.control.as_ref().map_or((0, 0), |c| (c.reports.len(), c.refused));
        let [p50, p99] = [0.5, 0.99].map(|q| Nanos(latency.value_at_quantile(q)));
        Ok(Replayed { requests: latency.len(), p50, p99, errors, moves, refused, took })
    })
}

/// Waits until nobody is to come or go any more.
fn settle(world: &mut World<'_>) -> Result<(), WorldError> {
    let until = world.engine.now() + PATIENCE;
    while world.engine.control.as_ref().is_some_and(|c| !c.is_done()) && world.engine.now() < until {
        world.rest(Nanos::from_millis(1))?;
    }
    Ok(())
}
