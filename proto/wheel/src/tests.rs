use std::collections::BTreeMap;

use proptest::prelude::*;
use units::Nanos;

use crate::{TimerId, Wheel};

const TICK: u64 = Wheel::TICK.0;

fn advance(w: &mut Wheel, now: u64) -> Vec<u64> {
    let mut tokens = Vec::new();
    let n = w.advance(Nanos(now), usize::MAX, &mut |t| tokens.push(t));
    assert_eq!(n, tokens.len());
    tokens
}

#[test]
fn fires_at_the_tick_after_the_deadline_and_not_before() {
    let mut w = Wheel::with_capacity(4);
    w.arm(Nanos(5 * TICK + 1), 7).unwrap();
    assert_eq!(w.next_deadline(), Some(Nanos(6 * TICK)));
    assert!(advance(&mut w, 6 * TICK - 1).is_empty());
    assert_eq!(advance(&mut w, 6 * TICK), [7]);
    assert_eq!((w.len(), w.next_deadline()), (0, None));
}

#[test]
fn a_deadline_in_the_past_fires_at_the_next_tick() {
    let mut w = Wheel::with_capacity(4);
    assert!(advance(&mut w, 1000 * TICK).is_empty());
    w.arm(Nanos(3), 1).unwrap();
    assert!(advance(&mut w, 1000 * TICK + TICK - 1).is_empty());
    assert_eq!(advance(&mut w, 1001 * TICK), [1]);
}

#[test]
fn each_level_and_beyond_the_horizon() {
    let ticks = [0, 1, 255, 256, 257, 65_535, 65_536, 70_000, (1 << 24) - 1, 1 << 24, (1 << 25) + 12_345, 5 << 24];
    for start in [0, 1, 200, 256, 65_535, 65_536 * 3 + 77] {
        let mut w = Wheel::with_capacity(ticks.len());
        advance(&mut w, start * TICK);
        for t in ticks {
            w.arm(Nanos((start + 1 + t) * TICK), t).unwrap();
        }
        for t in ticks {
            assert!(advance(&mut w, (start + 1 + t) * TICK - 1).is_empty(), "{t} from {start}: early");
            assert_eq!(advance(&mut w, (start + 1 + t) * TICK), [t], "from {start}");
        }
    }
}

#[test]
fn one_jump_over_everything_keeps_the_order() {
    let mut w = Wheel::with_capacity(100);
    for t in (0..100).rev() {
        w.arm(Nanos(t * t * t * 50_000 * TICK), t).unwrap();
    }
    assert_eq!(advance(&mut w, u64::MAX / 2), (0..100).collect::<Vec<_>>());
}

#[test]
fn never_is_a_deadline_too() {
    let mut w = Wheel::with_capacity(1);
    w.arm(Nanos::MAX, 1).unwrap();
    assert!(advance(&mut w, 1 << 50).is_empty());
    assert_eq!(w.len(), 1);
}

#[test]
fn capacity_is_a_typed_answer_and_comes_back() {
    let mut w = Wheel::with_capacity(2);
    let a = w.arm(Nanos(TICK), 1).unwrap();
    w.arm(Nanos(TICK), 2).unwrap();
    assert_eq!(w.arm(Nanos(TICK), 3), None);
    assert!(w.cancel(a));
    assert!(!w.cancel(a), "cancelled twice");
    let c = w.arm(Nanos(2 * TICK), 3).unwrap();
    assert!(!w.rearm(a, Nanos(0)), "an old name must not reach the node's next life");
    assert_eq!(advance(&mut w, 2 * TICK), [2, 3]);
    assert!(!w.cancel(c), "fired");
}

#[test]
fn a_budget_bounds_the_work_and_the_rest_follows() {
    let mut w = Wheel::with_capacity(1000);
    for t in 0..1000 {
        w.arm(Nanos(300 * TICK), t).unwrap();
    }
    let (mut tokens, mut calls) = (Vec::new(), 0);
    let now = Nanos(301 * TICK);
    while w.next_deadline().is_some_and(|d| d <= now) {
        let before = tokens.len();
        w.advance(now, 16, &mut |t| tokens.push(t));
        assert!(tokens.len() - before <= 16);
        calls += 1;
    }
    assert_eq!(tokens, (0..1000).collect::<Vec<_>>());
    assert_eq!(calls, 2000usize.div_ceil(16), "each was re-filed once and fired once");
}

