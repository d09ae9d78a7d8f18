use units::{CoreId, FlowGroupId, GroupSet};

/// A flow group, as the controller sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Group {
    /// What it is loaded with, in any unit: frames or requests since the last look, say.
    pub load: f64,
    /// The core that owns it.
    pub owner: CoreId,
}

/// Two cores that differ by less than this share of the mean are even.
const EVEN: f64 = 0.02;
/// A move that brings two cores nearer by less than this share of the mean is left out.
const LEAST: f64 = 0.002;
/// Groups are moved when the fullest core has so many times the mean, and more where little was counted: then some core has so much by chance.
const UNEVEN: f64 = 1.1;
/// How much more: standard deviations of what a core counts.
const CHANCE: f64 = 4.0;
/// And only if that core then has at most so much of what it had.
const WORTH: f64 = 0.95;

/// Cores that were uneven, and what makes them even.
#[derive(Clone, PartialEq, Debug)]
pub struct Evened {
    /// Which groups go to which core.
    pub moves: Vec<(GroupSet, CoreId)>,
    /// What the fullest core has of all load, before and after.
    pub fullest: (f64, f64),
}

/// Moves for cores that the load has made uneven: `None` while the fullest of `active` has no more than 1.1 times the mean, or what it has more may be chance, as the loads were made of `counted`
/// requests; or if nothing helps. All groups must be on active cores.
pub fn even_out(groups: &[Group], active: &[CoreId], counted: f64) -> Option<Evened> {
    let total: f64 = groups.iter().map(|g| crate::sense::known(g.load)).sum();
    let fullest = |owner: &dyn Fn(usize) -> CoreId| {
        let load = |core: &CoreId| {
            let own = groups.iter().enumerate().filter(|(i, _)| owner(*i) == *core);
            own.map(|(_, g)| crate::sense::known(g.load)).sum::<f64>()
        };
        active.iter().map(load).fold(0.0, f64::max) / total
    };
    let before = fullest(&|i| groups[i].owner);
    let cores = active.len() as f64;
    let uneven = UNEVEN + CHANCE * (cores / counted.max(1.0)).sqrt();
    if active.len() < 2 || total == 0.0 || before * cores <= uneven {
        return None;
    }
    let moves = balance(groups, active);
    let target = |i: usize| moves.iter().find(|(set, _)| set.contains(FlowGroupId(i as u16))).map(|(_, to)| *to);
    let after = fullest(&|i| target(i).unwrap_or(groups[i].owner));
    (after <= WORTH * before).then_some(Evened { moves, fullest: (before, after) })
}

/// Moves of flow groups after which all of them are on `active` cores, and these are as even as whole groups allow: by load, and by number where there is no load at all. Few moves: who
/// is on an active core and in nobody's way stays, and so do groups without load while others have some. The same input gives the same moves; each target is named once.
///
/// `groups` are indexed by flow group. Without active cores, nothing is moved. Cost: at most 4 x groups rounds, of groups x groups / cores^2 each.
pub fn balance(groups: &[Group], active: &[CoreId]) -> Vec<(GroupSet, CoreId)> {
    let mut cores: Vec<CoreId> = active.to_vec();
    cores.sort();
    cores.dedup();
    let Some(n) = std::num::NonZero::new(cores.len()) else { return Vec::new() };
    let total: f64 = groups.iter().map(|g| crate::sense::known(g.load)).sum();
    // Homeless groups without load weigh a little, so that they are spread as well.
    let grain = if total > 0.0 { total / groups.len().max(1) as f64 * 0.01 } else { 1.0 };
    let weight = |i: usize| if total > 0.0 { crate::sense::known(groups[i].load) } else { grain };
    let mut owner: Vec<Option<usize>> = groups.iter().map(|g| cores.iter().position(|c| *c == g.owner)).collect();
    let mut load = vec![0.0; n.get()];
    for (i, at) in owner.iter().enumerate() {
        if let Some(at) = at {
            load[*at] += weight(i);
        }
    }
    place(&mut owner, &mut load, |i| weight(i).max(grain));
    even(&mut owner, &mut load, weight);
    let mut moves: Vec<(GroupSet, CoreId)> = Vec::new();
    for (at, core) in cores.iter().enumerate() {
        let set: GroupSet = (0..groups.len())
            .filter(|i| owner[*i] == Some(at) && groups[*i].owner != *core)
            .map(|i| FlowGroupId(i as u16))
            .collect();
        if !set.is_empty() {
            moves.push((set, *core));
        }
    }
    moves
}

