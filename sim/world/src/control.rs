//! Who moves flow groups, and parks and unparks cores: the product's own controller, which looks now and then; at random, by a list, or as the control plane evens out loads.

use std::collections::VecDeque;
use std::sync::Arc;

use dataplane::{Controller, MoveError, Report, Request, Wish};
use netstack::Shared;
use policy::Group;
use rand::{Rng as _, SeedableRng};
use units::{CoreId, FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};

/// How often a controller looks that waits for a move.
const LOOK: Nanos = Nanos::from_micros(20);
/// How often the control plane looks whether cores are even, how many of these looks its window spans, and how long it waits after it has moved groups.
const EVEN: Nanos = Nanos::from_millis(100);
const WINDOW: usize = 10;
const HOLD: Nanos = Nanos::from_secs(1);

/// Flow groups that move while the load runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moves {
    /// Requests per second of virtual time, from the end of one to the begin of the next; they come at random. Most move random groups of a random core to
    /// another.
    pub rate: f64,
    /// The share of requests that park a core, or unpark it.
    pub park: f64,
}

/// Frames that have come, by flow group.
pub(crate) type Frames = [u64; FLOW_GROUPS];

/// Frames that have come so far: what a metrics page would say.
pub(crate) fn frames(shared: &Shared) -> Frames {
    std::array::from_fn(|group| {
        let group = FlowGroupId(group as u16);
        (0..shared.cores() as u16).map(|core| shared.metrics(CoreId(core)).frames_of(group)).sum()
    })
}

pub(crate) struct Control<'a> {
    controller: &'a Controller,
    by: By<'a>,
    request: Option<Request<'a>>,
    /// What is to be asked for next.
    wishes: VecDeque<Wish>,
    /// No more requests.
    ends: bool,
    /// What each move took.
    pub(crate) reports: Vec<Report>,
    /// Requests that were called off.
    pub(crate) refused: u64,
}

/// What decides.
enum By<'a> {
    /// Chance.
    Chance(Moves, Box<draw::Rng>),
    /// A list, which is all.
    List,
    /// Which cores are to be awake.
    Awake(Vec<CoreId>),
    /// The control plane's rule, ten times a second, of the frames of the last second.
    Evenness { shared: &'a Arc<Shared>, past: VecDeque<Frames>, not_before: Nanos },
}

impl<'a> Control<'a> {
    fn by(controller: &'a Controller, by: By<'a>) -> Control<'a> {
        let (request, wishes) = (None, VecDeque::new());
        Control { controller, by, request, wishes, ends: false, reports: Vec::new(), refused: 0 }
    }

    pub(crate) fn new(controller: &'a Controller, moves: Moves, seed: u64) -> Control<'a> {
        let dice = draw::Rng::seed_from_u64(seed ^ 0x6d6f_7665_7300);
        Control::by(controller, By::Chance(moves, Box::new(dice)))
    }

    /// Carries out these, and nothing after.
    pub(crate) fn list(controller: &'a Controller, wishes: Vec<Wish>) -> Control<'a> {
        Control { wishes: wishes.into(), ..Control::by(controller, By::List) }
    }

    /// Parks and unparks cores until these are awake; nothing after.
    pub(crate) fn rouse(&mut self, awake: &[CoreId]) {
        self.by = By::Awake(awake.to_vec());
    }

    /// Evens out what cores have to do, as the control plane does.
    pub(crate) fn evenness(controller: &'a Controller, shared: &'a Arc<Shared>) -> Control<'a> {
        Control::by(controller, By::Evenness { shared, past: VecDeque::new(), not_before: Nanos::ZERO })
    }

    /// One look: when to look again, and what there is to say.
    pub(crate) fn looks(&mut self, now: Nanos) -> (Nanos, Option<String>) {
        if let Some(request) = &mut self.request {
            let Some(end) = self.controller.advance(request, now) else { return (now + LOOK, None) };
            self.request = None;
            let said = match &end {
                Ok(reports) => format!("is done: {} moves", reports.len()),
                Err(e) => format!("gives up: {e}"),
            };
            match end {
                Ok(reports) => self.reports.extend(reports),
                Err(_) => self.refused += 1,
            }
            return (now + self.gap(now), Some(said));
        }
        if self.ends {
            return (Nanos::MAX, None);
        }
        let Some(wish) = self.wish(now) else { return (now + self.gap(now), None) };
        match self.controller.request(wish) {
            Ok(request) => {
                self.request = Some(request);
                (now, Some(tell(&wish)))
            }
            Err(MoveError::Stopped) => (Nanos::MAX, None),
            // There is but one core, or it has nothing.
            Err(_) => (now + LOOK, None),
        }
    }

    /// How long until the next look, after a request.
    fn gap(&mut self, now: Nanos) -> Nanos {
        match &mut self.by {
            By::Chance(moves, dice) => {
                let gap = -(1.0 - dice.random::<f64>()).ln() / moves.rate;
                Nanos((gap * 1e9) as u64)
            }
            _ if !self.wishes.is_empty() => LOOK,
            By::List => Nanos::MAX - now,
            By::Awake(cores) if next(self.controller, cores).is_some() => LOOK,
            By::Awake(_) => Nanos::MAX - now,
            By::Evenness { .. } => EVEN,
        }
    }

    fn wish(&mut self, now: Nanos) -> Option<Wish> {
        if let Some(wish) = self.wishes.pop_front() {
            return Some(wish);
        }
        match &mut self.by {
            By::Chance(moves, dice) => Some(random(self.controller, moves, dice)),
            By::List => None,
            By::Awake(cores) => next(self.controller, cores),
            By::Evenness { shared, past, not_before } => {
                past.push_back(frames(shared));
                if past.len() > WINDOW + 1 {
                    past.pop_front();
                }
                if now < *not_before {
                    return None;
                }
                let (was, is) = (past.front()?, past.back()?);
                let owners = self.controller.groups();
                let group = |(i, owner): (usize, &CoreId)| Group { load: (is[i] - was[i]) as f64, owner: *owner };
                let groups: Vec<Group> = owners.iter().enumerate().map(group).collect();
                let active: Vec<CoreId> =
                    self.controller.cores().iter().filter(|c| !c.parked).map(|c| c.core).collect();
                let counted = groups.iter().map(|g| g.load).sum();
                let even = policy::even_out(&groups, &active, counted)?;
                *not_before = now + HOLD;
                self.wishes = even.moves.into_iter().map(|(set, to)| Wish::Move(set, to)).collect();
                self.wishes.pop_front()
            }
        }
    }

    /// No request begins any more. Whether none is under way.
    pub(crate) fn ends(&mut self) -> bool {
        self.ends = true;
        self.request.is_none()
    }

    /// How many cores are not parked.
    pub(crate) fn awake(&self) -> usize {
        self.controller.cores().iter().filter(|c| !c.parked).count()
    }

    /// Whether all that was asked for is done.
    pub(crate) fn is_done(&self) -> bool {
        let as_asked = match &self.by {
            By::Awake(cores) => next(self.controller, cores).is_none(),
            _ => true,
        };
        self.request.is_none() && self.wishes.is_empty() && as_asked
    }
}