#[derive(Clone, Debug)]
enum Op {
    Arm(u64),
    Cancel(usize),
    Rearm(usize, u64),
    Advance(u64, usize),
    TakeOut(u64),
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![0..10 * TICK, 0..600 * TICK, 0..200_000 * TICK, 0..(3 << 24) * TICK]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => span().prop_map(Op::Arm),
        1 => any::<usize>().prop_map(Op::Cancel),
        1 => (any::<usize>(), span()).prop_map(|(i, d)| Op::Rearm(i, d)),
        1 => (0u64..3).prop_map(Op::TakeOut),
        4 => (span(), prop_oneof![Just(usize::MAX), 0usize..4]).prop_map(|(d, b)| Op::Advance(d, b)),
    ]
}

proptest! {
    /// Against a map from token to deadline: what fires was due, and after an unlimited advance nothing due is left.
    #[test]
    fn behaves_as_a_sorted_map(ops in proptest::collection::vec(op(), 1..120)) {
        let mut w = Wheel::with_capacity(64);
        let mut model: BTreeMap<u64, (u64, TimerId)> = BTreeMap::new();
        let (mut now, mut token) = (0u64, 0u64);
        for op in ops {
            match op {
                Op::Arm(d) => {
                    let id = w.arm(Nanos(now + d), token);
                    prop_assert_eq!(id.is_none(), model.len() == 64);
                    if let Some(id) = id {
                        model.insert(token, (now + d, id));
                        token += 1;
                    }
                }
                Op::Cancel(i) if !model.is_empty() => {
                    let key = *model.keys().nth(i % model.len()).unwrap();
                    prop_assert!(w.cancel(model.remove(&key).unwrap().1));
                }
                Op::Rearm(i, d) if !model.is_empty() => {
                    let entry = model.values_mut().nth(i % 64 % 7).map(|e| { e.0 = now + d; e.1 });
                    if let Some(id) = entry {
                        prop_assert!(w.rearm(id, Nanos(now + d)));
                    }
                }
                Op::TakeOut(n) => {
                    let mut out = Vec::new();
                    w.take_out(|t| t % 3 == n, |t| out.push(t));
                    out.sort_unstable();
                    prop_assert_eq!(out, model.keys().copied().filter(|t| t % 3 == n).collect::<Vec<_>>());
                    model.retain(|t, _| t % 3 != n);
                }
                Op::Advance(d, budget) => {
                    now += d;
                    let mut tokens = Vec::new();
                    w.advance(Nanos(now), budget, &mut |t| tokens.push(t));
                    prop_assert!(tokens.len() <= budget);
                    for t in tokens {
                        let (deadline, _) = model.remove(&t).expect("fired once, and only if armed");
                        prop_assert!(deadline.div_ceil(TICK) * TICK <= now, "early");
                    }
                    if budget == usize::MAX {
                        // One tick of lateness: what was armed within the tick that had just been worked off.
                        let late = model.values().filter(|(d, _)| d.div_ceil(TICK) * TICK + TICK <= now).count();
                        prop_assert_eq!(late, 0);
                        prop_assert!(w.next_deadline().is_none_or(|d| d.0 > now));
                    }
                }
                _ => {}
            }
            prop_assert_eq!(w.len(), model.len());
            let earliest = model.values().map(|e| e.0.div_ceil(TICK) * TICK).min();
            match (w.next_deadline(), earliest) {
                // Late by one tick when armed for a tick that is over.
                (Some(bound), Some(earliest)) => prop_assert!(bound.0 <= earliest.max(now) + TICK),
                (bound, earliest) => prop_assert_eq!(bound.is_none(), earliest.is_none()),
            }
        }
    }
}
