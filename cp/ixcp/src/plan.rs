//! From a configuration (cores, hardware threads, clock) to elastic threads on cpus. Pure.

use actuate::{Speed, Topology};
use machine::{Clock, Machine, MachineError, State};
use policy::{Ladder, LadderError};

use crate::config::Policy;

/// The E5-2665's, by core, of which nothing is known here but that more is more.
const IDLE_W: f64 = 3.0;
const AWAKE_W: f64 = 0.35;
const CORE_W_PER_GHZ: f64 = 2.5;

/// The machine that a dataplane has: its cpus, and the clocks that can be set, in MHz. `clocks_mhz` may be empty: then there is one. It is called
/// `this machine`.
///
/// # Errors
/// In practice none: the text is ours.
pub fn machine(topology: &Topology, clocks_mhz: &[f64], turbo: bool) -> Result<Machine, MachineError> {
    let (cores, threads) = (topology.cores().max(1), topology.threads().clamp(1, 2));
    let clocks = if clocks_mhz.is_empty() { &[1000.0][..] } else { clocks_mhz };
    let nominal = clocks[clocks.len() - 1];
    let watts = |mhz: f64| CORE_W_PER_GHZ * mhz / 1000.0;
    let mut text = format!(
        "name = \"this machine\"\npackages = 1\ncores = {cores}\nthreads = {threads}\nsecond_thread = 1.3\nnominal_mhz = {nominal:.3}\n\
         [power]\nidle_w = {}\nawake_w = {AWAKE_W}\nsecond_thread = 1.05\npolling = 0.8\n",
        IDLE_W * cores as f64
    );
    if turbo {
        let (mhz, w) = (nominal * 1.1, watts(nominal * 1.3));
        let list = |value: f64| vec![format!("{value:.3}"); cores].join(", ");
        text += &format!("[turbo]\nmhz = [{}]\ncore_w = [{}]\n", list(mhz), list(w));
    }
    for mhz in clocks {
        text += &format!("[[clock]]\nmhz = {mhz:.3}\ncore_w = {:.3}\n", watts(*mhz));
    }
    Machine::parse(&text)
}

/// What clocks are set to for a configuration.
pub fn speed(machine: &Machine, state: &State) -> Speed {
    match state.clock {
        Clock::Turbo => Speed::Turbo,
        Clock::Step(_) => Speed::Mhz(machine.mhz(state)),
    }
}

/// The ladder of a policy on that machine.
///
/// # Errors
/// A table that does not ascend.
pub(crate) fn ladder(policy: &Policy, machine: &Machine) -> Result<Ladder, LadderError> {
    match policy {
        Policy::Energy => Ok(Ladder::energy(machine)),
        Policy::Consolidate => Ok(Ladder::consolidate(machine)),
        Policy::MinMax => Ok(Ladder::minmax(machine)),
        Policy::Static { cores, threads, mhz } => {
            let clock = mhz.map_or(Clock::Turbo, |mhz| nearest(machine, mhz));
            Ok(Ladder::static_(State { cores: *cores, threads: *threads, clock }))
        }
        Policy::Pareto(table) => Ladder::pareto(table),
    }
}

fn nearest(machine: &Machine, mhz: f64) -> Clock {
    let far = |of: f64| (of - mhz).abs();
    let best = machine.clocks_mhz().enumerate().min_by(|a, b| far(a.1).total_cmp(&far(b.1)));
    Clock::Step(best.map_or(0, |(step, _)| step))
}

/// Which elastic threads serve in a configuration: those whose cpu (`places`, by thread) is in use; at least `least` of them and at most `most`, which has the last word.
/// Threads without a cpu of their own serve last, when more are wanted than have one.
pub(crate) fn active(
    topology: &Topology,
    places: &[Option<usize>],
    state: &State,
    least: usize,
    most: usize,
) -> Vec<bool> {
    let n = places.len();
    let in_use = topology.in_use(state.cores, state.threads);
    let all = topology.in_use(usize::MAX, usize::MAX);
    // In the order in which cpus are taken; beyond what the configuration wants, for the sake of `least`.
    let rank = |cpu: &Option<usize>| cpu.and_then(|cpu| all.iter().position(|c| *c == cpu)).unwrap_or(usize::MAX);
    let wanted = places.iter().filter(|cpu| cpu.is_some_and(|c| in_use.contains(&c))).count();
    let count = wanted.max(least).min(most.min(n)).max(1);
    let mut order: Vec<usize> = (0..n).collect();
    let first = |i: &usize| !places[*i].is_some_and(|c| in_use.contains(&c));
    order.sort_by_key(|i| (first(i), rank(&places[*i]), *i));
    let mut active = vec![false; n];
    for i in order.into_iter().take(count) {
        active[i] = true;
    }
    active
}

