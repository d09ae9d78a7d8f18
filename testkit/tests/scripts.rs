//! Runs all packet scripts on the engine, and on Linux as the referee where the privilege for that is at hand.
#![forbid(unsafe_code)]

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::engine::Engine;
use testkit::whole::{Whole, WholeV6};
use testkit::{Make, Row, Script, Verdict, linux, load_all, table, verdict};

/// Scripts on Linux spend their time waiting: many at once.
const AT_ONCE: usize = 24;
/// Set in the copy of this test that runs in a user namespace.
const INSIDE: &str = "TESTKIT_IN_USER_NAMESPACE";

fn scripts() -> Vec<Script> {
    load_all().unwrap_or_else(|errors| {
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("scripts that do not parse:\n{}", text.join("\n"))
    })
}

#[test]
fn every_script_names_its_rfc() {
    let scripts = scripts();
    assert!(scripts.len() >= 60, "only {} scripts", scripts.len());
    for script in &scripts {
        assert!(script.about.contains("RFC "), "{}: the head comment names no RFC section", script.name);
    }
}

/// Runs all scripts on one of our stacks and shows the trace of each that fails.
fn all_pass_on(make: &dyn Make) {
    let failed: Vec<String> = scripts()
        .iter()
        .filter_map(|script| match verdict(script, Some(make)) {
            Verdict::Failed(trace) => Some(format!("== {} on {}\n{trace}", script.name, make.name())),
            _ => None,
        })
        .collect();
    assert!(failed.is_empty(), "{}\n{} scripts failed", failed.join("\n"), failed.len());
}

#[test]
fn the_engine_passes_all_scripts() {
    all_pass_on(&Engine::Segments);
}

#[test]
fn the_engine_passes_all_scripts_with_super_segments() {
    all_pass_on(&Engine::SuperSegments);
}

#[test]
fn the_whole_stack_passes_all_scripts() {
    all_pass_on(&Whole);
}

#[test]
fn the_whole_stack_passes_all_scripts_over_ipv6() {
    all_pass_on(&WholeV6);
}

#[test]
fn linux_agrees_or_the_script_says_why_not() {
    if let Err(why) = linux::available() {
        return in_user_namespace(&why);
    }
    let scripts = scripts();
    let rows: Mutex<Vec<Row>> = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let engine = verdict(script, Some(&Engine::Segments));
                    let whole = verdict(script, Some(&Whole));
                    let linux = verdict(script, None);
                    let row = Row { script: script.name.clone(), engine, whole, linux };
                    rows.lock().expect("no panic under this lock").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no panic under this lock");
    rows.sort_by(|a, b| a.script.cmp(&b.script));
    println!("{}", table(&rows));
    let failed: Vec<String> = rows
        .iter()
        .filter_map(|row| match &row.linux {
            Verdict::Failed(trace) => Some(format!("== {} on linux\n{trace}", row.script)),
            _ => None,
        })
        .collect();
    assert!(failed.is_empty(), "{}\n{} scripts failed on Linux", failed.join("\n"), failed.len());
}

/// Without privilege: this test once more, as root of a user namespace. If that cannot be had either, says so.
fn in_user_namespace(why: &str) {
    let skip = |more: &str| eprintln!("\nSKIPPED: the scripts were not run on Linux. {why}{more}\n");
    if std::env::var_os(INSIDE).is_some() {
        return skip("");
    }
    let as_root = |command: &mut Command| {
        command.args(["--user", "--map-root-user", "--"]);
    };
    let mut probe = Command::new("unshare");
    as_root(&mut probe);
    if !probe.arg("true").output().is_ok_and(|o| o.status.success()) {
        return skip("; nor may this user make user namespaces (unshare --user)");
    }
    let mut again = Command::new("unshare");
    as_root(&mut again);
    let status = again
        .arg(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "linux_agrees_or_the_script_says_why_not", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.is_ok_and(|s| s.success()), "the scripts failed on Linux, in a user namespace: see above");
}
