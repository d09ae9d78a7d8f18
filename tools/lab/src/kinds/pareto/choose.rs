//! Which configurations are measured, and what is known of one before it is. Pure.

use machine::{Clock, Machine, State};

use super::Objective;

/// Configurations to measure, and what was left out.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Chosen {
    /// Each after all that have no less of anything.
    pub(super) states: Vec<State>,
    /// A sentence for each reason.
    pub(super) left_out: Vec<String>,
}

/// What configurations are made of.
struct Axes {
    cores: Vec<usize>,
    threads: Vec<usize>,
    clocks: Vec<Clock>,
}

/// Of the machine's configurations, `most` that are worth measuring. Where clocks cannot be set (`settable`), the one that it runs at is taken for the fastest.
pub(super) fn chosen(machine: &Machine, settable: bool, objective: Objective, most: usize) -> Chosen {
    let fits = |s: &State| match objective {
        Objective::Energy => true,
        Objective::Consolidate => objective.allows(machine, s),
    };
    let all = machine.states();
    let can: Vec<State> = all.iter().copied().filter(|s| settable || s.clock == machine.most().clock).collect();
    let worth: Vec<State> = can.iter().copied().filter(|s| !settable || fits(s)).collect();
    let states = thinned(machine, &worth, most.max(1));
    let mut left_out = Vec::new();
    let mut note = |n: usize, why: String| {
        if n > 0 {
            left_out.push(format!("{n} of {} configurations: {why}", all.len()));
        }
    };
    note(all.len() - can.len(), "clocks cannot be set".into());
    note(
        can.len() - worth.len(),
        "background work is for the nominal clock, and turbo mode for when all cores serve".into(),
    );
    note(worth.len() - states.len(), format!("more than {most}; kept: {}", in_words(&states)));
    Chosen { states, left_out }
}

/// At most `most` of them, the most capable first. Clocks are thinned as long as three are left (the slowest, the nominal, turbo), then cores to 1, 2, 4 and so on and all;
/// only then whatever else has to go.
fn thinned(machine: &Machine, worth: &[State], most: usize) -> Vec<State> {
    let clocks: Vec<Clock> = machine.clocks_mhz().enumerate().map(|(i, _)| Clock::Step(i)).collect();
    let clocks: Vec<Clock> = clocks.into_iter().chain(machine.has_turbo().then_some(Clock::Turbo)).collect();
    let mut axes = Axes {
        cores: (1..=machine.cores()).collect(),
        threads: (1..=machine.threads_per_core()).collect(),
        clocks: clocks.iter().copied().filter(|c| worth.iter().any(|s| s.clock == *c)).collect(),
    };
    let all = axes.clocks.clone();
    let turbo = usize::from(all.contains(&Clock::Turbo));
    let fewer = |axes: &mut Axes, least: usize| {
        let mut n = all.len();
        while axes.of(worth).len() > most && n > least {
            n -= 1;
            axes.clocks = few_clocks(&all, n);
        }
    };
    fewer(&mut axes, 2 + turbo);
    if axes.of(worth).len() > most {
        axes.cores.retain(|n| n.is_power_of_two() || *n == machine.cores());
        axes.clocks.clone_from(&all);
        fewer(&mut axes, 2 + turbo);
    }
    while axes.of(worth).len() > most && axes.cores.len() > 1 {
        axes.cores = few(&axes.cores, axes.cores.len() - 1);
    }
    if axes.of(worth).len() > most {
        axes.threads = few(&axes.threads, 1);
    }
    fewer(&mut axes, 1);
    axes.of(worth)
}

impl Axes {
    /// Those of `worth` that it makes up, in descending order: each comes after all that have no less of anything.
    fn of(&self, worth: &[State]) -> Vec<State> {
        let has = |s: &&State| {
            self.cores.contains(&s.cores) && self.threads.contains(&s.threads) && self.clocks.contains(&s.clock)
        };
        let mut states: Vec<State> = worth.iter().filter(has).copied().collect();
        states.sort_by(|a, b| b.cmp(a));
        states
    }
}

/// `n` of them, evenly chosen, the first and the last among them; of one, the last.
fn few<T: Copy>(all: &[T], n: usize) -> Vec<T> {
    let last = all.len() - 1;
    match n {
        _ if n >= all.len() => all.to_vec(),
        0 | 1 => vec![all[last]],
        _ => (0..n).map(|i| all[(i * last + (n - 1) / 2) / (n - 1)]).collect(),
    }
}

/// The same of clocks: turbo mode and the nominal clock are the last to go.
fn few_clocks(all: &[Clock], n: usize) -> Vec<Clock> {
    match all.split_last() {
        Some((Clock::Turbo, steps)) if n > 1 && !steps.is_empty() => {
            few(steps, n - 1).into_iter().chain([Clock::Turbo]).collect()
        }
        _ => few(all, n),
    }
}

