//! Skew: some of the connections carry most of the load, and their flow groups are together on few cores. What is left of it when the control plane has moved groups?

use dataplane::Wish;
use load::Outcome;
use openloop::Drive;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use units::{CoreId, FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};

use crate::WorldError;
use crate::control::{Control, Frames};
use crate::measure::{Setup, World, with};

/// Where the flow groups of busy connections are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// Dealt out evenly: each core has the same load.
    Evenly,
    /// Dealt out by chance, as a hash does; each core has its number.
    ByChance,
    /// Together: the busiest group on the first core, and so on until it has its number.
    Together,
}

/// A skewed load.
#[derive(Clone, Debug)]
pub struct Skew {
    /// The share of the load that the world's `others` carry.
    pub carried: f64,
    /// The load: a share of what the cores do when they do nothing but serve requests, frames included.
    pub load: f64,
    /// For how long, after a second in which all connections have the same load.
    pub span: Nanos,
    /// Where they are.
    pub placed: Placed,
    /// Move flow groups by observed load, as the control plane does.
    pub moves: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Skewed {
    /// Half seconds: one begins every tenth of a second, from the instant on at which the load becomes skewed.
    pub windows: Vec<Window>,
    /// p99 of all requests.
    pub p99: Nanos,
    /// Requests without a right reply.
    pub errors: u64,
    /// Requests.
    pub requests: u64,
    /// The fullest core's load over the mean: of frames, over the whole span.
    pub fullest: f64,
    /// Flow groups that moved, and by how many moves between two cores.
    pub groups_moved: usize,
    /// See there.
    pub moves: usize,
}

/// Half a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// When it begins.
    pub at: Nanos,
    /// Its p99.
    pub p99: Nanos,
    /// And that of all that follows, itself included.
    pub from_here: Nanos,
}

impl Skewed {
    /// The beginning of the first half second that keeps to `limit`, as all after it together does.
    pub fn settled(&self, limit: Nanos) -> Option<Nanos> {
        self.windows.iter().find(|w| w.p99 <= limit && w.from_here <= limit).map(|w| w.at)
    }
}

/// Slices of time, and how many of them are looked at together.
const SLICE: Nanos = Nanos::from_millis(100);
const TOGETHER: usize = 5;
/// How long all connections have the same load before.
const BEFORE: Nanos = Nanos::from_secs(1);
/// How long groups may take to be where they are to be.
const PATIENCE: Nanos = Nanos::from_secs(10);

/// Loads a world in which the setup's `others` are busy connections.
///
/// # Errors
/// As [`measure`](crate::measure).
pub fn skew(setup: &Setup, skew: &Skew) -> Result<Skewed, WorldError> {
    if !(skew.load > 0.0 && skew.load < 1.0 && (0.0..1.0).contains(&skew.carried)) {
        return Err(WorldError::Load(skew.load));
    }
    with(setup, None, |world| {
        place(world, skew.placed, setup.seed)?;
        if skew.moves {
            world.engine.control_by(Control::evenness(world.controller, world.shared));
        }
        // Before, each connection has the same load.
        let share = f64::from(setup.others) / f64::from(setup.others + setup.connections);
        let (first, others) = drives(setup, skew.load, share, BEFORE);
        world.run_both(&first, &others)?;
        let before = core_frames(world);
        let done = world.engine.control.as_ref().map_or(0, |c| c.reports.len());
        let (first, others) = drives(setup, skew.load, skew.carried, skew.span);
        let outcome = world.run_both(&first, &others)?;
        let frames: Vec<f64> = core_frames(world).iter().zip(&before).map(|(now, was)| (now - was) as f64).collect();
        let mean = frames.iter().sum::<f64>() / frames.len() as f64;
        let reports = world.engine.control.as_ref().filter(|_| skew.moves).map_or(&[][..], |c| &c.reports[done..]);
        Ok(Skewed {
            windows: windows(&outcome),
            p99: outcome.p99(),
            errors: outcome.errors.total(),
            requests: outcome.completed,
            fullest: frames.iter().copied().fold(0.0, f64::max) / mean.max(1.0),
            groups_moved: reports.iter().map(|r| r.groups.len()).sum(),
            moves: reports.len(),
        })
    })
}

/// The two loads: of the first clients, and of the others, who carry a share of it.
fn drives(setup: &Setup, load: f64, carried: f64, span: Nanos) -> (Drive, Drive) {
    let request = setup.times.mean() + Nanos(setup.costs.rx_ns + setup.costs.tx_ns);
    let rate = load * setup.cores as f64 / request.as_secs_f64();
    let drive =
        |rate| Drive { warmup: Nanos::ZERO, slice: SLICE, keep: true, patience: PATIENCE, ..Drive::new(rate, span) };
    (drive(rate * (1.0 - carried)), drive(rate * carried))
}

/// Places the groups of the others: every core keeps the number of groups that it has. Which these are is seen by the frames by which the others connected.
fn place(world: &mut World<'_>, placed: Placed, seed: u64) -> Result<(), WorldError> {
    let (now, before): (Frames, Frames) = (world.frames(), world.before_others);
    let mut groups: Vec<usize> = (0..FLOW_GROUPS).collect();
    match placed {
        Placed::Evenly => return Ok(()),
        Placed::ByChance => groups.shuffle(&mut draw::Rng::seed_from_u64(seed ^ 0x736b_6577)),
        Placed::Together => groups.sort_by_key(|g| std::cmp::Reverse(now[*g] - before[*g])),
    }
    let owners = world.controller.groups();
    let mut wishes = Vec::new();
    let mut rest = groups.as_slice();
    for core in world.controller.cores() {
        let (own, others) = rest.split_at(core.groups.len());
        let set: GroupSet =
            own.iter().map(|g| FlowGroupId(*g as u16)).filter(|g| owners[g.index()] != core.core).collect();
        if !set.is_empty() {
            wishes.push(Wish::Move(set, core.core));
        }
        rest = others;
    }
    world.engine.control_by(Control::list(world.controller, wishes));
    let until = world.engine.now() + PATIENCE;
    while world.engine.control.as_ref().is_some_and(|c| !c.is_done()) && world.engine.now() < until {
        world.rest(Nanos::from_millis(1))?;
    }
    Ok(())
}

/// Frames that have come for each core's groups, whichever those were.
fn core_frames(world: &World<'_>) -> Vec<u64> {
    let core = |core: usize| {
        let groups = (0..FLOW_GROUPS as u16).map(FlowGroupId);
        let metrics = world.shared.metrics(CoreId(core as u16));
        groups.map(|g| metrics.frames_of(g)).sum()
    };
    (0..world.engine.cores()).map(core).collect()
}

fn windows(outcome: &Outcome) -> Vec<Window> {
    let p99 = |slices: &[load::Slice]| {
        let mut sum = load::histogram();
        for histogram in slices.iter().filter_map(|s| s.latency.as_ref()) {
            // Equal bounds and precision.
            let _ = sum.add(histogram);
        }
        Nanos(sum.value_at_quantile(0.99))
    };
    let window = |(i, slices): (usize, &[load::Slice])| Window {
        at: slices[0].at,
        p99: p99(slices),
        from_here: p99(&outcome.slices[i..]),
    };
    outcome.slices.windows(TOGETHER).enumerate().map(window).collect()
}
