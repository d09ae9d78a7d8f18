//! The models against what is known without them, before anybody believes them. Seeds are fixed: the same answers every time.
//!
//! `cargo test --release -p queueing -- --ignored --nocapture` prints the whole table of highest loads.

use draw::{Gaps, ServiceTimes};
use queueing::{Answer, Effort, Policy, Question, Row, System, Watch, closed, max_load, measure, reference};
use units::Nanos;

const POLICIES: [Policy; 6] = [
    Policy::Central,
    Policy::Partitioned,
    Policy::Sharing,
    Policy::PartitionedSharing,
    Policy::Steal,
    Policy::Quantum { slice: 0.25, switch: 0.0 },
];

fn works() -> [ServiceTimes; 4] {
    let mean = Nanos::from_micros(1);
    [ServiceTimes::det(mean), ServiceTimes::exp(mean), ServiceTimes::bimodal1(mean), ServiceTimes::bimodal2(mean)]
}

fn effort(requests: Option<u64>) -> Effort {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    Effort { requests, threads, ..Effort::default() }
}

fn rows(system: &System, loads: &[f64], requests: u64) -> Vec<Row> {
    measure(system, loads, &effort(Some(requests)), &Watch::none()).expect("nobody ends it")
}

/// It is what theory says, within twice its own 95 % interval (and the thousandth to which percentiles are kept); and that is narrow enough
/// to mean something.
#[track_caller]
fn agrees(what: &str, got: f64, ci95: f64, exact: f64, most: f64) {
    assert!((got - exact).abs() <= 2.0 * ci95 + 1e-3 * exact, "{what}: {got} +- {ci95}, theory says {exact}");
    assert!(ci95 <= most * exact, "{what}: {got} +- {ci95} says too little");
}

#[test]
fn percentiles_of_one_exponential_server() {
    let [_, exp, ..] = works();
    for policy in [Policy::Central, Policy::Partitioned, Policy::Steal] {
        for row in rows(&System::new(1, policy, exp.clone()), &[0.3, 0.7], 60_000) {
            let exact = |q| closed::mm1_quantile(row.load, 1.0, q);
            agrees(&format!("{policy} p99 at {}", row.load), row.p99, row.p99_ci95, exact(0.99), 0.05);
            assert!(
                (row.p50 / exact(0.5) - 1.0).abs() < 0.02 && (row.p999 / exact(0.999) - 1.0).abs() < 0.1,
                "{row:?}"
            );
        }
    }
}

#[test]
fn percentiles_of_many_exponential_servers() {
    let [_, exp, ..] = works();
    for (n, load) in [(2, 0.6), (8, 0.8), (16, 0.9), (100, 0.9)] {
        for row in rows(&System::new(n, Policy::Central, exp.clone()), &[load], 60_000) {
            let exact = |q| closed::mmn_quantile(n, load * n as f64, 1.0, q);
            agrees(&format!("n = {n} p99"), row.p99, row.p99_ci95, exact(0.99), 0.05);
            agrees(&format!("n = {n} mean"), row.mean, row.mean_ci95, closed::mmn_mean(n, load * n as f64, 1.0), 0.03);
            assert!((row.p50 / exact(0.5) - 1.0).abs() < 0.02, "{row:?}");
        }
    }
}

#[test]
fn partitioned_queues_under_poisson_arrivals_are_single_queues() {
    let [_, exp, ..] = works();
    for row in rows(&System::new(8, Policy::Partitioned, exp), &[0.6], 60_000) {
        agrees("p99", row.p99, row.p99_ci95, closed::mm1_quantile(0.6, 1.0, 0.99), 0.05);
    }
}

#[test]
fn means_follow_pollaczek_and_khinchine() {
    let [det, exp, bimodal1, _] = works();
    for (work, cv2) in [(det, 0.0), (exp, 1.0), (bimodal1, 2.25)] {
        for row in rows(&System::new(1, Policy::Central, work.clone()), &[0.2, 0.6], 100_000) {
            agrees(&format!("{work}"), row.mean, row.mean_ci95, closed::mg1_mean(row.load, 1.0, cv2), 0.03);
        }
    }
}

