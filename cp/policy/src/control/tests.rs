use machine::Machine;

use super::*;
use crate::sense::CoreSense;

const SLO: f64 = 500e3;

fn ladder() -> Ladder {
    Ladder::energy(&Machine::builtin("e5-2665").unwrap())
}

/// Two cores; the second has this queue. A turn of 64 takes 100 us.
fn sense(ms: u64, queue: f64, idle: f64) -> Sense {
    let core = |queue| CoreSense {
        active: true,
        queue: [queue; 3],
        batch: 64.0,
        iteration_ns: 100e3,
        idle: [idle; 3],
        ..CoreSense::default()
    };
    Sense { at: Nanos::from_millis(ms), batch_bound: 64, cores: vec![core(0.0), core(queue)] }
}

fn at(rules: Rules, step: usize) -> Loop {
    let mut control = Loop::new(rules, ladder());
    control.set(step);
    control
}

#[test]
fn more_is_added_when_who_comes_last_waits_too_long() {
    let mut control = at(Rules::thesis(SLO), 5);
    // Two turns: 200 us of the 250 that queueing may take.
    assert_eq!(control.decide(&sense(1000, 128.0, 0.0)).to(), None);
    let decision = control.decide(&sense(1100, 129.0, 0.0));
    assert_eq!((decision.to(), control.position(), control.step().state.cores), (Some(6), 6, 7));
    assert_eq!(decision.to_string(), "up to step 6: core 1 is 300 us behind, the limit is 250 us");
}

#[test]
fn steps_up_keep_their_distance_and_urgent_ones_grow() {
    let mut control = at(Rules::thesis(SLO), 5);
    let mut course = |times: [u64; 5]| times.map(|ms| control.decide(&sense(ms, 500.0, 0.0)).to());
    assert_eq!(course([100, 200, 300, 400, 500]), [Some(6), None, Some(7), None, Some(8)]);
    let mut control = at(Rules { stride: 4, ..Rules::thesis(SLO) }, 5);
    let mut course = |times: [u64; 3]| times.map(|ms| control.decide(&sense(ms, 500.0, 0.0)).to());
    assert_eq!(course([100, 300, 500]), [Some(6), Some(8), Some(12)], "what has not helped is doubled");
}

#[test]
fn a_full_ring_counts_as_over_whatever_the_queue_says() {
    let mut control = at(Rules::thesis(SLO), 0);
    let mut full = sense(1000, 0.0, 0.9);
    full.cores[0].queue_full = true;
    let decision = control.decide(&full);
    assert_eq!((decision.to(), decision.reason()), (Some(1), Reason::RingFull { core: 0 }));
    full.at = Nanos::from_secs(9);
    full.cores[0].active = false;
    assert!(matches!(control.decide(&full), Decision::Down { .. }), "a parked core's ring is nobody's");
}

#[test]
fn the_services_own_latency_counts() {
    let mut control = at(Rules::thesis(SLO), 0);
    let mut late = sense(1000, 0.0, 0.3);
    late.cores[1].latency_p99_ns = Some(499e3);
    assert_eq!(control.decide(&late).to(), None);
    late.at = Nanos::from_millis(1100);
    late.cores[1].latency_p99_ns = Some(501e3);
    assert_eq!(control.decide(&late).reason(), Reason::Latency { p99_ns: 501e3, slo_ns: SLO });
    assert_eq!(control.position(), 1);
}

#[test]
fn safety_does_not_wait_for_hysteresis() {
    let mut control = at(Rules::new(SLO), 6);
    let down = control.decide(&sense(1000, 0.0, 0.6));
    assert!(matches!(down, Decision::Down { .. }), "{down}");
    let before = control.position();
    let up = control.decide(&sense(1100, 400.0, 0.0));
    assert!(up.to() > Some(before), "{up}: 100 ms after a step down");
}