/// Groups without a place go where the least is, the heaviest first.
fn place(owner: &mut [Option<usize>], load: &mut [f64], weight: impl Fn(usize) -> f64) {
    let mut homeless: Vec<usize> = (0..owner.len()).filter(|i| owner[*i].is_none()).collect();
    homeless.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
    for i in homeless {
        let to = least(load);
        owner[i] = Some(to);
        load[to] += weight(i);
    }
}

/// From the fullest core to the emptiest: the group, or the exchange of two, that brings both nearest to each other, until nothing improves.
fn even(owner: &mut [Option<usize>], load: &mut [f64], weight: impl Fn(usize) -> f64) {
    let mean = load.iter().sum::<f64>() / load.len() as f64;
    for _ in 0..4 * owner.len() {
        let (to, from) = (least(load), most(load));
        let gap = load[from] - load[to];
        if gap <= EVEN * mean {
            return;
        }
        // After w has gone, the gap is |gap - 2 w|. A group alone is enough while it brings the cores near; two groups are moved for what is left.
        let left = |w: f64| (gap - 2.0 * w).abs();
        let has = |i: &usize, core| owner[*i] == Some(core) && weight(*i) > 0.0;
        let of = |core| -> Vec<usize> { (0..owner.len()).filter(|i| has(i, core)).collect() };
        let (here, there) = (of(from), of(to));
        let alone = here.iter().map(|i| (left(weight(*i)), *i, None));
        let alone = alone.min_by(|a, b| a.0.total_cmp(&b.0));
        let near = alone.is_some_and(|(left, ..)| left <= EVEN * mean);
        let both = here.iter().flat_map(|i| there.iter().map(move |j| (*i, *j)));
        let both = both.map(|(i, j)| (left(weight(i) - weight(j)), i, Some(j)));
        let best = match near {
            true => alone,
            false => alone.into_iter().chain(both).min_by(|a, b| a.0.total_cmp(&b.0)),
        };
        let Some((left, i, back)) = best else { return };
        // What changes next to nothing is not worth a move.
        if left >= gap - LEAST * mean {
            return;
        }
        let mut go = |i: usize, from: usize, to: usize| {
            owner[i] = Some(to);
            load[from] -= weight(i);
            load[to] += weight(i);
        };
        go(i, from, to);
        if let Some(j) = back {
            go(j, to, from);
        }
    }
}

fn least(load: &[f64]) -> usize {
    (0..load.len()).min_by(|a, b| load[*a].total_cmp(&load[*b])).unwrap_or(0)
}