/// What is to be done next so that these are awake, and no others, as the control plane would do it; `None`: nothing any more. Who is to come comes first; of several that
/// are to go, none gives its groups to another.
fn next(controller: &Controller, awake: &[CoreId]) -> Option<Wish> {
    let cores = controller.cores();
    let mut come = cores.iter().filter(|c| c.parked && awake.contains(&c.core));
    if let Some(first) = come.next() {
        return Some(Wish::Unpark(first.core, come.count()));
    }
    let mut go = cores.iter().filter(|c| !c.parked && !awake.contains(&c.core));
    let first = go.next()?;
    if go.next().is_some() {
        let groups: Vec<Group> = controller.groups().iter().map(|owner| Group { load: 1.0, owner: *owner }).collect();
        if let Some((set, to)) = policy::balance(&groups, awake).into_iter().next() {
            return Some(Wish::Move(set, to));
        }
    }
    Some(Wish::Park(first.core))
}

fn random(controller: &Controller, moves: &Moves, dice: &mut draw::Rng) -> Wish {
    let cores = controller.cores();
    let any = CoreId(dice.random_range(0..cores.len()) as u16);
    if dice.random_bool(moves.park) {
        return if cores[any.index()].parked { Wish::Unpark(any, 0) } else { Wish::Park(any) };
    }
    let owners = controller.groups();
    let from = owners[dice.random_range(0..FLOW_GROUPS)];
    // Of two cores the one that has less: by chance alone some core would get more than it can serve.
    let other = CoreId(dice.random_range(0..cores.len()) as u16);
    let has = |core: CoreId| (cores[core.index()].parked, cores[core.index()].groups.len());
    let to = if has(other) < has(any) { other } else { any };
    let most = 1 << dice.random_range(0..7);
    let draw = |_| FlowGroupId(dice.random_range(0..FLOW_GROUPS as u16));
    let drawn: GroupSet = (0..most).map(draw).filter(|g| owners[g.index()] == from).collect();
    Wish::Move(drawn, to)
}

fn tell(wish: &Wish) -> String {
    match wish {
        Wish::Move(groups, to) => format!("moves {} groups to core {}", groups.len(), to.0),
        Wish::Park(core) => format!("parks core {}", core.0),
        Wish::Unpark(core, _) => format!("unparks core {}", core.0),
    }
}