#[test]
fn what_is_expected_waits_after_a_step_down() {
    let rules = Rules { ahead: Nanos::from_secs(1), full: 0.95, down_after: Nanos::ZERO, ..Rules::new(SLO) };
    let mut control = at(rules, 6);
    assert!(matches!(control.decide(&sense(1000, 0.0, 0.3)), Decision::Down { .. }));
    // Nearly all is used, without a queue.
    let soon = control.decide(&sense(1100, 0.0, 0.01));
    assert!(matches!(soon.reason(), Reason::Waiting { .. }), "{soon}");
    let later = control.decide(&sense(3000, 0.0, 0.01));
    assert!(matches!(later, Decision::Up { reason: Reason::Ahead { .. }, .. }), "{later}");
}

#[test]
fn a_step_goes_when_idle_time_exceeds_what_it_brought() {
    // The eighth core brought an eighth; 1.2 times that is 15 %.
    let mut control = at(Rules::thesis(SLO), 7);
    assert_eq!(control.decide(&sense(10_000, 0.0, 0.149)).to(), None);
    let decision = control.decide(&sense(10_100, 0.0, 0.151));
    assert_eq!((decision, control.position()), (Decision::Down { to: 6, reason: decision.reason() }, 6));
    assert_eq!(decision.to_string(), "down to step 6: 15.1 % idle, 12.5 % are from what goes");
    // And no other within 4 s.
    assert!(matches!(control.decide(&sense(14_000, 0.0, 0.9)).reason(), Reason::Waiting { .. }));
    assert_eq!(control.decide(&sense(14_100, 0.0, 0.9)).to(), Some(5));
}

#[test]
fn nothing_goes_while_many_wait() {
    let mut control = at(Rules::thesis(SLO), 7);
    let mut waits = sense(10_000, 17.0, 0.5);
    assert_eq!(control.decide(&waits).to(), None, "8.5 in the mean");
    waits = sense(10_100, 15.0, 0.5);
    assert_eq!(control.decide(&waits).to(), Some(6));
}

#[test]
fn stolen_work_is_taken_off_idle_time() {
    let rules = || Rules { steal_cost: 0.1, ..Rules::thesis(SLO) };
    let mut stolen = sense(10_000, 0.0, 0.17);
    for core in &mut stolen.cores {
        core.remote_share = 0.4;
    }
    assert_eq!(at(rules(), 7).decide(&stolen).to(), None);
    assert_eq!(at(Rules { steal_cost: 0.0, ..rules() }, 7).decide(&stolen).to(), Some(6));
}

#[test]
fn several_steps_go_at_once_if_idle_time_allows() {
    let mut control = at(Rules::new(SLO), 21);
    let decision = control.decide(&sense(10_000, 0.0, 0.95));
    assert_eq!(decision.to(), Some(17), "four at most");
    let mut control = at(Rules { stride: 100, ..Rules::new(SLO) }, 21);
    let to = control.decide(&sense(10_000, 0.0, 0.95)).to().unwrap();
    assert!(control.ladder().worth(to) >= 0.05 / 0.965 && to == control.ladder().enough(0.05 / 0.965), "{to}");
}

#[test]
fn the_ends_of_the_ladder_hold() {
    let mut control = Loop::new(Rules::new(SLO), ladder());
    assert_eq!(control.position(), 21, "it begins where nobody is harmed");
    let top = control.decide(&sense(1000, 500.0, 0.0));
    assert_eq!((top.to(), top.to_string()), (None, "hold: 800 us behind, and there is no more to add".into()));
    control.set(0);
    assert_eq!(control.decide(&sense(9000, 0.0, 1.0)).to(), None);
    control.set(99);
    assert_eq!(control.position(), 21);
}

#[test]
fn without_a_core_that_reports_nothing_is_done() {
    let mut control = Loop::new(Rules::new(SLO), ladder());
    let nobody = Sense { at: Nanos(1), batch_bound: 64, cores: vec![CoreSense::default()] };
    assert_eq!(control.decide(&nobody), Decision::Hold { reason: Reason::Blind });
}

