//! `zygix pareto` and `zygix bench energy` as others see them: as processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn zygix(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

/// The same with a place of its own for the control plane's lock.
fn alone(dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(line.split_whitespace()).env("ZYGIX_DIR", dir).stdin(Stdio::null()).output().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("zygix-control-{}-{name}", std::process::id()))
}

#[test]
fn a_frontier_has_what_others_rely_on() {
    let (json, policy) = (scratch("pareto.json"), scratch("policy.toml"));
    let line = format!("pareto --sim --json {} --policy {}", json.display(), policy.display());
    let out = zygix(&line);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let object: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let table = policy::Table::parse(&std::fs::read_to_string(&policy).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    std::fs::remove_file(policy).unwrap();
    assert_eq!(
        (object["machine"].as_str(), object["configurations"].as_array().unwrap().len()),
        (Some("e5-2665"), 224)
    );
    // The clock alone is never better than everything together, and much worse at low loads (figure 2.9).
    let value = |of: &str, i: usize| object[of][i]["value"].as_f64().unwrap();
    assert!((0..200).all(|i| value("frontier", i) <= value("dvfs_only", i) + 1e-9));
    assert!(value("dvfs_only", 10) > 1.5 * value("frontier", 10));
    // The policy can be climbed.
    let ladder = policy::Ladder::pareto(&table).unwrap();
    assert!((20..=60).contains(&ladder.steps().len()), "{}", ladder.steps().len());
}

#[test]
fn this_machine_is_measured_from_end_to_end() {
    let dir = scratch("live");
    std::fs::create_dir_all(&dir).unwrap();
    let (json, table) = (dir.join("pareto.json"), dir.join("table.toml"));
    // Long requests and a lax objective: what is under test is not this machine.
    let line = format!(
        "pareto --objective consolidate --time det:20ms --slo 10s --seconds 0.3 --most 2 --loads 10 --json {} --policy {} --out {}",
        json.display(),
        table.display(),
        dir.display()
    );
    let out = alone(&dir, &line);
    let stderr = String::from_utf8_lossy(&out.stderr);
    if stderr.contains("no configuration keeps p99") || stderr.contains("too noisy to tell") {
        println!("SKIPPED this_machine_is_measured_from_end_to_end: {}", stderr.lines().last().unwrap_or_default());
        std::fs::remove_dir_all(dir).unwrap();
        return;
    }
    assert!(out.status.success(), "{stderr}");
    let object = read(&json);
    assert_eq!((&object["measured"], &object["machine"]), (&true.into(), &"this machine".into()));
    let source = object["source"].as_str().unwrap();
    assert!(source == "rapl" || source == "model this machine", "{source}");
    assert_eq!(
        (&object["time"], &object["slo_us"], &object["sched"]),
        (&"det:20ms".into(), &1e7.into(), &"zygos".into())
    );
    let configurations = object["configurations"].as_array().unwrap();
    assert!((1..=2).contains(&configurations.len()), "{object}");
    let carries =
        |state: &Value| configurations.iter().find(|c| c["state"] == *state).unwrap()["rps"].as_f64().unwrap();
    let frontier: Vec<(f64, &Value)> =
        object["frontier"].as_array().unwrap().iter().map(|p| (p["rps"].as_f64().unwrap(), &p["state"])).collect();
    assert_eq!(frontier.len(), 10, "{object}");
    assert!(frontier.windows(2).all(|pair| pair[0].0 < pair[1].0), "{object}");
    assert!(
        frontier.iter().all(|(rps, state)| carries(state) >= *rps),
        "what is on the frontier carries the load: {object}"
    );
    let least = carries(frontier[0].1);
    assert!(frontier.iter().all(|(rps, state)| *rps <= least || carries(state) > least), "{object}");
    for c in configurations.iter().filter(|c| !c["rps"].is_null()) {
        let points = c["points"].as_array().unwrap();
        assert!(points.len() == 3 && points.iter().all(|p| p["watts"].as_f64().unwrap() > 0.0), "{c}");
        assert!(points.iter().all(|p| p["background"].as_f64().is_some_and(|b| b >= 0.0)), "{c}");
    }
    // The control plane takes the table.
    let found = policy::Table::parse(&std::fs::read_to_string(&table).unwrap()).unwrap();
    assert_eq!(
        (found.to_string().as_str(), found.machine.as_str()),
        (object["policy"].as_str().unwrap(), "this machine")
    );
    let config = "slo_us = 500\npolicy = \"pareto\"\n[[dataplane]]\nname = \"kv\"\ntable = \"table.toml\"\n";
    ixcp::Config::parse(config, &dir).unwrap();
    let document = read(&dir.join("pareto-consolidate-measured.json"));
    let schema = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/zygix-bench-1.schema.json")));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let complaints: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(!dir.join("cp.changes").exists(), "all is as it was");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_machine_is_not_measured_while_a_control_plane_runs() {
    let dir = scratch("second");
    std::fs::create_dir_all(&dir).unwrap();
    let lock = std::fs::File::create(dir.join("cp.lock")).unwrap();
    lock.lock().unwrap();
    let out = alone(&dir, "pareto");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("runs already"), "{stderr}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_cannot_be_meant_is_said_in_a_line() {
    for (line, code, said) in [
        ("pareto --machine e5-2665", 2, "add --sim"),
        ("pareto --sim --time exp:1ms", 2, "leave --sim or --time out"),
        ("pareto --sim --most 4", 2, "leave --sim or --most out"),
        ("pareto --sim --no-siblings", 2, "leave --sim or --no-siblings out"),
        ("pareto --cpus 4095", 2, "cpu 4095 is none that this process may use"),
        ("pareto --time gauss:1us", 2, "det:S, exp:S"),
        ("pareto --slo 0us", 2, "no latency is within 0"),
        ("pareto --most 0", 2, "1..=4096"),
        ("bench energy", 2, "add --sim"),
        ("pareto --sim --machine nothing", 1, "choose e5-2665"),
        ("pareto --sim --machine /no/such.toml", 1, "cannot read /no/such.toml"),
        ("bench energy --sim --rules none", 2, "thesis"),
    ] {
        let out = zygix(line);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{line}: {stderr}");
        assert!(stderr.contains(said), "{line}: {stderr}");
    }
}
