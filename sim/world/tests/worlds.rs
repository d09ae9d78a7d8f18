//! What a world is: the same every time, and as theory says where nothing costs anything.

use std::sync::{Arc, Mutex};

use dataplane::{Assist, Sched};
use draw::ServiceTimes;
use nic::Faults;
use units::Nanos;
use world::{
    Costs, Moves, Placed, Row, Setup, Skew, Skewed, Stalls, Trace, WorldError, closed_loop, max_load, measure,
};

const LEND: Sched = Sched::Zygos(Assist::Lend);
const S: Nanos = Nanos::from_micros(10);

fn rows(setup: &Setup, loads: &[f64], requests: u64, trace: Option<Trace>) -> Vec<Row> {
    let mut rows = Vec::new();
    measure(setup, loads, requests, trace, |row| {
        rows.push(row);
        true
    })
    .unwrap();
    rows
}

/// A machine on which nothing but the application takes time.
fn free() -> Costs {
    let poll_ns = 10;
    let costs = Costs { name: "free".into(), rx_ns: 0, tx_ns: 0, steal_ns: 0, lend_ns: 0, poll_ns, ..Costs::thesis() };
    Costs { interrupt_ns: 0, interrupt_send_ns: 0, ..costs }
}

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    let faults = Faults { loss: 0.01, duplicate: 0.01, late: 0.02, delay: Nanos::from_micros(50), ..Faults::default() };
    let stalls = Some(Stalls { every: Nanos::from_millis(1), last: Nanos::from_micros(100) });
    for sched in [Sched::Ix, Sched::Zygos(Assist::Ipi), LEND] {
        let traced = |seed| {
            let page = Page::default();
            let setup = Setup { seed, stalls, faults, connections: 100, ..Setup::new(3, sched, ServiceTimes::exp(S)) };
            let rows = rows(&setup, &[0.5], 2000, Some(Trace::new(Box::new(page.clone()), 1_000_000)));
            let text = page.0.lock().unwrap().clone();
            (rows, text)
        };
        let (first, again, other) = (traced(1), traced(1), traced(2));
        assert!(first.1.len() > 10_000, "{} bytes of trace", first.1.len());
        assert!(first == again, "{sched}");
        assert!(first.1 != other.1, "{sched}");
    }
}

/// Without costs, one core is M/D/1, which Pollaczek and Khinchine have in closed form; stealing cores come near M/M/n; without stealing they are
/// as many M/M/1.
#[test]
fn without_costs_a_world_is_a_queueing_model() {
    let costs = free();
    let one = Setup { costs: costs.clone(), ..Setup::new(1, Sched::Ix, ServiceTimes::det(S)) };
    let one = Setup { batch: 1, ..one };
    let row = &rows(&one, &[0.6], 100_000, None)[0];
    let exact = S.0 as f64 * (1.0 + 0.6 / (2.0 * 0.4));
    assert!((row.mean_ns - exact).abs() < 0.03 * exact, "{} {exact}", row.mean_ns);
    assert_eq!((row.errors, row.steal_rate), (0, 0.0));
    let four = |sched| Setup { costs: costs.clone(), batch: 1, ..Setup::new(4, sched, ServiceTimes::exp(S)) };
    let ix = max_load(&four(Sched::Ix), 10.0, 0.01, 60_000, |_| ()).unwrap().max_load;
    assert!((ix - 0.5395).abs() < 0.05, "IX carries {ix}, M/M/1 0.54");
    let lend = max_load(&four(LEND), 10.0, 0.01, 60_000, |_| ()).unwrap().max_load;
    // Queues of their own, helped by who is idle, are not one queue: somewhat less than M/M/4.
    assert!((0.77..0.885).contains(&lend), "lending carries {lend}, M/M/4 0.875");
}