fn in_words(states: &[State]) -> String {
    let distinct = |of: fn(&State) -> usize| {
        let mut all: Vec<usize> = states.iter().map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let cores: Vec<String> = distinct(|s| s.cores).iter().map(usize::to_string).collect();
    let mut clocks: Vec<Clock> = states.iter().map(|s| s.clock).collect();
    clocks.sort_unstable();
    clocks.dedup();
    let threads = distinct(|s| s.threads).len();
    format!("cores {}; {threads} number(s) of hardware threads; {} clock(s)", cores.join(", "), clocks.len())
}

/// A configuration with no fewer cores, no fewer hardware threads and no slower clock.
fn has_no_less(a: &State, b: &State) -> bool {
    a.cores >= b.cores && a.threads >= b.threads && a.clock >= b.clock
}

/// What it carries at most, by what those that have no less of anything were found, for sure, to carry.
pub(super) fn bound(state: &State, found: &[(State, f64)]) -> Option<f64> {
    let above = found.iter().filter(|(s, _)| has_no_less(s, state));
    above.map(|(_, max)| *max).min_by(f64::total_cmp)
}

/// What it may carry, by the model's proportion to the least of those.
pub(super) fn guess(machine: &Machine, state: &State, found: &[(State, f64)]) -> Option<f64> {
    let above = found.iter().filter(|(s, _)| has_no_less(s, state));
    let nearest = above.min_by(|a, b| machine.capacity(&a.0).total_cmp(&machine.capacity(&b.0)))?;
    Some(nearest.1 * machine.capacity(state) / machine.capacity(&nearest.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thesis() -> Machine {
        Machine::builtin("e5-2665").unwrap()
    }

    #[test]
    fn all_are_measured_where_they_are_few_enough() {
        let machine = thesis();
        let all = chosen(&machine, true, Objective::Energy, 224);
        assert_eq!((all.states.len(), all.left_out.len()), (224, 0));
        assert_eq!((all.states[0], all.states[223]), (machine.most(), machine.least()));
        // Whatever has no less of anything has been measured before.
        for (i, state) in all.states.iter().enumerate() {
            assert!(all.states[i + 1..].iter().all(|later| !has_no_less(later, state)), "{state}");
        }
    }

    #[test]
    fn clocks_are_thinned_before_cores_and_the_corners_stay() {
        let machine = thesis();
        let clocks = |states: &[State]| {
            let mut all: Vec<Clock> = states.iter().map(|s| s.clock).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let nominal = Clock::Step(machine.clocks_mhz().count() - 1);
        for most in [200, 100, 48, 30, 24] {
            let some = chosen(&machine, true, Objective::Energy, most);
            assert!(some.states.len() <= most && some.states.len() > most / 2, "{most}: {}", some.states.len());
            assert!(some.states.contains(&machine.most()) && some.states.contains(&machine.least()), "{most}");
            let kept = clocks(&some.states);
            assert!(kept.contains(&nominal) && kept.contains(&Clock::Turbo), "{most}: {kept:?}");
            // All cores as long as three clocks fit beside them.
            assert_eq!(some.states.iter().any(|s| s.cores == 7), most >= 48, "{most}");
            assert!(
                some.left_out[0].starts_with(&format!("{} of 224", 224 - some.states.len())),
                "{:?}",
                some.left_out
            );
        }
        for most in 1..24 {
            let few = chosen(&machine, true, Objective::Energy, most).states;
            assert!((1..=most).contains(&few.len()) && few[0] == machine.most(), "{most}: {few:?}");
        }
    }

    #[test]
    fn background_work_is_for_the_nominal_clock() {
        let machine = thesis();
        let some = chosen(&machine, true, Objective::Consolidate, 224);
        // Sixteen at the nominal clock, and two in turbo mode on all cores.
        assert_eq!((some.states.len(), some.left_out.len()), (18, 1));
        assert!(some.states.iter().all(|s| s.clock != Clock::Turbo || s.cores == 8));
    }

    #[test]
    fn clocks_that_cannot_be_set_are_taken_for_the_fastest() {
        for objective in [Objective::Energy, Objective::Consolidate] {
            let some = chosen(&thesis(), false, objective, 224);
            assert_eq!((some.states.len(), some.left_out.len()), (16, 1));
            assert!(some.states.iter().all(|s| s.clock == Clock::Turbo));
        }
    }

    #[test]
    fn the_least_of_those_that_have_no_less_bounds_one() {
        let state = |cores, threads, step| State { cores, threads, clock: Clock::Step(step) };
        let found = [(state(4, 2, 3), 100.0), (state(4, 1, 3), 80.0), (state(2, 2, 3), 60.0), (state(2, 2, 1), 40.0)];
        assert_eq!(bound(&state(3, 1, 3), &found), Some(80.0));
        assert_eq!(bound(&state(2, 1, 3), &found), Some(60.0));
        assert_eq!(bound(&state(1, 1, 0), &found), Some(40.0));
        assert_eq!(bound(&state(5, 1, 0), &found), None);
        let machine = thesis();
        let found = [(state(8, 2, 0), 1000.0)];
        let (half, most) = (guess(&machine, &state(4, 2, 0), &found), guess(&machine, &machine.most(), &found));
        assert_eq!((half, most), (Some(500.0), None));
    }

    #[test]
    fn a_few_of_many() {
        assert_eq!(few(&[1, 2, 3, 4, 5], 3), [1, 3, 5]);
        assert_eq!(few(&[1, 2, 3], 2), [1, 3]);
        assert_eq!((few(&[1, 2, 3], 1), few(&[1, 2], 5)), (vec![3], vec![1, 2]));
    }
}
