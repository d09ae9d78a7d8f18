//! Instructions per request, counted by callgrind and held against a committed reference.
//!
//! A count is the same on every machine and under any load, which no time is: so it can guard against creeping costs. A
//! program that serves N requests is run twice, with N and 2 N; the difference, divided by N, is free of start-up and of opening
//! connections.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::shell::{self, which};
use crate::steps::Tally;
use crate::workspace::Workspace;

/// What is counted. A program is an example of a crate; its only argument is the number of requests.
struct Count {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    /// Only what runs inside of this function counts (callgrind's `--toggle-collect`).
    within: &'static str,
    requests: u64,
}

const COUNTS: [Count; 1] =
    [Count { name: "echo", package: "bench", example: "count", within: "*server_turn*", requests: 20_000 }];

/// The committed reference.
const REFERENCE: &str = "bench/reference.json";
/// More than this over the reference fails; as much below it asks for a new reference.
const TOLERANCE: f64 = 0.10;
const UPDATE: &str = "cargo xtask bench counts --update";

/// A count and how it stands to its reference.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Standing {
    Within,
    Below,
    Above,
}

/// Checks all counts; skips where there is no valgrind.
///
/// # Errors
/// One is more than a tenth over its reference, or has none.
pub(crate) fn guard(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    if which("valgrind").is_none() {
        tally.skip("instruction counts: valgrind is missing; to install it: sudo apt-get install -y valgrind");
        return Ok(());
    }
    let reference = load(&workspace.root)?;
    for count in &COUNTS {
        let now = measure(workspace, count)?;
        let line = judge(count.name, now, reference.get(count.name).and_then(Value::as_f64))?;
        tally.notes.push(line);
        tally.pass();
    }
    Ok(())
}

/// Measures all counts, prints them, and makes them the reference if `update`.
pub(crate) fn bench(workspace: &Workspace, update: bool) -> Result<Value> {
    if which("valgrind").is_none() {
        bail!("valgrind is missing; to install it: sudo apt-get install -y valgrind");
    }
    let mut counted = Map::new();
    for count in &COUNTS {
        let now = measure(workspace, count)?;
        println!("{}: {now:.1} instructions per request", count.name);
        counted.insert(count.name.to_owned(), json!((now * 10.0).round() / 10.0));
    }
    let counted = Value::Object(counted);
    if update {
        let path = workspace.root.join(REFERENCE);
        std::fs::write(&path, format!("{counted:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{REFERENCE} is new; commit it with the change that moved the counts");
    }
    Ok(counted)
}

fn load(root: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(root.join(REFERENCE))
        .with_context(|| format!("{REFERENCE} cannot be read; to make it: {UPDATE}"))?;
    serde_json::from_str(&text).with_context(|| format!("{REFERENCE} is not JSON"))
}

/// A line for people, or the reason to fail.
fn judge(name: &str, now: f64, reference: Option<f64>) -> Result<String> {
    let Some(reference) = reference.filter(|r| *r > 0.0) else {
        bail!("{REFERENCE} has no `{name}`; measured {now:.1} instructions per request. To take that over: {UPDATE}");
    };
    let change = (now / reference - 1.0) * 100.0;
    let line =
        format!("{name}: {now:.1} instructions per request, {change:+.1} % against the reference of {reference:.1}");
    match standing(now, reference) {
        Standing::Within => Ok(line),
        Standing::Below => Ok(format!("{line}; to keep the gain: {UPDATE}")),
        Standing::Above => bail!(
            "{line}: {:.0} % at most are allowed. Find what costs more (callgrind_annotate), or, if it is worth it, say why \
             in the commit and run: {UPDATE}",
            TOLERANCE * 100.0
        ),
    }
}

fn standing(now: f64, reference: f64) -> Standing {
    if now > reference * (1.0 + TOLERANCE) {
        Standing::Above
    } else if now < reference * (1.0 - TOLERANCE) {
        Standing::Below
    } else {
        Standing::Within
    }
}

/// Instructions per request.
fn measure(workspace: &Workspace, count: &Count) -> Result<f64> {
    let program = build(workspace, count)?;
    let once = callgrind(workspace, &program, count, count.requests)?;
    let twice = callgrind(workspace, &program, count, 2 * count.requests)?;
    if twice <= once {
        bail!(
            "{}: {twice} instructions for twice the requests, {once} for once: is `{}` ever entered?",
            count.name,
            count.within
        );
    }
    Ok((twice - once) as f64 / count.requests as f64)
}

fn build(workspace: &Workspace, count: &Count) -> Result<PathBuf> {
    let Count { package, example, .. } = count;
    let exists = workspace.package(package).is_some_and(|p| p.examples.iter().any(|e| e == example));
    if !exists {
        bail!("crate `{package}` has no example `{example}`; the table in xtask/src/counts.rs says what is counted");
    }
    let log = workspace.scratch()?.join("build-counts.log");
    shell::run(&mut workspace.cargo(&["build", "--release", "--package", package, "--example", example]), &log)?;
    Ok(workspace.target.join("release/examples").join(example))
}

/// All instructions that one run executes inside of the function.
fn callgrind(workspace: &Workspace, program: &Path, count: &Count, requests: u64) -> Result<u64> {
    let scratch = workspace.scratch()?;
    let profile = scratch.join(format!("callgrind.{}.{requests}.out", count.name));
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display()));
    valgrind.arg(format!("--toggle-collect={}", count.within)).arg(program).arg(requests.to_string());
    shell::run(&mut valgrind, &scratch.join(format!("callgrind.{}.log", count.name)))?;
    let text = std::fs::read_to_string(&profile).with_context(|| format!("callgrind left no {}", profile.display()))?;
    total(&text).with_context(|| format!("{} has no total", profile.display()))
}

/// The total of a callgrind profile: its last `totals:` line, or `summary:` in older versions.
fn total(profile: &str) -> Option<u64> {
    let of =
        |key: &str| profile.lines().rev().find_map(|l| l.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    of("totals:").or_else(|| of("summary:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_too_much() {
        assert_eq!(standing(1100.0, 1000.0), Standing::Within);
        assert_eq!(standing(1101.0, 1000.0), Standing::Above);
        assert_eq!(standing(899.0, 1000.0), Standing::Below);
        let why = judge("echo", 1200.0, Some(1000.0)).unwrap_err().to_string();
        assert!(why.contains("+20.0 %") && why.contains(UPDATE), "{why}");
        assert!(judge("echo", 800.0, Some(1000.0)).unwrap().contains(UPDATE));
        assert!(judge("echo", 800.0, None).unwrap_err().to_string().contains("has no `echo`"));
    }

    #[test]
    fn totals_are_read() {
        assert_eq!(total("events: Ir\nsummary: 1\nfn=(1)\n1 2\ntotals: 12345\n"), Some(12345));
        assert_eq!(total("summary: 77\n"), Some(77));
        assert_eq!(total("events: Ir\n"), None);
    }
}