/// One server, and clients that think between a reply and the next request: M/M/1//N, the machine repairman. With p(k) = p(0) N!/(N-k)! (S/Z)^k the server is busy
/// for 1 - p(0) of the time.
#[test]
fn clients_that_think_are_machines_that_need_repair() {
    let think = ServiceTimes::exp(Nanos::from_micros(100));
    let times = ServiceTimes::exp(S);
    let one = |connections| {
        let setup = Setup { costs: free(), batch: 1, connections, ..Setup::new(1, Sched::Ix, times.clone()) };
        closed_loop(&setup, &think, 60_000, None).unwrap()
    };
    for clients in [1u32, 5, 10, 40] {
        let term = |k: u32| (0..k).map(|i| f64::from(clients - i) * 0.1).product::<f64>();
        let idle = 1.0 / (0..=clients).map(term).sum::<f64>();
        let row = one(clients);
        assert!((row.load - (1.0 - idle)).abs() < 0.015, "{clients} clients: {row:?}, idle {idle}");
        assert_eq!(row.errors, 0);
        // Little: clients = throughput * (thinking + waiting).
        let round = 100e-6 + row.mean_ns * 1e-9;
        let little = row.throughput * round / f64::from(clients);
        assert!((little - 1.0).abs() < 0.02, "{clients} clients: {little}");
    }
    let few = Setup { connections: 12, ..Setup::new(4, LEND, times.clone()) };
    assert_eq!(closed_loop(&few, &think, 20_000, None).unwrap().errors, 0);
}

#[test]
fn what_a_frame_costs_is_missing_in_the_highest_load() {
    let costs = Costs { rx_ns: 2_500, tx_ns: 2_500, ..free() };
    let setup = Setup { costs, ..Setup::new(2, LEND, ServiceTimes::det(S)) };
    let row = &rows(&setup, &[0.3], 5_000, None)[0];
    assert!(row.p50 >= Nanos(S.0 + 5_000), "{row:?}");
    let found = max_load(&setup, 10.0, 0.02, 160_000, |_| ()).unwrap();
    // 10 us of work and 5 us of network: two thirds are the most.
    assert!((0.45..0.667).contains(&found.max_load), "{found:?}");
    assert!(found.rows.is_sorted_by(|a, b| a.load <= b.load));
}

#[test]
fn a_stalled_core_costs_those_that_wait_and_lending_the_least() {
    let stalls = Some(Stalls { every: Nanos::from_millis(5), last: Nanos::from_micros(300) });
    let p99 = |sched| {
        let setup = Setup { stalls, ..Setup::new(4, sched, ServiceTimes::exp(S)) };
        rows(&setup, &[0.4], 40_000, None)[0].p99
    };
    let (ix, lend) = (p99(Sched::Ix), p99(LEND));
    assert!(lend.0 * 2 < ix.0, "ix {ix:?}, lend {lend:?}");
}

/// A handler that never returns, or a core that is gone: the others do its network work, and only the connection that it has suffers.
#[test]
fn a_lost_core_costs_lending_one_connection() {
    let setup = Setup { lost: Some(1), connections: 200, ..Setup::new(4, LEND, ServiceTimes::exp(S)) };
    let row = &rows(&setup, &[0.3], 20_000, None)[0];
    let mine = row.requests as f64 / 200.0;
    assert!(row.errors > 0 && (row.errors as f64) < 2.5 * mine, "{row:?}");
    assert!(row.p99.0 < 10 * S.0, "{row:?}");
    let alone = Setup { lost: Some(1), connections: 200, ..Setup::new(4, Sched::Ix, ServiceTimes::exp(S)) };
    // In IX mode nobody polls its queue any more.
    let silent = measure(&alone, &[0.3], 20_000, None, |_| true);
    assert!(matches!(silent, Err(WorldError::OpenLoop(openloop::OpenLoopError::Silent(1)))), "{silent:?}");
}

/// What the cores of a wire without faults do to each other by moving flow groups: nothing that a client's TCP would see. Stalls are shorter than the smallest
/// retransmission timeout.
#[test]
fn flow_groups_move_on_sixteen_cores_and_nothing_is_lost_doubled_or_reordered() {
    let stalls = [None, Some(Stalls { every: Nanos::from_millis(100), last: Nanos::from_millis(5) })];
    for (sched, stalls) in [Sched::Ix, LEND].into_iter().flat_map(|sched| stalls.map(|stalls| (sched, stalls))) {
        let moves = Some(Moves { rate: 500.0, park: 0.0 });
        let setup = Setup { moves, stalls, ..Setup::new(16, sched, ServiceTimes::exp(S)) };
        let row = &rows(&setup, &[0.3], 20_000, None)[0];
        assert!(row.moves >= 10, "{row:?}");
        assert_eq!((row.errors, row.reordered, row.duplicated, row.dropped), (0, 0, 0, 0), "{sched} {stalls:?}");
    }
}