#[test]
fn jumps_are_prepared_for_once_they_were_seen() {
    let rules = Rules { ahead: Nanos::ZERO, jump_reserve: 1.0, ..Rules::new(SLO) };
    let mut control = at(rules, 8);
    let mut now = 0;
    // The load is served at whatever step, and jumps by 8 % of the most every 10 s.
    let mut headroom = Vec::new();
    for stair in 1..6 {
        let load = 0.1 + 0.08 * f64::from(stair);
        for _ in 0..100 {
            now += 100;
            let idle = 1.0 - load / control.ladder().worth(control.position());
            control.decide(&sense(now, if idle < 0.0 { 500.0 } else { 0.0 }, idle.max(0.0)));
        }
        headroom.push(control.ladder().worth(control.position()) - load);
    }
    assert!(headroom[0] < 0.25 && headroom[2..].iter().all(|h| *h >= 0.08), "{headroom:?}");
}

/// A minute of a load that one core can nearly serve: with one, its queue is too long now and then. How often cores come, by ten seconds.
fn flaps(rules: Rules, load: impl Fn(u64) -> f64) -> Vec<usize> {
    let machine = Machine::generic(2).unwrap();
    let mut control = Loop::new(rules, Ladder::consolidate(&machine));
    control.set(1);
    let mut ups = vec![0; 12];
    for tick in 0..1200u64 {
        let worth = control.ladder().worth(control.position());
        let idle = (1.0 - load(tick) / worth).max(0.0);
        // Every other second something comes in a bunch.
        let late = control.position() == 0 && tick % 20 == 0 && idle < 0.3;
        let decision = control.decide(&sense(1000 + 100 * tick, if late { 400.0 } else { 0.0 }, idle));
        ups[tick as usize / 100] += usize::from(matches!(decision, Decision::Up { .. }));
    }
    ups
}

#[test]
fn a_step_that_was_not_enough_is_tried_ever_more_seldom() {
    let rules = || Rules { jump_reserve: 0.0, ahead: Nanos::ZERO, ..Rules::new(SLO) };
    let steady = |_| 0.35;
    let forgetful = flaps(Rules { mistake_within: Nanos::ZERO, ..rules() }, steady);
    assert!(forgetful.iter().all(|n| *n >= 3), "{forgetful:?}");
    let learns = flaps(rules(), steady);
    assert!(learns.iter().sum::<usize>() <= 8 && learns[6..].iter().sum::<usize>() <= 1, "{learns:?}");
}

#[test]
fn what_was_a_mistake_is_none_once_the_load_has_fallen() {
    let mut control = at(Rules { ahead: Nanos::ZERO, jump_reserve: 0.0, ..Rules::new(SLO) }, 7);
    let mut at = |ms: u64, queue: f64, idle: f64| control.decide(&sense(ms, queue, idle));
    let idle = |ms: u64, share: f64| (ms, 0.0, share);
    for tick in 0..20 {
        let (ms, queue, share) = idle(1000 + 100 * tick, 0.15);
        at(ms, queue, share);
    }
    // It went down by a step, and back up.
    let up = at(3000, 400.0, 0.0);
    assert!(matches!(up, Decision::Up { .. }), "{up}");
    let held = (31..50).map(|t| at(100 * t, 0.0, 0.15)).last().unwrap();
    assert!(matches!(held.reason(), Reason::Tried { .. }), "{held}");
    assert!(held.to_string().contains("was not enough for this load; not before"), "{held}");
    let down = (50..80).map(|t| at(100 * t, 0.0, 0.5)).find(|d| matches!(d, Decision::Down { .. }));
    assert!(down.is_some(), "the load has fallen by a third");
    // And more is added at once, whatever was a mistake.
    assert!(matches!(at(8100, 400.0, 0.0), Decision::Up { .. }));
}