#[test]
fn equal_work_waits_as_erlangs_series_says_and_equal_gaps_as_their_root() {
    let [det, exp, ..] = works();
    for row in rows(&System::new(1, Policy::Central, det), &[0.7], 100_000) {
        let late = closed::md1_share_waiting(0.7, row.p99 - 1.0);
        assert!((late - 0.01).abs() < 0.0008, "{row:?}: a share of {late} waits longer");
    }
    let system = System { gaps: Gaps::fixed(), ..System::new(1, Policy::Central, exp) };
    for row in rows(&system, &[0.7], 100_000) {
        agrees("D/M/1 p99", row.p99, row.p99_ci95, closed::dm1_quantile(0.7, 1.0, 0.99), 0.05);
    }
}

/// The mean does not depend on the distribution, nor the slowdown on the length: mean and mean slowdown of two lengths, both equal to the
/// same number, leave no other slowdowns to either length.
#[test]
fn sharing_is_insensitive() {
    let [det, exp, bimodal1, _] = works();
    for work in [det, exp, bimodal1] {
        for (n, policy) in [(1, Policy::Sharing), (4, Policy::Sharing), (3, Policy::PartitionedSharing)] {
            for row in rows(&System::new(n, policy, work.clone()), &[0.5, 0.7], 40_000) {
                let exact = closed::ps_slowdown(if policy == Policy::Sharing { n } else { 1 }, row.load);
                agrees(&format!("{policy} {n} {work} at {}", row.load), row.mean, row.mean_ci95, exact, 0.04);
                assert!((row.slowdown_mean / exact - 1.0).abs() < 0.03, "{policy} {n} {work}: {row:?}, not {exact}");
            }
        }
    }
}

/// What serves exponential work without regard to its length has one mean, however requests are picked; only the tails differ.
#[test]
fn all_that_waste_no_server_have_one_mean() {
    let [_, exp, ..] = works();
    let mut tails = Vec::new();
    for policy in [Policy::Central, Policy::Steal, Policy::Sharing, Policy::Quantum { slice: 0.5, switch: 0.0 }] {
        for row in rows(&System::new(8, policy, exp.clone()), &[0.85], 60_000) {
            agrees(&format!("{policy}"), row.mean, row.mean_ci95, closed::mmn_mean(8, 6.8, 1.0), 0.03);
            tails.push(row.p99);
        }
    }
    let [central, steal, sharing, quantum] = tails[..] else { unreachable!("four policies") };
    assert!(central < steal && steal < quantum && quantum < sharing, "{tails:?}");
}

#[test]
fn switches_cost() {
    let [_, exp, ..] = works();
    let p99 = |switch| {
        let policy = Policy::Quantum { slice: 0.25, switch };
        rows(&System::new(4, policy, exp.clone()), &[0.8], 20_000)[0].p99
    };
    assert!(p99(0.02) > 1.02 * p99(0.0), "{} {}", p99(0.02), p99(0.0));
}

fn highest(system: System, precision: f64, requests: Option<u64>) -> Answer {
    let question =
        Question { precision, effort: effort(requests), max_requests: u64::MAX, ..Question::p99(system, 10.0) };
    let answer = max_load(&question, &Watch::none()).expect("nobody ends it");
    assert!(answer.precise && answer.ci95 <= precision, "{answer:?}");
    answer
}

#[test]
fn the_highest_loads_of_exponential_work_are_the_exact_ones() {
    let [_, exp, ..] = works();
    for (n, precision, off) in [(2, 0.004, 0.005), (16, 0.002, 0.002)] {
        let exact = closed::mmn_max_load(n, 10.0, 0.99);
        let answer = highest(System::new(n, Policy::Central, exp.clone()), precision, Some(100_000));
        assert!((answer.max_load - exact).abs() <= off, "n = {n}: {answer:?}, not {exact}");
    }
}

