//! Configurations that change under load: what the control plane sets, and what requests see of it.

use dataplane::{Assist, Sched};
use draw::{Pattern, ServiceTimes};
use units::{CoreId, Nanos};
use world::{Configuration, Costs, Replay, Replayed, Setup, replay};

const LEND: Sched = Sched::Zygos(Assist::Lend);
/// What a request takes: 2 us of application code, and 2.5 us of network.
const REQUEST_NS: f64 = 4500.0;

/// So many cores are awake.
fn awake(cores: u16, pace: f64) -> Configuration {
    Configuration { awake: (0..cores).map(CoreId).collect(), paces: vec![pace; 64] }
}

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// A load, in cores that are busy all the time.
fn busy(cores: f64) -> Pattern {
    Pattern::constant(cores * 1e9 / REQUEST_NS)
}

fn setup(cores: usize, sched: Sched) -> Setup {
    Setup { tx_buffers: 3968, ..Setup::new(cores, sched, ServiceTimes::det(Nanos(2000))) }
}

/// Changes once, `at` milliseconds after the load began.
fn once(setup: &Setup, load: Pattern, from: Configuration, (at, to): (u64, Configuration), span: [u64; 2]) -> Replayed {
    let changes = vec![(ms(at), to, Nanos::ZERO)];
    let what = Replay { pattern: load, lead: ms(span[0]), window: ms(span[1]), first: from, changes };
    let got = replay(setup, &what, 1).unwrap();
    assert_eq!((got.errors, got.refused), (0, 0), "{got:?}");
    got
}

#[test]
fn at_half_the_clock_a_request_takes_twice_as_long() {
    for sched in [Sched::Ix, LEND] {
        let p99 = |pace| {
            let at_once = (0, awake(1, pace));
            once(&setup(1, sched), busy(0.002), awake(1, 1.0), at_once, [20, 4000]).p99.0 as f64
        };
        let (even, slow) = (p99(1.0), p99(2.0));
        assert!((even / REQUEST_NS - 1.0).abs() < 0.1, "{sched:?}: {even}");
        assert!((slow / even - 2.0).abs() < 0.15, "{sched:?}: {slow} {even}");
    }
}

#[test]
fn a_core_that_has_fallen_behind_loses_nothing_and_catches_up_with_help() {
    for sched in [Sched::Ix, LEND] {
        // Half more than one core can do, for 150 ms: more than all receive buffers hold.
        let got = once(&setup(4, sched), busy(1.5), awake(1, 1.0), (150, awake(3, 1.0)), [400, 200]);
        assert!(got.requests > 60_000 && got.p99 < Nanos::from_micros(200), "{sched:?}: {got:?}");
    }
}

#[test]
fn requests_do_not_wait_for_a_core_that_has_just_been_parked() {
    for sched in [Sched::Ix, LEND] {
        let got = once(&setup(4, sched), busy(1.5), awake(4, 1.0), (100, awake(3, 1.0)), [100, 20]);
        assert!(got.moves >= 3 && got.p99 < Nanos::from_micros(100), "{sched:?}: {got:?}");
    }
}

#[test]
fn several_cores_come_and_go_without_waiting_for_each_others_groups_to_settle() {
    for sched in [Sched::Ix, LEND] {
        for (from, to) in [(4, 12), (12, 4)] {
            let got = once(&setup(12, sched), busy(2.5), awake(from, 1.0), (50, awake(to, 1.0)), [50, 100]);
            // A group that has come a moment ago does not go on for 20 ms.
            assert!(got.took > Nanos::ZERO && got.took < ms(20), "{sched:?}, {from} to {to}: {got:?}");
        }
    }
}

/// Requests leave in the order in which they were made, whichever lanes of the open-loop NIC their groups are in: nobody waits for much longer than others.
#[test]
fn in_overload_all_wait_about_as_long() {
    let costs = Costs { rx_ns: 500, tx_ns: 350, ..Costs::thesis() };
    let setup = Setup { costs, ..Setup::new(16, Sched::Ix, ServiceTimes::det(Nanos(1650))) };
    // A quarter more than twelve cores can do, for 50 ms, of which the last ten are looked at.
    let load = "values:0,2.4e6,0.1,2.4e6,0.100001,6e6,0.15,6e6".parse::<Pattern>().unwrap();
    let got = once(&setup, load, awake(12, 1.0), (149, awake(12, 1.0)), [140, 10]);
    assert!(got.p50 > ms(9) && 2 * got.p99.0 < 3 * got.p50.0, "{got:?}");
}