/// Cores are parked and unparked in turn, and the wire loses, doubles and delays: every request gets its one right answer all the same.
#[test]
fn cores_come_and_go_on_a_bad_wire() {
    let faults = Faults { loss: 0.005, duplicate: 0.01, late: 0.02, delay: Nanos::from_millis(2), ..Faults::default() };
    for sched in [Sched::Ix, LEND] {
        let moves = Some(Moves { rate: 500.0, park: 0.5 });
        let setup = Setup { moves, faults, connections: 500, ..Setup::new(16, sched, ServiceTimes::exp(S)) };
        let row = &rows(&setup, &[0.05], 20_000, None)[0];
        assert!(row.moves > 50 && row.errors == 0 && row.duplicated > 0, "{row:?}");
    }
}

#[test]
fn nonsense_is_refused() {
    let setup = Setup::new(65, LEND, ServiceTimes::det(S));
    assert!(matches!(measure(&setup, &[0.1], 100, None, |_| true), Err(WorldError::Cores(65))));
    let setup = Setup { connections: 10, ..Setup::new(1, LEND, ServiceTimes::det(S)) };
    for load in [0.0, -1.0, 2.0, f64::NAN] {
        assert!(matches!(measure(&setup, &[load], 100, None, |_| true), Err(WorldError::Load(_))), "{load}");
    }
}

#[test]
fn a_file_of_costs_says_everything_or_what_is_wrong_with_it() {
    let path = std::env::temp_dir().join(format!("zygix-costs-{}.json", std::process::id()));
    let thesis = serde_json::to_string(&Costs::thesis()).unwrap();
    for (text, complaint) in [
        (thesis.clone(), None),
        (thesis.replace("\"rx_ns\":1250", "\"rx_ns\":2000000000"), Some("a millisecond")),
        (thesis.replace("rx_ns", "receive_ns"), Some("receive_ns")),
        ("{}".into(), Some("missing field")),
    ] {
        std::fs::write(&path, text).unwrap();
        match (Costs::read(&path), complaint) {
            (Ok(costs), None) => assert_eq!(costs, Costs::thesis()),
            (Err(e), Some(complaint)) => assert!(e.to_string().contains(complaint), "{e}"),
            (other, _) => panic!("{other:?}"),
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Costs::read(&path).unwrap_err().to_string().contains("No such file"));
}

/// A tenth of the connections carry 60 % of the load, at 60 % load.
fn skewed(sched: Sched, placed: Placed, moves: bool) -> Skewed {
    let times = ServiceTimes::exp(Nanos::from_micros(100));
    let setup = Setup { connections: 288, others: 32, ..Setup::new(8, sched, times) };
    let load = Skew { carried: 0.6, load: 0.6, span: Nanos::from_millis(2500), placed, moves };
    world::skew(&setup, &load).unwrap()
}

#[test]
fn skew_is_evened_out_within_two_seconds() {
    for sched in [Sched::Ix, LEND] {
        let even = skewed(sched, Placed::Evenly, false);
        let limit = Nanos(even.p99.0 * 13 / 10);
        let moved = skewed(sched, Placed::ByChance, true);
        assert_eq!([even.errors, moved.errors], [0; 2]);
        assert!(
            moved.settled(limit) <= Some(Nanos::from_secs(2)) && moved.settled(limit).is_some(),
            "{sched:?}: {moved:?}"
        );
        // A group for each busy connection would be 32, and all are 128.
        assert!((1..=30).contains(&moved.groups_moved), "{sched:?}: {} groups", moved.groups_moved);
    }
    let left = skewed(Sched::Ix, Placed::ByChance, false);
    let even = skewed(Sched::Ix, Placed::Evenly, false);
    assert!(left.settled(Nanos(even.p99.0 * 13 / 10)).is_none() && left.fullest > 1.3, "it hurts: {left:?}");
}

#[test]
fn the_server_times_its_own_requests_as_the_product_does() {
    for sched in [Sched::Ix, LEND] {
        let setup = Setup::new(4, sched, ServiceTimes::exp(Nanos::from_micros(50)));
        let row = rows(&setup, &[0.5], 100_000, None).remove(0);
        // From receive to transmit: no more than the clients see (classes are an eighth of an octave wide), and most of it.
        assert!(row.own_p99 > Nanos(row.p99.0 / 3) && row.own_p99.0 as f64 <= row.p99.0 as f64 * 1.15, "{row:?}");
    }
}