fn most(load: &[f64]) -> usize {
    // Of equals the first, as with `least`.
    (0..load.len()).rev().max_by(|a, b| load[*a].total_cmp(&load[*b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(n: u16) -> Vec<CoreId> {
        (0..n).map(CoreId).collect()
    }

    /// The load of each core after the moves, and how many groups moved.
    fn after(groups: &[Group], active: &[CoreId]) -> (Vec<f64>, usize) {
        let moves = balance(groups, active);
        let mut owner: Vec<CoreId> = groups.iter().map(|g| g.owner).collect();
        let mut moved = 0;
        for (set, to) in &moves {
            for g in set.iter() {
                assert_ne!(owner[g.index()], *to);
                owner[g.index()] = *to;
                moved += 1;
            }
        }
        assert!(owner.iter().all(|o| active.contains(o)));
        let load = |c: &CoreId| groups.iter().zip(&owner).filter(|(_, o)| *o == c).map(|(g, _)| g.load).sum();
        (active.iter().map(load).collect(), moved)
    }

    fn spread(n: u16, load: impl Fn(usize) -> f64) -> Vec<Group> {
        (0..128).map(|i| Group { load: load(i), owner: CoreId(i as u16 % n) }).collect()
    }

    #[test]
    fn a_core_that_comes_gets_its_share_and_no_more_is_moved() {
        let (loads, moved) = after(&spread(3, |_| 10.0), &cores(4));
        assert!(loads.iter().all(|l| (l - 320.0).abs() <= 20.0), "{loads:?}");
        assert!((30..=33).contains(&moved), "{moved}");
    }

    #[test]
    fn a_core_that_goes_leaves_its_groups_to_the_others() {
        let groups = spread(4, |_| 10.0);
        let (loads, moved) = after(&groups, &cores(3));
        assert!(loads.iter().all(|l| (l - 1280.0 / 3.0).abs() <= 20.0), "{loads:?}");
        assert_eq!(moved, 32, "only those of core 3");
        assert_eq!(balance(&groups, &cores(3)), balance(&groups, &[CoreId(2), CoreId(0), CoreId(1), CoreId(2)]));
    }

    #[test]
    fn skew_is_evened_out() {
        // A tenth of the groups, all of core 0, carry 60 %.
        let groups = spread(8, |i| if i % 8 == 0 && i < 104 { 60.0 / 13.0 } else { 40.0 / 115.0 });
        let (loads, moved) = after(&groups, &cores(8));
        assert!(loads.iter().all(|l| (l - 12.5).abs() < 2.5), "{loads:?}");
        assert!(moved < 40, "{moved}");
    }

    #[test]
    fn what_is_even_stays_and_idle_groups_are_spread() {
        assert!(balance(&spread(8, |_| 1.0), &cores(8)).is_empty());
        let idle: Vec<Group> = (0..128).map(|_| Group { load: 0.0, owner: CoreId(0) }).collect();
        let moves = balance(&idle, &cores(4));
        assert!(moves.len() == 3 && moves.iter().all(|(set, _)| (30..=33).contains(&set.len())), "{moves:?}");
        assert!(balance(&idle, &[]).is_empty() && balance(&[], &cores(2)).is_empty());
    }

    #[test]
    fn of_few_connections_only_groups_with_load_are_moved() {
        // Twelve connections, all on core 0; 116 groups without any.
        let groups = spread(4, |i| if i % 4 == 0 && i < 48 { 100.0 + i as f64 } else { 0.0 });
        let evened = even_out(&groups, &cores(4), 1e4).unwrap();
        let moved: Vec<usize> = evened.moves.iter().flat_map(|(set, _)| set.iter()).map(FlowGroupId::index).collect();
        assert!((8..=10).contains(&moved.len()) && moved.iter().all(|i| groups[*i].load > 0.0), "{moved:?}");
        assert!(evened.fullest.0 == 1.0 && evened.fullest.1 < 0.29, "{:?}", evened.fullest);
        // A core that goes gives away what it has, the idle ones to all others alike.
        let (_, moved) = after(&groups, &cores(3));
        assert!((32..=48).contains(&moved), "{moved}");
    }

    #[test]
    fn what_is_even_enough_or_cannot_be_helped_is_left_alone() {
        let nearly = spread(4, |i| if i % 4 == 0 { 12.0 } else { 10.0 });
        assert_eq!(even_out(&nearly, &cores(4), 1000.0), None, "1.14 times the mean may be chance");
        assert!(even_out(&nearly, &cores(4), 1e5).is_some(), "of so many it is none");
        let lump = spread(4, |i| if i == 0 { 1000.0 } else { 0.0 });
        assert_eq!(even_out(&lump, &cores(4), 1e5), None, "a group cannot be cut");
        assert_eq!(even_out(&spread(4, |_| 0.0), &cores(4), 0.0), None);
        assert_eq!(even_out(&spread(1, |_| 1.0), &cores(1), 1e5), None);
    }

    #[test]
    fn one_group_that_is_too_heavy_is_left_alone() {
        let groups = spread(2, |i| if i == 0 { 1000.0 } else { 1.0 });
        let (loads, _) = after(&groups, &cores(2));
        assert!(loads[0] >= 1000.0 && loads[1] > 100.0, "{loads:?}");
        let broken = spread(2, |_| f64::NAN);
        assert!(balance(&broken, &cores(2)).is_empty());
    }
}