#[test]
fn the_tail_of_64_servers_meets_the_objective_at_their_highest_load() {
    let [_, exp, ..] = works();
    let load = closed::mmn_max_load(64, 10.0, 0.99);
    for row in rows(&System::new(64, Policy::Central, exp), &[load], 300_000) {
        agrees("p99", row.p99, row.p99_ci95, 10.0, 0.3);
    }
}

#[test]
fn the_highest_loads_of_equal_work_in_partitions_are_the_exact_ones() {
    let [det, ..] = works();
    let answer = highest(System::new(16, Policy::Partitioned, det), 0.003, Some(100_000));
    assert!((answer.max_load - closed::md1_max_load(10.0, 0.99)).abs() <= 0.005, "{answer:?}");
}

/// Near the table, for a few cells of every policy; the whole table is the long test below.
#[test]
fn the_table_in_short() {
    let [det, exp, bimodal1, bimodal2] = works();
    for (n, policy, work) in [
        (16, Policy::Central, &bimodal1),
        (2, Policy::Central, &bimodal2),
        (16, Policy::Sharing, &exp),
        (2, Policy::Sharing, &bimodal1),
        (2, Policy::PartitionedSharing, &det),
        (2, Policy::Partitioned, &bimodal1),
        (16, Policy::Steal, &exp),
    ] {
        let system = System::new(n, policy, work.clone());
        let table = reference::table(&system).expect("the table has it");
        let answer = highest(system, 0.008, Some(30_000));
        assert!((answer.max_load - table).abs() <= 0.012, "{n} {policy} {work}: {answer:?}, not {table}");
    }
}

#[test]
fn no_policy_passes_the_bound_of_one_queue_with_work_that_varies_little() {
    let [_, exp, ..] = works();
    let bound = closed::mmn_max_load(4, 10.0, 0.99);
    for policy in POLICIES.into_iter().filter(|policy| *policy != Policy::Central) {
        let answer = highest(System::new(4, policy, exp.clone()), 0.02, Some(20_000));
        assert!(answer.max_load + answer.ci95 < bound, "{policy}: {answer:?} against {bound}");
    }
}

/// All of the table, to a tenth of a point; prints it. Exact values within 0.2 points (0.4 at 64 servers), the table's, which are
/// simulated themselves, within half a point; but not its bimodal-2 and its stealing (see there), which are only printed.
#[test]
#[ignore = "minutes in release"]
fn the_whole_table() {
    let [det, exp, bimodal1, bimodal2] = works();
    println!("| policy | n | work | highest load, % | +- | known, % |\n|---|---|---|---|---|---|");
    for (policy, ns) in [
        (Policy::Central, &[2, 4, 8, 16, 64][..]),
        (Policy::Sharing, &[2, 4, 8, 16, 64]),
        (Policy::Steal, &[16]),
        (Policy::Partitioned, &[16]),
        (Policy::PartitionedSharing, &[16]),
    ] {
        for &n in ns {
            for work in [&det, &exp, &bimodal1, &bimodal2] {
                let system = System::new(n, policy, work.clone());
                let (exact, table) = (reference::exact(&system, 10.0, 0.99), reference::table(&system));
                let rare = work.name() == "bimodal2";
                let answer = highest(system, if rare { 0.005 } else { 0.001 }, None);
                let known = exact.or(table);
                let said = known.map_or("-".into(), |known| format!("{:.2}", 100.0 * known));
                let (load, ci95) = (100.0 * answer.max_load, 100.0 * answer.ci95);
                println!("| {policy} | {n} | {} | {load:.2} | {ci95:.2} | {said} |", work.name());
                let off = if exact.is_none() {
                    0.005
                } else if n == 64 {
                    0.004
                } else {
                    0.002
                };
                assert!(known.is_none_or(|known| (answer.max_load - known).abs() <= off), "{answer:?}");
            }
        }
    }
}
