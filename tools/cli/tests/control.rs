//! `zygix pareto` and `zygix bench energy` as others see them: as processes.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn zygix(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap()
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
fn what_cannot_be_meant_is_said_in_a_line() {
    for (line, code, said) in [
        ("pareto", 2, "add --sim"),
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