/// A cpu for each elastic thread: those that the configuration names, in order; else where the thread is pinned; else the cpus that are left, in order. `None`: there are
/// more threads than cpus.
pub(crate) fn places(named: Option<&[usize]>, pinned: &[Option<usize>], topology: &Topology) -> Vec<Option<usize>> {
    if let Some(named) = named {
        return (0..pinned.len()).map(|i| named.get(i).copied()).collect();
    }
    let mut taken: Vec<usize> = pinned.iter().flatten().copied().collect();
    let mut place = |pin: &Option<usize>| {
        if pin.is_some() {
            return *pin;
        }
        // First threads of cores before second ones.
        let all = topology.in_use(usize::MAX, usize::MAX);
        let free = all.into_iter().find(|cpu| !taken.contains(cpu))?;
        taken.push(free);
        Some(free)
    };
    pinned.iter().map(&mut place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actuate::Tree;

    /// So many cores with siblings, as Linux numbers them.
    fn topology(cores: usize) -> Topology {
        let root = std::env::temp_dir().join(format!("zygix-plan-{}-{cores}", std::process::id()));
        let dir = root.join("sys/devices/system/cpu");
        for cpu in 0..2 * cores {
            let of = dir.join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&of).unwrap();
            let first = cpu % cores;
            std::fs::write(of.join("thread_siblings_list"), format!("{first},{}\n", first + cores)).unwrap();
        }
        std::fs::write(dir.join("online"), format!("0-{}\n", 2 * cores - 1)).unwrap();
        let read = Topology::read(&Tree::fake(&root)).unwrap();
        std::fs::remove_dir_all(root).unwrap();
        read
    }

    fn on(active: &[bool]) -> Vec<usize> {
        (0..active.len()).filter(|i| active[*i]).collect()
    }

    #[test]
    fn a_configuration_chooses_threads_by_their_cpus() {
        let t = topology(4);
        let places = places(None, &[None; 8], &t);
        assert_eq!(places.iter().flatten().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let of = |cores, threads, least, most| {
            let state = State { cores, threads, clock: Clock::Turbo };
            on(&active(&t, &places, &state, least, most))
        };
        assert_eq!(of(1, 1, 1, 128), [0]);
        assert_eq!(of(3, 1, 1, 128), [0, 1, 2]);
        assert_eq!(of(2, 2, 1, 128), [0, 1, 4, 5]);
        assert_eq!(of(4, 2, 1, 128).len(), 8);
        assert_eq!(of(1, 1, 3, 128), [0, 1, 2], "never fewer");
        assert_eq!(of(4, 2, 1, 5), [0, 1, 2, 3, 4], "never more");
        assert_eq!(of(1, 1, 3, 2), [0, 1], "not even for the sake of the least");
        assert_eq!(of(1, 1, 99, 99).len(), 8);
    }

    #[test]
    fn threads_beyond_the_cpus_stay_out_and_one_always_serves() {
        let t = topology(2);
        let places = places(Some(&[1, 3]), &[None, None, Some(7)], &t);
        assert_eq!(places, [Some(1), Some(3), None]);
        let of = |cores, threads| {
            let state = State { cores, threads, clock: Clock::Step(0) };
            on(&active(&t.only(&[1, 3]).unwrap(), &places, &state, 1, 128))
        };
        assert_eq!((of(1, 1), of(1, 2), of(9, 9)), (vec![0], vec![0, 1], vec![0, 1]));
        let lost = [None, None];
        assert_eq!(on(&active(&t, &lost, &State { cores: 2, threads: 2, clock: Clock::Turbo }, 1, 128)), [0]);
        // Pinned threads keep their place.
        assert_eq!(super::places(None, &[None, Some(0), None], &t), [Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn the_machine_is_what_can_be_set() {
        let t = topology(4);
        let m = machine(&t, &[1200.0, 1800.0, 2400.0], true).unwrap();
        assert_eq!((m.cores(), m.threads_per_core(), m.clocks_mhz().count(), m.has_turbo()), (4, 2, 3, true));
        assert_eq!(ladder(&Policy::Energy, &m).unwrap().steps().len(), 4 + 1 + 2 + 1);
        let bare = machine(&t.flat(), &[], false).unwrap();
        assert_eq!((bare.cores(), bare.threads_per_core(), bare.has_turbo()), (8, 1, false));
        assert_eq!(ladder(&Policy::Consolidate, &bare).unwrap().steps().len(), 8);
        let fixed = ladder(&Policy::Static { cores: 2, threads: 1, mhz: Some(1700.0) }, &m).unwrap();
        assert_eq!(fixed.steps()[0].state.clock, Clock::Step(1));
    }
}
